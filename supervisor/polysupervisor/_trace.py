"""Tracebacks as data: taken at once and cheaply, made into text only when somebody reads it.

Formatting a traceback costs more than a whole restart, and most are never read. What is kept
are names and numbers, no frames, so nothing of the dead incarnation is kept alive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from traceback import StackSummary
from typing import cast

import attrs

FRAMES_MAX = 64
"""Frames kept of one exception: the innermost."""
DEPTH_MAX = 16
"""Causes and members followed from one exception; deeper ones are left out."""
MEMBERS_MAX = 16
"""Members kept of one group; further ones are left out."""
TRACEBACK_CHARS_MAX = 8_000
"""Longest formatted traceback; the end is kept, since the cause stands there."""

_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"


@attrs.frozen
class Trace:
    """One exception: where it was raised, and which others belong to it."""

    error: str
    """Its class and message, in one line."""
    frames: tuple[tuple[str, int, str], ...]
    """File, line and function, outermost first."""
    notes: tuple[str, ...] = ()
    """What ``add_note`` added."""
    earlier: Trace | None = None
    """The exception that caused it, or during whose handling it was raised."""
    is_caused: bool = False
    """Which of the two."""
    members: tuple[Trace, ...] = ()
    """Of a group."""

    def format(self) -> str:
        """Return the text, much as Python prints it; lines of source are looked up now."""
        return "\n".join(self._lines())[-TRACEBACK_CHARS_MAX:]

    def _lines(self) -> Iterator[str]:
        if self.earlier is not None:
            yield from self.earlier._lines()
            yield from ("", _CAUSE if self.is_caused else _CONTEXT, "")
        if self.frames:
            yield "Traceback (most recent call last):"
            for entry in StackSummary.from_list([(*frame, None) for frame in self.frames]).format():
                yield from entry.splitlines()
        yield self.error
        for note in self.notes:
            yield from note.splitlines()
        for number, member in enumerate(self.members, 1):
            yield f"  +---------------- {number} ----------------"
            for line in member._lines():
                yield f"  | {line}"


def capture(error: BaseException) -> Trace:
    """Turn an exception and what belongs to it into data."""
    return _capture(error, DEPTH_MAX, set())


def _capture(error: BaseException, depth: int, seen: set[int]) -> Trace:
    seen.add(id(error))
    frames: deque[tuple[str, int, str]] = deque(maxlen=FRAMES_MAX)
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        frames.append((code.co_filename, step.tb_lineno or 0, code.co_name))
        step = step.tb_next
    members = _members(error) if depth else ()
    # Told first, since a later one's context is often an earlier one.
    told = tuple(_capture(member, depth - 1, seen) for member in members if id(member) not in seen)
    earlier = error.__cause__
    is_caused = earlier is not None
    if earlier is None and not error.__suppress_context__:
        earlier = error.__context__
    follows = earlier is not None and depth > 0 and id(earlier) not in seen
    return Trace(
        error=one_line(error)[:TRACEBACK_CHARS_MAX],
        frames=tuple(frames),
        notes=tuple(str(note) for note in (getattr(error, "__notes__", None) or ())),
        earlier=_capture(earlier, depth - 1, seen) if earlier is not None and follows else None,
        is_caused=is_caused,
        members=told,
    )


def _members(error: BaseException) -> tuple[BaseException, ...]:
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).exceptions[:MEMBERS_MAX]
    return ()


def one_line(error: BaseException) -> str:
    """Return ``Class: message`` in one line; survives a message that cannot be made."""
    kind = type(error)
    module = kind.__module__
    name = (
        kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    )
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = "<its message cannot be made>"
    return f"{name}: {message}" if message else name
