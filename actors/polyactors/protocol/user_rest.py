"""Bodies of GET /data/orders and GET /data/trades, which are signed (PROTOCOL.md, section 5).

/data/orders lists open orders only. /data/trades lists trades of all statuses. Both come in
pages, `{"data": […], "next_cursor": "…"}`; "LTE=" ends a list (official Python client), and so
does an empty cursor (OpenAPI document). One bad row never loses the others; but a list with an
unreadable row is not complete, and nothing may be concluded from what it lacks.
"""

from attrs import frozen

from polyactors.protocol._json import (
    WireError,
    decode_unambiguous_json,
    is_array,
    is_object,
)
from polyactors.protocol._readers import read_text, show
from polyactors.protocol.events import Unreadable
from polyactors.protocol.rest import END_CURSOR
from polyactors.protocol.user_codec import UserElements
from polyactors.protocol.user_events import OrderEvent, TradeEvent

__all__ = ["FIRST_CURSOR", "OrdersPage", "TradesPage", "decode_orders_page", "decode_trades_page"]

FIRST_CURSOR = "MA=="
"""`next_cursor` of the request for the first page, as the official client sends it."""


@frozen
class OrdersPage:
    """One page of the account's open orders."""

    rows: tuple[OrderEvent, ...]
    """Of kind UPDATE: what each order is now."""
    next_cursor: str
    """What to send as `next_cursor` for the next page; "" on the last page."""
    unreadable: tuple[Unreadable, ...] = ()
    unknown_fields: tuple[str, ...] = ()


@frozen
class TradesPage:
    """One page of the account's trades."""

    rows: tuple[TradeEvent, ...]
    next_cursor: str
    """What to send as `next_cursor` for the next page; "" on the last page."""
    unreadable: tuple[Unreadable, ...] = ()
    unknown_fields: tuple[str, ...] = ()


def decode_orders_page(body: bytes) -> OrdersPage:
    """A page of GET /data/orders.

    Raises:
        WireError: no such page; an `error` that the exchange sent instead is quoted.
    """
    rows, cursor = _rows_of(body, "orders")
    found = UserElements()
    orders = [found.read_as("order", OrderEvent, row) for row in rows]
    decoded = found.decoded()
    return OrdersPage(
        tuple(order for order in orders if order is not None),
        cursor,
        decoded.unreadable,
        decoded.unknown_fields,
    )


def decode_trades_page(body: bytes) -> TradesPage:
    """A page of GET /data/trades.

    Raises:
        WireError: no such page; an `error` that the exchange sent instead is quoted.
    """
    rows, cursor = _rows_of(body, "trades")
    found = UserElements()
    trades = [found.read_as("trade", TradeEvent, row) for row in rows]
    decoded = found.decoded()
    return TradesPage(
        tuple(trade for trade in trades if trade is not None),
        cursor,
        decoded.unreadable,
        decoded.unknown_fields,
    )


def _rows_of(body: bytes, what: str) -> tuple[list[object], str]:
    """The rows, and the cursor of the next page. A bare array is the only page."""
    page = decode_unambiguous_json(body)
    if is_array(page):
        return page, ""
    if not is_object(page):
        raise WireError(f"expected a page of {what}, got {show(page)}")
    if "data" not in page and isinstance(page.get("error"), str):
        raise WireError(f"the exchange answered {show(page['error'])}")
    rows = page.get("data")
    if not is_array(rows):
        raise WireError(f"expected an array of {what}, got {show(rows)}")
    cursor = read_text(page.get("next_cursor"))
    return rows, "" if cursor == END_CURSOR else cursor
