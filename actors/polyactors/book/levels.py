"""One side of a book: price levels kept sorted, the best one at hand."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from polyactors.book.numbers import PRICE_ONE, Side


class BookSide:
    """The levels of one side, as (price, size) in units; mutable, exact.

    Prices live in a sorted list with their sizes alongside: a change costs one binary search,
    the best level nothing, and an order of levels is never rebuilt. Prices of asks are kept
    negated, so that on both sides the best level is the last and the wire's order (worst
    first) is the order in memory.
    """

    __slots__ = ("_keys", "_sign", "_sizes", "side")

    def __init__(self, side: Side, levels: Iterable[tuple[int, int]] = ()) -> None:
        self.side = side
        self._sign = 1 if side is Side.BID else -1
        self._keys: list[int] = []
        self._sizes: list[int] = []
        self.replace(levels)

    def replace(self, levels: Iterable[tuple[int, int]]) -> None:
        """Forget every level and take these, in any order.

        Zero sizes are no levels. When a price stands there twice, its last size counts.
        """
        sign = self._sign
        sizes = {price * sign: size for price, size in levels}
        assert min(sizes.values(), default=0) >= 0, "a size is never negative"
        self._keys = sorted(key for key, size in sizes.items() if size)
        self._sizes = [sizes[key] for key in self._keys]

    def set(self, price: int, size: int) -> None:
        """Give the level at `price` the absolute `size`; 0 removes it, also when absent."""
        assert size >= 0, "a size is never negative"
        key = price * self._sign
        keys = self._keys
        index = bisect_left(keys, key)
        if index < len(keys) and keys[index] == key:
            if size:
                self._sizes[index] = size
            else:
                del keys[index]
                del self._sizes[index]
        elif size:
            keys.insert(index, key)
            self._sizes.insert(index, size)

    @property
    def best(self) -> int | None:
        """The best price: the highest bid, the lowest ask; None when the side is empty."""
        return self._keys[-1] * self._sign if self._keys else None

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (price, size), best first."""
        sign = self._sign
        for key, size in zip(reversed(self._keys), reversed(self._sizes), strict=True):
            yield key * sign, size

    def wire_levels(self) -> list[tuple[int, int]]:
        """Return (price, size) in the order of the wire: best last."""
        sign = self._sign
        return [(key * sign, size) for key, size in zip(self._keys, self._sizes, strict=True)]

    def size_between(self, low: int, high: int) -> int:
        """The sum of the sizes at prices from `low` to `high`, both included."""
        first, last = (low, high) if self._sign > 0 else (-high, -low)
        return sum(self._sizes[bisect_left(self._keys, first) : bisect_right(self._keys, last)])

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
        shift = -self._sign * PRICE_ONE
        mirror._keys = [key + shift for key in self._keys]
        mirror._sizes = self._sizes.copy()
        return mirror

    def copy(self) -> "BookSide":
        """An independent side with the same levels."""
        twin = BookSide(self.side)
        twin._keys = self._keys.copy()
        twin._sizes = self._sizes.copy()
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BookSide):
            return NotImplemented
        return (self.side, self._keys, self._sizes) == (other.side, other._keys, other._sizes)

    def __repr__(self) -> str:
        return f"BookSide({self.side!r}, {self.wire_levels()!r})"
