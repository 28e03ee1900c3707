"""`top-bridge` with the real service; its clients come over streams in memory, or by TCP."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    open_websocket_url,
    wrap_client_stream,
)

from polyactors import ActorContext, UsageError, actor_spec
from polyactors.examples.bridge import TRY_AGAIN_LATER, TopBridge
from polyactors.testing import Stage, stage

Tops = dict[str, dict[str, Any]]


class Kept(TopBridge):
    """Can be reached by the test."""

    now: TopBridge

    async def setup(self, context: ActorContext) -> None:
        Kept.now = self
        await super().setup(context)


@asynccontextmanager
async def client() -> AsyncGenerator[WebSocketConnection, None]:
    """One who listens, over a stream that holds nothing: what nobody reads is not sent."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Kept.now.serve, theirs)
        stream = cast("trio.SocketStream", ours)  # any stream will do
        yield await wrap_client_stream(nursery, stream, "bridge", "/")
        nursery.cancel_scope.cancel()


async def catch_up(connection: WebSocketConnection, tops: Tops, seconds: float = 1.0) -> int:
    """Take what comes; returns how many arrays that were."""
    count = 0
    with trio.move_on_after(seconds):
        while True:
            for top in json.loads(await connection.get_message()):
                tops[top["token"]] = top
            count += 1
    return count


def assert_right(tops: Tops, play: Stage) -> None:
    assert tops.keys() == set(play.tokens)
    for token, top in tops.items():
        book = play.book(token)
        assert top["state"] == "LIVE"
        assert book.best_bid is not None
        assert book.best_ask is not None
        assert (top["bid"], top["bid_size"]) == (str(book.best_bid.price), str(book.best_bid.size))
        assert (top["ask"], top["ask_size"]) == (str(book.best_ask.price), str(book.best_ask.size))


async def test_all_tops_at_first_and_changes_then(autojump_clock: MockClock) -> None:
    async with stage(Kept, markets=2) as play:
        play.quote(play.yes, "0.40", "0.42", size=7)
        await play.settle()
        async with client() as connection:
            tops: Tops = {}
            assert await catch_up(connection, tops) == 1
            assert_right(tops, play)
            play.quote(play.yes, "0.45", "0.47", size=9)
            assert await catch_up(connection, tops) >= 1
            assert tops[play.yes]["bid"] == "0.45"
            assert tops[play.yes]["ask_size"] == "9"
            assert_right(tops, play)


async def test_what_is_not_live_has_no_prices(autojump_clock: MockClock) -> None:
    async with stage(Kept) as play, client() as connection:
        tops: Tops = {}
        await catch_up(connection, tops)
        play.venue.inject("refuse", seconds=20.0)
        await catch_up(connection, tops)
        for top in tops.values():
            assert (top["state"], top["reason"]) == ("STALE", "disconnected")
            assert top["bid"] is top["ask"] is top["bid_size"] is None
        await catch_up(connection, tops, 60.0)
        assert_right(tops, play)


async def test_a_slow_client_gets_the_newest_and_nothing_between(
    autojump_clock: MockClock,
) -> None:
    async with stage(Kept) as play, client() as connection, client() as other:
        tops: Tops = {}
        await catch_up(connection, tops)
        for number in range(30):
            play.quote(play.yes, f"0.{number + 20}", "0.90")
            await play.settle(0.1)
        fast: Tops = {}
        assert await catch_up(other, fast) < 30, "nobody read meanwhile"
        await catch_up(connection, tops)
        assert tops[play.yes]["bid"] == fast[play.yes]["bid"] == "0.49"


async def test_who_takes_nothing_is_let_go_and_the_others_notice_nothing(
    autojump_clock: MockClock,
) -> None:
    async with stage(Kept, options={"stall_seconds": 5.0}) as play, client() as good, client():
        tops: Tops = {}
        await catch_up(good, tops)
        for _ in range(4):
            play.quote(play.yes, "0.40", "0.42")
            await play.settle(3.0)
            play.quote(play.yes, "0.43", "0.47")
            await play.settle(3.0)
        await catch_up(good, tops)
        assert tops[play.yes]["bid"] == "0.43"
        status = play.status("kept")
        assert status.metrics["clients"] == 1
        assert status.metrics["clients_lost"] == 1
        assert status.incarnation == 1


async def test_there_are_no_more_clients_than_allowed(autojump_clock: MockClock) -> None:
    async with stage(Kept, options={"clients_max": 1}) as play:
        async with client() as first:
            await first.get_message()
            async with client() as second:
                with pytest.raises(ConnectionClosed) as closed:
                    await second.get_message()
                assert closed.value.reason is not None
                assert closed.value.reason.code == TRY_AGAIN_LATER
        await play.settle()
        async with client() as third:
            assert await third.get_message()


async def test_what_clients_say_is_thrown_away(autojump_clock: MockClock) -> None:
    async with stage(Kept) as play:
        async with client() as connection:
            for _ in range(100):
                await connection.send_message("hello")
            with pytest.raises(ConnectionClosed) as closed:
                await connection.send_message("x" * 10_000)
                await catch_up(connection, {})
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1009
        assert play.status("kept").incarnation == 1


async def test_garbage_instead_of_a_handshake_hurts_nobody(autojump_clock: MockClock) -> None:
    async with stage(Kept) as play:
        for garbage in (b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", b""):
            ours, theirs = trio.testing.memory_stream_pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Kept.now.serve, theirs)
                await ours.send_all(garbage)
                await play.settle(20.0)
                await ours.aclose()
        status = play.status("kept")
        assert (status.incarnation, status.state) == (1, "running")


async def test_it_listens_on_a_socket_and_says_where() -> None:
    """On the real clock: a socket wakes no virtual one."""
    async with stage(TopBridge) as play:
        await play.settle(0.01)
        (told,) = play.named("bridge_listening")
        url = f"ws://{told['host']}:{told['port']}"
        assert play.status("top-bridge").lines == (url,)
        with trio.fail_after(10):
            async with open_websocket_url(url) as connection:
                tops = json.loads(await connection.get_message())
        assert {top["token"] for top in tops} == set(play.tokens)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": "0.0.0.0"}, "set public = true"),
        ({"port": 70_000}, "port"),
        ({"clients_max": 0}, "clients_max"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        actor_spec(TopBridge, options=options)


def test_others_than_this_machine_may_come_when_it_is_said() -> None:
    actor_spec(TopBridge, options={"host": "0.0.0.0", "public": True})
