"""A plain client of the venue without a socket: what open_websocket_url would do, it does."""

import json

import pytest
import trio
import trio_websocket

from polyactors.venue import FaultKind, Venue
from polyactors.venue.memory import CLOSE_SECONDS, memory_websocket


async def test_both_channels_are_served(autojump_clock: object) -> None:
    venue = Venue(markets=1)
    async with memory_websocket(venue) as websocket:
        await websocket.send_message(json.dumps({"assets_ids": venue.tokens, "type": "market"}))
        books = json.loads(await websocket.get_message())
        assert [book["asset_id"] for book in books] == venue.tokens
        async with memory_websocket(venue, "user"):
            assert len(venue.accounts.sessions) == 1
        assert not venue.accounts.sessions
        assert len(venue.sessions) == 1
    assert not venue.sessions


async def test_the_largest_dump_is_one_message(autojump_clock: object) -> None:
    venue = Venue(markets=500)
    async with memory_websocket(venue) as websocket:
        await websocket.send_message(json.dumps({"assets_ids": venue.tokens, "type": "market"}))
        frame = await websocket.get_message()
        assert len(frame) > 2**20  # what trio-websocket takes unless told otherwise


async def test_how_the_venue_ends_it_comes_as_it_is(autojump_clock: object) -> None:
    async def ping_first() -> None:
        async with memory_websocket(Venue(markets=1)) as websocket:
            await websocket.send_message("PING")
            await websocket.get_message()

    with pytest.raises(trio_websocket.ConnectionClosed) as caught:
        await ping_first()
    assert caught.value.reason is not None
    assert caught.value.reason.code == 1008


async def test_a_refused_handshake_comes_as_it_is(autojump_clock: object) -> None:
    venue = Venue(markets=1)
    venue.inject(FaultKind.REFUSE, seconds=1)
    with pytest.raises(trio_websocket.ConnectionRejected) as caught:
        async with memory_websocket(venue):
            raise AssertionError("not connected")
    assert caught.value.status_code == 429


async def test_an_error_of_the_block_comes_as_it_is(autojump_clock: object) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with memory_websocket(Venue(markets=1)):
            raise ValueError("mine")


async def test_cancelled_it_is_closed_in_time(autojump_clock: object) -> None:
    venue = Venue(markets=1, rate=0)
    began = trio.current_time()
    with trio.move_on_after(5) as scope:
        async with memory_websocket(venue) as websocket:
            await websocket.send_message(json.dumps({"assets_ids": [], "type": "market"}))
            await websocket.get_message()
    assert scope.cancelled_caught
    assert trio.current_time() - began <= 5 + CLOSE_SECONDS
    assert not venue.sessions
