"""A book shard on a bench: what goes in, what it publishes and what it asks for."""

from polyactors.book.numbers import Side, parse_units
from polyactors.book.trust import StaleReason, TrustState
from polyactors.config import Settings
from polyactors.environment import Environment
from polyactors.events import Event
from polyactors.feed import Feed
from polyactors.messages import Missed, Parsed
from polyactors.protocol.events import BookSnapshot, LevelChange, MarketEvent, PriceChange
from polyactors.recovery import Request
from polyactors.shard import BookShard

MARKET = "0x" + "ab" * 32
YES, NO = "1111", "2222"
DEADLINE = 10.0


class Bench:
    """A shard with two tokens, what it published and what it asked for."""

    def __init__(self, tokens: tuple[str, ...] = (YES, NO)) -> None:
        self.env = Environment(Settings(first_book_deadline_seconds=DEADLINE))
        self.feed = Feed("feed-0", tokens, self.env)
        self.subscription = self.env.hub.subscribe()
        self.requests: list[Request] = []
        self.shard = BookShard(self.feed, self.requests.append)
        self.now = 100.0

    def rebuild(self) -> None:
        """Another incarnation, which knows what the environment knows by now."""
        self.shard = BookShard(self.feed, self.requests.append)

    def up(self, epoch: int = 1) -> None:
        self.feed.epoch = self.feed.last_epoch = epoch
        self.shard.session_up(epoch, self.now)

    def down(self, reason: StaleReason = StaleReason.DISCONNECTED) -> None:
        self.feed.epoch = None
        self.shard.session_down(reason, self.now)

    def feed_in(
        self, *events: MarketEvent | Missed, epoch: int = 1, is_behind: bool = False
    ) -> None:
        batch = Parsed("feed-0", epoch, 0, list(events))
        self.shard.apply(batch, self.now, is_behind=is_behind)

    def wait(self, seconds: float) -> None:
        """Let time pass as the actor would: wake up at every due time."""
        end = self.now + seconds
        while self.shard.next_due(self.now) <= end:
            self.now = max(self.now, self.shard.next_due(self.now))
            self.shard.on_time(self.now)
        self.now = end

    def events(self) -> list[Event]:
        self.shard.flush()
        found = list(self.subscription._events)  # pyright: ignore[reportPrivateUsage]
        self.subscription._events.clear()  # pyright: ignore[reportPrivateUsage]
        return found

    def asked(self) -> list[Request]:
        self.shard.flush()
        asked, self.requests[:] = list(self.requests), []
        return asked

    def state(self, token: str = YES) -> tuple[TrustState, StaleReason | None]:
        trust = self.feed.trust[token]
        return trust.state, trust.reason


def units(*levels: tuple[str, str]) -> dict[int, int]:
    return {parse_units(price): parse_units(size) for price, size in levels}


def book(
    token: str = YES,
    *,
    bids: tuple[tuple[str, str], ...] = (("0.4", "10"), ("0.5", "20")),
    asks: tuple[tuple[str, str], ...] = (("0.7", "5"), ("0.6", "8")),
    book_hash: str = "h0",
    at: int = 1000,
) -> BookSnapshot:
    return BookSnapshot(token, MARKET, units(*bids), units(*asks), book_hash, at)


def change(
    price: str,
    size: str,
    *,
    side: Side = Side.BID,
    token: str = YES,
    book_hash: str = "h1",
    bid: str | None = "0.5",
    ask: str | None = "0.6",
) -> LevelChange:
    return LevelChange(
        token,
        side,
        parse_units(price),
        parse_units(size),
        book_hash,
        None if bid is None else parse_units(bid),
        None if ask is None else parse_units(ask),
    )


def delta(*changes: LevelChange, at: int = 1001) -> PriceChange:
    return PriceChange(MARKET, at, changes)
