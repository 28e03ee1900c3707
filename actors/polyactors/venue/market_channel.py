"""One client of the market channel, over any stream (PROTOCOL.md section 1).

The manners, in order:

1. The handshake is bounded; the path is `/ws/market`.
2. The first frame is the typed subscription; anything else closes with 1008.
3. The books of a frame's new tokens come as one array, at once; later messages come singly.
4. PING is answered with PONG. A client that says nothing for 30 s is dropped.
5. Later frames are operations; a second typed subscription is INVALID OPERATION.
6. A client that reads too slowly is dropped: it can have missed nothing and yet be late.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import trio
import trio_websocket
import wsproto.utilities
from attrs import frozen

from polyactors.venue import wire
from polyactors.venue.distortion import Distortion
from polyactors.venue.trickling import TricklingStream

WS_PATH = "/ws/market"
"""The only path that is served."""
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


class MarketSession:
    """The session of one client; the exchange publishes to it, it never waits for it.

    `dump` gives the first books of new tokens (None for nothing to say), `admit` an HTTP status
    that refuses the handshake for a path (None to accept). `distortion` is what faults do to
    the messages.
    """

    def __init__(
        self,
        session_id: int,
        stream: trio.abc.Stream,
        *,
        dump: Callable[[Iterable[str]], wire.WireEvent | None],
        admit: Callable[[str], int | None],
        distortion: Distortion,
    ) -> None:
        self.id = session_id
        self.tokens: dict[str, None] = {}
        """What it subscribed to, in order; unknown ids too."""
        self.custom = False
        """Whether it asked for the custom events."""
        self.is_subscribed = False
        """Whether the first, typed subscription has come."""
        self.sent_frames = 0
        self.distortion = distortion
        """What faults do to its messages."""
        self.end = ""
        """Why it was dropped; empty when the client went by itself."""
        self._stream = TricklingStream(stream)
        self._dump = dump
        self._admit = admit
        self._outbox: deque[str | _Oversize] = deque()
        self._outbox_characters = 0
        self._filled = trio.Event()
        self._scope = trio.CancelScope()

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

    async def serve(self) -> None:
        """Talk to the client until it goes or is dropped; the stream is closed at the end.

        *Error handling*: what a broken or rude peer causes ends in a return; anything else is
        ours and propagates. *Cancellation*: the stream is closed without a close handshake.
        """
        try:
            with self._scope:
                try:
                    async with trio.open_nursery() as nursery:
                        await self._converse(nursery)
                        nursery.cancel_scope.cancel()
                except* _PEER_GONE:
                    pass
        finally:
            await trio.aclose_forcefully(self._stream)

    def publish(self, events: Iterable[wire.WireEvent]) -> None:
        """Queue what concerns this session of one engine step; never blocks."""
        if not self.is_subscribed:
            return
        cut = (event.for_session(self.tokens, custom=self.custom) for event in events)
        self._send_data([event for event in cut if event is not None])

    def send(self, text: str) -> None:
        """Queue a frame as it is, stall or not; a full outbox drops the client."""
        self._outbox_characters += len(text)
        self._queue(text)

    def send_oversize(self, size_bytes: int) -> None:
        """Queue an unknown event of this size."""
        self._queue(_Oversize(size_bytes))

    def drop(self, why: str, *, reset: bool = False) -> None:
        """End the session abruptly: no close frame; `reset` with a TCP RST where possible."""
        self.end = self.end or why
        if reset:
            self._stream.linger_no_more()
        self._scope.cancel(reason=why)

    def _send_data(self, events: list[wire.WireEvent]) -> None:
        for text in self.distortion.distort(events, trio.current_time()):
            self.send(text)
        self._filled.set()  # something may be held back, until a time that the sender must know

    def _queue(self, frame: str | _Oversize) -> None:
        self._outbox.append(frame)
        full = len(self._outbox) > OUTBOX_FRAMES_MAX
        if full or self._outbox_characters > OUTBOX_CHARACTERS_MAX:
            self.drop("too slow")
        self._filled.set()

    async def _converse(self, nursery: trio.Nursery) -> None:
        connection: trio_websocket.WebSocketConnection | None = None
        with trio.move_on_after(HANDSHAKE_SECONDS):
            request = await trio_websocket.wrap_server_stream(
                nursery, self._stream, max_message_size=CLIENT_FRAME_BYTES_MAX
            )
            status = self._admit(request.path)
            if status is not None:
                await request.reject(status, body=_REFUSALS.get(status, b""))
                self.end = f"refused with {status}"
                return
            connection = await request.accept()
        if connection is None:
            self.end = "no handshake"
            return
        nursery.start_soon(self._drop_when_silent)
        if not self._subscribe_first(await connection.get_message()):
            self.end = "invalid subscription payload"
            with trio.move_on_after(CLOSE_SECONDS):
                await connection.aclose(1008, "invalid subscription payload")
            return
        nursery.start_soon(self._send_outbox, connection)
        while True:
            self._answer(await connection.get_message())

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

    def _subscribe_first(self, message: str | bytes) -> bool:
        """Take the typed subscription in; False when the frame is none."""
        frame = _object(message)
        kind, tokens = frame.get("type"), _ids(frame)
        if not isinstance(kind, str) or kind.lower() != "market" or tokens is None:
            return False
        self.is_subscribed = True
        self._set_custom(frame)
        self._add(tokens, wants_dump=frame.get("initial_dump") is not False)
        return True

    def _answer(self, message: str | bytes) -> None:
        if message == "PING":
            self.send(wire.PONG)
            return
        frame = _object(message)
        operation, tokens = frame.get("operation"), _ids(frame)
        if "type" in frame or tokens is None:
            self.send(wire.INVALID_OPERATION)
        elif operation == "subscribe":
            # Before duplicates are refused: so the flag can be changed (py-sdk's comment).
            self._set_custom(frame)
            if not self._add(tokens, wants_dump=True):
                self.send(wire.NO_NEW_ASSETS)
        elif operation == "unsubscribe":
            for token in tokens:
                self.tokens.pop(token, None)
        else:
            self.send(wire.INVALID_OPERATION)

    def _set_custom(self, frame: dict[str, Any]) -> None:
        flag = frame.get("custom_feature_enabled")
        if isinstance(flag, bool):
            self.custom = flag

    def _add(self, tokens: list[str], *, wants_dump: bool) -> bool:
        new = [token for token in dict.fromkeys(tokens) if token not in self.tokens]
        self.tokens.update(dict.fromkeys(new))
        books = self._dump(new) if new and wants_dump else None
        if books is not None:
            self._send_data([books])
        return bool(new)


_PEER_GONE = (
    trio_websocket.ConnectionClosed,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    # A frame that wsproto refuses, or one of ours that crosses the peer's close frame.
    wsproto.utilities.ProtocolError,
)
_REFUSALS = {404: b"404 page not found", 429: b"error code: 1015"}


def _object(message: str | bytes) -> dict[str, Any]:
    """The JSON object of a frame; an empty one for everything else."""
    try:
        value: object = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _ids(frame: dict[str, Any]) -> list[str] | None:
    """Its `assets_ids`; None when they are missing or no list of strings."""
    ids: object = frame.get("assets_ids")
    if not isinstance(ids, list):
        return None
    tokens = [value for value in cast("list[object]", ids) if isinstance(value, str)]
    return tokens if len(tokens) == len(cast("list[object]", ids)) else None
