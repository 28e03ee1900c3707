"""The border to the network: opening streams, and the WebSocket of trio-websocket.

Everything that the service opens comes through a `Network`, so that the whole service runs
over in-memory streams on virtual time as well as over TCP and TLS. Every error of sockets,
TLS and WebSockets is mapped here, once, to `SessionFailed` with the reason of `feed_down`.

This is the one module that touches private names of trio-websocket (0.12; framing.py does so
with wsproto): its `_reader_task` and `_open_handshake`, because `wrap_client_stream` waits for
ever when the server hangs up in the middle of the handshake, its `_reject_status`, because it
tells of a refusal only after the end of a body that may never come, and its `_recv_channel`,
because one wake-up shall take all that has arrived. tests/actors/test_transport.py fails loudly
when they change.
"""

import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import trio
from attrs import frozen
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from polyactors.errors import SessionFailed, UsageError
from polyactors.framing import Framing
from polyactors.protocol.events import Unreadable

if TYPE_CHECKING:
    import httpx2

CLOSE_DEADLINE_SECONDS = 1.0
"""A close handshake is tried for so long; then the stream is just closed."""
FRAMES_BUFFERED_MAX = 256
"""Frames that trio-websocket may hold for us; past that the socket is not read."""
FRAMES_PER_BATCH_MAX = 1024
RECEIVE_BYTES = 65536

StreamOpener = Callable[[str, int, bool], Awaitable[trio.abc.Stream]]
"""(host, port, tls) -> a connected stream. Raises OSError, ssl.SSLError, SessionFailed."""


