"""Replay: recorded frames through the same parser and book actors as live ones.

A file holds one WebSocket text frame a line; `.gz` and `.zst` are unpacked. There is no clock in
it, so quiet closes no hash group; the end of the files does. Every group is hashed. Nothing
can be asked again, so a token that desynchronised waits for the next `book` in the file.
"""

import gzip
import io
import sys
import zlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import trio
from attrs import Factory, define, frozen

from polyactors.book.numbers import to_text
from polyactors.books import run_shard
from polyactors.config import Settings
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.feed import Feed
from polyactors.messages import Frames, ShardMessage
from polyactors.parser import run_parser
from polyactors.protocol.events import Unreadable
from polyactors.shard import BookShard, Send
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

LINES_PER_BATCH = 256
LINE_BYTES_MAX = 64 * 2**20
MAILBOX_BATCHES = 16
PACKED_BYTES = 16 * 2**10
"""Read at once of a packed file: what it unpacks to is held in memory."""
DRAIN = Shutdown(grace=inf)
"""A replay ends when everything is through, however long that takes."""
EPOCH = 1


@frozen
class ReplayReport:
    """What a replay found."""

    frames: int
    unreadable_frames: int
    events: dict[str, int]
    """By the wire's event type."""
    unknown_events: int
    groups: int
    groups_top_ok: int
    groups_hash_ok: int
    groups_hash_unverifiable: int
    desyncs: int
    tokens: dict[str, dict[str, object]]
    """By id: best_bid, best_ask (text, None for an empty side), bids, asks (numbers of
    levels), state (at the end of the files)."""

    def to_json(self) -> dict[str, object]:
        """The object that `replay --json` prints."""
        return {
            "frames": self.frames,
            "unreadable_frames": self.unreadable_frames,
            "events": self.events,
            "unknown_events": self.unknown_events,
            "groups": self.groups,
            "groups_top_ok": self.groups_top_ok,
            "groups_hash_ok": self.groups_hash_ok,
            "groups_hash_unverifiable": self.groups_hash_unverifiable,
            "desyncs": self.desyncs,
            "tokens": self.tokens,
        }

    def lines(self) -> list[str]:
        """The report for people."""
        events = ", ".join(f"{count} {name}" for name, count in sorted(self.events.items()))
        lines = [
            f"{self.frames} frames ({self.unreadable_frames} unreadable): {events or 'no events'}",
            f"{self.groups} hash groups: {self.groups_top_ok} with the right top, "
            f"{self.groups_hash_ok} with the right hash, "
            f"{self.groups_hash_unverifiable} unverifiable; {self.desyncs} desyncs",
        ]
        for token, book in self.tokens.items():
            lines.append(
                f"{token}  {book['best_bid'] or '-'}/{book['best_ask'] or '-'}  "
                f"({book['bids']} bids, {book['asks']} asks)  {book['state']}"
            )
        return lines


@define
class _Lines:
    """Which line of which file a frame was: a new entry only where the numbering jumps."""

    first_frames: list[int] = Factory(list[int])
    places: list[tuple[str, int]] = Factory(list[tuple[str, int]])
    frames: int = 0

    def note(self, path: str, line: int) -> None:
        """The next frame is this line."""
        if not self.frames or self.place(self.frames) != (path, line):
            self.first_frames.append(self.frames)
            self.places.append((path, line))
        self.frames += 1

    def place(self, frame: int) -> tuple[str, int]:
        """(path, line) of a frame; of the next one, if the numbering went on."""
        index = bisect_right(self.first_frames, frame) - 1
        path, line = self.places[index]
        return path, line + frame - self.first_frames[index]


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
    env = Environment(Settings(first_book_deadline_seconds=inf))
    feed = Feed("replay", (), env)
    lines = _Lines()
    readable: dict[str, int] = {}
    shards: list[BookShard] = []

    def make_shard(feed: Feed, send: Send) -> BookShard:
        shard = BookShard(
            feed, send, adopt_any_token=True, hash_every_group=True, quiet_seconds=inf
        )
        shards.append(shard)
        return shard

    def on_unreadable(frame: int, found: Unreadable) -> None:
        path, line = lines.place(frame)
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
                with _open(path) as file:
                    await _read(path, file, parser_address(), lines, readable, env, progress)
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
                factory=lambda: lambda ctx: run_shard(ctx, feed, lambda: None, make_shard),
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
    for path, count in readable.items():
        if count <= 0:
            raise UsageError(
                f"{path} has no readable line; expected one WebSocket frame (JSON) a line"
            )
    shard = shards[-1]
    shard.close_groups(trio.current_time())
    return _report(feed, shard)


