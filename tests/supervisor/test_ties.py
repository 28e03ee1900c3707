"""Monitors, links and requested restarts: what one child can have to do with another."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from polysupervisor import (
    Address,
    Backoff,
    ChildSpec,
    ChildState,
    Context,
    Down,
    DynamicSupervisor,
    EventKind,
    ExitKind,
    ExitReason,
    Intensity,
    LinkedExit,
    MailboxSpec,
    Monitor,
    NotFound,
    Restart,
    RestartRequested,
    StartFailed,
    Strategy,
    Subscription,
    Supervisor,
    Up,
)
from polysupervisor._life import Life, Watcher

PuppetSpec = Callable[..., ChildSpec[Any]]
Story = Callable[[Subscription], list[str]]


def take(monitor: Monitor) -> list[str]:
    """What a monitor holds, as lines ``id#incarnation up|down``."""
    lines: list[str] = []
    while True:
        try:
            notice = monitor.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return lines
        kind = "up" if isinstance(notice, Up) else "down"
        lines.append(f"{notice.path.rpartition('/')[2]}#{notice.incarnation} {kind}")


async def run_all(nursery: trio.Nursery, root: Supervisor) -> Subscription:
    events = root.events.subscribe()
    await nursery.start(root.run)
    return events


def watcher_of(address: Callable[[], Address[Any]], given: list[Monitor]) -> ChildSpec[Any]:
    async def watch(ctx: Context[Any]) -> None:
        given.append(ctx.monitor(address()))
        ctx.ready()
        await ctx.stop_requested.wait()

    return ChildSpec("watcher", lambda: watch)


