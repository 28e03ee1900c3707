"""Several feeds carry the same tokens: what is public of them, and what is not."""

from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal

import trio
import trio.testing
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from polyactors.arbiter import CATCH_UP_SECONDS, COVERED_SECONDS
from polyactors.book.numbers import Side, parse_units, to_decimal
from polyactors.book.trust import TRANSITIONS, StaleReason, TrustState
from polyactors.config import Settings
from polyactors.environment import Environment
from polyactors.events import (
    BookUpdated,
    Event,
    FeedDown,
    FeedUp,
    Gap,
    TickSizeChanged,
    TradePrinted,
    TrustChanged,
)
from polyactors.feed import Feed
from polyactors.messages import Missed, Parsed, Resync
from polyactors.protocol.events import (
    BookSnapshot,
    LastTradePrice,
    LevelChange,
    MarketEvent,
    PriceChange,
    TickSizeChange,
)
from polyactors.recovery import Request
from polyactors.relay import IN_FLIGHT_SECONDS, Relay
from polyactors.shard import BookShard
from polyactors.told import HASHES_KEPT_MAX, KEPT_MAX, ToldOnce

MARKET = "0x" + "ab" * 32
TOKEN, OTHER = "1111", "2222"
BID, ASK = parse_units("0.4"), parse_units("0.6")
DELAY_SECONDS_MAX = 0.4
"""Less than a new leader is given to catch up, and than what two carriers may be apart."""


@define(eq=False)
class Line:
    """One carrier as its actors would run it, and what is on its way to it."""

    feed: Feed
    shard: BookShard
    queue: deque[tuple[float, MarketEvent | Missed]] = field(
        factory=deque[tuple[float, MarketEvent | Missed]]
    )
    """With the time when each was sent."""


