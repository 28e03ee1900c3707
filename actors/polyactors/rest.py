"""The REST client: books from the CLOB, listings from Gamma. All failures become RestFailed.

HTTP/1.1 with a small pool: HTTP/2 brings nothing here and loses requests at a GOAWAY.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec
import trio

from polyactors.config import Settings
from polyactors.errors import CredentialsRefused, RestFailed, UsageError
from polyactors.logger import Outage
from polyactors.protocol.events import BookSnapshot, Unreadable
from polyactors.protocol.rest import (
    MarketListing,
    MarketsPage,
    WireError,
    decode_book,
    decode_events,
    decode_markets_page,
    each_book,
)
from polyactors.quota import Quota
from polyactors.transport import Network, check_host

BOOKS_PER_REQUEST_MAX = 250
"""POST /books: documented maximum 500, rejected by payload size around that (PROTOCOL.md 5)."""
BOOKS_AT_ONCE_MAX = 20
"""Books read between two checkpoints: one of 100 levels takes some 170 µs, so 3 ms together."""
LIMIT_WINDOW_SECONDS = 10.0
BOOKS_REQUESTS_MAX = 200
"""POST /books in any LIMIT_WINDOW_SECONDS, all actors together; Polymarket's limit is 500. Past
its limits it does not refuse but queues, and answers come late."""
BOOK_REQUESTS_MAX = 300
"""GET /book likewise; Polymarket's limit is 1,500."""
ANSWER_BYTES_MAX = 64 * 2**20
CONNECTIONS_MAX = 8
"""Snapshots, audit and discovery use one each; what is left is for the probes of the feeds."""
MARKETS_PER_PAGE = 100
UNREADABLE_CALM_SECONDS = 300.0
"""One book that cannot be read is asked for again and again, among many that can."""


