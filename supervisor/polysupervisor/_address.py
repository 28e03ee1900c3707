"""Where to send messages for a child."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio

from polysupervisor._ask import EndWatch, Reply, answer_to
from polysupervisor._life import Life
from polysupervisor._mailbox import Mailbox, MailboxStats
from polysupervisor.errors import NoMailbox

M = TypeVar("M")
R = TypeVar("R")


class Address(Generic[M]):
    """Where to send messages for a child: valid before its start and across its restarts.

    While the child is down messages are queued. When it has ended for good (it finished, was
    stopped by command, was given up, or its supervisor ended) senders, also those that wait,
    get ``trio.BrokenResourceError``; ``restart_child`` makes the address valid again.
    Addresses of the same child are equal.
    """

    __slots__ = ("_box", "_life", "id")

    def __init__(
        self,
        id: str,  # noqa: A002 - its name in a spec
        box: Mailbox[M] | None,
        life: Life,
    ) -> None:
        self.id = id
        """Id of the child within its supervisor."""
        self._box = box
        self._life = life

    @property
    def path(self) -> str:
        """Ids from the root down, joined by ``/``."""
        return self._life.path

    def __repr__(self) -> str:
        return f"<Address of {self.path}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and other._life is self._life

    def __hash__(self) -> int:
        return hash(self._life)

    @property
    def _mailbox(self) -> Mailbox[M]:
        if self._box is None:
            raise NoMailbox(f"{self.path} was specified without a mailbox")
        return self._box

    async def send(self, msg: M) -> None:
        """Queue a message; a full mailbox waits, raises or discards as ``Overflow`` says.

        *Cancellation*: a cancelled send has left nothing. *Error handling*: raises
        ``trio.BrokenResourceError`` when the child has ended for good, ``trio.WouldBlock`` where
        ``Overflow`` says so, ``NoMailbox`` when it was specified without one.
        """
        await self._mailbox.send(msg)

    def send_nowait(self, msg: M) -> None:
        """Queue a message at once, or raise as ``send`` does; ``trio.WouldBlock`` for waiting."""
        (self._mailbox if self._box is None else self._box).put(msg)

    async def ask(self, make: Callable[[Reply[R]], M], *, timeout: float) -> R:
        """Send the message that ``make`` returns for a ``Reply``, and return what is replied.

        ``timeout``: seconds for all of it, waiting for room included. A question is a message
        like any other: if an incarnation fails with it in flight it is lost, and the timeout is
        what ends the wait.

        *Cancellation*: the message stays queued once it is sent. *Error handling*: raises
        ``trio.TooSlowError`` at the timeout, ``trio.BrokenResourceError`` when the child has
        ended for good, also while waiting, ``trio.WouldBlock`` and ``NoMailbox`` as ``send``
        does, and the error that the actor gave to ``Reply.fail``.
        """
        mailbox = self._mailbox
        reply: Reply[R] = Reply()
        watch = EndWatch(reply)
        with trio.fail_after(timeout):
            message = make(reply)
            # Before the question can arrive: the child may answer, and end, while we send.
            self._life.watch(watch)
            try:
                await mailbox.send(message)
                return await answer_to(reply)
            finally:
                self._life.unwatch(watch)

    def stats(self) -> MailboxStats:
        """Return the figures of the mailbox."""
        return self._mailbox.stats()


def life_of(address: Address[Any]) -> Life:
    """Return the life of the child. For the runtime."""
    return address._life  # pyright: ignore[reportPrivateUsage] - not for users
