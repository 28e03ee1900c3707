"""What the market channel says, as text: the wire's own keys, in the wire's own order.

Written from recorded frames (PROTOCOL.md section 2), on purpose without any code that our
client reads them with: a mistake there must not be able to hide here.
"""

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Sequence

from attrs import evolve, frozen

from polyactors.book.numbers import PRICE_ONE, Side, to_text
from polyactors.venue.engine import MIN_ORDER_SIZE, NO, YES, BookState, Levels, Step, Touch, Trade

PONG = "PONG"
"""Answer to the text frame PING."""
NO_NEW_ASSETS = "NO NEW ASSETS"
"""Answer to a subscribe that adds nothing."""
INVALID_OPERATION = "INVALID OPERATION"
"""Answer to a second typed subscription and to whatever is no operation."""

_SIDE_WORDS = {Side.BID: "BUY", Side.ASK: "SELL"}


@frozen
class Part:
    """What a message says about one token."""

    token: str
    """"" where it is about none."""
    text: str
    hash: str = ""
    """The book hash that the text states, "" for none."""


@frozen
class WireEvent:
    """One message of the channel: as the exchange says it, or cut to what a session gets."""

    kind: str
    """Its `event_type`."""
    parts: tuple[Part, ...]
    """For `price_change` the entries, for the initial dump its books, else one: the message."""
    custom: bool = False
    """Only for sessions with `custom_feature_enabled`."""
    everywhere: bool = False
    """For every session with the custom feature, whatever it subscribed to."""
    envelope: tuple[str, str] = ("", "")
    """The text before and after the parts."""
    label: str = ""
    """Of the user channel's, what faults know it by: "order UPDATE", "trade MINED"."""

    @property
    def text(self) -> str:
        """The frame."""
        head, tail = self.envelope
        return head + ",".join(part.text for part in self.parts) + tail

    @property
    def tokens(self) -> list[str]:
        """What it speaks of, in order."""
        return [part.token for part in self.parts]

    def keep(self, wanted: Callable[[Part], bool]) -> "WireEvent | None":
        """What is left of it with the parts that are wanted; None when nothing is."""
        parts = tuple(part for part in self.parts if wanted(part))
        return evolve(self, parts=parts) if parts else None

    def for_session(self, tokens: Container[str], *, custom: bool) -> "WireEvent | None":
        """What a session with these tokens gets, None for nothing.

        A session with one token of a market gets `price_change` messages with one entry.
        """
        if self.custom and not custom:
            return None
        return self if self.everywhere else self.keep(lambda part: part.token in tokens)

    def text_for(self, tokens: Container[str], *, custom: bool) -> str | None:
        """The frame for a session with these tokens, None when it gets none."""
        cut = self.for_session(tokens, custom=custom)
        return None if cut is None else cut.text


