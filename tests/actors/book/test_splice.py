"""Each rule of the splice by example; tests/properties/test_book_splice.py proves the whole."""

import pytest
from attrs import frozen

from polyactors.book.numbers import Side
from polyactors.book.splice import DeltaBuffer, RestSplice
from polyactors.protocol.events import LevelChange


@frozen
class Change:
    hash: str
    name: str = ""


def fed(splice: RestSplice[Change], *entries: tuple[int, str]) -> list[str]:
    applied: list[str] = []
    for timestamp_ms, hash_ in entries:
        applied += [change.hash for _, change in splice.accept(timestamp_ms, Change(hash_))]
    return applied


def buffered(*entries: tuple[int, str], limit: int = 100) -> DeltaBuffer[Change]:
    buffer = DeltaBuffer[Change](limit)
    for timestamp_ms, hash_ in entries:
        buffer.add(timestamp_ms, Change(hash_))
    return buffer


def hashes(entries: list[tuple[int, Change]]) -> list[str]:
    return [change.hash for _, change in entries]


def test_a_change_from_before_the_book_is_dropped() -> None:
    splice = RestSplice[Change]("H", 10, 100)
    assert fed(splice, (9, "a"), (9, "b")) == []
    assert not splice.joined
    assert splice.held == 0


def test_the_step_of_the_book_is_dropped_and_the_next_one_joined() -> None:
    splice = RestSplice[Change]("H", 10, 100)
    assert fed(splice, (10, "H"), (10, "H")) == []
    assert not splice.joined
    assert fed(splice, (10, "a"), (11, "b"), (11, "H")) == ["a", "b", "H"]
    assert splice.joined


def test_changes_of_the_same_millisecond_wait_and_fall_with_the_step() -> None:
    splice = RestSplice[Change]("H", 10, 100)
    assert fed(splice, (10, "a"), (10, "b")) == []
    assert splice.held == 2
    assert fed(splice, (10, "H")) == []
    assert splice.held == 0
    assert fed(splice, (10, "c")) == ["c"]


def test_a_later_change_releases_those_that_waited_in_order() -> None:
    splice = RestSplice[Change]("H", 10, 100)
    assert fed(splice, (9, "x"), (10, "a"), (10, "b"), (11, "c")) == ["a", "b", "c"]
    assert splice.joined


def test_a_later_change_with_the_hash_of_the_book_is_its_step() -> None:
    # In 2024 the message's time was some milliseconds after the book's.
    splice = RestSplice[Change]("H", 10, 100)
    assert fed(splice, (17, "H"), (18, "a")) == ["a"]


def test_without_hashes_the_timestamps_decide() -> None:
    splice = RestSplice[Change]("", 10, 100)
    assert fed(splice, (9, ""), (10, ""), (10, "")) == []
    assert splice.held == 2
    assert fed(splice, (11, "")) == ["", "", ""]


def test_no_more_than_the_limit_is_held() -> None:
    splice = RestSplice[Change]("H", 10, 2)
    assert fed(splice, (10, "a"), (10, "b")) == []
    assert fed(splice, (10, "c")) == ["a", "b", "c"]
    assert splice.joined
    assert splice.held == 0


def test_a_quiet_stream_can_be_released() -> None:
    splice = RestSplice[Change]("H", 10, 100)
    fed(splice, (10, "a"))
    assert hashes(splice.release()) == ["a"]
    assert splice.joined
    assert splice.release() == []
    assert fed(splice, (10, "b")) == ["b"]


def test_the_buffer_joins_a_step_that_others_of_its_millisecond_precede() -> None:
    spliced = buffered((9, "w"), (10, "a"), (10, "H"), (10, "b"), (11, "c")).splice("H", 10)
    assert spliced is not None
    splice, apply = spliced
    assert hashes(apply) == ["b", "c"]
    assert splice.joined


def test_an_empty_buffer_joins_any_book() -> None:
    spliced = buffered().splice("H", 10)
    assert spliced is not None
    splice, apply = spliced
    assert apply == []
    assert not splice.joined


def test_the_book_may_be_ahead_of_the_stream() -> None:
    spliced = buffered((8, "a"), (9, "b")).splice("H", 10)
    assert spliced is not None
    splice, apply = spliced
    assert apply == []
    assert fed(splice, (10, "c"), (10, "H"), (12, "d")) == ["d"]


def test_the_buffer_keeps_the_newest_and_remembers_what_it_dropped() -> None:
    buffer = buffered((1, "a"), (2, "b"), (3, "c"), limit=2)
    assert len(buffer) == 2
    spliced = buffer.splice("z", 2)
    assert spliced is not None
    assert hashes(spliced[1]) == ["b", "c"]
    spliced = buffer.splice("a", 1)
    assert spliced is not None, "the newest that was dropped is the book's own step"
    assert hashes(spliced[1]) == ["b", "c"]
    assert buffer.splice("z", 1) is None
    assert buffer.splice("z", 0) is None


def test_a_book_of_the_dropped_millisecond_is_refused_unless_its_step_is_known() -> None:
    buffer = buffered((5, "a"), (5, "b"), (5, "c"), (6, "d"), limit=2)
    assert buffer.splice("a", 5) is None, "b came after it and is gone"
    for hash_, expected in (("b", ["c", "d"]), ("c", ["d"])):
        spliced = buffer.splice(hash_, 5)
        assert spliced is not None
        assert hashes(spliced[1]) == expected


def test_changes_that_were_applied_elsewhere_count_as_passed() -> None:
    buffer = DeltaBuffer[Change](100)
    buffer.pass_by(7, "g")
    assert buffer.splice("f", 6) is None
    assert buffer.splice("f", 7) is None
    spliced = buffer.splice("g", 7)
    assert spliced is not None
    assert fed(spliced[0], (7, "g"), (7, "h")) == ["h"]
    spliced = buffer.splice("g", 7)
    assert spliced is not None
    assert fed(spliced[0], (7, "h")) == ["h"], "its step is past: there is nothing to wait for"
    assert buffer.splice("i", 8) is not None


def test_what_was_cleared_counts_as_passed() -> None:
    buffer = buffered((3, "a"), (4, "b"))
    buffer.clear()
    assert len(buffer) == 0
    assert buffer.splice("a", 3) is None
    assert buffer.splice("b", 4) is not None


def test_an_older_change_does_not_hide_the_newest_that_passed() -> None:
    buffer = DeltaBuffer[Change](100)
    buffer.pass_by(7, "g")
    buffer.pass_by(3, "x")
    assert buffer.splice("y", 5) is None


@pytest.mark.parametrize("limit", [1, 3])
def test_the_buffer_holds_its_limit_and_no_more(limit: int) -> None:
    buffer = DeltaBuffer[Change](limit)
    for timestamp_ms in range(10):
        buffer.add(timestamp_ms, Change("a"))
        assert len(buffer) == min(timestamp_ms + 1, limit)


def test_the_entries_of_the_wire_fit() -> None:
    change = LevelChange("1", Side.BID, 1, 2, "H", None, None)
    splice = RestSplice[LevelChange]("G", 10, 1)
    assert splice.accept(11, change) == [(11, change)]
