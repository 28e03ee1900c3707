"""Every decision about a book, without a clock, a socket or a task."""

from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.actors.shard_bench import (
    DEADLINE,
    MARKET,
    NO,
    YES,
    Bench,
    book,
    change,
    delta,
)

from polyactors.book.groups import QUIET_SECONDS
from polyactors.book.numbers import PRICE_ONE, Side, parse_units
from polyactors.book.trust import TRANSITIONS, StaleReason, TrustState
from polyactors.events import BookUpdated, Event, Gap, TradePrinted, TrustChanged
from polyactors.messages import FetchBook, Missed, RestBook, Resync
from polyactors.protocol.events import (
    BookSnapshot,
    LastTradePrice,
    MarketEvent,
    TickSizeChange,
)
from polyactors.recovery import (
    REST_PATIENCE_SECONDS,
    RESYNC_BACKOFF_SECONDS_MAX,
    UNKNOWN_RETRY_SECONDS,
)
from polyactors.shard import BookShard


@pytest.fixture
def live() -> Bench:
    bench = Bench()
    bench.up()
    bench.feed_in(book(YES), book(NO))
    bench.events()
    bench.asked()
    return bench


def test_a_book_makes_a_subscribed_token_live() -> None:
    bench = Bench()
    bench.up()
    assert bench.state() == (TrustState.SYNCING, None)
    bench.feed_in(book())
    assert bench.state() == (TrustState.LIVE, None)
    kinds = [type(event).__name__ for event in bench.events()]
    assert kinds == ["TrustChanged", "TrustChanged", "TrustChanged", "BookUpdated"]


def test_a_delta_changes_a_live_book_at_once_and_unsettled(live: Bench) -> None:
    live.feed_in(delta(change("0.45", "7")))
    (update,) = live.events()
    assert isinstance(update, BookUpdated)
    assert (update.bids, update.cause, update.settled) == (3, "delta", False)


def test_a_quiet_group_settles_and_says_so(live: Bench) -> None:
    live.feed_in(delta(change("0.45", "7")))
    live.events()
    live.wait(QUIET_SECONDS / 2)
    assert live.events() == []
    live.wait(QUIET_SECONDS)
    (update,) = live.events()
    assert isinstance(update, BookUpdated)
    assert update.settled
    assert live.env.statistics.groups == 1


def test_one_update_per_token_and_message_and_one_per_batch_when_behind(live: Bench) -> None:
    message = delta(change("0.45", "7"), change("0.46", "7"), change("0.3", "1", token=NO))
    live.feed_in(message, message)
    assert len(live.events()) == 4
    live.feed_in(message, message, is_behind=True)
    assert len(live.events()) == 2


def test_a_mismatch_inside_an_open_group_is_provisional(live: Bench) -> None:
    # The step ends with bid 0.55; its first message is on its way alone.
    live.feed_in(delta(change("0.3", "7", bid="0.55")))
    assert live.state() == (TrustState.LIVE, None)
    live.feed_in(delta(change("0.55", "7", bid="0.55")))
    live.wait(1.0)
    assert live.state() == (TrustState.LIVE, None)
    assert live.env.statistics.groups_top_ok == 1


@pytest.mark.parametrize("ending", ["quiet", "another hash"])
def test_a_wrong_top_at_the_end_of_a_group_is_a_desync(live: Bench, ending: str) -> None:
    live.feed_in(delta(change("0.3", "7", bid="0.55")))
    if ending == "quiet":
        live.wait(1.0)
    else:
        live.feed_in(delta(change("0.31", "7", book_hash="h2"), at=1002))
    states = [event for event in live.events() if isinstance(event, TrustChanged)]
    assert (states[0].state, states[0].reason) == (TrustState.STALE, StaleReason.TOP_MISMATCH)
    assert live.asked() == [Resync(YES, StaleReason.TOP_MISMATCH)]
    assert live.env.statistics.desyncs == 1
    assert live.state(NO) == (TrustState.LIVE, None)


def test_a_cross_that_outlives_its_group_is_a_desync(live: Bench) -> None:
    live.feed_in(delta(change("0.65", "7", bid=None, ask=None)))
    assert live.state() == (TrustState.LIVE, None)
    live.wait(1.0)
    assert live.asked() == [Resync(YES, StaleReason.CROSSED)]


