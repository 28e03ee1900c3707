"""Random schedules of crashes against a pure model of OTP's rules for who must restart."""

from typing import Any

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    ChildSpec,
    Context,
    EventKind,
    ExitReason,
    Intensity,
    MailboxSpec,
    Restart,
    Strategy,
    Supervisor,
    SupervisorEscalation,
)


@attrs.frozen
class Step:
    """After ``wait`` seconds child number ``child`` ends, if it is up, by ``how``."""

    wait: int
    child: int
    how: str


@attrs.define
class ModelChild:
    id: str
    restart: Restart
    incarnation: int = 0
    is_up: bool = False


class Model:
    """The rules alone, written from the specification: no tasks, no waiting, no delays."""

    def __init__(self, strategy: Strategy, restarts: list[Restart], limit: int, period: int):
        self.strategy = strategy
        self.limit = limit
        self.period = period
        self.children = [ModelChild(f"c{n}", each) for n, each in enumerate(restarts)]
        self.granted: list[int] = []
        self.story: list[str] = []
        self.escalated = False
        for child in self.children:
            self.start(child)

    def tell(self, child: ModelChild, kind: str) -> None:
        self.story.append(f"root/{child.id}#{child.incarnation} {kind}")

    def start(self, child: ModelChild) -> None:
        child.incarnation += 1
        child.is_up = True
        self.tell(child, "starting")
        self.tell(child, "started")

    def stop(self, children: list[ModelChild]) -> None:
        for child in reversed(children):
            if child.is_up:
                child.is_up = False
                self.tell(child, "stopping")
                self.tell(child, "stopped")

    def end(self, child: ModelChild, how: str, now: int) -> None:
        child.is_up = False
        self.tell(child, "exited")
        if child.restart is Restart.TEMPORARY:
            self.children.remove(child)
            return
        if child.restart is Restart.TRANSIENT and how == "return":
            return
        if how != "expected":
            recent = [at for at in self.granted if now - at <= self.period]
            if len(recent) >= self.limit:
                self.tell(child, "intensity")
                self.story.append("root#1 escalated")
                self.escalated = True
                self.stop(self.children)
                return
            self.granted = [*recent, now]
        place = self.children.index(child)
        group = {
            Strategy.ONE_FOR_ONE: [child],
            Strategy.ONE_FOR_ALL: self.children[:],
            Strategy.REST_FOR_ONE: self.children[place:],
        }[self.strategy]
        self.stop(group)
        self.tell(child, "restart_scheduled")
        for member in group:
            if member.restart is Restart.TEMPORARY:
                self.children.remove(member)
            elif not member.is_up:
                self.start(member)


async def actor(ctx: Context[str]) -> None:
    ctx.ready()
    async for how in ctx.inbox:
        if how == "crash":
            raise ValueError("crash")
        if how == "expected":
            raise OSError("expected")
        return


async def play(
    strategy: Strategy, restarts: list[Restart], limit: int, period: int, steps: list[Step]
) -> tuple[list[str], bool]:
    specs: list[ChildSpec[Any]] = [
        ChildSpec(f"c{n}", lambda: actor, restart=each, expected=(OSError,), mailbox=MailboxSpec())
        for n, each in enumerate(restarts)
    ]
    intensity = Intensity(limit=limit, period=period)
    root = Supervisor("root", specs, strategy=strategy, intensity=intensity)
    addresses = [root.address(spec.id) for spec in specs]
    events = root.events.subscribe(10_000)
    escalated: list[ExitReason] = []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        try:
            await root.run(task_status=task_status)
        except SupervisorEscalation as error:
            escalated.append(error.reason)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        for step in steps:
            await trio.sleep(step.wait)
            try:
                addresses[step.child].send_nowait(step.how)
            except trio.BrokenResourceError:
                continue  # that child is down for good, or all are
            await wait_all_tasks_blocked()
        if not escalated:
            root.stop()
    story = [
        f"{event.path}#{event.incarnation} {event.kind}"
        async for event in events
        if event.kind is not EventKind.LOST_IN_FLIGHT
    ]
    return story, bool(escalated)


steps = st.builds(
    Step,
    wait=st.sampled_from([0, 1, 4, 5, 6]),
    child=st.integers(0, 3),
    how=st.sampled_from(["crash", "crash", "expected", "return"]),
)


@settings(deadline=None)
@given(
    strategy=st.sampled_from(Strategy),
    restarts=st.lists(st.sampled_from(Restart), min_size=4, max_size=4),
    limit=st.integers(0, 6),
    schedule=st.lists(steps, max_size=25),
)
def test_supervisor_does_what_the_model_says_event_by_event(
    strategy: Strategy, restarts: list[Restart], limit: int, schedule: list[Step]
) -> None:
    period = 5
    model = Model(strategy, restarts, limit, period)
    by_id = {child.id: child for child in model.children}
    now = 0
    for step in schedule:
        now += step.wait
        child = by_id[f"c{step.child}"]
        if child.is_up and not model.escalated:
            model.end(child, step.how, now)
    if not model.escalated:
        model.stop(model.children)
    clock = MockClock(autojump_threshold=0)
    story, escalated = trio.run(play, strategy, restarts, limit, period, schedule, clock=clock)
    assert story == model.story
    assert escalated == model.escalated
