"""The deadlines of a session, without a clock; the actor itself is tested in simulation/."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from polyactors.heartbeat import Pulse


def make_pulse(ping: float = 10.0, pong: float = 25.0, data: float = 30.0) -> Pulse:
    return Pulse(ping_interval_seconds=ping, pong_deadline_seconds=pong, data_deadline_seconds=data)


def test_nothing_is_due_without_a_session() -> None:
    assert make_pulse().next_due(0.0) == inf


def test_the_first_ping_is_due_one_interval_after_the_session_began() -> None:
    pulse = make_pulse()
    pulse.begin(1, 100.0)
    assert pulse.next_due(100.0) == 110.0
    assert not pulse.is_ping_due(109.999)
    assert pulse.is_ping_due(110.0)


def test_the_pong_deadline_counts_from_the_oldest_unanswered_ping() -> None:
    pulse = make_pulse(data=inf)
    pulse.begin(1, 0.0)
    for now in (10.0, 20.0, 30.0):
        pulse.ping(now)
    assert pulse.failure(30.0, 34.999) is None
    failure = pulse.failure(30.0, 35.0)
    assert failure is not None
    assert failure[0] == "pong_timeout"


def test_a_pong_vouches_for_everything_sent_before() -> None:
    pulse = make_pulse(data=inf)
    pulse.begin(1, 0.0)
    pulse.ping(10.0)
    pulse.ping(20.0)
    pulse.pong()
    assert pulse.failure(0.0, 1000.0) is None


def test_a_feed_without_data_has_stalled_though_it_answers_pings() -> None:
    pulse = make_pulse()
    pulse.begin(1, 0.0)
    for now in (10.0, 20.0, 29.0):
        pulse.ping(now)
        pulse.pong()
    assert pulse.failure(0.0, 29.999) is None
    failure = pulse.failure(0.0, 30.0)
    assert failure is not None
    assert failure[0] == "feed_stalled"


def test_data_of_a_former_session_does_not_excuse_a_silent_one() -> None:
    pulse = make_pulse()
    pulse.begin(2, 100.0)
    assert pulse.failure(99.0, 129.9) is None
    assert pulse.failure(99.0, 130.0) is not None


def test_an_ended_session_is_watched_no_more() -> None:
    pulse = make_pulse()
    pulse.begin(1, 0.0)
    pulse.ping(10.0)
    pulse.end()
    assert pulse.next_due(0.0) == inf
    assert pulse.failure(0.0, 1e9) is None


@given(st.lists(st.tuples(st.sampled_from(["ping", "pong", "data"]), st.floats(0.1, 20.0))))
def test_it_fails_exactly_when_a_deadline_has_passed(steps: list[tuple[str, float]]) -> None:
    pulse = make_pulse()
    pulse.begin(1, 0.0)
    now, last_data = 0.0, 0.0
    unanswered: list[float] = []
    for what, wait in steps:
        now += wait
        expected = None
        if unanswered and now >= unanswered[0] + 25.0:
            expected = "pong_timeout"
        elif now >= last_data + 30.0:
            expected = "feed_stalled"
        failure = pulse.failure(last_data, now)
        assert (failure and failure[0]) == expected
        assert (pulse.next_due(last_data) <= now) or expected is None
        if what == "ping":
            pulse.ping(now)
            unanswered.append(now)
        elif what == "pong":
            pulse.pong()
            unanswered.clear()
        else:
            last_data = now
