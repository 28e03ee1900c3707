"""What the hash of a book proves, and when it proves nothing."""

from itertools import count
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyactors.book.formula import WRONG_BOOKS_MIN, WRONG_MARKETS_MIN, FormulaWatch
from polyactors.book.integrity import book_hash
from polyactors.book.numbers import Side, parse_units
from polyactors.book.orderbook import OrderBook
from polyactors.book.verify import (
    KNOWN_PRICES_MAX,
    HashCheck,
    HashInputs,
    LastTradePrices,
    Verdict,
)

MARKET, TOKEN = "0x" + "ab" * 32, "1111"
KNOWN = HashInputs("0.01", "5", False)
PRICES = ["", *(f"{thousandths / 1000:.3f}" for thousandths in range(1001))]


def make_book() -> OrderBook:
    bids = [(parse_units("0.4"), parse_units("10")), (parse_units("0.5"), parse_units("2.5"))]
    asks = [(parse_units("0.7"), parse_units("8")), (parse_units("0.6"), parse_units("1"))]
    return OrderBook(TOKEN, MARKET, bids, asks)


def stated(book: OrderBook, price: str, **changed: Any) -> str:
    inputs: dict[str, Any] = attrs.asdict(KNOWN) | changed
    return book_hash(
        market=MARKET,
        token=TOKEN,
        timestamp_ms=1000,
        bids=book.wire_bids,
        asks=book.wire_asks,
        last_trade_price=price,
        **inputs,
    )


def judge(
    book: OrderBook, wanted: str, known: tuple[str, ...] = (), inputs: HashInputs = KNOWN
) -> HashCheck:
    check = HashCheck(book, wanted, 1000, inputs, known)
    check.run()
    return check


@given(st.sampled_from(PRICES), st.lists(st.sampled_from(PRICES), max_size=3))
def test_a_right_book_is_right_whatever_the_last_trade_price(price: str, known: list[str]) -> None:
    check = judge(make_book(), stated(make_book(), price), tuple(known))
    assert (check.verdict, check.last_trade_price) == (Verdict.RIGHT, price)


@given(st.sampled_from(PRICES), st.sampled_from(list(Side)), st.integers(0, 3))
def test_any_changed_level_is_wrong(price: str, side: Side, size: int) -> None:
    wanted = stated(make_book(), price)
    book = make_book()
    level = book.best_bid_units if side is Side.BID else book.best_ask_units
    assert level is not None
    book.set_level(side, level, size)
    assert judge(book, wanted, (price,)).verdict is Verdict.WRONG


@pytest.mark.parametrize("missing", ["tick_size", "min_order_size", "neg_risk"])
def test_without_an_input_nothing_can_be_told(missing: str) -> None:
    inputs = attrs.evolve(KNOWN, **{missing: None})
    assert judge(make_book(), "0" * 40, inputs=inputs).verdict is Verdict.UNVERIFIABLE


def test_without_a_stated_hash_nothing_can_be_told() -> None:
    check = HashCheck(make_book(), "", 1000, KNOWN, ("0.5",))
    assert check.run_known() is Verdict.UNVERIFIABLE


def test_a_finer_tick_than_is_known_proves_right_but_never_wrong() -> None:
    fine = attrs.evolve(KNOWN, tick_size="0.0001")
    wanted = stated(make_book(), "0.500", tick_size="0.0001")
    assert judge(make_book(), wanted, inputs=fine).verdict is Verdict.RIGHT
    assert judge(make_book(), "0" * 40, inputs=fine).verdict is Verdict.UNVERIFIABLE


def test_a_tick_that_was_never_told_is_found_whether_the_price_is_known_or_not() -> None:
    wanted = stated(make_book(), "0.500", tick_size="0.001")
    check = judge(make_book(), wanted, ("0.400", "0.500"))
    assert (check.verdict, check.tick_size) == (Verdict.RIGHT, "0.001")
    # A tick_size_change stands behind the book of a trade whose price is not told yet.
    check = judge(make_book(), wanted)
    assert (check.verdict, check.tick_size) == (Verdict.RIGHT, "0.001")


def test_known_prices_are_tried_before_the_search_begins() -> None:
    wanted = stated(make_book(), "0.999")
    check = HashCheck(make_book(), wanted, 1000, KNOWN, ("0.1", "0.999"))
    assert check.run_known() is Verdict.RIGHT
    check = HashCheck(make_book(), wanted, 1000, KNOWN, ("0.1",))
    assert check.run_known() is None
    slices = next(n for n in count(1) if check.run(400) is not None)
    assert (slices, check.verdict) == (3, Verdict.RIGHT)


def test_the_newest_last_trade_prices_come_first_and_few_are_kept() -> None:
    prices = LastTradePrices()
    assert prices.known(MARKET) == ()
    for price in ("0.1", "0.2", "0.3", "0.2", "0.4", "0.5"):
        prices.learn(MARKET, price)
    assert prices.known(MARKET) == ("0.5", "0.4", "0.2", "0.3")
    assert len(prices.known(MARKET)) == KNOWN_PRICES_MAX
    assert prices.known("another") == ()


def test_the_formula_is_doubted_when_fresh_books_of_many_markets_are_wrong_in_a_row() -> None:
    watch = FormulaWatch()
    for number in range(WRONG_BOOKS_MIN - 1):
        watch.note_fresh(f"m{number % WRONG_MARKETS_MIN}", right=False)
        assert not watch.is_doubtful
    watch.note_fresh("m0", right=False)
    assert watch.is_doubtful
    watch.note_right()
    assert not watch.is_doubtful


def test_no_number_of_wrong_books_of_few_markets_makes_the_formula_doubtful() -> None:
    watch = FormulaWatch()
    for number in range(100):
        watch.note_fresh(f"m{number % (WRONG_MARKETS_MIN - 1)}", right=False)
    assert not watch.is_doubtful
