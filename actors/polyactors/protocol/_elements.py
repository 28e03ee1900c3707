"""What both channels have in common: frames of elements, each of which is accounted for."""

from collections.abc import Iterator, Mapping
from itertools import chain

from polyactors.protocol._json import Wire, is_array, is_object
from polyactors.protocol.events import ControlText

ELEMENTS_MAX = 10_000
"""Elements of one frame. The largest real one is the initial dump, a book for each token."""
UNKNOWN_FIELDS_MAX = 100
"""Unknown fields that are reported of one element."""
NAME_LENGTH_MAX = 100
"""Characters that are kept of an unknown name."""

Names = Mapping[str, frozenset[str]]
"""By event type: the names that an event of it may have in any era."""
NamesInside = Mapping[str, tuple[tuple[str, frozenset[str]], ...]]
"""By event type: lists of objects in it, and the names that those may have."""

_CONTROLS = {control.value: control for control in ControlText}


def control_of(frame: str | bytes) -> ControlText | None:
    """The control text that a frame is, if it is one."""
    text = frame if isinstance(frame, str) else frame.decode(errors="replace")
    return _CONTROLS.get(text.strip())


def unknown_fields(event_type: str, wire: Wire, known: Names, inside: NamesInside) -> list[str]:
    """Each unknown name of an element once, however often it stands in there."""
    if _has_known_names_only(event_type, wire, known, inside):
        return []
    names = dict.fromkeys(_unknown_names(event_type, wire, known, inside))
    return [f"{event_type}.{name[:NAME_LENGTH_MAX]}" for name in list(names)[:UNKNOWN_FIELDS_MAX]]


def _has_known_names_only(event_type: str, wire: Wire, known: Names, inside: NamesInside) -> bool:
    if not known[event_type].issuperset(wire):
        return False
    try:
        for list_name, names in inside[event_type]:
            if list_name in wire and not names.issuperset(chain.from_iterable(wire[list_name])):
                return False
    except TypeError:  # something in there is no list of objects
        return False
    return True


def _unknown_names(event_type: str, wire: Wire, known: Names, inside: NamesInside) -> Iterator[str]:
    yield from (name for name in wire if name not in known[event_type])
    for list_name, names in inside[event_type]:
        parts = wire.get(list_name)
        for part in parts if is_array(parts) else ():
            if is_object(part):
                yield from (f"{list_name}[].{name}" for name in part if name not in names)


def sentence_of(error: Exception) -> str:
    """Why the converter refused: the name that is missing, or what is wrong with a value."""
    return f"has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