@pytest.mark.parametrize(("bid", "ask"), [("0", "1")])
def test_empty_sides_are_stated_as_zero_and_one(live: Bench, bid: str, ask: str) -> None:
    removals = [change("0.4", "0", bid=bid, ask=ask), change("0.5", "0", bid=bid, ask=ask)]
    removals += [change(price, "0", side=Side.ASK, bid=bid, ask=ask) for price in ("0.6", "0.7")]
    live.feed_in(delta(*removals))
    live.wait(1.0)
    assert live.state() == (TrustState.LIVE, None)
    update = live.events()[-1]
    assert isinstance(update, BookUpdated)
    assert (update.best_bid, update.best_ask, update.bids, update.asks) == (None, None, 0, 0)


def test_a_book_that_differs_from_a_live_one_is_adopted_and_reported(live: Bench) -> None:
    live.feed_in(book(bids=(("0.5", "19"),), book_hash="h9", at=1002))
    trusts = [event for event in live.events() if isinstance(event, TrustChanged)]
    assert [(trust.state, trust.reason) for trust in trusts] == [
        (TrustState.STALE, StaleReason.BOOK_MISMATCH),
        (TrustState.SYNCING, None),
        (TrustState.LIVE, None),
    ]
    assert live.asked() == []


def test_a_book_after_a_trade_that_equals_the_live_one_changes_no_trust(live: Bench) -> None:
    live.feed_in(delta(change("0.5", "15")))
    live.feed_in(book(bids=(("0.4", "10"), ("0.5", "15")), book_hash="h1", at=1001))
    events = live.events()
    assert [type(event) for event in events] == [BookUpdated, BookUpdated]
    assert [event.settled for event in events if isinstance(event, BookUpdated)] == [False, True]


def test_a_session_that_ends_makes_every_book_stale_with_its_reason(live: Bench) -> None:
    live.down(StaleReason.FEED_STALLED)
    assert live.state(YES) == (TrustState.STALE, StaleReason.FEED_STALLED)
    assert live.state(NO) == (TrustState.STALE, StaleReason.FEED_STALLED)
    assert live.shard.next_due(live.now) == float("inf")


def test_what_belongs_to_a_dead_epoch_is_dropped_and_counted(live: Bench) -> None:
    live.down()
    live.up(epoch=2)
    live.feed_in(book(book_hash="old"), epoch=1)
    assert live.state() == (TrustState.SYNCING, None)
    assert live.env.statistics.stale_batches == 1


def test_deltas_before_a_book_are_never_applied() -> None:
    bench = Bench()
    bench.up()
    bench.feed_in(delta(change("0.45", "7")))
    assert not [event for event in bench.events() if isinstance(event, BookUpdated)]
    assert bench.state() == (TrustState.SYNCING, None)


def test_a_token_without_a_first_book_is_redriven_then_fetched() -> None:
    bench = Bench((YES,))
    bench.up()
    bench.wait(DEADLINE - 0.1)
    assert bench.asked() == []
    bench.wait(0.2)
    assert bench.asked() == [Resync(YES, StaleReason.NEVER_DELIVERED)]
    reasons = [event.reason for event in bench.events() if isinstance(event, TrustChanged)]
    assert StaleReason.NEVER_DELIVERED in reasons
    bench.wait(DEADLINE)
    assert bench.asked() == [FetchBook("feed-0", 1, YES)]


def fetched(*events: MarketEvent) -> Bench:
    """A token whose book never came, with the deltas that came, and REST just asked."""
    bench = Bench((YES,))
    bench.up()
    bench.wait(DEADLINE * 2 + 0.1)
    assert FetchBook("feed-0", 1, YES) in bench.asked()
    bench.feed_in(*events)
    bench.events()
    return bench


def answer(snapshot: BookSnapshot | None, *, is_unknown: bool = False) -> RestBook:
    return RestBook("feed-0", 1, YES, snapshot, is_unknown)


def test_a_rest_book_is_spliced_into_the_deltas_by_hash() -> None:
    bench = fetched(
        delta(change("0.41", "1", book_hash="g1"), at=1001),
        delta(change("0.42", "2", book_hash="g2"), at=1002),
        delta(change("0.43", "3", book_hash="g3"), at=1003),
    )
    truth_at_g2 = (("0.4", "10"), ("0.41", "1"), ("0.42", "2"), ("0.5", "20"))
    bench.shard.rest_book(answer(book(bids=truth_at_g2, book_hash="g2", at=1002)), bench.now)
    assert bench.state() == (TrustState.LIVE, None)
    prices = [str(level.price) for level in bench.shard.books[YES].book.bids]
    assert prices == ["0.5", "0.43", "0.42", "0.41", "0.4"]
    update = bench.events()[-1]
    assert isinstance(update, BookUpdated)
    assert update.cause == "rest"


