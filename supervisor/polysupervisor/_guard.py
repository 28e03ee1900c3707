"""No child holds the event loop for ever: a step that takes too long is interrupted.

Trio's tasks give way only where they wait. For a child with a ``HoldLimit`` a thread looks at how
long its tasks run without waiting, and sends the main thread a signal when that is too long
(SIGURG, which nothing else needs: by default it is ignored). The handler raises in the midst of
the child's own code, as Ctrl-C would, but never within Trio's, nor within the modules that the
limit spares: there half a change would be left behind, so it comes again until it may.

What no signal can interrupt is foreign code that computes without returning to Python.
"""

from __future__ import annotations

import gc
import math
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import cast

import trio

from polysupervisor._exit import leaves
from polysupervisor._hold import Hold, HoldLimit, Interrupt

LOOKS_PER_LIMIT = 4
LOOK_SECONDS_MAX = 1.0
LOOK_AGAIN_SECONDS = 0.001
"""After a look at which the code that ran was not to be interrupted."""
JOIN_SECONDS = 1.0
_PACKAGE = __name__.partition(".")[0]

_hold: ContextVar[Hold | None] = ContextVar("polysupervisor.hold", default=None)
"""Of the incarnation whose task, or task's child, is running."""
_guard: trio.lowlevel.RunVar[Guard | None] = trio.lowlevel.RunVar("polysupervisor.guard", None)


@contextmanager
def holding(hold: Hold) -> Generator[None]:
    """Bound how long what is inside, and every task that it starts, holds the event loop.

    Raises ``HeldLoop``, within a group if other tasks failed too.
    """
    guard = _guard.get()
    if guard is None:
        guard = Guard()
        _guard.set(guard)
    guard.enter(hold)
    try:
        try:
            _hold.set(hold)
            guard.resume(hold)
            yield
        finally:
            _hold.set(None)
            hold.is_over = True
            guard.pause()
    except BaseException as error:
        raise _explained(error, hold) from None
    finally:
        guard.leave(hold)


def _explained(error: BaseException, hold: Hold) -> BaseException:
    """The same with what interrupted it told as a failure."""
    found = [leaf for leaf in leaves(error) if isinstance(leaf, Interrupt)]
    if not found:
        return error
    held = hold.failure(found[0].seconds, _where(found[0]))
    if not isinstance(error, BaseExceptionGroup):
        return held
    rest = cast("BaseExceptionGroup[BaseException]", error).split(Interrupt)[1]
    return held if rest is None else BaseExceptionGroup(hold.path, [held, rest])


def _where(error: BaseException) -> str:
    place = error.__traceback__
    while place is not None and place.tb_next is not None and place.tb_next.tb_next is not None:
        place = place.tb_next  # the last one is the handler of the signal
    if place is None:
        return ""
    code = place.tb_frame.f_code
    return f"{code.co_filename}:{place.tb_lineno} in {code.co_qualname}"


class Guard(trio.abc.Instrument):
    """Who of those that are bounded runs now, and since when; one for a Trio run."""

    def __init__(self) -> None:
        self._holds: set[Hold] = set()
        self._running: Hold | None = None
        self._begun = 0.0
        self._turn = 0
        self._look: _Look | None = None
        self._thread = threading.get_ident()
        self._collecting_since = 0.0

    def enter(self, hold: Hold) -> None:
        """One more is bounded."""
        self._holds.add(hold)
        if len(self._holds) == 1:
            trio.lowlevel.add_instrument(self)
            gc.callbacks.append(self._on_collection)
            self._look = _Look.begin(self)

    def leave(self, hold: Hold) -> None:
        """It has ended."""
        self._holds.discard(hold)
        if not self._holds:
            trio.lowlevel.remove_instrument(self)
            gc.callbacks.remove(self._on_collection)
            if self._look is not None:
                self._look.end()
                self._look = None

    def resume(self, hold: Hold) -> None:
        """A step begins, or goes on with it."""
        hold.begin(self._turn)
        self._begun = perf_counter()
        self._running = hold

    def pause(self) -> None:
        """The step is over, or goes on without it."""
        hold, self._running = self._running, None
        if hold is not None:
            hold.end(perf_counter() - self._begun)

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        """Python's: it collects garbage, all there is, in whoever's step makes the last bit."""
        if threading.get_ident() != self._thread:
            return
        now = perf_counter()
        if phase == "start":
            self._collecting_since = now
        elif self._running is not None:
            seconds = now - self._collecting_since
            self._begun += seconds
            self._running.excuse(seconds)

    def running(self) -> tuple[Hold, float] | None:
        """Who runs, and since when on the clock of ``perf_counter``. From any thread."""
        hold, begun = self._running, self._begun
        return None if hold is None or hold is not self._running else (hold, begun)

    @property
    def shortest(self) -> float:
        """Seconds of the strictest limit. From any thread."""
        return min((hold.limit.seconds for hold in tuple(self._holds)), default=math.inf)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio's: note whose step it is."""
        hold = task.context.get(_hold)
        if hold is not None and not hold.is_over:
            self.resume(hold)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio's: nobody's any more."""
        del task
        if self._running is not None:
            self.pause()

    def after_io_wait(self, timeout: float) -> None:
        """Trio's: a new turn."""
        del timeout
        self._turn += 1


