"""What the market channel says: one frozen class per event, whatever its era on the wire.

Prices and sizes are integers in the units of `polyactors.book.numbers` (exact, canonical).
A message that the exchange sends as one frame is one object here, in the exchange's order.
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import Enum

from attrs import field, frozen
from msgspec import Struct

from polyactors.book.numbers import Side


class ControlText(Enum):
    """A text frame of the channel that is not JSON."""

    PONG = "PONG"
    NO_NEW_ASSETS = "NO NEW ASSETS"
    INVALID_OPERATION = "INVALID OPERATION"


@frozen
class BookSnapshot:
    """Wire event `book`, or a REST book: it replaces everything known of the token."""

    token: str
    """ERC-1155 token id, decimal digits (the wire's `asset_id`)."""
    market: str
    """Condition id, 0x and 64 hex digits."""
    bids: Mapping[int, int]
    """Size by price, both in units, prices ascending: best bid last. No zero sizes."""
    asks: Mapping[int, int]
    """Size by price, both in units, prices descending: best ask last. No zero sizes."""
    hash: str = ""
    """Book summary hash, 40 hex digits; "" when the wire gave none."""
    timestamp_ms: int = 0
    """The exchange's own clock, milliseconds since the epoch; 0 when the wire gave none."""
    tick_size: str | None = None
    """Canonical decimal text. Only on the first book of a subscription and on REST."""
    last_trade_price: str | None = None
    """Text exactly as on the wire ("" for a never-traded market): it is a hash input."""
    min_order_size: str | None = None
    """Text exactly as on the wire; REST only."""
    neg_risk: bool | None = None
    """REST only."""
    levels_json: str = field(default="", eq=False, repr=False)
    """`"bids":[…],"asks":[…]` with the levels as the wire wrote them, compact, which is what the
    exchange hashes; "" where that is not at hand."""


class LevelChange(Struct, frozen=True, gc=False):
    """One entry of a `price_change`: the new aggregate size of one level."""

    token: str
    side: Side
    price: int
    """Price in units."""
    size: int
    """New absolute size in units; 0 removes the level."""
    hash: str = ""
    """Book hash of the token after the whole engine step; "" when the wire gave none."""
    best_bid: int | None = None
    """Best bid after the step, in units; 0 for an empty side; None when not stated."""
    best_ask: int | None = None
    """Best ask after the step, in units; PRICE_ONE for an empty side; None when not stated."""


class PriceChange(Struct, frozen=True, gc=False):
    """Wire event `price_change`, of any era: the entries in the order of the wire."""

    market: str
    timestamp_ms: int = 0
    changes: tuple[LevelChange, ...] = ()


class LastTradePrice(Struct, frozen=True, gc=False):
    """Wire event `last_trade_price`: a trade was printed. It does not change the book."""

    token: str
    market: str
    price: int
    """In units."""
    size: int
    """In units."""
    side: Side
    """BID when the taker bought, ASK when the taker sold."""
    timestamp_ms: int = 0
    price_text: str = ""
    """The price as on the wire."""
    transaction_hash: str | None = None


@frozen
class TickSizeChange:
    """Wire event `tick_size_change`: the book stays, only the grid changes."""

    token: str
    market: str
    old: Decimal | None
    """USDC per share; None when the wire gave none."""
    new: Decimal
    """USDC per share."""
    timestamp_ms: int = 0


class BestBidAsk(Struct, frozen=True, gc=False):
    """Wire event `best_bid_ask` (custom feature): final state of a step, sent before it."""

    token: str
    market: str
    best_bid: int
    """In units; 0 for an empty side."""
    best_ask: int
    """In units; PRICE_ONE for an empty side."""
    timestamp_ms: int = 0


@frozen
class NewMarket:
    """Wire event `new_market` (custom feature, global)."""

    market: str
    slug: str
    question: str
    tokens: tuple[str, ...]
    outcomes: tuple[str, ...]
    timestamp_ms: int = 0


@frozen
class MarketResolved:
    """Wire event `market_resolved` (custom feature, global)."""

    market: str
    tokens: tuple[str, ...]
    winning_token: str | None = None
    winning_outcome: str | None = None
    timestamp_ms: int = 0


MarketEvent = (
    BookSnapshot
    | PriceChange
    | LastTradePrice
    | TickSizeChange
    | BestBidAsk
    | NewMarket
    | MarketResolved
)


@frozen
class Unreadable:
    """A frame, or one element of an array, that is no message: counted, kept, resynced."""

    why: str
    """One sentence for the log."""
    excerpt: str
    """Its first 200 bytes, decoded with replacement characters."""
    tokens: tuple[str, ...] = ()
    """Tokens that it may have touched; empty when it names none: then all of the feed."""


@frozen
class Decoded:
    """All that one text frame held, in order."""

    events: tuple[MarketEvent, ...] = ()
    control: ControlText | None = None
    unreadable: tuple[Unreadable, ...] = ()
    unknown_events: tuple[str, ...] = ()
    """`event_type` of each element of a kind that we do not know."""
    unknown_fields: tuple[str, ...] = ()
    """`event_type.field` of each field that we do not know."""