def check_url(name: str, url: str) -> str:
    """The URL without a trailing slash. Raises UsageError with the remedy."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{name}: {url!r} is not a URL ({error})") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{name}: {url!r} is not a URL; expected https://HOST")
    check_host(url, parts.hostname)
    return url.rstrip("/")


T = TypeVar("T")


def _decoded(decode: Callable[[bytes], T], answer: bytes) -> T:
    try:
        return decode(answer)
    except WireError as error:
        raise RestFailed(str(error)) from None


class RestClient:
    """One HTTP client for one service. Use it in an `async with`.

    Every method raises RestFailed when the network, the server or the answer's shape fails,
    and when an answer takes longer than `rest_timeout_seconds`. That time begins when the request
    does: before it, a request for books may wait for its turn within the quota.
    """

    def __init__(self, settings: Settings, network: Network) -> None:
        self._clob_url = check_url("clob_url", settings.clob_url)
        self._gamma_url = check_url("gamma_url", settings.gamma_url)
        self._timeout_seconds = settings.rest_timeout_seconds
        self._books_quota = Quota(BOOKS_REQUESTS_MAX, LIMIT_WINDOW_SECONDS)
        self._book_quota = Quota(BOOK_REQUESTS_MAX, LIMIT_WINDOW_SECONDS)
        self._unreadable = Outage(calm_seconds=UNREADABLE_CALM_SECONDS)
        self._client = httpx2.AsyncClient(
            transport=None if network.http_transport is None else network.http_transport(),
            timeout=settings.rest_timeout_seconds,
            limits=httpx2.Limits(max_connections=CONNECTIONS_MAX),
            follow_redirects=True,
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with trio.move_on_after(1.0, shield=True):
            await self._client.__aexit__(kind, error, traceback)

    async def fetch_books(self, tokens: Sequence[str]) -> dict[str, BookSnapshot]:
        """The books of at most BOOKS_PER_REQUEST_MAX tokens; unknown tokens are left out."""
        assert len(tokens) <= BOOKS_PER_REQUEST_MAX
        await self._books_quota.wait_turn()
        body = msgspec.json.encode([{"token_id": token} for token in tokens])
        answer = await self._request("POST", f"{self._clob_url}/books", body=body)
        if answer is None:
            raise RestFailed(f"{self._clob_url}/books: 404")
        books: dict[str, BookSnapshot] = {}
        unreadable: list[Unreadable] = []
        for number, book in enumerate(_decoded(each_book, answer), start=1):
            if isinstance(book, Unreadable):
                unreadable.append(book)
            else:
                books[book.token] = book
            if number % BOOKS_AT_ONCE_MAX == 0:
                await trio.lowlevel.checkpoint()
        now = trio.current_time()
        if unreadable:
            what = "unreadable books by REST"
            self._unreadable.warn(now, what, books=len(unreadable), why=unreadable[0].why)
        else:
            self._unreadable.end(now, "the books by REST are readable again")
        return books

    async def fetch_book(self, token: str) -> BookSnapshot | None:
        """The book of one token; None when the exchange does not know it (404)."""
        await self._book_quota.wait_turn()
        answer = await self._request("GET", f"{self._clob_url}/book", {"token_id": token})
        if answer is None:
            return None
        book = _decoded(decode_book, answer)
        if book.token != token:
            raise RestFailed(f"{self._clob_url}/book: asked for {token}, got {book.token}")
        return book

    async def fetch_markets(self, params: Mapping[str, str]) -> MarketsPage:
        """One page of Gamma's keyset listing."""
        answer = await self._request("GET", f"{self._gamma_url}/markets/keyset", params)
        if answer is None:
            raise RestFailed(f"{self._gamma_url}/markets/keyset: 404")
        return _decoded(decode_markets_page, answer)

    async def fetch_event_markets(self, slug: str) -> Sequence[MarketListing]:
        """The open markets of the event with this slug; empty when there is no such event."""
        answer = await self._request("GET", f"{self._gamma_url}/events", {"slug": slug})
        return () if answer is None else _decoded(decode_events, answer)

    async def fetch_signed(
        self, path: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> bytes:
        """The answer to a request that is signed (`headers`), of the CLOB; never redirected, as
        that would show the headers to others. Raises CredentialsRefused, too."""
        answer = await self._request("GET", f"{self._clob_url}{path}", params, signed=headers)
        if answer is None:
            raise RestFailed(f"{self._clob_url}{path}: 404")
        return answer

    async def _request(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        signed: Mapping[str, str] | None = None,
    ) -> bytes | None:
        """The body of a 200, None for a 404."""
        headers = {"content-type": "application/json"} if body is not None else signed
        answer = bytearray()
        try:
            with trio.fail_after(self._timeout_seconds) as scope:
                async with self._client.stream(
                    method,
                    url,
                    params=params,
                    content=body,
                    headers=headers,
                    follow_redirects=signed is None,
                ) as response:
                    # 403 is what a firewall in front of the exchange says, of an address.
                    if signed is not None and response.status_code == 401:
                        raise CredentialsRefused(f"{url}: HTTP 401")
                    if response.status_code == 404:
                        return None
                    if response.status_code != 200:
                        raise RestFailed(f"{url}: HTTP {response.status_code}")
                    async for chunk in response.aiter_bytes():
                        if len(answer) <= ANSWER_BYTES_MAX:
                            answer += chunk
                        else:
                            # Not raised here: that would leave httpx's generators unfinished.
                            scope.cancel(reason="the answer is too long")
            if len(answer) > ANSWER_BYTES_MAX:
                raise RestFailed(f"{url}: more than {ANSWER_BYTES_MAX} bytes")
            return bytes(answer)
        except trio.TooSlowError:
            if len(answer) > ANSWER_BYTES_MAX:
                raise RestFailed(f"{url}: more than {ANSWER_BYTES_MAX} bytes") from None
            raise RestFailed(f"{url}: no answer within {self._timeout_seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            raise RestFailed(f"{url}: {str(error) or type(error).__name__}") from None
