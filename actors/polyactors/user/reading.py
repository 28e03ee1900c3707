"""The account as a program reads it: exact Decimals, frozen, labelled with its state."""

from collections.abc import Mapping
from decimal import Decimal

from attrs import frozen

from polyactors.account.account import Account
from polyactors.account.orders import Order, OrderState
from polyactors.account.trades import Fill, Trade
from polyactors.book.numbers import Side, to_decimal
from polyactors.user.state import AccountReason, AccountState, AccountTrust


@frozen(kw_only=True)
class OrderReading:
    """One order of the account."""

    id: str
    market: str
    """Condition id."""
    token: str
    outcome: str
    side: str
    """BUY or SELL."""
    price: Decimal
    """USDC per share."""
    original_size: Decimal
    """Shares."""
    filled_size: Decimal
    open_size: Decimal
    """What may still be matched; 0 unless the order is open."""
    state: str
    """OPEN, FILLED or CANCELLED."""
    order_type: str
    """GTC, GTD, FOK or FAK; "" when the exchange has not said."""
    created_at_s: int
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


@frozen(kw_only=True)
class FillReading:
    """What one order of the account got of one trade. Identified by trade and order."""

    trade: str
    order: str
    token: str
    side: str
    size: Decimal
    price: Decimal
    """A taker's is an average, which the exchange rounds."""
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


@frozen(kw_only=True)
class TradeReading:
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
    transaction_hash: str | None

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


@frozen(kw_only=True)
class AccountReading:
    """The whole account at one moment."""

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

    @classmethod
    def take(cls, account: Account, trust: AccountTrust, now_seconds: float) -> "AccountReading":
        """The account as it is now."""
        return cls(
            state=trust.state,
            reason=trust.reason,
            age_seconds=now_seconds - trust.since_seconds,
            orders={key: OrderReading.take(order) for key, order in account.orders.items()},
            trades={key: TradeReading.take(trade) for key, trade in account.trades.items()},
            positions={token: to_decimal(size) for token, size in account.positions.items()},
        )

    @property
    def open_orders(self) -> list[OrderReading]:
        """Orders that may still be matched, the oldest first."""
        found = [one for one in self.orders.values() if one.state == OrderState.OPEN.value]
        return sorted(found, key=lambda order: (order.created_at_s, order.id))


def side_text(side: Side) -> str:
    """As the wire writes it."""
    return "BUY" if side is Side.BID else "SELL"
