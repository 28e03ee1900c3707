from decimal import Decimal, localcontext

import pytest

from polyactors.book.numbers import PRICE_ONE, Side, parse_units
from polyactors.book.orderbook import BookView, Level, OrderBook

D = Decimal


def units(*levels: tuple[str, str]) -> list[tuple[int, int]]:
    return [(parse_units(price), parse_units(size)) for price, size in levels]


def book(
    bids: tuple[tuple[str, str], ...] = (("0.47", "10"), ("0.48", "5")),
    asks: tuple[tuple[str, str], ...] = (("0.53", "20.5"), ("0.52", "3")),
) -> OrderBook:
    return OrderBook("1", "0x1", units(*bids), units(*asks))


def test_a_book_reads_best_first() -> None:
    reading = book()
    assert reading.token == "1"
    assert reading.market == "0x1"
    assert reading.best_bid == Level(D("0.48"), D("5"))
    assert reading.best_ask == Level(D("0.52"), D("3"))
    assert reading.best_bid_units == 480_000_000
    assert reading.best_ask_units == 520_000_000
    assert reading.bids == (Level(D("0.48"), D("5")), Level(D("0.47"), D("10")))
    assert reading.asks == (Level(D("0.52"), D("3")), Level(D("0.53"), D("20.5")))
    assert (reading.bid_count, reading.ask_count) == (2, 2)
    assert reading.top(1) == (reading.bids[:1], reading.asks[:1])
    assert reading.top(9) == (reading.bids, reading.asks)
    assert reading.spread == D("0.04")
    assert reading.midpoint == D("0.5")
    assert not reading.is_crossed


def test_an_empty_book_says_none_and_not_zero() -> None:
    empty = OrderBook("1", "0x1")
    assert empty.best_bid is None
    assert empty.best_ask is None
    assert empty.best_bid_units is None
    assert empty.best_ask_units is None
    assert empty.spread is None
    assert empty.midpoint is None
    assert empty.top(3) == ((), ())
    assert not empty.is_crossed
    assert empty.to_wire() == {"bids": [], "asks": []}


def test_a_book_with_one_side_has_no_spread_and_is_not_crossed() -> None:
    bids_only = book(asks=())
    assert bids_only.best_ask is None
    assert bids_only.spread is None
    assert bids_only.midpoint is None
    assert not bids_only.is_crossed


def test_the_midpoint_is_exact_beyond_the_ninth_decimal() -> None:
    odd = book(bids=(("0.000000001", "1"),), asks=(("0.000000002", "1"),))
    assert str(odd.midpoint) == "1.5E-9"
    with localcontext() as context:
        context.prec = 1
        assert book(asks=(("0.53", "1"),)).midpoint == D("0.505")


# The probes on which other clients failed (their books kept ghosts, or lost levels).


def test_a_level_of_another_spelling_is_the_same_level() -> None:
    reading = book(bids=((".48", "5"),))
    reading.set_level(Side.BID, parse_units("0.48"), 0)
    assert reading.bids == ()


def test_an_empty_snapshot_clears_the_book() -> None:
    reading = book()
    reading.replace([], [])
    assert reading == OrderBook("1", "0x1")


def test_a_bid_above_an_ask_crosses_the_book_and_deletes_nothing() -> None:
    reading = book()
    reading.set_level(Side.BID, parse_units("0.53"), parse_units("1"))
    assert reading.is_crossed
    assert reading.spread == D("-0.01")
    assert reading.ask_count == 2
    reading.set_level(Side.BID, parse_units("0.53"), 0)
    reading.set_level(Side.BID, parse_units("0.52"), parse_units("1"))
    assert reading.is_crossed, "a locked book counts as crossed"


def test_removing_an_absent_level_and_repeating_a_change_are_normal() -> None:
    reading = book()
    reading.set_level(Side.ASK, parse_units("0.7"), 0)
    reading.set_level(Side.BID, parse_units("0.48"), parse_units("5"))
    assert reading == book()


