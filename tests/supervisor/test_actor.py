"""Actors as classes: what is called, when, and what comes out."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    Actor,
    ChildSpec,
    Context,
    Event,
    EventKind,
    ExitKind,
    ExitReason,
    Intensity,
    MailboxSpec,
    Restart,
    Shutdown,
    StartFailed,
    Subscription,
    Supervisor,
    SupervisorEscalation,
)

Story = Callable[[Subscription], list[str]]
BOOM = ValueError("boom")
MANY = Intensity(limit=1000)


class Diary(Actor[Any]):
    """Writes down what happens to it, and raises the exceptions that it is sent."""

    def __init__(self, log: list[str], first: int = 0) -> None:
        self.log = log
        self.count = first

    async def setup(self, ctx: Context[Any]) -> None:
        self.log.append(f"setup {ctx.id}#{ctx.incarnation}")

    async def handle(self, msg: Any) -> None:
        self.count += 1
        self.log.append(f"{msg!r} is number {self.count}")
        if isinstance(msg, Exception):
            raise msg

    async def teardown(self, reason: ExitReason | None) -> None:
        self.log.append(f"teardown {reason}")


def child(factory: Callable[[], Actor[Any]], **arguments: Any) -> ChildSpec[Any]:
    arguments.setdefault("mailbox", MailboxSpec())
    return ChildSpec("a", factory, **arguments)


def one(factory: Callable[[], Actor[Any]], **arguments: Any) -> Supervisor:
    return Supervisor("root", [child(factory, **arguments)], intensity=MANY)


def ends(events: Subscription) -> list[Event]:
    """Return the events of a subscription that tell how an incarnation ended."""
    kinds = {EventKind.EXITED, EventKind.START_FAILED, EventKind.STOPPED, EventKind.KILLED}
    found: list[Event] = []
    while True:
        try:
            event = events.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return found
        if event.kind in kinds:
            found.append(event)


def types(events: Subscription) -> list[tuple[str, ...]]:
    return [() if event.reason is None else event.reason.types for event in ends(events)]


async def tell(root: Supervisor, *messages: Any) -> None:
    for message in messages:
        root.address("a").send_nowait(message)
    await wait_all_tasks_blocked()


# The ordinary life.


async def test_setup_then_messages_in_order_then_teardown(autojump_clock: MockClock) -> None:
    log: list[str] = []
    root = one(lambda: Diary(log))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert log == ["setup a#1"]
        await tell(root, "x", "y")
        root.address("a").send_nowait("queued when the stop comes")
        root.stop()
    assert log == [
        "setup a#1",
        "'x' is number 1",
        "'y' is number 2",
        "'queued when the stop comes' is number 3",
        "teardown None",
    ]
    assert [event.kind for event in ends(events)] == [EventKind.STOPPED]


async def test_it_is_ready_when_setup_returned(autojump_clock: MockClock) -> None:
    class Slow(Diary):
        async def setup(self, ctx: Context[Any]) -> None:
            await trio.sleep(3)

    root = one(lambda: Slow([]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(2)
        assert root.children()[0].state == "starting"
        await trio.sleep(2)
        assert root.children()[0].state == "running"
        root.stop()


async def test_setup_may_say_ready_itself_with_a_value(autojump_clock: MockClock) -> None:
    class Port(Diary):
        async def setup(self, ctx: Context[Any]) -> None:
            ctx.ready(8080)

    root = Supervisor("root")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        started = await root.start_child(child(lambda: Port([])))
        assert started.value == 8080
        root.stop()


async def test_without_a_mailbox_it_lives_until_it_is_stopped(autojump_clock: MockClock) -> None:
    log: list[str] = []
    root = one(lambda: Diary(log), mailbox=None)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await trio.sleep(1000)
        assert log == ["setup a#1"]
        root.stop()
    assert log == ["setup a#1", "teardown None"]


async def test_nothing_needs_to_be_overridden(autojump_clock: MockClock) -> None:
    root = one(Actor, mailbox=None)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert root.children()[0].state == "running"
        root.stop()


async def test_handle_batch_gets_all_that_is_queued(autojump_clock: MockClock) -> None:
    batches: list[list[int]] = []

    class Batch(Actor[int]):
        async def handle_batch(self, msgs: list[int]) -> None:
            batches.append(msgs)

        async def handle(self, msg: int) -> None:
            raise AssertionError(msg)

    root = one(Batch)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, 1, 2, 3)
        await tell(root, 4)
        root.address("a").send_nowait(5)
        root.stop()
    assert batches == [[1, 2, 3], [4], [5]]


async def test_an_actor_that_ignores_its_start_handles_nothing(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    class Idle(Diary):
        async def setup(self, ctx: Context[Any]) -> None:
            ctx.ignore()

    root = one(lambda: Idle(log), restart=Restart.TRANSIENT)
    root.address("a").send_nowait("never read")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        assert root.children()[0].state == "stopped"
        assert log == ["teardown None"]
        root.stop()


async def test_a_generic_slotted_or_frozen_class_will_do(autojump_clock: MockClock) -> None:
    seen: list[str] = []

    @attrs.frozen
    class Frozen(Actor[str]):
        prefix: str

        async def handle(self, msg: str) -> None:
            seen.append(self.prefix + msg)

    root = one(lambda: Frozen("> "))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, "x")
        root.stop()
    assert seen == ["> x"]


# Failures and restarts.


async def test_a_crash_in_handle_loses_that_one_message_and_all_state(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []
    root = one(lambda: Diary(log))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, "x", BOOM, "y", "z")
        stats = root.address("a").stats()
        assert (stats.lost_in_flight, stats.depth, stats.dropped) == (1, 0, 0)
        root.stop()
    assert log == [
        "setup a#1",
        "'x' is number 1",
        "ValueError('boom') is number 2",
        "teardown crash (ValueError: boom)",
        "setup a#2",
        "'y' is number 1",
        "'z' is number 2",
        "teardown None",
    ]
    first, last = ends(events)
    assert (first.kind, last.kind) == (EventKind.EXITED, EventKind.STOPPED)
    assert first.reason is not None
    assert first.reason.kind is ExitKind.CRASH


async def test_a_crash_in_handle_batch_loses_the_batch(autojump_clock: MockClock) -> None:
    class Batch(Actor[int]):
        async def handle_batch(self, msgs: list[int]) -> None:
            raise BOOM

    root = one(Batch)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, 1, 2, 3)
        assert root.address("a").stats().lost_in_flight == 3
        root.stop()


async def test_an_instance_is_never_run_twice(autojump_clock: MockClock) -> None:
    log: list[str] = []
    only = Diary(log)
    root = Supervisor("root", [child(lambda: only)], intensity=Intensity(limit=1))
    root.address("a").send_nowait(BOOM)
    with pytest.raises(SupervisorEscalation, match="this Diary has run: a factory returns a new"):
        await root.run()
    assert log == [
        "setup a#1",
        "ValueError('boom') is number 1",
        "teardown crash (ValueError: boom)",
    ]


async def test_a_mailbox_without_a_handler_is_refused_before_setup(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    class Deaf(Actor[int]):
        async def setup(self, ctx: Context[int]) -> None:
            log.append("setup")

    with pytest.raises(StartFailed, match="Deaf must override handle or handle_batch"):
        await one(Deaf).run()
    assert log == []


async def test_a_failing_setup_is_a_failed_start_and_teardown_still_runs(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    class Broken(Diary):
        async def setup(self, ctx: Context[Any]) -> None:
            raise BOOM

    with pytest.raises(StartFailed) as caught:
        await one(lambda: Broken(log)).run()
    assert caught.value.reason.kind is ExitKind.START_FAILED
    assert caught.value.reason.types == ("ValueError",)
    assert log == ["teardown start_failed (ValueError: boom)"]


async def test_a_setup_that_takes_too_long_is_torn_down_too(autojump_clock: MockClock) -> None:
    log: list[str] = []

    class Slow(Diary):
        async def setup(self, ctx: Context[Any]) -> None:
            await trio.sleep_forever()

    with pytest.raises(StartFailed) as caught:
        await one(lambda: Slow(log), start_timeout=2, shutdown=Shutdown(grace=1)).run()
    assert caught.value.reason.kind is ExitKind.START_TIMEOUT
    assert log == ["teardown killed"]
    assert trio.current_time() == 3


async def test_keyboard_interrupt_ends_the_tree_after_teardown(autojump_clock: MockClock) -> None:
    log: list[str] = []

    class Typed(Diary):
        async def handle(self, msg: Any) -> None:
            raise KeyboardInterrupt

    root = one(lambda: Typed(log))
    root.address("a").send_nowait("x")
    with pytest.raises(KeyboardInterrupt):
        await root.run()
    assert log == ["setup a#1", "teardown crash (KeyboardInterrupt)"]


async def test_a_handler_that_receives_by_itself_may_come_to_the_end(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    class Greedy(Diary):
        async def setup(self, ctx: Context[Any]) -> None:
            self.ctx = ctx

        async def handle(self, msg: Any) -> None:
            log.append(f"{msg}, {await self.ctx.inbox.receive()}")

    root = one(lambda: Greedy(log))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, 1, 2, 3)
        root.stop()
    assert log == ["1, 2", "teardown None"]
    (end,) = ends(events)
    assert end.reason is not None
    assert end.reason.kind is ExitKind.SHUTDOWN


async def test_an_end_of_some_other_channel_is_a_crash(autojump_clock: MockClock) -> None:
    log: list[str] = []
    root = one(lambda: Diary(log))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, trio.EndOfChannel())
        assert log[-2:] == ["teardown crash (trio.EndOfChannel)", "setup a#2"]
        root.stop()


# Teardown.


class Stubborn(Diary):
    """Handles its first message for ever."""

    async def handle(self, msg: Any) -> None:
        await trio.sleep_forever()


async def test_a_cancelled_actor_is_torn_down_as_killed(
    story: Story, autojump_clock: MockClock
) -> None:
    log: list[str] = []

    class Careful(Stubborn):
        async def teardown(self, reason: ExitReason | None) -> None:
            await trio.sleep(1)  # shielded
            await super().teardown(reason)

    root = one(lambda: Careful(log), shutdown=Shutdown(grace=2, kill=5))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, "x")
        root.stop()
    assert trio.current_time() == 3
    assert log == ["setup a#1", "teardown killed"]
    assert story(events)[-1] == "root/a#1 killed"


async def test_cancellation_of_the_whole_tree_goes_on_after_teardown(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []
    root = one(lambda: Stubborn(log))
    with trio.move_on_after(7) as scope:
        await root.run()
    assert scope.cancelled_caught
    assert log == ["setup a#1", "teardown killed"]
    assert trio.current_time() == 7


class Endless(Diary):
    """Never comes to the end of its teardown."""

    async def teardown(self, reason: ExitReason | None) -> None:
        await super().teardown(reason)
        try:
            await trio.sleep_forever()
        finally:
            self.log.append(f"cut short at {trio.current_time():g}")


async def test_teardown_may_take_the_grace_and_no_longer(autojump_clock: MockClock) -> None:
    log: list[str] = []
    root = one(lambda: Endless(log), shutdown=Shutdown(grace=3, kill=50))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, BOOM)
        await trio.sleep(10)
        assert log[-2:] == ["cut short at 3", "setup a#2"]
        assert types(events) == [("ValueError", "TooSlowError")]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("seconds", "kind"), [(2, ExitKind.SHUTDOWN), (3, ExitKind.KILLED)])
async def test_teardown_after_an_ordered_end_is_cut_short_by_the_grace_too(
    seconds: float, kind: ExitKind, autojump_clock: MockClock
) -> None:
    class Dawdler(Diary):
        async def teardown(self, reason: ExitReason | None) -> None:
            await trio.sleep(seconds)

    root = one(lambda: Dawdler([]), shutdown=Shutdown(grace=2.5, kill=50))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    (end,) = ends(events)
    assert end.reason is not None
    assert end.reason.kind is kind
    assert trio.current_time() == min(seconds, 2.5)


async def test_after_a_cancellation_teardown_may_take_half_of_the_kill_time(
    story: Story, autojump_clock: MockClock
) -> None:
    class Both(Endless, Stubborn):
        pass

    log: list[str] = []
    root = one(lambda: Both(log), shutdown=Shutdown(grace=10, kill=4))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, "x")
        root.stop()
    assert log == ["setup a#1", "teardown killed", "cut short at 12"]
    assert story(events)[-2:] == ["root/a#1 stopping", "root/a#1 killed"]  # never wedged


async def test_a_cancellation_during_teardown_shortens_it(
    story: Story, autojump_clock: MockClock
) -> None:
    log: list[str] = []
    shutdown = Shutdown(grace=float("inf"), kill=4)
    root = Supervisor("root", [child(lambda: Endless(log), shutdown=shutdown)], stop_deadline=20)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    assert log == ["setup a#1", "teardown None", "cut short at 22"]
    assert story(events)[-1] == "root/a#1 killed"


async def test_a_cancellation_during_teardown_never_makes_it_longer(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []
    root = one(lambda: Endless(log), shutdown=Shutdown(grace=3, kill=50))
    root.address("a").send_nowait(BOOM)
    with trio.move_on_after(1):
        await root.run()
    assert log[2:] == ["teardown crash (ValueError: boom)", "cut short at 3"]
    assert trio.current_time() == 3


async def test_without_any_grace_teardown_gets_to_its_first_wait(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []
    root = one(lambda: Endless(log), shutdown=Shutdown(grace=0))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    assert log == ["setup a#1", "teardown killed", "cut short at 0"]


class Clumsy(Diary):
    """Fails in its teardown."""

    async def teardown(self, reason: ExitReason | None) -> None:
        await super().teardown(reason)
        raise RuntimeError("clumsy")


async def test_when_handle_and_teardown_fail_both_errors_come_out(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []
    root = one(lambda: Clumsy(log))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, BOOM)
        (end,) = ends(events)
        assert end.reason is not None
        assert end.reason.kind is ExitKind.CRASH
        assert end.reason.summary == "ValueError: boom; RuntimeError: clumsy"
        assert end.reason.trace is not None
        assert end.reason.trace.error.startswith("ExceptionGroup: root/a and its teardown")
        nursery.cancel_scope.cancel()
    assert log.count("teardown crash (ValueError: boom)") == 1


async def test_an_expected_failure_is_not_expected_when_teardown_fails_as_well(
    autojump_clock: MockClock,
) -> None:
    root = one(lambda: Clumsy([]), expected=(ValueError,))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root, BOOM)
        (end,) = ends(events)
        assert end.reason is not None
        assert not end.reason.expected
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["ordered", "cancelled"])
async def test_a_failure_of_teardown_alone_comes_out(how: str, autojump_clock: MockClock) -> None:
    class Slow(Clumsy, Stubborn):
        pass

    root = one(lambda: Slow([]), shutdown=Shutdown(grace=1))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        if how == "cancelled":
            await tell(root, "x")
        root.stop()
    assert types(events) == [("RuntimeError",)]


async def test_a_cancelled_actor_is_freed_at_once(autojump_clock: MockClock) -> None:
    made: list[weakref.ref[Actor[Any]]] = []

    def make() -> Actor[Any]:
        actor = Stubborn([])
        made.append(weakref.ref(actor))
        return actor

    root = one(make, shutdown=Shutdown(grace=1))
    gc.disable()  # the state of an actor may be large: no cycle may keep it
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            await tell(root, "x")
            await root.restart_child("a", force=True)
            assert [actor() is not None for actor in made] == [False, True]
            root.stop()
    finally:
        gc.enable()


async def test_a_crashed_actor_is_freed_at_once(autojump_clock: MockClock) -> None:
    made: list[weakref.ref[Actor[Any]]] = []

    class Crashing(Actor[str]):
        async def handle(self, msg: str) -> None:
            raise ValueError(msg)

    def make() -> Actor[Any]:
        actor = Crashing()
        made.append(weakref.ref(actor))
        return actor

    root = one(make)
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            await tell(root, "x")
            assert [actor() is not None for actor in made] == [False, True]
            root.stop()
    finally:
        gc.enable()


async def test_teardown_of_the_old_comes_before_setup_of_the_new(
    autojump_clock: MockClock,
) -> None:
    log: list[str] = []

    class Slow(Diary):
        async def teardown(self, reason: ExitReason | None) -> None:
            await trio.sleep(2)
            await super().teardown(reason)

    root = one(lambda: Slow(log))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.restart_child("a", force=True)
        assert log == ["setup a#1", "teardown None", "setup a#2"]
        root.stop()
    assert log[3:] == ["teardown None"]
