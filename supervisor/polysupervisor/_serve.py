"""Handling messages where they are sent, while the one who serves them waits for nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from polysupervisor._mailbox import Mailbox

M = TypeVar("M")

Rest = Callable[[], Awaitable[object]]
"""What is left of handling a batch, as it has to wait."""


class Service(Generic[M]):
    """One task's offer to have its messages handled by whoever sends them.

    It stands while the task is parked: then nothing is queued, and nobody else handles.
    """

    __slots__ = ("_error", "_handle", "_mailbox", "_rest", "_task", "in_flight")

    def __init__(self, mailbox: Mailbox[M], handle: Callable[[list[M]], Rest | None]) -> None:
        self._mailbox = mailbox
        self._handle = handle
        self._task = trio.lowlevel.current_task()
        self._error: BaseException | None = None
        self._rest: Rest | None = None
        self.in_flight = 0
        """Messages that a sender has begun to handle, and that need this task to go on."""

    async def wait(self) -> Rest | None:
        """Park until there is something for this task to do, and return the rest if it is that.

        Raises what the handler raised, also when cancelled meanwhile.
        """
        self.in_flight = 0
        try:
            await self._mailbox.wait(None if self._mailbox.redelivers else self._handle_at_once)
        finally:
            if self._error is not None:
                error, self._error = self._error, None
                try:
                    raise error
                finally:
                    del error  # else the traceback and this frame hold each other
        rest, self._rest = self._rest, None
        return rest

    def _handle_at_once(self, message: M) -> None:
        # The mailbox has withdrawn the offer: what the handler sends to itself is queued.
        try:
            # As in its own task, what the handler finds in context variables is its own.
            self._rest = self._task.context.run(self._handle, [message])
        except BaseException as error:  # whatever it is, it is no affair of who sent the message
            self._error = error
        if self._error is not None or self._rest is not None:
            self.in_flight = 1
            self._mailbox.wake(self._task)
        else:
            self._mailbox.offer(self._task, self._handle_at_once)
