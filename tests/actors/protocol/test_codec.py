"""Every form that an event of the market channel ever had, by example."""

import json
from decimal import Decimal
from typing import Any

import pytest

from polyactors.book.numbers import PRICE_ONE, Side, parse_units
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import (
    BestBidAsk,
    BookSnapshot,
    ControlText,
    Decoded,
    LastTradePrice,
    LevelChange,
    MarketEvent,
    MarketResolved,
    NewMarket,
    PriceChange,
    TickSizeChange,
)

TOKEN = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
OTHER = "52114319501245915516055106046884209969926127482827954674443846427813813222426"
MARKET = "0x5f65177b394277fd294cd75650044e32ba009a95022d88a0c1d565897d72f8f1"
HASH = "bf32b3746fff40c76c98021b7f3f07261169dd26"
NOW = 1757908892351


def units(text: str) -> int:
    return parse_units(text)


def decode(value: object) -> Decoded:
    return MarketCodec().receive_frame(json.dumps(value))


def decode_one(value: object) -> MarketEvent:
    decoded = decode(value)
    assert decoded.unreadable == ()
    assert decoded.unknown_fields == ()
    (event,) = decoded.events
    return event


def book(**changes: Any) -> dict[str, Any]:
    return {
        "event_type": "book",
        "asset_id": TOKEN,
        "market": MARKET,
        "bids": [{"price": "0.45", "size": "1000"}, {"price": "0.48", "size": "30"}],
        "asks": [{"price": "0.6", "size": "25"}, {"price": "0.52", "size": "7.5"}],
        "hash": HASH,
        "timestamp": str(NOW),
        **changes,
    }


BOOK = BookSnapshot(
    token=TOKEN,
    market=MARKET,
    bids={units("0.45"): units("1000"), units("0.48"): units("30")},
    asks={units("0.6"): units("25"), units("0.52"): units("7.5")},
    hash=HASH,
    timestamp_ms=NOW,
)


def change(**changes: Any) -> dict[str, Any]:
    return {
        "asset_id": TOKEN,
        "price": "0.48",
        "size": "200",
        "side": "BUY",
        "hash": HASH,
        "best_bid": "0.48",
        "best_ask": "0.52",
        **changes,
    }


def price_change(*entries: object, **changes: Any) -> dict[str, Any]:
    return {
        "event_type": "price_change",
        "market": MARKET,
        "price_changes": list(entries),
        "timestamp": str(NOW),
        **changes,
    }


CHANGE = LevelChange(
    token=TOKEN,
    side=Side.BID,
    price=units("0.48"),
    size=units("200"),
    hash=HASH,
    best_bid=units("0.48"),
    best_ask=units("0.52"),
)


def only_change(value: object) -> LevelChange:
    event = decode_one(value)
    assert isinstance(event, PriceChange)
    (entry,) = event.changes
    return entry


# book


def test_a_book_is_read_with_best_levels_last() -> None:
    assert decode_one(book()) == BOOK


def test_a_book_of_2024_has_buys_and_sells() -> None:
    today = book()
    old = {name: value for name, value in today.items() if name not in ("bids", "asks")}
    assert decode_one({**old, "buys": today["bids"], "sells": today["asks"]}) == BOOK


def test_of_a_book_in_both_forms_todays_counts() -> None:
    old = [{"price": "0.1", "size": "1"}]
    assert decode_one(book(buys=old, sells=old)) == BOOK
    without_asks = book(buys=old, sells=book()["asks"])
    del without_asks["asks"]
    assert decode_one(without_asks) == BOOK


def test_a_book_may_lack_its_event_type() -> None:
    for old in ({"bids": "bids", "asks": "asks"}, {"bids": "buys", "asks": "sells"}):
        wire = {old.get(name, name): value for name, value in book().items()}
        del wire["event_type"]
        assert decode_one(wire) == BOOK
        assert decode_one({**wire, "event_type": None}) == BOOK
        assert decode_one({**wire, "event_type": ""}) == BOOK


def test_the_first_book_brings_tick_size_and_last_trade_price() -> None:
    event = decode_one(book(tick_size="0.010", last_trade_price="0.630"))
    assert isinstance(event, BookSnapshot)
    assert event.tick_size == "0.01"
    # A hash input: the very text of the wire.
    assert event.last_trade_price == "0.630"
    never_traded = decode_one(book(last_trade_price=""))
    assert isinstance(never_traded, BookSnapshot)
    assert never_traded.last_trade_price == ""


