from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    Address,
    ChildSpec,
    Context,
    ExitKind,
    ExitReason,
    Inbox,
    MailboxSpec,
    NoMailbox,
    Reply,
    Supervisor,
)
from polysupervisor._address import life_of
from polysupervisor._life import Life
from polysupervisor._mailbox import Mailbox, make_mailbox


@attrs.frozen
class Double:
    """A question: twice the number?"""

    number: int
    reply: Reply[int]


def twice(number: int) -> Callable[[Reply[int]], Double]:
    return lambda reply: Double(number, reply)


class Peer:
    """A child as its supervisor would have it, with the answers in the hand of the test."""

    def __init__(self, size: int = 9) -> None:
        self.box: Mailbox[Double] = make_mailbox(MailboxSpec(size=size))
        self.life = Life("root/peer")
        self.address = Address("peer", self.box, self.life)
        self.inbox = Inbox(self.box, lambda: None)

    async def answer(self) -> None:
        async for question in self.inbox:
            question.reply.send(2 * question.number)

    def rest(self) -> None:
        self.box.close()
        self.life.rest()

    def end(self) -> None:
        self.life.end()

    def is_watched(self) -> bool:
        return bool(self.life._watchers)  # pyright: ignore[reportPrivateUsage] - nothing else tells


@asynccontextmanager
async def asking(peer: Peer, asks: list[int]) -> AsyncGenerator[None]:
    """Ask twice 1, until after the block, and note what comes."""

    async def ask() -> None:
        asks.append(await peer.address.ask(twice(1), timeout=10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        yield


# Identity, and sending.


async def test_address_sends_to_the_mailbox_and_shows_its_figures() -> None:
    box: Mailbox[int] = make_mailbox(MailboxSpec(size=2))
    address = Address("a", box, Life("root/a"))
    await address.send(1)
    address.send_nowait(2)
    with pytest.raises(trio.WouldBlock):
        address.send_nowait(3)
    assert (address.stats().depth, address.stats().sent) == (2, 2)
    assert box.take(9) == [1, 2]


async def test_address_without_a_mailbox_says_so() -> None:
    address: Address[Double] = Address("a", None, Life("root/a"))
    with pytest.raises(NoMailbox, match="root/a was specified"):
        address.send_nowait(Double(1, Reply()))
    with pytest.raises(NoMailbox):
        await address.send(Double(1, Reply()))
    with pytest.raises(NoMailbox):
        await address.ask(twice(1), timeout=1)
    with pytest.raises(NoMailbox):
        address.stats()


def test_address_is_that_of_a_child_and_equal_to_others_of_it() -> None:
    life = Life("root/a")
    address: Address[int] = Address("a", None, life)
    again: Address[int] = Address("a", None, life)
    other: Address[int] = Address("a", None, Life("root/a"))
    assert address == again
    assert {address, again, other} == {address, other}
    assert address != other
    assert address != "a"
    assert (address.id, address.path, repr(address)) == ("a", "root/a", "<Address of root/a>")
    assert life_of(address) is life


def test_path_follows_the_life() -> None:
    life = Life("a")
    address: Address[int] = Address("a", None, life)
    life.path = "root/a"
    assert address.path == "root/a"


# Asking.


async def test_answer_comes_back_to_the_asker() -> None:
    peer = Peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.answer)
        assert await peer.address.ask(twice(21), timeout=1) == 42
        assert await peer.address.ask(twice(4), timeout=1) == 8
        peer.inbox.end()
    assert not peer.is_watched()


async def test_refusal_is_raised_in_the_asker() -> None:
    peer = Peer()

    async def refuse() -> None:
        (await peer.inbox.receive()).reply.fail(LookupError("no such number"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(LookupError, match="no such number"):
            await peer.address.ask(twice(1), timeout=1)
    assert not peer.is_watched()


async def test_question_without_an_answer_ends_at_the_timeout(autojump_clock: MockClock) -> None:
    peer = Peer()
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await peer.address.ask(twice(1), timeout=3)
    assert trio.current_time() == began + 3
    assert (peer.box.stats().depth, peer.is_watched()) == (1, False)
    peer.inbox.end()
    await peer.answer()  # to nobody, which does not hurt


async def test_timeout_holds_for_a_full_mailbox_too(autojump_clock: MockClock) -> None:
    peer = Peer(size=1)
    peer.address.send_nowait(Double(1, Reply()))
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await peer.address.ask(twice(2), timeout=3)
    assert trio.current_time() == began + 3
    assert (peer.box.stats().depth, peer.box.stats().blocked) == (1, 0)


async def test_no_time_at_all_sends_nothing() -> None:
    peer = Peer()
    with pytest.raises(trio.TooSlowError):
        await peer.address.ask(twice(1), timeout=0)
    with pytest.raises(ValueError, match="non-negative"):
        await peer.address.ask(twice(1), timeout=-1)
    assert (peer.box.stats().depth, peer.is_watched()) == (0, False)


async def test_answer_that_is_there_is_not_lost_to_the_timeout(mock_clock: MockClock) -> None:
    """The deadline passes in the tick of the answer, the asker having run already or not."""

    async def answer(peer: Peer) -> None:
        (await peer.inbox.receive()).reply.send(2)
        mock_clock.jump(5)

    for _ in range(20):
        peer = Peer()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, peer)
            await wait_all_tasks_blocked()
            assert await peer.address.ask(twice(1), timeout=3) == 2


async def refused(address: Address[Double]) -> None:
    with pytest.raises(trio.BrokenResourceError, match="ended for good"):
        await address.ask(twice(1), timeout=10)


async def test_child_that_has_ended_for_good_is_not_asked() -> None:
    peer = Peer()
    peer.rest()
    await refused(peer.address)
    assert not peer.is_watched()


@pytest.mark.parametrize("how", [Peer.rest, Peer.end])
async def test_asker_is_told_when_the_child_ends_for_good(how: Callable[[Peer], None]) -> None:
    peer = Peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused, peer.address)
        await wait_all_tasks_blocked()
        how(peer)
    assert not peer.is_watched()


async def test_asker_that_waits_for_room_is_told_as_well() -> None:
    peer = Peer(size=1)
    peer.address.send_nowait(Double(1, Reply()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused, peer.address)
        await wait_all_tasks_blocked()
        peer.rest()
    assert not peer.is_watched()


async def test_answer_outlives_a_child_that_answers_and_ends() -> None:
    peer, got = Peer(), list[int]()
    async with asking(peer, got):
        (await peer.inbox.receive()).reply.send(2)
        peer.rest()
        peer.life.end()
    assert got == [2]


async def test_next_incarnation_answers_what_is_queued() -> None:
    peer, got = Peer(), list[int]()
    peer.life.begin(1)
    async with asking(peer, got):
        peer.life.go_down(ExitReason(ExitKind.CRASH), failed=True)
        peer.life.begin(2)
        peer.life.come_up()
        (await peer.inbox.receive()).reply.send(2)
    assert got == [2]


async def test_cancelled_asker_is_forgotten() -> None:
    peer = Peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: peer.address.ask(twice(1), timeout=1))
        await wait_all_tasks_blocked()
        assert peer.is_watched()
        nursery.cancel_scope.cancel()
    assert not peer.is_watched()


async def test_asker_of_a_supervised_child_is_answered_or_told_of_its_end() -> None:
    async def actor(ctx: Context[Double]) -> None:
        question = await ctx.inbox.receive()
        question.reply.send(2 * question.number)
        await ctx.inbox.receive()
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("child", lambda: actor, mailbox=MailboxSpec())])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        address: Address[Double] = root.address("child")
        assert await address.ask(twice(4), timeout=10) == 8
        async with trio.open_nursery() as askers:
            askers.start_soon(refused, address)
            await wait_all_tasks_blocked()
            root.stop()


async def test_question_that_cannot_be_made_or_sent_is_the_askers_error() -> None:
    def make(reply: Reply[int]) -> Double:
        raise LookupError

    peer = Peer()
    with pytest.raises(LookupError):
        await peer.address.ask(make, timeout=1)
    assert not peer.is_watched()
