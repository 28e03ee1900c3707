"""What is no message: counted, kept, its tokens named, and nothing else lost with it."""

import json
from typing import Any

import pytest

from polyactors.protocol import _elements, _json, _readers, _wire
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import BookSnapshot, Decoded, PriceChange, Unreadable

GOOD: dict[str, Any] = {
    "event_type": "price_change",
    "market": "0xabc",
    "timestamp": "1757908892351",
    "price_changes": [{"asset_id": "1", "price": "0.4", "size": "5", "side": "BUY"}],
}
BOOK: dict[str, Any] = {
    "event_type": "book",
    "market": "0xabc",
    "asset_id": "1",
    "bids": [],
    "asks": [],
}


def receive(frame: str | bytes) -> Decoded:
    return MarketCodec().receive_frame(frame)


def decode(value: object) -> Decoded:
    return receive(json.dumps(value))


def only_unreadable(decoded: Decoded) -> Unreadable:
    assert decoded.events == ()
    assert decoded.unknown_events == ()
    assert decoded.control is None
    (unreadable,) = decoded.unreadable
    assert unreadable.why
    return unreadable


# frames


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "  \n",
        "garbage",
        "pong?",
        "{",
        '{"event_type": "book", "asset_id": "1',
        "[1, 2,]",
        "NaN",
        "{} {}",
        "\ufeff[]",
        '"\ud800"',
        b"",
        b"\xff\xfe\x00",
        b'{"event_type": "\xff"}',
        b"\x00" * 10,
        "[" * 100_000,
        '{"a":' * 100_000,
        '[{"event_type":"book","bids":' + "[" * 100_000,
        "1" * 10_000,
        "[" + "1" * 10_000 + "]",
    ],
    ids=lambda frame: repr(frame)[:30],
)
def test_what_is_not_json_is_one_unreadable_that_may_concern_all(frame: str | bytes) -> None:
    unreadable = only_unreadable(receive(frame))
    assert unreadable.why.startswith("not JSON: ")
    assert unreadable.tokens == ()


@pytest.mark.parametrize("colon", ["", ":"])
def test_nesting_of_any_depth_is_survived(colon: str) -> None:
    # Around the interpreter's limit the two JSON decoders, and the excerpt, give up one by one.
    for depth in range(850, 1010):
        nested = "[" * depth + f'"{colon}"' + "]" * depth
        decoded = receive(f'{{"event_type": "book", "bids": {nested}}}')
        assert only_unreadable(decoded).excerpt


@pytest.mark.parametrize("frame", ["null", "true", "1", "0.5", '"text"', "1" * 300, '"' * 2])
def test_a_json_scalar_is_one_unreadable(frame: str) -> None:
    assert only_unreadable(receive(frame)).tokens == ()


def test_the_excerpt_is_the_first_200_bytes() -> None:
    assert only_unreadable(receive("é" * 5000)).excerpt == "é" * 100
    assert only_unreadable(receive(b"\xff" * 5000)).excerpt == "\ufffd" * 200
    assert only_unreadable(receive("x\ud800y")).excerpt == "x?y"
    assert only_unreadable(decode({"asset_id": "7"})).excerpt == '{"asset_id":"7"}'
    assert len(only_unreadable(decode({"asset_id": "7", "pad": "x" * 5000})).excerpt) == 200


def test_an_array_of_too_many_elements_is_refused_as_a_whole() -> None:
    at_the_limit = decode([0] * _elements.ELEMENTS_MAX)
    assert len(at_the_limit.unreadable) == _elements.ELEMENTS_MAX
    assert "10001 elements" in only_unreadable(decode([0] * (_elements.ELEMENTS_MAX + 1))).why


def test_a_price_change_of_too_many_entries_is_refused_as_a_whole() -> None:
    entries = GOOD["price_changes"] * _wire.CHANGES_MAX
    (event,) = decode({**GOOD, "price_changes": entries}).events
    assert isinstance(event, PriceChange)
    assert len(event.changes) == _wire.CHANGES_MAX
    unreadable = only_unreadable(decode({**GOOD, "price_changes": [*entries, entries[0]]}))
    assert unreadable.tokens == ("1",)


