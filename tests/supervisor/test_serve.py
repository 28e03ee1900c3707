"""Messages that are handled where they are sent: nothing but the wake-ups is different."""

import gc
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    Address,
    ChildSpec,
    Context,
    EventKind,
    ExitKind,
    Inbox,
    Intensity,
    MailboxSpec,
    Overflow,
    Supervisor,
)
from polysupervisor._mailbox import Mailbox, make_mailbox
from polysupervisor.testing import run_virtual

Rest = Callable[[], Awaitable[object]]


def mailbox(size: int = 9, **options: object) -> Mailbox[int]:
    return make_mailbox(MailboxSpec(size=size, **options))  # type: ignore[arg-type]


def borrow(box: Mailbox[int]) -> Inbox[int]:
    return Inbox(box, lambda: None)


class Handler:
    """Notes each batch, and which task it was handled in."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.tasks: list[trio.lowlevel.Task] = []

    def __call__(self, batch: list[int]) -> None:
        self.batches.append(batch)
        self.tasks.append(trio.lowlevel.current_task())


# Where a message is handled.


async def test_one_who_waits_is_spared_the_wake_up(nursery: trio.Nursery) -> None:
    box, handler = mailbox(), Handler()
    nursery.start_soon(borrow(box).serve, handler)
    await wait_all_tasks_blocked()
    for message in range(20):  # more than there is room for
        box.put(message)
        assert handler.batches[-1] == [message]
    await box.send(20)
    assert len(handler.batches) == 21
    assert set(handler.tasks) == {trio.lowlevel.current_task()}
    stats = box.stats()
    assert (stats.sent, stats.depth, stats.peak, stats.dropped) == (21, 0, 0, 0)
    nursery.cancel_scope.cancel()


async def test_what_is_queued_before_is_handled_first_and_in_batches(
    nursery: trio.Nursery,
) -> None:
    box, handler = mailbox(), Handler()
    for message in range(5):
        box.put(message)

    async def serve() -> None:
        await borrow(box).serve(handler, 2)

    nursery.start_soon(serve)
    await wait_all_tasks_blocked()
    assert handler.batches == [[0, 1], [2, 3], [4]]
    assert trio.lowlevel.current_task() not in handler.tasks
    box.put(5)
    assert handler.batches[-1] == [5]
    nursery.cancel_scope.cancel()


async def test_what_a_handler_sends_to_itself_is_queued(nursery: trio.Nursery) -> None:
    box, seen = mailbox(), list[tuple[str, int]]()

    def handle(batch: list[int]) -> None:
        for message in batch:
            seen.append(("begin", message))
            if message < 3:
                box.put(message + 1)
            seen.append(("end", message))

    nursery.start_soon(borrow(box).serve, handle)
    await wait_all_tasks_blocked()
    box.put(0)
    assert seen == [("begin", 0), ("end", 0)]
    assert len(box) == 1
    await wait_all_tasks_blocked()
    assert [message for kind, message in seen if kind == "end"] == [0, 1, 2, 3]
    box.put(7)
    assert seen[-1] == ("end", 7)
    nursery.cancel_scope.cancel()


async def test_two_who_serve_hand_on_within_one_call(nursery: trio.Nursery) -> None:
    first, second, handler = mailbox(), mailbox(), Handler()

    def hand_on(batch: list[int]) -> None:
        for message in batch:
            second.put(10 * message)

    nursery.start_soon(borrow(first).serve, hand_on)
    nursery.start_soon(borrow(second).serve, handler)
    await wait_all_tasks_blocked()
    first.put(1)
    assert handler.batches == [[10]]
    nursery.cancel_scope.cancel()


async def test_context_variables_are_those_of_who_serves(nursery: trio.Nursery) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nobody's")
    box, seen = mailbox(), list[str]()

    async def serve() -> None:
        variable.set("the server's")
        await borrow(box).serve(lambda _: seen.append(variable.get()))

    nursery.start_soon(serve)
    await wait_all_tasks_blocked()
    variable.set("the sender's")
    box.put(1)
    assert seen == ["the server's"]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "box", [mailbox(redeliver=1), mailbox(overflow=Overflow.COALESCE, key=str)]
)
async def test_a_mailbox_that_redelivers_or_coalesces_is_served_by_wake_ups(
    box: Mailbox[int], nursery: trio.Nursery
) -> None:
    handler = Handler()
    nursery.start_soon(borrow(box).serve, handler)
    await wait_all_tasks_blocked()
    box.put(1)
    box.put(2)
    assert handler.batches == []
    await wait_all_tasks_blocked()
    assert handler.batches == [[1, 2]]
    nursery.cancel_scope.cancel()


async def test_max_n_is_at_least_1() -> None:
    with pytest.raises(ValueError, match="max_n"):
        await borrow(mailbox()).serve(Handler(), 0)


# What has to wait.


async def test_a_rest_runs_in_the_task_that_serves_while_others_queue(
    nursery: trio.Nursery,
) -> None:
    box, done, gate = mailbox(), list[int](), trio.Event()

    def handle(batch: list[int]) -> Rest | None:
        async def rest() -> None:
            await gate.wait()
            done.extend(batch)

        if batch == [1]:
            return rest
        done.extend(batch)
        return None

    nursery.start_soon(borrow(box).serve, handle)
    await wait_all_tasks_blocked()
    box.put(1)
    box.put(2)
    await wait_all_tasks_blocked()
    assert done == []
    assert len(box) == 1
    gate.set()
    await wait_all_tasks_blocked()
    assert done == [1, 2]
    box.put(3)
    assert done == [1, 2, 3]
    nursery.cancel_scope.cancel()


# The end.


async def test_it_ends_when_a_stop_is_requested_and_nothing_is_left() -> None:
    box, handler = mailbox(), Handler()
    inbox = borrow(box)
    box.put(1)
    inbox.end()
    await inbox.serve(handler)
    assert handler.batches == [[1]]
    async with trio.open_nursery() as nursery:
        inbox = borrow(box)
        nursery.start_soon(inbox.serve, handler)
        await wait_all_tasks_blocked()
        inbox.end()
        box.put(2)  # it does not wait any more, but it has not ended
    assert handler.batches == [[1], [2]]


async def test_one_who_was_cancelled_handles_no_more() -> None:
    box, handler = mailbox(), Handler()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(borrow(box).serve, handler)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        box.put(1)
    box.put(2)
    assert handler.batches == []
    assert len(box) == 2


async def test_a_handler_that_cancels_who_serves_has_handled_the_message() -> None:
    box, handled = mailbox(), list[int]()
    async with trio.open_nursery() as nursery:

        def handle(batch: list[int]) -> None:
            nursery.cancel_scope.cancel()
            handled.extend(batch)

        nursery.start_soon(borrow(box).serve, handle)
        await wait_all_tasks_blocked()
        box.put(1)
        box.put(2)
    assert handled == [1]
    assert len(box) == 1


async def test_an_error_that_comes_with_a_cancellation_is_not_lost() -> None:
    box, failed = mailbox(), False
    scope = trio.CancelScope()

    def handle(batch: list[int]) -> None:
        scope.cancel()
        raise RuntimeError(str(batch))

    async def serve() -> None:
        nonlocal failed
        try:
            with scope:
                await borrow(box).serve(handle)
        except RuntimeError:
            failed = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        box.put(1)
    assert failed


async def test_after_the_incarnation_has_ended_it_is_refused() -> None:
    box = mailbox()
    inbox = borrow(box)
    inbox.take_back(failed=False)
    with pytest.raises(trio.ClosedResourceError):
        await inbox.serve(Handler())


# Under a supervisor.


class Broken(Exception):  # noqa: N818 - an accident, no error of ours
    pass


async def test_an_error_ends_who_serves_and_not_who_sends(
    autojump_clock: MockClock,
) -> None:
    seen: list[tuple[int, list[int]]] = []

    async def server(ctx: Context[int]) -> None:
        def handle(batch: list[int]) -> None:
            seen.append((ctx.incarnation, batch))
            if 13 in batch:
                raise Broken("thirteen")

        await ctx.inbox.serve(handle)

    async def scenario(root: Supervisor) -> None:
        address: Address[int] = root.address("server")
        await wait_all_tasks_blocked()
        for message in (1, 13, 2):
            address.send_nowait(message)  # the error is none of ours
        assert seen == [(1, [1]), (1, [13])]
        assert address.stats().depth == 1
        await wait_all_tasks_blocked()
        assert seen[-1] == (2, [2])
        assert address.stats().lost_in_flight == 1

    spec = ChildSpec("server", lambda: server, mailbox=MailboxSpec())
    events = await run_virtual(Supervisor("root", [spec]), scenario)
    (crash,) = [event.reason for event in events if event.kind is EventKind.EXITED][:1]
    assert crash is not None
    assert crash.kind is ExitKind.CRASH
    assert "thirteen" in crash.summary


async def test_an_error_leaves_no_garbage(autojump_clock: MockClock) -> None:
    died: list[weakref.ref[object]] = []

    class Thing:
        pass

    async def server(ctx: Context[int]) -> None:
        thing = Thing()
        died.append(weakref.ref(thing))

        def handle(batch: list[int]) -> None:
            raise Broken(batch, id(thing))

        await ctx.inbox.serve(handle)

    async def scenario(root: Supervisor) -> None:
        await wait_all_tasks_blocked()
        gc.collect()
        gc.disable()
        try:
            root.address("server").send_nowait(1)
            await wait_all_tasks_blocked()
            assert len(died) == 2
            assert died[0]() is None
        finally:
            gc.enable()

    await run_virtual(
        Supervisor("root", [ChildSpec("server", lambda: server, mailbox=MailboxSpec())]), scenario
    )


@given(
    st.lists(st.tuples(st.sampled_from(["send", "fail", "pause", "rest"]), st.integers(0, 3))),
)
def test_serving_does_what_receiving_does(steps: list[tuple[str, int]]) -> None:
    """Any order of sends, failures, waits and rests: the same messages in the same order, by the
    same number of incarnations, and as many lost."""

    def outcome(*, by_serving: bool) -> tuple[list[int], int, int]:
        seen: list[int] = []
        incarnations = 0

        async def actor(ctx: Context[tuple[str, int]]) -> None:
            nonlocal incarnations
            incarnations += 1

            def handle(batch: list[tuple[str, int]]) -> Rest | None:
                for place, (kind, number) in enumerate(batch):
                    seen.append(number)
                    if kind == "fail":
                        raise Broken
                    if kind == "rest":

                        async def rest(left: list[tuple[str, int]] = batch[place + 1 :]) -> None:
                            await trio.lowlevel.checkpoint()
                            further = handle(left)
                            if further is not None:
                                await further()

                        return rest
                return None

            if by_serving:
                await ctx.inbox.serve(handle, 1)
                return
            while True:
                rest = handle(await ctx.inbox.receive_batch(1))
                if rest is not None:
                    await rest()

        async def scenario(root: Supervisor) -> None:
            address = root.address("actor")
            await wait_all_tasks_blocked()
            for number, (kind, pause) in enumerate(steps):
                if kind == "pause":
                    await wait_all_tasks_blocked()
                else:
                    address.send_nowait((kind, number))
                for _ in range(pause):
                    await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
            lost.append(address.stats().lost_in_flight)

        lost: list[int] = []
        spec = ChildSpec("actor", lambda: actor, mailbox=MailboxSpec(size=1000))
        root = Supervisor("root", [spec], intensity=Intensity(limit=1000))
        trio.run(run_virtual, root, scenario, clock=MockClock(autojump_threshold=0))
        return seen, incarnations, lost[0]

    served, received = outcome(by_serving=True), outcome(by_serving=False)
    assert served == received
