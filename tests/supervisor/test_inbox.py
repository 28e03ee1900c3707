import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    ChildSpec,
    Context,
    Inbox,
    MailboxGap,
    MailboxSpec,
    Overflow,
    Supervisor,
)
from polysupervisor._mailbox import Mailbox, make_mailbox


def mailbox(size: int = 9, *, redeliver: int = 0) -> Mailbox[int]:
    return make_mailbox(MailboxSpec(size=size, redeliver=redeliver))


def borrow(box: Mailbox[int]) -> Inbox[int]:
    return Inbox(box, lambda: None)


def fill(box: Mailbox[int], *messages: int) -> None:
    for message in messages:
        box.put(message)


# Receiving.


async def test_messages_come_out_in_the_order_they_went_in() -> None:
    box = mailbox()
    inbox = borrow(box)
    await box.send(1)
    box.put(2)
    assert await inbox.receive() == 1
    assert await inbox.receive() == 2


async def test_batch_takes_what_is_there_up_to_its_limit() -> None:
    box = mailbox(5)
    inbox = borrow(box)
    fill(box, *range(5))
    assert await inbox.receive_batch(2) == [0, 1]
    assert await inbox.receive_batch() == [2, 3, 4]
    box = mailbox(300)
    fill(box, *range(300))
    assert len(await borrow(box).receive_batch()) == 256
    with pytest.raises(ValueError, match="max_n"):
        await inbox.receive_batch(0)


async def test_receiver_waits_for_a_message() -> None:
    box, got = mailbox(), list[int]()
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            got.append(await borrow(box).receive())

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        assert got == []
        box.put(7)
    assert got == [7]


async def test_waiting_receivers_get_one_message_each_in_their_order() -> None:
    box, got = mailbox(), list[tuple[int, int]]()
    inbox = borrow(box)

    async def receive(number: int) -> None:
        got.append((number, await inbox.receive()))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(receive, number)
            await wait_all_tasks_blocked()
        for message in (10, 11, 12):
            box.put(message)
            await wait_all_tasks_blocked()
    assert got == [(0, 10), (1, 11), (2, 12)]


async def test_receiver_that_comes_too_late_waits_on() -> None:
    """Two are woken by two messages, and the first of them to run takes both."""
    box, got = mailbox(), list[list[int]]()
    inbox = borrow(box)

    async def receive() -> None:
        got.append(await inbox.receive_batch())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        fill(box, 1, 2)
        await wait_all_tasks_blocked()
        assert got == [[1, 2]]
        fill(box, 3)
    assert got == [[1, 2], [3]]