def test_json_numbers_keep_the_text_that_a_hash_needs() -> None:
    frame = json.dumps(book(min_order_size=5, neg_risk=True)).replace(
        '"hash"', '"last_trade_price": 0.630, "tick_size": 1e-3, "hash"'
    )
    (event,) = MarketCodec().receive_frame(frame).events
    assert isinstance(event, BookSnapshot)
    assert (event.last_trade_price, event.tick_size) == ("0.630", "0.001")
    assert (event.min_order_size, event.neg_risk) == ("5", True)


def test_levels_in_any_order_come_out_in_the_order_of_the_wire() -> None:
    wire = book()
    shuffled = {**wire, "bids": wire["bids"][::-1], "asks": wire["asks"][::-1]}
    assert decode_one(shuffled) == BOOK


def test_of_a_level_that_is_there_twice_the_last_one_counts() -> None:
    levels = [
        {"price": "0.4", "size": "1"},
        {"price": ".40", "size": "2"},
        {"price": "0.3", "size": "5"},
        {"price": "0.30", "size": "0"},
        {"price": "0.2", "size": "0"},
        {"price": "0.2", "size": "9"},
        {"price": "0.1", "size": "0.0"},
    ]
    event = decode_one(book(bids=levels, asks=[]))
    assert isinstance(event, BookSnapshot)
    assert list(event.bids.items()) == [(units("0.2"), units("9")), (units("0.4"), units("2"))]
    assert event.asks == {}


def test_an_empty_side_may_be_null_but_not_missing() -> None:
    event = decode_one(book(bids=None))
    assert isinstance(event, BookSnapshot)
    assert event.bids == {}
    without = book()
    del without["asks"]
    decoded = decode(without)
    assert decoded.events == ()
    assert decoded.unreadable[0].why == "book: has no asks"
    assert decoded.unreadable[0].tokens == (TOKEN,)


def test_hash_and_timestamp_of_a_book_may_be_missing() -> None:
    wire = book()
    del wire["hash"], wire["timestamp"]
    event = decode_one(wire)
    assert isinstance(event, BookSnapshot)
    assert (event.hash, event.timestamp_ms) == ("", 0)
    assert decode_one({**wire, "hash": None, "timestamp": None}) == event


def test_the_book_of_the_users_document_is_read() -> None:
    event = decode_one(
        {
            "event_type": "book",
            "asset_id": TOKEN,
            "market": "0x...",
            "bids": [{"price": "0.45", "size": "1000.0"}, {"price": "0.44", "size": "500.0"}],
            "asks": [{"price": "0.46", "size": "800.0"}, {"price": "0.47", "size": "600.0"}],
            "timestamp": 1705320000,
        }
    )
    assert event == BookSnapshot(
        token=TOKEN,
        market="0x...",
        bids={units("0.44"): units("500"), units("0.45"): units("1000")},
        asks={units("0.47"): units("600"), units("0.46"): units("800")},
        timestamp_ms=1705320000000,
    )


# price_change


def test_a_price_change_of_today_keeps_its_entries_in_order() -> None:
    mirrored = change(
        asset_id=OTHER, price="0.52", side="SELL", best_bid="0.48", best_ask="0.52", hash="ff"
    )
    event = decode_one(price_change(change(), mirrored))
    assert event == PriceChange(
        market=MARKET,
        timestamp_ms=NOW,
        changes=(
            CHANGE,
            LevelChange(
                token=OTHER,
                side=Side.ASK,
                price=units("0.52"),
                size=units("200"),
                hash="ff",
                best_bid=units("0.48"),
                best_ask=units("0.52"),
            ),
        ),
    )


def test_a_price_change_of_2025_has_changes_with_one_token_and_hash() -> None:
    event = decode_one(
        {
            "event_type": "price_change",
            "asset_id": TOKEN,
            "market": MARKET,
            "changes": [
                {"price": "0.4", "side": "SELL", "size": "3300"},
                {"price": "0.5", "side": "BUY", "size": "0"},
            ],
            "hash": HASH,
            "timestamp": str(NOW),
        }
    )
    assert event == PriceChange(
        market=MARKET,
        timestamp_ms=NOW,
        changes=(
            LevelChange(TOKEN, Side.ASK, units("0.4"), units("3300"), HASH),
            LevelChange(TOKEN, Side.BID, units("0.5"), 0, HASH),
        ),
    )


