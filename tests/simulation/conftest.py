"""The whole service against the embedded exchange, on virtual time, replayable by its seed.

`simulate(seed, scenario)` runs `await scenario(world)` and checks the laws of the stream over
everything that was published. Exchange, jitter, faults and Trio's own scheduler are seeded, so
a seed runs exactly the same each time. POLYACTORS_SEEDS says which seeds the tests take that
run several: a number of them, or a range like 417-417.
"""

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, Protocol, TypeVar

import pytest
import trio
import trio.testing

from polyactors.book.trust import TRANSITIONS, StaleReason, TrustState
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.events import BookUpdated, Event, FeedDown, FeedUp, Gap, TrustChanged
from polyactors.feed import Feed
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.transport import Network
from polyactors.venue.exchange import Venue
from polyactors.venue.faults import FaultKind, FaultSchedule
from polyactors.venue.memory import memory_network

SEEDS_DEFAULT = "30"
EPOCH_MS = 1_700_000_000_000
"""What the wall clocks show when virtual time begins, milliseconds since the epoch."""
HEAL_SECONDS_MAX = 90.0
"""From the last fault until every book is right: a backoff of 30 s, a first book that does not
come, and a backoff of the token's own."""
DELIVERY_SECONDS = 0.002
"""Virtual time stands still until everybody has acted, so this is ample for a delivery."""
STOP_SECONDS_MAX = 30.0
STALE_BY_SESSION = (StaleReason.DISCONNECTED, StaleReason.FEED_STALLED)
DEADLINES: dict[str, Any] = {
    "ping_interval_seconds": 1.0,
    "pong_deadline_seconds": 3.0,
    "data_deadline_seconds": 3.0,
    "first_book_deadline_seconds": 2.0,
}

T = TypeVar("T")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        first, dash, last = os.environ.get("POLYACTORS_SEEDS", SEEDS_DEFAULT).partition("-")
        seeds = range(int(first), int(last) + 1) if dash else range(1, int(first) + 1)
        metafunc.parametrize("seed", seeds)


class Bug(Exception):  # noqa: N818 - a bug of ours, planted
    """Crashes an actor."""


class Laws:
    """What must hold of every stream of events; `broken` names each breach."""

    def __init__(self, feed_of: Callable[[str], str | None]) -> None:
        self.broken: list[str] = []
        self.is_stopping = False
        """A STALE is a breach from now on: at an orderly stop the last states stand."""
        self.counts = Counter[str]()
        self.stale_reasons = Counter[str]()
        self.down_reasons = Counter[str]()
        self._feed_of = feed_of
        self._states: dict[str, tuple[TrustState, StaleReason | None]] = {}
        self._doubtful: set[str] = set()
        """Tokens of a Gap that were not called anything but LIVE since."""
        self._epochs: dict[str, int] = {}
        self._epoch_max = 0
        self._ended: set[int] = set()
        self._time_ns = 0
        self._must_turn_stale: set[str] = set()
        """Tokens whose STALE is due before anything else, after their feed's feed_down."""
        self._went_down: str | None = None
        """The feed whose feed_down is the last event but STALEs."""
        self._unseen: set[str] = set()
        """Feeds that lost a session and have not said so by a gap: due right after feed_up."""
        self._came_up: str | None = None
        """The feed whose feed_up is the last event."""

    def take(self, event: Event) -> None:
        """Judge the next event."""
        self.counts[event.type] += 1
        self._check(event.time_ns >= self._time_ns, "time goes back", event)
        self._time_ns = event.time_ns
        came_up, self._came_up = self._came_up, None
        if came_up in self._unseen:
            is_said = isinstance(event, Gap) and (event.feed, event.token) == (came_up, None)
            self._check(is_said, "a gap is missing after feed_up", event)
        is_consequence = isinstance(event, TrustChanged) and event.reason in STALE_BY_SESSION
        if not is_consequence:
            self._check(not self._must_turn_stale, "STALE is missing after feed_down", event)
            self._must_turn_stale.clear()
            self._went_down = None
        match event:
            case TrustChanged():
                self._trust_changed(event)
            case BookUpdated():
                self._book_updated(event)
            case FeedUp():
                self._check(event.epoch > self._epoch_max, "an epoch repeats", event)
                self._check(event.feed not in self._epochs, "two sessions of one feed", event)
                self._epoch_max = max(self._epoch_max, event.epoch)
                self._epochs[event.feed] = event.epoch
                self._came_up = event.feed
            case FeedDown():
                self._feed_down(event)
            case Gap():
                if event.reason in STALE_BY_SESSION:
                    is_due = event.feed in self._unseen and event.feed == came_up
                    self._check(is_due, "a gap without a lost session", event)
                    self._unseen.discard(event.feed or "")
                named = [t for t in self._states if self._feed_of(t) == event.feed]
                self._doubtful.update(named if event.token is None else [event.token])
            case _:
                pass

    def _trust_changed(self, event: TrustChanged) -> None:
        before, _ = self._states.get(event.token, (TrustState.EMPTY, None))
        self._check(event.previous is before, f"previous was {before}", event)
        self._check(event.state in TRANSITIONS[before], "no such transition", event)
        is_stale = event.state is TrustState.STALE
        self._check(is_stale == (event.reason is not None), "STALE has a reason, alone", event)
        if event.reason is not None:
            self._check(not self.is_stopping, "STALE at an orderly stop", event)
            self.stale_reasons[event.reason.value] += 1
        if event.reason in STALE_BY_SESSION:
            feed = self._feed_of(event.token)
            self._check(feed == self._went_down, "STALE away from its feed_down", event)
            self._must_turn_stale.discard(event.token)
        self._states[event.token] = (event.state, event.reason)
        self._doubtful.discard(event.token)

    def _book_updated(self, event: BookUpdated) -> None:
        state, _ = self._states.get(event.token, (TrustState.EMPTY, None))
        self._check(state is TrustState.LIVE, f"an update of a {state} book", event)
        self._check(event.token not in self._doubtful, "an update after a gap", event)
        epoch = self._epochs.get(self._feed_of(event.token) or "")
        self._check(event.epoch == epoch, f"the live epoch is {epoch}", event)
        if event.settled and event.best_bid is not None and event.best_ask is not None:
            self._check(event.best_bid < event.best_ask, "settled and crossed", event)

    def _feed_down(self, event: FeedDown) -> None:
        self.down_reasons[event.reason] += 1
        up = self._epochs.pop(event.feed, None)
        if up is not None:
            self._unseen.add(event.feed)
        is_new = event.epoch > self._epoch_max
        self._check(event.epoch == up or (up is None and is_new), f"{up} was live", event)
        self._check(event.epoch not in self._ended, "an epoch ends twice", event)
        self._ended = {event.epoch, *(epoch for epoch in self._ended if epoch > event.epoch - 99)}
        self._epoch_max = max(self._epoch_max, event.epoch)
        self._went_down = event.feed
        if self.is_stopping:
            return
        self._must_turn_stale = {
            token
            for token, (state, reason) in self._states.items()
            if self._feed_of(token) == event.feed
            and state is not TrustState.EMPTY
            # No second STALE for the same reason; and a shard that just crashed is not there
            # to say another: its books are STALE already.
            and reason not in (*STALE_BY_SESSION, StaleReason.ACTOR_RESTARTED)
        }

    def _check(self, holds: bool, law: str, event: Event) -> None:
        if not holds and len(self.broken) < 20:
            self.broken.append(f"{law}: {event}")


