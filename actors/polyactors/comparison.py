"""What REST's books say about ours: the only way to find a lost last change.

REST states for each book the hash of the engine step that it follows, and the stream states
one with each change. Where both are the same, the levels must be. A step that REST knows and
the stream does not mention is lost, or still under way: so it is given time, REST is asked
again, and only if the stream has stood still meanwhile the book is proven to be behind. What
flows, but has not come to that time yet, is no stream that stands still: it is caught up with.
"""

from attrs import frozen

from polyactors.feed import Feed
from polyactors.messages import AuditAgain
from polyactors.protocol.events import BookSnapshot
from polyactors.token_book import TokenBook

AUDIT_GRACE_SECONDS = 2.0
"""What the stream has to tell of a step that REST has told already. Measured delays of the
channel are below 0.4 s (INTEGRITY.md section 4); REST itself may be throttled, and late."""
BEHIND_SECONDS_MAX = 60.0
"""How long REST may show an older book, by its own timestamp, than one that stands still here.
Ours may be what is wrong: timestamps that went astray would hide it for ever."""


@frozen
class _Suspicion:
    state: TokenBook
    group_hash: str
    """What the stream had stated last when REST stated another."""
    rest_hash: str
    since_seconds: float
    is_asked: bool = False
    """REST was asked again."""


class RestComparison:
    """Compares the LIVE books of one feed with REST's; keeps what it suspects."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._statistics = feed.env.statistics
        self._stream_ms = 0
        """The exchange's time of the newest change that the feed has brought."""
        self._suspicions: dict[str, _Suspicion] = {}
        """By token, the oldest first."""
        self._behind: dict[str, tuple[str, float]] = {}
        """By token: what the stream stated last when REST was first behind it, and since when."""

    def note_stream(self, timestamp_ms: int) -> None:
        """The feed has brought changes, or trades, up to this time of the exchange."""
        self._stream_ms = max(self._stream_ms, timestamp_ms)

    def is_right(self, state: TokenBook, theirs: BookSnapshot, now: float) -> bool:
        """Take one answer about a LIVE book; False when ours is proven wrong by it."""
        group = state.group
        if not theirs.hash:
            return True  # nothing to compare by
        if theirs.hash == group.hash and not state.settled:
            return True  # the step is the same, and its end will be judged
        if state.settled and state.has_levels(theirs):
            self.forget(state.token)
            self._statistics.audits_ok += 1
            state.right_since_seconds = now
            return True
        if theirs.hash == group.hash:
            return False
        if not group.hash:
            return True  # an era, or a server, whose changes state none
        if theirs.timestamp_ms < group.timestamp_ms:
            return self._may_be_behind(state, now)
        before = self._suspicions.get(state.token)
        if before is None or before.group_hash != group.hash:
            self._statistics.audits_suspect += 1
            self._suspicions.pop(state.token, None)
            self._suspicions[state.token] = _Suspicion(state, group.hash, theirs.hash, now)
            return True
        if now < before.since_seconds + self._grace_seconds(theirs, now):
            return True
        del self._suspicions[state.token]
        return False

    def _grace_seconds(self, theirs: BookSnapshot, now: float) -> float:
        """More while the feed flows and lies behind what REST has told: we are what is late."""
        is_flowing = now < self._feed.last_data_seconds + AUDIT_GRACE_SECONDS
        is_late = is_flowing and self._stream_ms < theirs.timestamp_ms
        return BEHIND_SECONDS_MAX if is_late else AUDIT_GRACE_SECONDS

    def _may_be_behind(self, state: TokenBook, now: float) -> bool:
        """REST may show an older book than ours; but not for long while ours stands still."""
        self._statistics.audits_behind += 1
        group_hash, since_seconds = self._behind.get(state.token, ("", now))
        if group_hash != state.group.hash:
            self._behind[state.token] = state.group.hash, now
            return True
        if now < since_seconds + BEHIND_SECONDS_MAX:
            return True
        del self._behind[state.token]
        return False

    def forget(self, token: str) -> None:
        """The book is not LIVE any more, or a new one."""
        self._suspicions.pop(token, None)
        self._behind.pop(token, None)

    def next_due(self) -> float:
        """When `on_time` has something to do; inf when nothing is suspected."""
        for suspicion in self._suspicions.values():
            if not suspicion.is_asked:
                return suspicion.since_seconds + AUDIT_GRACE_SECONDS
        return float("inf")

    def on_time(self, now: float) -> tuple[list[AuditAgain], list[TokenBook]]:
        """What to ask again, and the books whose stream has passed by a step that REST knows."""
        questions: list[AuditAgain] = []
        doubtful: list[TokenBook] = []
        for token, suspicion in list(self._suspicions.items()):
            if suspicion.is_asked:
                continue
            if suspicion.since_seconds + AUDIT_GRACE_SECONDS > now:
                break
            state = suspicion.state
            if state.group.hash == suspicion.group_hash:
                self._suspicions[token] = _Suspicion(
                    state, suspicion.group_hash, suspicion.rest_hash, suspicion.since_seconds, True
                )
                questions.append(AuditAgain(self._feed.id, token))
                continue
            del self._suspicions[token]
            if suspicion.rest_hash not in (state.group.hash, *state.group.past_hashes):
                doubtful.append(state)
        return questions, doubtful
