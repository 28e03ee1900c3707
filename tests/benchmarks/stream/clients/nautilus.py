# pyright: basic, reportMissingImports=false
# What it measures is not installed where types are checked.
"""NautilusTrader: its Polymarket data client, data engine and cached books, on uvloop.

Instruments are made by hand, for that Gamma is not asked; else as a node of it would have them.
"""

import asyncio
from decimal import Decimal
from typing import Any

import uvloop
from nautilus_trader.adapters.polymarket.common.constants import POLYMARKET_VENUE
from nautilus_trader.adapters.polymarket.common.symbol import get_polymarket_instrument_id
from nautilus_trader.adapters.polymarket.config import PolymarketDataClientConfig
from nautilus_trader.adapters.polymarket.data import PolymarketDataClient
from nautilus_trader.adapters.polymarket.providers import PolymarketInstrumentProvider
from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.component import LiveClock, MessageBus, init_logging
from nautilus_trader.common.config import InstrumentProviderConfig
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.data.messages import SubscribeOrderBook
from nautilus_trader.live.data_engine import LiveDataEngine
from nautilus_trader.model.currencies import USDC
from nautilus_trader.model.data import OrderBookDelta
from nautilus_trader.model.enums import AssetClass, BookType
from nautilus_trader.model.identifiers import ClientId, TraderId
from nautilus_trader.model.instruments import BinaryOption
from nautilus_trader.model.objects import Price, Quantity
from tests.benchmarks.stream.clients.common import Run, Task

TICK_SECONDS = 0.01
"""A node's timers keep its loop awake; without any a lost connection is not noticed."""
guards: list[Any] = []
"""What keeps its logging from being set up twice."""


def engine_of(task: Task) -> tuple[Any, Any, Any]:
    """Engine, message bus and cache, with a client for Polymarket."""

    loop, clock = asyncio.get_running_loop(), LiveClock()
    guards.append(init_logging(bypass=True))
    bus, cache = MessageBus(TraderId("T-001"), clock), Cache(database=None)
    engine = LiveDataEngine(loop=loop, msgbus=bus, cache=cache, clock=clock)
    shared = {"msgbus": bus, "cache": cache, "clock": clock, "loop": loop, "name": None}
    client = PolymarketDataClient(
        http_client=None,
        instrument_provider=PolymarketInstrumentProvider(
            client=None, clock=clock, config=InstrumentProviderConfig()
        ),
        config=PolymarketDataClientConfig(
            base_url_ws=task.ws_url + "/",
            ws_connection_initial_delay_secs=0.01,
            ws_connection_delay_secs=0.01,
            ws_max_subscriptions_per_connection=len(task.tokens),
            update_instruments_interval_mins=None,
            auto_load_missing_instruments=False,
        ),
        **shared,
    )
    engine.register_client(client)
    engine.start()
    return engine, bus, cache


def instruments_of(task: Task) -> dict[str, Any]:
    """An instrument for each token."""
    conditions = task.control("/conditions")["conditions"]
    found: dict[str, Any] = {}
    for place, token in enumerate(task.tokens):
        name = get_polymarket_instrument_id(conditions[place // 2], token)
        found[token] = BinaryOption(
            instrument_id=name,
            raw_symbol=name.symbol,
            outcome="Yes",
            description="-",
            asset_class=AssetClass.ALTERNATIVE,
            currency=USDC,
            price_precision=3,
            price_increment=Price.from_str("0.001"),
            size_precision=2,
            size_increment=Quantity.from_str("0.01"),
            activation_ns=0,
            expiration_ns=2**62,
            max_quantity=None,
            min_quantity=Quantity.from_int(5),
            maker_fee=Decimal(0),
            taker_fee=Decimal(0),
            ts_event=0,
            ts_init=0,
        )
    return found


async def main(task: Task) -> None:
    """Subscribe to the books and count what its bus tells of them."""
    run = Run(task)
    engine, bus, cache = engine_of(task)
    instruments = instruments_of(task)
    for instrument in instruments.values():
        cache.add_instrument(instrument)
    entries = 0

    def top(token: str) -> tuple[str, str]:
        book = cache.order_book(instruments[token].id)
        return str(book.best_bid_price()), str(book.best_ask_price())

    def on_deltas(told: Any) -> None:
        nonlocal entries
        if len(told.deltas) > 1:  # a whole book
            if run.book():
                run.ready(top)
            return
        entries += 1
        # The second of a message's two: times are nanoseconds there.
        if entries % 2 == 0 and run.message(told.ts_event // 1_000_000):
            run.finish(top)

    bus.subscribe(topic="data.book.deltas.*", handler=on_deltas)
    run.connecting()
    for instrument in instruments.values():
        engine.execute(
            SubscribeOrderBook(
                instrument.id,
                OrderBookDelta,
                BookType.L2_MBP,
                ClientId("POLYMARKET"),
                POLYMARKET_VENUE,
                UUID4(),
                0,
                managed=True,
            )
        )
    await ticking()


async def ticking() -> None:
    """Keep the loop awake."""
    while True:  # noqa: ASYNC110  it is the sleeping that is wanted
        await asyncio.sleep(TICK_SECONDS)


if __name__ == "__main__":
    uvloop.run(main(Task.given()))
