"""Hash groups: the entries of one engine step, and what its end proves.

The exchange sends one matching-engine step as several price_change messages. All of them
carry the same hash per token, and the best bid and ask of the *final* state, so a check is
valid only at the end of the group, and nothing marks that end but what comes next: another
hash, a book, or quiet. Until then a mismatch is provisional and the book is not settled.
"""

from attrs import frozen

from polyactors.book.numbers import PRICE_ONE
from polyactors.book.orderbook import OrderBook

QUIET_SECONDS = 0.25
"""A group that heard nothing for so long is closed. Measured gaps inside a group are below a
millisecond, but a group can straddle TCP segments."""


@frozen
class ClosedGroup:
    """The end of one hash group, judged against the local book."""

    hash: str
    """The book hash that the exchange stated; "" in eras without one."""
    timestamp_ms: int
    """The exchange's time of the group's last message."""
    top_ok: bool | None
    """Whether the stated best bid and ask equal the local ones; None when none was stated."""
    crossed: bool
    """Whether the local book is locked or crossed now that the step is complete."""
    is_repeat: bool = False
    """The group had ended by quiet before, and goes on: it is no other one."""


class HashGroup:
    """The group of one token that is open now, or closed."""

    __slots__ = (
        "_is_after_book", "_is_repeat", "best_ask", "best_bid", "hash", "is_open",
        "last_entry_seconds", "timestamp_ms",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_open = False
        self.hash = ""
        self.timestamp_ms = 0
        self.best_bid: int | None = None
        self.best_ask: int | None = None
        self.last_entry_seconds = 0.0
        self._is_after_book = True
        self._is_repeat = False

    def is_ended_by(self, book_hash: str) -> bool:
        """Whether an entry with this hash begins another group while this one is open."""
        return self.is_open and book_hash != self.hash

    def observe(
        self,
        book_hash: str,
        best_bid: int | None,
        best_ask: int | None,
        timestamp_ms: int,
        now_seconds: float,
    ) -> None:
        """Count an entry in. `best_bid`, `best_ask` in units (0 and PRICE_ONE: empty side)."""
        if not self.is_open:
            # Without a hash every run of changes would be a repeat.
            is_same = book_hash != "" and book_hash == self.hash
            self._is_repeat = is_same and not self._is_after_book
        self._is_after_book = False
        self.is_open = True
        self.hash = book_hash
        self.timestamp_ms = timestamp_ms
        self.best_bid = best_bid
        self.best_ask = best_ask
        self.last_entry_seconds = now_seconds

    def adopt(self, book_hash: str, timestamp_ms: int) -> None:
        """A whole book with this hash replaced everything: no group is open."""
        self.is_open = False
        self._is_after_book = True
        self.hash = book_hash
        self.timestamp_ms = timestamp_ms

    def close(self, book: OrderBook) -> ClosedGroup:
        """End the open group and judge it against `book`, the local state at its end."""
        assert self.is_open
        self.is_open = False
        bid, ask = book.best_bid_units, book.best_ask_units
        top_ok: bool | None = None
        if self.best_bid is not None and self.best_ask is not None:
            top_ok = self.best_bid == (bid or 0) and self.best_ask == (
                PRICE_ONE if ask is None else ask
            )
        return ClosedGroup(self.hash, self.timestamp_ms, top_ok, book.is_crossed, self._is_repeat)
