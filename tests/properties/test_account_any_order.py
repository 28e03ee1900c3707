"""Events of one account in any order, as often as one likes: the account is the same."""

import json

from hypothesis import given
from hypothesis import strategies as st
from tests.properties.account_exchange import ADDRESS, API_KEY, NEXT, Exchange

from polyactors.account.account import Account
from polyactors.account.orders import Order, OrderState
from polyactors.account.trades import Fill, Owner
from polyactors.protocol.user_codec import UserCodec
from polyactors.protocol.user_events import TradeStatus, UserEvent

Facts = tuple[
    dict[str, tuple[int, OrderState, int]],
    dict[str, tuple[TradeStatus, frozenset[Fill]]],
    dict[str, int],
]


@st.composite
def histories(draw: st.DrawFn) -> list[UserEvent]:
    """What the channel says while orders of ours live and trades settle, in order."""
    exchange = Exchange()
    exchange.outbox = []
    exchange.place("11", "BUY", draw(st.integers(1, 9)))
    for step in draw(st.lists(st.integers(0, 4), max_size=25)):
        exchange.now_s += draw(st.integers(0, 2))
        open_orders = exchange.open_orders()
        unsettled = [name for name, trade in exchange.trades.items() if NEXT[trade["status"]]]
        if step == 0 or (step < 4 and not open_orders):
            side = draw(st.sampled_from(("BUY", "SELL")))
            exchange.place(draw(st.sampled_from(("11", "12"))), side, draw(st.integers(1, 9)))
        elif step == 1:
            exchange.cancel(draw(st.sampled_from(open_orders)))
        elif step < 4:
            order_id = draw(st.sampled_from(open_orders))
            order = exchange.orders[order_id]
            size = draw(st.integers(1, exchange.open_size(order_id)))
            partners = exchange.partners(order["token"], order["side"])
            if step == 2:
                exchange.match(None, [(order_id, size)], draw(st.integers(0, 3)))
            elif partners:
                maker = draw(st.sampled_from(partners))
                matched = min(size, exchange.open_size(maker))
                exchange.match(order_id, [(maker, matched)], size - matched)
            else:
                exchange.match(order_id, [], size)
        elif unsettled:
            trade_id = draw(st.sampled_from(unsettled))
            exchange.settle(trade_id, draw(st.integers(0, 1)), told=draw(st.booleans()))
    return [event for frame in exchange.outbox for event in UserCodec().receive_frame(frame).events]


def facts_of(account: Account) -> Facts:
    assert account.impossible == 0
    orders: dict[str, tuple[int, OrderState, int]] = {
        order.id: _facts_of(order) for order in account.orders.values()
    }
    trades = {trade.id: (trade.status, frozenset(trade.fills)) for trade in account.trades.values()}
    return orders, trades, dict(account.positions)


def _facts_of(order: Order) -> tuple[int, OrderState, int]:
    return order.size_matched, order.state, order.open_size


def an_account() -> Account:
    return Account(Owner(API_KEY, ADDRESS))


@given(history=histories(), data=st.data())
def test_events_in_any_order_and_repeated_lead_to_the_same(
    history: list[UserEvent], data: st.DataObject
) -> None:
    told, shuffled = an_account(), an_account()
    told.apply_all(history)
    repeated = history + data.draw(st.lists(st.sampled_from(history), max_size=10))
    for event in data.draw(st.permutations(repeated)):
        shuffled.apply(event)
    assert facts_of(shuffled) == facts_of(told)


@given(history=histories())
def test_once_all_is_told_nothing_is_news(history: list[UserEvent]) -> None:
    account = an_account()
    account.apply_all(history)
    before = facts_of(account)
    assert account.apply_all(history) == []
    assert account.apply_all(reversed(history), reconciled=True) == []
    assert facts_of(account) == before


def test_the_histories_are_of_frames_that_hold_one_event_each() -> None:
    exchange = Exchange()
    exchange.outbox = []
    order_id = exchange.place("11", "BUY", 5)
    exchange.match(order_id, [], 5)
    assert [json.loads(frame)["type"] for frame in exchange.outbox] == [
        "PLACEMENT",
        "UPDATE",
        "TRADE",
    ]
