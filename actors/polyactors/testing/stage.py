"""A stage for actors: the whole service with them, against an exchange that does what you say.

    async def test_it_counts_trades(autojump_clock):
        async with stage(TradeCounter) as play:
            play.quote(play.yes, "0.40", "0.42")
            play.trade(play.yes, "BUY", 10)
            await play.settle()
            assert play.status("trade-counter").metrics == {"trades": 1}

Nothing is mocked: supervision, feed, books and hashes are the real ones, over streams in memory.
On virtual time (pytest-trio's `autojump_clock`) a minute passes at once.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from random import Random
from typing import Literal

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polyactors.book.numbers import PRICE_ONE, Side, to_units
from polyactors.book.reading import BookReading
from polyactors.book.trust import TrustState
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.events import ActorEvent, Event
from polyactors.extensions.extension import ActorStatus
from polyactors.extensions.spec import NO_OPTIONS, ActorSpec, actor_spec, check_names
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.stream import Subscription
from polyactors.venue.accounts import VenueAccount
from polyactors.venue.engine import BookState
from polyactors.venue.exchange import Venue
from polyactors.venue.memory import memory_network

Number = Decimal | str | int
LIVE_SECONDS_MAX = 30.0
"""Every book must be LIVE after so long, at the beginning."""
EPOCH_NS = 1_700_000_000 * 10**9
"""What the wall clocks show when Trio's shows 0."""
SETTLE_SECONDS = 1.0
"""After so long without news every hash group has come to rest, too."""
SIZE = Decimal(100)
"""Shares that `quote` puts at the best prices."""


