"""Line arbitration: one token that several feeds carry, told once.

Each of its *carriers* keeps a book and a trust of its own. What readers see is one of them, the
*leader*: its trust is the public one, its updates are the public updates. The lead goes over

- to a LIVE carrier when the leader is not LIVE any more, without a word unless it was wrong;
- to a carrier that turns LIVE while the public state is not;
- to a LIVE carrier that is ahead: it has seen the hash that was told last, and now another that
  was not told yet, so it has missed nothing in between.

An heir that is behind catches up first: until it has seen what was told last, readers keep the
reading of the leader before, for CATCH_UP_SECONDS at most, so that no book ever goes back. Only a
leader that was proven wrong is corrected at once. That is no secret: its STALE is public, and so
it is where nothing tells that the heir's book continues the leader's. In eras without hashes
nothing can be compared, and only a leader that fails gives up the lead.
"""

from collections import deque
from collections.abc import Hashable
from math import inf

from polyactors.book.orderbook import BookView, OrderBook
from polyactors.book.reading import BookReading
from polyactors.book.trust import DESYNCS, StaleReason, Trust, TrustState
from polyactors.events import Event, Gap
from polyactors.feed import Feed
from polyactors.journal import book_updated, trust_changed
from polyactors.token_book import TokenBook

HASHES_KEPT_MAX = 32
"""Of a token, the last hashes that were told, and the last that each carrier has seen."""
TOLD_ONCE_MAX = 256
"""Trades of a token that were told and that some carrier may yet bring."""
CATCH_UP_SECONDS = 0.5
"""How long the last public reading stands in for that of a new leader that is behind."""
COVERED_SECONDS = 1.0
"""What one carrier receives another has received at most so much earlier or later: a session
that is older than a loss by so much has missed nothing."""
LOSSES = frozenset({StaleReason.DISCONNECTED, StaleReason.FEED_STALLED, StaleReason.UNSUBSCRIBED})
"""Reasons by which a carrier misses all that follows."""
_LIVE = TrustState.LIVE


