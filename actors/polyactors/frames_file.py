"""Files of recorded frames: one WebSocket text frame a line, unpacked on the way."""

import gzip
import io
import sys
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from attrs import Factory, define

from polyactors.errors import UsageError

LINES_PER_BATCH = 256
LINE_BYTES_MAX = 64 * 2**20
PACKED_BYTES = 16 * 2**10
"""Read at once of a packed file: what it unpacks to is held in memory."""


@define
class Lines:
    """Which line of which file a frame was: a new entry only where the numbering jumps."""

    first_frames: list[int] = Factory(list[int])
    places: list[tuple[str, int]] = Factory(list[tuple[str, int]])
    frames: int = 0
    unparsed: deque[bytes] = Factory(deque[bytes])
    """The newest frames: all those that the parser has not had yet."""

    def note(self, path: str, line: int, text: bytes) -> None:
        """The next frame is this line."""
        if not self.frames or self.place(self.frames) != (path, line):
            self.first_frames.append(self.frames)
            self.places.append((path, line))
        self.frames += 1
        self.unparsed.append(text)

    def forget(self, parsed: int) -> None:
        """The parser has had so many frames."""
        while self.frames - len(self.unparsed) < parsed:
            self.unparsed.popleft()

    def text(self, frame: int) -> bytes:
        """The text of a frame that is not forgotten."""
        return self.unparsed[frame - self.frames]

    def place(self, frame: int) -> tuple[str, int]:
        """(path, line) of a frame; of the next one, if the numbering went on."""
        index = bisect_right(self.first_frames, frame) - 1
        path, line = self.places[index]
        return path, line + frame - self.first_frames[index]


def open_frames(path: str) -> BinaryIO:
    """The file, unpacked. Raises UsageError when it cannot be opened."""
    try:
        if path.endswith(".gz"):
            return cast("BinaryIO", gzip.open(path, "rb"))
        if path.endswith(".zst"):
            return cast("BinaryIO", io.BufferedReader(_ZstdFile(Path(path).open("rb"))))
        return Path(path).open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None


def next_lines(path: str, file: BinaryIO) -> list[bytes]:
    """At most LINES_PER_BATCH lines; none at the end. Raises UsageError."""
    try:
        batch: list[bytes] = []
        while len(batch) < LINES_PER_BATCH and (line := file.readline(LINE_BYTES_MAX)):
            batch.append(line)
        return batch
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read {path}: {error}") from None


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
