"""The service as a program sees it: `open_service`, its books, its stream, its end."""

import copy
import logging
import pickle
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from decimal import Decimal

import attrs
import pytest
import trio

import polyactors
from polyactors import errors
from polyactors.book.trust import StaleReason, TrustState
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.errors import (
    AccountNotLive,
    BookNotLive,
    CredentialsRefused,
    PolyactorsError,
    RestFailed,
    SessionFailed,
    UnknownToken,
    UsageError,
)
from polyactors.events import BookUpdated, Event, FeedDown, FeedUp, Gap, TradePrinted, TrustChanged
from polyactors.observer import Outages
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.transport import Network
from polyactors.user.state import AccountReason, AccountState
from polyactors.venue.exchange import Venue
from polyactors.venue.memory import memory_network
from polysupervisor import (
    ChildSpec,
    Context,
    EventKind,
    NotRunning,
    StartFailed,
    SupervisorEscalation,
)
from polysupervisor import Event as RuntimeEvent

OTHER = "4242"
SETTINGS = Settings(ws_url="ws://venue/ws", clob_url="http://venue", gamma_url="http://venue/gamma")


@pytest.fixture
def venue() -> Venue:
    return Venue(seed=1, markets=2, rate=20.0)


@pytest.fixture
def network(venue: Venue, nursery: trio.Nursery) -> Network:
    nursery.start_soon(venue.run)
    return memory_network(venue, nursery)


Open = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def open_service(venue: Venue, network: Network) -> Open:
    """The real one, with everything but the tokens given."""

    @asynccontextmanager
    async def opened(
        tokens: Sequence[str] | None = None, **settings: object
    ) -> AsyncGenerator[Service, None]:
        values = {
            "ws_url": SETTINGS.ws_url,
            "clob_url": SETTINGS.clob_url,
            "gamma_url": SETTINGS.gamma_url,
        }
        async with polyactors.open_service(
            venue.tokens if tokens is None else tokens,
            settings=Settings(**values | settings),  # type: ignore[arg-type]
            network=network,
        ) as service:
            yield service

    return opened


async def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    with trio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.05)


async def until_live(service: Service) -> None:
    await until(lambda: service.states() == {"LIVE": len(service.tokens)})


def refuse_connections(venue: Venue, seconds: float) -> None:
    venue.inject("refuse", seconds=seconds)


# --- books ---------------------------------------------------------------------------------


