"""What faults do to REST, through the ASGI application on virtual time."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import trio

from polyactors.venue import Venue

SILENT: dict[str, Any] = {"kind": "rest_error", "variant": "silent"}
UNAVAILABLE: dict[str, Any] = {"kind": "rest_error", "variant": "503"}


@asynccontextmanager
async def rest(venue: Venue) -> AsyncGenerator[httpx2.AsyncClient, None]:
    transport = httpx2.ASGITransport(app=venue.rest_app())
    async with httpx2.AsyncClient(transport=transport, base_url="http://venue") as client:
        yield client


def make_venue(markets: int = 2) -> Venue:
    return Venue(seed=1, markets=markets, rate=0)


async def book_of(client: httpx2.AsyncClient, token: str) -> Any:
    return (await client.get("/book", params={"token_id": token})).json()


async def books_of(client: httpx2.AsyncClient, tokens: list[str]) -> dict[str, Any]:
    answer = await client.post("/books", json=[{"token_id": token} for token in tokens])
    return {book["asset_id"]: book for book in answer.json()}


async def test_stale_books_are_those_of_the_moment_when_the_fault_began(
    autojump_clock: object,
) -> None:
    venue = make_venue()
    async with rest(venue) as client:
        before = venue.books()
        record = venue.inject("stale_rest", seconds=5)
        assert (record.struck, record.tokens, record.session) == (None, (), None)
        assert await books_of(client, venue.tokens) == before
        assert venue.fault_log[0].struck is None, "nothing has happened: it is no lie yet"
        venue.step(60)
        await trio.sleep(4.9)
        assert await book_of(client, venue.tokens[1]) == before[venue.tokens[1]]
        assert await books_of(client, venue.tokens) == before
        (record,) = venue.fault_log
        assert set(record.hurt) == set(venue.tokens)
        assert {strike.hash for strike in record.strikes} == {
            book["hash"] for book in before.values()
        }
        gamma = (await client.get("/gamma/markets")).json()
        assert float(gamma[0]["volume"]) > 0
        assert (await client.get("/venue/books")).json() == venue.books()
        await trio.sleep(0.2)
        assert await books_of(client, venue.tokens) == venue.books()
        assert venue.active_faults == []


async def test_a_market_that_came_later_has_no_stale_book_and_one_that_went_has(
    autojump_clock: object,
) -> None:
    venue = make_venue()
    gone = venue.markets[0]
    async with rest(venue) as client:
        venue.inject("stale_rest", seconds=5)
        later = venue.add_market()
        venue.resolve_market(gone.condition_id, winner=0)
        assert set(await books_of(client, [*gone.tokens, *later.tokens])) == set(gone.tokens)
        await trio.sleep(5)
        assert set(await books_of(client, [*gone.tokens, *later.tokens])) == set(later.tokens)


async def test_a_second_staleness_takes_the_place_of_the_first(autojump_clock: object) -> None:
    venue = make_venue()
    async with rest(venue) as client:
        venue.inject("stale_rest", seconds=60)
        venue.step(20)
        between = venue.books()
        second = venue.inject("stale_rest", seconds=5)
        venue.step(20)
        assert venue.active_faults == [second]
        assert await books_of(client, venue.tokens) == between
        await trio.sleep(5)
        assert await books_of(client, venue.tokens) == venue.books()


PATHS = ["/book?token_id=1", "/time", "/tick-size/1", "/gamma/markets", "/gamma/events", "/nothing"]


async def test_an_unavailable_rest_answers_503_but_for_the_controls(
    autojump_clock: object,
) -> None:
    venue = make_venue()
    async with rest(venue) as client:
        venue.inject(**UNAVAILABLE, seconds=5)
        for path in PATHS:
            assert (await client.get(path)).status_code == 503
        assert (await client.post("/books", json=[])).status_code == 503
        for path in ("/venue/books", "/venue/faults", "/venue/sessions", "/venue/resume"):
            assert (await client.get(path)).status_code == 200
        (record,) = venue.fault_log
        assert (record.struck, record.hurt, record.detail) == (trio.current_time(), (), "503")
        await trio.sleep(5)
        assert (await client.get("/time")).status_code == 200


async def test_a_silent_rest_answers_when_the_fault_is_over(autojump_clock: object) -> None:
    venue = make_venue()
    async with rest(venue) as client:
        venue.inject(**SILENT, seconds=5)
        began = trio.current_time()
        for path in PATHS:
            with trio.move_on_after(0.5) as scope:
                await client.get(path)
            assert scope.cancelled_caught
        assert (await client.get("/venue/faults")).status_code == 200
        venue.step(5)
        assert await books_of(client, venue.tokens) == venue.books()
        assert trio.current_time() == pytest.approx(began + 5)


async def test_who_waits_is_told_when_another_error_takes_the_place(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    venue = make_venue()
    async with rest(venue) as client:
        venue.inject(**SILENT, seconds=60)
        began = trio.current_time()

        async def change() -> None:
            await trio.sleep(2)
            venue.inject(**UNAVAILABLE, seconds=1)

        nursery.start_soon(change)
        assert (await client.get("/time")).status_code == 503
        assert trio.current_time() == pytest.approx(began + 2)
        assert [record.ended for record in venue.fault_log] == [pytest.approx(began + 2), None]


async def test_the_variant_of_an_error_is_the_seed_s_choice(autojump_clock: object) -> None:
    details = {make_venue().inject("rest_error").detail}
    details |= {Venue(seed, 1, 0).inject("rest_error").detail for seed in range(10)}
    assert details == {"503", "silent"}


async def test_an_answer_lists_the_strikes(autojump_clock: object) -> None:
    venue = make_venue()
    token = venue.tokens[0]
    async with rest(venue) as client:
        await client.post("/venue/faults", json={"kind": "stale_rest", "seconds": 9.0})
        await trio.sleep(1.0)
        while venue.books()[token]["hash"] == (hash_ := (await book_of(client, token))["hash"]):
            venue.step()
        (record,) = (await client.get("/venue/faults")).json()["active"]
    now = trio.current_time()
    assert record["hurt"] == [token]
    assert (record["struck"], record["ended"]) == (now, None)
    assert record["strikes"] == [
        {"session": None, "token": token, "first": now, "last": now, "hash": hash_}
    ]
