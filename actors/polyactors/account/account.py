"""The account: orders, trades and positions, as far as events have told.

Which source is believed for what:

- Positions follow from trades alone: each fill of ours, identified by (trade id, order id),
  counts once from MATCHED on, and is given back once if the trade FAILED. RETRYING keeps it.
- What was matched of an order: the greater of its own `size_matched` and the sum of its fills,
  those of FAILED trades too, unless the lists of open orders insist on less (`refusals`).
- That an order is cancelled: a CANCELLATION, or a list of open orders that lacks it.

Else everything that is kept only grows (sizes, statuses, fills, cancellations), so events that come
late, twice, or in another order than they happened lead to the same account: live events can be
applied while a reconciliation is under way, and each fact is reported once, by whichever source
told it first.

A position is the sum of the trades that the account knows, not a holding: shares that were
split, merged, redeemed or transferred are no trades. Money is not summed: a taker's price is
rounded by the exchange, and fees are not on this channel.
"""

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from attrs import evolve, frozen

from polyactors.account.changes import (
    Change,
    Impossible,
    OrderChanged,
    PositionChanged,
    TradeChanged,
)
from polyactors.account.orders import Order, OrderState, contradiction, merged, order_of
from polyactors.account.refusals import Disputes, Refusals
from polyactors.account.sums import Completeness, TradedSizes
from polyactors.account.trades import (
    Fill,
    Owner,
    Step,
    Trade,
    fills_contradict,
    fills_of,
    followed,
    matched_at_s,
    step_to,
    trade_of,
    updated_at_s,
)
from polyactors.protocol.user_events import OrderEvent, TradeEvent, UserEvent

CLOSED_ORDERS_MAX = 10_000
"""Orders that are filled or cancelled and still remembered; the first closed go first."""
FINAL_TRADES_MAX = 10_000
"""Trades that are confirmed or failed and still remembered; the first final go first. One that
the next reconciliation would list again stays beyond that."""
FORGOTTEN_AT_ONCE_MAX = 500
"""Trades that are forgotten by one call: some 2 ms. After a long history there are many."""


@frozen
class Coverage:
    """Up to where the trades of an account are complete."""

    to_s: int
    """Every trade that was matched before this second is known, and not asked for again."""
    markets: frozenset[str] = frozenset()
    """Of these markets; empty for all."""
    explained_orders: frozenset[str] = frozenset()
    """Open orders of which all trades since their creation are known, up to the same second."""


