"""The market channel's manners, over memory streams on virtual time.

Each test names `autojump_clock` itself: pytest-trio looks for a clock in its arguments only.
"""

from typing import Any

import pytest
import trio
import trio.testing
from tests.actors.venue.client import SOON, Connect, open_client, refusal, tokens_of

from polyactors.venue import Venue
from polyactors.venue import session as session_module

PONG_ONLY = ["PONG"]


def make_venue(markets: int = 2, **more: Any) -> Venue:
    return Venue(seed=1, markets=markets, rate=0, **more)


# The manners of the channel


async def test_the_first_books_come_as_one_array_in_the_order_asked_for(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    client = await connect(venue)
    wanted = [venue.tokens[2], venue.tokens[0]]
    await client.subscribe_first(wanted)
    (array,) = await client.messages()
    assert [book["asset_id"] for book in array] == wanted
    rest = venue.books()
    for book in array:
        expected = dict(rest[book["asset_id"]])
        del expected["min_order_size"], expected["neg_risk"]
        assert book == {**expected, "event_type": "book"}
        assert list(book)[-3:] == ["tick_size", "last_trade_price", "event_type"]


async def test_later_messages_are_single_objects_and_books_lack_the_tick(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    client = await connect(venue)
    await client.subscribe_first(venue.tokens)
    await client.frames()
    venue.step(60)
    messages = await client.messages()
    assert {type(message) for message in messages} == {dict}
    books = [message for message in messages if message["event_type"] == "book"]
    assert books
    assert not any("tick_size" in book or "last_trade_price" in book for book in books)


async def test_a_client_gets_exactly_what_it_subscribed_to(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=3)
    client = await connect(venue)
    await client.subscribe_first(venue.tokens[:1])
    await client.frames()
    venue.step(60)
    assert tokens_of(await client.messages()) == {venue.tokens[0]}


@pytest.mark.parametrize("kind", ["market", "MARKET", "Market"])
async def test_the_type_is_accepted_in_any_case(
    autojump_clock: object, connect: Connect, kind: str
) -> None:
    venue = make_venue()
    client = await connect(venue)
    await client.send({"assets_ids": venue.tokens[:1], "type": kind})
    assert await client.books() == venue.tokens[:1]


@pytest.mark.parametrize(
    "frame",
    [
        "PING",
        "{",
        "[]",
        "null",
        {"operation": "subscribe", "assets_ids": []},
        {"assets_ids": [], "type": "user"},
        {"assets_ids": "1", "type": "market"},
        {"assets_ids": [1], "type": "market"},
        {"type": "market"},
    ],
)
async def test_any_other_first_frame_closes_with_1008(
    autojump_clock: object, connect: Connect, frame: object
) -> None:
    client = await connect(make_venue())
    await client.send(frame)
    assert await client.close_code() == (1008, "invalid subscription payload")


async def test_a_second_typed_frame_is_an_invalid_operation(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    client = await connect(venue)
    await client.subscribe_first(venue.tokens[:1])
    await client.frames()
    await client.subscribe_first(venue.tokens[1:])
    assert await client.frames() == ["INVALID OPERATION"]
    assert list(venue.sessions[1].tokens) == venue.tokens[:1]


@pytest.mark.parametrize("frame", ["hello", "[]", {"operation": "dance", "assets_ids": []}, {}])
async def test_later_nonsense_is_an_invalid_operation(
    autojump_clock: object, connect: Connect, frame: object
) -> None:
    client = await connect(make_venue())
    await client.subscribe_first([])
    await client.send(frame)
    assert await client.frames() == ["INVALID OPERATION"]
    assert await client.is_open()


async def test_ping_is_answered_with_pong(autojump_clock: object, connect: Connect) -> None:
    client = await connect(make_venue())
    await client.subscribe_first([])
    await client.send("PING")
    assert await client.frames() == PONG_ONLY


async def test_subscribing_to_more_brings_only_the_new_books(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    client = await connect(venue)
    await client.subscribe_first([])
    assert await client.frames() == []
    await client.operate("subscribe", venue.tokens[:2])
    assert await client.books() == venue.tokens[:2]
    await client.operate("subscribe", venue.tokens[1:])
    assert await client.books() == venue.tokens[2:]


async def test_a_subscribe_that_adds_nothing_is_told_so(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    client = await connect(venue)
    await client.subscribe_first(venue.tokens)
    await client.frames()
    await client.operate("subscribe", venue.tokens[:1])
    assert await client.frames() == ["NO NEW ASSETS"]
    await client.operate("subscribe", [])
    assert await client.frames() == ["NO NEW ASSETS"]


async def test_a_duplicate_subscribe_still_switches_the_custom_events(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    client = await connect(venue)
    await client.subscribe_first(venue.tokens)
    await client.frames()
    venue.step(40)
    assert "best_bid_ask" not in {m["event_type"] for m in await client.messages()}
    await client.operate("subscribe", venue.tokens, custom_feature_enabled=True)
    assert await client.frames() == ["NO NEW ASSETS"]
    venue.step(40)
    assert "best_bid_ask" in {m["event_type"] for m in await client.messages()}


async def test_unsubscribing_ends_the_events_and_subscribing_again_brings_a_book(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    client = await connect(venue)
    await client.subscribe_first(venue.tokens)
    await client.frames()
    await client.operate("unsubscribe", venue.tokens[:1])
    assert await client.frames() == []
    venue.step(20)
    assert tokens_of(await client.messages()) == {venue.tokens[1]}
    await client.operate("subscribe", venue.tokens[:1])
    (array,) = await client.messages()
    assert array[0]["hash"] == venue.books()[venue.tokens[0]]["hash"]


async def test_unknown_ids_are_met_with_silence(autojump_clock: object, connect: Connect) -> None:
    venue = make_venue()
    client = await connect(venue)
    await client.subscribe_first(["1", venue.tokens[0]])
    assert await client.books() == venue.tokens[:1]
    await client.operate("subscribe", ["2"])
    await client.operate("unsubscribe", ["3"])
    assert await client.frames() == []


async def test_no_initial_dump_when_it_is_not_wanted(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    client = await connect(venue)
    await client.subscribe_first(venue.tokens, initial_dump=False)
    assert await client.frames() == []
    venue.step()
    assert tokens_of(await client.messages()) == set(venue.tokens)


async def test_new_and_resolved_markets_are_told_to_all_with_the_custom_feature(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    plain, custom = await connect(venue), await connect(venue)
    await plain.subscribe_first(venue.tokens)
    await custom.subscribe_first([], custom_feature_enabled=True)
    await plain.frames()
    listing = venue.add_market()
    venue.resolve_market(listing.condition_id, winner=1)
    new, resolved = await custom.messages()
    assert (new["event_type"], new["assets_ids"]) == ("new_market", list(listing.tokens))
    assert new["slug"] == listing.slug
    assert new["outcomes"] == ["Yes", "No"]
    assert resolved["event_type"] == "market_resolved"
    assert resolved["winning_asset_id"] == listing.tokens[1]
    assert resolved["winning_outcome"] == "No"
    assert await plain.frames() == []


async def test_a_token_that_is_listed_later_flows_to_who_asked_early(
    autojump_clock: object, connect: Connect
) -> None:
    venue, later = make_venue(markets=1), Venue(seed=1, markets=2, rate=0).tokens[2:]
    client = await connect(venue)
    await client.subscribe_first(later)
    assert await client.frames() == []
    venue.add_market()
    venue.step(40)
    assert tokens_of(await client.messages()) == set(later)


@pytest.mark.parametrize("path", ["/", "/market", "/ws", "/ws/live-data"])
async def test_other_paths_are_refused_with_404(
    nursery: trio.Nursery, autojump_clock: object, path: str
) -> None:
    assert await refusal(nursery, make_venue(), path) == 404


# Clients that misbehave


async def test_a_handshake_that_does_not_come_is_given_up(autojump_clock: object) -> None:
    venue = make_venue()
    ours, theirs = trio.testing.memory_stream_pair()
    start = trio.current_time()
    await venue.serve_stream(theirs)
    assert trio.current_time() - start == pytest.approx(session_module.HANDSHAKE_SECONDS)
    assert await ours.receive_some() == b""
    assert venue.sessions == {}


async def test_a_request_that_is_no_websocket_ends_the_session_only(autojump_clock: object) -> None:
    venue = make_venue()
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(b"GET / HTTP/1.1\r\nHost: venue\r\n\r\n")
    await venue.serve_stream(theirs)
    assert (await ours.receive_some()).startswith(b"HTTP/1.1 4")


async def test_a_client_that_says_nothing_is_dropped_and_one_that_pings_is_not(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    silent, lively = await connect(venue), await connect(venue)
    await silent.subscribe_first([])
    await lively.subscribe_first([])
    for _ in range(5):
        assert len(venue.sessions) == 2
        await lively.frames(5)
        await lively.send("PING")
    await lively.frames(6)
    assert list(venue.sessions) == [2]
    assert (await silent.close_code())[0] == 1006
    assert await lively.is_open()


async def test_a_client_that_vanishes_hurts_nobody(
    autojump_clock: object, connect: Connect, nursery: trio.Nursery
) -> None:
    venue = make_venue()
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(venue.serve_stream, theirs)
    lost = await open_client(nursery, ours)
    await lost.subscribe_first(venue.tokens)
    stays = await connect(venue)
    await stays.subscribe_first(venue.tokens)
    await stays.frames()
    await trio.aclose_forcefully(ours)
    venue.step(20)
    assert await stays.messages()
    assert list(venue.sessions) == [2]


async def test_a_client_that_takes_nothing_in_is_dropped(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    venue = make_venue()
    ours, theirs = trio.testing.lockstep_stream_pair()
    nursery.start_soon(venue.serve_stream, theirs)
    # Nobody takes messages from this client, so after two its reader stands still.
    client = await open_client(nursery, ours)
    await client.subscribe_first(venue.tokens)
    venue.step(20)
    await trio.sleep(session_module.SEND_SECONDS - 0.5)
    (session,) = venue.sessions.values()
    await trio.sleep(1)
    assert venue.sessions == {}
    assert session.end == "too slow"


async def test_the_frames_that_wait_for_a_slow_client_are_limited(
    autojump_clock: object, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "OUTBOX_FRAMES_MAX", 30)
    venue = make_venue(markets=1)
    client = await connect(venue)
    await client.subscribe_first(venue.tokens[:1])
    await client.frames()
    (session,) = venue.sessions.values()
    while session.queued_frames <= 30:
        assert session.end == ""
        venue.step()
    assert session.end == "too slow"
    assert (await client.close_code())[0] == 1006


async def test_the_characters_that_wait_for_a_slow_client_are_limited(
    autojump_clock: object, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "OUTBOX_CHARACTERS_MAX", 3000)
    venue = make_venue()
    client = await connect(venue)
    await client.subscribe_first(venue.tokens)
    assert (await client.close_code())[0] == 1006


async def test_a_frame_of_too_many_ids_closes_the_connection(
    autojump_clock: object, connect: Connect
) -> None:
    client = await connect(make_venue())
    await client.subscribe_first([f"{number:077d}" for number in range(2000)])
    assert (await client.close_code())[0] == 1009


async def test_too_many_sessions_are_refused(
    autojump_clock: object, connect: Connect, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyactors.venue.door.SESSIONS_MAX", 2)
    venue = make_venue()
    await connect(venue)
    client = await connect(venue)
    assert await refusal(nursery, venue) == 429
    await client.connection.aclose()
    await trio.sleep(SOON)
    await connect(venue)


async def test_a_mistake_of_ours_in_one_session_is_logged_and_ends_only_it(
    autojump_clock: object,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    venue = make_venue()
    healthy = await connect(venue)
    await healthy.subscribe_first([])
    broken = await connect(venue)

    def fail(tokens: object) -> str | None:
        raise ZeroDivisionError

    monkeypatch.setattr(venue.sessions[2], "_dump", fail)
    await broken.subscribe_first(venue.tokens)
    assert (await broken.close_code())[0] == 1006
    assert await healthy.is_open()
    (record,) = [record for record in caplog.records if record.name == "polyactors"]
    assert record.levelname == "ERROR"
    assert "session=2" in record.message


# The clock of the engine


async def test_run_steps_the_engine_at_its_rate(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    venue = Venue(seed=1, markets=1, rate=50, now_ms=lambda: int(trio.current_time() * 1000))
    done: list[int] = []
    step = venue.step

    def count(n: int = 1) -> Any:
        done.append(n)
        return step(n)

    venue.step = count  # type: ignore[method-assign] # counts what run does
    await nursery.start(venue.run)
    await trio.sleep(20)
    assert 850 < len(done) < 1150


async def test_a_paused_venue_stands_still_but_answers(
    autojump_clock: object, connect: Connect, nursery: trio.Nursery
) -> None:
    venue = Venue(seed=1, rate=100)
    await nursery.start(venue.run)
    client = await connect(venue)
    await client.subscribe_first(venue.tokens)
    await client.frames(1)
    venue.pause()
    assert venue.is_paused
    await client.frames()
    books = venue.books()
    await client.send("PING")
    assert await client.frames(3) == PONG_ONLY
    assert venue.books() == books
    venue.resume()
    assert len(await client.frames(1)) > 50
    assert venue.books() != books


async def test_two_runs_of_one_seed_say_the_same_to_a_client(
    autojump_clock: object, connect: Connect
) -> None:
    async def listen() -> list[str]:
        venue = Venue(seed=9, markets=2, rate=0, now_ms=lambda: 1_789_156_413_823)
        client = await connect(venue)
        await client.subscribe_first(venue.tokens, custom_feature_enabled=True)
        frames = await client.frames()
        venue.step(100)
        return frames + await client.frames()

    first = await listen()
    assert len(first) > 100
    assert first == await listen()
