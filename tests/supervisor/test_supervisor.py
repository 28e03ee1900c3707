"""Start, stop, nesting and cancellation: what ``run`` promises."""

import math
import signal
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    ChildSpec,
    ChildState,
    Context,
    EventBus,
    ExitKind,
    Intensity,
    MailboxSpec,
    NotRunning,
    Restart,
    Run,
    Shutdown,
    StartFailed,
    Strategy,
    Subscription,
    Supervisor,
    SupervisorEscalation,
)

Spec = Callable[..., ChildSpec[Any]]
Story = Callable[[Subscription], list[str]]
MANY = Intensity(limit=1000)
BOOM = ValueError("boom")


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.id: child.state.value for child in supervisor.children()}


def incarnations(supervisor: Supervisor) -> dict[str, int]:
    return {child.id: child.incarnation for child in supervisor.children()}


async def steady(ctx: Context[Any]) -> None:
    ctx.ready()
    await ctx.stop_requested.wait()


async def stubborn(ctx: Context[Any]) -> None:
    ctx.ready()
    await trio.sleep_forever()


async def silent(ctx: Context[Any]) -> None:
    await trio.sleep_forever()


async def broken(ctx: Context[Any]) -> None:
    raise BOOM


def _steady(child_id: str) -> ChildSpec[Any]:
    return ChildSpec(child_id, lambda: steady)


# Start and readiness.


async def test_children_start_in_order_each_after_the_one_before_is_ready(
    story: Story, autojump_clock: MockClock
) -> None:
    async def slow(ctx: Context[Any]) -> None:
        await trio.sleep(2)
        await steady(ctx)

    root = Supervisor("root", [ChildSpec("a", lambda: slow), ChildSpec("b", lambda: steady)])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await wait_all_tasks_blocked()
        assert states(root) == {"a": "starting", "b": "waiting"}
        assert root.tree().state is ChildState.STARTING
        with pytest.raises(NotRunning, match="root is starting"):
            await root.stop_child("a")
        await trio.sleep(3)
        assert story(events) == [
            "root/a#1 starting",
            "root/a#1 started",
            "root/b#1 starting",
            "root/b#1 started",
        ]
        root.stop()


