from itertools import permutations
from typing import Any

import pytest
from attrs import evolve
from tests.actors.account.events import order, shares

from polyactors.account.orders import OrderState, contradiction, merged, order_of
from polyactors.book.numbers import Side
from polyactors.protocol.user_events import OrderEvent, OrderKind, OrderStatus

PLACEMENT = order(0, OrderKind.PLACEMENT)
CANCELLATION = order(3, OrderKind.CANCELLATION, status=OrderStatus.CANCELED)


def state_after(*events: OrderEvent) -> tuple[OrderState, int, int]:
    known = order_of(events[0])
    for event in events[1:]:
        known = merged(known, event, is_listed=False)
    return known.state, known.size_matched, known.open_size


def test_an_order_is_open_until_all_of_it_is_matched() -> None:
    assert state_after(PLACEMENT) == (OrderState.OPEN, 0, shares(10))
    assert state_after(PLACEMENT, order(4)) == (OrderState.OPEN, shares(4), shares(6))
    assert state_after(PLACEMENT, order(10)) == (OrderState.FILLED, shares(10), 0)


def test_a_cancelled_order_keeps_what_was_filled() -> None:
    assert state_after(PLACEMENT, CANCELLATION) == (OrderState.CANCELLED, shares(3), 0)


def test_filled_comes_before_cancelled() -> None:
    """A recorded CANCELLATION says that all 5 of 5 were matched (2024-09)."""
    assert state_after(order(10, OrderKind.CANCELLATION)) == (OrderState.FILLED, shares(10), 0)


@pytest.mark.parametrize(
    "events",
    [
        (PLACEMENT, order(1), order(3), CANCELLATION),
        (PLACEMENT, order(3), order(10), order(10)),
    ],
)
def test_the_order_of_events_does_not_matter(events: tuple[OrderEvent, ...]) -> None:
    assert len({state_after(*story) for story in permutations(events)}) == 1
    assert state_after(*events, *events) == state_after(*events)


def test_more_than_its_size_is_filled_with_nothing_open() -> None:
    """A buyer of an amount of money may get more shares when they are cheaper."""
    assert state_after(PLACEMENT, order(12)) == (OrderState.FILLED, shares(12), 0)


def test_nothing_is_open_of_an_order_whose_size_is_not_known() -> None:
    assert state_after(order(5, original_size=0)) == (OrderState.OPEN, shares(5), 0)


def test_what_its_trades_say_is_matched_from_the_beginning() -> None:
    assert order_of(order(2), shares(5)).size_matched == shares(5)
    assert order_of(order(7), shares(5)).size_matched == shares(7)


def test_a_cancelled_status_cancels_in_any_event() -> None:
    """A row of a REST list has no kind."""
    assert state_after(order(0, status=OrderStatus.CANCELED))[0] is OrderState.CANCELLED


def test_a_missing_order_is_gone_until_it_is_listed_or_heard_of_again() -> None:
    told = order_of(order(0, OrderKind.PLACEMENT, timestamp_ms=2000))
    missing = evolve(merged(told, order(1, timestamp_ms=5000), is_listed=False), is_missing=True)
    assert missing.state is OrderState.CANCELLED
    for late in (2000, 4999, 5000, 0):
        event = order(1, timestamp_ms=late)
        assert merged(missing, event, is_listed=False).state is OrderState.CANCELLED
    for news in (order(1, timestamp_ms=5001), order(2, timestamp_ms=5000), order(2)):
        assert merged(missing, news, is_listed=False).state is OrderState.OPEN
    cancelled = order(1, OrderKind.CANCELLATION, timestamp_ms=5001)
    assert merged(missing, cancelled, is_listed=False).state is OrderState.CANCELLED
    assert merged(missing, order(1), is_listed=True).state is OrderState.OPEN


def test_a_cancelled_order_that_is_listed_stays_cancelled() -> None:
    """The list may be older than the cancellation."""
    cancelled = order_of(CANCELLATION)
    assert merged(cancelled, PLACEMENT, is_listed=True).state is OrderState.CANCELLED


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"market": "0xother"}, "an order changed its market"),
        ({"token": "2"}, "an order changed its token"),
        ({"side": Side.ASK}, "an order changed its side"),
        ({"original_size": 1}, "an order changed its original size"),
        ({"original_size": 0}, ""),
        ({"price": 1, "outcome": "Yes", "order_type": "FAK"}, ""),
    ],
)
def test_what_an_order_is_cannot_change(change: dict[str, Any], why: str) -> None:
    assert contradiction(order_of(PLACEMENT), evolve(PLACEMENT, **change)) == why


def test_what_the_first_event_lacked_is_filled_in_later() -> None:
    """A killed order's message has no outcome and no creation (2026)."""
    bare = order_of(order(0, original_size=0, created_at_s=0, price=0))
    assert bare.state is OrderState.OPEN
    full = merged(bare, order(2, outcome="Yes", order_type="GTC", expiration_s=9), is_listed=False)
    assert full.original_size == shares(10)
    assert (full.outcome, full.order_type, full.created_at_s) == ("Yes", "GTC", 1000)
    assert full.expiration_s == 9
    assert full.price == PLACEMENT.price
