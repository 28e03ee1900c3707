"""The border to the network: every way in which a connection can fail to begin, and to go on."""

import re
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket
import trustme
from tests.actors.scripted_server import (
    Act,
    ScriptedServer,
    Visit,
    answer,
    hang_up,
    refuse,
    say_nothing,
)

from polyactors.errors import SessionFailed, UsageError
from polyactors.transport import (
    Network,
    StreamOpener,
    Target,
    connect_websocket,
    describe_connect_error,
    open_stream,
)
from polyactors.websocket import WebSocket

TARGET = Target.parse("ws://market.test/ws/market")
CONNECT_TIMEOUT_SECONDS = 10.0
SEND_TIMEOUT_SECONDS = 5.0
FRAME_BYTES_MAX = 1000


async def connect(
    nursery: trio.Nursery, opener: StreamOpener, target: Target = TARGET
) -> WebSocket:
    return await connect_websocket(
        nursery,
        Network(opener),
        target,
        connect_timeout_seconds=CONNECT_TIMEOUT_SECONDS,
        send_timeout_seconds=SEND_TIMEOUT_SECONDS,
        frame_bytes_max=FRAME_BYTES_MAX,
    )


async def connect_failure(
    nursery: trio.Nursery, opener: StreamOpener, target: Target = TARGET
) -> SessionFailed:
    tasks = len(nursery.child_tasks)
    with pytest.raises(SessionFailed) as caught:
        await connect(nursery, opener, target)
    await trio.testing.wait_all_tasks_blocked()
    assert len(nursery.child_tasks) <= tasks + 1, "the reader outlived the failed connect"
    return caught.value


# --- URLs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "target", "host_header"),
    [
        ("wss://a.test/ws/market", Target("a.test", 443, True, "/ws/market"), "a.test"),
        ("ws://a.test", Target("a.test", 80, False, "/"), "a.test"),
        ("ws://a.test:443/x?y=z", Target("a.test", 443, False, "/x?y=z"), "a.test:443"),
        ("wss://a.test:8443/", Target("a.test", 8443, True, "/"), "a.test:8443"),
        ("ws://127.0.0.1:80/", Target("127.0.0.1", 80, False, "/"), "127.0.0.1"),
        ("wss://[::1]:9/", Target("::1", 9, True, "/"), "[::1]:9"),
        ("wss://[::1]/", Target("::1", 443, True, "/"), "[::1]"),
    ],
)
def test_a_url_is_taken_apart(url: str, target: Target, host_header: str) -> None:
    assert Target.parse(url) == target
    assert target.host_header == host_header


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.test/ws",
        "https://a.test/ws",
        "wss://",
        "wss:///ws",
        "wss://a.test:99999/",
        "wss://a.test:port/",
        "wss://[::1/",
        "wss://a..test/",
        f"wss://{'a' * 64}.test/",
        "wss://a.test/with space",
        "wss://a.test/ümlaut",
    ],
)
def test_a_wrong_url_is_the_users_mistake_in_one_sentence(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Target.parse(url)
    assert "\n" not in str(caught.value)
    assert repr(url)[1:-1] in str(caught.value)


# --- TCP and DNS ------------------------------------------------------------------------------


async def test_a_refused_connection_is_a_reset_that_says_so(nursery: trio.Nursery) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
    failure = await connect_failure(nursery, open_stream, Target.parse(f"ws://127.0.0.1:{port}/"))
    assert failure.reason == "reset"
    assert "refused" in failure.detail
    assert str(port) in failure.detail


class _NoSuchHost(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    getnameinfo = getaddrinfo


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_host_that_does_not_resolve_is_dns(nursery: trio.Nursery, scheme: str) -> None:
    trio.socket.set_custom_hostname_resolver(_NoSuchHost())
    failure = await connect_failure(nursery, open_stream, Target.parse(f"{scheme}://nowhere.test/"))
    assert failure.reason == "dns"
    assert "nowhere.test" in failure.detail


async def test_a_host_that_is_no_host_name_is_dns(nursery: trio.Nursery) -> None:
    target = Target("a..test", 80, False, "/")  # past Target.parse, which refuses it
    assert (await connect_failure(nursery, open_stream, target)).reason == "dns"


def _raised(
    error: BaseException, cause: BaseException | None = None, context: BaseException | None = None
) -> BaseException:
    error.__cause__, error.__context__ = cause, context
    return error


GAI = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (GAI, "dns", "Temporary failure"),
        (_raised(OSError("all failed"), GAI), "dns", "Temporary failure"),
        (_raised(OSError("all failed"), context=GAI), "dns", "Temporary failure"),
        (_raised(OSError("all failed"), ExceptionGroup("all", [GAI])), "dns", "Temporary"),
        (_raised(trio.BrokenResourceError(), ssl.SSLError(1, "[SSL] wrong")), "tls", "wrong"),
        (
            _raised(
                OSError("all failed"),
                ExceptionGroup("all", [OSError(111, "refused"), OSError(101, "unreachable")]),
            ),
            "reset",
            "Connection refused, Network is unreachable",
        ),
        (OSError("no attempt was made"), "reset", "no attempt was made"),
        (
            _raised(trio.BrokenResourceError(), ConnectionResetError(104, "by peer")),
            "reset",
            "by p",
        ),
    ],
)
def test_an_error_is_told_by_what_stands_behind_it(
    error: BaseException, reason: str, words: str
) -> None:
    failure = describe_connect_error(error, TARGET)
    assert failure.reason == reason
    assert words in failure.detail


