"""The service: the supervision tree, wired in one place, and what a program sees of it.

root                      ONE_FOR_ONE
├ observability           dynamic, gives up: what watches can never hurt what works
│ ├ observer              the runtime's events into the stream
│ └ …                     sinks given by the caller (the events file)
├ core                    REST_FOR_ONE
│ ├ books                 ONE_FOR_ONE: one book shard per feed; outlives every reconnect
│ ├ feeds                 dynamic, limits per child; each feed-k REST_FOR_ONE:
│ │ └ feed-k              connection → heartbeat → parser
│ ├ snapshots             REST books for what the WebSocket never delivered
│ └ discovery             only when Gamma must still be asked
└ …                       the caller's last child (the terminal): first to stop
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf
from random import Random
from typing import Any

import trio
from attrs import frozen

from polyactors import books, parser
from polyactors.book.reading import BookReading
from polyactors.book.trust import Trust, TrustState
from polyactors.books import run_shard
from polyactors.config import (
    BACKOFF_SECONDS_MIN,
    DISCOVERY_SECONDS_MAX,
    FEED_GAVE_UP_RETRY_SECONDS,
    FEED_GAVE_UP_RETRY_SECONDS_MAX,
    Settings,
    from_environment,
    make_settings,
)
from polyactors.connection import run_connection
from polyactors.discovery import Wanted, check_token, parse_market, run_discovery
from polyactors.environment import Environment
from polyactors.errors import BookNotLive, RestFailed, SessionFailed, UnknownToken, UsageError
from polyactors.feed import Feed
from polyactors.heartbeat import run_heartbeat
from polyactors.messages import (
    Abort,
    ControlMessage,
    FetchBook,
    Frames,
    HeartbeatMessage,
    Resync,
    ShardMessage,
)
from polyactors.observer import run_observer
from polyactors.parser import run_parser
from polyactors.rest import RestClient
from polyactors.snapshots import run_snapshots
from polyactors.statistics import Statistics
from polyactors.stream import QUEUE_EVENTS_MAX, Subscription
from polyactors.transport import Network, market_target
from polysupervisor import (
    Address,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    EventBus,
    Intensity,
    MailboxSpec,
    Overflow,
    Restart,
    Shutdown,
    Strategy,
    Supervisor,
    SupervisorEscalation,
)

RUNTIME_EVENTS_MAX = 4096
FEED_SHUTDOWN = Shutdown(grace=2.0, kill=2.0)
CONTROL_KEYS_MAX = 1024
"""Different orders that a connection's control mailbox holds: its tokens, a PING, an Abort."""


def _control_key(message: ControlMessage) -> object:
    if isinstance(message, Resync):
        return message.token
    return type(message) if not isinstance(message, Abort) else (Abort, message.epoch)


@frozen
class FeedStatus:
    """One feed, as a person wants to see it."""

    id: str
    epoch: int | None
    """The live session; None while there is none."""
    down_reason: str | None
    tokens: int
    live: int
    messages: int


@frozen
class TokenStatus:
    """One token, as a person wants to see it."""

    token: str
    feed: str
    reading: BookReading