class Exchange:
    """One token whose engine steps are numbered: step n leaves n + 1 shares on either side."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.steps = 0
        self.trades = 0

    def book(self) -> BookSnapshot:
        size = parse_units(str(self.steps + 1))
        return BookSnapshot(
            self.token,
            MARKET,
            {BID: size},
            {ASK: size},
            self._hash,
            self._timestamp_ms,
            tick_size="0.01",
        )

    def step(self) -> list[MarketEvent]:
        """One engine step, told in two messages."""
        self.steps += 1
        size = parse_units(str(self.steps + 1))
        return [
            PriceChange(
                MARKET,
                self._timestamp_ms,
                (LevelChange(self.token, side, price, size, self._hash, BID, ASK),),
            )
            for side, price in ((Side.BID, BID), (Side.ASK, ASK))
        ]

    def trade(self) -> MarketEvent:
        """Every second trade is just like the one before."""
        self.trades += 1
        size = parse_units(str(1 + self.trades // 2))
        return LastTradePrice(self.token, MARKET, BID, size, Side.BID, self._timestamp_ms)

    @property
    def _hash(self) -> str:
        return f"{self.token}-{self.steps}"

    @property
    def _timestamp_ms(self) -> int:
        return 1000 + self.steps // 3  # several steps share a millisecond


class Bench:
    """An exchange, a relay with its feeds, and the stream. Runs inside Trio, on virtual time."""

    def __init__(self, redundancy: int, tokens: tuple[str, ...] = (TOKEN,)) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        self.clock = clock
        self.env = Environment(
            Settings(redundancy=redundancy, first_book_deadline_seconds=5.0),
            clock_ns=lambda: int(trio.current_time() * 1e9),
        )
        self.relay = Relay(self.env)
        self.relay.add(tokens)
        self.exchanges = {token: Exchange(token) for token in tokens}
        self.subscription = self.env.hub.subscribe()
        self.lines: list[Line] = []
        self.look: Callable[[], None] = lambda: None
        """Called whenever something may have become public."""
        for feed in self.relay.feeds:
            self._add(feed)

    def _add(self, feed: Feed) -> Line:
        line = Line(feed, BookShard(feed, lambda request: self._serve(line, request)))
        feed.shard = line.shard
        line.shard.start(trio.current_time())
        self.lines.append(line)
        return line

    def _serve(self, line: Line, request: Request) -> None:
        if isinstance(request, Resync):
            self._send(line, self.exchanges[request.token].book())

    def _send(self, line: Line, event: MarketEvent | Missed) -> None:
        if line.feed.epoch is not None:
            line.queue.append((trio.current_time(), event))

    # what happens

    def up(self, line: Line) -> None:
        if line.feed.epoch is None:
            line.queue.clear()
            line.feed.session_up(next(self.env.epochs))
            for exchange in self.exchanges.values():
                self._send(line, exchange.book())

    def down(self, line: Line, reason: str = "reset") -> None:
        if line.feed.epoch is not None:
            line.queue.clear()
            line.feed.session_down(line.feed.epoch, reason, "")

    def step(self, token: str = TOKEN) -> None:
        for event in self.exchanges[token].step():
            self.say(event)

    def trade(self, token: str = TOKEN) -> MarketEvent:
        """It changes the book, and is told after that."""
        self.step(token)
        trade = self.exchanges[token].trade()
        self.say(trade)
        return trade

    def say(self, event: MarketEvent) -> None:
        for line in self.lines:
            self._send(line, event)

    def say_to(self, line: Line, event: MarketEvent) -> None:
        self._send(line, event)

    def deliver(self, line: Line, count: int | None = None) -> None:
        """Hand over the next messages, one a wake-up; by default all."""
        for _ in range(len(line.queue) if count is None else min(count, len(line.queue))):
            _, event = line.queue.popleft()
            line.feed.note_data(beyond_first_dump=True)
            assert line.feed.epoch is not None
            line.shard.apply(Parsed(line.feed.id, line.feed.epoch, 0, [event]), trio.current_time())
            line.shard.flush()
            self.look()

    def deliver_all(self) -> None:
        for line in self.lines:
            self.deliver(line)

    def garbage(self, line: Line) -> None:
        """The next message of one carrier cannot be read."""
        if line.queue and not isinstance(line.queue[0][1], Missed):
            sent, _ = line.queue.popleft()
            line.queue.appendleft((sent, Missed((), StaleReason.PARSE_FAILURE)))
            self.deliver(line, 1)

    def crash(self, line: Line) -> None:
        """Its book shard dies and is started again."""
        line.feed.shard = None
        line.shard.abandon(trio.current_time())
        line.shard.flush()
        line.shard = BookShard(line.feed, lambda request: self._serve(line, request))
        line.feed.shard = line.shard
        line.shard.start(trio.current_time())
        line.shard.flush()

    def twin(self) -> Line:
        return self._add(self.relay.twin(self.lines[0].feed))

    def remove(self, line: Line) -> None:
        """Let a carrier go, and end it as its actors do."""
        self.relay.remove(line.feed, "rotated")
        self.lines.remove(line)
        self.down(line, "stopping")
        line.feed.shard = None
        line.shard.abandon(trio.current_time())
        line.shard.flush()

    def wait(self, seconds: float, *, delay_seconds_max: float = 1e9) -> None:
        """Let time pass, as the actors would; nothing is on its way for longer than the delay,
        and of an engine step no part is."""
        for line in self.lines:
            if line.queue and is_second_part(line.queue[0][1]):
                self.deliver(line, 1)
        end = trio.current_time() + seconds
        while True:
            now = trio.current_time()
            dues = [self.relay.next_due()]
            for line in self.lines:
                dues.append(line.shard.next_due(now))
                dues += [sent + delay_seconds_max for sent, _ in list(line.queue)[:1]]
            due = min(dues)
            self.clock.jump(max(0.0, min(due, end) - now))
            now = trio.current_time()
            if due > end:
                break
            for line in self.lines:
                while line.queue and (
                    line.queue[0][0] + delay_seconds_max <= now or is_second_part(line.queue[0][1])
                ):
                    self.deliver(line, 1)
                line.shard.on_time(now)
                line.shard.flush()
                self.look()
            self.relay.on_time(now)
            self.look()

    # what is public

    def events(self) -> list[Event]:
        found = list(self.subscription._events)  # pyright: ignore[reportPrivateUsage]
        self.subscription._events.clear()  # pyright: ignore[reportPrivateUsage]
        return found

    def told(self) -> list[str]:
        """The kinds of event since the last look."""
        return [event.type for event in self.events()]

    def state(self, token: str = TOKEN) -> TrustState:
        return self.relay.trust(token).state

    def steps_seen(self, token: str = TOKEN) -> tuple[int, int]:
        """The steps that the public book's bid and ask are of."""
        reading = self.relay.reading(token)
        bid, ask = reading.best_bid, reading.best_ask
        return (int(bid.size) - 1 if bid else -1, int(ask.size) - 1 if ask else -1)


