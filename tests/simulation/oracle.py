"""The oracle: it sees the exchange's books and the service's at once, and knows every fault.

Four laws, held after each engine step and each event:

1. *Never wrong for long.* A LIVE book equals the exchange's own, unless a fault that can make
   it wrong has hurt the token since it was last right; and then for no longer than the bound
   of that fault (bounds.py). A settled book whose last hash is the exchange's newest has the
   right top, without any excuse.
2. *Nothing is lost without a gap.* Each change of a LIVE token's book appears in the stream,
   in order, unless a fault took it: then law 1 gives the time by which the token is STALE.
3. *No false alarm.* A book is called desynced only when a fault has hurt its token.
4. *No repair in silence.* A wrong book whose place a whole one takes turns STALE first, or a
   gap says so.

What is under way is no loss: a delivery takes DELIVERY_SECONDS, or as long as a session is slow.
"""

from collections import deque
from decimal import Decimal
from math import inf

import attrs
import trio
from attrs import define, field, frozen
from tests.simulation.bounds import DELIVERY_SECONDS, LOSSY, Bounds, cover

from polyactors.book.numbers import PRICE_ONE, to_decimal
from polyactors.book.reading import BookReading
from polyactors.book.trust import DESYNCS, StaleReason, TrustState
from polyactors.events import BookUpdated, Event, Gap, TrustChanged
from polyactors.service import Service
from polyactors.venue.engine import BookState
from polyactors.venue.exchange import Venue
from polyactors.venue.faults import FaultKind

EVENTS_KEPT = 12
"""Of each token, to be shown when a law is broken."""
SKETCHES_KEPT = 8

Sketch = tuple[Decimal | None, Decimal | None, int, int]
"""What the stream shows of a book: best bid, best ask, number of bids, of asks."""


class Breach(AssertionError):  # noqa: N818 - the name is the fact
    """A law of the oracle was broken."""


@frozen
class Error:
    """A LIVE book that was wrong, and what ended that."""

    token: str
    kinds: tuple[FaultKind, ...]
    """Of the faults that can have caused it."""
    seconds: float
    """From the loss until it was detected, or was right again by itself."""
    bound: float
    """What it had at most."""
    reason: StaleReason | None
    """What the service said; None when the book was right again before anybody knew."""


@define(eq=False)
class _Watched:
    """What the oracle knows of one token."""

    token: str
    right_at: float = -inf
    """When its LIVE book was last seen to be right."""
    wrong_since: float | None = None
    deadline: float = inf
    """When it must have been detected, while it is wrong."""
    culprits: tuple[int, ...] = ()
    """The numbers of the faults that are to blame."""
    late_until: float = -inf
    """When a session that was slow has ended."""
    stepped_at: float = -inf
    """When the exchange last changed its book."""
    state: BookState | None = None
    """The exchange's book after that."""
    touched: set[int] = field(factory=set[int])
    """Prices that changed there since the book was last judged."""
    wrong_prices: set[int] = field(factory=set[int])
    """Prices that were wrong when the book was last judged."""
    replaced_at: float = -inf
    """When a whole book came last."""
    gap: tuple[float, StaleReason | None] = (-inf, None)
    """When the stream last said that something was missed, and why."""
    judged_at: float = -inf
    unseen: deque[tuple[float, Sketch]] = field(factory=deque[tuple[float, Sketch]])
    """Changes of the exchange's book that the stream has not shown yet, oldest first."""
    shown: Sketch | None = None
    """What the stream showed last."""
    sketches: deque[tuple[float, Sketch]] = field(
        factory=lambda: deque[tuple[float, Sketch]](maxlen=SKETCHES_KEPT)
    )
    """The latest changes, seen or not."""
    is_spliced: bool = False
    """The book came by REST, and changes may be held back until the stream has passed it."""
    is_by_change: bool = False
    """The latest update came by a change, not by a whole book."""
    epoch: int = 0
    """The session of the latest update."""
    led_over_at: float = -inf
    """When updates of another session came, without a word: that of another feed."""
    desynced_at: float = -inf
    """When it was last proven wrong."""
    events: deque[Event] = field(factory=lambda: deque[Event](maxlen=EVENTS_KEPT))


