"""Log lines: readable, harmless to a terminal, and held back while a view has it."""

import io
import logging
import re

import pytest

from polyactors.logger import log
from polyactors.logs import HELD_LINES_MAX, MESSAGE_CHARS_MAX, logging_to


def test_a_line_has_clock_level_message_and_fields() -> None:
    stream = io.StringIO()
    with logging_to(stream, "info"):
        log.warning("unreadable frame", why="not JSON", count=3)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} WARNING unreadable frame why='not JSON' count=3\n",
        stream.getvalue(),
    )


@pytest.mark.parametrize(
    ("level", "said"),
    [("debug", "DIWE"), ("info", "IWE"), ("warning", "WE"), ("error", "E")],
)
def test_the_level_holds_for_both_kinds_of_loggers(level: str, said: str) -> None:
    stream = io.StringIO()
    with logging_to(stream, level):
        for logger in (log, logging.getLogger("polysupervisor")):
            for name in ("debug", "info", "warning", "error"):
                getattr(logger, name)("x")
    assert "".join(line.split()[1][0] for line in stream.getvalue().splitlines()) == said * 2


@pytest.mark.parametrize("name", ["trio-websocket", "httpx2", "httpcore2.http11", "hpack.hpack"])
def test_what_the_parts_quote_from_the_wire_is_not_shown(name: str) -> None:
    stream = io.StringIO()
    with logging_to(stream, "debug"):
        logger = logging.getLogger(name)
        for say in (logger.debug, logger.info, logger.warning, logger.error):
            say("x")
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["WARNING", "ERROR"]


def test_an_exception_stands_below_its_line() -> None:
    stream = io.StringIO()
    with logging_to(stream, "error"):
        for logger in (log, logging.getLogger("polysupervisor")):
            try:
                raise ValueError("bad\x1b[31m")
            except ValueError:
                logger.exception("it failed")
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "it failed" in line][1].endswith("it failed (polysupervisor)")
    assert lines.count("ValueError: bad\\x1b[31m") == 2


def test_no_message_can_control_the_terminal_or_break_the_line() -> None:
    stream = io.StringIO()
    with logging_to(stream, "info"):
        log.info("a\x1b]0;b", why="x\ny\x07")
        logging.getLogger("other").warning("c\x1b[2J%s", "z" * 9999)
    first, second = stream.getvalue().splitlines()
    assert first.isprintable()
    assert second.isprintable()
    assert len(second) < MESSAGE_CHARS_MAX + 50


def test_of_what_is_too_long_the_beginning_and_the_end_are_left() -> None:
    stream = io.StringIO()
    with logging_to(stream, "info"):
        log.error("crash" + "\n  File there" * 500 + "\nKeyError: 'here'")
    (line,) = stream.getvalue().splitlines()
    assert "ERROR   crash" in line
    assert line.endswith("KeyError: 'here'")
    assert len(line) < MESSAGE_CHARS_MAX + 50


def test_the_view_is_told_an_error_without_its_traceback() -> None:
    told: list[str] = []
    with logging_to(io.StringIO(), "info") as lines:
        lines.hold(told.append)
        log.error("crash (KeyError: 'here')\nTraceback (most recent call last):\n  File x")
    assert told == ["crash (KeyError: 'here')"]


def test_what_was_held_back_comes_later_in_order() -> None:
    stream = io.StringIO()
    with logging_to(stream, "info") as lines:
        lines.hold()
        log.info("first")
        log.info("second")
        assert stream.getvalue() == ""
        lines.release()
        log.info("third")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == [
        "first",
        "second",
        "third",
    ]


def test_whoever_holds_the_lines_hears_errors_at_once() -> None:
    stream, heard = io.StringIO(), list[str]()
    with logging_to(stream, "info") as lines:
        log.error("before")
        lines.hold(heard.append)
        log.warning("no error")
        log.error("an\nerror", file="x")
        try:
            raise ValueError("bad")
        except ValueError:
            logging.getLogger("polysupervisor").exception("a bug")
        assert heard == ["an\\nerror file='x'", "a bug"]
        lines.release()
        log.error("after")
    assert len(heard) == 2
    assert stream.getvalue().count(" ERROR ") == 4


def test_only_so_many_lines_are_held_and_the_rest_is_counted() -> None:
    stream = io.StringIO()
    with logging_to(stream, "info") as lines:
        lines.hold()
        for number in range(HELD_LINES_MAX + 3):
            log.info("line", number=number)
    written = stream.getvalue().splitlines()
    assert written[0] == "… 3 earlier log lines were dropped"
    assert len(written) == HELD_LINES_MAX + 1
    assert written[-1].endswith(f"number={HELD_LINES_MAX + 2}")


def test_a_stream_that_nobody_reads_hurts_nobody() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with logging_to(Gone(), "info"):
        log.info("said to nobody")


def test_afterwards_everything_is_as_it_was() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with logging_to(io.StringIO(), "debug"):
        pass
    assert (root.level, list(root.handlers)) == before
