"""One trade of ours: what we got of it, and how far its settlement is.

A trade is one taker's order against one or more makers' orders, and every one of them may be
ours. What an order of ours got of a trade is a `Fill`, identified by (trade id, order id).
"""

from collections.abc import Container, Iterable
from enum import Enum

from attrs import evolve, frozen

from polyactors.account.secrecy import Secretive
from polyactors.book.numbers import Side
from polyactors.protocol.user_events import TradeEvent, TraderSide, TradeStatus

TRANSITIONS: dict[TradeStatus, frozenset[TradeStatus]] = {
    TradeStatus.MATCHED: frozenset(
        {TradeStatus.MINED, TradeStatus.CONFIRMED, TradeStatus.RETRYING, TradeStatus.FAILED}
    ),
    TradeStatus.RETRYING: frozenset({TradeStatus.MINED, TradeStatus.CONFIRMED, TradeStatus.FAILED}),
    TradeStatus.MINED: frozenset({TradeStatus.CONFIRMED, TradeStatus.RETRYING, TradeStatus.FAILED}),
    TradeStatus.CONFIRMED: frozenset(),
    TradeStatus.FAILED: frozenset(),
}
"""From each status, the statuses that are news, skips included. Any other is a repeat that came
late, also MATCHED after RETRYING: nothing is matched anew under the same id. RETRYING and MINED
follow each other in both directions, so there the later `last_update` is the news, and in the
same second MINED (a transaction that is sent again is mined seconds later)."""

CONTRADICTIONS: dict[TradeStatus, frozenset[TradeStatus]] = {
    TradeStatus.CONFIRMED: frozenset({TradeStatus.FAILED}),
    TradeStatus.FAILED: frozenset({TradeStatus.CONFIRMED}),
}
"""From each final status, those that cannot follow: a trade is settled or it is not."""


WALLETS_MAX = 100
"""Wallets that are known for ours; an account has one or two."""


class Step(Enum):
    """What a status is to a trade that has one already."""

    NEWS = "news"
    REPEAT = "repeat"
    IMPOSSIBLE = "impossible"


class Owner(Secretive):
    """Who we are, to find ours among the orders of a trade."""

    __slots__ = ("_api_key", "_wallets")

    def __init__(self, api_key: str, address: str = "") -> None:
        self._api_key = api_key
        self._wallets = frozenset({address.lower()} - {""})

    def with_wallet(self, address: str) -> "Owner":
        """The same, who is known to spend from this wallet, too."""
        wallet = address.lower()
        if not wallet or wallet in self._wallets or len(self._wallets) >= WALLETS_MAX:
            return self
        found = Owner(self._api_key)
        found._wallets = self._wallets | {wallet}
        return found

    def owns(self, api_key: str, address: str) -> bool:
        """Whether an order with this API key, from this wallet, is ours: either will do.

        The key is ours alone. The wallet may have further keys; and it need not be the address
        of the credentials, but then a proxy's, which our own orders tell.
        """
        return api_key == self._api_key or address.lower() in self._wallets


@frozen
class Fill:
    """What one order of ours got of one trade. Identified by its first two fields."""

    trade_id: str
    order_id: str
    token: str
    side: Side
    size: int
    """In units."""
    price: int
    """In units. A taker's is an average, which the exchange rounds."""
    trader_side: TraderSide

    @property
    def position_change(self) -> int:
        """What it adds to the position of the token, in units: BUY adds, SELL takes."""
        return self.size if self.side is Side.BID else -self.size


@frozen
class Trade:
    """A trade of ours, as far as it is known."""

    id: str
    market: str
    status: TradeStatus
    fills: tuple[Fill, ...]
    """Ours only, each order once."""
    match_time_s: int = 0
    updated_at_s: int = 0
    """When the status was reached last, as the exchange said."""
    transaction_hash: str | None = None

    @property
    def counts(self) -> bool:
        """Whether its fills are in the position: from MATCHED on, unless it FAILED."""
        return self.status is not TradeStatus.FAILED

    @property
    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return not TRANSITIONS[self.status]


