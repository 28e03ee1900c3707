"""A service that runs against a scripted server, and all that it has said.

Tests take the fixture `play` (conftest.py): it makes the server from its acts, on virtual time,
and `running` does the rest.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from random import Random
from typing import Any, Protocol, TypeVar

import httpx2
import pytest
import trio
from attrs import evolve
from tests.actors.scripted_server import (
    CLOCK_START_NS,
    SETTINGS,
    YES,
    Act,
    Books,
    Pair,
    ScriptedServer,
    Visit,
)

from polyactors.account.credentials import Credentials
from polyactors.book.trust import StaleReason, TrustState
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.events import Event, FeedDown, FeedUp, TrustChanged
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.stream import Subscription
from polyactors.transport import Network
from polyactors.user.line import UserLine
from polysupervisor import ChildSpec

STOP_SECONDS_MAX = 2.0
"""A stop must be over by then: every feed's grace is as long."""
LIVE: list[tuple[TrustState, StaleReason | None]] = [
    (TrustState.SYNCING, None),
    (TrustState.LIVE, None),
]
"""The path of a token to which nothing ever happens; see `Run.path_of`."""


def resynced(reason: StaleReason) -> list[tuple[TrustState, StaleReason | None]]:
    """How the path of a LIVE token goes on when it is lost and found again."""
    return [(TrustState.STALE, reason), *LIVE]


Answer = Callable[[httpx2.Request, Books], Coroutine[None, None, httpx2.Response]]
"""What a REST side does with a request, given the exchange's books."""
EventT = TypeVar("EventT", bound=Event)


class Play(Protocol):
    """Runs the service against a server that plays `acts`, one a connection."""

    def __call__(
        self,
        *acts: Act,
        tokens: Sequence[str] = ...,
        make_pair: Pair = ...,
        open_seconds: float = ...,
        rest: Answer = ...,
        rng: Random | None = ...,
        credentials: Credentials | None = ...,
        user_markets: Sequence[str] = ...,
        sinks: Sequence[Callable[[Service], ChildSpec[object]]] = ...,
        **settings: Any,
    ) -> AbstractAsyncContextManager["Run"]: ...


class MostJitter(Random):
    """Draws the longest delay each time: a backoff without luck, and so without chance."""

    def random(self) -> float:
        return 1.0


class Run:
    """A running service and all that it has said."""

    def __init__(self, service: Service, server: ScriptedServer) -> None:
        self.service = service
        self.server = server
        self.events: list[Event] = []
        self.scope = trio.CancelScope()
        """Around the service's `run`."""
        self.ended = trio.Event()
        """Set when the service's `run` has returned."""
        self._news = trio.Event()

    async def collect(self, subscription: Subscription) -> None:
        with suppress(trio.EndOfChannel):
            while True:
                # A batch at once: what was published together is seen together.
                self.events += await subscription.receive_batch()
                self._news.set()

    async def until(self, condition: Callable[[], object], seconds: float = 120.0) -> None:
        """Wait until the condition holds, which is looked at after every event."""
        with trio.fail_after(seconds):
            while not condition():
                self._news = trio.Event()
                await self._news.wait()

    def of(self, kind: type[EventT]) -> list[EventT]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def visits(self) -> list[Visit]:
        """The connections, as the server saw them."""
        return self.server.visits

    @property
    def downs(self) -> list[str]:
        return [event.reason for event in self.of(FeedDown)]

    @property
    def epochs(self) -> list[int]:
        return [event.epoch for event in self.of(FeedUp)]

    def path_of(self, token: str) -> list[tuple[TrustState, StaleReason | None]]:
        """Every trust state of a token, in order."""
        return [(e.state, e.reason) for e in self.of(TrustChanged) if e.token == token]

    def state(self, token: str = YES) -> TrustState:
        return self.service.trust(token).state

    async def stop(self, *, cancelled: bool = False) -> None:
        """Stop the service, or cancel it, and wait for its end, which must come soon."""
        if cancelled:
            self.scope.cancel()
        else:
            self.service.stop()
        with trio.fail_after(STOP_SECONDS_MAX):
            await self.ended.wait()

    async def all_live(self, seconds: float = 120.0) -> None:
        await self.until(lambda: set(self.service.states()) == {"LIVE"}, seconds)

    async def check_books(self) -> None:
        """Assert that every book is the exchange's own, level by level."""
        await trio.sleep(0.01)  # what was sent this moment has arrived
        for token in self.service.tokens:
            assert self.service.book(token).to_wire() == self.server.books.levels(token)


def is_audit() -> bool:
    """Whether the audit makes the request that is being answered: it is answered in its task."""
    return trio.lowlevel.current_task().name == "root/core/audit"


async def unreachable(request: httpx2.Request, books: Books) -> httpx2.Response:
    """A REST side that is not there."""
    raise httpx2.ConnectError("no route to REST")


@asynccontextmanager
async def running(
    server: ScriptedServer,
    *,
    rest: Answer = unreachable,
    rng: Random | None = None,
    credentials: Credentials | None = None,
    user_markets: Sequence[str] = (),
    sinks: Sequence[Callable[[Service], ChildSpec[object]]] = (),
    **settings: Any,
) -> AsyncGenerator[Run, None]:
    """The whole service against `server`; stopped, and its stop checked, at the block's end.

    `rng` is the source of all jitter. With `credentials` it follows an account as well.
    """

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return await rest(request, server.books)

    network = Network(server.open_stream, lambda: httpx2.MockTransport(answer))
    env = Environment(
        evolve(SETTINGS, **settings),
        network,
        clock_ns=lambda: CLOCK_START_NS + int(trio.current_time() * 1e9),
    )
    async with RestClient(env.settings, network) as client, trio.open_nursery() as nursery:
        wanted = Wanted(tokens=server.books.tokens)
        user = None if credentials is None else UserLine(credentials, env, user_markets)
        service = Service(
            wanted, env=env, rest=client, user=user, sinks=sinks, rng=rng or Random(0)
        )
        run = Run(service, server)
        nursery.start_soon(run.collect, service.events())

        async def live(task_status: trio.TaskStatus[None]) -> None:
            with run.scope:
                await service.run(task_status=task_status)
            run.ended.set()

        await nursery.start(live)
        yield run
        await run.stop()


def crash(
    monkeypatch: pytest.MonkeyPatch, kind: type, name: str, when: Callable[[Any], bool]
) -> None:
    """Make a method raise at every call for whose first argument `when` holds."""
    method = getattr(kind, name)

    def broken(self: object, first: object, *args: Any, **kwargs: Any) -> Any:
        if when(first):
            raise RuntimeError("injected")
        return method(self, first, *args, **kwargs)

    monkeypatch.setattr(kind, name, broken)


def crash_once(monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> Callable[[], None]:
    """Make a method raise at its next call after the returned function was called."""
    is_armed = False

    def when(_: object) -> bool:
        nonlocal is_armed
        was_armed, is_armed = is_armed, False
        return was_armed

    def arm() -> None:
        nonlocal is_armed
        is_armed = True

    crash(monkeypatch, kind, name, when)
    return arm
