"""The matching engine and the order flow, pure."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyactors.book.numbers import PRICE_ONE, Side
from polyactors.venue.engine import NO, YES, MatchingEngine, Step
from polyactors.venue.flow import COARSE_TICK, FINE_TICK, ORDERS_MAX, OrderFlow

CENT = PRICE_ONE // 100
SHARE = PRICE_ONE


def make_engine(tick_size: int = COARSE_TICK) -> MatchingEngine:
    return MatchingEngine(
        market="0x" + "ab" * 32,
        tokens=("111", "222"),
        tick_size=tick_size,
        neg_risk=False,
        timestamp_ms=1,
    )


def make_flow(seed: int, anchor_cents: int = 50, tick_size: int = COARSE_TICK) -> OrderFlow:
    engine = make_engine(tick_size)
    flow = OrderFlow(Random(seed), engine, anchor_cents * CENT)
    flow.open_market(1, traded=False)
    return flow


def test_an_order_that_crosses_nothing_rests_and_mirrors() -> None:
    engine = make_engine()
    step = engine.place(YES, Side.BID, 48 * CENT, 10 * SHARE, 2)
    yes, no = step.after
    assert (yes.bids, yes.asks) == (((48 * CENT, 10 * SHARE),), ())
    assert (no.bids, no.asks) == ((), ((52 * CENT, 10 * SHARE),))
    assert (yes.best_bid, yes.best_ask) == (48 * CENT, PRICE_ONE)
    assert (no.best_bid, no.best_ask) == (0, 52 * CENT)
    assert step.trades == ()
    assert step.top_changed


def test_an_order_for_no_is_matched_against_an_order_for_yes() -> None:
    engine = make_engine()
    engine.place(YES, Side.BID, 48 * CENT, 10 * SHARE, 2)
    step = engine.place(NO, Side.BID, 52 * CENT, 4 * SHARE, 3)
    (trade,) = step.trades
    assert (trade.token, trade.side, trade.price, trade.size) == (
        NO,
        Side.BID,
        52 * CENT,
        4 * SHARE,
    )
    assert step.after[YES].bids == ((48 * CENT, 6 * SHARE),)
    assert step.after[YES].last_trade_price == step.after[NO].last_trade_price == "0.520"
    assert engine.volume == 4 * SHARE


def test_the_first_order_of_a_level_is_matched_first() -> None:
    engine = make_engine()
    engine.place(YES, Side.ASK, 50 * CENT, 5 * SHARE, 2)
    engine.place(NO, Side.BID, 50 * CENT, 5 * SHARE, 3)
    step = engine.place(YES, Side.BID, 50 * CENT, 7 * SHARE, 4)
    assert [(touch.token, touch.size) for touch in step.touches] == [
        (YES, 3 * SHARE),
        (NO, 3 * SHARE),
    ]
    (left,) = engine.orders.values()
    assert (left.token, left.size) == (NO, 3 * SHARE)


def test_a_taker_gets_the_best_prices_first_and_its_remainder_is_told_first() -> None:
    engine = make_engine()
    engine.place(YES, Side.ASK, 52 * CENT, 5 * SHARE, 2)
    engine.place(YES, Side.ASK, 51 * CENT, 5 * SHARE, 3)
    engine.place(YES, Side.ASK, 60 * CENT, 5 * SHARE, 3)
    step = engine.place(YES, Side.BID, 55 * CENT, 12 * SHARE, 4)
    assert [(trade.price, trade.size) for trade in step.trades] == [
        (51 * CENT, 5 * SHARE),
        (52 * CENT, 5 * SHARE),
    ]
    assert [(touch.side, touch.price, touch.size) for touch in step.touches] == [
        (Side.BID, 55 * CENT, 2 * SHARE),
        (Side.ASK, 51 * CENT, 0),
        (Side.ASK, 52 * CENT, 0),
    ]
    assert step.after[YES].last_trade_price == "0.520"


def test_cancelling_two_orders_of_one_level_tells_its_final_size_twice() -> None:
    engine = make_engine()
    for _ in range(2):
        engine.place(YES, Side.ASK, 60 * CENT, 5 * SHARE, 2)
    step = engine.cancel(list(engine.orders), 3)
    assert [touch.size for touch in step.touches] == [0, 0]
    assert engine.best(Side.ASK) is None


def test_cancelling_an_order_that_does_not_rest_is_an_error() -> None:
    with pytest.raises(KeyError):
        make_engine().cancel([7], 2)


def test_levels_off_a_coarser_grid_stay() -> None:
    engine = make_engine(FINE_TICK)
    engine.place(YES, Side.BID, 955 * FINE_TICK, 5 * SHARE, 2)
    step = engine.change_tick(COARSE_TICK, 3)
    assert step.tick_changed
    assert step.after[YES].bids == ((955 * FINE_TICK, 5 * SHARE),)
    assert step.after[YES].hash != step.before[YES].hash


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), anchor_cents=st.integers(3, 97), fine=st.booleans())
def test_every_step_leaves_a_sound_book(seed: int, anchor_cents: int, fine: bool) -> None:
    flow = make_flow(seed, anchor_cents, FINE_TICK if fine else COARSE_TICK)
    for timestamp_ms in range(2, 120):
        step = flow.act(timestamp_ms)
        yes, no = step.after
        assert yes.best_bid < yes.best_ask, "crossed"
        assert no.bids == tuple((PRICE_ONE - price, size) for price, size in yes.asks)
        assert no.asks == tuple((PRICE_ONE - price, size) for price, size in yes.bids)
        for levels, ascending in ((yes.bids, True), (yes.asks, False)):
            prices = [price for price, _ in levels]
            assert all((a < b) is ascending for a, b in pairwise(prices))
            assert all(0 < price < PRICE_ONE for price in prices)
            assert all(size > 0 and size % CENT == 0 for _, size in levels)
        assert step.touches or step.tick_changed, "a step that says nothing"
        assert yes.hash != step.before[YES].hash


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_shares_are_neither_made_nor_lost(seed: int) -> None:
    """What rests after a step is what rested, and was placed, minus what was matched twice."""
    flow = make_flow(seed)
    engine = flow.engine
    for timestamp_ms in range(2, 60):
        before = dict.fromkeys(engine.orders)
        resting = sum(order.size for order in engine.orders.values())
        volume = engine.volume
        step = flow.act(timestamp_ms)
        after = sum(order.size for order in engine.orders.values())
        matched = engine.volume - volume
        assert matched == sum(trade.size for trade in step.trades)
        if matched:
            placed = [order for order in engine.orders.values() if order.id not in before]
            assert after == resting - matched + sum(order.size for order in placed)


def test_the_flow_shows_every_manner_and_stays_bounded() -> None:
    seen: Counter[str] = Counter()
    for anchor_cents in (30, 96):
        flow = make_flow(7, anchor_cents)
        for timestamp_ms in range(2, 4000):
            step = flow.act(timestamp_ms)
            seen.update(manners_of(step))
            assert len(flow.engine.orders) <= ORDERS_MAX + 1
    assert (
        not {
            "rested",
            "inside",
            "several touches without a trade",
            "a level twice",
            "trade",
            "several prices",
            "remainder",
            "empty side",
            "finer tick",
            "coarser tick",
            "own token is NO",
        }
        - seen.keys()
    )


def manners_of(step: Step) -> set[str]:
    before, after = step.before[YES], step.after[YES]
    manners: set[str] = set()
    levels = [(touch.token, touch.side, touch.price) for touch in step.touches]
    if not step.trades and len(levels) == 1 and step.touches[0].size:
        manners.add("rested")
        if step.top_changed and before.bids and before.asks:
            manners.add("inside")
    if not step.trades and len(levels) > 1:
        manners.add("several touches without a trade")
    if len(set(levels)) < len(levels):
        manners.add("a level twice")
    if step.trades:
        manners.add("trade")
        first, *others = step.trades
        if others:
            manners.add("several prices")
        if (step.touches[0].token, step.touches[0].side) == (first.token, first.side):
            manners.add("remainder")
    if not after.bids or not after.asks:
        manners.add("empty side")
    if step.tick_changed:
        manners.add("finer tick" if after.tick_size < before.tick_size else "coarser tick")
    if step.touches and step.touches[0].token == NO:
        manners.add("own token is NO")
    return manners


def test_one_seed_tells_one_story() -> None:
    stories = [[make_story(seed) for _ in range(2)] for seed in (1, 2)]
    assert stories[0][0] == stories[0][1]
    assert stories[1][0] == stories[1][1]
    assert stories[0][0] != stories[1][0]


def make_story(seed: int) -> list[Step]:
    flow = make_flow(seed)
    return [flow.act(timestamp_ms) for timestamp_ms in range(2, 200)]
