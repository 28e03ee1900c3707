"""An open WebSocket: what is received of it, and what becomes of it, over streams in memory."""

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from importlib.metadata import version

import pytest
import trio
import trio.testing
import trio_websocket
import wsproto.connection
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from tests.actors.scripted_server import (
    Act,
    ScriptedServer,
    Visit,
    deaf,
    frame_bytes,
    hang_up,
    say_nothing,
)
from tests.properties.test_splitter_equals_wsproto import cut, without_position
from tests.properties.wire_frames import LIMITS, STREAMS
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, Event, Request

from polyactors.config import Settings
from polyactors.errors import SessionFailed
from polyactors.framing import Framing
from polyactors.protocol.events import Unreadable
from polyactors.pulled_websocket import PulledWebSocket, missing_names
from polyactors.transport import Network, StreamOpener, Target, connect_websocket
from polyactors.websocket import (
    CLOSE_DEADLINE_SECONDS,
    FRAMES_PER_BATCH_MAX,
    RECEIVE_BYTES,
    WebSocket,
)

TARGET = Target.parse("ws://market.test/ws/market")
SEND_TIMEOUT_SECONDS = 5.0
FRAME_BYTES_MAX = 1000


async def connect(
    nursery: trio.Nursery, opener: StreamOpener, *, frame_bytes_max: int = FRAME_BYTES_MAX
) -> WebSocket:
    return await connect_websocket(
        nursery,
        Network(opener),
        TARGET,
        connect_timeout_seconds=10.0,
        send_timeout_seconds=SEND_TIMEOUT_SECONDS,
        frame_bytes_max=frame_bytes_max,
    )


def say(texts: Sequence[str], then: Act = say_nothing) -> Act:
    async def act(visit: Visit) -> None:
        await visit.upgrade()
        await visit.send(*texts)
        await then(visit)

    return act


def write(*chunks: bytes, then: Act = say_nothing) -> Act:
    """Upgrade and write these bytes, each when the client has read what came before."""

    async def act(visit: Visit) -> None:
        await visit.upgrade_by_hand()
        for chunk in chunks:
            await trio.testing.wait_all_tasks_blocked()
            await visit.raw(chunk)
        await then(visit)

    return act


def text_frames(*texts: str) -> bytes:
    return b"".join(frame_bytes(0x1, text.encode()) for text in texts)


async def receive_all(websocket: WebSocket) -> tuple[list[str | bytes], SessionFailed]:
    received: list[str | bytes] = []
    while True:
        try:
            received += await websocket.receive_batch()
        except SessionFailed as failure:
            return received, failure


# --- what of the libraries is private ---------------------------------------------------------


def test_the_libraries_are_those_whose_private_names_were_read() -> None:
    assert version("trio-websocket").startswith("0.12.")
    assert version("wsproto").startswith("1.3.")


async def test_the_private_names_of_trio_websocket_are_what_they_are_taken_for() -> None:
    stream, peer = trio.testing.memory_stream_pair()
    protocol = Framing()
    connection = trio_websocket.WebSocketConnection(
        stream,  # type: ignore[arg-type,unused-ignore]
        protocol,
        host="h",
        path="/",
        max_message_size=4,
    )
    assert isinstance(vars(connection)["_send_channel"], trio.MemorySendChannel)
    methods = {
        "_handle_message_event": ["self", "event"],
        "_handle_close_connection_event": ["self", "event"],
        "_abort_web_socket": ["self"],
    }
    for name, parameters in methods.items():
        method = getattr(trio_websocket.WebSocketConnection, name)
        assert inspect.iscoroutinefunction(method), name
        assert list(inspect.signature(method).parameters) == parameters, name
    # All that is used of the channel is in _Kept.
    source = inspect.getsource(trio_websocket.WebSocketConnection)
    assert source.count("self._send_channel") == 4
    for use in ("self._send_channel.send(msg)", "self._send_channel.aclose()"):
        assert use in source
    await peer.aclose()


def test_no_private_name_is_missing() -> None:
    assert missing_names() == []


