"""REST's lists of an account, page by page: all of a list, or an error.

Nothing may be concluded from what an incomplete list lacks, so a row that cannot be read fails
the whole list (account/reconcile.py says what the lists are for). A page that fails is asked for
again first: of a list of hundreds of pages one is nearly sure to.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import trio

from polyactors.account.credentials import Credentials
from polyactors.account.signing import l2_headers
from polyactors.errors import RestFailed
from polyactors.protocol.events import Unreadable
from polyactors.protocol.rest import WireError
from polyactors.protocol.user_events import OrderEvent, TradeEvent
from polyactors.protocol.user_rest import (
    FIRST_CURSOR,
    decode_orders_page,
    decode_trades_page,
)
from polyactors.rest import RestClient

PAGES_MAX = 10_000
"""Of one list; more is an exchange that turns in circles."""
PAGE_ATTEMPTS_MAX = 4
PAGE_RETRY_SECONDS = 0.5
"""Before the second attempt; twice as long before each further one."""
ORDERS_READINGS_MAX = 5
"""Of a list with several pages, until two agree. An account whose orders close faster than they
are listed is not waited for: an order would have to slip through each of these readings."""
ORDERS_PATH = "/data/orders"
TRADES_PATH = "/data/trades"


RowT = TypeVar("RowT")
RowT_co = TypeVar("RowT_co", covariant=True)


class _Page(Protocol[RowT_co]):
    @property
    def rows(self) -> Sequence[RowT_co]: ...
    @property
    def next_cursor(self) -> str: ...
    @property
    def unreadable(self) -> tuple[Unreadable, ...]: ...


class AccountLists:
    """The two lists of one account. Every method raises RestFailed, and CredentialsRefused."""

    def __init__(
        self,
        rest: RestClient,
        credentials: Credentials,
        clock_ns: Callable[[], int],
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """`on_rows` hears of each page how many rows it had: long lists take minutes."""
        self._on_rows = on_rows
        self._rest = rest
        self._credentials = credentials
        self._clock_ns = clock_ns

    async def check_credentials(self) -> None:
        """Return when the exchange takes the credentials."""
        await self._page(ORDERS_PATH, {"next_cursor": FIRST_CURSOR}, decode_orders_page)

    async def orders(self) -> tuple[list[OrderEvent], set[str]]:
        """All open orders, and the ids of those that slipped through in the end, or were closed.

        An order slips through the cut between two pages when another one, which was listed
        already, closes meanwhile. That one the next reading lacks: so through a reading of which
        the next one lacks nothing, nothing slipped.
        """
        listed: dict[str, OrderEvent] = {}
        seen: set[str] = set()
        for number in range(ORDERS_READINGS_MAX):
            rows: list[OrderEvent] = []
            pages = await self._read(ORDERS_PATH, {}, decode_orders_page, rows)
            before, listed = listed, {order.id: order for order in rows}
            seen |= listed.keys()
            if pages == 1 or (number and before.keys() <= listed.keys()):
                break
        return list(listed.values()), seen - listed.keys()

    async def order(self, order_id: str) -> list[OrderEvent]:
        """The order with this id, if it is open."""
        rows: list[OrderEvent] = []
        await self._read(ORDERS_PATH, {"id": order_id}, decode_orders_page, rows)
        return [order for order in rows if order.id == order_id]

    async def trades(self, after_s: int, found: list[TradeEvent]) -> None:
        """Add all trades that were matched after this second to `found`; 0 for all there ever
        were. When it fails, the rows of the pages that were read have been added."""
        params = {"after": str(after_s)} if after_s > 0 else {}
        await self._read(TRADES_PATH, params, decode_trades_page, found)

    async def trade(self, trade_id: str) -> list[TradeEvent]:
        """The trade with this id, if the exchange knows it; a row for each side that is ours."""
        rows: list[TradeEvent] = []
        await self._read(TRADES_PATH, {"id": trade_id}, decode_trades_page, rows)
        return [trade for trade in rows if trade.id == trade_id]

    async def _read(
        self,
        path: str,
        params: Mapping[str, str],
        decode: Callable[[bytes], _Page[RowT]],
        found: list[RowT],
    ) -> int:
        """Add the rows of all pages to `found`; returns how many pages there were."""
        cursor = FIRST_CURSOR
        seen: set[str] = set()
        while cursor:
            if cursor in seen or len(seen) == PAGES_MAX:
                raise RestFailed(f"{path}: the pages have no end")
            seen.add(cursor)
            page = await self._page(path, {**params, "next_cursor": cursor}, decode)
            found += page.rows
            self._on_rows(len(page.rows))
            cursor = page.next_cursor
        return len(seen)

    async def _page(
        self, path: str, params: Mapping[str, str], decode: Callable[[bytes], _Page[RowT]]
    ) -> _Page[RowT]:
        for number in range(PAGE_ATTEMPTS_MAX - 1):
            try:
                return await self._page_once(path, params, decode)
            except RestFailed:
                await trio.sleep(PAGE_RETRY_SECONDS * 2**number)
        return await self._page_once(path, params, decode)

    async def _page_once(
        self, path: str, params: Mapping[str, str], decode: Callable[[bytes], _Page[RowT]]
    ) -> _Page[RowT]:
        now_s = self._clock_ns() // 1_000_000_000
        headers = l2_headers(self._credentials, "GET", path, now_s)
        try:
            # No variable for the answer, which names the owner: some tools print variables.
            page = decode(await self._rest.fetch_signed(path, params, headers))
        except WireError as error:
            raise RestFailed(f"{path}: {error}") from None
        if page.unreadable:
            raise RestFailed(f"{path}: {page.unreadable[0].why}")
        return page
