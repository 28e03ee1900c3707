import json
from decimal import Decimal
from typing import Any

import pytest

from polyactors.protocol.events import BookSnapshot
from polyactors.protocol.rest import (
    MarketListing,
    MarketsPage,
    WireError,
    decode_book,
    decode_books,
    decode_events,
    decode_markets_page,
    decode_tick_size,
)

BOOK: dict[str, Any] = {
    "market": "0xabc",
    "asset_id": "1",
    "timestamp": "1757908892351",
    "hash": "ff",
    "bids": [{"price": "0.4", "size": "5"}],
    "asks": [],
    "min_order_size": "5",
    "tick_size": "0.01",
    "neg_risk": False,
    "last_trade_price": "0.750",
}
MARKET: dict[str, Any] = {
    "conditionId": "0xabc",
    "slug": "will-it-rain",
    "question": "Will it rain?",
    "clobTokenIds": '["1", "2"]',
    "outcomes": '["Yes", "No"]',
    "outcomePrices": '["0.5", "0.5"]',
    "enableOrderBook": True,
    "acceptingOrders": True,
    "active": True,
    "closed": False,
    "negRisk": True,
    "orderPriceMinTickSize": 0.001,
    "orderMinSize": 5,
    "volume24hr": 25072.141289999992,
}
LISTING = MarketListing(
    condition_id="0xabc",
    slug="will-it-rain",
    question="Will it rain?",
    tokens=("1", "2"),
    outcomes=("Yes", "No"),
    tick_size="0.001",
    min_order_size="5",
    neg_risk=True,
    accepting_orders=True,
    active=True,
    closed=False,
    volume_24h_usdc=Decimal("25072.141289999992"),
)


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_book_brings_all_inputs_of_its_hash() -> None:
    assert decode_book(body(BOOK)) == BookSnapshot(
        token="1",
        market="0xabc",
        bids={400_000_000: 5_000_000_000},
        asks={},
        hash="ff",
        timestamp_ms=1757908892351,
        tick_size="0.01",
        last_trade_price="0.750",
        min_order_size="5",
        neg_risk=False,
    )


def test_a_book_of_2024_lacks_them() -> None:
    old = {name: BOOK[name] for name in ("market", "asset_id", "hash", "bids", "asks")}
    book = decode_book(body(old))
    assert (book.tick_size, book.min_order_size, book.neg_risk) == (None, None, None)
    assert (book.last_trade_price, book.timestamp_ms) == (None, 0)


def test_an_error_instead_of_a_book_is_quoted() -> None:
    with pytest.raises(WireError, match="No orderbook exists"):
        decode_book(body({"error": "No orderbook exists for the requested token id"}))


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"[]", b"null", b"{}", b'{"error": 7}', b"\xff", b"[" * 100_000],
    ids=lambda answer: repr(answer)[:20],
)
def test_what_is_no_book_is_one_sentence(answer: bytes) -> None:
    with pytest.raises(WireError, match=r"\w"):
        decode_book(answer)


def test_a_book_with_a_name_twice_is_refused() -> None:
    with pytest.raises(WireError, match="name twice"):
        decode_book(body(BOOK).replace(b'"asset_id"', b'"asset_id": "2", "asset_id"'))


def test_one_bad_book_leaves_the_others_alone() -> None:
    bad = {**BOOK, "asset_id": "2", "bids": None, "asks": 7}
    books, unreadable = decode_books(body([BOOK, bad, None, {**BOOK, "asset_id": "3"}]))
    assert [book.token for book in books] == ["1", "3"]
    assert [item.tokens for item in unreadable] == [("2",), ()]
    assert decode_books(b"[]") == ([], [])


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"error": "Payload exceeds the limit"}'])
def test_books_are_an_array(answer: bytes) -> None:
    with pytest.raises(WireError):
        decode_books(answer)


@pytest.mark.parametrize("answer", [b"0.01", b'"0.01"', b"1e-2", b'"0.010"'])
def test_a_tick_size_is_canonical_text(answer: bytes) -> None:
    assert decode_tick_size(b'{"minimum_tick_size":' + answer + b"}") == "0.01"


