"""The look before the service starts: what exists, what does not, what cannot be known."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager

import httpx2
import pytest
import trio
from trio.testing import MockClock

from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.errors import UsageError
from polyactors.preflight import PREFLIGHT_SECONDS_MAX, preflight
from polyactors.rest import RestClient
from polyactors.transport import Network
from polyactors.venue.exchange import Venue
from polyactors.venue.memory import memory_network

SETTINGS = Settings(clob_url="http://clob.test", gamma_url="http://clob.test/gamma")
Answer = Callable[[httpx2.Request], Coroutine[None, None, httpx2.Response]]


@pytest.fixture
def venue() -> Venue:
    return Venue(seed=1, markets=3, rate=0)


@asynccontextmanager
async def rest_of(venue: Venue) -> AsyncGenerator[RestClient, None]:
    async with (
        trio.open_nursery() as nursery,
        RestClient(SETTINGS, memory_network(venue, nursery)) as rest,
    ):
        yield rest


@asynccontextmanager
async def rest_that(answer: Answer) -> AsyncGenerator[RestClient, None]:
    network = Network(http_transport=lambda: httpx2.MockTransport(answer))
    async with RestClient(SETTINGS, network) as rest:
        yield rest


async def refuse(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("no route to host")


async def never_answer(request: httpx2.Request) -> httpx2.Response:
    await trio.sleep_forever()


async def test_known_tokens_are_followed_as_given(venue: Venue) -> None:
    wanted = Wanted(tokens=tuple(venue.tokens))
    async with rest_of(venue) as rest:
        found = await preflight(wanted, rest, SETTINGS)
    assert found.wanted == wanted
    assert found.notices == ()


async def test_unknown_tokens_are_named(venue: Venue) -> None:
    async with rest_of(venue) as rest:
        with pytest.raises(UsageError, match="no order book for the token 123, 456; find"):
            await preflight(Wanted(tokens=("123", venue.tokens[0], "456")), rest, SETTINGS)


async def test_a_token_left_out_of_the_books_is_only_unknown_if_its_own_book_is() -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/books":
            return httpx2.Response(200, json=[])
        book: dict[str, object] = {"asset_id": "1", "market": "0x1", "timestamp": "1", "hash": ""}
        return httpx2.Response(200, json=book | {"bids": [], "asks": []})

    async with rest_that(answer) as rest:
        found = await preflight(Wanted(tokens=("1",)), rest, SETTINGS)
    assert found.wanted.tokens == ("1",)


async def test_markets_become_tokens_with_names(venue: Venue) -> None:
    listing = venue.markets[1]
    wanted = Wanted(tokens=(venue.tokens[0],), markets=(listing.slug,))
    async with rest_of(venue) as rest:
        found = await preflight(wanted, rest, SETTINGS)
    assert found.wanted == Wanted(tokens=(venue.tokens[0], *listing.tokens))
    assert found.names == {
        listing.tokens[0]: f"Yes · {listing.question}",
        listing.tokens[1]: f"No · {listing.question}",
    }


async def test_an_unknown_market_is_named(venue: Venue) -> None:
    async with rest_of(venue) as rest:
        with pytest.raises(UsageError, match="'no-such-market'"):
            await preflight(Wanted(markets=("no-such-market",)), rest, SETTINGS)


async def test_an_empty_listing_is_said() -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"markets": []})

    async with rest_that(answer) as rest:
        with pytest.raises(UsageError, match="lists no open market; name one with"):
            await preflight(Wanted(top=5), rest, SETTINGS)


async def test_an_exchange_that_cannot_be_reached_leaves_all_as_it_was() -> None:
    wanted = Wanted(tokens=("1",), markets=("rain",), top=2)
    async with rest_that(refuse) as rest:
        found = await preflight(wanted, rest, SETTINGS)
    assert found.wanted == wanted
    assert len(found.notices) == 2
    for notice in found.notices:
        assert "no route to host" in notice
        assert "`python -m polyactors demo` needs no network" in notice


async def test_an_exchange_that_never_answers_costs_three_seconds(
    autojump_clock: MockClock,
) -> None:
    wanted = Wanted(tokens=("1",), top=2)
    async with rest_that(never_answer) as rest:
        found = await preflight(wanted, rest, SETTINGS)
    assert trio.current_time() == PREFLIGHT_SECONDS_MAX
    assert found.wanted == wanted
    assert all("within 3 s" in notice for notice in found.notices)


async def test_a_mistake_does_not_wait_for_the_other_answer(autojump_clock: MockClock) -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        if "/gamma" in request.url.path:
            await trio.sleep_forever()
        return httpx2.Response(404 if request.url.path == "/book" else 200, json=[])

    async with rest_that(answer) as rest:
        with pytest.raises(UsageError, match="token 1;"):
            await preflight(Wanted(tokens=("1",), top=2), rest, SETTINGS)
    assert trio.current_time() == 0.0
