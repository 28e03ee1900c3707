"""A token's way back to a trusted book: which step is next, and when.

1. `session_up`: subscribed, SYNCING; deltas are buffered.
2. a `book`: LIVE. None within the first-book deadline: STALE(never_delivered), step 3.
3. redrive: unsubscribe and subscribe. No `book` within the same deadline: step 4.
4. REST: the book of `/books`, spliced into the buffered deltas by hash (INTEGRITY.md
   section 6), LIVE. No answer, or one too old: back off, then step 3.

Everything that makes a LIVE book doubtful leads to STALE(reason) and step 3.
"""

from math import inf

from polyactors.book.trust import DESYNCS, StaleReason, TrustState
from polyactors.feed import Feed
from polyactors.journal import Journal
from polyactors.messages import AuditAgain, FetchBook, Resync
from polyactors.token_book import Step, TokenBook

RESYNC_BACKOFF_SECONDS_MAX = 30.0
RESYNC_FORGIVEN_SECONDS = 5.0
"""LIVE for so long, a token's next resync is immediate again."""
UNKNOWN_RETRY_SECONDS = 60.0
"""REST can be behind for a new market: a token that it does not know, and that changes all the
same, is tried again after so long."""
REST_PATIENCE_SECONDS = 30.0
"""The snapshots actor always answers; should it die over the question, ask again after this."""

BOOKS_DUE_MAX = 2
"""First books that may be under way at once: of the subscription that was given up, and ours."""

Request = Resync | FetchBook | AuditAgain
"""What a shard asks of other actors."""


