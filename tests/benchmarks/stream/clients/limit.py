"""The limit: receive and decode into typed Structs, on Trio, and nothing else. No books."""

import ssl

import msgspec
import trio
from tests.benchmarks.stream.clients.common import Run, Task
from tests.benchmarks.stream.frames import Splitter, client_frame

RECEIVE_BYTES = 256 * 1024


class Level(msgspec.Struct, gc=False):
    price: str
    size: str


class Book(msgspec.Struct, tag_field="event_type", tag="book"):
    market: str
    asset_id: str
    timestamp: str
    hash: str
    bids: list[Level]
    asks: list[Level]
    tick_size: str
    last_trade_price: str


class Change(msgspec.Struct, gc=False):
    asset_id: str
    price: str
    size: str
    side: str
    hash: str
    best_bid: str
    best_ask: str


class PriceChange(msgspec.Struct, tag_field="event_type", tag="price_change"):
    market: str
    price_changes: list[Change]
    timestamp: str


class Trade(msgspec.Struct, tag_field="event_type", tag="last_trade_price"):
    market: str
    asset_id: str
    price: str
    size: str
    side: str
    timestamp: str


Message = Book | PriceChange | Trade


async def main(task: Task) -> None:
    """Receive, decode, count."""
    run = Run(task)
    decode = msgspec.json.Decoder(Message).decode
    decode_all = msgspec.json.Decoder(list[Message]).decode
    run.connecting()
    stream = await _connect(task)
    subscription = {"type": "market", "assets_ids": task.tokens}
    await stream.send_all(client_frame(msgspec.json.encode(subscription)))
    splitter = Splitter()
    while True:
        for payload in splitter.feed(bytes(await stream.receive_some(RECEIVE_BYTES))):
            if payload.startswith(b"["):
                if run.book(len(decode_all(payload))):
                    run.ready()
                continue
            message = decode(payload)
            if type(message) is PriceChange and run.message(message.timestamp):
                run.finish()


async def _connect(task: Task) -> trio.abc.Stream:
    stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", task.port)
    if task.certificate:
        context = ssl.create_default_context(cafile=task.certificate)
        stream = trio.SSLStream(stream, context, server_hostname="127.0.0.1")
    await stream.send_all(
        b"GET /ws/market HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await stream.receive_some(1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return stream


if __name__ == "__main__":
    trio.run(main, Task.given())
