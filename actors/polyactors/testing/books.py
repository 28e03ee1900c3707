"""Hypothesis strategies for order books: test your own strategy on any book there can be.

`book_histories` draws the life of one token's book as the exchange would send it: a first
book, then engine steps with their hash groups and right hashes. Needs `hypothesis`.

    >>> from hypothesis import given
    >>> from polyactors.testing import book_histories
    >>> @given(book_histories())
    ... def test_a_settled_book_is_never_crossed(history):
    ...     for book in history.books():
    ...         assert not book.is_crossed
    >>> test_a_settled_book_is_never_crossed()
"""

from collections import deque
from collections.abc import Iterator
from decimal import Decimal

from attrs import evolve, frozen
from hypothesis import strategies as st

from polyactors.book.integrity import book_hash
from polyactors.book.numbers import PRICE_ONE, UNITS_PER_ONE, Side, to_decimal, to_units
from polyactors.book.orderbook import Level, OrderBook
from polyactors.protocol.events import BookSnapshot, LevelChange, MarketEvent, PriceChange

TICK_SIZE = Decimal("0.01")
"""The tick of most markets."""
LEVELS_MAX = 8
"""Levels a side that a drawn book starts with."""
STEPS_MAX = 8
"""Engine steps of a drawn history."""
CHANGES_MAX = 4
"""Level changes that a drawn step asks for; levels that it trades away come on top."""

_SIDES = (Side.BID, Side.ASK)
_EPOCH_MS = 1_700_000_000_000


@frozen
class BookStep:
    """One step of the matching engine: one hash group."""

    messages: tuple[PriceChange, ...]
    """What the exchange sends of the step, in order; all carry its hash."""
    after: BookSnapshot
    """The book when the step is done."""
    fresh: bool
    """Whether the exchange then sends `after` too, as it does after trades."""

    @property
    def changes(self) -> tuple[LevelChange, ...]:
        """The entries of all messages, in order."""
        return tuple(change for message in self.messages for change in message.changes)


@frozen
class BookHistory:
    """The life of one token's book: its repr is Python that makes it again."""

    first: BookSnapshot
    """The book as first sent, with tick size and last trade price."""
    steps: tuple[BookStep, ...]
    tick_size: str
    """The hash inputs that the levels do not hold, as on the wire; they never change here."""
    last_trade_price: str
    min_order_size: str
    neg_risk: bool

    @property
    def token(self) -> str:
        """The token id, decimal digits."""
        return self.first.token

    @property
    def market(self) -> str:
        """The condition id."""
        return self.first.market

    def events(self) -> Iterator[MarketEvent]:
        """All that the exchange sends, in order."""
        yield self.first
        for step in self.steps:
            yield from step.messages
            if step.fresh:
                yield step.after

    def books(self) -> Iterator[OrderBook]:
        """The book at first and after each step, by applying what is sent; yours to keep."""
        book = OrderBook(self.token, self.market)
        apply_event(book, self.first)
        yield book.copy()
        for step in self.steps:
            for message in step.messages:
                apply_event(book, message)
            if step.fresh:
                apply_event(book, step.after)
            yield book.copy()

    def hash_of(self, book: OrderBook, timestamp_ms: int) -> str:
        """The hash that the exchange states for `book` at this time."""
        return book_hash(
            market=self.market,
            token=self.token,
            timestamp_ms=timestamp_ms,
            bids=book.wire_bids,
            asks=book.wire_asks,
            min_order_size=self.min_order_size,
            tick_size=self.tick_size,
            neg_risk=self.neg_risk,
            last_trade_price=self.last_trade_price,
        )


def apply_event(book: OrderBook, event: MarketEvent) -> None:
    """Change `book` as `event` says; what is no change of this token's levels is passed by."""
    if isinstance(event, BookSnapshot):
        if event.token == book.token:
            book.replace(event.bids, event.asks)
    elif isinstance(event, PriceChange):
        for change in event.changes:
            if change.token == book.token:
                book.set_level(change.side, change.price, change.size)


def prices(tick_size: Decimal = TICK_SIZE) -> st.SearchStrategy[Decimal]:
    """Valid prices of a market: multiples of the tick from one tick to one tick below 1."""
    return st.integers(1, _price_count(tick_size)).map(
        lambda n: to_decimal(n * to_units(tick_size))
    )


