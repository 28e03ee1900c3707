"""The heartbeat: the actor that knows whether a session is alive, and fails it when not.

Two deadlines, because Polymarket's feed stalls silently while it answers pings
(py-clob-client#292): the exchange must answer a PING, and market data must come. PONG is not
data. A deadline that passes becomes an Abort for the connection, and the supervisor's ordinary
rule does the rest.
"""

from math import inf

import trio

from polyactors.feed import Feed
from polyactors.messages import (
    Abort,
    ControlMessage,
    HeartbeatMessage,
    SendPing,
    SessionOpened,
)
from polysupervisor import Address, Context


async def run_heartbeat(
    ctx: Context[HeartbeatMessage], feed: Feed, connection: Address[ControlMessage]
) -> None:
    """Watch over the feed's sessions until stopped."""
    settings = feed.env.settings
    pulse = Pulse(
        ping_interval_seconds=settings.ping_interval_seconds,
        pong_deadline_seconds=settings.pong_deadline_seconds,
        data_deadline_seconds=settings.data_deadline_seconds if feed.tokens else inf,
    )
    if feed.epoch is not None:  # a former incarnation died in the middle of a session
        pulse.begin(feed.epoch, trio.current_time())
    ctx.ready()
    while True:
        messages: list[HeartbeatMessage] = []
        with trio.move_on_at(pulse.next_due(feed.last_data_seconds)):
            messages = await ctx.inbox.receive_batch()
        now = trio.current_time()
        for message in messages:
            if isinstance(message, SessionOpened):
                pulse.begin(message.epoch, now)
            elif message.epoch == pulse.epoch:
                pulse.pong()
        if pulse.epoch is None or pulse.epoch != feed.epoch:
            pulse.end()
            continue
        failure = pulse.failure(feed.last_data_seconds, now)
        if failure is not None:
            connection.send_nowait(Abort(pulse.epoch, *failure))
            pulse.end()
        elif pulse.is_ping_due(now):
            connection.send_nowait(SendPing())
            pulse.ping(now)


class Pulse:
    """Pure: the deadlines of one session. All times on the caller's clock, in seconds."""

    def __init__(
        self,
        *,
        ping_interval_seconds: float,
        pong_deadline_seconds: float,
        data_deadline_seconds: float,
    ) -> None:
        self._ping_interval_seconds = ping_interval_seconds
        self._pong_deadline_seconds = pong_deadline_seconds
        self._data_deadline_seconds = data_deadline_seconds
        self.epoch: int | None = None
        """The session that is watched; None while there is none."""
        self._next_ping_seconds = inf
        self._oldest_ping_seconds = inf
        """When the oldest unanswered PING was sent."""
        self._began_seconds = inf

    def begin(self, epoch: int, now: float) -> None:
        """Watch a new session. The first PING is due after one interval."""
        self.epoch = epoch
        self._began_seconds = now
        self._next_ping_seconds = now + self._ping_interval_seconds
        self._oldest_ping_seconds = inf

    def end(self) -> None:
        """Nothing is watched until the next session."""
        self.epoch = None
        self._next_ping_seconds = self._oldest_ping_seconds = self._began_seconds = inf

    def ping(self, now: float) -> None:
        """A PING goes out."""
        self._oldest_ping_seconds = min(self._oldest_ping_seconds, now)
        self._next_ping_seconds = now + self._ping_interval_seconds

    def pong(self) -> None:
        """A PONG came. TCP keeps the order, so it vouches for everything sent before."""
        self._oldest_ping_seconds = inf

    def is_ping_due(self, now: float) -> bool:
        """Whether the next PING should go out."""
        return now >= self._next_ping_seconds

    def failure(self, last_data: float, now: float) -> tuple[str, str] | None:
        """(reason, detail) when a deadline has passed."""
        if now >= self._oldest_ping_seconds + self._pong_deadline_seconds:
            return "pong_timeout", f"no PONG for {self._pong_deadline_seconds:g} s"
        if now >= self._data_due(last_data):
            return "feed_stalled", f"no market data for {self._data_deadline_seconds:g} s"
        return None

    def next_due(self, last_data: float) -> float:
        """When to look again; inf while no session is watched."""
        if self.epoch is None:
            return inf
        return min(
            self._next_ping_seconds,
            self._oldest_ping_seconds + self._pong_deadline_seconds,
            self._data_due(last_data),
        )

    def _data_due(self, last_data: float) -> float:
        return max(last_data, self._began_seconds) + self._data_deadline_seconds
