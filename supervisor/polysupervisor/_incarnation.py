"""One incarnation: a task that turns every outcome into data, never into a nursery's failure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import Any

import attrs
import trio

from polysupervisor._child import ChildSpec
from polysupervisor._context import Context
from polysupervisor._events import EventBus
from polysupervisor._exit import ExitKind, ExitReason, describe, leaves, split_cancelled
from polysupervisor._mailbox import Inbox
from polysupervisor._tree import TreeNode


@attrs.frozen
class Place:
    """Where something stands in the tree, and what all of the tree share."""

    path: str
    incarnation: int
    events: EventBus
    rng: Random


class Nestable(ABC):
    """A supervisor, as the one above it sees it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its id among its siblings."""

    @abstractmethod
    def stop(self) -> None:
        """Begin an ordered stop."""

    @abstractmethod
    def tree(self) -> TreeNode:
        """Show what is below."""

    @abstractmethod
    def _attach(self, place: Place) -> None: ...

    @abstractmethod
    async def _run_nested(self, context: Context[Any]) -> None: ...


def attach(nested: Nestable, place: Place) -> None:
    """Tell a supervisor its place in the tree, before it runs."""
    nested._attach(place)  # pyright: ignore[reportPrivateUsage] - for the runtime, not for users


async def _run_nested(nested: Nestable, place: Place, context: Context[Any]) -> None:
    attach(nested, place)
    await nested._run_nested(context)  # pyright: ignore[reportPrivateUsage] - as above


class Incarnation:
    """One life of a child, and what its supervisor knows of it."""

    __slots__ = ("cancelled", "context", "inbox", "nested", "scope", "timed_out", "wedged")

    def __init__(self, context: Context[Any], inbox: Inbox[Any] | None) -> None:
        self.context = context
        self.inbox = inbox
        self.scope = trio.CancelScope()
        self.nested: Nestable | None = None
        self.timed_out = False
        self.cancelled = False
        self.wedged = False

    def request_stop(self) -> None:
        """Ask it to end; idempotent."""
        self.context.stop_requested.set()
        if self.inbox is not None:
            self.inbox.end()
        if self.nested is not None:
            self.nested.stop()

    async def live(
        self,
        spec: ChildSpec[Any],
        place: Place,
        report: Callable[[ExitReason, BaseException | None], None],
    ) -> None:
        """Run it to its end and report that; nothing but Trio's own ``Cancelled`` comes out.

        ``report`` gets the reason and, apart, an exception that no supervisor may handle
        (``KeyboardInterrupt``, ``SystemExit``).
        """
        # The try stands outside the scope: an error raised in clean-up while being cancelled
        # passes the scope, with Trio's Cancelled taken out if the cancellation was ours.
        try:
            with self.scope:
                body = spec.factory()
                if isinstance(body, Nestable):
                    self.nested = body
                    await _run_nested(body, place, self.context)
                else:
                    await body(self.context)
        except BaseException as error:
            cancelled, rest = split_cancelled(error)
            if rest is None:
                report(ExitReason(ExitKind.KILLED), None)
            else:
                lethal = not all(isinstance(leaf, Exception) for leaf in leaves(rest))
                report(self._raised(rest, spec), rest if lethal else None)
            if cancelled is not None:
                raise cancelled from None
        else:
            report(self._returned(spec), None)

    def _returned(self, spec: ChildSpec[Any]) -> ExitReason:
        if self.timed_out:
            return ExitReason(ExitKind.START_TIMEOUT, summary=_too_late(spec))
        if self.scope.cancelled_caught:
            return ExitReason(ExitKind.KILLED)
        if self.context.stop_requested.is_set():
            return ExitReason(ExitKind.SHUTDOWN)
        if not self.context.is_ready:
            return ExitReason(ExitKind.START_FAILED, summary="returned before it was ready")
        return ExitReason(ExitKind.NORMAL)

    def _raised(self, error: BaseException, spec: ChildSpec[Any]) -> ExitReason:
        if self.timed_out:
            reason = describe(error, ExitKind.START_TIMEOUT)
            return attrs.evolve(reason, summary=f"{_too_late(spec)}; {reason.summary}")
        stopping = self.context.stop_requested.is_set()
        if stopping and all(isinstance(leaf, trio.EndOfChannel) for leaf in leaves(error)):
            return ExitReason(ExitKind.SHUTDOWN)
        if self.context.is_ready or stopping:
            return describe(error, ExitKind.CRASH, spec.expected)
        return describe(error, ExitKind.START_FAILED, spec.expected)


def _too_late(spec: ChildSpec[Any]) -> str:
    return f"not ready within {spec.start_timeout:g} s"
