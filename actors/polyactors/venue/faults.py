"""The faults of the emulated exchange: their kinds, their records, and when they come.

`Venue.fault_log` has a `FaultRecord` for each fault. A record is frozen and tells the fault's
life as far as it has come: read the log again for what has happened since (same `id`).

- `started`: when it was injected. `ended`: when it was over; None while it lasts, or lies in
  wait for its chance (armed), which it does for `seconds` at most.
- `struck`: when it last did something; None for one that has done nothing yet, or never did.
- `hurt`: the tokens that lost something, got it late, twice, or in a wrong order; never those
  that only could have. `hurt_in(session)`: those of one session. `strikes` has when, and hash.

All times are `trio.current_time()`. What each kind does is done where it happens: to a
session's frames (`distortion`), at its stream (`market_channel`), at the door and the clock
(`exchange`), in REST's answers (`rest_faults`).
"""

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from random import Random

from attrs import field, frozen

from polyactors.errors import PolyactorsError


class FaultKind(StrEnum):
    """What can be made to go wrong."""

    RESET = "reset"
    """The connection ends with a TCP RST (an abrupt close where there is no socket)."""
    STALL = "stall"
    """All data for a session is lost for a while; PONG and the other plain texts still come."""
    REFUSE = "refuse"
    """Every session is reset, and for a while every handshake is answered with 429."""
    GARBAGE = "garbage"
    """A frame that is not JSON, JSON of the wrong shape, or a message cut in half."""
    MISSING_BOOK = "missing_book"
    """The next first book of one token is left out of its dump; its deltas flow."""
    SLOW = "slow"
    """Bytes of a session trickle for a while, frames cut anywhere: late, complete, in order."""
    LOST_DELTA = "lost_delta"
    """A price_change frame is not sent."""
    LOST_IN_GROUP = "lost_in_group"
    """Of an engine step with several price_change frames one is not sent, never the last."""
    LOST_GROUP = "lost_group"
    """No price_change frame of an engine step is sent; all else that it said is."""
    DUPLICATE = "duplicate"
    """A price_change frame is sent twice."""
    REORDER = "reorder"
    """Two neighbouring price_change frames of a token change places."""
    TOKEN_STALL = "token_stall"
    """All of one token is lost for a while, its first books too; the other tokens' flows."""
    MIRROR = "mirror"
    """For a while price_change frames lack the entries of one token; all else comes."""
    STALE_REST = "stale_rest"
    """For a while REST answers with the books of the moment when the fault began."""
    REST_ERROR = "rest_error"
    """For a while REST answers 503, or not before the fault is over."""
    UNKNOWN_FIELDS = "unknown_fields"
    """For a while messages carry unknown fields, and unknown events come between them."""
    OVERSIZE = "oversize"
    """One frame that is larger than a client should take."""
    CLOCK_SKEW = "clock_skew"
    """For a while the exchange's clock runs ahead. It never goes back: afterwards it stands
    still until real time has caught up, and many engine steps share a millisecond."""


class GarbageVariant(StrEnum):
    """Which garbage."""

    TEXT = "text"
    """An extra frame that is not JSON."""
    SHAPE = "shape"
    """An extra frame of JSON that is no message."""
    HALF = "half"
    """The next message arrives cut in half: what it said is lost."""


class RestErrorVariant(StrEnum):
    """Which error of REST."""

    UNAVAILABLE = "503"
    """Every answer is 503, at once."""
    SILENT = "silent"
    """Every answer waits for the end of the fault."""


ARMED_SECONDS = 30.0
DEFAULT_SECONDS: Mapping[FaultKind, float] = {
    FaultKind.RESET: 0.0,
    FaultKind.STALL: 120.0,
    FaultKind.REFUSE: 2.0,
    FaultKind.GARBAGE: ARMED_SECONDS,
    FaultKind.MISSING_BOOK: ARMED_SECONDS,
    FaultKind.SLOW: 3.0,
    FaultKind.LOST_DELTA: ARMED_SECONDS,
    FaultKind.LOST_IN_GROUP: ARMED_SECONDS,
    FaultKind.LOST_GROUP: ARMED_SECONDS,
    FaultKind.DUPLICATE: ARMED_SECONDS,
    FaultKind.REORDER: ARMED_SECONDS,
    FaultKind.TOKEN_STALL: 60.0,
    FaultKind.MIRROR: 30.0,
    FaultKind.STALE_REST: 30.0,
    FaultKind.REST_ERROR: 10.0,
    FaultKind.UNKNOWN_FIELDS: 10.0,
    FaultKind.OVERSIZE: 0.0,
    FaultKind.CLOCK_SKEW: 10.0,
}
"""How long a fault lasts when nobody says, or at most lies in wait; 0 for those that happen at
once. Of garbage only half a message lies in wait."""


class NoTarget(PolyactorsError):  # noqa: N818 - the name is the fact
    """No session is there that the fault could hit."""


@frozen
class Strike:
    """What a fault did to one token in one session: all its blows, from the first to the last."""

    session: int | None
    """None for what REST was asked for."""
    token: str
    first: float
    """`trio.current_time()` of the first."""
    last: float
    """`trio.current_time()` of the last."""
    hash: str
    """The book hash that the last one's message stated; "" where none did."""


