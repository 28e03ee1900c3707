"""The actors of one feed and their supervisor: connection → heartbeat → parser, REST_FOR_ONE.

Whatever ends a session ends the connection, and those behind it begin anew with it; a parser
that fails does not touch the socket. The books of the feed live elsewhere (tree.py) and stay.
"""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from polyactors.config import (
    BACKOFF_SECONDS_MIN,
    FEED_GAVE_UP_RETRY_SECONDS,
    FEED_GAVE_UP_RETRY_SECONDS_MAX,
    TOKENS_PER_CONNECTION_MAX,
)
from polyactors.connection import run_connection
from polyactors.errors import SessionFailed
from polyactors.feed import Feed
from polyactors.heartbeat import run_heartbeat
from polyactors.messages import (
    Abort,
    ControlMessage,
    Frames,
    HeartbeatMessage,
    Resync,
    ShardMessage,
)
from polyactors.parser import MAILBOX_BATCHES, run_parser
from polyactors.probe import probe
from polyactors.rest import RestClient
from polysupervisor import (
    Address,
    Backoff,
    ChildSpec,
    Intensity,
    MailboxSpec,
    Overflow,
    Shutdown,
    Strategy,
    Supervisor,
    SupervisorEscalation,
)

FEED_SHUTDOWN = Shutdown(grace=2.0, kill=2.0)
CONTROL_KEYS_MAX = TOKENS_PER_CONNECTION_MAX + 24
"""Different orders that a connection's control mailbox holds: a resync of each of its tokens, and
a PING, an Abort or a few."""
HEARTBEAT_MESSAGES_MAX = 64


def shard_id(feed: Feed) -> str:
    """The id of the child that keeps the feed's books."""
    return feed.id.replace("feed", "shard")


def feed_spec(
    feed: Feed, shard: Callable[[], Address[ShardMessage]], rest: RestClient
) -> ChildSpec[object]:
    """A feed as a child of the service. One that exhausts its intensity has a bug or very bad
    luck; it is tried again, but rarely, and the rest of the service goes on."""
    return ChildSpec(
        id=feed.id,
        factory=lambda: make_feed(feed, shard, rest),
        backoff=Backoff(
            min=FEED_GAVE_UP_RETRY_SECONDS,
            max=FEED_GAVE_UP_RETRY_SECONDS_MAX,
            jitter=0.0,
            reset_after=FEED_GAVE_UP_RETRY_SECONDS_MAX,
        ),
        expected=(SupervisorEscalation,),
        shutdown=Shutdown(grace=10.0),
    )


def make_feed(
    feed: Feed, shard: Callable[[], Address[ShardMessage]], rest: RestClient
) -> Supervisor:
    """The three actors of a feed; `shard` says where its books are when its parser starts, `rest`
    tells its heartbeat a quiet market from a stall."""

    def address(child: str) -> "Address[Any]":
        return supervisor.address(child)

    # A feed without tokens hears of new markets alone, which come rarely.
    silence_probe = partial(probe, feed, rest) if feed.tokens else None
    reconnect_seconds_max = feed.env.settings.reconnect_seconds_max
    connection: ChildSpec[ControlMessage] = ChildSpec(
        id="connection",
        factory=lambda: (
            lambda ctx: run_connection(ctx, feed, address("parser"), address("heartbeat"))
        ),
        backoff=Backoff(
            min=min(BACKOFF_SECONDS_MIN, reconnect_seconds_max),
            max=reconnect_seconds_max,
            jitter=1.0,
            reset_after=inf,
            first_immediate=True,
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
        factory=lambda: lambda ctx: run_heartbeat(ctx, feed, address("connection"), silence_probe),
        mailbox=MailboxSpec(size=HEARTBEAT_MESSAGES_MAX, keep_on_restart=False),
        shutdown=FEED_SHUTDOWN,
    )
    parse: ChildSpec[Frames] = ChildSpec(
        id="parser",
        factory=lambda: (
            lambda ctx: run_parser(ctx, feed, shard(), address("heartbeat"), address("connection"))
        ),
        mailbox=MailboxSpec(size=MAILBOX_BATCHES, keep_on_restart=False),
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


def _control_key(message: ControlMessage) -> object:
    if isinstance(message, Resync):
        return message.token
    return type(message) if not isinstance(message, Abort) else (Abort, message.epoch)