def to_json(value: object) -> str:
    """Compact JSON, as the live frames of 2026-08 have it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def rest_book(state: BookState) -> dict[str, object]:
    """The ten keys of GET /book, in the order that the hash is computed over."""
    return {
        **_book(state),
        "min_order_size": MIN_ORDER_SIZE,
        "tick_size": to_text(state.tick_size),
        "neg_risk": state.neg_risk,
        "last_trade_price": state.last_trade_price,
    }


def first_book(state: BookState) -> str:
    """The `book` of the initial dump, the only one with tick size and last trade price."""
    return to_json(
        {
            **_book(state),
            "tick_size": to_text(state.tick_size),
            "last_trade_price": state.last_trade_price,
            "event_type": "book",
        }
    )


def dump(states: Iterable[BookState]) -> WireEvent:
    """The initial books of one subscription frame: one array."""
    parts = tuple(Part(state.token, first_book(state), state.hash) for state in states)
    return WireEvent("book", parts, envelope=("[", "]"))


def step_events(step: Step) -> list[WireEvent]:
    """All that the channel says about an engine step, in the order of the wire.

    1. `best_bid_ask` for both tokens when the top changed: it arrives before its cause.
    2. `tick_size_change` for both tokens. It is a step of its own here, and the books that
       follow carry the hash with the new tick; on the real channel its place is disputed.
    3. One `price_change` for each order event, all with the final hash and top.
    4. After a trade, or a new tick, `book` for both tokens.
    5. `last_trade_price`, one for each price: after the books whose hash already counts it.
    """
    first = step.touches[0].token if step.touches else YES
    pair = (first, NO if first == YES else YES)
    events: list[WireEvent] = []
    if step.top_changed:
        events += [_best_bid_ask(step.after[token]) for token in pair]
    if step.tick_changed:
        events += [_tick_size_change(step.before[token], step.after[token]) for token in pair]
    events += [_price_change(step, touch) for touch in step.touches]
    if step.trades or step.tick_changed:
        events += [_later_book(step.after[token]) for token in pair]
    events += [_last_trade_price(step.after[trade.token], trade) for trade in step.trades]
    return events


def announcement(kind: str, fields: dict[str, object]) -> WireEvent:
    """A `new_market` or `market_resolved`: for every session with the custom feature."""
    text = to_json({"event_type": kind, **fields})
    return WireEvent(kind, (Part("", text),), custom=True, everywhere=True)


def _book(state: BookState) -> dict[str, object]:
    return {
        "market": state.market,
        "asset_id": state.token,
        "timestamp": str(state.timestamp_ms),
        "hash": state.hash,
        "bids": _levels(state.bids),
        "asks": _levels(state.asks),
    }


def _levels(levels: Levels) -> Sequence[dict[str, str]]:
    return [{"price": to_text(price), "size": to_text(size)} for price, size in levels]


def _event(kind: str, state: BookState, fields: dict[str, object], *, custom: bool) -> WireEvent:
    text = to_json({"market": state.market, "asset_id": state.token, **fields})
    stated = state.hash if kind == "book" else ""
    return WireEvent(kind, (Part(state.token, text, stated),), custom=custom)


def _later_book(state: BookState) -> WireEvent:
    return _event("book", state, {**_book(state), "event_type": "book"}, custom=False)


def _best_bid_ask(state: BookState) -> WireEvent:
    fields: dict[str, object] = {
        "best_bid": to_text(state.best_bid),
        "best_ask": to_text(state.best_ask),
        "spread": to_text(state.best_ask - state.best_bid),
        "timestamp": str(state.timestamp_ms),
        "event_type": "best_bid_ask",
    }
    return _event("best_bid_ask", state, fields, custom=True)


def _tick_size_change(before: BookState, after: BookState) -> WireEvent:
    fields: dict[str, object] = {
        "old_tick_size": to_text(before.tick_size),
        "new_tick_size": to_text(after.tick_size),
        "timestamp": str(after.timestamp_ms),
        "event_type": "tick_size_change",
    }
    return _event("tick_size_change", after, fields, custom=False)


def _last_trade_price(state: BookState, trade: Trade) -> WireEvent:
    # The one recorded event whose transaction_hash follows the event_type.
    transaction = hashlib.sha256(f"{state.market}:{trade.taker_id}".encode()).hexdigest()
    fields: dict[str, object] = {
        "price": to_text(trade.price),
        "size": to_text(trade.size),
        "fee_rate_bps": "0",
        "side": _SIDE_WORDS[trade.side],
        "timestamp": str(state.timestamp_ms),
        "event_type": "last_trade_price",
        "transaction_hash": f"0x{transaction}",
    }
    return _event("last_trade_price", state, fields, custom=False)


def _price_change(step: Step, touch: Touch) -> WireEvent:
    own, complement = step.after[touch.token], step.after[NO if touch.token == YES else YES]
    entries = (
        _entry(own, touch.side, touch.price, touch.size),
        _entry(complement, touch.side.opposite, PRICE_ONE - touch.price, touch.size),
    )
    head = f'{{"market":"{own.market}","price_changes":['
    tail = f'],"timestamp":"{own.timestamp_ms}","event_type":"price_change"}}'
    return WireEvent("price_change", entries, envelope=(head, tail))


def _entry(state: BookState, side: Side, price: int, size: int) -> Part:
    text = to_json(
        {
            "asset_id": state.token,
            "price": to_text(price),
            "size": to_text(size),
            "side": _SIDE_WORDS[side],
            "hash": state.hash,
            "best_bid": to_text(state.best_bid),
            "best_ask": to_text(state.best_ask),
        }
    )
    return Part(state.token, text, state.hash)
