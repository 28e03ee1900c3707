"""One token's book with everything that its trust hangs on: the shard's unit of state."""

from enum import Enum
from math import inf

from polyactors.book.groups import ClosedGroup, HashGroup
from polyactors.book.orderbook import OrderBook
from polyactors.book.splice import DeltaBuffer, RestSplice
from polyactors.book.trust import StaleReason
from polyactors.book.verify import HashInputs, verify_hash
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
        "attempts", "book", "buffer", "changes", "due_seconds", "dumps_state_tick_size", "expects_book",
        "group", "inputs", "last_cause", "live_since_seconds", "market",
        "next_tick_size", "splice", "step", "token", "why",
    )  # fmt: skip

    def __init__(self, token: str, market: str = "") -> None:
        self.token = token
        self.market = market
        """Condition id; "" until the exchange has named it."""
        self.book = OrderBook(token, "")
        self.group = HashGroup()
        self.buffer: DeltaBuffer[LevelChange] = DeltaBuffer(BUFFERED_DELTAS_MAX)
        self.splice: RestSplice[LevelChange] | None = None
        """Filters the deltas after a REST book, until the stream has passed it."""
        self.step = Step.IDLE
        self.due_seconds = inf
        self.why = StaleReason.NEVER_DELIVERED
        """Reason of the resync under way."""
        self.attempts = 0
        """Resyncs since the book was last LIVE for RESYNC_FORGIVEN_SECONDS."""
        self.live_since_seconds = 0.0
        self.changes = 0
        """Changes that the stream brought, applied or not."""
        self.expects_book = False
        """A subscription of ours asked for the next `book`: it need not equal the local one."""
        self.inputs = HashInputs()
        self.next_tick_size: str | None = None
        """A new tick that the open group does not know yet."""
        self.dumps_state_tick_size = False
        """The server's first books state the tick size, so a book without one is none."""
        self.last_cause: Cause = "snapshot"

    @property
    def settled(self) -> bool:
        """No hash group is open, and no splice holds changes back."""
        return not self.group.is_open and not (self.splice is not None and self.splice.held)

    def has_levels(self, snapshot: BookSnapshot) -> bool:
        """Whether the local book is just this one, level by level."""
        return self.book.wire_bids == list(snapshot.bids) and self.book.wire_asks == list(
            snapshot.asks
        )

    def verify(self, closed: ClosedGroup, last_trade_price: str | None) -> bool | None:
        """Whether the book hashes to what the group stated; None when it cannot be told."""
        return verify_hash(
            self.book,
            closed.hash,
            closed.timestamp_ms,
            self.inputs,
            () if last_trade_price is None else (last_trade_price,),
        )

    def end_splice(self) -> None:
        """Give up a splice: what it still held has passed by, and no REST book may lack it."""
        if self.splice is not None:
            for timestamp_ms, change in self.splice.release():
                self.buffer.pass_by(timestamp_ms, change.hash)
            self.splice = None
