"""The account as a program reads it: exact Decimals, frozen, labelled with its state.

An account may remember tens of thousands of rows, and is read in the loop that receives its
events: so a row is made into its reading when somebody looks at it, and not again before it has
changed.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Generic, TypeVar

from attrs import field, frozen
from msgspec import Struct

from polyactors.account.account import Account
from polyactors.account.orders import Order
from polyactors.account.trades import Fill, Trade
from polyactors.book.numbers import Side, to_decimal
from polyactors.user.state import AccountReason, AccountState, AccountTrust


class OrderReading(Struct, frozen=True, kw_only=True):
    """One order of the account."""

    id: str
    market: str
    """Condition id."""
    token: str
    outcome: str
    """What the token pays for, in the exchange's words."""
    side: str
    """BUY or SELL."""
    price: Decimal
    """USDC per share."""
    original_size: Decimal
    """Shares."""
    filled_size: Decimal
    """Shares that were matched so far."""
    open_size: Decimal
    """What may still be matched; 0 unless the order is open."""
    state: str
    """OPEN, FILLED or CANCELLED."""
    order_type: str
    """GTC, GTD, FOK or FAK; "" when the exchange has not said."""
    created_at_s: int
    """Seconds since the epoch, by the exchange's clock; 0 when it gave none."""
    expiration_s: int
    """0 when it does not expire."""

    @classmethod
    def take(cls, order: Order) -> "OrderReading":
        """The order as it is now."""
        return cls(
            id=order.id,
            market=order.market,
            token=order.token,
            outcome=order.outcome,
            side=side_text(order.side),
            price=to_decimal(order.price),
            original_size=to_decimal(order.original_size),
            filled_size=to_decimal(order.size_matched),
            open_size=to_decimal(order.open_size),
            state=order.state.value,
            order_type=order.order_type,
            created_at_s=order.created_at_s,
            expiration_s=order.expiration_s,
        )


class FillReading(Struct, frozen=True, kw_only=True):
    """What one order of the account got of one trade. Identified by trade and order."""

    trade: str
    """Its id."""
    order: str
    """Its id."""
    token: str
    side: str
    """BUY or SELL."""
    size: Decimal
    """Shares."""
    price: Decimal
    """USDC per share. A taker's is an average, which the exchange rounds."""
    role: str
    """TAKER or MAKER."""

    @classmethod
    def take(cls, fill: Fill) -> "FillReading":
        """The fill."""
        return cls(
            trade=fill.trade_id,
            order=fill.order_id,
            token=fill.token,
            side=side_text(fill.side),
            size=to_decimal(fill.size),
            price=to_decimal(fill.price),
            role=fill.trader_side.value,
        )


class TradeReading(Struct, frozen=True, kw_only=True):
    """One trade of the account."""

    id: str
    market: str
    status: str
    """MATCHED, MINED, CONFIRMED, RETRYING or FAILED."""
    is_final: bool
    """Whether nothing can follow."""
    fills: tuple[FillReading, ...]
    """Of our orders only."""
    match_time_s: int
    """Seconds since the epoch, by the exchange's clock; 0 when it gave none."""
    transaction_hash: str | None
    """None when it was not said."""

    @classmethod
    def take(cls, trade: Trade) -> "TradeReading":
        """The trade as it is now."""
        return cls(
            id=trade.id,
            market=trade.market,
            status=trade.status.value,
            is_final=trade.is_final,
            fills=tuple(FillReading.take(fill) for fill in trade.fills),
            match_time_s=trade.match_time_s,
            transaction_hash=trade.transaction_hash,
        )


RowT = TypeVar("RowT")
ReadingT = TypeVar("ReadingT")
KEPT_BEYOND = 1024
"""Readings beyond twice the rows that there are, before those of forgotten rows are let go."""


class Made(Generic[RowT, ReadingT]):
    """The readings that were made of `rows`, by key: each once for the very row."""

    def __init__(self, make: Callable[[RowT], ReadingT], rows: MappingProxyType[str, RowT]) -> None:
        """`rows` is a view of the account's own."""
        self._make = make
        self._rows = rows
        self._kept: dict[str, tuple[RowT, ReadingT]] = {}

    def of(self, key: str, row: RowT) -> ReadingT:
        """The reading of a row. Rows are frozen, so another object is another row."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] is row:
            return kept[1]
        if len(self._kept) > 2 * len(self._rows) + KEPT_BEYOND:
            self._kept = {key: kept for key, kept in self._kept.items() if key in self._rows}
        made = self._make(row)
        self._kept[key] = (row, made)
        return made

    def now(self) -> "Rows[RowT, ReadingT]":
        """All rows as they are now."""
        return Rows(self._rows.copy(), self)


class Rows(Mapping[str, ReadingT], Generic[RowT, ReadingT]):
    """The rows of one moment by their keys: immutable, each read when it is looked at."""

    __slots__ = ("_made", "_rows")

    def __init__(self, rows: dict[str, RowT], made: Made[RowT, ReadingT]) -> None:
        self._rows = rows
        self._made = made

    def __getitem__(self, key: str) -> ReadingT:
        return self._made.of(key, self._rows[key])

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[type[dict[str, ReadingT]], tuple[dict[str, ReadingT]]]:
        return dict, (dict(self),)


class Readings:
    """What was made of one account's rows; for events, and for whoever reads all of it."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._orders = Made(OrderReading.take, account.orders)
        self._trades = Made(TradeReading.take, account.trades)
        self._positions = Made(to_decimal, account.positions)

    def order(self, order: Order) -> OrderReading:
        """The order."""
        return self._orders.of(order.id, order)

    def trade(self, trade: Trade) -> TradeReading:
        """The trade."""
        return self._trades.of(trade.id, trade)

    def account(self, trust: AccountTrust, now_seconds: float) -> "AccountReading":
        """The whole account as it is now."""
        return AccountReading(
            state=trust.state,
            reason=trust.reason,
            age_seconds=now_seconds - trust.since_seconds,
            orders=self._orders.now(),
            trades=self._trades.now(),
            positions=self._positions.now(),
            open_ids=tuple(order.id for order in self._account.open_orders()),
        )


@frozen(kw_only=True)
class AccountReading:
    """The whole account at one moment. Immutable."""

    state: AccountState
    reason: AccountReason | None
    """Why, when the state is STALE."""
    age_seconds: float
    """Since the state was entered."""
    orders: Mapping[str, OrderReading]
    """By id: open ones, and those that were closed last."""
    trades: Mapping[str, TradeReading]
    """By id: those on their way, and those that became final last."""
    positions: Mapping[str, Decimal]
    """By token: what the known trades sum up to, where that is not 0."""

    _open_ids: tuple[str, ...] = field(default=(), repr=False, alias="open_ids")

    @classmethod
    def take(cls, account: Account, trust: AccountTrust, now_seconds: float) -> "AccountReading":
        """The account as it is now."""
        return Readings(account).account(trust, now_seconds)

    @property
    def open_orders(self) -> list[OrderReading]:
        """Orders that may still be matched, the oldest first."""
        found = [self.orders[order_id] for order_id in self._open_ids]
        return sorted(found, key=lambda order: (order.created_at_s, order.id))


def side_text(side: Side) -> str:
    """As the wire writes it."""
    return "BUY" if side is Side.BID else "SELL"
