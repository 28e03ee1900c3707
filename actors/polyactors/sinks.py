"""Where the stream goes besides a terminal: the events file, one JSON object a line."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

import trio

from polyactors.errors import UsageError
from polyactors.events import to_json
from polyactors.logger import log
from polyactors.stream import Subscription
from polysupervisor import Backoff, ChildSpec, Context, Shutdown

if TYPE_CHECKING:
    from polyactors.service import Service

DRAIN_SECONDS_MAX = 5.0
"""At the stop the writer may take so long for what is still queued."""


def open_events_file(path: str) -> BinaryIO:
    """Open the events file anew, unbuffered; "-" is standard output. Raises UsageError.

    Unbuffered, because it is written in a thread that may be left behind: one that held the
    lock of a buffer would break the interpreter's exit.
    """
    try:
        if path == "-":
            return open(os.dup(sys.stdout.fileno()), "wb", buffering=0)
        return open(path, "wb", buffering=0)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot write the events to {path}: {why}") from None


def events_sink(file: BinaryIO) -> "Callable[[Service], ChildSpec[object]]":
    """A child for `Service(sinks=…)` that writes every event to `file`, and closes nothing."""

    def spec(service: "Service") -> ChildSpec[object]:
        # Subscribed now, before any feed exists, and by the service: the subscription survives
        # the actor, and what comes while it restarts waits.
        subscription = service.events()
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
    file: BinaryIO,
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
            try:
                events = await subscription.receive_batch()
            except trio.EndOfChannel:
                break
            lines = b"".join(to_json(event) + b"\n" for event in events)
            try:
                # In a thread: a pipe that nobody reads must not hold up the loop.
                await trio.to_thread.run_sync(_write_all, file, lines, abandon_on_cancel=True)
            except BrokenPipeError:
                log.info("nobody reads the events any more, stopping")
                subscription.close()
                stop()
                await ctx.stop_requested.wait()
                break
        nursery.cancel_scope.cancel()


def _write_all(file: BinaryIO, data: bytes) -> None:
    while data:  # a raw file may take less than it was given
        data = data[file.write(data) or 0 :]