async def test_run_is_ready_when_all_children_are(autojump_clock: MockClock) -> None:
    async def slow(ctx: Context[Any]) -> None:
        await trio.sleep(5)
        await steady(ctx)

    root = Supervisor("root", [ChildSpec("a", lambda: slow)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert trio.current_time() == 5
        root.stop()


async def test_receiving_from_the_inbox_says_ready(autojump_clock: MockClock) -> None:
    async def reader(ctx: Context[int]) -> None:
        async for _ in ctx.inbox:
            pass

    root = Supervisor("root", [ChildSpec("a", lambda: reader, mailbox=MailboxSpec())])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert states(root) == {"a": "running"}
        root.stop()


@pytest.mark.parametrize("late", [broken, silent], ids=["crash", "timeout"])
async def test_first_start_failure_stops_the_others_in_reverse_and_names_the_child(
    late: Run[Any], story: Story, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [
            ChildSpec("a", lambda: steady),
            ChildSpec("b", lambda: steady),
            ChildSpec("c", lambda: late, start_timeout=3, shutdown=Shutdown(grace=1)),
            ChildSpec("d", lambda: steady),
        ],
    )
    events = root.events.subscribe()
    with pytest.raises(StartFailed, match="root/c") as caught:
        await root.run()
    assert caught.value.reason.kind in (ExitKind.START_FAILED, ExitKind.START_TIMEOUT)
    lines = story(events)
    assert "root/c#1 start_failed" in lines
    assert lines[-4:] == [
        "root/b#1 stopping",
        "root/b#1 stopped",
        "root/a#1 stopping",
        "root/a#1 stopped",
    ]
    assert not any("root/d" in line for line in lines)
    assert root.count().active == 0


async def test_nursery_start_raises_the_start_failure_itself(autojump_clock: MockClock) -> None:
    root = Supervisor("root", [ChildSpec("a", lambda: broken)])
    async with trio.open_nursery() as nursery:
        with pytest.raises(StartFailed, match=r"root/a failed to start: .*ValueError: boom"):
            await nursery.start(root.run)


async def test_return_before_ready_is_a_start_failure(autojump_clock: MockClock) -> None:
    async def hasty(ctx: Context[Any]) -> None:
        await trio.lowlevel.checkpoint()

    root = Supervisor("root", [ChildSpec("a", lambda: hasty, restart=Restart.TRANSIENT)])
    with pytest.raises(StartFailed, match="returned before it was ready"):
        await root.run()


async def test_failing_factory_is_a_start_failure(autojump_clock: MockClock) -> None:
    def factory() -> Run[Any]:
        raise BOOM

    with pytest.raises(StartFailed, match="boom"):
        await Supervisor("root", [ChildSpec("a", factory)]).run()


async def test_late_start_is_stopped_with_its_own_grace_and_ready_comes_too_late(
    story: Story, autojump_clock: MockClock
) -> None:
    async def late(ctx: Context[Any]) -> None:
        await ctx.stop_requested.wait()
        ctx.ready()
        await trio.sleep(1)
        raise BOOM

    root = Supervisor("root", [ChildSpec("a", lambda: late, start_timeout=3)])
    with pytest.raises(StartFailed, match=r"not ready within 3 s: .*; ValueError: boom") as caught:
        await root.run()
    assert caught.value.reason.kind is ExitKind.START_TIMEOUT
    assert trio.current_time() == 4


async def test_failing_restart_attempts_are_retried_and_counted(
    story: Story, autojump_clock: MockClock
) -> None:
    async def once(ctx: Context[Any]) -> None:
        if ctx.incarnation > 1:
            raise BOOM
        ctx.ready()
        await trio.sleep(1)
        raise BOOM

    root = Supervisor("root", [ChildSpec("a", lambda: once)], intensity=Intensity(limit=2))
    events = root.events.subscribe()
    with pytest.raises(SupervisorEscalation, match="needed more than 2 restarts within 60 s"):
        await root.run()
    lines = story(events)
    assert lines.count("root/a#2 start_failed") == 1
    assert lines[-3:] == ["root/a#3 start_failed", "root/a#3 intensity", "root#1 escalated"]


async def test_empty_supervisor_is_ready_at_once_and_stops(autojump_clock: MockClock) -> None:
    root = Supervisor("root")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
        root.stop()
    root.stop()
    assert root.tree().state is ChildState.STOPPED


async def test_stop_before_run_makes_it_return_at_once(autojump_clock: MockClock) -> None:
    root = Supervisor("root", [ChildSpec("a", lambda: steady)])
    root.stop()
    await root.run()
    assert (states(root), incarnations(root)) == ({"a": "stopped"}, {"a": 0})


async def test_stop_during_start_is_no_failure(autojump_clock: MockClock) -> None:
    root = Supervisor(
        "root", [ChildSpec("a", lambda: silent, shutdown=Shutdown(grace=1)), _steady("b")]
    )

    async def stop_soon() -> None:
        await trio.sleep(1)
        root.stop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_soon)
        await nursery.start(root.run)
    assert states(root) == {"a": "stopped", "b": "stopped"}
    assert trio.current_time() == 2


async def test_instance_runs_only_once(autojump_clock: MockClock) -> None:
    root = Supervisor("root")
    root.stop()
    await root.run()
    with pytest.raises(RuntimeError, match="root has run"):
        await root.run()


def test_bad_names_and_doubled_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="two children of the id 'a'"):
        Supervisor("root", [_steady("a"), _steady("a")])
    for bad in ("", "a/b"):
        with pytest.raises(ValueError, match="id is a non-empty text without a slash"):
            _steady(bad)
        with pytest.raises(ValueError, match="id is a non-empty text without a slash"):
            Supervisor(bad)


# Stop.


async def test_stop_is_in_reverse_order_and_waits_for_each(
    story: Story, autojump_clock: MockClock
) -> None:
    ended: list[str] = []

    def child(child_id: str) -> ChildSpec[Any]:
        async def run(ctx: Context[Any]) -> None:
            await steady(ctx)
            await trio.sleep(1)
            ended.append(child_id)

        return ChildSpec(child_id, lambda: run)

    root = Supervisor("root", [child(each) for each in "abc"])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        story(events)
        root.stop()
    assert ended == ["c", "b", "a"]
    assert trio.current_time() == 3
    assert story(events) == [
        f"root/{each}#1 {kind}" for each in "cba" for kind in ("stopping", "stopped")
    ]


