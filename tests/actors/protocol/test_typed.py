"""The fast way to read a frame says what the exact one says, or nothing."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from polyactors.protocol import rest
from polyactors.protocol._typed import read_rest_book
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import BookSnapshot, Decoded, MarketEvent, PriceChange
from polyactors.protocol.rest import decode_books

CODEC = MarketCodec()
TOKENS = st.sampled_from(["1", "22", "333", "x", "", "9" * 78, "9" * 79, "\uff11"])
NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            "0",
            "0.5",
            ".5",
            "0.48",
            "1",
            "0.001",
            "",
            "5.",
            "+1",
            "1e-2",
            "-1",
            "NaN",
            "1.0000000001",
        ]
    ),
    st.decimals(0, 1, places=3).map(str),
    st.sampled_from([0.5, 1, None, True, [], {"price": "1"}, "1" * 41]),
)
SIDES = st.sampled_from(["BUY", "SELL", "buy", "bid", "BOTH", "", None, 1])
GOOD_TIME = "1757908892351"
TIMES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([GOOD_TIME, "1757908892", "", "0", "-1", "x", "1" + "0" * 14, None, True]),
    st.sampled_from(["{}", "{}.0", "{}.5", " {}", "+{}", "0{}", "1_{}", "{}e0", "{}0e-1"]).map(
        lambda form: form.format(GOOD_TIME)
    ),
    st.sampled_from([1757908892351, 1757908892351.0, 1757908892351.5, 1757908892, 10**14]),
)
HASHES = st.sampled_from(["", "a" * 40, "b" * 100, "b" * 101, None, "a:b", 'quote"d', "ü"])
LEVEL: dict[str, st.SearchStrategy[Any]] = {"price": NUMBERS, "size": NUMBERS}
MORE: dict[str, st.SearchStrategy[Any]] = {"count": NUMBERS}
LEVELS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.fixed_dictionaries(LEVEL, optional=MORE), max_size=4
)
GOOD_PRICES = st.sampled_from(["0.1", "0.2", "0.3", ".1"])
GOOD_LEVELS = st.lists(
    st.fixed_dictionaries({"price": GOOD_PRICES, "size": st.sampled_from(["0", "7", "1.5"])}),
    max_size=5,
)
NOTHING: dict[str, st.SearchStrategy[Any]] = {}
CHANGE: dict[str, st.SearchStrategy[Any]] = {
    "asset_id": TOKENS, "price": NUMBERS, "size": NUMBERS, "side": SIDES, "hash": HASHES,
    "best_bid": NUMBERS, "best_ask": NUMBERS,
}  # fmt: skip
GOOD_CHANGE: dict[str, Any] = {
    "asset_id": "1", "price": "0.48", "size": "30", "side": "BUY", "hash": "a" * 40,
    "best_bid": "0.48", "best_ask": "0.52",
}  # fmt: skip
HEAD: dict[str, st.SearchStrategy[Any]] = {
    "market": st.sampled_from(["0xab", "", None, 1, "m" * 101]), "timestamp": TIMES
}  # fmt: skip
GOOD_HEAD: dict[str, Any] = {"market": "0xab", "timestamp": "1757908892351"}
GOOD: list[dict[str, Any]] = [
    {**GOOD_HEAD, "event_type": "price_change", "price_changes": [GOOD_CHANGE, GOOD_CHANGE]},
    {**GOOD_HEAD, "event_type": "price_change", "price_changes": []},
    {**GOOD_HEAD, "event_type": "book", "asset_id": "1", "hash": "h", "bids": [], "asks": []},
    {
        **GOOD_HEAD, "event_type": "book", "asset_id": "1", "hash": "h", "asks": [],
        "bids": [{"price": "0.2", "size": "1"}, {"price": "0.1", "size": "5"}],
        "tick_size": "0.01", "last_trade_price": "",
    },
    {
        **GOOD_HEAD, "event_type": "last_trade_price", "asset_id": "1", "price": "0.48",
        "size": "3", "side": "SELL", "fee_rate_bps": "0", "transaction_hash": "0x1",
    },
    {
        **GOOD_HEAD, "event_type": "best_bid_ask", "asset_id": "1", "best_bid": "0.1",
        "best_ask": "0.2", "spread": "0.1",
    },
]  # fmt: skip
OTHERS: list[object] = [
    {**GOOD_HEAD, "event_type": "tick_size_change", "asset_id": "1", "new_tick_size": "0.1"},
    {**GOOD_HEAD, "event_type": "something"},
    {"event_type": None},
    {},
    [],
    7,
]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **HEAD, **CHANGE, "bids": LEVELS, "asks": GOOD_LEVELS, "tick_size": NUMBERS,
    "last_trade_price": NUMBERS, "spread": NUMBERS, "fee_rate_bps": NUMBERS,
    "transaction_hash": HASHES, "new": HASHES, "min_order_size": NUMBERS, "neg_risk": NUMBERS,
    "event_type": st.sampled_from(["book", "price_change", "last_trade_price", "", None]),
    "price_changes": st.lists(
        st.fixed_dictionaries(NOTHING, optional={**CHANGE, "new": NUMBERS}), max_size=3
    ),
}  # fmt: skip


@st.composite
def elements(draw: st.DrawFn) -> object:
    """A good event, or one with anything changed in it, or something else."""
    element: dict[str, Any] = dict(draw(st.sampled_from(GOOD)))
    for name in draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=2)):
        if draw(st.booleans()):
            element.pop(name, None)
        else:
            element[name] = draw(VALUES[name])
    if "price_changes" in element and draw(st.booleans()):
        entry = {**GOOD_CHANGE, **draw(st.fixed_dictionaries(NOTHING, optional=CHANGE))}
        element["price_changes"] = [GOOD_CHANGE, entry]
    if "event_type" in element and draw(st.booleans()):
        element["event_type"] = element.pop("event_type")  # last, as on the wire
    return draw(st.sampled_from([element, element, element, *OTHERS]))


@st.composite
def frames(draw: st.DrawFn) -> str:
    """JSON text of one element or several, sometimes with a name twice or cut."""
    many = draw(st.booleans())
    value = draw(st.lists(elements(), max_size=3)) if many else draw(elements())
    compact = draw(st.booleans())
    text = json.dumps(value, separators=(",", ":") if compact else None)
    damage = draw(st.sampled_from(["", "", "", "twice", "cut", "more"]))
    if damage == "twice" and "{" in text:
        where = draw(st.integers(0, text.count("{") - 1))
        parts = text.split("{")
        name = draw(st.sampled_from(["market", "price", "size", "asset_id", "event_type"]))
        parts[where + 1] = f'"{name}":"0.1",' + parts[where + 1]
        return "{".join(parts)
    if damage == "cut":
        return text[: draw(st.integers(0, len(text)))]
    return text + " ]" if damage == "more" else text


def receive_known(frame: str) -> list[MarketEvent] | None:
    """What the fast way reads in a frame; None when it leaves it to the exact one."""
    events, index = CODEC.receive_known([frame])
    assert index == 1 or not events
    return events if index else None


@given(frames())
def test_the_fast_way_agrees_with_the_exact_one_or_says_nothing(frame: str) -> None:
    known = receive_known(frame)
    event(f"known: {known is not None}")
    if known is not None:
        assert CODEC.receive_frame(frame) == Decoded(events=tuple(known))


@st.composite
def rest_answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Good books as REST states them, and such with anything changed in them."""
    names = ["market", "timestamp", "asset_id", "hash", "bids", "asks", "new", "neg_risk",
             "min_order_size", "tick_size", "last_trade_price"]  # fmt: skip
    books: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 3))):
        book = {**GOOD[3], "min_order_size": "5", "neg_risk": draw(st.booleans())}
        del book["event_type"]
        for name in draw(st.lists(st.sampled_from(names), max_size=2)):
            if draw(st.booleans()):
                book.pop(name, None)
            else:
                book[name] = draw(VALUES[name])
        books.append({name: book[name] for name in sorted(book, key=REST_ORDER.index)})
    return books


