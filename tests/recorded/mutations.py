"""Every single fault that a recording can suffer: lost, doubled, swapped, delayed, changed.

`mutations` knows the wire alone (json and Decimal), nothing of what reads it: a mistake of ours
there must not be able to hide a fault here. A recording is a list of frames, one a line.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

from attrs import frozen

Json = dict[str, Any]
Change = tuple[str, str, Json | None]
"""(kind, what happened, the message as it is now; None: it is lost)."""

WINDOW = 6
"""So many messages apart two are swapped at most, or a copy or a late message is at most late."""
FINEST_TICK = Decimal("0.001")

KINDS: tuple[str, ...] = (
    "message lost",
    "message doubled",
    "copy of a message later",
    "neighbours swapped",
    "two messages swapped",
    "message late",
    "message cut in half",
    "timestamp changed",
    "market changed",
    "entry lost",
    "entry doubled",
    "entry: size changed",
    "entry: price off by a tick",
    "entry: other side",
    "entry: other token",
    "entry: hash changed",
    "entry: hash missing",
    "entry: best bid or ask changed",
    "level lost",
    "level: size changed",
    "level: price off by a tick",
    "level: other side",
    "book: other token",
    "book: hash changed",
    "book: hash missing",
    "book: hash input changed",
    "book: hash input missing",
    "best_bid_ask changed",
    "trade changed",
    "new tick size changed",
)
"""The kinds of faults, in the order of the table in the docs."""


@frozen
class Mutation:
    """A recording with one fault."""

    kind: str
    """One of KINDS."""
    what: str
    """Where, and what exactly; lines and entries count from 1."""
    lines: list[bytes]


def messages_of(lines: Iterable[bytes]) -> list[Json]:
    """All messages of a recording in order, those of arrays too."""
    frames: Iterable[Any] = map(json.loads, lines)
    return [message for frame in frames for message in _as_list(frame)]


def _as_list(frame: Any) -> list[Json]:
    return frame if isinstance(frame, list) else [frame]  # pyright: ignore[reportUnknownVariableType]


def mutations(lines: list[bytes]) -> Iterator[Mutation]:
    """All single faults of a recording, none of which leaves it as it was."""
    for index in range(len(lines)):
        yield from mutations_of(lines, index)


def mutations_of(lines: list[bytes], index: int) -> Iterator[Mutation]:
    """Those that begin with the line of this index."""
    for fault in (*_of_line(lines, index), *_inside_line(lines, index)):
        if fault.lines != lines:
            yield fault


# Whole frames


def _of_line(lines: list[bytes], index: int) -> Iterator[Mutation]:
    line, before, after = lines[index], lines[:index], lines[index + 1 :]
    place = f"line {index + 1}"
    yield Mutation("message lost", f"{place} lost", [*before, *after])
    yield Mutation("message doubled", f"{place} doubled", [*before, line, line, *after])
    for late in range(1, min(WINDOW, len(after)) + 1):
        passed, rest = after[:late], after[late:]
        copied = [*before, line, *passed, line, *rest]
        yield Mutation("copy of a message later", f"{place} again {late} later", copied)
        swapped = [*before, passed[-1], *passed[:-1], line, *rest]
        kind = "neighbours swapped" if late == 1 else "two messages swapped"
        yield Mutation(kind, f"{place} swapped with line {index + 1 + late}", swapped)
        if late > 1:  # one later is a swap
            delayed = [*before, *passed, line, *rest]
            yield Mutation("message late", f"{place} {late} later", delayed)
    half = len(line) // 2
    for what, part in (("end", line[:half]), ("begin", line[half:])):
        cut = [*before, part, *after]
        yield Mutation("message cut in half", f"{place} without its {what}", cut)


# What stands in them


def _inside_line(lines: list[bytes], index: int) -> Iterator[Mutation]:
    messages = messages_of(lines)
    ticks = [Decimal(m["tick_size"]) for m in messages if "tick_size" in m]
    tick = min(ticks, default=FINEST_TICK)
    tokens = sorted({m["asset_id"] for m in messages if "asset_id" in m})
    for kind, what, changed in _of_frame(json.loads(lines[index]), tick, tokens):
        left = [] if changed is None else [json.dumps(changed).encode()]
        what = f"line {index + 1}: {what}"
        yield Mutation(kind, what, [*lines[:index], *left, *lines[index + 1 :]])


def _of_frame(frame: Any, tick: Decimal, tokens: list[str]) -> Iterator[tuple[str, str, Any]]:
    if not isinstance(frame, list):
        yield from _of_message(frame, tick, tokens)
        return
    elements = _as_list(frame)
    for k, message in enumerate(elements):
        before, after = elements[:k], elements[k + 1 :]
        yield "message lost", f"element {k + 1} lost", [*before, *after] or None
        if after:
            swapped = [*before, after[0], message, *after[1:]]
            yield "neighbours swapped", f"element {k + 1} swapped with the next", swapped
        for kind, what, changed in _of_message(message, tick, tokens):
            yield kind, f"element {k + 1}: {what}", [*before, changed, *after]


def _of_message(message: Json, tick: Decimal, tokens: list[str]) -> Iterator[Change]:
    event_type = message.get("event_type", "book")
    market: str = message["market"]
    other = market[:-1] + ("0" if market[-1] != "0" else "1")
    yield "market changed", f"market …{other[-6:]}", {**message, "market": other}
    for token in tokens if event_type == "book" else ():
        yield "book: other token", f"of {token[:6]}…", {**message, "asset_id": token}
    if "timestamp" in message:
        later = str(int(message["timestamp"]) + 1)
        yield "timestamp changed", "1 ms later", {**message, "timestamp": later}
    yield from _BY_EVENT_TYPE[event_type](message, tick)


def _of_price_change(message: Json, tick: Decimal) -> Iterator[Change]:
    entries = message["price_changes"]
    tokens = sorted({entry["asset_id"] for entry in entries})
    for k, entry in enumerate(entries):
        before, after, place = entries[:k], entries[k + 1 :], f"entry {k + 1}"

        def now(*changed: Json, before: Any = before, after: Any = after) -> Json:
            return {**message, "price_changes": [*before, *changed, *after]}

        yield "entry lost", f"{place} lost", now()
        yield "entry doubled", f"{place} doubled", now(entry, entry)
        for what, size in _other_sizes(entry["size"]):
            yield "entry: size changed", f"{place} {what}", now({**entry, "size": size})
        for price in _other_prices(entry["price"], tick):
            what = f"{place} at {price}"
            yield "entry: price off by a tick", what, now({**entry, "price": price})
        side = "SELL" if entry["side"] == "BUY" else "BUY"
        yield "entry: other side", f"{place} {side}", now({**entry, "side": side})
        for token in tokens:
            what = f"{place} of {token[:6]}…"
            yield "entry: other token", what, now({**entry, "asset_id": token})
        wrong = _other_hash(entry["hash"])
        yield "entry: hash changed", f"{place} hash {wrong[:6]}…", now({**entry, "hash": wrong})
        missing = {name: value for name, value in entry.items() if name != "hash"}
        yield "entry: hash missing", f"{place} without hash", now(missing)
        for name in ("best_bid", "best_ask"):
            for price in _other_prices(entry[name], tick):
                what = f"{place} {name} {price}"
                yield "entry: best bid or ask changed", what, now({**entry, name: price})


_OTHER_INPUTS: dict[str, Callable[[Any], object]] = {
    "tick_size": lambda tick: "0.01" if Decimal(tick) != Decimal("0.01") else "0.001",
    "min_order_size": lambda size: str(Decimal(size) + 10),
    "neg_risk": lambda neg_risk: not neg_risk,
    "last_trade_price": lambda price: "0.500" if price != "0.500" else "0.499",
}


def _of_book(message: Json, tick: Decimal) -> Iterator[Change]:
    for side, other in (("bids", "asks"), ("asks", "bids")):
        levels: list[Json] = message[side]
        for k, level in enumerate(levels):
            before, after, place = levels[:k], levels[k + 1 :], f"{side} {level['price']}"

            def now(
                *changed: Json, side: str = side, before: Any = before, after: Any = after
            ) -> Json:
                return {**message, side: [*before, *changed, *after]}

            yield "level lost", f"{place} lost", now()
            for what, size in _other_sizes(level["size"]):
                yield "level: size changed", f"{place} {what}", now({**level, "size": size})
            for price in _other_prices(level["price"], tick):
                what = f"{place} at {price}"
                yield "level: price off by a tick", what, now({**level, "price": price})
            moved = {**now(), other: [*message[other], level]}
            yield "level: other side", f"{place} among the {other}", moved
    wrong = _other_hash(message["hash"])
    yield "book: hash changed", f"hash {wrong[:6]}…", {**message, "hash": wrong}
    for name in ("hash", *_OTHER_INPUTS):
        if name not in message:
            continue
        missing = {key: value for key, value in message.items() if key != name}
        kind = "book: hash missing" if name == "hash" else "book: hash input missing"
        yield kind, f"without {name}", missing
        if name != "hash":
            value = _OTHER_INPUTS[name](message[name])
            yield "book: hash input changed", f"{name} {value}", {**message, name: value}


def _of_best_bid_ask(message: Json, tick: Decimal) -> Iterator[Change]:
    for name in ("best_bid", "best_ask"):
        for price in _other_prices(message[name], tick):
            yield "best_bid_ask changed", f"{name} {price}", {**message, name: price}


def _of_trade(message: Json, tick: Decimal) -> Iterator[Change]:
    for price in _other_prices(message["price"], tick):
        yield "trade changed", f"price {price}", {**message, "price": price}
    for what, size in _other_sizes(message["size"]):
        yield "trade changed", what, {**message, "size": size}


def _of_tick_size_change(message: Json, tick: Decimal) -> Iterator[Change]:
    old = message["old_tick_size"]
    yield "new tick size changed", f"still {old}", {**message, "new_tick_size": old}


_BY_EVENT_TYPE: dict[str, Callable[[Json, Decimal], Iterator[Change]]] = {
    "price_change": _of_price_change,
    "book": _of_book,
    "best_bid_ask": _of_best_bid_ask,
    "last_trade_price": _of_trade,
    "tick_size_change": _of_tick_size_change,
}


# Other values


def _other_sizes(size: str) -> Iterator[tuple[str, str]]:
    value = Decimal(size)
    for what, other in (("gone", Decimal(0)), ("doubled", 2 * value), ("one more", value + 1)):
        if other != value:
            yield f"size {what}", _text(other)


def _other_prices(price: str, tick: Decimal) -> Iterator[str]:
    value = Decimal(price or 0)
    return (_text(other) for other in (value - tick, value + tick) if 0 < other < 1)


def _other_hash(book_hash: str) -> str:
    return ("0" if book_hash[0] != "0" else "1") + book_hash[1:]


def _text(value: Decimal) -> str:
    return format(value.normalize(), "f")
