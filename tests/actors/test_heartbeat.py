"""The deadlines of a session, without a clock; the actor itself is tested in test_probe.py."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from polyactors.heartbeat import Pulse


def make_pulse(ping: float = 10.0, pong: float = 25.0, data: float = 30.0) -> Pulse:
    return Pulse(ping_interval_seconds=ping, pong_deadline_seconds=pong, data_deadline_seconds=data)


def test_nothing_is_due_without_a_session() -> None:
    assert make_pulse().next_due() == inf
    assert make_pulse().data_due(0.0) == inf


def test_the_first_ping_is_due_one_interval_after_the_session_began() -> None:
    pulse = make_pulse()
    pulse.begin(1, 100.0)
    assert pulse.next_due() == 110.0
    assert not pulse.is_ping_due(109.999)
    assert pulse.is_ping_due(110.0)


def test_the_pong_deadline_counts_from_the_oldest_unanswered_ping() -> None:
    pulse = make_pulse()
    pulse.begin(1, 0.0)
    for now in (10.0, 20.0, 30.0):
        pulse.ping(now)
    assert not pulse.is_pong_overdue(34.999)
    assert pulse.is_pong_overdue(35.0)


def test_a_pong_vouches_for_everything_sent_before() -> None:
    pulse = make_pulse()
    pulse.begin(1, 0.0)
    pulse.ping(10.0)
    pulse.ping(20.0)
    pulse.pong()
    assert not pulse.is_pong_overdue(1000.0)


def test_silence_is_looked_into_though_pings_are_answered() -> None:
    pulse = make_pulse()
    pulse.begin(1, 0.0)
    for now in (10.0, 20.0, 29.0):
        pulse.ping(now)
        pulse.pong()
    assert pulse.data_due(0.0) == 30.0
    assert pulse.data_due(12.5) == 42.5


def test_data_of_a_former_session_does_not_excuse_a_silent_one() -> None:
    pulse = make_pulse()
    pulse.begin(2, 100.0)
    assert pulse.data_due(99.0) == 130.0


def test_proven_quiet_silence_is_looked_into_again_after_another_deadline() -> None:
    pulse = make_pulse()
    pulse.begin(1, 0.0)
    pulse.quiet(30.0)
    assert pulse.data_due(0.0) == 60.0
    assert pulse.silent_since(0.0) == 0.0, "it has still not been heard"
    assert pulse.data_due(45.0) == 75.0
    pulse.begin(2, 50.0)
    assert pulse.data_due(45.0) == 80.0, "the proof was of the session before"


def test_an_ended_session_is_watched_no_more() -> None:
    pulse = make_pulse()
    pulse.begin(1, 0.0)
    pulse.ping(10.0)
    pulse.quiet(20.0)
    pulse.end()
    assert pulse.next_due() == inf
    assert pulse.data_due(0.0) == inf
    assert not pulse.is_pong_overdue(1e9)


@given(
    st.lists(st.tuples(st.sampled_from(["ping", "pong", "data", "quiet"]), st.floats(0.1, 20.0)))
)
def test_a_deadline_counts_from_what_was_heard_or_proven_last(
    steps: list[tuple[str, float]],
) -> None:
    pulse = make_pulse()
    pulse.begin(1, 0.0)
    now, last_data, proven = 0.0, 0.0, 0.0
    unanswered: list[float] = []
    for what, wait in steps:
        now += wait
        is_overdue = bool(unanswered) and now >= unanswered[0] + 25.0
        assert pulse.is_pong_overdue(now) == is_overdue
        assert pulse.next_due() <= now or not is_overdue
        assert pulse.data_due(last_data) == max(last_data, proven) + 30.0
        if what == "ping":
            pulse.ping(now)
            unanswered.append(now)
        elif what == "pong":
            pulse.pong()
            unanswered.clear()
        elif what == "data":
            last_data = now
        else:
            pulse.quiet(now)
            proven = now
