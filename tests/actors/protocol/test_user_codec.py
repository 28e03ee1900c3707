import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from polyactors.book.numbers import Side, parse_units
from polyactors.protocol import _elements, _user_wire
from polyactors.protocol.events import ControlText
from polyactors.protocol.user_codec import UserCodec
from polyactors.protocol.user_events import (
    MakerFill,
    OrderEvent,
    OrderKind,
    OrderStatus,
    TradeEvent,
    TraderSide,
    TradeStatus,
    UserDecoded,
)

API_KEY = "3e2c94ca-8124-c4c1-c7ea-be1ea21b71fe"
ORDER: dict[str, Any] = {
    "event_type": "order",
    "type": "PLACEMENT",
    "id": "0xorder",
    "owner": API_KEY,
    "order_owner": API_KEY,
    "market": "0xm",
    "asset_id": "11",
    "side": "SELL",
    "original_size": "10",
    "size_matched": "2.5",
    "price": "0.57",
    "associate_trades": ["t1", "t2"],
    "outcome": "YES",
    "created_at": "1757908892",
    "expiration": "1757909999",
    "order_type": "GTD",
    "status": "LIVE",
    "maker_address": "0xWallet",
    "timestamp": "1757908892351",
}
MAKER: dict[str, Any] = {
    "order_id": "0xmaker",
    "owner": API_KEY,
    "maker_address": "0xWallet",
    "matched_amount": "4",
    "price": "0.43",
    "fee_rate_bps": "10",
    "asset_id": "12",
    "outcome": "NO",
    "outcome_index": 1,
    "side": "SELL",
}
TRADE: dict[str, Any] = {
    "event_type": "trade",
    "type": "TRADE",
    "id": "trade-1",
    "taker_order_id": "0xtaker",
    "market": "0xm",
    "asset_id": "11",
    "side": "SELL",
    "size": "4",
    "price": "0.57",
    "fee_rate_bps": "",
    "status": "MATCHED",
    "match_time": "1757908892",
    "last_update": "1757908893",
    "outcome": "YES",
    "owner": "stranger",
    "trade_owner": "stranger",
    "maker_address": "0xstranger",
    "transaction_hash": "0xhash",
    "bucket_index": 0,
    "maker_orders": [MAKER],
    "trader_side": "MAKER",
    "timestamp": "1757908893444",
}


UNREADABLE_TRADES: list[tuple[dict[str, Any], str]] = [
    ({"trader_side": "BOTH"}, "not a side of a trader: 'BOTH'"),
    ({"maker_orders": {}}, "expected an array of maker orders, got an object"),
    ({"maker_orders": [5]}, "expected a maker order, got 5"),
    ({"maker_orders": [{}]}, "expected a number, got null"),
    ({"maker_orders": [{"side": "BUY"}]}, "has no "),
    ({"maker_orders": [MAKER, {**MAKER, "order_id": ""}]}, "not an id: ''"),
    ({"maker_orders": [MAKER] * 10_001}, "10001 maker orders, at most 10000"),
    ({"status": None}, "expected a word, got null"),
]


def decode(value: object) -> UserDecoded:
    return UserCodec().receive_frame(json.dumps(value))


def an_order(**changes: Any) -> OrderEvent:
    decoded = decode({**ORDER, **changes})
    (event,) = decoded.events
    assert isinstance(event, OrderEvent)
    return event


def a_trade(**changes: Any) -> TradeEvent:
    decoded = decode({**TRADE, **changes})
    (event,) = decoded.events
    assert isinstance(event, TradeEvent)
    return event


def why_unreadable(value: object) -> str:
    decoded = decode(value)
    assert decoded.events == ()
    (unreadable,) = decoded.unreadable
    return unreadable.why


def test_an_order() -> None:
    assert decode(ORDER) == UserDecoded(
        events=(
            OrderEvent(
                kind=OrderKind.PLACEMENT,
                id="0xorder",
                market="0xm",
                token="11",
                side=Side.ASK,
                price=parse_units("0.57"),
                original_size=parse_units("10"),
                size_matched=parse_units("2.5"),
                status=OrderStatus.LIVE,
                order_type="GTD",
                outcome="YES",
                created_at_s=1757908892,
                expiration_s=1757909999,
                associate_trades=("t1", "t2"),
                maker_address="0xWallet",
                timestamp_ms=1757908892351,
                owner=API_KEY,
            ),
        )
    )


