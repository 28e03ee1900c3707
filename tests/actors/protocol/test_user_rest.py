import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.actors.protocol.test_user_codec import API_KEY, ORDER, TRADE

from polyactors.book.numbers import parse_units
from polyactors.protocol._json import WireError
from polyactors.protocol.user_events import OrderKind, OrderStatus, TraderSide, TradeStatus
from polyactors.protocol.user_rest import (
    OrdersPage,
    TradesPage,
    decode_orders_page,
    decode_trades_page,
)

ONLY_ON_THE_CHANNEL = ("event_type", "type", "timestamp", "order_owner", "trade_owner")
ORDER_ROW = {name: value for name, value in ORDER.items() if name not in ONLY_ON_THE_CHANNEL}
TRADE_ROW = {name: value for name, value in TRADE.items() if name not in ONLY_ON_THE_CHANNEL}
DECODERS: list[Callable[[bytes], OrdersPage | TradesPage]] = [
    decode_orders_page,
    decode_trades_page,
]


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_page_of_orders() -> None:
    page = decode_orders_page(
        body({"limit": 100, "count": 1, "next_cursor": "MTAw", "data": [ORDER_ROW]})
    )
    (order,) = page.rows
    assert (order.kind, order.id, order.timestamp_ms) == (OrderKind.UPDATE, "0xorder", 0)
    assert order.size_matched == parse_units("2.5")
    assert page == OrdersPage((order,), "MTAw")


def test_a_page_of_trades() -> None:
    row = {**TRADE_ROW, "status": "TRADE_STATUS_RETRYING"}
    page = decode_trades_page(body({"next_cursor": "MTAw", "data": [row]}))
    (trade,) = page.rows
    assert (trade.id, trade.status) == ("trade-1", TradeStatus.RETRYING)
    assert trade.trader_side is TraderSide.MAKER
    assert trade.maker_fills[0].owner == API_KEY
    assert page == TradesPage((trade,), "MTAw")


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("cursor", ["LTE=", "", None])
def test_the_last_page(
    decode: Callable[[bytes], OrdersPage | TradesPage], cursor: str | None
) -> None:
    assert decode(body({"data": [], "next_cursor": cursor})).next_cursor == ""
    assert decode(body({"data": []})).next_cursor == ""
    assert decode(body([])).next_cursor == ""


def test_one_unreadable_row_loses_no_other() -> None:
    orders = decode_orders_page(body({"data": [{}, ORDER_ROW, 5]}))
    assert [order.id for order in orders.rows] == ["0xorder"]
    assert [row.why for row in orders.unreadable] == [
        "order: has no id",
        "expected an order, got 5",
    ]
    trades = decode_trades_page(body({"data": [{**TRADE_ROW, "status": "NEW"}, TRADE_ROW]}))
    assert [trade.id for trade in trades.rows] == ["trade-1"]
    assert [row.why for row in trades.unreadable] == ["trade: not a status of a trade: 'NEW'"]
    assert API_KEY not in repr(trades.unreadable)


def test_unknown_fields_of_rows_are_counted() -> None:
    assert decode_orders_page(body([{**ORDER_ROW, "mood": 1}])).unknown_fields == ("order.mood",)
    assert decode_trades_page(body([{**TRADE_ROW, "mood": 1}])).unknown_fields == ("trade.mood",)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b'{"error": "Invalid API key"}', "the exchange answered 'Invalid API key'"),
        (b'{"data": null}', "expected an array of "),
        (b"{}", "expected an array of "),
        (b"5", "expected a page of "),
        (b"<html>", "not JSON"),
        (b'{"data": [], "next_cursor": 5}', "expected text, got 5"),
    ],
)
def test_what_is_no_page(
    decode: Callable[[bytes], OrdersPage | TradesPage], answer: bytes, why: str
) -> None:
    with pytest.raises(WireError, match=why):
        decode(answer)


# Real answers


def test_recorded_pages(shared_captures: Path) -> None:
    rest = shared_captures / "rest"
    orders = decode_orders_page((rest / "http_open_orders_page.json").read_bytes())
    assert orders == OrdersPage(orders.rows, "")
    assert [order.size_matched for order in orders.rows] == [0, parse_units("50")]
    assert all(order.status is OrderStatus.LIVE for order in orders.rows)
    trades = decode_trades_page((rest / "http_trades_page.json").read_bytes())
    assert trades == TradesPage(trades.rows, "")
    assert [trade.match_time_s for trade in trades.rows] == [1704067200]


def rows_of(*paths: Path) -> bytes:
    rows: list[Any] = [json.loads(path.read_text()) for path in paths]
    return body(rows)


def test_recorded_rows(shared_captures: Path) -> None:
    rest = shared_captures / "rest"
    orders = decode_orders_page(rows_of(rest / "http_open_order.json"))
    assert orders == OrdersPage(orders.rows, "")
    assert orders.rows[0].associate_trades == ("0xabc001",)
    trades = decode_trades_page(
        rows_of(rest / "http_trade_report.json", shared_captures / "user/nautilus_trades.json")
    )
    assert trades == TradesPage(trades.rows, "")
    assert [trade.status for trade in trades.rows] == [TradeStatus.CONFIRMED] * 2


def test_the_public_data_api_has_other_trades(shared_captures: Path) -> None:
    """rest/trades.json is of data-api.polymarket.com: without ids, nothing that is asked here."""
    page = decode_trades_page((shared_captures / "rest" / "trades.json").read_bytes())
    assert page.rows == ()
    assert {row.why for row in page.unreadable} == {"trade: has no id"}