class Stage:
    """An exchange, a service with actors, and what came of it."""

    def __init__(self, venue: Venue, service: Service, subscription: Subscription) -> None:
        self.venue = venue
        """The exchange. It does nothing by itself: `quote`, `trade`, `venue.step()` and faults
        (`venue.inject("reset")`) are what happens."""
        self.service = service
        self._events: list[Event] = []
        self._subscription = subscription
        self._trader: VenueAccount = venue.add_account()

    @property
    def tokens(self) -> list[str]:
        """YES and NO of each market."""
        return self.venue.tokens

    @property
    def yes(self) -> str:
        """YES of the first market."""
        return self.tokens[0]

    @property
    def no(self) -> str:
        """NO of the first market."""
        return self.tokens[1]

    @property
    def events(self) -> list[Event]:
        """The whole stream so far; `clear()` it to see only what comes from now on."""
        self._take()
        return self._events

    @property
    def published(self) -> list[ActorEvent]:
        """What actors have published so far."""
        return [event for event in self.events if isinstance(event, ActorEvent)]

    def named(self, name: str) -> list[Mapping[str, object]]:
        """The data of published events of one name."""
        return [event.data for event in self.published if event.name == name]

    def status(self, actor: str) -> ActorStatus:
        """How an actor stands. Raises LookupError."""
        found = {status.name: status for status in self.service.actor_statuses()}
        if actor not in found:
            raise LookupError(f"there is no actor {actor!r}; there are {', '.join(found)}")
        return found[actor]

    def book(self, token: str) -> BookReading:
        """The book of a token as the service has it. Raises BookNotLive."""
        return self.service.book(token)

    # --- what happens at the exchange -----------------------------------------------------

    def quote(self, token: str, bid: Number, ask: Number, *, size: Number = SIZE) -> None:
        """Let the best prices of a token be these, with `size` shares each.

        What is better is traded away first, so prints may precede. The book of the complement
        mirrors it. Raises ValueError for prices off the grid, or a bid that is not below the ask.
        """
        bid_units, ask_units = _units(bid), _units(ask)
        if not 0 < bid_units < ask_units < PRICE_ONE:
            raise ValueError(f"a bid below an ask between 0 and 1, not {bid} and {ask}")
        sides = ((Side.BID, bid_units), (Side.ASK, ask_units))
        state = self._state(token)
        for side, price in sides:  # first what rests: then the best price goes straight there
            crosses = price >= state.best_ask if side is Side.BID else price <= state.best_bid
            if not crosses:
                self._add_missing(token, side, price, _units(size))
        self._clear(token, bid_units, ask_units)
        for side, price in sides:
            self._add_missing(token, side, price, _units(size))
            surplus = self._size_at(token, side, price) - _units(size)
            if surplus > 0:
                self._order(token, side.opposite, price, surplus)

    def trade(self, token: str, side: Literal["BUY", "SELL"], size: Number) -> None:
        """Let somebody take `size` shares at the best price; `side` is what the taker does.

        Raises ValueError when there is less at that price.
        """
        takes = Side.ASK if side == "BUY" else Side.BID
        state = self._state(token)
        price = state.best_ask if takes is Side.ASK else state.best_bid
        if self._size_at(token, takes, price) < _units(size):
            raise ValueError(f"there are no {size} shares at the best price of {token}")
        self._order(token, takes.opposite, price, _units(size))

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Let what has happened reach everybody: `seconds` pass, on virtual time at once."""
        await trio.sleep(seconds)
        if isinstance(trio.lowlevel.current_clock(), MockClock):
            await wait_all_tasks_blocked()  # what was due at this very moment is over, too
        self._take()

    async def live(self, seconds: float = LIVE_SECONDS_MAX) -> None:
        """Wait until every book is LIVE. Raises trio.TooSlowError after `seconds`."""
        with trio.fail_after(seconds):
            while not self._is_live():  # noqa: ASYNC110 - asks as a user would
                await trio.sleep(0.01)
        await self.settle(0.01)

    def _is_live(self) -> bool:
        return self.service.states() == {TrustState.LIVE.value: len(self.tokens)}

    def _take(self) -> None:
        self._events += self._subscription.take_all()

    def _state(self, token: str) -> BookState:
        state = self.venue.book_state(token)
        if state is None:
            raise LookupError(f"the exchange has no book of {token}")
        return state

    def _size_at(self, token: str, side: Side, price: int) -> int:
        state = self._state(token)
        return dict(state.bids if side is Side.BID else state.asks).get(price, 0)

    def _add_missing(self, token: str, side: Side, price: int, size: int) -> None:
        missing = size - self._size_at(token, side, price)
        if missing > 0:
            self._order(token, side, price, missing)

    def _clear(self, token: str, bid: int, ask: int) -> None:
        """Trade away what is better than the two prices."""
        state = self._state(token)
        above = [(price, size) for price, size in state.bids if price > bid]
        if above:
            self._order(token, Side.ASK, min(p for p, _ in above), sum(s for _, s in above))
        below = [(price, size) for price, size in self._state(token).asks if price < ask]
        if below:
            self._order(token, Side.BID, max(p for p, _ in below), sum(s for _, s in below))

    def _order(self, token: str, side: Side, price: int, size: int) -> None:
        self._trader.place(token, side, price, size)


def _units(number: Number) -> int:
    return to_units(Decimal(number))


@asynccontextmanager
async def stage(
    *actors: object,
    options: Mapping[str, object] = NO_OPTIONS,
    policy: Mapping[str, object] = NO_OPTIONS,
    markets: int = 1,
    seed: int = 1,
    settings: Settings | None = None,
) -> AsyncGenerator[Stage, None]:
    """Run a service with `actors` against an exchange of `markets`; its books are LIVE at first.

    `options` and `policy` are those of the first actor. Stopped in order at the end. Raises
    UsageError for what cannot be an actor; what fails inside comes out as it is.
    """
    specs = _specs(actors, options, policy)
    venue = Venue(seed=seed, markets=markets, rate=0, now_ms=lambda: _clock_ns() // 1_000_000)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(venue.run)
        network = memory_network(venue, nursery)
        env = Environment(settings or Settings(), network, clock_ns=_clock_ns)
        async with RestClient(env.settings, network) as rest, trio.open_nursery() as running:
            wanted = Wanted(tuple(venue.tokens))
            service = Service(wanted, env=env, rest=rest, actors=specs, rng=Random(seed))
            play = Stage(venue, service, service.events())
            await running.start(service.run)
            try:
                await play.live()
                yield play
            except Exception as error:
                failure = error
            except (trio.Cancelled, GeneratorExit, BaseExceptionGroup):
                raise
            except BaseException as error:  # a skip of pytest's, say: not to come out in a group
                failure = error
            finally:
                service.stop()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _clock_ns() -> int:
    """A wall clock that goes with Trio's."""
    return EPOCH_NS + int(trio.current_time() * 1e9)


def _specs(
    actors: Sequence[object], options: Mapping[str, object], policy: Mapping[str, object]
) -> list[ActorSpec]:
    specs: list[ActorSpec] = []
    for one in actors:
        if isinstance(one, ActorSpec):
            specs.append(one)
            if one is actors[0] and (options or policy):
                raise UsageError("a ready ActorSpec has its own options and its own policy")
        elif not specs:
            specs.append(actor_spec(one, options=options, policy=policy))
        else:
            specs.append(actor_spec(one))
    check_names(specs)
    return specs
