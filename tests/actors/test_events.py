"""The JSON form of every event: what the events file promises, key by key."""

import json
from decimal import Decimal
from typing import Any, get_args

import pytest

from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import (
    AccountStateChanged,
    ActorEvent,
    ActorGaveUp,
    ActorRestarted,
    BookUpdated,
    Event,
    FaultInjected,
    FaultRecovered,
    FeedDown,
    FeedUp,
    Gap,
    OrderChanged,
    PositionChanged,
    TickSizeChanged,
    TradeChanged,
    TradePrinted,
    TrustChanged,
    to_json,
)
from polyactors.user.reading import FillReading, OrderReading, TradeReading
from polyactors.user.state import AccountReason, AccountState

OF_TOKEN: dict[str, Any] = {"token": "1111", "market": "0xab", "epoch": 7}
AT = 1_700_000_000_000_000_001

ADDED = {"timestamp_ms", "detail", "kind", "feed"}
"""Keys that we give beyond those that were asked for."""

ORDER_JSON = {
    "id": "0x1", "market": "0xab", "token": "1111", "outcome": "Yes", "side": "SELL",
    "price": "0.48", "original_size": "7", "filled_size": "2", "open_size": "5",
    "state": "OPEN", "order_type": "GTC", "created_at_s": 12, "expiration_s": 0,
}  # fmt: skip
FILL_JSON = {
    "trade": "t1", "order": "0x1", "token": "1111", "side": "SELL", "size": "2",
    "price": "0.48", "role": "MAKER",
}  # fmt: skip
TRADE_JSON = {
    "id": "t1", "market": "0xab", "status": "MINED", "is_final": False, "fills": [FILL_JSON],
    "match_time_s": 13, "transaction_hash": None,
}  # fmt: skip
DECIMALS = ("price", "size", "original_size", "filled_size", "open_size")


def from_json(kind: Any, fields: dict[str, Any], **changed: Any) -> Any:
    exact = {key: Decimal(fields[key]) for key in DECIMALS if key in fields}
    return kind(**fields | exact | changed)


ORDER = from_json(OrderReading, ORDER_JSON)
FILL = from_json(FillReading, FILL_JSON)
TRADE = from_json(TradeReading, TRADE_JSON, fills=(FILL,))

