"""Where the stream goes besides a terminal: the events file, one JSON object a line.

A file is one run's: what an earlier run has written is set aside, never overwritten.
A file that cannot be written hurts no book. Its events wait, up to what a subscription holds,
and are tried again; what is missing from it at the end is counted, and the exit code says so.
"""

import errno
import itertools
import os
import select
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import trio
from attrs import define

from polyactors.errors import UsageError
from polyactors.events import to_json
from polyactors.logger import log
from polyactors.stops import interruptible, raise_held
from polyactors.stream import Subscription
from polyactors.terminal.pipes import complain, need_standard_output, takes_more
from polyactors.terminal.text import printable
from polysupervisor import Backoff, ChildSpec, Context, Shutdown

if TYPE_CHECKING:
    from polyactors.service import Service

STANDARD_OUTPUT = "-"
DEVICES = ("/dev/", "/proc/")
"""What is named in there, like /dev/stdout, is no file of an earlier run, also where it leads
to one."""
DRAIN_SECONDS_MAX = 5.0
"""At the stop the writer may take so long for what is still queued."""
RETRY_SECONDS = 1.0
"""A file that could not be written is tried again after so long."""


@define
class EventsFile:
    """A file of whole lines, and how it stands with it."""

    name: str
    """For people."""
    raw: BinaryIO
    """Unbuffered, because it is written in a thread that may be left behind: one that held the
    lock of a buffer would break the interpreter's exit."""
    pending: bytes = b""
    """Lines that were taken from the stream and are not yet written."""
    failure: str | None = None
    """Why it could not be written, the last time that it could not."""
    is_failing: bool = False
    is_read: bool = True
    """False once the reader of a pipe has gone: then nothing is missing from it."""
    _subscription: Subscription | None = None
    _skipped_before: int = 0
    """Events that the subscription had given up before the first failure."""

    def subscribe(self, subscription: Subscription) -> None:
        """What is written comes from here."""
        self._subscription = subscription

    def write_pending(self) -> None:
        """Write all that is pending, however often a piece of it is taken.

        Raises OSError; the part of a line that was taken before that is cut off again, if the
        file is one that can be cut.
        """
        lines = self.pending
        try:
            while self.pending:
                taken = cast("int | None", self.raw.write(self.pending))
                if taken is None:  # a full pipe that somebody made non-blocking
                    takes_more(self.raw, RETRY_SECONDS)
                self.pending = self.pending[taken or 0 :]
        except OSError:
            written = len(lines) - len(self.pending)
            torn = written - (lines.rfind(b"\n", 0, written) + 1)
            if torn and self._cut_off(torn):
                self.pending = lines[written - torn :]
            raise

    def failed(self, error: OSError) -> None:
        """It could not be written. Said once, until it can be written again."""
        if self.failure is None:
            self._skipped_before = self._skipped
        self.failure = error.strerror or str(error)
        if not self.is_failing:
            log.error("events cannot be written, trying again", file=self.name, why=self.failure)
        self.is_failing = True

    def succeeded(self) -> None:
        """Everything pending was written."""
        if self.is_failing:
            log.warning("events are written again", file=self.name)
        self.is_failing = False

    @property
    def missing(self) -> int:
        """Events that did not get into the file, now that nobody writes it any more.

        While it can be written a reader who is behind may skip book updates that newer ones
        replace, as any subscriber; that is no fault of the file.
        """
        if self._subscription is None or not self.is_read:
            return 0
        unwritten = self.pending.count(b"\n") + self._subscription.held
        if self.failure is None:
            return unwritten
        return unwritten + self._skipped - self._skipped_before

    def complaint(self) -> str | None:
        """What is missing and why, in a sentence; None when nothing is."""
        missing = self.missing
        if not missing:
            return None
        are = "event is" if missing == 1 else "events are"
        why = self.failure or "they were not written in time at the stop"
        return f"{missing:,} {are} missing from {self.name}: {why}"

    @property
    def _skipped(self) -> int:
        subscription = self._subscription
        return 0 if subscription is None else subscription.coalesced + subscription.lost

    def close(self) -> None:
        """Close the file. Idempotent."""
        self.raw.close()

    def _cut_off(self, size: int) -> bool:
        """Take back the last bytes of a regular file, unless somebody else wrote behind them."""
        try:
            status = os.fstat(self.raw.fileno())
            if not stat.S_ISREG(status.st_mode) or self.raw.tell() != status.st_size:
                return False
            self.raw.truncate(status.st_size - size)
            self.raw.seek(status.st_size - size)
        except OSError:
            return False
        return True


