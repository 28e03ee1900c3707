"""A supervisor's task: its loop and its commands.

One task, one inbox, no user code. Only this task changes the state of the supervisor; others
post to its inbox: the task of an incarnation that it is ready or has ended, a caller that it
wants something. The loop handles what was posted and what is due without waiting in between, so
the supervisor answers at any time, whatever its children do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar

import trio

from polysupervisor._child import NESTED_SHUTDOWN, ChildSpec, Restart, Strategy, check_id
from polysupervisor._events import EventBus
from polysupervisor._exit import ExitReason
from polysupervisor._incarnation import Incarnation, Nestable, Place, attach
from polysupervisor._intensity import Intensity
from polysupervisor._mailbox import Address
from polysupervisor._record import After, Child, Reply
from polysupervisor._restarts import Restarts
from polysupervisor._tree import ChildInfo, ChildState, Counts, Started, TreeNode
from polysupervisor.errors import (
    AlreadyPresent,
    AlreadyRunning,
    NotFound,
    NotRunning,
    Restarting,
    SupervisionError,
    TooManyChildren,
)

T = TypeVar("T")

AT_REST = frozenset({ChildState.STOPPED, ChildState.GAVE_UP})


class Machine(Restarts):
    """The loop around the transitions, the commands, and what can be seen from outside."""

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec[Any] | Nestable],
        *,
        strategy: Strategy,
        intensity: Intensity,
        stop_deadline: float,
        rng: Random | None,
        events: EventBus | None,
        dynamic: bool = False,
        max_children: int | None = None,
    ) -> None:
        super().__init__(
            name,
            strategy=strategy,
            intensity=intensity,
            stop_deadline=stop_deadline,
            dynamic=dynamic,
            rng=rng or Random(),
            events=events or EventBus(),
        )
        check_id(name)
        self._has_own_rng = rng is not None
        self._closes_events = events is None
        self._max_children = max_children
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = trio.Event()
        self._callers: set[Reply[Any]] = set()
        self._ran = False
        self._announce: Callable[[], None] | None = None
        self._nursery: trio.Nursery
        for child in children:
            spec = _spec_of_instance(child) if isinstance(child, Nestable) else child
            if spec.id in self._children:
                raise ValueError(f"{name} has two children of the id {spec.id!r}")
            self._add(spec, child if isinstance(child, Nestable) else None)
        if max_children is not None and len(self._children) > max_children:
            raise ValueError(f"{name} has more than max_children={max_children} children")
        self._attach_instances()

    def _add(self, spec: ChildSpec[Any], instance: Nestable | None = None) -> Child:
        child = Child(spec, f"{self.path}/{spec.id}", instance)
        self._children[spec.id] = child
        return child

    # The place in the tree.

    def attach(self, place: Place) -> None:
        """Take the place that the supervisor above gives, and give those below theirs."""
        if self._ran:
            return  # run() refuses, and says why
        self.path = place.path
        self.number = place.incarnation
        self.events = place.events
        self._closes_events = False
        if not self._has_own_rng:
            self.rng = place.rng
        for child in self._children.values():
            child.path = f"{self.path}/{child.spec.id}"
        self._attach_instances()

    def _attach_instances(self) -> None:
        for child in self._children.values():
            if child.instance is not None:
                attach(child.instance, self._place_of(child, 1))

    def _place_of(self, child: Child, number: int) -> Place:
        return Place(child.path, number, self.events, self.rng)

    # The task.

    async def run(self, announce: Callable[[], None]) -> None:
        """Run to the end; ``announce`` is called when all children are ready."""
        if self._ran:
            raise RuntimeError(f"{self.path} has run; make a new supervisor instead")
        self._ran = True
        self._announce = announce
        try:
            # Cancellation from outside must not reach the children by itself, since it would
            # reach all of them at once. So they are shielded, and a task beside them hears it.
            async with trio.open_nursery() as ears:
                ears.start_soon(self._hear_cancellation)
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as self._nursery:
                        await self._serve()
                ears.cancel_scope.cancel()
        finally:
            self._end()
            if self._outcome is not None:
                # In the place of a Cancelled, if there is one, as an error in clean-up is.
                raise self._outcome

    async def _hear_cancellation(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._post(self._begin_abrupt_stop)

    async def _serve(self) -> None:
        if not self._inbox:  # else it was told to stop before it ran
            self._begin_first_start()
        while True:
            while self._inbox:
                self._inbox.popleft()()
            self._timers.run_due(trio.current_time())
            if self._stopping and not self._alive:
                return
            self._wake = trio.Event()
            with trio.CancelScope(deadline=self._timers.next_due()):
                await self._wake.wait()

    def _end(self) -> None:
        self._enter_own(ChildState.STOPPED)
        self._follow(None)
        for child in self._children.values():
            if child.mailbox is not None:
                child.mailbox.close()
                child.mailbox.drop_all()
        for caller in self._callers:
            caller.fail(NotRunning(f"{self.path} has stopped"))
        if self._closes_events:
            self.events.close()

    def _post(self, message: Callable[[], None]) -> None:
        # Unbounded, but bounded by those who post: two for each incarnation, one for each caller.
        self._inbox.append(message)
        self._wake.set()

    def _spawn(self, child: Child, incarnation: Incarnation) -> None:
        def report(reason: ExitReason, lethal: BaseException | None) -> None:
            self._post(partial(self._exited, child, incarnation, reason, lethal))

        place = self._place_of(child, child.number)
        self._nursery.start_soon(incarnation.live, child.spec, place, report, name=child.path)

    def _on_started(self) -> None:
        assert self._announce is not None
        self._announce()

    # Commands.

    def stop(self) -> None:
        """Begin an ordered stop; idempotent, harmless before and after the run."""
        if not self._stopping:
            self._post(partial(self._begin_final_stop, "the supervisor stops"))

    async def start_child(self, spec: ChildSpec[Any]) -> Started:
        """See ``Supervisor.start_child``."""
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
            error = AlreadyPresent if present.state in AT_REST else AlreadyRunning
            raise error(f"{present.path} is {present.state.value}")
        if self._max_children is not None and len(self._children) >= self._max_children:
            raise TooManyChildren(f"{self.path} has {self._max_children} children already")
        child = self._add(spec)
        child.since = trio.current_time()
        child.start_reply = reply
        if self._plan is not None and self._plan.after is After.TURN:
            self._plan.members.append(child)
        else:
            self._begin_start(child)

    def _stop_child(self, child_id: str, reply: Reply[None]) -> None:
        child = self._child(child_id)
        if child.state in AT_REST:
            reply.set(None)
            return
        child.stop_replies.append(reply)
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
        child = self._child(child_id)
        waits = child.state is ChildState.RESTARTING
        runs = child.state is ChildState.RUNNING
        if child.state is ChildState.WAITING or (waits and not force):
            raise Restarting(f"{child.path} is {child.state.value}")
        if not (child.state in AT_REST or waits or (runs and force)):
            raise AlreadyRunning(f"{child.path} is {child.state.value}")
        if child.instance is not None:
            raise SupervisionError(f"{child.path} is a supervisor instance, which runs once")
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
        else:
            self._begin_start(child)

    def _delete_child(self, child_id: str, reply: Reply[None]) -> None:
        child = self._child(child_id)
        if child.state not in AT_REST:
            waits = child.state in (ChildState.WAITING, ChildState.RESTARTING)
            raise (Restarting if waits else AlreadyRunning)(f"{child.path} is {child.state.value}")
        self._forget(child)
        reply.set(None)

    # What can be seen.

    def address(self, child_id: str) -> Address[Any]:
        """See ``Supervisor.address``."""
        return self._child(child_id).address

    def _child(self, child_id: str) -> Child:
        try:
            return self._children[child_id]
        except KeyError:
            raise NotFound(f"{self.path} has no child of the id {child_id!r}") from None

    def infos(self) -> list[ChildInfo]:
        """See ``Supervisor.children``."""
        return [child.info() for child in self._children.values()]

    def count(self) -> Counts:
        """See ``Supervisor.count``."""
        supervisors = sum(child.nested is not None for child in self._children.values())
        return Counts(
            specs=len(self._children),
            active=self._alive,
            supervisors=supervisors,
            workers=len(self._children) - supervisors,
        )

    def tree(self) -> TreeNode:
        """See ``Supervisor.tree``."""
        return TreeNode(
            id=self.name,
            path=self.path,
            state=self.state,
            incarnation=self.number if self._ran else 0,
            since=self.since,
            due=None,
            attempt=0,
            is_supervisor=True,
            children=tuple(_node_of(child) for child in self._children.values()),
        )


def _node_of(child: Child) -> TreeNode:
    info = child.info()
    return TreeNode(
        id=info.id,
        path=info.path,
        state=info.state,
        incarnation=info.incarnation,
        since=info.since,
        due=info.due,
        attempt=info.attempt,
        is_supervisor=child.nested is not None,
        children=() if child.nested is None else child.nested.tree().children,
    )


def _spec_of_instance(instance: Nestable) -> ChildSpec[Any]:
    def factory() -> Any:
        return instance

    return ChildSpec(
        instance.name,
        factory,
        restart=Restart.TRANSIENT,
        shutdown=NESTED_SHUTDOWN,
        start_timeout=math.inf,
    )