@pytest.mark.parametrize(("grace", "seconds"), [(3.0, 3.0), (0.0, 0.0)])
async def test_child_that_does_not_stop_is_cancelled_after_its_grace(
    grace: float, seconds: float, story: Story, autojump_clock: MockClock
) -> None:
    spec = ChildSpec("a", lambda: stubborn, shutdown=Shutdown(grace=grace))
    root = Supervisor("root", [spec])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    assert trio.current_time() == seconds
    assert story(events)[-1] == "root/a#1 killed"


async def test_cancelled_child_is_told_why(autojump_clock: MockClock) -> None:
    told: list[str] = []

    async def listens(ctx: Context[Any]) -> None:
        ctx.ready()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            told.append(str(error))
            raise

    root = Supervisor("root", [ChildSpec("a", lambda: listens)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    assert "root/a: the supervisor stops, and its grace of 5 s is over" in told[0]


async def test_wedged_child_is_reported_and_the_others_are_stopped_meanwhile(
    story: Story, autojump_clock: MockClock
) -> None:
    async def shielded(ctx: Context[Any]) -> None:
        ctx.ready()
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    spec = ChildSpec("b", lambda: shielded, shutdown=Shutdown(grace=1, kill=2))
    root = Supervisor("root", [_steady("a"), spec])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        story(events)
        root.stop()
        await trio.sleep(10)
        assert story(events) == [
            "root/b#1 stopping",
            "root/b#1 wedged",
            "root/a#1 stopping",
            "root/a#1 stopped",
        ]
        assert states(root) == {"a": "stopped", "b": "stopping"}
    assert trio.current_time() == 100
    assert story(events) == ["root/b#1 killed"]


async def test_wedged_member_starts_again_only_after_its_old_incarnation_has_ended(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    lives = 0

    async def shielded(ctx: Context[Any]) -> None:
        nonlocal lives
        lives += 1
        assert lives == 1
        ctx.ready()
        with trio.CancelScope(shield=ctx.incarnation == 1):
            await trio.sleep(20)
        lives -= 1

    root = Supervisor(
        "root",
        [
            puppet_spec("a"),
            ChildSpec("b", lambda: shielded, shutdown=Shutdown(grace=1, kill=1)),
            puppet_spec("c"),
        ],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await trio.sleep(10)
        assert states(root) == {"a": "running", "b": "stopping", "c": "waiting"}
        await trio.sleep(11)
        assert states(root) == {"a": "running", "b": "running", "c": "running"}
        root.stop()


async def test_stop_deadline_cancels_all_that_is_left(
    story: Story, autojump_clock: MockClock
) -> None:
    patient = Shutdown(grace=math.inf)
    specs = [ChildSpec(each, lambda: stubborn, shutdown=patient) for each in "abc"]
    root = Supervisor("root", specs, stop_deadline=7)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    assert trio.current_time() == 7
    assert [line for line in story(events) if "killed" in line] != []
    assert states(root) == {"a": "stopped", "b": "stopped", "c": "stopped"}


async def test_child_may_use_its_queue_up_after_the_stop_was_requested(
    autojump_clock: MockClock,
) -> None:
    done: list[int] = []

    async def slow(ctx: Context[int]) -> None:
        while True:  # ends by EndOfChannel, which is a clean shutdown
            done.append(await ctx.inbox.receive())
            await trio.sleep(1)

    root = Supervisor("root", [ChildSpec("a", lambda: slow, mailbox=MailboxSpec())])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for number in range(3):
            await root.address("a").send(number)
        root.stop()
    assert done == [0, 1, 2]
    last = [event async for event in events][-1]
    assert last.reason is not None
    assert (last.kind, last.reason.kind) == ("stopped", ExitKind.SHUTDOWN)


async def test_end_of_some_other_channel_is_a_crash(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a")], intensity=Intensity(limit=0))
    root.address("a").send_nowait(trio.EndOfChannel())
    with pytest.raises(SupervisorEscalation, match="EndOfChannel"):
        await root.run()


async def test_error_in_clean_up_is_reported_and_not_restarted(autojump_clock: MockClock) -> None:
    async def dirty(ctx: Context[Any]) -> None:
        await steady(ctx)
        raise BOOM

    async def dirty_when_cancelled(ctx: Context[Any]) -> None:
        try:
            await stubborn(ctx)
        finally:
            raise BOOM

    root = Supervisor(
        "root",
        [
            ChildSpec("a", lambda: dirty),
            ChildSpec("b", lambda: dirty_when_cancelled, shutdown=Shutdown(grace=0)),
        ],
    )
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    ends = [(e.path, e.kind, e.reason.kind) async for e in events if e.reason is not None]
    assert ends == [
        ("root/b", "killed", ExitKind.CRASH),
        ("root/a", "stopped", ExitKind.CRASH),
    ]


# Cancellation from outside.


async def test_cancellation_stops_in_reverse_order_without_grace_and_goes_on(
    story: Story, autojump_clock: MockClock
) -> None:
    ended: list[str] = []

    def child(child_id: str) -> ChildSpec[Any]:
        async def run(ctx: Context[Any]) -> None:
            try:
                await stubborn(ctx)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                ended.append(child_id)

        return ChildSpec(child_id, lambda: run)

    inner = Supervisor("inner", [child("b"), child("c")])
    root = Supervisor("root", [child("a"), inner, child("d")])
    with trio.move_on_after(10) as scope:
        await root.run()
    assert scope.cancelled_caught
    assert ended == ["d", "c", "b", "a"]
    assert trio.current_time() == 14


async def test_cancellation_cuts_an_ordered_stop_short(autojump_clock: MockClock) -> None:
    specs = [ChildSpec(each, lambda: stubborn, shutdown=Shutdown(grace=20)) for each in "ab"]
    root = Supervisor("root", specs)
    with trio.move_on_after(10) as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            root.stop()
    assert scope.cancelled_caught
    assert trio.current_time() == 10


async def test_crash_in_clean_up_while_cancelled_does_not_escape(autojump_clock: MockClock) -> None:
    async def dirty(ctx: Context[Any]) -> None:
        async with ctx.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await stubborn(ctx)
            finally:
                raise BOOM

    root = Supervisor("root", [ChildSpec("a", lambda: dirty)])
    events = root.events.subscribe()
    with trio.move_on_after(1) as scope:
        await root.run()
    assert scope.cancelled_caught
    last = [event async for event in events][-1]
    assert last.reason is not None
    assert (last.kind, last.reason.types) == ("killed", ("ValueError",))


async def test_keyboard_interrupt_in_a_child_comes_out_after_an_ordered_stop(
    story: Story, autojump_clock: MockClock
) -> None:
    async def interrupted(ctx: Context[Any]) -> None:
        ctx.ready()
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(1)

    inner = Supervisor("inner", [ChildSpec("b", lambda: interrupted)])
    root = Supervisor("root", [_steady("a"), inner, _steady("c")])
    events = root.events.subscribe()
    with pytest.raises(KeyboardInterrupt):
        await root.run()
    assert story(events)[-6:] == [
        "root/inner/b#1 exited",
        "root/inner#1 exited",
        "root/c#1 stopping",
        "root/c#1 stopped",
        "root/a#1 stopping",
        "root/a#1 stopped",
    ]


# Nesting.


async def test_nested_supervisors_share_the_path_and_the_event_stream(
    story: Story, autojump_clock: MockClock
) -> None:
    connection = ChildSpec("connection", lambda: steady)
    feeds = Supervisor("feeds", [ChildSpec("feed-0", lambda: Supervisor("any name", [connection]))])
    core = Supervisor("core", [feeds])
    bus = EventBus()
    root = Supervisor("root", [core], events=bus)
    events = bus.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert (feeds.path, feeds.name, feeds.events) == ("root/core/feeds", "feeds", bus)
        lines = story(events)
        assert "root/core/feeds/feed-0/connection#1 started" in lines
        assert lines[-1] == "root/core#1 started"
        node = root.tree()
        ids = [node.id]
        while node.children:
            (node,) = node.children
            assert node.state is ChildState.RUNNING
            ids.append(node.id)
        assert ids == ["root", "core", "feeds", "feed-0", "connection"]
        assert (node.is_supervisor, node.path) == (
            False,
            "root/core/feeds/feed-0/connection",
        )
        counts = root.count()
        assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (1, 1, 1, 0)
        root.stop()
    assert not bus.closed


async def test_escalation_of_a_nested_supervisor_is_the_crash_of_a_child(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    made: list[Supervisor] = []

    def factory() -> Supervisor:
        made.append(Supervisor("x", [puppet_spec("w")], intensity=Intensity(limit=0)))
        return made[-1]

    root = Supervisor("root", [ChildSpec("inner", factory)], intensity=Intensity(limit=1))
    events = root.events.subscribe()
    raised: list[SupervisorEscalation] = []
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[None]) -> None:
            try:
                await root.run(task_status=task_status)
            except SupervisorEscalation as error:
                raised.append(error)

        await nursery.start(run)
        await made[0].address("w").send(BOOM)
        await wait_all_tasks_blocked()
        assert incarnations(root) == {"inner": 2}
        await made[1].address("w").send(BOOM)
    lines = story(events)
    assert "root/inner#1 escalated" in lines
    assert lines[-1] == "root#1 escalated"
    assert raised[0].reason.types == ("SupervisorEscalation",)
    assert "root/inner gave up: child w" in str(raised[0])
    assert "ValueError: boom" in str(raised[0])


async def test_escalation_of_a_nested_supervisor_can_be_expected(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    made: list[Supervisor] = []

    def factory() -> Supervisor:
        made.append(Supervisor("x", [puppet_spec("w")], intensity=Intensity(limit=0)))
        return made[-1]

    spec: ChildSpec[Any] = ChildSpec("inner", factory, expected=(SupervisorEscalation,))
    root = Supervisor("root", [spec], intensity=Intensity(limit=0))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for _ in range(5):
            await made[-1].address("w").send(BOOM)
            await wait_all_tasks_blocked()
        assert incarnations(root) == {"inner": 6}
        root.stop()


async def test_failing_instance_exhausts_its_supervisor_at_once(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    inner = Supervisor("inner", [puppet_spec("w")], intensity=Intensity(limit=0))
    inner.address("w").send_nowait(BOOM)
    with pytest.raises(SupervisorEscalation, match="root/inner, a supervisor instance"):
        await Supervisor("root", [inner], intensity=MANY).run()


async def test_group_that_holds_an_instance_cannot_restart(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [puppet_spec("a"), Supervisor("inner")],
        strategy=Strategy.REST_FOR_ONE,
        intensity=MANY,
    )
    root.address("a").send_nowait(BOOM)
    with pytest.raises(SupervisorEscalation, match="root/inner, a supervisor instance"):
        await root.run()


async def test_instance_that_was_stopped_by_itself_stays_down(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    inner = Supervisor("inner", [puppet_spec("w")])
    root = Supervisor("root", [inner])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        inner.stop()
        await wait_all_tasks_blocked()
        assert states(root) == {"inner": "stopped"}
        root.stop()


async def test_start_failure_below_names_the_whole_path(autojump_clock: MockClock) -> None:
    inner = Supervisor("inner", [ChildSpec("w", lambda: broken)])
    with pytest.raises(StartFailed, match=r"root/inner .*root/inner/w .*boom"):
        await Supervisor("root", [inner]).run()


async def test_nested_supervisor_has_all_of_its_own_deadline_to_stop(
    autojump_clock: MockClock,
) -> None:
    async def slow_to_stop(ctx: Context[Any]) -> None:
        await steady(ctx)
        await trio.sleep(15)

    worker = ChildSpec("w", lambda: slow_to_stop, shutdown=Shutdown(grace=20))
    root = Supervisor("root", [ChildSpec("inner", lambda: Supervisor("x", [worker]))])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    assert trio.current_time() == 15
    assert "killed" not in [event.kind async for event in events]


async def test_nested_supervisor_told_to_stop_before_it_was_made_does_not_start(
    autojump_clock: MockClock,
) -> None:
    worker = _steady("w")
    root = Supervisor("root", [ChildSpec("inner", lambda: Supervisor("x", [worker]))])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        while root.children()[0].incarnation == 0:
            await trio.lowlevel.checkpoint()
        root.stop()
    paths = {event.path async for event in events}
    assert "root/inner" in paths