def test_a_book_of_too_many_levels_is_refused() -> None:
    levels = [{"price": f"0.{1 + n:06d}", "size": "1"} for n in range(_readers.LEVELS_MAX)]
    (event,) = decode({**BOOK, "bids": levels}).events
    assert isinstance(event, BookSnapshot)
    assert len(event.bids) == _readers.LEVELS_MAX
    decoded = decode({**BOOK, "bids": [*levels, {"price": "0.5", "size": "1"}]})
    assert only_unreadable(decoded).tokens == ("1",)


# elements


@pytest.mark.parametrize("bad", [None, True, 7, "text", [], [GOOD], {}, {"event_type": 7}])
def test_a_bad_element_leaves_the_others_alone(bad: object) -> None:
    decoded = decode([GOOD, bad, BOOK])
    assert decoded.events == decode([GOOD, BOOK]).events
    assert [item.tokens for item in decoded.unreadable] == [()]


@pytest.mark.parametrize(
    "change",
    [
        {"bids": {}},
        {"bids": "no"},
        {"bids": [1]},
        {"bids": [["0.4", "1"]]},
        {"bids": [{"price": "0.4"}]},
        {"bids": [{"price": "0", "size": "1"}]},
        {"bids": [{"price": "1", "size": "1"}]},
        {"bids": [{"price": "1.2", "size": "1"}]},
        {"asks": [{"price": "-0.4", "size": "1"}]},
        {"asks": [{"price": "0.4", "size": "-1"}]},
        {"asks": [{"price": "0.4", "size": "NaN"}]},
        {"asks": [{"price": "0.4", "size": "Infinity"}]},
        {"asks": [{"price": "0.4", "size": "1e400"}]},
        {"asks": [{"price": "0.4", "size": 10**300}]},
        {"asks": [{"price": "0.1234567891", "size": "1"}]},
        {"asks": [{"price": True, "size": "1"}]},
        {"asks": [{"price": None, "size": "1"}]},
        {"asks": [{"price": ["0.4"], "size": "1"}]},
        {"asks": [{"price": "0.4 ", "size": "1"}]},
        {"market": None},
        {"market": ""},
        {"market": "0" * 101},
        {"hash": 7},
        {"hash": "0" * 101},
        {"timestamp": "soon"},
        {"tick_size": "0"},
        {"tick_size": "1"},
        {"last_trade_price": "much"},
        {"last_trade_price": {}},
        {"neg_risk": "true"},
    ],
    ids=repr,
)
def test_a_book_with_one_bad_value_is_unreadable_and_names_its_token(change: Any) -> None:
    assert only_unreadable(decode({**BOOK, **change})).tokens == ("1",)


@pytest.mark.parametrize(
    "wire",
    [
        {"event_type": "last_trade_price", "price": "1.01", "size": "5", "side": "BUY"},
        {"event_type": "last_trade_price", "price": "", "size": "5", "side": "BUY"},
        {"event_type": "last_trade_price", "price": "0.4", "size": "5"},
        {"event_type": "tick_size_change", "new_tick_size": "0"},
        {"event_type": "tick_size_change", "new_tick_size": ""},
        {"event_type": "tick_size_change", "new_tick_size": "0.01", "old_tick_size": "1"},
        {"event_type": "best_bid_ask", "best_bid": "0.4", "best_ask": "1.01"},
        {"event_type": "new_market", "slug": 7},
        {"event_type": "market_resolved", "winning_asset_id": "me"},
    ],
    ids=lambda wire: str(wire)[15:80],
)
def test_any_event_with_one_bad_value_is_unreadable(wire: dict[str, object]) -> None:
    assert only_unreadable(decode({"market": "0xabc", "asset_id": "1", **wire})).tokens == ("1",)


