"""What is remembered of a stream of frames, however it was cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.actors.scripted_server import frame_bytes
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage
from wsproto.frame_protocol import FrameDecoder, FrameProtocol

from polyactors.framing import HEAD_BYTES, CloseFrame, Framing

CUTS = st.lists(st.integers(1, 50), max_size=20)


def opened(data: bytes = b"") -> Framing:
    """The client's side after its upgrade; `data` came in one piece with the server's answer."""
    client, server = Framing(), WSConnection(ConnectionType.SERVER)
    server.receive_data(client.send(Request(host="market.test", target="/")))
    list(server.events())
    client.receive_data(server.send(AcceptConnection()) + data)
    return client


def receive(client: Framing, data: bytes, cuts: list[int]) -> str:
    """Hand over data in pieces of these sizes, and the rest; returns the text of all messages."""
    texts: list[str] = []
    for size in [*cuts, len(data)]:
        piece, data = data[:size], data[size:]
        client.receive_data(piece)
        texts += [event.data for event in client.events() if isinstance(event, TextMessage)]
    return "".join(texts)


def test_the_private_names_of_wsproto_are_what_framing_takes_them_for() -> None:
    connection = opened().connection
    assert isinstance(connection, Connection)
    protocol = connection._proto  # pyright: ignore[reportPrivateUsage]
    assert isinstance(protocol, FrameProtocol)
    fresh = Connection(ConnectionType.CLIENT)._proto  # pyright: ignore[reportPrivateUsage]
    assert type(fresh._frame_decoder) is FrameDecoder  # pyright: ignore[reportPrivateUsage]
    assert vars(protocol._frame_decoder).keys() >= vars(FrameDecoder(client=True)).keys()  # pyright: ignore[reportPrivateUsage]


def test_before_the_upgrade_nothing_is_known() -> None:
    framing = Framing()
    assert (framing.close_frame, framing.breach, framing.head) == (None, None, b"")


def test_frames_that_came_in_one_piece_with_the_upgrade_are_not_lost() -> None:
    client = opened(frame_bytes(0x1, b"one") + frame_bytes(0x8, b"\x03\xe8"))
    assert receive(client, b"", []) == "one"
    assert client.close_frame == CloseFrame(1000, "")


@given(CUTS, st.text(max_size=300), st.integers(0, 400))
def test_messages_pass_unchanged_and_leave_their_beginning(
    cuts: list[int], text: str, at: int
) -> None:
    client = opened()
    data = text.encode()
    parts = frame_bytes(0x1, data[:at], final=False) + frame_bytes(0x0, data[at:])
    assert receive(client, frame_bytes(0x1, b"before") + parts, cuts) == "before" + text
    assert client.head == data[:HEAD_BYTES]
    assert (client.close_frame, client.breach) == (None, None)


@given(CUTS, st.integers(0, 0xFFFF), st.binary(max_size=123))
def test_a_close_frame_with_a_code_is_one_whatever_the_code_and_the_reason(
    cuts: list[int], code: int, reason: bytes
) -> None:
    client = opened()
    receive(client, frame_bytes(0x8, code.to_bytes(2, "big") + reason), cuts)
    assert client.close_frame == CloseFrame(code, reason.decode(errors="replace"))
    assert client.breach is None
    client.send(CloseConnection(1000))  # it can be answered: the server closes, not we


@pytest.mark.parametrize(
    ("code", "answered"), [(1000, 1000), (1008, 1008), (4000, 4000), (1006, 1002), (1014, 1002)]
)
def test_a_close_frame_is_answered_by_its_code_or_else_by_protocol_error(
    code: int, answered: int
) -> None:
    client = opened(frame_bytes(0x8, code.to_bytes(2, "big")))
    _, close = client.events()  # the first is the upgrade
    assert isinstance(close, CloseConnection)
    assert close.response().code == answered


@given(CUTS, st.binary(max_size=300), st.binary(max_size=300))
def test_text_that_is_no_utf8_is_a_breach_that_shows_its_beginning(
    cuts: list[int], before: bytes, behind: bytes
) -> None:
    bad = before + b"\xff" + behind
    client = opened()
    receive(client, frame_bytes(0x1, b"good") + frame_bytes(0x1, bad), cuts)
    assert client.breach is not None
    assert client.breach.startswith("a text frame is no UTF-8")
    assert bad.startswith(client.head)
    assert client.head  # no more than was received when it showed, and then at most HEAD_BYTES
    assert len(client.head) <= HEAD_BYTES


@pytest.mark.parametrize("kept", [0, 1, HEAD_BYTES, HEAD_BYTES + 1])
def test_what_is_no_frame_is_shown_from_its_first_byte(kept: int) -> None:
    wrong = frame_bytes(0x3, b"x" * kept)
    client = opened(frame_bytes(0x1, b"good") + wrong)
    receive(client, b"", [])
    assert client.head == wrong[:HEAD_BYTES]
    assert client.breach == "not the WebSocket protocol: Invalid opcode 0x3"


def test_what_comes_after_our_own_close_frame_is_no_breach() -> None:
    client = opened()
    client.send(CloseConnection(1000))
    receive(client, frame_bytes(0x1, b"\xff"), [])
    assert client.breach is None


@pytest.mark.parametrize("end", [frame_bytes(0x8, b"\x03\xe8"), frame_bytes(0x1, b"\xff")])
def test_nothing_comes_behind_the_end(end: bytes) -> None:
    client = opened()
    list(client.events())
    client.feed(frame_bytes(0x1, b"last") + end + frame_bytes(0x1, b"behind"))
    received: list[list[str | bytes]] = [[], [], [], []]
    events = [client.proceed(texts, bytes_max=100, messages_max=9) for texts in received]
    assert [texts for texts in received if texts] == [["last"]]
    assert [type(event) for event in events if event is not None] == [CloseConnection]
    assert client.is_all_read
