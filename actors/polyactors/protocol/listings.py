"""What Gamma's listings say of a market."""

from decimal import Decimal

from attrs import frozen

from polyactors.protocol.events import Unreadable


@frozen
class MarketListing:
    """A market that has an order book."""

    condition_id: str
    """0x and 64 hex digits: the channel's `market`."""
    slug: str
    question: str
    tokens: tuple[str, ...]
    """ERC-1155 token ids, the first outcome's (usually Yes) first; never empty."""
    outcomes: tuple[str, ...]
    """One for each token, in the same order; empty when the listing gave none."""
    tick_size: str | None = None
    """Canonical decimal text in USDC per share; None when not listed."""
    min_order_size: str | None = None
    """Shares, as listed ("5"); None when not listed. An input of the book hash."""
    neg_risk: bool | None = None
    """None when not listed. An input of the book hash."""
    accepting_orders: bool = False
    """These three are False when not listed."""
    active: bool = False
    closed: bool = False
    volume_24h_usdc: Decimal = Decimal(0)
    """0 when not listed. Gamma's own figure, not ours: a rank for choosing, no more."""

    def outcome_of(self, token: str) -> str | None:
        """What a share of this token is on ("Yes"); None when not listed, or not of this market."""
        return dict(zip(self.tokens, self.outcomes, strict=False)).get(token)


@frozen
class MarketsPage:
    """One page of a listing."""

    markets: tuple[MarketListing, ...]
    next_cursor: str
    """What to send as `after_cursor` for the next page; "" on the last page."""
    unreadable: tuple[Unreadable, ...] = ()
    """Listed markets that could not be read."""
    without_book: int = 0
    """How many markets were left out because they have no order book."""
