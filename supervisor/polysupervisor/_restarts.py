"""What a supervisor does when a child becomes ready, ends, or runs out of time.

An exit is judged in this order: was the stop commanded? does the restart type restart it? was
it expected? is the intensity left? Then the strategy says who stops with it, and after these
have stopped the restart is scheduled.

Nothing here waits. An ordered stop or start is a ``Plan``, which moves on each time a child has
ended or become ready, rather than a task that waits for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from random import Random

import trio

from polysupervisor._child import Strategy, is_restarted
from polysupervisor._context import Context
from polysupervisor._events import EventBus, EventKind
from polysupervisor._exit import ExitKind, ExitReason
from polysupervisor._incarnation import Incarnation
from polysupervisor._intensity import Intensity, RestartWindow
from polysupervisor._mailbox import Inbox
from polysupervisor._record import After, Child, Plan, group_of
from polysupervisor._timers import Timers
from polysupervisor._tree import TRANSITIONS, ChildState, Started
from polysupervisor.errors import StartFailed, SupervisorEscalation

START_FAILURES = frozenset({ExitKind.START_FAILED, ExitKind.START_TIMEOUT})
LOSING_EXITS = START_FAILURES | {ExitKind.CRASH, ExitKind.KILLED}


class Restarts(ABC):
    """The children of one supervisor and every transition of them."""

    def __init__(
        self,
        name: str,
        *,
        strategy: Strategy,
        intensity: Intensity,
        stop_deadline: float,
        dynamic: bool,
        rng: Random,
        events: EventBus,
    ) -> None:
        self.name = name
        self.path = name
        self.number = 1
        self.rng = rng
        self.events = events
        self.state = ChildState.WAITING
        self.since = 0.0
        self._strategy = strategy
        self._intensity = intensity
        self._stop_deadline = stop_deadline
        self._dynamic = dynamic
        self._children: dict[str, Child] = {}
        self._timers = Timers()
        self._window = RestartWindow(intensity)
        self._plan: Plan | None = None
        self._alive = 0
        self._abrupt = False
        self._outcome: BaseException | None = None

    # What the loop provides.

    @abstractmethod
    def _post(self, message: Callable[[], None]) -> None:
        """Let the supervisor's task call ``message``."""

    @abstractmethod
    def _spawn(self, child: Child, incarnation: Incarnation) -> None:
        """Run an incarnation in a task of its own, which posts how it ended."""

    @abstractmethod
    def _on_started(self) -> None:
        """Announce that all children are ready."""

    # Starting.

    def _begin_first_start(self) -> None:
        self._enter_own(ChildState.STARTING)
        self._follow(Plan(list(self._children.values()), After.TURN, "start", stopping=False))

    def _begin_start(self, child: Child) -> None:
        now = trio.current_time()
        child.number += 1
        child.due = child.delay = child.ready_at = None
        self._enter(child, ChildState.STARTING)
        self._arm(child, now + child.spec.start_timeout, partial(self._start_timed_out, child))
        inbox = None
        if child.mailbox is not None:
            child.mailbox.open = True
            inbox = Inbox(child.mailbox, lambda: context.ready())
        context: Context[object] = Context(
            child.spec.id,
            child.path,
            child.number,
            child.last_exit,
            inbox=inbox,
            on_ready=lambda value: self._post(partial(self._ready, child, incarnation, value)),
            on_reset=partial(_reset_backoff, child),
        )
        incarnation = Incarnation(context, inbox)
        incarnation.nested = child.instance
        child.current = incarnation
        self._alive += 1
        self._tell(child, EventKind.STARTING)
        self._spawn(child, incarnation)

    def _ready(self, child: Child, incarnation: Incarnation, value: object) -> None:
        if child.current is not incarnation or child.state is not ChildState.STARTING:
            return  # it is being stopped already, so its readiness comes too late
        child.ready_at = trio.current_time()
        child.was_ready = True
        self._enter(child, ChildState.RUNNING)
        self._tell(child, EventKind.STARTED)
        if child.start_reply is not None:
            started = Started(child.spec.id, child.path, child.number, value, child.address)
            child.start_reply.set(started)
            child.start_reply = None
        self._advance()

    def _start_timed_out(self, child: Child) -> None:
        assert child.current is not None
        child.current.timed_out = True
        self._begin_stop(child, After.FAILURE, "start timeout")

    # Stopping.

    def _begin_stop(self, child: Child, after: After, why: str) -> None:
        incarnation = child.current
        assert incarnation is not None
        child.after = after
        self._enter(child, ChildState.STOPPING)
        self._tell(child, EventKind.STOPPING)
        incarnation.request_stop()
        grace = 0.0 if self._abrupt else child.shutdown.grace
        if grace > 0:
            cancel = partial(self._cancel, child, f"{why}, and its grace of {grace:g} s is over")
            self._arm(child, trio.current_time() + grace, cancel)
        else:
            self._cancel(child, why)

    def _cancel(self, child: Child, why: str) -> None:
        incarnation = child.current
        assert incarnation is not None
        if not incarnation.cancelled:
            incarnation.cancelled = True
            incarnation.scope.cancel(reason=f"{child.path}: {why}")
            due = trio.current_time() + child.shutdown.kill
            self._arm(child, due, partial(self._wedged, child))

    def _wedged(self, child: Child) -> None:
        assert child.current is not None
        child.current.wedged = True
        self._tell(child, EventKind.WEDGED)
        self._advance()

    def _begin_final_stop(self, why: str) -> None:
        if self._stopping:
            return
        self._enter_own(ChildState.STOPPING)
        children = list(self._children.values())
        for child in children:
            if child.state is ChildState.STOPPING:
                child.after = After.REST
            elif child.state in (ChildState.WAITING, ChildState.RESTARTING):
                self._rest(child, ChildState.STOPPED)
            elif self._dynamic and child.current is not None:
                self._begin_stop(child, After.REST, why)
        self._timers.schedule(trio.current_time() + self._stop_deadline, self._stop_overdue)
        self._follow(Plan(children, After.REST, why, stopping=True))

    def _stop_overdue(self) -> None:
        for child in list(self._children.values()):
            if child.current is not None:
                if child.state is not ChildState.STOPPING:
                    self._begin_stop(child, After.REST, "stop deadline")
                self._cancel(child, "stop deadline")

    def _begin_abrupt_stop(self) -> None:
        """Cut it short: no grace from now on, and none for those who were given it."""
        self._abrupt = True
        self._begin_final_stop("the supervisor was cancelled")
        for child in list(self._children.values()):
            if child.state is ChildState.STOPPING:
                self._cancel(child, "the supervisor was cancelled")

    @property
    def _stopping(self) -> bool:
        return self.state in (ChildState.STOPPING, ChildState.STOPPED)

    # Exits and the restart decision.

    def _exited(
        self,
        child: Child,
        incarnation: Incarnation,
        reason: ExitReason,
        lethal: BaseException | None,
    ) -> None:
        assert child.current is incarnation  # no restart before the end of the old one
        if child.is_proven():
            child.attempt = 0
        child.current = None
        child.last_exit = reason
        self._alive -= 1
        commanded = child.state is ChildState.STOPPING and child.after is not After.FAILURE
        if commanded:
            kind = EventKind.KILLED if incarnation.cancelled else EventKind.STOPPED
        else:
            kind = EventKind.START_FAILED if reason.kind in START_FAILURES else EventKind.EXITED
        self._tell(child, kind, reason)
        self._take_inbox_back(child, incarnation, reason)
        if lethal is not None:
            self._outcome = lethal
            self._begin_final_stop(f"{child.path} raised {reason.summary}")
        if commanded:
            self._settle(child, child.after)
        else:
            self._judge(child, reason)
        self._advance()

    def _take_inbox_back(self, child: Child, incarnation: Incarnation, reason: ExitReason) -> None:
        inbox, mailbox = incarnation.inbox, child.mailbox
        if inbox is None or mailbox is None:
            return
        inbox.close()
        if inbox.in_flight and reason.kind in LOSING_EXITS:
            mailbox.lost_in_flight += inbox.in_flight
            self._tell(child, EventKind.LOST_IN_FLIGHT)

    def _settle(self, child: Child, after: After) -> None:
        """Do what was to follow the end of a child that was told to stop."""
        for reply in child.stop_replies:
            reply.set(None)
        child.stop_replies.clear()
        if self._stopping:
            self._rest(child, ChildState.STOPPED)
        elif after is After.START:
            child.forget_queued()
            self._begin_start(child)
        elif child.is_temporary or (after is After.REST and self._dynamic):
            self._forget(child)
        elif after is After.REST:
            self._rest(child, ChildState.STOPPED)
        else:
            child.forget_queued()
            self._enter(child, ChildState.WAITING)

    def _judge(self, child: Child, reason: ExitReason) -> None:
        """Decide what follows an exit that nobody asked for."""
        failed_start = reason.kind in START_FAILURES
        plan = self._plan
        if self._stopping:
            self._rest(child, ChildState.STOPPED)
        elif plan is not None and plan.stopping and child in plan.members:
            self._settle(child, plan.after)  # it would have been stopped in a moment
        elif failed_start and child.start_reply is not None:
            if child.was_ready:
                self._rest(child, ChildState.STOPPED)
            else:
                self._forget(child)
        elif failed_start and self.state is ChildState.STARTING and not child.was_ready:
            self._outcome = StartFailed(child.path, reason)
            self._rest(child, ChildState.STOPPED)
            self._begin_final_stop(f"{child.path} failed to start")
        elif is_restarted(child.spec.restart, reason.kind):
            self._decide(child, reason)
        elif child.is_temporary or self._dynamic:
            self._forget(child)
        else:
            self._rest(child, ChildState.STOPPED)

    def _decide(self, child: Child, reason: ExitReason) -> None:
        """Grant a restart or not, and stop the group of the child either way."""
        group = group_of(self._strategy, self._children.values(), child)
        exhausted = self._exhausted(child, reason, group)
        if exhausted is None:
            child.delay = child.backoff.delay(child.attempt, self.rng)
            child.attempt += 1
            child.forget_queued()
            if group:
                why = f"{self._strategy.value}: {child.path}#{child.number} failed"
                plan = self._stop_group(group, After.TURN, why)
                plan.leader = child
                self._follow(plan)
            else:
                due = self._schedule(child)
                self._arm(child, due, partial(self._begin_start, child))
            return
        self._tell(child, EventKind.INTENSITY, reason)
        if self._intensity.on_exhausted == "escalate":
            self.events.publish(self.path, self.number, EventKind.ESCALATED, reason)
            self._outcome = SupervisorEscalation(self.path, child.spec.id, exhausted, reason)
            self._rest(child, ChildState.STOPPED)
            self._begin_final_stop(f"{child.path} {exhausted}")
        else:
            self._tell(child, EventKind.GAVE_UP, reason)
            self._rest(child, ChildState.GAVE_UP)
            if group:
                why = f"{self._strategy.value}: {child.path} was given up"
                self._follow(self._stop_group(group, After.REST, why))

    def _exhausted(self, child: Child, reason: ExitReason, group: list[Child]) -> str | None:
        """Return why there shall be no restart, or spend one from the intensity."""
        for member in group or [child]:
            if member.instance is not None and member.number:
                return f"would restart {member.path}, a supervisor instance, which runs once"
        most = child.backoff.max_attempts
        if most is not None and child.attempt >= most:
            return f"failed {child.attempt + 1} times in a row"
        if reason.expected:
            return None
        window = self._window
        if self._intensity.scope == "child":
            if child.window is None:
                child.window = RestartWindow(self._intensity)
            window = child.window
        if window.spend(trio.current_time()):
            return None
        limit, period = self._intensity.limit, self._intensity.period
        return f"needed more than {limit} restarts within {period:g} s"

    def _schedule(self, child: Child) -> float:
        assert child.delay is not None
        delay, child.delay = child.delay, None
        child.due = trio.current_time() + delay
        self._enter(child, ChildState.RESTARTING)
        self._tell(child, EventKind.RESTART_SCHEDULED, delay=delay, attempt=child.attempt)
        return child.due

    # Groups, in order.

    def _stop_group(self, group: list[Child], after: After, why: str) -> Plan:
        """Return a plan that stops a group; its members that are down wait, or stay down."""
        for child in group:
            if child.current is not None:
                if child.state is ChildState.STOPPING and child.after is not After.REST:
                    child.after = after
            elif after is After.TURN:
                if child.state is not ChildState.WAITING:
                    self._enter(child, ChildState.WAITING)
                if child.mailbox is not None:
                    child.mailbox.open = True
            elif child.state in (ChildState.WAITING, ChildState.RESTARTING):
                self._rest(child, ChildState.STOPPED)
        return Plan(group, after, why, stopping=True)

    def _follow(self, plan: Plan | None) -> None:
        if self._plan is not None:
            self._timers.cancel(self._plan.timer)
        self._plan = plan
        self._advance()

    def _advance(self) -> None:
        """Move the plan on as far as it goes without waiting."""
        plan = self._plan
        if plan is None:
            return
        if plan.stopping:
            if not self._advance_stop(plan):
                return
            if plan.after is After.REST:
                self._plan_done()
                return
            self._turn_to_start(plan)
        if self._advance_start(plan):
            self._plan_done()

    def _advance_stop(self, plan: Plan) -> bool:
        while plan.cursor:
            child = plan.members[plan.cursor - 1]
            if child.current is not None and not child.current.wedged:
                if child.state is not ChildState.STOPPING:
                    self._begin_stop(child, plan.after, plan.why)
                return False
            plan.cursor -= 1
        return True

    def _turn_to_start(self, plan: Plan) -> None:
        plan.stopping = False
        for child in plan.members:
            if child.state is ChildState.WAITING:
                # Those who send to it have only stopped now, and were not to be heard any more.
                child.forget_queued()
            if child.delay is not None:
                due = self._schedule(child)
                if child is plan.leader:
                    plan.due = due

    def _advance_start(self, plan: Plan) -> bool:
        while plan.cursor < len(plan.members):
            child = plan.members[plan.cursor]
            if child.state in (ChildState.WAITING, ChildState.RESTARTING):
                due = max(plan.due, child.due or 0.0)
                if due > trio.current_time():
                    self._timers.cancel(plan.timer)
                    plan.timer = self._timers.schedule(due, self._advance)
                else:
                    self._begin_start(child)
                return False
            if child.state in (ChildState.STARTING, ChildState.STOPPING):
                return False
            plan.cursor += 1
        return True

    def _plan_done(self) -> None:
        self._follow(None)
        if self.state is ChildState.STARTING:
            self._enter_own(ChildState.RUNNING)
            self._on_started()

    # Small steps.

    def _rest(self, child: Child, state: ChildState) -> None:
        """Let a child stay down, with its senders released."""
        child.due = child.delay = None
        if child.state is not state:
            self._enter(child, state)
        if child.mailbox is not None:
            child.mailbox.close()
        if child.start_reply is not None:
            reason = child.last_exit or ExitReason(ExitKind.SHUTDOWN, summary="it was stopped")
            child.start_reply.fail(StartFailed(child.path, reason))
            child.start_reply = None

    def _forget(self, child: Child) -> None:
        self._rest(child, ChildState.STOPPED)
        if child.mailbox is not None:
            child.mailbox.drop_all()
        del self._children[child.spec.id]

    def _enter(self, child: Child, state: ChildState) -> None:
        assert state in TRANSITIONS[child.state], (child.path, child.state, state)
        self._timers.cancel(child.timer)
        child.timer = None
        child.state = state
        child.since = trio.current_time()

    def _enter_own(self, state: ChildState) -> None:
        self.state = state
        self.since = trio.current_time()

    def _arm(self, child: Child, at: float, action: Callable[[], None]) -> None:
        self._timers.cancel(child.timer)
        child.timer = self._timers.schedule(at, action)

    def _tell(
        self,
        child: Child,
        kind: EventKind,
        reason: ExitReason | None = None,
        *,
        delay: float | None = None,
        attempt: int | None = None,
    ) -> None:
        self.events.publish(child.path, child.number, kind, reason, delay, attempt)


def _reset_backoff(child: Child) -> None:
    child.attempt = 0
