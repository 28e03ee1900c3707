"""A share of a core is never exceeded in the long run, and always comes again."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyactors.book.budget import BURST_SECONDS, WORTHWHILE_SECONDS, Budget

COSTS = st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(1e-5, 0.005)), max_size=60)


@given(st.floats(0.001, 1.0), COSTS)
def test_what_is_spent_stays_within_the_share(
    share: float, pieces: list[tuple[float, float]]
) -> None:
    budget, now, spent, last = Budget(share), 10.0, 0.0, 0.0
    budget.opens_at(now)
    began = now
    for wait, cost in pieces:
        now += wait
        if budget.is_open(now):
            budget.spend(cost)
            spent += cost
            last = cost
    # What gathered before the first look is at most a burst; one piece may overdraw.
    assert spent <= (now - began) * share + BURST_SECONDS + last + 1e-9


@given(st.floats(0.001, 1.0), COSTS)
def test_it_opens_when_it_says(share: float, pieces: list[tuple[float, float]]) -> None:
    budget, now = Budget(share), 10.0
    for wait, cost in pieces:
        now += wait
        budget.spend(cost)
        opens = budget.opens_at(now)
        assert now <= opens < inf
        assert budget.is_open(opens + 1e-9)
        now = opens
    assert budget.opens_at(now + BURST_SECONDS / share) == now + BURST_SECONDS / share


def test_a_quiet_hour_buys_no_long_block() -> None:
    budget = Budget(0.02)
    assert budget.is_open(3600.0)
    budget.spend(BURST_SECONDS)
    assert not budget.is_open(3600.0)
    opens = budget.opens_at(3600.0)
    assert opens == pytest.approx(3600.0 + WORTHWHILE_SECONDS / 0.02)


def test_no_share_is_no_work() -> None:
    assert Budget(0.0).opens_at(1e9) == inf
