"""Order entry of the emulated exchange: accounts' orders in the engines, and what becomes of them.

What one engine step means to an account is told at once, as one batch, in this order:

1. PLACEMENT of the order that was placed, as it was before anything was matched.
2. For each trade the event of each side that the account has in it, and for each order that was
   matched an UPDATE; which of the two comes first is the seed's choice, as nothing is documented.
3. CANCELLATION of what a FAK order found nothing for.

"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from polyactors.book.numbers import PRICE_ONE, Side, parse_units, to_text
from polyactors.venue.account_records import (
    FAK_KILLED,
    FOK_KILLED,
    AccountOrder,
    OrderStatus,
    OrderType,
    hex_id,
)
from polyactors.venue.account_trades import VenueTrade, make_trades
from polyactors.venue.agenda import Agenda
from polyactors.venue.engine import MIN_ORDER_SIZE, YES, Step
from polyactors.venue.market import Market
from polyactors.venue.settlement import Outcome, TradeStatus
from polyactors.venue.user_wire import (
    CANCELLATION,
    MARKET_CLOSED,
    PLACEMENT,
    UPDATE,
    AccountEvent,
    killed_event,
    order_event,
    trade_event,
)

if TYPE_CHECKING:
    from polyactors.venue.accounts import VenueAccount

MAKERS_MAX = 6
"""Makers of one transaction: the most that were recorded in one message."""
ORDERS_MAX = 100_000
"""Orders that an account may place: the exchange remembers each, and forgets none."""
_SIZE_STEP = PRICE_ONE // 100
_RESTING = (OrderType.GTC, OrderType.GTD)

News = dict["VenueAccount", list[AccountEvent]]


class OrderDesk:
    """Places, matches and cancels the orders of all accounts, and has their trades settled.

    `find` gives the market of a token and the token's position, `publish` says an engine step
    on the market channel, `accounts` has them by API key, `agenda` what happens later.
    """

    def __init__(
        self,
        *,
        find: Callable[[str], tuple[Market, int] | None],
        publish: Callable[[Step], object],
        accounts: Mapping[str, "VenueAccount"],
        now_ms: Callable[[], int],
        agenda: Agenda,
    ) -> None:
        self._find = find
        self._publish = publish
        self._accounts = accounts
        self._now_ms = now_ms
        self._agenda = agenda
        self._resting: dict[str, AccountOrder] = {}

    # Orders

    def place(
        self,
        account: "VenueAccount",
        token: str,
        side: Side,
        price: int,
        size: int,
        order_type: OrderType,
        expiration_s: int,
        settles: Outcome | None,
    ) -> AccountOrder:
        """See `VenueAccount.place`."""
        market, position = self._open_market(token)
        now_ms = self._now_ms()
        _check_numbers(price, size, market.engine.tick_size)
        if len(account.orders) >= ORDERS_MAX:
            raise ValueError(f"an account may place {ORDERS_MAX} orders")
        if (order_type is OrderType.GTD) != (expiration_s != 0):
            raise ValueError("a GTD order has an expiration, and no other order has one")
        if expiration_s and expiration_s * 1000 <= now_ms:
            raise ValueError("invalid expiration: it is past")
        order = AccountOrder(
            id=hex_id(account.api_key, "order", len(account.orders)),
            owner=account.api_key,
            maker_address=account.maker_address,
            market=market.listing.condition_id,
            token=token,
            outcome=position,
            side=side,
            price=price,
            size=size,
            type=order_type,
            created_at_ms=now_ms,
            expiration_s=expiration_s,
            settles=settles,
        )
        account.orders[order.id] = order
        available = market.engine.available(position, side, price)
        if order_type is OrderType.FOK and available < size:
            order.reason = FOK_KILLED
        elif order_type is OrderType.FAK and not available:
            order.reason = FAK_KILLED
        if order.reason:
            order.status = OrderStatus.CANCELED
            account.tell([killed_event(order, now_ms)])
        else:
            self._enter(account, market, order, now_ms)
        return order

    def cancel(self, orders: Iterable[AccountOrder]) -> None:
        """Take orders out that rest; those of one market in one engine step."""
        by_market = defaultdict[str, list[AccountOrder]](list)
        for order in orders:
            by_market[order.market].append(order)
        for together in by_market.values():
            market, _ = self._open_market(together[0].token)
            ids = [order.engine_id for order in together if order.engine_id is not None]
            now_ms = self._now_ms()
            self._publish(market.engine.cancel(ids, now_ms))
            self._close(together, now_ms)

    def market_closed(self, condition_id: str) -> None:
        """Cancel what rests in a market that has no book any more."""
        orders = [order for order in self._resting.values() if order.market == condition_id]
        self._close(orders, self._now_ms(), status=MARKET_CLOSED)

    def taken(self, step: Step) -> None:
        """An engine step of the flow: some of the makers may be ours."""
        news: News = defaultdict(list)
        self._match(step, None, news)
        _tell(news)

    def _open_market(self, token: str) -> tuple[Market, int]:
        found = self._find(token)
        if found is None or found[0].winner is not None:
            raise ValueError(f"no open market has the token {token}")
        return found

    def _enter(
        self, account: "VenueAccount", market: Market, order: AccountOrder, now_ms: int
    ) -> None:
        step = market.engine.place(
            order.outcome,
            order.side,
            order.price,
            order.size,
            now_ms,
            owner=order.id,
            rests=order.type in _RESTING,
        )
        news: News = defaultdict(list)
        news[account].append(order_event(order, PLACEMENT, now_ms))
        self._publish(step)
        self._match(step, order, news)
        if order.is_open and order.type in _RESTING:
            order.engine_id = step.taker_id
            self._resting[order.id] = order
        elif order.is_open:
            order.status = OrderStatus.CANCELED
            news[account].append(order_event(order, CANCELLATION, now_ms))
        _tell(news)
        if order.is_open and order.expiration_s:
            left_seconds = order.expiration_s - now_ms / 1000
            self._agenda.add(trio.current_time() + left_seconds, partial(self._expire, order))

    def _expire(self, order: AccountOrder) -> None:
        if order.is_open:
            self.cancel([order])

    def _close(self, orders: Iterable[AccountOrder], now_ms: int, *, status: str = "") -> None:
        news: News = defaultdict(list)
        for order in orders:
            del self._resting[order.id]
            order.status, order.engine_id = OrderStatus.CANCELED, None
            event = order_event(order, CANCELLATION, now_ms, status=status)
            news[self._accounts[order.owner]].append(event)
        _tell(news)

    # Trades

    def _match(self, step: Step, taker: AccountOrder | None, news: News) -> None:
        """Make the trades of a step in which an account has a part, and what is said of them."""
        ours = {fill.owner: self._resting[fill.owner] for fill in step.fills if fill.owner}
        if taker is not None:
            ours[taker.id] = taker
        if not step.fills or not ours:
            return
        trades = make_trades(step, ours, taker)
        for trade in trades:
            parties = [party for party in (trade.taker, *trade.makers) if party.order_id in ours]
            for party in parties:
                order = ours[party.order_id]
                order.size_matched += party.size
                order.trade_ids.append(trade.id)
                self._accounts[order.owner].trades[trade.id] = trade
            self._settle(trade, [ours[party.order_id] for party in parties])
        for order in ours.values():
            if order.size_matched == order.size:
                order.status, order.engine_id = OrderStatus.MATCHED, None
                self._resting.pop(order.id, None)
        for owner in dict.fromkeys(order.owner for order in ours.values()):
            account = self._accounts[owner]
            stamp = step.after[YES].timestamp_ms
            told = [event for trade in trades for event in _trade_events(trade, account, stamp)]
            updates = [order_event(o, UPDATE, stamp) for o in ours.values() if o.owner == owner]
            first, second = (told, updates) if account.rng.random() < 0.5 else (updates, told)
            news[account] += [*first, *second]

    def _settle(self, trade: VenueTrade, orders: Sequence[AccountOrder]) -> None:
        """Give a new trade its first status, and the others their times."""
        account = self._accounts[orders[0].owner]
        settles = next((order.settles for order in orders if order.settles), None)
        at = trio.current_time()
        for seconds, status in account.settlement.plan(account.rng, settles):
            at += seconds
            if trade.statuses:
                self._agenda.add(at, partial(self._advance, trade, status))
            else:
                trade.statuses.append(status)

    def _advance(self, trade: VenueTrade, status: TradeStatus) -> None:
        trade.statuses.append(status)
        trade.updated_at_ms = self._now_ms()
        for owner in dict.fromkeys(party.owner for party in (trade.taker, *trade.makers)):
            account = self._accounts.get(owner)
            if account is not None:
                account.tell(_trade_events(trade, account, trade.updated_at_ms))


def _trade_events(
    trade: VenueTrade, account: "VenueAccount", timestamp_ms: int
) -> list[AccountEvent]:
    has_prefix = account.settlement.has_prefix
    return [
        trade_event(trade, side, timestamp_ms, has_prefix=has_prefix)
        for side in trade.sides(account.api_key)
    ]


def _tell(news: News) -> None:
    for account, events in news.items():
        account.tell(events)


def _check_numbers(price: int, size: int, tick_size: int) -> None:
    if price % tick_size or not tick_size <= price <= PRICE_ONE - tick_size:
        raise ValueError(
            f"invalid price ({to_text(price)}), tick size: {to_text(tick_size)}, "
            f"min: {to_text(tick_size)} - max: {to_text(PRICE_ONE - tick_size)}"
        )
    if size < parse_units(MIN_ORDER_SIZE) or size % _SIZE_STEP:
        raise ValueError(
            f"invalid size ({to_text(size)}), at least {MIN_ORDER_SIZE} with two decimals at most"
        )
