"""What the hash of a book proves in a running shard: at once for fresh ones, by turn for others."""

import json
from typing import Any
from unittest.mock import Mock

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from tests.actors.shard_bench import MARKET, NO, YES, Bench

from polyactors.book import integrity
from polyactors.book.budget import BURST_SECONDS
from polyactors.book.groups import QUIET_SECONDS
from polyactors.book.integrity import book_hash
from polyactors.book.numbers import PRICE_ONE, Side, parse_units
from polyactors.book.orderbook import OrderBook
from polyactors.book.reading import BookReading
from polyactors.book.trust import StaleReason, TrustState
from polyactors.book.verify import HashInputs
from polyactors.checks import ASIDE_SECONDS, DUE_MAX
from polyactors.events import BookUpdated, TrustChanged
from polyactors.messages import Audited, FetchBook, RestBook, Resync
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import BookSnapshot, LastTradePrice, LevelChange, PriceChange

HASH_SECONDS = 0.0001
"""What a look at the clock of the work costs here."""
LIVE = (TrustState.LIVE, None)


class Truth:
    """The exchange's own book of one token."""

    def __init__(self, token: str = YES, price: str = "0.500") -> None:
        bids = [(parse_units(f"0.{cents}"), parse_units("10")) for cents in range(30, 50)]
        asks = [(parse_units(f"0.{cents}"), parse_units("10")) for cents in range(70, 50, -1)]
        self.book = OrderBook(token, MARKET, bids, asks)
        self.price = price
        self.tick_size = "0.01"
        self.at = 1000

    @property
    def hash(self) -> str:
        return book_hash(
            market=MARKET,
            token=self.book.token,
            timestamp_ms=self.at,
            bids=self.book.wire_bids,
            asks=self.book.wire_asks,
            min_order_size="5",
            tick_size=self.tick_size,
            neg_risk=False,
            last_trade_price=self.price,
        )

    def snapshot(self, **changed: Any) -> BookSnapshot:
        whole = BookSnapshot(
            self.book.token,
            MARKET,
            dict(self.book.wire_bids),
            dict(self.book.wire_asks),
            self.hash,
            self.at,
        )
        return evolve(whole, **changed)

    def first(self) -> BookSnapshot:
        return self.snapshot(tick_size=self.tick_size, last_trade_price=self.price)

    def rest(self) -> BookSnapshot:
        return self.snapshot(
            tick_size=self.tick_size,
            last_trade_price=self.price,
            min_order_size="5",
            neg_risk=False,
        )

    def step(self, *levels: tuple[str, str]) -> PriceChange:
        """An engine step that sets these bids, as one message."""
        self.at += 1
        for price, size in levels:
            self.book.set_level(Side.BID, parse_units(price), parse_units(size))
        bid, ask = self.book.best_bid_units or 0, self.book.best_ask_units or PRICE_ONE
        return PriceChange(
            MARKET,
            self.at,
            tuple(
                LevelChange(
                    self.book.token,
                    Side.BID,
                    parse_units(price),
                    parse_units(size),
                    self.hash,
                    bid,
                    ask,
                )
                for price, size in levels
            ),
        )


class HashBench(Bench):
    """A bench whose work costs a fixed time, with inputs that are known."""

    def __init__(self, tokens: tuple[str, ...] = (YES,), *, known: bool = True) -> None:
        super().__init__(tokens)
        self.worked_seconds = 0.0
        self.cost_seconds = HASH_SECONDS
        self.env.cpu_seconds = self._work
        if known:
            for token in tokens:
                self.env.hash_inputs[token] = HashInputs("0.01", "5", False)
        self.rebuild()
        self.up()

    def _work(self) -> float:
        self.worked_seconds += self.cost_seconds
        return self.worked_seconds

    def reasons(self) -> list[StaleReason | None]:
        return [e.reason for e in self.events() if isinstance(e, TrustChanged)]


@pytest.fixture
def bench() -> HashBench:
    return HashBench()


# --- fresh books ---------------------------------------------------------------------------


def received(truth: Truth, *, size: str = "10") -> BookSnapshot:
    """The first book of a subscription as it comes out of the codec; `size` of all levels."""
    truth.at = 1_757_908_892_351
    wire: dict[str, Any] = {
        "event_type": "book",
        "market": MARKET,
        "asset_id": truth.book.token,
        "timestamp": str(truth.at),
        "hash": truth.hash,
        "tick_size": truth.tick_size,
        "last_trade_price": truth.price,
    }
    for name, levels in truth.book.to_wire().items():
        wire[name] = [{"price": level["price"], "size": size} for level in levels]
    (book,), _ = MarketCodec().receive_known([json.dumps(wire)])
    assert isinstance(book, BookSnapshot)
    return book


