"""The books of one feed: every decision about a book, without a single await.

`BookShard` takes parsed batches, sessions going up and down, REST's books and the time; it
answers with events for the stream and requests for others, which `flush` hands out. The actor
around it (books.py) only waits. Here changes are applied, hash groups judged at their end and
whole books adopted; how a token comes back to a trusted book is in recovery.py, what is hashed
when in checks.py, and what REST's books say about ours in comparison.py.
"""

from collections.abc import Callable
from math import inf

from polyactors.book.groups import QUIET_SECONDS
from polyactors.book.numbers import Side, to_decimal
from polyactors.book.splice import RestSplice
from polyactors.book.trust import StaleReason, TrustState
from polyactors.book.verify import Verdict
from polyactors.checks import HashChecks
from polyactors.comparison import RestComparison
from polyactors.events import Cause
from polyactors.feed import Feed
from polyactors.journal import Journal
from polyactors.messages import Audited, Missed, Parsed, RestBook
from polyactors.protocol.events import (
    BookSnapshot,
    LastTradePrice,
    LevelChange,
    PriceChange,
    TickSizeChange,
)
from polyactors.recovery import UNKNOWN_RETRY_SECONDS, Recovery, Request
from polyactors.token_book import Step, TokenBook

SPLICE_SECONDS_MAX = 10.0
"""How long after a REST book the stream may bring changes that are said to be in it already.
Timestamps or hashes that say so for ever would keep the book from every change."""

# Before Python 3.12 the attribute of an Enum costs as much as a call.
_LIVE, _BID = TrustState.LIVE, Side.BID

