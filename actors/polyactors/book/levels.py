"""One side of a book: price levels kept sorted, the best one at hand."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, MutableSequence

from polyactors.book.numbers import PRICE_ONE, Side

Levels = Mapping[int, int] | Iterable[tuple[int, int]]
"""Sizes by price, or pairs of price and size; all in units."""


class BookSide:
    """The levels of one side, as (price, size) in units; mutable, exact.

    Prices are sorted in a list with their sizes alongside, ascending on both sides: a change
    costs one binary search, the best level nothing, and an order of levels is never rebuilt.
    A level takes 16 bytes, as prices are few and the codec hands out the same integers again,
    and sizes are integers of 64 bits. A side with a greater size (9.2 billion shares) keeps its
    sizes in a list.
    """

    __slots__ = ("_sizes", "prices", "side")

    def __init__(self, side: Side, levels: Levels = ()) -> None:
        self.side = side
        self.prices: list[int] = []
        """Ascending; to be read, not changed."""
        self._sizes: MutableSequence[int] = array("q")
        self.replace(levels)

    def replace(self, levels: Levels) -> None:
        """Forget every level and take these, in any order.

        Zero sizes are no levels. When a price stands there twice, its last size counts.
        """
        by_price = dict(levels)
        prices = sorted(by_price)
        sizes = list(map(by_price.__getitem__, prices))
        assert min(sizes, default=0) >= 0, "a size is never negative"
        if 0 in sizes:
            prices = [price for price in prices if by_price[price]]
            sizes = [size for size in sizes if size]
        self.prices = prices
        self._sizes = _compact(sizes)

    def set(self, price: int, size: int) -> None:
        """Give the level at `price` the absolute `size`; 0 removes it, also when absent."""
        assert size >= 0, "a size is never negative"
        prices = self.prices
        index = bisect_left(prices, price)
        try:
            if index < len(prices) and prices[index] == price:
                if size:
                    self._sizes[index] = size
                else:
                    del prices[index], self._sizes[index]
            elif size:
                self._sizes.insert(index, size)
                prices.insert(index, price)
        except OverflowError:
            self._sizes = list(self._sizes)
            self.set(price, size)

    @property
    def best(self) -> int | None:
        """The best price: the highest bid, the lowest ask; None when the side is empty."""
        if not self.prices:
            return None
        return self.prices[-1 if self.side is Side.BID else 0]

    def __len__(self) -> int:
        return len(self.prices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (price, size), best first."""
        if self.side is Side.ASK:
            return zip(self.prices, self._sizes, strict=True)
        return zip(reversed(self.prices), reversed(self._sizes), strict=True)

    def wire_levels(self) -> list[tuple[int, int]]:
        """Return (price, size) in the order of the wire: best last."""
        levels = list(zip(self.prices, self._sizes, strict=True))
        return levels if self.side is Side.BID else levels[::-1]

    def size_between(self, low: int, high: int) -> int:
        """The sum of the sizes at prices from `low` to `high`, both included."""
        prices = self.prices
        return sum(self._sizes[bisect_left(prices, low) : bisect_right(prices, high)])

    def cost_of(self, size: int) -> int | None:
        """The sum of price times size of taking `size` best first; None when it holds less.

        Both factors are in units, so the sum is in units squared (1e-18).
        """
        cost = 0
        for price, level_size in self:
            taken = min(size, level_size)
            cost += price * taken
            size -= taken
            if not size:
                return cost
        return None

    def mirrored(self) -> "BookSide":
        """The other side of the complement token: price p becomes 1 - p, the size stays."""
        mirror = BookSide(self.side.opposite)
        mirror.prices = [PRICE_ONE - price for price in reversed(self.prices)]
        mirror._sizes = self._sizes[::-1]
        return mirror

    def copy(self) -> "BookSide":
        """An independent side with the same levels."""
        twin = BookSide(self.side)
        twin.prices = self.prices.copy()
        twin._sizes = self._sizes[:]
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BookSide):
            return NotImplemented
        return self.side is other.side and self.wire_levels() == other.wire_levels()

    def __repr__(self) -> str:
        return f"BookSide({self.side!r}, {self.wire_levels()!r})"


def _compact(sizes: list[int]) -> MutableSequence[int]:
    try:
        return array("q", sizes)
    except OverflowError:
        return sizes
