"""The venue on real loopback sockets: few tests, for what memory streams cannot show."""

import json
import socket
from functools import partial

import httpx2
import pytest
import trio
import trio_websocket

from polyactors.venue import Endpoints, ListenFailed, Venue, serve_venue


async def start(nursery: trio.Nursery, venue: Venue) -> Endpoints:
    endpoints = await nursery.start(partial(serve_venue, venue))
    assert isinstance(endpoints, Endpoints)
    return endpoints


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


async def test_both_sides_are_served_where_the_endpoints_say(nursery: trio.Nursery) -> None:
    venue = Venue(seed=1, markets=2, rate=200)
    await nursery.start(venue.run)
    endpoints = await start(nursery, venue)
    async with (
        httpx2.AsyncClient() as rest,
        trio_websocket.open_websocket_url(f"{endpoints.ws_url}/market") as channel,
    ):
        await channel.send_message(json.dumps({"assets_ids": venue.tokens, "type": "market"}))
        (first, *_) = json.loads(await channel.get_message())
        assert first["asset_id"] == venue.tokens[0]
        assert json.loads(await channel.get_message())["event_type"]
        await rest.post(f"{endpoints.clob_url}/venue/pause")
        oracle = (await rest.get(f"{endpoints.clob_url}/venue/books")).json()
        assert oracle == venue.books()
        book = await rest.get(f"{endpoints.clob_url}/book", params={"token_id": venue.tokens[1]})
        assert book.json() == oracle[venue.tokens[1]]
        page = (await rest.get(f"{endpoints.gamma_url}/markets/keyset")).json()
        assert len(page["markets"]) == 2
        (session,) = (await rest.get(f"{endpoints.clob_url}/venue/sessions")).json()
        assert session["tokens"] == venue.tokens


async def test_the_options_are_what_run_takes(nursery: trio.Nursery) -> None:
    endpoints = await start(nursery, Venue(seed=1, markets=1, rate=0))
    words = endpoints.as_options().split()
    assert words[::2] == ["--ws-url", "--clob-url", "--gamma-url"]
    assert words[1] == f"ws://127.0.0.1:{port_of(endpoints.ws_url)}/ws"
    assert words[5] == f"http://127.0.0.1:{port_of(endpoints.clob_url)}/gamma"