def test_an_error_that_stands_behind_itself_is_described_all_the_same() -> None:
    first, second = OSError(1, "first"), OSError(2, "second")
    first.__cause__, second.__cause__ = second, first
    assert describe_connect_error(first, TARGET).reason == "reset"


async def test_an_opener_that_hangs_is_cut_off_by_the_connect_timeout(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def never(host: str, port: int, tls: bool) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    failure = await connect_failure(nursery, never)
    assert failure.reason == "reset"
    assert trio.current_time() == CONNECT_TIMEOUT_SECONDS


# --- TLS, over real sockets -------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own authority is the only one that this process trusts."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


@asynccontextmanager
async def tls_server(
    authority: trustme.CA,
    name: str,
    handle: Callable[[trio.SSLStream[trio.SocketStream]], Awaitable[None]],
) -> AsyncGenerator[Target, None]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate: Any = authority.issue_cert(name)
    certificate.configure_cert(context)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(
            0, context, host="127.0.0.1", https_compatible=True
        )
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        port = listeners[0].transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]
        yield Target.parse(f"wss://localhost:{port}/ws/market")
        nursery.cancel_scope.cancel()


async def _fail_handshake(stream: trio.SSLStream[trio.SocketStream]) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await stream.do_handshake()
    await trio.aclose_forcefully(stream)


async def test_a_session_runs_over_tls(
    nursery: trio.Nursery, authority: trustme.CA, trusted: None
) -> None:
    async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
        async with trio.open_nursery() as reader:
            request = await trio_websocket.wrap_server_stream(reader, stream)
            websocket = await request.accept()
            await websocket.send_message("echo " + str(await websocket.get_message()))
            await trio.sleep_forever()

    async with tls_server(authority, "localhost", echo) as target:
        websocket = await connect(nursery, open_stream, target)
        await websocket.send("hello")
        assert await websocket.receive_batch() == ["echo hello"]
        await websocket.aclose(politely=False)


async def test_a_certificate_of_another_host_is_tls(
    nursery: trio.Nursery, authority: trustme.CA, trusted: None
) -> None:
    async with tls_server(authority, "other.test", _fail_handshake) as target:
        failure = await connect_failure(nursery, open_stream, target)
    assert failure.reason == "tls"
    assert "Hostname mismatch" in failure.detail


async def test_an_untrusted_authority_is_tls(nursery: trio.Nursery, authority: trustme.CA) -> None:
    async with tls_server(authority, "localhost", _fail_handshake) as target:
        failure = await connect_failure(nursery, open_stream, target)
    assert failure.reason == "tls"
    assert re.search("certificate|issuer", failure.detail)


