"""An account that trades in the embedded exchange, and a service that follows it, on virtual time.

`follow_account(seed, scenario)` runs `await scenario(world)` while an owner places and cancels
orders at random; the laws at the end of `AccountWorld.take` watch what the stream says. Replayable
by its seed, like `simulate`.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from random import Random
from typing import Any, TypeVar

import trio
import trio.testing
from tests.simulation.world import EPOCH_MS, FRAME_BYTES_MAX, SETTINGS, deterministic_scheduler

from polyactors.account.credentials import Credentials
from polyactors.book.numbers import PRICE_ONE, Side, to_decimal
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.events import (
    AccountStateChanged,
    Event,
    FeedDown,
    FeedUp,
    OrderChanged,
    PositionChanged,
    TradeChanged,
)
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.user.line import UserLine
from polyactors.user.reading import AccountReading
from polyactors.user.state import AccountState
from polyactors.venue import OrderType, Settlement, Venue, VenueAccount
from polyactors.venue.faults import FaultKind, NoTarget
from polyactors.venue.memory import memory_network

T = TypeVar("T")
HEAL_SECONDS_MAX = 300.0
ORDERS_MAX = 40
"""Open orders of the owner."""
ACCOUNT_SETTINGS: dict[str, Any] = SETTINGS | {
    "reconcile_seconds": 10.0,
    "reconnect_seconds_max": 4.0,
}


class AccountWorld:
    """One exchange, one account in it, and one service that follows it."""

    def __init__(self, seed: int, venue: Venue, account: VenueAccount, service: Service) -> None:
        self.seed = seed
        self.rng = Random(f"{seed}:owner")
        self.venue = venue
        self.account = account
        self.service = service
        self.line: UserLine = service.account
        self.events: list[Event] = []
        self.states: list[AccountState] = []
        self.downs: list[str] = []
        self._fills: dict[tuple[str, str], int] = {}
        """How often each fill came into a position (1), and was given back (2)."""
        self._positions: dict[str, Decimal] = {}
        self._filled: dict[str, Decimal] = {}
        self._orders: dict[str, OrderChanged] = {}
        self._trades: dict[str, TradeChanged] = {}
        self._is_up = False

    # --- the owner ------------------------------------------------------------------------

    def act(self) -> None:
        """Do something at random, as an owner of the account."""
        rng, account = self.rng, self.account
        opened = account.open_orders
        if opened and (rng.random() < 0.3 or len(opened) > ORDERS_MAX):
            account.cancel(rng.choice(opened).id)
            return
        token = rng.choice(self.venue.tokens)
        state = self.venue.book_state(token)
        assert state is not None
        side = rng.choice((Side.BID, Side.ASK))
        best = state.best_ask if side is Side.BID else state.best_bid
        tick = PRICE_ONE // 100
        price = best + rng.choice((-2, -1, 0, 0, 1)) * tick * (1 if side is Side.BID else -1)
        price = min(max(price // tick * tick, tick), PRICE_ONE - tick)
        kind = rng.choice((OrderType.GTC, OrderType.GTC, OrderType.FAK, OrderType.FOK))
        account.place(token, side, price, rng.randint(5, 60) * PRICE_ONE, kind)

    async def trade(self, seconds: float, *, every_seconds: float = 0.3) -> None:
        """Let the owner act for so long."""
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            self.act()
            await trio.sleep(self.rng.uniform(0.0, 2 * every_seconds))

    def inject(self, kind: FaultKind, *, seconds: float | None = None) -> None:
        """Let the account's channel suffer; without a session there is nothing to suffer."""
        with suppress(NoTarget):
            self.venue.inject(kind, account=self.account.api_key, seconds=seconds)

    # --- the service ----------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """The stream goes on; the laws of an account hold at each of its events."""
        self.events.append(event)
        if isinstance(event, FeedUp) and event.feed == self.line.id:
            self._is_up = True
        elif isinstance(event, FeedDown) and event.feed == self.line.id:
            self._is_up = False
            self.downs.append(event.reason)
        elif isinstance(event, AccountStateChanged):
            assert event.state is not AccountState.LIVE or self._is_up, "LIVE without a session"
            self.states.append(event.state)
        elif isinstance(event, OrderChanged):
            self._take_order(event)
        elif isinstance(event, TradeChanged):
            before = self._trades.get(event.trade.id)
            assert event.previous == (None if before is None else before.trade.status)
            self._trades[event.trade.id] = event
        elif isinstance(event, PositionChanged):
            self._take_position(event)

    def _take_order(self, event: OrderChanged) -> None:
        order = event.order
        before = self._orders.get(order.id)
        assert event.previous == (None if before is None else before.order.state)
        filled = self._filled.get(order.id, Decimal(0)) + event.filled_size
        assert filled == order.filled_size, "a fill was missed, or told twice"
        assert event.filled_size >= 0
        assert order.filled_size <= order.original_size
        self._filled[order.id] = filled
        self._orders[order.id] = event

    def _take_position(self, event: PositionChanged) -> None:
        fill = event.fill
        times = self._fills.get((fill.trade, fill.order), 0)
        sign = 1 if (fill.side == "BUY") == (times == 0) else -1
        assert times < 2, "a fill came more than once"
        assert event.new - event.old == sign * fill.size
        assert event.old == self._positions.get(event.token, Decimal(0))
        self._fills[fill.trade, fill.order] = times + 1
        self._positions[event.token] = event.new

    @property
    def is_live(self) -> bool:
        """Whether the account is LIVE."""
        return self.line.believed().state is AccountState.LIVE

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; fails when it never does."""
        with trio.move_on_after(HEAL_SECONDS_MAX) as scope:
            while not holds():  # noqa: ASYNC110 - bounded, and on virtual time
                await trio.sleep(0.1)
        assert not scope.cancelled_caught, self.describe()

    async def come_to_rest(self) -> None:
        """Let trades settle and reconciliations pass, and hold the account against the truth."""
        self.venue.pause()
        await trio.sleep(40.0)  # longer than any settlement, and than what REST is stale for
        await self.until(lambda: self.is_live)
        await trio.sleep(2 * self.service.env.settings.reconcile_seconds + 5.0)
        await self.until(lambda: self.is_live)
        self.compare()
        self.venue.resume()

    def compare(self) -> AccountReading:
        """The account is that of the exchange, order by order and trade by trade."""
        reading, account = self.line.read(), self.account
        opened = {order.id: order for order in account.open_orders}
        assert {order.id for order in reading.open_orders} == set(opened), self.describe()
        for order in reading.orders.values():
            matched = to_decimal(account.orders[order.id].size_matched)
            assert order.filled_size == matched, self.describe()
        assert set(reading.trades) == set(account.trades), self.describe()
        for trade in reading.trades.values():
            assert trade.status == account.trades[trade.id].status.value, self.describe()
        truth = {token: to_decimal(size) for token, size in account.positions.items()}
        assert reading.positions == truth
        told = {token: size for token, size in self._positions.items() if size}
        assert told == truth, "the stream tells another story than the account"
        return reading

    def describe(self) -> str:
        """For people."""
        last = "\n".join(map(str, self.events[-30:]))
        return f"{self.line.believed()} {self.downs} {self.states[-10:]}\n{last}"


Scenario = Callable[[AccountWorld], Awaitable[T]]


def follow_account(
    seed: int,
    scenario: Scenario[T],
    *,
    markets: int = 1,
    rate: float = 5.0,
    settlement: Settlement | None = None,
    credentials: Credentials | None = None,
    page_rows: int = 100,
    **settings: Any,
) -> T:
    """See the module. `credentials` are the client's, where they are not the account's."""

    async def main() -> T:
        venue = Venue(
            seed,
            markets,
            rate,
            now_ms=lambda: EPOCH_MS + int(trio.current_time() * 1000),
            oversize_bytes=FRAME_BYTES_MAX + 1,
        )
        venue.accounts.page_rows = page_rows
        account = venue.add_account(
            settlement=settlement
            or Settlement(retried_chance=0.2, failed_chance=0.2, unbroadcast_chance=0.3)
        )
        known = account.credentials
        given = credentials or Credentials(
            known.api_key, known.secret, known.passphrase, known.address
        )
        async with trio.open_nursery() as nursery:
            network = memory_network(venue, nursery)
            env = Environment(
                Settings(**ACCOUNT_SETTINGS | settings),
                network,
                clock_ns=lambda: EPOCH_MS * 1_000_000 + int(trio.current_time() * 1e9),
            )
            async with RestClient(env.settings, network) as rest:
                service = Service(
                    Wanted(),
                    env=env,
                    rest=rest,
                    user=UserLine(given, env),
                    rng=Random(f"{seed}:jitter"),
                )
                world = AccountWorld(seed, venue, account, service)
                result = await _run(world, scenario)
            nursery.cancel_scope.cancel()
        return result

    with deterministic_scheduler(seed):
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))


async def _run(world: AccountWorld, scenario: Scenario[T]) -> T:
    subscription = world.service.events()

    async def listen() -> None:
        async for event in subscription:
            world.take(event)

    async with trio.open_nursery() as outer:
        outer.start_soon(world.venue.run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await nursery.start(world.service.run)
            result = await scenario(world)
            world.service.stop()
            nursery.cancel_scope.deadline = trio.current_time() + 10.0
        assert not nursery.cancel_scope.cancelled_caught, "the stop does not end"
        outer.cancel_scope.cancel()
    return result
