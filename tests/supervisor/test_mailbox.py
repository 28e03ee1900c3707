from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import Inbox, MailboxGap, MailboxSpec, Overflow
from polysupervisor._mailbox import Mailbox, make_mailbox

NEVER_WAITING = [each for each in Overflow if each is not Overflow.BLOCK]


def last_digit(message: int) -> int:
    return message % 10


def mailbox(
    size: int = 3, overflow: Overflow = Overflow.BLOCK, stall_after: float | None = None
) -> Mailbox[Any]:
    key = last_digit if overflow is Overflow.COALESCE else None
    spec = MailboxSpec(size=size, overflow=overflow, key=key, stall_after=stall_after)
    return make_mailbox(spec)


def fill(box: Mailbox[Any], *messages: int) -> None:
    for message in messages:
        box.put(message)


# The policies.


async def test_full_mailbox_blocks_senders_and_admits_them_in_their_order() -> None:
    box = mailbox(1)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(box.send, number)
            await wait_all_tasks_blocked()
        assert box.stats().blocked == 3
        with pytest.raises(trio.WouldBlock):
            box.put(9)
        assert [box.take(1) for _ in range(4)] == [[0], [1], [2], [3]]
    assert box.stats().sent == 4


async def test_error_policy_raises_instead_of_waiting() -> None:
    box = mailbox(1, Overflow.ERROR)
    await box.send(1)
    with pytest.raises(trio.WouldBlock):
        await box.send(2)
    with pytest.raises(trio.WouldBlock):
        box.put(2)
    assert (box.stats().sent, box.take(9)) == (1, [1])


async def test_oldest_message_makes_room_for_a_new_one() -> None:
    box = mailbox(2, Overflow.DROP_OLDEST)
    fill(box, 1, 2, 3)
    await box.send(4)
    stats = box.stats()
    assert (stats.depth, stats.peak, stats.sent, stats.dropped) == (2, 2, 4, 2)
    assert box.take(9) == [3, 4]


async def test_oldest_message_makes_room_in_a_mailbox_for_one() -> None:
    box = mailbox(1, Overflow.DROP_OLDEST)
    fill(box, 1, 2)
    assert (box.take(9), box.stats().dropped) == ([2], 1)


async def test_new_message_is_dropped_when_there_is_no_room() -> None:
    box = mailbox(2, Overflow.DROP_NEWEST)
    fill(box, 1, 2, 3)
    await box.send(4)
    stats = box.stats()
    assert (stats.depth, stats.peak, stats.sent, stats.dropped) == (2, 2, 4, 2)
    assert box.take(9) == [1, 2]


async def test_gap_stands_for_all_that_was_cleared() -> None:
    box = mailbox(3, Overflow.CLEAR_AND_GAP)
    fill(box, 1, 2, 3, 4)
    await box.send(5)
    assert (box.stats().depth, box.stats().dropped) == (3, 3)
    assert box.take(9) == [MailboxGap(3), 4, 5]


async def test_gap_not_yet_read_is_merged_into_the_next() -> None:
    box = mailbox(2, Overflow.CLEAR_AND_GAP)
    fill(box, 1, 2, 3, 4)
    stats = box.stats()
    assert (stats.sent, stats.dropped, stats.depth) == (4, 3, 2)
    assert box.take(9) == [MailboxGap(3), 4]
    fill(box, 5, 6, 7)
    assert box.take(1) == [MailboxGap(2)]
    fill(box, 8, 9)
    assert box.take(9) == [MailboxGap(2), 9]


async def test_gap_is_alone_in_a_mailbox_for_one() -> None:
    box = mailbox(1, Overflow.CLEAR_AND_GAP)
    fill(box, 1, 2, 3)
    assert (box.stats().sent, box.stats().dropped) == (3, 3)
    assert box.take(9) == [MailboxGap(3)]
    fill(box, 4)
    assert box.take(9) == [4]


async def test_gap_is_no_message_that_could_be_dropped() -> None:
    box = mailbox(2, Overflow.CLEAR_AND_GAP)
    fill(box, 1, 2, 3)
    box.drop_all()
    assert box.stats().dropped == 3


async def test_coalescing_replaces_in_place_and_bounds_the_distinct_keys() -> None:
    box = mailbox(2, Overflow.COALESCE)
    await box.send(1)
    fill(box, 2, 11)
    with pytest.raises(trio.WouldBlock):
        await box.send(3)
    with pytest.raises(trio.WouldBlock):
        box.put(3)
    stats = box.stats()
    assert (stats.depth, stats.peak, stats.sent, stats.coalesced) == (2, 2, 3, 1)
    assert box.take(1) == [11]
    fill(box, 3)
    assert box.take(9) == [2, 3]
    assert box.stats().oldest_age == 0.0
    fill(box, 4)
    box.drop_all()
    assert (box.stats().depth, box.stats().dropped) == (0, 1)


