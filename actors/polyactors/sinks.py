"""Where the stream goes besides a terminal: the events file, one JSON object a line."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import trio

from polyactors.errors import UsageError
from polyactors.events import to_json
from polyactors.logger import log
from polyactors.stream import Subscription
from polysupervisor import ChildSpec, Context, Shutdown

if TYPE_CHECKING:
    from polyactors.service import Service

DRAIN_SECONDS_MAX = 5.0
"""At the stop the writer may take so long for what is still queued."""


def open_events_file(path: str) -> BinaryIO:
    """Open the events file anew; "-" is standard output. Raises UsageError."""
    if path == "-":
        return sys.stdout.buffer
    try:
        return Path(path).open("wb")
    except OSError as error:
        raise UsageError(f"cannot write the events to {path}: {error.strerror}") from None


def events_sink(file: BinaryIO) -> "Callable[[Service], ChildSpec[object]]":
    """A child for `Service(sinks=…)` that writes every event to `file`, and closes nothing."""

    def spec(service: "Service") -> ChildSpec[object]:
        # Subscribed now, before any feed exists, and by the service: the subscription survives
        # the actor, and what comes while it restarts waits.
        subscription = service.events()
        return ChildSpec(
            id="events",
            factory=lambda: lambda ctx: _write_events(ctx, subscription, file, service.stop),
            shutdown=Shutdown(grace=DRAIN_SECONDS_MAX),
        )

    return spec


async def _write_events(
    ctx: Context[object],
    subscription: Subscription,
    file: BinaryIO,
    stop: Callable[[], None],
) -> None:
    """Write until stopped, then what is left. A reader that closed its pipe ends the service."""

    def write(lines: bytes) -> None:
        file.write(lines)
        file.flush()

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
                await trio.to_thread.run_sync(write, lines, abandon_on_cancel=True)
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise
                log.info("nobody reads the events any more, stopping")
                if file is sys.stdout.buffer:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                stop()
                break
        nursery.cancel_scope.cancel()