@frozen
class FaultRecord:
    """One fault that was injected, as far as its life has come; see the module."""

    id: int
    """Counts from 1."""
    kind: FaultKind
    token: str | None
    """The token that it was aimed at, if any."""
    tokens: tuple[str, ...]
    """The tokens that it may hurt: of the sessions that it hits, or the one of its kind."""
    session: int | None
    """The session that was hit; None when it was none, or several."""
    started: float
    """`trio.current_time()` of the injection."""
    seconds: float
    """How long it lasts from then on, or at most lies in wait; 0 for one that happens at once."""
    detail: str = ""
    """For people."""
    struck: float | None = None
    """`trio.current_time()` when it last did something; None when it has not."""
    ended: float | None = None
    """`trio.current_time()` when it was over: its time was up, it had struck all that it was
    aimed at, or their sessions were gone. None while it lasts or lies in wait."""
    strikes: tuple[Strike, ...] = ()
    """One for each session and token that it hurt, in order of the first blow."""

    @property
    def hurt(self) -> tuple[str, ...]:
        """The tokens that it really hurt so far, in any session."""
        return tuple(dict.fromkeys(strike.token for strike in self.strikes))

    def hurt_in(self, session: int) -> tuple[str, ...]:
        """The tokens that it really hurt in one session."""
        return tuple(strike.token for strike in self.strikes if strike.session == session)


@frozen
class ScheduledFault:
    """One fault of a schedule."""

    at_seconds: float
    """Since the start of the schedule."""
    kind: FaultKind
    seconds: float
    """How long it lasts."""
    patience_seconds: float = 2.0
    """How long it waits for a subscribed session that it can hit, before it is left out."""


_DEMO_SETTLE_SECONDS: Mapping[FaultKind, float] = {
    FaultKind.RESET: 8.0,
    FaultKind.STALL: 10.0,
    FaultKind.REFUSE: 10.0,
    FaultKind.GARBAGE: 8.0,
    FaultKind.MISSING_BOOK: 16.0,
    FaultKind.SLOW: 10.5,
}
"""From the start of a fault to the end of a demo, at least. A missing book is noticed only when
the client's deadline for a first book (10 s) has passed."""
_DEMO_SECONDS: Mapping[FaultKind, float] = {
    **DEFAULT_SECONDS,
    FaultKind.STALL: 8.0,
    FaultKind.SLOW: 2.5,
}
_DEMO_OPENING = ((3.0, FaultKind.RESET), (7.0, FaultKind.STALL), (14.0, FaultKind.GARBAGE))
_DEMO_QUIET_END_SECONDS = 8.0
_STEADY_SECONDS: Mapping[FaultKind, tuple[float, ...]] = {
    FaultKind.STALL: (120.0,),
    FaultKind.REFUSE: (3.0,),
    FaultKind.SLOW: (5.0,),
}


@frozen
class FaultSchedule:
    """Faults by the clock: first `opening`, then every kind in seeded order, again and again.

    Iterating it gives the same faults each time, in ascending order of time; the iteration
    is endless when `until_seconds` is infinite.
    """

    seed: int
    opening: tuple[ScheduledFault, ...]
    gap_seconds: tuple[float, float]
    """Least and greatest time between two faults."""
    until_seconds: float = math.inf
    """The end of the run, before which each fault has its time to heal."""
    durations: Mapping[FaultKind, tuple[float, ...]] = field(
        factory=dict[FaultKind, tuple[float, ...]]
    )
    """Durations to choose from; those of `DEFAULT_SECONDS` for a kind that is not named."""

    @classmethod
    def for_demo(cls, seed: int, seconds: float | None) -> "FaultSchedule":
        """The demo's: a reset, a stall and garbage at 3, 7 and 14 s, then all kinds, mixed.

        With `seconds`, the last fault starts at least 8 s before that end, kinds that take
        longer to heal correspondingly earlier. From 15 s to 22 s the opening is compressed
        to fit; below 15 s it is one reset, and below 7 s there are no faults at all.
        """
        end = math.inf if seconds is None else seconds
        last = end - _DEMO_QUIET_END_SECONDS
        if end < 15.0:
            times = [(min(3.0, max(1.0, last)), FaultKind.RESET)] if end >= 7.0 else []
        else:
            factor = min(1.0, last / _DEMO_OPENING[-1][0])
            times = [(at * factor, kind) for at, kind in _DEMO_OPENING]
        opening = tuple(
            ScheduledFault(at, kind, _DEMO_SECONDS[kind], min(2.0, max(0.0, last - at)))
            for at, kind in times
        )
        durations = {kind: (value,) for kind, value in _DEMO_SECONDS.items()}
        return cls(seed, opening, (3.0, 4.5), end, durations)

    @classmethod
    def steady(cls, seed: int, every_seconds: float = 15.0) -> "FaultSchedule":
        """For ever: all kinds in seeded order, one each `every_seconds` on the average.

        Stalls outlive any sensible data deadline, as the real ones do (hours were seen). A
        stall that ends sooner is another fault: lost deltas in a session that goes on.
        """
        gap = (0.7 * every_seconds, 1.3 * every_seconds)
        return cls(seed, (), gap, durations=_STEADY_SECONDS)

    def __iter__(self) -> Iterator[ScheduledFault]:
        yield from self.opening
        rng = Random(f"{self.seed}:schedule")
        at = self.opening[-1].at_seconds if self.opening else 0.0
        pending: list[FaultKind] = []
        while True:
            at += rng.uniform(*self.gap_seconds)
            if not pending:
                pending = list(FaultKind)
                rng.shuffle(pending)
            left = self.until_seconds - at
            kind = next((k for k in pending if _DEMO_SETTLE_SECONDS[k] <= left), None)
            if kind is None:
                return
            pending.remove(kind)
            seconds = rng.choice(self.durations.get(kind, (DEFAULT_SECONDS[kind],)))
            patience = min(2.0, left - _DEMO_SETTLE_SECONDS[kind])
            yield ScheduledFault(at, kind, seconds, patience)
