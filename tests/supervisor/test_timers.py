import math

from hypothesis import given
from hypothesis import strategies as st

from polysupervisor._timers import COMPACT_ABOVE, Timer, Timers


def test_due_timers_run_in_order_and_later_ones_wait() -> None:
    timers, ran = Timers(), list[str]()
    timers.schedule(2, lambda: ran.append("b"))
    timers.schedule(1, lambda: ran.append("a"))
    timers.schedule(2, lambda: ran.append("c"))
    timers.schedule(3, lambda: ran.append("d"))
    timers.run_due(2)
    assert ran == ["a", "b", "c"]
    assert timers.next_due() == 3


def test_timer_that_schedules_for_now_runs_that_as_well() -> None:
    timers, ran = Timers(), list[str]()

    def first() -> None:
        timers.schedule(1, lambda: ran.append("second"))

    timers.schedule(1, first)
    timers.run_due(1)
    assert ran == ["second"]


def test_nothing_is_scheduled_at_infinity() -> None:
    timers = Timers()
    assert timers.schedule(math.inf, lambda: None) is None
    assert timers.next_due() == math.inf


def test_cancelling_is_harmless_twice_after_the_run_and_for_none() -> None:
    timers, ran = Timers(), list[int]()
    cancelled = timers.schedule(1, lambda: ran.append(1))
    done = timers.schedule(1, lambda: ran.append(2))
    timers.cancel(cancelled)
    timers.cancel(cancelled)
    timers.run_due(1)
    timers.cancel(done)
    timers.cancel(None)
    assert ran == [2]
    assert timers.next_due() == math.inf


def test_cancelled_timers_do_not_pile_up() -> None:
    timers = Timers()
    timers.schedule(0, lambda: None)
    for at in range(10_000):
        timers.cancel(timers.schedule(at + 1, lambda: None))
    assert len(timers) <= COMPACT_ABOVE + 2


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=300))
def test_exactly_the_timers_that_were_not_cancelled_run_in_order(
    wanted: list[tuple[int, bool]],
) -> None:
    timers, ran = Timers(), list[tuple[int, int]]()

    def schedule(number: int, at: int) -> Timer | None:
        return timers.schedule(at, lambda: ran.append((at, number)))

    made = [schedule(number, at) for number, (at, _) in enumerate(wanted)]
    for timer, (_, cancelled) in zip(made, wanted, strict=True):
        if cancelled:
            timers.cancel(timer)
    timers.run_due(20)
    kept = [(at, number) for number, (at, cancelled) in enumerate(wanted) if not cancelled]
    assert ran == sorted(kept)
