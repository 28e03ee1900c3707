"""Commands to a running supervisor, and what can be seen of it."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    AlreadyPresent,
    AlreadyRunning,
    Backoff,
    ChildSpec,
    Context,
    ExitKind,
    Intensity,
    MailboxSpec,
    NotFound,
    NotRunning,
    Restart,
    Restarting,
    Shutdown,
    StartFailed,
    Strategy,
    Subscription,
    SupervisionError,
    Supervisor,
)

Spec = Callable[..., ChildSpec[Any]]
Story = Callable[[Subscription], list[str]]
BOOM = ValueError("boom")


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.id: child.state.value for child in supervisor.children()}


def incarnations(supervisor: Supervisor) -> dict[str, int]:
    return {child.id: child.incarnation for child in supervisor.children()}


async def steady(ctx: Context[Any]) -> None:
    ctx.ready("value of ready")
    await ctx.stop_requested.wait()


async def slow_to_stop(ctx: Context[Any]) -> None:
    await steady(ctx)
    await trio.sleep(2)


async def broken(ctx: Context[Any]) -> None:
    raise BOOM


async def silent(ctx: Context[Any]) -> None:
    await trio.sleep_forever()


# start_child


async def test_started_child_is_the_last_and_is_ready_when_the_command_returns(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [ChildSpec("a", lambda: steady)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        started = await root.start_child(ChildSpec("b", lambda: steady, mailbox=MailboxSpec()))
        assert (started.id, started.path, started.incarnation) == ("b", "root/b", 1)
        assert started.value == "value of ready"
        assert started.address is root.address("b")
        assert states(root) == {"a": "running", "b": "running"}
        root.stop()


async def test_start_that_fails_is_raised_forgotten_and_not_retried(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        with pytest.raises(StartFailed, match=r"root/a .*boom"):
            await root.start_child(ChildSpec("a", lambda: broken))
        late = ChildSpec("b", lambda: silent, start_timeout=2, shutdown=Shutdown(grace=1))
        with pytest.raises(StartFailed) as caught:
            await root.start_child(late)
        assert caught.value.reason.kind is ExitKind.START_TIMEOUT
        assert trio.current_time() == 3
        assert root.children() == []
        root.stop()


async def test_id_in_use_is_refused(puppet_spec: Spec, autojump_clock: MockClock) -> None:
    root = Supervisor("root", [puppet_spec("a")])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        with pytest.raises(AlreadyRunning, match="root/a is running"):
            await root.start_child(puppet_spec("a"))
        await root.stop_child("a")
        with pytest.raises(AlreadyPresent, match="root/a is stopped"):
            await root.start_child(puppet_spec("a"))
        root.stop()


async def test_child_started_while_its_group_restarts_waits_for_its_turn(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [puppet_spec("a", backoff=Backoff(min=5, max=5, jitter=0)), puppet_spec("b")],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        nursery.start_soon(root.start_child, puppet_spec("c"))
        await trio.sleep(1)
        assert states(root) == {"a": "restarting", "b": "waiting", "c": "waiting"}
        await trio.sleep(5)
        assert incarnations(root) == {"a": 2, "b": 2, "c": 1}
        root.stop()


async def test_child_may_start_siblings_before_it_is_ready(autojump_clock: MockClock) -> None:
    async def parent(ctx: Context[Any]) -> None:
        if ctx.incarnation == 2:
            await root.start_child(ChildSpec("b", lambda: steady))
            await steady(ctx)
        ctx.ready()
        raise BOOM

    root = Supervisor("root", [ChildSpec("a", lambda: parent)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        assert states(root) == {"a": "running", "b": "running"}
        root.stop()


async def test_cancelled_caller_leaves_the_child_to_its_start(autojump_clock: MockClock) -> None:
    async def slow(ctx: Context[Any]) -> None:
        await trio.sleep(2)
        await steady(ctx)

    root = Supervisor("root")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        with trio.move_on_after(1):
            await root.start_child(ChildSpec("a", lambda: slow))
        assert states(root) == {"a": "starting"}
        await trio.sleep(2)
        assert states(root) == {"a": "running"}
        root.stop()


# stop_child and delete_child


async def test_stopped_child_stays_present_until_it_is_deleted(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a"), puppet_spec("b")], strategy=Strategy.ONE_FOR_ALL)
    address = root.address("a")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        with pytest.raises(AlreadyRunning, match="root/a is running"):
            await root.delete_child("a")
        await root.stop_child("a")
        await root.stop_child("a")
        assert states(root) == {"a": "stopped", "b": "running"}
        with pytest.raises(trio.BrokenResourceError):
            await address.send(None)
        await root.delete_child("a")
        assert states(root) == {"b": "running"}
        for command in (root.stop_child, root.delete_child, root.restart_child):
            with pytest.raises(NotFound):
                await command("a")
        root.stop()


async def test_stopping_a_temporary_child_forgets_it(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a", restart=Restart.TEMPORARY)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.stop_child("a")
        assert root.children() == []
        root.stop()


async def test_stop_child_ends_a_restart_loop(puppet_spec: Spec, autojump_clock: MockClock) -> None:
    root = Supervisor("root", [puppet_spec("a", backoff=Backoff(min=5, max=5))])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        with pytest.raises(Restarting, match="root/a is restarting"):
            await root.delete_child("a")
        with pytest.raises(AlreadyPresent):
            await root.start_child(puppet_spec("a"))
        await root.stop_child("a")
        await trio.sleep(20)
        assert (states(root), incarnations(root)) == ({"a": "stopped"}, {"a": 1})
        assert root.children()[0].due is None
        root.stop()


async def test_group_goes_on_without_a_member_that_was_stopped_while_it_waited(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("a", backoff=Backoff(min=5, max=5, jitter=0)),
            puppet_spec("b"),
            puppet_spec("c", restart=Restart.TEMPORARY),
            puppet_spec("d"),
        ],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        with pytest.raises(Restarting, match="root/b is waiting"):
            await root.restart_child("b", force=True)
        await root.stop_child("b")
        await trio.sleep(6)
        assert states(root) == {"a": "running", "b": "stopped", "d": "running"}
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        await root.stop_child("a")
        await trio.sleep(6)
        # What a restart of its group was waiting for is gone, so the group stays down (as in OTP).
        assert states(root) == {"a": "stopped", "b": "stopped", "d": "stopped"}
        root.stop()


async def test_group_stays_down_when_its_leader_is_stopped_while_it_still_stops(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    specs = [
        puppet_spec("a"),
        puppet_spec("b"),
        ChildSpec[Any]("slow", lambda: slow_to_stop),
        puppet_spec("c"),
    ]
    root = Supervisor("root", specs, strategy=Strategy.REST_FOR_ONE)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        assert states(root) == {"a": "waiting", "b": "running", "slow": "stopping", "c": "waiting"}
        await root.stop_child("a")
        await trio.sleep(60)
        assert set(states(root).values()) == {"stopped"}
        root.stop()


async def test_two_callers_may_stop_the_same_child(autojump_clock: MockClock) -> None:
    root = Supervisor("root", [ChildSpec("a", lambda: slow_to_stop)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        async with trio.open_nursery() as callers:
            callers.start_soon(root.stop_child, "a")
            callers.start_soon(root.stop_child, "a")
            await trio.sleep(1)
            with pytest.raises(AlreadyRunning, match="root/a is stopping"):
                await root.restart_child("a", force=True)
        assert trio.current_time() == 2
        root.stop()


async def test_child_stopped_by_command_while_its_group_stops_stays_down(
    autojump_clock: MockClock, puppet_spec: Spec
) -> None:
    root = Supervisor(
        "root",
        [puppet_spec("a"), ChildSpec("b", lambda: slow_to_stop)],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await trio.sleep(1)
        await root.stop_child("b")
        await wait_all_tasks_blocked()
        assert states(root) == {"a": "running", "b": "stopped"}
        nursery.start_soon(root.restart_child, "b")
        await wait_all_tasks_blocked()
        nursery.start_soon(root.stop_child, "b")
        await wait_all_tasks_blocked()
        await root.address("a").send(BOOM)
        await trio.sleep(3)
        assert states(root) == {"a": "running", "b": "stopped"}
        root.stop()


# restart_child


async def test_restart_child_brings_a_stopped_child_back_with_its_address(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a")])
    address = root.address("a")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        with pytest.raises(AlreadyRunning):
            await root.restart_child("a")
        await root.stop_child("a")
        started = await root.restart_child("a")
        assert started.incarnation == 2
        await address.send(None)
        root.stop()


async def test_forced_restart_stops_first_and_touches_no_sibling(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [puppet_spec("a", restart=Restart.TEMPORARY), puppet_spec("b")],
        strategy=Strategy.ONE_FOR_ALL,
        intensity=Intensity(limit=0),
    )
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        story(events)
        assert (await root.restart_child("a", force=True)).incarnation == 2
        assert story(events) == [
            "root/a#1 stopping",
            "root/a#1 stopped",
            "root/a#2 starting",
            "root/a#2 started",
        ]
        root.stop()


async def test_forced_restart_does_not_wait_out_the_backoff(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    backoff = Backoff(min=100, max=1000, jitter=0)
    for strategy in Strategy:
        root = Supervisor("root", [puppet_spec("a", backoff=backoff)], strategy=strategy)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            await root.address("a").send(BOOM)
            await wait_all_tasks_blocked()
            with pytest.raises(Restarting):
                await root.restart_child("a")
            await root.restart_child("a", force=True)
            assert root.children()[0].attempt == 1
            await root.address("a").send(BOOM)
            await wait_all_tasks_blocked()
            await root.restart_child("a", force=True, reset_backoff=True)
            assert root.children()[0].attempt == 0
            assert incarnations(root) == {"a": 3}
            root.stop()
        assert trio.current_time() == began


async def test_forced_restart_of_a_later_failure_waits_for_the_earlier_one(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    backoff = Backoff(min=5, max=5, jitter=0)
    root = Supervisor(
        "root",
        [
            puppet_spec("a", backoff=backoff),
            ChildSpec("b", lambda: _slow_crasher),
            ChildSpec("c", lambda: slow_to_stop),
        ],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await trio.sleep(1.5)  # b has crashed, c is stopping
        await root.address("a").send(BOOM)
        await trio.sleep(2)
        assert states(root) == {"a": "restarting", "b": "restarting", "c": "waiting"}
        with trio.move_on_after(1):
            await root.restart_child("b", force=True)
        assert states(root)["b"] == "restarting"
        await trio.sleep(6)
        assert set(states(root).values()) == {"running"}
        root.stop()


async def _slow_crasher(ctx: Context[Any]) -> None:
    ctx.ready()
    if ctx.incarnation == 1:
        await trio.sleep(1)
        raise BOOM
    await ctx.stop_requested.wait()


async def test_child_that_was_given_up_comes_back_with_a_clean_slate(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    intensity = Intensity(limit=1, scope="child", on_exhausted="give_up")
    root = Supervisor("root", [puppet_spec("a")], intensity=intensity)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for _ in range(3):
            for _ in range(2):
                await root.address("a").send(BOOM)
                await wait_all_tasks_blocked()
            assert states(root) == {"a": "gave_up"}
            await root.restart_child("a", reset_backoff=True)
        root.stop()


async def test_failing_forced_restart_leaves_the_child_stopped(autojump_clock: MockClock) -> None:
    async def once(ctx: Context[Any]) -> None:
        if ctx.incarnation > 1:
            raise BOOM
        await steady(ctx)

    root = Supervisor("root", [ChildSpec("a", lambda: once)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        with pytest.raises(StartFailed, match="boom"):
            await root.restart_child("a", force=True)
        assert states(root) == {"a": "stopped"}
        root.stop()


async def test_forced_restart_overtaken_by_its_group_is_answered_by_the_group_start(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [puppet_spec("a"), ChildSpec("b", lambda: slow_to_stop)],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        started: list[int] = []

        async def restart() -> None:
            started.append((await root.restart_child("b", force=True)).incarnation)

        nursery.start_soon(restart)
        await trio.sleep(1)
        await root.address("a").send(BOOM)
        await trio.sleep(2)
        assert started == [2]
        assert incarnations(root) == {"a": 2, "b": 2}
        root.stop()


async def test_stop_child_refuses_the_restart_that_it_overtakes(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [ChildSpec("a", lambda: slow_to_stop)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)

        async def restart() -> None:
            with pytest.raises(StartFailed):
                await root.restart_child("a", force=True)

        nursery.start_soon(restart)
        await trio.sleep(1)
        await root.stop_child("a")
        assert states(root) == {"a": "stopped"}
        root.stop()


async def test_stopping_a_child_whose_turn_never_came_refuses_its_start(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [puppet_spec("a", backoff=Backoff(min=5, max=5))],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()

        async def start() -> None:
            with pytest.raises(StartFailed, match="it was stopped"):
                await root.start_child(puppet_spec("b"))

        nursery.start_soon(start)
        await wait_all_tasks_blocked()
        await root.stop_child("b")
        root.stop()


async def test_supervisor_instance_cannot_be_restarted_by_command(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [Supervisor("inner")])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.stop_child("inner")
        with pytest.raises(SupervisionError, match="runs once"):
            await root.restart_child("inner")
        root.stop()


# When commands are taken.


async def test_commands_are_refused_before_and_after_the_run(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a")])
    with pytest.raises(NotRunning, match="root is waiting"):
        await root.start_child(puppet_spec("b"))
    root.stop()
    await root.run()
    with pytest.raises(NotRunning, match="root is stopped"):
        await root.stop_child("a")


async def test_callers_are_answered_when_the_supervisor_stops(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [ChildSpec("a", lambda: slow_to_stop)])
    answers: list[str] = []

    async def call(command: Callable[[], Any]) -> None:
        try:
            await command()
            answers.append("done")
        except SupervisionError as error:
            answers.append(type(error).__name__)

    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        slow = ChildSpec("b", lambda: silent, shutdown=Shutdown(grace=1))
        nursery.start_soon(call, lambda: root.start_child(slow))
        nursery.start_soon(call, lambda: root.restart_child("a", force=True))
        await wait_all_tasks_blocked()
        nursery.start_soon(call, lambda: root.stop_child("a"))
        await wait_all_tasks_blocked()
        root.stop()
        nursery.start_soon(call, lambda: root.delete_child("a"))
    assert sorted(answers) == ["NotRunning", "StartFailed", "StartFailed", "done"]


async def test_command_behind_a_stop_is_refused(puppet_spec: Spec) -> None:
    root = Supervisor("root", [puppet_spec("a")])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
        with pytest.raises(NotRunning, match="root is stopping"):
            await root.stop_child("a")


# What can be seen.


async def test_counts_are_those_of_otp(puppet_spec: Spec, autojump_clock: MockClock) -> None:
    root = Supervisor("root", [puppet_spec("a"), puppet_spec("b"), Supervisor("c")])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.stop_child("a")
        counts = root.count()
        assert (counts.specs, counts.active) == (3, 2)
        assert (counts.supervisors, counts.workers) == (1, 2)
        root.stop()


def test_everything_can_be_looked_at_without_a_running_trio(puppet_spec: Spec) -> None:
    root = Supervisor("root", [puppet_spec("a"), Supervisor("inner", [puppet_spec("b")])])
    assert [child.state.value for child in root.children()] == ["waiting", "waiting"]
    assert [node.path for node in root.tree().children[1].children] == ["root/inner/b"]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            root.stop()

    trio.run(main)
    assert [child.state.value for child in root.children()] == ["stopped", "stopped"]
    assert root.tree().state == "stopped"
    assert root.address("a").stats().depth == 0


async def test_info_shows_when_the_state_was_entered_and_when_it_is_due(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a", backoff=Backoff(min=4, max=4, jitter=0))])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await trio.sleep(3)
        await root.address("a").send(BOOM)
        await trio.sleep(1)
        (info,) = root.children()
        assert (info.id, info.path, info.state.value) == ("a", "root/a", "restarting")
        assert (info.since, info.due, info.attempt, info.incarnation) == (3.0, 7.0, 1, 1)
        root.stop()
