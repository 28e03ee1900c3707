"""What faults do to a client of the market channel, over memory streams on virtual time."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
from tests.actors.venue.client import Connect, refusal, subscribed, tokens_of

from polyactors.venue import FaultKind, FaultRecord, NoTarget, Venue


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


@pytest.mark.parametrize("kind", ["reset", "stall", "garbage", "slow"])
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
    ],
)
async def test_a_fault_that_makes_no_sense_is_an_error(
    autojump_clock: object, connect: Connect, arguments: dict[str, Any]
) -> None:
    venue = make_venue()
    await subscribed(connect, venue)
    with pytest.raises(ValueError, match=r"earthquake|token|seconds|bananas"):
        venue.inject(**arguments)
    assert venue.fault_log == ()
