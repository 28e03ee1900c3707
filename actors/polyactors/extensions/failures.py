"""How an actor of a user's fails, told so that its own line stands in front."""

from pathlib import PurePath
from types import TracebackType
from typing import cast

from polysupervisor import ExitReason

OURS = ("polyactors.", "polysupervisor.")
EXAMPLES = "polyactors.examples."


class MailboxOverflow(Exception):  # noqa: N818 - the name is the fact
    """The mailbox was full, and the policy is to begin afresh."""


class HandlerTooSlow(Exception):  # noqa: N818 - the name is the fact
    """One call took longer than `handle_seconds_max`."""


def sole(group: "BaseExceptionGroup[BaseException]") -> BaseException:
    """The failure in a group of one, beginning where foreign code does; else the group."""
    members = list(group.exceptions)
    while len(members) == 1 and isinstance(members[0], BaseExceptionGroup):
        members = list(cast("BaseExceptionGroup[BaseException]", members[0]).exceptions)
    if len(members) > 1:
        return group
    error = members[0]
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace):
        trace = trace.tb_next
    return error if trace is None else error.with_traceback(trace)


def own_part(error: BaseException) -> TracebackType | None:
    """The frames of an error that are foreign code's, up to the last of the package that they
    begin in: what it called, and where that waited, is below the line that is to be told. Of a
    group, the first member's."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace):
        trace = trace.tb_next
    frames: list[TracebackType] = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    while frames and _package(frames[-1]) != _package(frames[0]):
        frames.pop()
    below: TracebackType | None = None
    for one in reversed(frames):
        below = TracebackType(below, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return below


def _package(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_machinery(trace: TracebackType) -> bool:
    name = str(trace.tb_frame.f_globals.get("__name__", ""))
    return is_ours(name) or name.partition(".")[0] in ("trio", "contextlib")


def told(reason: ExitReason) -> str:
    """How it failed, and in which line."""
    if reason.trace is None or not reason.trace.frames:
        return str(reason)
    file, line, _ = reason.trace.frames[-1]
    place = f"{PurePath(file).name}:{line}"
    return str(reason) if _is_ours_file(file) else f"{reason} at {place}"


def _is_ours_file(file: str) -> bool:
    return "polysupervisor" in file or "polyactors/extensions" in file


def is_ours(module: str) -> bool:
    """Whether code of a module must come to its end: it may change what others share."""
    return module.startswith(OURS) and not module.startswith(EXAMPLES)
