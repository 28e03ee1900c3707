"""The order book of one token, and the frozen view of it that readers get.

The exchange sends whole books and absolute sizes of single levels; applying them in order is
all there is to it. Whether the result may be believed is not said here: `groups`, `integrity`
and `trust` say that.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import islice
from typing import Self

from attrs import frozen

from polyactors.book.levels import BookSide, Levels
from polyactors.book.numbers import UNITS_PER_ONE, Side, to_decimal, to_text, to_units

_DIVISION = Context(prec=28, rounding=ROUND_HALF_EVEN)
"""Where a quotient has to be rounded it is so for every caller, whatever their own context."""


@frozen
class Level:
    """All orders of one side at one price."""

    price: Decimal
    """USDC per share, in (0, 1)."""
    size: Decimal
    """Shares; greater than 0."""

    def __str__(self) -> str:
        return f"{self.size} @ {self.price}"


class _Book:
    """What can be read of a book. Best levels come first, unless a name says `wire`."""

    __slots__ = ("_market", "_token", "ask_side", "bid_side")

    def __init__(
        self,
        token: str,
        market: str,
        bids: Levels = (),
        asks: Levels = (),
    ) -> None:
        self._token = token
        self._market = market
        # Both are for who needs speed, to be read; a side of an OrderBook also to be set.
        self.bid_side = BookSide(Side.BID, bids)
        self.ask_side = BookSide(Side.ASK, asks)

    @classmethod
    def _of(cls, token: str, market: str, bids: BookSide, asks: BookSide) -> Self:
        book = cls.__new__(cls)
        book._token = token
        book._market = market
        book.bid_side = bids
        book.ask_side = asks
        return book

    @property
    def token(self) -> str:
        """ERC-1155 token id, decimal digits."""
        return self._token

    @property
    def market(self) -> str:
        """Condition id of the market, 0x and 64 hex digits."""
        return self._market

    @property
    def best_bid_units(self) -> int | None:
        """The highest bid price in units; None when nobody bids."""
        return self.bid_side.best

    @property
    def best_ask_units(self) -> int | None:
        """The lowest ask price in units; None when nobody asks."""
        return self.ask_side.best

    @property
    def best_bid(self) -> Level | None:
        """The highest bid; None when nobody bids."""
        return next(iter(self._levels(Side.BID, 1)), None)

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask; None when nobody asks."""
        return next(iter(self._levels(Side.ASK, 1)), None)

    @property
    def spread(self) -> Decimal | None:
        """Best ask minus best bid, exact; negative while crossed, None with a side empty."""
        bid, ask = self.best_bid_units, self.best_ask_units
        return None if bid is None or ask is None else to_decimal(ask - bid)

    @property
    def midpoint(self) -> Decimal | None:
        """Half of best bid plus best ask, exact (10 decimals at most); None as for `spread`."""
        bid, ask = self.best_bid_units, self.best_ask_units
        if bid is None or ask is None:
            return None
        return _DIVISION.divide(Decimal(bid + ask), Decimal(2 * UNITS_PER_ONE))

    @property
    def is_crossed(self) -> bool:
        """Whether best bid >= best ask (locked counts): normal only inside an engine step."""
        bid, ask = self.best_bid_units, self.best_ask_units
        return bid is not None and ask is not None and bid >= ask

    @property
    def bids(self) -> tuple[Level, ...]:
        """All bids, highest first."""
        return self._levels(Side.BID)

    @property
    def asks(self) -> tuple[Level, ...]:
        """All asks, lowest first."""
        return self._levels(Side.ASK)

    @property
    def bid_count(self) -> int:
        """How many bid levels there are."""
        return len(self.bid_side)

    @property
    def ask_count(self) -> int:
        """How many ask levels there are."""
        return len(self.ask_side)

    def top(self, count: int) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """The `count` best bids and the `count` best asks, fewer where there are fewer."""
        return self._levels(Side.BID, count), self._levels(Side.ASK, count)

    def depth(self, side: Side, low: Decimal, high: Decimal) -> Decimal:
        """Shares on `side` at prices from `low` to `high`, both included; exact.

        Raises:
            ValueError: a price is negative, not finite, or has more than 9 decimals.
        """
        return to_decimal(self._side(side).size_between(to_units(low), to_units(high)))

    def price_to_fill(self, side: Side, size: Decimal) -> Decimal | None:
        """The average price per share for a taker to fill `size` against `side`.

        A buyer fills against Side.ASK, a seller against Side.BID. None when the side holds
        less than `size`. The sum is exact; its quotient by the size is rounded half-even to
        28 significant digits only when it has more.

        Raises:
            ValueError: `size` is not above 0, not finite, or has more than 9 decimals.
        """
        units = to_units(size)
        if not units:
            raise ValueError("a size to fill is greater than 0")
        cost = self._side(side).cost_of(units)
        if cost is None:
            return None
        return _DIVISION.divide(Decimal(cost), Decimal(units * UNITS_PER_ONE))

    @property
    def wire_bids(self) -> list[tuple[int, int]]:
        """Bids as (price, size) in units, in the order of the wire: ascending, best last."""
        return self.bid_side.wire_levels()

    @property
    def wire_asks(self) -> list[tuple[int, int]]:
        """Asks as (price, size) in units, in the order of the wire: descending, best last."""
        return self.ask_side.wire_levels()

    def to_wire(self) -> dict[str, list[dict[str, str]]]:
        """The fields `bids` and `asks` of a wire book: its order, its minimal decimal text."""
        return {"bids": _wire_dicts(self.wire_bids), "asks": _wire_dicts(self.wire_asks)}

    def mirror(self, token: str) -> Self:
        """The book of the market's other token: a bid at p is there an ask at 1 - p."""
        return self._of(token, self._market, self.ask_side.mirrored(), self.bid_side.mirrored())

    def __eq__(self, other: object) -> bool:
        """Whether the levels are the same, whatever the tokens; books and views compare."""
        if not isinstance(other, _Book):
            return NotImplemented
        return self.bid_side == other.bid_side and self.ask_side == other.ask_side

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._token!r}, {self._market!r},"
            f" {self.wire_bids!r}, {self.wire_asks!r})"
        )

    def __str__(self) -> str:
        bid, ask = self.best_bid, self.best_ask
        top = f"{bid.price if bid else '-'}/{ask.price if ask else '-'}"
        return f"{self.token} {top} ({self.bid_count} bids, {self.ask_count} asks)"

    def _side(self, side: Side) -> BookSide:
        if side is Side.BID:
            return self.bid_side
        if side is Side.ASK:
            return self.ask_side
        raise TypeError(f"expected Side.BID or Side.ASK, not {side!r}")

    def _levels(self, side: Side, count: int | None = None) -> tuple[Level, ...]:
        return tuple(
            Level(to_decimal(price), to_decimal(size))
            for price, size in islice(self._side(side), count)
        )


