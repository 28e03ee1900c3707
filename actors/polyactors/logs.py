"""Logs: one readable line each on standard error, from structlog and from `logging` alike.

    19:11:02.123 WARNING unreadable frame why="not JSON" excerpt="<html>"

While a live view has the terminal the lines are held back, the newest ones, and come after it.
"""

import logging
import time
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import structlog

from polyactors.terminal.text import printable

HELD_LINES_MAX = 200
"""Lines kept while a live view has the terminal."""
VALUE_CHARS_MAX = 500


class LogLines:
    """Where log lines go."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held: deque[str] | None = None
        self._dropped = 0

    def write(self, line: str) -> None:
        """Write a line, or hold it back."""
        if self._held is None:
            self._put(line)
            return
        self._dropped += len(self._held) == HELD_LINES_MAX
        self._held.append(line)

    def hold(self) -> None:
        """Hold back what comes from now on. Idempotent."""
        if self._held is None:
            self._held = deque(maxlen=HELD_LINES_MAX)
            self._dropped = 0

    def release(self) -> None:
        """Write what was held back, and how much of it was dropped. Idempotent."""
        held, self._held = self._held, None
        if held and self._dropped:
            self._put(f"… {self._dropped} earlier log lines were dropped")
        for line in held or ():
            self._put(line)

    def _put(self, line: str) -> None:
        # When nobody reads the logs any more, that is no reason to hurt the service.
        with suppress(OSError):
            print(line, file=self._stream, flush=True)


class _Handler(logging.Handler):
    """Lines from the standard library's `logging`: the supervisor's, and those of our parts."""

    def __init__(self, lines: LogLines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"logger": record.name}
        exception = "" if record.exc_info is None else logging.Formatter().format(record)
        self._lines.write(
            format_line(record.levelname, record.getMessage(), fields, exception, record.created)
        )


@contextmanager
def logging_to(stream: TextIO, level: str) -> Generator[LogLines, None, None]:
    """Log to `stream` inside the block; `level` is one of LOG_LEVELS."""
    lines = LogLines(stream)
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = _Handler(lines)
    root = logging.getLogger()
    level_before = root.level
    root.addHandler(handler)
    root.setLevel(number)
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _LineLogger(lines),
        cache_logger_on_first_use=False,
    )
    try:
        yield lines
    finally:
        lines.release()
        root.setLevel(level_before)
        root.removeHandler(handler)
        structlog.reset_defaults()


def format_line(
    level: str, message: str, fields: Mapping[str, object], exception: str, seconds: float
) -> str:
    """One line, and the traceback below it. Nothing in it can control a terminal."""
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    words = [f"{clock}.{int(seconds % 1 * 1000):03} {level.upper():7} {printable(message)}"]
    words += [f"{key}={_value(value)}" for key, value in fields.items()]
    below = [printable(line) for line in exception.splitlines()]
    return "\n".join([" ".join(words), *below])


def _render(_: object, method: str, event: structlog.typing.EventDict) -> str:
    level = "error" if method == "exception" else method
    message = str(event.pop("event", ""))
    exception = str(event.pop("exception", ""))
    return format_line(level, message, event, exception, time.time())


def _value(value: Any) -> str:
    text = printable(value if isinstance(value, str) else repr(value))[:VALUE_CHARS_MAX]
    return text if text and not set(text) & set(' "=') else '"' + text.replace('"', "'") + '"'


class _LineLogger:
    """What structlog hands its rendered lines to."""

    def __init__(self, lines: LogLines) -> None:
        self._lines = lines

    def __getattr__(self, level: str) -> Any:
        return self._lines.write
