"""How an incarnation ended, as data.

A live exception keeps its traceback, and with it all locals of the dead incarnation (a whole
order book, say). So an exit is turned into text before anybody stores it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import cast

import attrs
import trio

from polysupervisor._trace import Trace, capture, one_line

SUMMARY_CHARS_MAX = 500
"""Longest ``ExitReason.summary``."""


class ExitKind(Enum):
    """In which way an incarnation ended."""

    NORMAL = "normal"
    """It returned although nobody had asked it to stop."""
    SHUTDOWN = "shutdown"
    """It returned (or ended by ``trio.EndOfChannel``) after it had been asked to stop."""
    CRASH = "crash"
    """It raised."""
    KILLED = "killed"
    """It had to be cancelled."""
    START_FAILED = "start_failed"
    """It raised or returned before it was ready."""
    START_TIMEOUT = "start_timeout"
    """It was not ready within ``ChildSpec.start_timeout``."""
    STALLED = "stalled"
    """It left messages waiting for ``MailboxSpec.stall_after`` without receiving."""


@attrs.frozen
class ExitReason:
    """Why an incarnation ended: data only, never a live exception."""

    kind: ExitKind
    """In which way."""
    types: tuple[str, ...] = ()
    """Names of the exception classes; those of the leaves when a group was raised."""
    summary: str = ""
    """One line: ``ValueError: what it said``, joined by ``; `` for a group; bounded."""
    expected: bool = False
    """Whether all leaves are instances of ``ChildSpec.expected``."""
    trace: Trace | None = attrs.field(default=None, repr=False)
    """Where it was raised, as data; ``None`` when nothing was."""

    @property
    def traceback(self) -> str:
        """The formatted traceback, bounded; empty when nothing was raised."""
        return "" if self.trace is None else self.trace.format()

    def __str__(self) -> str:
        return f"{self.kind.value} ({self.summary})" if self.summary else self.kind.value


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a (nested) group, or the exception itself."""
    left = [error]  # no recursion: a group may be nested deeper than the stack
    while left:
        first = left.pop()
        if isinstance(first, BaseExceptionGroup):
            members = cast("BaseExceptionGroup[BaseException]", first).exceptions
            left.extend(reversed(members))
        else:
            yield first


def split_cancelled(
    error: BaseException,
) -> tuple[BaseException | None, BaseException | None]:
    """Return the part that is ``trio.Cancelled`` (Trio must get it back) and the rest."""
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        return _split_group(cast("BaseExceptionGroup[BaseException]", error))
    return None, error


def _split_group(
    group: BaseExceptionGroup[BaseException],
) -> tuple[BaseException | None, BaseException | None]:
    try:
        return group.split(trio.Cancelled)
    except RecursionError:  # nested deeper than the stack; not by Trio
        return None, group


def describe(
    error: BaseException, kind: ExitKind, expected: tuple[type[Exception], ...] = ()
) -> ExitReason:
    """Turn an exception into data; ``expected`` holds only if *all* leaves match."""
    found = list(leaves(error))
    trace = capture(error)
    alone = found[0] is error
    lines = [trace.error] if alone else [one_line(leaf) for leaf in found]
    return ExitReason(
        kind=kind,
        types=tuple(type(leaf).__name__ for leaf in found),
        summary="; ".join(lines)[:SUMMARY_CHARS_MAX],
        expected=all(isinstance(leaf, expected) for leaf in found),
        trace=trace,
    )
