# pyright: basic, reportMissingImports=false
# What it measures is not installed where types are checked.
"""polymarket-apis: its asynchronous client with a LocalOrderBookStore, told of raw messages."""

import asyncio
import logging

from polymarket_apis.clients.websockets_client import (
    AsyncPolymarketWebsocketsClient,
    LocalOrderBookStore,
)
from tests.benchmarks.stream.clients.common import Run, Task

TIMESTAMP = '"timestamp":"'
END = 60
"""So many characters from the end of a message there stand its type and, changes, its time."""


async def main(task: Task) -> None:
    """Follow the tokens; what is counted has been applied to the store already."""
    run = Run(task)
    books = LocalOrderBookStore()

    def top(token: str) -> tuple[str, str]:
        return str(books.best_bid(token)), str(books.best_ask(token))

    async def told(text: str) -> None:
        if text.startswith("["):
            if run.book(text.count('"event_type":"book"')):
                await asyncio.to_thread(run.go) if task.messages else run.finish(top)
        elif "price_change" in text[-END:]:
            begin = text.rindex(TIMESTAMP) + len(TIMESTAMP)
            if run.message(text[begin : text.index('"', begin)]):
                run.finish(top)
        elif "last_trade_price" in text[-END:]:
            run.end()
            run.finish(top)

    client = AsyncPolymarketWebsocketsClient()
    client.url_market = task.ws_url + "/market"
    run.connecting()
    await client.open_market_connection(
        task.tokens, process_event=told, message_mode="raw", local_order_books=books
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main(Task.given()))
