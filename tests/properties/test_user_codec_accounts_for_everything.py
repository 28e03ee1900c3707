"""Whatever comes, the user codec does not raise, and each element of it is accounted for."""

import copy
import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.actors.protocol.test_user_codec import API_KEY, ORDER, TRADE

from polyactors.protocol._json import WireError, is_array
from polyactors.protocol.events import ControlText
from polyactors.protocol.user_codec import UserCodec
from polyactors.protocol.user_events import OrderEvent, TradeEvent
from polyactors.protocol.user_rest import decode_orders_page, decode_trades_page

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A message with some of its values exchanged, missing, or added, also in its makers."""
    message: dict[str, Any] = copy.deepcopy(draw(st.sampled_from((ORDER, TRADE))))
    parts = [message, *message.get("maker_orders", ())]
    for _ in range(draw(st.integers(0, 3))):
        part = draw(st.sampled_from(parts))
        name = draw(st.sampled_from(sorted(part)) if part else st.text(max_size=8))
        if draw(st.booleans()):
            part.pop(name, None)
        else:
            part[name] = draw(JSON)
    return message


@given(st.lists(damaged() | JSON, max_size=5))
def test_each_element_is_an_event_an_unknown_event_or_unreadable(elements: list[Any]) -> None:
    decoded = UserCodec().receive_frame(json.dumps(elements))
    accounted = len(decoded.events) + len(decoded.unreadable) + len(decoded.unknown_events)
    assert accounted == len(elements)
    assert all(type(event) in (OrderEvent, TradeEvent) for event in decoded.events)


@given(damaged(), st.data())
def test_no_cut_and_no_damage_shows_a_key(message: Any, data: st.DataObject) -> None:
    text = json.dumps(message)
    cut = data.draw(st.integers(0, len(text)))
    for frame in (text, text[:cut]):
        assert API_KEY not in repr(UserCodec().receive_frame(frame))


@given(st.text() | st.binary())
def test_any_frame_is_accounted_for(frame: str | bytes) -> None:
    decoded = UserCodec().receive_frame(frame)
    if decoded.control is not None:
        text = frame if isinstance(frame, str) else frame.decode()
        assert text.strip() in {control.value for control in ControlText}
    elif not decoded.unreadable:
        assert json.loads(frame) == []


@given(st.lists(damaged() | JSON, max_size=4), st.text(max_size=4) | st.none())
def test_each_row_of_a_page_is_read_or_unreadable(rows: list[Any], cursor: str | None) -> None:
    body = json.dumps({"data": rows, "next_cursor": cursor}).encode()
    orders, trades = decode_orders_page(body), decode_trades_page(body)
    assert len(orders.rows) + len(orders.unreadable) == len(rows)
    assert len(trades.rows) + len(trades.unreadable) == len(rows)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_page_or_refused(body: bytes) -> None:
    for decode in (decode_orders_page, decode_trades_page):
        with suppress(WireError):
            decode(body)
            value = json.loads(body)
            assert is_array(value) or "data" in value
