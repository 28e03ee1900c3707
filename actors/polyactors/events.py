"""The stream that users see: one frozen class per event, and its JSON form.

Every event carries `time_ns`, our own wall clock in nanoseconds since the epoch, at the moment
when we took or decided it. Prices and sizes are exact Decimals (strings in JSON). The order
of the stream is a promise: a TrustChanged stands before any later BookUpdated of its token.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar, Literal

import msgspec
from msgspec import Struct

from polyactors.book.trust import StaleReason, TrustState
from polyactors.user.reading import FillReading, OrderReading, TradeReading
from polyactors.user.state import AccountReason, AccountState

Cause = Literal["snapshot", "delta", "rest"]


class _Event(Struct, frozen=True, tag_field="type"):
    """A Struct takes a tenth of the time that a frozen attrs class takes to come into being."""


class BookUpdated(_Event, frozen=True, kw_only=True, tag="book_updated", gc=False):
    """The book of a token changed, or its open hash group came to rest."""

    type: ClassVar[str] = "book_updated"
    time_ns: int
    token: str
    """Token id, decimal digits."""
    market: str
    """Condition id, 0x and 64 hex digits."""
    epoch: int
    """The session that the news came from; epochs never repeat."""
    best_bid: Decimal | None
    """USDC per share; None for an empty side."""
    best_ask: Decimal | None
    """Likewise; both are None while an unsettled book looks crossed."""
    bids: int
    """Number of price levels."""
    asks: int
    """Likewise."""
    cause: Cause
    """By what the book changed: a whole book of the stream, changes, or a book of REST."""
    settled: bool
    """False while the token's hash group is open: more of the same engine step may follow."""


class TradePrinted(_Event, frozen=True, kw_only=True, tag="trade_printed", gc=False):
    """A trade was printed by the exchange."""

    type: ClassVar[str] = "trade_printed"
    time_ns: int
    token: str
    market: str
    epoch: int
    price: Decimal
    """USDC per share."""
    size: Decimal
    """Shares."""
    side: Literal["BUY", "SELL"]
    """What the taker did."""
    timestamp_ms: int
    """The exchange's own time, milliseconds since the epoch."""


class TickSizeChanged(_Event, frozen=True, kw_only=True, tag="tick_size_changed"):
    """The price grid of a token changed; its levels stay."""

    type: ClassVar[str] = "tick_size_changed"
    time_ns: int
    token: str
    market: str
    epoch: int
    old: Decimal | None
    """USDC per share; None when the exchange did not say."""
    new: Decimal
    """USDC per share."""


class TrustChanged(_Event, frozen=True, kw_only=True, tag="trust_changed"):
    """A token's trust state changed. Published before any later update of the token."""

    type: ClassVar[str] = "trust_changed"
    time_ns: int
    token: str
    market: str | None
    """None until the exchange has named it: a subscription knows only the token."""
    epoch: int | None
    state: TrustState
    """The state from now on."""
    previous: TrustState
    """The state before."""
    reason: StaleReason | None
    """Set when, and only when, the state is STALE."""


class Gap(_Event, frozen=True, kw_only=True, tag="gap"):
    """Something may have been missed here."""

    type: ClassVar[str] = "gap"
    time_ns: int
    feed: str | None
    """None when the reader of this stream itself was too slow (reason overflow)."""
    epoch: int | None
    token: str | None
    """None: every token of the feed."""
    reason: StaleReason
    """Why."""


class FeedUp(_Event, frozen=True, kw_only=True, tag="feed_up"):
    """A session began: connected, upgraded, subscription sent."""

    type: ClassVar[str] = "feed_up"
    time_ns: int
    feed: str
    epoch: int
    reason: str | None = None
    """Always null: there so that feed_up and feed_down have one shape."""


class FeedDown(_Event, frozen=True, kw_only=True, tag="feed_down"):
    """A session ended, or could not begin."""

    type: ClassVar[str] = "feed_down"
    time_ns: int
    feed: str
    epoch: int
    reason: str
    """reset, closed_CODE, handshake_STATUS, dns, tls, pong_timeout, feed_stalled, unreadable,
    stopping, credentials_refused; crashed for a bug of ours."""
    detail: str = ""
    """For people."""


