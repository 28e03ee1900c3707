"""The embedded exchange on two TCP ports: the market channel, and REST on hypercorn."""

import errno
import socket
from functools import partial
from typing import Any, cast

import trio
from attrs import frozen
from hypercorn.config import Config, Sockets
from hypercorn.trio import serve  # pyright: ignore[reportUnknownVariableType] - its annotations

from polyactors.venue.exchange import Venue

BACKLOG = 256
"""Connections that may wait to be accepted."""
GRACEFUL_SECONDS = 0.5
"""How long REST requests may go on when the server stops."""
UNREAD_SECONDS = 1.0
"""A REST client that takes in nothing for so long is cut off, where the system can do that:
hypercorn shields its sends, so without it such a client could hold up the shutdown."""


class ListenFailed(OSError):  # noqa: N818 - the name is the fact
    """A port cannot be listened on: taken, forbidden, or no address of this machine.

    The text is one sentence for the user; `host` and `port` are what was asked for.
    """

    def __init__(self, host: str, port: int, error: OSError) -> None:
        self.host = host
        self.port = port
        if error.errno == errno.EADDRINUSE:
            why = "the port is in use; choose another one, or 0 for any that is free"
        else:
            why = error.strerror or str(error)
        super().__init__(error.errno, f"cannot listen on {_bracketed(host)}:{port}: {why}")

    def __str__(self) -> str:
        return str(self.strerror)


@frozen
class Endpoints:
    """Where a venue is served, in the form that `run` takes."""

    ws_url: str
    """Base of the WebSocket channels: `/market` is appended."""
    clob_url: str
    gamma_url: str

    def as_options(self) -> str:
        """The option string for `run`."""
        return f"--ws-url {self.ws_url} --clob-url {self.clob_url} --gamma-url {self.gamma_url}"


async def serve_venue(
    venue: Venue,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    rest_port: int = 0,
    task_status: trio.TaskStatus[Endpoints] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a venue until cancelled; `task_status` gets the endpoints, both listening.

    Port 0 picks a free one. `venue.run` is the caller's to start.

    *Cancellation*: within about a second, open connections closed. *Resource handling*: both
    sockets are closed at the end.

    Raises:
        ListenFailed: one of the ports cannot be had; none is held then.
    """
    with _listen(host, port) as channel, _listen(host, rest_port) as rest:
        endpoints = Endpoints(
            ws_url=f"ws://{_reachable(channel)}/ws",
            clob_url=f"http://{_reachable(rest)}",
            gamma_url=f"http://{_reachable(rest)}/gamma",
        )
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(channel))
        # Starlette annotates the same ASGI scopes as mappings, hypercorn as typed dicts.
        app = cast("Any", venue.rest_app())
        _cut_off_unread(rest)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, venue.serve_stream, [listener])
            await nursery.start(partial(serve, app, _RestConfig(rest), mode="asgi"))
            task_status.started(endpoints)


class _RestConfig(Config):
    """Hypercorn on a socket that is bound already, so that a taken port is our own error."""

    loglevel = "WARNING"
    graceful_timeout = GRACEFUL_SECONDS

    def __init__(self, bound: socket.socket) -> None:
        super().__init__()
        self._bound = bound

    def create_sockets(self) -> Sockets:
        """The one socket."""
        return Sockets([], [self._bound], [])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ListenFailed(host, port, error) from None
    bound.setblocking(False)
    return bound


def _cut_off_unread(listening: socket.socket) -> None:
    """Let the kernel end what it accepts here once a peer takes nothing in for too long."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(UNREAD_SECONDS * 1000)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _reachable(bound: socket.socket) -> str:
    """Host and port for a URL; a wildcard address is reached through the loopback."""
    host, port = cast("tuple[str, int]", bound.getsockname()[:2])
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return f"{_bracketed(loopback.get(host, host))}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