def is_second_part(event: MarketEvent | Missed) -> bool:
    return isinstance(event, PriceChange) and event.changes[0].side is Side.ASK


def in_trio(test: Callable[[], None]) -> None:
    """Run synchronous code inside Trio on virtual time, starting well after 0."""

    async def main() -> None:
        await trio.lowlevel.checkpoint()
        test()

    clock = trio.testing.MockClock()
    clock.jump(1000.0)
    trio.run(main, clock=clock)


# --- a model: any delays, losses of sessions and deaths ---------------------------------------

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["step", "step", "trade", "twin"]), st.just(0), st.just(0)),
        st.tuples(st.just("deliver"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(
            st.sampled_from(["down", "up", "stall", "garbage", "crash", "remove"]),
            st.integers(0, 2),
            st.just(0),
        ),
        st.tuples(st.just("wait"), st.just(0), st.sampled_from([1, 5, 30, 120])),
    ),
    max_size=60,
)


class Model:
    """What readers may see: the exchange's order, once, and no book that goes back."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.state = TrustState.EMPTY
        self.newest: tuple[int, int] = (-1, -1)
        """The steps of the newest public levels since the token turned LIVE."""
        self.told: tuple[tuple[int, int], bool] | None = None
        self.trades = Counter[tuple[Decimal, int]]()
        """Told, by size and time."""
        self.made: list[tuple[tuple[Decimal, int], int]] = []
        """Every trade, and how many events had been published before it."""
        self.gaps: list[int] = []
        self.count = 0
        self.is_doubtful = False
        """A book was lost with its shard: what replaces it may be behind."""

    def trade(self) -> None:
        event = self.bench.trade()
        assert isinstance(event, LastTradePrice)
        self.made.append(((to_decimal(event.size), event.timestamp_ms), self.count))

    def check(self) -> None:
        """Judge what one action has made public."""
        updates = 0
        for event in self.bench.events():
            self.count += 1
            match event:
                case TrustChanged():
                    assert event.previous is self.state
                    assert event.state in TRANSITIONS[self.state]
                    self.state = event.state
                    self.newest, self.told = (-1, -1), None
                case BookUpdated():
                    assert self.state is TrustState.LIVE
                    updates += 1
                    self._updated(event)
                case TradePrinted():
                    self.trades[event.size, event.timestamp_ms] += 1
                case Gap():
                    self.gaps.append(self.count)
                case _:
                    pass
        bench = self.bench
        assert bench.state() is self.state
        carriers = bench.relay.chunks[0].carriers
        is_live = any(feed.trust[TOKEN].state is TrustState.LIVE for feed in carriers)
        arbiter = bench.relay._arbiters.get(TOKEN)  # pyright: ignore[reportPrivateUsage]
        is_held = arbiter is not None and arbiter.is_held  # until it has a fresh book
        assert (self.state is TrustState.LIVE) == (is_live and not is_held)
        if self.state is TrustState.LIVE:
            self._look()
        self.is_doubtful = False

    def _updated(self, event: BookUpdated) -> None:
        feeds = {feed.epoch: feed for feed in self.bench.relay.feeds}
        assert event.epoch in feeds
        assert feeds[event.epoch].trust[TOKEN].state is TrustState.LIVE
        told = self.bench.steps_seen(), event.settled
        is_merged = self.bench.relay.chunks[0].is_merged  # alone, a book may well come twice
        is_anew = event.cause == "snapshot"  # whoever lost its shard, or was asked for a fresh one
        assert told != self.told or not is_merged or is_anew or self.is_doubtful, "told twice"
        self.told = told

    def _look(self) -> None:
        steps = self.bench.steps_seen()
        assert max(steps) <= self.bench.exchanges[TOKEN].steps
        if not self.is_doubtful:
            assert steps >= self.newest, "the book went back"
        self.newest = steps

    def check_trades(self) -> None:
        """After everything has arrived: each was told once, or a gap came after it."""
        made = Counter(what for what, _ in self.made)
        assert self.trades <= made
        newest_gap = max(self.gaps, default=-1)
        excused = Counter(what for what, before in self.made if before < newest_gap)
        assert made - self.trades <= excused, "trades were lost without a word"


def play(actions: list[tuple[str, int, int]], redundancy: int) -> None:
    bench = Bench(redundancy)
    model = Model(bench)
    for line in bench.lines:
        bench.up(line)
    bench.wait(5.0, delay_seconds_max=DELAY_SECONDS_MAX)
    bench.deliver_all()
    bench.events()
    model.state = TrustState.LIVE
    bench.look = model.check
    for action, index, number in actions:
        line = bench.lines[index % len(bench.lines)]
        match action:
            case "step":
                bench.step()
            case "trade":
                model.trade()
            case "twin" if len(bench.lines) < 3:
                bench.up(bench.twin())
            case "deliver":
                bench.deliver(line, number)
            case "down":
                bench.down(line)
            case "stall":
                bench.down(line, "feed_stalled")
            case "up":
                bench.up(line)
            case "garbage":
                bench.garbage(line)
            case "crash":
                model.is_doubtful = bench.relay.leader(TOKEN) is line.feed
                bench.crash(line)
            case "remove" if len(bench.lines) > 1:
                bench.remove(line)
            case "wait":
                bench.wait(number / 10, delay_seconds_max=DELAY_SECONDS_MAX)
            case _:
                pass
        model.check()
    for line in bench.lines:
        bench.up(line)
    bench.wait(300.0, delay_seconds_max=DELAY_SECONDS_MAX)
    assert bench.steps_seen() == (bench.exchanges[TOKEN].steps,) * 2
    model.check_trades()


@given(ACTIONS, st.integers(1, 3))
def test_readers_see_the_exchanges_order_once_and_no_book_goes_back(
    actions: list[tuple[str, int, int]], redundancy: int
) -> None:
    in_trio(lambda: play(actions, redundancy))


# --- one rule at a time ----------------------------------------------------------------------


def two_live(bench: Bench) -> tuple[Line, Line]:
    """Both carriers LIVE for long, the first leads, and nothing is on its way."""
    for line in bench.lines:
        bench.up(line)
    bench.deliver_all()
    bench.wait(5.0)
    bench.step()
    bench.deliver_all()
    bench.wait(5.0)
    bench.events()
    first, second = bench.lines
    assert bench.relay.leader(TOKEN) is first.feed
    return first, second


def test_a_feed_that_is_alone_is_not_arbitrated() -> None:
    def test() -> None:
        bench = Bench(1)
        (line,) = bench.lines
        assert line.feed.relay is None
        bench.up(line)
        bench.deliver_all()
        assert bench.told() == ["feed_up", "trust_changed", "trust_changed", "book_updated"]
        assert bench.relay.states() == {"LIVE": 1}
        assert bench.relay.next_due() == float("inf")
        assert bench.relay.reading(TOKEN).state is TrustState.LIVE

    in_trio(test)


def test_the_first_that_is_live_leads_and_the_other_is_not_heard() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = bench.lines
        bench.up(first)
        bench.up(second)
        assert bench.told() == ["feed_up", "trust_changed", "feed_up"]
        bench.deliver(second)
        assert bench.state() is TrustState.LIVE
        assert bench.told() == ["trust_changed", "book_updated"]
        assert bench.relay.leader(TOKEN) is second.feed
        bench.deliver(first)
        assert bench.told() == []

    in_trio(test)


def test_a_carrier_that_is_live_first_of_all_passes_through_syncing() -> None:
    def test() -> None:
        bench = Bench(2)
        _, second = bench.lines
        bench.up(second)
        assert (bench.state(), bench.told()) == (TrustState.EMPTY, ["feed_up"])
        bench.deliver(second)
        states = [event.state for event in bench.events() if isinstance(event, TrustChanged)]
        assert states == [TrustState.SYNCING, TrustState.LIVE]

    in_trio(test)


def test_each_group_is_taken_from_whichever_is_first() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        for _ in range(3):
            for early, late in ((first, second), (second, first)):
                bench.step()
                bench.deliver(early)
                assert bench.told() == ["book_updated", "book_updated"]
                assert bench.relay.leader(TOKEN) is early.feed
                bench.deliver(late)
                assert bench.told() == []

    in_trio(test)


def test_the_leaders_session_is_lost_and_nobody_hears_of_it_but_operators() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        age = bench.relay.reading(TOKEN).age_seconds
        bench.down(first)
        assert bench.told() == ["feed_down"]
        assert bench.relay.leader(TOKEN) is second.feed
        assert bench.relay.reading(TOKEN).age_seconds == age
        bench.up(first)
        bench.deliver_all()
        assert bench.told() == ["feed_up"]
        bench.wait(COVERED_SECONDS)  # or what came just before might be on its way to neither
        bench.down(second)
        assert bench.told() == ["feed_down"]
        bench.down(first)
        (down, changed) = bench.events()
        assert isinstance(down, FeedDown)
        assert isinstance(changed, TrustChanged)
        assert (changed.state, changed.reason) == (TrustState.STALE, StaleReason.DISCONNECTED)
        bench.up(second)
        up, gap, *_ = bench.events()
        assert isinstance(up, FeedUp)
        assert isinstance(gap, Gap)
        assert (gap.feed, gap.token) == (second.feed.id, None)
        bench.up(first)
        assert bench.told() == ["feed_up", "trust_changed"]  # what was missed was told

    in_trio(test)


def test_an_heir_that_is_behind_catches_up_before_it_is_shown() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        for _ in range(3):
            bench.step()
        bench.deliver(first)
        bench.wait(0.3)  # the group is settled
        newest = bench.exchanges[TOKEN].steps
        bench.events()
        bench.down(first)
        bench.deliver(second, 4)
        assert bench.steps_seen() == (newest, newest)
        assert bench.relay.reading(TOKEN).settled
        assert bench.told() == ["feed_down"]
        bench.deliver(second)
        assert bench.told() == []
        bench.step()
        bench.deliver(second)
        assert bench.told() == ["book_updated", "book_updated"]
        assert bench.steps_seen() == (newest + 1, newest + 1)

    in_trio(test)


def test_an_heir_that_does_not_catch_up_is_no_book_to_trust() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        bench.step()
        bench.deliver(first)
        bench.events()
        bench.down(first)
        newest = bench.exchanges[TOKEN].steps
        bench.wait(CATCH_UP_SECONDS - 0.01)
        assert bench.steps_seen() == (newest, newest)
        assert bench.told() == ["feed_down"]
        bench.wait(0.02)
        gap, stale, *others = bench.events()
        assert isinstance(gap, Gap)
        assert [event.type for event in others] == ["trust_changed"] * 2, "asked for a fresh book"
        assert isinstance(stale, TrustChanged)
        assert (stale.state, stale.reason) == (TrustState.STALE, StaleReason.DISCONNECTED)
        bench.deliver(second)
        assert bench.steps_seen() == (newest, newest)
        *changes, update = bench.events()
        states = [event.state.value for event in changes if isinstance(event, TrustChanged)]
        assert states == ["LIVE"]
        assert isinstance(update, BookUpdated)

    in_trio(test)


def test_a_silent_heir_gives_way_to_whoever_is_not_behind() -> None:
    """Its session stalls, which nobody has found out yet, and the leader's is reset."""

    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        for _ in range(3):
            bench.step()
            second.queue.clear()
            bench.deliver(first)
            bench.wait(1.0)
        before = bench.steps_seen()
        bench.down(first)
        bench.wait(CATCH_UP_SECONDS)
        second.queue.clear()  # the fresh book that it is asked for does not come either
        assert bench.state() is not TrustState.LIVE
        bench.up(first)
        bench.deliver(first)
        assert bench.state() is TrustState.LIVE
        assert bench.relay.leader(TOKEN) is first.feed
        assert bench.steps_seen() == before

    in_trio(test)


