"""WebSocket frames as a server may send them, right and wrong (RFC 6455 section 5.2)."""

from hypothesis import strategies as st

LENGTH_BYTES = {7: 0, 16: 2, 64: 8}
LIMITS = (20, 1000, 70_000)
"""Largest messages that are taken."""
SIZES = (0, 1, 2, 20, 21, 124, 125, 126, 127, 999, 1000, 1001, 16383, 16384, 16385)
LONG_SIZES = (65535, 65536, 70_000, 70_001)


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    masked: bool = False,
    form: int | None = None,
    claimed: int | None = None,
) -> bytes:
    """One frame. `form`: in how many bits the length stands, the least that will do if None.

    `claimed` is the length that the header tells.
    """
    size = len(payload) if claimed is None else claimed
    form = form or (7 if size < 126 else 16 if size < 2**16 else 64)
    short = {7: size, 16: 126, 64: 127}[form]
    length = b"" if form == 7 else size.to_bytes(LENGTH_BYTES[form], "big")
    head = bytes([final << 7 | reserved << 4 | opcode, masked << 7 | short]) + length
    return head + (bytes(4) if masked else b"") + payload  # a mask of zeros changes nothing


def close_frame(code: int, reason: bytes) -> bytes:
    return frame(0x8, code.to_bytes(2, "big") + reason)


def wide_frame(size: int, form: int) -> bytes:
    """A text whose length stands in so many bits."""
    return frame(0x1, b"x" * size, form=form)


def boasting_frame(claimed: int) -> bytes:
    """A text that is said to have a length, in 64 bits, that it has not."""
    return frame(0x1, b"short", form=64, claimed=claimed)


TEXTS = st.one_of(
    st.text(st.characters(max_codepoint=127), max_size=30),
    st.text(max_size=30),
    st.sampled_from(SIZES).map(lambda size: "x" * size),
    st.sampled_from(SIZES).map(lambda size: "é" * (size // 2) + "x" * (size % 2)),
)
BROKEN_TEXTS = st.sampled_from(
    (b"\xff", b"abc\xe2\x82", b"\xe2\x82", b"a" * 130 + b"\xc0\x80", b"\xed\xa0\x80", b"\xf8")
)
TEXT_FRAMES = TEXTS.map(lambda text: frame(0x1, text.encode()))
CONTROL_FRAMES = st.builds(frame, st.sampled_from((0x9, 0xA)), st.binary(max_size=125))
CLOSE_FRAMES = st.builds(
    close_frame,
    st.one_of(st.integers(990, 1020), st.sampled_from((0, 2999, 3000, 4999, 5000, 65535))),
    st.one_of(st.text(max_size=20).map(str.encode), st.binary(max_size=123)),
)


@st.composite
def fragments(draw: st.DrawFn) -> bytes:
    """One message in several frames, cut anywhere, with control frames between them."""
    data = draw(st.one_of(TEXTS.map(str.encode), BROKEN_TEXTS, st.binary(max_size=200)))
    opcode = draw(st.sampled_from((0x1, 0x1, 0x2)))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), min_size=1, max_size=4)))
    parts: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        part = data[start:end]
        parts.append(frame(0 if parts else opcode, part, final=False))
        parts += draw(st.lists(CONTROL_FRAMES, max_size=1))
    return b"".join([*parts, frame(0x0, draw(st.sampled_from((b"", b"end"))))])


OPCODES = st.sampled_from((0x0, 0x1, 0x1, 0x2, 0x8, 0x9, 0xA))
PAYLOADS = st.binary(max_size=130)
WRONG_FRAMES = st.one_of(
    BROKEN_TEXTS.map(lambda payload: frame(0x1, payload)),
    st.builds(frame, st.integers(0, 15), PAYLOADS, final=st.booleans()),
    TEXTS.map(lambda text: frame(0x1, text.encode(), final=False)),
    st.builds(frame, OPCODES, PAYLOADS, reserved=st.integers(1, 7)),
    st.builds(frame, OPCODES, PAYLOADS, masked=st.just(True)),
    st.builds(
        wide_frame,
        st.sampled_from((0, 1, 125, 126, 200)),
        st.sampled_from((16, 64)),
    ),
    st.builds(
        boasting_frame,
        st.sampled_from((6, 126, 65536, 2**31, 2**63 - 1, 2**63, 2**64 - 1)),
    ),
    st.sampled_from((b"", b"\x03", b"\x03\xe8\xff")).map(lambda payload: frame(0x8, payload)),
)
BINARY_FRAMES = st.binary(max_size=130).map(lambda payload: frame(0x2, payload))
LONG_FRAMES = st.sampled_from(LONG_SIZES).map(lambda size: frame(0x1, b"x" * size))

GOOD_FRAMES = st.one_of(TEXT_FRAMES, TEXT_FRAMES, CONTROL_FRAMES, BINARY_FRAMES, fragments())
STREAMS = st.lists(st.one_of(GOOD_FRAMES, GOOD_FRAMES, WRONG_FRAMES, CLOSE_FRAMES), max_size=8)
"""Frames one behind the other: some streams are good to the end, others go wrong amid."""
