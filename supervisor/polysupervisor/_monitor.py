"""How one child follows another: monitors that tell, and links that make fall together."""

from __future__ import annotations

from collections import deque

import attrs
import trio

from polysupervisor._exit import ExitReason
from polysupervisor._life import Life, Watcher
from polysupervisor.errors import LinkedExit

MONITOR_NOTICES_MAX = 1_000
"""Notices that a monitor holds for a slow reader; the oldest are dropped and counted."""


@attrs.frozen
class Up:
    """An incarnation of a monitored child has become ready."""

    path: str
    """Whose."""
    incarnation: int
    """Which."""


@attrs.frozen
class Down:
    """An incarnation of a monitored child has ended."""

    path: str
    """Whose."""
    incarnation: int
    """Which; 0 if the child has ended for good without ever having been started."""
    reason: ExitReason | None
    """How it ended; ``None`` only with incarnation 0."""


class Monitor(Watcher, trio.abc.ReceiveChannel["Up | Down"]):
    """A queue of ``Up`` and ``Down`` of one child, for one reader.

    ``receive`` raises ``trio.EndOfChannel`` when the child was forgotten or its supervisor has
    ended, and all is read; ``trio.ClosedResourceError`` after ``aclose``, and when the
    incarnation that asked for it has ended. *Cancellation*: a cancelled ``receive`` loses
    nothing.
    """

    def __init__(self, life: Life) -> None:
        self._life = life
        self._notices: deque[Up | Down] = deque(maxlen=MONITOR_NOTICES_MAX)
        self._readers = trio.lowlevel.ParkingLot()
        self._closed = False
        self.dropped = 0
        """Notices that the reader was too slow for."""
        down_already = not life.is_there and (life.incarnation > 0 or life.is_over)
        if down_already:
            self._put(Down(life.path, life.incarnation, life.last_exit))
        if not life.is_over:
            life.watch(self)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be received."""
        return self._closed

    @property
    def is_up(self) -> bool:
        """Whether the child is ready now, whatever was read."""
        return self._life.is_up

    def on_up(self, life: Life) -> None:
        """Queue it."""
        self._put(Up(life.path, life.incarnation))

    def on_down(self, life: Life, reason: ExitReason, *, failed: bool) -> None:
        """Queue it."""
        del failed
        self._put(Down(life.path, life.incarnation, reason))

    def on_end(self, life: Life) -> None:
        """Let readers end once all is read."""
        del life
        self._readers.unpark_all()

    def _put(self, notice: Up | Down) -> None:
        if len(self._notices) == MONITOR_NOTICES_MAX:
            self.dropped += 1
        self._notices.append(notice)
        self._readers.unpark()

    def receive_nowait(self) -> Up | Down:
        """Return the oldest notice, or raise ``trio.WouldBlock`` if there is none."""
        if self._closed:
            raise trio.ClosedResourceError
        if self._notices:
            return self._notices.popleft()
        if self._life.is_over:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> Up | Down:
        """Wait for the oldest notice and return it."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self._readers.park()

    def close(self) -> None:
        """Stop watching, without a checkpoint; idempotent."""
        self._closed = True
        self._life.unwatch(self)
        self._notices.clear()
        self._readers.unpark_all()

    async def aclose(self) -> None:
        """Stop watching; idempotent."""
        self.close()
        await trio.lowlevel.checkpoint()


class Link(Watcher):
    """Two incarnations of which each fails with the other.

    Raises ``LinkedExit`` if ``other`` is down now.
    """

    def __init__(self, one: Life, other: Life) -> None:
        if not other.is_there:
            raise LinkedExit(other.path, other.incarnation, other.last_exit)
        self._ends = {one: other, other: one}
        for end in self._ends:
            end.watch(self)

    def on_up(self, life: Life) -> None:
        """Nothing: a link may be made before readiness."""

    def on_down(self, life: Life, reason: ExitReason, *, failed: bool) -> None:
        """Dissolve, and pass a failure on."""
        for end in self._ends:
            end.unwatch(self)
        if failed:
            # Since both were watched until now, the other incarnation is the one of the start.
            other = self._ends[life]
            other.fail(other.incarnation, LinkedExit(life.path, life.incarnation, reason))

    def on_end(self, life: Life) -> None:
        """Nothing: it has gone down before."""
