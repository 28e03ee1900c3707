import pytest

from polyactors.book.levels import BookSide
from polyactors.book.numbers import PRICE_ONE, Side

CENT = PRICE_ONE // 100


def test_bids_are_best_at_the_highest_price_and_asks_at_the_lowest() -> None:
    levels = [(40 * CENT, 1), (48 * CENT, 2), (44 * CENT, 3)]
    bids, asks = BookSide(Side.BID, levels), BookSide(Side.ASK, levels)
    assert bids.best == 48 * CENT
    assert asks.best == 40 * CENT
    assert list(bids) == [(48 * CENT, 2), (44 * CENT, 3), (40 * CENT, 1)]
    assert list(asks) == list(reversed(list(bids)))


def test_the_wire_has_the_best_level_last() -> None:
    levels = [(44 * CENT, 3), (40 * CENT, 1), (48 * CENT, 2)]
    assert [price for price, _ in BookSide(Side.BID, levels).wire_levels()] == [
        40 * CENT,
        44 * CENT,
        48 * CENT,
    ]
    assert [price for price, _ in BookSide(Side.ASK, levels).wire_levels()] == [
        48 * CENT,
        44 * CENT,
        40 * CENT,
    ]


def test_an_empty_side_has_no_best() -> None:
    side = BookSide(Side.ASK)
    assert side.best is None
    assert len(side) == 0
    assert side.cost_of(1) is None


@pytest.mark.parametrize("side", list(Side))
def test_a_size_replaces_and_zero_removes(side: Side) -> None:
    levels = BookSide(side, [(5, 10)])
    levels.set(5, 7)
    assert list(levels) == [(5, 7)]
    levels.set(5, 0)
    assert list(levels) == []
    levels.set(5, 0)
    assert list(levels) == []


@pytest.mark.parametrize("side", list(Side))
def test_replacing_skips_zero_sizes_and_keeps_the_last_of_a_price(side: Side) -> None:
    levels = BookSide(side, [(1, 1)])
    levels.replace([(3, 4), (2, 0), (3, 5), (4, 6), (4, 0)])
    assert list(levels) == [(3, 5)]


def test_a_negative_size_is_our_own_mistake() -> None:
    side = BookSide(Side.BID)
    with pytest.raises(AssertionError):
        side.set(1, -1)
    with pytest.raises(AssertionError):
        side.replace([(1, -1)])


@pytest.mark.parametrize("side", list(Side))
def test_a_price_range_includes_both_its_ends(side: Side) -> None:
    levels = BookSide(side, [(1, 1), (2, 2), (3, 4), (4, 8)])
    assert levels.size_between(2, 3) == 6
    assert levels.size_between(3, 3) == 4
    assert levels.size_between(0, 9) == 15
    assert levels.size_between(5, 9) == 0
    assert levels.size_between(3, 2) == 0


def test_the_cost_of_a_size_takes_the_best_first() -> None:
    assert BookSide(Side.ASK, [(2, 10), (3, 10)]).cost_of(15) == 2 * 10 + 3 * 5
    assert BookSide(Side.BID, [(2, 10), (3, 10)]).cost_of(15) == 3 * 10 + 2 * 5
    assert BookSide(Side.BID, [(2, 10), (3, 10)]).cost_of(20) == 50
    assert BookSide(Side.BID, [(2, 10), (3, 10)]).cost_of(21) is None


def test_a_copy_and_a_mirror_are_independent() -> None:
    side = BookSide(Side.BID, [(40 * CENT, 1)])
    twin, mirror = side.copy(), side.mirrored()
    side.set(40 * CENT, 9)
    assert list(twin) == [(40 * CENT, 1)]
    assert list(mirror) == [(60 * CENT, 1)]
    assert mirror.side is Side.ASK


def test_sides_are_equal_when_side_and_levels_are() -> None:
    assert BookSide(Side.BID, [(1, 2)]) == BookSide(Side.BID, [(1, 2)])
    assert BookSide(Side.BID, [(1, 2)]) != BookSide(Side.BID, [(1, 3)])
    assert BookSide(Side.BID, [(1, 2)]) != BookSide(Side.ASK, [(1, 2)])
    assert BookSide(Side.BID) != []
    side = BookSide(Side.ASK, [(1, 2), (3, 4)])
    assert eval(repr(side)) == side
