"""Stop signals: from the end of argument parsing on, SIGINT and SIGTERM stop in order.

Trio hears them only while a receiver is open. What comes before, between two receivers and after
the last one is held here and delivered to the next: a process that is stopped while it still
imports its parts ends as one that is stopped while it runs, with its summary and exit code 0.

The state is the process's, as signals are.
"""

import signal
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from types import FrameType

SIGNALS = (SIGINT, SIGTERM)
T = TypeVar("T")

_held: list[int] = []
_is_interruptible = False


@contextmanager
def holding(*, for_good: bool = False) -> Generator[None, None, None]:
    """Hold stop signals inside the block. For the main thread.

    `for_good`: the process ends after it, with a code that is settled, so that further signals
    are ignored from then on instead of being the end of an interpreter that shuts down.
    """
    former = [(number, signal.signal(number, _hold)) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in former:
            signal.signal(number, signal.SIG_IGN if for_good else handler)
        _held.clear()


def _hold(number: int, _: "FrameType | None") -> None:
    _held.append(number)
    if _is_interruptible:
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Generator[None, None, None]:
    """Around what may wait for ever in the system, like a full pipe that nobody reads.

    A stop signal inside the block raises KeyboardInterrupt; one that is held already does not.
    """
    global _is_interruptible
    _is_interruptible = True
    try:
        yield
    finally:
        _is_interruptible = False


def raise_held() -> None:
    """Raises KeyboardInterrupt when a stop signal is held."""
    if _held:
        raise KeyboardInterrupt


def deliver() -> None:
    """Send the process what was held, once: call it where a receiver is open."""
    numbers, _held[:] = list(_held), ()
    for number in numbers:
        signal.raise_signal(number)


async def deliver_soon() -> None:
    """The same as a task, for a receiver that is opened in the step that starts the task."""
    deliver()


async def until_signal(work: Callable[[], Awaitable[T]]) -> T | None:
    """The result of `work`; None when SIGINT or SIGTERM cancelled it first."""
    import trio  # not before: this module is there before Trio is imported

    result: T | None = None
    failure: Exception | None = None
    with trio.open_signal_receiver(*SIGNALS) as signals:
        deliver()
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            try:
                result = await work()
            except Exception as error:
                failure = error  # raised below: out of a nursery it would come in a group
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result
