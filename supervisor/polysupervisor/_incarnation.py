"""One incarnation: a task that turns every outcome into data, never into a nursery's failure."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import Any, cast

import attrs
import trio

from polysupervisor._actor import Actor, run_actor
from polysupervisor._child import ChildSpec, Run
from polysupervisor._context import Context, current_context
from polysupervisor._events import EventBus
from polysupervisor._exit import ExitKind, ExitReason, describe, leaves, split_cancelled
from polysupervisor._inbox import Inbox
from polysupervisor._monitor import Monitor
from polysupervisor._registry import Registry
from polysupervisor._tree import TreeNode

Report = Callable[[ExitReason, BaseException | None], None]
"""Takes how an incarnation ended and, apart, an exception that no supervisor may handle."""


@attrs.frozen
class Place:
    """Where something stands in the tree, and what all of the tree share."""

    path: str
    incarnation: int
    events: EventBus
    registry: Registry
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

    __slots__ = (
        "cancelled",
        "context",
        "inbox",
        "monitors",
        "nested",
        "note",
        "scope",
        "verdict",
        "wedged",
    )

    def __init__(self, context: Context[Any], inbox: Inbox[Any] | None) -> None:
        self.context = context
        self.inbox = inbox
        self.scope = trio.CancelScope()
        self.nested: Nestable | None = None
        self.verdict: ExitReason | None = None
        """Why it is made to end as failed: that is its exit, however it ends."""
        self.cancelled = False
        self.wedged = False
        self.note = ""
        """What it said with its last beat."""
        self.monitors: tuple[Monitor, ...] = ()

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
        report: Report,
    ) -> None:
        """Run it to its end and report that; nothing but Trio's own ``Cancelled`` comes out.

        ``report`` gets the reason and, apart, an exception that no supervisor may handle
        (``KeyboardInterrupt``, ``SystemExit``).
        """
        # The try stands outside the scope: an error raised in clean-up while being cancelled
        # passes the scope, with Trio's Cancelled taken out if the cancellation was ours.
        current_context.set(self.context)
        try:
            with self.scope:
                body = spec.factory()
                if isinstance(body, Nestable):
                    self.nested = body
                    await _run_nested(body, place, self.context)
                elif spec.hold is None:
                    await self._run(body, spec, place)
                else:
                    with self.context.bounded(spec.hold):
                        await self._run(body, spec, place)
        except BaseException as error:
            cancelled, rest = split_cancelled(error)
            if cancelled is not None and trio.current_effective_deadline() > -math.inf:
                # Nobody cancels this task: the actor kept an old one, or was handed another's.
                cancelled, rest = None, error
            try:
                if rest is None:
                    report(self.verdict or ExitReason(ExitKind.KILLED), None)
                else:
                    harmless = (Exception, trio.Cancelled)
                    lethal = not all(isinstance(leaf, harmless) for leaf in leaves(rest))
                    report(self._raised(rest, spec), rest if lethal else None)
                if cancelled is not None:
                    raise cancelled from None
            finally:
                # Else this frame and the traceback hold each other, and all that the actor held.
                del cancelled, rest
        else:
            report(self._returned(spec), None)

    async def _run(self, body: object, spec: ChildSpec[Any], place: Place) -> None:
        if isinstance(body, Actor):
            await run_actor(
                body,  # pyright: ignore[reportUnknownArgumentType] - it is Actor[Any]
                self.context,
                spec.shutdown,
            )
        elif callable(body):
            run = cast("Run[Any]", body)
            await run(self.context)
        else:
            raise TypeError(
                f"the factory of {place.path} made {body!r}, which is no async function"
                " of a context, no Actor and no supervisor"
            )

    def _returned(self, spec: ChildSpec[Any]) -> ExitReason:
        if self.verdict is not None:
            return self.verdict
        if self.scope.cancelled_caught:
            return ExitReason(ExitKind.KILLED)
        if self.context.stop_requested.is_set():
            return ExitReason(ExitKind.SHUTDOWN)
        if self.context.is_ignored:
            return ExitReason(ExitKind.NORMAL, summary="it need not run")
        if not self.context.is_ready:
            return ExitReason(ExitKind.START_FAILED, summary="returned before it was ready")
        return ExitReason(ExitKind.NORMAL)

    def _raised(self, error: BaseException, spec: ChildSpec[Any]) -> ExitReason:
        verdict = self.verdict
        stopping = self.context.stop_requested.is_set()
        if stopping and all(isinstance(leaf, trio.EndOfChannel) for leaf in leaves(error)):
            return verdict or ExitReason(ExitKind.SHUTDOWN)
        if verdict is not None:
            reason = describe(error, verdict.kind, spec.expected)
            return attrs.evolve(
                reason,
                types=verdict.types + reason.types,
                summary=f"{verdict.summary}; {reason.summary}",
                expected=verdict.expected and reason.expected,
            )
        if self.context.is_ready or stopping:
            return describe(error, ExitKind.CRASH, spec.expected)
        return describe(error, ExitKind.START_FAILED, spec.expected)
