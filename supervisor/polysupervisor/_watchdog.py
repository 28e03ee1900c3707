"""A thread that notices when one task holds the event loop, and says which.

In one thread of one event loop a task that computes, or waits without ``await``, stops all
others: heartbeats, timeouts, the answer to a signal. Nothing inside the loop can tell.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import perf_counter

import attrs
import trio
from attrs.validators import gt, optional

EXIT_WEDGED = 71
"""``Watchdog.exit_after`` ended the process; systemd, the outermost supervisor, restarts it."""
LOOKS_PER_LIMIT = 4
JOIN_SECONDS = 1.0

_log = logging.getLogger("polysupervisor")


@attrs.frozen
class Blocked:
    """One task that holds the event loop."""

    task: str
    """Its name; that of an actor is its path, such as ``root/core/shard-0``."""
    seconds: float
    """How long it has, when this was noticed."""
    stack: str
    """Where it is, as a formatted stack, innermost call last."""


@attrs.define
class _Step:
    """From one ``await`` of a task to its next."""

    task: str
    begun: float
    excused: float = 0.0
    """Seconds in which this thread did not run either: the process was stopped, or starved."""
    is_reported: bool = False


@attrs.frozen
class Watchdog:
    """How long one task may hold the event loop, and what happens then. Seconds.

    A blockage is logged once while it lasts (logger ``polysupervisor``: an error with the name
    of the task and where it is, the whole stack as debug), and once more when it is over. What
    holds Python's global lock stops this thread too and cannot be seen from inside; the
    watchdog of systemd, which ``run_app`` answers from the event loop, sees that as well. Time
    in which the whole process did not run does not count.
    """

    limit: float = attrs.field(default=1.0, validator=gt(0))
    """One step of a task that takes longer is reported."""
    exit_after: float | None = attrs.field(default=None, validator=optional(gt(0)))
    """One step that takes longer, or an end that takes longer after the second signal, ends the
    process with ``EXIT_WEDGED``; ``None``: never. Nothing is cleaned up then."""
    on_blocked: Callable[[Blocked], object] | None = None
    """Called with each blockage, in the thread of the watchdog: it must not touch Trio."""

    @contextmanager
    def watching(self) -> Generator[Watch]:
        """Watch the Trio run of this thread."""
        watch = Watch(self)
        trio.lowlevel.add_instrument(watch)
        watch.thread.start()
        try:
            yield watch
        finally:
            watch.ended.set()
            watch.thread.join(JOIN_SECONDS)
            trio.lowlevel.remove_instrument(watch)


class Watch(trio.abc.Instrument):
    """The instrument, which notes who runs since when, and the thread that looks at it."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._watched_thread = threading.get_ident()
        self._step: _Step | None = None
        self._must_end_at = float("inf")
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, name="polysupervisor", daemon=True)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note who runs, and since when."""
        self._step = _Step(task.name, perf_counter())

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Nobody runs now."""
        del task
        step, self._step = self._step, None
        if step is not None and step.is_reported:
            seconds = perf_counter() - step.begun
            _log.error("%s let the event loop go on after %.2f s", step.task, seconds)

    def expect_end(self) -> None:
        """Let the process end if ``exit_after`` seconds from now it has not by itself."""
        if self._watchdog.exit_after is not None:
            self._must_end_at = perf_counter() + self._watchdog.exit_after

    def _look(self) -> None:
        before = perf_counter()
        while not self.ended.wait(self._watchdog.limit / LOOKS_PER_LIMIT):
            now = perf_counter()
            self.look_at(now, before)
            before = now

    def look_at(self, now: float, before: float) -> None:
        """Judge what runs at ``now``, having looked last at ``before``. Called by the thread."""
        step = self._step
        if step is not None:
            pause = self._watchdog.limit / LOOKS_PER_LIMIT
            if now - before > 2 * pause:  # not merely late: this thread could not run
                step.excused += now - before - pause
            self._judge(step, now)
        if now > self._must_end_at:
            self._exit("the supervisors have not ended after the second signal")

    def step_begun(self) -> float | None:
        """Return when the step that runs now began, on the clock of ``perf_counter``."""
        return None if self._step is None else self._step.begun

    def _judge(self, step: _Step, now: float) -> None:
        seconds = now - step.begun - step.excused
        if seconds >= self._watchdog.limit and not step.is_reported:
            self._report(step, seconds)
        most = self._watchdog.exit_after
        if most is not None and seconds >= most:
            self._exit(f"{step.task} has blocked the event loop for {seconds:.2f} s")

    def _report(self, step: _Step, seconds: float) -> None:
        frame = sys._current_frames().get(self._watched_thread)  # pyright: ignore[reportPrivateUsage]
        if frame is None or self._step is not step:
            return  # it has just ended
        step.is_reported = True
        code = frame.f_code
        where = f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
        stack = "".join(traceback.format_stack(frame))
        del frame
        _log.error("%s blocks the event loop for %.2f s now, at %s", step.task, seconds, where)
        _log.debug("stack of %s:\n%s", step.task, stack)
        if self._watchdog.on_blocked is not None:
            try:
                self._watchdog.on_blocked(Blocked(step.task, seconds, stack))
            except Exception:
                _log.exception("on_blocked of the watchdog failed")

    def _exit(self, why: str) -> None:
        _log.critical("%s: the process ends now", why)
        os._exit(EXIT_WEDGED)