async def test_receiving_says_that_the_incarnation_is_ready() -> None:
    ready = list[int]()
    inbox = Inbox(mailbox(), lambda: ready.append(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await inbox.receive()
    assert ready == [1]


async def test_receiving_is_a_checkpoint_also_when_there_is_something() -> None:
    box = mailbox()
    fill(box, 1, 2)
    with trio.testing.assert_checkpoints():
        await borrow(box).receive()
    with trio.testing.assert_checkpoints():
        await box.send(3)


async def test_cancelled_receiver_takes_nothing() -> None:
    box = mailbox()
    inbox = borrow(box)
    with trio.CancelScope() as scope:
        scope.cancel()
        box.put(1)
        await inbox.receive()
    assert box.stats().depth == 1
    assert inbox.take_back(failed=True) == 0


@pytest.mark.parametrize("first", ["put", "cancel"])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("ticks", range(5))
async def test_receive_cancelled_at_any_point_is_done_or_was_not(
    ticks: int, there: bool, first: str
) -> None:
    async def receive(inbox: Inbox[int], scope: trio.CancelScope, got: list[int]) -> None:
        with scope:
            await trio.lowlevel.checkpoint()
            got.append(await inbox.receive())

    for _ in range(20):  # Trio's order within a tick is random
        box, scope, got = mailbox(), trio.CancelScope(), list[int]()
        inbox = borrow(box)
        if there:
            box.put(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, inbox, scope, got)
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            if first == "cancel":
                scope.cancel()
            if not there:
                box.put(1)
            scope.cancel()
        assert got + box.take(9) == [1]
        assert scope.cancelled_caught is not bool(got)
        assert inbox.take_back(failed=True) == len(got)


async def test_cancelled_receiver_is_not_in_the_way_of_others() -> None:
    box, got = mailbox(), list[int]()
    inbox = borrow(box)
    scope = trio.CancelScope()

    async def receive(own: trio.CancelScope) -> None:
        with own:
            got.append(await inbox.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, scope)
        await wait_all_tasks_blocked()
        nursery.start_soon(receive, trio.CancelScope())
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        box.put(1)
    assert got == [1]


# The end.


async def test_ending_inbox_gives_what_is_left_and_then_ends() -> None:
    box = mailbox()
    inbox = borrow(box)
    box.put(1)
    inbox.end()
    assert await inbox.receive() == 1
    with pytest.raises(trio.EndOfChannel):
        await inbox.receive()
    with pytest.raises(trio.EndOfChannel):
        await inbox.receive_batch()


async def test_end_wakes_all_who_iterate() -> None:
    box, got = mailbox(), list[int]()
    inbox = borrow(box)

    async def read() -> None:
        async for message in inbox:
            got.append(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        fill(box, 1, 2)
        await wait_all_tasks_blocked()
        inbox.end()
    assert sorted(got) == [1, 2]


async def test_returned_inbox_can_no_longer_be_read() -> None:
    box = mailbox()
    inbox = borrow(box)

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await inbox.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        inbox.take_back(failed=False)
    box.put(1)
    await read()
    assert await borrow(box).receive() == 1


# What was in flight.


@pytest.mark.parametrize("redeliver", [0, 1])
async def test_nothing_is_lost_unless_the_incarnation_failed(redeliver: int) -> None:
    box = mailbox(redeliver=redeliver)
    inbox = borrow(box)
    fill(box, 1)
    await inbox.receive()
    assert inbox.take_back(failed=False) == 0
    assert (box.stats().depth, box.stats().lost_in_flight, box.stats().redelivered) == (0, 0, 0)


async def test_what_was_in_flight_is_lost_and_counted_once() -> None:
    box = mailbox()
    inbox = borrow(box)
    fill(box, *range(5))
    await inbox.receive_batch(2)
    await inbox.receive_batch(2)
    assert inbox.take_back(failed=True) == 2
    assert inbox.take_back(failed=True) == 0
    assert (box.stats().lost_in_flight, box.take(9)) == (2, [4])


async def test_call_for_more_says_that_the_last_batch_is_done_even_if_it_is_cancelled() -> None:
    for redeliver in (0, 1):
        box = mailbox(redeliver=redeliver)
        inbox = borrow(box)
        fill(box, 1)
        await inbox.receive()
        with trio.CancelScope() as scope:
            scope.cancel()
            await inbox.receive()
        assert inbox.take_back(failed=True) == 0
        assert box.stats().depth == 0


async def test_what_was_in_flight_is_delivered_again_as_often_as_allowed() -> None:
    box = mailbox(redeliver=2)
    fill(box, 1, 2, 3)
    lost = list[int]()
    for _ in range(3):
        inbox = borrow(box)
        assert await inbox.receive_batch(2) == [1, 2]
        lost.append(inbox.take_back(failed=True))
    assert lost == [0, 0, 2]
    assert box.take(9) == [3]
    stats = box.stats()
    assert (stats.sent, stats.redelivered, stats.lost_in_flight) == (3, 4, 2)


async def test_each_message_has_chances_of_its_own() -> None:
    box = mailbox(redeliver=1)
    fill(box, 1, 2, 3)
    inbox = borrow(box)
    await inbox.receive()
    assert inbox.take_back(failed=True) == 0
    inbox = borrow(box)
    assert await inbox.receive_batch(2) == [1, 2]
    assert inbox.take_back(failed=True) == 1
    inbox = borrow(box)
    assert await inbox.receive_batch() == [2, 3]
    assert inbox.take_back(failed=True) == 1
    assert await borrow(box).receive_batch() == [3]


async def test_message_given_again_is_as_old_as_it_is(autojump_clock: MockClock) -> None:
    box = mailbox(redeliver=1)
    box.put(1)
    await trio.sleep(2)
    inbox = borrow(box)
    await inbox.receive()
    await trio.sleep(3)
    box.put(2)
    inbox.take_back(failed=True)
    assert box.stats().oldest_age == 5.0
    box.take(1)
    assert box.stats().oldest_age == 0.0


async def test_what_is_given_again_is_what_was_received_and_only_once() -> None:
    box = mailbox(redeliver=1)
    fill(box, 1, 2)
    inbox = borrow(box)
    (await inbox.receive_batch()).clear()
    inbox.take_back(failed=True)
    inbox.take_back(failed=True)
    assert box.take(9) == [1, 2]


async def test_what_comes_back_finds_room_and_senders_wait_for_longer() -> None:
    box = mailbox(2, redeliver=1)
    inbox = borrow(box)
    fill(box, 1, 2)
    assert await inbox.receive_batch() == [1, 2]
    fill(box, 3, 4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.send, 5)
        await wait_all_tasks_blocked()
        inbox.take_back(failed=True)
        assert (box.stats().depth, box.stats().peak, box.stats().blocked) == (4, 4, 1)
        box.take(2)
        assert box.stats().blocked == 1
        box.take(1)
    assert box.take(9) == [4, 5]


async def test_oldest_are_dropped_first_when_they_were_given_back() -> None:
    spec = MailboxSpec(size=2, overflow=Overflow.DROP_OLDEST, redeliver=1)
    box: Mailbox[int] = make_mailbox(spec)
    inbox = borrow(box)
    fill(box, 1, 2)
    await inbox.receive_batch()
    fill(box, 3, 4)
    inbox.take_back(failed=True)
    assert box.stats().depth == 4
    box.put(5)
    assert (box.stats().dropped, box.stats().depth) == (3, 2)
    inbox = borrow(box)
    assert await inbox.receive_batch() == [4, 5]
    assert inbox.take_back(failed=True) == 0  # they have not come back before


async def test_gap_is_given_again_and_merged() -> None:
    spec = MailboxSpec(size=2, overflow=Overflow.CLEAR_AND_GAP, redeliver=1)
    box: Mailbox[int | MailboxGap] = make_mailbox(spec)
    inbox = Inbox(box, lambda: None)
    for message in (1, 2, 3):
        box.put(message)
    assert await inbox.receive() == MailboxGap(2)
    box.put(4)
    inbox.take_back(failed=True)
    assert box.stats().depth == 3
    box.put(6)
    assert (box.take(9), box.stats().dropped) == ([MailboxGap(4), 6], 4)


async def test_newer_message_of_a_key_wins_over_one_that_comes_back() -> None:
    spec = MailboxSpec(size=3, overflow=Overflow.COALESCE, key=lambda m: m % 10, redeliver=1)
    box: Mailbox[int] = make_mailbox(spec)
    inbox = borrow(box)
    fill(box, 1, 2, 3)
    assert await inbox.receive_batch() == [1, 2, 3]
    fill(box, 4, 12)
    assert inbox.take_back(failed=True) == 0
    stats = box.stats()
    assert (stats.coalesced, stats.redelivered, stats.depth, stats.peak) == (1, 2, 4, 4)
    with pytest.raises(trio.WouldBlock):
        box.put(5)
    box.put(11)  # it has not come back before, the one that it replaces has
    inbox = borrow(box)
    assert await inbox.receive_batch() == [11, 3, 4, 12]
    assert inbox.take_back(failed=True) == 1
    assert box.take(9) == [11, 4, 12]


async def test_restarted_actor_gets_again_what_it_failed_with() -> None:
    got, done = list[tuple[int, int]](), trio.Event()

    async def actor(ctx: Context[int]) -> None:
        async for message in ctx.inbox:
            got.append((ctx.incarnation, message))
            if message == 1:
                raise ZeroDivisionError
            done.set()

    spec = ChildSpec("child", lambda: actor, mailbox=MailboxSpec(redeliver=1))
    root = Supervisor("root", [spec])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for message in (1, 2):
            await root.address("child").send(message)
        await done.wait()
        root.stop()
    assert got == [(1, 1), (2, 1), (3, 2)]
    stats = root.address("child").stats()
    assert (stats.redelivered, stats.lost_in_flight) == (1, 1)


# Several tasks that receive.


@pytest.mark.parametrize("redeliver", [0, 1])
async def test_each_task_has_its_own_messages_in_flight(redeliver: int) -> None:
    box = mailbox(redeliver=redeliver)
    inbox = borrow(box)
    fill(box, 1, 2, 3, 4, 5)

    async def work(count: int) -> None:
        await inbox.receive_batch(count)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, 2)
        await wait_all_tasks_blocked()
        nursery.start_soon(work, 1)
        await wait_all_tasks_blocked()
        await inbox.receive()
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    lost = inbox.take_back(failed=True)
    stats = box.stats()
    if redeliver:
        assert (lost, stats.redelivered, box.take(9)) == (0, 4, [1, 2, 3, 4, 5])
    else:
        assert (lost, stats.lost_in_flight, box.take(9)) == (4, 4, [5])


@pytest.mark.parametrize("redeliver", [0, 1])
async def test_what_a_task_received_that_has_ended_is_done(redeliver: int) -> None:
    box = mailbox(redeliver=redeliver)
    inbox = borrow(box)
    fill(box, 1, 2, 3, 4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.receive)
        nursery.start_soon(inbox.receive)
    assert await inbox.receive() == 3
    assert inbox.take_back(failed=True) == (0 if redeliver else 1)
    assert box.take(9) == ([3, 4] if redeliver else [4])


async def test_newest_of_a_key_comes_back_when_two_tasks_had_one() -> None:
    spec = MailboxSpec(overflow=Overflow.COALESCE, key=lambda m: m % 10, redeliver=1)
    box: Mailbox[int] = make_mailbox(spec)
    inbox = borrow(box)

    async def work() -> None:
        await inbox.receive()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for message in (1, 11):
            nursery.start_soon(work)
            box.put(message)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    inbox.take_back(failed=True)
    assert (box.stats().coalesced, box.take(9)) == (1, [11])