def test_a_leader_that_is_back_in_time_takes_the_lead_from_a_silent_heir() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        bench.step()
        second.queue.clear()
        bench.deliver(first)
        before = bench.steps_seen()
        bench.events()
        bench.down(first)
        bench.up(first)
        bench.deliver(first)
        bench.wait(1.0)
        assert bench.relay.leader(TOKEN) is first.feed
        assert bench.steps_seen() == before
        told = bench.told()
        assert "trust_changed" not in told
        assert "gap" in told, "what came between its two sessions was seen by nobody"

    in_trio(test)


def test_a_feed_that_was_let_go_takes_no_gap_away() -> None:
    def test() -> None:
        bench = Bench(1)
        (old,) = bench.lines
        bench.up(old)
        bench.deliver_all()
        bench.wait(5.0)
        new = bench.twin()
        bench.down(old)
        bench.relay.remove(new.feed, "the replacement was not LIVE in time")
        new.feed.session_up(next(bench.env.epochs))  # its connection is stopped last
        assert new.feed.epoch is not None
        new.feed.session_down(new.feed.epoch, "stopping", "")
        bench.lines.remove(new)
        bench.events()
        bench.wait(5.0)
        bench.up(old)
        bench.deliver_all()
        assert any(isinstance(event, Gap) for event in bench.events())

    in_trio(test)


