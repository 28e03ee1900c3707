import gc
import weakref

import pytest
import trio

from polysupervisor import ExitKind, ExitReason
from polysupervisor._exit import (
    SUMMARY_CHARS_MAX,
    describe,
    leaves,
    split_cancelled,
)
from polysupervisor._trace import FRAMES_MAX, TRACEBACK_CHARS_MAX


def test_single_exception_becomes_its_name_and_one_line() -> None:
    reason = describe(ValueError("two\nlines"), ExitKind.CRASH)
    assert reason.types == ("ValueError",)
    assert reason.summary == "ValueError: two lines"
    assert "ValueError: two" in reason.traceback
    assert not reason.expected
    assert str(reason) == "crash (ValueError: two lines)"
    assert str(ExitReason(ExitKind.NORMAL)) == "normal"


def test_group_is_flattened_and_expected_only_if_all_leaves_are() -> None:
    group = ExceptionGroup("a", [OSError("x"), ExceptionGroup("b", [ConnectionError("y")])])
    assert describe(group, ExitKind.CRASH).types == ("OSError", "ConnectionError")
    assert describe(group, ExitKind.CRASH, (OSError,)).expected
    assert not describe(group, ExitKind.CRASH, (ConnectionError,)).expected


def test_texts_are_bounded_and_a_failing_str_does_no_harm() -> None:
    class RudeError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    huge = describe(ValueError("x" * 100_000), ExitKind.CRASH)
    assert len(huge.summary) == SUMMARY_CHARS_MAX
    assert len(huge.traceback) == TRACEBACK_CHARS_MAX
    assert "RudeError" in describe(RudeError(), ExitKind.CRASH).summary


def test_traceback_shows_causes_members_and_notes_each_once() -> None:
    def fail() -> None:
        try:
            raise ValueError("first")
        except ValueError as one:
            one.add_note("with a note")
            try:
                raise KeyError("second")
            except KeyError as two:
                raise ExceptionGroup("both", [one, two]) from OSError("cause")

    with pytest.raises(ExceptionGroup) as caught:
        fail()
    text = describe(caught.value, ExitKind.CRASH).traceback
    lines = text.splitlines()
    assert lines[0] == "OSError: cause"
    assert "direct cause" in text
    assert text.count("ValueError: first") == text.count("with a note") == 1
    assert text.count("KeyError: 'second'") == 1
    assert '  |     raise ValueError("first")' in lines
    assert "ExceptionGroup: both (2 sub-exceptions)" in lines


def test_a_traceback_without_end_is_cut_at_its_innermost_frames() -> None:
    def dig(depth: int) -> None:
        if depth:
            dig(depth - 1)
        raise ValueError("bottom")

    with pytest.raises(ValueError, match="bottom") as caught:
        dig(500)
    reason = describe(caught.value, ExitKind.CRASH)
    assert reason.trace is not None
    assert len(reason.trace.frames) == FRAMES_MAX
    assert reason.trace.frames[-1][2] == "dig"
    assert reason.traceback.endswith("ValueError: bottom")


def test_reason_keeps_no_exception_and_so_no_locals_alive() -> None:
    class Book:
        pass

    def fail() -> tuple[ExitReason, weakref.ref[Book]]:
        book = Book()
        try:
            raise ValueError
        except ValueError as error:
            return describe(error, ExitKind.CRASH), weakref.ref(book)

    reason, book = fail()
    gc.collect()
    assert reason.types == ("ValueError",)
    assert book() is None


def test_leaves_of_a_plain_exception_are_itself() -> None:
    error = KeyError(1)
    assert list(leaves(error)) == [error]
    assert split_cancelled(error) == (None, error)


async def test_cancelled_is_split_from_what_went_wrong_beside_it() -> None:
    caught: list[BaseException] = []
    with trio.CancelScope() as scope:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_fail_in_clean_up)
                nursery.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        except BaseException as error:
            cancelled, rest = split_cancelled(error)
            assert cancelled is not None
            assert rest is not None
            caught.extend(leaves(rest))
            raise cancelled from None
    assert [type(each) for each in caught] == [ValueError]
    parts: list[BaseException | None] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            parts.extend(split_cancelled(error))
            raise
    assert isinstance(parts[0], trio.Cancelled)
    assert parts[1] is None


async def _fail_in_clean_up() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("in clean-up")