def test_a_rest_book_ahead_of_the_stream_holds_back_what_it_knows_already() -> None:
    bench = fetched()
    bench.shard.rest_book(answer(book(bids=(("0.5", "20"),), book_hash="g2", at=1002)), bench.now)
    bench.feed_in(delta(change("0.41", "1", book_hash="g1"), at=1001))
    bench.feed_in(delta(change("0.41", "0", book_hash="g2"), at=1002))
    assert bench.shard.books[YES].book.bid_count == 1
    bench.feed_in(delta(change("0.43", "3", book_hash="g3"), at=1003))
    assert bench.shard.books[YES].book.bid_count == 2


def test_changes_that_a_splice_holds_are_applied_when_the_stream_falls_quiet() -> None:
    bench = fetched()
    bench.shard.rest_book(answer(book(bids=(("0.5", "20"),), book_hash="g2", at=1002)), bench.now)
    bench.events()
    bench.feed_in(delta(change("0.41", "1", book_hash="g3"), at=1002))  # before or after g2?
    assert bench.shard.books[YES].book.bid_count == 1
    bench.wait(QUIET_SECONDS * 3)
    assert bench.shard.books[YES].book.bid_count == 2
    updates = [event for event in bench.events() if isinstance(event, BookUpdated)]
    assert [update.settled for update in updates] == [True]
    assert bench.state() == (TrustState.LIVE, None)


def test_a_rest_book_older_than_what_passed_by_is_refused() -> None:
    bench = Bench((YES,))
    bench.up()
    bench.feed_in(book(at=5000, book_hash="h5"))
    bench.feed_in(delta(change("0.41", "1", book_hash="h6"), at=6000))
    bench.feed_in(Missed((YES,), StaleReason.PARSE_FAILURE))
    bench.wait(DEADLINE + 0.1)
    assert bench.asked()[-1] == FetchBook("feed-0", 1, YES)
    bench.shard.rest_book(answer(book(at=5500, book_hash="stale")), bench.now)
    assert bench.state()[0] is not TrustState.LIVE


def test_a_token_that_rest_does_not_know_is_stale_for_good() -> None:
    bench = fetched()
    bench.shard.rest_book(answer(None, is_unknown=True), bench.now)
    assert bench.state() == (TrustState.STALE, StaleReason.UNKNOWN_TOKEN)
    bench.wait(1000.0)
    assert bench.asked() == []


def test_a_token_believed_unknown_that_changes_is_tried_again_later() -> None:
    bench = fetched()
    bench.shard.rest_book(answer(None, is_unknown=True), bench.now)
    bench.feed_in(delta(change("0.3", "1")))
    bench.wait(UNKNOWN_RETRY_SECONDS - 0.1)
    assert bench.asked() == []
    bench.wait(0.2)
    assert [type(ask) for ask in bench.asked()] == [Resync]


def test_a_book_under_way_from_the_old_subscription_is_not_the_one_asked_for() -> None:
    bench = Bench((YES,))
    bench.up()
    first = book(book_hash="h0", at=1000)
    bench.feed_in(attrs.evolve(first, tick_size="0.01"))
    bench.feed_in(Missed((YES,), StaleReason.PARSE_FAILURE))
    assert bench.asked() == [Resync(YES, StaleReason.PARSE_FAILURE)]
    bench.feed_in(book(book_hash="h1", at=1001))  # after a trade: it states no tick size
    assert bench.state() == (TrustState.SYNCING, None)
    bench.feed_in(attrs.evolve(book(book_hash="h3", at=1003), tick_size="0.01"))
    assert bench.state() == (TrustState.LIVE, None)


def test_a_book_with_changes_held_back_is_not_settled() -> None:
    bench = fetched()
    bench.feed_in(delta(change("0.55", "1", book_hash="g3", bid="0.55"), at=1002))
    bench.shard.rest_book(answer(book(book_hash="g2", at=1002)), bench.now)
    update = bench.events()[-1]
    assert isinstance(update, BookUpdated)
    assert (update.cause, update.settled) == ("rest", False)
    assert not bench.shard.books[YES].settled
    bench.feed_in(delta(change("0.3", "1", book_hash="g2"), at=1002))  # the step of the book
    assert bench.shard.books[YES].settled


def test_a_feed_that_gives_up_before_its_first_session_says_so() -> None:
    bench = Bench((YES,))
    bench.down(StaleReason.FEED_GAVE_UP)
    assert bench.state() == (TrustState.STALE, StaleReason.FEED_GAVE_UP)


