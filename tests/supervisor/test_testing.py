"""The testing kit: every fault, on virtual time, repeatable."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from polysupervisor import (
    Actor,
    Backoff,
    ChildSpec,
    ChildState,
    Context,
    DynamicSupervisor,
    Event,
    EventKind,
    Intensity,
    MailboxSpec,
    Restart,
    Shutdown,
    StartFailed,
    Supervisor,
    SupervisorEscalation,
)
from polysupervisor.testing import FaultPlan, InjectedFault, run_virtual, wait_event

BRIEF = Shutdown(grace=2, kill=1)


async def counter(ctx: Context[int]) -> None:
    async for _ in ctx.inbox:
        pass


def spec(child_id: str = "worker", **arguments: Any) -> ChildSpec[int]:
    return ChildSpec(child_id, lambda: counter, mailbox=MailboxSpec(), shutdown=BRIEF, **arguments)


def kinds(events: list[Event], path: str = "root/worker") -> list[str]:
    return [f"{event.incarnation} {event.kind}" for event in events if event.path == path]


async def test_crash_at_a_message_loses_that_message_and_no_other(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", FaultPlan().crash("worker", at_message=3).wrap(spec()))

    async def scenario(root: Supervisor) -> None:
        for number in range(5):
            await root.address("worker").send(number)
        await wait_event(root.events, "started", id="worker", incarnation=2)
        await trio.testing.wait_all_tasks_blocked()
        stats = root.address("worker").stats()
        assert (stats.depth, stats.lost_in_flight) == (0, 1)

    events = await run_virtual(root, scenario)
    assert kinds(events) == [
        "1 starting", "1 started", "1 exited", "1 lost_in_flight", "1 restart_scheduled",
        "2 starting", "2 started", "2 stopping", "2 stopped",
    ]  # fmt: skip
    exited = next(event for event in events if event.kind is EventKind.EXITED)
    assert exited.reason is not None
    assert exited.reason.types == ("InjectedFault",)


async def test_crash_after_some_time_raises_what_was_asked_for(autojump_clock: MockClock) -> None:
    plan = FaultPlan().crash("worker", after=90, exc=OSError("cable pulled"))
    root = plan.install(Supervisor("root", [spec()]))

    async def scenario(_: Supervisor) -> None:
        await trio.sleep(200)

    begun = trio.current_time()
    events = await run_virtual(root, scenario)
    exited = next(event for event in events if event.kind is EventKind.EXITED)
    assert exited.t == begun + 90
    assert exited.reason is not None
    assert exited.reason.summary == "OSError: cable pulled"
    assert kinds(events)[-3:] == ["2 started", "2 stopping", "2 stopped"]


async def test_a_hanging_child_is_cancelled_after_its_grace(autojump_clock: MockClock) -> None:
    root = Supervisor("root", FaultPlan().hang("worker").wrap(spec()))

    async def scenario(root: Supervisor) -> None:
        root.address("worker").send_nowait(1)
        await trio.sleep(10)
        assert root.address("worker").stats().depth == 1

    events = await run_virtual(root, scenario)
    assert kinds(events) == ["1 starting", "1 started", "1 stopping", "1 killed"]
    assert events[-1].t == events[-2].t + BRIEF.grace


async def test_a_child_hangs_in_the_middle_of_its_messages(autojump_clock: MockClock) -> None:
    root = Supervisor("root", FaultPlan().hang("worker", at_message=2).wrap(spec()))

    async def scenario(root: Supervisor) -> None:
        for number in range(3):
            root.address("worker").send_nowait(number)
        await trio.sleep(1)
        assert root.address("worker").stats().depth == 1

    events = await run_virtual(root, scenario)
    assert kinds(events)[-2:] == ["1 killed", "1 lost_in_flight"]


async def test_a_start_fails_as_often_as_planned(autojump_clock: MockClock) -> None:
    async def scenario(root: Supervisor) -> None:
        with pytest.raises(StartFailed, match="injected failure of a start"):
            await root.start_child(late)
        await root.start_child(late)

    (late,) = FaultPlan().fail_start("worker", 1).wrap(spec())
    events = await run_virtual(Supervisor("root"), scenario)
    assert kinds(events)[:2] == ["1 starting", "1 start_failed"]
    first = Supervisor("root", FaultPlan().fail_start("worker", 1).wrap(spec()))
    with pytest.raises(StartFailed):
        await run_virtual(first, scenario)


async def test_a_slow_stop_ends_in_its_own_time_or_is_cut(autojump_clock: MockClock) -> None:
    async def nothing(_: Supervisor) -> None:
        pass

    for seconds, kind in ((1.5, "stopped"), (60, "killed")):
        root = Supervisor("root", FaultPlan().slow_stop("worker", seconds).wrap(spec()))
        events = await run_virtual(root, nothing)
        assert events[-1].kind == kind
        assert events[-1].t - events[-2].t == min(seconds, BRIEF.grace)


async def test_a_wedged_child_is_reported(autojump_clock: MockClock) -> None:
    plan = FaultPlan().hang("worker").wedge("worker", 30)

    async def nothing(_: Supervisor) -> None:
        pass

    events = await run_virtual(Supervisor("root", plan.wrap(spec())), nothing)
    assert kinds(events)[-3:] == ["1 stopping", "1 wedged", "1 killed"]
    assert events[-1].t - events[-3].t == BRIEF.grace + 30


async def test_faults_reach_actors_and_nested_supervisors_by_path(
    autojump_clock: MockClock,
) -> None:
    class Silent(Actor[int]):
        async def handle(self, msg: int) -> None:
            pass

    def make(name: str) -> Supervisor:
        inner: ChildSpec[int] = ChildSpec("worker", Silent, mailbox=MailboxSpec())
        return Supervisor(name, [inner, spec("other")])

    plan = FaultPlan().crash("root/made/worker", at_message=1)
    made: ChildSpec[Any] = ChildSpec("made", lambda: make("made"))
    root = plan.install(Supervisor("root", [make("given"), made]))

    async def scenario(root: Supervisor) -> None:
        await trio.sleep(1)
        assert [node.path for node in root.tree().children] == ["root/given", "root/made"]

    events = await run_virtual(root, scenario)
    assert {event.path for event in events} >= {"root/given/worker", "root/made/worker"}


async def test_what_the_tree_or_the_scenario_raises_comes_out(autojump_clock: MockClock) -> None:
    async def scenario(root: Supervisor) -> None:
        for number in range(9):
            await root.address("worker").send(number)
            await trio.sleep(1)

    plan = FaultPlan().crash("worker", at_message=2)
    root = Supervisor("root", plan.wrap(spec()), intensity=Intensity(limit=0))
    with pytest.raises(SupervisorEscalation):
        await run_virtual(root, scenario)

    async def broken(_: Supervisor) -> None:
        raise AssertionError("as a failing assertion does")

    with pytest.raises(AssertionError, match="failing assertion"):
        await run_virtual(Supervisor("root", [spec()]), broken)


def test_the_same_seed_gives_the_same_run() -> None:
    def play(seed: int) -> list[tuple[float, str, str]]:
        def specs() -> list[ChildSpec[int]]:
            return [spec(f"w{n}", backoff=Backoff(min=1, max=60)) for n in range(6)]

        plan = FaultPlan()
        for n in range(6):
            plan.crash(f"w{n}", after=1)

        async def scenario(_: Supervisor) -> None:
            await trio.sleep(300)

        root = Supervisor("root", plan.wrap(*specs()), intensity=Intensity(limit=9))
        clock = MockClock()

        async def main() -> list[Event]:
            return await run_virtual(root, scenario, seed=seed)

        return [(event.t, event.path, event.kind) for event in trio.run(main, clock=clock)]

    assert play(1) == play(1)
    assert play(1) != play(2)


async def test_wait_event_is_particular_and_hears_the_end(autojump_clock: MockClock) -> None:
    root = Supervisor(
        "root", [spec(restart=Restart.TEMPORARY), spec("other", restart=Restart.TEMPORARY)]
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        event = await wait_event(root.events, EventKind.STARTED, id="root/other")
        assert (event.path, event.incarnation) == ("root/other", 1)
        with trio.move_on_after(5):
            await wait_event(root.events, "exited")
        nursery.start_soon(root.stop_child, "other")
        await wait_event(root.events, "stopped", incarnation=1)
        root.stop()
        with pytest.raises(trio.EndOfChannel):
            await wait_event(root.events, "started")


def test_misuse_is_explained() -> None:
    with pytest.raises(ValueError, match="either at_message or after"):
        FaultPlan().crash("worker")

    async def scenario(_: Supervisor) -> None:
        pass

    with pytest.raises(RuntimeError, match="needs virtual time"):
        trio.run(run_virtual, Supervisor("root"), scenario)


async def test_children_that_are_not_planned_for_are_left_alone(autojump_clock: MockClock) -> None:
    pool = DynamicSupervisor("pool")
    (wrapped,) = FaultPlan().wrap(spec())

    async def scenario(_: Supervisor) -> None:
        started = await pool.start_child(wrapped)
        await started.address.send(1)
        await trio.sleep(1)
        assert [child.state for child in pool.children()] == [ChildState.RUNNING]

    events = await run_virtual(pool, scenario)
    assert kinds(events, "pool/worker")[-1] == "1 stopped"
    with pytest.raises(InjectedFault):
        raise InjectedFault


async def test_a_plan_tells_what_has_not_struck(autojump_clock: MockClock) -> None:
    plan = FaultPlan().crash("worker", at_message=1).hang("wroker").fail_start("x", 2)
    plan.slow_stop("y", 1).wedge("y", 1)

    async def scenario(root: Supervisor) -> None:
        await root.address("worker").send(1)
        await trio.sleep(1)

    assert len(plan.pending()) == 5
    await run_virtual(Supervisor("root", plan.wrap(spec())), scenario)
    assert plan.pending() == ["wroker: hang", "x: failing start", "y: slow stop", "y: wedge"]


async def test_faults_of_the_end_strike_however_an_actor_ends(autojump_clock: MockClock) -> None:
    async def receiver(ctx: Context[int]) -> None:
        async with ctx.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            while True:
                await ctx.inbox.receive()  # raises EndOfChannel when a stop is requested

    async def nothing(_: Supervisor) -> None:
        await trio.sleep(1)

    own: ChildSpec[int] = ChildSpec("a", lambda: receiver, mailbox=MailboxSpec(), shutdown=BRIEF)
    for plan, told, seconds in (
        (FaultPlan().slow_stop("a", 1.5), ["stopped"], 1.5),
        (FaultPlan().slow_stop("a", 60), ["killed"], 2.0),
        (FaultPlan().hang("a").wedge("a", 30), ["wedged", "killed"], 32.0),
    ):
        events = await run_virtual(Supervisor("root", plan.wrap(own)), nothing)
        begin = next(event for event in events if event.kind is EventKind.STOPPING)
        after = events[events.index(begin) + 1 :]
        assert [event.kind.value for event in after] == told
        assert after[-1].t - begin.t == seconds


async def test_a_kind_of_event_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="exitted"):
        await wait_event(Supervisor("root").events, "exitted")