def _cpu_clock_of(thread: int) -> int | None:
    try:
        return time.pthread_getcpuclockid(thread)
    except (AttributeError, OSError):  # macOS and Windows have none
        return None


class _Look:
    """The thread that looks, and the signal that it sends. Only for a run in the main thread."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._asked: tuple[Hold, float] | None = None
        """The step that is to be interrupted: of whom, since when."""
        self._ended = threading.Event()
        self._main = threading.get_ident()
        self._native = threading.get_native_id()
        self._cpu_clock = _cpu_clock_of(self._main)
        self._before = signal.signal(signal.SIGURG, self._on_signal)
        self._thread = threading.Thread(target=self._look, name="polysupervisor-hold", daemon=True)

    @classmethod
    def begin(cls, guard: Guard) -> _Look | None:
        """Look from now on; None where no signal can be had."""
        if threading.current_thread() is not threading.main_thread():
            return None
        look = cls(guard)
        look._thread.start()
        return look

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join(JOIN_SECONDS)
        signal.signal(signal.SIGURG, self._before if self._before is not None else signal.SIG_DFL)

    def _look(self) -> None:
        before = perf_counter()
        step: tuple[Hold, float] | None = None
        excused = starved = worked = 0.0
        pause = 0.0
        while not self._ended.wait(pause):
            now = perf_counter()
            late, before = now - before - pause, now
            pause = min(self._guard.shortest / LOOKS_PER_LIMIT, LOOK_SECONDS_MAX)
            found = self._guard.running()
            if found != step:
                step, excused, starved, worked = found, 0.0, self._starved(), self._worked()
            if found is None:
                continue
            if late > pause:  # this thread could not run either, unless it is that one which did
                excused += late
            seconds = now - found[1] - excused
            if seconds >= found[0].limit.seconds:
                seconds -= max(self._starved() - starved, 0.0)
            if max(seconds, self._worked() - worked) >= found[0].limit.seconds:
                self._asked = found
                signal.pthread_kill(self._main, signal.SIGURG)
                pause = LOOK_AGAIN_SECONDS

    def _worked(self) -> float:
        """Seconds for which the watched thread has had a processor, so far; 0 where the system does
        not tell."""
        return 0.0 if self._cpu_clock is None else time.clock_gettime(self._cpu_clock)

    def _starved(self) -> float:
        """Seconds for which the watched thread wanted a processor and got none, so far; 0 where
        the system does not tell. A busy machine is not the child's fault."""
        try:
            told = Path(f"/proc/self/task/{self._native}/schedstat").read_text()
            return int(told.split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        asked = self._asked
        if asked is None or asked != self._guard.running():
            if callable(self._before):
                self._before(number, frame)
            return
        if trio.lowlevel.currently_ki_protected() or _is_spared(frame, asked[0].limit):
            return
        asked[0].note_interrupt()
        raise Interrupt(perf_counter() - asked[1])


DEBUGGERS = frozenset({"bdb", "pdb", "pydevd"})
"""Who stands still in one of these does so on purpose."""


def _is_spared(frame: FrameType | None, limit: HoldLimit) -> bool:
    """Whether it is not the child's own code, with what else that calls, that runs."""
    outermost = trio.lowlevel.current_task().coro.cr_frame
    shared: list[bool] = []
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        package = name.partition(".")[0]
        if package in DEBUGGERS:
            return True
        shared.append(package == _PACKAGE or limit.spares(name))
        if frame is outermost:
            break
        frame = frame.f_back
    while shared and shared[-1]:  # who called the child
        shared.pop()
    return not shared or any(shared)
