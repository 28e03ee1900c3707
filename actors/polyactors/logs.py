"""Logs: one readable line each on standard error, ours (logger.py) and those of our parts.

    19:11:02.123 WARNING unreadable frame why='not JSON' excerpt='<html>'

While a live view has the terminal the lines are held back, the newest ones, and come after it;
the view itself is told of errors at once.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TextIO

from polyactors.logger import log
from polyactors.terminal.text import printable

HELD_LINES_MAX = 10
"""Lines kept while a live view has the terminal."""
MESSAGE_CHARS_MAX = 1000
HEAD_CHARS = 300
"""Of a message that is longer these stay, and its end: a traceback has there what was raised."""
QUOTING_LOGGERS = ("trio-websocket", "httpx2", "httpcore2", "hpack")
"""Parts that log, below a warning, what the other side said: it may repeat credentials."""
_FORMATTER = logging.Formatter()


class LogLines:
    """Where log lines go."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held: deque[str] | None = None
        self._dropped = 0
        self._on_error: Callable[[str], None] | None = None

    def write(self, line: str) -> None:
        """Write a line, or hold it back."""
        if self._held is None:
            self._put(line)
            return
        self._dropped += len(self._held) == HELD_LINES_MAX
        self._held.append(line)

    def hold(self, on_error: Callable[[str], None] | None = None) -> None:
        """Hold back what comes from now on; `on_error` hears errors at once. Idempotent."""
        self._on_error = on_error
        if self._held is None:
            self._held = deque(maxlen=HELD_LINES_MAX)
            self._dropped = 0

    def tell_error(self, message: str) -> None:
        """An error was logged: what it says, in one line, without its time and its traceback."""
        if self._on_error is not None:
            self._on_error(message)

    def release(self) -> None:
        """Write what was held back, and how much of it was dropped. Idempotent."""
        held, self._held, self._on_error = self._held, None, None
        if held and self._dropped:
            self._put(f"… {self._dropped} earlier log lines were dropped")
        for line in held or ():
            self._put(line)

    def _put(self, line: str) -> None:
        # When nobody reads the logs any more, that is no reason to hurt the service.
        with suppress(OSError):
            print(line, file=self._stream, flush=True)


def _quotes_nothing(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or not record.name.startswith(QUOTING_LOGGERS)


class _Handler(logging.Handler):
    def __init__(self, lines: LogLines) -> None:
        super().__init__()
        self.addFilter(_quotes_nothing)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.write(format_record(record))
        if record.levelno >= logging.ERROR:
            self._lines.tell_error(
                _cut(printable(record.getMessage().partition("\nTraceback ")[0]))
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
    try:
        yield lines
    finally:
        lines.release()
        root.setLevel(level_before)
        root.removeHandler(handler)


def format_record(record: logging.LogRecord) -> str:
    """One line, and the traceback below it. Nothing in it can control a terminal."""
    clock = time.strftime("%H:%M:%S", time.localtime(record.created))
    message = _message_of(record)
    # The other loggers are the supervisor's and those of our parts.
    source = "" if record.name == log.name else f" ({record.name})"
    line = f"{clock}.{int(record.msecs):03} {record.levelname:7} {message}{source}"
    if not record.exc_info:
        return line
    traceback = _FORMATTER.formatException(record.exc_info)
    return "\n".join([line, *map(printable, traceback.splitlines())])


def _message_of(record: logging.LogRecord) -> str:
    return _cut(printable(record.getMessage()))


def _cut(message: str) -> str:
    if len(message) <= MESSAGE_CHARS_MAX:
        return message
    return message[:HEAD_CHARS] + "…" + message[HEAD_CHARS - MESSAGE_CHARS_MAX :]