class BookView(_Book):
    """A book as it was at one moment: it never changes and can be handed to anyone."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash((tuple(self.wire_bids), tuple(self.wire_asks)))


class OrderBook(_Book):
    """The book of one token, kept current; owned and changed by one task.

    `bids` and `asks` are (price, size) pairs in units, in any order; prices lie in
    (0, PRICE_ONE), which the codec makes sure of.
    """

    __slots__ = ()

    def replace(self, bids: Levels, asks: Levels) -> None:
        """Take a fresh book, an empty one too: no level from before remains.

        Pairs are (price, size) in units, in any order. Zero sizes are no levels; when a
        price stands there twice, its last size counts.
        """
        self.bid_side.replace(bids)
        self.ask_side.replace(asks)

    def set_level(self, side: Side, price: int, size: int) -> None:
        """Give one level its new absolute size, in units.

        Size 0 removes the level. Removing an absent one, and setting a size that is there
        already, are normal on the wire and change nothing.
        """
        self._side(side).set(price, size)

    def view(self) -> BookView:
        """A frozen copy of this moment."""
        return BookView._of(self._token, self._market, self.bid_side.copy(), self.ask_side.copy())

    def copy(self) -> "OrderBook":
        """An independent book with the same levels."""
        return self._of(self._token, self._market, self.bid_side.copy(), self.ask_side.copy())


def _wire_dicts(levels: list[tuple[int, int]]) -> list[dict[str, str]]:
    return [{"price": to_text(price), "size": to_text(size)} for price, size in levels]
