"""The REST side: CLOB and Gamma as Polymarket answers, and the controls."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import trio

from polyactors.venue import FaultKind, Venue

NO_BOOK = {"error": "No orderbook exists for the requested token id"}


@asynccontextmanager
async def rest(venue: Venue) -> AsyncGenerator[httpx2.AsyncClient, None]:
    transport = httpx2.ASGITransport(app=venue.rest_app())
    async with httpx2.AsyncClient(transport=transport, base_url="http://venue") as client:
        yield client


def make_venue(markets: int = 4) -> Venue:
    return Venue(seed=1, markets=markets, rate=0, now_ms=lambda: 1_789_156_413_823)


async def test_a_book_has_the_ten_keys_in_the_order_of_the_hash() -> None:
    venue = make_venue()
    async with rest(venue) as client:
        answer = await client.get("/book", params={"token_id": venue.tokens[0]})
    book = answer.json()
    assert answer.status_code == 200
    assert book == venue.books()[venue.tokens[0]]
    assert list(book) == [
        "market",
        "asset_id",
        "timestamp",
        "hash",
        "bids",
        "asks",
        "min_order_size",
        "tick_size",
        "neg_risk",
        "last_trade_price",
    ]
    prices = [float(level["price"]) for level in book["bids"]]
    assert prices == sorted(prices)
    assert float(book["bids"][-1]["price"]) < float(book["asks"][-1]["price"])


async def test_an_unknown_token_has_no_book_and_no_token_is_a_bad_request() -> None:
    async with rest(make_venue()) as client:
        unknown = await client.get("/book", params={"token_id": "123"})
        missing = await client.get("/book")
    assert (unknown.status_code, unknown.json()) == (404, NO_BOOK)
    assert (missing.status_code, missing.json()) == (400, {"error": "Invalid token id"})


async def test_books_leaves_unknown_tokens_out() -> None:
    venue = make_venue()
    wanted = [venue.tokens[3], "123", venue.tokens[0]]
    async with rest(venue) as client:
        answer = await client.post("/books", json=[{"token_id": token} for token in wanted])
    assert [book["asset_id"] for book in answer.json()] == [wanted[0], wanted[2]]


async def test_books_takes_500_tokens_and_no_more() -> None:
    async with rest(make_venue()) as client:
        fits = await client.post("/books", json=[{"token_id": "1"}] * 500)
        exceeds = await client.post("/books", json=[{"token_id": "1"}] * 501)
    assert (fits.status_code, fits.json()) == (200, [])
    assert (exceeds.status_code, exceeds.json()) == (400, {"error": "Payload exceeds the limit"})


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"token_id": 1}]', b"nonsense"])
async def test_books_refuses_what_is_no_list_of_tokens(body: bytes) -> None:
    async with rest(make_venue()) as client:
        assert (await client.post("/books", content=body)).status_code == 400


async def test_the_tick_size_is_a_number() -> None:
    venue = make_venue()
    fine = next(market for market in venue.markets if market.has_fine_tick)
    async with rest(venue) as client:
        coarse = await client.get("/tick-size", params={"token_id": venue.tokens[0]})
        by_path = await client.get(f"/tick-size/{fine.tokens[1]}")
        unknown = await client.get("/tick-size/123")
        missing = await client.get("/tick-size")
    assert coarse.text == '{"minimum_tick_size":0.01}'
    assert by_path.text == '{"minimum_tick_size":0.001}'
    assert (unknown.status_code, missing.status_code) == (404, 400)


async def test_the_time_is_in_whole_seconds() -> None:
    async with rest(make_venue()) as client:
        assert (await client.get("/time")).json() == 1_789_156_413


async def test_market_info_names_both_tokens() -> None:
    venue = make_venue()
    market = venue.markets[1]
    async with rest(venue) as client:
        info = (await client.get(f"/clob-markets/{market.condition_id}")).json()
        unknown = await client.get("/clob-markets/0x00")
    assert info["t"] == [
        {"t": market.tokens[0], "o": "Yes"},
        {"t": market.tokens[1], "o": "No"},
    ]
    assert (info["mos"], info["mts"]) == (5, 0.01)
    assert unknown.status_code == 404


# Gamma


async def test_lists_inside_a_gamma_market_are_strings_that_hold_json() -> None:
    venue = make_venue()
    async with rest(venue) as client:
        (market,) = (
            await client.get("/gamma/markets", params={"slug": venue.markets[0].slug})
        ).json()
    assert json.loads(market["clobTokenIds"]) == list(venue.markets[0].tokens)
    assert json.loads(market["outcomes"]) == ["Yes", "No"]
    yes, no = map(float, json.loads(market["outcomePrices"]))
    assert yes + no == pytest.approx(1)
    assert market["conditionId"] == venue.markets[0].condition_id
    assert (market["orderMinSize"], market["orderPriceMinTickSize"]) == (5, 0.01)
    assert market["enableOrderBook"] is market["acceptingOrders"] is market["active"] is True


async def all_pages(client: httpx2.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _ in range(100):
        answer = (await client.get("/gamma/markets/keyset", params=query)).json()
        assert len(answer["markets"]) <= int(query.get("limit", 20))
        found += answer["markets"]
        if "next_cursor" not in answer:
            return found
        query["after_cursor"] = answer["next_cursor"]
    pytest.fail("the pages never end")


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 20])
async def test_keyset_pages_give_every_market_once_most_active_first(limit: int) -> None:
    venue = make_venue(7)
    async with rest(venue) as client:
        found = await all_pages(client, limit=limit, order="volume24hr", ascending="false")
    volumes = [market["volume24hr"] for market in found]
    assert volumes == sorted(volumes, reverse=True)
    assert {market["slug"] for market in found} == {market.slug for market in venue.markets}
    assert len(found) == 7


async def test_a_market_listed_between_two_pages_moves_no_other() -> None:
    venue = make_venue(4)
    async with rest(venue) as client:
        query: dict[str, Any] = {"limit": 2, "order": "id", "ascending": "false"}
        first = (await client.get("/gamma/markets/keyset", params=query)).json()
        venue.add_market()
        query["after_cursor"] = first["next_cursor"]
        second = (await client.get("/gamma/markets/keyset", params=query)).json()
    ids = [market["id"] for market in first["markets"] + second["markets"]]
    assert ids == ["500003", "500002", "500001", "500000"]
    assert "next_cursor" not in second


async def test_markets_are_selected_by_what_they_are() -> None:
    venue = make_venue(4)
    one, two, three, four = venue.markets
    venue.resolve_market(three.condition_id, winner=1)
    async with rest(venue) as client:
        by_ids = await all_pages(client, condition_ids=[one.condition_id, four.condition_id])
        by_token = await all_pages(client, clob_token_ids=two.tokens[1])
        still_open = await all_pages(client, closed="false")
        closed = await all_pages(client, closed="true")
        nothing = await all_pages(client, slug="no-such-market")
        legacy = (await client.get("/gamma/markets")).json()
    assert [market["slug"] for market in by_ids] == [one.slug, four.slug]
    assert [market["slug"] for market in by_token] == [two.slug]
    assert [market["slug"] for market in still_open] == [one.slug, two.slug, four.slug]
    assert [market["slug"] for market in closed] == [three.slug]
    assert json.loads(closed[0]["outcomePrices"]) == ["0", "1"]
    assert nothing == []
    assert legacy == still_open, "the legacy listing leaves closed markets out"


@pytest.mark.parametrize(
    "query",
    [
        {"offset": "1"},
        {"limit": "many"},
        {"closed": "perhaps"},
        {"order": "beauty"},
        {"after_cursor": "!!!"},
    ],
)
async def test_keyset_refuses_what_it_does_not_know(query: dict[str, str]) -> None:
    async with rest(make_venue()) as client:
        answer = await client.get("/gamma/markets/keyset", params=query)
    assert answer.status_code == 422
    assert next(iter(query)) in answer.json()["error"]


async def test_the_legacy_listing_takes_limit_and_offset() -> None:
    venue = make_venue(5)
    async with rest(venue) as client:
        page = (await client.get("/gamma/markets", params={"limit": 2, "offset": 3})).json()
    assert [market["slug"] for market in page] == [m.slug for m in venue.markets[3:]]


async def test_one_market_or_event_is_found_by_id_and_slug() -> None:
    venue = make_venue()
    market = venue.markets[2]
    async with rest(venue) as client:
        for path in (f"markets/{market.id}", f"markets/slug/{market.slug}"):
            assert (await client.get(f"/gamma/{path}")).json()["slug"] == market.slug
        for path in (f"events/{market.event_id}", f"events/slug/{market.event_slug}"):
            event = (await client.get(f"/gamma/{path}")).json()
            assert [m["slug"] for m in event["markets"]] == [m.slug for m in venue.markets[2:]]
        assert (await client.get("/gamma/markets/slug/none")).status_code == 404


async def test_events_hold_their_markets() -> None:
    venue = make_venue(3)
    query = {"active": "true", "closed": "false", "order": "volume_24hr", "ascending": "false"}
    async with rest(venue) as client:
        events = (await client.get("/gamma/events", params=query)).json()
        only = (await client.get("/gamma/events", params={"slug": events[1]["slug"]})).json()
    assert [len(event["markets"]) for event in events] == [2, 1]
    assert events[0]["volume24hr"] > events[1]["volume24hr"]
    assert only == events[1:]


# The oracle and the controls


async def test_the_oracle_shows_every_book() -> None:
    venue = make_venue()
    venue.step(20)
    async with rest(venue) as client:
        assert (await client.get("/venue/books")).json() == venue.books()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_pause_and_resume_by_either_method(method: str) -> None:
    venue = make_venue()
    async with rest(venue) as client:
        assert (await client.request(method, "/venue/pause")).json() == {"paused": True}
        assert venue.is_paused
        assert (await client.request(method, "/venue/resume")).json() == {"paused": False}
        assert not venue.is_paused


async def test_a_fault_is_injected_and_listed() -> None:
    venue = make_venue()
    body = {"kind": "missing_book", "token": venue.tokens[2]}
    async with rest(venue) as client:
        record = (await client.post("/venue/faults", json=body)).json()
        listing = (await client.get("/venue/faults")).json()
    assert record["kind"] == "missing_book"
    assert record["tokens"] == [venue.tokens[2]]
    assert listing == {
        "kinds": [kind.value for kind in FaultKind],
        "active": [record],
        "log": [record],
    }


async def test_a_fault_that_lasts_is_listed_as_active_until_it_is_over(
    autojump_clock: object,
) -> None:
    venue = make_venue()
    async with rest(venue) as client:
        record = (await client.post("/venue/faults", json={"kind": "refuse", "seconds": 4})).json()
        await trio.sleep(3.9)
        assert (await client.get("/venue/faults")).json()["active"] == [record]
        await trio.sleep(0.2)
        assert (await client.get("/venue/faults")).json()["active"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "earthquake"}, 400),
        ({"token": "1"}, 400),
        ({"kind": "reset", "when": "now"}, 400),
        ({"kind": "stall", "seconds": "long"}, 400),
        ({"kind": "stall", "seconds": -1}, 400),
        ({"kind": "reset", "token": "123"}, 400),
        ([], 400),
        ({"kind": "reset"}, 409),
    ],
)
async def test_a_fault_that_cannot_be_is_explained(body: object, status: int) -> None:
    venue = make_venue()
    async with rest(venue) as client:
        answer = await client.post("/venue/faults", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert venue.fault_log == ()


async def test_an_unknown_fault_is_told_which_there_are() -> None:
    async with rest(make_venue()) as client:
        answer = await client.post("/venue/faults", json={"kind": "refus"})
    said = answer.json()["error"]
    assert said.startswith("there is no fault refus, known are reset, stall, refuse, ")


async def test_an_unknown_path_is_not_found_and_a_wrong_method_not_allowed() -> None:
    async with rest(make_venue()) as client:
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.get("/books")).status_code == 405
