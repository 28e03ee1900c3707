"""What goes wrong in a tree, in the log of its process."""

from __future__ import annotations

import logging

import trio

from polysupervisor._events import Event, EventKind, Subscription
from polysupervisor._exit import ExitKind

_log = logging.getLogger("polysupervisor")

FAILURES = frozenset({EventKind.EXITED, EventKind.START_FAILED})
NEEDS_AN_EYE = frozenset(
    {EventKind.STALLED, EventKind.WEDGED, EventKind.OVERFLOW, EventKind.GAVE_UP}
)


async def log_troubles(events: Subscription) -> None:
    """Log what a subscription tells, until its bus is closed."""
    async for event in events:
        log_event(event)


def log_rest(events: Subscription) -> None:
    """Log what is queued, without waiting."""
    try:
        while True:
            log_event(events.receive_nowait())
    except (trio.WouldBlock, trio.EndOfChannel):
        pass


def log_event(event: Event) -> None:
    """Log one event, if it is trouble."""
    who = f"{event.path}#{event.incarnation}"
    if event.kind in NEEDS_AN_EYE:
        _log.warning("%s: %s", who, event.kind.value)
    elif event.kind in FAILURES and event.reason is not None:
        if event.reason.expected:
            _log.debug("%s: %s", who, event.reason)
        elif event.reason.kind is not ExitKind.NORMAL:
            _log.error("%s: %s\n%s", who, event.reason, event.reason.traceback)