def test_a_trade() -> None:
    assert decode(TRADE) == UserDecoded(
        events=(
            TradeEvent(
                id="trade-1",
                taker_order_id="0xtaker",
                market="0xm",
                token="11",
                side=Side.ASK,
                size=parse_units("4"),
                price=parse_units("0.57"),
                status=TradeStatus.MATCHED,
                trader_side=TraderSide.MAKER,
                maker_fills=(
                    MakerFill(
                        order_id="0xmaker",
                        token="12",
                        side=Side.ASK,
                        price=parse_units("0.43"),
                        matched_size=parse_units("4"),
                        outcome="NO",
                        maker_address="0xWallet",
                        fee_rate_bps=Decimal(10),
                        owner=API_KEY,
                    ),
                ),
                outcome="YES",
                match_time_s=1757908892,
                last_update_s=1757908893,
                transaction_hash="0xhash",
                maker_address="0xstranger",
                timestamp_ms=1757908893444,
                owner="stranger",
                trade_owner="stranger",
            ),
        )
    )


def test_no_key_is_shown() -> None:
    assert API_KEY not in repr(decode([ORDER, TRADE]))


# What may be missing or written otherwise


def test_what_an_order_may_lack() -> None:
    bare = {
        name: ORDER[name]
        for name in ("event_type", "id", "market", "asset_id", "side", "price", "original_size")
    }
    assert decode(bare).events == (
        OrderEvent(
            kind=OrderKind.UPDATE,
            id="0xorder",
            market="0xm",
            token="11",
            side=Side.ASK,
            price=parse_units("0.57"),
            original_size=parse_units("10"),
            status=OrderStatus.UNKNOWN,
        ),
    )
    nulls = dict.fromkeys(ORDER.keys() - bare.keys()) | {"type": "UPDATE"}
    assert decode({**bare, **nulls}).events == decode(bare).events
    empty = dict.fromkeys(("size_matched", "created_at", "expiration", "outcome"), "")
    assert decode({**bare, **empty}).events == decode(bare).events


def test_what_a_trade_may_lack() -> None:
    needed = ("event_type", "id", "taker_order_id", "market", "asset_id", "side", "size", "price")
    bare = {name: TRADE[name] for name in needed} | {"status": "MATCHED"}
    assert decode(bare).events == (
        TradeEvent(
            id="trade-1",
            taker_order_id="0xtaker",
            market="0xm",
            token="11",
            side=Side.ASK,
            size=parse_units("4"),
            price=parse_units("0.57"),
            status=TradeStatus.MATCHED,
        ),
    )
    nulls = dict.fromkeys(TRADE.keys() - bare.keys())
    assert decode({**bare, **nulls}).events == decode(bare).events


@pytest.mark.parametrize("kind", [*OrderKind])
def test_the_type_tells_what_lacks_an_event_type(kind: OrderKind) -> None:
    for missing in ({"event_type": None}, {"event_type": ""}):
        assert an_order(type=kind.value, **missing).kind is kind
    assert a_trade(event_type=None).id == "trade-1"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        *((status.value, status) for status in OrderStatus if status is not OrderStatus.UNKNOWN),
        ("live", OrderStatus.LIVE),
        ("ORDER_STATUS_LIVE", OrderStatus.LIVE),
        ("ORDER_STATUS_MATCHED", OrderStatus.MATCHED),
        ("INVALID", OrderStatus.CANCELED),
        ("ORDER_STATUS_CANCELED_MARKET_RESOLVED", OrderStatus.CANCELED),
        ("CANCELLED", OrderStatus.CANCELED),
        ("CANCELED_order couldn't be fully filled. FOK orders are …", OrderStatus.CANCELED),
    ],
)
def test_statuses_of_an_order(text: str, status: OrderStatus) -> None:
    assert an_order(status=text).status is status
    assert decode({**ORDER, "status": text}).unknown_fields == ()


def test_a_new_status_of_an_order_is_counted_and_loses_nothing() -> None:
    decoded = decode({**ORDER, "status": "PAUSED"})
    assert decoded.unknown_fields == ("order.status=PAUSED",)
    (event,) = decoded.events
    assert isinstance(event, OrderEvent)
    assert event.status is OrderStatus.UNKNOWN
    assert event.size_matched == parse_units("2.5")


@pytest.mark.parametrize("status", [*TradeStatus])
def test_statuses_of_a_trade(status: TradeStatus) -> None:
    for text in (status.value, status.value.lower(), f"TRADE_STATUS_{status.value}"):
        assert a_trade(status=text).status is status


@pytest.mark.parametrize("prefix", ["", "TRADE_STATUS_"])
def test_matched_and_not_broadcast_is_matched(prefix: str) -> None:
    assert a_trade(status=f"{prefix}MATCHED_NOT_BROADCASTED").status is TradeStatus.MATCHED


