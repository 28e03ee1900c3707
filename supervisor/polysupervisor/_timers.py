"""Due times of one supervisor: a heap with lazy removal."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from itertools import count

COMPACT_ABOVE = 64
"""Cancelled timers that are kept before the heap is rebuilt without them."""


class Timer:
    """An action at a time; ``Timers.cancel`` disarms it."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action


class Timers:
    """Actions by due time; those of the same time run in the order of their scheduling."""

    __slots__ = ("_cancelled", "_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap)

    def schedule(self, at: float, action: Callable[[], None]) -> Timer | None:
        """Run ``action`` at ``at`` seconds; at infinity means never, and ``None`` is returned."""
        if at == math.inf:
            return None
        timer = Timer(action)
        heapq.heappush(self._heap, (at, next(self._order), timer))
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Disarm a timer; harmless if there is none, or if it has run or was disarmed."""
        if timer is None or timer.action is None:
            return
        timer.action = None
        self._cancelled += 1
        if self._cancelled > COMPACT_ABOVE and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_due(self) -> float:
        """Return the earliest due time, infinity if there is none."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else math.inf

    def run_due(self, now: float) -> None:
        """Run what is due at ``now``; what it schedules for now or earlier runs as well."""
        while self.next_due() <= now:
            timer = heapq.heappop(self._heap)[2]
            action, timer.action = timer.action, None
            assert action is not None  # next_due has removed the disarmed ones
            action()
