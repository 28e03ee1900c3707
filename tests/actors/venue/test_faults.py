"""The fault schedules, pure."""

import re
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyactors.venue import FaultKind, FaultSchedule
from polyactors.venue.faults import ARMED_KINDS, DEFAULT_SECONDS

SEEDS = st.integers(0, 2**32)
AUDIT_SECONDS, GRACE_SECONDS, RESYNC_SECONDS = 6.0, 2.0, 2.0
"""How a demo finds a change that nothing contradicts, and mends it; a fault waits 2 s at most."""
HEALING_SECONDS = {
    FaultKind.MISSING_BOOK: 16.0,  # noticed only after 10 s
    **dict.fromkeys(
        (FaultKind.LOST_DELTA, FaultKind.LOST_IN_GROUP, FaultKind.LOST_GROUP, FaultKind.REORDER),
        2.0 + AUDIT_SECONDS + GRACE_SECONDS + RESYNC_SECONDS,
    ),
    **dict.fromkeys(
        (FaultKind.TOKEN_STALL, FaultKind.MIRROR, FaultKind.STALE_REST, FaultKind.REST_ERROR),
        4.0 + AUDIT_SECONDS + GRACE_SECONDS + RESYNC_SECONDS,
    ),
}


@given(seed=SEEDS, seconds=st.one_of(st.none(), st.floats(22, 600)))
def test_a_demo_opens_with_a_reset_a_stall_and_garbage(seed: int, seconds: float | None) -> None:
    opening = list(islice(FaultSchedule.for_demo(seed, seconds), 3))
    assert [(fault.at_seconds, fault.kind) for fault in opening] == [
        (3.0, FaultKind.RESET),
        (7.0, FaultKind.STALL),
        (14.0, FaultKind.GARBAGE),
    ]
    assert opening[1].seconds > 3.0, "longer than the demo's data deadline"


@given(seed=SEEDS, seconds=st.floats(15, 600))
def test_the_last_fault_of_a_demo_starts_at_least_8_s_before_its_end(
    seed: int, seconds: float
) -> None:
    faults = list(FaultSchedule.for_demo(seed, seconds))
    assert {FaultKind.RESET, FaultKind.STALL, FaultKind.GARBAGE} <= {f.kind for f in faults}
    for fault in faults:
        assert fault.at_seconds + fault.patience_seconds <= seconds - 8 + 1e-6
        healing_seconds = HEALING_SECONDS.get(fault.kind)
        if healing_seconds is not None:
            assert fault.at_seconds + fault.patience_seconds <= seconds - healing_seconds + 1e-6


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(6.9, []), (7.0, [1.0]), (9.5, [1.5]), (10.0, [2.0]), (14.0, [3.0])],
)
def test_a_short_demo_has_one_reset_or_nothing(seconds: float, expected: list[float]) -> None:
    faults = list(FaultSchedule.for_demo(1, seconds))
    assert [fault.at_seconds for fault in faults] == expected
    assert all(fault.kind is FaultKind.RESET for fault in faults)


def test_a_demo_of_half_a_minute_goes_on_after_its_opening() -> None:
    for seed in range(50):
        assert len(list(FaultSchedule.for_demo(seed, 30.0))) >= 4


@given(seed=SEEDS)
def test_an_endless_demo_brings_every_kind_every_few_seconds(seed: int) -> None:
    kinds = set(FaultKind) - {FaultKind.OVERSIZE}
    count = len(kinds)
    faults = list(islice(FaultSchedule.for_demo(seed, None), 3 + 2 * count))
    missing = kinds - {fault.kind for fault in faults[3 : 3 + count]}
    assert not missing, f"_DEMO_SETTLE_SECONDS of venue/scheduling.py lacks {missing}"
    assert {fault.kind for fault in faults[3 + count :]} == kinds
    gaps = [b.at_seconds - a.at_seconds for a, b in pairwise(faults[3:])]
    assert all(3.0 <= gap <= 4.5 for gap in gaps)


@given(seed=SEEDS, every_seconds=st.floats(1, 1000))
def test_a_steady_schedule_never_ends_and_keeps_its_pace(seed: int, every_seconds: float) -> None:
    faults = list(islice(FaultSchedule.steady(seed, every_seconds), 60))
    assert len(faults) == 60
    assert 0.7 * every_seconds <= faults[-1].at_seconds / 60 <= 1.3 * every_seconds
    assert {fault.seconds for fault in faults if fault.kind is FaultKind.STALL} == {120.0}
    assert {fault.kind for fault in faults[: len(FaultKind)]} == set(FaultKind)


def test_a_schedule_tells_the_same_story_each_time() -> None:
    schedule = FaultSchedule.for_demo(5, 120.0)
    assert list(schedule) == list(schedule) == list(FaultSchedule.for_demo(5, 120.0))
    assert list(schedule) != list(FaultSchedule.for_demo(6, 120.0))


PAGE = Path(__file__).parents[3] / "docs/how-to/test-against-the-embedded-exchange.md"
AT_ONCE = (FaultKind.RESET, FaultKind.OVERSIZE)


@pytest.mark.skipif(not PAGE.exists(), reason="tested without the docs")
def test_the_page_lists_every_kind_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", PAGE.read_text(), re.MULTILINE)
    shown_kinds = [kind for kind, _ in rows]
    assert shown_kinds == list(FaultKind), f"the table of {PAGE.name} has a row for each, in order"
    for kind, shown in rows:
        seconds = DEFAULT_SECONDS[FaultKind(kind)]
        expected = "at once" if kind in AT_ONCE else f"{seconds:g}"
        assert shown.removeprefix("waits ") == expected
        assert shown.startswith("waits") == (FaultKind(kind) in ARMED_KINDS)