def test_what_both_miss_one_after_the_other_is_told() -> None:
    """The same unreadable frame comes to both, to the second after the first is LIVE again."""

    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        bench.trade()
        bench.deliver(first, 2)
        bench.garbage(first)  # the trade
        bench.deliver(first)  # the fresh book
        bench.wait(0.1)
        bench.deliver(second, 2)
        bench.garbage(second)
        bench.deliver_all()
        bench.wait(30.0)
        events = bench.events()
        assert not any(isinstance(event, TradePrinted) for event in events)
        assert any(isinstance(event, Gap) for event in events)

    in_trio(test)


def test_what_the_one_that_covers_never_gets_is_told() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        bench.trade()
        bench.deliver(second, 2)
        bench.garbage(second)  # the trade; the first covers, which is a little behind
        bench.down(first)  # and never gets it
        bench.deliver(second)
        bench.up(first)
        bench.deliver_all()
        bench.wait(30.0)
        events = bench.events()
        assert not any(isinstance(event, TradePrinted) for event in events)
        assert any(isinstance(event, Gap) for event in events)

    in_trio(test)


def test_a_third_carrier_ends_the_catching_up_of_the_second() -> None:
    def test() -> None:
        bench = Bench(3)
        for line in bench.lines:
            bench.up(line)
        bench.deliver_all()
        bench.wait(5.0)
        first, second, third = bench.lines
        bench.step()
        bench.deliver(first)
        bench.events()
        bench.down(first)
        assert bench.relay.leader(TOKEN) in (second.feed, third.feed)
        bench.step()
        bench.deliver(third)
        assert bench.relay.leader(TOKEN) is third.feed
        assert bench.told().count("book_updated") == 2
        assert bench.steps_seen() == (2, 2)

    in_trio(test)


