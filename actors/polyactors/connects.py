"""When the service may connect: staggered, and never in a storm.

One gate for all feeds. At most CONNECTS_MAX connects are allowed in any WINDOW_SECONDS, not
counting those whose sessions *hold*: are open, and have been for PROVEN_SECONDS. A server that
drops at once, or right after the first dump, or a little later, therefore sees at most that
many, however many feeds there are, while feeds that hold do not slow down the start of the next.
"""

import trio

STAGGER_SECONDS = 0.1
"""Opening many sockets at once earns HTTP 429 (nautilus_trader#2238)."""
WINDOW_SECONDS = 11.0
"""The promise is 10 s as the server sees it: a connect may take some 100 ms longer to get there
than a later one."""
CONNECTS_MAX = 12
PROVEN_SECONDS = 2.0


class ConnectWindow:
    """Pure: remembers the connects and says when the next one may happen."""

    def __init__(self) -> None:
        self._connects: dict[int, float] = {}
        """When each session of the last WINDOW_SECONDS was begun, by epoch, the oldest first."""
        self._held: set[int] = set()
        """Those of them that hold now."""
        self._next_seconds = 0.0

    def next_at(self, now_seconds: float) -> float:
        """The earliest time for the next connect, given all that was recorded; may be past."""
        for epoch, at in list(self._connects.items()):
            if at > now_seconds - WINDOW_SECONDS:
                break
            del self._connects[epoch]
            self._held.discard(epoch)
        counted = [at for epoch, at in self._connects.items() if epoch not in self._held]
        if len(counted) >= CONNECTS_MAX:
            return max(self._next_seconds, counted[-CONNECTS_MAX] + WINDOW_SECONDS)
        return self._next_seconds

    def record(self, epoch: int, now_seconds: float) -> None:
        """A connect begins now, for the session `epoch`."""
        self._connects[epoch] = now_seconds
        self._next_seconds = now_seconds + STAGGER_SECONDS

    def prove(self, epoch: int) -> None:
        """The session holds: its connect is not counted for as long as it does."""
        if epoch in self._connects:
            self._held.add(epoch)

    def end(self, epoch: int) -> None:
        """The session is over: its connect is counted, again."""
        self._held.discard(epoch)


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

    def end(self, epoch: int) -> None:
        """The session is over."""
        self._window.end(epoch)
