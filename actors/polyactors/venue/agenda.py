"""What the exchange will do at a time, on Trio's clock."""

import heapq
import math
from collections.abc import Callable

import trio


class Agenda:
    """Things to do, each once and at its time; of one time, in the order in which they came.

    Nothing is done but by `run`: what is due before it starts is done when it does.
    """

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._changed = trio.Event()

    def add(self, at: float, action: Callable[[], None]) -> None:
        """Do this at `trio.current_time()` of `at`, or at once if that is past."""
        self._count += 1
        heapq.heappush(self._due, (at, self._count, action))
        self._changed.set()

    async def run(self) -> None:
        """Do what is due, for ever. *Cancellation*: at once; nothing is half done."""
        while True:
            self._changed = trio.Event()
            while self._due and self._due[0][0] <= trio.current_time():
                _, _, action = heapq.heappop(self._due)
                action()
            with trio.move_on_at(self._due[0][0] if self._due else math.inf):
                await self._changed.wait()
