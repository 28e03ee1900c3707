"""A fault's life, pure."""

from attrs import evolve

from polyactors.venue import FaultKind, FaultRecord, Strike
from polyactors.venue.fault_life import Fault
from polyactors.venue.wire import Part

RECORD = FaultRecord(
    id=1,
    kind=FaultKind.LOST_DELTA,
    token=None,
    tokens=("1", "2"),
    session=None,
    started=10.0,
    seconds=30.0,
)


def test_a_fault_lies_in_wait_until_its_time_is_up() -> None:
    fault = Fault(RECORD, [1])
    assert fault.record(39.9) == RECORD
    assert fault.record(40.0) == evolve(RECORD, ended=40.0)
    assert fault.record(99.0).ended == 40.0


def test_a_fault_at_once_is_over_as_it_begins() -> None:
    assert Fault(evolve(RECORD, seconds=0.0)).record(10.0).ended == 10.0


def test_its_record_says_whom_it_struck_when_and_in_which_session() -> None:
    fault = Fault(RECORD, [7, 8])
    fault.strike(11.0, 7, [Part("1", "", "aa"), Part("2", "", "bb")])
    fault.strike(12.0, 8, [Part("1", "", "aa")])
    fault.strike(13.0, 7, [Part("1", "", "cc"), Part("", "an announcement")])
    record = fault.record(14.0)
    assert record.struck == 13.0
    assert record.strikes == (
        Strike(7, "1", first=11.0, last=13.0, hash="cc"),
        Strike(7, "2", first=11.0, last=11.0, hash="bb"),
        Strike(8, "1", first=12.0, last=12.0, hash="aa"),
    )
    assert record.hurt == ("1", "2")
    assert (record.hurt_in(8), record.hurt_in(9)) == (("1",), ())


def test_it_is_over_when_the_last_of_its_sessions_is_released() -> None:
    fault = Fault(RECORD, [7, 8])
    fault.release(11.0, 7)
    fault.release(11.5, 7)
    fault.release(11.5, 9)
    assert fault.record(11.9).ended is None
    fault.release(12.0, 8)
    assert fault.record(50.0).ended == 12.0


def test_a_fault_that_is_aimed_at_no_session_outlives_them() -> None:
    fault = Fault(RECORD)
    fault.release(11.0, 7)
    assert fault.record(12.0).ended is None
    fault.end(13.0)
    fault.end(14.0)
    assert fault.record(50.0).ended == 13.0
