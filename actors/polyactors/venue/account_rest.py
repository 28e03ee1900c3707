"""REST's lists of an account: GET /data/orders and GET /data/trades (PROTOCOL.md section 5).

1. The five POLY_ headers are checked; anything wrong with them is 401.
2. Rows are chosen: by id, market, asset_id, and for trades by maker_address, before and after.
   Whether the second that is given counts is not documented: here it does not, on either side.
3. A page is cut by offset, newest row first, and `next_cursor` is the next offset in base64
   ("MA==" is 0, "LTE=" is -1, the end). So what happens between two pages can push a row past
   a client, or show it twice.

Only open orders are listed; trades are in every status.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from polyactors.venue.accounts import AccountLists, VenueAccount

if TYPE_CHECKING:
    from polyactors.venue.exchange import Venue

TIMESTAMP_SECONDS_MAX = 60
"""How far the timestamp of a signature may be from the exchange's time."""
FIRST_CURSOR = "MA=="
END_CURSOR = "LTE="
Row = Mapping[str, object]


def make_routes(venue: "Venue") -> list[Route]:
    """The two lists."""

    def listing(
        rows: Callable[[AccountLists], Sequence[Row]], chosen: Callable[[Row, Request], bool]
    ) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            account = authenticate(venue, request)
            if account is None:
                return _error(401, "Unauthorized/Invalid api key")
            try:
                start = _offset(request.query_params.get("next_cursor", FIRST_CURSOR))
                found = rows(venue.rest_faults.answer_lists(account))
                matching = [row for row in found if chosen(row, request)]
            except ValueError as error:
                return _error(400, str(error))
            return _page(matching, start, venue.accounts.page_rows)

        return endpoint

    return [
        Route("/data/orders", listing(lambda lists: lists.orders, _is_order_wanted)),
        Route("/data/trades", listing(lambda lists: lists.trades, _is_trade_wanted)),
    ]


def authenticate(venue: "Venue", request: Request) -> VenueAccount | None:
    """The account that signed the request; None when the signature is refused."""
    headers = request.headers
    account = venue.accounts.get(headers.get("POLY_API_KEY", ""))
    if account is None or account.is_revoked:
        return None
    known = account.credentials
    stamp = headers.get("POLY_TIMESTAMP", "")
    if not stamp.isdecimal() or len(stamp) > 15:
        return None
    if abs(int(stamp) - venue.timestamp_ms() / 1000) > TIMESTAMP_SECONDS_MAX:
        return None
    expected = signature(known.secret, stamp, request.method, request.url.path)
    is_signed = hmac.compare_digest(
        expected.encode(), headers.get("POLY_SIGNATURE", "").encode("latin-1")
    )
    is_known = headers.get("POLY_PASSPHRASE") == known.passphrase
    is_his = headers.get("POLY_ADDRESS", "").lower() == known.address.lower()
    return account if is_signed and is_known and is_his else None


def signature(secret: str, timestamp: str, method: str, path: str) -> str:
    """As the official clients make it for a request without a body; `path` has no query."""
    message = f"{timestamp}{method}{path}".encode()
    mac = hmac.new(base64.urlsafe_b64decode(secret), message, hashlib.sha256)
    return base64.urlsafe_b64encode(mac.digest()).decode()


def _is_order_wanted(row: Row, request: Request) -> bool:
    return all(_is_equal(row, request, name) for name in ("id", "market", "asset_id"))


def _is_trade_wanted(row: Row, request: Request) -> bool:
    if not _is_order_wanted(row, request):
        return False
    address = request.query_params.get("maker_address", "")
    makers = cast("Sequence[Row]", row["maker_orders"])
    addresses = [str(party["maker_address"]).lower() for party in (row, *makers)]
    if address and address.lower() not in addresses:
        return False
    matched_s = int(str(row["match_time"]))
    before, after = (request.query_params.get(name, "") for name in ("before", "after"))
    return (not before or matched_s < _seconds(before)) and (
        not after or matched_s > _seconds(after)
    )


def _is_equal(row: Row, request: Request, name: str) -> bool:
    return row[name] == (request.query_params.get(name) or row[name])


def _seconds(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise ValueError(f"invalid unix timestamp: {text[:40]}")
    return int(text)


def _offset(cursor: str) -> int:
    try:
        offset = int(base64.b64decode(cursor or FIRST_CURSOR, validate=True))
    except (binascii.Error, ValueError):
        offset = -1
    if offset < 0:
        raise ValueError("invalid next_cursor")
    return offset


def _page(rows: Sequence[Row], start: int, size: int) -> Response:
    page = rows[start : start + size]
    end = start + len(page)
    cursor = base64.b64encode(str(end).encode()).decode() if end < len(rows) else END_CURSOR
    return JSONResponse(
        {"data": list(page), "next_cursor": cursor, "limit": size, "count": len(page)}
    )


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)
