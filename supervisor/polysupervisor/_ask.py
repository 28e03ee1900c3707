"""Questions to a child, and their answers."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import trio

from polysupervisor._exit import ExitReason
from polysupervisor._life import Life, Watcher
from polysupervisor._mailbox import ended_for_good

R = TypeVar("R")


class Reply(Generic[R]):
    """Where the answer to one ``Address.ask`` goes; part of the message that asks.

    The first answer wins and later ones are ignored, as is one that comes after the asker has
    stopped waiting: to answer never fails. It may be handed on to another actor. Call it from
    Trio's thread.
    """

    __slots__ = ("_answered", "_error", "_value")

    _value: R

    def __init__(self) -> None:
        self._answered = trio.Event()
        self._error: Exception | None = None

    def send(self, value: R) -> None:
        """Answer: ``ask`` returns ``value``."""
        if not self._answered.is_set():
            self._value = value
            self._answered.set()

    def fail(self, error: Exception) -> None:
        """Refuse: ``ask`` raises ``error``. Raises ``TypeError`` for what is no ``Exception``."""
        if not isinstance(error, Exception):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"an asker is refused by an Exception, was {error!r}")
        if not self._answered.is_set():
            self._error = error
            self._answered.set()

    async def _wait(self) -> R:
        # Without this an answer that is there could still be lost to the timeout.
        if not self._answered.is_set():
            await self._answered.wait()
        if self._error is not None:
            raise self._error
        return self._value


async def answer_to(reply: Reply[R]) -> R:
    """Wait for the answer; no checkpoint if it is there. For the runtime."""
    return await reply._wait()  # pyright: ignore[reportPrivateUsage] - not for users


class EndWatch(Watcher):
    """Refuses a question when the child has ended for good."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply[Any]) -> None:
        self._reply = reply

    def on_up(self, life: Life) -> None:
        """Go on waiting."""

    def on_down(self, life: Life, reason: ExitReason, *, failed: bool) -> None:
        """Go on waiting: the next incarnation may answer, if the question is still queued."""

    def on_rest(self, life: Life) -> None:
        """Its mailbox is closed."""
        self._reply.fail(ended_for_good())

    def on_end(self, life: Life) -> None:
        """There will be no incarnation."""
        self._reply.fail(ended_for_good())
