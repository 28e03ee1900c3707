"""The text of the market channel, read back with nothing of ours but the JSON parser."""

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.venue.replica import BUY, SELL, Replica

from polyactors.venue import Venue
from polyactors.venue.wire import WireEvent

SEEDS = st.integers(0, 2**32)

BOOK_KEYS = ["market", "asset_id", "timestamp", "hash", "bids", "asks", "event_type"]
BEST_KEYS = ["market", "asset_id", "best_bid", "best_ask", "spread", "timestamp", "event_type"]
ENTRY_KEYS = ["asset_id", "price", "size", "side", "hash", "best_bid", "best_ask"]
HASHED_KEYS = [*BOOK_KEYS[:-1], "min_order_size", "tick_size", "neg_risk", "last_trade_price"]
TRADE_KEYS = ["market", "asset_id", "price", "size", "fee_rate_bps", "side", "timestamp"]


def hash_of(book: dict[str, Any]) -> str:
    """The ten-field hash of a REST book, from its text alone (PROTOCOL.md section 4)."""
    blank = {**{key: book[key] for key in HASHED_KEYS}, "hash": ""}
    return hashlib.sha1(json.dumps(blank, separators=(",", ":")).encode()).hexdigest()


def texts_of(venue: Venue, events: list[WireEvent]) -> list[str]:
    texts = (event.text_for(venue.tokens, custom=True) for event in events)
    return [text for text in texts if text is not None]


def messages_of(venue: Venue, events: list[WireEvent]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts_of(venue, events)]


def make_venue(seed: int, markets: int = 2) -> Venue:
    clock = iter(range(1_789_156_413_000, 1_789_156_413_000 + 10**9))
    # Three steps share a millisecond: groups are told apart by their hash alone.
    return Venue(seed=seed, markets=markets, now_ms=lambda: next(clock) // 3)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_replaying_the_wire_gives_the_books_of_rest_at_every_group_end(seed: int) -> None:
    venue = make_venue(seed)
    replica = Replica(venue)
    for _ in range(150):
        for message in messages_of(venue, venue.step()):
            if message["event_type"] == "book":
                shown = (message["bids"], message["asks"])
                assert shown == replica.levels(message["asset_id"]), "a book that changes the book"
            replica.take(message)
        for token, book in venue.books().items():
            assert replica.levels(token) == (book["bids"], book["asks"])


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_every_stated_hash_and_top_is_that_of_the_final_state(seed: int) -> None:
    venue = make_venue(seed)
    replica = Replica(venue)
    for _ in range(100):
        messages = messages_of(venue, venue.step())
        for message in messages:
            replica.take(message)
        books = venue.books()
        for token, book in books.items():
            assert hash_of(book) == book["hash"], token
        for message in messages:
            entries = message.get("price_changes", ())
            for entry in entries:
                assert entry["hash"] == books[entry["asset_id"]]["hash"]
                assert message["timestamp"] == books[entry["asset_id"]]["timestamp"]
                assert (entry["best_bid"], entry["best_ask"]) == replica.top(entry["asset_id"])
            if message["event_type"] == "book":
                assert message["hash"] == books[message["asset_id"]]["hash"]
            if message["event_type"] == "best_bid_ask":
                shown = (message["best_bid"], message["best_ask"])
                assert shown == replica.top(message["asset_id"])
                assert Decimal(message["spread"]) == Decimal(shown[1]) - Decimal(shown[0])


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_the_two_entries_of_a_price_change_mirror_each_other(seed: int) -> None:
    venue = make_venue(seed, markets=1)
    for message in messages_of(venue, venue.step(100)):
        if message["event_type"] != "price_change":
            continue
        own, complement = message["price_changes"]
        assert {own["asset_id"], complement["asset_id"]} == set(venue.tokens)
        assert Decimal(own["price"]) + Decimal(complement["price"]) == 1
        assert own["size"] == complement["size"]
        assert {own["side"], complement["side"]} == {BUY, SELL}
        assert Decimal(own["best_bid"]) + Decimal(complement["best_ask"]) == 1


def test_the_messages_of_a_step_come_in_the_order_of_the_wire() -> None:
    venue = make_venue(3)
    ranks = {
        "best_bid_ask": 0,
        "tick_size_change": 1,
        "price_change": 2,
        "book": 3,
        "last_trade_price": 4,
    }
    kinds_seen: set[str] = set()
    for _ in range(1500):
        replica = Replica(venue)
        before = {token: replica.top(token) for token in venue.tokens}
        messages = messages_of(venue, venue.step())
        kinds = [message["event_type"] for message in messages]
        assert [ranks[kind] for kind in kinds] == sorted(ranks[kind] for kind in kinds)
        assert len({message["timestamp"] for message in messages}) == 1
        for message in messages:
            replica.take(message)
        moved = {token for token in venue.tokens if replica.top(token) != before[token]}
        told = {m["asset_id"] for m in messages if m["event_type"] == "best_bid_ask"}
        assert moved == told
        traded = "last_trade_price" in kinds
        assert kinds.count("book") == (2 if traded or "tick_size_change" in kinds else 0)
        kinds_seen |= set(kinds)
    assert kinds_seen == ranks.keys()


def test_a_crossed_state_is_only_seen_inside_a_step() -> None:
    venue = make_venue(5, markets=1)
    replica = Replica(venue)
    crossed_inside = 0
    for _ in range(600):
        for message in messages_of(venue, venue.step()):
            replica.take(message)
            crossed_inside += any(is_crossed(replica, token) for token in venue.tokens)
        assert not any(is_crossed(replica, token) for token in venue.tokens)
    assert crossed_inside > 0, "a remainder is sent before the level that it consumed"


def is_crossed(replica: Replica, token: str) -> bool:
    bid, ask = map(Decimal, replica.top(token))
    return bid >= ask


def test_the_hash_counts_a_trade_that_is_printed_only_after_it() -> None:
    venue = make_venue(1, markets=1)
    for _ in range(300):
        messages = messages_of(venue, venue.step())
        trades = [m for m in messages if m["event_type"] == "last_trade_price"]
        if not trades:
            continue
        assert messages[-1] == trades[-1]
        for book in venue.books().values():
            assert book["last_trade_price"] == f"{Decimal(trades[-1]['price']):.3f}"
        return
    pytest.fail("no trade in 300 steps")


def test_keys_and_their_order_are_those_of_recorded_frames() -> None:
    venue = make_venue(3, markets=4)
    seen: set[str] = set()
    for text in texts_of(venue, venue.step(1500)):
        message = json.loads(text)
        kind = message["event_type"]
        seen.add(kind)
        match kind:
            case "book":
                assert list(message) == BOOK_KEYS
            case "best_bid_ask":
                assert list(message) == BEST_KEYS
            case "price_change":
                assert list(message) == ["market", "price_changes", "timestamp", "event_type"]
                assert all(list(entry) == ENTRY_KEYS for entry in message["price_changes"])
            case "last_trade_price":
                assert list(message) == [*TRADE_KEYS, "event_type", "transaction_hash"]
            case "tick_size_change":
                assert {message["old_tick_size"], message["new_tick_size"]} == {"0.01", "0.001"}
                assert list(message)[-1] == "event_type"
            case _:
                pytest.fail(f"unexpected {kind}")
        assert all(isinstance(leaf, str) for leaf in leaves(message))
        assert len(text) == len(json.dumps(message, separators=(",", ":")))
    assert len(seen) == 5


def leaves(value: Any) -> list[Any]:
    inner: Iterable[Any]
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value).values()
    elif isinstance(value, list):
        inner = cast("Iterable[Any]", value)
    else:
        return [value]
    return [leaf for part in inner for leaf in leaves(part)]


