"""What is received does not depend on who cut it into frames: the splitter or wsproto."""

import re
from collections.abc import Iterable

import pytest
from attrs import Factory, define
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.properties.wire_frames import LIMITS, LONG_FRAMES, STREAMS, TEXT_FRAMES, frame
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from polyactors.framing import CloseFrame, Framing
from polyactors.splitter import HELD_BYTES_MAX

MESSAGES_MAX = 5
"""Small, so that batches are full."""


@define
class Outcome:
    """All that an application can learn of a stream of frames."""

    heard: list[tuple[str, object]] = Factory(list[tuple[str, object]])
    """Messages, pings, pongs and the end, in order."""
    breach: str | None = None
    close_frame: CloseFrame | None = None
    head: bytes = b""
    """The beginning of what was unreadable."""


class Listener:
    """Puts messages together as trio-websocket does, with its limit of size."""

    def __init__(self, bytes_max: int) -> None:
        self.outcome = Outcome()
        self.is_over = False
        self._bytes_max = bytes_max
        self._size = 0
        self._parts: list[str | bytes] = []

    def hear(self, event: Event) -> None:
        if self.is_over:
            return
        match event:
            case TextMessage() | BytesMessage():
                self._size += len(event.data)
                data = event.data
                self._parts.append(data if isinstance(data, str) else bytes(data))
                if self._size > self._bytes_max:
                    self._say("too large", None)
                    self.is_over = True
                elif event.message_finished:
                    empty = b"" if isinstance(event, BytesMessage) else ""
                    self._say("message", empty.join(self._parts))  # type: ignore[arg-type]
                    self._size, self._parts = 0, []
            case Ping() | Pong():
                self._say(type(event).__name__, bytes(event.payload))
            case CloseConnection():
                self._say("end", (event.code, without_position(event.reason)))
                self.is_over = True
            case _:
                raise AssertionError(event)

    def _say(self, what: str, content: object) -> None:
        self.outcome.heard.append((what, content))

    def end(self, framing: Framing) -> Outcome:
        outcome = self.outcome
        outcome.breach = without_position(framing.breach)
        outcome.close_frame = framing.close_frame
        if outcome.breach is not None or ("too large", None) in outcome.heard:
            outcome.head = framing.head
        return outcome


def without_position(reason: str | None) -> str | None:
    """Where in a text wsproto finds what is no UTF-8 is counted from the last cut."""
    return reason and re.sub(r"in position [\d-]+", "in position N", reason)


def opened(behind: bytes = b"") -> Framing:
    """The client's side after its upgrade; `behind` came in one piece with the answer."""
    client, server = Framing(), WSConnection(ConnectionType.SERVER)
    server.receive_data(client.send(Request(host="market.test", target="/")))
    list(server.events())
    client.receive_data(server.send(AcceptConnection()) + behind)
    assert isinstance(next(client.events()), AcceptConnection)
    return client


def by_wsproto(chunks: Iterable[bytes], bytes_max: int) -> Outcome:
    first, *others = chunks
    client, listener = opened(first), Listener(bytes_max)
    for chunk in (b"", *others):
        if listener.is_over:
            break
        client.receive_data(chunk)
        for event in client.events():
            listener.hear(event)
            if listener.is_over:
                break
    return listener.end(client)


def by_splitter(chunks: Iterable[bytes], bytes_max: int) -> Outcome:
    first, *others = chunks
    client, listener = opened(first), Listener(bytes_max)
    for chunk in (b"", *others):
        client.feed(chunk)
        while not listener.is_over:
            texts: list[str | bytes] = []
            event = client.proceed(texts, bytes_max=bytes_max, messages_max=MESSAGES_MAX)
            assert len(texts) <= MESSAGES_MAX
            for text in texts:
                assert isinstance(text, str)
                listener.hear(TextMessage(data=text))
            if event is not None:
                listener.hear(event)
            elif not texts and client.is_all_read:
                break
    return listener.end(client)


def by_plain_wsproto(chunks: Iterable[bytes], bytes_max: int) -> list[tuple[str, object]]:
    """wsproto as it is, without Framing's memory."""
    client, server = WSConnection(ConnectionType.CLIENT), WSConnection(ConnectionType.SERVER)
    server.receive_data(client.send(Request(host="market.test", target="/")))
    list(server.events())
    client.receive_data(server.send(AcceptConnection()))
    list(client.events())
    listener = Listener(bytes_max)
    for chunk in chunks:
        if listener.is_over:
            break
        client.receive_data(chunk)
        for event in client.events():
            listener.hear(event)
            if listener.is_over:
                break
    return listener.outcome.heard


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks: list[bytes] = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data]


