"""The public strategies keep their promises, and books keep theirs over whole histories."""

import doctest
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st

from polyactors.book.numbers import PRICE_ONE, Side, to_units
from polyactors.book.orderbook import Level, OrderBook
from polyactors.protocol.events import BookSnapshot, LevelChange, PriceChange
from polyactors.testing import (
    BookHistory,
    BookStep,
    apply_event,
    book_histories,
    interleavings,
    levels,
    order_books,
    prices,
    sizes,
)
from polyactors.testing import books as books_module

TICKS = st.sampled_from([Decimal(tick) for tick in ("0.1", "0.01", "0.001", "0.0001", "0.0025")])
RUNNABLE = {
    item.__name__: item
    for item in (BookHistory, BookStep, BookSnapshot, LevelChange, PriceChange, Side)
}


def test_the_example_in_the_docstring_runs() -> None:
    result = doctest.testmod(books_module)
    assert result.attempted > 0
    assert result.failed == 0


@given(st.data(), TICKS)
def test_prices_are_on_the_grid_between_zero_and_one(data: st.DataObject, tick: Decimal) -> None:
    price = data.draw(prices(tick))
    assert tick <= price <= 1 - tick
    assert price % tick == 0


def test_prices_reach_both_ends_of_the_grid() -> None:
    tick = Decimal("0.0025")
    assert find(prices(tick), lambda price: price == tick) == tick
    assert find(prices(tick), lambda price: price == 1 - tick) == 1 - tick