class Service:
    """Order books of any number of tokens, supervised. Made by `open_service`, or run by hand:
    `run()` in a nursery, `stop()` to end it."""

    def __init__(
        self,
        wanted: Wanted,
        *,
        env: Environment,
        rest: RestClient,
        sinks: "Sequence[Callable[[Service], ChildSpec[object]]]" = (),
        last: "Callable[[Service], ChildSpec[object]] | None" = None,
        rng: Random | None = None,
    ) -> None:
        """`sinks` live under observability, and hear everything: they start first and stop
        last. `last` is the terminal's child. `rest` must be open while the service runs. `rng`
        is the source of all jitter."""
        market_target(env.settings.ws_url)  # a wrong URL is the user's mistake, said at once
        self.env = env
        self.failure: UsageError | None = None
        """Set when the service ended itself because the user asked for the impossible."""
        self._wanted = wanted
        self._rest = rest
        self._feeds: list[Feed] = []
        self._feed_of: dict[str, Feed] = {}
        self._shards: dict[str, Address[ShardMessage]] = {}
        self._bus = EventBus()
        self._runtime_events = self._bus.subscribe(RUNTIME_EVENTS_MAX)
        self._books: Supervisor | None = None
        self._feeds_supervisor: Supervisor | None = None
        self._snapshots: Address[FetchBook] | None = None
        self._following = trio.Lock()
        self._add_feeds(wanted.tokens)
        self.root = self._make_root(sinks, last, rng)

    # --- for programs ---------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until stopped. Raises SupervisorEscalation when the root gives up."""
        try:
            await self.root.run(task_status=task_status)
        finally:
            self.env.hub.end()

    def stop(self) -> None:
        """Begin an orderly stop. Idempotent, never waits."""
        self.root.stop()

    def events(self, limit: int = QUEUE_EVENTS_MAX) -> Subscription:
        """The stream from now on; at most `limit` events are held for a slow reader."""
        return self.env.hub.subscribe(limit)

    def book(self, token: str, *, allow_stale: bool = False) -> BookReading:
        """The book of a token, now.

        Raises BookNotLive unless it is LIVE; with `allow_stale` the last known levels come,
        labelled. Raises UnknownToken for a token that the service does not follow.
        """
        reading = self._reading(token)
        if reading.state is not TrustState.LIVE and not allow_stale:
            raise BookNotLive(token, reading.state, reading.reason, reading.age_seconds)
        return reading

    def trust(self, token: str) -> Trust:
        """The trust state of a token, now. Raises UnknownToken.

        As `book` has it: what was LIVE in a session that is over is not, though the stream and
        the summary leave the last states as they were when the service stopped.
        """
        return self._feed(token).believed(token)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every token that the service follows."""
        return tuple(self._feed_of)

    @property
    def statistics(self) -> Statistics:
        """The counters of the service."""
        return self.env.statistics

    def states(self) -> Counter[str]:
        """Number of tokens by trust state."""
        return Counter(trust.state.value for feed in self._feeds for trust in feed.trust.values())

    def summary(self) -> dict[str, object]:
        """What `--summary` writes."""
        return self.statistics.summary(dict(self.states()))

    def feed_statuses(self) -> list[FeedStatus]:
        """All feeds, now."""
        return [
            FeedStatus(
                feed.id,
                feed.epoch,
                feed.down_reason,
                len(feed.tokens),
                feed.states()[TrustState.LIVE],
                feed.messages,
            )
            for feed in self._feeds
        ]

    def token_statuses(self) -> list[TokenStatus]:
        """All tokens with their books, now."""
        return [
            TokenStatus(token, feed.id, self._reading(token))
            for token, feed in self._feed_of.items()
        ]

    def feed_id(self, token: str) -> str | None:
        """The feed that follows a token; None when none does."""
        feed = self._feed_of.get(token)
        return None if feed is None else feed.id

    async def follow(self, tokens: Sequence[str]) -> None:
        """Follow further tokens, on feeds of their own; known ones are passed over.

        Safe to repeat after an error or a cancellation: what was started stays, the rest follows.
        Raises NotRunning before the service has started and while it stops.
        """
        self._add_feeds(tokens)
        async with self._following:
            assert self._books is not None
            assert self._feeds_supervisor is not None
            shards = {child.id for child in self._books.children()}
            feeds = {child.id for child in self._feeds_supervisor.children()}
            for feed in list(self._feeds):
                if _shard_id(feed) not in shards:
                    await self._books.start_child(self._shard_spec(feed))
                self._shards[feed.id] = self._books.address(_shard_id(feed))
                if feed.id not in feeds:
                    await self._feeds_supervisor.start_child(self._feed_spec(feed))

    def fail(self, error: UsageError) -> None:
        """End the service: the user asked for something that does not exist."""
        self.failure = error
        self.stop()

    # --- the tree -------------------------------------------------------------------------

    def _make_root(
        self,
        sinks: "Sequence[Callable[[Service], ChildSpec[object]]]",
        last: "Callable[[Service], ChildSpec[object]] | None",
        rng: Random | None,
    ) -> Supervisor:
        observer: ChildSpec[object] = ChildSpec(
            id="observer",
            factory=lambda: (
                lambda ctx: run_observer(ctx, self._runtime_events, self.env, self._feed_gave_up)
            ),
            shutdown=Shutdown(grace=0.0),
        )
        children: list[ChildSpec[object] | Supervisor] = [
            DynamicSupervisor(
                "observability",
                [observer, *(sink(self) for sink in sinks)],
                intensity=Intensity(5, 60.0, scope="child", on_exhausted="give_up"),
            ),
            ChildSpec(id="core", factory=self._make_core, shutdown=Shutdown(grace=20.0)),
        ]
        if last is not None:
            children.append(last(self))
        root = _Root(
            "root",
            children,
            strategy=Strategy.ONE_FOR_ONE,
            intensity=Intensity(3, 300.0),
            rng=rng,
            events=self._bus,
        )
        root.env = self.env
        return root

    def _make_core(self) -> Supervisor:
        children: list[ChildSpec[Any] | Supervisor] = [
            ChildSpec(id="books", factory=self._make_books),
            ChildSpec(id="feeds", factory=self._make_feeds, shutdown=Shutdown(grace=15.0)),
            ChildSpec[FetchBook](
                id="snapshots",
                factory=lambda: lambda ctx: run_snapshots(ctx, self._rest, self._shards),
                mailbox=MailboxSpec(
                    size=100_000, overflow=Overflow.COALESCE, key=lambda ask: (ask.feed, ask.token)
                ),
                backoff=Backoff(),
                shutdown=Shutdown(grace=0.0),
            ),
        ]
        if self._wanted.needs_listing:
            children.append(
                ChildSpec(
                    id="discovery",
                    factory=lambda: (
                        lambda ctx: run_discovery(
                            ctx, self._wanted, self._rest, self.follow, self.fail
                        )
                    ),
                    restart=Restart.TRANSIENT,
                    backoff=Backoff(min=1.0, max=DISCOVERY_SECONDS_MAX),
                    expected=(RestFailed,),
                    shutdown=Shutdown(grace=0.0),
                )
            )
        core = Supervisor(
            "core", children, strategy=Strategy.REST_FOR_ONE, intensity=Intensity(3, 120.0)
        )
        self._snapshots = core.address("snapshots")
        return core

    def _make_books(self) -> Supervisor:
        self._books = Supervisor(
            "books",
            [self._shard_spec(feed) for feed in self._feeds],
            strategy=Strategy.ONE_FOR_ONE,
            intensity=Intensity(5, 60.0),
        )
        for feed in self._feeds:
            self._shards[feed.id] = self._books.address(_shard_id(feed))
        return self._books

    def _make_feeds(self) -> Supervisor:
        self._feeds_supervisor = DynamicSupervisor(
            "feeds",
            [self._feed_spec(feed) for feed in self._feeds],
            intensity=Intensity(5, 60.0, scope="child", on_exhausted="give_up"),
        )
        return self._feeds_supervisor

    def _shard_spec(self, feed: Feed) -> "ChildSpec[ShardMessage]":
        return ChildSpec(
            id=_shard_id(feed),
            factory=lambda: lambda ctx: run_shard(ctx, feed, lambda: self._snapshots),
            backoff=Backoff(min=0.1, max=5.0, first_immediate=True),
            mailbox=MailboxSpec(size=books.MAILBOX_BATCHES),
            shutdown=FEED_SHUTDOWN,
        )

    def _feed_spec(self, feed: Feed) -> "ChildSpec[object]":
        # A feed that exhausts its intensity has a bug or very bad luck; it is tried again, but
        # rarely, and the rest of the service goes on.
        return ChildSpec(
            id=feed.id,
            factory=lambda: self._make_feed(feed),
            backoff=Backoff(
                min=FEED_GAVE_UP_RETRY_SECONDS,
                max=FEED_GAVE_UP_RETRY_SECONDS_MAX,
                jitter=0.0,
                reset_after=FEED_GAVE_UP_RETRY_SECONDS_MAX,
            ),
            expected=(SupervisorEscalation,),
            shutdown=Shutdown(grace=10.0),
        )

    def _make_feed(self, feed: Feed) -> Supervisor:
        def address(child: str) -> "Address[Any]":
            return supervisor.address(child)

        connection: ChildSpec[ControlMessage] = ChildSpec(
            id="connection",
            factory=lambda: (
                lambda ctx: run_connection(ctx, feed, address("parser"), address("heartbeat"))
            ),
            backoff=Backoff(
                min=min(BACKOFF_SECONDS_MIN, self.env.settings.reconnect_seconds_max),
                max=self.env.settings.reconnect_seconds_max,
                jitter=1.0,
                reset_after=inf,
            ),
            expected=(SessionFailed,),
            mailbox=MailboxSpec(
                size=CONTROL_KEYS_MAX,
                overflow=Overflow.COALESCE,
                key=_control_key,
                keep_on_restart=False,
            ),
            shutdown=FEED_SHUTDOWN,
        )
        heartbeat: ChildSpec[HeartbeatMessage] = ChildSpec(
            id="heartbeat",
            factory=lambda: lambda ctx: run_heartbeat(ctx, feed, address("connection")),
            mailbox=MailboxSpec(size=64, keep_on_restart=False),
            shutdown=FEED_SHUTDOWN,
        )
        parse: ChildSpec[Frames] = ChildSpec(
            id="parser",
            factory=lambda: (
                lambda ctx: run_parser(
                    ctx, feed, self._shards[feed.id], address("heartbeat"), address("connection")
                )
            ),
            mailbox=MailboxSpec(size=parser.MAILBOX_BATCHES, keep_on_restart=False),
            shutdown=FEED_SHUTDOWN,
        )
        supervisor = Supervisor(
            feed.id,
            [connection, heartbeat, parse],
            strategy=Strategy.REST_FOR_ONE,
            intensity=Intensity(5, 60.0),
        )
        feed.connection_address = supervisor.address("connection")
        return supervisor

    # --- helpers --------------------------------------------------------------------------

    def _add_feeds(self, tokens: Sequence[str]) -> list[Feed]:
        fresh = [
            check_token(token) for token in dict.fromkeys(tokens) if token not in self._feed_of
        ]
        size = self.env.settings.tokens_per_connection
        added: list[Feed] = []
        for start in range(0, len(fresh), size):
            feed = Feed(f"feed-{len(self._feeds)}", fresh[start : start + size], self.env)
            self._feeds.append(feed)
            self._feed_of.update(dict.fromkeys(feed.tokens, feed))
            added.append(feed)
        return added

    def _feed(self, token: str) -> Feed:
        try:
            return self._feed_of[token]
        except KeyError:
            raise UnknownToken(f"the service does not follow the token {token}") from None

    def _feed_gave_up(self, feed_id: str) -> None:
        for feed in self._feeds:
            if feed.id == feed_id:
                feed.gave_up()

    def _reading(self, token: str) -> BookReading:
        return self._feed(token).reading(token)


@asynccontextmanager
async def open_service(
    tokens: Sequence[str] = (),
    *,
    markets: Sequence[str] = (),
    top: int = 0,
    settings: Settings | None = None,
    network: Network | None = None,
) -> AsyncGenerator[Service, None]:
    """Follow tokens, markets (slug, URL or condition id) and the `top` most active markets.

    The service runs while the `async with` block does, and is stopped in order at its end.
    Without `settings`, what the environment says (POLYACTORS_WS_URL …) and the defaults hold.
    Error handling: an error of the block passes through as it is; SupervisorEscalation is
    raised when the service's own root gives up, UsageError when a market does not exist.
    Cancellation: the service is stopped and waited for.
    """
    wanted = Wanted(tuple(tokens), tuple(parse_market(market) for market in markets), top)
    env = Environment(settings or make_settings(from_environment()), network or Network())
    async with RestClient(env.settings, env.network) as rest:
        service = Service(wanted, env=env, rest=rest)
        error: BaseException | None = None
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[None]) -> None:
                nonlocal error
                failure: BaseException | None
                try:
                    await service.run(task_status=task_status)
                except (SupervisorEscalation, KeyboardInterrupt) as escalation:
                    failure = escalation
                else:
                    failure = service.failure
                if failure is not None:
                    error = error or failure  # the block's own error was there before
                    nursery.cancel_scope.cancel(reason=str(failure))

            await nursery.start(run)
            try:
                yield service
            except (Exception, KeyboardInterrupt) as block_error:
                # Kept and raised below: out of a nursery it would come wrapped in a group. A
                # service that had failed before is the cause, and says more.
                error = error or block_error
            finally:
                service.stop()
        if error is not None:
            raise error


def _shard_id(feed: Feed) -> str:
    return feed.id.replace("feed", "shard")


class _Root(Supervisor):
    """The root: a stop, whoever orders it (a signal, too), is the stop of the whole service."""

    env: Environment

    def stop(self) -> None:
        """Begin the ordered stop; from now on what goes down is no failure."""
        self.env.is_stopping = True
        super().stop()