def test_nothing_is_judged_when_the_session_is_over(live: Bench) -> None:
    live.feed_in(delta(change("0.3", "7", bid="0.55")))  # half a group, and then the stop
    live.feed.epoch = None
    assert live.shard.next_due(live.now) == float("inf")
    live.shard.on_time(live.now + 10.0)
    assert live.state() == (TrustState.LIVE, None)
    assert live.env.statistics.desyncs == 0


def test_a_token_believed_unknown_that_gets_a_book_is_live() -> None:
    bench = fetched()
    bench.shard.rest_book(answer(None, is_unknown=True), bench.now)
    bench.feed_in(book())
    assert bench.state() == (TrustState.LIVE, None)


def test_without_an_answer_from_rest_it_is_tried_for_ever_and_ever_more_rarely() -> None:
    bench = fetched()
    attempts = 0
    for _ in range(40):
        bench.shard.rest_book(answer(None), bench.now)
        bench.wait(RESYNC_BACKOFF_SECONDS_MAX + DEADLINE + 0.1)
        attempts += sum(isinstance(ask, Resync) for ask in bench.asked())
    assert attempts == 40
    bench.wait(2 * (REST_PATIENCE_SECONDS + RESYNC_BACKOFF_SECONDS_MAX + DEADLINE))
    assert bench.asked()  # an answer that was lost stops nothing


def test_resyncs_of_one_token_back_off_and_are_forgiven() -> None:
    bench = Bench((YES,))
    bench.up()
    times: list[float] = []
    for _ in range(5):
        bench.feed_in(book())
        bench.feed_in(Missed((YES,), StaleReason.PARSE_FAILURE))
        before = bench.now
        while not any(isinstance(ask, Resync) for ask in bench.asked()):
            bench.wait(0.25)
        times.append(bench.now - before)
    assert times == [0.0, 1.0, 2.0, 4.0, 8.0]
    bench.feed_in(book())
    bench.wait(60.0)
    bench.feed_in(Missed((YES,), StaleReason.PARSE_FAILURE))
    assert bench.asked() == [Resync(YES, StaleReason.PARSE_FAILURE)]


def test_a_gap_is_said_before_the_trust_that_it_costs(live: Bench) -> None:
    live.feed_in(Missed((), StaleReason.ACTOR_RESTARTED))
    events = live.events()
    assert isinstance(events[0], Gap)
    assert (events[0].token, events[0].reason) == (None, StaleReason.ACTOR_RESTARTED)
    assert isinstance(events[1], TrustChanged)
    assert {ask.token for ask in live.asked()} == {YES, NO}


def test_a_gap_of_a_foreign_token_costs_nothing(live: Bench) -> None:
    live.feed_in(Missed(("999",), StaleReason.PARSE_FAILURE))
    assert live.events() == []


def test_trades_are_published_in_their_place_and_never_coalesced(live: Bench) -> None:
    trade = LastTradePrice(YES, MARKET, parse_units("0.5"), parse_units("3"), Side.ASK, 1001)
    live.feed_in(delta(change("0.5", "17")), trade, trade, is_behind=True)
    events = live.events()
    assert [type(event) for event in events] == [TradePrinted, TradePrinted, BookUpdated]


def test_a_tick_size_change_keeps_the_levels(live: Bench) -> None:
    live.feed_in(TickSizeChange(YES, MARKET, Decimal("0.01"), Decimal("0.001"), 1001))
    assert live.state() == (TrustState.LIVE, None)
    assert live.shard.books[YES].book.bid_count == 2


def test_foreign_tokens_are_counted_and_passed_by(live: Bench) -> None:
    live.feed_in(delta(change("0.5", "1", token="3333")), book("3333"))
    assert live.env.statistics.foreign_events == 2
    assert live.events() == []


def test_a_new_incarnation_distrusts_everything_and_resyncs(live: Bench) -> None:
    live.shard.abandon(live.now)
    assert live.state() == (TrustState.STALE, StaleReason.ACTOR_RESTARTED)
    live.events()
    reborn = BookShard(live.feed, live.requests.append)
    reborn.start(live.now)
    reborn.flush()
    assert {ask.token for ask in live.requests if isinstance(ask, Resync)} == {YES, NO}
    assert live.feed.trust[YES].state is TrustState.SYNCING


def markets(events: list[Event]) -> list[str | None]:
    return [event.market for event in events if isinstance(event, TrustChanged)]


