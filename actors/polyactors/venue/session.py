"""One client of a channel, over any stream: what the market and the user channel share.

The manners, in order (PROTOCOL.md section 1; the user channel's are the same as far as known):

1. The handshake is bounded; its path chooses the channel, or is refused.
2. The first frame is the typed subscription; anything else closes with 1008.
3. PING is answered with PONG. A client that says nothing for 30 s is dropped.
4. Later frames are operations; a second typed subscription is INVALID OPERATION.
5. A client that reads too slowly is dropped: it can have missed nothing and yet be late.
"""

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, cast

import trio
import trio_websocket
import wsproto.utilities
from attrs import frozen

from polyactors.venue import wire
from polyactors.venue.distortion import Distortion
from polyactors.venue.trickling import TricklingStream

HANDSHAKE_SECONDS = 5.0
"""From the first byte to the end of the HTTP upgrade."""
CLIENT_SILENCE_SECONDS = 30.0
"""A client that sends no byte for so long is dropped, as the live channel does."""
SEND_SECONDS = 5.0
"""A frame that the client does not take in within this time ends the session."""
CLOSE_SECONDS = 1.0
"""How long a close handshake may take."""
OUTBOX_FRAMES_MAX = 4096
"""Frames that may wait for a slow client, before it is dropped."""
OUTBOX_CHARACTERS_MAX = 64 * 2**20
"""Characters that may wait for a slow client, before it is dropped."""
CLIENT_FRAME_BYTES_MAX = 128 * 1024
"""Largest frame from a client: some 1,600 ids; beyond, 1009 closes the connection."""


@frozen
class _Oversize:
    """Stands in the outbox for a frame that is made only as it is sent."""

    size_bytes: int


@frozen
class Client:
    """Who is at the other end, while its handshake is under way."""

    id: int
    """Counts connections from 1."""
    stream: TricklingStream
    scope: trio.CancelScope
    """Cancelling it ends the session at once."""


class Session(ABC):
    """The session of one client; the exchange publishes to it, it never waits for it.

    `distortion` is what faults do to the messages.
    """

    def __init__(self, client: Client, *, distortion: Distortion) -> None:
        self.id = client.id
        self.is_subscribed = False
        """Whether the first, typed subscription has come."""
        self.sent_frames = 0
        self.distortion = distortion
        """What faults do to its messages."""
        self.end = ""
        """Why it was dropped; empty when the client went by itself."""
        self._stream = client.stream
        self._scope = client.scope
        self._outbox: deque[str | _Oversize] = deque()
        self._outbox_characters = 0
        self._filled = trio.Event()

    @property
    @abstractmethod
    def tokens(self) -> Collection[str]:
        """What its messages may be about, in order, each once."""

    @property
    def queued_frames(self) -> int:
        """Frames that wait to be sent."""
        return len(self._outbox)

    @property
    def muted_until(self) -> float:
        """`trio.current_time()` until which its data are lost."""
        return self.distortion.muted_until

    @property
    def slow_until(self) -> float:
        """`trio.current_time()` until which its bytes trickle."""
        return self._stream.slow_until

    @slow_until.setter
    def slow_until(self, time: float) -> None:
        self._stream.slow_until = time

    def send(self, text: str) -> None:
        """Queue a frame as it is, stall or not; a full outbox drops the client."""
        self._outbox_characters += len(text)
        self._queue(text)

    def send_data(self, events: Iterable[wire.WireEvent]) -> None:
        """Queue what faults leave of the messages of one engine step, or of one dump."""
        for text in self.distortion.distort(events, trio.current_time()):
            self.send(text)
        self._filled.set()  # something may be held back, until a time that the sender must know

    def send_oversize(self, size_bytes: int) -> None:
        """Queue an unknown event of this size."""
        self._queue(_Oversize(size_bytes))

    def drop(self, why: str, *, reset: bool = False) -> None:
        """End the session abruptly: no close frame; `reset` with a TCP RST where possible."""
        self.end = self.end or why
        if reset:
            self._stream.linger_no_more()
        self._scope.cancel(reason=why)

    async def converse(
        self, connection: trio_websocket.WebSocketConnection, nursery: trio.Nursery
    ) -> None:
        """Talk to the client until it goes, or is refused; what else is needed runs in `nursery`.

        *Error handling*: a peer that goes ends this with one of `PEER_GONE`.
        """
        nursery.start_soon(self._drop_when_silent)
        if not self.subscribe_first(await connection.get_message()):
            self.end = "invalid subscription payload"
            with trio.move_on_after(CLOSE_SECONDS):
                await connection.aclose(1008, "invalid subscription payload")
            return
        self.is_subscribed = True
        nursery.start_soon(self._send_outbox, connection)
        while True:
            message = await connection.get_message()
            if message == "PING":
                self.send(wire.PONG)
            else:
                self.answer(message)

    @abstractmethod
    def subscribe_first(self, message: str | bytes) -> bool:
        """Take the typed subscription in; False when the frame is none."""

    @abstractmethod
    def answer(self, message: str | bytes) -> None:
        """Take a later frame in."""

    def _queue(self, frame: str | _Oversize) -> None:
        self._outbox.append(frame)
        full = len(self._outbox) > OUTBOX_FRAMES_MAX
        if full or self._outbox_characters > OUTBOX_CHARACTERS_MAX:
            self.drop("too slow")
        self._filled.set()

    async def _drop_when_silent(self) -> None:
        while True:
            deadline = self._stream.received_at + CLIENT_SILENCE_SECONDS
            if trio.current_time() >= deadline:
                self.drop("silent client")
            await trio.sleep_until(deadline)

    async def _send_outbox(self, connection: trio_websocket.WebSocketConnection) -> None:
        while True:
            self._filled = trio.Event()
            for text in self.distortion.release(trio.current_time()):
                self.send(text)
            while self._outbox:
                frame = self._outbox.popleft()
                slow_seconds = max(0.0, self.slow_until - trio.current_time())
                with trio.move_on_after(SEND_SECONDS + slow_seconds) as scope:
                    if isinstance(frame, _Oversize):
                        await self._stream.send_oversize_frame(frame.size_bytes)
                    else:
                        self._outbox_characters -= len(frame)
                        await connection.send_message(frame)
                    self.sent_frames += 1
                if scope.cancelled_caught:
                    self.drop("too slow")
            with trio.move_on_at(self.distortion.release_at):
                await self._filled.wait()


