"""One token's book with everything that its trust hangs on: the shard's unit of state."""

from enum import Enum
from math import inf

from polyactors.book.groups import HashGroup
from polyactors.book.orderbook import OrderBook
from polyactors.book.splice import DeltaBuffer, RestSplice
from polyactors.book.trust import StaleReason
from polyactors.book.verify import HashCheck, HashInputs
from polyactors.events import Cause
from polyactors.protocol.events import BookSnapshot, LevelChange

BUFFERED_DELTAS_MAX = 1024
"""Deltas of one token that are kept for a splice while its book is not LIVE."""


class Step(Enum):
    """Where a token stands on its way to a trusted book."""

    IDLE = "idle"
    SUBSCRIBED = "subscribed"
    REDRIVEN = "redriven"
    FETCHING = "fetching"
    BACKING_OFF = "backing_off"
    HOLDING = "holding"
    """LIVE from REST, with changes held that may or may not be in the book already."""


class TokenBook:
    """One token's book with all that its trust hangs on."""

    __slots__ = (
        "attempts", "book", "books_due", "buffer", "changes", "due_seconds",
        "dumps_state_tick_size", "generation", "group", "inputs", "is_whole",
        "last_cause", "live_since_seconds", "market", "right_since_seconds",
        "said_when_unknown", "splice", "spliced_seconds", "step", "token",
        "top_right_since_seconds", "why", "wrong_books",
    )  # fmt: skip

    def __init__(self, token: str, market: str = "", inputs: HashInputs | None = None) -> None:
        self.token = token
        self.market = market
        """Condition id; "" until the exchange has named it."""
        self.book = OrderBook(token, "")
        self.is_whole = True
        """False while a whole book is being adopted: a crash in between leaves neither."""
        self.generation = 0
        """Counts the whole books that were adopted: a check of one before is worth nothing."""
        self.group = HashGroup()
        self.buffer: DeltaBuffer[LevelChange] = DeltaBuffer(BUFFERED_DELTAS_MAX)
        self.splice: RestSplice[LevelChange] | None = None
        """Filters the deltas after a REST book, until the stream has passed it."""
        self.spliced_seconds = 0.0
        """When the REST book was adopted."""
        self.step = Step.IDLE
        self.due_seconds = inf
        self.why = StaleReason.NEVER_DELIVERED
        """Reason of the resync under way."""
        self.attempts = 0
        """Resyncs since the book was last LIVE for RESYNC_FORGIVEN_SECONDS."""
        self.live_since_seconds = 0.0
        self.changes = 0
        """Changes that the stream brought, applied or not."""
        self.said_when_unknown: tuple[int, str] | None = None
        """What the stream had said when the audit heard last that REST knows no such token."""
        self.books_due = 0
        """Subscriptions of ours whose first `book` has not come: it need not equal ours."""
        self.wrong_books = 0
        """Whole books in a row that did not hash to what they stated."""
        self.inputs = inputs or HashInputs()
        self.top_right_since_seconds = 0.0
        """When best bid and ask were last known to be right."""
        self.right_since_seconds = 0.0
        """When every level was last known to be right."""
        self.dumps_state_tick_size = False
        """The server's first books state the tick size, so a book without one is none."""
        self.last_cause: Cause = "snapshot"

    @property
    def settled(self) -> bool:
        """No hash group is open, and no splice holds changes back."""
        return not self.group.is_open and not (self.splice is not None and self.splice.held)

    def has_levels(self, snapshot: BookSnapshot) -> bool:
        """Whether the local book is just this one, level by level."""
        book = self.book
        return dict(book.wire_bids) == snapshot.bids and dict(book.wire_asks) == snapshot.asks

    def is_dump(self, snapshot: BookSnapshot) -> bool:
        """Whether it can be the first book of a subscription of ours. Where the server's state
        the tick size, and only those do (PROTOCOL.md section 2), one without it cannot."""
        return snapshot.tick_size is not None or not self.dumps_state_tick_size

    def replace(self, snapshot: BookSnapshot) -> None:
        """Take over a whole book. Nothing that was known of the one before holds any more."""
        self.is_whole = False
        if snapshot.market and snapshot.market != self.book.market:
            self.book = OrderBook(self.token, snapshot.market)
        self.book.replace(snapshot.bids, snapshot.asks)
        self.group.adopt(snapshot.hash, snapshot.timestamp_ms)
        self.generation += 1
        self.is_whole = True

    def begin_check(self, last_trade_prices: tuple[str, ...], levels_json: str = "") -> HashCheck:
        """A comparison of the book, as it is now, or of these levels, with the hash stated for it
        last."""
        group = self.group
        return HashCheck(
            self.book, group.hash, group.timestamp_ms, self.inputs, last_trade_prices, levels_json
        )

    def end_splice(self) -> None:
        """Give up a splice: what it still held has passed by, and no REST book may lack it."""
        if self.splice is not None:
            for timestamp_ms, change in self.splice.release():
                self.buffer.pass_by(timestamp_ms, change.hash)
            self.splice = None