def test_a_new_status_of_a_trade_is_unreadable() -> None:
    """It would have to be guessed whether its fills count."""
    assert why_unreadable({**TRADE, "status": "SETTLED"}) == (
        "trade: not a status of a trade: 'SETTLED'"
    )


def test_match_time_in_its_legacy_spelling() -> None:
    legacy = {name: value for name, value in TRADE.items() if name != "match_time"}
    decoded = decode({**legacy, "matchtime": "1725868859"})
    assert decoded.unknown_fields == ()
    (event,) = decoded.events
    assert isinstance(event, TradeEvent)
    assert event.match_time_s == 1725868859
    assert a_trade(matchtime="1").match_time_s == 1757908892


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1757908892", 1757908892),
        (1757908892, 1757908892),
        ("1757908892351", 1757908892),
        (1757908892351, 1757908892),
        ("2025-09-15T04:01:32Z", 1757908892),
        ("2025-09-15T04:01:32", 1757908892),
        ("2025-09-15T06:01:32+02:00", 1757908892),
        ("", 0),
        (None, 0),
        ("0", 0),
        (0, 0),
    ],
)
def test_times_in_seconds(written: object, seconds: int) -> None:
    assert an_order(created_at=written, expiration=written).created_at_s == seconds
    trade = a_trade(match_time=written, last_update=written)
    assert (trade.match_time_s, trade.last_update_s) == (seconds, seconds)


@pytest.mark.parametrize("written", ["1757908892351", 1757908892351])
def test_timestamps_in_milliseconds(written: object) -> None:
    assert an_order(timestamp=written).timestamp_ms == 1757908892351
    assert a_trade(timestamp=written).timestamp_ms == 1757908892351
    assert a_trade(timestamp="1757908892").timestamp_ms == 1757908892000


@pytest.mark.parametrize(
    ("taker_side", "maker_token", "maker_side"),
    [
        ("BUY", "11", Side.ASK),
        ("SELL", "11", Side.BID),
        ("BUY", "12", Side.BID),
        ("SELL", "12", Side.ASK),
    ],
)
def test_a_makers_side_that_the_wire_lacks(
    taker_side: str, maker_token: str, maker_side: Side
) -> None:
    maker = {name: value for name, value in MAKER.items() if name != "side"}
    for lacking in (maker, {**maker, "side": ""}, {**maker, "side": None}):
        trade = a_trade(side=taker_side, maker_orders=[{**lacking, "asset_id": maker_token}])
        assert trade.maker_fills[0].side is maker_side


# What cannot be meant


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"id": ""}, "order: not an id: ''"),
        ({"id": 5}, "order: not an id: 5"),
        ({"id": "x" * 101}, "order: not an id: "),
        ({"type": "EXPIRED"}, "order: not a kind of order event: 'EXPIRED'"),
        ({"asset_id": "Yes"}, "order: not a token id"),
        ({"side": "HOLD"}, "order: not a side: 'HOLD'"),
        ({"price": "1.5"}, "order: price of a trade above 1"),
        ({"original_size": "-1"}, "order: not a non-negative decimal number"),
        ({"size_matched": "many"}, "order: not a non-negative decimal number"),
        ({"created_at": "2025-13-01"}, "order: not a time: '2025-13-01'"),
        ({"created_at": "soon"}, "order: not a non-negative decimal number"),
        ({"associate_trades": "t1"}, "order: not JSON"),
        ({"status": 5}, "order: expected a word, got 5"),
        ({"status": "x" * 201}, "order: expected a word, got "),
    ],
)
def test_an_order_that_cannot_be_meant(change: dict[str, Any], why: str) -> None:
    assert why_unreadable({**ORDER, **change}).startswith(why)


@pytest.mark.parametrize(("change", "why"), UNREADABLE_TRADES)
def test_a_trade_that_cannot_be_meant(change: dict[str, Any], why: str) -> None:
    assert why_unreadable({**TRADE, **change}).startswith(f"trade: {why}")


@pytest.mark.parametrize("name", ["id", "market", "asset_id", "side", "price", "original_size"])
def test_what_an_order_must_have(name: str) -> None:
    lacking = {key: value for key, value in ORDER.items() if key != name}
    assert why_unreadable(lacking) == f"order: has no {name}"


def test_as_many_makers_as_are_read() -> None:
    assert len(a_trade(maker_orders=[MAKER] * _user_wire.MAKERS_MAX).maker_fills) == 10_000


# Frames


