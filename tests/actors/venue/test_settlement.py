"""Ways of settling a trade, pure; and the exchange's agenda on virtual time."""

from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from polyactors.venue import Outcome, Settlement, TradeStatus
from polyactors.venue.agenda import Agenda

FOLLOWERS = {
    "MATCHED_NOT_BROADCASTED": {"MATCHED"},
    "MATCHED": {"MINED", "RETRYING"},
    "MINED": {"CONFIRMED", "RETRYING"},
    "RETRYING": {"MINED", "FAILED"},
}
"""The official diagram (PROTOCOL.md section 3), and what comes before a broadcast."""


def ways(settlement: Settlement, count: int = 400) -> set[tuple[str, ...]]:
    rng = Random(1)
    return {tuple(s.value for _, s in settlement.plan(rng, None)) for _ in range(count)}


@given(seed=st.integers(), outcome=st.sampled_from([None, *Outcome]))
def test_every_way_follows_the_diagram_to_a_final_status(
    seed: int, outcome: Outcome | None
) -> None:
    settlement = Settlement(retried_chance=0.4, failed_chance=0.3, unbroadcast_chance=0.5)
    plan = settlement.plan(Random(seed), outcome)
    statuses = [status for _, status in plan]
    assert all(b in FOLLOWERS[a] for a, b in pairwise(statuses))
    assert statuses[-1] in (TradeStatus.CONFIRMED, TradeStatus.FAILED)
    if outcome is not None:
        assert (statuses[-1] is TradeStatus.FAILED) is outcome.value.startswith("failed")
        assert (TradeStatus.RETRYING in statuses) is (outcome is not Outcome.CONFIRMED)


def test_without_chances_every_trade_is_confirmed_at_once() -> None:
    assert ways(Settlement()) == {("MATCHED", "MINED", "CONFIRMED")}


def test_chances_of_one_are_certain_and_lesser_ones_show_every_way() -> None:
    assert all(way[-1] == "FAILED" for way in ways(Settlement(failed_chance=1)))
    assert all("RETRYING" in way for way in ways(Settlement(retried_chance=1)))
    assert all(
        way[0] == "MATCHED_NOT_BROADCASTED" for way in ways(Settlement(unbroadcast_chance=1))
    )
    mixed = Settlement(retried_chance=0.5, failed_chance=0.3, unbroadcast_chance=0.5)
    assert len(ways(mixed)) == 2 * len(Outcome)


def test_each_delay_lies_in_its_range_and_the_first_status_comes_at_once() -> None:
    settlement = Settlement((1, 2), (10, 20), (100, 200), unbroadcast_chance=0.5)
    ranges = {
        TradeStatus.MATCHED: (1, 2),
        TradeStatus.MINED: (1, 2),
        TradeStatus.CONFIRMED: (10, 20),
        TradeStatus.RETRYING: (100, 200),
        TradeStatus.FAILED: (100, 200),
    }
    rng = Random(2)
    for outcome in [*Outcome] * 20:
        (first_seconds, _), *later = settlement.plan(rng, outcome)
        assert first_seconds == 0
        for seconds, status in later:
            least, greatest = ranges[status]
            assert least <= seconds <= greatest


@pytest.mark.parametrize(
    "wrong",
    [
        {"failed_chance": 1.1},
        {"retried_chance": -0.1},
        {"unbroadcast_chance": float("nan")},
        {"mined_seconds": (2, 1)},
        {"confirmed_seconds": (-1, 1)},
        {"retry_seconds": (0, float("inf"))},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|chance"):
        Settlement(**wrong)


async def test_the_agenda_does_each_thing_once_at_its_time_and_in_order(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    agenda, done = Agenda(), list[tuple[float, str]]()
    start = trio.current_time()

    def note(word: str) -> None:
        done.append((trio.current_time() - start, word))
        if word == "b":
            agenda.add(start + 2, lambda: note("b's"))

    agenda.add(start + 5, lambda: note("c"))
    agenda.add(start + 1, lambda: note("a"))
    agenda.add(start + 1, lambda: note("b"))
    await trio.sleep(0.5)
    assert done == []
    nursery.start_soon(agenda.run)
    await trio.sleep(3)
    agenda.add(start - 9, lambda: note("late"))
    agenda.add(start + 4, lambda: note("sooner"))
    await trio.sleep(30)
    times = [round(at, 6) for at, _ in done]
    assert [word for _, word in done] == ["a", "b", "b's", "late", "sooner", "c"]
    assert times == [1, 1, 2, 3.5, 4, 5]


async def test_what_is_due_waits_for_the_agenda_to_run(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    agenda, done = Agenda(), list[int]()
    for number in range(3):
        agenda.add(trio.current_time() + number, partial(done.append, number))
    await trio.sleep(10)
    assert done == []
    nursery.start_soon(agenda.run)
    await trio.testing.wait_all_tasks_blocked()
    assert done == [0, 1, 2]
