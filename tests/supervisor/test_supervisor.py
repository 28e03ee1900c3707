"""Start, readiness, restart types, strategies, stop: what the specification of a tree promises."""

import math
import signal
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import trio
from polysupervisor import (
    Backoff,
    ChildSpec,
    ChildState,
    Context,
    EventBus,
    ExitKind,
    Intensity,
    MailboxSpec,
    NotFound,
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
from trio.testing import MockClock, wait_all_tasks_blocked

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
        with pytest.raises(StartFailed, match="root/a failed to start: .*ValueError: boom"):
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
    with pytest.raises(StartFailed, match=r"not ready within 3 s; ValueError: boom") as caught:
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


def _steady(child_id: str) -> ChildSpec[Any]:
    return ChildSpec(child_id, lambda: steady)


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


# Restart types.


@pytest.mark.parametrize(
    ("restart", "order", "after"),
    [
        (Restart.PERMANENT, BOOM, {"a": "running"}),
        (Restart.PERMANENT, None, {"a": "running"}),
        (Restart.TRANSIENT, BOOM, {"a": "running"}),
        (Restart.TRANSIENT, None, {"a": "stopped"}),
        (Restart.TEMPORARY, BOOM, {}),
        (Restart.TEMPORARY, None, {}),
    ],
)
async def test_restart_type_decides_after_crash_and_return(
    restart: Restart,
    order: Exception | None,
    after: dict[str, str],
    puppet_spec: Spec,
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [puppet_spec("a", restart=restart)])
    address = root.address("a")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await address.send(order)
        await wait_all_tasks_blocked()
        assert states(root) == after
        if after == {"a": "running"}:
            assert incarnations(root) == {"a": 2}
        else:
            with pytest.raises(trio.BrokenResourceError):
                await address.send(None)
        root.stop()


async def test_next_incarnation_learns_how_the_last_one_ended(autojump_clock: MockClock) -> None:
    seen: list[Any] = []

    async def actor(ctx: Context[Any]) -> None:
        seen.append((ctx.id, ctx.path, ctx.incarnation, ctx.last_exit))
        ctx.ready()
        if ctx.incarnation == 1:
            raise BOOM
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("a", lambda: actor)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        root.stop()
    assert seen[0] == ("a", "root/a", 1, None)
    assert seen[1][2] == 2
    assert (seen[1][3].kind, seen[1][3].summary) == (ExitKind.CRASH, "ValueError: boom")


# Strategies.

STRATEGIES = [
    (Strategy.ONE_FOR_ONE, {"a": 1, "b": 2, "c": 1}, []),
    (
        Strategy.ONE_FOR_ALL,
        {"a": 2, "b": 2, "c": 2},
        ["root/c#1 stopping", "root/c#1 stopped", "root/a#1 stopping", "root/a#1 stopped"],
    ),
    (
        Strategy.REST_FOR_ONE,
        {"a": 1, "b": 2, "c": 2},
        ["root/c#1 stopping", "root/c#1 stopped"],
    ),
]


@pytest.mark.parametrize(("strategy", "after", "stops"), STRATEGIES)
async def test_strategy_decides_who_stops_in_reverse_and_starts_in_order(
    strategy: Strategy,
    after: dict[str, int],
    stops: list[str],
    puppet_spec: Spec,
    story: Story,
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [puppet_spec(each) for each in "abc"], strategy=strategy)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        story(events)
        await root.address("b").send(BOOM)
        await wait_all_tasks_blocked()
        assert incarnations(root) == after
        lines = story(events)
        root.stop()
    starts = [
        f"root/{each}#2 {kind}"
        for each in "abc"
        if after[each] == 2
        for kind in ("starting", "started")
    ]
    assert lines == ["root/b#1 exited", *stops, "root/b#1 restart_scheduled", *starts]


async def test_group_start_brings_back_finished_transients_and_not_temporaries(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("a"),
            puppet_spec("b", restart=Restart.TRANSIENT),
            puppet_spec("c", restart=Restart.TEMPORARY),
            puppet_spec("d"),
        ],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("b").send(None)
        await wait_all_tasks_blocked()
        assert states(root)["b"] == "stopped"
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        assert incarnations(root) == {"a": 2, "b": 2, "d": 2}
        assert set(states(root).values()) == {"running"}
        root.stop()


async def test_group_waits_out_the_backoff_of_the_child_that_failed(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    backoff = Backoff(min=4, max=4, jitter=0)
    root = Supervisor(
        "root",
        [puppet_spec("a"), puppet_spec("b", backoff=backoff)],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("b").send(BOOM)
        await wait_all_tasks_blocked()
        assert states(root) == {"a": "waiting", "b": "restarting"}
        assert root.children()[1].due == 4
        await trio.sleep(3.9)
        assert incarnations(root) == {"a": 1, "b": 1}
        await trio.sleep(0.2)
        assert incarnations(root) == {"a": 2, "b": 2}
        root.stop()


async def test_failure_of_an_earlier_sibling_does_not_cut_a_backoff_short(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("a", backoff=Backoff(min=1, max=1, jitter=0)),
            puppet_spec("b", backoff=Backoff(min=10, max=10, jitter=0)),
        ],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("b").send(BOOM)
        await trio.sleep(2)
        await root.address("a").send(BOOM)
        await trio.sleep(1.5)
        assert states(root) == {"a": "running", "b": "waiting"}
        await trio.sleep(6)
        assert states(root) == {"a": "running", "b": "waiting"}
        await trio.sleep(1)
        assert states(root) == {"a": "running", "b": "running"}
        root.stop()


async def test_member_that_fails_to_start_makes_its_own_decision(
    story: Story, autojump_clock: MockClock
) -> None:
    async def flaky(ctx: Context[Any]) -> None:
        if ctx.incarnation == 2:
            raise BOOM
        await steady(ctx)

    async def fails_once(ctx: Context[Any]) -> None:
        ctx.ready()
        if ctx.incarnation == 1:
            await trio.sleep(1)
            raise BOOM
        await ctx.stop_requested.wait()

    specs = [
        ChildSpec("a", lambda: fails_once),
        ChildSpec("b", lambda: flaky),
        ChildSpec("c", lambda: steady),
    ]
    root = Supervisor("root", specs, strategy=Strategy.REST_FOR_ONE)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await trio.sleep(2)
        root.stop()
        lines = story(events)
    assert lines[-8:] == [
        "root/a#2 starting",
        "root/a#2 started",
        "root/b#2 starting",
        "root/b#2 start_failed",
        "root/b#2 restart_scheduled",
        "root/b#3 starting",
        "root/b#3 started",
        "root/c#2 starting",
    ] or lines[-2:] == ["root/c#2 starting", "root/c#2 started"]
    assert incarnations(root) == {"a": 2, "b": 3, "c": 2}


async def test_member_that_crashes_while_its_group_stops_is_only_a_bystander(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    async def slow_to_stop(ctx: Context[Any]) -> None:
        await steady(ctx)
        await trio.sleep(2)

    root = Supervisor(
        "root",
        [puppet_spec("a"), puppet_spec("b"), ChildSpec("c", lambda: slow_to_stop)],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(limit=1),
    )
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await trio.sleep(1)
        assert states(root) == {"a": "waiting", "b": "running", "c": "stopping"}
        await root.address("b").send(BOOM)
        await trio.sleep(2)
        assert incarnations(root) == {"a": 2, "b": 2, "c": 2}
        assert "root/b#1 exited" in story(events)
        root.stop()


async def test_earlier_sibling_that_fails_while_a_group_stops_takes_the_plan_over(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    async def slow_to_stop(ctx: Context[Any]) -> None:
        await steady(ctx)
        await trio.sleep(2)

    specs = [puppet_spec("a"), puppet_spec("b"), ChildSpec("c", lambda: slow_to_stop)]
    root = Supervisor("root", specs, strategy=Strategy.REST_FOR_ONE)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        story(events)
        await root.address("b").send(BOOM)
        await trio.sleep(1)
        await root.address("a").send(BOOM)
        await trio.sleep(3)
        assert incarnations(root) == {"a": 2, "b": 2, "c": 2}
        assert story(events) == [
            "root/b#1 exited",
            "root/c#1 stopping",
            "root/a#1 exited",
            "root/c#1 stopped",
            "root/a#1 restart_scheduled",
            "root/b#1 restart_scheduled",
            "root/a#2 starting",
            "root/a#2 started",
            "root/b#2 starting",
            "root/b#2 started",
            "root/c#2 starting",
            "root/c#2 started",
        ]
        root.stop()


# Intensity and escalation.


async def test_more_than_limit_restarts_escalate_with_the_causes_as_text(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root", [puppet_spec("a"), puppet_spec("b")], intensity=Intensity(limit=1, period=10)
    )
    events = root.events.subscribe()
    with pytest.raises(SupervisorEscalation) as caught:  # noqa: PT012 - the tree is the subject
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_crash_every, root, "a", 1.0)
            try:
                await root.run()
            except SupervisorEscalation as error:
                escalation = error
            nursery.cancel_scope.cancel()
        raise escalation
    assert str(caught.value) == (
        "root gave up: child a needed more than 1 restarts within 10 s; "
        "last exit: crash (ValueError: boom)"
    )
    assert (caught.value.path, caught.value.child) == ("root", "a")
    assert caught.value.reason.kind is ExitKind.CRASH
    assert story(events)[-5:] == [
        "root/a#2 exited",
        "root/a#2 intensity",
        "root#1 escalated",
        "root/b#1 stopping",
        "root/b#1 stopped",
    ]


async def _crash_every(supervisor: Supervisor, child_id: str, seconds: float) -> None:
    address = supervisor.address(child_id)
    while True:
        await trio.sleep(seconds)
        await address.send(BOOM)


async def test_restarts_spread_wider_than_the_period_go_on_for_ever(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a")], intensity=Intensity(limit=2, period=10))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        nursery.start_soon(_crash_every, root, "a", 6)
        await trio.sleep(600.5)
        assert incarnations(root) == {"a": 101}
        root.stop()
        nursery.cancel_scope.cancel()


async def test_expected_failures_back_off_and_spend_no_intensity(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    backoff = Backoff(min=1, max=8, jitter=0)
    spec = puppet_spec("a", expected=(OSError,), backoff=backoff)
    root = Supervisor("root", [spec], intensity=Intensity(limit=0))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for _ in range(6):
            await root.address("a").send(ConnectionError("no network"))
            await trio.sleep(10)
        root.stop()
    delays = [event.delay async for event in events if event.kind == "restart_scheduled"]
    assert delays == [1, 2, 4, 8, 8, 8]


async def test_one_unexpected_leaf_makes_a_group_unexpected(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    group = ExceptionGroup("two", [OSError(), ValueError()])
    spec = puppet_spec("a", expected=(OSError,))
    root = Supervisor("root", [spec], intensity=Intensity(limit=0))
    root.address("a").send_nowait(group)
    with pytest.raises(SupervisorEscalation) as caught:
        await root.run()
    assert caught.value.reason.types == ("OSError", "ValueError")


async def test_giving_up_leaves_the_child_down_and_the_others_alone(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    intensity = Intensity(limit=1, scope="child", on_exhausted="give_up")
    root = Supervisor("root", [puppet_spec("a"), puppet_spec("b")], intensity=intensity)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for child in ("a", "b", "a"):
            await root.address(child).send(BOOM)
            await wait_all_tasks_blocked()
        assert states(root) == {"a": "gave_up", "b": "running"}
        assert story(events)[-2:] == ["root/a#2 intensity", "root/a#2 gave_up"]
        with pytest.raises(trio.BrokenResourceError):
            await root.address("a").send(None)
        root.stop()
    assert states(root) == {"a": "gave_up", "b": "stopped"}


async def test_giving_up_in_a_group_stops_the_group_and_leaves_it_down(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [puppet_spec(each) for each in "abcd"],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(limit=0, on_exhausted="give_up"),
    )
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("d").send(BOOM)
        await wait_all_tasks_blocked()
        await root.address("b").send(BOOM)
        await wait_all_tasks_blocked()
        assert states(root) == {"a": "running", "b": "gave_up", "c": "stopped", "d": "gave_up"}
        assert story(events)[-4:] == [
            "root/b#1 intensity",
            "root/b#1 gave_up",
            "root/c#1 stopping",
            "root/c#1 stopped",
        ]
        root.stop()


async def test_giving_up_during_a_group_start_leaves_the_waiting_members_down(
    autojump_clock: MockClock,
) -> None:
    async def breaks(ctx: Context[Any]) -> None:
        if ctx.incarnation > 1:
            raise BOOM
        ctx.ready()
        await trio.sleep(1)
        raise BOOM

    root = Supervisor(
        "root",
        [_steady("a"), ChildSpec("b", lambda: breaks), _steady("c")],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(limit=1, on_exhausted="give_up"),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await trio.sleep(2)
        assert states(root) == {"a": "running", "b": "gave_up", "c": "stopped"}
        root.stop()


async def test_too_many_attempts_in_a_row_exhaust_even_if_expected(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    spec = puppet_spec("a", expected=(ValueError,), backoff=Backoff(min=0, max=0, max_attempts=2))
    root = Supervisor("root", [spec])
    for _ in range(3):
        root.address("a").send_nowait(BOOM)
    with pytest.raises(SupervisorEscalation, match="failed 3 times in a row"):
        await root.run()


# Backoff.


async def test_attempts_start_anew_after_the_child_was_ready_for_long(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    backoff = Backoff(min=1, max=30, jitter=0, reset_after=20)
    root = Supervisor("root", [puppet_spec("a", backoff=backoff)], intensity=MANY)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for pause in (0.0, 19.5, 20.0, 19.5):
            await trio.sleep(pause)
            attempt = root.children()[0].attempt
            await root.address("a").send(BOOM)
            await trio.sleep(1)
            await trio.sleep(root.children()[0].due is not None)
        root.stop()
    assert attempt == 1
    found = [
        (event.delay, event.attempt) async for event in events if event.kind == "restart_scheduled"
    ]
    assert found == [(1, 1), (2, 2), (1, 1), (2, 2)]


async def test_actor_that_declares_itself_healthy_starts_anew(autojump_clock: MockClock) -> None:
    async def actor(ctx: Context[str]) -> None:
        async for order in ctx.inbox:
            if order == "healthy":
                ctx.reset_backoff()
            else:
                raise BOOM

    backoff = Backoff(min=1, max=30, jitter=0, reset_after=math.inf)
    spec = ChildSpec("a", lambda: actor, backoff=backoff, mailbox=MailboxSpec())
    root = Supervisor("root", [spec], intensity=MANY)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for order in ("crash", "crash", "healthy", "crash"):
            await root.address("a").send(order)
            await trio.sleep(1000)
            if order == "healthy":
                assert root.children()[0].attempt == 0
        root.stop()
    delays = [event.delay async for event in events if event.kind == "restart_scheduled"]
    assert delays == [1, 2, 1]


async def test_same_seed_makes_the_same_jitter_in_the_whole_tree(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    async def delays(seed: int, own: Random | None = None) -> list[float | None]:
        inner = Supervisor("inner", [puppet_spec("a", backoff=Backoff())], rng=own)
        root = Supervisor("root", [inner], rng=Random(seed))
        events = root.events.subscribe()
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            for _ in range(3):
                await inner.address("a").send(BOOM)
                await trio.sleep(60)
            root.stop()
        return [event.delay async for event in events if event.kind == "restart_scheduled"]

    first = await delays(7)
    assert first == await delays(7)
    assert first != await delays(8)
    assert await delays(7, Random(9)) == await delays(8, Random(9)) != first


async def test_children_answers_while_a_child_hangs_in_a_restart_loop(
    autojump_clock: MockClock,
) -> None:
    async def hangs(ctx: Context[Any]) -> None:
        if ctx.incarnation > 1:
            await trio.sleep_forever()
        ctx.ready()
        raise BOOM

    spec = ChildSpec(
        "a", lambda: hangs, start_timeout=5, shutdown=Shutdown(grace=1), backoff=Backoff()
    )
    root = Supervisor("root", [spec, _steady("b")], intensity=MANY)
    seen: set[str] = set()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for _ in range(200):
            await trio.sleep(0.5)
            before = trio.current_time()
            seen.add(states(root)["a"])
            root.tree()
            root.count()
            assert trio.current_time() == before
        assert states(root)["b"] == "running"
        root.stop()
    assert {"starting", "stopping", "restarting"} <= seen


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
    assert story(events) == ["root/b#1 stopped"] or states(root)["b"] == "stopped"


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

    spec = ChildSpec("inner", factory, expected=(SupervisorEscalation,))
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


# Mailboxes across restarts.


async def test_queued_messages_survive_a_restart_and_the_one_in_hand_is_reported(
    story: Story, autojump_clock: MockClock
) -> None:
    got: list[tuple[int, int]] = []

    async def actor(ctx: Context[int]) -> None:
        async for message in ctx.inbox:
            got.append((ctx.incarnation, message))
            if message == 2:
                raise BOOM

    root = Supervisor("root", [ChildSpec("a", lambda: actor, mailbox=MailboxSpec())])
    address = root.address("a")
    events = root.events.subscribe()
    for number in range(5):
        address.send_nowait(number)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        root.stop()
    assert got == [(1, 0), (1, 1), (1, 2), (2, 3), (2, 4)]
    assert address.stats().lost_in_flight == 1
    kinds = [event.kind async for event in events]
    assert kinds.index("exited") + 1 == kinds.index("lost_in_flight")


async def test_mailbox_that_is_not_kept_is_emptied_when_the_incarnation_ends(
    autojump_clock: MockClock,
) -> None:
    got: list[int] = []

    async def actor(ctx: Context[int]) -> None:
        async for message in ctx.inbox:
            if message == 0:
                raise BOOM
            got.append(message)

    mailbox = MailboxSpec(keep_on_restart=False)
    backoff = Backoff(min=5, max=5)
    spec = ChildSpec("a", lambda: actor, mailbox=mailbox, backoff=backoff)
    root = Supervisor("root", [spec])
    address = root.address("a")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for number in (0, 1, 2):
            await address.send(number)
        await trio.sleep(1)
        assert (address.stats().dropped, address.stats().depth) == (2, 0)
        await address.send(3)
        await trio.sleep(10)
        assert got == [3]
        root.stop()


async def test_what_a_stopping_group_still_sends_is_not_heard_by_the_next_incarnation(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    got: list[str] = []

    async def parser(ctx: Context[str]) -> None:
        async for message in ctx.inbox:
            got.append(message)

    async def connection(ctx: Context[Any]) -> None:
        ctx.ready()
        await target.send(f"frame of {ctx.incarnation}")
        await ctx.stop_requested.wait()
        await target.send(f"last words of {ctx.incarnation}")

    root = Supervisor(
        "root",
        [
            puppet_spec("a"),
            ChildSpec("connection", lambda: connection),
            ChildSpec("parser", lambda: parser, mailbox=MailboxSpec(keep_on_restart=False)),
        ],
        strategy=Strategy.REST_FOR_ONE,
    )
    target = root.address("parser")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        assert got == ["frame of 1", "frame of 2"]
        assert target.stats().dropped == 1
        root.stop()


async def test_end_releases_senders_and_counts_what_nobody_read(autojump_clock: MockClock) -> None:
    spec = ChildSpec("a", lambda: steady, mailbox=MailboxSpec(size=1))
    root = Supervisor("root", [spec])
    address = root.address("a")
    released: list[str] = []

    async def send() -> None:
        try:
            await address.send("second")
        except trio.BrokenResourceError:
            released.append("second")

    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await address.send("first")
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        root.stop()
    assert released == ["second"]
    assert (address.stats().dropped, address.stats().depth) == (1, 0)


def test_address_of_an_unknown_child_is_an_error() -> None:
    with pytest.raises(NotFound, match="root has no child of the id 'a'"):
        Supervisor("root").address("a")


async def test_own_event_stream_ends_with_the_root(autojump_clock: MockClock) -> None:
    root = Supervisor("root", [_steady("a")])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    assert [event.seq async for event in events] == [1, 2, 3, 4]