def test_one_unreadable_element_loses_no_other() -> None:
    decoded = decode([ORDER, {**TRADE, "size": None}, 5, {"event_type": "news"}, {}, TRADE])
    assert [type(event) for event in decoded.events] == [OrderEvent, TradeEvent]
    assert [unreadable.why for unreadable in decoded.unreadable] == [
        "trade: expected a number, got null",
        "expected an event, got 5",
        "expected an event, got an object",
    ]
    assert decoded.unknown_events == ("news",)


def test_unknown_fields_are_counted() -> None:
    maker = {**MAKER, "tip": 1}
    decoded = decode([{**ORDER, "mood": 1}, {**TRADE, "mood": 1, "maker_orders": [maker, maker]}])
    assert len(decoded.events) == 2
    assert decoded.unknown_fields == ("order.mood", "trade.mood", "trade.maker_orders[].tip")


@pytest.mark.parametrize("control", [*ControlText])
def test_control_texts(control: ControlText) -> None:
    assert UserCodec().receive_frame(control.value) == UserDecoded(control=control)


def test_frames_that_are_no_json_and_empty_ones() -> None:
    assert UserCodec().receive_frame(b"\xff").unreadable[0].why.startswith("not JSON")
    assert UserCodec().receive_frame("hello").unreadable[0].excerpt == "hello"
    assert decode([]) == UserDecoded()


def test_the_number_of_elements_is_limited() -> None:
    assert len(decode([0] * _elements.ELEMENTS_MAX).unreadable) == _elements.ELEMENTS_MAX
    assert "10001 elements" in why_unreadable([0] * (_elements.ELEMENTS_MAX + 1))


def test_an_element_with_a_name_twice_is_unreadable() -> None:
    text = json.dumps(ORDER)[:-1] + f', "owner": "{API_KEY}"}}'
    (unreadable,) = UserCodec().receive_frame(text).unreadable
    assert API_KEY not in unreadable.excerpt


def test_no_excerpt_shows_a_key_or_what_a_server_echoes() -> None:
    auth = {"auth": {"apiKey": API_KEY, "secret": "S3CRET", "passphrase": "PASS"}}
    front = {"owner": API_KEY, "order_owner": API_KEY, "trade_owner": API_KEY}
    frames = [
        json.dumps(front | {"event_type": "order"}),
        json.dumps(auth),
        json.dumps(auth)[:-20],
        json.dumps(front, indent=1)[:-1],
        json.dumps({"owner": API_KEY})[:-8],
    ]
    for frame in frames:
        (unreadable,) = UserCodec().receive_frame(frame).unreadable
        shown = repr(unreadable)
        assert "…" in shown
        assert not any(value in shown for value in (API_KEY[:20], "S3CRET", "PASS"))


# Real messages


NO_CHANNEL_MESSAGE = {
    "nautilus_trades.json": "a row of GET /data/trades, in test_user_rest.py",
}


def test_every_recorded_message_is_read(shared_captures: Path) -> None:
    paths = sorted((shared_captures / "user").glob("*.json"))
    assert len(paths) >= 23
    for path in paths:
        if path.name in NO_CHANNEL_MESSAGE:
            continue
        decoded = UserCodec().receive_frame(path.read_text())
        assert len(decoded.events) == 1, path
        assert decoded == UserDecoded(events=decoded.events), path


def recorded(shared_captures: Path, name: str) -> Any:
    return UserCodec().receive_frame((shared_captures / "user" / name).read_text()).events[0]


def test_a_recorded_trade_of_2024_without_the_makers_sides(shared_captures: Path) -> None:
    trade = recorded(shared_captures, "nautilus_user_trade1.json")
    assert trade.trader_side is TraderSide.MAKER
    assert [fill.side for fill in trade.maker_fills] == [Side.BID, *[Side.ASK] * 5]
    assert sum(fill.matched_size for fill in trade.maker_fills) == trade.size


def test_a_takers_price_is_rounded_and_the_makers_are_not(shared_captures: Path) -> None:
    trade = recorded(shared_captures, "polypy_trade_info_partitioned_maker_fill.json")
    mint, same = trade.maker_fills
    assert (mint.side, same.side) == (Side.BID, Side.ASK)
    paid = (10**9 - mint.price) * mint.matched_size + same.price * same.matched_size
    assert Decimal(paid).scaleb(-18) == Decimal("0.09")
    assert Decimal(trade.price * trade.size).scaleb(-18) == Decimal("0.091")


def test_recorded_endings(shared_captures: Path) -> None:
    for name in ("nautilus_order_cancel", "ws_user_order_fok_killed", "ws_user_order_venue_cancel"):
        order = recorded(shared_captures, f"{name}.json")
        assert order.kind is OrderKind.CANCELLATION
        assert order.status is OrderStatus.CANCELED
