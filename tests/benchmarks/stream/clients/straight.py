"""The straightforward pipeline on Trio: a task for each step, a channel between, one message each.

Stock trio-websocket, json and cattrs, dictionaries of Decimals, a copy of the top for whoever
listens: what one writes first, and what the service is not.
"""

import json
import math
from decimal import Decimal
from typing import Any

import attrs
import cattrs
import trio
import trio_websocket
from tests.benchmarks.stream.clients.common import Run, Task

BUFFER = 256
MESSAGE_BYTES_MAX = 2**26


@attrs.frozen
class Level:
    price: Decimal
    size: Decimal


@attrs.frozen
class Book:
    asset_id: str
    bids: list[Level]
    asks: list[Level]


@attrs.frozen
class Change:
    asset_id: str
    price: Decimal
    size: Decimal
    side: str


@attrs.frozen
class PriceChange:
    price_changes: list[Change]
    timestamp: str


@attrs.frozen
class Updated:
    tops: list[tuple[str, Decimal, Decimal]]
    timestamp: str


Parsed = Book | PriceChange
Side = dict[Decimal, Decimal]
converter = cattrs.Converter()
converter.register_structure_hook(Decimal, lambda text, _: Decimal(text))


async def receive(task: Task, send: "trio.MemorySendChannel[str]") -> None:
    """Connect, subscribe, hand on each message; again when the connection is lost."""
    while True:
        try:
            async with trio_websocket.open_websocket(
                "127.0.0.1",
                task.port,
                "/ws/market",
                use_ssl=bool(task.certificate),
                max_message_size=MESSAGE_BYTES_MAX,
            ) as socket:
                await socket.send_message(json.dumps({"type": "market", "assets_ids": task.tokens}))
                while True:
                    text = await socket.get_message()
                    assert isinstance(text, str)
                    await send.send(text)
        except* (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError, OSError):
            pass


async def parse(
    texts: "trio.MemoryReceiveChannel[str]", send: "trio.MemorySendChannel[Parsed]"
) -> None:
    """JSON to messages."""
    types: dict[str, Any] = {"book": Book, "price_change": PriceChange}
    async for text in texts:
        decoded = json.loads(text)
        events: list[Any] = decoded if text.startswith("[") else [decoded]
        for event in events:
            if (wanted := types.get(event["event_type"])) is not None:
                await send.send(converter.structure(event, wanted))


async def keep(
    messages: "trio.MemoryReceiveChannel[Parsed]",
    send: "trio.MemorySendChannel[Updated | str]",
    books: dict[str, tuple[Side, Side]],
) -> None:
    """Messages to books."""
    async for message in messages:
        if isinstance(message, Book):
            books[message.asset_id] = (
                {level.price: level.size for level in message.bids},
                {level.price: level.size for level in message.asks},
            )
            await send.send(message.asset_id)
            continue
        tops: list[tuple[str, Decimal, Decimal]] = []
        for change in message.price_changes:
            bids, asks = books[change.asset_id]
            side = bids if change.side == "BUY" else asks
            if change.size:
                side[change.price] = change.size
            else:
                side.pop(change.price, None)
            tops.append((change.asset_id, max(bids), min(asks)))
        await send.send(Updated(tops, message.timestamp))


async def main(task: Task) -> None:
    """The pipeline, and a subscriber at its end."""
    run = Run(task)
    books: dict[str, tuple[Side, Side]] = {}

    def top(token: str) -> tuple[str, str]:
        bids, asks = books[token]
        return str(max(bids)), str(min(asks))

    run.connecting()
    async with trio.open_nursery() as nursery:
        send_text, texts = trio.open_memory_channel[str](BUFFER)
        send_message, messages = trio.open_memory_channel[Parsed](BUFFER)
        send_update, updates = trio.open_memory_channel[Updated | str](math.inf)
        nursery.start_soon(receive, task, send_text)
        nursery.start_soon(parse, texts, send_message)
        nursery.start_soon(keep, messages, send_update, books)
        async for update in updates:
            if isinstance(update, str):
                if run.book():
                    run.ready(top)
            elif run.message(update.timestamp):
                run.finish(top)


if __name__ == "__main__":
    trio.run(main, Task.given())