Send = Callable[[Request], None]
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
        self._env = feed.env
        self._statistics = feed.env.statistics
        self._send = send
        self._adopt_any_token = adopt_any_token
        self._hash_every_group = hash_every_group
        self._quiet_seconds = quiet_seconds
        self.books = {
            token: TokenBook(token, feed.markets.get(token, ""), feed.hash_inputs(token))
            for token in feed.tokens
        }
        self._open_groups: dict[str, TokenBook] = {}
        """Tokens with an open hash group, the longest quiet first; also some whose group has
        ended since."""
        self._journal = Journal(feed)
        self._recovery = Recovery(feed, self._journal)
        self._checks = HashChecks(feed, every_group=hash_every_group)
        self._comparison = RestComparison(feed)

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
            self._recovery.await_book(state, Step.SUBSCRIBED, now)

    def session_down(self, reason: StaleReason, now: float) -> None:
        """The session is over: nothing that it said may be trusted any longer."""
        for state in self.books.values():
            if state.group.is_open:
                self._end_group(state, now)
            self._comparison.forget(state.token)
            self._recovery.rest_easy(state)
            lived = self._feed.trust[state.token].state is not TrustState.EMPTY
            if lived or reason is StaleReason.FEED_GAVE_UP:
                self._journal.trust(state, TrustState.STALE, now, reason)

    def abandon(self, now: float) -> None:
        """This incarnation dies: its levels go with it."""
        for state in self.books.values():
            if self._feed.trust[state.token].state is not TrustState.EMPTY:
                self._journal.trust(state, TrustState.STALE, now, StaleReason.ACTOR_RESTARTED)

    def distrust(self, token: str, now: float) -> None:
        """Another feed has told more of a LIVE book than this one shows."""
        state = self.books[token]
        if self._feed.trust[token].state is TrustState.LIVE:
            self._resync(state, StaleReason.UNSUBSCRIBED, now, is_told=True)

    def apply(self, batch: Parsed, now: float, *, is_behind: bool = False) -> None:
        """Apply the events of one batch. `is_behind`: updates are held back until `flush`, where
        only the last one of each token is left."""
        if batch.epoch != self._feed.epoch:
            self._statistics.stale_batches += 1
            return
        stamps_ms: list[int] = []
        for event in batch.events:
            if isinstance(event, PriceChange):
                stamps_ms.append(event.timestamp_ms)
                self._price_change(event, now)
            elif isinstance(event, BookSnapshot):
                self._snapshot(event, now)
            elif isinstance(event, LastTradePrice):
                stamps_ms.append(event.timestamp_ms)
                self._trade(event)
            elif isinstance(event, TickSizeChange):
                self._tick_size_change(event)
            elif isinstance(event, Missed):
                self._missed(event, now)
            if not is_behind:
                self._journal.publish_updates()
        if stamps_ms:
            self._comparison.note_stream(max(stamps_ms))
            self._statistics.note_lags(stamps_ms, batch.received_at_ns // 1_000_000)

    def rest_book(self, answer: RestBook, now: float) -> None:
        """REST answered for a token whose book it was asked for."""
        state = self.books.get(answer.token)
        if state is None or answer.epoch != self._feed.epoch or state.step is not Step.FETCHING:
            return
        if answer.is_unknown:
            self._unknown(state, now)
        elif answer.snapshot is None or not self._adopt_rest(state, answer.snapshot, now):
            self._recovery.back_off(state, now)

    def audited(self, answer: Audited, now: float) -> None:
        """REST spoke of books that may be LIVE here."""
        if answer.epoch != self._feed.epoch:
            return
        for theirs in answer.snapshots:
            state = self.books.get(theirs.token)
            if state is None:
                continue
            # What the WebSocket never says; it holds for any book of the token. The tick it does
            # say, and REST may be behind it.
            tick_size = theirs.tick_size if state.inputs.tick_size is None else None
            trust = self._feed.trust[state.token]
            state.inputs.learn(tick_size, theirs.min_order_size, theirs.neg_risk)
            if not self._env.last_trade_prices.known(state.market):
                self._checks.learn_price(state.market, theirs.last_trade_price)
            if trust.reason is StaleReason.UNKNOWN_TOKEN and state.step is Step.IDLE:
                self._recovery.is_known_again(state, now)
            is_live = trust.state is TrustState.LIVE
            if is_live and not self._comparison.is_right(state, theirs, now):
                self._feed.note_audit_mismatch(state.token)
                self._resync(state, StaleReason.AUDIT_MISMATCH, now)
        for token in answer.unknown:
            state = self.books.get(token)
            if state is None or self._feed.trust[token].state is not TrustState.LIVE:
                continue
            # REST can be behind for a new market: a stream that speaks is the better witness.
            said = (state.changes, state.group.hash)
            if state.said_when_unknown == said:
                self._unknown(state, now)
            state.said_when_unknown = said

    def overslept(self, now: float) -> None:
        """The loop was held up: what arrived meanwhile has not come through, so nobody knows of
        any quiet. It begins anew."""
        self._recovery.still_not_quiet(now, self._quiet_seconds)
        for state in self._open_groups.values():
            state.group.last_entry_seconds = now

    def on_time(self, now: float, *, is_caught_up: bool = True) -> None:
        """Act on every due time that has come; without a session nothing is due. While the shard
        is not `is_caught_up` with its mailbox, no quiet is believed."""
        if self._feed.epoch is None:
            return
        if not is_caught_up:
            self.overslept(now)
        for state in self._recovery.overdue(now):
            if state.step is Step.HOLDING:
                self._release(state, now)
            else:
                self._recovery.go_on(state, now)
        while (first := self._longest_quiet()) is not None:
            if first.group.last_entry_seconds + self._quiet_seconds > now:
                break
            self._settle(first, now)
        questions, doubtful = self._comparison.on_time(now)
        self._recovery.requests += questions
        for state in doubtful:
            self._checks.hurry(state)
        wrong = self._checks.on_time(now)
        if wrong is not None:
            self._resync(wrong, StaleReason.HASH_MISMATCH, now)

    def next_due(self, now: float) -> float:
        """When `on_time` must be called next, at the latest; inf when nothing is due."""
        if self._feed.epoch is None:
            return inf
        due = min(
            self._recovery.next_due(), self._comparison.next_due(), self._checks.next_due(now)
        )
        first = self._longest_quiet()
        if first is not None:
            due = min(due, first.group.last_entry_seconds + self._quiet_seconds)
        return due

    def close_groups(self, now: float) -> None:
        """The stream has ended: judge what is open."""
        while (first := self._longest_quiet()) is not None:
            self._settle(first, now)

    def flush(self) -> None:
        """Hand out the events and requests that have gathered, in order."""
        self._journal.publish_updates()
        events = self._journal.take()
        if events:
            self._env.hub.publish(events)
        if self._recovery.requests:
            requests, self._recovery.requests = self._recovery.requests, []
            for request in requests:
                self._send(request)

    # --- the stream -----------------------------------------------------------------------

    def _price_change(self, event: PriceChange, now: float) -> None:
        books, trust, timestamp_ms = self.books, self._feed.trust, event.timestamp_ms
        for change in event.changes:
            token = change.token
            state = books.get(token)
            if state is None and (state := self._new_book(token, event.market, now)) is None:
                continue
            state.changes += 1
            if not state.market:
                self._learn_market(state, event.market)
            if state.splice is not None:
                self._spliced_change(state, state.splice, change, timestamp_ms, now)
            elif trust[token].state is _LIVE:
                self._apply_change(state, change, timestamp_ms, now)
            else:
                if state.step is Step.IDLE:  # REST does not know the token, yet here it is
                    self._recovery.wait(state, Step.BACKING_OFF, now + UNKNOWN_RETRY_SECONDS)
                state.buffer.add(timestamp_ms, change)

    def _spliced_change(
        self,
        state: TokenBook,
        splice: RestSplice[LevelChange],
        change: LevelChange,
        timestamp_ms: int,
        now: float,
    ) -> None:
        if splice.held:
            self._journal.update(state, "delta")  # they settle now, one way or another
        self._apply_ready(state, splice.accept(timestamp_ms, change), now)
        self._watch_splice(state, now)

    def _apply_ready(
        self, state: TokenBook, ready: list[tuple[int, LevelChange]], now: float
    ) -> None:
        """Apply what a splice lets pass, as long as the book is not proven wrong by it."""
        for timestamp_ms, change in ready:
            if self._feed.trust[state.token].state is _LIVE:
                self._apply_change(state, change, timestamp_ms, now)
            else:
                state.buffer.add(timestamp_ms, change)

    def _apply_change(
        self, state: TokenBook, change: LevelChange, timestamp_ms: int, now: float
    ) -> None:
        """Apply a change of a LIVE book, and publish it."""
        group, token = state.group, state.token
        if group.is_open:
            if change.hash != group.hash:
                wrong = self._end_group(state, now)
                if wrong is not None:
                    # Proven wrong at the end of the group before: this is not its successor.
                    self._resync(state, wrong, now)
                    state.buffer.add(timestamp_ms, change)
                    return
                group.begin(change.hash)
            if group.last_entry_seconds != now:
                self._open_groups.pop(token, None)
        else:
            group.begin(change.hash)
            self._open_groups.pop(token, None)
        # In this order: should the second fail, the book is not settled.
        group.observe(change.best_bid, change.best_ask, timestamp_ms, now)
        side = state.book.bid_side if change.side is _BID else state.book.ask_side
        side.set(change.price, change.size)
        self._open_groups[token] = state
        self._journal.update(state, "delta")

    def _snapshot(self, event: BookSnapshot, now: float) -> None:
        state = self.books.get(event.token) or self._new_book(event.token, event.market, now)
        if state is None:
            return
        self._learn_market(state, event.market)
        if event.tick_size is not None:
            state.dumps_state_tick_size = True
        is_dump = state.is_dump(event)
        if state.step is Step.REDRIVEN and not is_dump and not self._adopt_any_token:
            # The book after a trade, still under way from the subscription that was given up:
            # what happened between that one's end and the new one's begin is in neither. (A
            # replay has given up none.)
            state.buffer.pass_by(event.timestamp_ms, event.hash)
            return
        trust = self._feed.trust[state.token]
        # In a replay nobody knows what was subscribed when.
        may_be_due = state.books_due > 0 or self._adopt_any_token
        is_solicited = event.tick_size is not None and may_be_due
        if is_solicited or trust.state is not TrustState.LIVE:
            state.books_due = max(0, state.books_due - 1)
        is_ours = False
        if trust.state is TrustState.EMPTY or trust.reason is StaleReason.UNKNOWN_TOKEN:
            self._journal.trust(state, TrustState.SYNCING, now)  # it exists after all
        elif trust.state is TrustState.LIVE:
            wrong, is_ours = self._compare(state, event, now, is_solicited=is_solicited)
            is_late = event.timestamp_ms < state.group.timestamp_ms and not is_solicited
            if wrong is not None and is_late and not self._adopt_any_token:
                self._resync(state, wrong, now)  # an older book than ours is no cure
                return
            if wrong is not None:
                self._recovery.replace(state, wrong, now)
        if is_ours and not self._hash_every_group:
            state.group.adopt(event.hash, event.timestamp_ms)
            self._checks.unsolicited(state)
        elif not self._adopt(state, event, "snapshot", now):
            return
        self._journal.update(state, "snapshot")

    def _compare(
        self, state: TokenBook, event: BookSnapshot, now: float, *, is_solicited: bool
    ) -> tuple[StaleReason | None, bool]:
        """Judge a LIVE book where a `book` ends its group. Returns what proved wrong, and whether
        the two are held against each other, as nobody asked for this one, and are the same."""
        wrong = self._end_group(state, now) if state.group.is_open else None
        # Before the stream has passed a REST book, its own books may be older than that.
        splice = state.splice
        may_be_older = splice is not None and (
            splice.held > 0 or event.timestamp_ms <= splice.timestamp_ms
        )
        if may_be_older or is_solicited:
            return wrong, False
        if not state.has_levels(event):
            return StaleReason.BOOK_MISMATCH, False
        if wrong is None:
            state.top_right_since_seconds = state.right_since_seconds = now
        return wrong, wrong is None

    def _adopt(self, state: TokenBook, snapshot: BookSnapshot, cause: Cause, now: float) -> bool:
        """Replace the book by a whole one. It is LIVE from here on, unless its hash is wrong."""
        self._learn_market(state, snapshot.market)
        state.replace(snapshot)
        self._comparison.forget(state.token)
        state.inputs.learn(snapshot.tick_size, snapshot.min_order_size, snapshot.neg_risk)
        self._checks.learn_price(state.market, snapshot.last_trade_price)
        state.last_cause = cause
        self._recovery.rest_easy(state)
        verdict = self._checks.fresh(state, snapshot.levels_json)
        if self._feed.trust[state.token].state is TrustState.STALE:
            self._journal.trust(state, TrustState.SYNCING, now)
        if verdict is Verdict.WRONG or state.book.is_crossed:
            is_hash = verdict is Verdict.WRONG
            state.wrong_books += 1
            reason = StaleReason.HASH_MISMATCH if is_hash else StaleReason.CROSSED
            self._resync(state, reason, now)
            return False
        state.wrong_books = 0
        state.top_right_since_seconds = state.right_since_seconds = now
        if self._feed.trust[state.token].state is not TrustState.LIVE:
            self._journal.trust(state, TrustState.LIVE, now)
            state.live_since_seconds = now
        return True

    def _trade(self, event: LastTradePrice) -> None:
        state = self.books.get(event.token)
        if state is not None:
            self._learn_market(state, event.market)
        elif not self._adopt_any_token:
            self._statistics.foreign_events += 1
            return
        # Three decimals, whatever the tick: that is how the exchange hashes it.
        self._checks.learn_price(event.market, f"{to_decimal(event.price):.3f}")
        self._journal.trade(event)

    def _tick_size_change(self, event: TickSizeChange) -> None:
        # The levels stay: the one real capture shows the book before this event, not after.
        state = self.books.get(event.token)
        if state is None:
            self._statistics.foreign_events += 1
            return
        self._learn_market(state, event.market)
        state.inputs.learn(str(event.new))
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
                self._resync(state, missed.reason, now, is_told=True)

    def _new_book(self, token: str, market: str, now: float) -> TokenBook | None:
        """The book of a token that has none: a replay follows them all, and None else."""
        if not self._adopt_any_token:
            self._statistics.foreign_events += 1
            return None
        self._feed.follow(token)
        state = self.books[token] = TokenBook(token, market)
        self._journal.trust(state, TrustState.SYNCING, now)
        return state

    def _learn_market(self, state: TokenBook, market: str) -> None:
        if market and market != state.market:
            # The feed keeps it: the next incarnation shall know it from its first word on.
            state.market = self._feed.markets[state.token] = market

    # --- hash groups ----------------------------------------------------------------------

    def _longest_quiet(self) -> TokenBook | None:
        """The token whose open group has heard nothing for longest; None when none is open."""
        for state in self._open_groups.values():
            if state.group.is_open:
                break
        else:
            self._open_groups.clear()
            return None
        while next(iter(self._open_groups.values())) is not state:
            del self._open_groups[next(iter(self._open_groups))]
        return state

    def _end_group(self, state: TokenBook, now: float) -> StaleReason | None:
        """End the open group and count its checks; returns what proved wrong."""
        wrong = state.group.close(state.book)
        verdict = self._checks.closed(state, now)
        if not state.group.is_repeat:
            self._statistics.groups += 1
        if wrong is not None:
            is_top = wrong is StaleReason.TOP_MISMATCH and not state.group.is_repeat
            self._statistics.groups_top_wrong += is_top
            return wrong
        state.top_right_since_seconds = now
        if verdict is not None and verdict is Verdict.WRONG:
            return StaleReason.HASH_MISMATCH
        return None

    def _settle(self, state: TokenBook, now: float) -> None:
        """The group has been quiet: it is complete, and readers hear that the book settled."""
        wrong = self._end_group(state, now)
        if wrong is None:
            self._journal.update(state, state.last_cause)
        else:
            self._resync(state, wrong, now)

    # --- ways out of trust, and back ------------------------------------------------------

    def _resync(
        self, state: TokenBook, reason: StaleReason, now: float, *, is_told: bool = False
    ) -> None:
        """The book is doubtful: STALE at once, and on the way to a fresh one."""
        if state.group.is_open:
            self._end_group(state, now)
        self._comparison.forget(state.token)
        self._recovery.resync(state, reason, now, is_told=is_told)

    def _unknown(self, state: TokenBook, now: float) -> None:
        """The exchange has no such book (any more)."""
        if state.group.is_open:
            self._end_group(state, now)
        self._comparison.forget(state.token)
        self._recovery.rest_easy(state)
        self._journal.trust(state, TrustState.STALE, now, StaleReason.UNKNOWN_TOKEN)

    def _adopt_rest(self, state: TokenBook, snapshot: BookSnapshot, now: float) -> bool:
        """Splice a REST book into the buffered deltas. False when it is provably too old."""
        spliced = state.buffer.splice(snapshot.hash, snapshot.timestamp_ms)
        if spliced is None:
            return False
        splice, ready = spliced
        if not self._adopt(state, snapshot, "rest", now):
            return True  # its hash is wrong, and the next step is under way
        self._apply_ready(state, ready, now)
        if self._feed.trust[state.token].state is TrustState.LIVE:
            state.splice, state.spliced_seconds = splice, now
            self._watch_splice(state, now)
        if self._feed.trust[state.token].state is TrustState.LIVE:
            self._journal.update(state, "rest")
        return True

    def _watch_splice(self, state: TokenBook, now: float) -> None:
        """See whether the stream has passed the REST book, or changes wait for a sign of it."""
        splice = state.splice
        if splice is None:
            return  # applying a change ended it, with the book's trust
        if splice.joined:
            state.splice = None
            self._recovery.rest_easy(state)
        elif splice.held and state.step is Step.IDLE:
            # Quiet decides as well: the book's own step lies before all that was received.
            self._recovery.wait(state, Step.HOLDING, now + self._quiet_seconds)
        elif not splice.held and now > state.spliced_seconds + SPLICE_SECONDS_MAX:
            self._resync(state, StaleReason.BOOK_MISMATCH, now)

    def _release(self, state: TokenBook, now: float) -> None:
        """The stream was quiet: what a splice has held back comes after the REST book."""
        if state.splice is None:
            return
        self._apply_ready(state, state.splice.release(), now)
        self._watch_splice(state, now)
        if self._feed.trust[state.token].state is TrustState.LIVE:
            self._journal.update(state, "delta")
