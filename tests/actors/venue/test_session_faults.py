"""What faults do to a client of the market channel, over memory streams on virtual time."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
import trio.testing
from tests.actors.venue.client import (
    SOON,
    Connect,
    messages_in,
    open_client,
    refusal,
    subscribed,
    tokens_of,
)

from polyactors.venue import FaultKind, FaultRecord, NoTarget, Venue, distortion, exchange

WITHOUT_SESSION = (
    FaultKind.REFUSE,
    FaultKind.MISSING_BOOK,
    FaultKind.STALE_REST,
    FaultKind.REST_ERROR,
    FaultKind.CLOCK_SKEW,
)


def make_venue(markets: int = 2, **more: Any) -> Venue:
    return Venue(seed=1, markets=markets, rate=0, **more)


async def test_reset_ends_one_session_abruptly(autojump_clock: object, connect: Connect) -> None:
    records: list[FaultRecord] = []
    venue = make_venue(on_fault=records.append)
    client, other = await subscribed(connect, venue), await connect(venue)
    await other.subscribe_first([])
    record = venue.inject("reset", token=venue.tokens[0])
    assert (await client.close_code())[0] == 1006
    assert await other.is_open()
    assert records == [record] == list(venue.fault_log)
    assert (record.id, record.kind, record.session) == (1, FaultKind.RESET, 1)
    assert record.tokens == tuple(venue.tokens)
    assert record.started == pytest.approx(trio.current_time(), abs=1)


async def test_stall_loses_all_data_while_pong_lives(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    client = await subscribed(connect, venue)
    record = venue.inject("stall", seconds=5)
    assert venue.active_faults == [record]
    venue.step(20)
    await client.operate("unsubscribe", venue.tokens[:1])
    await client.operate("subscribe", venue.tokens)
    await client.send("PING")
    await client.operate("subscribe", venue.tokens)
    assert await client.frames(4.5) == ["PONG", "NO NEW ASSETS"]
    await trio.sleep(1)
    assert venue.active_faults == []
    assert await client.frames() == [], "what was said meanwhile is lost"
    venue.step()
    assert await client.messages()


async def test_a_new_session_is_not_stalled(autojump_clock: object, connect: Connect) -> None:
    venue = make_venue()
    await subscribed(connect, venue)
    venue.inject("stall", seconds=60)
    await subscribed(connect, venue)


async def test_refuse_resets_everybody_and_answers_429_for_a_while(
    autojump_clock: object, connect: Connect, nursery: trio.Nursery
) -> None:
    venue = make_venue()
    clients = [await subscribed(connect, venue) for _ in range(2)]
    venue.inject("refuse", seconds=3)
    for client in clients:
        assert (await client.close_code())[0] == 1006
    assert await refusal(nursery, venue) == 429
    await trio.sleep(3.1)
    await subscribed(connect, venue)


async def test_garbage_text_is_no_json(autojump_clock: object, connect: Connect) -> None:
    client = await subscribed(connect, venue := make_venue())
    record = venue.inject("garbage", variant="text")
    (frame,) = await client.frames()
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(frame)
    assert record.detail == "text"
    assert await client.is_open()


async def test_garbage_shape_is_json_that_is_no_message(
    autojump_clock: object, connect: Connect
) -> None:
    client = await subscribed(connect, venue := make_venue())
    for _ in range(20):
        venue.inject("garbage", variant="shape")
    for message in await client.messages():
        parts = cast("Sequence[Any]", message) if isinstance(message, list) else [message]
        assert any(not isinstance(part, dict) or is_malformed(part) for part in parts)


def is_malformed(message: Any) -> bool:
    if message["event_type"] == "book":
        return not isinstance(message["bids"], list)
    changes = message["price_changes"]
    return not isinstance(changes, list) or "price" not in changes[0]


async def test_garbage_half_loses_the_next_message(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    client = await subscribed(connect, venue)
    (session,) = venue.sessions.values()
    venue.inject("garbage", variant="half")
    texts = [e.text_for(session.tokens, custom=False) for e in venue.step(3)]
    expected = [text for text in texts if text is not None]
    frames = await client.frames()
    assert frames[0] == expected[0][: len(expected[0]) // 2]
    assert frames[1:] == expected[1:]


async def test_a_missing_book_is_left_out_once_while_its_deltas_flow(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    record = venue.inject("missing_book", token=venue.tokens[1])
    assert record.tokens == (venue.tokens[1],)
    assert venue.active_faults == [record]
    client = await connect(venue)
    await client.subscribe_first(venue.tokens)
    assert await client.books() == venue.tokens[:1]
    assert venue.active_faults == []
    venue.step(20)
    assert tokens_of(await client.messages()) == set(venue.tokens)
    await client.operate("unsubscribe", venue.tokens[1:])
    await client.operate("subscribe", venue.tokens[1:])
    assert await client.books() == venue.tokens[1:]


async def test_a_dump_of_missing_books_alone_is_not_sent_at_all(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    venue.inject("missing_book", token=venue.tokens[0])
    client = await connect(venue)
    await client.subscribe_first(venue.tokens[:1])
    assert await client.frames() == []


async def test_a_missing_book_with_a_reset_is_felt_by_who_has_the_token(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    client = await subscribed(connect, venue)
    record = venue.inject("missing_book", reset=True)
    assert record.token in venue.tokens
    assert record.session == 1
    assert (await client.close_code())[0] == 1006
    again = await connect(venue)
    await again.subscribe_first(venue.tokens)
    assert set(venue.tokens) - set(await again.books()) == {record.token}


async def test_slow_delays_everything_and_loses_nothing(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    client = await subscribed(connect, venue)
    (session,) = venue.sessions.values()
    venue.inject("slow", seconds=3)
    texts = [e.text_for(session.tokens, custom=False) for e in venue.step(60)]
    expected = [text for text in texts if text is not None]
    early = await client.frames(2.5)
    assert 0 < len(early) < len(expected)
    assert early + await client.frames(1) == expected


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in WITHOUT_SESSION])
async def test_a_fault_without_a_session_to_hit_is_an_error(
    autojump_clock: object, kind: str
) -> None:
    venue = make_venue()
    with pytest.raises(NoTarget):
        venue.inject(kind)
    with pytest.raises(NoTarget):
        venue.inject(kind, session=5)
    assert venue.fault_log == ()


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "earthquake"},
        {"kind": "reset", "token": "1"},
        {"kind": "stall", "seconds": -1},
        {"kind": "stall", "seconds": float("nan")},
        {"kind": "garbage", "variant": "bananas"},
        {"kind": "garbage", "variant": "503"},
        {"kind": "rest_error", "variant": "half"},
        {"kind": "lost_delta", "variant": "half"},
    ],
)
async def test_a_fault_that_makes_no_sense_is_an_error(
    autojump_clock: object, connect: Connect, arguments: dict[str, Any]
) -> None:
    venue = make_venue()
    await subscribed(connect, venue)
    with pytest.raises(ValueError, match=r"earthquake|token|seconds|variant"):
        venue.inject(**arguments)
    assert venue.fault_log == ()


# What is lost, doubled or swapped; distortion's own tests say what exactly


ONCE = ["lost_delta", "lost_in_group", "lost_group", "duplicate", "reorder"]


def said_to(venue: Venue, tokens: Sequence[str], steps: int = 1) -> list[str]:
    """What the engine says to who follows these tokens."""
    texts = [event.text_for(tokens, custom=False) for event in venue.step(steps)]
    return [text for text in texts if text is not None]


@pytest.mark.parametrize("kind", ONCE)
async def test_a_fault_that_strikes_once_lies_in_wait_and_says_whom_it_hurt(
    autojump_clock: object, connect: Connect, kind: str
) -> None:
    venue = make_venue()
    client, other = await subscribed(connect, venue), await subscribed(connect, venue)
    armed = venue.inject(kind, session=1)
    assert (armed.struck, armed.ended, armed.hurt) == (None, None, ())
    assert armed.tokens == tuple(venue.tokens)
    expected: list[str] = []
    while venue.active_faults:
        await trio.sleep(0.01)
        expected += said_to(venue, venue.tokens)
    (record,) = venue.fault_log
    assert record.struck == record.ended == trio.current_time()
    assert record.hurt_in(1) == record.hurt
    assert len(record.hurt) == 2
    assert all(strike.hash for strike in record.strikes)
    frames = await client.frames()
    assert frames != expected
    assert set(frames) <= set(expected)
    assert await other.frames() == expected, "the fault is of one session"


@pytest.mark.parametrize("kind", ONCE)
async def test_with_a_token_all_sessions_that_follow_it_are_struck_once_each(
    autojump_clock: object, connect: Connect, kind: str
) -> None:
    venue = make_venue()
    token = venue.tokens[3]
    clients = [await subscribed(connect, venue) for _ in range(2)]
    stranger = await connect(venue)
    await stranger.subscribe_first(venue.tokens[:2])
    await stranger.books()
    record = venue.inject(kind, token=token)
    assert (record.token, record.session) == (token, None)
    while venue.active_faults:
        venue.step()
    (record,) = venue.fault_log
    assert token in record.hurt_in(1)
    assert token in record.hurt_in(2)
    assert record.hurt_in(3) == ()
    assert [await client.is_open() for client in clients] == [True, True]


async def test_a_fault_that_finds_no_chance_is_over_when_its_time_is_up(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    client = await subscribed(connect, venue)
    record = venue.inject("lost_delta", seconds=5)
    await client.frames(4.9)
    assert venue.active_faults == [record]
    await client.frames(0.2)
    assert venue.active_faults == []
    (record,) = venue.fault_log
    assert (record.struck, record.ended) == (None, record.started + 5)
    expected = said_to(venue, venue.tokens)
    assert await client.frames() == expected


async def test_a_fault_is_over_when_its_session_is(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    client = await subscribed(connect, venue)
    for kind in ("stall", "lost_in_group", "mirror", "unknown_fields", "slow"):
        venue.inject(kind)
    assert len(venue.active_faults) == 5
    await client.connection.aclose()
    await trio.sleep(0.1)
    assert venue.active_faults == []
    now = pytest.approx(trio.current_time(), abs=0.11)
    assert all(record.ended == now for record in venue.fault_log)
    await subscribed(connect, venue)


async def test_a_change_that_waits_for_its_neighbour_is_sent_in_time(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue()
    client = await subscribed(connect, venue)
    venue.inject("reorder")
    expected: list[str] = []
    while not venue.fault_log[0].struck:
        expected += said_to(venue, venue.tokens)
    assert venue.active_faults, "this seed's first change is alone in its step"
    early = await client.frames(distortion.HOLD_SECONDS - 0.01)
    assert early == expected[:-1]
    assert await client.frames(0.02) == expected[-1:]


async def test_faults_do_not_touch_the_engine(autojump_clock: object, connect: Connect) -> None:
    def make() -> Venue:
        return make_venue(now_ms=lambda: 1_789_156_413_823, oversize_bytes=2**16)

    plain, venue = make(), make()
    await subscribed(connect, venue)
    for kind in FaultKind:
        if kind is not FaultKind.CLOCK_SKEW:  # what is hashed has a time in it
            venue.inject(kind, token=venue.tokens[0])
            if kind in (FaultKind.RESET, FaultKind.REFUSE):
                await trio.sleep(10)
                await subscribed(connect, venue)
        plain.step(5)
        venue.step(5)
        assert plain.books() == venue.books()


# For a while


async def test_a_stalled_token_is_silent_in_its_session_until_another_one(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    token, complement = venue.tokens
    client = await subscribed(connect, venue)
    record = venue.inject("token_stall", token=token, seconds=20)
    assert record.tokens == (token,)
    venue.step(20)
    assert tokens_of(await client.messages()) == {complement}
    await client.operate("unsubscribe", venue.tokens)
    await client.operate("subscribe", venue.tokens)
    assert await client.books() == [complement], "its first book is lost, too"
    venue.step(20)
    assert tokens_of(await client.messages()) == {complement}
    fresh = await subscribed(connect, venue)
    venue.step(20)
    assert tokens_of(await fresh.messages()) == {token, complement}
    assert venue.fault_log[0].hurt_in(1) == (token,)
    assert venue.fault_log[0].hurt_in(2) == ()
    await client.frames(20)
    venue.step(20)
    assert tokens_of(await client.messages()) == {token, complement}


async def test_a_mirrored_side_is_missing_from_changes_alone(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    client = await subscribed(connect, venue)
    record = venue.inject("mirror", seconds=20)
    assert record.token in venue.tokens
    venue.step(60)
    messages = await client.messages()
    changes = [message for message in messages if message["event_type"] == "price_change"]
    assert tokens_of(changes) == set(venue.tokens) - {record.token}
    assert all(len(message["price_changes"]) == 1 for message in changes)
    rest = [message for message in messages if message["event_type"] != "price_change"]
    assert record.token in tokens_of(rest)
    (record,) = venue.fault_log
    assert record.hurt == record.tokens


@pytest.mark.parametrize("kind", ["token_stall", "mirror"])
async def test_a_token_is_chosen_from_the_session_s_own(
    autojump_clock: object, connect: Connect, kind: str
) -> None:
    venue = make_venue(markets=4)
    client = await connect(venue)
    await client.subscribe_first(["1", venue.tokens[5]])
    await client.books()
    assert venue.inject(kind).token == venue.tokens[5]
    with pytest.raises(NoTarget):
        venue.inject(kind, session=1, token=venue.tokens[0])
    await client.operate("unsubscribe", venue.tokens)
    await client.frames()
    with pytest.raises(NoTarget, match="with a book"):
        venue.inject(kind)


async def test_unknown_words_come_for_a_while_and_hurt_nobody(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(markets=1)
    client = await subscribed(connect, venue)
    venue.inject("unknown_fields", seconds=5)
    expected = [json.loads(text) for text in said_to(venue, venue.tokens, 60)]
    messages = await client.messages()
    flat = [part for message in messages for part in messages_in(message)]
    kinds = {message["event_type"] for message in flat}
    assert len(kinds - {message["event_type"] for message in expected}) >= 2
    assert len(flat) > len(expected)
    assert any(isinstance(message, list) for message in messages)
    known = [message for message in flat if message["event_type"] in ("book", "price_change")]
    originals = [m for m in expected if m["event_type"] in ("book", "price_change")]
    assert [m.get("hash") for m in known] == [m.get("hash") for m in originals]
    assert sum(map(len, known)) > sum(map(len, originals))
    (record,) = venue.fault_log
    assert (record.struck, record.hurt) == (trio.current_time() - SOON, ())
    await client.frames(5)
    expected_frames = said_to(venue, venue.tokens)
    assert await client.frames() == expected_frames


# At once


async def test_an_oversized_frame_is_one_unknown_event(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(oversize_bytes=200_000)
    client = await subscribed(connect, venue)
    record = venue.inject("oversize", seconds=9)
    assert (record.struck, record.ended, record.seconds) == (record.started, record.started, 0.0)
    expected = said_to(venue, venue.tokens)
    oversize, *frames = await client.frames()
    assert len(oversize) == 200_000
    assert json.loads(oversize)["event_type"] == "oversize"
    assert frames == expected, "what follows is whole"


async def test_a_client_with_a_smaller_limit_ends_the_connection(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    venue = make_venue(oversize_bytes=200_000)
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(venue.serve_stream, theirs)
    client = await open_client(nursery, ours, max_message_size=100_000)
    await client.subscribe_first(venue.tokens)
    await client.books()
    venue.inject("oversize")
    assert (await client.close_code())[0] == 1009
    await trio.sleep(10)
    assert venue.sessions == {}


async def test_a_slow_session_gets_an_oversized_frame_slowly_and_pongs_after_it(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(oversize_bytes=2**16)
    client = await subscribed(connect, venue)
    venue.inject("slow", seconds=3)
    venue.inject("oversize")
    await client.send("PING")
    assert await client.frames(2.9) == []
    oversize, pong = await client.frames(0.2)
    assert (len(oversize), pong) == (2**16, "PONG")


def test_an_oversized_frame_has_a_least_size() -> None:
    with pytest.raises(ValueError, match="65536"):
        make_venue(oversize_bytes=1000)


# The clock


async def test_a_skewed_clock_runs_ahead_then_stands_still_and_never_goes_back(
    autojump_clock: object,
) -> None:
    venue = make_venue(now_ms=lambda: 1_000_000 + round(trio.current_time() * 1000))
    start = trio.current_time()
    skew_ms = exchange.CLOCK_SKEW_MS
    record = venue.inject("clock_skew", seconds=4)
    assert (record.struck, record.tokens, record.session) == (record.started, (), None)
    shown: list[tuple[float, int]] = []
    for _ in range(150):
        before, real = venue.timestamp_ms(), 1_000_000 + round(trio.current_time() * 1000)
        shown.append((trio.current_time() - start, venue.timestamp_ms() - real))
        venue.step()
        assert venue.timestamp_ms() >= before
        await trio.sleep(0.1)
    assert {ahead for at, ahead in shown if at < 3.9} == {skew_ms}
    after = [ahead for at, ahead in shown if 4.1 < at < 8.8]
    assert after == sorted(after, reverse=True)
    assert all(ahead > 0 for ahead in after)
    assert {ahead for at, ahead in shown if at > 9.1} == {0}


async def test_while_the_clock_stands_still_many_steps_share_a_millisecond(
    autojump_clock: object, connect: Connect
) -> None:
    venue = make_venue(now_ms=lambda: round(trio.current_time() * 1000))
    client = await subscribed(connect, venue)
    venue.inject("clock_skew", seconds=0.5)
    venue.step()
    await trio.sleep(0.6)
    await client.frames()
    for _ in range(5):
        await trio.sleep(0.1)
        venue.step()
    messages = [m for m in await client.messages() if m["event_type"] == "price_change"]
    assert len({message["timestamp"] for message in messages}) == 1
    assert len({entry["hash"] for m in messages for entry in m["price_changes"]}) >= 8


# The log


async def test_the_log_keeps_the_newest_faults_and_an_older_one_is_over(
    autojump_clock: object, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyactors.venue.injection.FAULT_LOG_MAX", 3)
    venue = make_venue()
    client = await subscribed(connect, venue)
    for seconds in range(1, 6):
        venue.inject("stall", seconds=100.0 * seconds)
    assert [record.id for record in venue.fault_log] == [3, 4, 5]
    for _ in range(3):
        venue.inject("clock_skew")
    venue.step()
    assert await client.frames() != [], "no stall is left"


def test_after_the_run_every_fault_in_the_log_is_over() -> None:
    venue = make_venue()

    async def main() -> None:
        venue.inject("stale_rest", seconds=1000)

    trio.run(main)
    (record,) = venue.fault_log
    assert record.ended == record.started + 1000
    assert venue.active_faults == []
