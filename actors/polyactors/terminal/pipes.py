"""Standard output and error: what to do when they are closed, full, or read by nobody."""

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import IO, Any, cast

from polyactors.errors import UsageError
from polyactors.stops import interruptible


def open_missing() -> None:
    """Open the standard streams that the caller had closed, in this process's own place.

    No file or socket takes their numbers then. Standard output stays one that nothing can be
    written to, so that whoever needs it is told; what goes to standard error goes nowhere.
    """
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for good
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    output: object = sys.stdout
    if isinstance(output, io.TextIOWrapper):
        cast("io.TextIOWrapper", output).reconfigure(errors="replace")  # not all have a "…"


def is_closed(stream: IO[str]) -> bool:
    """Whether nothing can ever be written to it."""
    try:
        os.write(stream.fileno(), b"")
    except OSError as error:
        return error.errno == errno.EBADF
    return False


def need_standard_output() -> None:
    """Raises UsageError when it is closed."""
    if is_closed(sys.stdout):
        raise _unwritable(OSError(errno.EBADF, ""))


def takes_more(stream: IO[Any], seconds: float) -> bool:
    """Whether it takes something within so long; a pipe that is full and not read does not."""
    try:
        number = stream.fileno()
    except OSError:  # no real file: a test's
        return True
    return bool(select.select((), (number,), (), seconds)[1])


def say(text: str, stream: IO[str] | None = None) -> None:
    """Print a line, now: on standard output, unless another stream is named.

    Raises UsageError when standard output is closed or full, BrokenPipeError when its reader has
    gone; a stop signal while its reader takes nothing is a KeyboardInterrupt. What cannot be
    said on standard error is not said: there is nobody else to tell.
    """
    target = sys.stdout if stream is None else stream
    try:
        with interruptible():
            print(text, file=target, flush=True)
    except OSError as error:
        if target is not sys.stderr:
            _give_up(target, error)


def complain(text: str) -> None:
    """Print a line on standard error, if anybody can read it."""
    say(text, sys.stderr)


def flush() -> None:
    """Write what standard output still holds. Raises as `say`."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout, error)


def silence(stream: IO[str]) -> None:
    """Point it to nowhere, so that neither a later write nor the exit complains."""
    try:
        number = stream.fileno()
    except OSError:  # no real file: a test's
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), number)


def _give_up(stream: IO[str], error: OSError) -> None:
    # What could not be written is still in the stream's buffer, and would be tried at the exit.
    silence(stream)
    with suppress(OSError):
        stream.flush()
    if isinstance(error, BrokenPipeError):
        raise error
    raise _unwritable(error) from None


def _unwritable(error: OSError) -> UsageError:
    if error.errno == errno.EBADF:
        return UsageError("standard output is closed; redirect it (> FILE), or to /dev/null")
    why = error.strerror or str(error)
    return UsageError(f"cannot write to standard output: {why}; redirect it elsewhere (> FILE)")