class Oracle:
    """Judges one service against one exchange; raises Breach where a law is broken."""

    def __init__(self, venue: Venue, service: Service, bounds: Bounds) -> None:
        self.bounds = bounds
        self.errors: list[Error] = []
        """Every LIVE book that was wrong, in the order of the ends."""
        self.compared = 0
        """Settled LIVE books that were held against the exchange's."""
        self.shown = 0
        """Changes of the exchange that were found in the stream."""
        self.is_over = False
        """The service stops: nothing is promised any more."""
        self._venue = venue
        self._service = service
        self._watched = {
            token: _Watched(token, state=venue.book_state(token)) for token in venue.tokens
        }
        self._slow: dict[int, tuple[str, ...]] = {}
        """Sessions that were slow when last looked at, with their tokens."""
        self._news = trio.Event()

    # --- what happens ---------------------------------------------------------------------

    def stepped(self, state: BookState) -> None:
        """The exchange changed this book, and has said so."""
        watched = self._watched[state.token]
        watched.stepped_at = now = trio.current_time()
        watched.touched |= _changed(watched.state, state)
        watched.state = state
        sketch = (
            to_decimal(state.best_bid) if state.bids else None,
            to_decimal(state.best_ask) if state.asks else None,
            len(state.bids),
            len(state.asks),
        )
        watched.sketches.append((now, sketch))
        is_live = self._service.trust(state.token).state is TrustState.LIVE
        if is_live and watched.wrong_since is None:  # a wrong book shows something else
            watched.unseen.append((now, sketch))
        self._news.set()

    def take(self, event: Event) -> None:
        """The stream goes on."""
        match event:
            case TrustChanged(token=token):
                watched = self._watched[token]
                watched.events.append(event)
                self._trust_changed(watched, event)
            case BookUpdated(token=token):
                watched = self._watched[token]
                watched.events.append(event)
                self._book_updated(watched, event)
            case Gap():
                for watched in self._watched.values():
                    is_fed = self._service.feed_id(watched.token) == event.feed
                    if event.token == watched.token or (is_fed and event.token is None):
                        watched.events.append(event)
                        watched.gap = (trio.current_time(), event.reason)
            case _:
                pass
        self._news.set()

    async def run(self) -> None:
        """Judge after each step and each event, and when a bound is reached."""
        while True:
            with trio.move_on_at(min(w.deadline for w in self._watched.values())):
                await self._news.wait()
            await trio.sleep(self.bounds.delivery)
            self._news = trio.Event()
            self.judge()

    def judge(self) -> None:
        """Hold every book against the exchange's, now."""
        if not self.is_over:
            for watched in self._watched.values():
                self._judge(watched)

    # --- what is known --------------------------------------------------------------------

    def is_right(self, token: str) -> bool:
        """Whether the book is LIVE, settled and equal to the exchange's."""
        reading = self._reading(token)
        state = self._venue.book_state(token)
        is_promised = reading.state is TrustState.LIVE and reading.settled
        return is_promised and state is not None and _equal(reading, state)

    def is_late(self, token: str) -> bool:
        """Whether what the exchange says of the token is still under way."""
        return trio.current_time() <= self._late_until(token)

    def describe(self) -> str:
        """The state of every token, for a failure."""
        return "\n".join(self._describe(watched) for watched in self._watched.values())

    # --- the laws -------------------------------------------------------------------------

    def _judge(self, watched: _Watched) -> None:
        now = trio.current_time()
        reading = self._reading(watched.token)
        state = self._venue.book_state(watched.token)
        if reading.state is not TrustState.LIVE or state is None:
            return  # what was wrong ended with the change of trust
        is_under_way = now < watched.stepped_at + self.bounds.delivery or self.is_late(
            watched.token
        )
        if _equal(reading, state):
            self._right(watched, now, is_settled=reading.settled)
        elif not is_under_way:
            self._wrong(watched, reading, state, now)
        if not is_under_way:
            self._judge_stream(watched, now)
            watched.touched = set()
            watched.judged_at = now

    def _right(self, watched: _Watched, now: float, *, is_settled: bool) -> None:
        self.compared += is_settled
        if watched.wrong_since is not None:
            gap_at, reason = watched.gap
            if gap_at > watched.judged_at:  # of several feeds, one that knows better took over
                self._end_error(watched, gap_at, reason)
                watched.right_at = now
                return
            was_replaced = watched.replaced_at > watched.judged_at
            was_changed = watched.wrong_prices <= watched.touched or self._may_have_been_late(
                watched
            )
            was_led_over = self._is_merged and watched.led_over_at > watched.judged_at
            if was_replaced and not (was_changed or was_led_over):
                self._broken(watched, "put right by a whole book, in silence")
            self._end_error(watched, now, None)
        watched.right_at = now
        if is_settled and watched.is_by_change:
            watched.is_spliced = False

    def _wrong(self, watched: _Watched, reading: BookReading, state: BookState, now: float) -> None:
        if watched.is_spliced and not reading.settled:
            return  # changes are held back, for the time of a group's end
        if watched.wrong_since is None:
            self._begin_error(watched, now, live_at=now - reading.age_seconds)
        elif now >= watched.deadline:
            watched.deadline = self._deadline(watched)  # what prolongs it may have come since
        watched.wrong_prices = _wrong_prices(reading, state)
        since = watched.wrong_since
        assert since is not None
        if now >= watched.deadline:
            self._broken(watched, f"wrong for {now - since:.3f} s")
        has_heard = self._last_hash(watched.token) == state.hash
        if reading.settled and has_heard and _top(reading) != (state.best_bid, state.best_ask):
            self._broken(watched, "a wrong top at the end of its group")

    @property
    def _is_merged(self) -> bool:
        """Whether several feeds carry, or have carried, the same tokens: by the settings, or
        because one was replaced on which a token had gone silent."""
        relay = self._service._relay  # pyright: ignore[reportPrivateUsage]
        is_shared = any(chunk.is_merged for chunk in relay.chunks)
        return is_shared or self._service.statistics.rotations > 0

    def _begin_error(self, watched: _Watched, now: float, *, live_at: float) -> None:
        since = watched.right_at
        if self._is_merged:
            # Of several carriers one may have been wrong for a while when it takes the lead.
            since = min(since, now - max(self.bounds.audit, self.bounds.silence))
        culprits = [
            record for record in self._venue.fault_log if cover(record, watched.token, since, now)
        ]
        watched.culprits = tuple(record.id for record in culprits if record.kind in LOSSY)
        watched.wrong_since = min(now, max(watched.stepped_at, watched.right_at, live_at))
        if not watched.culprits:
            self._broken(watched, "wrong without a fault")
        watched.deadline = self._deadline(watched)

    def _deadline(self, watched: _Watched) -> float:
        assert watched.wrong_since is not None
        log = self._venue.fault_log
        culprits = [record for record in log if record.id in watched.culprits]
        return self.bounds.deadline(watched.wrong_since, culprits, log)

    def _end_error(self, watched: _Watched, now: float, reason: StaleReason | None) -> None:
        since = watched.wrong_since
        assert since is not None
        deadline = self._deadline(watched)
        kinds = {r.kind for r in self._venue.fault_log if r.id in watched.culprits}
        self.errors.append(
            Error(watched.token, tuple(sorted(kinds)), now - since, deadline - since, reason)
        )
        watched.wrong_since, watched.deadline, watched.culprits = None, inf, ()
        if now > deadline:
            self._broken(watched, f"detected only after {now - since:.3f} s")

    def _trust_changed(self, watched: _Watched, event: TrustChanged) -> None:
        now = trio.current_time()
        watched.unseen.clear()
        watched.is_spliced = False
        if event.previous is not TrustState.LIVE or self.is_over:
            return
        # Of several feeds one after the other may be proven wrong, by the same answer of REST.
        is_another = self._is_merged and watched.desynced_at == now
        if event.reason in DESYNCS:
            watched.desynced_at = now
        if watched.wrong_since is not None:
            self._end_error(watched, now, event.reason)
        elif event.reason in DESYNCS and not (is_another or self._may_be_desynced(watched, now)):
            self._broken(watched, "a false alarm")

    def _may_be_desynced(self, watched: _Watched, now: float) -> bool:
        since = now - self.bounds.audit
        return any(
            record.kind in LOSSY and cover(record, watched.token, since, now)
            for record in self._venue.fault_log
        )

    def _may_have_been_late(self, watched: _Watched) -> bool:
        """Whether what was wrong can have been mended by a change that came out of order."""
        now, since = trio.current_time(), watched.wrong_since
        assert since is not None
        return any(
            record.kind is FaultKind.REORDER
            and (record.id in watched.culprits or cover(record, watched.token, since, now))
            for record in self._venue.fault_log
        )

    def _book_updated(self, watched: _Watched, event: BookUpdated) -> None:
        watched.is_by_change = event.cause == "delta"
        if not watched.is_by_change:
            watched.replaced_at = trio.current_time()
        watched.is_spliced |= event.cause == "rest"
        if event.epoch != watched.epoch:
            watched.epoch, watched.led_over_at = event.epoch, trio.current_time()
        sketch = (event.best_bid, event.best_ask, event.bids, event.asks)
        watched.shown = sketch
        if len(watched.unseen) > 1:  # one that was taken must not pass for another
            kept = [one for one in watched.unseen if not self._was_taken(watched, one[0], one[0])]
            watched.unseen = deque(kept)
        # A shard that is behind, as after a slow phase, shows the last of several changes; and
        # so does a feed that takes over while another is in the middle of a step.
        is_behind = self._is_merged or self.is_late(watched.token)
        found = [at for at, (_, unseen) in enumerate(watched.unseen) if unseen == sketch]
        if not found:
            return
        self.shown += 1
        index = found[0]
        if watched.unseen[0][0] == watched.unseen[index][0]:
            # What happens in one moment comes in one read, and many changes of one read are
            # shown by the last.
            index = [at for at in found if watched.unseen[at][0] == watched.unseen[0][0]][-1]
            is_behind = True
        for _ in range(index if is_behind else 0):
            watched.unseen.popleft()
        del watched.unseen[0 if is_behind else index]

    def _judge_stream(self, watched: _Watched, now: float) -> None:
        while watched.unseen:
            stepped_at, sketch = watched.unseen[0]
            if now < max(stepped_at, self._late_until(watched.token)) + self.bounds.delivery:
                return
            watched.unseen.popleft()
            # What was taken a moment ago may still have made the book differ then.
            since = min(watched.judged_at, stepped_at)
            was_taken = self._was_taken(watched, since, stepped_at)
            is_wrong = watched.wrong_since is not None
            # Of two steps that look the same, feeds that tell one stream may show the last alone.
            is_shown = self._is_merged and watched.shown == sketch
            if not (was_taken or is_wrong or watched.is_spliced or is_shown):
                self._broken(watched, f"{sketch} of {stepped_at:.3f} s is not in the stream")

    def _was_taken(self, watched: _Watched, since: float, until: float) -> bool:
        """Whether a fault hurt the token at any time from `since` to `until`."""
        since, until = since - DELIVERY_SECONDS, until + DELIVERY_SECONDS
        log = self._venue.fault_log
        return any(cover(record, watched.token, since, until) for record in log)

    # --- helpers --------------------------------------------------------------------------

    def _reading(self, token: str) -> BookReading:
        return self._service.book(token, allow_stale=True)

    def _last_hash(self, token: str) -> str:
        relay = self._service._relay  # pyright: ignore[reportPrivateUsage]
        return relay.leader(token).last_hash(token)

    def _late_until(self, token: str) -> float:
        self._note_slow()
        sessions = self._venue.sessions.values()
        until = [session.slow_until for session in sessions if token in session.tokens]
        return max([self._watched[token].late_until, *until]) + self.bounds.delivery

    def _note_slow(self) -> None:
        """A slow session that is gone leaves something unsaid, and the client hears of it soon."""
        now = trio.current_time()
        for session in self._venue.sessions.values():
            if session.slow_until > now:
                self._slow[session.id] = tuple(session.tokens)
        for gone in self._slow.keys() - self._venue.sessions.keys():
            for token in self._slow.pop(gone):
                self._watched[token].late_until = now

    def _broken(self, watched: _Watched, law: str) -> None:
        raise Breach(f"{law} at {trio.current_time():.3f} s\n{self._describe(watched)}")

    def _describe(self, watched: _Watched) -> str:
        reading = self._reading(watched.token)
        lines = [
            f"token {watched.token}: {reading.state.value} {reading.reason} "
            f"settled={reading.settled} last right at {watched.right_at:.3f} s, "
            f"last step at {watched.stepped_at:.3f} s, wrong since {watched.wrong_since}"
        ]
        state = self._venue.book_state(watched.token)
        if state is not None:
            lines += _differences("bid", reading.wire_bids, state.bids)
            lines += _differences("ask", reading.wire_asks, state.asks)
        for record in self._venue.fault_log:
            if watched.token in record.tokens or not record.tokens:
                strikes = [strike for strike in record.strikes if strike.token == watched.token]
                brief = attrs.evolve(record, tokens=(), strikes=tuple(strikes))
                lines.append(f"  fault {brief}")
        lines += [f"  event {_seconds(event.time_ns):.3f} s {event}" for event in watched.events]
        return "\n".join(lines)


