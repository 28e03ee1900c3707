"""The fast path over received WebSocket bytes: whole text frames, as a server sends them.

Nearly all that Polymarket sends are text frames in one part. wsproto takes some 20 us for each;
these few lines take well under one. They know nothing else: whatever is not plainly such a frame
is left standing for wsproto (framing.py), so that every rule of RFC 6455 stays in one place.
tests/properties/test_splitter_equals_wsproto.py holds both against each other, byte for byte.

Pure: values in, values out.
"""

from struct import Struct

HELD_BYTES_MAX = 16384
"""A frame up to this size whose end is still to come waits for it here. A larger one goes to
wsproto part by part: putting parts together anew with each read would cost the square of it."""

_TEXT = 0x81
"""The first byte of a text frame in one part, without reserved bits (RFC 6455 section 5.2)."""
_PAYLOAD_MIN = {2: 0, 4: 126, 10: 65536}
"""By the bytes of the header: the smallest payload that may have such a one."""
_head = Struct("!BBH").unpack_from


def take_texts(
    data: bytes, at: int, texts: list[str | bytes], *, bytes_max: int, texts_max: int
) -> int:
    """Append the text frames that stand whole in `data` from `at` on; returns where it stopped.

    It stops before a frame that is cut off, fragmented, masked, no text, no UTF-8, longer than
    `bytes_max`, or wrong in any way, and when `texts_max` were taken. (A text of less than two
    bytes at the very end is left as well: the header is read in one piece.)
    """
    end = len(data)
    last_head = end - 4
    try:
        for _ in range(texts_max):
            if at > last_head:
                break
            first, size, long_size = _head(data, at)
            if first != _TEXT:
                break
            start = at + 2
            if size > 125:
                # A mask makes it 128 and more.
                if size == 126 and long_size > 125:
                    size = long_size
                    start = at + 4
                elif size == 127 and at + 10 <= end:
                    start = at + 10
                    size = int.from_bytes(data[at + 2 : start], "big")
                    if size < 65536:
                        break
                else:
                    break
            after = start + size
            if after > end or size > bytes_max:
                break
            texts.append(data[start:after].decode())
            at = after
    except UnicodeDecodeError:
        pass  # wsproto says where
    return at


def payload_span(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `at` begins and ends by its header, be it wrong or not.

    None while the header is cut off. The end may lie behind that of `data`.
    """
    if len(data) < at + 2:
        return None
    size = data[at + 1] & 0x7F
    start = at + {126: 4, 127: 10}.get(size, 2)
    if len(data) < start:
        return None
    if size > 125:
        size = int.from_bytes(data[at + 2 : start], "big")
    return start, start + size


def is_worth_waiting(data: bytes, at: int, *, bytes_max: int) -> bool:
    """Whether the frame at `at`, which is cut off, may be taken by `take_texts` when its end comes.

    Only when there is nothing about it that wsproto would find now.
    """
    span = payload_span(data, at)
    if span is None or data[at] != _TEXT or data[at + 1] > 127:
        return False
    start, end = span
    size = end - start
    return (
        _PAYLOAD_MIN[start - at] <= size <= min(bytes_max, HELD_BYTES_MAX)
        and len(data) < end
        and data[start:].isascii()
    )
