"""A token's trust state: what may be believed of its book, and why not.

EMPTY → SYNCING → LIVE → STALE(reason) → SYNCING …; the table below is the whole machine.
"""

from enum import Enum

from attrs import frozen


class TrustState(Enum):
    """How far a token's book may be trusted."""

    EMPTY = "EMPTY"
    """Nothing was ever received."""
    SYNCING = "SYNCING"
    """Subscribed in a live session, waiting for a fresh book."""
    LIVE = "LIVE"
    """A fresh book, and every delta since."""
    STALE = "STALE"
    """The last known levels may be wrong; the reason says why."""


class StaleReason(Enum):
    """Why a book is STALE."""

    DISCONNECTED = "disconnected"
    """The connection was lost, or is not open yet again."""
    FEED_STALLED = "feed_stalled"
    """The connection answers PING and brings no data though the market moves."""
    NEVER_DELIVERED = "never_delivered"
    """A subscription brought no first book within its deadline."""
    TOP_MISMATCH = "top_mismatch"
    """At the end of a hash group the best prices were not those that its messages stated."""
    HASH_MISMATCH = "hash_mismatch"
    """The levels do not hash to what the exchange stated."""
    BOOK_MISMATCH = "book_mismatch"
    """A whole book of the exchange differs from the settled one."""
    AUDIT_MISMATCH = "audit_mismatch"
    """REST has another book, and the stream has not moved meanwhile."""
    CROSSED = "crossed"
    """Best bid at or above best ask, at the end of a hash group or in a whole book."""
    PARSE_FAILURE = "parse_failure"
    """A frame could not be read that may have been about the token."""
    OVERFLOW = "overflow"
    """Of a Gap alone: a reader of the stream was too slow. No book is STALE for it."""
    ACTOR_RESTARTED = "actor_restarted"
    """The parser or the book shard crashed, and what it had in hand is gone."""
    FEED_GAVE_UP = "feed_gave_up"
    """The actors of the feed crashed again and again: it is tried again, but rarely."""
    UNKNOWN_TOKEN = "unknown_token"
    """REST says that there is no such token (404)."""
    UNSUBSCRIBED = "unsubscribed"
    """A feed was replaced, and the fresh one's book does not continue what was told."""


DESYNCS = frozenset(
    {
        StaleReason.TOP_MISMATCH,
        StaleReason.HASH_MISMATCH,
        StaleReason.BOOK_MISMATCH,
        StaleReason.AUDIT_MISMATCH,
        StaleReason.CROSSED,
    }
)
"""Reasons that prove that the local book differed from the exchange's."""

TRANSITIONS: dict[TrustState, frozenset[TrustState]] = {
    TrustState.EMPTY: frozenset({TrustState.SYNCING, TrustState.STALE}),
    TrustState.SYNCING: frozenset({TrustState.LIVE, TrustState.STALE}),
    TrustState.LIVE: frozenset({TrustState.STALE}),
    TrustState.STALE: frozenset({TrustState.SYNCING, TrustState.STALE}),
}
"""From each state, the states that may follow. STALE → STALE is a change of the reason."""


@frozen
class Trust:
    """The trust state of one token at one moment."""

    state: TrustState = TrustState.EMPTY
    reason: StaleReason | None = None
    """Set when, and only when, the state is STALE."""
    since_seconds: float = 0.0
    """When the state was entered, on the clock that the caller passes to `to`."""

    def to(
        self, state: TrustState, *, now_seconds: float, reason: StaleReason | None = None
    ) -> "Trust":
        """The next trust; asserts that the transition is in the table and carries its reason."""
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        assert (reason is not None) == (state is TrustState.STALE)
        return Trust(state, reason, now_seconds)
