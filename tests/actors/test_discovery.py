"""From slugs, URLs and --top to tokens, over the embedded exchange's Gamma."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import attrs
import httpx2
import pytest
import trio

import polyactors
from polyactors import discovery
from polyactors.config import Settings
from polyactors.discovery import Wanted, check_token, make_wanted, parse_market, resolve
from polyactors.errors import RestFailed, UsageError
from polyactors.rest import RestClient
from polyactors.transport import Network
from polyactors.venue.exchange import Venue
from polyactors.venue.memory import memory_network

CONDITION_ID = "0x" + "aB" * 32
SETTINGS = Settings(
    ws_url="ws://venue/ws",
    clob_url="http://venue",
    gamma_url="http://venue/gamma",
    data_deadline_seconds=3600.0,  # the exchange stands still
)


@pytest.fixture
def venue() -> Venue:
    return Venue(seed=1, markets=7, rate=0.0)


class Gamma:
    """The exchange's REST side, with a record of the requests and a switch to turn it off."""

    def __init__(self, venue: Venue) -> None:
        self.requests: list[httpx2.URL] = []
        self.is_down = False
        self.answer: Callable[[httpx2.Request], httpx2.Response] | None = None
        self._inner = httpx2.ASGITransport(app=venue.rest_app())

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request.url)
        if self.is_down:
            raise httpx2.ConnectError("connection refused")
        if self.answer is not None:
            return self.answer(request)
        return await self._inner.handle_async_request(request)

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[RestClient, None]:
        network = Network(http_transport=lambda: httpx2.MockTransport(self.handle))
        async with RestClient(SETTINGS, network) as rest:
            yield rest

    async def resolve(self, **wanted: object) -> list[str]:
        """The condition ids that are found."""
        async with self.client() as rest:
            found = await resolve(Wanted(**wanted), rest)  # type: ignore[arg-type]
        return [listing.condition_id for listing in found]


@pytest.fixture
def gamma(venue: Venue) -> Gamma:
    return Gamma(venue)


