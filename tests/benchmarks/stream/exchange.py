"""The exchange of the benchmark: sends a recorded stream, in a process of its own.

``python -m tests.benchmarks.stream.exchange RECORDING [--paced] [--certificate FILE]`` prints its
port. It is never the bottleneck: frames are encoded before, one thread serves each connection
over a blocking socket. The same port serves WebSocket, REST and control, with TLS for who begins
with a TLS record:

- ``/ws/market``: a first book for each token of a subscription, then, after ``/go``, the messages
  about the markets subscribed, and a trade after the last of them.
- ``POST /books`` and ``GET /book``: the books as they are at that moment.
- ``/go``: begin to send; when, on the monotonic clock. Paced, each message at the time that it
  was recorded for, whenever the one before was sent; else as fast as the client takes them.
- ``/reset``: end every WebSocket with a TCP reset; when that happened.
- ``/lateness``: by how much paced messages were late, in microseconds.
- ``/conditions``: of each market, for a client that must know its instruments before.
"""

import argparse
import base64
import gc
import json
import select
import socket
import ssl
import struct
import sys
import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from hashlib import sha1
from itertools import accumulate, chain
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.benchmarks.stream import frames, wire
from tests.benchmarks.stream.recording import Recording, load
from tests.benchmarks.stream.state import Books