def test_a_price_change_of_2024_has_a_single_entry_in_itself() -> None:
    event = decode_one(
        {
            "event_type": "price_change",
            "asset_id": TOKEN,
            "market": MARKET,
            "price": "0.514",
            "side": "SELL",
            "size": "21574.08",
            "hash": HASH,
            "timestamp": str(NOW),
        }
    )
    assert event == PriceChange(
        market=MARKET,
        timestamp_ms=NOW,
        changes=(LevelChange(TOKEN, Side.ASK, units("0.514"), units("21574.08"), HASH),),
    )


def test_the_price_change_of_the_users_document_is_read() -> None:
    event = decode_one(
        {
            "event_type": "price_change",
            "asset_id": TOKEN,
            "market": "0x...",
            "price": "0.46",
            "side": "ask",
            "size": "0.0",
            "timestamp": 1705320001,
        }
    )
    assert event == PriceChange(
        market="0x...",
        timestamp_ms=1705320001000,
        changes=(LevelChange(TOKEN, Side.ASK, units("0.46"), 0),),
    )


def test_when_forms_are_mixed_the_newest_counts() -> None:
    mixed = price_change(
        change(),
        changes=[{"price": "0.1", "side": "BUY", "size": "1"}],
        asset_id=OTHER,
        price="0.2",
        side="SELL",
        size="2",
    )
    assert only_change(mixed) == CHANGE
    del mixed["price_changes"]
    assert only_change(mixed).price == units("0.1")


def test_a_price_change_without_entries_changes_nothing() -> None:
    assert decode_one(price_change()) == PriceChange(MARKET, NOW, ())


@pytest.mark.parametrize("word", ["BUY", "buy", "Buy", "BID", "bid", "bUy"])
def test_a_buy_is_a_bid_in_any_spelling(word: str) -> None:
    assert only_change(price_change(change(side=word))).side is Side.BID


@pytest.mark.parametrize("word", ["SELL", "sell", "Sell", "ASK", "ask"])
def test_a_sell_is_an_ask_in_any_spelling(word: str) -> None:
    assert only_change(price_change(change(side=word))).side is Side.ASK


@pytest.mark.parametrize("text", ['"0.48"', '".48"', '"0.480"', "0.48", "0.4800", "48e-2"])
def test_a_price_is_exact_in_any_spelling(text: str) -> None:
    frame = json.dumps(price_change(change(price="PRICE"))).replace('"PRICE"', text)
    (event,) = MarketCodec().receive_frame(frame).events
    assert isinstance(event, PriceChange)
    assert event.changes[0].price == 480_000_000


def test_json_numbers_are_never_rounded_to_binary() -> None:
    # A double has some 16 digits; this size has 25.
    frame = (
        json.dumps(price_change(change(price="PRICE", size="SIZE")))
        .replace('"PRICE"', "0.100000001")
        .replace('"SIZE"', "9007199254740993.123456789")
    )
    (event,) = MarketCodec().receive_frame(frame).events
    assert isinstance(event, PriceChange)
    assert event.changes[0].price == 100_000_001
    assert event.changes[0].size == 9007199254740993_123456789


@pytest.mark.parametrize("size", ["0", "0.0", ".0", "0.00", 0])
def test_a_zero_size_is_zero_in_any_spelling(size: object) -> None:
    assert only_change(price_change(change(size=size))).size == 0


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [
        ("0.48", "0.52", (units("0.48"), units("0.52"))),
        ("0", "1", (0, PRICE_ONE)),
        ("", "", (0, PRICE_ONE)),
        ("0.0", "1.00", (0, PRICE_ONE)),
        ("1", "0", (0, PRICE_ONE)),
        (0, 1, (0, PRICE_ONE)),
        (None, None, (None, None)),
    ],
)
def test_best_prices_that_no_level_can_have_mean_an_empty_side(
    bid: object, ask: object, expected: tuple[int | None, int | None]
) -> None:
    entry = only_change(price_change(change(best_bid=bid, best_ask=ask)))
    assert (entry.best_bid, entry.best_ask) == expected


def test_best_prices_and_hash_that_are_not_stated_are_not_made_up() -> None:
    wire = change()
    del wire["best_bid"], wire["best_ask"], wire["hash"]
    entry = only_change(price_change(wire))
    assert (entry.best_bid, entry.best_ask, entry.hash) == (None, None, "")


