"""Durations against the sorted list that they stand for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyactors.durations import (
    BUCKETS_PER_DECADE,
    DURATION_SECONDS_MAX,
    DURATION_SECONDS_MIN,
    RELATIVE_ERROR_MAX,
    Durations,
)

BUCKETS_MAX = 7 * BUCKETS_PER_DECADE + 1


def filled(seconds: list[float]) -> Durations:
    durations = Durations()
    for each in seconds:
        durations.add(each)
    return durations


@given(
    st.lists(st.floats(DURATION_SECONDS_MIN, DURATION_SECONDS_MAX), min_size=1),
    st.integers(1, 1000).map(lambda tenths: tenths / 10),
)
def test_a_percentile_is_the_nearest_rank_within_the_stated_error(
    seconds: list[float], percent: float
) -> None:
    durations = filled(seconds)
    exact = sorted(seconds)[int(max(1, -(-len(seconds) * percent // 100))) - 1]
    assert durations.percentile(percent) == pytest.approx(exact, rel=RELATIVE_ERROR_MAX)
    assert durations.count == len(seconds)


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_whatever_is_added_the_memory_is_bounded(seconds: list[float]) -> None:
    durations = filled(seconds)
    assert durations.count == len(seconds)
    assert all(0 <= bucket < BUCKETS_MAX for bucket in durations.buckets)
    shortest, longest = durations.percentile(0.0001), durations.percentile(100)
    assert shortest is not None
    assert longest is not None
    assert DURATION_SECONDS_MIN <= shortest <= longest <= DURATION_SECONDS_MAX * 1.000001


@given(st.lists(st.floats(0.001, 10_000.0), min_size=1))
def test_the_summary_is_json_within_the_stated_error(seconds: list[float]) -> None:
    durations = filled(seconds)
    summary = durations.summary()
    assert json.loads(json.dumps(summary)) == summary
    half = sorted(seconds)[-(-len(seconds) // 2) - 1]
    assert summary["p50"] == pytest.approx(half, rel=RELATIVE_ERROR_MAX)
    assert summary["count"] == len(seconds)


def test_nothing_added_has_no_percentile() -> None:
    assert Durations().percentile(50) is None
    assert Durations().summary() == {"p50": None, "p99": None, "count": 0}


def test_known_durations() -> None:
    assert filled([0.001, 1.0, 10_000.0]).summary() == {"p50": 1.0, "p99": 10_000.0, "count": 3}
    assert filled([0.0, -1.0, 0.0002]).summary() == {"p50": 0.001, "p99": 0.001, "count": 3}
    assert filled([float("inf"), 1e9]).summary() == {"p50": 10_000.0, "p99": 10_000.0, "count": 2}
