"""A stream as it is sent: frames, when each is due, and what the books are after it.

Made once for each shape and kept in a folder of the temporary directory, as one file of flat
arrays, so that an exchange starts at once however long the stream is.
"""

import json
import os
import tempfile
from array import array
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from random import Random

from attrs import frozen
from tests.benchmarks.stream import wire
from tests.benchmarks.stream.frames import text_frame

LEVELS = 50
"""On each side of each book at the beginning."""
_TYPES = {"book_ends": "Q", "frame_ends": "Q", "dues_us": "Q", "markets": "I", "tops": "H"}
TOP = 4
"""Numbers of one `wire.Top`."""


@frozen
class Shape:
    """What makes one stream another than the next."""

    tokens: int
    messages: int
    rate: float
    """Messages a second, on average."""

    def __attrs_post_init__(self) -> None:
        assert self.tokens % 2 == 0, "a market has two tokens"


@frozen
class Recording:
    """A stream. Message i is frames[frame_ends[i - 1]:frame_ends[i]]."""

    tokens: list[str]
    """Those of market i are at 2i and 2i + 1."""
    books: memoryview
    """The first book of each token, JSON."""
    book_ends: "array[int]"
    frames: memoryview
    """A WebSocket frame for each message."""
    frame_ends: "array[int]"
    dues_us: "array[int]"
    """When each message is to be sent, in microseconds from the start."""
    markets: "array[int]"
    """The market of each message."""
    tops: "array[int]"
    """The `wire.Top` of the market's first token after each message."""

    def __len__(self) -> int:
        return len(self.markets)

    def book(self, token: int) -> memoryview:
        """The first book of a token, by its place in `tokens`."""
        begin = self.book_ends[token - 1] if token else 0
        return self.books[begin : self.book_ends[token]]

    def frame(self, message: int) -> memoryview:
        """The frame of a message."""
        begin = self.frame_ends[message - 1] if message else 0
        return self.frames[begin : self.frame_ends[message]]

    def payload(self, message: int) -> memoryview:
        """The text of a message."""
        frame = self.frame(message)
        return frame[2 if frame[1] < 126 else 4 if frame[1] == 126 else 10 :]

    def top(self, message: int, token: int) -> wire.Top:
        """The top of a token's book after a message of its market."""
        bid, ask, bids, asks = self.tops[message * TOP : (message + 1) * TOP]
        if token % 2 == 0:
            return bid, ask, bids, asks
        return wire.TICKS - ask, wire.TICKS - bid, asks, bids

    def final_tops(self) -> dict[str, tuple[int, int]]:
        """Best bid and ask of every token at the end."""
        last = {market: message for message, market in enumerate(self.markets)}
        tops: dict[str, tuple[int, int]] = {}
        for place, token in enumerate(self.tokens):
            message = last.get(place // 2)
            if message is None:
                book = json.loads(bytes(self.book(place)))
                bid, ask = (wire.TICK_OF[book[side][-1]["price"]] for side in ("bids", "asks"))
            else:
                bid, ask, _, _ = self.top(message, place)
            tops[token] = bid, ask
        return tops


def make(shape: Shape) -> Recording:
    """Make a stream: some 15 µs a message."""
    random = Random(shape.messages)
    trading = wire.Trading(shape.tokens, LEVELS)
    books, frames = bytearray(), bytearray()
    arrays: dict[str, array[int]] = {name: array(code) for name, code in _TYPES.items()}
    for market in trading.markets:
        for token in (0, 1):
            books += market.first_book(token, wire.EPOCH_MS - 1).encode()
            arrays["book_ends"].append(len(books))
    due_us = 0.0
    for _ in range(shape.messages):
        due_us += random.expovariate(shape.rate / 1e6)  # a Poisson process
        number, message = trading.step(wire.EPOCH_MS + int(due_us))
        frames += text_frame(message.encode())
        arrays["frame_ends"].append(len(frames))
        arrays["dues_us"].append(int(due_us))
        arrays["markets"].append(number)
        arrays["tops"].extend(trading.markets[number].top(0))
    tokens = [token for market in trading.markets for token in market.tokens]
    return Recording(tokens, memoryview(books), frames=memoryview(frames), **arrays)


def save(recording: Recording, path: Path) -> None:
    """Write a stream to a file, at once or not at all."""
    parts: dict[str, bytes | memoryview] = {
        "tokens": json.dumps(recording.tokens).encode(),
        "books": recording.books,
        "frames": recording.frames,
        **{name: getattr(recording, name).tobytes() for name in _TYPES},
    }
    head = json.dumps({name: len(part) for name, part in parts.items()}).encode()
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(head + b"\n")
        for part in parts.values():
            file.write(part)
    Path(file.name).replace(path)


def load(path: Path) -> Recording:
    """Read a stream from a file."""
    head, data = path.read_bytes().split(b"\n", 1)
    parts: dict[str, memoryview] = {}
    rest = memoryview(data)
    for name, size in json.loads(head).items():
        parts[name], rest = rest[:size], rest[size:]
    arrays: dict[str, array[int]] = {}
    for name, code in _TYPES.items():
        arrays[name] = array(code)
        arrays[name].frombytes(parts[name])
    return Recording(
        json.loads(bytes(parts["tokens"])), parts["books"], frames=parts["frames"], **arrays
    )


def recorded(shape: Shape, folder: Path, tell: Callable[[str], None]) -> Path:
    """The file of a stream, made if there is none of this shape by this very code."""
    code = b"".join(Path(source).read_bytes() for source in (wire.__file__, __file__))
    version = sha1(code).hexdigest()[:8]
    name = f"{shape.tokens}-tokens-{shape.messages}-messages-{shape.rate:g}-a-second-{version}"
    path = folder / name
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tell(f"making a stream of {shape.messages:,} messages over {shape.tokens:,} tokens")
        save(make(shape), path)
    os.utime(path)
    return path
