"""Unknown fields and events, pure: whoever ignores them reads the message as it was."""

import json
from random import Random
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.venue.client import messages_in

from polyactors.venue import Venue, wire
from polyactors.venue.unknown_fields import with_unknowns

KNOWN_TYPES = {"book", "price_change", "last_trade_price", "best_bid_ask", "tick_size_change"}


def known(value: Any, like: object) -> Any:
    """What is left of a value without the keys that another one lacks."""
    if isinstance(like, list):
        pairs = zip(value, cast("list[object]", like), strict=True)
        return [known(item, one) for item, one in pairs]
    if not isinstance(like, dict):
        return value
    keys = cast("dict[str, Any]", like)
    return {key: known(value[key], keys[key]) for key in value if key in keys}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_known_is_untouched_and_in_its_order(seed: int) -> None:
    venue = Venue(seed=seed, markets=2, rate=0)
    rng = Random(seed)
    states = [state for token in venue.tokens if (state := venue.book_state(token))]
    seen = dict.fromkeys(("fields", "levels", "single", "in array"), 0)
    for event in [wire.dump(states), *venue.step(60)]:
        original = json.loads(event.text)
        *extra, last = (json.loads(text) for text in with_unknowns(rng, event.text))
        for single in extra:
            assert single["event_type"] not in KNOWN_TYPES
            seen["single"] += 1
        messages = [m for m in messages_in(last) if m["event_type"] in KNOWN_TYPES]
        seen["in array"] += len(messages_in(last)) - len(messages)
        originals = messages_in(original)
        assert json.dumps(known(messages, originals)) == json.dumps(originals)
        for message, one in zip(messages, originals, strict=True):
            seen["fields"] += len(message) - len(one)
            levels = [*message.get("bids", ()), *message.get("asks", ())]
            seen["levels"] += sum(len(level) - 2 for level in levels)
    assert all(seen.values()), seen