# the other events


def test_a_trade_of_today_is_read() -> None:
    event = decode_one(
        {
            "market": MARKET,
            "asset_id": TOKEN,
            "price": "0.630",
            "size": "2.460001",
            "fee_rate_bps": "",
            "side": "SELL",
            "timestamp": str(NOW),
            "event_type": "last_trade_price",
            "transaction_hash": "0x6c83",
        }
    )
    assert event == LastTradePrice(
        token=TOKEN,
        market=MARKET,
        price=units("0.63"),
        size=units("2.460001"),
        side=Side.ASK,
        timestamp_ms=NOW,
        price_text="0.630",
        transaction_hash="0x6c83",
    )


def test_the_trade_of_the_users_document_is_read() -> None:
    event = decode_one(
        {
            "event_type": "last_trade_price",
            "asset_id": TOKEN,
            "market": "0x...",
            "price": "0.455",
            "size": "50.0",
            "side": "buy",
            "timestamp": 1705320002,
        }
    )
    assert event == LastTradePrice(
        token=TOKEN,
        market="0x...",
        price=units("0.455"),
        size=units("50"),
        side=Side.BID,
        timestamp_ms=1705320002000,
        price_text="0.455",
    )


def test_a_tick_size_change_is_read() -> None:
    wire = {
        "event_type": "tick_size_change",
        "asset_id": TOKEN,
        "market": "0x...",
        "old_tick_size": "0.01",
        "new_tick_size": "0.001",
        "timestamp": 1705320003,
    }
    expected = TickSizeChange(TOKEN, "0x...", Decimal("0.01"), Decimal("0.001"), 1705320003000)
    assert decode_one(wire) == expected
    del wire["old_tick_size"]
    event = decode_one({**wire, "new_tick_size": "0.0025", "side": "BUY"})
    assert event == TickSizeChange(TOKEN, "0x...", None, Decimal("0.0025"), 1705320003000)


def test_best_bid_ask_is_read() -> None:
    wire = {
        "event_type": "best_bid_ask",
        "market": MARKET,
        "asset_id": TOKEN,
        "best_bid": "0.73",
        "best_ask": "",
        "spread": "0.27",
        "timestamp": str(NOW),
    }
    assert decode_one(wire) == BestBidAsk(TOKEN, MARKET, units("0.73"), PRICE_ONE, NOW)
    # Here the best prices are the message: without one there is none.
    assert decode({**wire, "best_bid": None}).events == ()
    del wire["best_ask"]
    assert decode(wire).unreadable[0].why == "best_bid_ask: has no best_ask"


def new_market(**changes: Any) -> dict[str, Any]:
    return {
        "event_type": "new_market",
        "id": "1031769",
        "question": "Will it rain: yes or no?",
        "market": MARKET,
        "slug": "will-it-rain",
        "description": "Colons: inside: strings",
        "assets_ids": [TOKEN, OTHER],
        "outcomes": ["Yes", "No"],
        "event_message": {"id": "1", "ticker": "t", "slug": "s", "title": "t", "description": ""},
        "timestamp": str(NOW),
        "tags": ["stocks"],
        "condition_id": MARKET,
        "active": True,
        "clob_token_ids": [TOKEN, OTHER],
        "sports_market_type": "",
        "line": "",
        "game_start_time": "",
        "order_price_min_tick_size": "0.01",
        "group_item_title": "",
        "taker_base_fee": "0",
        "fees_enabled": False,
        "fee_schedule": {"exponent": "1", "rate": "0", "taker_only": True, "rebate_rate": "0"},
        **changes,
    }


NEW_MARKET = NewMarket(
    MARKET, "will-it-rain", "Will it rain: yes or no?", (TOKEN, OTHER), ("Yes", "No"), NOW
)


def test_a_new_market_is_read() -> None:
    assert decode_one(new_market()) == NEW_MARKET


def test_a_new_market_is_read_from_gammas_names_too() -> None:
    wire = new_market(outcomes='["Yes", "No"]', clob_token_ids=json.dumps([TOKEN, OTHER]))
    del wire["market"], wire["assets_ids"]
    assert decode_one(wire) == NEW_MARKET


def test_a_new_market_that_says_little_is_no_reason_to_distrust_books() -> None:
    event = decode_one({"event_type": "new_market", "market": MARKET})
    assert event == NewMarket(MARKET, "", "", (), ())


