import hashlib
from typing import Any, TypedDict

import pytest

from polyactors.book.integrity import PriceSearch, book_hash


class Inputs(TypedDict):
    market: str
    token: str
    timestamp_ms: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    min_order_size: str
    tick_size: str
    neg_risk: bool


INPUTS = Inputs(
    market="0x1a",
    token="77",
    timestamp_ms=1789156413823,
    bids=[(10_000_000, 1_000_000_000_000), (480_000_000, 10_700_000_000)],
    asks=[(990_000_000, 5_000_000_000)],
    min_order_size="5",
    tick_size="0.01",
    neg_risk=False,
)
PREIMAGE = (
    '{"market":"0x1a","asset_id":"77","timestamp":"1789156413823","hash":"",'
    '"bids":[{"price":"0.01","size":"1000"},{"price":"0.48","size":"10.7"}],'
    '"asks":[{"price":"0.99","size":"5"}],'
    '"min_order_size":"5","tick_size":"0.01","neg_risk":false,"last_trade_price":"0.368"}'
)


def test_the_hash_is_sha1_of_the_ten_fields_in_order() -> None:
    expected = hashlib.sha1(PREIMAGE.encode()).hexdigest()
    assert book_hash(**INPUTS, last_trade_price="0.368") == expected


def test_older_eras_leave_fields_out() -> None:
    without_price = PREIMAGE.replace(',"last_trade_price":"0.368"', "")
    assert (
        book_hash(**INPUTS, last_trade_price=None)
        == hashlib.sha1(without_price.encode()).hexdigest()
    )
    six = without_price.replace(',"min_order_size":"5","tick_size":"0.01","neg_risk":false', "")
    five = six.replace('"timestamp":"1789156413823",', "")
    for preimage, timestamp_ms in ((six, INPUTS["timestamp_ms"]), (five, None)):
        assert (
            book_hash(
                market="0x1a",
                token="77",
                timestamp_ms=timestamp_ms,
                bids=INPUTS["bids"],
                asks=INPUTS["asks"],
                min_order_size=None,
                tick_size=None,
                neg_risk=None,
                last_trade_price=None,
            )
            == hashlib.sha1(preimage.encode()).hexdigest()
        )


@pytest.mark.parametrize(
    ("timestamp_ms", "min_order_size", "neg_risk", "last_trade_price"),
    [
        (None, "5", False, "0.5"),
        (1, None, False, "0.5"),
        (1, "5", None, "0.5"),
        (1, None, None, "0.5"),
    ],
)
def test_an_unknown_input_is_an_error_and_not_an_older_era(
    timestamp_ms: int | None,
    min_order_size: str | None,
    neg_risk: bool | None,
    last_trade_price: str | None,
) -> None:
    with pytest.raises(ValueError, match="no era"):
        book_hash(
            market="0x1a",
            token="77",
            timestamp_ms=timestamp_ms,
            bids=[],
            asks=[],
            min_order_size=min_order_size,
            tick_size="0.01",
            neg_risk=neg_risk,
            last_trade_price=last_trade_price,
        )


def find_last_trade_price(**arguments: Any) -> str | None:
    search = PriceSearch(**arguments)
    assert search.run()
    return search.found


@pytest.mark.parametrize("price", ["", "0.000", "0.007", "0.630", "1.000"])
def test_the_last_trade_price_is_found_without_a_candidate(price: str) -> None:
    wanted = book_hash(**INPUTS, last_trade_price=price)
    assert find_last_trade_price(hash=wanted, candidates=(), **INPUTS) == price


def test_candidates_of_any_spelling_are_tried_first() -> None:
    wanted = book_hash(**INPUTS, last_trade_price="0.63")
    assert find_last_trade_price(hash=wanted, candidates=(), **INPUTS) is None
    assert find_last_trade_price(hash=wanted, candidates=("0.4", "0.63"), **INPUTS) == "0.63"


def test_no_last_trade_price_is_found_for_other_levels() -> None:
    wanted = book_hash(**INPUTS, last_trade_price="0.630")
    other = INPUTS.copy()
    other["asks"] = [(990_000_000, 5_000_000_001)]
    assert find_last_trade_price(hash=wanted, candidates=("0.630",), **other) is None
    assert find_last_trade_price(hash="", candidates=(), **INPUTS) is None


@pytest.mark.parametrize("count", [1, 7, 501, 1002, 5000])
def test_a_search_in_slices_tries_every_candidate_once(count: int) -> None:
    wanted = book_hash(**INPUTS, last_trade_price="1.000")  # the last one
    search = PriceSearch(hash=wanted, candidates=("0.63",), **INPUTS)
    slices = 1
    while not search.run(count):
        slices += 1
    assert search.found == "1.000"
    assert slices == -(-1003 // count)  # one is known, 1,001 and "" are tried
    assert search.run(count)  # over is over


@pytest.mark.parametrize("count", [17, 1003, 2000])
def test_a_search_in_vain_ends(count: int) -> None:
    search = PriceSearch(hash="0" * 40, candidates=("0.63",), **INPUTS)
    for _ in range(1003 // count + 1):
        search.run(count)
    assert search.run(count)
    assert search.found is None


def test_a_search_goes_on_for_the_book_that_it_began_with() -> None:
    inputs = INPUTS.copy()
    bids = inputs["bids"] = list(INPUTS["bids"])
    wanted = book_hash(**inputs, last_trade_price="0.630")
    search = PriceSearch(hash=wanted, candidates=(), **inputs)
    search.run(3)
    bids.clear()
    search.run()
    assert search.found == "0.630"
