"""Replay: recorded frames through the same parser and book actors as live ones.

A file holds one WebSocket text frame a line; `.gz` and `.zst` are unpacked. There is no clock in
it, so quiet closes no hash group; the end of the files does. Every group is hashed. Nothing
can be asked again, so a token that desynchronised waits for the next `book` in the file.
"""

import json
import sys
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

import attrs
import trio
from attrs import Factory, define, frozen

from polyactors.book.numbers import to_text
from polyactors.books import run_shard
from polyactors.cli import EXIT_CLEAN, EXIT_DESYNC, EXIT_INTERRUPTED
from polyactors.config import Settings
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.feed import Feed
from polyactors.frames_file import Lines, next_lines, open_frames
from polyactors.logs import logging_to
from polyactors.messages import Frames, ShardMessage
from polyactors.parser import run_parser
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import Unreadable
from polyactors.shard import BookShard, Send
from polyactors.stops import until_signal
from polyactors.terminal.pipes import complain, say
from polyactors.terminal.text import count, printable
from polysupervisor import (
    Address,
    ChildSpec,
    Context,
    Intensity,
    MailboxSpec,
    Restart,
    Shutdown,
    Strategy,
    Supervisor,
)

MAILBOX_BATCHES = 16
DRAIN = Shutdown(grace=inf)
"""A replay ends when everything is through, however long that takes."""
EPOCH = 1
BAD_LINES_NAMED_MAX = 5
"""Bad lines of one file that the command names; all are counted."""


@frozen
class ReplayReport:
    """What a replay found."""

    frames: int
    unreadable_frames: int
    events: dict[str, int]
    """By the wire's event type; types that nobody knows stand here too."""
    groups: int
    groups_top_ok: int
    groups_hash_ok: int
    groups_hash_unverifiable: int
    desyncs: int
    tokens: dict[str, dict[str, object]]
    """By id: best_bid, best_ask (text, None for an empty side), bids, asks (numbers of
    levels), state (at the end of the files)."""
    desyncs_by_reason: dict[str, int]
    """For people: no part of the JSON."""

    def to_json(self) -> dict[str, object]:
        """The object that `replay --json` prints."""
        document = attrs.asdict(self)
        del document["desyncs_by_reason"]
        return document

    def lines(self) -> list[str]:
        """The report for people."""
        events = ", ".join(f"{number} {name}" for name, number in sorted(self.events.items()))
        lines = [
            f"{self.frames} frames ({self.unreadable_frames} unreadable): {events or 'no events'}",
            f"{self.groups} hash groups: {self.groups_top_ok} with the right top, "
            f"{self.groups_hash_ok} with the right hash, "
            f"{self.groups_hash_unverifiable} unverifiable; {self._desyncs_text()}",
        ]
        for token, book in self.tokens.items():
            lines.append(
                f"{token}  {book['best_bid'] or '-'}/{book['best_ask'] or '-'}  "
                f"({book['bids']} bids, {book['asks']} asks)  {book['state']}"
            )
        return lines

    def _desyncs_text(self) -> str:
        reasons = (f"{number} {reason}" for reason, number in self.desyncs_by_reason.items())
        told = ", ".join(reasons)
        how = f" ({told}): --log-level info names them" if told else ""
        return count(self.desyncs, "desync") + how


def replay_feed() -> Feed:
    """The feed of a replay: no tokens yet, and no deadline for a first book."""
    return Feed("replay", (), Environment(Settings(first_book_deadline_seconds=inf)))


def replay_shard(feed: Feed, send: Send) -> BookShard:
    """The books of a replay: of any token that appears, every group hashed, no group quiet."""
    return BookShard(feed, send, adopt_any_token=True, hash_every_group=True, quiet_seconds=inf)


async def replay_files(
    paths: Sequence[str],
    *,
    on_bad_line: Callable[[str, int, str], None] = lambda path, line, why: None,
    progress: Callable[[int], None] = lambda frames: None,
) -> ReplayReport:
    """Replay files in order, as one session.

    `on_bad_line` hears file, line number (from 1) and fault of every unreadable line;
    `progress` the number of frames read so far. Raises UsageError for a file that cannot be
    read or holds no readable line. Cancellation: stops at once.
    """
    feed = replay_feed()
    env = feed.env
    lines = Lines()
    codec = MarketCodec()
    readable: dict[str, int] = {}
    shards: list[BookShard] = []

    def make_shard(feed: Feed, send: Send) -> BookShard:
        shard = replay_shard(feed, send)
        shards.append(shard)
        return shard

    def on_unreadable(frame: int, found: Unreadable) -> None:
        path, line = lines.place(frame)
        decoded = codec.receive_frame(lines.text(frame))
        if not decoded.events and not decoded.unknown_events:  # else a part of it was readable
            readable[path] -= 1
        on_bad_line(path, line, found.why)

    failure: UsageError | None = None

    async def read(ctx: Context[object]) -> None:
        nonlocal failure
        feed.session_up(EPOCH)
        ctx.ready()
        try:
            for path in paths:
                readable.setdefault(path, 0)
                await _read(path, parser_address(), lines, readable, feed, progress)
        except UsageError as error:
            failure = error
        env.is_stopping = True  # the last states of the books are the result
        root.stop()

    def parser_address() -> Address[Frames]:
        return root.address("parser")

    def shard_address() -> Address[ShardMessage]:
        return root.address("books")

    root = Supervisor(
        "replay",
        [
            ChildSpec[ShardMessage](
                id="books",
                factory=lambda: (
                    lambda ctx: run_shard(ctx, feed, lambda: None, lambda: None, make_shard)
                ),
                mailbox=MailboxSpec(size=MAILBOX_BATCHES),
                shutdown=DRAIN,
            ),
            ChildSpec[Frames](
                id="parser",
                factory=lambda: (
                    lambda ctx: run_parser(ctx, feed, shard_address(), on_unreadable=on_unreadable)
                ),
                mailbox=MailboxSpec(size=MAILBOX_BATCHES),
                shutdown=DRAIN,
            ),
            ChildSpec[object](
                id="reader",
                factory=lambda: read,
                restart=Restart.TRANSIENT,
            ),
        ],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(limit=0),  # a bug ends the replay: its result would be worth nothing
        stop_deadline=inf,
    )
    await root.run()
    if failure is not None:
        raise failure
    for path, number in readable.items():
        if number <= 0:
            raise UsageError(
                f"{path} has no readable line; expected one WebSocket frame (JSON) a line, "
                "which is not what --events writes"
            )
    return replay_report(feed, shards[-1])