async def serve_client(
    number: int, stream: trio.abc.Stream, enter: Callable[[Client, str], Session | int]
) -> None:
    """Serve a client until it goes or is dropped; the stream is closed at the end.

    `enter` gives the session for the path of a handshake, or the HTTP status that refuses it.

    *Error handling*: what a broken or rude peer causes ends in a return; anything else is
    ours and propagates. *Cancellation*: the stream is closed without a close handshake.
    """
    trickling = TricklingStream(stream)
    met: tuple[Session, trio_websocket.WebSocketConnection] | None = None
    try:
        async with trio.open_nursery() as nursery:
            client = Client(number, trickling, nursery.cancel_scope)
            with trio.move_on_after(HANDSHAKE_SECONDS):
                met = await _shake_hands(client, nursery, enter)
            if met is not None:
                session, connection = met
                await session.converse(connection, nursery)
            nursery.cancel_scope.cancel()
    except* PEER_GONE:
        pass
    finally:
        await trio.aclose_forcefully(trickling)


async def _shake_hands(
    client: Client, nursery: trio.Nursery, enter: Callable[[Client, str], Session | int]
) -> tuple[Session, trio_websocket.WebSocketConnection] | None:
    request = await trio_websocket.wrap_server_stream(
        nursery, client.stream, max_message_size=CLIENT_FRAME_BYTES_MAX
    )
    session = enter(client, request.path.partition("?")[0])
    if isinstance(session, int):
        await request.reject(session, body=_REFUSALS.get(session, b""))
        return None
    return session, await request.accept()


PEER_GONE = (
    trio_websocket.ConnectionClosed,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    # A frame that wsproto refuses, or one of ours that crosses the peer's close frame.
    wsproto.utilities.ProtocolError,
)
_REFUSALS = {404: b"404 page not found", 429: b"error code: 1015"}


def object_of(message: str | bytes) -> dict[str, Any]:
    """The JSON object of a frame; an empty one for everything else."""
    try:
        value: object = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def texts_of(value: object) -> list[str] | None:
    """A list of strings; None for everything else."""
    if not isinstance(value, list):
        return None
    texts = [item for item in cast("list[object]", value) if isinstance(item, str)]
    return texts if len(texts) == len(cast("list[object]", value)) else None