@pytest.mark.parametrize(
    "token", ["", "12a", "-1", "1.0", "٣", "9" * 79, 1.5, True, None, ["1"], {"1": "1"}]
)
def test_a_bad_token_id_names_no_token(token: object) -> None:
    assert only_unreadable(decode({**BOOK, "asset_id": token})).tokens == ()


def test_token_ids_are_exact_as_text_and_as_integers() -> None:
    for token in ("0", "007", "9" * 78):
        (event,) = decode({**BOOK, "asset_id": token}).events
        assert isinstance(event, BookSnapshot)
        assert event.token == token
    (event,) = decode({**BOOK, "asset_id": 10**77 + 1}).events
    assert isinstance(event, BookSnapshot)
    assert event.token == str(10**77 + 1)


def test_an_element_without_event_type_names_its_tokens() -> None:
    assert only_unreadable(decode({"asset_id": "7"})).tokens == ("7",)
    assert only_unreadable(decode({"assets_ids": ["7", 8, "x", "7"]})).tokens == ("7", "8")
    del (wire := {**GOOD})["event_type"]
    assert only_unreadable(decode(wire)).tokens == ("1",)


def test_a_wrong_message_around_good_entries_names_them_all() -> None:
    two = [{"asset_id": "1"}, {"asset_id": "2"}, {"asset_id": "1"}]
    wire = {"event_type": "price_change", "timestamp": "1", "price_changes": two}
    assert only_unreadable(decode(wire)).why == "price_change: has no market"
    assert only_unreadable(decode(wire)).tokens == ("1", "2")
    # One of the entries is anybody's.
    assert only_unreadable(decode({**wire, "price_changes": [*two, {}]})).tokens == ()
    assert only_unreadable(decode({**wire, "price_changes": [*two, {}], "asset_id": "3"})).tokens


# entries


@pytest.mark.parametrize(
    ("bad", "tokens"),
    [
        ({"asset_id": "2", "price": "2", "size": "5", "side": "BUY"}, ("2",)),
        ({"asset_id": "2", "price": "0.4", "size": "5", "side": "HOLD"}, ("2",)),
        ({"asset_id": "2", "price": "0.4", "size": "5", "side": 1}, ("2",)),
        ({"asset_id": "2", "price": "0.4", "size": "-5", "side": "BUY"}, ("2",)),
        ({"asset_id": "2", "price": "0.4", "side": "BUY"}, ("2",)),
        ({"asset_id": "2", "price": "0.4", "size": "5", "side": "BUY", "best_bid": "2"}, ("2",)),
        ({"asset_id": "2", "price": "0.4", "size": "5", "side": "BUY", "best_ask": "x"}, ("2",)),
        ({"price": "0.4", "size": "5", "side": "BUY"}, ()),
        ("text", ()),
        (7, ()),
        (None, ()),
        ([], ()),
    ],
)
def test_a_bad_entry_leaves_the_others_alone(bad: Any, tokens: tuple[str, ...]) -> None:
    first = GOOD["price_changes"][0]
    last = {**first, "asset_id": "3"}
    decoded = decode({**GOOD, "price_changes": [first, bad, last]})
    assert decoded.events == decode({**GOOD, "price_changes": [first, last]}).events
    (unreadable,) = decoded.unreadable
    assert unreadable.tokens == tokens
    assert unreadable.excerpt == json.dumps(bad, separators=(",", ":"))


def test_a_price_change_of_bad_entries_only_is_no_event() -> None:
    decoded = decode({**GOOD, "price_changes": [{"asset_id": "1"}, {"asset_id": "2"}]})
    assert decoded.events == ()
    assert [item.tokens for item in decoded.unreadable] == [("1",), ("2",)]


