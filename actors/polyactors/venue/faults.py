"""The faults of the emulated exchange: their kinds and their records.

`Venue.fault_log` has a `FaultRecord` for each fault. A record is frozen and tells the fault's
life as far as it has come: read the log again for what has happened since (same `id`).

- `started`: when it was injected. `ended`: when it was over; None while it lasts, or lies in
  wait for its chance (armed), which it does for `seconds` at most.
- `struck`: when it last did something; None for one that has done nothing yet, or never did.
- `hurt`: the tokens that lost something, got it late, twice, or in a wrong order; never those
  that only could have. `hurt_in(session)`: those of one session. `strikes` has when, and hash.

On the user channel the event of an order or a trade is what a price_change frame is on the
market channel, and a moment of the account (one match, one cancellation) is what an engine step
is. All times are `trio.current_time()`. What each kind does is done where it happens: to a
session's frames (`distortion`), at its stream (`session`), at the door and the clock
(`exchange`), in REST's answers (`rest_faults`).
"""

from collections.abc import Mapping
from enum import StrEnum

from attrs import frozen

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
    """For a while REST answers with the books, and accounts' orders and trades, of the moment
    when the fault began."""
    REST_ERROR = "rest_error"
    """For a while REST answers 503, or not before the fault is over."""
    UNKNOWN_FIELDS = "unknown_fields"
    """For a while messages carry unknown fields, and unknown events come between them."""
    OVERSIZE = "oversize"
    """One frame that is larger than a client should take."""
    CLOCK_SKEW = "clock_skew"
    """For a while the exchange's clock runs ahead. It never goes back: afterwards it stands
    still until real time has caught up, and many engine steps share a millisecond."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        known = ", ".join(kind.value for kind in cls)
        raise ValueError(f"there is no fault {value}, known are {known}")


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


FaultVariant = GarbageVariant | RestErrorVariant

ARMED_KINDS = frozenset(
    {
        FaultKind.GARBAGE,  # half a message alone: the others come at once
        FaultKind.MISSING_BOOK,
        FaultKind.LOST_DELTA,
        FaultKind.LOST_IN_GROUP,
        FaultKind.LOST_GROUP,
        FaultKind.DUPLICATE,
        FaultKind.REORDER,
    }
)
"""These take something from what is said next: they lie in wait for it."""
ARMED_SECONDS = 30.0
"""How long at most, when nobody says."""
DEFAULT_SECONDS: Mapping[FaultKind, float] = {
    **dict.fromkeys(ARMED_KINDS, ARMED_SECONDS),
    FaultKind.RESET: 0.0,
    FaultKind.STALL: 120.0,
    FaultKind.REFUSE: 2.0,
    FaultKind.SLOW: 3.0,
    FaultKind.TOKEN_STALL: 60.0,
    FaultKind.MIRROR: 30.0,
    FaultKind.STALE_REST: 30.0,
    FaultKind.REST_ERROR: 10.0,
    FaultKind.UNKNOWN_FIELDS: 10.0,
    FaultKind.OVERSIZE: 0.0,
    FaultKind.CLOCK_SKEW: 10.0,
}
"""How long a fault lasts, or at most lies in wait, when nobody says; 0 for those that happen
at once."""


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
    about: str = ""
    """Of the user channel, how the label of a message begins that it is aimed at: "order",
    "order UPDATE", "trade MINED"; "" for any."""
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
