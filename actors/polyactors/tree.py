"""The supervision tree of a service, in one place: who is whose child, and within which limits.

root                      ONE_FOR_ONE
├ observability           dynamic, gives up: what watches can never hurt what works
│ ├ observer              the runtime's events into the stream
│ ├ lookout               feeds that cannot connect, into the log
│ └ …                     sinks given by the caller (the events file)
├ core                    REST_FOR_ONE
│ ├ books                 ONE_FOR_ONE: one book shard per feed; outlives every reconnect
│ ├ feeds                 dynamic, limits per child; each feed-k REST_FOR_ONE:
│ │ └ feed-k              connection → heartbeat → parser (feed_tree.py)
│ ├ snapshots             REST books for what the WebSocket never delivered
│ ├ audit                 every LIVE book held against REST's, round after round
│ ├ relay                 the clock of what merges redundant feeds
│ ├ rotation              replaces feeds without a break
│ └ discovery             only when Gamma must still be asked
├ extensions              dynamic, gives up: users' own actors
├ user                    only with credentials: the user channel (user/tree.py)
└ …                       the caller's last child (the terminal): first to stop
"""

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import trio

from polyactors.audit import run_audit
from polyactors.books import MAILBOX_BATCHES, run_shard
from polyactors.config import DISCOVERY_SECONDS_MAX
from polyactors.environment import Environment
from polyactors.errors import RestFailed
from polyactors.events import FeedDown, FeedUp
from polyactors.feed import Feed
from polyactors.feed_tree import FEED_SHUTDOWN, feed_spec, shard_id
from polyactors.logger import Outage
from polyactors.messages import AuditAgain, FetchBook, ShardMessage
from polyactors.observer import LOOKOUT_EVENTS_MAX, Outages, run_lookout, run_observer
from polyactors.relay import Relay, run_relay
from polyactors.rest import RestClient
from polyactors.rotation import Rotation, run_rotation
from polyactors.snapshots import run_snapshots
from polyactors.user.line import UserLine
from polyactors.user.lists import AccountLists
from polyactors.user.tree import user_spec
from polysupervisor import (
    Address,
    Backoff,
    ChildSpec,
    Context,
    DynamicSupervisor,
    EventBus,
    ExitReason,
    Intensity,
    MailboxSpec,
    NotRunning,
    Overflow,
    Restart,
    Shutdown,
    Strategy,
    Supervisor,
)

RUNTIME_EVENTS_MAX = 4096
SNAPSHOT_QUESTIONS_MAX = 100_000
AUDIT_QUESTIONS_MAX = 100_000
REST_CALM_SECONDS = 30.0
"""Without a failed request for so long, an outage of REST is over."""
AT_ONCE = Shutdown(grace=0.0)
MAY_GIVE_UP = Intensity(5, 60.0, scope="child", on_exhausted="give_up")


