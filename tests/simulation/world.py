"""The whole service against the embedded exchange, on virtual time, replayable by its seed.

`simulate(seed, scenario)` runs `await scenario(world)` while the laws of the stream (laws.py)
and the oracle (oracle.py) watch. Exchange, jitter, faults, the clock that hashing is billed by
and Trio's own scheduler are seeded, so a seed runs exactly the same each time.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, Protocol, TypeVar, cast

import trio
import trio.testing
from tests.simulation.bounds import (
    HEAL_SECONDS_MAX,
    LASTING,
    STOP_SECONDS_MAX,
    Bounds,
    end_of,
)
from tests.simulation.delays import Delays
from tests.simulation.laws import Laws
from tests.simulation.oracle import Oracle

from polyactors.book.trust import TrustState
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.events import Event
from polyactors.feed import Feed
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.transport import Network
from polyactors.venue.engine import BookState
from polyactors.venue.exchange import Venue
from polyactors.venue.memory import memory_network
from polyactors.venue.scheduling import FaultSchedule
from polyactors.venue.wire import WireEvent

NO_DELAYS = Delays()
EPOCH_MS = 1_700_000_000_000
"""What the wall clocks show when virtual time begins, milliseconds since the epoch."""
CPU_SECONDS_PER_LOOK = 0.0001
"""The clock that hashing is billed by goes on by so much at each look."""
FRAME_BYTES_MAX = 2 * 2**20
"""Larger frames end a session; the default would only take time."""
SETTINGS: dict[str, Any] = {
    "frame_bytes_max": FRAME_BYTES_MAX,
    "ping_interval_seconds": 1.0,
    "pong_deadline_seconds": 3.0,
    "data_deadline_seconds": 3.0,
    "first_book_deadline_seconds": 2.0,
}

T = TypeVar("T")


class Bug(Exception):  # noqa: N818 - a bug of ours, planted
    """Crashes an actor."""


class WatchedVenue(Venue):
    """An exchange that tells an oracle of each change of a book."""

    on_change: Callable[[BookState], None] | None = None

    def step(self, n: int = 1) -> list[WireEvent]:
        """As the exchange does it, step by step."""
        said: list[WireEvent] = []
        for _ in range(n):
            before = {token: self.book_state(token) for token in self.tokens}
            said += super().step()
            for token, state in before.items():
                after = self.book_state(token)
                if after is not None and after is not state and self.on_change is not None:
                    self.on_change(after)
        return said


class World:
    """One exchange and one service that follows all its tokens."""

    def __init__(
        self,
        seed: int,
        venue: WatchedVenue,
        service: Service,
        network: Network,
        delays: Delays = NO_DELAYS,
    ) -> None:
        self.seed = seed
        self.rng = Random(f"{seed}:world")
        self.venue = venue
        self.service = service
        self.network = network
        self.laws = Laws(self.carriers)
        self.oracle = Oracle(venue, service, Bounds.of(service.env.settings, delays))
        venue.on_change = self.oracle.stepped
        self.is_recording = True
        self.events: list[Event] = []
        self._bugs: list[Feed] = []
        """Where bugs are planted that nobody has run into yet."""

    @property
    def feeds(self) -> Sequence[Feed]:
        return self.service._feeds  # pyright: ignore[reportPrivateUsage]

    def carriers(self, token: str) -> list[str]:
        """The feeds that carry a token."""
        return [feed.id for feed in self.feeds if token in feed.trust]

    def take(self, event: Event) -> None:
        """The stream goes on."""
        self.laws.take(event)
        self.oracle.take(event)
        if self.is_recording:
            self.events.append(event)

    async def compare(self, *, quiet_seconds: float = 0.0) -> None:
        """Hold the exchange still and compare every settled LIVE book with its own."""
        self.venue.pause()
        await trio.sleep(self.oracle.bounds.delivery + quiet_seconds)
        self.oracle.judge()
        self.venue.resume()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; fails when it never does."""
        with trio.move_on_after(HEAL_SECONDS_MAX) as scope:
            while not holds():  # noqa: ASYNC110 - bounded, and on virtual time
                await trio.sleep(0.1)
        assert not scope.cancelled_caught, f"it never holds:\n{self.oracle.describe()}"

    def is_healed(self) -> bool:
        """Whether no fault works, no bug lies in wait and every token is LIVE."""
        now = trio.current_time()
        log = self.venue.fault_log
        return (
            not any(feed in self.feeds for feed in self._bugs)
            and not any(now < end_of(record) for record in log if record.kind in LASTING)
            and not any(map(self.oracle.is_late, self.service.tokens))
            and self.service.states()[TrustState.LIVE.value] == len(self.service.tokens)
        )

    async def heal(self) -> None:
        """Wait until no fault works, no bug lies in wait and every token is LIVE again."""
        await trio.sleep(self.oracle.bounds.delivery)  # a fault of this moment must be felt first
        await self.until(self.is_healed)

    async def come_to_rest(self) -> None:
        """Let the exchange speak of every market, fall silent, and wait for every book."""
        await self.heal()
        self.venue.pause()
        for _ in range(10):
            self.venue.step(8)  # what lies in wait strikes, and what was lost is missed
            await trio.sleep(0.01)
        await self.until(self.is_right)
        await trio.sleep(1.0)
        assert self.is_right(), self.oracle.describe()
        self.venue.resume()

    def is_right(self) -> bool:
        """Whether nothing is left of any fault: every book LIVE, settled and right."""
        return self.is_healed() and all(map(self.oracle.is_right, self.venue.tokens))

    def crash_parser(self, feed: Feed) -> None:
        """Plant a bug that the feed's parser runs into once, at its next data."""
        self._plant(feed, feed, "note_data")

    def crash_shard(self, feed: Feed) -> None:
        """Plant a bug that the feed's book shard runs into once, at its next batch."""
        if feed.shard is not None:
            self._plant(feed, feed.shard, "apply")

    def _plant(self, feed: Feed, where: object, method: str) -> None:
        if method in vars(where):
            return  # one lies there already

        def crash(*_: object, **__: object) -> None:
            delattr(where, method)
            self._bugs.remove(feed)
            raise Bug("planted")

        self._bugs.append(feed)
        setattr(where, method, crash)


