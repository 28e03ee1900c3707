# pyright: basic, reportMissingImports=false
# What it measures is not installed where types are checked.
"""The common asyncio shape: websockets, json, dictionaries of strings, best price by max()."""

import asyncio
import json
from typing import Any

from tests.benchmarks.stream.clients.common import Run, Task
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

RECONNECT_SECONDS = 1.0

Side = dict[str, str]


async def main(task: Task) -> None:
    """One loop over messages, as most programs have it."""
    run = Run(task)
    books: dict[str, tuple[Side, Side]] = {}

    def top(token: str) -> tuple[str, str]:
        bids, asks = books[token]
        return max(bids, key=float), min(asks, key=float)

    def take(event: dict[str, Any]) -> None:
        if event["event_type"] == "book":
            bids = {level["price"]: level["size"] for level in event["bids"]}
            asks = {level["price"]: level["size"] for level in event["asks"]}
            books[event["asset_id"]] = bids, asks
            if run.book():
                run.ready(top)
        elif event["event_type"] == "price_change":
            for change in event["price_changes"]:
                bids, asks = books[change["asset_id"]]
                side = bids if change["side"] == "BUY" else asks
                if float(change["size"]) == 0:
                    side.pop(change["price"], None)
                else:
                    side[change["price"]] = change["size"]
                top(change["asset_id"])
            if run.message(event["timestamp"]):
                run.finish(top)

    run.connecting()
    while True:
        try:
            async with connect(task.ws_url + "/market", compression=None, max_size=None) as socket:
                await socket.send(json.dumps({"type": "market", "assets_ids": task.tokens}))
                async for text in socket:
                    decoded = json.loads(text)
                    for event in decoded if isinstance(decoded, list) else [decoded]:
                        take(event)
        except (OSError, ConnectionClosed):
            await asyncio.sleep(RECONNECT_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(Task.given()))
