"""What a supervisor decides when a child has ended.

An exit is judged in this order: was the stop commanded? does the restart type restart it? was
it expected? is the intensity left? Then the strategy says who stops with it, and after these
have stopped the restart is scheduled.
"""

from __future__ import annotations

from functools import partial
from random import Random

import trio

from polysupervisor._child import is_restarted
from polysupervisor._events import EventBus, EventKind
from polysupervisor._exit import ExitKind, ExitReason
from polysupervisor._flags import Flags
from polysupervisor._groups import Groups
from polysupervisor._incarnation import Incarnation
from polysupervisor._intensity import RestartWindow
from polysupervisor._lifecycle import START_FAILURES
from polysupervisor._record import After, Child, group_of
from polysupervisor._tree import ChildState
from polysupervisor.errors import StartFailed, SupervisorEscalation


class Restarts(Groups):
    """The judgement of every exit."""

    def __init__(self, name: str, flags: Flags, rng: Random, events: EventBus) -> None:
        super().__init__(name, flags, rng, events)
        self._window = RestartWindow(flags.intensity)
        self._outcome: BaseException | None = None

    def exited(
        self,
        child: Child,
        incarnation: Incarnation,
        reason: ExitReason,
        lethal: BaseException | None,
    ) -> None:
        """An incarnation has ended: judge it."""
        assert child.current is incarnation  # no restart before the end of the old one
        if child.is_proven():
            child.attempt = 0
        child.current = None
        child.last_exit = reason
        child.made_supervisor = incarnation.nested is not None
        self._alive -= 1
        commanded = child.state is ChildState.STOPPING and child.after is not After.FAILURE
        ignored = incarnation.context.is_ignored and reason.kind is ExitKind.NORMAL
        if commanded:
            kind = EventKind.KILLED if incarnation.cancelled else EventKind.STOPPED
        elif ignored:
            kind = EventKind.IGNORED
        else:
            kind = EventKind.START_FAILED if reason.kind in START_FAILURES else EventKind.EXITED
        self._tell(child, kind, reason)
        self._take_back(child, incarnation, reason)
        child.life.go_down(reason, failed=not commanded and reason.kind is not ExitKind.NORMAL)
        if lethal is not None:
            self._outcome = lethal
            self._begin_final_stop(f"{child.path} raised {reason.summary}")
        if commanded:
            self._settle(child, child.after)
        else:
            self._judge(child, reason, ignored=ignored)
        self._advance()

    def _settle(self, child: Child, after: After) -> None:
        """Do what was to follow the end of a child that was told to stop."""
        for reply in child.stop_replies:
            reply.set(None)
        child.stop_replies = ()
        if self._stopping:
            self._rest(child, ChildState.STOPPED)
        elif after is After.START:
            child.forget_queued()
            self._begin_start(child)
        elif child.is_temporary or (after is After.REST and self._flags.dynamic):
            self._forget(child)
        elif after is After.REST:
            self._rest(child, ChildState.STOPPED)
        else:
            child.forget_queued()
            self._enter(child, ChildState.WAITING)

    def _judge(self, child: Child, reason: ExitReason, *, ignored: bool) -> None:
        """Decide what follows an exit that nobody asked for."""
        failed_start = reason.kind in START_FAILURES
        plan = self._plan
        if self._stopping:
            self._rest(child, ChildState.STOPPED)
        elif plan is not None and plan.stopping and child in plan.members:
            self._settle(child, plan.after)  # it would have been stopped in a moment
        elif ignored:
            child.has_started = True
            self._reply_started(child, ignored=True)
            self._put_away(child)
        elif failed_start and child.start_reply is not None:
            if child.has_started and not child.is_temporary:
                self._rest(child, ChildState.STOPPED)
            else:
                self._forget(child)
        elif failed_start and self.state is ChildState.STARTING and not child.has_started:
            self._outcome = StartFailed(child.path, reason)
            self._rest(child, ChildState.STOPPED)
            self._begin_final_stop(f"{child.path} failed to start")
        elif is_restarted(child.spec.restart, reason.kind):
            self._decide(child, reason)
        else:
            self._put_away(child)
            self._consider_auto_shutdown(child)

    def _put_away(self, child: Child) -> None:
        """Let a child that has finished stay down, or forget it."""
        if child.is_temporary or self._flags.dynamic:
            self._forget(child)
        else:
            self._rest(child, ChildState.STOPPED)

    def _consider_auto_shutdown(self, child: Child) -> None:
        """Stop, if the end of a significant child (which stays down) ends this supervisor."""
        if not child.spec.significant:
            return
        others = (each for each in self._children.values() if each.spec.significant)
        if self._flags.auto_shutdown == "any" or all(each.will_be_down for each in others):
            self._begin_final_stop(f"significant child {child.path} has ended")

    def _decide(self, child: Child, reason: ExitReason) -> None:
        """Grant a restart or not, and stop the group of the child either way."""
        group = group_of(self._flags.strategy, self._children.values(), child)
        exhausted = self._exhausted(child, reason, group)
        if exhausted is not None:
            self._give_up(child, reason, exhausted, group)
            return
        child.delay = child.backoff.delay(child.attempt, self.rng)
        child.attempt += 1
        child.forget_queued()
        if group:
            why = f"{self._flags.strategy.value}: {child.path}#{child.number} failed"
            plan = self._stop_group(group, After.TURN, why)
            plan.leader = child
            self._follow(plan)
        else:
            due = self._schedule(child)
            self._arm(child, due, partial(self._begin_start, child))

    def _give_up(
        self, child: Child, reason: ExitReason, exhausted: str, group: list[Child]
    ) -> None:
        """Let a child stay down, or fail with it."""
        self._tell(child, EventKind.INTENSITY, reason)
        if self._escalates(child, group):
            self.events.publish(self.path, self.number, EventKind.ESCALATED, reason)
            self._outcome = SupervisorEscalation(self.path, child.spec.id, exhausted, reason)
            self._rest(child, ChildState.STOPPED)
            self._begin_final_stop(f"{child.path} {exhausted}")
            return
        self._tell(child, EventKind.GAVE_UP, reason)
        self._rest(child, ChildState.GAVE_UP)
        if group:
            why = f"{self._flags.strategy.value}: {child.path} was given up"
            self._follow(self._stop_group(group, After.REST, why))
        self._consider_auto_shutdown(child)

    def _escalates(self, child: Child, group: list[Child]) -> bool:
        if self._flags.intensity.on_exhausted == "give_up_unless_last":
            falling = {id(each) for each in [child, *group]}
            others = (each for each in self._children.values() if id(each) not in falling)
            return all(each.will_be_down for each in others)
        return self._flags.intensity.on_exhausted == "escalate"

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
        if self._flags.intensity.scope == "child":
            if child.window is None:
                child.window = RestartWindow(self._flags.intensity)
            window = child.window
        if window.spend(trio.current_time()):
            return None
        limit, period = self._flags.intensity.limit, self._flags.intensity.period
        return f"needed more than {limit} restarts within {period:g} s"
