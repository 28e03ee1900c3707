"""One child's way from its start to its end, as its supervisor walks it.

Nothing here waits, and nothing decides: what follows an exit is in ``_restarts``, and in which
order children of a group stop and start in ``_groups``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import trio

from polysupervisor._context import Context
from polysupervisor._events import EventBus, EventKind
from polysupervisor._exit import ExitKind, ExitReason, describe
from polysupervisor._flags import Flags
from polysupervisor._inbox import Inbox
from polysupervisor._incarnation import Incarnation, Report
from polysupervisor._record import After, Child
from polysupervisor._registry import Registry
from polysupervisor._ties import ChildTies
from polysupervisor._timers import Timers
from polysupervisor._tree import AT_REST, TRANSITIONS, ChildState, Started
from polysupervisor.errors import NotFound, StartFailed

START_FAILURES = frozenset({ExitKind.START_FAILED, ExitKind.START_TIMEOUT})
LOSING_EXITS = START_FAILURES | {ExitKind.CRASH, ExitKind.KILLED, ExitKind.STALLED}


class Lifecycle(ABC):
    """The children of one supervisor, and the steps of each."""

    def __init__(self, name: str, flags: Flags, rng: Random, events: EventBus) -> None:
        self.name = name
        self._flags = flags
        self.path = name
        self.number = 1
        self.rng = rng
        self.events = events
        self.registry = Registry()
        self.state = ChildState.WAITING
        self.since = 0.0
        self._children: dict[str, Child] = {}
        self._timers = Timers()
        self._alive: int = 0
        self._abrupt = False

    # What the loop and the decisions provide.

    @abstractmethod
    def _post(self, message: Callable[[], None]) -> None:
        """Let the supervisor's task call ``message``."""

    @abstractmethod
    def _spawn(self, child: Child, incarnation: Incarnation, report: Report) -> None:
        """Run an incarnation in a task of its own, which reports how it ended."""

    @abstractmethod
    def exited(
        self,
        child: Child,
        incarnation: Incarnation,
        reason: ExitReason,
        lethal: BaseException | None,
    ) -> None:
        """Judge an incarnation that has ended. For the runtime, as all without underscore."""

    @abstractmethod
    def _advance(self) -> None:
        """Go on with the ordered start or stop, if there is one."""

    # Starting.

    def _begin_start(self, child: Child) -> None:
        now = trio.current_time()
        child.number += 1
        child.due = child.delay = child.ready_at = None
        self._enter(child, ChildState.STARTING)
        self._arm(child, now + child.spec.start_timeout, partial(self._start_timed_out, child))
        ties = ChildTies(self, child)
        inbox = None
        if child.mailbox is not None:
            child.mailbox.open = True
            inbox = Inbox(child.mailbox, lambda: context.ready())
        context: Context[Any] = Context(
            child.spec.id,
            child.path,
            child.number,
            child.last_exit,
            address=child.address,
            inbox=inbox,
            ties=ties,
        )
        incarnation = ties.incarnation = Incarnation(context, inbox)
        incarnation.nested = child.instance
        child.current = incarnation
        child.life.begin(child.number)
        self._alive += 1
        self._tell(child, EventKind.STARTING)
        self._spawn(child, incarnation, ties.exited)

    def became_ready(self, child: Child, incarnation: Incarnation, value: object) -> None:
        """An incarnation has said so."""
        if child.current is not incarnation or child.state is not ChildState.STARTING:
            return  # it is being stopped already, so its readiness comes too late
        child.ready_at = trio.current_time()
        child.has_started = True
        self._enter(child, ChildState.RUNNING)
        self._tell(child, EventKind.STARTED)
        child.life.come_up()
        self._reply_started(child, value)
        if child.mailbox is not None and child.spec.mailbox and child.spec.mailbox.stall_after:
            child.mailbox.touch()
            self._look_for_stall(child)
        self._advance()

    def _reply_started(self, child: Child, value: object = None, *, ignored: bool = False) -> None:
        if child.start_reply is not None:
            child.start_reply.set(
                Started(child.spec.id, child.path, child.number, value, ignored, child.address)
            )
            child.start_reply = None

    def _start_timed_out(self, child: Child) -> None:
        late = f"not ready within {child.spec.start_timeout:g} s: no ctx.ready(), nothing received"
        reason = ExitReason(ExitKind.START_TIMEOUT, summary=late)
        self._condemn(child, reason, "start timeout")

    # Failing from outside.

    def _condemn(
        self, child: Child, verdict: ExitReason, why: str, *, at_once: bool = False
    ) -> None:
        """Stop an incarnation as failed, if it is not being stopped already."""
        if child.current is not None and child.state in (ChildState.STARTING, ChildState.RUNNING):
            child.current.verdict = verdict
            self._begin_stop(child, After.FAILURE, why, at_once=at_once)

    def condemn_incarnation(
        self, child: Child, number: int, error: Exception, at_once: bool = True
    ) -> None:
        """Let one incarnation fail by an exception, unless it has ended."""
        if child.number == number:
            starts = child.state is ChildState.STARTING
            kind = ExitKind.START_FAILED if starts else ExitKind.CRASH
            reason = describe(error, kind, child.spec.expected)
            self._condemn(child, reason, str(error), at_once=at_once)

    def _look_for_stall(self, child: Child) -> None:
        """Stop a child that leaves messages waiting; else look again when that may be so."""
        mailbox, spec = child.mailbox, child.spec.mailbox
        assert mailbox is not None
        assert spec is not None
        if child.state is not ChildState.RUNNING or spec.stall_after is None:
            return
        since = mailbox.waiting_since()
        if since is None:
            mailbox.rearm()
        elif trio.current_time() < since + spec.stall_after:
            self._arm(child, since + spec.stall_after, partial(self._look_for_stall, child))
        else:
            assert child.current is not None
            summary = f"{len(mailbox)} messages waited {spec.stall_after:g} s without a receive"
            if child.current.note:
                summary += f"; it was last about: {child.current.note}"
            self._tell(child, EventKind.STALLED)
            self._condemn(child, ExitReason(ExitKind.STALLED, summary=summary), "stalled")

    # Stopping.

    def _begin_stop(self, child: Child, after: After, why: str, *, at_once: bool = False) -> None:
        incarnation = child.current
        assert incarnation is not None
        child.after = after
        self._enter(child, ChildState.STOPPING)
        self._tell(child, EventKind.STOPPING)
        incarnation.request_stop()
        grace = 0.0 if self._abrupt or at_once else child.shutdown.grace
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

    @property
    def _stopping(self) -> bool:
        return self.state in (ChildState.STOPPING, ChildState.STOPPED)

    # Being down.

    def _take_back(self, child: Child, incarnation: Incarnation, reason: ExitReason) -> None:
        """Let go of what an incarnation held."""
        for monitor in incarnation.monitors:
            monitor.close()
        if incarnation.inbox is not None:
            lost = incarnation.inbox.take_back(failed=reason.kind in LOSING_EXITS)
            if lost:
                self._tell(child, EventKind.LOST_IN_FLIGHT)

    def _rest(self, child: Child, state: ChildState) -> None:
        """Let a child stay down, with its senders released."""
        child.due = child.delay = None
        if child.state is not state:
            self._enter(child, state)
        if child.mailbox is not None:
            child.mailbox.close()
        child.life.rest()
        if child.start_reply is not None:
            reason = child.last_exit or ExitReason(ExitKind.SHUTDOWN, summary="it was stopped")
            child.start_reply.fail(StartFailed(child.path, reason))
            child.start_reply = None

    def _forget(self, child: Child) -> None:
        self._rest(child, child.state if child.state in AT_REST else ChildState.STOPPED)
        if child.mailbox is not None:
            child.mailbox.drop_all()
        child.life.end()
        del self._children[child.spec.id]

    # Small steps.

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

    def find(self, child_id: str) -> Child:
        """Return a child. Raises ``NotFound``."""
        try:
            return self._children[child_id]
        except (KeyError, TypeError):  # the latter for what cannot be an id
            raise NotFound(f"{self.path} has no child of the id {child_id!r}") from None

    def post(self, message: Callable[[], None]) -> None:
        """Let the supervisor's task call ``message``."""
        self._post(message)
