"""Trades of the emulated exchange in which an account has a part. Pure.

The engine's match of one taker with its makers is one trade, or several where it has more makers
than one transaction takes: those share the taker's order and count their `bucket_index`. Orders
of the flow are strangers', whose ids follow from their place in the engine.
"""

from collections.abc import Mapping, Sequence

from attrs import define, frozen

from polyactors.book.numbers import PRICE_ONE, Side
from polyactors.venue.account_records import AccountOrder, address_of, hex_id, uuid_of
from polyactors.venue.engine import YES, Fill, Step
from polyactors.venue.settlement import TradeStatus

MAKERS_MAX = 6
"""Makers of one transaction: the most that were recorded in one message."""
_PRICE_STEP = PRICE_ONE // 1000


@frozen
class Party:
    """One order in a trade."""

    order_id: str
    owner: str
    """API key."""
    maker_address: str
    token: str
    outcome: int
    """YES or NO: position of the token."""
    side: Side
    price: int
    """Of its own token. A taker's is the average, with three decimals as recorded (2025-04)."""
    size: int


@define(eq=False)
class VenueTrade:
    """A taker's order and the makers' orders that it was matched with in one transaction."""

    id: str
    market: str
    """Condition id."""
    taker: Party
    makers: tuple[Party, ...]
    matched_at_ms: int
    bucket_index: int
    """Of one match with many makers, which transaction it is."""
    transaction_hash: str
    statuses: list[TradeStatus]
    """All so far, the present one last."""
    updated_at_ms: int

    @property
    def status(self) -> TradeStatus:
        """The present one."""
        return self.statuses[-1]

    def sides(self, owner: str) -> list[str]:
        """TAKER, MAKER: where this account stands; both when it traded with itself."""
        sides = ["TAKER"] if self.taker.owner == owner else []
        if any(maker.owner == owner for maker in self.makers):
            sides.append("MAKER")
        return sides

    def parts(self, owner: str) -> list[Party]:
        """The account's own, the taker's first."""
        return [party for party in (self.taker, *self.makers) if party.owner == owner]


def make_trades(
    step: Step, ours: Mapping[str, AccountOrder], taker: AccountOrder | None
) -> list[VenueTrade]:
    """The trades of an engine step in which an account has a part; without statuses yet.

    `ours` are the orders of accounts that were matched, by id, `taker` among them if it is one.
    """
    buckets = [step.fills[i : i + MAKERS_MAX] for i in range(0, len(step.fills), MAKERS_MAX)]
    trades = [_make_trade(step, ours, taker, fills, i) for i, fills in enumerate(buckets)]
    return [
        trade
        for trade in trades
        if any(party.order_id in ours for party in (trade.taker, *trade.makers))
    ]


def _make_trade(
    step: Step,
    ours: Mapping[str, AccountOrder],
    taker: AccountOrder | None,
    fills: Sequence[Fill],
    bucket: int,
) -> VenueTrade:
    book, first = step.after[YES], step.trades[0]
    size = sum(fill.size for fill in fills)
    value = sum(
        fill.size * (fill.price if fill.token == first.token else PRICE_ONE - fill.price)
        for fill in fills
    )
    # Rounded half up, in integers.
    price = (2 * value + size * _PRICE_STEP) // (2 * size * _PRICE_STEP) * _PRICE_STEP
    transaction = (bucket,) if bucket else ()
    return VenueTrade(
        id=uuid_of(book.market, first.taker_id, "trade", bucket),
        market=book.market,
        taker=_party(step, first.taker_id, taker, first.token, first.side, price, size),
        makers=tuple(
            _party(
                step,
                fill.maker_id,
                ours.get(fill.owner),
                fill.token,
                fill.side,
                fill.price,
                fill.size,
            )
            for fill in fills
        ),
        matched_at_ms=book.timestamp_ms,
        bucket_index=bucket,
        # The first is the one that the market channel tells with the last trade price.
        transaction_hash=hex_id(book.market, first.taker_id, *transaction),
        statuses=[],
        updated_at_ms=book.timestamp_ms,
    )


def _party(
    step: Step,
    engine_id: int,
    order: AccountOrder | None,
    token: int,
    side: Side,
    price: int,
    size: int,
) -> Party:
    """An order of an account, or a stranger's."""
    book = step.after[token]
    key = (book.market, engine_id)
    return Party(
        order_id=order.id if order else hex_id(*key, "order"),
        owner=order.owner if order else uuid_of(*key, "owner"),
        maker_address=order.maker_address if order else address_of(*key, "owner"),
        token=book.token,
        outcome=token,
        side=side,
        price=price,
        size=size,
    )
