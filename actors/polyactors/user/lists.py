"""REST's lists of an account, page by page: all of a list, or an error.

Nothing may be concluded from what an incomplete list lacks, so a row that cannot be read fails
the whole list (account/reconcile.py says what the lists are for).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

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
ORDERS_PATH = "/data/orders"
TRADES_PATH = "/data/trades"


class _Page(Protocol):
    @property
    def rows(self) -> Sequence[object]: ...
    @property
    def next_cursor(self) -> str: ...
    @property
    def unreadable(self) -> tuple[Unreadable, ...]: ...


PageT = TypeVar("PageT", bound=_Page)


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

    async def orders(self) -> tuple[list[OrderEvent], int]:
        """All open orders, and how many pages they took."""
        pages = await self._pages(ORDERS_PATH, {}, decode_orders_page)
        return [order for page in pages for order in page.rows], len(pages)

    async def order(self, order_id: str) -> list[OrderEvent]:
        """The order with this id, if it is open."""
        pages = await self._pages(ORDERS_PATH, {"id": order_id}, decode_orders_page)
        return [order for page in pages for order in page.rows if order.id == order_id]

    async def trades(self, after_s: int) -> list[TradeEvent]:
        """All trades that were matched after this second; 0 for all there ever were."""
        params = {"after": str(after_s)} if after_s > 0 else {}
        pages = await self._pages(TRADES_PATH, params, decode_trades_page)
        return [trade for page in pages for trade in page.rows]

    async def _pages(
        self, path: str, params: Mapping[str, str], decode: Callable[[bytes], PageT]
    ) -> Sequence[PageT]:
        pages: list[PageT] = []
        cursor = FIRST_CURSOR
        seen: set[str] = set()
        while cursor:
            if cursor in seen or len(pages) == PAGES_MAX:
                raise RestFailed(f"{path}: the pages have no end")
            seen.add(cursor)
            now_s = self._clock_ns() // 1_000_000_000
            headers = l2_headers(self._credentials, "GET", path, now_s)
            asked = {**params, "next_cursor": cursor}
            try:
                # No variable for the answer, which names the owner: some tools print variables.
                page = decode(await self._rest.fetch_signed(path, asked, headers))
            except WireError as error:
                raise RestFailed(f"{path}: {error}") from None
            if page.unreadable:
                raise RestFailed(f"{path}: {page.unreadable[0].why}")
            pages.append(page)
            self._on_rows(len(page.rows))
            cursor = page.next_cursor
        return pages
