import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import Address, Inbox, MailboxSpec, NoMailbox, Overflow
from polysupervisor._mailbox import Mailbox, make_mailbox


def last_digit(message: int) -> int:
    return message % 10


def mailbox(size: int = 3, overflow: Overflow = Overflow.BLOCK) -> Mailbox[int]:
    key = last_digit if overflow is Overflow.COALESCE else None
    return make_mailbox(MailboxSpec(size=size, overflow=overflow, key=key))


def borrow(box: Mailbox[int]) -> Inbox[int]:
    return Inbox(box, lambda: None)


async def test_messages_come_out_in_the_order_they_went_in() -> None:
    box = mailbox()
    address, inbox = Address("a", box), borrow(box)
    await address.send(1)
    address.send_nowait(2)
    assert await inbox.receive() == 1
    assert await inbox.receive() == 2


async def test_batch_takes_what_is_there_up_to_its_limit() -> None:
    box = mailbox(5)
    inbox = borrow(box)
    for number in range(5):
        box.put(number)
    assert await inbox.receive_batch(2) == [0, 1]
    assert await inbox.receive_batch() == [2, 3, 4]
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


async def test_full_mailbox_blocks_senders_and_admits_them_in_their_order() -> None:
    box = mailbox(1)
    address, inbox = Address("a", box), borrow(box)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(address.send, number)
            await wait_all_tasks_blocked()
        assert address.stats().blocked == 3
        with pytest.raises(trio.WouldBlock):
            address.send_nowait(9)
        assert [await inbox.receive() for _ in range(4)] == [0, 1, 2, 3]
    assert address.stats().sent == 4


async def test_cancelled_sender_leaves_nothing() -> None:
    box = mailbox(1)
    box.put(1)
    with trio.move_on_after(0):
        await Address("a", box).send(2)
    assert (box.stats().blocked, box.stats().depth) == (0, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.send, 3)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await borrow(box).receive_batch() == [1]
    assert box.stats().depth == 0


async def test_cancelled_receiver_takes_nothing() -> None:
    box = mailbox()
    inbox = borrow(box)
    with trio.CancelScope() as scope:
        scope.cancel()
        box.put(1)
        await inbox.receive()
    assert box.stats().depth == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(borrow(mailbox()).receive)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_error_policy_raises_instead_of_waiting() -> None:
    box = mailbox(1, Overflow.ERROR)
    address = Address("a", box)
    await address.send(1)
    with pytest.raises(trio.WouldBlock):
        await address.send(2)
    with pytest.raises(trio.WouldBlock):
        address.send_nowait(2)


async def test_coalescing_replaces_in_place_and_bounds_the_distinct_keys() -> None:
    box = mailbox(2, Overflow.COALESCE)
    address = Address("a", box)
    await address.send(1)
    address.send_nowait(2)
    address.send_nowait(11)
    with pytest.raises(trio.WouldBlock):
        await address.send(3)
    with pytest.raises(trio.WouldBlock):
        address.send_nowait(3)
    stats = address.stats()
    assert (stats.depth, stats.peak, stats.sent, stats.coalesced) == (2, 2, 3, 1)
    assert await borrow(box).receive_batch(1) == [11]
    address.send_nowait(3)
    assert await borrow(box).receive_batch() == [2, 3]
    assert address.stats().oldest_age == 0.0
    address.send_nowait(4)
    box.drop_all()
    assert (address.stats().depth, address.stats().dropped) == (0, 1)


async def test_age_is_that_of_the_oldest_message(autojump_clock: MockClock) -> None:
    for overflow in (Overflow.BLOCK, Overflow.COALESCE):
        box = mailbox(overflow=overflow)
        assert box.stats().oldest_age == 0.0
        box.put(1)
        await trio.sleep(2)
        box.put(2)
        await trio.sleep(3)
        assert box.stats().oldest_age == 5.0
        box.take(1)
        assert box.stats().oldest_age == 3.0


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
        box.put(1)
        box.put(2)
        await wait_all_tasks_blocked()
        inbox.end()
    assert sorted(got) == [1, 2]


async def test_returned_inbox_can_no_longer_be_read() -> None:
    box = mailbox()
    inbox = borrow(box)
    box.put(1)
    inbox.close()
    with pytest.raises(trio.ClosedResourceError):
        await inbox.receive()
    assert await borrow(box).receive() == 1


async def test_closed_mailbox_releases_waiting_senders_and_refuses_others() -> None:
    box = mailbox(1)
    address = Address("a", box)
    box.put(1)

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await address.send(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        box.close()
    with pytest.raises(trio.BrokenResourceError):
        address.send_nowait(3)
    with pytest.raises(trio.BrokenResourceError):
        await address.send(3)


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


async def test_address_without_a_mailbox_says_so() -> None:
    address: Address[int] = Address("a", None)
    with pytest.raises(NoMailbox, match="a was specified"):
        address.send_nowait(1)
    with pytest.raises(NoMailbox):
        await address.send(1)
    assert repr(address) == "<Address of a>"


def test_specification_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="size"):
        MailboxSpec(size=0)
    with pytest.raises(ValueError, match="key"):
        MailboxSpec(key=str)
    with pytest.raises(ValueError, match="key"):
        MailboxSpec(overflow=Overflow.COALESCE)


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
            inbox = borrow(box)
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