def test_a_session_with_one_token_gets_one_entry_and_only_its_books() -> None:
    venue = make_venue(1, markets=1)
    token = venue.tokens[1]
    texts = [event.text_for({token}, custom=False) for event in venue.step(200)]
    messages = [json.loads(text) for text in texts if text is not None]
    changes = [m["price_changes"] for m in messages if m["event_type"] == "price_change"]
    assert changes
    assert all([entry["asset_id"] for entry in entries] == [token] for entries in changes)
    assert {m["asset_id"] for m in messages if m["event_type"] == "book"} == {token}
    assert "best_bid_ask" not in {m["event_type"] for m in messages}


def test_one_seed_and_one_number_of_steps_give_the_same_bytes() -> None:
    def tell(seed: int) -> tuple[list[str], object]:
        venue = make_venue(seed, markets=4)
        return texts_of(venue, venue.step(400)), venue.books()

    assert tell(11) == tell(11)
    assert tell(11) != tell(12)


def test_steps_one_by_one_are_the_same_as_steps_at_once() -> None:
    one, other = make_venue(4), make_venue(4)
    singly = [text for _ in range(50) for text in texts_of(one, one.step())]
    assert singly == texts_of(other, other.step(50))


def test_time_never_goes_back_even_when_the_clock_does() -> None:
    clock = iter([5000, 4000, 3000, 6000])
    venue = Venue(seed=1, markets=1, now_ms=lambda: next(clock))
    stamps = [messages_of(venue, venue.step())[0]["timestamp"] for _ in range(3)]
    assert stamps == ["5000", "5000", "6000"]


def test_token_ids_are_decimal_and_of_the_seed() -> None:
    tokens = Venue(seed=1, markets=50).tokens
    assert len(set(tokens)) == 100
    assert all(token.isdigit() and len(token) <= 78 for token in tokens)
    assert max(map(len, tokens)) >= 77, "longer than any machine integer"
    assert tokens[:4] == Venue(seed=1, markets=2).tokens
    assert not set(tokens) & set(Venue(seed=2, markets=50).tokens)


@pytest.mark.parametrize("arguments", [{"markets": 0}, {"rate": -1.0}, {"rate": float("nan")}])
def test_a_venue_that_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"market|rate"):
        Venue(**arguments)


def test_a_resolved_market_has_no_book_and_no_steps() -> None:
    venue = make_venue(1, markets=2)
    market = venue.markets[0]
    venue.resolve_market(market.condition_id, winner=1)
    assert venue.tokens == list(venue.markets[1].tokens)
    assert not set(market.tokens) & venue.books().keys()
    said = messages_of(venue, venue.step(50))
    assert {m["market"] for m in said} == {venue.markets[1].condition_id}
    with pytest.raises(LookupError):
        venue.resolve_market(market.condition_id, winner=1)
    venue.resolve_market(venue.markets[1].condition_id, winner=0)
    assert venue.step(5) == []
