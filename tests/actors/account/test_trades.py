from itertools import product
from typing import Any

import pytest
from tests.actors.account.events import ADDRESS, API_KEY, US, maker, shares, trade

from polyactors.account.trades import (
    CONTRADICTIONS,
    TRANSITIONS,
    Owner,
    Step,
    Trade,
    fills_contradict,
    fills_of,
    matched_at_s,
    step_to,
    updated_at_s,
)
from polyactors.book.numbers import Side
from polyactors.protocol.user_events import TraderSide, TradeStatus

MATCHED, MINED, CONFIRMED = TradeStatus.MATCHED, TradeStatus.MINED, TradeStatus.CONFIRMED
RETRYING, FAILED = TradeStatus.RETRYING, TradeStatus.FAILED
STRANGER: dict[str, Any] = {"owner": "stranger", "maker_address": "0x0"}


# The statuses, each pair of them


NEWS = {
    (MATCHED, MINED), (MATCHED, CONFIRMED), (MATCHED, RETRYING), (MATCHED, FAILED),
    (MINED, CONFIRMED), (MINED, RETRYING), (MINED, FAILED),
    (RETRYING, MINED), (RETRYING, CONFIRMED), (RETRYING, FAILED),
}  # fmt: skip
IMPOSSIBLE = {(CONFIRMED, FAILED), (FAILED, CONFIRMED)}


@pytest.mark.parametrize(("known", "status"), list(product(TradeStatus, repeat=2)))
def test_a_later_status_is_news_a_repeat_or_impossible(
    known: TradeStatus, status: TradeStatus
) -> None:
    step = step_to(known, 5, status, 6)
    if (known, status) in IMPOSSIBLE:
        assert step is Step.IMPOSSIBLE
    else:
        assert step is (Step.NEWS if (known, status) in NEWS else Step.REPEAT)


def test_the_tables_have_every_status_and_final_ones_lead_nowhere() -> None:
    assert TRANSITIONS.keys() == set(TradeStatus)
    assert {status for status, then in TRANSITIONS.items() if not then} == {CONFIRMED, FAILED}
    assert CONTRADICTIONS.keys() == {CONFIRMED, FAILED}


@pytest.mark.parametrize(
    ("known", "known_at_s", "status", "updated_at_s", "step"),
    [
        (MINED, 5, RETRYING, 6, Step.NEWS),
        (MINED, 5, RETRYING, 5, Step.REPEAT),
        (MINED, 5, RETRYING, 4, Step.REPEAT),
        (RETRYING, 5, MINED, 6, Step.NEWS),
        (RETRYING, 5, MINED, 5, Step.NEWS),
        (RETRYING, 5, MINED, 4, Step.REPEAT),
        (RETRYING, 5, CONFIRMED, 4, Step.NEWS),
        (RETRYING, 5, FAILED, 0, Step.NEWS),
        (RETRYING, 5, MATCHED, 6, Step.REPEAT),
    ],
)
def test_only_between_retrying_and_mined_the_later_one_counts(
    known: TradeStatus, known_at_s: int, status: TradeStatus, updated_at_s: int, step: Step
) -> None:
    assert step_to(known, known_at_s, status, updated_at_s) is step


def test_a_trade_counts_from_matched_on_unless_it_failed() -> None:
    counting = {status for status in TradeStatus if Trade("t", "m", status, ()).counts}
    assert counting == set(TradeStatus) - {FAILED}


def test_times_fall_back_upon_what_there_is() -> None:
    assert matched_at_s(trade()) == 2000
    bare = trade(match_time_s=0, last_update_s=0, timestamp_ms=3_000_999)
    assert matched_at_s(bare) == updated_at_s(bare) == 3000
    assert matched_at_s(trade(match_time_s=0, last_update_s=7)) == 7


# Which fills are ours


def test_of_the_makers_ours_have_our_key_or_our_wallet() -> None:
    event = trade(
        MATCHED,
        maker(1, order_id="a"),
        maker(
            2, order_id="b", owner="another-key", maker_address=ADDRESS.upper().replace("X", "x")
        ),
        maker(3, order_id="c", **STRANGER),
        maker(4, order_id="d", owner="", maker_address=""),
    )
    fills = fills_of(event, US)
    assert [(fill.order_id, fill.size) for fill in fills] == [("a", shares(1)), ("b", shares(2))]
    assert all(fill.trader_side is TraderSide.MAKER for fill in fills)


def test_without_an_address_only_the_key_tells() -> None:
    event = trade(MATCHED, maker(1), maker(2, order_id="b", owner="other", maker_address=""))
    assert [fill.order_id for fill in fills_of(event, Owner(API_KEY))] == ["order"]


@pytest.mark.parametrize(
    "ours",
    [
        {"trader_side": TraderSide.TAKER, "owner": "another-key"},
        {"trader_side": None, "owner": API_KEY},
        {"trader_side": None, "owner": "another-key", "maker_address": ADDRESS},
    ],
)
def test_the_taker_is_us_by_side_key_or_wallet(ours: dict[str, Any]) -> None:
    event = trade(MATCHED, maker(3, **STRANGER), maker(2, **STRANGER), **ours)
    (fill,) = fills_of(event, US)
    assert (fill.order_id, fill.size, fill.side) == ("taker", shares(5), Side.ASK)
    assert fill.trader_side is TraderSide.TAKER
    assert fill.position_change == -shares(5)


def test_both_sides_are_ours_when_we_trade_with_ourselves() -> None:
    for side in TraderSide:
        fills = fills_of(trade(MATCHED, maker(4), trader_side=side, owner=API_KEY), US)
        assert {fill.order_id: fill.position_change for fill in fills} == {
            "taker": -shares(4),
            "order": shares(4),
        }


def test_a_maker_order_that_stands_there_twice_got_both() -> None:
    (fill,) = fills_of(trade(MATCHED, maker(1), maker(2)), US)
    assert fill.size == shares(3)


def test_a_size_of_nothing_is_no_fill() -> None:
    assert fills_of(trade(MATCHED, maker(0)), US) == ()


def test_nothing_of_a_strangers_trade_is_ours() -> None:
    assert fills_of(trade(MATCHED, maker(1, **STRANGER)), US) == ()


def test_an_owner_does_not_show_its_key() -> None:
    assert repr(US) == "Owner([redacted])"


def test_the_same_fill_with_another_size_contradicts_and_with_another_price_does_not() -> None:
    known = fills_of(trade(MATCHED, maker(4)), US)
    assert fills_contradict(known, fills_of(trade(MATCHED, maker(5)), US))
    assert fills_contradict(known, fills_of(trade(MATCHED, maker(4, side=Side.ASK)), US))
    assert fills_contradict(known, fills_of(trade(MATCHED, maker(4, token="2")), US))
    assert not fills_contradict(known, fills_of(trade(MATCHED, maker(4, price=1)), US))
    assert not fills_contradict(known, fills_of(trade(MATCHED, maker(5, order_id="b")), US))