@pytest.mark.parametrize(
    "name", ["_handle_message_event", "_handle_close_connection_event", "_abort_web_socket"]
)
def test_a_missing_private_name_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(trio_websocket.WebSocketConnection, name)
    assert missing_names() == [f"WebSocketConnection.{name}"]


def test_a_missing_private_name_of_wsproto_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def __init__(self, client: bool, extensions: object) -> None: ...

        def receive_bytes(self, data: bytes) -> None: ...

    monkeypatch.setattr(wsproto.connection, "FrameProtocol", Other)
    assert missing_names() == ["wsproto.frame_protocol.FrameProtocol._frame_decoder"]


# --- as trio-websocket itself has it ----------------------------------------------------------


class StockFraming(Framing):
    """Tells of nothing that stands behind what we close by 1009: the stock reader falls over it."""

    def events(self) -> Generator[Event, None, None]:
        for event in super().events():
            yield event
            if self.state is ConnectionState.LOCAL_CLOSING:
                return


class StockWebSocket(WebSocket):
    """Read by trio-websocket's own reader task, each frame by wsproto."""

    def __init__(self, stream: trio.abc.Stream, frame_bytes_max: int) -> None:
        super().__init__(stream, send_timeout_seconds=SEND_TIMEOUT_SECONDS)
        self._framing = StockFraming()
        self._connection = trio_websocket.WebSocketConnection(
            stream,  # type: ignore[arg-type,unused-ignore]
            self._framing,
            host=TARGET.host,
            path=TARGET.resource,
            max_message_size=frame_bytes_max,
            receive_buffer_size=RECEIVE_BYTES,
        )

    async def upgrade(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._connection._reader_task)  # pyright: ignore[reportPrivateUsage]
        await self._connection._open_handshake.wait()  # pyright: ignore[reportPrivateUsage]

    async def receive_batch(self) -> list[str | bytes]:
        try:
            return [await self._connection.get_message()]
        except trio_websocket.ConnectionClosed:
            raise self._failure() from None


@frozen
class Told:
    """All that becomes of a connection, for us and for the server."""

    messages: list[str | bytes]
    reason: str
    detail: str | None
    unreadable: Unreadable | None
    sent: list[str]


def told_by(pulled: bool, chunks: Sequence[bytes], frame_bytes_max: int) -> Told:
    """What is told of a server that sends these bytes behind its answer, and hangs up."""

    async def serve(stream: trio.abc.Stream, sent: list[str]) -> None:
        server = WSConnection(ConnectionType.SERVER)
        server.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))
        (request,) = server.events()
        assert isinstance(request, Request)
        await stream.send_all(server.send(AcceptConnection()) + chunks[0])
        with suppress(trio.BrokenResourceError):  # the client has closed already
            for chunk in chunks[1:]:
                await trio.testing.wait_all_tasks_blocked()
                if chunk:
                    await stream.send_all(chunk)
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_eof()  # type: ignore[attr-defined]
        while data := await stream.receive_some(RECEIVE_BYTES):
            server.receive_data(bytes(data))
            sent.extend(map(repr, server.events()))

    async def run() -> Told:
        ours, theirs = trio.testing.memory_stream_pair()
        sent: list[str] = []
        websocket: PulledWebSocket | StockWebSocket
        if pulled:
            websocket = PulledWebSocket(
                ours,
                TARGET.host,
                TARGET.resource,
                frame_bytes_max=frame_bytes_max,
                send_timeout_seconds=SEND_TIMEOUT_SECONDS,
            )
        else:
            websocket = StockWebSocket(ours, frame_bytes_max)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, theirs, sent)
            await websocket.upgrade(nursery)
            messages, failure = await receive_all(websocket)
            unreadable = websocket.unreadable
            await websocket.aclose(politely=False)
        if unreadable is not None:
            why = without_position(unreadable.why)
            assert why is not None
            unreadable = Unreadable(why, unreadable.excerpt)
        return Told(messages, failure.reason, without_position(failure.detail), unreadable, sent)

    return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.0))