def _seconds(time_ns: int) -> float:
    return time_ns / 1e9 % 1e8


def _equal(reading: BookReading, state: BookState) -> bool:
    return reading.wire_bids == list(state.bids) and reading.wire_asks == list(state.asks)


def _top(reading: BookReading) -> tuple[int, int]:
    bids, asks = reading.wire_bids, reading.wire_asks
    return bids[-1][0] if bids else 0, asks[-1][0] if asks else PRICE_ONE


def _changed(before: BookState | None, after: BookState) -> set[int]:
    """The prices whose levels an engine step changed."""
    if before is None:
        return set()
    levels = set(before.bids) ^ set(after.bids) | set(before.asks) ^ set(after.asks)
    return {price for price, _ in levels}


def _wrong_prices(reading: BookReading, state: BookState) -> set[int]:
    levels = set(reading.wire_bids) ^ set(state.bids) | set(reading.wire_asks) ^ set(state.asks)
    return {price for price, _ in levels}


def _differences(
    side: str, ours: list[tuple[int, int]], theirs: tuple[tuple[int, int], ...]
) -> list[str]:
    mine, right = dict(ours), dict(theirs)
    return [
        f"  {side} {to_decimal(price)}: {mine.get(price)} here, {right.get(price)} there"
        for price in sorted(mine.keys() | right.keys())
        if mine.get(price) != right.get(price)
    ]