class Account:
    """Orders, trades and positions of one owner; owned and changed by one task."""

    def __init__(
        self,
        owner: Owner,
        *,
        since_s: int = 0,
        closed_orders_max: int = CLOSED_ORDERS_MAX,
        final_trades_max: int = FINAL_TRADES_MAX,
    ) -> None:
        self.owner = owner
        self.since_s = since_s
        """Trades from this second on are asked for in the first reconciliation. By the
        exchange's clock, and not later than that reconciliation; 0 for all there ever were."""
        self.coverage: Coverage | None = None
        """None until the first reconciliation is finished."""
        self.repeats = 0
        """Events that said nothing new."""
        self.forgotten = 0
        """Events about trades from before what is remembered: repeats, too."""
        self._refusals = Refusals()
        self._disputes = Disputes()
        self._orders: dict[str, Order] = {}
        self._trades: dict[str, Trade] = {}
        self._positions: dict[str, int] = {}
        self._traded = TradedSizes()
        self._closed: dict[str, None] = {}  # orders, in the order in which they were closed
        self._final: dict[str, None] = {}  # trades, in the order in which they became final
        self._complete = Completeness()
        self._kept_after_s: int | None = None
        self._closed_orders_max = closed_orders_max
        self._final_trades_max = final_trades_max

    @property
    def orders(self) -> MappingProxyType[str, Order]:
        """By id: open orders, and those that were closed last."""
        return MappingProxyType(self._orders)

    @property
    def trades(self) -> MappingProxyType[str, Trade]:
        """By id: trades on their way, and those that became final last."""
        return MappingProxyType(self._trades)

    @property
    def positions(self) -> MappingProxyType[str, int]:
        """By token, in units: what the known trades sum up to, where that is not 0."""
        return MappingProxyType(self._positions)

    @property
    def impossible(self) -> int:
        """How many events cannot be true; a row of a list counts once."""
        return self._refusals.count

    @property
    def impossible_kept(self) -> Sequence[Impossible]:
        """The latest of them."""
        return self._refusals.kept

    def take_refused_rows(self) -> list[Impossible]:
        """The rows of lists that were refused since the last call: what they say is missing."""
        return self._refusals.take_new_rows()

    def open_orders(self) -> list[Order]:
        """Orders that may still be matched."""
        closed = self._closed
        return [order for order_id, order in self._orders.items() if order_id not in closed]

    def traded_size(self, order_id: str) -> int:
        """What the known trades say was matched of an order, in units."""
        return self._traded.of(order_id)

    def apply(self, event: UserEvent, *, reconciled: bool = False) -> list[Change]:
        """Take one event; return what changed, which for a repeat is nothing.

        `reconciled`: the event is a row of a REST list.
        """
        return self.apply_all((event,), reconciled=reconciled)

    def apply_all(self, events: Iterable[UserEvent], *, reconciled: bool = False) -> list[Change]:
        """Take events in this order; nothing is forgotten between them.

        `reconciled`: they are rows of REST lists.
        """
        changes: list[Change] = []
        for event in events:
            if isinstance(event, OrderEvent):
                changes += self._apply_order(event, reconciled)
            else:
                changes += self._apply_trade(event, reconciled)
        self._forget()
        return changes

    def settle_disputes(self, orders: Iterable[OrderEvent]) -> list[Change]:
        """A list of open orders was applied; here it is once more, all of it.

        Where it says less than we hold it is contradicted by the channel, or by the list before,
        and wins if it insists.
        """
        changes: list[Change] = []
        for row, why in self._disputes.take(orders, self._orders):
            self._refuse(why, row, reconciled=True)
            changes += self._give_way(row)
        return changes

    def close_missing(self, order_id: str) -> list[Change]:
        """An order that the list of open orders lacks is gone, unless a later list has it."""
        order = self._orders.get(order_id)
        if order is None or order.state is not OrderState.OPEN:
            return []
        return self._set_order(evolve(order, is_missing=True), reconciled=True)

    def cover(self, coverage: Coverage) -> None:
        """A reconciliation is finished."""
        self.coverage = coverage
        self._complete.cover(coverage.markets, coverage.to_s)
        self._kept_after_s = None
        self._forget()

    def keep_trades_after(self, after_s: int) -> None:
        """Forget no trade that was matched later before the next `cover`: the list is applied in
        pieces, and what is forgotten between two of them would hide older rows of the next."""
        known_s = self._kept_after_s
        self._kept_after_s = after_s if known_s is None else min(after_s, known_s)

    # Orders

    def _apply_order(self, event: OrderEvent, reconciled: bool) -> list[Change]:
        known = self._orders.get(event.id)
        why = contradiction(known, event) if known is not None else ""
        if why:
            return self._refuse(why, event, reconciled)
        self.owner = self.owner.with_wallet(event.maker_address)
        if known is None:
            return self._set_order(order_of(event, self.traded_size(event.id)), reconciled)
        changes = self._set_order(merged(known, event, is_listed=reconciled), reconciled)
        self.repeats += not changes
        return changes

    def _set_order(self, order: Order, reconciled: bool) -> list[Change]:
        known = self._orders.get(order.id)
        self._orders[order.id] = order
        if order.state is OrderState.OPEN:
            self._closed.pop(order.id, None)
        else:
            self._closed.setdefault(order.id)
        if known is not None and known.says_the_same(order):
            return []
        return [OrderChanged(known, order, reconciled)]

    # Trades and positions

    def _apply_trade(self, event: TradeEvent, reconciled: bool) -> list[Change]:
        known = self._trades.get(event.id)
        if known is None and self._complete.is_forgotten(event.market, matched_at_s(event)):
            self.forgotten += 1
            return []
        fills = fills_of(event, self.owner, self._orders)
        if not fills and known is None:
            return self._refuse("no side of a trade is ours", event, reconciled)
        if known is None:
            new = trade_of(event, fills)
        else:
            step = step_to(known.status, known.updated_at_s, event.status, updated_at_s(event))
            if step is Step.IMPOSSIBLE:
                why = f"a trade that is {known.status.value} cannot be {event.status.value}"
                return self._refuse(why, event, reconciled)
            if fills_contradict(known.fills, fills):
                return self._refuse("an order got another fill of a trade", event, reconciled)
            new = followed(known, event, step, fills)
        return self._set_trade(known, new, reconciled)

    def _set_trade(self, known: Trade | None, new: Trade, reconciled: bool) -> list[Change]:
        self._trades[new.id] = new
        if new.is_final:
            self._final.setdefault(new.id)
        known_fills = known.fills if known is not None else ()
        if known is not None and known.status is new.status and known_fills == new.fills:
            self.repeats += 1
            return []
        changes: list[Change] = [TradeChanged(known, new, reconciled)]
        before = known_fills if known is not None and known.counts else ()
        after = new.fills if new.counts else ()
        moves = [(fill, -fill.position_change) for fill in before if fill not in after]
        moves += [(fill, fill.position_change) for fill in after if fill not in before]
        changes += [self._move(fill, size, reconciled) for fill, size in moves]
        for fill in new.fills:
            if fill not in known_fills:
                changes += self._fill_order(fill, reconciled)
        return changes

    def _move(self, fill: Fill, size: int, reconciled: bool) -> PositionChanged:
        old = self._positions.get(fill.token, 0)
        new = old + size
        if new:
            self._positions[fill.token] = new
        else:
            self._positions.pop(fill.token, None)
        return PositionChanged(fill.token, old, new, fill, reconciled)

    def _fill_order(self, fill: Fill, reconciled: bool) -> list[Change]:
        traded = self._traded.add(fill)
        order = self._orders.get(fill.order_id)
        if order is None:
            return []
        return self._set_order(
            evolve(order, size_matched=max(order.size_matched, traded)), reconciled
        )

    # What cannot be

    def _refuse(self, why: str, event: UserEvent, reconciled: bool) -> list[Change]:
        self._refusals.refuse(why, event, is_listed=reconciled)
        return []

    def _give_way(self, row: OrderEvent) -> list[Change]:
        """A list insists that less of an order is matched: what FAILED is no part of it then."""
        order = self._orders[row.id]
        if row.size_matched >= order.size_matched:
            return []
        self._traded.leave_out_failed(order.id, self._trades.values())
        size_matched = max(order.told_size, self.traded_size(order.id))
        return self._set_order(evolve(order, size_matched=size_matched), reconciled=True)

    # Memory

    def _forget(self) -> None:
        while len(self._closed) > self._closed_orders_max:
            order_id = next(iter(self._closed))
            del self._closed[order_id], self._orders[order_id]
            self._traded.forget_order(order_id)
        if self.coverage is None:
            return
        kept_after_s = self._kept_after_s
        excess = len(self._final) - self._final_trades_max
        for _ in range(min(excess, FORGOTTEN_AT_ONCE_MAX)):
            trade = self._trades[next(iter(self._final))]
            is_kept = kept_after_s is not None and trade.match_time_s > kept_after_s
            if trade.match_time_s < self._complete.to_s(trade.market) and not is_kept:
                self._forget_trade(trade)
            else:  # later, then: it stands in nobody's way
                self._final[trade.id] = self._final.pop(trade.id)

    def _forget_trade(self, trade: Trade) -> None:
        """A later event about it must not count as a new trade: its second is remembered."""
        del self._final[trade.id], self._trades[trade.id]
        self._complete.forget(trade)
        self._traded.forget_trade(trade, self._orders)
