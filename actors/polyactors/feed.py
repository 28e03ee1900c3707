"""What outlives the actors of one feed: its tokens, their trust, and the session that is live.

The connection, heartbeat, parser and book shard of a feed come and go with their supervisors;
this record is owned by the service and stays. All changes are synchronous, between two
checkpoints of the one Trio loop, so readers and actors never see half of one.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from polyactors.book.orderbook import OrderBook
from polyactors.book.reading import BookReading
from polyactors.book.trust import StaleReason, Trust, TrustState
from polyactors.book.verify import HashInputs
from polyactors.environment import Environment
from polyactors.events import Event, FeedDown, FeedUp, Gap
from polyactors.messages import ControlMessage, Resync
from polyactors.protocol.subscription import resubscribe_frames, subscribe_frames
from polyactors.transport import Target, market_target
from polysupervisor import Address

if TYPE_CHECKING:
    from polyactors.relay import Relay
    from polyactors.shard import BookShard
    from polyactors.token_book import TokenBook

STOPPING = "stopping"
"""The reason of a feed_down that was ordered, by the user or by a supervisor."""
SUSPECT_MISMATCHES = 2
"""Of one token in one session: the fresh subscription after the first did not cure it."""
SUSPECT_TOKENS = 3
"""So many different tokens in one session are no chance."""


class Feed:
    """One connection's worth of tokens."""

    def __init__(self, feed_id: str, tokens: Sequence[str], env: Environment) -> None:
        self.id = feed_id
        self.tokens = tuple(tokens)
        self.env = env
        began = Trust(since_seconds=_now_seconds())
        self.trust: dict[str, Trust] = dict.fromkeys(tokens, began)
        self.stale_since_seconds: dict[str, float] = {}
        """When the tokens that are not LIVE again turned STALE, on Trio's clock."""
        self.epoch: int | None = None
        """The live session; None while there is none."""
        self.last_epoch: int | None = None
        """The live session or the one before; None before the first."""
        self.session_since_seconds = 0.0
        self.down_since_seconds = 0.0
        self.last_data_seconds = 0.0
        """`trio.current_time` of the last market data; PONG is not data."""
        self.beyond_first_dump = trio.Event()
        """Set once the live session has brought data that was not a first book."""
        self.first_data = trio.Event()
        """Set once the live session has brought any market data."""
        self.parser_ready = trio.Event()
        """Set by the parser: a connection that opened its session before that could lose
        frames unnoticed when the parser's mailbox is emptied at a restart."""
        self.down_reason: str | None = None
        """Why the last session ended; None while one is live or none was tried."""
        self.lost: StaleReason | None = None
        """What the books turned STALE by when the last session that was up ended; None before
        the first such end. What happened from then to the next session was not seen."""
        self.markets: dict[str, str] = {}
        """Condition id by token, of those whose market the exchange has named."""
        self.messages = 0
        """Frames parsed since the service began."""
        self.shard: BookShard | None = None
        """The book shard's present incarnation."""
        self.shard_alarm: trio.CancelScope | None = None
        """What the shard's wait ends by; its deadline follows what a session changes."""
        self.connection_address: Address[ControlMessage] | None = None
        self.relay: Relay | None = None
        """Decides what of this feed is public; None while it alone carries its tokens."""
        self.farewell = ""
        """Why the service lets the feed go: the detail of its last feed_down."""
        self.is_suspect = False
        """Whether tokens seem to have gone silent in the live session, which itself is not."""
        self.on_suspicion: Callable[[], None] = _nothing
        """Called when `is_suspect` becomes true."""
        self._audit_mismatches = Counter[str]()
        """In the live session, by token."""

    @property
    def target(self) -> Target:
        """The market channel."""
        return market_target(self.env.settings.ws_url)

    async def wait_allowed(self) -> None:
        """Books may always be asked for."""
        await trio.lowlevel.checkpoint()

    def subscription(self) -> list[str]:
        """The frames that begin a session."""
        settings = self.env.settings
        return subscribe_frames(
            self.tokens,
            ids_per_frame=settings.ids_per_frame,
            custom_features=settings.custom_features,
        )

    def frames_for(self, orders: Sequence[ControlMessage]) -> list[str]:
        """The frames that bring fresh books."""
        settings = self.env.settings
        return resubscribe_frames(
            [order.token for order in orders if isinstance(order, Resync)],
            ids_per_frame=settings.ids_per_frame,
            custom_features=settings.custom_features,
        )

    def redact(self, text: str) -> str:
        """The market channel has no secrets."""
        return text

    def session_up(self, epoch: int) -> None:
        """A session began: its subscription is on its way, no frame of it was handed on yet."""
        now = trio.current_time()
        self.epoch = self.last_epoch = epoch
        self.session_since_seconds = self.last_data_seconds = now
        self.first_data, self.beyond_first_dump = trio.Event(), trio.Event()
        self.down_reason = None
        self.is_suspect = False
        self._audit_mismatches.clear()
        time_ns = self.env.clock_ns()
        events: list[Event] = [FeedUp(time_ns=time_ns, feed=self.id, epoch=epoch)]
        unseen: list[tuple[str | None, StaleReason]] = []
        if self.relay is not None:
            unseen = self.relay.session_up(self)
        elif self.lost is not None:
            unseen = [(None, self.lost)]
        events += [
            Gap(time_ns=time_ns, feed=self.id, epoch=epoch, token=token, reason=reason)
            for token, reason in unseen
        ]
        self._publish(events)
        self._tell_shard(lambda shard: shard.session_up(epoch, now))

    def session_down(self, epoch: int, reason: str, detail: str) -> None:
        """The session ended, or its connect failed: its books are stale from this moment."""
        stale = StaleReason.FEED_STALLED if reason == "feed_stalled" else StaleReason.DISCONNECTED
        was_up = self.epoch is not None
        if was_up:
            self.lost = stale
        self.epoch = None
        self.down_since_seconds = trio.current_time()
        self.down_reason = reason
        if reason == STOPPING:
            detail = self.farewell
        down = FeedDown(
            time_ns=self.env.clock_ns(), feed=self.id, epoch=epoch, reason=reason, detail=detail
        )
        self._publish([down])
        if self.env.is_stopping:
            return  # the service ends: the last states of its books stand
        now = trio.current_time()
        if stale is StaleReason.FEED_STALLED:
            self.env.statistics.detect.add(now - self.last_data_seconds)
        self._tell_shard(lambda shard: shard.session_down(stale, now))
        if was_up and self.relay is not None:
            self.relay.session_down(self, stale)

    def gave_up(self) -> None:
        """The feed's supervisor has given up for now: a bug, or bad luck without end."""
        now = trio.current_time()
        self._tell_shard(lambda shard: shard.session_down(StaleReason.FEED_GAVE_UP, now))

    def distrust(self, token: str) -> None:
        """The book of a token is LIVE here and does not continue what was told: a fresh one is
        asked for."""
        now = trio.current_time()
        self._tell_shard(lambda shard: shard.distrust(token, now))

    def note_data(self, *, beyond_first_dump: bool) -> None:
        """Market data for a token of this feed arrived."""
        self.last_data_seconds = trio.current_time()
        self.first_data.set()
        if beyond_first_dump:
            self.beyond_first_dump.set()

    def note_audit_mismatch(self, token: str) -> None:
        """The audit has proven a book wrong although the feed flows. A fresh subscription cures
        what was lost by chance; a token that is wrong again, or many, is a stall."""
        self._audit_mismatches[token] += 1
        if not self.is_suspect and (
            self._audit_mismatches[token] >= SUSPECT_MISMATCHES
            or len(self._audit_mismatches) >= SUSPECT_TOKENS
        ):
            self.is_suspect = True
            self.on_suspicion()

    def follow(self, token: str) -> None:
        """A token joins the feed (in a replay, where nothing was subscribed)."""
        self.tokens = (*self.tokens, token)
        self.trust[token] = Trust()

    def believed(self, token: str) -> Trust:
        """The token's trust; LIVE only while a session is live, also when the service stops."""
        trust = self.trust[token]
        if trust.state is TrustState.LIVE and self.epoch is None:
            return Trust(TrustState.STALE, StaleReason.DISCONNECTED, self.down_since_seconds)
        return trust

    def book_of(self, token: str) -> "TokenBook | None":
        """The token's book; None while no shard holds it."""
        return None if self.shard is None else self.shard.books.get(token)

    def reading(self, token: str, trust: Trust | None = None) -> BookReading:
        """The token's levels as they are now, labelled with `trust`, or else with its own."""
        state = self.book_of(token)
        book = OrderBook(token, "") if state is None else state.book
        return BookReading.take(
            book,
            trust or self.believed(token),
            settled=state is not None and state.settled,
            now_seconds=trio.current_time(),
        )

    def last_hash(self, token: str) -> str:
        """The hash that the stream stated last for the token; "" when it has stated none."""
        state = self.book_of(token)
        return "" if state is None else state.group.hash

    def busiest(self, count: int) -> list[str]:
        """The `count` tokens with the most changes since the shard began, the busiest first."""
        if self.shard is None:
            return list(self.tokens[:count])
        books = sorted(self.shard.books.values(), key=lambda state: -state.changes)
        return [state.token for state in books[:count]]

    def hash_inputs(self, token: str) -> HashInputs:
        """What is known of the token besides its levels; one object for all who learn of it."""
        return self.env.hash_inputs.setdefault(token, HashInputs())

    def hash_share(self) -> float:
        """This feed's share of a core for hashing books."""
        return self.env.settings.hash_budget_percent / 100 / max(1, self.env.book_shards)

    def states(self) -> Counter[TrustState]:
        """Number of tokens by trust state."""
        return Counter(trust.state for trust in self.trust.values())

    def _tell_shard(self, tell: "Callable[[BookShard], None]") -> None:
        # A dead shard has nothing to be told: its next incarnation looks at `epoch`.
        if self.shard is not None:
            tell(self.shard)
            self.shard.flush()
            if self.shard_alarm is not None:
                self.shard_alarm.deadline = self.shard.next_due(trio.current_time())

    def _publish(self, events: list[Event]) -> None:
        self.env.hub.publish(events)


def _now_seconds() -> float:
    """Trio's clock; 0 for a service that is made before Trio runs."""
    try:
        return trio.current_time()
    except RuntimeError:
        return 0.0


def _nothing() -> None:
    pass
