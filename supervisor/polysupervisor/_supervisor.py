"""Supervisors: the public face of the state machine in ``_machine``."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import trio

from polysupervisor._address import Address
from polysupervisor._child import ChildSpec, Strategy
from polysupervisor._context import Context
from polysupervisor._events import EventBus
from polysupervisor._flags import AutoShutdown, Flags
from polysupervisor._incarnation import Nestable, Place
from polysupervisor._intensity import Intensity
from polysupervisor._machine import Machine
from polysupervisor._registry import Registry
from polysupervisor._tree import ChildInfo, Counts, Started, TreeNode

STOP_DEADLINE_SECONDS = 30.0
"""How long an ordered stop may take unless told otherwise."""


class Supervisor(Nestable):
    """Starts children in order, restarts those that fail, and stops them in reverse order.

    ``children`` are specifications, or supervisors: an instance is a *permanent* part of the
    tree, which cannot be restarted; if it fails, or if its group would have to restart, this
    supervisor is exhausted at once. A supervisor that shall be restarted is a ``ChildSpec``
    whose factory returns a new one.

    ``auto_shutdown``: with ``"any"`` this supervisor stops, and ``run`` returns, when a
    significant child has ended by itself for good; with ``"all"`` when the last of them has.

    ``stop_deadline`` (seconds) bounds an ordered stop as a whole: then all that is left is
    cancelled at once. ``rng`` is the source of jitter and ``events`` the event stream; nested
    supervisors use those of the root (an own ``rng`` is kept). Raises ``ValueError`` for ids
    that are not unique, a name that is no id, or a significant child without ``auto_shutdown``.

    An instance runs once. Its methods belong to the thread of Trio.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec[Any] | Supervisor] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity = Intensity(),  # noqa: B008 - frozen
        auto_shutdown: AutoShutdown = "never",
        stop_deadline: float = STOP_DEADLINE_SECONDS,
        rng: Random | None = None,
        events: EventBus | None = None,
    ) -> None:
        flags = Flags(
            strategy=strategy,
            intensity=intensity,
            auto_shutdown=auto_shutdown,
            stop_deadline=stop_deadline,
        )
        self._machine = Machine(name, children, flags, rng, events)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self._machine.state.value}>"

    @property
    def name(self) -> str:
        """Its id among its siblings, and the first part of all paths if it is the root."""
        return self._machine.name

    @property
    def path(self) -> str:
        """Ids from the root down, joined by ``/``; final once it runs."""
        return self._machine.path

    @property
    def events(self) -> EventBus:
        """The event stream of the whole tree; final once it runs."""
        return self._machine.events

    @property
    def registry(self) -> Registry:
        """The names of the whole tree; final once it runs."""
        return self._machine.registry

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the children in order, keep them up, and return after ``stop()``.

        Ready (``nursery.start``) when all children are.

        *Error handling*: raises ``StartFailed`` when a child fails at its first start, and
        ``SupervisorEscalation`` when the restart intensity is exhausted, each after an ordered
        stop; ``RuntimeError`` when called twice. ``KeyboardInterrupt`` or ``SystemExit`` in a
        child is raised here after an ordered stop.

        ``KeyboardInterrupt`` may land in this task itself if nobody takes the signal: then
        nothing is stopped in order. ``run_app`` takes it.

        *Cancellation*: the children are stopped in reverse order without grace (each cancelled,
        and waited for up to its ``Shutdown.kill``), within ``stop_deadline``; then the
        cancellation goes on. A child that resists its cancellation is reported as ``wedged``
        and the others are stopped, but ``run`` cannot return before it has ended.
        """
        told = False

        def ready() -> None:
            nonlocal told
            told = True
            task_status.started()

        await self._machine.run(ready)
        if not told:  # stopped while it started, which is no failure
            task_status.started()

    def stop(self) -> None:
        """Begin an ordered stop; ``run`` returns when it is done.

        Idempotent, harmless after the end; before ``run`` it makes that return at once.
        """
        self._machine.stop()

    async def start_child(self, spec: ChildSpec[Any]) -> Started:
        """Add a child behind the others, start it, and wait until it is ready.

        Raises ``StartFailed`` (the child is then forgotten, not retried), ``AlreadyRunning`` or
        ``AlreadyPresent`` for an id in use, ``TooManyChildren``, and ``NotRunning`` unless this
        supervisor has finished its own start and is not stopping. While its group restarts the
        child waits for its turn. *Cancellation*: the child stays, its start goes on.
        """
        return await self._machine.start_child(spec)

    async def stop_child(self, id: str) -> None:  # noqa: A002 - its name in a spec
        """Stop a child and wait for its end; idempotent.

        It stays present (``restart_child``, ``delete_child``) unless it is temporary or the
        supervisor dynamic. Its siblings are not touched; but when its group waits for its
        restart, the group stays down with it. Raises ``NotFound``, ``NotRunning``.
        *Cancellation*: the stop goes on.
        """
        await self._machine.stop_child(id)

    async def restart_child(
        self,
        id: str,  # noqa: A002 - its name in a spec
        *,
        force: bool = False,
        reset_backoff: bool = False,
    ) -> Started:
        """Start a child that is stopped or was given up, and wait until it is ready.

        With ``force`` a running child is stopped first, and one that waits out its backoff
        starts at once; without it these raise ``AlreadyRunning`` and ``Restarting``. A child
        whose turn in its group's start has not come always raises ``Restarting``, one that is
        stopping or starting ``AlreadyRunning``. With ``reset_backoff`` its consecutive failures
        and, with ``scope="child"``, its restarts are forgotten. Spends no intensity; siblings
        are not touched. Raises ``StartFailed`` (the child is then stopped, not retried),
        ``NotFound``, ``NotRunning``. *Cancellation*: the restart goes on.
        """
        return await self._machine.restart_child(id, force=force, reset_backoff=reset_backoff)

    async def delete_child(self, id: str) -> None:  # noqa: A002 - its name in a spec
        """Forget a child that is stopped or was given up.

        Raises ``AlreadyRunning``, ``Restarting``, ``NotFound``, ``NotRunning``.
        """
        await self._machine.delete_child(id)

    def children(self) -> list[ChildInfo]:
        """Return the children in start order as they are now; never waits."""
        return self._machine.infos()

    def count(self) -> Counts:
        """Return how many children there are now; never waits."""
        return self._machine.count()

    def tree(self) -> TreeNode:
        """Return this supervisor and all below it as they are now; never waits."""
        return self._machine.tree()

    def address(self, id: str) -> Address[Any]:  # noqa: A002 - its name in a spec
        """Return where to send messages for a child; valid before its start and for its life.

        Raises ``NotFound`` for a child that is not (yet, or any more) of this supervisor.
        """
        return self._machine.address(id)

    def _attach(self, place: Place) -> None:
        self._machine.attach(place)

    async def _run_nested(self, context: Context[Any]) -> None:
        if context.stop_requested.is_set():
            self.stop()
        await self._machine.run(context.ready)
        context.ready()  # if it ended while it started: by command, which is no failure