@given(STREAMS, st.lists(st.integers(0, 300), max_size=12), st.sampled_from(LIMITS))
@example([frame(0x1, b"one"), frame(0x9, b"p"), frame(0x1, b"two")], [1, 1, 1, 1], 20)
@example([frame(0x1, b"", form=16)], [3], 20)
@example([frame(0x8, b"\x03\xe8"), frame(0x1, b"behind the end")], [], 20)
@example([frame(0x1, b"begun", final=False), frame(0x1, b"\xff")], [3], 20)
@example([frame(0x1, b"begun", final=False), frame(0x1, b"no rest of it")], [], 20)
@example([frame(0x1, b"hidden", masked=True), b"x" * 300], [], 1000)
def test_a_stream_cut_anywhere_is_heard_alike(
    frames: list[bytes], sizes: list[int], bytes_max: int
) -> None:
    chunks = cut(b"".join(frames), sizes)
    assert by_splitter(chunks, bytes_max) == by_wsproto(chunks, bytes_max)


@given(STREAMS, st.sampled_from(LIMITS))
def test_a_stream_cut_at_every_offset_is_heard_alike(frames: list[bytes], bytes_max: int) -> None:
    data = b"".join(frames)[:300]
    for at in range(len(data) + 1):
        chunks = [data[:at], data[at:]]
        assert by_splitter(chunks, bytes_max) == by_wsproto(chunks, bytes_max)


@given(STREAMS, st.sampled_from(LIMITS), st.integers(1, 3))
def test_a_stream_that_comes_in_drops_is_heard_alike(
    frames: list[bytes], bytes_max: int, size: int
) -> None:
    data = b"".join(frames)[:1500]
    chunks = [b"", *(data[at : at + size] for at in range(0, len(data), size))]
    assert by_splitter(chunks, bytes_max) == by_wsproto(chunks, bytes_max)


@given(
    st.lists(st.one_of(LONG_FRAMES, TEXT_FRAMES), max_size=4),
    st.lists(st.integers(1, 70_000), max_size=6),
    st.sampled_from(LIMITS),
)
def test_long_frames_are_heard_alike(frames: list[bytes], sizes: list[int], bytes_max: int) -> None:
    chunks = cut(b"".join(frames), sizes)
    assert by_splitter(chunks, bytes_max) == by_wsproto(chunks, bytes_max)


LONG = frame(0x1, b"x" * 65536)


@pytest.mark.parametrize("at", [*range(12), HELD_BYTES_MAX, len(LONG) - 1, len(LONG)])
def test_a_length_of_64_bits_may_be_cut_anywhere(at: int) -> None:
    for data in (LONG, LONG + frame(0x1, b"next"), frame(0x1, b"before") + LONG):
        chunks = [data[:at], data[at:]]
        assert by_splitter(chunks, 70_000) == by_wsproto(chunks, 70_000)


@given(STREAMS, st.lists(st.integers(0, 300), max_size=12), st.sampled_from(LIMITS))
def test_what_framing_remembers_changes_nothing_that_wsproto_says_of_messages(
    frames: list[bytes], sizes: list[int], bytes_max: int
) -> None:
    chunks = cut(b"".join(frames), sizes)
    outcome = by_splitter(chunks, bytes_max)
    plain = by_plain_wsproto(chunks, bytes_max)
    if outcome.close_frame is not None:
        # wsproto takes some close frames for a breach; Framing tells what the server sent.
        assert (outcome.heard[-1][0], plain[-1][0]) == ("end", "end")
        del outcome.heard[-1], plain[-1]
    assert outcome.heard == plain


def test_every_close_code_is_heard_alike() -> None:
    for code in (*range(5100), 0x7FFF, 0x8000, 0xFFFF):
        data = frame(0x1, b"last") + frame(0x8, code.to_bytes(2, "big") + b"why")
        outcome = by_splitter([data], 1000)
        assert outcome == by_wsproto([data], 1000)
        assert outcome.close_frame == CloseFrame(code, "why")


def test_the_streams_of_these_tests_go_every_way() -> None:
    """Else an equality of two nothings would prove nothing."""
    ways: set[str] = set()

    @settings(max_examples=1000, derandomize=True)
    @given(STREAMS, st.sampled_from(LIMITS))
    def look(frames: list[bytes], bytes_max: int) -> None:
        outcome = by_splitter([b"".join(frames)], bytes_max)
        ways.update(what for what, _ in outcome.heard)
        if outcome.close_frame is not None:
            ways.add("closed")
        for word in ("UTF-8", "Reserved", "masked", "opcode", "sufficed", "CONTINUATION", "MSB"):
            if outcome.breach is not None and word in outcome.breach:
                ways.add(word)

    look()
    assert ways >= {"message", "Ping", "Pong", "end", "too large", "closed", "UTF-8", "Reserved"}
    assert ways >= {"masked", "opcode", "sufficed", "CONTINUATION", "MSB"}
