"""WebSocket frames, as little of them as a benchmark needs (RFC 6455)."""

import os
import struct

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def _head(opcode: int, size: int, masked: int = 0) -> bytes:
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, masked | size)
    if size < 2**16:
        return struct.pack("!BBH", 0x80 | opcode, masked | 126, size)
    return struct.pack("!BBQ", 0x80 | opcode, masked | 127, size)


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole frame of a server."""
    return _head(opcode, len(payload)) + payload


def text_frame(payload: bytes) -> bytes:
    """A text message of a server."""
    return frame(TEXT, payload)


def client_frame(payload: bytes) -> bytes:
    """A text message of a client, masked as it must be."""
    mask = os.urandom(4)
    return _head(TEXT, len(payload), 0x80) + mask + _masked(payload, mask)


def take_client_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take one masked frame off the buffer: opcode and payload; None when it is not all there."""
    if len(buffer) < 2:
        return None
    size, begin = buffer[1] & 0x7F, 2
    if size > 125:
        begin = 4 if size == 126 else 10
        if len(buffer) < begin:
            return None
        size = int.from_bytes(buffer[2:begin], "big")
    end = begin + 4 + size
    if len(buffer) < end:
        return None
    payload = _masked(bytes(buffer[begin + 4 : end]), bytes(buffer[begin : begin + 4]))
    opcode = buffer[0] & 0x0F
    del buffer[:end]
    return opcode, payload


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return number.to_bytes(size, "big")


class Splitter:
    """Cuts what a server sends into payloads of text frames; nothing else must come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now."""
        if self._rest:
            data = self._rest + data
        payloads: list[bytes] = []
        at, end = 0, len(data)
        while end - at >= 2:
            size, begin = data[at + 1], at + 2
            if size == 126:
                begin = at + 4
                size = int.from_bytes(data[at + 2 : begin], "big")
            elif size == 127:
                begin = at + 10
                size = int.from_bytes(data[at + 2 : begin], "big")
            if begin + size > end:
                break
            at = begin + size
            payloads.append(data[begin:at])
        self._rest = data[at:]
        return payloads
