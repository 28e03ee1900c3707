"""Ordered starts and stops of several children: in order, in reverse, one after the other.

An ordered stop or start is a ``Plan``, which moves on each time a child has ended or become
ready, rather than a task that waits for it. So a supervisor answers while its groups change.
"""

from __future__ import annotations

from abc import abstractmethod
from random import Random

import trio

from polysupervisor._events import EventBus, EventKind
from polysupervisor._flags import Flags
from polysupervisor._lifecycle import Lifecycle
from polysupervisor._record import After, Child, Plan
from polysupervisor._tree import ChildState


class Groups(Lifecycle):
    """The one ordered start or stop that a supervisor is about, if any."""

    def __init__(self, name: str, flags: Flags, rng: Random, events: EventBus) -> None:
        super().__init__(name, flags, rng, events)
        self._plan: Plan | None = None

    @abstractmethod
    def _on_started(self) -> None:
        """Announce that all children are ready."""

    # The first start and the last stop.

    def _begin_first_start(self) -> None:
        self._enter_own(ChildState.STARTING)
        self._follow(Plan(list(self._children.values()), After.TURN, "start", stopping=False))

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
            elif self._flags.dynamic and child.current is not None:
                self._begin_stop(child, After.REST, why)
        self._timers.schedule(trio.current_time() + self._flags.stop_deadline, self._stop_overdue)
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

    # Groups.

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

    def _has_turn_to_come(self, child: Child) -> bool:
        """Say whether a child at rest belongs to a group that restarts, and will start with it."""
        plan = self._plan
        if plan is None or plan.after is not After.TURN:
            return False
        return child in plan.members[0 if plan.stopping else plan.cursor :]

    def _abandon_plan(self) -> None:
        """Let those down whose turn to start has not come: what they waited for is stopped."""
        plan = self._plan
        assert plan is not None
        for child in plan.members:
            if child.state is ChildState.STOPPING and child.after is After.TURN:
                child.after = After.REST
            elif child is not plan.leader and child.current is None:
                self._rest(child, ChildState.STOPPED)
        if plan.stopping:
            plan.after = After.REST

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

    def _schedule(self, child: Child) -> float:
        assert child.delay is not None
        delay, child.delay = child.delay, None
        child.due = trio.current_time() + delay
        self._enter(child, ChildState.RESTARTING)
        self._tell(child, EventKind.RESTART_SCHEDULED, delay=delay, attempt=child.attempt)
        return child.due
