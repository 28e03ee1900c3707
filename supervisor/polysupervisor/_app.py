"""The root of a process: signals in, an exit code out."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from signal import SIGINT, SIGTERM

import trio

from polysupervisor._supervisor import Supervisor
from polysupervisor.errors import SupervisorEscalation

EXIT_CLEAN = 0
"""The root stopped in order."""
EXIT_ESCALATION = 70
"""The root gave up (``EX_SOFTWARE``); systemd, the outermost supervisor, restarts."""
EXIT_CANCELLED = 130
"""A second signal cut the stop short."""

_log = logging.getLogger("polysupervisor")


async def run_app(root: Supervisor, *, signals: Sequence[int] = (SIGINT, SIGTERM)) -> int:
    """Run a root supervisor to its end and return the exit code of the process.

    The first of ``signals`` begins an ordered stop, the second cancels. Returns 0 after a clean
    stop, 70 when the root escalated (logged as critical to ``polysupervisor``), 130 after a
    second signal. Must run in the main thread if there are signals. *Error handling*: any other
    exception of the root, ``StartFailed`` for one, is passed on as it is.
    """
    code = EXIT_CLEAN
    failure: BaseException | None = None
    with trio.open_signal_receiver(*signals) as received:
        async with trio.open_nursery() as nursery:
            running = trio.CancelScope()
            nursery.start_soon(_obey, received, root, running)
            # Caught here, so that the nursery does not wrap it in a group.
            try:
                with running:
                    await root.run()
            except SupervisorEscalation as error:
                _log.critical("%s", error)
                code = EXIT_ESCALATION
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                failure = error
            if running.cancelled_caught:
                code = EXIT_CANCELLED
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return code


async def _obey(received: AsyncIterator[int], root: Supervisor, running: trio.CancelScope) -> None:
    # Further signals are taken and ignored: one left over would be raised again at the end.
    first = True
    async for _ in received:
        if first:
            root.stop()
        else:
            running.cancel(reason="second signal")
        first = False
