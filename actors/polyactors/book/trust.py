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
    FEED_STALLED = "feed_stalled"
    NEVER_DELIVERED = "never_delivered"
    TOP_MISMATCH = "top_mismatch"
    HASH_MISMATCH = "hash_mismatch"
    BOOK_MISMATCH = "book_mismatch"
    AUDIT_MISMATCH = "audit_mismatch"
    CROSSED = "crossed"
    PARSE_FAILURE = "parse_failure"
    OVERFLOW = "overflow"
    ACTOR_RESTARTED = "actor_restarted"
    FEED_GAVE_UP = "feed_gave_up"
    UNKNOWN_TOKEN = "unknown_token"
    UNSUBSCRIBED = "unsubscribed"


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
