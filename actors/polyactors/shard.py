"""The books of one feed: every decision about a book, without a single await.

`BookShard` takes parsed batches, sessions going up and down, REST books and the time; it
answers with events for the stream and requests for others, which `flush` hands out. The actor
around it (books.py) only waits. A token's way to a trusted book:

1. `session_up`: subscribed, SYNCING; deltas are buffered.
2. a `book`: LIVE. None within the first-book deadline: STALE(never_delivered), step 3.
3. redrive: unsubscribe and subscribe. No `book` within the same deadline: step 4.
4. REST: the book of `/books`, spliced into the buffered deltas by hash (INTEGRITY.md
   section 6), LIVE. No answer, or one too old: back off, then step 3.

Everything that makes a LIVE book doubtful leads to STALE(reason) and step 3.
"""

from collections.abc import Callable
from math import inf

from polyactors.book.groups import QUIET_SECONDS, ClosedGroup
from polyactors.book.numbers import to_decimal
from polyactors.book.orderbook import OrderBook
from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import Cause
from polyactors.feed import Feed
from polyactors.journal import Journal
from polyactors.messages import Audited, FetchBook, Missed, Parsed, RestBook, Resync
from polyactors.protocol.events import (
    BookSnapshot,
    LastTradePrice,
    LevelChange,
    PriceChange,
    TickSizeChange,
)
from polyactors.token_book import Step, TokenBook

RESYNC_BACKOFF_SECONDS_MAX = 30.0
RESYNC_FORGIVEN_SECONDS = 5.0
"""LIVE for so long, a token's next resync is immediate again."""
UNKNOWN_RETRY_SECONDS = 60.0
"""REST can be behind for a new market: a token that it does not know, and that changes all the
same, is tried again after so long."""
REST_PATIENCE_SECONDS = 30.0
"""The snapshots actor always answers; should it die over the question, ask again after this."""

Send = Callable[[Resync | FetchBook], None]
"""Passes a request on; never waits, never raises."""