def test_a_fresh_book_is_hashed_as_it_was_received(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = HashBench()
    bench.up()
    book = received(Truth())
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "_levels_json", Mock(side_effect=AssertionError))
        bench.feed_in(book)
    statistics = bench.env.statistics
    assert bench.state() == LIVE
    assert (statistics.snapshots_hash_ok, statistics.hash_checks) == (1, 1)
    bench.wait(1.0)  # its own levels have their turn
    assert (statistics.groups_hash_ok, statistics.hash_checks) == (1, 2)


@pytest.mark.parametrize("size", ["10.0", "+10", "1e1"])
def test_a_book_that_is_written_in_another_way_is_hashed_by_its_levels(size: str) -> None:
    bench = HashBench()
    bench.up()
    bench.feed_in(received(Truth(), size=size))
    assert bench.state() == LIVE
    assert bench.env.statistics.snapshots_hash_ok == 1


def test_a_received_book_with_a_wrong_size_is_not_shown() -> None:
    bench = HashBench()
    bench.up()
    bench.feed_in(received(Truth(), size="11"))
    assert bench.state()[0] is not TrustState.LIVE
    assert bench.env.statistics.snapshots_hash_ok == 0


def test_a_fresh_book_is_verified_before_it_is_live(bench: HashBench) -> None:
    bench.feed_in(Truth().first())
    assert bench.state() == LIVE
    statistics = bench.env.statistics
    assert (statistics.snapshots, statistics.snapshots_hash_ok) == (1, 1)


def test_a_fresh_book_with_a_wrong_level_is_never_live(bench: HashBench) -> None:
    truth = Truth()
    wrong = truth.snapshot(bids=dict(truth.book.wire_bids[1:]), last_trade_price="0.500")
    bench.feed_in(wrong)
    assert bench.reasons() == [None, StaleReason.HASH_MISMATCH, None]
    assert bench.state() == (TrustState.SYNCING, None)
    assert bench.asked() == [Resync(YES, StaleReason.HASH_MISMATCH)]
    assert bench.env.statistics.desyncs == 1


def test_an_unknown_input_lets_a_fresh_book_go_live_unverified() -> None:
    bench = HashBench(known=False)
    bench.feed_in(Truth().first())
    assert bench.state() == LIVE
    assert bench.env.statistics.snapshots_hash_unverifiable == 1


def test_a_book_whose_last_trade_price_was_not_told_is_verified_by_search(
    bench: HashBench,
) -> None:
    bench.feed_in(Truth(price="0.123").snapshot())
    assert bench.state() == LIVE
    assert bench.env.last_trade_prices.known(MARKET) == ("0.123",)


def test_books_that_stay_wrong_are_fetched_from_rest_which_states_every_input(
    bench: HashBench,
) -> None:
    # We believe a minimum size that the exchange does not use.
    bench.shard.books[YES].inputs.min_order_size = "15"
    truth = Truth()
    bench.feed_in(truth.first())
    assert bench.asked() == [Resync(YES, StaleReason.HASH_MISMATCH)]
    bench.feed_in(truth.first())
    bench.wait(2.0)
    assert bench.asked() == [FetchBook("feed-0", 1, YES)]
    truth.step(("0.48", "3"))
    bench.shard.rest_book(RestBook("feed-0", 1, YES, truth.rest(), False), bench.now)
    assert bench.state() == LIVE
    bench.feed_in(truth.step(("0.47", "3")))
    bench.wait(60.0)
    assert bench.state() == LIVE
    assert bench.env.statistics.groups_hash_ok == 1


def test_a_changed_formula_does_not_resynchronise_every_book_for_ever() -> None:
    tokens = tuple(str(number) for number in range(10))
    bench = HashBench(tokens)
    while bench.state(tokens[-1]) != LIVE:
        for request in bench.asked():
            token = request.token
            other = Truth(token).rest()
            other = evolve(other, market=f"0x{token}", hash="f" * 40)
            if isinstance(request, Resync):
                bench.feed_in(evolve(other, min_order_size=None, neg_risk=None))
            else:
                bench.shard.rest_book(RestBook("feed-0", 1, token, other, False), bench.now)
        bench.wait(1.0)
        assert bench.now < 200.0
    assert bench.env.statistics.snapshots_hash_unverifiable >= 2
    bench.wait(60.0)  # no book of the others has come to be asked about again
    assert all(bench.state(token)[0] is not TrustState.EMPTY for token in tokens)


