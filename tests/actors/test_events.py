"""The JSON form of every event: what the events file promises, key by key."""

import json
from decimal import Decimal
from typing import Any, get_args

import pytest

from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import (
    ActorRestarted,
    BookUpdated,
    Event,
    FaultInjected,
    FaultRecovered,
    FeedDown,
    FeedUp,
    Gap,
    TickSizeChanged,
    TradePrinted,
    TrustChanged,
    to_json,
)

OF_TOKEN: dict[str, Any] = {"token": "1111", "market": "0xab", "epoch": 7}
AT = 1_700_000_000_000_000_001

ADDED = {"timestamp_ms", "detail", "kind", "feed"}
"""Keys that we give beyond those that were asked for."""

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