class Arbiter:
    """Who leads of the carriers of one token, and what was told of it. Times are in seconds on
    Trio's clock; the events that a method returns are public, in this order."""

    __slots__ = (
        "_hashes", "_seen", "_settled", "_timestamp_ms", "_told_once", "_told_seconds", "_unseen",
        "due_seconds", "kept", "leader", "token", "trust",
    )  # fmt: skip

    def __init__(self, token: str, leader: Feed) -> None:
        """`leader` has carried the token alone so far."""
        self.token = token
        self.leader = leader
        self.trust = leader.trust[token]
        """The public trust."""
        self.kept: BookReading | None = None
        """The last public reading, while the leader is behind it."""
        self.due_seconds = inf
        """When the leader's book is public even if it is behind; inf while it is not."""
        self._seen: dict[Feed, deque[str]] = {}
        """By carrier: the hashes that it has seen without a break, the newest last."""
        self._hashes: deque[str] = deque(maxlen=HASHES_KEPT_MAX)
        """Those that were told, the newest last."""
        self._timestamp_ms = 0
        self._settled = False
        self._told_seconds = 0.0
        """When, by the exchange, and as what the newest was told; and when it came."""
        self._unseen: tuple[float, StaleReason] | None = None
        """What came after this moment was seen by nobody, and no gap has said so."""
        self._told_once: dict[Hashable, dict[str, int]] = {}
        """How often each carrier has brought a trade or the like, until all have."""
        self.join(leader)
        book = leader.book_of(token)
        if self.trust.state is _LIVE and book is not None:
            self._seen[leader].append(book.group.hash)
            self._note(leader, book)
        if leader.epoch is None and leader.lost is not None:
            self._unseen = (leader.last_data_seconds, leader.lost)

    @property
    def is_busy(self) -> bool:
        """Whether something is pending that only an arbiter knows."""
        return self.kept is not None or self._unseen is not None

    # --- carriers -------------------------------------------------------------------------

    def join(self, feed: Feed) -> None:
        """A further carrier."""
        self._seen[feed] = deque(maxlen=HASHES_KEPT_MAX)

    def leave(self, feed: Feed, now: float) -> list[Event]:
        """A carrier is taken away; it is not the only one."""
        del self._seen[feed]
        heir = self._heir()
        if feed is self.leader and heir is not None:
            return self._hand_over(heir, feed.book_of(self.token), StaleReason.UNSUBSCRIBED, now)
        events: list[Event] = []
        if feed is self.leader:
            self.leader = next(iter(self._seen))
            events = self._mirror(now)
        if feed.epoch is not None:
            self.session_down(feed, StaleReason.UNSUBSCRIBED)
        return events

    def trust_changed(self, feed: Feed, book: TokenBook, now: float) -> list[Event]:
        """The trust of `feed` in the token has changed; `book` is its book."""
        if feed not in self._seen:
            return []
        trust = feed.trust[self.token]
        if trust.state is not _LIVE:
            self._seen[feed].clear()
        if feed is not self.leader:
            if trust.state is not _LIVE or self.trust.state is _LIVE:
                return []
            self.leader = feed
        elif self.trust.state is _LIVE and trust.reason is not None:
            heir = self._heir()
            if heir is not None:  # books that died with their shard may be half changed
                kept = None if feed.shard is None else book
                return self._hand_over(heir, kept, trust.reason, now)
        return self._mirror(now)

    def session_up(self, feed: Feed) -> StaleReason | None:
        """A session of `feed` began. Why something was missed until now, if it was."""
        for what, counts in list(self._told_once.items()):
            counts[feed.id] = max(counts.values())  # what was told before, it will not bring
            self._forget_if_all_have(what, counts)
        if self._unseen is None or any(f.epoch is not None for f in self._seen if f is not feed):
            return None  # that one decides when it is LIVE
        _, reason = self._unseen
        self._unseen = None
        return reason

    def session_down(self, feed: Feed, reason: StaleReason) -> None:
        """A session of `feed` is over, and what its books made of that is public."""
        if self.trust.state is not _LIVE and self._unseen is None:
            self._unseen = (feed.last_data_seconds, reason)

    def covers(self, feed: Feed) -> bool:
        """Whether what `feed` misses now is seen by another carrier, which is LIVE."""
        missed = feed.last_hash(self.token)
        return any(
            other is not feed
            and other.trust[self.token].state is _LIVE
            and (
                self._has_followed(other, missed)
                or other.session_since_seconds <= feed.last_data_seconds - COVERED_SECONDS
            )
            for other in self._seen
        )

    # --- what is told ---------------------------------------------------------------------

    def admit(self, feed: Feed, book: TokenBook) -> bool:
        """Whether the update of `feed` is public."""
        seen = self._seen.get(feed)
        if seen is None:
            return False
        group_hash = book.group.hash
        if not seen or seen[-1] != group_hash:
            seen.append(group_hash)
        if feed is not self.leader:
            if not self._is_overtaken(seen, group_hash):
                return False
            self.leader = feed
            self._end_catch_up()
        else:
            kept = self.kept
            if kept is not None and self._is_ahead_of(book, kept):
                return False
            self._end_catch_up()
            if self._is_told(book, kept):
                return False
        self._note(feed, book)
        return True

    def is_news(self, feed: Feed, what: Hashable) -> bool:
        """Whether a trade or the like, which `feed` brings, was not told yet.

        Each carrier brings it as often as it happened: what is new is the one more.
        """
        if feed not in self._seen:
            return False
        counts = self._told_once.setdefault(what, {})
        told = max(counts.values(), default=0)
        count = counts[feed.id] = counts.get(feed.id, 0) + 1
        self._forget_if_all_have(what, counts)
        if len(self._told_once) > TOLD_ONCE_MAX:
            del self._told_once[next(iter(self._told_once))]
        return count > told

    def on_time(self, now: float) -> list[Event]:
        """The leader's time to catch up may be over."""
        if now < self.due_seconds:
            return []
        book = self.leader.book_of(self.token)
        return [] if book is None else self._show(book)

    # --- helpers --------------------------------------------------------------------------

    @property
    def _hash(self) -> str:
        return self._hashes[-1] if self._hashes else ""

    def _heir(self) -> Feed | None:
        """The best LIVE carrier but the leader."""
        heirs = [
            (self._is_ahead_of(book, None), feed)
            for feed in self._seen
            if feed is not self.leader
            and feed.trust[self.token].state is _LIVE
            and (book := feed.book_of(self.token)) is not None
        ]
        return min(heirs, key=lambda heir: heir[0])[1] if heirs else None

    def _hand_over(
        self, heir: Feed, kept: TokenBook | None, reason: StaleReason, now: float
    ) -> list[Event]:
        """The lead goes over, in silence if the heir has seen what was told last, or will.
        `kept` is the former leader's book; None when it may not be relied on."""
        book = heir.book_of(self.token)
        assert book is not None
        has_gap = reason in LOSSES and not self._is_continued_by(heir, reason, now)
        gap: list[Event] = [self._gap(heir, reason)] if has_gap else []
        if reason in DESYNCS or not self._is_followed_by(heir, book):
            stale = self._turn(self.trust.to(TrustState.STALE, now_seconds=now, reason=reason))
            self.leader = heir
            return [stale, *gap, *self._mirror(now), *self._show(book)]
        self.leader = heir
        if kept is not None and self._is_ahead_of(book, self.kept or kept.book):
            if self.kept is None:
                self.kept = BookReading.take(
                    kept.book, self.trust, settled=self._settled and kept.settled, now_seconds=now
                )
                self.due_seconds = now + CATCH_UP_SECONDS
        elif kept is not None and self._is_told(book, self.kept or kept.book):
            self._end_catch_up()
        else:
            return gap + self._show(book)
        return gap

    def _is_followed_by(self, feed: Feed, book: TokenBook) -> bool:
        """Whether the book of `feed` is another stage of the public one, for all that is known."""
        if book.group.hash == "" or self._hash == "":
            return True
        return self._hash in self._seen[feed] or self._is_ahead_of(book, None)

    def _show(self, book: TokenBook) -> list[Event]:
        """Tell the leader's book as it is now, wherever it stands."""
        self._end_catch_up()
        if book.group.hash in self._hashes:
            while self._hash != book.group.hash:
                self._hashes.pop()
        self._note(self.leader, book)
        return [book_updated(self.leader, book)]

    def _mirror(self, now: float) -> list[Event]:
        """Make the leader's trust the public one, by transitions that may be."""
        self._end_catch_up()
        trust = self.leader.trust[self.token]
        events: list[Event] = []
        if trust.state is _LIVE:
            if self._unseen is not None:
                seen_until, reason = self._unseen
                self._unseen = None
                if self.leader.session_since_seconds > seen_until - COVERED_SECONDS:
                    events.append(self._gap(self.leader, reason))
            self._hashes.clear()
        return events + [self._turn(step) for step in _steps(self.trust, trust, now)]

    def _turn(self, trust: Trust) -> Event:
        """The public trust changes, by the leader's doing."""
        market = self.leader.markets.get(self.token)
        before, self.trust = self.trust, trust
        return trust_changed(self.leader, self.token, market, before, trust)

    def _note(self, feed: Feed, book: TokenBook) -> None:
        group = book.group
        if not self._hashes or self._hashes[-1] != group.hash:
            self._hashes.append(group.hash)
        self._timestamp_ms = group.timestamp_ms
        self._told_seconds = feed.last_data_seconds
        self._settled = book.settled

    def _forget_if_all_have(self, what: Hashable, counts: dict[str, int]) -> None:
        told = max(counts.values())
        if all(counts.get(f.id) == told for f in self._seen if f.epoch is not None):
            del self._told_once[what]

    def _end_catch_up(self) -> None:
        self.kept = None
        self.due_seconds = inf

    def _is_told(self, book: TokenBook, told: OrderBook | BookView | None) -> bool:
        """Whether just this state of the book was told last; `told` are the levels that were."""
        if book.group.hash != self._hash or self._hash == "":
            return False
        return self._settled if book.settled else book.book == told

    def _is_ahead_of(self, book: TokenBook, told: OrderBook | BookView | None) -> bool:
        """Whether more was told than the book has seen; `told` are the levels that were."""
        group_hash = book.group.hash
        if group_hash == "" or self._hash == "":
            return False
        if group_hash == self._hash:  # in the middle of a step only the levels can tell
            return not book.settled and book.book != told
        return book.group.timestamp_ms < self._timestamp_ms or group_hash in self._hashes

    def _is_overtaken(self, seen: deque[str], group_hash: str) -> bool:
        """Whether a LIVE carrier, which has seen all that was told, has now seen more."""
        told = self._hash
        return (
            group_hash != told
            and group_hash != ""
            and told in seen
            and group_hash not in self._hashes
            and self.trust.state is _LIVE
        )

    def _is_continued_by(self, feed: Feed, reason: StaleReason, now: float) -> bool:
        """Whether `feed` has seen all that came after what was told last, trades too."""
        # A book that came anew in an old session has missed what lies before.
        since = max(feed.session_since_seconds, feed.trust[self.token].since_seconds)
        told = self._told_seconds
        if self._has_followed(feed, self._hash) or since <= told - COVERED_SECONDS:
            return True
        if self._hash == "" or self._hash not in self._seen[feed]:
            return False
        # Its first book is of that very step, whose trades came after the book. The former leader
        # was there to hear them, if it was there for a little longer.
        heard_until = since if reason is StaleReason.FEED_STALLED else now
        return heard_until >= told + COVERED_SECONDS

    def _has_followed(self, feed: Feed, group_hash: str) -> bool:
        """Whether `feed` has seen a step happen, and so all that came after."""
        seen = self._seen[feed]
        return group_hash != "" and group_hash in seen and group_hash != seen[0]

    def _gap(self, feed: Feed, reason: StaleReason) -> Gap:
        return Gap(
            time_ns=feed.env.clock_ns(),
            feed=feed.id,
            epoch=feed.epoch,
            token=self.token,
            reason=reason,
        )


def _steps(before: Trust, after: Trust, now: float) -> list[Trust]:
    """The transitions from one public trust to that of another carrier."""
    if (before.state, before.reason) == (after.state, after.reason):
        return []
    steps: list[Trust] = []
    if before.state is _LIVE and after.reason is None:
        before = before.to(TrustState.STALE, now_seconds=now, reason=StaleReason.UNSUBSCRIBED)
        steps.append(before)
    if after.state is TrustState.EMPTY:
        return steps
    if after.state is _LIVE and before.state is not TrustState.SYNCING:
        before = before.to(TrustState.SYNCING, now_seconds=now)
        steps.append(before)
    return [*steps, before.to(after.state, now_seconds=now, reason=after.reason)]