class World:
    """One exchange and one service that follows all its tokens."""

    def __init__(self, seed: int, venue: Venue, service: Service, network: Network) -> None:
        self.rng = Random(f"{seed}:world")
        self.venue = venue
        self.service = service
        self.network = network
        self.laws = Laws(service.feed_id)
        self.compared = 0
        """Books that were compared with the exchange's in the middle of the run."""
        self._bugs = 0
        """Planted, and not run into yet."""
        self.is_recording = True
        self.events: list[Event] = []

    @property
    def feeds(self) -> Sequence[Feed]:
        return self.service._feeds  # pyright: ignore[reportPrivateUsage]

    def is_disturbed(self, token: str) -> bool:
        """Whether a fault that works right now excuses a wrong book: nothing else does.

        Stalled: what the exchange says is lost, and the data deadline, which finds it, has not
        passed. Slow: what it says is still on its way. All other faults show at once.
        """
        now = trio.current_time()
        return any(
            now <= max(session.muted_until, session.slow_until) + DELIVERY_SECONDS / 2
            for session in self.venue.sessions.values()
            if token in session.tokens
        )

    async def compare(self, *, quiet_seconds: float = DELIVERY_SECONDS) -> None:
        """Hold the exchange still and compare every settled LIVE book with its own."""
        self.venue.pause()
        await trio.sleep(quiet_seconds)
        books = self.venue.books()
        for token in self.service.tokens:
            reading = self.service.book(token, allow_stale=True)
            is_promised = reading.state is TrustState.LIVE and reading.settled
            if is_promised and not self.is_disturbed(token):
                self.compared += 1
                wire = reading.to_wire()
                assert (wire["bids"], wire["asks"]) == (
                    books[token]["bids"],
                    books[token]["asks"],
                ), f"a wrong book was called LIVE at {trio.current_time():.3f} s: {token}"
        self.venue.resume()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; fails when it never does."""
        with trio.move_on_after(HEAL_SECONDS_MAX) as scope:
            while not holds():  # noqa: ASYNC110 - bounded, and on virtual time
                await trio.sleep(0.1)
        assert not scope.cancelled_caught, f"it never holds: {self.service.states()}"

    async def heal(self) -> None:
        """Wait until no fault works, no bug lies in wait and every token is LIVE again."""
        tokens = self.service.tokens
        await trio.sleep(DELIVERY_SECONDS)  # a fault of this moment must be felt first
        await self.until(
            lambda: (
                not self._bugs
                and not any(map(self.is_disturbed, tokens))
                and self.service.states()[TrustState.LIVE.value] == len(tokens)
            )
        )

    async def come_to_rest(self) -> None:
        """Let the exchange speak of every market, fall silent, and compare every book."""
        await self.heal()
        self.venue.pause()
        for _ in range(10):
            self.venue.step(8)  # no feed may be near its data deadline
            await trio.sleep(0.01)
        await trio.sleep(1.0)
        assert self.service.states() == {"LIVE": len(self.service.tokens)}
        books = self.venue.books()
        assert set(books) == set(self.service.tokens)
        for token in self.service.tokens:
            reading = self.service.book(token)
            assert reading.settled
            wire = reading.to_wire()
            assert (wire["bids"], wire["asks"]) == (books[token]["bids"], books[token]["asks"])
        self.venue.resume()

    def inject(self) -> None:
        """One fault of the seed's choice, if there is a session that it can hit."""
        subscribed = [s.id for s in self.venue.sessions.values() if s.tokens]
        if not subscribed:
            return
        kind = self.rng.choice(list(FaultKind))
        seconds = {
            # Longer than a slow session can be late plus the data deadline: a shorter stall
            # loses data that nothing but a hash can miss.
            FaultKind.STALL: self.rng.uniform(6.0, 9.0),
            FaultKind.REFUSE: self.rng.uniform(0.2, 4.0),
            FaultKind.SLOW: self.rng.uniform(0.2, 2.5),
        }.get(kind)
        session = self.rng.choice(subscribed)
        if kind is FaultKind.MISSING_BOOK:
            token = self.rng.choice(self.service.tokens)
            self.venue.inject(kind, token=token, reset=self.rng.random() < 0.8)
        elif kind is FaultKind.REFUSE:
            self.venue.inject(kind, seconds=seconds)
        else:
            self.venue.inject(kind, session=session, seconds=seconds)

    def crash_parser(self, feed: Feed) -> None:
        """Plant a bug that the feed's parser runs into once, at its next data."""
        self._plant(feed, "note_data")

    def crash_shard(self, feed: Feed) -> None:
        """Plant a bug that the feed's book shard runs into once, at its next batch."""
        if feed.shard is not None:
            self._plant(feed.shard, "apply")

    def _plant(self, where: object, method: str) -> None:
        if method in vars(where):
            return  # one lies there already

        def crash(*_: object, **__: object) -> None:
            delattr(where, method)
            self._bugs -= 1
            raise Bug("planted")

        self._bugs += 1
        setattr(where, method, crash)


