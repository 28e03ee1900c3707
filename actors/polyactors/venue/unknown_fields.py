"""What a later version of the wire might say: fields and events that no client knows, pure."""

import json
from random import Random
from typing import cast

from polyactors.venue.wire import to_json

_NAMES = ("sequence", "x_trace", "venue_note", "liquidity_class", "schema")
_VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    3.25,
    10**30,
    "",
    "0.5",
    [],
    [{"price": "0.5"}],
    {"event_type": "book", "bids": [["0.5", "1"]]},
)
_EVENTS = ("auction_notice", "market_heartbeat", "book_v2")
_FIELD_CHANCE = 0.5
"""Of an object to get an unknown field; levels are many, and each gets one as seldom as this
and a tenth."""
_EVENT_CHANCE = 0.3
"""Of an unknown event before a message, and again of one in an array with it."""


def with_unknowns(rng: Random, text: str) -> list[str]:
    """The frames that come instead of one: the same message, told with unknown words.

    What is known keeps its values and its order.
    """
    value = _with_fields(rng, json.loads(text))
    frames: list[str] = []
    if rng.random() < _EVENT_CHANCE:
        frames.append(to_json(unknown_event(rng)))
    if isinstance(value, list) or rng.random() < _EVENT_CHANCE:
        messages = cast("list[object]", value if isinstance(value, list) else [value])
        messages.insert(rng.randint(0, len(messages)), unknown_event(rng))
        value = messages
    return [*frames, to_json(value)]


def unknown_event(rng: Random) -> dict[str, object]:
    """An event of a type that no client knows, in some of the clothes of a known one."""
    event: dict[str, object] = {"market": "0x0", "asset_id": "1", "timestamp": "1"}
    for name in rng.sample(list(event), rng.randint(0, 2)):
        del event[name]
    event[rng.choice(_NAMES)] = rng.choice(_VALUES)
    event["event_type"] = rng.choice(_EVENTS)
    return event


def _with_fields(rng: Random, value: object, chance: float = _FIELD_CHANCE) -> object:
    if isinstance(value, list):
        return [_with_fields(rng, item, chance) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    fields = [
        (name, _with_fields(rng, item, chance / 10 if name in ("bids", "asks") else chance))
        for name, item in cast("dict[str, object]", value).items()
    ]
    if rng.random() < chance:
        fields.insert(rng.randint(0, len(fields)), (rng.choice(_NAMES), rng.choice(_VALUES)))
    return dict(fields)
