"""The border to the network: opening streams, and WebSockets over them.

Everything that the service opens comes through a `Network`, so that the whole service runs
over in-memory streams on virtual time as well as over TCP and TLS. Every error of sockets,
TLS and WebSockets is mapped here, once, to `SessionFailed` with the reason of `feed_down`.

What is then done with an open stream is said in pulled_websocket.py.
"""

import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio
from attrs import frozen

from polyactors.errors import SessionFailed, UsageError, chain_of
from polyactors.logger import log
from polyactors.plain_websocket import PlainWebSocket
from polyactors.pulled_websocket import PulledWebSocket, missing_names
from polyactors.websocket import WebSocket

if TYPE_CHECKING:
    import httpx2

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


async def connect_websocket(
    nursery: trio.Nursery,
    network: Network,
    target: Target,
    *,
    connect_timeout_seconds: float,
    send_timeout_seconds: float,
    frame_bytes_max: int,
) -> WebSocket:
    """Connect and upgrade.

    `nursery` is for the reader that the plain way needs when the private names of the libraries
    are others than we know; it never raises into it. Ordinarily nothing is started there.

    Raises SessionFailed when either step fails or both take longer than the connect timeout;
    then, and when cancelled, the stream is closed already.
    """
    websocket: PulledWebSocket | PlainWebSocket | None = None
    missing = missing_names()
    try:
        with trio.fail_after(connect_timeout_seconds):
            stream = await _open(network, target)
            way = PlainWebSocket if missing else PulledWebSocket
            websocket = way(
                stream,
                target.host_header,
                target.resource,
                frame_bytes_max=frame_bytes_max,
                send_timeout_seconds=send_timeout_seconds,
            )
            try:
                await websocket.upgrade(nursery)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)  # never waits: forceful
                raise
    except trio.TooSlowError:
        refusal = None if websocket is None else websocket.refusal
        raise refusal or SessionFailed(
            "reset", f"no open WebSocket within {connect_timeout_seconds:g} s"
        ) from None
    if missing:
        log.warning(
            "an unknown version of trio-websocket or wsproto: frames are received one by one",
            missing=missing,
        )
    return websocket


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
    chain = chain_of(error)
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