@asynccontextmanager
async def tcp_server(
    handle: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncGenerator[int, None]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        port: int = listeners[0].socket.getsockname()[1]
        yield port
        nursery.cancel_scope.cancel()


async def test_a_server_that_speaks_no_tls_is_tls(nursery: trio.Nursery) -> None:
    async def speak_http(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await trio.sleep_forever()

    async with tcp_server(speak_http) as port:
        target = Target.parse(f"wss://localhost:{port}/")
        assert (await connect_failure(nursery, open_stream, target)).reason == "tls"


async def test_a_hang_up_in_the_tls_handshake_is_tls(nursery: trio.Nursery) -> None:
    async def leave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_eof()
        await trio.sleep_forever()

    async with tcp_server(leave) as port:
        target = Target.parse(f"wss://localhost:{port}/")
        assert (await connect_failure(nursery, open_stream, target)).reason == "tls"


async def test_a_tcp_reset_in_the_upgrade_is_a_reset(nursery: trio.Nursery) -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)  # what is left unread turns the close into a reset
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()

    async with tcp_server(reset) as port:
        target = Target.parse(f"ws://127.0.0.1:{port}/")
        assert (await connect_failure(nursery, open_stream, target)).reason == "reset"


# --- the upgrade ------------------------------------------------------------------------------


async def hang_up_amid_request(visit: Visit) -> None:
    await visit.stream.receive_some(10)


ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("act", "reason", "words", "seconds"),
    [
        (hang_up, "reset", "without a close frame", 0.0),
        (hang_up_amid_request, "reset", "without a close frame", 0.0),
        (answer(b"HTTP/1.1 10", then=hang_up), "reset", "without a close frame", 0.0),
        (say_nothing, "reset", "10 s", CONNECT_TIMEOUT_SECONDS),
        (answer(b"HTTP/1.1 101 Swi"), "reset", "10 s", CONNECT_TIMEOUT_SECONDS),
        (refuse(429), "handshake_429", "429", 0.0),
        (refuse(429, b"slow down"), "handshake_429", "429", 0.0),
        (refuse(403), "handshake_403", "403", 0.0),
        (refuse(500, b"x" * 100_000), "handshake_500", "500", 0.0),
        (refuse(503), "handshake_503", "503", 0.0),
        (refuse(301), "handshake_301", "301", 0.0),
        (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "handshake_200", "200", 0.0),
        (
            answer(b"HTTP/1.1 429 X\r\nConnection: close\r\n\r\nslow down", then=hang_up),
            "handshake_429",
            "429",
            0.0,
        ),
        (
            answer(b"HTTP/1.1 429 X\r\nContent-Length: 100\r\n\r\nslow"),
            "handshake_429",
            "429",
            CONNECT_TIMEOUT_SECONDS,
        ),
        (answer(b"HTTP/1.1 103 Early Hints\r\n\r\n"), "handshake_103", "103", 0.0),
        (answer(b"\x00\x01 nonsense\r\n\r\n"), "unreadable", "Bad HTTP message", 0.0),
        (answer(b"HTTP/1.1 400 X\r\nA: " + b"x" * 10**6), "unreadable", "Bad HTTP message", 0.0),
        (
            answer(ACCEPTED + b"Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"),
            "unreadable",
            "Bad accept token",
            0.0,
        ),
        (answer(ACCEPTED + b"\r\n"), "unreadable", "Connection: Upgrade", 0.0),
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
    failure = await connect_failure(nursery, server.open_stream)
    assert failure.reason == reason
    assert words in failure.detail
    assert trio.current_time() == seconds
    # The stream is closed: what the server writes from now on finds nobody.
    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
        await server.visits[0].raw(b"still there?")


async def test_a_cancelled_connect_closes_its_stream(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, say_nothing)
    with trio.move_on_after(1.0) as scope:
        await connect(nursery, server.open_stream)
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await server.visits[0].raw(b"still there?")


async def test_a_server_that_takes_no_bytes_is_cut_off_by_the_connect_timeout(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, say_nothing, make_pair=trio.testing.lockstep_stream_pair)
    assert (await connect_failure(nursery, server.open_stream)).reason == "reset"
    assert trio.current_time() == CONNECT_TIMEOUT_SECONDS