def write_all(raw: BinaryIO, data: bytes) -> None:
    """Write all of it to an unbuffered file, in this thread.

    Raises OSError, TimeoutError when its reader takes nothing for DRAIN_SECONDS_MAX.
    """
    while data:
        if not takes_more(raw, DRAIN_SECONDS_MAX):
            raise TimeoutError(errno.ETIMEDOUT, "its reader takes nothing")
        # So much a pipe that takes something takes without a wait.
        data = data[raw.write(data[: select.PIPE_BUF]) or 0 :]


def open_raw(path: str, what: str) -> BinaryIO:
    """Open a file anew to write `what`, unbuffered; "-" is standard output.

    Raises UsageError; a stop signal while a named pipe waits for its reader is a
    KeyboardInterrupt.
    """
    if path == STANDARD_OUTPUT:
        need_standard_output()
        return open(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    try:
        if not os.path.exists(path) or os.path.isfile(path):
            return open(path, "wb", buffering=0)
        with interruptible():
            raise_held()
            return open(path, "wb", buffering=0)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot write {what} to {path}: {why}") from None


def set_aside(path: str) -> str | None:
    """Rename a regular file that holds something, `x.jsonl` to the first free of `x.1.jsonl`,
    `x.2.jsonl` …; returns the new name, None where there was nothing to keep.

    What cannot be written anyhow stays as it is. Raises UsageError when it cannot be renamed.
    """
    try:
        former = Path(os.path.realpath(path))  # a symlink stays, and leads to the new file
        if path.startswith(DEVICES) or not former.is_file() or not former.stat().st_size:
            return None
        if not os.access(former, os.W_OK):
            return None
    except (OSError, ValueError):  # a path with a NUL
        return None
    try:
        for number in itertools.count(1):
            kept = former.with_name(f"{former.stem}.{number}{former.suffix}")
            with suppress(FileExistsError):
                kept.touch(exist_ok=False)  # ours from now on, whoever else looks for a name
                former.replace(kept)
                return str(Path(path).with_name(kept.name))
    except OSError as error:
        raise UsageError(
            f"{path} holds the events of an earlier run, which cannot be renamed: "
            f"{error.strerror}; give --events another file"
        ) from None
    raise AssertionError("the numbers have no end")


def open_events_file(path: str) -> EventsFile:
    """Open the events file as `open_raw` does, and keep that of an earlier run under another
    name, which is said. Raises as `open_raw` and `set_aside`."""
    if path == STANDARD_OUTPUT:
        return EventsFile("standard output", open_raw(path, "the events"))
    kept = set_aside(path)
    if kept is not None:
        complain(f"polyactors: {printable(path)} of an earlier run is now {printable(kept)}")
    return EventsFile(path, open_raw(path, "the events"))


def events_sink(file: EventsFile) -> "Callable[[Service], ChildSpec[object]]":
    """A child for `Service(sinks=…)` that writes every event to `file`, and closes nothing."""

    def spec(service: "Service") -> ChildSpec[object]:
        # Subscribed now, before any feed exists, and by the service: the subscription survives
        # the actor, and what comes while it restarts waits.
        subscription = service.events()
        file.subscribe(subscription)
        return ChildSpec(
            id="events",
            factory=lambda: lambda ctx: _write_events(ctx, subscription, file, service.stop),
            backoff=Backoff(),
            shutdown=Shutdown(grace=DRAIN_SECONDS_MAX, kill=1.0),
        )

    return spec


async def _write_events(
    ctx: Context[object],
    subscription: Subscription,
    file: EventsFile,
    stop: Callable[[], None],
) -> None:
    """Write until stopped, then what is left. A reader that closed its pipe ends the service."""

    async def end_at_stop() -> None:
        await ctx.stop_requested.wait()
        subscription.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_at_stop)
        ctx.ready()
        while True:
            if not file.pending:
                try:
                    events = await subscription.receive_batch()
                except trio.EndOfChannel:
                    break
                file.pending = b"".join(to_json(event) + b"\n" for event in events)
            is_last_try = ctx.stop_requested.is_set()
            try:
                # In a thread: a pipe that nobody reads must not hold up the loop.
                await trio.to_thread.run_sync(file.write_pending, abandon_on_cancel=True)
            except BrokenPipeError:
                log.info("nobody reads the events any more, stopping")
                file.is_read = False
                subscription.close()
                stop()
                await ctx.stop_requested.wait()
                break
            except OSError as error:
                file.failed(error)
                if is_last_try:
                    break
                with trio.move_on_after(RETRY_SECONDS):
                    await ctx.stop_requested.wait()
            else:
                file.succeeded()
        nursery.cancel_scope.cancel()