# Class, its fields, and the documented keys with their JSON values (the list).
EXAMPLES: list[tuple[type, dict[str, Any], str, dict[str, Any]]] = [
    (
        BookUpdated,
        OF_TOKEN
        | {"best_bid": Decimal("0.48"), "best_ask": Decimal("0.5"), "bids": 3, "asks": 4}
        | {"cause": "delta", "settled": False},
        "book_updated",
        OF_TOKEN
        | {"best_bid": "0.48", "best_ask": "0.5", "bids": 3, "asks": 4}
        | {"cause": "delta", "settled": False},
    ),
    (
        BookUpdated,
        OF_TOKEN
        | {"best_bid": None, "best_ask": None, "bids": 0, "asks": 0}
        | {"cause": "rest", "settled": True},
        "book_updated",
        OF_TOKEN
        | {"best_bid": None, "best_ask": None, "bids": 0, "asks": 0}
        | {"cause": "rest", "settled": True},
    ),
    (
        TradePrinted,
        OF_TOKEN
        | {"price": Decimal("0.001"), "size": Decimal(126680), "side": "SELL"}
        | {"timestamp_ms": 12},
        "trade_printed",
        OF_TOKEN | {"price": "0.001", "size": "126680", "side": "SELL"},
    ),
    (
        TickSizeChanged,
        OF_TOKEN | {"old": Decimal("0.01"), "new": Decimal("0.001")},
        "tick_size_changed",
        OF_TOKEN | {"old": "0.01", "new": "0.001"},
    ),
    (
        TickSizeChanged,
        OF_TOKEN | {"old": None, "new": Decimal("0.001")},
        "tick_size_changed",
        OF_TOKEN | {"old": None, "new": "0.001"},
    ),
    (
        TrustChanged,
        OF_TOKEN
        | {"state": TrustState.STALE, "previous": TrustState.LIVE}
        | {"reason": StaleReason.FEED_STALLED},
        "trust_changed",
        OF_TOKEN | {"state": "STALE", "previous": "LIVE", "reason": "feed_stalled"},
    ),
    (
        TrustChanged,
        OF_TOKEN | {"state": TrustState.SYNCING, "previous": TrustState.EMPTY, "reason": None},
        "trust_changed",
        OF_TOKEN | {"state": "SYNCING", "previous": "EMPTY", "reason": None},
    ),
    (
        Gap,
        {"feed": "feed-0", "epoch": 3, "token": None, "reason": StaleReason.PARSE_FAILURE},
        "gap",
        {"feed": "feed-0", "epoch": 3, "token": None, "reason": "parse_failure"},
    ),
    (
        FeedUp,
        {"feed": "feed-0", "epoch": 3},
        "feed_up",
        {"feed": "feed-0", "epoch": 3, "reason": None},
    ),
    (
        FeedDown,
        {"feed": "feed-0", "epoch": 3, "reason": "closed_1006", "detail": "gone"},
        "feed_down",
        {"feed": "feed-0", "epoch": 3, "reason": "closed_1006"},
    ),
    (
        ActorGaveUp,
        {"path": "root/extensions/watch", "incarnation": 6, "reason": "crash (ValueError: no)"},
        "actor_gave_up",
        {"path": "root/extensions/watch", "incarnation": 6, "reason": "crash (ValueError: no)"},
    ),
    (
        ActorEvent,
        {"actor": "watch", "name": "spread_wide", "data": {"token": "1", "deep": [1, {"x": None}]}},
        "actor_event",
        {"actor": "watch", "name": "spread_wide", "data": {"token": "1", "deep": [1, {"x": None}]}},
    ),
    (
        FaultInjected,
        {"id": 4, "kind": "missing_book", "token": "1111", "feed": None},
        "fault_injected",
        {"id": 4, "kind": "missing_book", "token": "1111"},
    ),
    (
        FaultRecovered,
        {"id": 4, "kind": "reset", "seconds": 1.25},
        "fault_recovered",
        {"id": 4, "seconds": 1.25},
    ),
    (
        AccountStateChanged,
        {"epoch": 3, "state": AccountState.STALE, "previous": AccountState.LIVE}
        | {"reason": AccountReason.DISCONNECTED},
        "account_state",
        {"epoch": 3, "state": "STALE", "previous": "LIVE", "reason": "disconnected"},
    ),
    (
        OrderChanged,
        {"epoch": 3, "order": ORDER, "filled_size": Decimal(2), "previous": "OPEN"}
        | {"reconciled": True},
        "order_changed",
        {"epoch": 3, "order": ORDER_JSON, "filled_size": "2", "previous": "OPEN"}
        | {"reconciled": True},
    ),
    (
        TradeChanged,
        {"epoch": 3, "trade": TRADE, "previous": None, "reconciled": False},
        "trade_changed",
        {"epoch": 3, "trade": TRADE_JSON, "previous": None, "reconciled": False},
    ),
    (
        PositionChanged,
        {"epoch": 3, "token": "1111", "old": Decimal(0), "new": Decimal(-2), "fill": FILL}
        | {"reconciled": False},
        "position_changed",
        {"epoch": 3, "token": "1111", "old": "0", "new": "-2", "fill": FILL_JSON}
        | {"reconciled": False},
    ),
    (
        ActorRestarted,
        {"path": "root/core/feeds/feed-0/parser", "incarnation": 2, "reason": "crash"},
        "actor_restarted",
        {"path": "root/core/feeds/feed-0/parser", "incarnation": 2, "reason": "crash"},
    ),
]


@pytest.mark.parametrize(("kind", "fields", "name", "keys"), EXAMPLES)
def test_an_event_is_one_line_with_the_documented_keys(
    kind: type, fields: dict[str, Any], name: str, keys: dict[str, Any]
) -> None:
    event: Event = kind(time_ns=AT, **fields)
    line = to_json(event)
    assert b"\n" not in line
    found = json.loads(line)
    assert (found["type"], found["time_ns"]) == (name, AT)
    assert list(found)[:2] == ["type", "time_ns"]
    assert {key: found.get(key, "absent") for key in keys} == keys
    assert set(found) - set(keys) <= {"type", "time_ns", *ADDED}


def test_every_kind_of_event_stands_in_the_table() -> None:
    assert {kind for kind, *_ in EXAMPLES} == set(get_args(Event))


def test_what_comes_from_the_wire_cannot_break_out_of_its_line() -> None:
    event = FeedDown(time_ns=AT, feed="f", epoch=1, reason="reset", detail='a\n"b"\u2028\x00c')
    assert json.loads(to_json(event))["detail"] == event.detail
    assert b"\n" not in to_json(event)


def test_a_price_keeps_every_digit() -> None:
    price, size = Decimal("0.123456789"), Decimal("123456789012.000000001")
    event = TradePrinted(time_ns=AT, **OF_TOKEN, price=price, size=size, side="BUY", timestamp_ms=1)
    found = json.loads(to_json(event))
    assert (found["price"], found["size"]) == ("0.123456789", "123456789012.000000001")


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_an_event_is_frozen_and_its_type_is_that_of_its_json(kind: Any) -> None:
    config = kind.__struct_config__
    assert (config.tag_field, config.tag) == ("type", kind.type)
    assert config.frozen