def test_a_snapshot_replaces_every_level_in_any_order() -> None:
    reading = book()
    reading.replace(units(("0.2", "1"), ("0.1", "2")), units(("0.8", "1"), ("0.9", "2")))
    assert [level.price for level in reading.bids] == [D("0.2"), D("0.1")]
    assert [level.price for level in reading.asks] == [D("0.8"), D("0.9")]


def test_depth_sums_the_shares_within_a_price_range() -> None:
    reading = book()
    assert reading.depth(Side.BID, D("0.47"), D("0.48")) == D("15")
    assert reading.depth(Side.ASK, D("0.5"), D("0.529")) == D("3")
    assert reading.depth(Side.ASK, D(0), D(1)) == D("23.5")
    with pytest.raises(ValueError, match="non-negative"):
        reading.depth(Side.ASK, D(-1), D(1))


def test_the_price_to_fill_is_the_average_over_the_levels_taken() -> None:
    reading = book()
    assert reading.price_to_fill(Side.ASK, D(3)) == D("0.52")
    assert reading.price_to_fill(Side.ASK, D(4)) == D("0.5225")
    assert reading.price_to_fill(Side.BID, D(15)) == D("7.1") / 15
    assert reading.price_to_fill(Side.ASK, D("23.5")) is not None
    assert reading.price_to_fill(Side.ASK, D("23.51")) is None


def test_the_price_to_fill_is_rounded_alike_for_every_caller() -> None:
    with localcontext() as context:
        context.prec = 3
        assert str(book().price_to_fill(Side.BID, D(15))) == "0.4733333333333333333333333333"


@pytest.mark.parametrize("size", ["0", "-1", "NaN", "Infinity"])
def test_a_size_to_fill_must_be_above_zero(size: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        book().price_to_fill(Side.ASK, D(size))


def test_the_wire_gets_its_own_order_and_minimal_text() -> None:
    assert book().to_wire() == {
        "bids": [{"price": "0.47", "size": "10"}, {"price": "0.48", "size": "5"}],
        "asks": [{"price": "0.53", "size": "20.5"}, {"price": "0.52", "size": "3"}],
    }


def test_the_mirror_is_the_complement_book() -> None:
    mirror = book().mirror("2")
    assert mirror.token == "2"
    assert mirror.market == "0x1"
    assert mirror.bids == (Level(D("0.48"), D("3")), Level(D("0.47"), D("20.5")))
    assert mirror.asks == (Level(D("0.52"), D("5")), Level(D("0.53"), D("10")))


def test_a_view_stays_as_it_was_while_the_book_goes_on() -> None:
    reading = book()
    view = reading.view()
    reading.set_level(Side.BID, PRICE_ONE // 4, 1)
    assert view == book()
    assert view != reading
    assert view.best_bid == Level(D("0.48"), D("5"))
    assert hash(view) == hash(book().view())
    for name, value in (("token", "2"), ("bids", ()), ("anything", 1)):
        with pytest.raises(AttributeError):
            setattr(view, name, value)
    assert not hasattr(view, "set_level")
    assert not hasattr(view, "replace")


def test_a_copy_is_independent() -> None:
    reading = book()
    twin = reading.copy()
    twin.set_level(Side.ASK, parse_units("0.52"), 0)
    assert reading == book()
    assert twin != reading


def test_books_are_equal_by_levels_alone() -> None:
    assert OrderBook("1", "0x1", [(1, 2)]) == OrderBook("2", "0x2", [(1, 2)])
    assert OrderBook("1", "0x1", [(1, 2)]) != OrderBook("1", "0x1", [], [(1, 2)])
    assert OrderBook("1", "0x1") != "a book"
    with pytest.raises(TypeError, match="unhashable"):
        hash(book())


def test_the_repr_is_python_that_makes_it_again() -> None:
    reading = book()
    assert eval(repr(reading)) == reading
    view = eval(repr(reading.view()))
    assert isinstance(view, BookView)
    assert view == reading
    assert view.token == "1"
