"""What every actor of one service shares: settings, the outside, the stream, the counters."""

import itertools
import time
from collections.abc import Callable, Iterator

from attrs import Factory, define

from polyactors.config import Settings
from polyactors.connects import ConnectGate
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
    hub: EventHub = Factory(lambda self: EventHub(self.clock_ns), takes_self=True)
    statistics: Statistics = Factory(Statistics)
    gate: ConnectGate = Factory(ConnectGate)
    epochs: Iterator[int] = Factory(lambda: itertools.count(1))
    """The next session's number: one counter of the service, so epochs never repeat."""
    is_stopping: bool = False
    """The whole service is on its way out: what goes down now is no failure."""