async def test_a_live_book_is_read_as_decimals(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    async with open_service() as service:
        await until_live(service)
        venue.pause()
        await trio.sleep(1.0)
        token = venue.tokens[0]
        book = service.book(token)
        assert book.state is TrustState.LIVE
        assert book.reason is None
        assert book.settled
        assert book.age_seconds > 0.0
        expected = venue.books()[token]
        assert book.to_wire() == {"bids": expected["bids"], "asks": expected["asks"]}
        bid, ask = book.best_bid, book.best_ask
        assert bid is not None
        assert ask is not None
        assert isinstance(bid.price, Decimal)
        assert str(bid.price) == book.to_wire()["bids"][-1]["price"]
        assert bid.price < ask.price


async def test_a_book_is_not_settled_until_its_hash_group_has_been_quiet(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    async with open_service() as service:
        await until_live(service)
        venue.pause()
        await trio.sleep(1.0)
        while True:
            said = venue.step()
            if {event.kind for event in said} <= {"price_change", "best_bid_ask"}:
                break
            await trio.sleep(1.0)
        token = next(event.tokens[0] for event in said if event.kind == "price_change")
        await trio.sleep(0.01)
        assert not service.book(token).settled
        await trio.sleep(0.3)
        assert service.book(token).settled


async def test_a_reading_does_not_change_with_the_book(
    open_service: Open, autojump_clock: object
) -> None:
    async with open_service() as service:
        await until_live(service)
        token = service.tokens[0]
        before = service.book(token)
        wire = before.to_wire()
        await until(lambda: service.book(token, allow_stale=True).to_wire() != wire)
        assert before.to_wire() == wire


async def test_a_book_that_never_came_is_not_handed_out_as_one(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    refuse_connections(venue, 5.0)
    async with open_service() as service:
        await trio.sleep(2.0)
        token = service.tokens[0]
        with pytest.raises(BookNotLive, match="EMPTY") as caught:
            service.book(token)
        error = caught.value
        assert (error.token, error.state, error.reason) == (token, TrustState.EMPTY, None)
        empty = service.book(token, allow_stale=True)
        assert empty.state is TrustState.EMPTY
        assert (empty.best_bid, empty.best_ask) == (None, None)


async def test_a_stale_book_says_why_and_since_when_and_is_handed_out_labelled(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    async with open_service() as service:
        await until_live(service)
        token = service.tokens[0]
        venue.pause()
        await trio.sleep(1.0)
        last = service.book(token).to_wire()
        refuse_connections(venue, 20.0)
        await trio.sleep(7.0)
        with pytest.raises(BookNotLive, match=re.escape("STALE (disconnected)")) as caught:
            service.book(token)
        error = caught.value
        assert (error.state, error.reason) == (TrustState.STALE, StaleReason.DISCONNECTED)
        assert error.age_seconds == pytest.approx(7.0, abs=0.1)
        stale = service.book(token, allow_stale=True)
        assert (stale.state, stale.reason) == (TrustState.STALE, StaleReason.DISCONNECTED)
        assert stale.age_seconds == pytest.approx(7.0, abs=0.1)
        assert stale.to_wire() == last
        trust = service.trust(token)
        assert (trust.state, trust.reason) == (TrustState.STALE, StaleReason.DISCONNECTED)


async def test_a_token_that_is_not_followed_is_unknown(
    open_service: Open, autojump_clock: object
) -> None:
    async with open_service() as service:
        for ask in (service.book, service.trust):
            with pytest.raises(UnknownToken, match=OTHER):
                ask(OTHER)
        with pytest.raises(UnknownToken):
            service.book(OTHER, allow_stale=True)
        assert service.feed_id(OTHER) is None
        for ask in (service.book, service.trust):
            with pytest.raises(UsageError, match="a token id is a text of digits, not 4242"):
                ask(4242)  # type: ignore[arg-type]


async def test_a_token_that_the_exchange_does_not_know_turns_stale(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    async with open_service([venue.tokens[0], OTHER]) as service:
        await until(lambda: service.trust(OTHER).reason is StaleReason.UNKNOWN_TOKEN)
        assert service.states() == {"LIVE": 1, "STALE": 1}


async def test_statuses_say_the_same_as_the_books(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    async with open_service(tokens_per_connection=3) as service:
        await until_live(service)
        venue.pause()
        await trio.sleep(1.0)
        feeds = service.feed_statuses()
        assert [(feed.id, feed.tokens, feed.live) for feed in feeds] == [
            ("feed-0", 3, 3),
            ("feed-1", 1, 1),
        ]
        assert {feed.epoch for feed in feeds} == {1, 2}
        assert {feed.down_reason for feed in feeds} == {None}
        assert sum(feed.messages for feed in feeds) == service.statistics.frames
        tokens = service.token_statuses()
        assert [status.token for status in tokens] == list(service.tokens) == venue.tokens
        for status in tokens:
            assert status.feed == service.feed_id(status.token)
            assert status.reading.to_wire() == service.book(status.token).to_wire()
        assert service.summary()["tokens"] == {"LIVE": 4}
        assert service.summary()["connects"] == 2


async def test_further_tokens_are_followed_on_feeds_of_their_own(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    first, *others = venue.tokens
    async with open_service([first]) as service:
        await until_live(service)
        epoch = service.feed_statuses()[0].epoch
        await service.follow([first, *others])
        await until_live(service)
        await service.follow(others)  # nothing new
        assert service.tokens == tuple(venue.tokens)
        assert [feed.tokens for feed in service.feed_statuses()] == [1, 3]
        assert service.feed_statuses()[0].epoch == epoch


@pytest.mark.parametrize(
    ("tokens", "what"),
    [(OTHER, "tokens must be a list"), ([OTHER, 1], "not a token id"), (7, "must be a list")],
)
async def test_what_cannot_be_followed_changes_nothing(
    tokens: Sequence[str], what: str, open_service: Open, autojump_clock: object
) -> None:
    async with open_service() as service:
        followed = service.tokens
        with pytest.raises(UsageError, match=what):
            await service.follow(tokens)
        assert service.tokens == followed


async def test_following_before_the_start_is_said_and_begins_with_it(
    venue: Venue, network: Network, autojump_clock: object
) -> None:
    async with RestClient(SETTINGS, network) as rest, trio.open_nursery() as running:
        env = Environment(SETTINGS, network)
        service = Service(Wanted(tokens=tuple(venue.tokens[:1])), env=env, rest=rest)
        with pytest.raises(NotRunning):
            await service.follow(venue.tokens[1:2])
        await running.start(service.run)
        await until(lambda: service.states() == {"LIVE": 2})
        service.stop()


# --- the stream ----------------------------------------------------------------------------


async def test_a_slow_reader_is_told_what_it_missed(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    async with open_service() as service:
        await until_live(service)
        with service.events(limit=32) as slow:
            await trio.sleep(60.0)
            refuse_connections(venue, 20.0)
            await trio.sleep(10.0)
            assert slow.held <= 32
            assert slow.lost > 0
            batch = await slow.receive_batch()
        assert batch[0] == Gap(
            time_ns=batch[0].time_ns,
            feed=None,
            epoch=None,
            token=None,
            reason=StaleReason.OVERFLOW,
        )
        states = {event.token: event.state for event in batch if isinstance(event, TrustChanged)}
        assert states == dict.fromkeys(service.tokens, TrustState.STALE)


async def test_a_queue_too_small_is_the_users_mistake(open_service: Open) -> None:
    async with open_service() as service:
        with pytest.raises(UsageError, match="limit must be a whole number of events from 2"):
            service.events(limit=1)


async def test_the_stream_tells_trust_before_the_first_update_and_ends_with_the_service(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    events: list[Event] = []
    async with open_service() as service:
        subscription = service.events()
        await trio.sleep(5.0)
        service.stop()
        events += [event async for event in subscription]
    kinds = [type(event) for event in events]
    assert kinds[0] is FeedUp
    assert isinstance(events[-1], FeedDown)
    assert events[-1].reason == "stopping"
    for token in venue.tokens:
        of_token = [
            e for e in events if isinstance(e, TrustChanged | BookUpdated) and e.token == token
        ]
        first = [e.state for e in of_token[:2] if isinstance(e, TrustChanged)]
        assert first == [TrustState.SYNCING, TrustState.LIVE]
        assert isinstance(of_token[2], BookUpdated)
        assert of_token[2].cause == "snapshot"
    assert TradePrinted in kinds


async def test_a_subscription_begins_when_it_is_made_and_can_be_closed(
    open_service: Open, autojump_clock: object
) -> None:
    async with open_service() as service:
        await until_live(service)
        with service.events() as late:
            event = await anext(late)
            assert isinstance(event, BookUpdated | TradePrinted)
        await trio.sleep(1.0)
        assert late.held == 0
        with pytest.raises(StopAsyncIteration):
            await anext(late)


# --- the block -----------------------------------------------------------------------------


class Mine(Exception):  # noqa: N818 - a user's
    """An exception of the user's own."""


@pytest.mark.parametrize(
    "error",
    [
        Mine("a"),
        BookNotLive("1", TrustState.EMPTY, None, 1.0),
        ExceptionGroup("g", [Mine()]),
        KeyboardInterrupt(),
        SystemExit(3),
    ],
)
async def test_an_error_of_the_block_passes_through_as_it_is(
    error: BaseException, venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    async def block() -> None:
        async with open_service() as service:
            await until_live(service)
            raise error

    with pytest.raises(type(error)) as caught:
        await block()
    assert caught.value is error
    assert venue.sessions == {}  # stopped in order, all the same


async def test_a_cancelled_block_stops_the_service_and_waits_for_it(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    with trio.move_on_after(5.0) as scope:
        async with open_service() as service:
            await until_live(service)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    await trio.sleep(0.1)
    assert venue.sessions == {}


async def test_an_error_of_the_block_is_not_lost_when_it_is_cancelled_too(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    async def block(scope: trio.CancelScope) -> None:
        async with open_service() as service:
            await until_live(service)
            scope.cancel()
            raise Mine

    with pytest.raises(Mine), trio.CancelScope() as scope:
        await block(scope)
    await trio.sleep(0.1)
    assert venue.sessions == {}


async def test_a_service_that_cannot_start_raises_why_as_it_is(
    open_service: Open, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    async def block() -> None:
        async with open_service():
            raise AssertionError("it must not open")

    monkeypatch.setattr("polyactors.shard.BookShard.start", crash)
    with pytest.raises(StartFailed, match="planted") as caught, trio.fail_after(60.0):
        await block()
    assert "RuntimeError: planted" in caught.value.__notes__[0]


async def test_of_two_failures_the_first_is_raised_with_a_note_of_the_other(
    open_service: Open, autojump_clock: object
) -> None:
    async def block() -> None:
        async with open_service() as service:
            try:
                service.fail(UsageError("no such market"))
                await trio.sleep_forever()
            finally:
                raise Mine("on the way out")

    with pytest.raises(UsageError, match="no such market") as caught, trio.fail_after(60.0):
        await block()
    assert caught.value.__notes__ == ["and then: Mine: on the way out"]


async def test_a_service_that_was_stopped_in_the_block_lets_the_block_go_on(
    open_service: Open, autojump_clock: object
) -> None:
    async with open_service() as service:
        await until_live(service)
        service.stop()
        service.stop()
        await trio.sleep(30.0)
    assert service.failure is None


async def test_an_orderly_stop_leaves_the_last_states_and_levels(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    subscription = None
    async with open_service() as service:
        await until_live(service)
        subscription = service.events()
        venue.pause()
        await trio.sleep(1.0)
        last = {token: service.book(token).to_wire() for token in service.tokens}
    assert service.states() == {"LIVE": 4}
    assert service.summary()["tokens"] == {"LIVE": 4}
    for token in service.tokens:
        # Nobody keeps it any more, so it is not handed out as LIVE; the levels are the last.
        with pytest.raises(BookNotLive):
            service.book(token)
        assert service.book(token, allow_stale=True).to_wire() == last[token]
    events = [event async for event in subscription]
    assert not [event for event in events if isinstance(event, TrustChanged)]


async def test_two_services_run_side_by_side_and_know_nothing_of_each_other(
    venue: Venue, open_service: Open, autojump_clock: object
) -> None:
    async with open_service(venue.tokens[:2]) as one:
        async with open_service(venue.tokens[2:]) as two:
            await until_live(one)
            await until_live(two)
            assert [s.feed_statuses()[0].epoch for s in (one, two)] == [1, 1]
            assert [s.statistics.connects for s in (one, two)] == [1, 1]
            with pytest.raises(UnknownToken):
                one.book(venue.tokens[2])
            stream = one.events()
        frames = one.statistics.frames, two.statistics.frames
        await trio.sleep(2.0)
        assert one.statistics.frames > frames[0]
        assert two.statistics.frames == frames[1]
        assert one.states() == {"LIVE": 2}
    tokens = {e.token async for e in stream if isinstance(e, BookUpdated | TradePrinted)}
    assert tokens <= set(venue.tokens[:2])


async def test_a_root_that_gives_up_ends_the_block(
    open_service: Open, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    async def block() -> None:
        async with open_service():
            await trio.sleep_forever()

    monkeypatch.setattr("polyactors.shard.BookShard.apply", crash)
    with pytest.raises(SupervisorEscalation), trio.fail_after(3600.0):
        await block()


# --- what the user gets wrong --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"tokens": ["not-a-token"]}, "not a token id"),
        ({"tokens": ["1"], "settings": Settings(ws_url="http://here")}, "not a WebSocket URL"),
        ({"tokens": ["1"], "settings": Settings(clob_url="nowhere")}, "not a URL"),
        ({"markets": ["two words"]}, "not a market"),
        ({}, "there is nothing to follow: give tokens"),
        ({"tokens": "123"}, "tokens must be a list, like tokens="),
        ({"tokens": [123]}, "123 is not a token id"),
        ({"markets": "rain"}, "markets must be a list, like markets="),
        ({"tokens": ["1"], "top": 0}, "top must be a whole number from 1 to 5000, not 0"),
        ({"tokens": ["1"], "settings": {}}, "settings must be a polyactors.Settings, not {}"),
        ({"tokens": ["1"], "settings": Settings}, "settings must be a polyactors.Settings, not"),
        ({"tokens": ["1"], "network": "wifi"}, "network must be a polyactors.Network, not 'wifi'"),
    ],
)
async def test_a_mistake_is_said_at_once_in_one_sentence(
    arguments: dict[str, object], what: str
) -> None:
    async def block() -> None:
        async with polyactors.open_service(**arguments):  # type: ignore[arg-type]
            raise AssertionError("it must not open")

    with pytest.raises(UsageError, match=what) as caught:
        await block()
    assert "\n" not in str(caught.value)


async def test_without_settings_the_environment_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYACTORS_WS_URL", "nowhere")
    with pytest.raises(UsageError, match="nowhere"):
        async with polyactors.open_service(["1"]):
            pass


async def test_no_network_at_all_is_only_waited_for(autojump_clock: object) -> None:
    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        raise OSError("Network is unreachable")

    network = Network(open_stream=open_stream)
    async with polyactors.open_service(["1"], settings=SETTINGS, network=network) as service:
        await trio.sleep(600.0)
        assert service.states() == {"EMPTY": 1}
        assert 20 < service.statistics.connects < 100
        assert service.feed_statuses()[0].down_reason == "reset"


# --- the log -------------------------------------------------------------------------------


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def feeds_of(said: list[str]) -> list[str]:
    return [match[1] for line in said if (match := re.search("feed='(.*?)'", line))]


async def test_an_exchange_that_cannot_be_reached_is_said_once_then_rarely_and_when_it_is_back(
    venue: Venue, network: Network, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    is_down = True

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        if is_down:
            raise OSError("Network is unreachable")
        return await network.open_stream(host, port, tls)

    caplog.set_level("INFO", "polyactors")
    venue.pause()
    settings = attrs.evolve(SETTINGS, tokens_per_connection=2, data_deadline_seconds=3600.0)
    async with polyactors.open_service(
        venue.tokens,
        settings=settings,
        network=Network(open_stream, network.http_transport),
    ) as service:
        await trio.sleep(5.0)
        first = warnings_of(caplog)
        assert feeds_of(first) == ["feed-0", "feed-1"]
        assert first[0] == (
            "no connection to the exchange, trying again feed='feed-0' reason='reset' "
            "detail='venue:80: Network is unreachable'"
        )
        await trio.sleep(290.0)
        assert warnings_of(caplog) == first
        await trio.sleep(600.0)
        reminders = warnings_of(caplog)[2:]
        assert sorted(feeds_of(reminders)) == ["feed-0", "feed-0", "feed-1", "feed-1"]
        assert all("for_seconds=" in line for line in reminders)
        tries = [line for line in caplog.messages if line.startswith("feed down")]
        assert len(tries) == service.statistics.connects > 40  # each of them is info
        is_down = False
        await until_live(service)
        await trio.sleep(3.0)
        back = warnings_of(caplog)[6:]
        assert sorted(feeds_of(back)) == ["feed-0", "feed-1"]
        assert all(line.startswith("connected again after_seconds=") for line in back)
        await trio.sleep(600.0)
    assert len(warnings_of(caplog)) == 8


async def test_a_session_that_ends_and_comes_back_is_no_warning(
    venue: Venue, open_service: Open, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    caplog.set_level("INFO", "polyactors")
    async with open_service() as service:
        await until_live(service)
        await trio.sleep(10.0)
        venue.inject("reset")
        await until(lambda: service.statistics.connects == 2)
        await until_live(service)
        await trio.sleep(3.0)
    assert warnings_of(caplog) == []
    assert "connected again after_seconds=" in caplog.text


async def test_a_program_that_ends_before_anything_was_tried_hears_of_it(
    caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    with trio.move_on_after(5.0):
        async with polyactors.open_service(["1"], settings=SETTINGS, network=Network(open_stream)):
            await trio.sleep_forever()
    assert warnings_of(caplog) == ["stopped before a connection to the exchange was open"]


async def test_a_service_that_connected_ends_without_a_word(
    open_service: Open, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    async with open_service() as service:
        await until_live(service)
    assert caplog.messages == []


def test_a_feed_that_is_dropped_at_once_each_time_is_an_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outages = Outages()
    for attempt in range(60):
        now = 10.0 * attempt
        outages.take([FeedUp(time_ns=0, feed="feed-0", epoch=attempt)], now)
        assert outages.next_due() == now + 2.0
        down = FeedDown(time_ns=0, feed="feed-0", epoch=attempt, reason="closed_1008")
        outages.take([down], now + 1.0)
    said = warnings_of(caplog)
    assert [line.partition(" feed=")[0] for line in said] == [
        "no connection to the exchange, trying again"
    ] * 2
    assert "reason='closed_1008'" in said[0]
    assert "for_seconds=300" in said[1]
    outages.take([FeedUp(time_ns=0, feed="feed-0", epoch=99)], 1000.0)
    outages.take([], 1001.0)
    assert len(warnings_of(caplog)) == 2
    outages.take([], 1002.0)
    assert warnings_of(caplog)[2:] == ["connected again after_seconds=999 feed='feed-0'"]


def test_a_feed_that_is_told_to_stop_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "polyactors")
    outages = Outages()
    for now in (0.0, 100.0):
        outages.take([FeedUp(time_ns=0, feed="feed-0", epoch=1)], now)
        down = FeedDown(time_ns=0, feed="feed-0", epoch=1, reason="stopping")
        outages.take([down], now + 1.0)
    assert caplog.messages == []


# --- the package ---------------------------------------------------------------------------


ERRORS = [
    PolyactorsError("a"),
    UsageError("say it"),
    BookNotLive("1", TrustState.STALE, StaleReason.CROSSED, 2.5),
    BookNotLive("1", TrustState.EMPTY, None, 0.0),
    UnknownToken("the service does not follow the token '1'"),
    SessionFailed("reset", "refused"),
    SessionFailed("dns"),
    RestFailed("HTTP 500"),
    CredentialsRefused("HTTP 401"),
    AccountNotLive(AccountState.STALE, AccountReason.DISCONNECTED, 2.5),
    AccountNotLive(AccountState.SYNCING, None, 0.0),
]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_can_be_pickled_and_copied(error: PolyactorsError) -> None:
    error.add_note("seen by a worker")
    pickled = [pickle.loads(pickle.dumps(error, level)) for level in range(6)]
    for other in (*pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)


def test_no_error_is_left_out_above() -> None:
    names = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type)}
    assert {type(error).__name__ for error in ERRORS} == names


def test_the_package_lists_its_names_and_gives_them_all() -> None:
    assert set(polyactors.__all__) <= set(dir(polyactors))
    names: dict[str, object] = {}
    exec("from polyactors import *", names)
    assert set(polyactors.__all__) <= set(names)
    assert names["open_service"] is polyactors.open_service
    for name in polyactors.__all__:
        assert getattr(polyactors, name) is names[name]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        polyactors.nonsense  # noqa: B018


# --- the tree ------------------------------------------------------------------------------


async def test_what_is_started_last_is_stopped_first(
    venue: Venue, network: Network, nursery: trio.Nursery, autojump_clock: object
) -> None:
    heard: list[Event] = []

    def sink(service: Service) -> ChildSpec[object]:
        subscription = service.events()

        async def listen(ctx: Context[object]) -> None:
            ctx.ready()
            with suppress(trio.EndOfChannel):
                while not ctx.stop_requested.is_set():
                    heard.extend(await subscription.receive_batch())

        return ChildSpec(id="listener", factory=lambda: listen)

    def terminal(service: Service) -> ChildSpec[object]:
        async def show(ctx: Context[object]) -> None:
            assert service.states()["SYNCING"] == 0  # the books were there before
            ctx.ready()
            await ctx.stop_requested.wait()

        return ChildSpec(id="terminal", factory=lambda: show)

    env = Environment(SETTINGS, network)
    async with RestClient(SETTINGS, network) as rest:
        wanted = Wanted(tokens=tuple(venue.tokens))
        service = Service(wanted, env=env, rest=rest, sinks=[sink], last=terminal)
        runtime = service.root.events.subscribe()
        async with trio.open_nursery() as running:
            await running.start(service.run)
            await until_live(service)
            service.stop()
    orders: list[RuntimeEvent] = []
    with trio.move_on_after(1.0):
        async for order in runtime:
            orders.append(order)  # noqa: PERF401 - the cancellation must not lose them
    started = [event.path for event in orders if event.kind is EventKind.STARTED]
    ended = [event.path for event in orders if event.kind in (EventKind.STOPPED, EventKind.KILLED)]
    expected = [
        "root/observability/observer",
        "root/observability/listener",
        "root/core/books/shard-0",
        "root/core/feeds/feed-0/connection",
        "root/core/feeds/feed-0/heartbeat",
        "root/core/feeds/feed-0/parser",
        "root/core/snapshots",
        "root/core/audit",
        "root/terminal",
    ]
    assert [path for path in started if path in expected] == expected
    # What only watches stops together, when nothing is left to be watched.
    assert [path for path in ended if path in expected[2:]] == expected[:1:-1]
    assert set(ended[-4:]) >= set(expected[:2])
    assert isinstance(heard[-1], FeedDown)


async def test_one_frame_may_cost_every_book_of_a_large_connection_its_trust(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    """Each asks its connection for a fresh book at the same moment, and none is refused."""
    venue = Venue(seed=1, markets=600, rate=0)
    nursery.start_soon(venue.run)
    settings = attrs.evolve(SETTINGS, tokens_per_connection=1200)
    network = memory_network(venue, nursery)
    async with polyactors.open_service(venue.tokens, settings=settings, network=network) as service:
        await until(lambda: service.states() == {"LIVE": 1200})
        venue.inject("garbage", variant="text")
        await until(lambda: service.statistics.resyncs["parse_failure"] >= 1200)
        await until(lambda: service.states() == {"LIVE": 1200})
        assert service.statistics.requests_lost == 0