async def test_every_incarnation_gives_one_down_and_one_up(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    given: list[Monitor] = []
    root = Supervisor(
        "root",
        [puppet_spec("child"), watcher_of(lambda: root.address("child"), given)],
        intensity=Intensity(limit=10),
    )
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        (monitor,) = given
        assert monitor.is_up
        for _ in range(3):
            root.address("child").send_nowait(ValueError("crash"))
            await wait_all_tasks_blocked()
        assert take(monitor) == [
            "child#1 down", "child#2 up", "child#2 down",
            "child#3 up", "child#3 down", "child#4 up",
        ]  # fmt: skip
        root.address("child").send_nowait(ValueError("boom"))
        notice = await monitor.receive()
        assert isinstance(notice, Down)
        assert notice.reason is not None
        assert notice.reason.summary == "ValueError: boom"
        root.stop()


async def test_a_monitor_of_a_child_that_is_down_tells_its_last_down_at_once(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    given: list[Monitor] = []
    dynamic = DynamicSupervisor("pool")
    root = Supervisor("root", [puppet_spec("child"), dynamic])
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        address = root.address("child")
        await root.stop_child("child")
        await dynamic.start_child(watcher_of(lambda: address, given))
        assert take(given[0]) == ["child#1 down"]
        await root.restart_child("child")
        assert take(given[0]) == ["child#2 up"]
        await root.stop_child("child")
        await root.delete_child("child")
        assert take(given[0]) == ["child#2 down"]
        with pytest.raises(trio.EndOfChannel):
            await given[0].receive()
        await dynamic.stop_child("watcher")
        with pytest.raises(trio.ClosedResourceError):
            await given[0].receive()
        # Also when it has ended for good.
        await dynamic.start_child(watcher_of(lambda: address, given))
        assert take(given[1]) == ["child#2 down"]
        root.stop()


async def test_a_monitor_of_a_child_that_was_never_started_waits_for_it(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    given: list[Monitor] = []
    root = Supervisor(
        "root", [watcher_of(lambda: root.address("child"), given), puppet_spec("child")]
    )
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        assert take(given[0]) == ["child#1 up"]
        root.stop()


async def test_a_monitor_of_a_child_that_never_lived_tells_one_down() -> None:
    life = Life("root/never")
    life.end()
    monitor = Monitor(life)
    assert await monitor.receive() == Down("root/never", 0, None)
    with pytest.raises(trio.EndOfChannel):
        await monitor.receive()


async def test_a_slow_reader_of_a_monitor_loses_the_oldest_and_can_see_it(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    given: list[Monitor] = []
    root = Supervisor(
        "root",
        [puppet_spec("child"), watcher_of(lambda: root.address("child"), given)],
        intensity=Intensity(limit=10_000),
    )
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        for _ in range(502):
            root.address("child").send_nowait(ValueError("crash"))
            await wait_all_tasks_blocked()
        assert given[0].dropped == 4
        assert take(given[0])[0] == "child#3 down"
        root.stop()


def linked(child_id: str, to: Callable[[], Address[Any]], **arguments: Any) -> ChildSpec[Any]:
    async def run(ctx: Context[Exception | None]) -> None:
        ctx.link(to())
        ctx.ready()
        async for order in ctx.inbox:
            if order is None:
                return
            raise order

    return ChildSpec(child_id, lambda: run, mailbox=MailboxSpec(), **arguments)


@pytest.mark.parametrize(("crashing", "falling"), [("peer", "friend"), ("friend", "peer")])
async def test_a_failure_takes_the_linked_child_down_in_either_direction(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec, crashing: str, falling: str
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("peer", restart=Restart.TEMPORARY),
            linked("friend", lambda: root.address("peer"), restart=Restart.TEMPORARY),
        ],
    )
    async with trio.open_nursery() as nursery:
        events = await run_all(nursery, root)
        root.address(crashing).send_nowait(ValueError("crash"))
        await wait_all_tasks_blocked()
        exits: dict[str, ExitReason] = {}
        while True:
            try:
                event = events.receive_nowait()
            except trio.WouldBlock:
                break
            if event.kind == "exited" and event.reason is not None:
                exits[event.path] = event.reason
        assert exits[f"root/{crashing}"].types == ("ValueError",)
        fallen = exits[f"root/{falling}"]
        assert (fallen.kind, fallen.types) == (ExitKind.CRASH, ("LinkedExit",))
        assert f"root/{crashing}#1" in fallen.summary
        assert "ValueError: crash" in fallen.summary
        assert root.children() == []
        root.stop()


async def test_a_return_or_an_ordered_stop_breaks_the_link_without_harm(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("peer", restart=Restart.TRANSIENT),
            linked("friend", lambda: root.address("peer")),
            linked("other", lambda: root.address("peer")),
        ],
    )
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        await root.stop_child("other")
        root.address("peer").send_nowait(None)
        await wait_all_tasks_blocked()
        states = {child.id: (child.state, child.incarnation) for child in root.children()}
        assert states["friend"] == (ChildState.RUNNING, 1)
        assert states["peer"] == (ChildState.STOPPED, 1)
        # The link is gone, so the next incarnation of the peer is not tied to it.
        await root.restart_child("peer")
        root.address("peer").send_nowait(ValueError("crash"))
        await wait_all_tasks_blocked()
        assert {child.id: child.incarnation for child in root.children()}["friend"] == 1
        root.stop()


async def test_linking_to_a_child_that_is_down_fails_at_once_and_can_be_expected(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("peer"),
            linked(
                "friend",
                lambda: root.address("peer"),
                expected=(LinkedExit,),
                backoff=Backoff(min=1, max=1, jitter=0),
            ),
        ],
        intensity=Intensity(limit=0),
    )
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        await root.stop_child("peer")
        await root.stop_child("friend")
        with trio.move_on_after(10):
            with pytest.raises(Exception, match="linked child root/peer#1 ended: shutdown"):
                await root.restart_child("friend")
        await root.restart_child("peer")
        await root.restart_child("friend")
        root.stop()


async def test_links_hold_between_children_of_different_supervisors(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    left = Supervisor("left", [puppet_spec("peer")])
    right = Supervisor("right", [linked("friend", lambda: left.address("peer"))])
    root = Supervisor("root", [left, right])
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        left.address("peer").send_nowait(ValueError("crash"))
        await wait_all_tasks_blocked()
        assert [child.incarnation for child in right.children()] == [2]
        root.stop()


async def test_an_actor_has_itself_restarted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def run(ctx: Context[Any]) -> None:
        ctx.ready()
        if ctx.incarnation == 1:
            await ctx.request_restart("the state is odd")
            raise AssertionError("it is cancelled")
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("odd", lambda: run)])
    async with trio.open_nursery() as nursery:
        events = await run_all(nursery, root)
        await wait_all_tasks_blocked()
        kinds: list[str] = []
        while True:
            try:
                event = events.receive_nowait()
            except trio.WouldBlock:
                break
            kinds.append(event.kind.value)
            if event.kind is EventKind.EXITED:
                assert event.reason is not None
                assert event.reason.types == ("RestartRequested",)
                assert "the state is odd" in event.reason.summary
        assert kinds == [
            "starting", "started", "stopping", "exited", "restart_scheduled", "starting", "started",
        ]  # fmt: skip
        root.stop()


async def test_an_actor_has_a_sibling_restarted_and_the_strategy_holds(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec, story: Story
) -> None:
    asked = trio.Event()

    async def doctor(ctx: Context[Any]) -> None:
        ctx.ready()
        await asked.wait()
        await ctx.request_restart("it looks ill", of="patient")
        with pytest.raises(NotFound):
            await ctx.request_restart("who?", of="nobody")
        await ctx.stop_requested.wait()

    root = Supervisor(
        "root",
        [
            ChildSpec("doctor", lambda: doctor),
            puppet_spec("patient", expected=(RestartRequested,)),
            puppet_spec("visitor"),
        ],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(limit=0),
    )
    async with trio.open_nursery() as nursery:
        events = await run_all(nursery, root)
        story(events)
        asked.set()
        await wait_all_tasks_blocked()
        assert story(events) == [
            "root/patient#1 stopping",
            "root/patient#1 exited",
            "root/visitor#1 stopping",
            "root/visitor#1 stopped",
            "root/patient#1 restart_scheduled",
            "root/patient#2 starting",
            "root/patient#2 started",
            "root/visitor#2 starting",
            "root/visitor#2 started",
        ]
        root.stop()