async def _read(
    path: str,
    file: BinaryIO,
    parser: Address[Frames],
    lines: _Lines,
    readable: dict[str, int],
    env: Environment,
    progress: Callable[[int], None],
) -> None:
    number = 1
    while batch := await trio.to_thread.run_sync(_next_lines, path, file):
        frames: list[str | bytes] = []
        for line in batch:
            text = line.strip()
            if text:  # a blank line is no frame
                frames.append(text)
                lines.note(path, number)
            number += 1
        readable[path] += len(frames)
        await parser.send(Frames("replay", EPOCH, env.clock_ns(), frames))
        progress(lines.frames)


def _next_lines(path: str, file: BinaryIO) -> list[bytes]:
    try:
        batch: list[bytes] = []
        while len(batch) < LINES_PER_BATCH and (line := file.readline(LINE_BYTES_MAX)):
            batch.append(line)
        return batch
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read {path}: {error}") from None


@contextmanager
def _open(path: str) -> Generator[BinaryIO, None, None]:
    """The file, unpacked. Raises UsageError when it cannot be opened."""
    try:
        if path.endswith(".gz"):
            file = cast("BinaryIO", gzip.open(path, "rb"))  # noqa: SIM115 - closed below
        elif path.endswith(".zst"):
            packed = Path(path).open("rb")  # noqa: SIM115 - closed with its reader
            file = cast("BinaryIO", io.BufferedReader(_ZstdFile(packed)))
        else:
            file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    with file:
        yield file


class _Frame(Protocol):
    """What the standard library (3.14) and zstandard have in common: one zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class _ZstdFile(io.RawIOBase):
    """The unpacked bytes of all frames of a zstd file; it closes what it reads from.

    Reading raises OSError for what is no zstd, EOFError for a file cut short; zstandard's own
    reader notices the latter not at all, and stops after the first frame unless told not to.
    """

    def __init__(self, file: BinaryIO) -> None:
        if sys.version_info >= (3, 14):
            from compression import zstd

            make, failure = zstd.ZstdDecompressor, zstd.ZstdError
        else:
            import zstandard

            make, failure = zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
        self._make_frame: Callable[[], _Frame] = make
        self._failure: type[Exception] = failure
        self._file = file
        self._frame: _Frame | None = None
        self._packed = self._unpacked = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """As the standard library says."""
        while not self._unpacked:
            self._packed = self._packed or self._file.read(PACKED_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("it ends in the middle of a zstd frame")
                return 0
            self._unpack()
        size = min(len(buffer), len(self._unpacked))
        buffer[:size] = self._unpacked[:size]
        self._unpacked = self._unpacked[size:]
        return size

    def _unpack(self) -> None:
        frame = self._frame or self._make_frame()
        try:
            self._unpacked = frame.decompress(self._packed)
        except self._failure as error:
            raise OSError(str(error)) from None
        self._packed = frame.unused_data if frame.eof else b""
        self._frame = None if frame.eof else frame

    def close(self) -> None:
        """Close the packed file, too. Idempotent."""
        self._file.close()
        super().close()


def _report(feed: Feed, shard: BookShard) -> ReplayReport:
    statistics = feed.env.statistics

    def text(units: int | None) -> str | None:
        return None if units is None else to_text(units)

    return ReplayReport(
        frames=feed.messages,
        unreadable_frames=statistics.unreadable_frames,
        events=dict(statistics.events),
        unknown_events=statistics.unknown_events.total(),
        groups=statistics.groups,
        groups_top_ok=statistics.groups_top_ok,
        groups_hash_ok=statistics.groups_hash_ok,
        groups_hash_unverifiable=statistics.groups_hash_unverifiable,
        desyncs=statistics.desyncs,
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
