"""The root of a process: signals in, an exit code out, systemd and the watchdog served."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, closing
from signal import SIGINT, SIGTERM

import trio

from polysupervisor._supervisor import Supervisor
from polysupervisor._systemd import Notifier
from polysupervisor._tree import ChildState
from polysupervisor._troubles import log_rest, log_troubles
from polysupervisor._watchdog import Watch, Watchdog
from polysupervisor.errors import SupervisorEscalation

EXIT_CLEAN = 0
"""The root stopped in order."""
EXIT_ESCALATION = 70
"""The root gave up (``EX_SOFTWARE``); systemd, the outermost supervisor, restarts."""
EXIT_CANCELLED = 130
"""A second signal cut the stop short."""

_log = logging.getLogger("polysupervisor")


async def run_app(
    root: Supervisor,
    *,
    signals: Sequence[int] = (SIGINT, SIGTERM),
    watchdog: Watchdog | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> int:
    """Run a root supervisor to its end and return the exit code of the process.

    The first of ``signals`` begins an ordered stop, the second cancels; further ones change
    nothing. Returns 0 after a clean stop, 70 when the root escalated (logged as critical to
    ``polysupervisor``), 130 after a second signal. Must run in the main thread if there are
    signals. With a ``watchdog``, a task that holds the event loop is named in the log. Ready
    (``nursery.start``) when all children are.

    What goes wrong is logged (``polysupervisor``): failures that are no expected ones as errors
    with their traceback, expected ones as debug, what needs an eye (``stalled``, ``wedged``,
    ``overflow``, ``gave_up``) as warnings.

    Started by systemd as ``Type=notify``, it tells when all children are ready and when the
    stop begins, and serves ``WatchdogSec`` from the event loop.

    A signal that comes when this has returned, and before the process has ended, is the
    application's: install a handler (``signal.signal``) before ``trio.run``, which is in force
    again from then on.

    *Error handling*: any other exception of the root, ``StartFailed`` for one, is passed on as
    it is.
    """
    code = EXIT_CLEAN
    failure: BaseException | None = None
    systemd = Notifier.from_environment()

    def say_ready() -> None:
        # A root that was stopped while it started says this at its end.
        if systemd is not None and root.tree().state is ChildState.RUNNING:
            systemd.tell("READY=1", "STATUS=all children are ready")
        task_status.started()

    with ExitStack() as held:
        received = held.enter_context(trio.open_signal_receiver(*signals)) if signals else None
        watch = held.enter_context(watchdog.watching()) if watchdog is not None else None
        async with trio.open_nursery() as nursery:
            running = trio.CancelScope()
            if received is not None:
                nursery.start_soon(_obey, received, root, running, systemd, watch)
            told = held.enter_context(closing(root.events.subscribe()))
            nursery.start_soon(log_troubles, told)
            if systemd is not None:
                nursery.start_soon(systemd.keep_alive)
            # Caught here, so that the nursery does not wrap it in a group.
            try:
                with running:
                    await root.run(task_status=_Ready(say_ready))
            except SupervisorEscalation as error:
                _log.critical("%s", error)
                code = EXIT_ESCALATION
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                failure = error
            if running.cancelled_caught:
                code = EXIT_CANCELLED
            nursery.cancel_scope.cancel()
            log_rest(told)
    if failure is not None:
        raise failure
    return code


async def _obey(
    received: AsyncIterator[int],
    root: Supervisor,
    running: trio.CancelScope,
    systemd: Notifier | None,
    watch: Watch | None,
) -> None:
    # Further signals are taken and ignored: one left over would be raised again at the end.
    count = 0
    async for _ in received:
        count += 1
        if count == 1:
            root.stop()
            if systemd is not None:
                systemd.tell("STOPPING=1", "STATUS=stopping in order")
        elif count == 2:
            running.cancel(reason="second signal")
            if watch is not None:
                watch.expect_end()


class _Ready(trio.TaskStatus[None]):
    """Passes on that a supervisor has started."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def started(self, value: None = None) -> None:
        """Pass it on."""
        del value
        self._tell()
