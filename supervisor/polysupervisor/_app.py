"""The root of a process: signals in, an exit code out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
    running = trio.CancelScope()

    async def listen(received: trio.abc.ReceiveChannel[int]) -> None:
        raise NotImplementedError

    return code
