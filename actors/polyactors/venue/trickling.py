"""The stream under a session: it can be made slow, and knows when bytes last arrived."""

import math
import socket
import struct

import trio

TRICKLE_BYTES = 256
"""How much a slow session sends at once."""
TRICKLE_SECONDS = 0.05
"""How long it then pauses: about 5 kB/s."""
_CHUNK_BYTES = 64 * 1024
_OVERSIZE_HEAD = b'{"event_type":"oversize","padding":"'
_OVERSIZE_TAIL = b'"}'
OVERSIZE_BYTES_MIN = 2**16
"""Smallest oversized frame: below, WebSocket frames have another head."""


class TricklingStream(trio.abc.Stream):
    """Passes everything on to `stream`; what one call sends is never mixed with another's."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.slow_until = -math.inf
        """`trio.current_time()` until which what is sent trickles."""
        self.received_at = trio.current_time()
        self._stream = stream
        self._sending = trio.Lock()

    def linger_no_more(self) -> None:
        """Make closing a reset: what is unsent is thrown away and the peer gets a RST."""
        if isinstance(self._stream, trio.SocketStream):
            linger = struct.pack("ii", 1, 0)
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything; as long as the stream is slow, in small pieces with pauses."""
        async with self._sending:
            await self._send(data)

    async def send_oversize_frame(self, size_bytes: int) -> None:
        """Send one WebSocket text frame with so many bytes of JSON: an unknown event.

        It is written past the WebSocket library, from one small piece: whole, it would be in
        memory several times. *Cancellation*: leaves half a frame, the session must end.
        """
        assert size_bytes >= OVERSIZE_BYTES_MIN
        left = size_bytes - len(_OVERSIZE_HEAD) - len(_OVERSIZE_TAIL)
        piece = b"x" * _CHUNK_BYTES
        async with self._sending:
            # RFC 6455, 5.2: a final, unmasked text frame with a length of eight bytes.
            await self._send(struct.pack("!BBQ", 0x81, 127, size_bytes) + _OVERSIZE_HEAD)
            while left > 0:
                await self._send(piece[:left])
                left -= len(piece)
            await self._send(_OVERSIZE_TAIL)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream says."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the stream says, noting the time."""
        data = await self._stream.receive_some(max_bytes)
        self.received_at = trio.current_time()
        return data

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def _send(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while rest and trio.current_time() < self.slow_until:
            await self._stream.send_all(rest[:TRICKLE_BYTES])
            rest = rest[TRICKLE_BYTES:]
            await trio.sleep_until(min(self.slow_until, trio.current_time() + TRICKLE_SECONDS))
        if rest:
            await self._stream.send_all(rest)
