"""The stream of events: order, bounds, and what a slow reader is told."""

from decimal import Decimal

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from polyactors.book.trust import StaleReason
from polyactors.events import BookUpdated, Event, Gap, TradePrinted
from polyactors.stream import EventHub


def hub() -> EventHub:
    return EventHub(lambda: 7)


def update(token: str, number: int) -> BookUpdated:
    return BookUpdated(
        time_ns=number,
        token=token,
        market="0x1",
        epoch=1,
        best_bid=None,
        best_ask=None,
        bids=0,
        asks=0,
        cause="delta",
        settled=False,
    )


def trade(number: int) -> TradePrinted:
    return TradePrinted(
        time_ns=number,
        token="1",
        market="0x1",
        epoch=1,
        price=Decimal("0.5"),
        size=Decimal(1),
        side="BUY",
        timestamp_ms=number,
    )


async def test_every_subscriber_gets_every_event_in_order() -> None:
    source = hub()
    first, second = source.subscribe(), source.subscribe()
    events: list[Event] = [update("1", 0), trade(1), update("2", 2)]
    source.publish(events)
    assert await first.receive_batch() == events
    assert [await second.__anext__() for _ in events] == events


async def test_a_subscription_ends_after_what_it_still_holds() -> None:
    source = hub()
    subscription = source.subscribe()
    source.publish([trade(1)])
    source.end()
    assert await subscription.receive_batch() == [trade(1)]
    with pytest.raises(trio.EndOfChannel):
        await subscription.receive_batch()
    assert [event async for event in source.subscribe()] == []


async def test_a_waiting_reader_wakes_up(autojump_clock: trio.testing.MockClock) -> None:
    source = hub()
    subscription = source.subscribe()
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            await trio.sleep(5)
            source.publish([trade(1)])

        nursery.start_soon(publish)
        assert await subscription.receive_batch() == [trade(1)]
        assert trio.current_time() >= 5


async def test_a_closed_subscription_collects_nothing() -> None:
    source = hub()
    with source.subscribe() as subscription:
        source.publish([trade(1)])
    source.publish([trade(2)])
    assert [event async for event in subscription] == []


async def test_closing_under_a_reader_ends_its_iteration() -> None:
    source = hub()
    subscription = source.subscribe()
    source.publish([trade(number) for number in range(20)])
    got: list[Event] = []

    async def read() -> None:
        got.extend([event async for event in subscription])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        subscription.close()
    assert len(got) < 20
    assert subscription.held == 0


async def test_updates_coalesce_before_anything_is_lost() -> None:
    source = hub()
    subscription = source.subscribe(limit=4)
    source.publish([update("1", 0), trade(1), update("1", 2), update("2", 3)])
    source.publish([update("1", 4), update("2", 5)])
    assert await subscription.receive_batch() == [trade(1), update("1", 4), update("2", 5)]
    assert (subscription.coalesced, subscription.lost) == (3, 0)


async def test_a_loss_is_said_where_it_happened() -> None:
    source = hub()
    subscription = source.subscribe(limit=4)
    for number in range(6):
        source.publish([trade(number)])
    batch = await subscription.receive_batch()
    assert batch[0] == Gap(
        time_ns=7, feed=None, epoch=None, token=None, reason=StaleReason.OVERFLOW
    )
    assert batch[1:] == [trade(number) for number in range(6 - len(batch) + 1, 6)]
    assert subscription.lost == 6 - (len(batch) - 1)


@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.sampled_from(["1", "2", "3"])), max_size=8), max_size=30
    ),
    st.integers(2, 12),
)
def test_whatever_is_published_the_queue_is_bounded_and_losses_are_marked(
    batches: list[list[str | None]], limit: int
) -> None:
    source = hub()
    subscription = source.subscribe(limit=limit)
    number = 0
    published: list[Event] = []
    for batch in batches:
        events: list[Event] = []
        for token in batch:
            events.append(trade(number) if token is None else update(token, number))
            number += 1
        published += events
        source.publish(events)
        assert subscription.held <= limit
    source.end()
    kept: list[Event] = []

    async def drain() -> None:
        kept.extend([event async for event in subscription])

    trio.run(drain)
    numbers = [event.time_ns for event in kept if not isinstance(event, Gap)]
    assert numbers == sorted(numbers)
    gaps = [event for event in kept if isinstance(event, Gap)]
    trades = {event.time_ns for event in published if isinstance(event, TradePrinted)}
    lost = trades - set(numbers)
    assert bool(gaps) == (subscription.lost > 0)
    if lost:
        # Every lost trade lies before the marker's place, and nothing kept does.
        assert isinstance(kept[0], Gap)
        assert max(lost) < min(numbers, default=number)
    if not gaps:
        latest = {e.token: e for e in published if isinstance(e, BookUpdated)}
        assert set(latest.values()) <= set(kept)