def sizes() -> st.SearchStrategy[Decimal]:
    """Sizes of levels: 0.01 to 1,000,000 shares with at most two decimals, never 0."""
    return _size_units().map(to_decimal)


def levels(tick_size: Decimal = TICK_SIZE) -> st.SearchStrategy[Level]:
    """Single levels of a valid price and size."""
    return st.builds(Level, price=prices(tick_size), size=sizes())


@st.composite
def order_books(draw: st.DrawFn, tick_size: Decimal = TICK_SIZE) -> OrderBook:
    """Books at rest: never crossed, one or both sides possibly empty."""
    tick = to_units(tick_size)
    count = _price_count(tick_size)
    # Bids lie at or below the split and asks above it, so that no draw has to be thrown away.
    split = draw(st.integers(0, count))
    bids = (
        draw(st.dictionaries(st.integers(1, split), _size_units(), max_size=LEVELS_MAX))
        if split
        else {}
    )
    asks = (
        draw(st.dictionaries(st.integers(split + 1, count), _size_units(), max_size=LEVELS_MAX))
        if split < count
        else {}
    )
    return OrderBook(
        str(draw(st.integers(1, 2**256 - 1))),
        f"0x{draw(st.integers(0, 2**256 - 1)):064x}",
        [(number * tick, size) for number, size in bids.items()],
        [(number * tick, size) for number, size in asks.items()],
    )


@st.composite
def book_histories(draw: st.DrawFn, tick_size: Decimal = TICK_SIZE) -> BookHistory:
    """Histories of one token's book, as the exchange would send them, with right hashes.

    Steps place, resize and remove levels, also absent ones; an order that crosses takes the
    levels that it meets away, so a book may be crossed inside a step and never after it.
    Several steps may share a millisecond. Some steps end in a fresh `book`.
    """
    book = draw(order_books(tick_size))
    timestamp_ms = _EPOCH_MS + draw(st.integers(0, 10**9))
    empty = BookSnapshot(book.token, book.market, {}, {}, "", timestamp_ms)
    history = BookHistory(
        first=empty,
        steps=(),
        tick_size=str(tick_size),
        last_trade_price=draw(st.sampled_from(["", "0.500", "0.042"])),
        min_order_size="5",
        neg_risk=draw(st.booleans()),
    )
    first = evolve(
        _snapshot(history, book, timestamp_ms),
        tick_size=history.tick_size,
        last_trade_price=history.last_trade_price,
    )
    steps: list[BookStep] = []
    previous = first
    for wanted in draw(st.lists(_wanted_changes(tick_size), max_size=STEPS_MAX)):
        changes = _change_levels(book, wanted)
        timestamp_ms += draw(st.integers(0, 2))
        after = _snapshot(history, book, timestamp_ms)
        if after.hash == previous.hash:  # a step that changed nothing is its own step still
            timestamp_ms += 1
            after = _snapshot(history, book, timestamp_ms)
        messages = tuple(_message(after, [change]) for change in changes)
        steps.append(BookStep(messages, after, fresh=draw(st.booleans())))
        previous = after
    return evolve(history, first=first, steps=tuple(steps))


@st.composite
def interleavings(draw: st.DrawFn, history: BookHistory) -> BookHistory:
    """The same history, sent in any other way that the protocol allows.

    After each step the book is the same. Within a step, changes of different levels come in
    any order and are cut into messages anywhere; entries are repeated, and all messages of
    the step too; absent levels are removed; a step may end in a fresh `book` that had none.
    """
    before = history.first
    steps: list[BookStep] = []
    for step in history.steps:
        changes = _reorder(draw, step.changes)
        changes = [c for change in changes for c in [change] * draw(st.sampled_from([1, 1, 2]))]
        for absent in _absent_removals(draw, history, before, step):
            changes.insert(draw(st.integers(0, len(changes))), absent)
        messages: list[PriceChange] = []
        while changes:
            size = draw(st.integers(1, len(changes)))
            messages.append(_message(step.after, changes[:size]))
            changes = changes[size:]
        messages *= draw(st.sampled_from([1, 1, 2]))
        fresh = step.fresh or draw(st.booleans())
        steps.append(BookStep(tuple(messages), step.after, fresh))
        before = step.after
    return evolve(history, steps=tuple(steps))


