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
- ``/lateness``: by how much each paced message was late through no fault of its client,
  and how many WebSockets came in the middle of the stream.
- ``/conditions``: of each market, for a client that must know its instruments before.
"""

import argparse
import base64
import gc
import json
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.benchmarks.stream.feed import Feed
from tests.benchmarks.stream.recording import load
from tests.benchmarks.stream.shared import Exchange, GoneError, Peer

TLS_RECORD = 0x16
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Connection(Peer):
    """A client that asks by HTTP, until it asks for a WebSocket."""

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
    sys.setswitchinterval(0.00002)  # who makes a book for REST must not hold up who sends
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
