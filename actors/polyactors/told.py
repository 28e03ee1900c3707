"""What was told of one token that several feeds carry: stages of its book, trades and the like."""

from collections import deque
from collections.abc import Collection, Hashable

from polyactors.book.orderbook import BookView, OrderBook
from polyactors.token_book import TokenBook

HASHES_KEPT_MAX = 32
"""The last hashes that were told, and the last that each carrier has seen."""
KEPT_MAX = 256
"""What was told and some feed may yet bring; then the oldest is forgotten."""


class ToldBook:
    """The stages of the book that were told: each engine step's has its hash."""

    __slots__ = ("_hashes", "seconds", "settled", "timestamp_ms")

    def __init__(self) -> None:
        self._hashes: deque[str] = deque(maxlen=HASHES_KEPT_MAX)
        self.timestamp_ms = 0
        """The exchange's time of the newest."""
        self.seconds = 0.0
        """When the newest came, on Trio's clock."""
        self.settled = False
        """Whether it was told to be complete."""

    @property
    def hash(self) -> str:
        """The newest hash; "" before the first, and in eras without hashes."""
        return self._hashes[-1] if self._hashes else ""

    def __contains__(self, group_hash: str) -> bool:
        return group_hash in self._hashes

    def add(self, book: TokenBook, seconds: float) -> None:
        """The book is told as it is now."""
        group = book.group
        if not self._hashes or self._hashes[-1] != group.hash:
            self._hashes.append(group.hash)
        self.timestamp_ms = group.timestamp_ms
        self.seconds = seconds
        self.settled = book.settled

    def go_back(self, book: TokenBook) -> None:
        """Forget what was told after the stage of this book, if that is known."""
        if book.group.hash in self._hashes:
            while self.hash != book.group.hash:
                self._hashes.pop()

    def clear(self) -> None:
        """A new story begins."""
        self._hashes.clear()

    def is_newest(self, book: TokenBook, levels: OrderBook | BookView | None) -> bool:
        """Whether just this state of the book was told last, with these levels."""
        if book.group.hash != self.hash or self.hash == "":
            return False
        return self.settled if book.settled else book.book == levels

    def is_ahead_of(self, book: TokenBook, levels: OrderBook | BookView | None) -> bool:
        """Whether more was told than the book has seen; the newest had these levels."""
        group_hash = book.group.hash
        if group_hash == "" or self.hash == "":
            return False
        if group_hash == self.hash:  # in the middle of a step only the levels can tell
            return not book.settled and book.book != levels
        return book.group.timestamp_ms < self.timestamp_ms or group_hash in self._hashes


class ToldOnce:
    """Trades, and changes of the tick size, of one token.

    They carry no number, and two trades can be alike in all that is told of them. So it is
    counted how often each feed has brought the same: what is new is the one more than any has
    brought before. Feeds are named by their ids; `up` are those with a session.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[Hashable, dict[str, int]] = {}
        """By what was told, how often each feed has brought it; gone when all have."""

    def __len__(self) -> int:
        return len(self._counts)

    def is_news(self, feed: str, what: Hashable, up: Collection[str]) -> bool:
        """Whether `feed` brings something for the first time, or once more than any other."""
        counts = self._counts.setdefault(what, {})
        told = max(counts.values(), default=0)
        count = counts[feed] = counts.get(feed, 0) + 1
        self._forget_if_all_have(what, counts, up)
        if len(self._counts) > KEPT_MAX:
            del self._counts[next(iter(self._counts))]
        return count > told

    def session_up(self, feed: str, up: Collection[str]) -> None:
        """A session began: what was told before, it will not bring."""
        for what, counts in list(self._counts.items()):
            counts[feed] = max(counts.values())
            self._forget_if_all_have(what, counts, up)

    def _forget_if_all_have(
        self, what: Hashable, counts: dict[str, int], up: Collection[str]
    ) -> None:
        told = max(counts.values())
        if all(counts.get(feed) == told for feed in up):
            del self._counts[what]