Scenario = Callable[[World], Awaitable[T]]


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
        network: Callable[[Network], Network] = lambda network: network,
        **settings: Any,
    ) -> T: ...


@pytest.fixture
def simulate() -> Simulate:
    return _simulate


def _simulate(
    seed: int,
    scenario: Scenario[T],
    *,
    markets: int = 2,
    rate: float = 10.0,
    schedule: FaultSchedule | None = None,
    network: Callable[[Network], Network] = lambda network: network,
    **settings: Any,
) -> T:
    async def main() -> T:
        venue = Venue(
            seed,
            markets,
            rate,
            now_ms=lambda: EPOCH_MS + int(trio.current_time() * 1000),
            schedule=schedule,
        )
        try:
            async with trio.open_nursery() as nursery:
                reached = network(memory_network(venue, nursery))
                env = Environment(
                    Settings(**DEADLINES | settings),
                    reached,
                    clock_ns=lambda: EPOCH_MS * 1_000_000 + int(trio.current_time() * 1e9),
                )
                async with RestClient(env.settings, reached) as rest:
                    wanted = Wanted(tokens=tuple(venue.tokens))
                    service = Service(wanted, env=env, rest=rest, rng=Random(f"{seed}:jitter"))
                    world = World(seed, venue, service, reached)
                    result = await _run(world, scenario)
                nursery.cancel_scope.cancel()
        except BaseException as error:
            faults = "".join(f"\n  {fault}" for fault in venue.fault_log)
            error.add_note(f"simulation seed {seed}: POLYACTORS_SEEDS={seed}-{seed}{faults}")
            raise
        return result

    with _deterministic_scheduler(seed):
        return trio.run(
            main,
            clock=trio.testing.MockClock(autojump_threshold=0.0),
        )


async def _run(world: World, scenario: Scenario[T]) -> T:
    subscription = world.service.events()

    async def listen() -> None:
        async for event in subscription:
            world.laws.take(event)
            if world.is_recording:
                world.events.append(event)

    async with trio.open_nursery() as outer:
        outer.start_soon(world.venue.run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await nursery.start(world.service.run)
            result = await scenario(world)
            await trio.sleep(DELIVERY_SECONDS)
            states = world.service.states()
            world.laws.is_stopping = True
            world.service.stop()
            nursery.cancel_scope.deadline = trio.current_time() + STOP_SECONDS_MAX
        # Service and stream have both ended by themselves.
        assert not nursery.cancel_scope.cancelled_caught, "the stop does not end"
        outer.cancel_scope.cancel()
    assert world.service.states() == states, "an orderly stop changes no state"
    assert not world.laws.broken, "\n".join(world.laws.broken)
    return result


@contextmanager
def _deterministic_scheduler(seed: int) -> Generator[None, None, None]:
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