async def test_key_that_cannot_be_computed_is_the_senders_error() -> None:
    def key(message: int) -> int:
        return 1 // message

    box: Mailbox[Any] = make_mailbox(MailboxSpec(overflow=Overflow.COALESCE, key=key))
    with pytest.raises(ZeroDivisionError):
        await box.send(0)
    assert (box.stats().depth, box.stats().sent) == (0, 0)


@pytest.mark.parametrize("overflow", NEVER_WAITING)
async def test_only_blocking_waits(overflow: Overflow) -> None:
    box = mailbox(1, overflow)
    with trio.fail_after(0.5):
        for number in range(3):
            try:
                await box.send(number)
            except trio.WouldBlock:
                assert overflow in (Overflow.ERROR, Overflow.COALESCE)
    assert box.stats().blocked == 0


# Cancellation, closing, dropping.


async def test_cancelled_sender_leaves_nothing() -> None:
    box = mailbox(1)
    box.put(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await box.send(2)
    assert (box.stats().blocked, box.stats().depth) == (0, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.send, 3)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (box.stats().blocked, box.take(9), box.take(9)) == (0, [1], [])


@pytest.mark.parametrize("first", ["take", "cancel"])
@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("ticks", range(5))
async def test_send_cancelled_at_any_point_is_done_or_was_not(
    ticks: int, room: bool, first: str
) -> None:
    async def send(box: Mailbox[Any], scope: trio.CancelScope) -> None:
        with scope:
            await trio.lowlevel.checkpoint()
            await box.send(1)

    for _ in range(20):  # Trio's order within a tick is random
        box, scope = mailbox(1), trio.CancelScope()
        if not room:
            box.put(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, box, scope)
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            if first == "cancel":
                scope.cancel()
            if not room:
                assert box.take(1) == [0]
            scope.cancel()
        assert box.take(9) == ([] if scope.cancelled_caught else [1])
        assert box.stats().blocked == 0


async def test_closed_mailbox_releases_waiting_senders_and_refuses_others() -> None:
    box = mailbox(1)
    box.put(1)

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError, match="ended for good"):
            await box.send(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        box.close()
        box.close()
    await send()
    assert (box.take(9), box.stats().sent) == ([1], 1)
    box.open = True
    await box.send(3)
    assert box.take(9) == [3]


@pytest.mark.parametrize("overflow", Overflow)
async def test_closed_mailbox_refuses_whatever_its_policy(overflow: Overflow) -> None:
    for full in (False, True):
        box = mailbox(1, overflow)
        if full:
            box.put(1)
        box.close()
        with pytest.raises(trio.BrokenResourceError):
            box.put(2)
        with pytest.raises(trio.BrokenResourceError):
            await box.send(2)
        assert box.stats().depth == full


async def test_dropping_counts_and_lets_waiting_senders_in() -> None:
    box = mailbox(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.send, 1)
        await wait_all_tasks_blocked()
        nursery.start_soon(box.send, 2)
        await wait_all_tasks_blocked()
        box.drop_all()
    assert (box.stats().depth, box.stats().dropped) == (1, 1)
    assert box.take(5) == [2]


# Figures.


@pytest.mark.parametrize("overflow", Overflow)
async def test_age_is_that_of_the_oldest_message(
    overflow: Overflow, autojump_clock: MockClock
) -> None:
    box = mailbox(overflow=overflow)
    assert box.stats().oldest_age == 0.0
    box.put(1)
    await trio.sleep(2)
    box.put(2)
    await trio.sleep(3)
    assert box.stats().oldest_age == 5.0
    box.take(1)
    assert box.stats().oldest_age == 3.0
    box.take(1)
    assert box.stats().oldest_age == 0.0


async def test_what_replaces_messages_is_as_old_as_they_are(autojump_clock: MockClock) -> None:
    for overflow in (Overflow.COALESCE, Overflow.CLEAR_AND_GAP):
        box = mailbox(1, overflow)
        box.put(1)
        await trio.sleep(2)
        box.put(11)
        assert box.stats().oldest_age == 2.0


async def test_age_of_what_was_dropped_does_not_count(autojump_clock: MockClock) -> None:
    box = mailbox(2, Overflow.DROP_OLDEST)
    for number in range(3):
        box.put(number)
        await trio.sleep(1)
    assert box.stats().oldest_age == 2.0


async def test_peak_stays_when_the_queue_gets_shorter() -> None:
    box = mailbox()
    fill(box, 1, 2)
    assert box.stats().peak == 2
    box.take(9)
    fill(box, 3)
    assert box.stats().peak == 2
    fill(box, 4, 5)
    box.drop_all()
    assert box.stats().peak == 3


# What a supervisor is told.


@pytest.mark.parametrize("overflow", Overflow)
async def test_overflow_is_told_once_until_messages_are_taken(overflow: Overflow) -> None:
    told = list[int]()
    box = mailbox(1, overflow)
    box.on_overflow = lambda: told.append(1)

    def flood() -> None:
        for number in range(3):
            with suppress(trio.WouldBlock):
                box.put(number)

    flood()
    assert len(told) == 1
    flood()
    assert len(told) == 1
    box.take(1)
    assert len(told) == 1
    flood()
    assert len(told) == 2
    box.drop_all()
    flood()
    assert len(told) == 3


async def test_waiting_for_room_and_replacing_are_no_overflow() -> None:
    told = list[int]()
    box = mailbox(1)
    box.on_overflow = lambda: told.append(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.send, 1)
        nursery.start_soon(box.send, 2)
        await wait_all_tasks_blocked()
        box.take(2)
    box = mailbox(1, Overflow.COALESCE)
    box.on_overflow = lambda: told.append(1)
    fill(box, 1, 11)
    assert told == []


@pytest.mark.parametrize("overflow", [Overflow.BLOCK, Overflow.COALESCE])
async def test_a_message_that_waits_is_told_once_until_it_is_asked_again(
    overflow: Overflow,
) -> None:
    told = list[int]()
    box = mailbox(overflow=overflow, stall_after=1)
    box.put(1)
    box.on_waiting = lambda: told.append(1)
    fill(box, 2, 3)
    assert len(told) == 1
    box.take(9)
    fill(box, 4)
    assert len(told) == 1
    box.rearm()
    assert len(told) == 1
    fill(box, 5, 6)
    assert len(told) == 2


async def test_mailbox_that_cannot_stall_tells_of_nothing_that_waits() -> None:
    box = mailbox()
    box.on_waiting = lambda: pytest.fail("nobody asked")
    box.rearm()
    box.put(1)


async def test_progress_moves_the_beginning_of_the_wait(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    box = mailbox(stall_after=1)
    assert box.waiting_since() is None
    fill(box, 1, 2)
    await trio.sleep(1)
    assert box.waiting_since() == began
    box.touch()
    await trio.sleep(1)
    assert box.waiting_since() == began + 1
    box.take(1)
    await trio.sleep(1)
    assert box.waiting_since() == began + 2
    box.take(1)
    assert box.waiting_since() is None
    await trio.sleep(1)
    box.put(3)
    assert box.waiting_since() == began + 4


@pytest.mark.parametrize(
    "overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST, Overflow.CLEAR_AND_GAP]
)
async def test_child_that_never_receives_has_waited_since_the_first_message(
    overflow: Overflow, autojump_clock: MockClock
) -> None:
    """The oldest message of a mailbox that discards it is always young."""
    began = trio.current_time()
    box = mailbox(2, overflow, stall_after=1)
    for number in range(9):
        box.put(number)
        await trio.sleep(1)
    assert box.waiting_since() == began
    box.take(1)
    assert box.waiting_since() == began + 9


class CountingClock(trio.abc.Clock):
    """Stands still and counts who looks."""

    def __init__(self) -> None:
        self.reads = 0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        self.reads += 1
        return 0.0

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0


def test_time_is_not_read_for_progress_that_nobody_watches() -> None:
    clock = CountingClock()

    async def main(stall_after: float | None) -> int:
        box = mailbox(stall_after=stall_after)
        box.put(1)
        before = clock.reads
        box.touch()
        box.take(1)
        return clock.reads - before

    assert trio.run(main, None, clock=clock) == 0
    assert trio.run(main, 1.0, clock=clock) == 2


# What may be specified.


def test_specification_is_as_documented_unless_told_otherwise() -> None:
    assert MailboxSpec() == MailboxSpec(
        size=256,
        overflow=Overflow.BLOCK,
        key=None,
        keep_on_restart=True,
        redeliver=0,
        stall_after=None,
    )


def test_specification_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="size"):
        MailboxSpec(size=0)
    with pytest.raises(ValueError, match="key"):
        MailboxSpec(key=str)
    with pytest.raises(ValueError, match="key"):
        MailboxSpec(overflow=Overflow.COALESCE)
    with pytest.raises(ValueError, match="redeliver"):
        MailboxSpec(redeliver=-1)
    with pytest.raises(ValueError, match="keep_on_restart"):
        MailboxSpec(redeliver=1, keep_on_restart=False)
    for never in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="stall_after"):
            MailboxSpec(stall_after=never)
    MailboxSpec(redeliver=1, stall_after=0.5, keep_on_restart=True)


@given(st.integers(1, 4), st.lists(st.integers(1, 5), max_size=30))
def test_blocked_senders_lose_and_duplicate_nothing(size: int, batches: list[int]) -> None:
    total = sum(batches)

    async def main() -> list[int]:
        box = mailbox(size)
        numbers, got = iter(range(total)), list[int]()

        async def send() -> None:
            for number in numbers:
                await box.send(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(send)
            inbox = Inbox(box, lambda: None)
            for most in batches:
                left = most
                while left:
                    batch = await inbox.receive_batch(left)
                    assert len(batch) <= left
                    assert len(box) <= size
                    left -= len(batch)
                    got.extend(batch)
        assert box.stats().peak <= size
        return got

    assert sorted(trio.run(main)) == list(range(total))
