"""JSON text to plain values, exactly: no binary rounding, no silently lost duplicate.

A number with a fraction or an exponent becomes its own text ("0.48", "1e-4"), so that no float
ever comes near a price; an integer becomes an exact `int`.
"""

import json
from typing import Any, TypeGuard, cast

import msgspec
from attrs import frozen

EXCERPT_BYTES = 200
"""How much of an unreadable frame or element is kept for the log."""

Wire = dict[str, Any]
"""A JSON object as decoded: its values are whatever the other side sent."""

# Decoded values are of these very types, so `type(value) is` tells them apart; bool is no int.

_decoder = msgspec.json.Decoder(float_hook=str)


class WireError(ValueError):
    """What came over the wire is not what the protocol allows; one sentence says why."""


@frozen
class AmbiguousObject:
    """A JSON object that has a name twice: nobody can say which value was meant (RFC 8259, 4)."""

    pairs: tuple[tuple[str, Any], ...]


def is_object(value: object) -> TypeGuard[Wire]:
    """Whether the value is a JSON object that has no name twice."""
    return type(value) is dict


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Whether the value is a JSON array."""
    return type(value) is list


def decode_json(text: str | bytes) -> object:
    """The value of a JSON text. Of a name that an object has twice, the last one counts.

    Raises:
        WireError: not JSON, invalid UTF-8, nested deeper than the interpreter allows, or an
            integer of more than some 4,300 digits.
    """
    try:
        return cast("object", _decoder.decode(text))
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None


def decode_unambiguous_json(text: str | bytes) -> object:
    """As `decode_json`, but an object that has a name twice becomes an `AmbiguousObject`.

    The fast decoder keeps the last of two equal names and does not say so. It has lost one
    when the text has more colons than the value has names; only then (a lost name, or a colon
    inside a string) is the text read again by a decoder that tells.
    """
    value = decode_json(text)
    colons = text.count(":") if isinstance(text, str) else text.count(b":")
    if colons == _count_names(value):
        return value
    try:
        return cast(
            "object",
            json.loads(
                text if isinstance(text, str) else text.decode(),
                object_pairs_hook=_object,
                parse_float=str,
            ),
        )
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None


def _count_names(value: object) -> int:
    """The names in the objects of a frame, as deep as events of the channel go.

    What lies deeper is not counted, and so is read again: right, only slower. In a list that
    mixes objects with other things the count may come out too high; such a list is not
    readable as any part of an event.
    """
    elements = value if is_array(value) else [value]
    count = 0
    for element in elements:
        if is_object(element):
            count += len(element)
            for member in element.values():
                if is_array(member) and member and is_object(member[0]):
                    try:
                        count += sum(map(len, member))
                    except TypeError:
                        return -1
    return count


def _object(pairs: list[tuple[str, Any]]) -> Wire | AmbiguousObject:
    members = dict(pairs)
    return members if len(members) == len(pairs) else AmbiguousObject(tuple(pairs))


def excerpt_of_text(text: str | bytes) -> str:
    """The first 200 bytes of a frame; what is no UTF-8 there becomes replacement characters."""
    start = text[:EXCERPT_BYTES]
    if isinstance(start, str):
        start = start.encode(errors="replace")
    return start[:EXCERPT_BYTES].decode(errors="replace")


def excerpt_of_value(value: object) -> str:
    """The first 200 bytes of a decoded value, as compact JSON."""
    try:
        return excerpt_of_text(msgspec.json.encode(value))
    except RecursionError:
        return "(nested too deeply to be shown)"
