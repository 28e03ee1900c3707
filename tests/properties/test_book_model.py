"""The order book against the plainest model there is: a dictionary of Decimals per side."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from polyactors.book.numbers import PRICE_ONE, Side, parse_units, to_decimal, to_units
from polyactors.book.orderbook import Level, OrderBook
from polyactors.testing import order_books, prices, sizes

SIDES = st.sampled_from(list(Side))
# Few prices, so that levels meet; both grids, since a tick may change while levels stay.
PRICES = st.one_of(st.integers(44, 56).map(lambda n: Decimal(n) / 100), prices(Decimal("0.001")))
LEVELS = st.lists(st.tuples(PRICES, st.one_of(st.just(Decimal(0)), sizes())), max_size=12)


def units(levels: list[tuple[Decimal, Decimal]]) -> list[tuple[int, int]]:
    return [(to_units(price), to_units(size)) for price, size in levels]


class BookAgainstDicts(RuleBasedStateMachine):
    touched = Bundle("touched")

    @initialize()
    def start(self) -> None:
        self.book = OrderBook("1", "0x1")
        self.model: dict[Side, dict[Decimal, Decimal]] = {Side.BID: {}, Side.ASK: {}}

    @rule(bids=LEVELS, asks=LEVELS)
    def snapshot(
        self, bids: list[tuple[Decimal, Decimal]], asks: list[tuple[Decimal, Decimal]]
    ) -> None:
        self.book.replace(units(bids), units(asks))
        for side, levels in ((Side.BID, bids), (Side.ASK, asks)):
            self.model[side] = {price: size for price, size in dict(levels).items() if size}

    @rule(target=touched, side=SIDES, price=PRICES, size=sizes())
    def set_level(self, side: Side, price: Decimal, size: Decimal) -> tuple[Side, Decimal]:
        self.book.set_level(side, to_units(price), to_units(size))
        self.model[side][price] = size
        return side, price

    @rule(level=touched, size=sizes())
    def set_again(self, level: tuple[Side, Decimal], size: Decimal) -> None:
        self.set_level(*level, size)

    @rule(level=touched)
    def remove(self, level: tuple[Side, Decimal]) -> None:
        side, price = level
        self.book.set_level(side, to_units(price), 0)
        self.model[side].pop(price, None)

    @rule(side=SIDES, price=PRICES)
    def remove_anything(self, side: Side, price: Decimal) -> None:
        self.remove((side, price))

    @rule()
    def empty_snapshot(self) -> None:
        self.snapshot([], [])

    @rule()
    def go_on_with_a_copy(self) -> None:
        left_behind, self.book = self.book, self.book.copy()
        left_behind.replace([(1, 1)], [(2, 2)])

    @rule()
    def go_on_with_the_mirror_of_the_mirror(self) -> None:
        self.book = self.book.mirror("2").mirror("1")

    @invariant()
    def levels_are_those_of_the_model_best_first(self) -> None:
        bids, asks = self.model[Side.BID], self.model[Side.ASK]
        assert [(level.price, level.size) for level in self.book.bids] == sorted(
            bids.items(), reverse=True
        )
        assert [(level.price, level.size) for level in self.book.asks] == sorted(asks.items())
        assert (self.book.bid_count, self.book.ask_count) == (len(bids), len(asks))

    @invariant()
    def best_bid_is_the_maximum_and_best_ask_the_minimum(self) -> None:
        bids, asks = self.model[Side.BID], self.model[Side.ASK]
        best_bid = Level(max(bids), bids[max(bids)]) if bids else None
        best_ask = Level(min(asks), asks[min(asks)]) if asks else None
        assert self.book.best_bid == best_bid
        assert self.book.best_ask == best_ask
        assert self.book.best_bid_units == (to_units(max(bids)) if bids else None)
        assert self.book.best_ask_units == (to_units(min(asks)) if asks else None)
        if best_bid and best_ask:
            assert self.book.spread == best_ask.price - best_bid.price
            assert self.book.midpoint == (best_ask.price + best_bid.price) / 2
            assert self.book.is_crossed == (best_bid.price >= best_ask.price)
        else:
            assert self.book.spread is None
            assert self.book.midpoint is None
            assert not self.book.is_crossed

    @invariant()
    def sizes_are_above_zero(self) -> None:
        assert all(level.size > 0 for level in (*self.book.bids, *self.book.asks))

    @invariant()
    def the_wire_and_back_is_the_identity(self) -> None:
        wire = self.book.to_wire()
        bids, asks = (
            [(parse_units(level["price"]), parse_units(level["size"])) for level in wire[name]]
            for name in ("bids", "asks")
        )
        assert bids == sorted(bids)
        assert asks == sorted(asks, reverse=True)
        assert OrderBook("1", "0x1", bids, asks) == self.book
        assert OrderBook("1", "0x1", bids, asks).to_wire() == wire

    @invariant()
    def yes_and_no_mirror_exactly(self) -> None:
        mirror = self.book.mirror("2")
        assert [(1 - level.price, level.size) for level in mirror.asks] == [
            (level.price, level.size) for level in self.book.bids
        ]
        assert [(1 - level.price, level.size) for level in mirror.bids] == [
            (level.price, level.size) for level in self.book.asks
        ]
        assert mirror.is_crossed == self.book.is_crossed
        assert mirror.spread == self.book.spread
        assert mirror.mirror("1") == self.book

    @invariant()
    def a_view_reads_as_the_book_does(self) -> None:
        view = self.book.view()
        assert view == self.book
        assert view.top(3) == self.book.top(3) == (self.book.bids[:3], self.book.asks[:3])
        assert eval(repr(self.book)) == self.book


TestBookAgainstDicts = BookAgainstDicts.TestCase
TestBookAgainstDicts.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


def price_to_fill_naively(levels: tuple[Level, ...], size: Decimal) -> Fraction | None:
    """Buy one hundredth of a share after the other."""
    hundredths = [price for price, size in levels_of(levels) for _ in range(int(size * 100))]
    wanted = int(size * 100)
    if len(hundredths) < wanted:
        return None
    return sum((Fraction(price) for price in hundredths[:wanted]), Fraction(0)) / wanted


def levels_of(levels: tuple[Level, ...]) -> list[tuple[Decimal, Decimal]]:
    return [(level.price, level.size) for level in levels]


SMALL_LEVELS = st.dictionaries(
    prices(), st.integers(1, 300).map(lambda n: Decimal(n) / 100), max_size=6
)


@given(side=SIDES, levels=SMALL_LEVELS, hundredths=st.integers(1, 1000))
@settings(deadline=None)
def test_the_price_to_fill_is_that_of_buying_bit_by_bit(
    side: Side, levels: dict[Decimal, Decimal], hundredths: int
) -> None:
    pairs = units(list(levels.items()))
    book = OrderBook("1", "0x1", *((pairs, []) if side is Side.BID else ([], pairs)))
    best_first = book.bids if side is Side.BID else book.asks
    size = Decimal(hundredths) / 100
    expected = price_to_fill_naively(best_first, size)
    actual = book.price_to_fill(side, size)
    if expected is None:
        assert actual is None
        return
    assert actual is not None
    # Rounded to 28 digits: half a unit of the 28th, and never out of the levels' range.
    assert abs(Fraction(actual) - expected) <= expected * Fraction(1, 2 * 10**27)
    taken_worst = best_first[-1].price
    best = best_first[0].price
    assert min(best, taken_worst) <= actual <= max(best, taken_worst)


@given(book=order_books(), side=SIDES, low=prices(), high=prices())
@settings(deadline=None)
def test_depth_is_the_sum_over_the_levels_in_range(
    book: OrderBook, side: Side, low: Decimal, high: Decimal
) -> None:
    levels = book.bids if side is Side.BID else book.asks
    expected = sum((level.size for level in levels if low <= level.price <= high), Decimal(0))
    assert book.depth(side, low, high) == expected
    assert book.depth(side, Decimal(0), to_decimal(PRICE_ONE)) == sum(
        (level.size for level in levels), Decimal(0)
    )
