"""The WebSocket without any private name: what it cannot say, and that the service runs on it."""

import pytest
import trio
import trio.testing
from tests.actors.running import Play
from tests.actors.scripted_server import (
    Act,
    ScriptedServer,
    Visit,
    answer,
    close_with,
    deaf,
    drop_after_dump,
    frame_bytes,
    hang_up,
    refuse,
    say_nothing,
    serve,
    write_after_dump,
)

from polyactors.errors import SessionFailed
from polyactors.plain_websocket import PlainWebSocket
from polyactors.transport import Network, Target, connect_websocket
from polyactors.websocket import CLOSE_DEADLINE_SECONDS, WebSocket

TARGET = Target.parse("ws://market.test/ws/market")
CONNECT_TIMEOUT_SECONDS = 10.0


@pytest.fixture(autouse=True)
def unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyactors.transport.missing_names", lambda: ["WebSocketConnection._x"])


async def connect(nursery: trio.Nursery, server: ScriptedServer) -> WebSocket:
    return await connect_websocket(
        nursery,
        Network(server.open_stream),
        TARGET,
        connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS,
        send_timeout_seconds=5.0,
        frame_bytes_max=1000,
    )


async def test_it_is_used_when_a_private_name_is_missing_and_a_warning_says_so(
    nursery: trio.Nursery, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(visit: Visit) -> None:
        await visit.upgrade()
        await visit.send("hello", "again")
        await visit.websocket.ping(b"are you there?")
        await visit.send("echo " + await visit.receive())
        await visit.receive()

    server = ScriptedServer(nursery, echo)
    websocket = await connect(nursery, server)
    assert isinstance(websocket, PlainWebSocket)
    (said,) = caplog.messages
    assert "unknown version" in said
    assert "WebSocketConnection._x" in said
    await websocket.send("PING")
    received = [await websocket.receive_batch() for _ in range(3)]
    assert received == [["hello"], ["again"], ["echo PING"]]
    await websocket.aclose(politely=True)
    await trio.testing.wait_all_tasks_blocked()
    assert server.visits[0].close_code == 1000
    assert websocket.unreadable is None


@pytest.mark.parametrize(
    ("act", "reason", "words", "seconds"),
    [
        (hang_up, "reset", "10 s", CONNECT_TIMEOUT_SECONDS),
        (say_nothing, "reset", "10 s", CONNECT_TIMEOUT_SECONDS),
        (refuse(429, b"slow down"), "handshake_429", "429", 0.0),
        (refuse(301), "handshake_301", "301", 0.0),
        (answer(b"\x00\x01 nonsense\r\n\r\n"), "unreadable", "Bad HTTP message", 0.0),
    ],
)
async def test_an_upgrade_that_fails_says_why(
    nursery: trio.Nursery,
    autojump_clock: object,
    act: Act,
    reason: str,
    words: str,
    seconds: float,
) -> None:
    server = ScriptedServer(nursery, act)
    with pytest.raises(SessionFailed) as caught:
        await connect(nursery, server)
    assert caught.value.reason == reason
    assert words in caught.value.detail
    assert trio.current_time() == seconds
    await trio.testing.wait_all_tasks_blocked()
    assert len(nursery.child_tasks) <= 1, "the reader outlived the failed connect"


async def test_a_close_ends_within_its_deadline(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    websocket = await connect(nursery, ScriptedServer(nursery, deaf))
    await websocket.aclose(politely=True)
    assert trio.current_time() <= CLOSE_DEADLINE_SECONDS


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (drop_after_dump, "reset"),
        (close_with(b"\x03\xf0"), "closed_1008"),
        (write_after_dump(frame_bytes(0x1, b"\xff")), "closed_1007"),
        (write_after_dump(frame_bytes(0x3)), "closed_1002"),
        (write_after_dump(frame_bytes(0x1, b"x" * 20_000)), "closed_1009"),
    ],
    ids=["drop", "close", "no UTF-8", "opcode", "too large"],
)
async def test_the_whole_service_runs_on_it_and_heals(
    play: Play, autojump_clock: object, act: Act, reason: str
) -> None:
    async with play(act, serve(), frame_bytes_max=10_000) as run:
        await run.until(lambda: run.downs)
        assert run.downs == [reason]
        await run.all_live()
        await trio.sleep(30.0)  # with heartbeats
        await run.check_books()
        assert run.downs == [reason]
