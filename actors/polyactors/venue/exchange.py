"""The embedded exchange: markets, their engine, its clock, the clients and the faults.

It follows the wire, not our client, so any client of Polymarket can be pointed at it. One
seed and one number of engine steps give the same books and the same messages, whoever is
connected; only timestamps, and what is hashed from them, come from the clock.
"""

import time
from collections.abc import Callable, Iterable
from itertools import accumulate
from random import Random

import trio
from starlette.applications import Starlette

from polyactors.venue import wire
from polyactors.venue.accounts import AccountCredentials, Accounts, VenueAccount
from polyactors.venue.door import Door
from polyactors.venue.engine import YES, BookState, Step
from polyactors.venue.faults import FaultKind, FaultRecord, FaultVariant
from polyactors.venue.injection import FaultInjector
from polyactors.venue.listing import Listing, make_listing
from polyactors.venue.market import Market
from polyactors.venue.market_channel import MarketSession
from polyactors.venue.rest_faults import RestFaults
from polyactors.venue.scheduling import FaultSchedule, play
from polyactors.venue.settlement import Settlement
from polyactors.venue.trickling import OVERSIZE_BYTES_MIN

CATCH_UP_SECONDS = 1.0
"""An engine that falls behind its rate by more than this lets the rest go."""
STEPS_AT_ONCE_MAX = 100
"""Engine steps between two checkpoints."""
OVERSIZE_BYTES = 65 * 2**20
"""An oversized frame: just more than clients with a limit of 64 MiB take."""
CLOCK_SKEW_MS = 5000
"""How far a skewed clock runs ahead."""


