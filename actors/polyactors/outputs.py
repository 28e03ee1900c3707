"""Where the events and the summary of one run go: files that are opened before anything else."""

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any, BinaryIO

from attrs import frozen

from polyactors.errors import UsageError
from polyactors.service import Service
from polyactors.sinks import (
    STANDARD_OUTPUT,
    EventsFile,
    events_sink,
    open_events_file,
    open_raw,
    write_all,
)
from polysupervisor import ChildSpec

Sink = Callable[[Service], ChildSpec[object]]


@frozen
class Outputs:
    """Where the events and the summary go."""

    events: EventsFile | None = None
    summary: BinaryIO | None = None
    """Unbuffered."""

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The children of the service that write."""
        return () if self.events is None else (events_sink(self.events),)

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write the summary, if one is wanted. Raises UsageError when it cannot be written."""
        if self.summary is None:
            return
        missing = 0 if self.events is None else self.events.missing
        text = json.dumps({**summary, "events_missing": missing})
        try:
            write_all(self.summary, text.encode() + b"\n")
        except BrokenPipeError:
            raise  # its reader has gone, which is no mistake
        except OSError as error:
            raise UsageError(
                f"cannot write the summary: {error.strerror}; give --summary another file"
            ) from None


@contextmanager
def open_outputs(values: Mapping[str, Any]) -> Generator[Outputs, None, None]:
    """Open both files before anything else, so that a wrong path is said at once."""
    events_path, summary_path = values["events"], values["summary"]
    if events_path == summary_path and events_path not in (None, STANDARD_OUTPUT):
        raise UsageError(f"--events and --summary both name {events_path}; give each its own file")
    with ExitStack() as stack:
        summary = events = None
        if summary_path is not None:
            summary = stack.enter_context(open_raw(summary_path, "the summary"))
        if events_path is not None:
            events = stack.enter_context(closing(open_events_file(events_path)))
        yield Outputs(events, summary)
