"""Whatever comes, the codec does not raise, and each element of it is accounted for."""

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from polyactors.protocol._json import is_array, is_object
from polyactors.protocol._wire import EVENT_TYPES
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import ControlText, Decoded, PriceChange
from polyactors.protocol.rest import (
    WireError,
    decode_book,
    decode_books,
    decode_events,
    decode_markets_page,
    decode_tick_size,
)

SAMPLES: list[dict[str, Any]] = [
    {
        "event_type": "book",
        "market": "0xabc",
        "asset_id": "11",
        "bids": [{"price": "0.4", "size": "5"}, {"price": "0.45", "size": "7"}],
        "asks": [{"price": "0.5", "size": "5"}],
        "hash": "ab",
        "timestamp": "1757908892351",
        "tick_size": "0.01",
        "last_trade_price": "",
    },
    {"market": "0xabc", "asset_id": "12", "buys": [], "sells": [{"price": ".4", "size": 1}]},
    {
        "event_type": "price_change",
        "market": "0xabc",
        "timestamp": "1757908892351",
        "price_changes": [
            {"asset_id": "21", "price": "0.4", "size": "0", "side": "BUY", "hash": "ab"},
            {"asset_id": "22", "price": "0.6", "size": "0", "side": "SELL", "best_bid": "0"},
        ],
    },
    {
        "event_type": "price_change",
        "market": "0xabc",
        "asset_id": "23",
        "changes": [{"price": "0.4", "size": "5", "side": "buy"}],
    },
    {
        "event_type": "price_change",
        "market": "0xabc",
        "asset_id": "24",
        "price": "0.4",
        "size": "5",
        "side": "ask",
        "timestamp": 1705320001,
    },
    {
        "event_type": "last_trade_price",
        "market": "0xabc",
        "asset_id": "31",
        "price": "0.4",
        "size": "5",
        "side": "BUY",
    },
    {"event_type": "tick_size_change", "market": "0xabc", "asset_id": "41", "new_tick_size": "0.1"},
    {
        "event_type": "best_bid_ask",
        "market": "0xabc",
        "asset_id": "51",
        "best_bid": "0",
        "best_ask": "1",
    },
    {"event_type": "new_market", "market": "0xabc", "assets_ids": ["61", "62"]},
    {"event_type": "market_resolved", "market": "0xabc", "winning_asset_id": "71"},
    {"event_type": "sunrise", "asset_id": "81"},
]
KEYS = sorted({key for sample in SAMPLES for key in sample} | {"price", "size", "side", "x", ""})

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=10)
    | st.sampled_from(("0.4", "0", "1", "", "BUY", "1e5", "-1", "9" * 79, "book", "price_change"))
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of everything inside a JSON value."""
    found: list[tuple[str | int, ...]] = []
    steps: list[tuple[str | int, Any]] = []
    if is_object(value):
        steps += value.items()
    elif is_array(value):
        steps += enumerate(value)
    for step, inside in steps:
        found += [(*path, step), *paths(inside, (*path, step))]
    return found


@st.composite
def corrupted(draw: Any) -> Any:
    """A valid message in which something was replaced, removed or added."""
    element = copy.deepcopy(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(paths(element)))
        holder: Any = element
        for step in way:
            holder = holder[step]
        kind = draw(st.sampled_from(("replace", "remove", "add")))
        if kind == "replace":
            holder[last] = draw(JSON)
        elif kind == "remove" and (way or len(element) > 1):
            del holder[last]
            if not paths(element):
                break
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(KEYS))] = draw(JSON)
    return element


ELEMENTS = st.sampled_from(SAMPLES) | corrupted() | JSON


def test_every_event_of_the_exchange_has_a_sample() -> None:
    missing = EVENT_TYPES.keys() - {sample.get("event_type") for sample in SAMPLES}
    assert not missing, f"SAMPLES lacks {sorted(missing)}"


def receive(value: object) -> Decoded:
    return MarketCodec().receive_frame(json.dumps(value))


def outcomes(decoded: Decoded) -> int:
    return len(decoded.events) + len(decoded.unreadable) + len(decoded.unknown_events)


@given(st.lists(ELEMENTS, max_size=5))
def test_every_element_of_an_array_is_accounted_for(elements: list[Any]) -> None:
    together = receive(elements)
    assert together.control is None
    alone = [receive([element]) for element in elements]
    # The array is the sum of its elements: none loses, hides or changes another.
    assert together.events == tuple(event for one in alone for event in one.events)
    assert together.unreadable == tuple(item for one in alone for item in one.unreadable)
    assert together.unknown_events == tuple(name for one in alone for name in one.unknown_events)
    assert together.unknown_fields == tuple(name for one in alone for name in one.unknown_fields)
    for element, one in zip(elements, alone, strict=True):
        if outcomes(one) != 1:
            # Only entries of a price_change count one by one; its good ones are one event.
            assert element["event_type"] == "price_change"
            entries = element["price_changes" if "price_changes" in element else "changes"]
            kept = sum(len(event.changes) for event in one.events if isinstance(event, PriceChange))
            assert kept + len(one.unreadable) == len(entries)


@given(st.lists(st.sampled_from(SAMPLES), max_size=4), corrupted() | JSON, st.data())
def test_a_corrupted_element_leaves_the_decoding_of_the_others_identical(
    elements: list[Any], bad: Any, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(elements)))
    clean = receive(elements)
    dirty = receive([*elements[:position], bad, *elements[position:]])
    own = receive([bad])
    before = receive(elements[:position])
    cut = len(before.events)
    assert dirty.events[:cut] == before.events
    assert dirty.events[cut + len(own.events) :] == clean.events[cut:]
    assert len(dirty.unreadable) == len(own.unreadable)
    assert outcomes(dirty) == outcomes(clean) + outcomes(own)


@given(corrupted())
def test_an_unreadable_message_names_its_token_or_all(element: Any) -> None:
    for unreadable in receive(element).unreadable:
        assert unreadable.why
        text = json.dumps(element)
        assert all(f'"{token}"' in text or token in text for token in unreadable.tokens)
        if element.get("asset_id") in ("11", "12", "23", "24"):
            assert element["asset_id"] in unreadable.tokens


@given(st.sampled_from(SAMPLES), st.integers(0, 1000), st.integers(0, 8))
def test_a_torn_frame_is_one_unreadable(sample: dict[str, Any], start: int, length: int) -> None:
    text = json.dumps(sample)
    torn = text[: start % len(text)] if length else text[1 + start % (len(text) - 1) :]
    decoded = MarketCodec().receive_frame(torn)
    assert outcomes(decoded) == 1
    assert not decoded.events


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_and_are_accounted_for(frame: bytes) -> None:
    decoded = MarketCodec().receive_frame(frame)
    is_empty_array = frame.strip(b" \t\r\n").replace(b" ", b"") == b"[]"
    assert outcomes(decoded) or decoded.control or is_empty_array


@given(st.text(max_size=200))
def test_random_text_never_raises_and_is_accounted_for(frame: str) -> None:
    decoded = MarketCodec().receive_frame(frame)
    is_empty_array = frame.strip(" \t\r\n").replace(" ", "") == "[]"
    assert outcomes(decoded) or decoded.control or is_empty_array
    if decoded.control is not None:
        assert decoded.control is ControlText(frame.strip())


@given(
    st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255))),
)  # fmt: skip
def test_flipped_bytes_never_raise(sample: dict[str, Any], flips: list[tuple[int, int]]) -> None:
    frame = bytearray(json.dumps(sample).encode())
    for position, value in flips:
        frame[position % len(frame)] = value
    decoded = MarketCodec().receive_frame(bytes(frame))
    assert outcomes(decoded) or not frame.strip(b"[] \t\r\n")


GAMMA: dict[str, Any] = {
    "conditionId": "0xabc",
    "clobTokenIds": '["1", "2"]',
    "outcomes": '["Yes", "No"]',
    "volume24hr": 1.5,
}


def changed(wire: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    return {**wire, name: value}


@given(st.lists(ELEMENTS, max_size=4))
def test_every_book_of_an_answer_is_accounted_for(elements: list[Any]) -> None:
    books, unreadable = decode_books(json.dumps(elements).encode())
    assert len(books) + len(unreadable) == len(elements)


@given(
    st.lists(
        st.just(GAMMA)
        | st.builds(changed, st.just(GAMMA), st.sampled_from(list(GAMMA)), JSON)
        | JSON,
        max_size=4,
    )
)
def test_every_market_of_a_page_is_accounted_for(rows: list[Any]) -> None:
    page = decode_markets_page(json.dumps({"markets": rows}).encode())
    assert len(page.markets) + len(page.unreadable) + page.without_book == len(rows)
    assert all(listing.tokens for listing in page.markets)


@given(st.binary(max_size=50) | JSON.map(json.dumps).map(str.encode))
def test_rest_answers_raise_nothing_but_wire_errors(body: bytes) -> None:
    sentences: list[str] = []
    for decode in (decode_book, decode_books, decode_events, decode_markets_page, decode_tick_size):
        try:
            decode(body)
        except WireError as error:
            sentences.append(str(error))
    assert all(sentences)
