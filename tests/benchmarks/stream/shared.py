"""What all connections of the exchange share, and one connection, whatever is spoken on it."""

import select
import socket
import ssl
import threading
import time
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from tests.benchmarks.stream.recording import Recording
from tests.benchmarks.stream.state import Books

if TYPE_CHECKING:
    from tests.benchmarks.stream.feed import Feed

LEAD_SECONDS = 0.3
"""Between `/go` and the first message: every connection must have heard of it, and be ready."""
POLL_SECONDS = 0.002
"""How often a connection looks for `/go` and `/reset`, when there are few of them."""
RESETTING_SECONDS = 5.0


class GoneError(Exception):
    """The connection has ended."""


class Exchange:
    """What all connections share."""

    def __init__(self, recording: Recording, *, is_paced: bool) -> None:
        self.recording = recording
        self.is_paced = is_paced
        self.books = Books(recording)
        self.books_lock = threading.Lock()
        self.start_ns: int | None = None
        self.resets = 0
        self.resumed = 0
        """WebSockets that came when the stream had begun."""
        self.reset_ns: list[int] = []
        self.sent: dict[int, int] = {}
        """By market: how many messages of the stream its connection has sent."""
        self.feeds: set[Feed] = set()
        self.late_us: array[float] = array("d")

    def due(self) -> int:
        """How many messages should have been sent by now: those before are in the first books."""
        if self.start_ns is None or not self.is_paced:
            return 0
        elapsed_us = max(0, time.monotonic_ns() - self.start_ns) // 1000
        return bisect_right(self.recording.dues_us, elapsed_us)

    def go(self) -> dict[str, Any]:
        """Begin to send."""
        self.start_ns = time.monotonic_ns() + int(LEAD_SECONDS * 1e9)
        return {"start_ns": self.start_ns}

    def reset(self) -> dict[str, Any]:
        """Reset every WebSocket."""
        self.reset_ns.clear()
        open_feeds = len(self.feeds)
        self.resets += 1
        until = time.monotonic() + RESETTING_SECONDS
        while len(self.reset_ns) < open_feeds and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        return {"reset_ns": min(self.reset_ns)}

    def lateness(self) -> dict[str, Any]:
        """How late each message was through the exchange, and who came in the middle."""
        late_us = [round(late, 1) for late in self.late_us]
        return {"late_us": late_us, "resumed": self.resumed}

    def rest_books(self, tokens: list[str]) -> list[bytes]:
        """The books of those tokens that exist."""
        places = [self.books.place(token) for token in tokens]
        with self.books_lock:
            return [
                self.books.rest_book(place, self.sent.get(place // 2, 0))
                for place in places
                if place is not None
            ]

    def conditions(self) -> dict[str, Any]:
        """The condition of each market."""
        return {"conditions": self.books.conditions()}


class Peer:
    """One client, whatever it speaks, and what has come from it."""

    def __init__(self, exchange: Exchange, sock: socket.socket) -> None:
        self.exchange = exchange
        self.sock = sock
        self.buffer = bytearray()

    def receive(self, timeout: float | None = None) -> bool:
        """Wait for something to arrive and add it to the buffer; whether it did in time."""
        pending = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
        if not pending and not select.select([self.sock], [], [], timeout)[0]:
            return False
        data = self.sock.recv(65536)
        if not data:
            raise GoneError
        self.buffer += data
        return True
