"""Whether a local book hashes to what the exchange stated, as far as that can be known."""

from collections.abc import Iterable
from decimal import Decimal

from attrs import define

from polyactors.book.integrity import find_last_trade_price
from polyactors.book.orderbook import OrderBook

FINEST_VERIFIED_TICK = Decimal("0.001")
"""For finer ticks the format of the last trade price in the hash is unknown (INTEGRITY.md 5)."""


@define
class HashInputs:
    """What the hash of a token's book needs besides its levels; None while unknown."""

    tick_size: str | None = None
    min_order_size: str | None = None
    neg_risk: bool | None = None

    def learn(
        self, tick_size: str | None, min_order_size: str | None, neg_risk: bool | None
    ) -> None:
        """Take over what a book message states; most state none of it."""
        self.tick_size = self.tick_size if tick_size is None else tick_size
        self.min_order_size = self.min_order_size if min_order_size is None else min_order_size
        self.neg_risk = self.neg_risk if neg_risk is None else neg_risk


def verify_hash(
    book: OrderBook,
    book_hash: str,
    timestamp_ms: int,
    inputs: HashInputs,
    last_trade_prices: Iterable[str],
) -> bool | None:
    """True: every level is right. False: something differs. None: it cannot be told.

    `last_trade_prices` are what is known of the market's; all others with three decimals are
    tried too, since the exchange may be ahead of what it told us.
    """
    if (
        not book_hash
        or inputs.tick_size is None
        or inputs.min_order_size is None
        or inputs.neg_risk is None
    ):
        return None
    found = find_last_trade_price(
        hash=book_hash,
        candidates=last_trade_prices,
        market=book.market,
        token=book.token,
        timestamp_ms=timestamp_ms,
        bids=book.wire_bids,
        asks=book.wire_asks,
        min_order_size=inputs.min_order_size,
        tick_size=inputs.tick_size,
        neg_risk=inputs.neg_risk,
    )
    if found is not None:
        return True
    return None if Decimal(inputs.tick_size) < FINEST_VERIFIED_TICK else False
