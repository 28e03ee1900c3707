"""The fast path by itself. That it agrees with wsproto is for tests/properties to show."""

import pytest
from tests.properties.wire_frames import frame

from polyactors.splitter import HELD_BYTES_MAX, is_worth_waiting, payload_span, take_texts

SIZES = [2, 125, 126, 65535, 65536]


def taken(data: bytes, at: int = 0, *, bytes_max: int = 10**6, texts_max: int = 100) -> object:
    """The texts, and where it stopped."""
    texts: list[str | bytes] = []
    return take_texts(data, at, texts, bytes_max=bytes_max, texts_max=texts_max), texts


@pytest.mark.parametrize("size", SIZES)
def test_whole_texts_are_taken_in_order_whatever_their_length(size: int) -> None:
    texts = ["x" * size, "é" * (size // 2), "end"]
    data = b"".join(frame(0x1, text.encode()) for text in texts)
    assert taken(data) == (len(data), texts)
    assert taken(bytes(7) + data, 7) == (len(data) + 7, texts)


@pytest.mark.parametrize("size", SIZES)
def test_a_text_that_is_cut_off_is_left_from_its_first_byte_on(size: int) -> None:
    first, second = frame(0x1, b"first"), frame(0x1, b"x" * size)
    for cut in (1, 2, 3, 5, 9, len(second) - 1):
        assert taken(first + second[: min(cut, len(second) - 1)]) == (len(first), ["first"])


@pytest.mark.parametrize(
    "other",
    [
        frame(0x2, b"binary"),
        frame(0x8, b"\x03\xe8"),
        frame(0x9, b"ping"),
        frame(0x0, b"rest"),
        frame(0x1, b"begun", final=False),
        frame(0x1, b"text", reserved=1),
        frame(0x1, b"text", masked=True),
        frame(0x1, b"x" * 200, masked=True),
        frame(0x1, b"x" * 65536, masked=True),
        frame(0x1, b"x" * 125, form=16),
        frame(0x1, b"x" * 65535, form=64),
        frame(0x1, b"text", form=64, claimed=2**63),
        frame(0x1, b"\xff\xff"),
        frame(0x1, b"x" * 1001),
    ],
    ids=[
        "binary",
        "close",
        "ping",
        "continuation",
        "fragment",
        "reserved bit",
        "mask",
        "mask, 16 bits",
        "mask, 64 bits",
        "16 bits too many",
        "64 bits too many",
        "64th bit",
        "no UTF-8",
        "too long",
    ],
)
def test_it_stops_before_anything_else(other: bytes) -> None:
    first = frame(0x1, b"first")
    for behind in (b"", frame(0x1, b"good"), b"x" * 300, b"x" * 70_000):
        data = first + other + behind
        for bytes_max in (1000, 100_000) if len(other) != 1005 else (1000,):
            assert taken(data, bytes_max=bytes_max) == (len(first), ["first"])
            assert not is_worth_waiting(data, len(first), bytes_max=bytes_max)


def test_no_more_texts_are_taken_than_asked_for() -> None:
    data = frame(0x1, b"text") * 5
    assert taken(data, texts_max=3) == (18, ["text"] * 3)
    assert taken(data, texts_max=0) == (0, [])


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 2**63])
def test_the_span_of_a_payload_is_known_when_its_header_is_whole(size: int) -> None:
    data = frame(0x1, claimed=size)
    assert payload_span(b"." + data, 1) == (len(data) + 1, len(data) + 1 + size)
    for at in range(1, len(data)):
        assert payload_span(b"." + data[:at], 1) is None


def test_only_a_short_text_that_may_become_a_good_one_is_waited_for() -> None:
    def is_waited_for(data: bytes) -> bool:
        return is_worth_waiting(b"." + data, 1, bytes_max=20_000)

    assert is_waited_for(frame(0x1, b"abc", claimed=4))
    assert is_waited_for(frame(0x1, b"", claimed=126))
    assert is_waited_for(frame(0x1, b"abc", claimed=HELD_BYTES_MAX))
    assert not is_waited_for(frame(0x1, b"abc", claimed=HELD_BYTES_MAX + 1))
    assert not is_waited_for(frame(0x1, "é".encode(), claimed=4))  # wsproto looks at it at once
    assert not is_waited_for(frame(0x1, b"abc", claimed=4, form=16))
    assert not is_waited_for(frame(0x1, b"abc", claimed=4, masked=True))
    assert not is_waited_for(frame(0x9, b"abc", claimed=4))
    assert not is_waited_for(frame(0x1, b"abcd"))
    assert not is_waited_for(b"\x81")
    assert not is_worth_waiting(frame(0x1, b"abc", claimed=21), 0, bytes_max=20)