@given(STREAMS, st.lists(st.integers(0, 300), max_size=6), st.sampled_from(LIMITS))
def test_whatever_a_server_sends_is_told_as_with_the_stock_reader(
    frames: list[bytes], sizes: list[int], frame_bytes_max: int
) -> None:
    chunks = cut(b"".join(frames), sizes)
    assert told_by(True, chunks, frame_bytes_max) == told_by(False, chunks, frame_bytes_max)


# --- batches ----------------------------------------------------------------------------------


class CountedStream(trio.abc.Stream):
    """Counts how often it is read."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.reads = 0
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.reads += 1
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_one_read_of_the_socket_is_one_list(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    texts = [str(number) for number in range(900)]
    streams: list[CountedStream] = []

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        streams.append(CountedStream(await server.open_stream(host, port, tls)))
        return streams[0]

    server = ScriptedServer(nursery, write(text_frames(*texts)))
    websocket = await connect(nursery, open_stream)
    await trio.testing.wait_all_tasks_blocked()
    reads = streams[0].reads
    await trio.sleep(10.0)
    assert streams[0].reads == reads, "who does not receive does not read"
    assert await websocket.receive_batch() == texts
    assert streams[0].reads == reads + 1
    assert len(nursery.child_tasks) == 1, "no task but the server's"


async def test_what_came_with_the_upgrade_is_received(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def act(visit: Visit) -> None:
        await visit.upgrade_by_hand(text_frames("one", "two") + frame_bytes(0x1, b"three")[:3])
        await trio.testing.wait_all_tasks_blocked()
        await visit.raw(frame_bytes(0x1, b"three")[3:])
        await trio.sleep_forever()

    server = ScriptedServer(nursery, act)
    websocket = await connect(nursery, server.open_stream)
    assert await websocket.receive_batch() == ["one", "two"]
    assert await websocket.receive_batch() == ["three"]


async def test_more_than_a_batch_is_handed_out_in_several_and_lets_others_run(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    texts = [str(number) for number in range(3 * FRAMES_PER_BATCH_MAX)]
    server = ScriptedServer(nursery, write(text_frames(*texts)))
    websocket = await connect(nursery, server.open_stream)
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            await trio.lowlevel.checkpoint()
            rounds += 1

    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(count)
    received: list[str | bytes] = []
    for _ in range(3):
        received += await websocket.receive_batch()
        assert len(received) % FRAMES_PER_BATCH_MAX == 0
    assert received == texts
    assert rounds >= 2, "each of three calls ends a round of all tasks"
    nursery.cancel_scope.cancel()


async def test_a_receive_that_is_cancelled_at_once_has_taken_nothing(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    texts = [str(number) for number in range(3 * FRAMES_PER_BATCH_MAX)]
    ping = frame_bytes(0x9, b"amid")
    server = ScriptedServer(nursery, write(text_frames(*texts) + ping + text_frames("last")))
    websocket = await connect(nursery, server.open_stream)
    received: list[str | bytes] = []
    while len(received) <= len(texts):
        with trio.CancelScope() as scope:
            scope.cancel()
            received += await websocket.receive_batch()
        assert scope.cancelled_caught
        received += await websocket.receive_batch()
    assert received == [*texts, "last"]


@pytest.mark.parametrize(
    "frame",
    [frame_bytes(0xA), frame_bytes(0x0, final=False), frame_bytes(0x2)],
    ids=["pongs", "parts", "binary"],
)
async def test_thousands_of_frames_in_one_read_do_not_stop_the_others(
    nursery: trio.Nursery, autojump_clock: object, frame: bytes
) -> None:
    data = frame_bytes(0x1, final=False) if frame == frame_bytes(0x0, final=False) else b""
    data += frame * 1000
    streams: list[CountedStream] = []

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        streams.append(CountedStream(await server.open_stream(host, port, tls)))
        return streams[0]

    server = ScriptedServer(nursery, write(data))
    websocket = await connect(nursery, open_stream)
    await trio.testing.wait_all_tasks_blocked()
    reads = streams[0].reads
    nursery.start_soon(receive_all, websocket)
    for _ in range(100):
        await trio.lowlevel.checkpoint()
    assert streams[0].reads == reads + 1, "it did not get through all of them in one go"
    nursery.cancel_scope.cancel()


async def test_messages_do_not_wait_for_the_answer_to_what_came_behind_them(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    data = text_frames("one") + frame_bytes(0x9, b"ping") + text_frames("two")
    server = ScriptedServer(nursery, write(data), make_pair=trio.testing.lockstep_stream_pair)
    websocket = await connect(nursery, server.open_stream)
    assert await websocket.receive_batch() == ["one"]
    with trio.move_on_after(1.0) as scope:  # the server never reads the pong
        await websocket.receive_batch()
    assert scope.cancelled_caught


async def test_a_send_goes_out_while_a_receive_waits(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def echo(visit: Visit) -> None:
        await visit.upgrade()
        while True:
            await visit.send("echo " + await visit.receive())

    server = ScriptedServer(nursery, echo)
    websocket = await connect(nursery, server.open_stream)
    batches: list[list[str | bytes]] = []

    async def receive() -> None:
        while True:
            batches.append(await websocket.receive_batch())

    nursery.start_soon(receive)
    for text in ("PING", "again"):
        await trio.testing.wait_all_tasks_blocked()
        await websocket.send(text)
    await trio.testing.wait_all_tasks_blocked()
    assert batches == [["echo PING"], ["echo again"]]
    nursery.cancel_scope.cancel()


async def test_over_tcp_everything_arrives_in_order(nursery: trio.Nursery) -> None:
    texts = [f"{number:05} " + "x" * 340 for number in range(20_000)]
    long_text = "[" + "é" * 300_000 + "]"

    async def talk(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as reader:
            request = await trio_websocket.wrap_server_stream(reader, stream)
            websocket = await request.accept()
            await stream.send_all(text_frames(*texts[:10_000]))
            await websocket.send_message(long_text)
            await websocket.ping()
            await websocket.send_message(b"binary")
            await stream.send_all(text_frames(*texts[10_000:]))
            await websocket.aclose(1001)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listeners[0].socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, talk, listeners)
    websocket = await connect_websocket(
        nursery,
        Network(),
        Target.parse(f"ws://127.0.0.1:{port}/"),
        connect_timeout_seconds=10.0,
        send_timeout_seconds=SEND_TIMEOUT_SECONDS,
        frame_bytes_max=2**20,
    )
    received, failure = await receive_all(websocket)
    assert received == [*texts[:10_000], long_text, b"binary", *texts[10_000:]]
    assert failure.reason == "closed_1001"
    await websocket.aclose(politely=True)
    nursery.cancel_scope.cancel()


# --- large frames -----------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "reason"), [(0, "closed_1000"), (1, "closed_1009")])
async def test_an_array_of_books_may_have_64_mib_by_default(
    nursery: trio.Nursery, autojump_clock: object, more: int, reason: str
) -> None:
    frame_bytes_max = Settings().frame_bytes_max
    assert frame_bytes_max == 64 * 2**20
    book = '{"event_type":"book","asset_id":"1","bids":[],"asks":[]}'
    books = "[" + ",".join([book] * (frame_bytes_max // len(book) - 1 - 2**16)) + "]"
    books += " " * (frame_bytes_max - len(books) + more)
    end = frame_bytes(0x8, b"\x03\xe8")
    server = ScriptedServer(nursery, write(frame_bytes(0x1, books.encode()) + end))
    websocket = await connect(nursery, server.open_stream, frame_bytes_max=frame_bytes_max)
    received, failure = await receive_all(websocket)
    assert failure.reason == reason
    assert [message == books for message in received] == [True] * (1 - more)


async def test_a_smaller_limit_is_one_of_all_parts_of_a_message(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    part = b"x" * (FRAME_BYTES_MAX // 2)
    data = frame_bytes(0x1, part, final=False) + frame_bytes(0x0, part)
    too_much = frame_bytes(0x1, part, final=False) + frame_bytes(0x0, part + b"x")
    server = ScriptedServer(nursery, write(data + too_much))
    websocket = await connect(nursery, server.open_stream)
    received, failure = await receive_all(websocket)
    assert received == ["x" * FRAME_BYTES_MAX]
    assert failure.reason == "closed_1009"
    assert websocket.unreadable == Unreadable(failure.detail, "x" * 200)


# --- the end ----------------------------------------------------------------------------------


async def test_messages_before_a_close_frame_are_handed_out_and_it_is_answered(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def act(visit: Visit) -> None:
        await visit.upgrade()
        await visit.send("last words")
        await visit.websocket.aclose(1001, "going")

    server = ScriptedServer(nursery, act)
    websocket = await connect(nursery, server.open_stream)
    received, failure = await receive_all(websocket)
    assert received == ["last words"]
    assert (failure.reason, failure.detail) == ("closed_1001", "going")
    await trio.testing.wait_all_tasks_blocked()
    assert server.visits[0].close_code == 1001
    with pytest.raises(SessionFailed, match="closed_1001"):
        await websocket.send("too late")
    with pytest.raises(SessionFailed, match="closed_1001"):
        await websocket.receive_batch()


async def test_a_polite_close_waits_for_the_answer_behind_whatever_comes_before(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def flood_and_answer(visit: Visit) -> None:
        await visit.upgrade()
        for _ in range(3000):
            await visit.send("x" * 100)
        await visit.raw(frame_bytes(0x9, b"a ping amid our goodbye"))
        await visit.receive()

    server = ScriptedServer(nursery, flood_and_answer)
    websocket = await connect(nursery, server.open_stream)
    await websocket.receive_batch()
    await websocket.aclose(politely=True)
    await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == 0.0
    assert server.visits[0].close_code == 1000


async def test_a_frame_too_large_amid_our_goodbye_ends_the_wait_for_an_answer(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, say(["x" * (FRAME_BYTES_MAX + 1)]))
    websocket = await connect(nursery, server.open_stream)
    await websocket.aclose(politely=True)
    assert trio.current_time() == 0.0
    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
        await server.visits[0].raw(b"still there?")


async def test_a_polite_close_answers_the_close_frame_that_it_finds_unread(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def act(visit: Visit) -> None:
        await visit.upgrade()
        await visit.send("last words")
        await visit.websocket.aclose(1001)

    server = ScriptedServer(nursery, act)
    websocket = await connect(nursery, server.open_stream)
    await trio.testing.wait_all_tasks_blocked()
    assert await websocket.receive_batch() == ["last words"]
    await websocket.aclose(politely=True)
    await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == 0.0
    assert server.visits[0].close_code in (1000, 1001)


async def test_a_close_while_another_task_receives_ends_its_receive(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def listen(visit: Visit) -> None:
        await visit.upgrade()
        await visit.receive()

    server = ScriptedServer(nursery, listen)
    websocket = await connect(nursery, server.open_stream)
    failures: list[SessionFailed] = []

    async def receive() -> None:
        failures.append((await receive_all(websocket))[1])

    nursery.start_soon(receive)
    await trio.testing.wait_all_tasks_blocked()
    await websocket.aclose(politely=True)
    await trio.testing.wait_all_tasks_blocked()
    assert server.visits[0].close_code == 1000
    assert [failure.reason for failure in failures] == ["closed_1000"]


async def test_a_send_that_was_cut_off_is_followed_by_nothing(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, deaf, make_pair=trio.testing.lockstep_stream_pair)
    websocket = await connect(nursery, server.open_stream)
    with trio.move_on_after(1.0):
        await websocket.send("half of this may have gone out")
    await websocket.aclose(politely=True)
    assert trio.current_time() == 1.0


async def test_frames_that_came_before_the_end_are_all_handed_out(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    texts = [str(number) for number in range(700)]  # more than trio-websocket buffers for us
    server = ScriptedServer(nursery, say(texts, then=hang_up))
    websocket = await connect(nursery, server.open_stream)
    received: list[str | bytes] = []
    while len(received) < len(texts):
        batch = await websocket.receive_batch()
        assert 0 < len(batch) <= FRAMES_PER_BATCH_MAX
        received += batch
    assert received == texts
    with pytest.raises(SessionFailed) as caught:
        await websocket.receive_batch()
    assert caught.value.reason == "reset"


async def test_a_cancelled_receive_has_taken_nothing(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def act(visit: Visit) -> None:
        await visit.upgrade()
        for number in range(200):
            await trio.sleep(0.01)
            await visit.send(str(number))
        await trio.sleep_forever()

    server = ScriptedServer(nursery, act)
    websocket = await connect(nursery, server.open_stream)
    received: list[str | bytes] = []
    while len(received) < 200:
        with trio.move_on_after(0.005):
            received += await websocket.receive_batch()
    assert received == [str(number) for number in range(200)]


async def test_text_and_binary_frames_and_fragments_arrive_as_they_were_sent(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def act(visit: Visit) -> None:
        await visit.upgrade()
        await visit.raw(frame_bytes(0x1, b"te", final=False))
        await visit.raw(frame_bytes(0x9, b"amid a message"))
        await visit.raw(frame_bytes(0x0, b"xt"))
        await visit.raw(frame_bytes(0x2, b"\xff\x00"))
        await visit.raw(frame_bytes(0x1))
        await trio.sleep_forever()

    server = ScriptedServer(nursery, act)
    websocket = await connect(nursery, server.open_stream)
    await trio.testing.wait_all_tasks_blocked()
    assert await websocket.receive_batch() == ["text", b"\xff\x00", ""]


async def test_a_frame_of_the_greatest_size_passes_and_one_byte_more_ends_the_connection(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, say(["x" * FRAME_BYTES_MAX, "y" * (FRAME_BYTES_MAX + 1)]))
    websocket = await connect(nursery, server.open_stream)
    assert await websocket.receive_batch() == ["x" * FRAME_BYTES_MAX]
    with pytest.raises(SessionFailed) as caught:
        await websocket.receive_batch()
    assert caught.value.reason == "closed_1009"


async def test_a_peer_that_reads_nothing_fails_the_send_after_its_timeout(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, deaf, make_pair=trio.testing.lockstep_stream_pair)
    websocket = await connect(nursery, server.open_stream)
    with pytest.raises(SessionFailed) as caught:
        await websocket.send("anybody?")
    assert caught.value.reason == "reset"
    assert trio.current_time() == SEND_TIMEOUT_SECONDS


@pytest.mark.parametrize("make_pair", [trio.testing.memory_stream_pair, None])
async def test_a_close_ends_within_its_deadlines_whatever_the_peer_does(
    nursery: trio.Nursery,
    autojump_clock: object,
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] | None,
) -> None:
    pair = make_pair or trio.testing.lockstep_stream_pair
    server = ScriptedServer(nursery, deaf, make_pair=pair)
    websocket = await connect(nursery, server.open_stream)
    with trio.CancelScope() as scope:
        scope.cancel()
        await websocket.aclose(politely=True)
    assert trio.current_time() <= CLOSE_DEADLINE_SECONDS
    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
        await server.visits[0].raw(b"still there?")


async def test_a_polite_close_says_goodbye(nursery: trio.Nursery, autojump_clock: object) -> None:
    async def listen(visit: Visit) -> None:
        await visit.upgrade()
        await visit.receive()

    server = ScriptedServer(nursery, listen)
    websocket = await connect(nursery, server.open_stream)
    await websocket.aclose(politely=True)
    await trio.testing.wait_all_tasks_blocked()
    assert server.visits[0].close_code == 1000


async def test_protocol_pings_are_answered_with_their_payload(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    ponged = trio.Event()

    async def act(visit: Visit) -> None:
        await visit.upgrade()
        await visit.websocket.ping(b"are you there?")
        ponged.set()
        await trio.sleep_forever()

    server = ScriptedServer(nursery, act)
    websocket = await connect(nursery, server.open_stream)
    nursery.start_soon(websocket.receive_batch)  # who does not receive does not read
    with trio.fail_after(1.0):
        await ponged.wait()
