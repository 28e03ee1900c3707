"""Calls in odd orders, and actors that misbehave oddly: found by a fuzzer and by reading."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    Backoff,
    ChildSpec,
    Context,
    ExitKind,
    MailboxSpec,
    NotFound,
    Reply,
    Restart,
    Restarting,
    Shutdown,
    Strategy,
    Subscription,
    Supervisor,
)

PuppetSpec = Callable[..., ChildSpec[Any]]
Story = Callable[[Subscription], list[str]]
BOOM = ValueError("boom")
LATER = Backoff(min=20, max=20, jitter=0)


def states(root: Supervisor) -> dict[str, str]:
    return {child.id: f"{child.state.value}#{child.incarnation}" for child in root.children()}


async def test_a_message_before_the_run_does_not_keep_it_from_starting(
    puppet_spec: PuppetSpec, autojump_clock: MockClock
) -> None:
    async def reader(ctx: Context[int]) -> None:
        async for _ in ctx.inbox:
            pass

    spec = ChildSpec("a", lambda: reader, mailbox=MailboxSpec(stall_after=5))
    root = Supervisor("root", [spec])
    root.address("a").send_nowait(1)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            root.stop()
    stopped = Supervisor("root", [puppet_spec("a")])
    stopped.stop()
    await stopped.run()
    assert states(stopped) == {"a": "stopped#0"}


async def test_a_cancellation_that_is_nobodys_is_the_crash_of_that_child_alone(
    puppet_spec: PuppetSpec, autojump_clock: MockClock
) -> None:
    kept: list[trio.Cancelled] = []

    async def keeper(ctx: Context[Any]) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept.append(error)
                raise
        ctx.ready()
        if ctx.incarnation == 1:
            raise kept[0]
        await ctx.stop_requested.wait()

    root = Supervisor("root", [puppet_spec("sibling"), ChildSpec("keeper", lambda: keeper)])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        assert states(root) == {"sibling": "running#1", "keeper": "running#2"}
        root.stop()
    exits = [event.reason async for event in events if event.kind == "exited"]
    assert [(exit_.kind, exit_.types) for exit_ in exits if exit_] == [
        (ExitKind.CRASH, ("Cancelled",))
    ]
    with pytest.raises(TypeError, match="refused by an Exception"):
        Reply[int]().fail(kept[0])  # type: ignore[arg-type]


async def test_a_member_of_a_group_is_not_started_out_of_its_turn(
    puppet_spec: PuppetSpec, autojump_clock: MockClock
) -> None:
    specs = [puppet_spec("b", backoff=LATER), puppet_spec("c"), puppet_spec("d")]
    root = Supervisor("root", specs, strategy=Strategy.REST_FOR_ONE)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("b").send(BOOM)
        await wait_all_tasks_blocked()
        await root.stop_child("d")
        begun = trio.current_time()
        started = await root.restart_child("d")
        assert (started.incarnation, trio.current_time() - begun) == (2, 20)
        assert states(root) == {"b": "running#2", "c": "running#2", "d": "running#2"}
        root.stop()


async def test_of_two_callers_that_start_one_child_the_second_is_refused(
    puppet_spec: PuppetSpec, autojump_clock: MockClock
) -> None:
    async def slow(ctx: Context[Any]) -> None:
        await trio.sleep(3)
        ctx.ready()
        await ctx.stop_requested.wait()

    specs = [ChildSpec[Any]("a", lambda: slow), puppet_spec("b", backoff=LATER)]
    root = Supervisor("root", specs, strategy=Strategy.ONE_FOR_ALL)
    answered: list[int] = []

    async def first() -> None:
        answered.append((await root.restart_child("b", force=True)).incarnation)

    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("b").send(BOOM)
        await wait_all_tasks_blocked()
        nursery.start_soon(first)
        await trio.sleep(1)
        with pytest.raises(Restarting, match="started by command already"):
            await root.restart_child("b", force=True)
        await trio.sleep(10)
        assert answered == [2]
        root.stop()


async def test_a_queue_that_is_not_kept_is_not_kept_by_a_command_either(
    autojump_clock: MockClock,
) -> None:
    heard: list[int] = []

    async def deaf_at_first(ctx: Context[int]) -> None:
        ctx.ready()
        if ctx.incarnation > 1:
            heard.extend([number async for number in ctx.inbox])
        await ctx.stop_requested.wait()

    box = MailboxSpec(keep_on_restart=False)
    root = Supervisor("root", [ChildSpec("a", lambda: deaf_at_first, mailbox=box)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.address("a").send_nowait(1)
        await root.stop_child("a")
        await root.restart_child("a")
        root.address("a").send_nowait(2)
        await wait_all_tasks_blocked()
        assert root.address("a").stats().dropped == 1
        root.stop()
    assert heard == [2]


async def test_what_is_no_id_and_no_exception_class_hurts_the_caller_alone(
    puppet_spec: PuppetSpec, autojump_clock: MockClock
) -> None:
    no_class: Any = ("OSError",)
    with pytest.raises(TypeError, match="expected holds classes of Exception"):
        puppet_spec("a", expected=no_class)
    odd = ValueError("odd")
    odd.__notes__ = None  # type: ignore[assignment]
    deep: Exception = ValueError("bottom")
    for _ in range(1500):
        members: list[Exception] = [deep]
        deep = ExceptionGroup("deeper", members)
    root = Supervisor("root", [puppet_spec("a")])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        no_id: Any = ["a"]
        with pytest.raises(NotFound):
            await root.stop_child(no_id)
        for number, error in enumerate((odd, deep), 2):
            await root.address("a").send(error)
            await wait_all_tasks_blocked()
            assert states(root) == {"a": f"running#{number}"}
        root.stop()


async def test_a_nested_supervisor_that_ends_in_order_while_it_starts_has_not_failed(
    puppet_spec: PuppetSpec, autojump_clock: MockClock
) -> None:
    async def brief(ctx: Context[Any]) -> None:
        ctx.ready()

    async def slow(ctx: Context[Any]) -> None:
        await trio.sleep(5)
        ctx.ready()

    once = ChildSpec[Any]("once", lambda: brief, restart=Restart.TRANSIENT, significant=True)
    inner = Supervisor("inner", [once, ChildSpec("slow", lambda: slow)], auto_shutdown="any")
    root = Supervisor("root", [inner, puppet_spec("a")])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert states(root) == {"inner": "stopped#1", "a": "running#1"}
        root.stop()


async def test_stopping_a_leader_that_is_up_again_leaves_its_group_alone(
    puppet_spec: PuppetSpec, autojump_clock: MockClock
) -> None:
    async def slow(ctx: Context[Any]) -> None:
        await trio.sleep(3)
        ctx.ready()
        await ctx.stop_requested.wait()

    specs = [puppet_spec("a"), ChildSpec[Any]("b", lambda: slow), puppet_spec("c")]
    root = Supervisor("root", specs, strategy=Strategy.REST_FOR_ONE)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        assert states(root) == {"a": "running#2", "b": "starting#2", "c": "waiting#1"}
        await root.stop_child("a")
        await trio.sleep(10)
        assert states(root) == {"a": "stopped#2", "b": "running#2", "c": "running#2"}
        root.stop()


async def test_a_cancelled_nested_supervisor_has_the_time_that_its_children_have(
    puppet_spec: PuppetSpec, autojump_clock: MockClock, story: Story
) -> None:
    async def tidy(ctx: Context[Any]) -> None:
        ctx.ready()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(4)

    children = [ChildSpec[Any](name, lambda: tidy) for name in "xy"]
    root = Supervisor("root", [puppet_spec("a"), Supervisor("n", children)])
    events = root.events.subscribe()
    with trio.move_on_after(1):
        await root.run()
    ends = [line for line in story(events) if line.endswith(("killed", "wedged", "stopped"))]
    assert ends == ["root/n/y#1 killed", "root/n/x#1 killed", "root/n#1 killed", "root/a#1 killed"]


async def test_a_request_while_being_stopped_returns(autojump_clock: MockClock) -> None:
    async def late(ctx: Context[Any]) -> None:
        ctx.ready()
        await ctx.stop_requested.wait()
        await ctx.request_restart("too late")

    endless = Shutdown(grace=float("inf"))
    root = Supervisor("root", [ChildSpec("a", lambda: late, shutdown=endless)])
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            root.stop()
