# pyright: basic, reportMissingImports=false
# What it measures is not installed where types are checked.
"""polymarket-client, the official one: a stream of typed events, and no books.

There is no public way to name another endpoint: its production environment is cloned.
"""

import asyncio
from dataclasses import replace

from polymarket import AsyncPublicClient, environments
from polymarket.streams import MarketSpec
from tests.benchmarks.stream.clients.common import Run, Task


async def main(task: Task) -> None:
    """Read events until the last message, or the trade after it: its queue drops the oldest."""
    run = Run(task)
    production = environments.PRODUCTION._config
    config = replace(production, clob_market_ws_url=task.ws_url + "/market")
    environment = environments._create_environment(name="benchmark", config=config)
    client = AsyncPublicClient(environment=environment)
    run.connecting()
    async for event in await client.subscribe(MarketSpec(token_ids=task.tokens)):
        if event.type == "book":
            if run.book():
                run.ready()
        elif event.type == "price_change":
            if run.message(round(event.payload.timestamp.timestamp() * 1000)):
                run.finish()
        elif event.type == "last_trade_price":
            run.end()
            run.finish()


if __name__ == "__main__":
    asyncio.run(main(Task.given()))
