"""Random trees, crashes, failing starts, commands and clock steps, by OTP's rules.

A Hypothesis state machine draws a tree and a schedule against the pure model in ``otp_rules``;
then the real tree plays the schedule on virtual time, and what happened to the children of each
supervisor is compared event by event, and the answer to every command with it.
"""

from collections import defaultdict
from typing import Any

import attrs
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.supervisor.otp_rules import Branch, Child, Spec, Worker, World
from tests.supervisor.otp_rules import Supervisor as Model
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    Backoff,
    ChildSpec,
    Context,
    EventKind,
    Intensity,
    MailboxSpec,
    Restart,
    Strategy,
    SupervisionError,
    Supervisor,
    SupervisorEscalation,
)

SIDE_EVENTS = frozenset({EventKind.LOST_IN_FLIGHT})
BACKOFFS = [0.0, 0.0, 1.0371, 2.1513, 3.2719]
"""Seconds; odd, and made different for each id, so that no two siblings are due at one moment."""
IDS = ["w0", "w1", "w2", "s0", "s1", "s2", "n0", "n1"]


@attrs.frozen
class Step:
    """One thing that is done to the tree: its kind, the path of whom, and what with."""

    kind: str
    path: str = ""
    what: Any = None


# The real side.


class Play:
    """Builds the real tree of a specification and plays a schedule against it."""

    def __init__(self, spec: Branch) -> None:
        self.supervisors: dict[str, Supervisor] = {}
        self.failing_starts: dict[str, int] = {}
        self.root = self.build(spec, spec.id)

    def build(self, spec: Branch, path: str) -> Supervisor:
        on_exhausted: Any = spec.on_exhausted
        auto_shutdown: Any = spec.auto_shutdown
        supervisor = Supervisor(
            spec.id,
            [self.spec_of(child, f"{path}/{child.id}") for child in spec.children],
            strategy=spec.strategy,
            intensity=Intensity(spec.limit, spec.period, on_exhausted=on_exhausted),
            auto_shutdown=auto_shutdown,
        )
        self.supervisors[path] = supervisor
        return supervisor

    def spec_of(self, spec: Spec, path: str) -> ChildSpec[Any]:
        seconds = spec.backoff
        return ChildSpec(
            spec.id,
            (lambda: self.build(spec, path)) if isinstance(spec, Branch) else lambda: self.actor,
            restart=spec.restart,
            significant=spec.significant,
            backoff=Backoff(min=seconds, max=seconds, factor=1, jitter=0) if seconds else None,
            expected=(OSError,),
            mailbox=MailboxSpec(),
        )

    async def actor(self, ctx: Context[str]) -> None:
        if self.failing_starts.get(ctx.path, 0):
            self.failing_starts[ctx.path] -= 1
            raise RuntimeError("a failing start")
        ctx.ready()
        async for how in ctx.inbox:
            if how == "crash":
                raise ValueError("crash")
            if how == "expected":
                raise OSError("expected")
            return

    async def obey(self, step: Step) -> str:
        above, _, child_id = step.path.rpartition("/")
        if step.kind == "sleep":
            await trio.sleep(step.what)
        elif step.kind == "failing_starts":
            self.failing_starts[step.path] = step.what
        elif step.kind == "exit":
            self.supervisors[above].address(child_id).send_nowait(step.what)
        else:
            supervisor = self.supervisors[above]
            try:
                if step.kind == "start_child":
                    await supervisor.start_child(self.spec_of(step.what, step.path))
                elif step.kind == "stop_child":
                    await supervisor.stop_child(child_id)
                elif step.kind == "restart_child":
                    await supervisor.restart_child(child_id, force=step.what)
                else:
                    await supervisor.delete_child(child_id)
            except SupervisionError as error:
                return type(error).__name__
        return "ok"

    async def play(self, steps: list[Step]) -> tuple[dict[str, list[str]], list[str], bool]:
        answers: list[str] = []
        escalated = False
        events = self.root.events.subscribe(100_000)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            nonlocal escalated
            try:
                await self.root.run(task_status=task_status)
            except SupervisorEscalation:
                escalated = True

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            for step in steps:
                answers.append(await self.obey(step))
                await wait_all_tasks_blocked()
            self.root.stop()
        story: dict[str, list[str]] = defaultdict(list)
        async for event in events:
            if event.kind not in SIDE_EVENTS:
                line = f"{event.path}#{event.incarnation} {event.kind}"
                story[event.path.rpartition("/")[0]].append(line)
        return story, answers, escalated


# What is drawn.

restarts = st.sampled_from(Restart)


def backoffs(child_id: str) -> st.SearchStrategy[float]:
    own = 0.0017 * (1 + IDS.index(child_id))
    return st.sampled_from([seconds + own if seconds else 0.0 for seconds in BACKOFFS])


exhaustions = st.sampled_from(["escalate", "escalate", "give_up", "give_up_unless_last"])


@st.composite
def workers(
    draw: st.DrawFn, child_id: str, *, may_signify: bool = False, may_wait: bool = True
) -> Worker:
    restart = draw(restarts)
    significant = may_signify and restart is not Restart.PERMANENT and draw(st.booleans())
    return Worker(child_id, restart, significant, draw(backoffs(child_id)) if may_wait else 0.0)


