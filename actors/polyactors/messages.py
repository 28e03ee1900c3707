"""What the actors of a feed say to one another. Lists travel, never single items.

Every message carries (feed, epoch): what belongs to a dead epoch is dropped and counted.
"""

from attrs import frozen

from polyactors.book.trust import StaleReason
from polyactors.protocol.events import BookSnapshot, MarketEvent
from polyactors.protocol.user_events import UserEvent


@frozen
class Frames:
    """connection → parser: all that one wake-up found on the socket."""

    feed: str
    epoch: int
    received_at_ns: int
    """Wall clock, nanoseconds since the epoch, when the batch was taken from the socket."""
    frames: list[str | bytes]
    """In the order of their arrival: texts as str, a binary frame as bytes."""


@frozen
class Missed:
    """parser → book shard, in the order of the stream: something was lost here."""

    tokens: tuple[str, ...]
    """Empty: every token of the feed."""
    reason: StaleReason


@frozen
class Parsed:
    """parser → book shard: the events of one batch of frames, in the exchange's order."""

    feed: str
    epoch: int
    received_at_ns: int
    events: list[MarketEvent | Missed]


@frozen
class Resync:
    """book shard → connection: unsubscribe and subscribe again. Coalesces by token."""

    token: str
    why: StaleReason
    """What put the book in doubt."""


@frozen
class SendPing:
    """heartbeat → connection: send the text PING."""


@frozen
class Abort:
    """heartbeat, parser or account → connection: this session is no good, fail."""

    epoch: int
    """The session that is meant: another one goes on."""
    reason: str
    """The word of the `feed_down` that follows."""
    detail: str
    """For people."""


@frozen
class SessionOpened:
    """connection → heartbeat: a session is up, the exchange may be pinged."""

    epoch: int


@frozen
class PongReceived:
    """parser → heartbeat: the exchange answered a PING."""

    epoch: int


@frozen
class FetchBook:
    """book shard → snapshots: fetch this book by REST. Coalesces by token."""

    feed: str
    epoch: int
    token: str


@frozen
class RestBook:
    """snapshots → book shard: what REST said."""

    feed: str
    epoch: int
    token: str
    snapshot: BookSnapshot | None
    """None when REST had no answer, or does not know the token."""
    is_unknown: bool
    """REST answered that there is no such token (404)."""


@frozen
class Audited:
    """audit → book shard: what REST says of books that may be believed here."""

    feed: str
    epoch: int
    """The session that was live when REST was asked."""
    snapshots: tuple[BookSnapshot, ...]
    unknown: tuple[str, ...] = ()
    """Tokens that REST does not know (404, asked one by one)."""


@frozen
class AuditAgain:
    """book shard → audit: ask REST again soon about a token. Coalesces by feed and token."""

    feed: str
    token: str


@frozen
class ChangeMarkets:
    """service → connection of the user channel: the markets are others now. Coalesces."""


@frozen
class UserParsed:
    """parser → account: the events of one batch of frames, in the exchange's order."""

    epoch: int
    events: list[UserEvent]


HeartbeatMessage = SessionOpened | PongReceived
ControlMessage = Resync | SendPing | Abort | ChangeMarkets
ShardMessage = Parsed | RestBook | Audited