def test_however_many_books_of_the_stream_are_wrong_the_formula_is_not() -> None:
    tokens = tuple(str(number) for number in range(20))
    bench = HashBench(tokens)
    for token in tokens:
        bench.feed_in(Truth(token).snapshot(market=f"0x{token}", hash="f" * 40))
    assert all(bench.state(token) != LIVE for token in tokens)
    assert not bench.env.formula.is_doubtful


# --- by turn -------------------------------------------------------------------------------


def live(bench: HashBench, truth: Truth) -> None:
    bench.feed_in(truth.first())
    bench.events()
    bench.asked()
    assert bench.state(truth.book.token) == LIVE


def test_a_lost_change_below_the_top_is_found_at_the_tokens_turn(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    truth.step(("0.35", "99"))  # lost, and the top is as it was
    bench.feed_in(truth.step(("0.36", "7")))
    assert bench.state() == LIVE
    bench.wait(1.0)
    assert bench.reasons()[0] is StaleReason.HASH_MISMATCH
    assert bench.env.statistics.groups_top_ok == 1
    assert bench.env.statistics.detect.count == 1


def test_a_book_that_never_rests_is_hashed_at_the_end_of_a_group(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    truth.step(("0.35", "99"))  # lost
    for number in range(20):
        bench.feed_in(truth.step(("0.36", str(number + 1))))
        bench.wait(QUIET_SECONDS / 3)
        if bench.state() != LIVE:
            break
    assert bench.reasons()[0] is StaleReason.HASH_MISMATCH


def test_no_update_waits_for_a_hash(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    bench.wait(60.0)  # the budget is full
    right, checks = bench.env.statistics.groups_hash_ok, bench.env.statistics.hash_checks
    worked = bench.worked_seconds
    bench.events()
    for size in ("7", "8"):
        bench.feed_in(truth.step(("0.36", size)))
    bench.shard.on_time(bench.now)  # its turn has come, in the middle of a group
    bench.feed_in(truth.step(("0.36", "9")))  # and here is its end
    assert [type(event) for event in bench.events()] == [BookUpdated] * 3
    assert bench.env.statistics.hash_checks == checks + 1
    assert bench.worked_seconds == worked
    assert bench.shard.next_due(bench.now) == bench.now + ASIDE_SECONDS
    bench.wait(ASIDE_SECONDS)
    assert bench.worked_seconds > worked
    assert bench.env.statistics.groups_hash_ok == right + 1


@pytest.mark.parametrize("is_lost", [False, True])
def test_the_hash_speaks_of_the_end_of_the_group_whatever_has_come_since(
    bench: HashBench, *, is_lost: bool
) -> None:
    truth = Truth()
    live(bench, truth)
    bench.wait(60.0)
    bench.events()
    if is_lost:
        truth.step(("0.35", "99"))
    for size in ("7", "8"):
        bench.feed_in(truth.step(("0.36", size)))
    bench.shard.on_time(bench.now)
    for size in ("9", "10", "11"):
        bench.feed_in(truth.step(("0.36", size)))
    assert bench.state() == LIVE
    bench.wait(1.0)
    assert bench.reasons()[:1] == ([StaleReason.HASH_MISMATCH] if is_lost else [])


def test_of_a_busy_feed_few_books_are_copied_at_a_time() -> None:
    tokens = tuple(str(number) for number in range(50))
    bench = HashBench(tokens)
    truths = [Truth(token) for token in tokens]
    for truth in truths:
        live(bench, truth)
    bench.wait(60.0)
    before = bench.env.statistics.hash_checks
    for size in ("7", "8", "9", "10"):
        for truth in truths:
            bench.feed_in(truth.step(("0.36", size)))
        bench.shard.on_time(bench.now)
    assert bench.env.statistics.hash_checks - before == DUE_MAX


def test_every_token_has_its_turn_within_the_budget() -> None:
    tokens = tuple(str(number) for number in range(50))
    bench = HashBench(tokens)
    truths = [Truth(token) for token in tokens]
    for truth in truths:
        live(bench, truth)
    bench.wait(30.0)
    began, worked = bench.now, bench.worked_seconds
    before = bench.env.statistics.groups_hash_ok
    for round_ in range(40):
        for truth in truths:
            bench.feed_in(truth.step(("0.36", str(round_ + 1))))
        bench.wait(1.0)
    seconds = bench.now - began
    share = bench.env.settings.hash_budget_percent / 100
    # Each look at the clock costs here: two make a check, and the pieces that close a group.
    assert bench.worked_seconds - worked <= 2 * (seconds * share + BURST_SECONDS) + 0.01
    checked = bench.env.statistics.groups_hash_ok - before
    assert checked >= 50 * 10
    oldest = min(bench.shard.books[token].right_since_seconds for token in tokens)
    assert bench.now - oldest < bench.env.settings.audit_seconds


def test_a_price_that_nobody_told_is_searched_in_slices_while_the_book_moves_on(
    bench: HashBench,
) -> None:
    truth = Truth()
    live(bench, truth)
    truth.price = "0.987"  # a trade that we have not heard of
    bench.feed_in(truth.step(("0.36", "7")))
    bench.wait(QUIET_SECONDS)
    bench.feed_in(truth.step(("0.36", "8")))
    bench.wait(2.0)
    assert bench.state() == LIVE
    assert bench.env.last_trade_prices.known(MARKET)[0] == "0.987"
    assert bench.env.statistics.groups_hash_ok == 2


def test_a_search_ends_with_the_book_it_was_begun_for(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    truth.step(("0.35", "99"))  # lost
    bench.feed_in(truth.step(("0.36", "7")))
    bench.cost_seconds = 0.01  # one piece, and the budget is spent for long
    bench.now += QUIET_SECONDS
    bench.shard.on_time(bench.now)
    assert bench.env.statistics.hash_checks == 2
    assert bench.state() == LIVE  # the search for another price has only begun
    truth.step(("0.37", "1"))
    bench.feed_in(truth.first())  # it takes the place of the one that is searched for
    bench.wait(60.0)
    assert bench.state() == LIVE
    assert bench.env.statistics.desyncs_by_reason == {"book_mismatch": 1}


def test_a_trade_told_later_is_no_desync(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    truth.price = "0.510"
    bench.feed_in(truth.step(("0.36", "7")))
    bench.feed_in(
        LastTradePrice(YES, MARKET, parse_units("0.51"), parse_units("3"), Side.BID, truth.at)
    )
    bench.wait(60.0)
    assert bench.state() == LIVE
    assert bench.env.statistics.groups_hash_ok == 1


def test_unknown_inputs_are_counted_and_no_desync() -> None:
    bench = HashBench(known=False)
    truth = Truth()
    live(bench, truth)
    truth.step(("0.35", "99"))
    bench.feed_in(truth.step(("0.36", "7")))
    bench.wait(60.0)
    assert bench.state() == LIVE
    assert bench.env.statistics.groups_hash_unverifiable == 1


# --- groups --------------------------------------------------------------------------------


def test_a_repeat_after_quiet_goes_on_with_the_group(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    step = truth.step(("0.36", "7"))
    for _ in range(3):
        bench.feed_in(step)
        bench.wait(1.0)
    assert bench.env.statistics.groups == 1
    assert bench.env.statistics.groups_top_ok == 1
    bench.feed_in(truth.step(("0.36", "8")))
    bench.wait(1.0)
    assert bench.env.statistics.groups == 2


def test_a_half_told_step_that_crosses_the_book_gives_no_top(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    bid, ask = truth.book.best_bid_units, truth.book.best_ask_units
    assert bid is not None
    assert ask is not None
    crossing = LevelChange(YES, Side.BID, ask, parse_units("5"), "e" * 40, ask, ask + 1)
    bench.feed_in(PriceChange(MARKET, truth.at, (crossing,)))
    (update,) = bench.events()
    assert isinstance(update, BookUpdated)
    assert (update.best_bid, update.best_ask, update.settled) == (None, None, False)
    book, trust = bench.shard.books[YES].book, bench.feed.trust[YES]
    reading = BookReading.take(book, trust, settled=False, now_seconds=bench.now)
    assert reading.is_crossed
    assert (reading.best_bid, reading.best_ask, reading.spread, reading.midpoint) == (None,) * 4
    assert reading.bids[0].price == reading.asks[0].price


# --- REST's books --------------------------------------------------------------------------


def audit(bench: HashBench, *snapshots: BookSnapshot, unknown: tuple[str, ...] = ()) -> None:
    bench.shard.audited(Audited("feed-0", 1, snapshots, unknown), bench.now)


def test_the_same_hash_and_the_same_levels_are_right(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    bench.wait(5.0)
    audit(bench, truth.rest())
    assert bench.state() == LIVE
    assert bench.env.statistics.audits_ok == 1
    assert bench.shard.books[YES].right_since_seconds == bench.now


def test_the_same_hash_and_other_levels_are_a_desync() -> None:
    bench = HashBench(known=False)  # the hash says nothing
    truth = Truth()
    live(bench, truth)
    truth.step(("0.35", "99"))  # lost
    bench.feed_in(truth.step(("0.36", "7")))
    bench.wait(1.0)
    audit(bench, truth.rest())
    assert bench.reasons()[0] is StaleReason.AUDIT_MISMATCH


def test_a_lost_last_change_is_found_by_two_answers(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    truth.step(("0.35", "99"))  # lost, and nothing follows
    audit(bench, truth.rest())
    assert bench.state() == LIVE  # it may be on its way
    assert bench.asked() == []
    bench.wait(2.0)
    (again,) = bench.asked()
    assert again.token == YES
    audit(bench, truth.rest())
    assert bench.reasons() == [StaleReason.AUDIT_MISMATCH, None]


def test_a_change_under_way_is_no_desync(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    step = truth.step(("0.35", "99"))
    answer = truth.rest()
    audit(bench, answer)
    bench.feed_in(step)
    bench.wait(5.0)
    assert bench.asked() == []
    audit(bench, answer)
    assert bench.state() == LIVE
    assert bench.env.statistics.audits_ok == 1


def test_an_older_book_of_rest_says_nothing(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    old = truth.rest()
    for size in ("1", "2", "3"):
        bench.feed_in(truth.step(("0.35", size)))
    bench.wait(1.0)
    for _ in range(3):
        audit(bench, old)
        bench.wait(5.0)
    assert bench.state() == LIVE
    assert bench.asked() == []
    assert bench.env.statistics.audits_behind == 3


def test_a_step_that_the_stream_passes_by_hurries_the_hash(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    truth.step(("0.35", "99"))  # lost as a whole
    audit(bench, truth.rest())
    bench.feed_in(truth.step(("0.36", "7")))
    bench.wait(3.0)
    assert bench.reasons()[0] is StaleReason.HASH_MISMATCH


def test_a_book_that_rest_does_not_know_any_more_is_stale(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    for size in ("1", "2", "3"):  # a stream that speaks is the better witness
        audit(bench, unknown=(YES,))
        bench.feed_in(truth.step(("0.35", size)))
    assert bench.state() == LIVE
    audit(bench, unknown=(YES,))
    assert bench.state() == LIVE
    audit(bench, unknown=(YES,))
    assert bench.state() == (TrustState.STALE, StaleReason.UNKNOWN_TOKEN)


def test_what_rest_says_of_a_dead_epoch_is_dropped(bench: HashBench) -> None:
    truth = Truth()
    live(bench, truth)
    bench.shard.audited(Audited("feed-0", 0, (truth.rest(),), (YES,)), bench.now)
    assert bench.state() == LIVE
    assert bench.env.statistics.audits_ok == 0


def test_rest_teaches_what_the_channel_never_says() -> None:
    bench = HashBench(known=False)
    truth = Truth()
    live(bench, truth)
    audit(bench, truth.rest())
    bench.feed_in(truth.step(("0.36", "7")))
    bench.wait(60.0)
    assert bench.env.statistics.groups_hash_ok == 1


# --- everything together -------------------------------------------------------------------


@given(st.data())
def test_no_mistake_outlives_its_turn(data: st.DataObject) -> None:
    """Whatever is lost, doubled or swapped: right, or found within the turn of its token."""
    bench = HashBench((YES, NO))
    truths = {token: Truth(token) for token in (YES, NO)}
    for truth in truths.values():
        live(bench, truth)
    held: PriceChange | None = None
    for _ in range(data.draw(st.integers(1, 25))):
        token = data.draw(st.sampled_from((YES, NO)))
        level = (data.draw(st.sampled_from(("0.30", "0.35", "0.49", "0.48"))), "0")
        size = data.draw(st.sampled_from(("0", "1", "2", "10")))
        step = truths[token].step((level[0], size))
        match data.draw(st.sampled_from(("sent", "sent", "sent", "lost", "doubled", "held"))):
            case "sent":
                bench.feed_in(step)
            case "doubled":
                bench.feed_in(step, step)
            case "held" if held is None:
                held = step
            case _:
                pass
        if held is not None and data.draw(st.booleans()):
            bench.feed_in(held)
            held = None
        bench.wait(data.draw(st.sampled_from((0.0, 0.001, 0.3))))
    for truth in truths.values():  # something follows, for each token
        bench.feed_in(truth.step(("0.31", "5")))
    bench.wait(1.0)
    for token, truth in truths.items():
        if bench.state(token) == LIVE:
            assert bench.shard.books[token].book == truth.book