async def test_a_closed_monitor_tells_nothing_more(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    given: list[Monitor] = []
    root = Supervisor(
        "root", [puppet_spec("child"), watcher_of(lambda: root.address("child"), given)]
    )
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        await given[0].aclose()
        with pytest.raises(trio.ClosedResourceError):
            await given[0].receive()
        root.stop()


async def test_a_link_that_breaks_before_readiness_is_a_failed_start(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    async def starting(ctx: Context[Any]) -> None:
        ctx.link(root.address("peer"))
        root.address("peer").send_nowait(ValueError("crash"))
        await trio.sleep_forever()

    root = Supervisor("root", [puppet_spec("peer"), ChildSpec("late", lambda: starting)])
    with pytest.raises(StartFailed, match="root/late failed to start: start_failed") as caught:
        await root.run()
    assert caught.value.reason.types == ("LinkedExit",)


async def test_two_reasons_to_fall_at_once_are_one_exit(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec, story: Story
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("left", restart=Restart.TEMPORARY),
            puppet_spec("right", restart=Restart.TEMPORARY),
            ChildSpec("friend", lambda: friend, restart=Restart.TEMPORARY),
        ],
    )

    async def friend(ctx: Context[Any]) -> None:
        ctx.link(root.address("left"))
        ctx.link(root.address("right"))
        ctx.ready()
        await ctx.stop_requested.wait()

    async with trio.open_nursery() as nursery:
        events = await run_all(nursery, root)
        story(events)
        root.address("left").send_nowait(ValueError("crash"))
        root.address("right").send_nowait(ValueError("crash"))
        await wait_all_tasks_blocked()
        lines = story(events)
        assert sorted(line for line in lines if "exited" in line) == [
            "root/friend#1 exited", "root/left#1 exited", "root/right#1 exited",
        ]  # fmt: skip
        root.stop()


async def test_a_request_for_a_sibling_that_is_down_changes_nothing(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec, story: Story
) -> None:
    asked = trio.Event()

    async def doctor(ctx: Context[Any]) -> None:
        ctx.ready()
        await asked.wait()
        await ctx.request_restart("it looks ill", of="patient")
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("doctor", lambda: doctor), puppet_spec("patient")])
    async with trio.open_nursery() as nursery:
        events = await run_all(nursery, root)
        await root.stop_child("patient")
        story(events)
        asked.set()
        await wait_all_tasks_blocked()
        assert story(events) == []
        root.stop()


def test_a_life_ends_once() -> None:
    ended: list[str] = []

    class Witness(Watcher):
        def on_up(self, life: Life) -> None: ...

        def on_down(self, life: Life, reason: ExitReason, *, failed: bool) -> None: ...

        def on_end(self, life: Life) -> None:
            ended.append(life.path)

    life = Life("root/a")
    life.watch(Witness())
    life.fail(1, ValueError("there is no incarnation to end"))
    life.end()
    life.end()
    assert ended == ["root/a"]


async def test_closed_monitors_are_not_kept(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    alive: list[weakref.ref[Monitor]] = []

    async def curious(ctx: Context[Any]) -> None:
        for _ in range(10):
            monitor = ctx.monitor(root.address("child"))
            alive.append(weakref.ref(monitor))
            monitor.close()
            del monitor
        ctx.monitor(root.address("child"))
        ctx.ready()
        await ctx.stop_requested.wait()

    root = Supervisor("root", [puppet_spec("child"), ChildSpec("curious", lambda: curious)])
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        gc.collect()
        assert [each() for each in alive] == [None] * 10
        root.stop()


async def test_a_significant_child_that_is_given_up_has_ended(
    autojump_clock: trio.testing.MockClock, puppet_spec: PuppetSpec
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("one", restart=Restart.TRANSIENT, significant=True),
            puppet_spec("two", restart=Restart.TRANSIENT, significant=True),
            puppet_spec("other"),
        ],
        intensity=Intensity(limit=0, on_exhausted="give_up"),
        auto_shutdown="all",
    )
    async with trio.open_nursery() as nursery:
        await run_all(nursery, root)
        root.address("one").send_nowait(None)
        await wait_all_tasks_blocked()
        assert root.count().active == 2
        root.address("two").send_nowait(ValueError("crash"))
        await wait_all_tasks_blocked()
        assert root.count().active == 0


def test_a_supervisor_shows_its_path_and_state() -> None:
    assert repr(DynamicSupervisor("pool")) == "<DynamicSupervisor pool waiting>"
