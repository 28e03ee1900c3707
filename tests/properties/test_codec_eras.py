"""A message says the same in whatever era's form it comes: many forms, one canonical event.

The encoder lives here, and only here: it writes what the exchange wrote in each era, from the
message that has to come out again.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from polyactors.book.levels import BookSide
from polyactors.book.numbers import PRICE_ONE, Side, to_text
from polyactors.protocol._readers import best_last
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import (
    BestBidAsk,
    BookSnapshot,
    Decoded,
    LastTradePrice,
    LevelChange,
    MarketEvent,
    MarketResolved,
    NewMarket,
    PriceChange,
    TickSizeChange,
)

Draw = Callable[[st.SearchStrategy[Any]], Any]

TOKENS = st.integers(0, 2**256 - 1).map(str)
MARKETS = st.integers(0, 2**256 - 1).map(lambda number: f"0x{number:064x}")
HASHES = st.integers(0, 2**160 - 1).map(lambda number: f"{number:040x}")
TIMESTAMPS = st.integers(1_600_000_000_000, 4_000_000_000_000)
LEVEL_PRICES = st.integers(1, PRICE_ONE - 1)
SIZES = st.one_of(st.just(0), st.integers(0, 10**18))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
LEVELS = st.dictionaries(LEVEL_PRICES, SIZES.filter(bool), max_size=8)


@st.composite
def books(draw: Draw) -> BookSnapshot:
    is_first = draw(st.booleans())
    return BookSnapshot(
        token=draw(TOKENS),
        market=draw(MARKETS),
        bids=best_last(Side.BID, draw(LEVELS)),
        asks=best_last(Side.ASK, draw(LEVELS)),
        hash=draw(HASHES),
        timestamp_ms=draw(TIMESTAMPS),
        tick_size=to_text(draw(LEVEL_PRICES)) if is_first else None,
        last_trade_price=draw(st.sampled_from(("", "0.630", "0.5"))) if is_first else None,
        min_order_size=draw(st.sampled_from(("5", "15"))) if is_first else None,
        neg_risk=draw(st.booleans()) if is_first else None,
    )


@st.composite
def price_changes(draw: Draw) -> PriceChange:
    tokens = draw(st.lists(TOKENS, min_size=1, max_size=2))
    stated = draw(st.booleans())
    return PriceChange(
        market=draw(MARKETS),
        timestamp_ms=draw(TIMESTAMPS),
        changes=tuple(
            LevelChange(
                token=draw(st.sampled_from(tokens)),
                side=draw(st.sampled_from(Side)),
                price=draw(LEVEL_PRICES),
                size=draw(SIZES),
                hash=draw(HASHES),
                best_bid=draw(st.one_of(st.just(0), LEVEL_PRICES)) if stated else None,
                best_ask=draw(st.one_of(st.just(PRICE_ONE), LEVEL_PRICES)) if stated else None,
            )
            for _ in range(draw(st.integers(0, 4)))
        ),
    )


@st.composite
def trades(draw: Draw) -> LastTradePrice:
    price = draw(st.integers(0, PRICE_ONE))
    return LastTradePrice(
        token=draw(TOKENS),
        market=draw(MARKETS),
        price=price,
        size=draw(SIZES),
        side=draw(st.sampled_from(Side)),
        timestamp_ms=draw(TIMESTAMPS),
        price_text=to_text(price),
        transaction_hash=draw(st.one_of(st.none(), HASHES)),
    )


TICKS = LEVEL_PRICES.map(to_text).map(Decimal)
EVENTS: st.SearchStrategy[MarketEvent] = st.one_of(
    books(),
    price_changes(),
    trades(),
    st.builds(TickSizeChange, TOKENS, MARKETS, st.none() | TICKS, TICKS, TIMESTAMPS),
    st.builds(
        BestBidAsk,
        TOKENS,
        MARKETS,
        st.integers(0, PRICE_ONE - 1),
        st.integers(1, PRICE_ONE),
        TIMESTAMPS,
    ),
    st.builds(
        NewMarket,
        MARKETS,
        TEXTS,
        TEXTS,
        st.lists(TOKENS, max_size=2).map(tuple),
        st.lists(TEXTS, max_size=2).map(tuple),
        TIMESTAMPS,
    ),
    st.builds(
        MarketResolved,
        MARKETS,
        st.lists(TOKENS, max_size=2).map(tuple),
        st.none() | TOKENS,
        st.none() | TEXTS.filter(bool),
        TIMESTAMPS,
    ),
)


class Encoder:
    """Writes messages as some server of some era might: each choice is drawn."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def choose(self, *choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def number(self, units: int) -> object:
        text = to_text(units)
        forms: list[object] = [text, text + (".0" if "." not in text else "0")]
        if text.startswith("0."):
            forms.append(text[1:])
        if "." not in text:
            forms.append(int(text))
        return self.choose(*forms)

    def timestamp(self, timestamp_ms: int) -> object:
        forms: list[object] = [str(timestamp_ms), timestamp_ms]
        if timestamp_ms % 1000 == 0:
            forms += [str(timestamp_ms // 1000), timestamp_ms // 1000]
        return self.choose(*forms)

    def side(self, side: Side) -> str:
        words = ("BUY", "buy", "bid", "Bid") if side is Side.BID else ("SELL", "sell", "ask", "ASK")
        return str(self.choose(*words))

    def best(self, units: int, empty: int) -> object:
        if units != empty:
            return self.number(units)
        return self.choose("", self.number(empty))

    def levels(self, levels: tuple[tuple[int, int], ...]) -> list[dict[str, object]]:
        wire = [{"price": self.number(price), "size": self.number(size)} for price, size in levels]
        gone = [{"price": self.number(price), "size": "0"} for price, _ in levels]
        # Older statements about the same prices, in front: the last one counts.
        older: list[dict[str, object]] = []
        if gone:
            older += self._draw(st.lists(st.sampled_from(gone), max_size=2))
        return [*older, *self._draw(st.permutations(wire))]

    def change(self, change: LevelChange, *, own_token: bool) -> dict[str, object]:
        wire: dict[str, object] = {
            "price": self.number(change.price),
            "size": self.number(change.size),
            "side": self.side(change.side),
        }
        if own_token:
            wire |= {"asset_id": change.token, "hash": change.hash}
        if change.best_bid is not None and change.best_ask is not None:
            wire["best_bid"] = self.best(change.best_bid, 0)
            wire["best_ask"] = self.best(change.best_ask, PRICE_ONE)
        return wire

    def price_change(self, event: PriceChange) -> dict[str, object]:
        head: dict[str, object] = {"event_type": "price_change", "market": event.market}
        forms = ["price_changes"]
        common = {(change.token, change.hash) for change in event.changes}
        if len(common) == 1:
            forms.append("changes")
            if len(event.changes) == 1:
                forms.append("single")
        form = self.choose(*forms)
        if form == "price_changes":
            entries = [self.change(change, own_token=True) for change in event.changes]
            return {**head, "price_changes": entries}
        ((token, hash_),) = common
        head |= {"asset_id": token, "hash": hash_}
        if form == "single":
            return {**head, **self.change(event.changes[0], own_token=False)}
        return {**head, "changes": [self.change(c, own_token=False) for c in event.changes]}

    def book(self, event: BookSnapshot) -> dict[str, object]:
        bids, asks = self.choose(("bids", "asks"), ("buys", "sells"))
        wire: dict[str, object] = {
            "asset_id": event.token,
            "market": event.market,
            bids: self.levels(tuple(event.bids.items())),
            asks: self.levels(tuple(event.asks.items())),
            "hash": event.hash,
        }
        for name in ("tick_size", "last_trade_price", "min_order_size", "neg_risk"):
            value = getattr(event, name)
            if value is not None or self.choose(True, False):
                wire[name] = value
        if self.choose(True, False):
            wire["event_type"] = "book"
        return wire

    def message(self, event: MarketEvent) -> dict[str, object]:
        wire = self._message(event)
        wire["timestamp"] = self.timestamp(event.timestamp_ms)
        names = self._draw(st.permutations(list(wire)))
        return {name: wire[name] for name in names}

    def _message(self, event: MarketEvent) -> dict[str, object]:
        if isinstance(event, BookSnapshot):
            return self.book(event)
        if isinstance(event, PriceChange):
            return self.price_change(event)
        wire: dict[str, object] = {"market": event.market}
        if isinstance(event, LastTradePrice):
            wire |= {
                "event_type": "last_trade_price",
                "asset_id": event.token,
                "price": event.price_text,
                "size": self.number(event.size),
                "side": self.side(event.side),
                "fee_rate_bps": self.choose("", "0", 0),
            }
            if event.transaction_hash is not None or self.choose(True, False):
                wire["transaction_hash"] = event.transaction_hash
        elif isinstance(event, TickSizeChange):
            wire |= {
                "event_type": "tick_size_change",
                "asset_id": event.token,
                "new_tick_size": str(event.new),
            }
            if event.old is not None or self.choose(True, False):
                wire["old_tick_size"] = None if event.old is None else str(event.old)
        elif isinstance(event, BestBidAsk):
            wire |= {
                "event_type": "best_bid_ask",
                "asset_id": event.token,
                "best_bid": self.best(event.best_bid, 0),
                "best_ask": self.best(event.best_ask, PRICE_ONE),
                "spread": "0.01",
            }
        elif isinstance(event, NewMarket):
            wire |= {
                "event_type": "new_market",
                "slug": event.slug,
                "question": event.question,
                self.choose("assets_ids", "clob_token_ids"): list(event.tokens),
                "outcomes": self.choose(list(event.outcomes), json.dumps(event.outcomes)),
            }
        else:
            wire |= {
                "event_type": "market_resolved",
                "assets_ids": list(event.tokens),
                "winning_asset_id": event.winning_token or self.choose("", None),
                "winning_outcome": event.winning_outcome or self.choose("", None),
            }
        return wire


def receive(value: object, **options: Any) -> Decoded:
    return MarketCodec().receive_frame(json.dumps(value, **options))


@given(st.data(), st.lists(EVENTS, max_size=3))
def test_a_message_of_any_era_decodes_to_the_one_canonical_event(
    data: st.DataObject, events: list[MarketEvent]
) -> None:
    encoder = Encoder(data.draw)
    wire = [encoder.message(event) for event in events]
    options = encoder.choose({}, {"separators": (",", ":")}, {"indent": 1, "ensure_ascii": False})
    assert receive(wire, **options) == Decoded(events=tuple(events))
    for event, message in zip(events, wire, strict=True):
        assert receive(message, **options) == Decoded(events=(event,))


@given(st.data(), EVENTS)
def test_unknown_fields_change_nothing_but_their_count(
    data: st.DataObject, event: MarketEvent
) -> None:
    wire = Encoder(data.draw).message(event)
    objects: list[dict[str, object]] = [wire]
    for name in ("price_changes", "changes", "bids", "asks", "buys", "sells"):
        inside = wire.get(name)
        if isinstance(inside, list):
            objects += inside
    extended = data.draw(st.lists(st.sampled_from(objects), min_size=1, max_size=3))
    value: object = data.draw(st.sampled_from((None, 1, "a: b", [], {"deep": {"er": [{"a": 1}]}})))
    for one in extended:
        one["x_unknown"] = value
    decoded = receive(wire)
    assert decoded.events == (event,)
    assert decoded.unreadable == ()
    assert 1 <= len(decoded.unknown_fields) <= len(extended)
    assert all(name.endswith(".x_unknown") for name in decoded.unknown_fields)


@given(st.lists(st.tuples(LEVEL_PRICES.map(lambda p: p % 5 + 1), SIZES), max_size=12))
def test_levels_of_a_book_end_up_as_the_book_itself_would_put_them(
    levels: list[tuple[int, int]],
) -> None:
    wire = [{"price": to_text(price), "size": to_text(size)} for price, size in levels]
    book = {"event_type": "book", "market": "0xabc", "asset_id": "1", "bids": wire, "asks": wire}
    (event,) = receive(book).events
    assert isinstance(event, BookSnapshot)
    for side, decoded in ((Side.BID, event.bids), (Side.ASK, event.asks)):
        # Decoding first and applying then is the same as applying what was sent.
        assert list(decoded.items()) == BookSide(side, levels).wire_levels()