@frozen
class _Wanted:
    """A change that a step asks for, before it is known which levels there are."""

    side: Side
    existing: bool
    """Of the level that is the `number`-th from the best, when the side has levels."""
    number: int
    price: int
    """Otherwise of the level at this price, in units."""
    size: int


def _wanted_changes(tick_size: Decimal) -> st.SearchStrategy[list[_Wanted]]:
    wanted = st.builds(
        _Wanted,
        side=st.sampled_from(_SIDES),
        existing=st.booleans(),
        number=st.integers(0, LEVELS_MAX),
        price=prices(tick_size).map(to_units),
        size=st.one_of(st.just(0), _size_units()),
    )
    return st.lists(wanted, min_size=1, max_size=CHANGES_MAX)


def _change_levels(book: OrderBook, wanted: list[_Wanted]) -> list[tuple[Side, int, int]]:
    """Carry out a step on `book`; return its (side, price, size) entries, in order."""
    changes: list[tuple[Side, int, int]] = []
    resting = Side.BID
    for want in wanted:
        there = book.wire_bids if want.side is Side.BID else book.wire_asks
        price = there[-1 - want.number % len(there)][0] if want.existing and there else want.price
        changes.append((want.side, price, want.size))
        book.set_level(want.side, price, want.size)
        if want.size:
            resting = want.side
    # The exchange announces what rests first and removes what was taken afterwards.
    while book.is_crossed:
        taken = book.best_ask_units if resting is Side.BID else book.best_bid_units
        assert taken is not None, "a crossed book has both sides"
        changes.append((resting.opposite, taken, 0))
        book.set_level(resting.opposite, taken, 0)
    return changes


def _snapshot(history: BookHistory, book: OrderBook, timestamp_ms: int) -> BookSnapshot:
    return BookSnapshot(
        token=book.token,
        market=book.market,
        bids=dict(book.wire_bids),
        asks=dict(book.wire_asks),
        hash=history.hash_of(book, timestamp_ms),
        timestamp_ms=timestamp_ms,
    )


def _message(after: BookSnapshot, changes: list[tuple[Side, int, int]]) -> PriceChange:
    best_bid = max(after.bids, default=0)
    best_ask = min(after.asks, default=PRICE_ONE)
    return PriceChange(
        after.market,
        after.timestamp_ms,
        tuple(
            LevelChange(after.token, side, price, size, after.hash, best_bid, best_ask)
            for side, price, size in changes
        ),
    )


def _reorder(draw: st.DrawFn, changes: tuple[LevelChange, ...]) -> list[tuple[Side, int, int]]:
    """Any order of the entries in which those of one level keep theirs: its last size counts."""
    by_level: dict[tuple[Side, int], deque[int]] = {}
    for change in changes:
        by_level.setdefault((change.side, change.price), deque()).append(change.size)
    order = draw(st.permutations([(change.side, change.price) for change in changes]))
    return [(*level, by_level[level].popleft()) for level in order]


def _absent_removals(
    draw: st.DrawFn, history: BookHistory, before: BookSnapshot, step: BookStep
) -> list[tuple[Side, int, int]]:
    """Removals of levels that are not there before the step and not touched by it."""
    there = {(Side.BID, price) for price in before.bids}
    there |= {(Side.ASK, price) for price in before.asks}
    there |= {(change.side, change.price) for change in step.changes}
    level = st.tuples(st.sampled_from(_SIDES), prices(Decimal(history.tick_size)).map(to_units))
    absent = draw(st.lists(level, max_size=2))
    return [(side, price, 0) for side, price in absent if (side, price) not in there]


def _size_units() -> st.SearchStrategy[int]:
    hundredth = UNITS_PER_ONE // 100
    return st.integers(1, 100_000_000).map(lambda hundredths: hundredths * hundredth)


def _price_count(tick_size: Decimal) -> int:
    tick = to_units(tick_size)
    if not 0 < tick <= PRICE_ONE // 2:
        raise ValueError(f"a tick size is above 0 and at most 0.5, was {tick_size}")
    return PRICE_ONE // tick - 1