def test_of_several_heirs_one_that_has_seen_everything_is_taken() -> None:
    def test() -> None:
        bench = Bench(3)
        for line in bench.lines:
            bench.up(line)
        bench.deliver_all()
        bench.wait(5.0)
        first, _, third = bench.lines
        bench.step()
        bench.deliver(first)
        bench.deliver(third)
        bench.wait(0.3)
        bench.events()
        bench.down(first)
        assert bench.relay.leader(TOKEN) is third.feed
        assert bench.told() == ["feed_down"]

    in_trio(test)


def test_a_leader_that_is_proven_wrong_is_corrected_at_once() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        before = bench.exchanges[TOKEN].steps
        bench.step()
        first.queue.clear()
        at = second.queue[0][1]
        assert isinstance(at, PriceChange)
        (said,) = at.changes  # the first gets another price instead
        wrong = replace(said, size=parse_units("9"), best_bid=parse_units("0.5"))
        first.queue.append((trio.current_time(), replace(at, changes=(wrong,))))
        bench.deliver(first)
        assert bench.steps_seen()[0] == 8
        bench.events()
        bench.wait(0.25)  # of quiet: the group is over, and its best bid is another
        assert bench.relay.leader(TOKEN) is second.feed
        assert bench.state() is not TrustState.LIVE, "the other is behind"
        bench.deliver(second)
        bench.wait(0.25)
        assert bench.steps_seen() == (before + 1, before + 1)
        *changes, update = bench.events()
        states = [event.state.value for event in changes if isinstance(event, TrustChanged)]
        assert (states[0], states[-1]) == ("STALE", "LIVE")
        assert isinstance(update, BookUpdated)
        assert bench.env.statistics.desyncs == 1

    in_trio(test)