def test_a_resolved_market_is_read() -> None:
    wire = {
        "event_type": "market_resolved",
        "id": "1031769",
        "market": MARKET,
        "assets_ids": [TOKEN, OTHER],
        "winning_asset_id": TOKEN,
        "winning_outcome": "Yes",
        "timestamp": str(NOW),
        "tags": ["stocks"],
    }
    assert decode_one(wire) == MarketResolved(MARKET, (TOKEN, OTHER), TOKEN, "Yes", NOW)
    undecided = decode_one({**wire, "winning_asset_id": "", "winning_outcome": None})
    assert undecided == MarketResolved(MARKET, (TOKEN, OTHER), None, None, NOW)


# timestamps


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (str(NOW), NOW),
        (NOW, NOW),
        ("1705320000", 1705320000_000),
        (1705320000, 1705320000_000),
        ("1705320000.25", 1705320000_250),
        ("99999999999", 99999999999_000),
        ("100000000000", 100000000000),
        ("0000000000001", 1000),
        ("1757908892351.9", NOW),
        ("", 0),
        ("0", 0),
        (0, 0),
        (None, 0),
    ],
)
def test_timestamps_are_milliseconds_whatever_they_were(timestamp: object, expected: int) -> None:
    event = decode_one(price_change(change(), timestamp=timestamp))
    assert isinstance(event, PriceChange)
    assert event.timestamp_ms == expected


def test_a_price_change_without_a_timestamp_is_read() -> None:
    wire = price_change(change())
    del wire["timestamp"]
    assert decode_one(wire) == PriceChange(MARKET, 0, (CHANGE,))


@pytest.mark.parametrize("timestamp", ["soon", -1, "1e14", 10**30, True, [], {}])
def test_what_is_no_timestamp_makes_a_message_unreadable(timestamp: object) -> None:
    assert decode(price_change(change(), timestamp=timestamp)).events == ()


# frames


def test_an_array_keeps_the_order_of_its_elements() -> None:
    decoded = decode([book(), price_change(change()), book(asset_id=OTHER)])
    assert [type(event) for event in decoded.events] == [BookSnapshot, PriceChange, BookSnapshot]


def test_an_empty_array_holds_nothing() -> None:
    assert decode([]) == Decoded()


def test_bytes_and_text_of_any_whitespace_are_the_same() -> None:
    for frame in (
        json.dumps(book(), separators=(",", ":")),
        json.dumps(book(), indent=2).encode(),
        f" \r\n\t{json.dumps([book()])}\n",
    ):
        assert MarketCodec().receive_frame(frame).events == (BOOK,)


@pytest.mark.parametrize("control", ControlText)
def test_control_texts_are_told_from_json(control: ControlText) -> None:
    for frame in (control.value, control.value.encode(), f"{control.value}\n"):
        assert MarketCodec().receive_frame(frame) == Decoded(control=control)


def test_a_control_text_in_quotes_is_json_and_no_control() -> None:
    decoded = MarketCodec().receive_frame('"PONG"')
    assert decoded.control is None
    assert decoded.unreadable[0].why == "expected an event, got 'PONG'"


# the unknown


def test_an_unknown_event_is_counted_and_passed_by() -> None:
    decoded = decode([book(), {"event_type": "sunrise", "asset_id": TOKEN}, book()])
    assert decoded == Decoded(events=(BOOK, BOOK), unknown_events=("sunrise",))


def test_unknown_fields_are_counted_once_for_each_element() -> None:
    entry = change(trader="me")
    decoded = decode(
        [
            price_change(entry, entry, mood="calm"),
            book(bids=[{"price": "0.4", "size": "1", "orders": 3}] * 2, sequence=7),
        ]
    )
    assert len(decoded.events) == 2
    assert decoded.unreadable == ()
    assert decoded.unknown_fields == (
        "price_change.mood",
        "price_change.price_changes[].trader",
        "book.sequence",
        "book.bids[].orders",
    )


def test_what_is_reported_of_the_unknown_is_bounded() -> None:
    decoded = decode([{"event_type": "x" * 5000}, book(**{f"n{i}" * 50: 1 for i in range(500)})])
    assert decoded.unknown_events == ("x" * 100,)
    assert decoded.events == (BOOK,)
    assert len(decoded.unknown_fields) == 100
    assert max(map(len, decoded.unknown_fields)) == len("book.") + 100
