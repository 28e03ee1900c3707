"""A supervisor's task: its loop, and what can be seen of it from outside.

One task, one inbox, no user code. Only this task changes the state of the supervisor; others
post to its inbox: the task of an incarnation that it is ready or has ended, a caller that it
wants something. The loop handles what was posted and what is due without waiting in between, so
the supervisor answers at any time, whatever its children do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import trio

from polysupervisor._address import Address
from polysupervisor._child import NESTED_SHUTDOWN, ChildSpec, Restart, check_id
from polysupervisor._commands import Commands
from polysupervisor._events import EventBus
from polysupervisor._flags import Flags
from polysupervisor._incarnation import Incarnation, Nestable, Place, Report, attach
from polysupervisor._record import Child
from polysupervisor._tree import ChildInfo, ChildState, Counts, TreeNode
from polysupervisor.errors import NotRunning


class Machine(Commands):
    """The loop around the transitions, and what can be seen from outside."""

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec[Any] | Nestable],
        flags: Flags,
        rng: Random | None,
        events: EventBus | None,
    ) -> None:
        check_id(name)
        super().__init__(name, flags, rng or Random(), events or EventBus())
        self._has_own_rng = rng is not None
        self._closes_events = events is None
        self._inbox: deque[Callable[[], None]] = deque()
        self._waiter: trio.lowlevel.Task | None = None
        self._ran = False
        self._announce: Callable[[], None] | None = None
        self._nursery: trio.Nursery
        for child in children:
            spec = _spec_of_instance(child) if isinstance(child, Nestable) else child
            self._check_spec(spec)
            if spec.id in self._children:
                raise ValueError(f"{name} has two children of the id {spec.id!r}")
            self._add(spec, child if isinstance(child, Nestable) else None)
        most = flags.max_children
        if most is not None and len(self._children) > most:
            raise ValueError(f"{name} has more than max_children={most} children")
        self._attach_instances()

    # The place in the tree.

    def attach(self, place: Place) -> None:
        """Take the place that the supervisor above gives, and give those below theirs."""
        if self._ran:
            return  # run() refuses, and says why
        self.path = place.path
        self.number = place.incarnation
        self.events = place.events
        self.registry = place.registry
        self._closes_events = False
        if not self._has_own_rng:
            self.rng = place.rng
        for child in self._children.values():
            child.life.path = f"{self.path}/{child.spec.id}"
        self._attach_instances()

    def _attach_instances(self) -> None:
        for child in self._children.values():
            if child.instance is not None:
                attach(child.instance, self._place_of(child, 1))

    def _place_of(self, child: Child, number: int) -> Place:
        return Place(child.path, number, self.events, self.registry, self.rng)

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
        if not self._is_to_stop:
            self._begin_first_start()
        while not await self._serve_until_due():
            pass

    async def _serve_until_due(self) -> bool:
        """Handle what is posted and due; say whether that was all, or only the alarm rang."""
        # One scope for many turns, since making one costs more than moving its deadline.
        with trio.CancelScope() as alarm:
            while True:
                while self._inbox:
                    self._inbox.popleft()()
                self._timers.run_due(trio.current_time())
                if self._stopping and not self._alive:
                    return True
                if not self._inbox:
                    due = self._timers.next_due()
                    if due < alarm.deadline:  # moving it costs; one that rings in vain is cheap
                        alarm.deadline = due
                    await self._wait_for_post()
        return False

    async def _wait_for_post(self) -> None:
        self._waiter = trio.lowlevel.current_task()

        def leave(_: object) -> trio.lowlevel.Abort:
            self._waiter = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def _end(self) -> None:
        self._enter_own(ChildState.STOPPED)
        self._follow(None)
        for child in self._children.values():
            if child.mailbox is not None:
                child.mailbox.close()
                child.mailbox.drop_all()
            child.life.end()
        for caller in self._callers:
            caller.fail(NotRunning(f"{self.path} has stopped"))
        if self._closes_events:
            self.events.close()

    def _post(self, message: Callable[[], None]) -> None:
        # Unbounded, but bounded by those who post: two for each incarnation, one for each caller.
        self._inbox.append(message)
        if self._waiter is not None:
            trio.lowlevel.reschedule(self._waiter)
            self._waiter = None

    def _spawn(self, child: Child, incarnation: Incarnation, report: Report) -> None:
        place = self._place_of(child, child.number)
        self._nursery.start_soon(incarnation.live, child.spec, place, report, name=child.path)

    def _on_started(self) -> None:
        assert self._announce is not None
        self._announce()

    # What can be seen.

    def address(self, child_id: str) -> Address[Any]:
        """See ``Supervisor.address``."""
        return self.find(child_id).address

    def records(self) -> list[Child]:
        """Return what is remembered of the children. For the testing kit."""
        return list(self._children.values())

    def infos(self) -> list[ChildInfo]:
        """See ``Supervisor.children``."""
        return [child.info() for child in self._children.values()]

    def count(self) -> Counts:
        """See ``Supervisor.count``."""
        supervisors = sum(child.is_supervisor for child in self._children.values())
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
        is_supervisor=child.is_supervisor,
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
