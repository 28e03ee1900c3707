"""wsproto, with a memory for what the server really sent.

wsproto answers a breach of the protocol by an event that looks as though the server had closed
the connection: text that is no UTF-8 by `CloseConnection(1007)`, everything else by 1002, also a
close frame whose code it does not know (1014) or that no peer may send (1005, 1006, 1015). What
was received is gone by then. `feed_down` says which it was, and an unreadable frame is kept for
inspection, so `Framing` looks at every frame just before wsproto judges it.

For that it touches two private names of wsproto (1.x): `Connection._proto` and
`FrameProtocol._frame_decoder`. tests/actors/test_framing.py fails loudly when they change.
"""

from collections.abc import Generator

from attrs import frozen
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event
from wsproto.frame_protocol import (
    LOCAL_ONLY_CLOSE_REASONS,
    MAX_CLOSE_REASON,
    MIN_LIBRARY_CLOSE_REASON,
    Buffer,
    CloseReason,
    Frame,
    FrameDecoder,
    Opcode,
    ParseFailed,
)

HEAD_BYTES = 200
"""How much is kept of the message, or of the frame that is none, that came last."""
CODE_BYTES = 2
DATA_OPCODES = (Opcode.TEXT, Opcode.CONTINUATION, Opcode.BINARY)
KNOWN_CODES = frozenset(CloseReason) - frozenset(LOCAL_ONLY_CLOSE_REASONS)
"""What wsproto lets a peer send, besides what is anybody's to choose, 3000 to 4999."""


@frozen
class CloseFrame:
    """A close frame of the server's, whether it may send such a one or not."""

    code: int
    reason: str
    """What is no UTF-8 in it became replacement characters."""


class Framing(WSConnection):
    """The client's side of one connection."""

    def __init__(self) -> None:
        super().__init__(ConnectionType.CLIENT)
        self._frames: _Frames | None = None
        self.breach: str | None = None
        """How the server broke the protocol in a frame of the open connection, in a sentence;
        what `head` says is then the beginning of what cannot be read."""

    @property
    def close_frame(self) -> CloseFrame | None:
        """The server's close frame; None before one with a code came."""
        return None if self._frames is None else self._frames.close_frame

    @property
    def head(self) -> bytes:
        """The first HEAD_BYTES of what came last."""
        return b"" if self._frames is None else self._frames.head

    def receive_data(self, data: bytes | None) -> None:
        """As wsproto has it."""
        super().receive_data(data)
        if self._frames is None and self.connection is not None:
            # The upgrade succeeded just now: what came behind it is in the buffer, still unread.
            protocol = self.connection._proto  # pyright: ignore[reportPrivateUsage]
            decoder = protocol._frame_decoder  # pyright: ignore[reportPrivateUsage]
            self._frames = _Frames(decoder.buffer)
            protocol._frame_decoder = self._frames  # pyright: ignore[reportPrivateUsage]

    def events(self) -> Generator[Event, None, None]:
        """As wsproto has it."""
        for event in super().events():
            # The server's own close frame has changed the state before its event comes out.
            if isinstance(event, CloseConnection) and self.state is ConnectionState.OPEN:
                what = (
                    "a text frame is no UTF-8"
                    if event.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA
                    else "not the WebSocket protocol"
                )
                self.breach = f"{what}: {event.reason}"
            yield event


class _Frames(FrameDecoder):
    """Cuts the stream into frames, and remembers. No extension is ever offered, so none is on."""

    def __init__(self, buffer: Buffer) -> None:
        super().__init__(client=True)
        self.buffer = buffer
        self.head = b""
        self.close_frame: CloseFrame | None = None
        self._is_message_complete = True

    def process_buffer(self) -> Frame | None:
        try:
            frame = super().process_buffer()
        except ParseFailed:
            self.head = bytes(self.buffer.buffer[:HEAD_BYTES])  # from its first byte on
            raise
        if frame is None:
            return None
        payload = frame.payload
        assert isinstance(payload, bytes)
        if frame.opcode is Opcode.CLOSE:
            return self._close(frame, payload)
        if frame.opcode in DATA_OPCODES:
            if self._is_message_complete:
                self.head = b""
            if len(self.head) < HEAD_BYTES:
                self.head += payload[: HEAD_BYTES - len(self.head)]
            # A long frame comes out in parts, as far as it was received.
            self._is_message_complete = frame.frame_finished and frame.message_finished
        return frame

    def _close(self, frame: Frame, payload: bytes) -> Frame:
        """Note a close frame, and make it one that wsproto takes for what it is."""
        if len(payload) < CODE_BYTES:
            self.head = payload
            return frame
        code = int.from_bytes(payload[:CODE_BYTES], "big")
        reason = payload[CODE_BYTES:].decode(errors="replace")
        self.close_frame = CloseFrame(code, reason)
        if code not in KNOWN_CODES and not MIN_LIBRARY_CLOSE_REASON <= code <= MAX_CLOSE_REASON:
            payload = CloseReason.PROTOCOL_ERROR.to_bytes(CODE_BYTES, "big")  # our answer's code
        return frame._replace(payload=payload[:CODE_BYTES] + reason.encode())