@pytest.mark.parametrize(
    "first",
    [
        book(),
        delta(change("0.5", "1")),
        LastTradePrice(YES, MARKET, parse_units("0.5"), parse_units("3"), Side.ASK, 1001),
        TickSizeChange(YES, MARKET, Decimal("0.01"), Decimal("0.001"), 1001),
    ],
    ids=lambda event: type(event).__name__,
)
def test_the_market_of_a_token_is_null_until_any_event_names_it(first: MarketEvent) -> None:
    bench = Bench((YES,))
    bench.up()
    assert markets(bench.events()) == [None]
    bench.feed_in(first)
    bench.feed_in(Missed((YES,), StaleReason.PARSE_FAILURE))
    assert set(markets(bench.events())) == {MARKET}


def test_a_market_is_still_known_in_the_next_session_and_to_the_next_incarnation(
    live: Bench,
) -> None:
    live.down()
    live.up(epoch=2)
    assert set(markets(live.events())) == {MARKET}
    live.shard.abandon(live.now)
    live.shard.flush()
    reborn = BookShard(live.feed, live.requests.append)
    reborn.start(live.now)
    reborn.flush()
    assert markets(live.events()) == [MARKET] * 4


def test_a_book_that_names_the_market_says_so_in_the_first_word_of_a_replay() -> None:
    bench = Bench(())
    bench.shard = BookShard(bench.feed, bench.requests.append, adopt_any_token=True)
    bench.up()
    bench.feed_in(book(YES), delta(change("0.5", "1", token=NO)))
    assert markets(bench.events()) == [MARKET] * 3


Step = tuple[str, int]
STEPS = ("up", "down", "book", "delta", "wrong delta", "gap", "wait", "rest", "no rest", "restart")


def take(bench: Bench, what: str, number: int, clock: int, epoch: int) -> None:
    """One step of what the exchange, REST or the parser may do inside a live session."""
    token = (YES, NO)[number % 2]
    book_hash = f"h{clock}"
    if what == "book":
        bench.feed_in(book(token, book_hash=book_hash, at=clock), epoch=epoch)
    elif what in ("delta", "wrong delta"):
        size, bid = (str(number), "0.5") if what == "delta" else ("1", "0.9")
        entry = change("0.3", size, token=token, book_hash=book_hash, bid=bid)
        bench.feed_in(delta(entry, at=clock), epoch=epoch)
    elif what == "gap":
        bench.feed_in(Missed((token,), StaleReason.PARSE_FAILURE), epoch=epoch)
    elif what in ("rest", "no rest"):
        snapshot = book(token, at=clock) if what == "rest" else None
        unknown = snapshot is None and number == 3
        bench.shard.rest_book(RestBook("feed-0", epoch, token, snapshot, unknown), bench.now)


def check_stream(bench: Bench, shown: dict[str, TrustState]) -> None:
    """What a reader was told must be consistent, event by event; `shown` is what it knows."""
    for event in bench.events():
        if isinstance(event, TrustChanged):
            assert event.previous is shown[event.token]
            assert event.state in TRANSITIONS[event.previous]
            assert (event.reason is not None) == (event.state is TrustState.STALE)
            shown[event.token] = event.state
        elif isinstance(event, BookUpdated):
            # An update that a reader sees is one of a book that it was told is LIVE.
            assert shown[event.token] is TrustState.LIVE
            if event.settled and event.best_bid is not None and event.best_ask is not None:
                assert event.best_bid < event.best_ask
    for name in (YES, NO):
        assert shown[name] is bench.feed.trust[name].state
        best = bench.shard.books[name].book.best_ask_units
        assert best is None or 0 < best < PRICE_ONE


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), max_size=60))
def test_trust_keeps_its_table_and_only_live_books_are_updated(steps: list[Step]) -> None:
    bench = Bench()
    epoch = 0
    shown: dict[str, TrustState] = {YES: TrustState.EMPTY, NO: TrustState.EMPTY}
    for clock, (what, number) in enumerate(steps, 1000):
        if what == "up" and bench.feed.epoch is None:
            epoch += 1
            bench.up(epoch)
        elif what == "down" and bench.feed.epoch is not None:
            bench.down()
        elif what == "restart":
            bench.shard.abandon(bench.now)
            bench.shard.flush()
            bench.shard = BookShard(bench.feed, bench.requests.append)
            bench.shard.start(bench.now)
        elif what == "wait":
            bench.wait((0.1, 0.3, 11.0, 40.0)[number])
        elif bench.feed.epoch is not None:
            take(bench, what, number, clock, epoch)
        check_stream(bench, shown)
        if bench.feed.epoch is None:
            continue
        # In a live session every token is LIVE, or something is due that goes on with it.
        for name in (YES, NO):
            state, reason = bench.state(name)
            assert (
                state is TrustState.LIVE
                or reason is StaleReason.UNKNOWN_TOKEN
                or bench.shard.next_due(bench.now) < float("inf")
            )