def test_a_bad_entry_of_2025_concerns_the_token_of_its_message() -> None:
    good = {"price": "0.4", "size": "5", "side": "BUY"}
    wire = {
        "event_type": "price_change",
        "asset_id": "1",
        "market": "0xabc",
        "changes": [good, {"price": "4"}, 7],
    }
    decoded = decode(wire)
    assert decoded.events == decode({**wire, "changes": [good]}).events
    assert [item.tokens for item in decoded.unreadable] == [("1",), ("1",)]


@pytest.mark.parametrize("entries", [None, {}, "", "text", 7])
def test_entries_that_are_no_list_are_unreadable(entries: object) -> None:
    only_unreadable(decode({**GOOD, "price_changes": entries}))
    wire = {"event_type": "price_change", "asset_id": "1", "market": "0xabc", "changes": entries}
    assert only_unreadable(decode(wire)).tokens == ("1",)


def test_a_price_change_that_says_nothing_is_unreadable() -> None:
    wire = {"event_type": "price_change", "asset_id": "1", "market": "0xabc"}
    assert only_unreadable(decode(wire)).tokens == ("1",)


# names that stand twice


def twice(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, f"{old}, {new}")


def test_an_object_that_has_a_name_twice_is_unreadable_and_the_others_are_not() -> None:
    doubled = twice(json.dumps(BOOK), '"asset_id": "1"', '"asset_id": "2"')
    unreadable = only_unreadable(receive(doubled))
    assert unreadable.why == "expected an event, got an object with a name twice"
    assert unreadable.tokens == ("1", "2")
    decoded = receive(f"[{json.dumps(GOOD)}, {doubled}, {json.dumps(BOOK)}]")
    assert decoded.events == decode([GOOD, BOOK]).events
    assert decoded.unreadable == (unreadable,)


def test_an_entry_that_has_a_name_twice_is_unreadable_and_the_others_are_not() -> None:
    entry = json.dumps(GOOD["price_changes"])[1:-1]
    doubled = twice(entry, '"size": "5"', '"size": "6"')
    frame = json.dumps(GOOD).replace(entry, f"{doubled}, {entry}")
    decoded = receive(frame)
    assert decoded.events == decode(GOOD).events
    assert [item.tokens for item in decoded.unreadable] == [("1",)]


def test_a_level_that_has_a_name_twice_makes_the_book_unreadable() -> None:
    wire = {**BOOK, "bids": [{"price": "0.4", "size": "1"}]}
    doubled = twice(json.dumps(wire), '"size": "1"', '"size": "2"')
    assert only_unreadable(receive(doubled)).tokens == ("1",)
    assert only_unreadable(receive(doubled.encode())).tokens == ("1",)


def test_a_name_twice_deep_inside_is_found_too() -> None:
    wire = {"event_type": "new_market", "market": "0xabc", "event_message": {"id": "1"}}
    assert len(decode(wire).events) == 1
    doubled = twice(json.dumps(wire), '"id": "1"', '"id": "2"')
    decoded = receive(doubled)
    # Nothing of ours is in there: the event is as good as without it.
    assert decoded.events == decode(wire).events


def test_colons_inside_strings_are_not_taken_for_names() -> None:
    wire = {**BOOK, "hash": "::::"}
    (event,) = decode(wire).events
    assert isinstance(event, BookSnapshot)
    assert event.hash == "::::"
    # A colon too many and a name twice do not cancel out.
    doubled = twice(json.dumps(wire), '"market": "0xabc"', '"market": "0xabd"')
    only_unreadable(receive(doubled))


def test_exact_json_keeps_numbers_as_they_were_written() -> None:
    text = "[0.630, 1e5, -0.0, 7, 123456789012345678901234567890, 1E-2]"
    expected = ["0.630", "1e5", "-0.0", 7, 123456789012345678901234567890, "1E-2"]
    assert _json.decode_json(text) == expected
    assert _json.decode_unambiguous_json(text) == expected
    # The second decoder, which a colon in a string calls in, agrees with the first.
    assert _json.decode_unambiguous_json(f'[":", {text}]') == [":", expected]
