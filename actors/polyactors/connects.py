"""When the service may connect: staggered, and never in a storm.

One gate for all feeds. A connect is *unproven* until its session has lived PROVEN_SECONDS; at
most UNPROVEN_MAX unproven connects are allowed in any WINDOW_SECONDS. A server that drops at
once, or right after the first dump, therefore sees at most that many, however many feeds there
are, while feeds that hold do not slow down the start of the next.
"""

from collections import deque

import trio

STAGGER_SECONDS = 0.1
"""Opening many sockets at once earns HTTP 429 (nautilus_trader#2238)."""
WINDOW_SECONDS = 10.0
UNPROVEN_MAX = 12
PROVEN_SECONDS = 2.0


class ConnectWindow:
    """Pure: remembers the connects and says when the next one may happen."""

    def __init__(self) -> None:
        self._unproven: deque[tuple[float, int]] = deque()
        self._next_seconds = 0.0

    def next_at(self, now_seconds: float) -> float:
        """The earliest time for the next connect, given all that was recorded; may be past."""
        while self._unproven and self._unproven[0][0] <= now_seconds - WINDOW_SECONDS:
            self._unproven.popleft()
        if len(self._unproven) >= UNPROVEN_MAX:
            return max(self._next_seconds, self._unproven[0][0] + WINDOW_SECONDS)
        return self._next_seconds

    def record(self, epoch: int, now_seconds: float) -> None:
        """A connect begins now, for the session `epoch`."""
        self._unproven.append((now_seconds, epoch))
        self._next_seconds = now_seconds + STAGGER_SECONDS

    def prove(self, epoch: int) -> None:
        """The session held: its connect is no longer counted."""
        self._unproven = deque(item for item in self._unproven if item[1] != epoch)


class ConnectGate:
    """The window, with waiting. Feeds pass one at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._window = ConnectWindow()
        self._turn = trio.StrictFIFOLock()
        self._proven = trio.Event()
        """Set when a session proved itself: whoever waits may look again."""

    async def wait_turn(self, epoch: int) -> None:
        """Wait until a connect is allowed, and record it. Cancelled: nothing is recorded."""
        async with self._turn:
            while (due := self._window.next_at(trio.current_time())) > trio.current_time():
                self._proven = trio.Event()
                with trio.move_on_at(due):
                    await self._proven.wait()
            self._window.record(epoch, trio.current_time())

    def prove(self, epoch: int) -> None:
        """The session has lived PROVEN_SECONDS."""
        self._window.prove(epoch)
        self._proven.set()
