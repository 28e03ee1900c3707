"""What the actors of a feed say to one another. Lists travel, never single items.

Every message carries (feed, epoch): what belongs to a dead epoch is dropped and counted.
"""

from msgspec import Struct

from polyactors.book.trust import StaleReason
from polyactors.protocol.events import BookSnapshot, MarketEvent
from polyactors.protocol.user_events import UserEvent


class Frames(Struct, frozen=True):
    """connection → parser: all that one wake-up found on the socket."""

    feed: str
    epoch: int
    received_at_ns: int
    """Wall clock, nanoseconds since the epoch, when the batch was taken from the socket."""
    frames: list[str | bytes]
    """In the order of their arrival: texts as str, a binary frame as bytes."""


class Missed(Struct, frozen=True):
    """parser → book shard, in the order of the stream: something was lost here."""

    tokens: tuple[str, ...]
    """Empty: every token of the feed."""
    reason: StaleReason


class Parsed(Struct, frozen=True):
    """parser → book shard: the events of one batch of frames, in the exchange's order."""

    feed: str
    epoch: int
    received_at_ns: int
    events: list[MarketEvent | Missed]


class Resync(Struct, frozen=True):
    """book shard → connection: unsubscribe and subscribe again. Coalesces by token."""

    token: str
    why: StaleReason
    """What put the book in doubt."""


class SendPing(Struct, frozen=True):
    """heartbeat → connection: send the text PING."""


class Abort(Struct, frozen=True):
    """heartbeat, parser or account → connection: this session is no good, fail."""

    epoch: int
    """The session that is meant: another one goes on."""
    reason: str
    """The word of the `feed_down` that follows."""
    detail: str
    """For people."""


class SessionOpened(Struct, frozen=True):
    """connection → heartbeat: a session is up, the exchange may be pinged."""

    epoch: int


class PongReceived(Struct, frozen=True):
    """parser → heartbeat: the exchange answered a PING."""

    epoch: int


class FetchBook(Struct, frozen=True):
    """book shard → snapshots: fetch this book by REST. Coalesces by token."""

    feed: str
    epoch: int
    token: str


class RestBook(Struct, frozen=True):
    """snapshots → book shard: what REST said."""

    feed: str
    epoch: int
    token: str
    snapshot: BookSnapshot | None
    """None when REST had no answer, or does not know the token."""
    is_unknown: bool
    """REST answered that there is no such token (404)."""


class Audited(Struct, frozen=True):
    """audit → book shard: what REST says of books that may be believed here."""

    feed: str
    epoch: int
    """The session that was live when REST was asked."""
    snapshots: tuple[BookSnapshot, ...]
    unknown: tuple[str, ...] = ()
    """Tokens that REST does not know (404, asked one by one)."""


class AuditAgain(Struct, frozen=True):
    """book shard → audit: ask REST again soon about a token. Coalesces by feed and token."""

    feed: str
    token: str


class ChangeMarkets(Struct, frozen=True):
    """service → connection of the user channel: the markets are others now. Coalesces."""


class UserParsed(Struct, frozen=True):
    """parser → account: the events of one batch of frames, in the exchange's order."""

    epoch: int
    events: list[UserEvent]


HeartbeatMessage = SessionOpened | PongReceived
ControlMessage = Resync | SendPing | Abort | ChangeMarkets
ShardMessage = Parsed | RestBook | Audited