class BookShard:
    """All books of one feed. One incarnation of the book-shard actor owns it."""

    def __init__(
        self,
        feed: Feed,
        send: Send,
        *,
        adopt_any_token: bool = False,
        hash_every_group: bool = False,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        """For replays: `adopt_any_token` follows
        whatever appears, `hash_every_group` spends what that costs, and `quiet_seconds` may be
        inf where the clock says nothing about the stream."""
        self._feed = feed
        self._statistics = feed.env.statistics
        self._send = send
        self._adopt_any_token = adopt_any_token
        self._hash_every_group = hash_every_group
        self._quiet_seconds = quiet_seconds
        self._first_book_seconds = feed.env.settings.first_book_deadline_seconds
        self.books = {token: TokenBook(token, feed.markets.get(token, "")) for token in feed.tokens}
        self._pending: dict[str, TokenBook] = {}
        """Tokens with a due time: those that are on their way to a book."""
        self._open_groups: dict[str, TokenBook] = {}
        """Tokens with an open hash group, the longest quiet first."""
        self._last_trade_prices: dict[str, str] = {}
        """By market: the text that the exchange hashes, as far as we know."""
        self._journal = Journal(feed)
        self._requests: list[Resync | FetchBook] = []

    # --- from outside ---------------------------------------------------------------------

    def start(self, now: float) -> None:
        """A new incarnation begins. What a former one knew is lost: resync all, if it lived."""
        lived = any(trust.state is not TrustState.EMPTY for trust in self._feed.trust.values())
        epoch = self._feed.epoch
        if epoch is None:
            return
        if lived:
            self._missed(Missed((), StaleReason.ACTOR_RESTARTED), now)
        else:
            self.session_up(epoch, now)

    def session_up(self, epoch: int, now: float) -> None:
        """A session began and every token is subscribed in it."""
        for state in self.books.values():
            if self._feed.trust[state.token].state is TrustState.LIVE:  # only in a replay
                continue
            self._await_book(state, Step.SUBSCRIBED, now)

    def session_down(self, reason: StaleReason, now: float) -> None:
        """The session is over: nothing that it said may be trusted any longer."""
        for state in self.books.values():
            if state.group.is_open:
                self._close_group(state)
            self._rest_easy(state)
            lived = self._feed.trust[state.token].state is not TrustState.EMPTY
            if lived or reason is StaleReason.FEED_GAVE_UP:
                self._journal.trust(state, TrustState.STALE, now, reason)

    def abandon(self, now: float) -> None:
        """This incarnation dies: its levels go with it."""
        for state in self.books.values():
            if self._feed.trust[state.token].state is not TrustState.EMPTY:
                self._journal.trust(state, TrustState.STALE, now, StaleReason.ACTOR_RESTARTED)

    def apply(self, batch: Parsed, now: float, *, is_behind: bool = False) -> None:
        """Apply the events of one batch. `is_behind`: one update per token and batch."""
        if batch.epoch != self._feed.epoch:
            self._statistics.stale_batches += 1
            return
        now_ms = batch.received_at_ns // 1_000_000
        for event in batch.events:
            kind = type(event)
            if kind is PriceChange:
                assert isinstance(event, PriceChange)
                self._statistics.note_lag(now_ms - event.timestamp_ms)
                self._price_change(event, now, is_behind)
            elif kind is BookSnapshot:
                assert isinstance(event, BookSnapshot)
                self._snapshot(event, now, is_behind)
            elif isinstance(event, LastTradePrice):
                self._statistics.note_lag(now_ms - event.timestamp_ms)
                self._trade(event)
            elif isinstance(event, TickSizeChange):
                self._tick_size_change(event)
            elif isinstance(event, Missed):
                self._missed(event, now)
        self._journal.end_batch()

    def rest_book(self, answer: RestBook, now: float) -> None:
        """REST answered for a token on step 4."""
        state = self.books.get(answer.token)
        if state is None or answer.epoch != self._feed.epoch or state.step is not Step.FETCHING:
            return
        if answer.is_unknown:
            self._rest_easy(state)
            self._journal.trust(state, TrustState.STALE, now, StaleReason.UNKNOWN_TOKEN)
        elif answer.snapshot is None or not self._adopt_rest(state, answer.snapshot, now):
            self._back_off(state, now)

    def audited(self, answer: Audited, now: float) -> None:
        """REST spoke of books that may be LIVE here."""
        if answer.epoch == self._feed.epoch:
            for snapshot in answer.snapshots:
                state = self.books.get(snapshot.token)
                if state is not None:
                    state.inputs.learn(
                        snapshot.tick_size, snapshot.min_order_size, snapshot.neg_risk
                    )

    def on_time(self, now: float) -> None:
        """Act on every due time that has come; without a session nothing is due."""
        if self._feed.epoch is None:
            return
        for state in [s for s in self._pending.values() if s.due_seconds <= now]:
            self._overdue(state, now)
        for state in list(self._open_groups.values()):
            if state.group.last_entry_seconds + self._quiet_seconds > now:
                break
            self._settle(state, now)

    def next_due(self) -> float:
        """When `on_time` must be called next, at the latest; inf when nothing is due."""
        if self._feed.epoch is None:
            return inf
        due = min((state.due_seconds for state in self._pending.values()), default=inf)
        first = next(iter(self._open_groups.values()), None)
        if first is not None:
            due = min(due, first.group.last_entry_seconds + self._quiet_seconds)
        return due

    def close_groups(self, now: float) -> None:
        """The stream has ended: judge what is open."""
        for state in list(self._open_groups.values()):
            self._settle(state, now)

    def flush(self) -> None:
        """Hand out the events and requests that have gathered, in order."""
        events = self._journal.take()
        if events:
            self._feed.env.hub.publish(events)
        if self._requests:
            requests, self._requests = self._requests, []
            for request in requests:
                self._send(request)

    # --- the stream -----------------------------------------------------------------------

    def _price_change(self, event: PriceChange, now: float, is_behind: bool) -> None:
        touched: dict[str, TokenBook] = {}
        for change in event.changes:
            state = self.books.get(change.token)
            if state is None:
                if not self._adopt_any_token:
                    self._statistics.foreign_events += 1
                    continue
                state = self._follow(change.token, event.market, now)
            state.changes += 1
            if state.splice is not None:
                if state.splice.held:
                    touched[state.token] = state  # held changes settle now, one way or another
                for timestamp_ms, ready in state.splice.accept(event.timestamp_ms, change):
                    self._apply_change(state, ready, timestamp_ms, now)
                    touched[state.token] = state
                self._watch_splice(state, now)
            elif self._feed.trust[state.token].state is TrustState.LIVE:
                self._apply_change(state, change, event.timestamp_ms, now)
                touched[state.token] = state
            else:
                if state.step is Step.IDLE:  # REST does not know the token, yet here it is
                    state.step = Step.BACKING_OFF
                    state.due_seconds = now + UNKNOWN_RETRY_SECONDS
                    self._pending[state.token] = state
                state.buffer.add(event.timestamp_ms, change)
            if not state.market:
                self._learn_market(state, event.market)
        for state in touched.values():
            if self._feed.trust[state.token].state is TrustState.LIVE:
                self._journal.update(state, "delta", is_behind=is_behind)

    def _watch_splice(self, state: TokenBook, now: float) -> None:
        """See whether the stream has passed the REST book, or changes wait for a sign of it."""
        splice = state.splice
        if splice is None:
            return  # applying a change ended it, with the book's trust
        if splice.joined:
            state.splice = None
            self._rest_easy(state)
        elif splice.held and state.step is Step.IDLE:
            # Quiet decides as well: the book's own step lies before all that was received.
            state.step = Step.HOLDING
            state.due_seconds = now + self._quiet_seconds
            self._pending[state.token] = state

    def _apply_change(
        self, state: TokenBook, change: LevelChange, timestamp_ms: int, now: float
    ) -> None:
        group = state.group
        if group.is_ended_by(change.hash) and not self._judge(state, now):
            # The book proved wrong at the end of the group before: this is not its successor.
            state.buffer.add(timestamp_ms, change)
            return
        if self._feed.trust[state.token].state is not TrustState.LIVE:
            state.buffer.add(timestamp_ms, change)
            return
        state.book.set_level(change.side, change.price, change.size)
        group.observe(change.hash, change.best_bid, change.best_ask, timestamp_ms, now)
        self._open_groups.pop(state.token, None)
        self._open_groups[state.token] = state

    def _snapshot(self, event: BookSnapshot, now: float, is_behind: bool) -> None:
        state = self.books.get(event.token)
        if state is None:
            if not self._adopt_any_token:
                self._statistics.foreign_events += 1
                return
            state = self._follow(event.token, event.market, now)
        self._learn_market(state, event.market)
        if event.tick_size is not None:
            state.dumps_state_tick_size = True
        elif (
            state.step is Step.REDRIVEN
            and state.dumps_state_tick_size
            and not self._adopt_any_token  # a replay has given up no subscription
        ):
            # The book after a trade, still under way from the subscription that was given up:
            # what happened between that one's end and the new one's begin is in neither. Only
            # the first book of a subscription states the tick size (PROTOCOL.md section 2).
            state.buffer.pass_by(event.timestamp_ms, event.hash)
            return
        trust = self._feed.trust[state.token]
        if trust.state is TrustState.EMPTY or trust.reason is StaleReason.UNKNOWN_TOKEN:
            self._journal.trust(state, TrustState.SYNCING, now)  # it exists after all
        elif trust.state is TrustState.LIVE:
            if state.group.is_open:
                self._close_group(state)
            # Before the stream has passed a REST book, its own books may be older than that.
            # And the first book of a subscription (it states the tick size) follows no trade.
            is_comparable = (
                state.splice is None and not state.expects_book and event.tick_size is None
            )
            if is_comparable and not state.has_levels(event):
                self._statistics.resyncs[StaleReason.BOOK_MISMATCH.value] += 1
                self._journal.trust(state, TrustState.STALE, now, StaleReason.BOOK_MISMATCH)
        self._adopt(state, event, "snapshot", now)
        self._journal.update(state, "snapshot", is_behind=is_behind)

    def _adopt(self, state: TokenBook, snapshot: BookSnapshot, cause: Cause, now: float) -> None:
        """Replace the book by a whole one; it is LIVE from here on."""
        self._learn_market(state, snapshot.market)
        if snapshot.market and snapshot.market != state.book.market:
            state.book = OrderBook(state.token, snapshot.market)
        state.book.replace(snapshot.bids, snapshot.asks)
        state.group.adopt(snapshot.hash, snapshot.timestamp_ms)
        self._open_groups.pop(state.token, None)
        state.inputs.learn(snapshot.tick_size, snapshot.min_order_size, snapshot.neg_risk)
        if snapshot.last_trade_price is not None:
            self._last_trade_prices[state.market] = snapshot.last_trade_price
        state.last_cause = cause
        self._rest_easy(state)
        trust = self._feed.trust[state.token]
        if trust.state is TrustState.STALE:
            self._journal.trust(state, TrustState.SYNCING, now)
        if trust.state is not TrustState.LIVE:
            self._journal.trust(state, TrustState.LIVE, now)
            state.live_since_seconds = now

    def _learn_market(self, state: TokenBook, market: str) -> None:
        if market and market != state.market:
            # The feed keeps it: the next incarnation shall know it from its first word on.
            state.market = self._feed.markets[state.token] = market

    def _trade(self, event: LastTradePrice) -> None:
        state = self.books.get(event.token)
        if state is not None:
            self._learn_market(state, event.market)
        elif not self._adopt_any_token:
            self._statistics.foreign_events += 1
            return
        # Three decimals, whatever the tick: that is how the exchange hashes it.
        self._last_trade_prices[event.market] = f"{to_decimal(event.price):.3f}"
        self._journal.trade(event)

    def _tick_size_change(self, event: TickSizeChange) -> None:
        # The levels stay: the one real capture shows the book before this event, not after.
        state = self.books.get(event.token)
        if state is None:
            self._statistics.foreign_events += 1
            return
        self._learn_market(state, event.market)
        # The step that is under way was hashed with the tick before.
        if state.group.is_open:
            state.next_tick_size = str(event.new)
        else:
            state.inputs.tick_size = str(event.new)
        self._journal.tick_size(event)

    def _missed(self, missed: Missed, now: float) -> None:
        for token in missed.tokens or (None,):
            if token is None or token in self.books:
                self._journal.gap(token, missed.reason)
        if self._adopt_any_token:
            return  # a replay can ask nobody: the checks of the groups say whether it mattered
        for token in missed.tokens or tuple(self.books):
            state = self.books.get(token)
            if state is not None:
                self._resync(state, missed.reason, now)

    # --- hash groups ----------------------------------------------------------------------

    def _judge(self, state: TokenBook, now: float) -> bool:
        """Close the open group; a book that fails goes STALE. Returns whether it passed."""
        wrong = self._close_group(state)
        if wrong is not None:
            self._resync(state, wrong, now)
        return wrong is None

    def _close_group(self, state: TokenBook) -> StaleReason | None:
        """End the open group and count its checks; returns what proved wrong."""
        self._open_groups.pop(state.token, None)
        closed = state.group.close(state.book)
        hash_ok = self._hash_ok(state, closed)
        state.inputs.learn(state.next_tick_size, None, None)
        state.next_tick_size = None
        statistics = self._statistics
        statistics.groups += 1
        statistics.groups_top_ok += closed.top_ok is not False
        if closed.top_ok is False:
            return StaleReason.TOP_MISMATCH
        if closed.crossed:
            return StaleReason.CROSSED
        return StaleReason.HASH_MISMATCH if hash_ok is False else None

    def _hash_ok(self, state: TokenBook, closed: ClosedGroup) -> bool | None:
        if not self._hash_every_group:
            return None
        hash_ok = state.verify(closed, self._last_trade_prices.get(state.market))
        self._statistics.groups_hash_ok += hash_ok is True
        self._statistics.groups_hash_unverifiable += hash_ok is None
        return hash_ok

    def _settle(self, state: TokenBook, now: float) -> None:
        """The group has been quiet: it is complete, and readers hear that the book settled."""
        if self._judge(state, now):
            self._journal.update(state, state.last_cause)

    # --- the way to a trusted book --------------------------------------------------------

    def _resync(self, state: TokenBook, reason: StaleReason, now: float) -> None:
        """The book is doubtful: STALE at once, and on the way to a fresh one."""
        trust = self._feed.trust[state.token]
        if trust.reason is StaleReason.UNKNOWN_TOKEN:
            return
        if state.group.is_open:
            self._close_group(state)
        if trust.state is TrustState.LIVE and (
            now - state.live_since_seconds >= RESYNC_FORGIVEN_SECONDS
        ):
            state.attempts = 0
        self._statistics.resyncs[reason.value] += 1
        state.why = reason
        self._journal.trust(state, TrustState.STALE, now, reason)
        if state.step is Step.BACKING_OFF:
            return  # the next attempt is due already
        self._back_off(state, now)

    def _back_off(self, state: TokenBook, now: float) -> None:
        """Redrive now, or later when this token has been redriven too often."""
        delay = 0.0
        if state.attempts > 0:
            delay = min(RESYNC_BACKOFF_SECONDS_MAX, 2.0 ** min(state.attempts - 1, 10))
        state.attempts += 1
        state.end_splice()
        if delay == 0.0:
            self._redrive(state, now)
            return
        state.step = Step.BACKING_OFF
        state.due_seconds = now + delay
        self._pending[state.token] = state

    def _redrive(self, state: TokenBook, now: float) -> None:
        self._requests.append(Resync(state.token, state.why))
        self._await_book(state, Step.REDRIVEN, now)

    def _await_book(self, state: TokenBook, step: Step, now: float) -> None:
        """A subscription is on its way (again): the next `book` is the one that counts."""
        if self._feed.trust[state.token].state is not TrustState.SYNCING:
            self._journal.trust(state, TrustState.SYNCING, now)
        state.end_splice()
        state.buffer.pass_by(state.group.timestamp_ms, state.group.hash)
        state.buffer.clear()
        state.expects_book = True
        state.step = step
        state.due_seconds = now + self._first_book_seconds
        self._pending[state.token] = state

    def _overdue(self, state: TokenBook, now: float) -> None:
        if state.step is Step.SUBSCRIBED:
            self._resync(state, StaleReason.NEVER_DELIVERED, now)
        elif state.step is Step.REDRIVEN:
            # The deltas since the redrive are buffered: REST can be spliced into them.
            self._requests.append(FetchBook(self._feed.id, self._feed.epoch or 0, state.token))
            state.step = Step.FETCHING
            state.due_seconds = now + REST_PATIENCE_SECONDS
        elif state.step is Step.FETCHING:
            self._back_off(state, now)
        elif state.step is Step.BACKING_OFF:
            self._redrive(state, now)
        elif state.step is Step.HOLDING and state.splice is not None:
            for timestamp_ms, change in state.splice.release():
                self._apply_change(state, change, timestamp_ms, now)
            self._watch_splice(state, now)
            if self._feed.trust[state.token].state is TrustState.LIVE:
                self._journal.update(state, "delta")

    def _adopt_rest(self, state: TokenBook, snapshot: BookSnapshot, now: float) -> bool:
        """Splice a REST book into the buffered deltas. False when it is provably too old."""
        spliced = state.buffer.splice(snapshot.hash, snapshot.timestamp_ms)
        if spliced is None:
            return False
        splice, ready = spliced
        self._adopt(state, snapshot, "rest", now)
        for timestamp_ms, change in ready:
            self._apply_change(state, change, timestamp_ms, now)
        if self._feed.trust[state.token].state is TrustState.LIVE:
            state.splice = splice
            self._watch_splice(state, now)
        if self._feed.trust[state.token].state is TrustState.LIVE:
            self._journal.update(state, "rest")
        return True

    def _rest_easy(self, state: TokenBook) -> None:
        """Nothing is under way for this token any more."""
        state.step = Step.IDLE
        state.due_seconds = inf
        state.expects_book = False
        state.end_splice()
        state.buffer.clear()
        self._pending.pop(state.token, None)

    def _follow(self, token: str, market: str, now: float) -> TokenBook:
        """A replay meets a token for the first time."""
        state = self.books[token] = TokenBook(token, market)
        self._feed.follow(token)
        self._journal.trust(state, TrustState.SYNCING, now)
        return state
