"""How long a child may hold the event loop, and has held it; who sees to that is ``_guard``."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

import attrs
from attrs.validators import gt, is_callable

from polysupervisor.errors import HeldLoop


def _spares_nothing(_: str) -> bool:
    return False


@attrs.frozen
class HoldLimit:
    """How long a child may hold the event loop.

    Whatever the child and the tasks of its nurseries do from one of Trio's turns to the next
    counts together; in the main thread a single step is interrupted within ``seconds`` and a
    quarter, in another thread it is noticed when it is over. Its exit is then a crash by
    ``HeldLoop``. Time in which the process was stopped, waited for a processor, or collected
    garbage, does not count.
    """

    seconds: float = attrs.field(default=0.1, validator=gt(0))
    """Above 0; ``inf`` for ever."""
    spares: Callable[[str], bool] = attrs.field(default=_spares_nothing, validator=is_callable())
    """Whether code of a module (by its name) is let go on to its end when the child calls it:
    code that shares what it changes with others. This package's always is."""


class Interrupt(BaseException):
    """What is raised in the child's code: nothing that ``except Exception`` would take."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Hold:
    """How long one incarnation holds the event loop, and has held it."""

    __slots__ = (
        "_condemn",
        "_cpu_at_turn",
        "_interrupted_turn",
        "_interrupts",
        "_turn",
        "is_over",
        "limit",
        "longest",
        "path",
        "spent",
        "total",
    )

    def __init__(self, path: str, limit: HoldLimit, condemn: Callable[[Exception], None]) -> None:
        self.path = path
        self.limit = limit
        self._condemn = condemn
        self.is_over = False
        self.total = 0.0
        """Seconds of all its steps."""
        self.longest = 0.0
        """Seconds of the longest turn."""
        self._turn = -1
        self.spent = 0.0
        """Seconds in the turn of Trio that is or was its last."""
        self._cpu_at_turn = 0.0
        self._interrupts = 0
        self._interrupted_turn = -1

    def begin(self, turn: int) -> None:
        """A step of one of its tasks begins."""
        if turn != self._turn:
            self._turn = turn
            self.spent = 0.0
            self._cpu_at_turn = thread_time()

    def end(self, seconds: float) -> None:
        """It is over."""
        self.total += seconds
        self.spent += seconds
        self.longest = max(self.longest, self.spent)
        if self.spent <= self.limit.seconds or self.is_over:
            return
        if self._interrupted_turn == self._turn and self._interrupts == 1:
            return  # the exception is on its way, unless it was caught: then there is a next time
        # What it has not worked the process was stopped, or starved.
        if thread_time() - self._cpu_at_turn > self.limit.seconds:
            self._condemn(self.failure(self.spent))

    def excuse(self, seconds: float) -> None:
        """So much of the work in this step was not its own."""
        self._cpu_at_turn += seconds

    def note_interrupt(self) -> None:
        """It is interrupted, now."""
        self._interrupts += 1
        self._interrupted_turn = self._turn

    def failure(self, seconds: float, where: str = "") -> HeldLoop:
        """What its exit will be."""
        return HeldLoop(self.path, seconds, self.limit.seconds, where)