async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
    """Connect over TCP, and TLS when asked for, with the system's trust store."""
    if not tls:
        return await trio.open_tcp_stream(host, port)
    stream = await trio.open_ssl_over_tcp_stream(host, port, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


@frozen
class Network:
    """How the service reaches the outside."""

    open_stream: StreamOpener = open_stream
    """Opens the streams of the WebSocket connections."""
    http_transport: "Callable[[], httpx2.AsyncBaseTransport] | None" = None
    """Makes the transport of the REST client; None for the ordinary one."""


def check_host(url: str, host: str) -> None:
    """Raises UsageError for a host that cannot be looked up at all, like `a..b`."""
    try:
        if any(character.isspace() for character in host):
            raise UnicodeError
        host.encode("idna")
    except UnicodeError:
        raise UsageError(f"{url!r}: {host!r} is no host name") from None


@frozen
class Target:
    """A WebSocket URL, taken apart."""

    host: str
    port: int
    tls: bool
    resource: str

    @classmethod
    def parse(cls, url: str) -> "Target":
        """Raises UsageError with the remedy when `url` is no WebSocket URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{url!r} is not a URL ({error}); expected wss://HOST/PATH") from None
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise UsageError(f"{url!r} is not a WebSocket URL; expected wss://HOST/PATH")
        tls = parts.scheme == "wss"
        resource = parts.path or "/"
        if parts.query:
            resource += "?" + parts.query
        check_host(url, parts.hostname)
        if not all("!" <= character <= "~" for character in resource):
            raise UsageError(f"{url!r} has characters that a URL must write as %XX")
        return cls(parts.hostname, port or (443 if tls else 80), tls, resource)

    @property
    def host_header(self) -> str:
        """The `Host:` header: without the port when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def market_target(ws_url: str) -> Target:
    """The market channel of a base URL; one that names the channel already is taken as it is."""
    return Target.parse(ws_url.rstrip("/").removesuffix("/market") + "/market")


def user_target(ws_url: str) -> Target:
    """The user channel that belongs to a base URL, or to the URL of a market channel."""
    return Target.parse(ws_url.rstrip("/").removesuffix("/market").removesuffix("/user") + "/user")


class WebSocket:
    """One open WebSocket, received in batches. Made by `connect_websocket`."""

    def __init__(
        self,
        connection: WebSocketConnection,
        framing: Framing,
        stream: trio.abc.Stream,
        *,
        send_timeout_seconds: float,
    ) -> None:
        self._connection = connection
        self._framing = framing
        self._stream = stream
        self._send_timeout_seconds = send_timeout_seconds
        self._reader_error: Exception | None = None

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the reader in `nursery` and wait for the end of the upgrade.

        Raises SessionFailed when the server refuses or hangs up.
        """
        opened = self._connection._open_handshake  # pyright: ignore[reportPrivateUsage]
        settled = trio.Event()  # the upgrade succeeded, or the reader has ended

        async def read() -> None:
            try:
                await self._connection._reader_task()  # pyright: ignore[reportPrivateUsage]
            except Exception as error:
                # Kept as the reason of the failure that receive_batch and send now report:
                # the reader has closed its channel, whoever waits for a frame wakes up.
                self._reader_error = error
            finally:
                settled.set()

        async def wait_opened() -> None:
            await opened.wait()
            settled.set()

        nursery.start_soon(read)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(wait_opened)
            await settled.wait()
            waiting.cancel_scope.cancel()
        if not opened.is_set():
            raise self._failure()

    async def receive_batch(self) -> list[str | bytes]:
        """Wait for a frame and return it with all that has arrived behind it.

        Cancellation: nothing is lost, a cancelled call has taken nothing.
        Raises SessionFailed when the connection has ended and all was handed out.
        """
        connection = self._connection
        try:
            batch: list[str | bytes] = [await connection.get_message()]
        except ConnectionClosed:
            raise self._failure() from None
        receive_nowait = connection._recv_channel.receive_nowait  # pyright: ignore[reportPrivateUsage]
        try:
            while len(batch) < FRAMES_PER_BATCH_MAX:
                batch.append(receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            pass  # the next call says what became of the connection
        return batch

    async def send(self, text: str) -> None:
        """Send a text frame; a peer that takes nothing for the send timeout is half-open."""
        try:
            with trio.fail_after(self._send_timeout_seconds):
                await self._connection.send_message(text)
        except ConnectionClosed:
            raise self._failure() from None
        except trio.TooSlowError:
            if self._connection.closed is not None:
                raise self._failure() from None  # it had ended before, and says more
            raise SessionFailed(
                "reset", f"nothing could be sent for {self._send_timeout_seconds:g} s"
            ) from None

    async def aclose(self, *, politely: bool) -> None:
        """Close within CLOSE_DEADLINE_SECONDS, also when cancelled.

        `politely` says goodbye with the close handshake; a peer that is believed dead is
        spared the wait.
        """
        if politely:
            with trio.move_on_after(CLOSE_DEADLINE_SECONDS, shield=True):
                await self._connection.aclose()
        with trio.move_on_after(CLOSE_DEADLINE_SECONDS, shield=True):
            await trio.aclose_forcefully(self._stream)

    def refusal(self) -> SessionFailed | None:
        """The HTTP answer that refused the upgrade, if there was one, its body read or not."""
        status = self._connection._reject_status  # pyright: ignore[reportPrivateUsage]
        if not status:
            return None
        return SessionFailed(f"handshake_{status}", f"the server refused with HTTP {status}")

    @property
    def unreadable(self) -> Unreadable | None:
        """The frame that ended the open connection by being unreadable or too large, if one did."""
        framing, closed = self._framing, self._connection.closed
        why = framing.breach
        if why is None and framing.close_frame is None and closed is not None:
            why = closed.reason if closed.code == CloseReason.MESSAGE_TOO_BIG else None
        return None if why is None else Unreadable(why, framing.head.decode(errors="replace"))

    def _failure(self) -> SessionFailed:
        refusal = self.refusal()
        if refusal is not None:
            return refusal
        if self._reader_error is not None:
            # trio-websocket fails to answer a broken handshake; what broke it stands behind.
            chain = _chain(self._reader_error)
            why = next((e for e in chain if isinstance(e, RemoteProtocolError)), chain[0])
            return SessionFailed("unreadable", f"not the WebSocket protocol: {why}")
        sent = self._framing.close_frame
        if sent is not None:
            return SessionFailed(f"closed_{sent.code}", sent.reason)
        if self._framing.breach is not None:
            return SessionFailed("unreadable", self._framing.breach)
        closed = self._connection.closed
        if closed is None:
            return SessionFailed("unreadable", "the server broke the WebSocket protocol")
        if closed.code == CloseReason.ABNORMAL_CLOSURE:
            return SessionFailed("reset", "the connection ended without a close frame")
        # A close frame without a code is 1005; 1009 is what we close by on a frame too large.
        return SessionFailed(f"closed_{closed.code}", closed.reason or "")


async def connect_websocket(
    nursery: trio.Nursery,
    network: Network,
    target: Target,
    *,
    connect_timeout_seconds: float,
    send_timeout_seconds: float,
    frame_bytes_max: int,
) -> WebSocket:
    """Connect and upgrade. The reader lives in `nursery`, and never raises into it.

    Raises SessionFailed when either step fails or both take longer than the connect timeout;
    then, and when cancelled, the stream is closed already.
    """
    websocket: WebSocket | None = None
    try:
        with trio.fail_after(connect_timeout_seconds):
            stream = await _open(network, target)
            framing = Framing()
            connection = WebSocketConnection(
                stream,  # type: ignore[arg-type,unused-ignore] # any trio stream will do
                framing,
                host=target.host_header,
                path=target.resource,
                message_queue_size=FRAMES_BUFFERED_MAX,
                max_message_size=frame_bytes_max,
                receive_buffer_size=RECEIVE_BYTES,
            )
            websocket = WebSocket(
                connection, framing, stream, send_timeout_seconds=send_timeout_seconds
            )
            try:
                await websocket.start(nursery)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)  # never waits: forceful
                raise
            return websocket
    except trio.TooSlowError:
        refusal = None if websocket is None else websocket.refusal()
        raise refusal or SessionFailed(
            "reset", f"no open WebSocket within {connect_timeout_seconds:g} s"
        ) from None


async def _open(network: Network, target: Target) -> trio.abc.Stream:
    try:
        return await network.open_stream(target.host, target.port, target.tls)
    except SessionFailed:
        raise
    except (OSError, trio.BrokenResourceError, UnicodeError) as error:
        raise describe_connect_error(error, target) from None


def describe_connect_error(error: BaseException, target: Target) -> SessionFailed:
    """Map what opening a stream raised to the reason of `feed_down`."""
    where = f"{target.host}:{target.port}"
    chain = _chain(error)
    for link in chain:
        if isinstance(link, socket.gaierror):
            return SessionFailed("dns", f"{target.host} was not resolved ({link.strerror})")
        if isinstance(link, UnicodeError):
            return SessionFailed("dns", f"{target.host} is no host name ({link})")
        if isinstance(link, ssl.SSLError):
            # Only errors that OpenSSL made have these two.
            why = getattr(link, "verify_message", None) or getattr(link, "reason", None) or link
            return SessionFailed("tls", f"{where}: {why}")
    # Trio names the single attempts, one for each address, only in the group behind its error.
    failed = [link for link in chain[1:] if isinstance(link, OSError)]
    # Its text would name the address again.
    causes = dict.fromkeys(
        os.strerror(link.errno) if link.errno is not None else link.strerror for link in failed
    )
    why = ", ".join(cause for cause in causes if cause)
    return SessionFailed("reset", f"{where}: {why or error}")


def _chain(error: BaseException) -> list[BaseException]:
    """An error with all that stands behind it, the members of groups too."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop(0)
        if link is not None and link not in chain:
            chain.append(link)
            waiting.append(link.__cause__ or link.__context__)
            if isinstance(link, BaseExceptionGroup):
                group = cast("BaseExceptionGroup[BaseException]", link)
                waiting.extend(group.exceptions)
    return chain