REST_ORDER = ["market", "asset_id", "timestamp", "hash", "bids", "asks", "min_order_size",
              "tick_size", "neg_risk", "last_trade_price", "new"]  # fmt: skip


@given(rest_answers())
def test_books_of_rest_are_read_the_same_both_ways(answer: list[dict[str, Any]]) -> None:
    body = json.dumps(answer).encode()
    event(f"known: {[read_rest_book(json.dumps(book).encode()) is not None for book in answer]}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rest, "read_rest_book", Mock(return_value=None))
        exactly = decode_books(body)
    assert decode_books(body) == exactly


@pytest.mark.parametrize("element", GOOD, ids=[str(one["event_type"]) for one in GOOD])
def test_what_is_common_is_read_the_fast_way(element: dict[str, Any]) -> None:
    for frame, count in ((json.dumps(element), 1), (json.dumps([element, element]), 2)):
        known = receive_known(frame)
        assert known is not None
        assert len(known) == count
        assert CODEC.receive_frame(frame) == Decoded(events=tuple(known))


def test_levels_come_in_the_order_of_the_wire_and_the_last_of_two_counts() -> None:
    levels = [("0.2", "1"), ("0.1", "2"), ("0.3", "0"), (".1", "3")]
    sides = [{"price": price, "size": size} for price, size in levels]
    frame = json.dumps({**GOOD[2], "bids": sides, "asks": sides})
    known = receive_known(frame)
    assert known is not None
    (book,) = known
    assert isinstance(book, BookSnapshot)
    assert [size // 10**9 for size in book.bids.values()] == [3, 1]
    assert list(book.asks.items()) == list(book.bids.items())[::-1]


def test_frames_are_read_up_to_the_first_that_is_left_to_the_exact_way() -> None:
    good, other = json.dumps(GOOD[0]), "PONG"
    stories: list[list[str | bytes]] = [[other], [good, other], [good, good, b"", good]]
    for kept, frames in enumerate(stories):
        events, index = CODEC.receive_known(frames)
        assert (len(events), index) == (kept, kept)
        assert CODEC.receive_known([other, *frames], 1) == (events, kept + 1)


def test_a_name_twice_is_not_read_the_fast_way() -> None:
    good = json.dumps(GOOD[0])
    assert receive_known(good.replace('"size"', '"size":"1","size"', 1)) is None
    assert receive_known(good.replace('{"market"', '{"market":"0xcd","market"')) is None


def test_texts_are_remembered_within_bounds() -> None:
    for number in range(20_000):
        change = {**GOOD_CHANGE, "asset_id": str(number), "size": str(number)}
        known = receive_known(json.dumps({**GOOD[0], "price_changes": [change]}))
        assert known is not None
        (read,) = known
        assert isinstance(read, PriceChange)
        assert (read.changes[0].token, read.changes[0].size) == (str(number), number * 10**9)


def test_recorded_frames_of_today_are_read_the_fast_way(shared_captures: Path) -> None:
    recording = shared_captures / "market" / "capture_2026-09-11_ask_cancellation.jsonl"
    lines = recording.read_text().splitlines()
    assert lines
    for line in lines:
        known = receive_known(line)
        assert known is not None, line[:200]
        assert CODEC.receive_frame(line) == Decoded(events=tuple(known))