@pytest.mark.parametrize("tick", ["0", "-0.01", "0.6", "NaN"])
def test_a_tick_size_that_leaves_no_price_is_refused(tick: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        prices(Decimal(tick))


@given(levels(), sizes())
def test_levels_have_a_size_of_at_most_two_decimals(level: Level, size: Decimal) -> None:
    for drawn in (level.size, size):
        assert drawn > 0
        assert drawn * 100 % 1 == 0


@given(st.data(), TICKS)
@settings(deadline=None)
def test_books_at_rest_are_not_crossed(data: st.DataObject, tick: Decimal) -> None:
    book = data.draw(order_books(tick))
    assert not book.is_crossed
    assert all(level.price % tick == 0 for level in (*book.bids, *book.asks))


@given(st.data(), TICKS)
@settings(deadline=None)
def test_histories_verify_step_by_step(data: st.DataObject, tick: Decimal) -> None:
    history = data.draw(book_histories(tick))
    afters = [history.first, *(step.after for step in history.steps)]
    books = list(history.books())
    assert len(books) == len(afters)
    for book, after in zip(books, afters, strict=True):
        assert book == OrderBook("", "", after.bids, after.asks)
        assert book.wire_bids == list(after.bids.items())
        assert book.wire_asks == list(after.asks.items())
        assert history.hash_of(book, after.timestamp_ms) == after.hash
        assert not book.is_crossed
    assert all(a.timestamp_ms <= b.timestamp_ms for a, b in pairwise(afters))
    assert all(a.hash != b.hash for a, b in pairwise(afters)), "each step is its own hash group"


@given(book_histories())
@settings(deadline=None)
def test_entries_carry_hash_and_top_of_the_end_of_their_step(history: BookHistory) -> None:
    for step in history.steps:
        book = OrderBook("", "", step.after.bids.items(), step.after.asks.items())
        bid, ask = book.best_bid_units, book.best_ask_units
        assert step.changes
        assert all(message.timestamp_ms == step.after.timestamp_ms for message in step.messages)
        for change in step.changes:
            assert change.token == history.token
            assert change.hash == step.after.hash
            assert change.best_bid == (bid or 0)
            assert change.best_ask == (PRICE_ONE if ask is None else ask)


@given(st.data(), book_histories())
@settings(deadline=None)
def test_every_allowed_interleaving_ends_each_step_in_the_same_book(
    data: st.DataObject, history: BookHistory
) -> None:
    other = data.draw(interleavings(history))
    assert [step.after for step in other.steps] == [step.after for step in history.steps]
    assert list(other.books()) == list(history.books())


@given(st.data(), book_histories())
@settings(deadline=None)
def test_a_snapshot_and_the_deltas_after_it_equal_the_whole_stream(
    data: st.DataObject, history: BookHistory
) -> None:
    assume(history.steps)
    start = data.draw(st.integers(0, len(history.steps) - 1))
    other = data.draw(interleavings(history))
    book = OrderBook(history.token, history.market, [(1, 1)], [(2, 1)])
    apply_event(book, other.steps[start].after)
    expected = list(history.books())[start + 1 :]
    assert book == expected[0]
    for step, after in zip(other.steps[start + 1 :], expected[1:], strict=True):
        for message in step.messages:
            apply_event(book, message)
        assert book == after


@given(book_histories())
@settings(deadline=None)
def test_the_best_prices_are_the_extremes_after_every_single_change(history: BookHistory) -> None:
    book = OrderBook(history.token, history.market)
    for event in history.events():
        apply_event(book, event)
        bids, asks = book.wire_bids, book.wire_asks
        assert book.best_bid_units == max((price for price, _ in bids), default=None)
        assert book.best_ask_units == min((price for price, _ in asks), default=None)
        assert all(size > 0 for _, size in (*bids, *asks))


@given(book_histories())
@settings(deadline=None)
def test_the_complement_follows_mirrored_changes_exactly(history: BookHistory) -> None:
    yes = OrderBook(history.token, history.market)
    apply_event(yes, history.first)
    no = yes.mirror("2")
    for step in history.steps:
        for change in step.changes:
            yes.set_level(change.side, change.price, change.size)
            no.set_level(change.side.opposite, PRICE_ONE - change.price, change.size)
        assert no == yes.mirror("2")
        assert no.mirror(history.token) == yes


@given(book_histories())
@settings(deadline=None, max_examples=30)
def test_the_repr_of_a_history_is_python_that_makes_it_again(history: BookHistory) -> None:
    assert eval(repr(history), dict(RUNNABLE)) == history


def test_histories_hold_what_real_streams_hold() -> None:
    def crosses_inside_a_step(history: BookHistory) -> bool:
        book = OrderBook(history.token, history.market)
        for event in history.events():
            apply_event(book, event)
            if book.is_crossed:
                return True
        return False

    def shares_a_millisecond(history: BookHistory) -> bool:
        return any(a.after.timestamp_ms == b.after.timestamp_ms for a, b in pairwise(history.steps))

    def removes_an_absent_level(history: BookHistory) -> bool:
        first = {(Side.BID, price) for price in history.first.bids}
        first |= {(Side.ASK, price) for price in history.first.asks}
        return any(
            change.size == 0 and (change.side, change.price) not in first
            for step in history.steps[:1]
            for change in step.changes[:1]
        )

    def ends_a_step_in_a_fresh_book(history: BookHistory) -> bool:
        return any(step.fresh for step in history.steps)

    def sends_several_messages_a_step(history: BookHistory) -> bool:
        return any(len(step.messages) > 2 for step in history.steps)

    def loses_a_whole_side(history: BookHistory) -> bool:
        return bool(history.first.bids) and any(not step.after.bids for step in history.steps)

    quick = settings(database=None, max_examples=2000, deadline=None, phases=[Phase.generate])
    for holds in (
        crosses_inside_a_step,
        shares_a_millisecond,
        removes_an_absent_level,
        ends_a_step_in_a_fresh_book,
        sends_several_messages_a_step,
        loses_a_whole_side,
    ):
        assert holds(find(book_histories(), holds, settings=quick))


def test_an_event_of_another_token_changes_nothing() -> None:
    book = OrderBook("1", "0x1", [(1, 1)])
    apply_event(book, BookSnapshot("2", "0x1", {}, {}, "", 0))
    change = LevelChange("2", Side.BID, to_units(Decimal("0.5")), 1, "", None, None)
    apply_event(book, PriceChange("0x1", 0, (change,)))
    assert book == OrderBook("1", "0x1", [(1, 1)])