BOOKS_PER_FRAME = 100
CHUNK_BYTES = 256 * 1024
LEAD_SECONDS = 0.3
"""Between `/go` and the first message: every connection must have heard of it, and be ready."""
POLL_SECONDS = 0.002
"""How often a connection looks for `/go` and `/reset`, when there are few of them."""
FEEDS_POLLING = 5
"""More than that look less often, so that all of them together cost the same."""
RESETTING_SECONDS = 5.0
RESUME_SECONDS = 0.05
"""A client that is back after a reset has subscribed to all when it is quiet for so long."""
SPIN_SECONDS = 0.0005
"""Before a paced message the exchange does not sleep: it would wake up late."""
TLS_RECORD = 0x16
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time."""


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
        """How late messages were sent."""
        late = sorted(self.late_us)
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return {
            name: late[min(len(late) - 1, int(len(late) * share))] if late else 0.0
            for name, share in shares.items()
        }

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


class Connection:
    """One client, whatever it speaks."""

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

    def serve(self) -> None:
        """Answer requests until one is for a WebSocket."""
        while True:
            method, target, headers, body = self._request()
            path = urlsplit(target).path
            if headers.get("upgrade", "").lower() == "websocket":
                key = headers["sec-websocket-key"].encode()
                accept = base64.b64encode(sha1(key + _GUID).digest()).decode()
                self.sock.sendall(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
                )
                Feed(self).serve()
                return
            answer = self._answer(method, path, target, body)
            status = "404 Not Found" if answer is None else "200 OK"
            answer = answer or b"{}"
            self.sock.sendall(
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(answer)}\r\n\r\n".encode()
                + answer
            )

    def _request(self) -> tuple[str, str, dict[str, str], bytes]:
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self.receive()
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        method, target, _ = first.split()
        begin = end + 4
        end = begin + int(headers.get("content-length", 0))
        while len(self.buffer) < end:
            self.receive()
        body = bytes(self.buffer[begin:end])
        del self.buffer[:end]
        return method, target, headers, body

    def _answer(self, method: str, path: str, target: str, body: bytes) -> bytes | None:
        exchange = self.exchange
        if (method, path) == ("POST", "/books"):
            tokens = [wanted["token_id"] for wanted in json.loads(body)]
            return b"[" + b",".join(exchange.rest_books(tokens)) + b"]"
        if path == "/book":
            return b"".join(exchange.rest_books(parse_qs(urlsplit(target).query)["token_id"]))
        controls: dict[str, Callable[[], dict[str, Any]]] = {
            "/go": exchange.go,
            "/reset": exchange.reset,
            "/lateness": exchange.lateness,
            "/conditions": exchange.conditions,
        }
        return json.dumps(controls[path]()).encode() if path in controls else None


class Feed:
    """One WebSocket: first books, then the stream."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._exchange = connection.exchange
        self._sock = connection.sock
        self._resets = self._exchange.resets
        self._markets: dict[int, None] = {}
        self._is_sending = False

    def serve(self) -> None:
        """Until the client leaves, or is left."""
        exchange = self._exchange
        exchange.feeds.add(self)
        try:
            self._take_frames()  # sent along with the handshake
            while exchange.start_ns is None or not self._markets:
                self._listen(self._poll_seconds())
            while time.monotonic_ns() > exchange.start_ns and self._listen(RESUME_SECONDS):
                pass  # back after a reset, and still subscribing
            self._send_stream(exchange.start_ns)
            while True:
                self._listen(self._poll_seconds())
        finally:
            exchange.feeds.discard(self)

    def _poll_seconds(self) -> float:
        return POLL_SECONDS * max(1.0, len(self._exchange.feeds) / FEEDS_POLLING)

    def _listen(self, timeout: float) -> bool:
        """Answer what comes meanwhile; whether something did."""
        if self._resets != self._exchange.resets:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._exchange.reset_ns.append(time.monotonic_ns())
            raise GoneError
        if not self._connection.receive(timeout):
            return False
        self._take_frames()
        return True

    def _take_frames(self) -> None:
        connection = self._connection
        while (taken := frames.take_client_frame(connection.buffer)) is not None:
            opcode, payload = taken
            if opcode == frames.CLOSE:
                self._sock.sendall(frames.frame(frames.CLOSE, payload))
                raise GoneError
            if opcode == frames.PING:
                self._sock.sendall(frames.frame(frames.PONG, payload))
            elif payload == b"PING":
                self._sock.sendall(frames.text_frame(b"PONG"))
            elif opcode == frames.TEXT and payload.startswith(b"{"):
                self._subscribe(json.loads(payload))

    def _subscribe(self, message: dict[str, Any]) -> None:
        if message.get("operation") == "unsubscribe":
            return
        exchange = self._exchange
        places = [exchange.books.place(token) for token in message["assets_ids"]]
        known = [place for place in places if place is not None]
        markets = dict.fromkeys(place // 2 for place in known)
        if not self._is_sending:
            exchange.sent.update(dict.fromkeys(markets, exchange.due()))
        self._markets.update(markets)
        for begin in range(0, len(known), BOOKS_PER_FRAME):
            with exchange.books_lock:
                books = [
                    exchange.books.first_book(place, exchange.sent.get(place // 2, 0))
                    for place in known[begin : begin + BOOKS_PER_FRAME]
                ]
            self._sock.sendall(frames.text_frame(b"[" + b",".join(books) + b"]"))

    # --- the stream -----------------------------------------------------------------------

    def _send_stream(self, start_ns: int) -> None:
        exchange, recording = self._exchange, self._exchange.recording
        self._is_sending = True
        due_us = recording.dues_us[-1] if len(recording) else 0
        trade = exchange.books.trade(min(self._markets), wire.EPOCH_MS + due_us)
        numbers = self._numbers()
        if exchange.is_paced:
            self._send_paced(start_ns, numbers)
        else:
            self._send_at_once(start_ns, numbers)
        self._sock.sendall(frames.text_frame(trade))

    def _numbers(self) -> "range | array[int]":
        """Which messages this client is to be sent."""
        recording, sent = self._exchange.recording, self._exchange.sent
        if 2 * len(self._markets) == len(recording.tokens) and not any(sent.values()):
            return range(len(recording))
        books = self._exchange.books
        left = [books.left(market, sent[market]) for market in self._markets]
        return array("Q", sorted(chain.from_iterable(left)))

    def _send_at_once(self, start_ns: int, numbers: "range | array[int]") -> None:
        blob, ends = self._exchange.recording.frames, self._exchange.recording.frame_ends
        if not isinstance(numbers, range):
            parts = [self._exchange.recording.frame(number) for number in numbers]
            blob, ends = memoryview(b"".join(parts)), array("Q", accumulate(map(len, parts)))
        while (wait := start_ns - time.monotonic_ns()) > 0:
            self._listen(wait / 1e9)
        begin = done = 0
        while done < len(numbers):
            done = max(done + 1, bisect_right(ends, begin + CHUNK_BYTES))
            end = ends[done - 1]
            self._sock.sendall(blob[begin:end])
            begin = end
            self._exchange.sent.update(dict.fromkeys(self._markets, numbers[done - 1] + 1))
            self._listen(0)

    def _send_paced(self, start_ns: int, numbers: "range | array[int]") -> None:
        recording, late_us = self._exchange.recording, self._exchange.late_us
        for number in numbers:
            due_ns = start_ns + recording.dues_us[number] * 1000
            while (wait := (due_ns - time.monotonic_ns()) / 1e9) > SPIN_SECONDS:
                self._listen(wait - SPIN_SECONDS)
            while time.monotonic_ns() < due_ns:
                pass
            self._sock.sendall(recording.frame(number))
            late_us.append((time.monotonic_ns() - due_ns) / 1000)
            self._exchange.sent[recording.markets[number]] = number + 1


def handle(exchange: Exchange, sock: socket.socket, context: ssl.SSLContext | None) -> None:
    """Serve one client, until either side ends it."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None and sock.recv(1, socket.MSG_PEEK)[:1] == bytes([TLS_RECORD]):
            sock = context.wrap_socket(sock, server_side=True)
        Connection(exchange, sock).serve()
    except (GoneError, OSError):
        pass
    finally:
        sock.close()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--paced", action="store_true")
    parser.add_argument("--certificate", type=Path, help="for TLS: chain and key in one PEM file")
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)  # who makes a book for REST must not hold up who sends
    exchange = Exchange(load(options.recording), is_paced=options.paced)
    context = None
    if options.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
    gc.freeze()  # a collection must not hold up who sends
    gc.disable()
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            sock, _ = server.accept()
            serve = partial(handle, exchange, sock, context)
            threading.Thread(target=serve, daemon=True).start()


if __name__ == "__main__":
    main()
