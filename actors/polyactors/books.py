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
from polyactors.messages import AuditAgain, Audited, FetchBook, RestBook, Resync, ShardMessage
from polyactors.recovery import Request
from polyactors.shard import BookShard, Send
from polysupervisor import Address, Context

MAILBOX_BATCHES = 1024
"""Parsed batches that may wait; then the parser waits, and at last the socket is not read."""
BEHIND_BATCHES = 8
"""So many batches found at one wake-up mean that the shard is behind: updates coalesce."""
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
    feed.shard = shard
    feed.env.book_shards += 1
    try:
        shard.start(trio.current_time())
        shard.flush()
        ctx.ready()
        while True:
            batches = await _next_batches(ctx, feed, shard)
            now = trio.current_time()
            is_behind = len(batches) >= BEHIND_BATCHES
            for batch in batches:
                if isinstance(batch, RestBook):
                    shard.rest_book(batch, now)
                elif isinstance(batch, Audited):
                    shard.audited(batch, now)
                else:
                    shard.apply(batch, now, is_behind=is_behind)
            shard.on_time(now, is_caught_up=not ctx.inbox.queued)
            shard.flush()
            if batches:
                feed.env.statistics.last_applied_ns = time.monotonic_ns()
    finally:
        feed.env.book_shards -= 1
        if not feed.env.is_stopping:  # at the end of the service the last books stand
            feed.shard = None
            shard.abandon(trio.current_time())
            shard.flush()


async def _next_batches(
    ctx: Context[ShardMessage], feed: Feed, shard: BookShard
) -> list[ShardMessage]:
    """What has arrived, or nothing when something is due first."""
    due = inf if ctx.inbox.queued else shard.next_due(trio.current_time())
    with trio.CancelScope(deadline=due) as feed.shard_alarm:
        return await ctx.inbox.receive_batch(BATCHES_PER_WAKE_MAX)
    if trio.current_time() > feed.shard_alarm.deadline + LATE_SECONDS:
        shard.overslept(trio.current_time())
    return []