# --- what the user may type ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "market"),
    [
        ("will-it-rain", "will-it-rain"),
        ("  will-it-rain\n", "will-it-rain"),
        ("Fed_rates.2026", "Fed_rates.2026"),
        ("0", "0"),
        (CONDITION_ID, CONDITION_ID.lower()),
        (CONDITION_ID.lower(), CONDITION_ID.lower()),
        ("https://polymarket.com/event/will-it-rain", "will-it-rain"),
        ("https://polymarket.com/event/will-it-rain/", "will-it-rain"),
        ("https://polymarket.com/event/rain-in-may/will-it-rain", "will-it-rain"),
        ("https://polymarket.com/event/will-it-rain?tid=17#top", "will-it-rain"),
        ("https://polymarket.com/market/will-it-rain", "will-it-rain"),
        ("http://www.polymarket.com/de/event/will-it-rain", "will-it-rain"),
        ("https://polymarket.com/sports/nba/games/week/3/nba-lal-bos", "nba-lal-bos"),
    ],
)
def test_a_market_is_named_by_slug_url_or_condition_id(text: str, market: str) -> None:
    assert parse_market(text) == market


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "will it rain",
        "-rain",
        "rain?",
        "../../etc/passwd",
        "a/b",
        "wörter",
        "rain\x00",
        "https://polymarket.com",
        "https://polymarket.com/",
        "https://polymarket.com/markets",
        "https://polymarket.com/event/",
        "https://polymarket.com/event/will%20it",
        "https://[bad/event/x",
        "--top",
    ],
)
def test_what_names_no_market_is_the_users_mistake(text: str) -> None:
    with pytest.raises(UsageError, match="expected") as caught:
        parse_market(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("token", ["0", "1" * 78, str(2**256 - 1)])
def test_a_token_is_a_number_of_256_bits(token: str) -> None:
    assert check_token(token) == token


@pytest.mark.parametrize(
    "token", ["", " 1", "1\n", "0x12", "-1", "1.0", "1" * 79, str(2**256), "٣", "12a"]
)
def test_anything_else_is_no_token(token: str) -> None:
    with pytest.raises(UsageError, match="not a token id"):
        check_token(token)


@pytest.mark.parametrize("token", [123, 1.5, None, True, b"123", ["1"]])
def test_a_token_that_is_no_text_is_the_users_mistake(token: object) -> None:
    with pytest.raises(UsageError, match="is not a token id: expected its digits as a text"):
        check_token(token)


@pytest.mark.parametrize("market", [123, None, b"will-it-rain"])
def test_a_market_that_is_no_text_is_the_users_mistake(market: object) -> None:
    with pytest.raises(UsageError, match="is not a market: expected its slug"):
        parse_market(market)


def test_what_a_program_wants_may_stand_in_any_iterable() -> None:
    wanted = make_wanted((str(n) for n in range(2)), {"will-it-rain": 1}, 3)
    assert wanted == Wanted(("0", "1"), ("will-it-rain",), 3)
    assert make_wanted(None, None, discovery.TOP_MAX) == Wanted(top=discovery.TOP_MAX)


@pytest.mark.parametrize(
    ("tokens", "markets", "top", "sentence"),
    [
        ("123", (), None, "tokens must be a list, like tokens=['123']"),
        (b"123", (), None, "tokens must be a list, like tokens=[b'123']"),
        (123, (), None, "tokens must be a list of texts, not 123"),
        ([123], (), None, "123 is not a token id: expected its digits as a text"),
        (["1", "x" * 500], (), None, "is not a token id"),
        ((), "will-it-rain", None, "markets must be a list, like markets=['will-it-rain']"),
        ((), 7, None, "markets must be a list of texts, not 7"),
        ((), [None], None, "None is not a market"),
        ((), (), 0, "top must be a whole number from 1 to 5000, not 0"),
        (["1"], (), 0, "top must be a whole number from 1 to 5000, not 0"),
        ((), (), -1, "top must be a whole number from 1 to 5000, not -1"),
        ((), (), 5001, "top must be a whole number from 1 to 5000, not 5001"),
        ((), (), True, "top must be a whole number from 1 to 5000, not True"),
        ((), (), 2.0, "top must be a whole number from 1 to 5000, not 2.0"),
        ((), (), "5", "top must be a whole number from 1 to 5000, not '5'"),
        ((), (), None, "there is nothing to follow: give tokens=[…], markets=[…] or top=N"),
        (None, None, None, "there is nothing to follow"),
        ([], iter(()), None, "there is nothing to follow"),
    ],
)
def test_what_a_program_gets_wrong_is_one_sentence(
    tokens: object, markets: object, top: object, sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        make_wanted(tokens, markets, top)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_only_markets_and_top_need_the_listing() -> None:
    assert not Wanted(tokens=("1",)).needs_listing
    assert Wanted(markets=("a",)).needs_listing
    assert Wanted(top=1).needs_listing


# --- resolving -----------------------------------------------------------------------------


async def test_a_market_is_found_by_slug_and_by_condition_id(venue: Venue, gamma: Gamma) -> None:
    first, second = venue.markets[0], venue.markets[4]
    async with gamma.client() as rest:
        listings = await resolve(Wanted(markets=(second.slug, first.condition_id)), rest)
    assert [listing.condition_id for listing in listings] == [
        second.condition_id,
        first.condition_id,
    ]
    assert [listing.tokens for listing in listings] == [second.tokens, first.tokens]


async def test_an_events_slug_stands_for_its_open_markets(venue: Venue, gamma: Gamma) -> None:
    of_event = [market for market in venue.markets if market.event_slug == "venue-event-2"]
    assert len(of_event) == 2
    assert await gamma.resolve(markets=("venue-event-2",)) == [m.condition_id for m in of_event]
    venue.resolve_market(of_event[0].condition_id, 0)
    assert await gamma.resolve(markets=("venue-event-2",)) == [of_event[1].condition_id]


async def test_a_market_named_twice_is_followed_once(venue: Venue, gamma: Gamma) -> None:
    market = venue.markets[0]
    wanted = (market.slug, market.condition_id, market.event_slug)
    found = await gamma.resolve(markets=wanted, top=7)
    assert found[0] == market.condition_id
    assert len(found) == len(set(found)) == 7


@pytest.mark.parametrize("market", ["no-such-market", CONDITION_ID.lower()])
async def test_an_unknown_market_is_the_users_mistake(market: str, gamma: Gamma) -> None:
    with pytest.raises(UsageError, match="no market with an order book") as caught:
        await gamma.resolve(markets=(market,))
    assert market in str(caught.value)


@pytest.mark.parametrize("top", [1, 3, 7, 50])
@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_top_takes_the_most_active_markets_over_any_number_of_pages(
    top: int, page: int, venue: Venue, gamma: Gamma, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MARKETS_PER_PAGE", page)
    by_volume = sorted(venue.markets, key=lambda market: market.volume, reverse=True)
    expected = [market.condition_id for market in by_volume[:top]]
    assert await gamma.resolve(top=top) == expected
    pages = -(-min(top, 7) // min(page, top))
    assert len(gamma.requests) in (pages, pages + 1)
    assert "after_cursor" not in gamma.requests[0].params
    assert all("after_cursor" in url.params for url in gamma.requests[1:])


async def test_top_leaves_closed_markets_out(venue: Venue, gamma: Gamma) -> None:
    best = max(venue.markets, key=lambda market: market.volume)
    venue.resolve_market(best.condition_id, 0)
    found = await gamma.resolve(top=7)
    assert len(found) == 6
    assert best.condition_id not in found


async def test_top_does_not_rely_on_the_order_of_the_answer(gamma: Gamma) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"markets": [row(i, i * 7 % 5) for i in range(5)]})

    gamma.answer = answer
    assert await gamma.resolve(top=2) == [condition_id(2), condition_id(4)]  # 4 and 3


async def test_a_listing_whose_cursor_never_ends_is_read_to_a_limit(gamma: Gamma) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        number = len(gamma.requests)
        return httpx2.Response(200, json={"markets": [row(number, 1)], "next_cursor": f"c{number}"})

    gamma.answer = answer
    found = await gamma.resolve(top=5000)
    assert len(found) == len(gamma.requests) == discovery.PAGES_MAX


async def test_a_cursor_that_leads_in_a_circle_ends_the_reading(gamma: Gamma) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"markets": [row(1, 1)], "next_cursor": "again"})

    gamma.answer = answer
    assert await gamma.resolve(top=3) == [condition_id(1)]
    assert len(gamma.requests) == 2


