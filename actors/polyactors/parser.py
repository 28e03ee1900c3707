"""The parser: the actor that turns frames into events, and says where something was lost.

It also answers for what the frames say about the session itself: PONG goes to the heartbeat,
market data moves the feed's data clock, and too many unreadable frames end the session.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import trio
from msgspec import Struct

from polyactors.book.trust import StaleReason
from polyactors.events import RawFrame
from polyactors.feed import Feed
from polyactors.logger import log
from polyactors.messages import (
    Abort,
    ControlMessage,
    Frames,
    HeartbeatMessage,
    Missed,
    Parsed,
    PongReceived,
    ShardMessage,
)
from polyactors.protocol.codec import NAME_OF, MarketCodec
from polyactors.protocol.events import (
    BookSnapshot,
    ControlText,
    Decoded,
    MarketEvent,
    MarketResolved,
    NewMarket,
    Unreadable,
)
from polyactors.protocol.user_events import UserDecoded
from polyactors.statistics import Statistics, count_name
from polysupervisor import Address, Context, Rest

MAILBOX_BATCHES = 1024
BATCHES_PER_WAKE_MAX = 64
UNREADABLE_PER_SESSION_MAX = 100
"""A session with more unreadable frames is worth nothing: a fresh one is begun."""

GLOBAL_EVENTS = {NewMarket, MarketResolved}
"""They come to every connection whatever it subscribed: no sign that its books are served."""


def _log_unreadable(_: int, found: Unreadable) -> None:
    log.warning("unreadable frame", why=found.why, excerpt=found.excerpt)


def note_unreadable(found: Unreadable, statistics: Statistics) -> None:
    """Log and count an unreadable frame."""
    _log_unreadable(0, found)
    _count_unreadable((found,), statistics)


async def run_parser(
    ctx: Context[Frames],
    feed: Feed,
    shard: Address[ShardMessage],
    heartbeat: Address[HeartbeatMessage] | None = None,
    connection: Address[ControlMessage] | None = None,
    on_unreadable: Callable[[int, Unreadable], None] = _log_unreadable,
) -> None:
    """Parse until stopped. Never fails on what a frame says, only on bugs.

    `on_unreadable` hears of every unreadable frame, counted from 0 over the feed's life; a
    replay, which has neither heartbeat nor connection, names the line instead of logging it.
    """
    codec = MarketCodec()
    unreadable = 0  # in one session: the next one is a new incarnation's
    if feed.epoch is not None:
        # Frames that a former incarnation had taken, or that waited for it, are gone.
        lost = Missed((), StaleReason.ACTOR_RESTARTED)
        await shard.send(Parsed(feed.id, feed.epoch, feed.env.clock_ns(), [lost]))
    feed.parser_ready.set()

    def parse(frames: Frames) -> Parsed | None:
        nonlocal unreadable
        if frames.epoch != feed.epoch:
            feed.env.statistics.stale_batches += 1
            return None
        if feed.env.hub.wants_frames:
            feed.env.hub.publish_frames(raw_frames(frames))
        parsed = parse_frames(codec, frames.frames, feed.env.statistics)
        for index, found in parsed.unreadable:
            on_unreadable(feed.messages + index, found)
        feed.messages += len(frames.frames)
        if parsed.is_data:
            feed.note_data(beyond_first_dump=parsed.is_beyond_dump)
        if parsed.pongs and heartbeat is not None:
            with suppress(trio.WouldBlock):  # it has not looked at many, and needs no other
                heartbeat.send_nowait(PongReceived(frames.epoch))
        unreadable += len(parsed.unreadable)
        if unreadable > UNREADABLE_PER_SESSION_MAX and connection is not None:
            detail = f"{unreadable} unreadable frames in one session"
            connection.send_nowait(Abort(frames.epoch, "unreadable", detail))
        if not parsed.events:
            return None
        return Parsed(feed.id, frames.epoch, frames.received_at_ns, parsed.events)

    def handle(batches: list[Frames]) -> Rest | None:
        for place, frames in enumerate(batches, 1):
            parsed = parse(frames)
            if parsed is not None:
                try:
                    shard.send_nowait(parsed)
                except trio.WouldBlock:
                    return partial(wait_for_room, parsed, batches[place:])
        return None

    async def wait_for_room(parsed: Parsed, further: list[Frames]) -> None:
        await shard.send(parsed)
        rest = handle(further)
        if rest is not None:
            await rest()

    await ctx.inbox.serve(handle, BATCHES_PER_WAKE_MAX)


def raw_frames(frames: Frames) -> list[RawFrame]:
    """A batch, for those who want the frames themselves."""
    return [
        RawFrame(time_ns=frames.received_at_ns, feed=frames.feed, epoch=frames.epoch, frame=frame)
        for frame in frames.frames
    ]


class ParsedFrames(Struct, frozen=True):
    """What a batch of frames held."""

    events: list[MarketEvent | Missed]
    pongs: int
    unreadable: list[tuple[int, Unreadable]]
    """Index of each frame that held something unreadable, and the first of that."""
    is_data: bool
    """Market data of some token: a sign of life of the feed. PONG is not."""
    is_beyond_dump: bool
    """Something other than books."""


def parse_frames(
    codec: MarketCodec, frames: Sequence[str | bytes], statistics: Statistics
) -> ParsedFrames:
    """Decode frames in order, count everything, and put a Missed where something was lost."""
    events: list[MarketEvent | Missed] = []
    unreadable: list[tuple[int, Unreadable]] = []
    pongs = 0
    index = 0
    while index < len(frames):
        known, index = codec.receive_known(frames, index)
        events += known
        if index == len(frames):
            break
        decoded = codec.receive_frame(frames[index])
        events += decoded.events
        if decoded.control is ControlText.PONG:
            pongs += 1
        elif decoded.control is ControlText.INVALID_OPERATION:
            log.warning("the exchange rejected a subscription", answer=decoded.control.value)
        note_unknown(decoded, statistics)
        if decoded.unreadable:
            unreadable.append((index, decoded.unreadable[0]))
            events += _lose(decoded.unreadable, statistics)
        index += 1
    kinds = list(map(type, events))
    different = set(kinds) - {Missed}
    for kind in different:
        statistics.events[NAME_OF[kind]] += kinds.count(kind)
    data = different - GLOBAL_EVENTS
    return ParsedFrames(events, pongs, unreadable, bool(data), bool(data - {BookSnapshot}))


def note_unknown(decoded: Decoded | UserDecoded, statistics: Statistics) -> None:
    """Log and count what nobody knows in a frame."""
    for name in decoded.unknown_events:
        if name not in statistics.unknown_events:
            log.info("unknown event type, counted and passed by", event_type=name[:200])
        count_name(statistics.unknown_events, name)
    for name in decoded.unknown_fields:
        count_name(statistics.unknown_fields, name)


def _count_unreadable(found: tuple[Unreadable, ...], statistics: Statistics) -> None:
    """Count one frame; `found` is all in it that cannot be read."""
    statistics.unreadable_frames += 1
    statistics.unreadable_samples.extend(item.excerpt for item in found)


def _lose(found: tuple[Unreadable, ...], statistics: Statistics) -> list[Missed]:
    _count_unreadable(found, statistics)
    named: dict[str, None] = {}
    touches_all = False
    for item in found:
        named.update(dict.fromkeys(item.tokens))
        touches_all = touches_all or not item.tokens
    return [Missed(() if touches_all else tuple(named), StaleReason.PARSE_FAILURE)]
