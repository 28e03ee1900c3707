"""Text frames of the market channel become events; nothing that came is silently dropped.

A frame is a control text, one JSON object, or a JSON array of them. Each element of it ends as
an event, as a counted unknown event, or as an `Unreadable`; one bad element never takes
another one with it, and one bad entry of a `price_change` never takes the other entries.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from polyactors.protocol._elements import (
    ELEMENTS_MAX,
    NAME_LENGTH_MAX,
    control_of,
    sentence_of,
    unknown_fields,
)
from polyactors.protocol._json import (
    AmbiguousObject,
    Wire,
    WireError,
    decode_unambiguous_json,
    excerpt_of_text,
    excerpt_of_value,
    is_array,
    is_object,
)
from polyactors.protocol._readers import read_token, show
from polyactors.protocol._typed import read_known
from polyactors.protocol._wire import (
    EVENT_TYPES,
    KNOWN_NAMES,
    KNOWN_NAMES_INSIDE,
    MODERNISE,
    converter,
)
from polyactors.protocol.events import (
    Decoded,
    MarketEvent,
    PriceChange,
    Unreadable,
)

NAME_OF: Mapping[type, str] = {message: name for name, message in EVENT_TYPES.items()}
"""The `event_type` of each class of event."""
_BOOK_SIDES = frozenset(("bids", "asks", "buys", "sells"))
_HOOKS: dict[str, tuple[type[MarketEvent], Callable[[Wire], Wire], Callable[[Any, Any], Any]]] = {
    event_type: (message, MODERNISE[message], converter.get_structure_hook(message))
    for event_type, message in EVENT_TYPES.items()
}


class MarketCodec:
    """The receiving half of the market channel, without its socket. It keeps no state."""

    def receive_known(
        self, frames: Sequence[str | bytes], begin: int = 0
    ) -> tuple[list[MarketEvent], int]:
        """What text frames of today's form hold, from the frame at `begin` on, up to the first one
        that is of another form or holds something unknown or unreadable; and the index of that
        one, or `len(frames)`.

        Never raises. `receive_frame` reads the same in any of them, at several times the cost.
        """
        return read_known(frames, begin)

    def receive_frame(self, frame: str | bytes) -> Decoded:
        """All that one frame holds. Never raises, whatever the frame is.

        Events keep the order of the wire. A frame that is not JSON, a JSON value that is
        neither object nor array, and an array of more than `ELEMENTS_MAX` elements are one
        `Unreadable` each that names no token: anything may have been in there.
        """
        try:
            value = decode_unambiguous_json(frame)
        except WireError as error:
            control = control_of(frame)
            if control is not None:
                return Decoded(control=control)
            return _unreadable_frame(str(error), frame)
        elements = value if is_array(value) else [value]
        if len(elements) > ELEMENTS_MAX:
            why = f"array of {len(elements)} elements, at most {ELEMENTS_MAX} are read"
            return _unreadable_frame(why, frame)
        found = _Found()
        for element in elements:
            found.read(element)
        return Decoded(
            events=tuple(found.events),
            unreadable=tuple(found.unreadable),
            unknown_events=tuple(found.unknown_events),
            unknown_fields=tuple(found.unknown_fields),
        )


def _unreadable_frame(why: str, frame: str | bytes) -> Decoded:
    return Decoded(unreadable=(Unreadable(why, excerpt_of_text(frame)),))


class _Found:
    """What the elements of one frame have been so far."""

    __slots__ = ("events", "unknown_events", "unknown_fields", "unreadable")

    def __init__(self) -> None:
        self.events: list[MarketEvent] = []
        self.unreadable: list[Unreadable] = []
        self.unknown_events: list[str] = []
        self.unknown_fields: list[str] = []

    def read(self, element: object) -> None:
        """Sort one element into these lists: into exactly one of the first three.

        (A price_change some of whose entries cannot be read goes into the first two.)
        """
        if not is_object(element):
            self._fail("", f"expected an event, got {show(element)}", element)
            return
        event_type = element.get("event_type")
        if event_type in (None, "") and not _BOOK_SIDES.isdisjoint(element):
            event_type = "book"  # some first books lacked it (2026-02, 2026-04)
        if not isinstance(event_type, str) or not event_type:
            self._fail("", f"expected an event type, got {show(event_type)}", element)
        elif event_type not in _HOOKS:
            self.unknown_events.append(event_type[:NAME_LENGTH_MAX])
        else:
            self._read_event(event_type, element)

    def _read_event(self, event_type: str, wire: Wire) -> None:
        message, modernise, hook = _HOOKS[event_type]
        try:
            modern = modernise(wire)
        except WireError as error:
            self._fail(event_type, sentence_of(error), wire)
            return
        try:
            self.events.append(hook(modern, message))
        except (ValueError, KeyError) as error:
            if message is not PriceChange:
                self._fail(event_type, sentence_of(error), wire)
                return
            if not self._salvage(wire, modern):
                return
        self.unknown_fields += unknown_fields(event_type, wire, KNOWN_NAMES, KNOWN_NAMES_INSIDE)

    def _salvage(self, wire: Wire, modern: Wire) -> bool:
        """Keep the good entries of a price_change that has bad ones.

        Returns False when it is the message around them that is bad: then none is kept.
        """
        _, _, hook = _HOOKS["price_change"]
        try:
            hook({**modern, "price_changes": []}, PriceChange)
        except (ValueError, KeyError) as error:
            self._fail("price_change", sentence_of(error), wire)
            return False
        good: list[object] = []
        around = tokens_in({"asset_id": modern.get("asset_id")})
        for entry in modern["price_changes"]:
            try:
                hook({**modern, "price_changes": [entry]}, PriceChange)
            except (ValueError, KeyError) as error:
                self._fail("price_change", sentence_of(error), entry, around)
            else:
                good.append(entry)
        if good:
            self.events.append(hook({**modern, "price_changes": good}, PriceChange))
        return True

    def _fail(
        self, event_type: str, why: str, element: object, tokens_around: tuple[str, ...] = ()
    ) -> None:
        why = f"{event_type}: {why}" if event_type else why
        tokens = tokens_in(element) or tokens_around
        self.unreadable.append(Unreadable(why, excerpt_of_value(element), tokens))


def tokens_in(element: object) -> tuple[str, ...]:
    """The tokens that an unreadable element may have touched, each once; () for all of them.

    Looked for are `asset_id`, `assets_ids`, and `asset_id` in entries of `price_changes` or
    `changes`.
    When there is an entry that names no token while the element itself does not either, the
    tokens of the others are not enough, and the answer is all.
    """
    named: list[str] = []
    entries: list[object] = []
    for name, value in _pairs(element):
        if name == "asset_id":
            named.extend(_tokens((value,)))
        elif name == "assets_ids" and is_array(value):
            named.extend(_tokens(value))
        elif name in ("price_changes", "changes") and is_array(value):
            entries.extend(value)
    element_is_named = bool(named)
    for entry in entries:
        of_entry = list(_tokens(value for name, value in _pairs(entry) if name == "asset_id"))
        if not of_entry and not element_is_named:
            return ()
        named.extend(of_entry)
    return tuple(dict.fromkeys(named))


def _pairs(element: object) -> Iterable[tuple[str, Any]]:
    if isinstance(element, AmbiguousObject):
        return element.pairs
    return element.items() if is_object(element) else ()


def _tokens(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        try:
            yield read_token(value)
        except WireError:
            continue