async def test_a_reset_is_a_tcp_reset(nursery: trio.Nursery) -> None:
    venue = Venue(seed=1, markets=1, rate=0)
    endpoints = await start(nursery, venue)
    stream = await trio.open_tcp_stream("127.0.0.1", port_of(endpoints.ws_url))
    async with stream, trio.open_nursery() as client_nursery:
        channel = await trio_websocket.wrap_client_stream(
            client_nursery, stream, "venue", "/ws/market"
        )
        await channel.send_message(json.dumps({"assets_ids": venue.tokens, "type": "market"}))
        await channel.get_message()
        client_nursery.cancel_scope.cancel()
    async with await trio.open_tcp_stream("127.0.0.1", port_of(endpoints.ws_url)) as raw:
        await raw.send_all(
            b"GET /ws/market HTTP/1.1\r\nHost: venue\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert b" 101 " in await raw.receive_some()
        session = max(venue.sessions)
        venue.inject("reset", session=session)
        with pytest.raises(trio.BrokenResourceError) as caught, trio.fail_after(5):
            await raw.receive_some()
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_cancelling_is_prompt_with_clients_on_both_sides() -> None:
    venue = Venue(seed=1, markets=1, rate=500)
    async with httpx2.AsyncClient() as rest:
        async with trio.open_nursery() as nursery:
            await nursery.start(venue.run)
            endpoints = await start(nursery, venue)
            await rest.get(f"{endpoints.clob_url}/time")
            raw = await trio.open_tcp_stream("127.0.0.1", port_of(endpoints.ws_url))
            await raw.send_all(b"GET /ws/market HTTP/1.1\r\n")
            idle = await trio.open_tcp_stream("127.0.0.1", port_of(endpoints.clob_url))
            await trio.sleep(0.1)
            started_at = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - started_at < 1.5
        async with raw, idle:
            assert await raw.receive_some() == b""
            assert await idle.receive_some() == b""
    assert venue.sessions == {}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel must cut it off")
async def test_a_rest_client_that_reads_nothing_does_not_hold_up_the_shutdown() -> None:
    venue = Venue(seed=1, markets=1, rate=0)
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            endpoints = await start(nursery, venue)
            unread = await trio.open_tcp_stream("127.0.0.1", port_of(endpoints.clob_url))
            outer.start_soon(close_later, unread)
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            body = json.dumps([{"token_id": venue.tokens[0]}] * 500).encode()
            head = f"POST /books HTTP/1.1\r\nHost: venue\r\nContent-Length: {len(body)}\r\n\r\n"
            with trio.move_on_after(0.5):
                for _ in range(4):
                    await unread.send_all(head.encode() + body)
                await trio.sleep_forever()
            started_at = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - started_at < 2.5
        outer.cancel_scope.cancel()


async def close_later(stream: trio.SocketStream) -> None:
    """Close it at the end of the test, or when only that would free a server that hangs."""
    async with stream:
        await trio.sleep(4)


async def test_a_client_that_goes_in_mid_request_is_no_error(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    endpoints = await start(nursery, Venue(seed=1, markets=1, rate=0))
    async with await trio.open_tcp_stream("127.0.0.1", port_of(endpoints.clob_url)) as stream:
        await stream.send_all(b"POST /books HTTP/1.1\r\nHost: venue\r\nContent-Length: 9\r\n\r\n[")
    async with httpx2.AsyncClient() as rest:
        assert (await rest.get(f"{endpoints.clob_url}/time")).status_code == 200
    assert capfd.readouterr().err == ""


async def test_a_taken_port_is_one_clear_sentence_and_leaves_nothing_open() -> None:
    venue = Venue(seed=1, markets=1, rate=0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with pytest.raises(ListenFailed, match=f"127.0.0.1:{port}: the port is in use") as caught:
            await serve_venue(venue, rest_port=port)
        assert caught.value.port == port
        with pytest.raises(ListenFailed):
            await serve_venue(venue, port=port)


async def test_an_address_of_another_machine_is_one_clear_sentence() -> None:
    with pytest.raises(ListenFailed, match=r"cannot listen on 192\.0\.2\.1:0: "):
        await serve_venue(Venue(seed=1, markets=1, rate=0), host="192.0.2.1")


async def test_an_oversized_frame_ends_a_client_with_the_usual_limit(
    nursery: trio.Nursery,
) -> None:
    venue = Venue(seed=1, markets=1, rate=0)
    endpoints = await start(nursery, venue)
    stream = await trio.open_tcp_stream("127.0.0.1", port_of(endpoints.ws_url))
    async with trio.open_nursery() as client_nursery:
        channel = await trio_websocket.wrap_client_stream(
            client_nursery, stream, "venue", "/ws/market", max_message_size=64 * 2**20
        )
        await channel.send_message(json.dumps({"assets_ids": venue.tokens, "type": "market"}))
        await channel.get_message()
        venue.inject("oversize")
        with trio.fail_after(20), pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await channel.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1009
        await trio.aclose_forcefully(stream)
        client_nursery.cancel_scope.cancel()
    with trio.fail_after(3):
        while venue.sessions:  # noqa: ASYNC110 - bounded
            await trio.sleep(0.01)


async def test_silent_requests_hold_no_shutdown_up() -> None:
    venue = Venue(seed=1, markets=1, rate=0)
    async with trio.open_nursery() as nursery:
        endpoints = await start(nursery, venue)
        port = port_of(endpoints.clob_url)
        venue.inject("rest_error", variant="silent", seconds=3600)
        gone, waiting = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        for stream in (gone, waiting):
            await stream.send_all(b"GET /time HTTP/1.1\r\nHost: venue\r\n\r\n")
        with trio.move_on_after(0.1) as scope:
            await waiting.receive_some()
        assert scope.cancelled_caught
        await gone.aclose()
        async with httpx2.AsyncClient() as client:
            faults = (await client.get(f"{endpoints.clob_url}/venue/faults")).json()
        assert [record["kind"] for record in faults["active"]] == ["rest_error"]
        assert faults["active"][0]["struck"] is not None
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 2.0
    await waiting.aclose()
