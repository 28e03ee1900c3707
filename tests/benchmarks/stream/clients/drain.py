"""Receives and does not look at it: how fast the exchange can be, with one core for the client."""

import json
import socket
import ssl

from tests.benchmarks.stream.clients.common import Run, Task
from tests.benchmarks.stream.frames import client_frame

RECEIVE_BYTES = 256 * 1024
QUIET_SECONDS = 0.3
"""All books have come when nothing came for so long."""
END = b'"event_type":"last_trade_price"}'


def main(task: Task) -> None:
    """Drain the stream."""
    run = Run(task)
    run.connecting()
    sock = socket.create_connection(("127.0.0.1", task.port))
    if task.certificate:
        context = ssl.create_default_context(cafile=task.certificate)
        sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
    sock.sendall(
        b"GET /ws/market HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    subscription = {"type": "market", "assets_ids": task.tokens}
    sock.sendall(client_frame(json.dumps(subscription).encode()))
    sock.settimeout(QUIET_SECONDS)
    try:
        while sock.recv(RECEIVE_BYTES):
            pass
    except TimeoutError:
        run.all_live()
    sock.settimeout(None)
    run.go()
    buffer = bytearray(RECEIVE_BYTES)
    end = b""
    while not end.endswith(END):
        size = sock.recv_into(buffer)
        end = (end + bytes(buffer[max(0, size - len(END)) : size]))[-len(END) :]
    run.end()
    run.messages = task.messages
    run.finish()


if __name__ == "__main__":
    main(Task.given())
