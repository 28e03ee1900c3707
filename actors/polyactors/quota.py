"""How often something may be done, whoever wants it done: kept by all who share one quota."""

from collections import deque

import trio


class Quota:
    """At most `count_max` turns begin in any `window_seconds`; who comes first goes first."""

    def __init__(self, count_max: int, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._begun: deque[float] = deque(maxlen=count_max)
        """When the last `count_max` turns began, the oldest first."""
        self._turn = trio.StrictFIFOLock()

    async def wait_turn(self) -> None:
        """Wait until one more is allowed, and count it. Cancelled: nothing is counted.

        Who stands n-th in the queue waits at most window_seconds * (1 + n // count_max).
        """
        async with self._turn:
            if len(self._begun) == self._begun.maxlen:
                await trio.sleep_until(self._begun[0] + self._window_seconds)
            self._begun.append(trio.current_time())