def step_to(known: TradeStatus, known_at_s: int, status: TradeStatus, updated_at_s: int) -> Step:
    """What `status`, reached at `updated_at_s`, is to a trade that is known to be at `known`."""
    if status in CONTRADICTIONS.get(known, ()):
        return Step.IMPOSSIBLE
    if status not in TRANSITIONS[known]:
        return Step.REPEAT
    if known in TRANSITIONS[status]:
        is_later = (updated_at_s, status is TradeStatus.MINED) > (
            known_at_s,
            known is TradeStatus.MINED,
        )
        return Step.NEWS if is_later else Step.REPEAT
    return Step.NEWS


def fills_of(event: TradeEvent, owner: Owner, orders: Container[str] = ()) -> tuple[Fill, ...]:
    """Our fills in a trade, the taker's first; sizes of 0 are none.

    What stands at the top of the message is the taker's, also when we were a maker (captures of
    2024-09 and 2025-01). `trader_side` says which side the receiver was on, so at TAKER the
    taker's order is ours whatever key it has; at MAKER it may still be ours, too, when we traded
    with ourselves. Of `maker_orders`, which are those of all makers, ours are those with our
    key or wallet, and `orders`, the ids of orders that are known for ours: an order that was
    placed with a former key stays ours.
    """
    fills: dict[str, Fill] = {}
    if (
        event.trader_side is TraderSide.TAKER
        or event.taker_order_id in orders
        or owner.owns(event.owner, event.maker_address)
    ):
        fills[event.taker_order_id] = Fill(
            trade_id=event.id,
            order_id=event.taker_order_id,
            token=event.token,
            side=event.side,
            size=event.size,
            price=event.price,
            trader_side=TraderSide.TAKER,
        )
    for maker in event.maker_fills:
        if maker.order_id in orders or owner.owns(maker.owner, maker.maker_address):
            before = fills.get(maker.order_id)
            fills[maker.order_id] = Fill(
                trade_id=event.id,
                order_id=maker.order_id,
                token=maker.token,
                side=maker.side,
                size=maker.matched_size + (before.size if before is not None else 0),
                price=maker.price,
                trader_side=TraderSide.MAKER,
            )
    return tuple(fill for fill in fills.values() if fill.size)


def fills_contradict(known: Iterable[Fill], told: Iterable[Fill]) -> bool:
    """Whether one order got two different fills of the same trade; prices may be rounded."""
    got = {fill.order_id: (fill.token, fill.side, fill.size) for fill in known}
    return any(
        got.get(fill.order_id, (fill.token, fill.side, fill.size))
        != (fill.token, fill.side, fill.size)
        for fill in told
    )


def trade_of(event: TradeEvent, fills: tuple[Fill, ...]) -> Trade:
    """The trade that a first event speaks of; `fills` are ours."""
    return Trade(
        id=event.id,
        market=event.market,
        status=event.status,
        fills=fills,
        match_time_s=matched_at_s(event),
        updated_at_s=updated_at_s(event),
        transaction_hash=event.transaction_hash,
    )


def followed(known: Trade, event: TradeEvent, step: Step, fills: tuple[Fill, ...]) -> Trade:
    """The trade with what an event adds to it: a status, or orders of ours that it names first."""
    have = {fill.order_id for fill in known.fills}
    status = event.status if step is Step.NEWS else known.status
    # A repeat of the same status may be of a later second, which a late other one must not beat.
    is_latest = status is event.status and updated_at_s(event) >= known.updated_at_s
    return evolve(
        known,
        status=status,
        fills=known.fills + tuple(fill for fill in fills if fill.order_id not in have),
        updated_at_s=updated_at_s(event) if is_latest else known.updated_at_s,
        transaction_hash=(
            event.transaction_hash or known.transaction_hash
            if is_latest
            else known.transaction_hash or event.transaction_hash
        ),
    )


def matched_at_s(event: TradeEvent) -> int:
    """When the engine matched it, in seconds; the best there is when that is not said."""
    return event.match_time_s or updated_at_s(event)


def updated_at_s(event: TradeEvent) -> int:
    """When the status was reached, in seconds; 0 when nothing is said."""
    return event.last_update_s or event.timestamp_ms // 1000