def test_a_carrier_that_has_not_seen_what_was_told_does_not_lead() -> None:
    def test() -> None:
        bench = Bench(1)
        (first,) = bench.lines
        bench.up(first)
        bench.deliver_all()
        bench.wait(5.0)
        bench.step()  # which is on its way to the first
        second = bench.twin()
        bench.up(second)
        bench.step()
        bench.deliver(second)
        bench.events()
        assert bench.relay.leader(TOKEN) is first.feed
        assert bench.steps_seen() == (0, 0)
        bench.deliver(first)
        assert bench.told() == ["book_updated"] * 4
        bench.step()
        bench.deliver(second)
        assert bench.relay.leader(TOKEN) is second.feed

    in_trio(test)


def test_a_step_that_was_told_before_is_not_told_again_by_one_that_comes_later() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        exchange = bench.exchanges[TOKEN]
        as_before = exchange.book()
        bench.step()
        # An order that comes and goes in one millisecond leaves book and hash as they were.
        for side, price, size in (
            (Side.BID, BID, as_before.bids[BID]),
            (Side.ASK, ASK, as_before.asks[ASK]),
        ):
            change = LevelChange(TOKEN, side, price, size, as_before.hash, BID, ASK)
            bench.say(PriceChange(MARKET, as_before.timestamp_ms, (change,)))
        bench.deliver(first)
        assert bench.told() == ["book_updated"] * 4
        seen = bench.steps_seen()
        bench.deliver(second, 2)
        assert bench.told() == []
        assert bench.relay.leader(TOKEN) is first.feed
        bench.deliver(second)
        assert bench.told() == []
        assert bench.steps_seen() == seen

    in_trio(test)


def test_a_carrier_with_a_fresh_book_must_see_what_is_told_before_it_leads() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        second.queue.append((trio.current_time(), Missed((), StaleReason.PARSE_FAILURE)))
        bench.deliver(second, 1)  # and it asks for a fresh book, which comes after these steps:
        second.queue.clear()
        bench.step()
        bench.step()
        second.queue.clear()
        bench.say_to(second, bench.exchanges[TOKEN].book())
        bench.step()
        bench.deliver(second)
        assert second.feed.trust[TOKEN].state is TrustState.LIVE
        assert bench.told() == []
        bench.deliver(first)
        assert bench.told() == ["book_updated"] * 6  # each of the three steps
        bench.step()
        bench.deliver(second)
        assert bench.relay.leader(TOKEN) is second.feed

    in_trio(test)


def test_an_heir_that_came_too_late_to_see_everything_is_no_silent_one() -> None:
    def test() -> None:
        bench = Bench(1)
        (first,) = bench.lines
        bench.up(first)
        bench.deliver_all()
        bench.wait(5.0)
        bench.trade()  # which the first has not yet received when it is lost
        second = bench.twin()
        bench.up(second)
        bench.deliver(second)
        bench.events()
        bench.down(first)
        down, stale, gap = bench.events()
        assert isinstance(down, FeedDown)
        assert isinstance(stale, TrustChanged)
        assert (stale.state, stale.reason) == (TrustState.STALE, StaleReason.DISCONNECTED)
        assert isinstance(gap, Gap)
        assert (gap.feed, gap.token) == (second.feed.id, TOKEN)
        bench.wait(0.01)  # of that millisecond nobody can tell which step was first
        bench.deliver(second)
        assert bench.state() is TrustState.LIVE
        assert bench.steps_seen() == (1, 1)

    in_trio(test)


def test_like_trades_are_told_as_often_as_they_happened() -> None:
    told = ToldOnce()
    both = ("a", "b")
    assert told.is_news("a", "like", both)
    assert told.is_news("a", "like", both)
    assert not told.is_news("b", "like", both)
    assert not told.is_news("b", "like", both)
    assert len(told) == 0
    # One that joins after the first of two does not bring that one.
    assert told.is_news("a", "like", both)
    told.session_up("b", both)
    assert told.is_news("b", "like", both)
    assert not told.is_news("a", "like", both)
    assert len(told) == 0
    # Who is not there has nothing yet to bring.
    assert told.is_news("a", "like", ("a",))
    assert len(told) == 0


