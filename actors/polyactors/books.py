"""The book shard: the actor that owns all books of one feed. It outlives every reconnect.

One actor per connection, not per book: a frame is one message, a task switch is paid per batch.
All decisions are in shard.py; here is the waiting.
"""

import time
from collections.abc import Callable
from math import inf
from typing import Any

import trio

from polyactors.feed import Feed
from polyactors.messages import (
    AuditAgain,
    FetchBook,
    Parsed,
    RestBook,
    Resync,
    ShardMessage,
)
from polyactors.recovery import Request
from polyactors.shard import BookShard, Send
from polysupervisor import Address, Context

MAILBOX_BATCHES = 1024
"""Parsed batches that may wait; then the parser waits, and at last the socket is not read."""
BEHIND_EVENTS = 64
"""So many events at one wake-up mean that the shard is behind: updates coalesce."""
BATCHES_PER_WAKE_MAX = 256
LATE_SECONDS = 0.05
"""Waking up so much after the due time shows that something held the loop up: what the socket
has is still on its way here."""


async def run_shard(
    ctx: Context[ShardMessage],
    feed: Feed,
    snapshots: Callable[[], Address[FetchBook] | None],
    audit: Callable[[], Address[AuditAgain] | None],
    make_shard: Callable[[Feed, Send], BookShard] = BookShard,
) -> None:
    """Keep the books of `feed` until stopped. A crash leaves them STALE(actor_restarted)."""

    def address_of(request: Request) -> "Address[Any] | None":
        if isinstance(request, Resync):
            return feed.connection_address
        return snapshots() if isinstance(request, FetchBook) else audit()

    def send(request: Request) -> None:
        # All three mailboxes coalesce and so never block; a closed one belongs to a child that
        # is gone for good, and its return begins with a new session and fresh books.
        address = address_of(request)
        if address is not None:
            try:
                address.send_nowait(request)
            except (trio.ClosedResourceError, trio.BrokenResourceError, trio.WouldBlock):
                feed.env.statistics.requests_lost += 1

    shard = make_shard(feed, send)

    def handle(batches: list[ShardMessage]) -> None:
        now = trio.current_time()
        events = sum([len(batch.events) for batch in batches if isinstance(batch, Parsed)])
        try:
            for batch in batches:
                if isinstance(batch, Parsed):
                    shard.apply(batch, now, is_behind=events >= BEHIND_EVENTS)
                elif isinstance(batch, RestBook):
                    shard.rest_book(batch, now)
                else:
                    shard.audited(batch, now)
            shard.flush()
            alarm, due = feed.shard_alarm, shard.next_due(now)
            if alarm is not None and due < alarm.deadline:  # else it looks again when it rings
                alarm.deadline = due
        except BaseException:
            die()  # before who sent this goes on, and somebody reads what is half done
            raise
        feed.env.statistics.last_applied_ns = time.monotonic_ns()

    def die() -> None:
        # At the end of the service the last books stand.
        if feed.shard is shard and not feed.env.is_stopping:
            feed.shard = None
            shard.abandon(trio.current_time())
            shard.flush()

    feed.shard = shard
    feed.env.book_shards += 1
    try:
        shard.start(trio.current_time())
        shard.flush()
        ctx.ready()
        while not await _serve(ctx, feed, shard, handle):
            now = trio.current_time()
            shard.on_time(now, is_caught_up=not ctx.inbox.queued)
            shard.flush()
    finally:
        feed.env.book_shards -= 1
        die()


async def _serve(
    ctx: Context[ShardMessage],
    feed: Feed,
    shard: BookShard,
    handle: Callable[[list[ShardMessage]], None],
) -> bool:
    """Handle what arrives until something is due. Returns whether the end has come instead."""
    # What is queued goes first; `handle` looks when something is due after that.
    due = inf if ctx.inbox.queued else shard.next_due(trio.current_time())
    with trio.CancelScope(deadline=due) as feed.shard_alarm:
        await ctx.inbox.serve(handle, BATCHES_PER_WAKE_MAX)
        return True
    if trio.current_time() > feed.shard_alarm.deadline + LATE_SECONDS:
        shard.overslept(trio.current_time())
    return False