Scenario = Callable[[World], Awaitable[T]]
Wrap = Callable[[Network], Network]


class Simulate(Protocol):
    """Runs a scenario and returns what it returned; see the module."""

    def __call__(
        self,
        seed: int,
        scenario: Scenario[T],
        *,
        markets: int = 2,
        rate: float = 10.0,
        schedule: FaultSchedule | None = None,
        delays: Delays = NO_DELAYS,
        network: Wrap = lambda network: network,
        **settings: Any,
    ) -> T: ...


def simulate(
    seed: int,
    scenario: Scenario[T],
    *,
    markets: int = 2,
    rate: float = 10.0,
    schedule: FaultSchedule | None = None,
    delays: Delays = NO_DELAYS,
    network: Wrap = lambda network: network,
    **settings: Any,
) -> T:
    """See the module. A failure names the seed, and how to play it again."""

    async def main() -> T:
        venue = WatchedVenue(
            seed,
            markets,
            rate,
            now_ms=lambda: EPOCH_MS + int(trio.current_time() * 1000),
            schedule=schedule,
            oversize_bytes=FRAME_BYTES_MAX + 1,
        )
        try:
            async with trio.open_nursery() as nursery:
                reached = network(memory_network(venue, nursery))
                reached = delays.slow_down(reached, nursery, Random(f"{seed}:delays"))
                env = Environment(
                    Settings(**SETTINGS | settings),
                    reached,
                    clock_ns=lambda: EPOCH_MS * 1_000_000 + int(trio.current_time() * 1e9),
                    cpu_seconds=_steady_cpu(),
                )
                async with RestClient(env.settings, reached) as rest:
                    wanted = Wanted(tokens=tuple(venue.tokens))
                    service = Service(wanted, env=env, rest=rest, rng=Random(f"{seed}:jitter"))
                    world = World(seed, venue, service, reached, delays)
                    result = await _run(world, scenario)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = _only(group)
            error.add_note(
                f"simulation seed {seed}, {markets} markets, {rate:g} steps/s, {settings}\n"
                f"play it again: POLYACTORS_SEEDS={seed}-{seed} python -m pytest tests/simulation"
            )
            if error is group:
                raise
            raise error from None
        return result

    with deterministic_scheduler(seed):
        return trio.run(
            main,
            clock=trio.testing.MockClock(autojump_threshold=0.0),
        )


async def _run(world: World, scenario: Scenario[T]) -> T:
    subscription = world.service.events()

    async def listen() -> None:
        async for event in subscription:
            world.take(event)

    async with trio.open_nursery() as outer:
        outer.start_soon(world.venue.run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            outer.start_soon(world.oracle.run)
            await nursery.start(world.service.run)
            result = await scenario(world)
            await trio.sleep(world.oracle.bounds.delivery)
            states = world.service.states()
            world.laws.is_stopping = world.oracle.is_over = True
            world.service.stop()
            nursery.cancel_scope.deadline = trio.current_time() + STOP_SECONDS_MAX
        # Service and stream have both ended by themselves.
        assert not nursery.cancel_scope.cancelled_caught, "the stop does not end"
        outer.cancel_scope.cancel()
    assert world.service.states() == states, "an orderly stop changes no state"
    assert not world.laws.broken, "\n".join(world.laws.broken)
    return result


def _steady_cpu() -> Callable[[], float]:
    looks = 0

    def cpu_seconds() -> float:
        nonlocal looks
        looks += 1
        return looks * CPU_SECONDS_PER_LOOK

    return cpu_seconds


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one failure that nurseries have wrapped; the group, if there are several."""
    if len(group.exceptions) != 1:
        return group
    error = group.exceptions[0]
    return _only(cast("Any", error)) if isinstance(error, BaseExceptionGroup) else error


@contextmanager
def deterministic_scheduler(seed: int) -> Generator[None, None, None]:
    """Trio shuffles what is runnable; let the seed decide how. Trio's own tests do it so."""
    run: Any = trio._core._run  # pyright: ignore
    before = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        run._r.setstate(before[1])