async def test_a_page_without_a_market_to_follow_is_not_the_last(
    gamma: Gamma, caplog: pytest.LogCaptureFixture
) -> None:
    pages: list[list[object]] = [[row(1, 1) | {"enableOrderBook": False}], [7], [row(3, 1)]]

    def answer(request: httpx2.Request) -> httpx2.Response:
        number = len(gamma.requests)
        cursor = f"c{number}" if number < len(pages) else ""
        return httpx2.Response(200, json={"markets": pages[number - 1], "next_cursor": cursor})

    gamma.answer = answer
    assert await gamma.resolve(top=3) == [condition_id(3)]
    assert caplog.messages == [
        "unreadable market listings listings=1 why='expected a market, got 7'"
    ]


async def test_a_market_whose_listing_is_unreadable_is_not_said_to_be_unknown(
    gamma: Gamma,
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        bad = row(1, 1) | {"clobTokenIds": "{"}
        return httpx2.Response(200, json={"markets": [bad]})

    gamma.answer = answer
    for market in ("market-1", condition_id(1)):
        with pytest.raises(RestFailed, match=f"the listing of '{market}' is unreadable"):
            await gamma.resolve(markets=(market,))


def condition_id(number: int) -> str:
    return f"0x{number:064x}"


def row(number: int, volume: float) -> dict[str, object]:
    return {
        "conditionId": condition_id(number),
        "slug": f"market-{number}",
        "question": "?",
        "clobTokenIds": f'["{2 * number + 1}", "{2 * number + 2}"]',
        "outcomes": '["Yes", "No"]',
        "volume24hr": volume,
        "active": True,
        "closed": False,
    }


async def test_gamma_that_cannot_be_reached_is_no_mistake_of_the_user(gamma: Gamma) -> None:
    gamma.is_down = True
    for wanted in ({"markets": ("a-market",)}, {"top": 3}):
        with pytest.raises(RestFailed):
            await gamma.resolve(**wanted)


@pytest.mark.parametrize("status", [404, 429, 500, 503])
async def test_gamma_that_answers_with_an_error_is_no_mistake_of_the_user(
    status: int, gamma: Gamma
) -> None:
    gamma.answer = lambda request: httpx2.Response(status)
    with pytest.raises(RestFailed, match=str(status)):
        await gamma.resolve(top=3)


# --- the actor in the service --------------------------------------------------------------


@pytest.fixture
def network(venue: Venue, gamma: Gamma, nursery: trio.Nursery) -> Network:
    return attrs.evolve(
        memory_network(venue, nursery), http_transport=lambda: httpx2.MockTransport(gamma.handle)
    )


async def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    with trio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.05)


