"""The WebSocket that is read by who receives, on trio-websocket.

The task that wants the messages reads the socket itself: one read, one list of all messages that
it made whole. A reader task and a channel between the two would cost a wake-up and a checkpoint
per message, thirty times what splitting them costs. So who does not receive does not read, and
the peer feels it.

Upgrade and frames are wsproto's (framing.py); sending, pings, the limit of size and the close
handshake are trio-websocket's. This is the one module that touches private names of it (0.12):
`_handle_message_event`, `_handle_close_connection_event` and `_abort_web_socket`, which its reader
task would call, and `_send_channel`, into which that would put the messages.
tests/actors/test_pulled_websocket.py fails loudly when they change; plain_websocket.py does
without.
"""

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from polyactors import framing
from polyactors.framing import Framing
from polyactors.websocket import FRAMES_PER_BATCH_MAX, RECEIVE_BYTES, WebSocket


class PulledWebSocket(WebSocket):
    """Read by who receives. No task runs for it."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        host_header: str,
        resource: str,
        *,
        frame_bytes_max: int,
        send_timeout_seconds: float,
    ) -> None:
        super().__init__(stream, send_timeout_seconds=send_timeout_seconds)
        self._framing = self._wire = Framing()
        self._connection = self._pulled = _Connection(
            stream, self._wire, host_header, resource, frame_bytes_max
        )
        self._kept = self._pulled.kept
        self._request = Request(host=host_header, target=resource)
        self._frame_bytes_max = frame_bytes_max
        self._has_ended = False
        """Nothing will be read any more."""

    async def upgrade(self, _: trio.Nursery) -> None:
        """Ask for the upgrade and wait for its end.

        Raises SessionFailed when the server refuses, hangs up or does not speak HTTP.
        """
        wire = self._wire
        try:
            await self._stream.send_all(wire.send(self._request))
            while not self._has_ended:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if data:
                    self._parse_answer(bytes(data))
                    if wire.connection is not None:
                        wire.feed(b"")  # what came behind the answer is for receive_batch
                        return
                self._has_ended = self._has_ended or not data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        raise self._failure()

    def _parse_answer(self, data: bytes) -> None:
        try:
            self._wire.receive_data(data)
            for event in self._wire.events():
                if isinstance(event, AcceptConnection):
                    return  # and leave the events of what stands behind it
                if isinstance(event, RejectConnection):
                    self._refused_status = event.status_code
                    self._has_ended = not event.has_body
                elif isinstance(event, RejectData):
                    self._has_ended = event.body_finished
        except Exception as error:  # wsproto names one; what a header can do to it, it does not
            self._error = error
            self._has_ended = True

    async def receive_batch(self) -> list[str | bytes]:
        """As said above. One read of the socket, or what the last one had too many of."""
        wire, kept = self._wire, self._kept
        if kept.messages or not wire.is_all_read:
            await trio.lowlevel.checkpoint()  # there is perhaps nothing to wait for
        while True:
            event = None
            if not self._has_ended:
                event = wire.proceed(
                    kept.messages,
                    bytes_max=self._frame_bytes_max,
                    messages_max=FRAMES_PER_BATCH_MAX,
                )
            if event is not None:
                await self._handle(event)
            elif kept.messages:
                batch, kept.messages = kept.messages, []
                return batch
            elif self._has_ended:
                raise self._failure()
            else:
                await self._read()

    async def _say_goodbye(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_to_the_end, nursery.cancel_scope)
            await self._connection.aclose()
            nursery.cancel_scope.cancel()

    async def _read_to_the_end(self, waiting: trio.CancelScope) -> None:
        """Look for the peer's close frame; without one, whoever is `waiting` need not."""
        try:
            while not self._has_ended:
                event = self._wire.proceed(
                    self._kept.messages,
                    bytes_max=self._frame_bytes_max,
                    messages_max=FRAMES_PER_BATCH_MAX,
                )
                self._kept.messages.clear()
                if event is not None:
                    await self._handle(event)
                elif self._wire.is_all_read:
                    await self._read()
            waiting.cancel()
        except trio.BusyResourceError:
            pass  # somebody receives: that reads the close frame as well

    async def _read(self) -> None:
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if data:
            self._wire.feed(bytes(data))
        else:
            self._has_ended = True
            await self._pulled.abort()

    async def _handle(self, event: Event) -> None:
        """What the reader task of trio-websocket does with an event of an open connection."""
        connection = self._pulled
        self._has_ended = self._has_ended or isinstance(event, CloseConnection)
        try:
            if isinstance(event, (TextMessage, BytesMessage)):
                await connection.take(event)
            elif isinstance(event, Ping):
                await connection.pong(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                await connection.answer_close(event)
            # Pongs answer nobody: the pings of the exchange's heartbeat are text.
        except trio.Cancelled:
            self._is_cut = True
            raise
        except (ConnectionClosed, LocalProtocolError):
            pass  # the stream broke, or a close frame of ours is on its way
        closed = connection.closed
        if closed is not None and closed.code == CloseReason.MESSAGE_TOO_BIG:
            self._has_ended = True
        if not isinstance(event, (Ping, CloseConnection)):
            await trio.lowlevel.checkpoint()  # thousands of the smallest may have come at once


class _Kept:
    """Stands in for the channel into which trio-websocket puts messages: waits for nobody."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []

    async def send(self, message: str | bytes) -> None:
        self.messages.append(message)

    async def aclose(self) -> None:
        pass  # whoever receives sees the end for itself


class _Connection(WebSocketConnection):
    """trio-websocket's, without its reader task."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        wsproto: WSConnection,
        host_header: str,
        resource: str,
        frame_bytes_max: int,
    ) -> None:
        super().__init__(
            stream,  # type: ignore[arg-type,unused-ignore] # any trio stream will do
            wsproto,
            host=host_header,
            path=resource,
            max_message_size=frame_bytes_max,
        )
        self.kept = _Kept()
        self._send_channel = self.kept  # type: ignore[assignment] # all of it that is used

    async def take(self, event: TextMessage | BytesMessage) -> None:
        """Keep a message, or a part of one; close by 1009 when it grows too large."""
        await self._handle_message_event(event)

    async def answer_close(self, event: CloseConnection) -> None:
        """Answer a close frame, or note the breach that wsproto tells of by the same event."""
        await self._handle_close_connection_event(event)

    async def abort(self) -> None:
        """The stream ended without a close frame."""
        await self._abort_web_socket()


def missing_names() -> list[str]:
    """The private names of trio-websocket and wsproto that are needed and are not there."""
    connection = WebSocketConnection(
        None,  # type: ignore[arg-type] # nobody reads it
        WSConnection(ConnectionType.CLIENT),
        host="",
        path="",
    )
    names = (
        "_handle_message_event",
        "_handle_close_connection_event",
        "_abort_web_socket",
        "_send_channel",
    )
    missing = [f"WebSocketConnection.{name}" for name in names if not hasattr(connection, name)]
    return missing + framing.missing_names()
