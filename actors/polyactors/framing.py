"""wsproto, with a memory for what the server really sent.

wsproto answers a breach of the protocol by an event that looks as though the server had closed
the connection: text that is no UTF-8 by `CloseConnection(1007)`, everything else by 1002, also a
close frame whose code it does not know (1014) or that no peer may send (1005, 1006, 1015). What
was received is gone by then. `feed_down` says which it was, and an unreadable frame is kept for
inspection, so `Framing` looks at every frame just before wsproto judges it.

For that it touches two private names of wsproto (1.3): `Connection._proto` and
`FrameProtocol._frame_decoder`. tests/actors/test_framing.py fails loudly when they change.

It also keeps wsproto from the frames that the splitter takes in a fraction of the time: between
`feed` and `proceed` it is given one frame at a time, and only those that are something else than
a plain text, or a large one in parts.
"""

from collections.abc import Generator

from attrs import frozen
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
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

from polyactors.splitter import is_worth_waiting, payload_span, take_texts

HEAD_BYTES = 200
"""How much is kept of the message, or of the frame that is none, that came last."""
CODE_BYTES = 2
CONTROL_BIT = 0x08
"""Of the first byte of a frame: that it is no part of a message."""
DATA_OPCODES = (Opcode.TEXT, Opcode.CONTINUATION, Opcode.BINARY)
KNOWN_CODES = frozenset(CloseReason) - frozenset(LOCAL_ONLY_CLOSE_REASONS)
"""What wsproto lets a peer send, besides what is anybody's to choose, 3000 to 4999."""


@frozen
class CloseFrame:
    """A close frame of the server's, whether it may send such a one or not."""

    code: int
    reason: str
    """What is no UTF-8 in it became replacement characters."""


def missing_names() -> list[str]:
    """The private names of wsproto that this module needs and that are not there."""
    protocol = getattr(Connection(ConnectionType.CLIENT), "_proto", None)
    if protocol is None:
        return ["wsproto.connection.Connection._proto"]
    if not isinstance(getattr(protocol, "_frame_decoder", None), FrameDecoder):
        return ["wsproto.frame_protocol.FrameProtocol._frame_decoder"]
    return []


class Framing(WSConnection):
    """The client's side of one connection.

    What was received is given to either `receive_data` and `events`, which are wsproto's, or,
    from the end of the upgrade on, to `feed` and `proceed`.
    """

    def __init__(self) -> None:
        super().__init__(ConnectionType.CLIENT)
        self._frames: _Frames | None = None
        self._unread: bytes = b""
        self._at = 0
        """Up to where `_unread` is done with."""
        self._held: bytes = b""
        """The beginning of a text whose end did not come yet; then all else is read."""
        self._is_over = False
        """Nothing counts that comes now: a close frame, or a breach of the protocol, came."""
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

    @property
    def is_all_read(self) -> bool:
        """Whether `proceed` has nothing to do before more is fed."""
        return self._is_over or self._at >= len(self._unread)

    def feed(self, data: bytes) -> None:
        """Take what was received; what came behind the upgrade is taken with the first of it."""
        assert self._frames is not None, "before the end of the upgrade"
        rest = self._held or self._frames.take_back() or self._unread[self._at :]
        self._unread = rest + data if rest else data
        self._at = 0
        self._held = b""

    def proceed(
        self, messages: list[str | bytes], *, bytes_max: int, messages_max: int
    ) -> Event | None:
        """Append whole texts to `messages` up to the next event that is not one of them.

        Returns the event: a message too, or a part of it, when it is not a plain text of at
        most `bytes_max`. None when all was read, when `messages` has grown to `messages_max`,
        and while there are any, before a control frame: the answer to it may have to wait for
        the peer, which they should not. `is_all_read` tells. Nothing comes after the event of a
        close frame or of a breach.
        """
        frames = self._frames
        assert frames is not None, "before the end of the upgrade"
        while not self._is_over:
            unread, at = self._unread, self._at
            if frames.header is not None:
                end = at + frames.missing_bytes
            else:
                if frames.is_message_complete:
                    left = messages_max - len(messages)
                    at = take_texts(unread, at, messages, bytes_max=bytes_max, texts_max=left)
                    self._at = at
                    if len(messages) >= messages_max:
                        return None
                    if is_worth_waiting(unread, at, bytes_max=bytes_max):
                        self._held = unread[at:]
                        self._at = len(unread)
                        return None
                span = payload_span(unread, at)
                end = len(unread) if span is None else span[1]
            if at >= len(unread):
                return None
            if messages and frames.header is None and unread[at] & CONTROL_BIT:
                return None
            self._at = end
            self.receive_data(unread[at:end])
            for event in self.events():  # of one frame, so it is one at most
                if frames.is_broken:
                    frames.head = bytes(unread[at : at + HEAD_BYTES])
                return event
        return None

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
            self._is_over = self._is_over or isinstance(event, CloseConnection)
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
        self.is_message_complete = True
        """Whether a message may begin with the next frame."""
        self.is_broken = False
        """What came last is no frame."""

    @property
    def missing_bytes(self) -> int:
        """How much of the payload of the frame that is being read was not given to wsproto."""
        assert self.header is not None
        return self.header.payload_len - self.payload_consumed - len(self.buffer)

    def take_back(self) -> bytes:
        """What was given to wsproto and is not even a whole header: at most a few bytes.

        After the upgrade it is whatever came in one piece with it.
        """
        if self.header is not None:
            return b""
        data = bytes(self.buffer.buffer)
        self.buffer.buffer.clear()
        return data

    def process_buffer(self) -> Frame | None:
        try:
            frame = super().process_buffer()
        except ParseFailed:
            self.is_broken = True
            self.head = bytes(self.buffer.buffer[:HEAD_BYTES])  # from its first byte on
            raise
        if frame is None:
            return None
        payload = frame.payload
        assert isinstance(payload, bytes)
        if frame.opcode is Opcode.CLOSE:
            return self._close(frame, payload)
        if frame.opcode in DATA_OPCODES:
            if self.is_message_complete:
                self.head = b""
            if len(self.head) < HEAD_BYTES:
                self.head += payload[: HEAD_BYTES - len(self.head)]
            # A long frame comes out in parts, as far as it was received.
            self.is_message_complete = frame.frame_finished and frame.message_finished
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
