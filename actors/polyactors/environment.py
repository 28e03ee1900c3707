"""What every actor of one service shares: settings, the outside, the stream, the counters."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

from attrs import Factory, define

from polyactors.book.formula import FormulaWatch
from polyactors.book.verify import HashInputs, LastTradePrices
from polyactors.config import Settings
from polyactors.connects import ConnectGate
from polyactors.protocol.listings import MarketListing
from polyactors.statistics import Statistics
from polyactors.stream import EventHub
from polyactors.transport import Network


@define
class Environment:
    """Made once per service; handed to every actor."""

    settings: Settings
    network: Network = Factory(Network)
    clock_ns: Callable[[], int] = time.time_ns
    """Wall clock, nanoseconds since the epoch. Intervals use `trio.current_time` instead."""
    cpu_seconds: Callable[[], float] = time.thread_time
    """What the thread of the loop has worked so far; a simulation gives one of its own."""
    hub: EventHub = Factory(lambda self: EventHub(self.clock_ns), takes_self=True)
    statistics: Statistics = Factory(Statistics)
    gate: ConnectGate = Factory(ConnectGate)
    epochs: Iterator[int] = Factory(lambda: itertools.count(1))
    """The next session's number: one counter of the service, so epochs never repeat."""
    hash_inputs: dict[str, HashInputs] = Factory(dict[str, HashInputs])
    """By token: what Gamma and REST told of it, and what survives a book shard."""
    listings: dict[str, MarketListing] = Factory(dict[str, MarketListing])
    """By token: its market, where that was looked up."""
    last_trade_prices: LastTradePrices = Factory(LastTradePrices)
    """By market; its tokens may be on several feeds."""
    formula: FormulaWatch = Factory(FormulaWatch)
    book_shards: int = 0
    """How many run now, and share the budget for hashes."""
    is_stopping: bool = False
    """The whole service is on its way out: what goes down now is no failure."""

    def learn(self, listings: Iterable[MarketListing]) -> None:
        """Markets were looked up: who follows their tokens knows them, and what their hashes
        take."""
        for listing in listings:
            for token in listing.tokens:
                self.listings[token] = listing
                self.hash_inputs.setdefault(token, HashInputs()).learn(
                    listing.tick_size, listing.min_order_size, listing.neg_risk
                )