async def test_a_service_follows_what_discovery_finds(
    venue: Venue, network: Network, autojump_clock: object
) -> None:
    market = venue.markets[2]
    async with polyactors.open_service(
        markets=[market.slug], settings=SETTINGS, network=network
    ) as service:
        await until(lambda: service.states() == {"LIVE": 2})
        assert service.tokens == market.tokens
        for token, outcome in zip(market.tokens, ("Yes", "No"), strict=True):
            listing = service.listing(token)
            assert listing is not None
            assert (listing.slug, listing.condition_id) == (market.slug, market.condition_id)
            assert listing.outcome_of(token) == outcome
            assert listing.outcome_of("5") is None


async def test_what_is_named_by_its_id_is_not_looked_up(
    venue: Venue, network: Network, autojump_clock: object
) -> None:
    token = venue.tokens[0]
    async with polyactors.open_service([token], settings=SETTINGS, network=network) as service:
        assert service.listing(token) is None
        with pytest.raises(polyactors.UnknownToken):
            service.listing(venue.tokens[1])


async def test_tokens_stream_while_gamma_is_down_and_the_rest_comes_later(
    venue: Venue, gamma: Gamma, network: Network, autojump_clock: object
) -> None:
    gamma.is_down = True
    known = venue.tokens[0]
    async with polyactors.open_service(
        [known], top=2, settings=SETTINGS, network=network
    ) as service:
        await until(lambda: service.states() == {"LIVE": 1})
        await trio.sleep(300.0)  # it does not give up, and hurts nothing
        assert service.states() == {"LIVE": 1}
        asked = len(gamma.requests)
        assert 5 < asked < 60
        gamma.is_down = False
        await until(lambda: service.states()["LIVE"] > 1)
        by_volume = sorted(venue.markets, key=lambda m: m.volume, reverse=True)
        tokens = [token for market in by_volume[:2] for token in market.tokens]
        assert service.tokens == tuple(dict.fromkeys([known, *tokens]))
        await until(lambda: service.states() == {"LIVE": len(service.tokens)})
        assert service.feed_id(known) == "feed-0"


