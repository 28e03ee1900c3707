"""Line arbitration: one token that several feeds carry, told once.

Each of its *carriers* keeps a book and a trust of its own. What readers see is one of them, the
*leader*: its trust is the public one, its updates are the public updates. The lead goes over

- to a LIVE carrier when the leader is not LIVE any more, without a word unless it was wrong;
- to a carrier that turns LIVE while the public state is not;
- to a LIVE carrier that is ahead: it has seen the hash that was told last, and now another that
  was not told yet, so it has missed nothing in between.

An heir that is behind catches up first: until it has seen what was told last, readers keep the
reading of the leader before, for CATCH_UP_SECONDS at most, so that no book ever goes back. One that
takes longer may have stalled, and nobody knows yet: the token is STALE, by the reason of the loss,
and the heir is asked for a fresh book. It is LIVE again with that, or when another carrier is LIVE
that is not behind. Only a leader that was proven wrong is corrected at once. That is no secret:
its STALE is public, and so it is where nothing tells that the heir's book continues the leader's.
In eras without hashes nothing can be compared, and only a leader that fails gives up the lead.
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
from polyactors.told import HASHES_KEPT_MAX, ToldBook, ToldOnce

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
        "_held_at", "_is_gap_told", "_judged", "_loss", "_relied",
        "_seen", "_told", "_told_once", "_unseen", "_wants_fresh",
        "due_seconds", "is_held", "kept", "leader", "token", "trust",
    )  # fmt: skip

    def __init__(self, token: str, leader: Feed) -> None:
        """`leader` has carried the token alone so far."""
        self.token = token
        self.leader: Feed = leader
        self.trust = leader.trust[token]
        """The public trust."""
        self.kept: BookReading | None = None
        """The last public reading, while the leader is behind it."""
        self.due_seconds = inf
        """When something else than `kept` must be public, or a leader that is held back is to be
        asked for a fresh book; inf while there is nothing to do."""
        self.is_held = False
        """Whether the leader is LIVE and the token is not, since it is behind what was told."""
        self._wants_fresh = False
        """Whether the leader that is held back is still to be asked for a fresh book."""
        self._held_at: BookReading | None = None
        """What was public when it came to that; None when it was wrong, or is not known."""
        self._loss = StaleReason.UNSUBSCRIBED
        """What the leader before was lost by."""
        self._is_gap_told = True
        """Whether a gap has said what was missed at that loss, if anything was."""
        self._seen: dict[Feed, deque[str]] = {}
        """By carrier: the hashes that it has seen without a break, the newest last."""
        self._told = ToldBook()
        self._unseen: tuple[float, StaleReason] | None = None
        """What came after this moment was seen by nobody, and no gap has said so."""
        self._told_once = ToldOnce()
        self._judged: Feed | None = None
        """The leader that was lost last: the handover has said what was missed by that."""
        self._relied: dict[Feed, float] = {}
        """By carrier: when it last missed something that another was relied on to bring."""
        self.join(leader)
        book = leader.book_of(token)
        if self.trust.state is _LIVE and book is not None:
            self._seen[leader].append(book.group.hash)
            self._told.add(book, leader.last_data_seconds)
        if leader.epoch is None and leader.lost is not None:
            self._unseen = (leader.last_data_seconds, leader.lost)

    @property
    def is_busy(self) -> bool:
        """Whether something is pending that only an arbiter knows."""
        return self.kept is not None or self.is_held or self._unseen is not None

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
            events += self.session_down(feed, StaleReason.UNSUBSCRIBED)
        return events

    def trust_changed(self, feed: Feed, book: TokenBook, now: float) -> list[Event]:
        """The trust of `feed` in the token has changed; `book` is its book."""
        if feed not in self._seen:
            return []
        trust = feed.trust[self.token]
        if trust.state is not _LIVE:
            self._seen[feed].clear()
        if feed is not self.leader:
            is_back = self.kept is not None and trust.state is _LIVE
            if is_back and not self._is_behind(feed, book, self.kept):
                self.leader = feed
                return [*self._untold_gap(), *self._show(book)]
            is_no_help = self.is_held and self._is_behind(feed, book, self._held_at)
            if trust.state is not _LIVE or self.trust.state is _LIVE or is_no_help:
                return []
            self.leader = feed
        elif self.trust.state is _LIVE and trust.reason is not None:
            heir = self._heir()
            if heir is not None:
                kept = book if book.is_whole else None
                return self._hand_over(heir, kept, trust.reason, now)
        elif self.is_held and trust.state is not _LIVE:
            heir = self._heir()
            ahead = None if heir is None else heir.book_of(self.token)
            if heir is not None and ahead is not None:
                self.leader = heir
                if self._is_behind(heir, ahead, self._held_at):
                    return self._hold(now)
                return [*self._mirror(now), *self._show(ahead)]
        return self._mirror(now)

    def session_up(self, feed: Feed) -> StaleReason | None:
        """A session of `feed` began. Why something was missed until now, if it was."""
        if feed not in self._seen:
            return None  # it was let go a moment ago
        self._told_once.session_up(feed.id, self._up)
        if self._unseen is None or any(f.epoch is not None for f in self._seen if f is not feed):
            return None  # that one decides when it is LIVE
        _, reason = self._unseen
        self._unseen = None
        return reason

    def session_down(self, feed: Feed, reason: StaleReason) -> list[Event]:
        """A session of `feed` is over, and what its books made of that is public."""
        since = feed.last_data_seconds - COVERED_SECONDS
        was_relied_on = any(at > since for other, at in self._relied.items() if other is not feed)
        judged, self._judged = self._judged, None
        if self.trust.state is _LIVE:
            # What was on its way to one that did not lead may have been on its way to it alone.
            if was_relied_on or (judged is not feed and not self._is_covered(feed)):
                return [self._gap(self.leader, reason)]
        elif self._unseen is None or was_relied_on:
            self._unseen = (-inf if was_relied_on else feed.last_data_seconds, reason)
        return []

    def covers(self, feed: Feed) -> bool:
        """Whether what `feed` misses now is seen by another carrier, which is LIVE."""
        is_covered = self._is_covered(feed)
        if is_covered:
            since = feed.last_data_seconds
            recent = {f: at for f, at in self._relied.items() if at > since - COVERED_SECONDS}
            self._relied = recent | {feed: since}
        return is_covered

    def _is_covered(self, feed: Feed) -> bool:
        missed = feed.last_hash(self.token)
        return any(
            other is not feed
            and other.trust[self.token].state is _LIVE
            and (
                self._has_followed(other, missed)
                or self._came_anew_seconds(other) <= feed.last_data_seconds - COVERED_SECONDS
            )
            for other in self._seen
        )

    # --- what is told ---------------------------------------------------------------------

    def admit(self, feed: Feed, book: TokenBook, now: float) -> list[Event] | None:
        """What is public before the update of `feed`, and the update, too; None: it is not."""
        seen = self._seen.get(feed)
        if seen is None:
            return None
        group_hash = book.group.hash
        if not seen or seen[-1] != group_hash:
            seen.append(group_hash)
        if feed is not self.leader:
            if not self._is_overtaken(seen, group_hash):
                return None
            self.leader = feed
            self._end_catch_up()
        else:
            kept = self.kept or self._held_at
            if (self.is_held or kept is not None) and self._is_behind(feed, book, kept):
                return None
            if self.is_held:
                before = self._mirror(now)
                self._told.add(book, feed.last_data_seconds)
                return before
            self._end_catch_up()
            if self._told.is_newest(book, kept):
                return None
        self._told.add(book, feed.last_data_seconds)
        return []

    def is_news(self, feed: Feed, what: Hashable) -> bool:
        """Whether a trade or the like, which `feed` brings, was not told yet."""
        return feed in self._seen and self._told_once.is_news(feed.id, what, self._up)

    def wants_fresh(self) -> bool:
        """Whether the leader is to be asked for a fresh book; once."""
        wants, self._wants_fresh = self._wants_fresh, False
        if wants:
            self.due_seconds = inf
        return wants

    def on_time(self, now: float) -> list[Event]:
        """The leader's time to catch up may be over."""
        if now < self.due_seconds or self.is_held:
            return []
        book = self.leader.book_of(self.token)
        if book is None:
            return []
        if not self._is_behind(self.leader, book, self.kept):
            return self._show(book)
        heir = self._heir()
        ahead = None if heir is None else heir.book_of(self.token)
        if heir is None or ahead is None or self._is_behind(heir, ahead, self.kept):
            return [*self._untold_gap(), *self._hold(now)]
        self.leader = heir
        return [*self._untold_gap(), *self._show(ahead)]

    # --- helpers --------------------------------------------------------------------------

    @property
    def _up(self) -> list[str]:
        return [feed.id for feed in self._seen if feed.epoch is not None]

    def _heir(self) -> Feed | None:
        """The best LIVE carrier but the leader."""
        heirs = [
            (self._is_behind(feed, book, None), feed)
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
        self._is_gap_told = has_gap or reason not in LOSSES
        self._loss = reason
        self._judged = self.leader if reason in LOSSES else None
        if reason in DESYNCS or not self._is_followed_by(heir, book):
            stale = self._turn(self.trust.to(TrustState.STALE, now_seconds=now, reason=reason))
            self.leader = heir
            if self._is_behind(heir, book, None):
                return [stale, *gap, *self._untold_gap(), *self._hold(now)]
            return [stale, *gap, *self._mirror(now), *self._show(book)]
        self.leader = heir
        if kept is None and self._is_behind(heir, book, None):
            return [*gap, *self._untold_gap(), *self._hold(now)]
        if kept is not None and self._is_behind(heir, book, self.kept or kept.book):
            if self.kept is None:
                self.kept = BookReading.take(
                    kept.book,
                    self.trust,
                    settled=self._told.settled and kept.settled,
                    now_seconds=now,
                )
                self.due_seconds = now + CATCH_UP_SECONDS
        elif kept is not None and self._told.is_newest(book, self.kept or kept.book):
            self._end_catch_up()
        else:
            return gap + self._show(book)
        return gap

    def _is_behind(self, feed: Feed, book: TokenBook, levels: OrderBook | BookView | None) -> bool:
        """Whether more was told than `feed` has seen; the newest had these levels."""
        told, group = self._told, book.group
        if told.is_ahead_of(book, levels):
            return True
        # Of two steps in one millisecond only who has seen both can tell which was first.
        is_same_time = group.timestamp_ms == told.timestamp_ms
        is_another = told.hash != "" and group.hash not in ("", told.hash)
        return is_another and is_same_time and told.hash not in self._seen[feed]

    def _untold_gap(self) -> list[Event]:
        """The heir seemed to have seen all, but it is behind: nobody may have."""
        if self._is_gap_told:
            return []
        self._is_gap_told = True
        return [self._gap(self.leader, self._loss)]

    def _hold(self, now: float) -> list[Event]:
        """The leader is LIVE with a book that is behind: nothing is, until it has caught up."""
        held_at = self.kept or self._held_at
        self._end_catch_up()
        self.is_held, self._held_at = True, held_at
        self._wants_fresh, self.due_seconds = True, now
        if self.trust.state is not _LIVE:
            return []
        trust = self.trust.to(TrustState.STALE, now_seconds=now, reason=self._loss)
        return [self._turn(trust)]

    def _is_followed_by(self, feed: Feed, book: TokenBook) -> bool:
        """Whether the book of `feed` is another stage of the public one, for all that is known."""
        if book.group.hash == "" or self._told.hash == "":
            return True
        return self._told.hash in self._seen[feed] or self._told.is_ahead_of(book, None)

    def _show(self, book: TokenBook) -> list[Event]:
        """Tell the leader's book as it is now, wherever it stands."""
        self._end_catch_up()
        self._told.go_back(book)
        self._told.add(book, self.leader.last_data_seconds)
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
                if self._came_anew_seconds(self.leader) > seen_until - COVERED_SECONDS:
                    events.append(self._gap(self.leader, reason))
            self._told.clear()
        return events + [self._turn(step) for step in _steps(self.trust, trust, now)]

    def _turn(self, trust: Trust) -> Event:
        """The public trust changes, by the leader's doing."""
        market = self.leader.markets.get(self.token)
        before, self.trust = self.trust, trust
        return trust_changed(self.leader, self.token, market, before, trust)

    def _end_catch_up(self) -> None:
        self.kept = self._held_at = None
        self.is_held = self._wants_fresh = False
        self.due_seconds = inf

    def _is_overtaken(self, seen: deque[str], group_hash: str) -> bool:
        """Whether a LIVE carrier, which has seen all that was told, has now seen more."""
        told = self._told.hash
        return (
            group_hash != told
            and group_hash != ""
            and told in seen
            and group_hash not in self._told
            and self.trust.state is _LIVE
        )

    def _is_continued_by(self, feed: Feed, reason: StaleReason, now: float) -> bool:
        """Whether `feed` has seen all that came after what was told last, trades too."""
        since = self._came_anew_seconds(feed)
        told = self._told.seconds
        if self._has_followed(feed, self._told.hash) or since <= told - COVERED_SECONDS:
            return True
        if self._told.hash == "" or self._told.hash not in self._seen[feed]:
            return False
        # Its first book is of that very step, whose trades came after the book. The former leader
        # was there to hear all up to that book, if it was there for a little longer.
        heard_until = self.leader.last_data_seconds if reason is StaleReason.FEED_STALLED else now
        return heard_until >= since + COVERED_SECONDS

    def _came_anew_seconds(self, feed: Feed) -> float:
        """Since when `feed` has missed nothing: a book that came anew in an old session lacks
        what lies before."""
        return max(feed.session_since_seconds, feed.trust[self.token].since_seconds)

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
