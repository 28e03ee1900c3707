import math
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polysupervisor import Backoff, Intensity
from polysupervisor._intensity import NO_BACKOFF, RestartWindow

seconds = st.floats(0, 1e9)
attempts = st.integers(0, 40) | st.integers(0, 2**31)


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    low, high = sorted((draw(seconds), draw(seconds)))
    return Backoff(
        min=low,
        max=high,
        factor=draw(st.floats(1, 10) | st.just(1e300)),
        jitter=draw(st.floats(0, 1)),
        first_immediate=draw(st.booleans()),
    )


@given(backoffs(), attempts, st.integers())
@example(Backoff(min=0, max=0), 2**31, 0)
@example(Backoff(min=0, max=5), 2**31, 0)
@example(Backoff(min=5e-324, max=1e9, factor=1e300), 2**31, 0)
def test_delay_is_between_the_jittered_base_and_the_maximum(
    backoff: Backoff, attempt: int, seed: int
) -> None:
    delay = backoff.delay(attempt, Random(seed))
    assert 0 <= delay <= backoff.max
    if not (backoff.first_immediate and attempt == 0):
        assert delay >= backoff.min * (1 - backoff.jitter)


@given(backoffs(), attempts)
def test_base_never_shrinks_from_one_failure_to_the_next(backoff: Backoff, attempt: int) -> None:
    class Highest(Random):
        def random(self) -> float:
            return 1.0  # out of range on purpose: the bound must hold even so

    rng = Highest()
    assert backoff.delay(attempt, rng) <= backoff.delay(attempt + 1, rng) <= backoff.max


def test_delays_double_from_the_minimum_up_to_the_maximum() -> None:
    backoff = Backoff(min=0.25, max=1.5, jitter=0)
    assert [backoff.delay(n, Random(0)) for n in range(5)] == [0.25, 0.5, 1.0, 1.5, 1.5]


def test_first_immediate_restarts_at_once_and_then_begins_with_the_minimum() -> None:
    backoff = Backoff(min=1, max=8, jitter=0, first_immediate=True)
    assert [backoff.delay(n, Random(0)) for n in range(4)] == [0, 1, 2, 4]


def test_full_jitter_spreads_over_all_of_the_range() -> None:
    backoff, rng = Backoff(min=1, max=1, jitter=1.0), Random(1)
    delays = [backoff.delay(0, rng) for _ in range(1000)]
    assert min(delays) < 0.05
    assert max(delays) > 0.95


def test_no_backoff_never_waits() -> None:
    assert NO_BACKOFF.delay(7, Random(0)) == 0.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"min": -1},
        {"min": math.nan},
        {"min": 2, "max": 1},
        {"max": math.inf},
        {"factor": 0.5},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"reset_after": -1},
        {"max_attempts": -1},
    ],
)
def test_backoff_refuses_what_makes_no_sense(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Backoff(**arguments)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "arguments", [{"limit": -1}, {"period": -1.0}, {"period": 0.0}, {"period": math.inf}]
)
def test_intensity_refuses_what_makes_no_sense(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Intensity(**arguments)  # type: ignore[arg-type]  # wrong on purpose


@given(
    st.integers(0, 5),
    st.floats(0, 100, exclude_min=True),
    st.lists(st.floats(0, 50) | st.sampled_from([0.0, 1.0, 5.0]), max_size=40),
)
def test_window_grants_at_most_limit_restarts_within_any_period(
    limit: int, period: float, waits: list[float]
) -> None:
    window = RestartWindow(Intensity(limit=limit, period=period))
    granted: list[float] = []
    now = 0.0
    for wait in waits:
        now += wait
        recent = [at for at in granted if at + period >= now]
        assert window.spend(now) == (len(recent) < limit)
        if len(recent) < limit:
            granted.append(now)


def test_restart_exactly_one_period_old_counts_and_an_older_one_does_not() -> None:
    at_the_edge = RestartWindow(Intensity(limit=1, period=60))
    assert at_the_edge.spend(0.1)
    assert not at_the_edge.spend(0.1 + 60)
    beyond = RestartWindow(Intensity(limit=1, period=60))
    assert beyond.spend(0.1)
    assert beyond.spend(math.nextafter(0.1 + 60, math.inf))


def test_window_of_limit_zero_grants_nothing() -> None:
    assert not RestartWindow(Intensity(limit=0)).spend(0)


def test_window_holds_no_more_than_it_needs_for_a_huge_limit() -> None:
    window = RestartWindow(Intensity(limit=2**31, period=1))
    assert all(window.spend(float(now)) for now in range(1000))


class Dice(Random):
    """A source of randomness that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize(("value", "seconds"), [(0.0, 2.0), (0.25, 2.5), (0.5, 3.0), (1.0, 4.0)])
def test_jitter_is_uniform_between_its_share_of_the_base_and_the_base(
    value: float, seconds: float
) -> None:
    backoff = Backoff(min=1, max=100, jitter=0.5)
    assert backoff.delay(2, Dice(value)) == seconds
    assert Backoff(min=4, max=4, jitter=1.0).delay(0, Dice(value)) == 4 * value


def test_defaults_are_those_of_the_documentation() -> None:
    assert Backoff() == Backoff(
        min=0.25, max=30, factor=2, jitter=0.5, reset_after=60, first_immediate=False,
        max_attempts=None,
    )  # fmt: skip
    assert Intensity() == Intensity(3, 60, "supervisor", "escalate")