@st.composite
def branches(draw: st.DrawFn, child_id: str, depth: int) -> Branch:
    strategy = draw(st.sampled_from(Strategy))
    auto_shutdown = draw(st.sampled_from(["never", "never", "any", "all"]))
    waits = strategy is Strategy.ONE_FOR_ONE
    children: list[Spec] = []
    for number in range(draw(st.integers(0 if depth else 1, 3))):
        if depth and draw(st.booleans()):
            nested = draw(branches(f"s{number}", depth - 1))
            children.append(
                attrs.evolve(nested, backoff=draw(backoffs(nested.id)) if waits else 0.0)
            )
        else:
            signifies = auto_shutdown != "never"
            children.append(draw(workers(f"w{number}", may_signify=signifies, may_wait=waits)))
    return Branch(
        child_id,
        tuple(children),
        draw(restarts),
        strategy,
        limit=draw(st.integers(0, 4)),
        period=draw(st.sampled_from([1, 5])),
        on_exhausted=draw(exhaustions),
        auto_shutdown=auto_shutdown,
    )


class TreesByTheRules(RuleBasedStateMachine):
    """Draws a schedule with the help of the model, and plays it when it is complete."""

    @initialize(spec=branches("root", 2))
    def build(self, spec: Branch) -> None:
        self.spec = spec
        self.steps: list[Step] = []
        self.answers: list[str] = []
        self.world = World()
        self.model = Model(self.world, spec, "root", 1)
        assert self.model.start()

    def note(self, step: Step, answer: str = "ok") -> None:
        self.steps.append(step)
        self.answers.append(answer)

    def is_up(self) -> bool:
        return self.model.is_up

    def supervisor(self, data: st.DataObject) -> Model:
        return data.draw(st.sampled_from(self.model.live()))

    def child(self, data: st.DataObject) -> tuple[Model, Child | None]:
        supervisor = self.supervisor(data)
        return supervisor, data.draw(st.sampled_from([*supervisor.children, None]))

    @precondition(is_up)
    @rule(seconds=st.sampled_from([1, 2, 5, 6]))
    def time_passes(self, seconds: int) -> None:
        self.world.sleep(seconds)
        self.note(Step("sleep", what=seconds))

    @precondition(is_up)
    @rule(data=st.data(), how=st.sampled_from(["crash", "crash", "expected", "return"]))
    def worker_exits(self, data: st.DataObject, how: str) -> None:
        able = [
            (supervisor, child)
            for supervisor in self.model.live()
            for child in supervisor.children
            if child.state == "up" and child.nested is None
        ]
        if able:
            supervisor, child = data.draw(st.sampled_from(able))
            supervisor.exited(child, how)
            self.note(Step("exit", child.path, how))

    @precondition(is_up)
    @rule(data=st.data(), times=st.integers(1, 3))
    def starts_will_fail(self, data: st.DataObject, times: int) -> None:
        _, child = self.child(data)
        if child is not None and isinstance(child.spec, Worker):
            self.world.failing_starts[child.path] = times
            self.note(Step("failing_starts", child.path, times))

    @precondition(is_up)
    @rule(data=st.data(), name=st.sampled_from(["w0", "w1", "n0", "n1"]))
    def start_child(self, data: st.DataObject, name: str) -> None:
        supervisor = self.supervisor(data)
        waits = supervisor.spec.strategy is Strategy.ONE_FOR_ONE
        spec = data.draw(workers(name, may_wait=waits) | branches(name, 0))
        path = f"{supervisor.path}/{name}"
        self.note(Step("start_child", path, spec), supervisor.start_child(spec))

    @precondition(is_up)
    @rule(data=st.data())
    def stop_child(self, data: st.DataObject) -> None:
        supervisor, child = self.child(data)
        name = child.spec.id if child else "nobody"
        path = f"{supervisor.path}/{name}"
        self.note(Step("stop_child", path), supervisor.stop_child(name))

    @precondition(is_up)
    @rule(data=st.data(), force=st.booleans())
    def restart_child(self, data: st.DataObject, force: bool) -> None:
        supervisor, child = self.child(data)
        name = child.spec.id if child else "nobody"
        path = f"{supervisor.path}/{name}"
        answer = supervisor.restart_child(name, force=force)
        self.note(Step("restart_child", path, force), answer)

    @precondition(is_up)
    @rule(data=st.data())
    def delete_child(self, data: st.DataObject) -> None:
        supervisor, child = self.child(data)
        name = child.spec.id if child else "nobody"
        path = f"{supervisor.path}/{name}"
        self.note(Step("delete_child", path), supervisor.delete_child(name))

    @precondition(lambda self: not self.is_up())
    @rule()
    def nothing_can_follow(self) -> None:
        """A tree that has ended takes no further steps."""

    def teardown(self) -> None:
        if not hasattr(self, "spec"):
            return
        escalated = "root#1 escalated" in self.world.story[""]
        if self.model.is_up:
            self.model.end()
        play = Play(self.spec)
        clock = MockClock(autojump_threshold=0)
        story, answers, really_escalated = trio.run(play.play, self.steps, clock=clock)
        assert answers == self.answers
        assert dict(story) == {path: lines for path, lines in self.world.story.items() if lines}
        assert really_escalated == escalated


TestTreesByTheRules = TreesByTheRules.TestCase