def test_without_hashes_only_the_leader_is_heard() -> None:
    def without_hash(event: MarketEvent) -> MarketEvent:
        if isinstance(event, BookSnapshot):
            return evolve(event, hash="")
        if isinstance(event, PriceChange):
            return replace(event, changes=tuple(replace(c, hash="") for c in event.changes))
        return event

    def test() -> None:
        bench = Bench(2)
        for line in bench.lines:
            bench.up(line)
            line.queue = deque((at, without_hash(event)) for at, event in line.queue)  # type: ignore[arg-type]
        bench.deliver_all()
        bench.wait(5.0)
        first, second = bench.lines
        bench.events()
        for event in bench.exchanges[TOKEN].step():
            bench.say(without_hash(event))
        bench.deliver(second)
        assert bench.told() == []
        bench.deliver(first, 1)
        assert bench.told() == ["book_updated"]
        bench.down(first)
        assert bench.told() == ["feed_down", "book_updated"]
        assert bench.steps_seen() == (1, 1)

    in_trio(test)


def test_what_is_told_once_is_not_kept() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        arbiter = bench.relay._arbiters[TOKEN]  # pyright: ignore[reportPrivateUsage]
        for _ in range(5):
            bench.trade()
        tick = TickSizeChange(TOKEN, MARKET, Decimal("0.01"), Decimal("0.001"), 5)
        bench.say(tick)
        bench.deliver(first)
        bench.deliver(second)
        events = bench.events()
        assert len([event for event in events if isinstance(event, TradePrinted)]) == 5
        assert len([event for event in events if isinstance(event, TickSizeChanged)]) == 1
        assert len(arbiter._told_once) == 0  # pyright: ignore[reportPrivateUsage]
        for _ in range(KEPT_MAX + 50):
            bench.trade()
        bench.deliver(first)
        assert len(arbiter._told_once) <= KEPT_MAX  # pyright: ignore[reportPrivateUsage]
        assert len(arbiter._told._hashes) <= HASHES_KEPT_MAX  # pyright: ignore[reportPrivateUsage]

    in_trio(test)


def test_what_one_cannot_read_is_no_gap_when_the_other_sees_it() -> None:
    def test() -> None:
        bench = Bench(2)
        first, second = two_live(bench)
        bench.step()
        bench.garbage(first)
        assert bench.told() == []
        assert bench.relay.leader(TOKEN) is second.feed
        bench.garbage(second)
        assert bench.told() == ["gap", "trust_changed", "trust_changed"]

    in_trio(test)


def test_a_gap_of_some_tokens_names_them() -> None:
    def test() -> None:
        bench = Bench(2, (TOKEN, OTHER))
        first, second = two_live(bench)
        second.queue.append((trio.current_time(), Missed((OTHER,), StaleReason.PARSE_FAILURE)))
        bench.deliver(second, 1)
        assert bench.told() == []
        first.queue.append((trio.current_time(), Missed((), StaleReason.PARSE_FAILURE)))
        bench.deliver(first, 1)
        gaps = [event for event in bench.events() if isinstance(event, Gap)]
        assert [(gap.feed, gap.token) for gap in gaps] == [(first.feed.id, OTHER)]

    in_trio(test)


def test_a_feed_that_is_replaced_goes_without_a_word_and_its_heir_is_soon_alone() -> None:
    def test() -> None:
        bench = Bench(1)
        (old,) = bench.lines
        bench.up(old)
        bench.deliver_all()
        bench.wait(100.0)
        new = bench.twin()
        bench.up(new)
        bench.deliver_all()
        bench.wait(COVERED_SECONDS)
        bench.step()
        bench.trade()
        bench.deliver(old)
        bench.events()
        bench.remove(old)
        (down,) = bench.events()
        assert isinstance(down, FeedDown)
        assert (down.reason, down.detail) == ("stopping", "rotated")
        assert bench.steps_seen() == (2, 2)
        bench.deliver(new)
        bench.wait(0.3)
        assert [event.type for event in bench.events()] == ["book_updated"]  # it has settled
        assert new.feed.relay is bench.relay
        bench.wait(IN_FLIGHT_SECONDS)
        assert new.feed.relay is None
        assert not bench.relay._arbiters  # pyright: ignore[reportPrivateUsage]
        assert bench.relay.reading(TOKEN).age_seconds > 100.0
        bench.step()
        bench.deliver_all()
        assert bench.told() == ["book_updated", "book_updated"]
        assert [feed.id for feed in bench.relay.feeds] == [new.feed.id] == ["feed-1"]

    in_trio(test)