async def _read(
    path: str,
    parser: Address[Frames],
    lines: Lines,
    readable: dict[str, int],
    feed: Feed,
    progress: Callable[[int], None],
) -> None:
    # In threads that a cancellation leaves behind: a pipe may wait for its writer for ever. The
    # file is not closed then, since that would wait for the thread.
    file = await trio.to_thread.run_sync(open_frames, path, abandon_on_cancel=True)
    is_left = False
    number = 1
    try:
        while True:
            try:
                batch = await trio.to_thread.run_sync(
                    next_lines, path, file, abandon_on_cancel=True
                )
            except trio.Cancelled:
                is_left = True
                raise
            if not batch:
                break
            lines.forget(feed.messages)
            frames: list[str | bytes] = []
            for line in batch:
                text = (line.removeprefix(BOM_UTF8) if number == 1 else line).strip()
                if text:  # a blank line is no frame
                    frames.append(text)
                    lines.note(path, number, text)
                number += 1
            readable[path] += len(frames)
            await parser.send(Frames(feed.id, EPOCH, feed.env.clock_ns(), frames))
            progress(lines.frames)
    finally:
        if not is_left:
            file.close()


def replay_report(feed: Feed, shard: BookShard) -> ReplayReport:
    """What a replay found; closes the groups that are still open, so the frames must be through."""
    shard.close_groups(trio.current_time())
    statistics = feed.env.statistics

    def text(units: int | None) -> str | None:
        return None if units is None else to_text(units)

    return ReplayReport(
        frames=feed.messages,
        unreadable_frames=statistics.unreadable_frames,
        events=dict(statistics.events + statistics.unknown_events),
        groups=statistics.groups,
        groups_top_ok=statistics.groups_top_ok,
        groups_hash_ok=statistics.groups_hash_ok,
        groups_hash_unverifiable=statistics.groups_hash_unverifiable,
        desyncs=statistics.desyncs,
        desyncs_by_reason=dict(statistics.desyncs_by_reason),
        tokens={
            token: {
                "best_bid": text(state.book.best_bid_units),
                "best_ask": text(state.book.best_ask_units),
                "bids": state.book.bid_count,
                "asks": state.book.ask_count,
                "state": feed.trust[token].state.value,
            }
            for token, state in shard.books.items()
        },
    )


@define
class _BadLines:
    """Names the first bad lines of every file on standard error, and counts the rest."""

    numbers: Counter[str] = Factory(Counter[str])

    def name(self, path: str, line: int, why: str) -> None:
        """One more."""
        self.numbers[path] += 1
        if self.numbers[path] <= BAD_LINES_NAMED_MAX:
            complain(f"{path}:{line}: {printable(why)}")

    def count_rest(self) -> None:
        """There will be no more."""
        for path, number in self.numbers.items():
            if number > BAD_LINES_NAMED_MAX:
                complain(f"{path}: and {count(number - BAD_LINES_NAMED_MAX, 'more bad line')}")


def replay_command(values: Mapping[str, Any]) -> int:
    """`replay`: recorded frames through the same actors."""
    bad_lines = _BadLines()
    has_progress = sys.stderr.isatty()

    def show_progress(frames: int) -> None:
        if has_progress:
            print(f"\r{frames:,} frames", end="", file=sys.stderr, flush=True)

    work = partial(
        replay_files, values["files"], on_bad_line=bad_lines.name, progress=show_progress
    )
    with logging_to(sys.stderr, values["log_level"]):
        try:
            report = trio.run(until_signal, work)
        finally:
            if has_progress:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            bad_lines.count_rest()
    if report is None:
        return EXIT_INTERRUPTED
    if values["json"]:
        say(json.dumps(report.to_json()))
    else:
        say("\n".join(printable(line) for line in report.lines()))
    return EXIT_DESYNC if report.desyncs else EXIT_CLEAN
