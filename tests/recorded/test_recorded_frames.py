"""Real frames and answers, recorded by others from the live service: all of them are read.

The captures are not ours to publish; without them these tests are skipped.
"""

import json
import os
from pathlib import Path

import pytest

from polyactors.book.numbers import PRICE_ONE, Side, to_text
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import (
    BestBidAsk,
    BookSnapshot,
    Decoded,
    LastTradePrice,
    MarketResolved,
    NewMarket,
    PriceChange,
    TickSizeChange,
)
from polyactors.protocol.rest import decode_book, decode_books, decode_events, decode_markets_page

SHARED = Path(
    os.environ.get("POLYACTORS_SHARED") or Path(__file__).resolve().parents[2].parent / "shared"
)
CAPTURES = SHARED / "captures"

pytestmark = pytest.mark.usefixtures("shared_captures")

MESSAGES = {
    "nautilus_book.json": BookSnapshot,
    "nautilus_last_trade_price.json": LastTradePrice,
    "nautilus_price_change.json": PriceChange,
    "nautilus_price_change_v2.json": PriceChange,
    "nautilus_tick_size_change.json": TickSizeChange,
    "ws_market_best_bid_ask_msg.json": BestBidAsk,
    "ws_market_new_market_msg.json": NewMarket,
    "ws_market_resolved_msg.json": MarketResolved,
    "ws_market_tick_size_msg.json": TickSizeChange,
}


def read(name: str) -> bytes:
    path = CAPTURES / name
    if not path.is_file():
        pytest.skip(f"{name} is not here")
    return path.read_bytes()


def receive(frame: bytes | str) -> Decoded:
    decoded = MarketCodec().receive_frame(frame)
    assert decoded.unreadable == ()
    assert decoded.unknown_events == ()
    assert decoded.unknown_fields == ()
    assert decoded.events
    return decoded


@pytest.mark.parametrize(("name", "message"), MESSAGES.items())
def test_a_recorded_message_is_read(name: str, message: type) -> None:
    (event,) = receive(read(f"market/{name}")).events
    assert type(event) is message


def test_no_recorded_message_is_forgotten_here() -> None:
    assert {path.name for path in (CAPTURES / "market").glob("*.json")} == set(MESSAGES)


def test_the_recorded_book_of_2024_has_all_of_its_levels() -> None:
    frame = read("market/nautilus_book.json")
    (event,) = receive(frame).events
    assert isinstance(event, BookSnapshot)
    wire = json.loads(frame)
    for name, levels in (("bids", event.bids), ("asks", event.asks)):
        told = [{"price": to_text(p), "size": to_text(s)} for p, s in levels.items()]
        assert told == wire[name]
    assert event.hash == wire["hash"]


def test_the_recorded_price_change_of_2024_is_a_single_entry() -> None:
    (event,) = receive(read("market/nautilus_price_change.json")).events
    assert isinstance(event, PriceChange)
    (change,) = event.changes
    assert (to_text(change.price), to_text(change.size)) == ("0.514", "21574.08")
    assert (change.side, change.best_bid, change.best_ask) == (Side.ASK, None, None)
    assert event.timestamp_ms == 1723967931411


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        (
            "frames_live_2026-08-14.jsonl",
            [BookSnapshot, PriceChange, LastTradePrice, BestBidAsk, BookSnapshot],
        ),
        (
            "capture_2026-09-11_ask_cancellation.jsonl",
            [BookSnapshot] * 2 + [BestBidAsk] * 2 + [PriceChange] * 5,
        ),
    ],
)
def test_recorded_frames_are_read_line_by_line(name: str, kinds: list[type]) -> None:
    lines = read(f"market/{name}").splitlines()
    events = [event for line in lines for event in receive(line).events]
    assert [type(event) for event in events] == kinds
    assert all(event.timestamp_ms > 1_700_000_000_000 for event in events)


def test_the_recorded_frames_of_one_engine_step_say_its_final_best_prices() -> None:
    lines = read("market/capture_2026-09-11_ask_cancellation.jsonl").splitlines()
    changes = [
        change
        for line in lines
        for event in receive(line).events
        if isinstance(event, PriceChange)
        for change in event.changes
    ]
    assert len(changes) == 10
    for change in changes:
        own = change.token.startswith("89103")
        best = ("0.63", "0.638") if own else ("0.362", "0.37")
        assert change.best_bid is not None
        assert change.best_ask is not None
        assert (to_text(change.best_bid), to_text(change.best_ask)) == best
        # YES and NO mirror each other: price p here is 1 - p there.
        assert 0 < change.price < PRICE_ONE


@pytest.mark.parametrize(
    ("name", "bids", "asks"), [("book.json", 5, 7), ("clob_book_response.json", 3, 3)]
)
def test_a_recorded_rest_book_is_read(name: str, bids: int, asks: int) -> None:
    body = read(f"rest/{name}")
    book = decode_book(body)
    assert (len(book.bids), len(book.asks)) == (bids, asks)
    assert list(book.bids) == sorted(book.bids)
    assert list(book.asks) == sorted(book.asks, reverse=True)
    assert decode_books(b"[" + body + b"]") == ([book], [])


@pytest.mark.parametrize(
    ("name", "slug", "tick_size", "is_open"),
    [
        ("gamma_market.json", "btc-updown-5m-1773307200", "0.01", True),
        (
            "gamma_market_closed_binary_accepting_false.json",
            "katana-fdv-above-1b-one-day-after-launch-395-996",
            "0.001",
            False,
        ),
        ("gamma_market_sports_market_money_line.json", "cs2-faze-ill-2026-04-05", "0.001", False),
    ],
)
def test_a_recorded_gamma_market_is_read(
    name: str, slug: str, tick_size: str, is_open: bool
) -> None:
    page = decode_markets_page(b'{"markets": [' + read(f"rest/{name}") + b"]}")
    assert page.unreadable == ()
    (listing,) = page.markets
    assert (listing.slug, listing.tick_size) == (slug, tick_size)
    assert len(listing.tokens) == len(listing.outcomes) == 2
    assert listing.min_order_size == "5"
    assert listing.neg_risk is False
    assert (listing.accepting_orders, listing.closed) == (is_open, not is_open)


def test_a_recorded_gamma_event_lists_its_markets() -> None:
    listings = decode_events(read("rest/gamma_event.json"))
    assert len(listings) == 2
    assert all(len(listing.tokens) == 2 and listing.neg_risk for listing in listings)
    assert str(listings[0].volume_24h_usdc) == "129642.785175"
    assert decode_events(read("rest/search_response.json"))


def test_recorded_events_without_token_ids_have_no_order_book() -> None:
    assert decode_events(read("rest/event.json")) == []
    assert decode_events(read("rest/events_list.json")) == []


def test_a_recorded_plain_list_of_markets_is_read() -> None:
    page = decode_markets_page(read("rest/markets_list.json"))
    assert page.unreadable == ()
    assert [listing.slug for listing in page.markets][:1] == ["fed-rate-hike-in-2025"]
    (single,) = decode_markets_page(b"[" + read("rest/market_slug.json") + b"]").markets
    assert single.slug == "kamala-harris-divorce-in-2025"


def test_the_clobs_own_list_of_markets_is_not_taken_for_gammas() -> None:
    body = read("rest/markets.json")
    page = decode_markets_page(body)
    assert page.markets == ()
    assert len(page.unreadable) == len(json.loads(body)["data"])
    assert {item.why for item in page.unreadable} == {"has no conditionId"}
