"""Commands to a supervisor: given from any task, obeyed by its own, answered when done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, TypeVar

import trio

from polysupervisor._child import ChildSpec
from polysupervisor._events import EventBus, EventKind
from polysupervisor._flags import Flags
from polysupervisor._incarnation import Nestable
from polysupervisor._life import Life
from polysupervisor._record import After, Child, Reply
from polysupervisor._restarts import Restarts
from polysupervisor._tree import AT_REST, ChildState, Started
from polysupervisor.errors import (
    AlreadyPresent,
    AlreadyRunning,
    NotRunning,
    Restarting,
    SupervisionError,
    TooManyChildren,
)

T = TypeVar("T")


class Commands(Restarts):
    """What callers can ask of a supervisor."""

    def __init__(self, name: str, flags: Flags, rng: Random, events: EventBus) -> None:
        super().__init__(name, flags, rng, events)
        self._callers: set[Reply[Any]] = set()
        self._is_to_stop = False

    def _add(self, spec: ChildSpec[Any], instance: Nestable | None = None) -> Child:
        life = Life(f"{self.path}/{spec.id}")
        child = Child(spec, life, instance)
        life.fail = partial(self._fail_later, child)
        if child.mailbox is not None:
            child.mailbox.on_overflow = partial(self._tell, child, EventKind.OVERFLOW)
            if child.spec.mailbox is not None and child.spec.mailbox.stall_after is not None:
                look = partial(self._look_for_stall, child)
                child.mailbox.on_waiting = partial(self._post, look)
        self._children[spec.id] = child
        return child

    def _fail_later(self, child: Child, number: int, error: Exception) -> None:
        self._post(partial(self.condemn_incarnation, child, number, error))

    def _check_spec(self, spec: ChildSpec[Any]) -> None:
        """Raise ``TypeError`` or ``ValueError`` for what is no specification for here."""
        if not isinstance(spec, ChildSpec):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a child is a ChildSpec or a supervisor, was {spec!r}")
        if spec.significant and self._flags.auto_shutdown == "never":
            raise ValueError(f"{spec.id} is significant, but auto_shutdown of {self.path} is never")

    def stop(self) -> None:
        """Begin an ordered stop; idempotent, harmless before and after the run."""
        if not self._stopping:
            self._is_to_stop = True
            self._post(partial(self._begin_final_stop, "the supervisor stops"))

    async def start_child(self, spec: ChildSpec[Any]) -> Started:
        """See ``Supervisor.start_child``."""
        self._check_spec(spec)
        return await self._command(partial(self._start_child, spec))

    async def stop_child(self, child_id: str) -> None:
        """See ``Supervisor.stop_child``."""
        await self._command(partial(self._stop_child, child_id))

    async def restart_child(self, child_id: str, *, force: bool, reset_backoff: bool) -> Started:
        """See ``Supervisor.restart_child``."""
        return await self._command(partial(self._restart_child, child_id, force, reset_backoff))

    async def delete_child(self, child_id: str) -> None:
        """See ``Supervisor.delete_child``."""
        await self._command(partial(self._delete_child, child_id))

    async def _command(self, command: Callable[[Reply[T]], None]) -> T:
        reply = Reply[T]()

        def obey() -> None:
            try:
                self._check_running()
                command(reply)
            except SupervisionError as error:
                reply.fail(error)

        self._check_running()
        self._callers.add(reply)
        self._post(obey)
        try:
            return await reply.wait()
        finally:
            self._callers.discard(reply)

    def _check_running(self) -> None:
        # While it starts, a command could wait for the very child that gives it.
        if self.state is not ChildState.RUNNING:
            raise NotRunning(f"{self.path} is {self.state.value}, not running")

    def _start_child(self, spec: ChildSpec[Any], reply: Reply[Started]) -> None:
        present = self._children.get(spec.id)
        if present is not None:
            error = AlreadyPresent if present.current is None else AlreadyRunning
            raise error(f"{present.path} is {present.state.value}")
        most = self._flags.max_children
        if most is not None and len(self._children) >= most:
            raise TooManyChildren(f"{self.path} has {most} children already")
        child = self._add(spec)
        child.since = trio.current_time()
        child.start_reply = reply
        if self._plan is not None and self._plan.after is After.TURN:
            self._plan.members.append(child)
        else:
            self._begin_start(child)

    def _stop_child(self, child_id: str, reply: Reply[None]) -> None:
        child = self.find(child_id)
        if child.state in AT_REST:
            reply.set(None)
            return
        child.stop_replies += (reply,)
        waits = child.state in (ChildState.WAITING, ChildState.RESTARTING, ChildState.STARTING)
        if self._plan is not None and self._plan.leader is child and waits:
            self._abandon_plan()
        if child.state is ChildState.STOPPING:
            child.after = After.REST
        elif child.current is not None:
            self._begin_stop(child, After.REST, "stop_child")
        else:
            self._settle(child, After.REST)
            self._advance()

    def _restart_child(
        self,
        child_id: str,
        force: bool,
        reset_backoff: bool,
        reply: Reply[Started],
    ) -> None:
        child = self.find(child_id)
        waits = child.state is ChildState.RESTARTING
        runs = child.state is ChildState.RUNNING
        if child.state is ChildState.WAITING or (waits and not force):
            raise Restarting(f"{child.path} is {child.state.value}")
        if not (child.state in AT_REST or waits or (runs and force)):
            raise AlreadyRunning(f"{child.path} is {child.state.value}")
        if child.instance is not None:
            raise SupervisionError(f"{child.path} is a supervisor instance, which runs once")
        if child.start_reply is not None:
            raise Restarting(f"{child.path} is being started by command already")
        if reset_backoff:
            child.attempt = 0
            child.window = None
        child.start_reply = reply
        if runs:
            self._begin_stop(child, After.START, "restart_child")
        elif waits and self._plan is not None:
            child.due = None
            if self._plan.leader is child:
                self._plan.due = 0.0
            self._advance()
        elif self._has_turn_to_come(child):
            self._enter(child, ChildState.WAITING)
        else:
            child.forget_queued()
            self._begin_start(child)

    def _delete_child(self, child_id: str, reply: Reply[None]) -> None:
        child = self.find(child_id)
        if child.state not in AT_REST:
            waits = child.state in (ChildState.WAITING, ChildState.RESTARTING)
            raise (Restarting if waits else AlreadyRunning)(f"{child.path} is {child.state.value}")
        self._forget(child)
        reply.set(None)
