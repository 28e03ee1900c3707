"""What an incarnation gets from its supervisor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import trio

from polysupervisor._address import Address
from polysupervisor._exit import ExitReason
from polysupervisor._guard import holding
from polysupervisor._hold import Hold, HoldLimit
from polysupervisor._inbox import Inbox
from polysupervisor._monitor import Monitor
from polysupervisor._registry import Registry
from polysupervisor.errors import NoMailbox

M = TypeVar("M")


class Ties(ABC):
    """What an incarnation can ask of the runtime: its supervisor, as it sees it."""

    registry: Registry

    @abstractmethod
    def ready(self, value: object) -> None:
        """It is ready."""

    @abstractmethod
    def reset_backoff(self) -> None:
        """Its failures are forgotten."""

    @abstractmethod
    def beat(self, note: str) -> None:
        """It makes progress."""

    @abstractmethod
    def monitor(self, who: Address[Any]) -> Monitor:
        """It wants to know when a child comes up or goes down."""

    @abstractmethod
    def link(self, who: Address[Any]) -> None:
        """It wants to fall with a child."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """This incarnation is to be treated as failed by that."""

    @abstractmethod
    def request_restart(self, child_id: str, reason: str) -> None:
        """It wants itself or a sibling restarted."""


class Context(Generic[M]):
    """The hands of one incarnation: who it is, its inbox, and how it speaks to its supervisor.

    It ends with the incarnation; do not keep it longer.
    """

    __slots__ = (
        "_inbox",
        "_ties",
        "address",
        "hold",
        "id",
        "incarnation",
        "is_ignored",
        "is_ready",
        "last_exit",
        "path",
        "stop_requested",
    )

    def __init__(
        self,
        id: str,  # noqa: A002 - its name in a spec
        path: str,
        incarnation: int,
        last_exit: ExitReason | None,
        *,
        address: Address[M],
        inbox: Inbox[M] | None,
        ties: Ties,
    ) -> None:
        self.id = id
        """Id of the child within its supervisor."""
        self.path = path
        """Ids from the root down, joined by ``/``."""
        self.incarnation = incarnation
        """1 for the first start, one more for each restart."""
        self.last_exit = last_exit
        """How the incarnation before this one ended; ``None`` for the first."""
        self.stop_requested = trio.Event()
        """Set when this incarnation shall end; it is cancelled ``Shutdown.grace`` later."""
        self.is_ready = False
        """Whether ``ready`` was called, or a message received."""
        self.is_ignored = False
        """Whether ``ignore`` was called."""
        self.address = address
        """The child's own address, to give to others."""
        self.hold: Hold | None = None
        """How long it has held the event loop: ``total`` seconds, and the ``longest`` turn of
        Trio; ``None`` without ``ChildSpec.hold``."""
        self._inbox = inbox
        self._ties = ties

    @property
    def inbox(self) -> Inbox[M]:
        """The child's mailbox, lent to this incarnation. Raises ``NoMailbox`` if it has none."""
        if self._inbox is None:
            raise NoMailbox(f"{self.path} was specified without a mailbox: mailbox=MailboxSpec()")
        return self._inbox

    def ready(self, value: object = None) -> None:
        """Say that the start succeeded; ``value`` goes to the caller of ``start_child``.

        The next sibling starts after this, and the start timeout no longer applies. Only the
        first call counts; receiving from the inbox calls it.
        """
        if not self.is_ready and not self.is_ignored:
            self.is_ready = True
            self._ties.ready(value)

    def ignore(self) -> None:
        """Say that this child need not run; then return.

        For an actor that finds nothing to do when it starts (a feature that is switched off).
        The start counts as a success and the next sibling starts; the child is then at rest
        (``restart_child`` tries again), and forgotten if it is temporary or its supervisor
        dynamic. Raises ``RuntimeError`` once it is ready.
        """
        if self.is_ready:
            raise RuntimeError(f"{self.path} is ready, so it cannot be ignored any more")
        self.is_ignored = True

    def reset_backoff(self) -> None:
        """Declare this child healthy: its count of consecutive failures becomes 0.

        For an actor that knows better than a clock. With ``Backoff(reset_after=math.inf)``
        merely running long proves nothing, and this is the only way back to short delays (and
        away from ``max_attempts``). The restart intensity is not touched.
        """
        self._ties.reset_backoff()

    def beat(self, note: str = "") -> None:
        """Say that this actor makes progress, though it does not receive.

        With ``MailboxSpec.stall_after`` an actor that leaves messages waiting must receive or
        beat at least that often. ``note`` says what it is about, should it stall after all.
        """
        self._ties.beat(note)

    @property
    def registry(self) -> Registry:
        """The names of the whole tree."""
        return self._ties.registry

    def monitor(self, who: Address[Any]) -> Monitor:
        """Return a stream of ``Up`` and ``Down`` of another child, as they happen from now on.

        Every incarnation gives exactly one ``Down``, one that becomes ready an ``Up`` before.
        If it is down already, its last ``Down`` comes at once. Ends with this incarnation.
        """
        return self._ties.monitor(who)

    def link(self, who: Address[Any]) -> None:
        """Share the fate of another child's present incarnation, both ways.

        When one of the two fails (not: when it returns, or is stopped by a supervisor) the
        other is cancelled and its exit is a crash by ``LinkedExit``. An actor that shall
        survive and be told uses ``monitor``. Raises ``LinkedExit`` at once if the other is down
        now; list it in ``ChildSpec.expected`` to wait for the other without spending
        intensity.
        """
        self._ties.link(who)

    async def request_restart(self, reason: str, *, of: str | None = None) -> None:
        """Have this child, or the sibling of the id ``of``, treated as failed.

        The exit is a crash by ``RestartRequested``: the strategy applies, and the intensity is
        spent (unless that class is in ``ChildSpec.expected``). For itself this never returns,
        since the incarnation is cancelled; unless it is being stopped already. A sibling is
        stopped with its own grace, which is not waited for; nothing happens if it is not
        running. Raises ``NotFound``.
        """
        who = self.id if of is None else of
        self._ties.request_restart(who, reason)
        if who == self.id:
            await self.stop_requested.wait()
        await trio.lowlevel.checkpoint()

    def open_nursery(self) -> AbstractAsyncContextManager[trio.Nursery]:
        """Open a nursery of this incarnation's own.

        Only when wanted: it costs 5 kB and makes a restart dearer. An error in it reaches the
        supervisor as a group; all leaves must match ``ChildSpec.expected`` to be expected.
        """
        return trio.open_nursery()

    def bounded(self, limit: HoldLimit) -> AbstractContextManager[None]:
        """Bound how long what is done inside holds the event loop. For the runtime."""
        self.hold = Hold(self.path, limit, self._ties.fail)
        return holding(self.hold)


current_context: ContextVar[Context[Any]] = ContextVar("polysupervisor.current_context")
"""The context of the incarnation whose task, or task's child, is running."""
