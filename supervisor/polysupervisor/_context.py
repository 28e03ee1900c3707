"""What an incarnation gets from its supervisor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import trio

from polysupervisor._exit import ExitReason
from polysupervisor._mailbox import Inbox
from polysupervisor.errors import NoMailbox

M = TypeVar("M")


class Context(Generic[M]):
    """The hands of one incarnation: who it is, its inbox, and how it speaks to its supervisor.

    It ends with the incarnation; do not keep it longer.
    """

    __slots__ = (
        "_inbox",
        "_on_ready",
        "_on_reset",
        "id",
        "incarnation",
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
        inbox: Inbox[M] | None,
        on_ready: Callable[[object], None],
        on_reset: Callable[[], None],
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
        self._inbox = inbox
        self._on_ready = on_ready
        self._on_reset = on_reset

    @property
    def inbox(self) -> Inbox[M]:
        """The child's mailbox, lent to this incarnation. Raises ``NoMailbox`` if it has none."""
        if self._inbox is None:
            raise NoMailbox(f"{self.path} was specified without a mailbox")
        return self._inbox

    def ready(self, value: object = None) -> None:
        """Say that the start succeeded; ``value`` goes to the caller of ``start_child``.

        The next sibling starts after this, and the start timeout no longer applies. Only the
        first call counts; receiving from the inbox calls it.
        """
        if not self.is_ready:
            self.is_ready = True
            self._on_ready(value)

    def reset_backoff(self) -> None:
        """Declare this child healthy: its count of consecutive failures becomes 0.

        For an actor that knows better than a clock. With ``Backoff(reset_after=math.inf)``
        merely running long proves nothing, and this is the only way back to short delays (and
        away from ``max_attempts``). The restart intensity is not touched.
        """
        self._on_reset()

    def open_nursery(self) -> AbstractAsyncContextManager[trio.Nursery]:
        """Open a nursery of this incarnation's own.

        Only when wanted: it costs 5 kB and makes a restart dearer. An error in it reaches the
        supervisor as a group; all leaves must match ``ChildSpec.expected`` to be expected.
        """
        return trio.open_nursery()
