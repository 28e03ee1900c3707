"""The heartbeat: the actor that knows whether a session is alive, and fails it when not.

Two deadlines, because Polymarket's feed stalls silently while it answers pings
(py-clob-client#292): the exchange must answer a PING, and market data must come. PONG is not
data. When data does not come REST is asked first whether there was any (probe.py), while PINGs
go on. On the user channel silence is normal, and there is no probe. A deadline that passes becomes
an Abort for the connection, and the supervisor's ordinary rule does the rest.
"""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Protocol

import trio

from polyactors.environment import Environment
from polyactors.messages import (
    Abort,
    ControlMessage,
    HeartbeatMessage,
    SendPing,
    SessionOpened,
)
from polyactors.probe import Finding, ProbeOutcome
from polysupervisor import Address, Context

Probe = Callable[[], Awaitable[Finding]]


class Watched(Protocol):
    """Whose sessions are watched."""

    env: Environment
    epoch: int | None
    last_data_seconds: float


async def run_heartbeat(
    ctx: Context[HeartbeatMessage],
    line: Watched,
    connection: Address[ControlMessage],
    probe: Probe | None,
) -> None:
    """Watch over the sessions of a line until stopped. Without a `probe` silence is normal."""
    async with trio.open_nursery() as nursery:
        watch = _Watch(line, connection, probe, nursery)
        if line.epoch is not None:  # a former incarnation died in the middle of a session
            watch.begin(line.epoch)
        ctx.ready()
        while True:
            messages: list[HeartbeatMessage] = []
            with trio.move_on_at(watch.pulse.next_due()):
                messages = await ctx.inbox.receive_batch()
            for message in messages:
                if isinstance(message, SessionOpened):
                    watch.begin(message.epoch)
                elif message.epoch == watch.pulse.epoch:
                    watch.pulse.pong()
            watch.beat()


class _Watch:
    """One session at a time, the live one. Whatever follows it ends the watch over silence."""

    def __init__(
        self,
        line: Watched,
        connection: Address[ControlMessage],
        probe: Probe | None,
        nursery: trio.Nursery,
    ) -> None:
        settings = line.env.settings
        self.pulse = Pulse(
            ping_interval_seconds=settings.ping_interval_seconds,
            pong_deadline_seconds=settings.pong_deadline_seconds,
            data_deadline_seconds=inf if probe is None else settings.data_deadline_seconds,
        )
        self._line = line
        self._connection = connection
        self._probe = probe
        self._nursery = nursery
        self._silence = trio.CancelScope()

    def begin(self, epoch: int) -> None:
        """Watch a new session."""
        self._end()
        self.pulse.begin(epoch, trio.current_time())
        self._silence = trio.CancelScope()
        if self._probe is not None:
            self._nursery.start_soon(self._watch_silence, epoch, self._probe, self._silence)

    def beat(self) -> None:
        """Act on what is due now."""
        pulse, now = self.pulse, trio.current_time()
        if pulse.epoch is None or pulse.epoch != self._line.epoch:
            self._end()
        elif pulse.is_pong_overdue(now):
            self._fail("pong_timeout", f"no PONG for {pulse.pong_deadline_seconds:g} s")
        elif pulse.is_ping_due(now):
            self._connection.send_nowait(SendPing())
            pulse.ping(now)

    async def _watch_silence(self, epoch: int, probe: Probe, scope: trio.CancelScope) -> None:
        line, pulse = self._line, self.pulse
        with scope:
            while True:
                now = trio.current_time()
                due = pulse.data_due(line.last_data_seconds)
                if due > now:
                    await trio.sleep_until(due)
                    continue
                silent_seconds = now - pulse.silent_since(line.last_data_seconds)
                finding = await probe()
                if line.epoch != epoch or pulse.epoch != epoch:
                    return  # the session is over, or failed already
                line.env.statistics.probes[finding.outcome.value] += 1
                if finding.outcome is ProbeOutcome.QUIET:
                    pulse.quiet(now)
                elif finding.outcome is ProbeOutcome.STALLED:
                    detail = f"no market data for {silent_seconds:.3g} s, and {finding.detail}"
                    self._fail("feed_stalled", detail)

    def _fail(self, reason: str, detail: str) -> None:
        assert self.pulse.epoch is not None
        self._connection.send_nowait(Abort(self.pulse.epoch, reason, detail))
        self._end()

    def _end(self) -> None:
        self.pulse.end()
        self._silence.cancel()


class Pulse:
    """Pure: the deadlines of one session. All times on the caller's clock, in seconds."""

    def __init__(
        self,
        *,
        ping_interval_seconds: float,
        pong_deadline_seconds: float,
        data_deadline_seconds: float,
    ) -> None:
        self.pong_deadline_seconds = pong_deadline_seconds
        self._ping_interval_seconds = ping_interval_seconds
        self._data_deadline_seconds = data_deadline_seconds
        self.epoch: int | None = None
        """The session that is watched; None while there is none."""
        self._next_ping_seconds = inf
        self._oldest_ping_seconds = inf
        """When the oldest unanswered PING was sent."""
        self._began_seconds = inf
        self._quiet_seconds = -inf
        """Up to when it is proven that silence has lost nothing."""

    def begin(self, epoch: int, now: float) -> None:
        """Watch a new session. The first PING is due after one interval."""
        self.epoch = epoch
        self._began_seconds = now
        self._next_ping_seconds = now + self._ping_interval_seconds
        self._oldest_ping_seconds = inf
        self._quiet_seconds = -inf

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

    def quiet(self, asked_seconds: float) -> None:
        """It is proven that nothing was lost up to `asked_seconds`, when REST was asked."""
        self._quiet_seconds = max(self._quiet_seconds, asked_seconds)

    def is_ping_due(self, now: float) -> bool:
        """Whether the next PING should go out."""
        return now >= self._next_ping_seconds

    def is_pong_overdue(self, now: float) -> bool:
        """Whether a PING has been unanswered for too long: the session has failed."""
        return now >= self._pong_due()

    def silent_since(self, last_data: float) -> float:
        """When the session was heard last: by market data, or by its begin."""
        return max(last_data, self._began_seconds)

    def data_due(self, last_data: float) -> float:
        """When silence must be looked into; inf while no session is watched."""
        heard = max(self.silent_since(last_data), self._quiet_seconds)
        return heard + self._data_deadline_seconds

    def next_due(self) -> float:
        """When to see to PING and PONG again; inf while no session is watched."""
        return min(self._next_ping_seconds, self._pong_due())

    def _pong_due(self) -> float:
        return self._oldest_ping_seconds + self.pong_deadline_seconds