class Venue:
    """An exchange in this process.

    `rate` is engine steps a second over all markets (0: only by `step`), `now_ms` its clock
    (milliseconds since the epoch, made never to go back), `schedule` the faults that `run`
    injects, `on_fault` called with the record of each fault as it is injected. An oversized
    frame has `oversize_bytes`, at least 64 KiB.

    Use it from one Trio thread. Nothing here outlives `run` and `serve_stream`.
    """

    def __init__(
        self,
        seed: int = 1,
        markets: int = 4,
        rate: float = 20.0,
        *,
        now_ms: Callable[[], int] | None = None,
        schedule: FaultSchedule | None = None,
        on_fault: Callable[[FaultRecord], None] | None = None,
        oversize_bytes: int = OVERSIZE_BYTES,
    ) -> None:
        if markets < 1:
            raise ValueError(f"a venue needs at least one market, not {markets}")
        if not rate >= 0:
            raise ValueError(f"the rate is engine steps a second, not {rate}")
        if oversize_bytes < OVERSIZE_BYTES_MIN:
            raise ValueError(f"an oversized frame has {OVERSIZE_BYTES_MIN} bytes or more")
        self.seed = seed
        self.rate = rate
        self.schedule = schedule
        self.sessions: dict[int, MarketSession] = {}
        """The connected clients of the market channel by number, in order of arrival; those of
        the user channel are in `accounts.sessions`."""
        self.accounts = Accounts(
            seed,
            find=lambda token: self._by_token.get(token),
            publish=self._say,
            now_ms=self.timestamp_ms,
        )
        """Who trades here."""
        self.rest_faults = RestFaults(self.book_state, lambda: self.tokens, self.accounts)
        """What REST's answers have to pass."""
        self._faults = FaultInjector(
            seed,
            self.sessions,
            self.accounts.sessions,
            lambda: self.tokens,
            self.rest_faults,
            on_fault,
            oversize_bytes=oversize_bytes,
        )
        self._door = Door(seed, self.sessions, self.accounts, self._faults, self._dump)
        self._now_ms = now_ms or _wall_clock_ms
        self._last_ms = 0
        self._market_rng = Random(f"{seed}:markets")
        self._pace_rng = Random(f"{seed}:pace")
        self._markets: list[Market] = []
        self._open: list[Market] = []
        self._weights: list[float] = []
        self._by_token: dict[str, tuple[Market, int]] = {}
        for index in range(markets):
            self._open_market(index)
        self._weigh()
        self._resumed = trio.Event()
        self._resumed.set()

    # Markets and books

    @property
    def markets(self) -> list[Listing]:
        """The markets, in the order of listing."""
        return [market.listing for market in self._markets]

    @property
    def tokens(self) -> list[str]:
        """The tokens that have a book, two for each open market, YES then NO."""
        return [token for market in self._open for token in market.listing.tokens]

    def market(self, condition_id: str) -> Market | None:
        """The market with this condition id."""
        found = (m for m in self._markets if m.listing.condition_id == condition_id)
        return next(found, None)

    def market_at(self, listing: Listing) -> Market:
        """The market of a listing."""
        return self._markets[listing.index]

    def book_state(self, token: str) -> BookState | None:
        """The present book of a token; None for one that has none."""
        market, position = self._by_token.get(token, (None, YES))
        if market is None or market.winner is not None:
            return None
        return market.engine.states[position]

    def books(self) -> dict[str, dict[str, object]]:
        """Every book by token, with the ten keys of REST, levels worst first."""
        states = (self.book_state(token) for token in self.tokens)
        return {state.token: wire.rest_book(state) for state in states if state is not None}

    def add_market(self) -> Listing:
        """List another market; sessions with the custom feature hear `new_market`."""
        market = self._open_market(len(self._markets))
        self._weigh()
        self._publish([market.announce_new(self.timestamp_ms())])
        return market.listing

    def resolve_market(self, condition_id: str, winner: int) -> None:
        """Close a market: no more steps, no book, `market_resolved` for custom sessions.

        `winner` is the position of the winning token, 0 for YES.

        Raises:
            LookupError: there is no such open market.
        """
        market = self.market(condition_id)
        if market is None or market.winner is not None:
            raise LookupError(f"no open market {condition_id}")
        market.winner = winner
        self._weigh()
        self._publish([market.announce_resolved(winner, self.timestamp_ms())])
        self.accounts.market_closed(condition_id)

    # Accounts

    def add_account(
        self,
        credentials: AccountCredentials | None = None,
        *,
        maker_address: str | None = None,
        settlement: Settlement | None = None,
    ) -> VenueAccount:
        """Open an account, with credentials of the seed where none are given.

        `maker_address` is that of a proxy wallet which trades for the signing one.

        Raises:
            ValueError: there is one with this API key, or there are too many.
        """
        return self.accounts.add(credentials, maker_address=maker_address, settlement=settlement)

    # The engine's clock

    def step(self, n: int = 1) -> list[wire.WireEvent]:
        """Do `n` engine steps, paused or not; returns what the channel said about them."""
        said: list[wire.WireEvent] = []
        for _ in range(n):
            if not self._open:
                break
            (market,) = self._market_rng.choices(self._open, cum_weights=self._weights)
            step = market.flow.act(self.timestamp_ms())
            said += self._say(step)
            self.accounts.taken(step)
        return said

    def timestamp_ms(self) -> int:
        """The exchange's time, milliseconds since the epoch; it never goes back."""
        ahead_ms = CLOCK_SKEW_MS if self._faults.is_clock_skewed else 0
        self._last_ms = max(self._last_ms, self._now_ms() + ahead_ms)
        return self._last_ms

    @property
    def is_paused(self) -> bool:
        """Whether engine and schedule stand still."""
        return not self._resumed.is_set()

    def pause(self) -> None:
        """Stop engine steps and scheduled faults; clients stay served."""
        if not self.is_paused:
            self._resumed = trio.Event()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._resumed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Step the engine at `rate`, at random intervals, and inject the scheduled faults.

        Trades are settled and orders expire here, too, and no pause stops that. Returns
        never. *Cancellation*: at once; clients stay served by who serves them.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.accounts.run)
            if self.rate > 0:
                nursery.start_soon(self._run_engine)
            if self.schedule is not None:
                nursery.start_soon(play, self.schedule, self._faults, lambda: self._resumed)
            task_status.started()
            await trio.sleep_forever()

    # Clients

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one client of a channel until it goes, and close the stream.

        *Error handling*: a client can end its own session only; a mistake of ours in it is
        logged. *Cancellation*: the connection is closed without a close handshake.
        """
        await self._door.serve(stream)

    def rest_app(self) -> Starlette:
        """The REST side: CLOB, Gamma under /gamma, oracle and controls under /venue."""
        from polyactors.venue.rest import make_app

        return make_app(self)

    # Faults

    @property
    def fault_log(self) -> tuple[FaultRecord, ...]:
        """The faults so far, as far as they have come, oldest first, at most the last thousand."""
        return self._faults.log()

    @property
    def active_faults(self) -> list[FaultRecord]:
        """The faults that last now, and those that wait for their chance to strike."""
        return self._faults.active()

    def inject(
        self,
        kind: FaultKind | str,
        *,
        token: str | None = None,
        session: int | None = None,
        seconds: float | None = None,
        variant: FaultVariant | str | None = None,
        reset: bool = False,
        account: str | None = None,
        about: str = "",
    ) -> FaultRecord:
        """Make a fault happen now, or lie in wait from now on.

        It hits the session with the number `session`, or all that subscribe to `token`, or,
        when neither is given, one subscribed session of the seed's choice; `refuse`, the
        faults of REST and the clock's hit everybody, whatever is given. With a `token`, what
        concerns one token concerns this one, and what takes a message takes one about it.

        `seconds` is how long it lasts, or at most lies in wait, `variant` which garbage or
        which error of REST. A missing book is only felt at the next subscription: `reset`
        brings that about for those who have it. What became of it is in `fault_log`.

        Sessions of the user channel are only hit when their `account` (its API key) or their
        number is given, and by `refuse`. `about` is how the label of the messages begins that
        are lost, repeated or late: "order", "order UPDATE", "trade MINED".

        Raises:
            ValueError: an unknown kind, variant or token, or a duration that is none.
            NoTarget: there is no session to hit.
        """
        return self._faults.inject(
            FaultKind(kind),
            token=token,
            session=session,
            seconds=seconds,
            variant=variant,
            reset=reset,
            account=account,
            about=about,
        )

    def _open_market(self, index: int) -> Market:
        market = Market(make_listing(self.seed, index), self.seed, self.timestamp_ms())
        self._markets.append(market)
        for position, token in enumerate(market.listing.tokens):
            self._by_token[token] = (market, position)
        return market

    def _weigh(self) -> None:
        """Share the engine steps out: the earlier a market is listed, the busier it is."""
        self._open = [market for market in self._markets if market.winner is None]
        shares = (1 / (1 + market.listing.index / 4) for market in self._open)
        self._weights = list(accumulate(shares))

    def _say(self, step: Step) -> list[wire.WireEvent]:
        events = wire.step_events(step)
        self._publish(events)
        return events

    def _publish(self, events: Iterable[wire.WireEvent]) -> None:
        for session in self.sessions.values():
            session.publish(events)

    def _dump(self, session: int, tokens: Iterable[str]) -> wire.WireEvent | None:
        states = [state for state in map(self.book_state, tokens) if state is not None]
        return self._faults.left_of(wire.dump(states), session)

    async def _run_engine(self) -> None:
        due = trio.current_time() + self._pace_rng.expovariate(self.rate)
        while True:
            await trio.sleep_until(due)
            if self.is_paused:
                await self._resumed.wait()
                due = trio.current_time()
            now = trio.current_time()
            due = max(due, now - CATCH_UP_SECONDS)
            for _ in range(STEPS_AT_ONCE_MAX):
                if due > now:
                    break
                self.step()
                due += self._pace_rng.expovariate(self.rate)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000
