"""The market channel of the exchange: first books, then the stream."""

import json
import socket
import struct
import time
from array import array
from bisect import bisect_right
from itertools import accumulate, chain
from typing import Any

from tests.benchmarks.stream import frames, wire
from tests.benchmarks.stream.shared import POLL_SECONDS, GoneError, Peer

BOOKS_PER_FRAME = 100
CHUNK_BYTES = 256 * 1024
FEEDS_POLLING = 5
"""More than that look less often, so that all of them together cost the same."""
RESUME_SECONDS = 0.05
"""A client that is back after a reset has subscribed to all when it is quiet for so long."""
SPIN_SECONDS = 0.0005
"""Before a paced message the exchange does not sleep: it would wake up late."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time."""


class Feed:
    """One WebSocket: first books, then the stream."""

    def __init__(self, connection: Peer) -> None:
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
            exchange.resumed += time.monotonic_ns() > exchange.start_ns
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
        could_ns = 0
        for number in numbers:
            due_ns = start_ns + recording.dues_us[number] * 1000
            while (wait := (due_ns - time.monotonic_ns()) / 1e9) > SPIN_SECONDS:
                self._listen(wait - SPIN_SECONDS)
            while time.monotonic_ns() < due_ns:
                pass
            begin_ns = time.monotonic_ns()
            self._sock.sendall(recording.frame(number))
            # A client that does not read holds the exchange up, which is that client's lateness.
            could_ns = max(due_ns, could_ns)
            late_us.append((begin_ns - could_ns) / 1000)
            could_ns += time.monotonic_ns() - begin_ns
            self._exchange.sent[recording.markets[number]] = number + 1