class Recovery:
    """The steps of all tokens of one feed that are on their way to a book."""

    def __init__(self, feed: Feed, journal: Journal) -> None:
        self._feed = feed
        self._statistics = feed.env.statistics
        self._journal = journal
        self._first_book_seconds = feed.env.settings.first_book_deadline_seconds
        self._pending: dict[str, TokenBook] = {}
        """Tokens with a due time: those that are on their way to a book."""
        self._earliest_seconds = inf
        """None of them is overdue before. At the start there are thousands: nobody goes through
        all of them for each frame."""
        self.requests: list[Request] = []
        """What is to be asked of others, in order; taken by the shard."""

    def next_due(self) -> float:
        """When the first of them may be overdue; inf when none is on its way."""
        return self._earliest_seconds

    def overdue(self, now: float) -> list[TokenBook]:
        """The tokens whose time has come; each must be given another, or be done."""
        if now < self._earliest_seconds:
            return []
        pending = self._pending.values()
        later = [state.due_seconds for state in pending if state.due_seconds > now]
        self._earliest_seconds = min(later, default=inf)
        return [state for state in pending if state.due_seconds <= now]

    def resync(
        self, state: TokenBook, reason: StaleReason, now: float, *, is_told: bool = False
    ) -> None:
        """The book is doubtful: STALE at once, and on the way to a fresh one. `is_told`: a gap
        of it was published already."""
        trust = self._feed.trust[state.token]
        if trust.reason is StaleReason.UNKNOWN_TOKEN:
            return
        if trust.state is TrustState.LIVE:
            if now - state.live_since_seconds >= RESYNC_FORGIVEN_SECONDS:
                state.attempts = 0
            is_told |= self._note_detected(state, reason, now)
        self._statistics.resyncs[reason.value] += 1
        state.why = reason
        self._journal.trust(state, TrustState.STALE, now, reason)
        if state.step is Step.BACKING_OFF:
            return  # the next attempt is due already
        self.back_off(state, now, is_told=is_told)

    def replace(self, state: TokenBook, reason: StaleReason, now: float) -> None:
        """A LIVE book is proven wrong by the very book that takes its place."""
        self._note_detected(state, reason, now)
        self._statistics.resyncs[reason.value] += 1
        self._journal.trust(state, TrustState.STALE, now, reason)

    def back_off(self, state: TokenBook, now: float, *, is_told: bool = False) -> None:
        """Redrive now, or later when this token has been redriven too often. `is_told`: the gap
        of a redrive now was published already."""
        delay = 0.0
        if state.attempts > 0:
            delay = min(RESYNC_BACKOFF_SECONDS_MAX, 2.0 ** min(state.attempts - 1, 10))
        state.attempts += 1
        state.end_splice()
        if delay == 0.0:
            self._redrive(state, now, is_told=is_told)
            return
        self.wait(state, Step.BACKING_OFF, now + delay)

    def is_known_again(self, state: TokenBook, now: float) -> None:
        """REST has a book of a token that it did not know: so the stream may."""
        state.attempts = 0
        state.why = StaleReason.UNKNOWN_TOKEN
        self.back_off(state, now)

    def still_not_quiet(self, now: float, quiet_seconds: float) -> None:
        """What arrived has not come through: held changes wait for quiet anew."""
        for state in self._pending.values():
            if state.step is Step.HOLDING:
                state.due_seconds = now + quiet_seconds

    def await_book(self, state: TokenBook, step: Step, now: float) -> None:
        """A subscription is on its way (again): the next `book` is the one that counts."""
        if self._feed.trust[state.token].state is not TrustState.SYNCING:
            self._journal.trust(state, TrustState.SYNCING, now)
        state.end_splice()
        state.buffer.pass_by(state.group.timestamp_ms, state.group.hash)
        state.buffer.clear()
        state.books_due = 1 if step is Step.SUBSCRIBED else min(BOOKS_DUE_MAX, state.books_due + 1)
        self.wait(state, step, now + self._first_book_seconds)

    def wait(self, state: TokenBook, step: Step, due_seconds: float) -> None:
        """The token is at this step until then."""
        state.step = step
        state.due_seconds = due_seconds
        self._earliest_seconds = min(self._earliest_seconds, due_seconds)
        self._pending[state.token] = state

    def go_on(self, state: TokenBook, now: float) -> None:
        """The token is overdue at its step: the next one."""
        if state.step is Step.SUBSCRIBED:
            self.resync(state, StaleReason.NEVER_DELIVERED, now)
        elif state.step is Step.REDRIVEN:
            # The deltas since the redrive are buffered: REST can be spliced into them.
            self.requests.append(FetchBook(self._feed.id, self._feed.epoch or 0, state.token))
            self.wait(state, Step.FETCHING, now + REST_PATIENCE_SECONDS)
        elif state.step is Step.FETCHING:
            self.back_off(state, now)
        elif state.step is Step.BACKING_OFF:
            self._redrive(state, now)

    def rest_easy(self, state: TokenBook) -> None:
        """Nothing is under way for this token any more."""
        state.step = Step.IDLE
        state.due_seconds = inf
        state.end_splice()
        state.buffer.clear()
        self._pending.pop(state.token, None)

    def _redrive(self, state: TokenBook, now: float, *, is_told: bool = False) -> None:
        self.await_book(state, Step.REDRIVEN, now)
        if state.wrong_books and state.wrong_books % 2 == 0:
            # The stream's own books do not hash right, so what we believe of the token may be
            # wrong instead: REST states everything that is hashed.
            self.go_on(state, now)
        else:
            if not is_told:  # what happens between the end and the new begin passes by
                self._journal.gap(state.token, state.why)
            self.requests.append(Resync(state.token, state.why))

    def _note_detected(self, state: TokenBook, reason: StaleReason, now: float) -> bool:
        """A LIVE book is proven wrong: say so, and count for how long it can have been, at most.
        Returns whether it was said."""
        if reason in DESYNCS:
            self._journal.gap(state.token, reason)  # something was lost, or we were wrong
            is_top = reason in (StaleReason.TOP_MISMATCH, StaleReason.CROSSED)
            since = state.top_right_since_seconds if is_top else state.right_since_seconds
            self._statistics.detect.add(now - since)
        return reason in DESYNCS
