"""The life of a child over all its incarnations, as others may follow it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from polysupervisor._exit import ExitReason


class Watcher(ABC):
    """Who is told when a child comes up, goes down, or has ended for good.

    Called by the supervisor of that child, in its task: must return at once and not raise.
    """

    @abstractmethod
    def on_up(self, life: Life) -> None:
        """An incarnation has become ready."""

    @abstractmethod
    def on_down(self, life: Life, reason: ExitReason, *, failed: bool) -> None:
        """An incarnation has ended, ready or not; ``failed``: by itself, and not by returning."""

    def on_rest(self, life: Life) -> None:  # noqa: B027 - most do not care
        """The child stays down until ``restart_child``: it finished, was stopped or given up."""

    @abstractmethod
    def on_end(self, life: Life) -> None:
        """The child was forgotten, or its supervisor has ended: nothing more will come."""


def _nobody_fails(_: int, __: Exception) -> None:
    """There is no incarnation without a supervisor."""


class Life:
    """Which incarnation of a child there is, and how the last one ended.

    Every incarnation goes down exactly once; it comes up at most once, before.
    """

    __slots__ = (
        "_watchers",
        "fail",
        "incarnation",
        "is_over",
        "is_there",
        "is_up",
        "last_exit",
        "path",
    )

    def __init__(self, path: str, fail: Callable[[int, Exception], None] = _nobody_fails) -> None:
        self.path = path
        """Ids from the root down, joined by ``/``."""
        self.incarnation = 0
        """The present incarnation, or the last one; 0 before the first."""
        self.is_there = False
        """Whether the incarnation lives, ready or not."""
        self.is_up = False
        """Whether it is ready."""
        self.is_over = False
        """Whether no further incarnation can follow."""
        self.last_exit: ExitReason | None = None
        """How the last incarnation that ended did so."""
        self.fail = fail
        """Ends an incarnation, if it is still there, as failed by an exception."""
        # A dictionary keeps the order of the calls to watch().
        self._watchers: dict[Watcher, None] = {}

    def watch(self, watcher: Watcher) -> None:
        """Tell ``watcher`` what happens from now on."""
        self._watchers[watcher] = None

    def unwatch(self, watcher: Watcher) -> None:
        """Tell it no more; idempotent."""
        self._watchers.pop(watcher, None)

    def begin(self, incarnation: int) -> None:
        """An incarnation is being started. For the supervisor, as are those below."""
        self.incarnation = incarnation
        self.is_there = True

    def come_up(self) -> None:
        """It is ready."""
        self.is_up = True
        for watcher in list(self._watchers):
            watcher.on_up(self)

    def go_down(self, reason: ExitReason, *, failed: bool) -> None:
        """It has ended."""
        self.is_there = self.is_up = False
        self.last_exit = reason
        for watcher in list(self._watchers):
            watcher.on_down(self, reason, failed=failed)

    def rest(self) -> None:
        """It stays down until it is started by command."""
        for watcher in list(self._watchers):
            watcher.on_rest(self)

    def end(self) -> None:
        """No further incarnation can follow; idempotent."""
        if self.is_over:
            return
        self.is_over = True
        watchers, self._watchers = self._watchers, {}
        for watcher in watchers:
            watcher.on_end(self)
