"""NautilusTrader: its Polymarket data client, data engine and cached books, on uvloop.

Instruments are made by hand, for that Gamma is not asked; else as a node of it would have them.
"""

import asyncio
from decimal import Decimal
from importlib import import_module
from typing import Any

from tests.benchmarks.stream.clients.common import Run, Task

TICK_SECONDS = 0.01
"""A node's timers keep its loop awake; without any a lost connection is not noticed."""
CONNECTIONS = 1
nautilus: Any = import_module("nautilus_trader")


def names(module: str, *wanted: str) -> list[Any]:
    """Some names of a module of NautilusTrader."""
    found = import_module(f"nautilus_trader.{module}")
    return [getattr(found, name) for name in wanted]


def engine_of(task: Task) -> tuple[Any, Any, Any]:
    """Engine, message bus and cache, with a client for Polymarket."""
    [Cache] = names("cache.cache", "Cache")
    LiveClock, MessageBus, init_logging = names(
        "common.component", "LiveClock", "MessageBus", "init_logging"
    )
    [Config] = names("adapters.polymarket.config", "PolymarketDataClientConfig")
    [DataClient] = names("adapters.polymarket.data", "PolymarketDataClient")
    [Provider] = names("adapters.polymarket.providers", "PolymarketInstrumentProvider")
    [ProviderConfig] = names("common.config", "InstrumentProviderConfig")
    [Engine] = names("live.data_engine", "LiveDataEngine")
    [TraderId] = names("model.identifiers", "TraderId")

    loop, clock = asyncio.get_running_loop(), LiveClock()
    guards.append(init_logging(bypass=True))
    bus, cache = MessageBus(TraderId("T-001"), clock), Cache(database=None)
    engine = Engine(loop=loop, msgbus=bus, cache=cache, clock=clock)
    shared = {"msgbus": bus, "cache": cache, "clock": clock, "loop": loop, "name": None}
    client = DataClient(
        http_client=None,
        instrument_provider=Provider(client=None, clock=clock, config=ProviderConfig()),
        config=Config(
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
    [BinaryOption] = names("model.instruments", "BinaryOption")
    [AssetClass] = names("model.enums", "AssetClass")
    Price, Quantity = names("model.objects", "Price", "Quantity")
    [USDC] = names("model.currencies", "USDC")
    [instrument_id] = names("adapters.polymarket.common.symbol", "get_polymarket_instrument_id")
    conditions = task.control("/conditions")["conditions"]
    found: dict[str, Any] = {}
    for place, token in enumerate(task.tokens):
        name = instrument_id(conditions[place // 2], token)
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


guards: list[Any] = []
"""What keeps its logging from being set up twice."""


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

    [Subscribe] = names("data.messages", "SubscribeOrderBook")
    [BookType] = names("model.enums", "BookType")
    [Delta] = names("model.data", "OrderBookDelta")
    [ClientId] = names("model.identifiers", "ClientId")
    [UUID4] = names("core.uuid", "UUID4")
    [VENUE] = names("adapters.polymarket.common.constants", "POLYMARKET_VENUE")
    bus.subscribe(topic="data.book.deltas.*", handler=on_deltas)
    run.connecting()
    for instrument in instruments.values():
        engine.execute(
            Subscribe(
                instrument.id,
                Delta,
                BookType.L2_MBP,
                ClientId("POLYMARKET"),
                VENUE,
                UUID4(),
                0,
                managed=True,
            )
        )
    while True:
        await asyncio.sleep(TICK_SECONDS)


if __name__ == "__main__":
    uvloop: Any = import_module("uvloop")
    uvloop.run(main(Task.given()))