async def test_an_unknown_slug_ends_the_service_with_the_users_mistake(
    venue: Venue, network: Network, autojump_clock: object
) -> None:
    async def follow() -> None:
        async with polyactors.open_service(
            venue.tokens[:1], markets=["no-such-market"], settings=SETTINGS, network=network
        ):
            await trio.sleep(60.0)
            raise AssertionError("the block must have been cancelled")

    with pytest.raises(UsageError, match="no-such-market"):
        await follow()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_a_listing_that_does_not_answer_is_said_once_then_rarely_and_when_it_does(
    venue: Venue,
    gamma: Gamma,
    network: Network,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: object,
) -> None:
    gamma.is_down = True
    caplog.set_level("INFO", "polyactors")
    async with polyactors.open_service(top=1, settings=SETTINGS, network=network) as service:
        await trio.sleep(290.0)
        (said,) = warnings_of(caplog)
        assert said.startswith("the markets were not found, asking again why='http://venue/gamma")
        assert "connection refused" in said
        assert sum("the markets were not found" in line for line in caplog.messages) > 5
        await trio.sleep(600.0)
        first, *reminders = warnings_of(caplog)
        assert first == said
        assert len(reminders) == 2
        assert all(said in reminder and "for_seconds=" in reminder for reminder in reminders)
        gamma.is_down = False
        await until(lambda: service.states() == {"LIVE": 2})
        assert warnings_of(caplog)[3].startswith("the market listing answers after_seconds=")
    assert len(warnings_of(caplog)) == 4


async def test_a_listing_that_names_nothing_is_said_and_asked_again(
    venue: Venue,
    gamma: Gamma,
    network: Network,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: object,
) -> None:
    gamma.answer = lambda request: httpx2.Response(200, json={"markets": []})
    async with polyactors.open_service(top=1, settings=SETTINGS, network=network) as service:
        await trio.sleep(60.0)
        assert service.tokens == ()
        (said,) = warnings_of(caplog)
        assert "no open market is listed" in said
        gamma.answer = None
        await until(lambda: service.states() == {"LIVE": 2})


async def test_one_market_with_a_bad_token_does_not_lose_the_others(
    venue: Venue,
    gamma: Gamma,
    network: Network,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: object,
) -> None:
    bad = row(1, 1) | {"clobTokenIds": f'["1", "{2**256}"]'}
    gamma.answer = lambda request: httpx2.Response(200, json={"markets": [bad, row(2, 1)]})
    async with polyactors.open_service(top=2, settings=SETTINGS, network=network) as service:
        await until(lambda: service.tokens == ("5", "6"))
        (said,) = [line for line in warnings_of(caplog) if "cannot be followed" in line]
        assert "slug='market-1'" in said


async def test_a_program_that_ends_before_the_listing_answers_hears_of_it(
    venue: Venue, network: Network, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    async def never(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep_forever()
        raise AssertionError

    network = attrs.evolve(network, http_transport=lambda: httpx2.MockTransport(never))
    with trio.move_on_after(5.0):
        async with polyactors.open_service(top=1, settings=SETTINGS, network=network):
            await trio.sleep_forever()
    assert caplog.messages == ["stopped before the market listing had answered"]


async def test_a_core_that_is_restarted_does_not_ask_for_the_markets_again(
    venue: Venue, gamma: Gamma, network: Network, autojump_clock: object
) -> None:
    market = venue.markets[0]
    async with polyactors.open_service(
        markets=[market.slug], settings=SETTINGS, network=network
    ) as service:
        await until(lambda: service.states() == {"LIVE": 2})
        asked = [url for url in gamma.requests if "gamma" in url.path]
        gamma.answer = lambda request: httpx2.Response(200, json=[])  # delisted meanwhile
        await service.root.restart_child("core", force=True)
        await until(lambda: service.states() == {"LIVE": 2})
        await trio.sleep(60.0)
        assert [url for url in gamma.requests if "gamma" in url.path] == asked
        assert service.failure is None
        assert service.tokens == market.tokens
