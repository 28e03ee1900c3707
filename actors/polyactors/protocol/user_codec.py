"""Text frames of the user channel become events; nothing that came is silently dropped.

As `codec` for the market channel: a frame is a control text, one JSON object, or an array of
them, and each element ends as an event, as a counted unknown event, or as an `Unreadable`,
whose excerpt shows no API key.
"""

from typing import TypeVar

from polyactors.protocol._elements import (
    ELEMENTS_MAX,
    NAME_LENGTH_MAX,
    control_of,
    sentence_of,
    unknown_fields,
)
from polyactors.protocol._json import WireError, decode_unambiguous_json, is_array, is_object
from polyactors.protocol._readers import show
from polyactors.protocol._user_wire import (
    EVENT_TYPES,
    KNOWN_NAMES,
    KNOWN_NAMES_INSIDE,
    MODERNISE,
    TYPES,
    excerpt_of_element,
    excerpt_of_frame,
    user_converter,
)
from polyactors.protocol.events import Unreadable
from polyactors.protocol.user_events import OrderEvent, OrderStatus, UserDecoded, UserEvent

EventT = TypeVar("EventT", bound=UserEvent)


class UserCodec:
    """The receiving half of the user channel, without its socket. It keeps no state."""

    def receive_frame(self, frame: str | bytes) -> UserDecoded:
        """All that one frame holds. Never raises, whatever the frame is.

        Events keep the order of the wire. A frame that is not JSON, a JSON value that is
        neither object nor array, and an array of more than `ELEMENTS_MAX` elements are one
        `Unreadable` each: anything may have been in there.
        """
        try:
            value = decode_unambiguous_json(frame)
        except WireError as error:
            control = control_of(frame)
            if control is not None:
                return UserDecoded(control=control)
            return UserDecoded(unreadable=(Unreadable(str(error), excerpt_of_frame(frame)),))
        elements = value if is_array(value) else [value]
        if len(elements) > ELEMENTS_MAX:
            why = f"array of {len(elements)} elements, at most {ELEMENTS_MAX} are read"
            return UserDecoded(unreadable=(Unreadable(why, excerpt_of_frame(frame)),))
        found = UserElements()
        for element in elements:
            found.read(element)
        return found.decoded()


class UserElements:
    """What the elements of one frame, or the rows of one page, have been so far."""

    __slots__ = ("_events", "_unknown_events", "_unknown_fields", "_unreadable")

    def __init__(self) -> None:
        self._events: list[UserEvent] = []
        self._unknown_events: list[str] = []
        self._unknown_fields: list[str] = []
        self._unreadable: list[Unreadable] = []

    def decoded(self) -> UserDecoded:
        """All of it."""
        return UserDecoded(
            events=tuple(self._events),
            unreadable=tuple(self._unreadable),
            unknown_events=tuple(self._unknown_events),
            unknown_fields=tuple(self._unknown_fields),
        )

    def read(self, element: object) -> None:
        """Sort one element of a frame into exactly one of events, unknown events, unreadable."""
        event_type = _event_type_of(element)
        if not event_type:
            self._fail(f"expected an event, got {show(element)}", element)
        elif event_type not in EVENT_TYPES:
            self._unknown_events.append(event_type[:NAME_LENGTH_MAX])
        else:
            self.read_as(event_type, EVENT_TYPES[event_type], element)

    def read_as(self, event_type: str, message: type[EventT], element: object) -> EventT | None:
        """Read one element as this event, whatever it says of itself; None if it is not."""
        if not is_object(element):
            self._fail(f"expected an {event_type}, got {show(element)}", element)
            return None
        try:
            event = user_converter.structure(MODERNISE[message](element), message)
        except (ValueError, KeyError) as error:
            self._fail(f"{event_type}: {sentence_of(error)}", element)
            return None
        self._events.append(event)
        self._unknown_fields += unknown_fields(event_type, element, KNOWN_NAMES, KNOWN_NAMES_INSIDE)
        if isinstance(event, OrderEvent) and event.status is OrderStatus.UNKNOWN:
            self._unknown_fields.append(f"order.status={element.get('status')}"[:NAME_LENGTH_MAX])
        return event

    def _fail(self, why: str, element: object) -> None:
        self._unreadable.append(Unreadable(why, excerpt_of_element(element)))


def _event_type_of(element: object) -> str:
    if not is_object(element):
        return ""
    event_type = element.get("event_type")
    if event_type in (None, ""):
        event_type = TYPES.get(str(element.get("type")), "")
    return event_type if isinstance(event_type, str) else ""