@pytest.mark.parametrize(
    "answer", [b"", b"0.01", b"{}", b'{"minimum_tick_size": 0}', b'{"minimum_tick_size": null}']
)
def test_what_is_no_tick_size_is_one_sentence(answer: bytes) -> None:
    with pytest.raises(WireError):
        decode_tick_size(answer)


def test_a_page_of_gammas_keyset_listing_is_read() -> None:
    page = {"$schema": "https://x/y.json", "markets": [MARKET], "next_cursor": "3Cqz=="}
    assert decode_markets_page(body(page)) == MarketsPage((LISTING,), "3Cqz==")


@pytest.mark.parametrize(
    "page",
    [
        [MARKET],
        {"markets": [MARKET]},
        {"markets": [MARKET], "next_cursor": None},
        {"markets": [MARKET], "next_cursor": ""},
        {"data": [MARKET], "next_cursor": "LTE=", "limit": 1, "count": 1},
    ],
)
def test_the_last_page_has_no_cursor_whatever_its_form(page: object) -> None:
    assert decode_markets_page(body(page)) == MarketsPage((LISTING,), "")


def test_token_ids_may_be_real_arrays() -> None:
    market = {**MARKET, "clobTokenIds": ["1", "2"], "outcomes": ["Yes", "No"]}
    assert decode_markets_page(body([market])).markets == (LISTING,)


def test_a_listing_that_says_little_is_not_made_up() -> None:
    page = decode_markets_page(body([{"conditionId": "0xabc", "clobTokenIds": '["1"]'}]))
    assert page.markets == (MarketListing("0xabc", "", "", ("1",), ()),)


@pytest.mark.parametrize(
    "change",
    [
        {"enableOrderBook": False},
        {"clobTokenIds": None},
        {"clobTokenIds": ""},
        {"clobTokenIds": "[]"},
        {"clobTokenIds": []},
    ],
)
def test_markets_without_an_order_book_are_left_out_and_counted(change: Any) -> None:
    page = decode_markets_page(body([{**MARKET, **change}, MARKET]))
    assert page == MarketsPage((LISTING,), "", (), without_book=1)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "text",
        {},
        {"condition_id": "0xabc", "clobTokenIds": '["1"]'},
        {**MARKET, "clobTokenIds": "[1"},
        {**MARKET, "clobTokenIds": '["0x1"]'},
        {**MARKET, "clobTokenIds": '{"1": 2}'},
        {**MARKET, "outcomes": '["Yes"]'},
        {**MARKET, "volume24hr": "much"},
        {**MARKET, "volume24hr": -1},
        {**MARKET, "volume24hr": True},
        {**MARKET, "volume24hr": "1e999"},
        {**MARKET, "closed": "no"},
        {**MARKET, "orderPriceMinTickSize": 0},
    ],
)
def test_one_bad_market_leaves_the_others_alone(bad: object) -> None:
    page = decode_markets_page(body([MARKET, bad, MARKET]))
    assert page.markets == (LISTING, LISTING)
    assert len(page.unreadable) == 1


@pytest.mark.parametrize(
    "answer", [b"", b"7", b"{}", b'{"markets": {}}', b'{"markets": [], "next_cursor": 7}']
)
def test_what_is_no_page_is_one_sentence(answer: bytes) -> None:
    with pytest.raises(WireError):
        decode_markets_page(answer)


def test_the_markets_of_events_are_read() -> None:
    event = {"slug": "weather", "markets": [MARKET, {**MARKET, "enableOrderBook": False}]}
    for answer in ([event], event, {"events": [event]}):
        assert decode_events(body(answer)) == [LISTING]
    assert decode_events(body([event, event])) == [LISTING, LISTING]
    assert decode_events(b"[]") == []
    assert decode_events(body([{"slug": "weather"}])) == []


def test_events_of_which_nothing_can_be_read_are_an_error() -> None:
    bad = {**MARKET, "clobTokenIds": "[1"}
    assert decode_events(body([{"markets": [MARKET, bad]}])) == [LISTING]
    with pytest.raises(WireError):
        decode_events(body([{"markets": [bad]}]))
    for answer in (b"", b"7", b'[{"markets": {"a": 1}}]', b"[7]"):
        with pytest.raises(WireError):
            decode_events(answer)