class ActorRestarted(_Event, frozen=True, kw_only=True, tag="actor_restarted"):
    """The supervisor started an actor again."""

    type: ClassVar[str] = "actor_restarted"
    time_ns: int
    path: str
    """Where it stands in the tree: ids from the root down, joined by `/`."""
    incarnation: int
    """How often it was started, this time included."""
    reason: str
    """Why it had ended; for a session the words of `feed_down`."""


class ActorGaveUp(_Event, frozen=True, kw_only=True, tag="actor_gave_up"):
    """The supervisor gave an actor up: it failed too often, or a temporary one failed once."""

    type: ClassVar[str] = "actor_gave_up"
    time_ns: int
    path: str
    incarnation: int
    """The last one."""
    reason: str


class ActorEvent(_Event, frozen=True, kw_only=True, tag="actor_event"):
    """What an actor of a user's published."""

    type: ClassVar[str] = "actor_event"
    time_ns: int
    actor: str
    """Its name."""
    name: str
    """What happened, in the actor's own words."""
    data: Mapping[str, object]
    """As JSON has it: texts, numbers, true, false, null, lists and objects; a Decimal is a text."""


class FaultInjected(_Event, frozen=True, kw_only=True, tag="fault_injected"):
    """The embedded exchange misbehaved on purpose (demo)."""

    type: ClassVar[str] = "fault_injected"
    time_ns: int
    id: int
    kind: str
    token: str | None
    feed: str | None


class FaultRecovered(_Event, frozen=True, kw_only=True, tag="fault_recovered"):
    """Every book that a fault touched is LIVE again (demo)."""

    type: ClassVar[str] = "fault_recovered"
    time_ns: int
    id: int
    kind: str
    seconds: float
    """From the injection."""


class OrderChanged(_Event, frozen=True, kw_only=True, tag="order_changed"):
    """An order of the account appeared, more of it was matched, or it was closed."""

    type: ClassVar[str] = "order_changed"
    time_ns: int
    epoch: int | None
    """The session of the user channel."""
    order: OrderReading
    """As it is now."""
    filled_size: Decimal
    """Shares that were matched since the last event about the order."""
    previous: str | None
    """Its state before; None when it was not known."""
    reconciled: bool
    """True: not seen on the channel, but recovered from the lists of REST."""


class TradeChanged(_Event, frozen=True, kw_only=True, tag="trade_changed"):
    """A trade of the account appeared, or its settlement went on."""

    type: ClassVar[str] = "trade_changed"
    time_ns: int
    epoch: int | None
    trade: TradeReading
    """As it is now."""
    previous: str | None
    """Its status before; None when it was not known."""
    reconciled: bool


class PositionChanged(_Event, frozen=True, kw_only=True, tag="position_changed"):
    """A fill came into a position, or was given back because its trade failed. Each once."""

    type: ClassVar[str] = "position_changed"
    time_ns: int
    epoch: int | None
    token: str
    old: Decimal
    """Shares: what the known trades summed up to before."""
    new: Decimal
    """Shares: what they sum up to now."""
    fill: FillReading
    """What came in, or was given back."""
    reconciled: bool


class AccountStateChanged(_Event, frozen=True, kw_only=True, tag="account_state"):
    """What may be believed of the account changed. LIVE stands behind all that was recovered."""

    type: ClassVar[str] = "account_state"
    time_ns: int
    epoch: int | None
    state: AccountState
    """The state from now on."""
    previous: AccountState
    """The state before."""
    reason: AccountReason | None
    """Set when, and only when, the state is STALE."""


class RawFrame(Struct, frozen=True, kw_only=True, gc=False):
    """One frame as it came from the market channel, the text PONG too. Only for actors that take
    it; never in the stream, and never one of the user channel."""

    time_ns: int
    """When its batch was taken from the socket."""
    feed: str
    epoch: int
    frame: str | bytes
    """Text, or its bytes in UTF-8."""


AccountEvent = OrderChanged | TradeChanged | PositionChanged | AccountStateChanged
"""Everything about the account."""

Event = (
    BookUpdated
    | TradePrinted
    | TickSizeChanged
    | TrustChanged
    | Gap
    | FeedUp
    | FeedDown
    | ActorRestarted
    | ActorGaveUp
    | ActorEvent
    | FaultInjected
    | FaultRecovered
    | OrderChanged
    | TradeChanged
    | PositionChanged
    | AccountStateChanged
)

_encoder = msgspec.json.Encoder(decimal_format="string")


def to_json(event: Event) -> bytes:
    """One line of JSON without its newline: `type` first, then the fields in order."""
    return _encoder.encode(event)
