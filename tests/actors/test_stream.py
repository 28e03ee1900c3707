"""The stream of events: order, bounds, and what a slow reader is told."""

from decimal import Decimal

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from polyactors.book.trust import StaleReason, TrustState
from polyactors.errors import UsageError
from polyactors.events import (
    AccountStateChanged,
    BookUpdated,
    Event,
    FeedDown,
    FeedUp,
    Gap,
    TradePrinted,
    TrustChanged,
)
from polyactors.stream import EventHub
from polyactors.user.state import AccountReason, AccountState


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


def trust(token: str, number: int) -> TrustChanged:
    return TrustChanged(
        time_ns=number,
        token=token,
        market="0x1",
        epoch=1,
        state=TrustState.STALE,
        previous=TrustState.LIVE,
        reason=StaleReason.CROSSED,
    )


def account_state(number: int) -> AccountStateChanged:
    return AccountStateChanged(
        time_ns=number,
        epoch=1,
        state=AccountState.STALE,
        previous=AccountState.LIVE,
        reason=AccountReason.DISCONNECTED,
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


async def test_every_event_goes_to_one_of_two_readers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    source = hub()
    subscription = source.subscribe()
    got: list[Event] = []

    async def read_one() -> None:
        got.append(await anext(subscription))

    async def read_batch() -> None:
        got.extend(await subscription.receive_batch())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for read in (read_one, read_batch, read_one):
                nursery.start_soon(read)
            for number in range(3):
                await trio.sleep(1)
                source.publish([trade(number)])
    assert got == [trade(number) for number in range(3)]


async def test_a_subscription_to_some_kinds_gets_and_holds_no_others() -> None:
    source = hub()
    subscription = source.subscribe(2, kinds=(FeedUp, FeedDown))
    up = FeedUp(time_ns=1, feed="feed-0", epoch=1)
    source.publish([trade(1), up, trade(2), update("1", 3)])
    source.publish([trade(4)])
    assert await subscription.receive_batch() == [up]
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert await subscription.receive_batch() == [up]

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        source.publish([trade(5)])
        # What it did not ask for does not even wake it up.
        assert not subscription._wake.is_set()  # pyright: ignore[reportPrivateUsage]
        source.publish([up])


@pytest.mark.parametrize("limit", [1, 0, -1, True, 2.0, "9", None])
def test_a_queue_has_room_for_two(limit: object) -> None:
    with pytest.raises(UsageError, match="limit must be a whole number of events from 2, not"):
        hub().subscribe(limit)  # type: ignore[arg-type]


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
    for number in range(6, 6 + 40):
        source.publish([trade(number)])
    # A marker is no event that was lost, and one is enough.
    kept = await subscription.receive_batch()
    assert [type(event) for event in kept].count(Gap) == 1
    assert subscription.lost == 6 + 40 - (len(batch) - 1) - (len(kept) - 1)


async def test_of_every_token_the_last_state_is_the_last_to_go() -> None:
    source = hub()
    subscription = source.subscribe(limit=16)
    source.publish([trust("1", 0), update("1", 1), trust("2", 2), trust("1", 3), update("2", 4)])
    for number in range(5, 100):
        source.publish([trade(number)])
    batch = await subscription.receive_batch()
    assert isinstance(batch[0], Gap)
    assert batch[1:5] == [update("1", 1), trust("2", 2), trust("1", 3), update("2", 4)]
    assert batch[-1] == trade(99)
    assert all(isinstance(event, TradePrinted) for event in batch[5:])
    assert subscription.lost == 100 - (len(batch) - 1)


async def test_the_last_state_of_the_account_is_among_the_last_to_go() -> None:
    source = hub()
    subscription = source.subscribe(limit=16)
    source.publish([account_state(0), trust("1", 1), account_state(2)])
    for number in range(3, 100):
        source.publish([trade(number)])
    batch = await subscription.receive_batch()
    assert isinstance(batch[0], Gap)
    assert batch[1:3] == [trust("1", 1), account_state(2)]
    assert all(isinstance(event, TradePrinted) for event in batch[3:])
    assert subscription.lost == 100 - (len(batch) - 1)


async def test_states_of_the_account_do_not_coalesce() -> None:
    source = hub()
    subscription = source.subscribe(limit=16)
    told: list[Event] = [account_state(0), update("1", 1), account_state(2)]
    source.publish([*told, *[update("2", number) for number in range(3, 20)]])
    assert await subscription.receive_batch() == [*told, update("2", 19)]


async def test_more_tokens_than_the_queue_holds_are_bounded_too() -> None:
    source = hub()
    subscription = source.subscribe(limit=16)
    source.publish([update(str(number), number) for number in range(100)])
    batch = await subscription.receive_batch()
    assert isinstance(batch[0], Gap)
    assert batch[1:] == [update(str(number), number) for number in range(93, 100)]
    assert subscription.lost == 93


def test_a_queue_that_is_nearly_full_is_not_gone_through_at_every_push(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = hub()
    subscription = source.subscribe(limit=800)
    shrink = subscription._shrink  # pyright: ignore[reportPrivateUsage]
    times = 0

    def count() -> None:
        nonlocal times
        times += 1
        shrink()

    monkeypatch.setattr(subscription, "_shrink", count)
    source.publish([trade(number) for number in range(799)])
    for number in range(1000):
        source.publish([update("1", number)])
    assert 0 < times <= 1000 / (800 / 8) + 1


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("ubt"), st.sampled_from(["1", "2", "3"])), max_size=8),
        max_size=30,
    ),
    st.integers(2, 24),
)
def test_whatever_is_published_the_queue_is_bounded_and_losses_are_marked(
    batches: list[list[tuple[str, str]]], limit: int
) -> None:
    source = hub()
    subscription = source.subscribe(limit=limit)
    number = 0
    published: list[Event] = []
    for batch in batches:
        events: list[Event] = []
        for kind, token in batch:
            made: dict[str, Event] = {
                "u": update(token, number),
                "b": trust(token, number),
                "t": trade(number),
            }
            events.append(made[kind])
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
    assert bool(gaps) == (subscription.lost > 0)
    assert len(numbers) + subscription.lost + subscription.coalesced == number
    trades = {event.time_ns for event in published if isinstance(event, TradePrinted)}
    lost = trades - set(numbers)
    if lost:
        # The oldest go, and the marker stands before all that is left.
        assert kept.index(gaps[0]) == 0
        assert max(lost) < min(trades & set(numbers), default=number)
    changes = [e for e in published if isinstance(e, TrustChanged)]
    updates = [e for e in published if isinstance(e, BookUpdated)]
    last = {e.token: e for e in changes}.values(), {e.token: e for e in updates}.values()
    if not gaps:
        assert set(changes) <= set(kept)
        assert set(last[1]) <= set(kept)
    if limit >= 16:  # half of it has room for the last states of three tokens, and the marker
        assert {*last[0], *last[1]} <= set(kept)
