"""Hash groups: the entries of one engine step, and what its end proves.

The exchange sends one matching-engine step as several price_change messages. All of them
carry the same hash per token, and the best bid and ask of the *final* state, so a check is
valid only at the end of the group, and nothing marks that end but what comes next: another
hash, a book, or quiet. Until then a mismatch is provisional and the book is not settled.
"""

from polyactors.book.numbers import PRICE_ONE
from polyactors.book.orderbook import OrderBook
from polyactors.book.trust import StaleReason

QUIET_SECONDS = 0.25
"""A group that heard nothing for so long is closed. Measured gaps inside a group are below a
millisecond, but a group can straddle TCP segments."""
PAST_HASHES_MIN = 8
_PAST_HASHES_MAX = 2 * PAST_HASHES_MIN


class HashGroup:
    """The group of one token that is open now, or closed."""

    __slots__ = (
        "_is_after_book", "best_ask", "best_bid", "hash", "is_open", "is_repeat",
        "last_entry_seconds", "past_hashes", "timestamp_ms",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_open = False
        self.is_repeat = False
        """The group had ended by quiet before, and goes on: it is no other one."""
        self.hash = ""
        """The book hash that the exchange stated; "" in eras without one."""
        self.timestamp_ms = 0
        """The exchange's time of the group's last message."""
        self.best_bid: int | None = None
        self.best_ask: int | None = None
        self.last_entry_seconds = 0.0
        self.past_hashes: list[str] = []
        """Of the last groups that were closed and books that were adopted, PAST_HASHES_MIN at
        least when there were so many: an older book of REST is known again by them."""
        self._is_after_book = True

    def begin(self, book_hash: str) -> None:
        """Open a group; `observe` its first entry next."""
        # Without a hash every run of changes would be a repeat.
        self.is_repeat = book_hash == self.hash and not self._is_after_book and book_hash != ""
        self._is_after_book = False
        self.is_open = True
        self.hash = book_hash

    def observe(
        self, best_bid: int | None, best_ask: int | None, timestamp_ms: int, now_seconds: float
    ) -> None:
        """Count an entry in. `best_bid`, `best_ask` in units (0 and PRICE_ONE: empty side)."""
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
        self.past_hashes.append(book_hash)
        if len(self.past_hashes) > _PAST_HASHES_MAX:
            del self.past_hashes[:PAST_HASHES_MIN]

    def close(self, book: OrderBook) -> StaleReason | None:
        """End the open group and judge it by `book`, the local state at its end.

        TOP_MISMATCH: the stated best bid and ask are not the local ones. CROSSED: the local
        book is locked or crossed, now that the step is complete. None: nothing is wrong.
        """
        assert self.is_open
        self.is_open = False
        self.past_hashes.append(self.hash)
        if len(self.past_hashes) > _PAST_HASHES_MAX:
            del self.past_hashes[:PAST_HASHES_MIN]
        bids, asks = book.bid_side.prices, book.ask_side.prices
        bid, ask = bids[-1] if bids else 0, asks[0] if asks else PRICE_ONE
        if self.best_bid == bid and self.best_ask == ask and bid < ask:
            return None
        is_stated = self.best_bid is not None and self.best_ask is not None
        if is_stated and (self.best_bid != bid or self.best_ask != ask):
            return StaleReason.TOP_MISMATCH
        return StaleReason.CROSSED if bid >= ask else None