class Tree:
    """The tree of one service, and where its actors are reached while they come and go."""

    def __init__(
        self,
        env: Environment,
        rest: RestClient,
        relay: Relay,
        *,
        sinks: Sequence[ChildSpec[object]],
        discover: Callable[[Context[object]], Awaitable[None]] | None,
        user: UserLine | None,
        extensions: Supervisor | None,
        actor_failed: Callable[[str, ExitReason], bool],
        actor_gave_up: Callable[[str], None],
        last: ChildSpec[object] | None,
        rng: Random | None,
    ) -> None:
        """`relay` has the service's feeds: what is added starts with `grow`, what is removed
        stops with `shrink`. `actor_failed` hears the path of any actor that failed, and
        how; `actor_gave_up` of any that stays down."""
        self._env = env
        self._actor_failed = actor_failed
        self._actor_gave_up = actor_gave_up
        self._rest = rest
        self._relay = relay
        self._feeds = relay.feeds
        self._rotation = Rotation(relay, env.settings.rotation_seconds, env.statistics)
        self._outages = Outages()
        self._sinks = sinks
        self._discover = discover
        self._user = user
        self._books: Supervisor | None = None
        self._feeds_supervisor: Supervisor | None = None
        self._snapshots: Address[FetchBook] | None = None
        self._audit: Address[AuditAgain] | None = None
        self._snapshots_outage = Outage(calm_seconds=REST_CALM_SECONDS)
        self._audit_outage = Outage(calm_seconds=REST_CALM_SECONDS)
        self._shards: dict[str, Address[ShardMessage]] = {}
        """By feed."""
        self._growing = trio.Lock()
        bus = EventBus()
        self._runtime_events = bus.subscribe(RUNTIME_EVENTS_MAX)
        children: list[ChildSpec[object] | Supervisor] = [
            self._make_observability(),
            ChildSpec(id="core", factory=self._make_core, shutdown=Shutdown(grace=20.0)),
        ]
        if user is not None:
            lists = AccountLists(rest, user.credentials, env.clock_ns, user.note_rows)
            children.append(user_spec(user, lists))
        if extensions is not None:
            children.append(extensions)
        if last is not None:
            children.append(last)
        self.root = _Root(env, children, rng, bus)

    async def grow(self) -> None:
        """Start what was added to the feeds. Safe to repeat after an error or a cancellation.

        Raises NotRunning before the core has started and while it stops.
        """
        async with self._growing:
            for feed in list(self._feeds):
                # Looked up at every turn: the core may have been restarted by now.
                if self._books is None or self._feeds_supervisor is None:
                    raise NotRunning("the service has not started")
                if not _has(self._books, shard_id(feed)):
                    await self._books.start_child(self._shard_spec(feed))
                self._shards[feed.id] = self._books.address(shard_id(feed))
                if not _has(self._feeds_supervisor, feed.id):
                    await self._feeds_supervisor.start_child(self._feed_spec(feed))

    async def shrink(self) -> None:
        """Stop what was removed from the feeds, and forget it. Safe to repeat as `grow` is.

        Raises NotRunning before the core has started and while it stops.
        """
        async with self._growing:
            if self._books is None or self._feeds_supervisor is None:
                raise NotRunning("the service has not started")
            for supervisor, kept in (
                (self._feeds_supervisor, {feed.id for feed in self._feeds}),
                (self._books, {shard_id(feed) for feed in self._feeds}),
            ):
                for child in supervisor.children():
                    if child.id not in kept:
                        await _remove(supervisor, child.id)
                        self._env.statistics.forget_actor(child.path)
            for gone in self._shards.keys() - {feed.id for feed in self._feeds}:
                del self._shards[gone]
                self._outages.forget(gone)

    # --- what watches ---------------------------------------------------------------------

    def _make_observability(self) -> Supervisor:
        news = self._env.hub.subscribe(LOOKOUT_EVENTS_MAX, kinds=(FeedUp, FeedDown))
        watchers: list[ChildSpec[object]] = [
            ChildSpec(
                id="observer",
                factory=lambda: (
                    lambda ctx: run_observer(
                        ctx,
                        self._runtime_events,
                        self._env,
                        self._feed_gave_up,
                        self._actor_failed,
                        self._actor_gave_up,
                    )
                ),
                shutdown=AT_ONCE,
            ),
            ChildSpec(
                id="lookout",
                factory=lambda: lambda ctx: run_lookout(ctx, news, self._outages),
                shutdown=AT_ONCE,
            ),
        ]
        return DynamicSupervisor("observability", [*watchers, *self._sinks], intensity=MAY_GIVE_UP)

    def _feed_gave_up(self, feed_id: str) -> None:
        if self._user is not None and feed_id == self._user.id:
            self._user.gave_up()
        for feed in self._feeds:
            if feed.id == feed_id:
                feed.gave_up()

    # --- the core -------------------------------------------------------------------------

    def _make_core(self) -> Supervisor:
        children: list[ChildSpec[Any] | Supervisor] = [
            ChildSpec(id="books", factory=self._make_books),
            ChildSpec(id="feeds", factory=self._make_feeds, shutdown=Shutdown(grace=15.0)),
            ChildSpec[FetchBook](
                id="snapshots",
                factory=lambda: (
                    lambda ctx: run_snapshots(ctx, self._rest, self._shards, self._snapshots_outage)
                ),
                mailbox=MailboxSpec(
                    size=SNAPSHOT_QUESTIONS_MAX,
                    overflow=Overflow.COALESCE,
                    key=lambda ask: (ask.feed, ask.token),
                ),
                backoff=Backoff(),
                shutdown=AT_ONCE,
            ),
            ChildSpec[AuditAgain](
                id="audit",
                factory=lambda: (
                    lambda ctx: run_audit(
                        ctx, self._env, self._rest, self._feeds, self._shards, self._audit_outage
                    )
                ),
                mailbox=MailboxSpec(
                    size=AUDIT_QUESTIONS_MAX,
                    overflow=Overflow.COALESCE,
                    key=lambda again: (again.feed, again.token),
                ),
                backoff=Backoff(),
                shutdown=AT_ONCE,
            ),
        ]
        clocks: list[ChildSpec[object]] = [
            ChildSpec(
                id="relay",
                factory=lambda: lambda ctx: run_relay(ctx, self._relay),
                shutdown=AT_ONCE,
            ),
            ChildSpec(
                id="rotation",
                factory=lambda: (
                    lambda ctx: run_rotation(ctx, self._rotation, self.grow, self.shrink)
                ),
                backoff=Backoff(),
                expected=(NotRunning,),
                shutdown=AT_ONCE,
            ),
        ]
        children += clocks
        if self._discover is not None:
            discover = self._discover
            children.append(
                ChildSpec(
                    id="discovery",
                    factory=lambda: discover,
                    restart=Restart.TRANSIENT,
                    backoff=Backoff(min=1.0, max=DISCOVERY_SECONDS_MAX),
                    expected=(RestFailed,),
                    shutdown=AT_ONCE,
                )
            )
        core = Supervisor(
            "core", children, strategy=Strategy.REST_FOR_ONE, intensity=Intensity(3, 120.0)
        )
        self._snapshots = core.address("snapshots")
        self._audit = core.address("audit")
        return core

    def _make_books(self) -> Supervisor:
        self._books = Supervisor(
            "books",
            [self._shard_spec(feed) for feed in self._feeds],
            strategy=Strategy.ONE_FOR_ONE,
            intensity=Intensity(5, 60.0),
        )
        for feed in self._feeds:
            self._shards[feed.id] = self._books.address(shard_id(feed))
        return self._books

    def _make_feeds(self) -> Supervisor:
        self._feeds_supervisor = DynamicSupervisor(
            "feeds", [self._feed_spec(feed) for feed in self._feeds], intensity=MAY_GIVE_UP
        )
        return self._feeds_supervisor

    # --- one feed -------------------------------------------------------------------------

    def _feed_spec(self, feed: Feed) -> "ChildSpec[object]":
        return feed_spec(feed, lambda: self._shards[feed.id], self._rest)

    def _shard_spec(self, feed: Feed) -> "ChildSpec[ShardMessage]":
        return ChildSpec(
            id=shard_id(feed),
            factory=lambda: (
                lambda ctx: run_shard(ctx, feed, lambda: self._snapshots, lambda: self._audit)
            ),
            backoff=Backoff(min=0.1, max=5.0, first_immediate=True),
            mailbox=MailboxSpec(size=MAILBOX_BATCHES),
            shutdown=FEED_SHUTDOWN,
        )


def _has(supervisor: Supervisor, child: str) -> bool:
    return any(info.id == child for info in supervisor.children())


async def _remove(supervisor: Supervisor, child: str) -> None:
    await supervisor.stop_child(child)
    if _has(supervisor, child):  # a dynamic supervisor has forgotten it already
        await supervisor.delete_child(child)


class _Root(Supervisor):
    """The root: a stop, whoever orders it (a signal, too), is the stop of the whole service."""

    def __init__(
        self,
        env: Environment,
        children: Sequence[ChildSpec[Any] | Supervisor],
        rng: Random | None,
        events: EventBus,
    ) -> None:
        super().__init__(
            "root",
            children,
            strategy=Strategy.ONE_FOR_ONE,
            intensity=Intensity(3, 300.0),
            rng=rng,
            events=events,
        )
        self._env = env

    def stop(self) -> None:
        """Begin the ordered stop; from now on what goes down is no failure."""
        self._env.is_stopping = True
        super().stop()
