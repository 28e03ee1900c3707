"""The other side of a user channel, for `play`: acts of the channel, the two lists of REST, and
what stands on the wire."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import trio
from tests.actors.running import Play, Run
from tests.actors.scripted_server import CLOCK_START_NS, Act, Books, Visit, hang_up, serve

from polyactors.account.credentials import Credentials
from polyactors.events import AccountStateChanged
from polyactors.user.state import AccountReason, AccountState

API_KEY = "3e2c94ca-8124-c4c1-c7ea-be1ea21b71fe"
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw=="
PASSPHRASE = "8f14e45fceea167a5a36dedd4bea2543"
ADDRESS = "0xa3D82Ed56F4c68d2328Fb8c29e568Ba2cAF7d7c8"
CREDENTIALS = Credentials(API_KEY, SECRET, PASSPHRASE, ADDRESS)
M1, M2, M3 = ("0x" + digit * 64 for digit in "123")
NOW_S = CLOCK_START_NS // 1_000_000_000

Path = list[tuple[AccountState, AccountReason | None]]
SYNCING, LIVE, STALE, REFUSED = AccountState
LOST: Path = [(STALE, AccountReason.DISCONNECTED), (SYNCING, None), (LIVE, None)]


def order(id: str = "order-1", matched: int = 0, **others: Any) -> dict[str, Any]:  # noqa: A002
    """The event `order`, which as a row of REST is read as well."""
    return {
        "event_type": "order",
        "type": "UPDATE" if matched else "PLACEMENT",
        "id": id,
        "owner": API_KEY,
        "market": M1,
        "asset_id": "11",
        "side": "BUY",
        "original_size": "10",
        "size_matched": str(matched),
        "price": "0.5",
        "status": "LIVE",
        "created_at": str(NOW_S),
        "order_type": "GTC",
        "outcome": "Yes",
        "maker_address": ADDRESS,
        "timestamp": str(NOW_S * 1000),
        **others,
    }


def trade(
    id: str = "trade-1",  # noqa: A002
    size: int = 4,
    order_id: str = "order-1",
    **others: Any,
) -> dict[str, Any]:
    """The event `trade`: we are its taker."""
    return {
        "event_type": "trade",
        "type": "TRADE",
        "id": id,
        "taker_order_id": order_id,
        "market": M1,
        "asset_id": "11",
        "side": "BUY",
        "size": str(size),
        "price": "0.5",
        "status": "MATCHED",
        "match_time": str(NOW_S),
        "last_update": str(NOW_S),
        "outcome": "Yes",
        "owner": API_KEY,
        "trade_owner": API_KEY,
        "maker_address": ADDRESS,
        "trader_side": "TAKER",
        "maker_orders": [],
        "timestamp": str(NOW_S * 1000),
        **others,
    }


def page(*rows: Mapping[str, Any], cursor: str = "LTE=") -> httpx2.Response:
    """One page of a list."""
    return httpx2.Response(200, json={"data": list(rows), "next_cursor": cursor})


Page = Callable[[httpx2.Request], Awaitable[httpx2.Response] | httpx2.Response]


class Lists:
    """REST's side: the lists as they are, unless a test puts an answer in their place."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.trades: list[dict[str, Any]] = []
        self.seconds = 0.0
        """How long an answer takes."""
        self.instead: Page | None = None
        """What is answered instead, to every signed request."""
        self.requests: list[tuple[float, httpx2.Request]] = []
        """All that came, whatever host it was for."""

    async def __call__(self, request: httpx2.Request, books: Books) -> httpx2.Response:
        if not request.url.path.startswith("/data/"):
            raise httpx2.ConnectError("no route to REST")
        self.requests.append((trio.current_time(), request))
        await trio.sleep(self.seconds)
        if self.instead is not None:
            answer = self.instead(request)
            return answer if isinstance(answer, httpx2.Response) else await answer
        rows = self.orders if request.url.path == "/data/orders" else self.trades
        return page(*rows)

    @property
    def paths(self) -> list[str]:
        return [request.url.path for _, request in self.requests]


def talk(
    *said: object,
    at_seconds: float = 5.0,
    every_seconds: float = 0.0,
    seconds: float | None = None,
    then: Act | None = None,
) -> Act:
    """A good user channel, which says these things after a while.

    After `seconds` it goes on with `then`, or hangs up.
    """

    async def speak(visit: Visit) -> None:
        await trio.sleep(at_seconds)
        for message in said:
            await visit.send(message)
            await trio.sleep(every_seconds)

    async def act(visit: Visit) -> None:
        await visit.upgrade()
        with trio.move_on_after(float("inf") if seconds is None else seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(speak, visit)
                while True:
                    if await visit.receive() == "PING":
                        await visit.send("PONG")
        await (then or hang_up)(visit)

    return act


def beside(*acts: Act, market: Act | None = None) -> Act:
    """Plays `acts` to the connections of the user channel, and `market` to all others."""
    visits: dict[bool, int] = defaultdict(int)

    async def act(visit: Visit) -> None:
        await visit.read_request()
        if visit.path.endswith("/user"):
            number = visits[True]
            visits[True] += 1
            await acts[min(number, len(acts) - 1)](visit)
        else:
            await (market or serve())(visit)

    return act


def follow(
    play: Play,
    *acts: Act,
    lists: Lists,
    markets: Iterable[str] = (),
    tokens: Iterable[str] = (),
    **options: Any,
) -> AbstractAsyncContextManager[Run]:
    """A service that follows the account, and nothing else unless there are `tokens`."""
    return play(
        beside(*acts),
        tokens=tuple(tokens),
        rest=lists,
        credentials=CREDENTIALS,
        user_markets=tuple(markets),
        **options,
    )


def path_of(run: Run) -> Path:
    """Every state of the account, in order."""
    return [(event.state, event.reason) for event in run.of(AccountStateChanged)]


async def until_state(run: Run, wanted: AccountState, times: int = 1) -> None:
    """Wait until the state was entered so often."""
    await run.until(lambda: [state for state, _ in path_of(run)].count(wanted) >= times)


def user_visits(run: Run) -> list[Visit]:
    """The connections of the user channel."""
    return [visit for visit in run.visits if visit.path.endswith("/user")]


def auth_frame(*markets: str) -> dict[str, Any]:
    """The frame that begins a session."""
    auth = {"apiKey": API_KEY, "secret": SECRET, "passphrase": PASSPHRASE}
    return {"auth": auth, **({"markets": list(markets)} if markets else {}), "type": "user"}
