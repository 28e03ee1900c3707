"""The receiving side of a mailbox, as one incarnation has it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import CORO_CLOSED, getcoroutinestate
from typing import Generic, TypeVar

import trio

from polysupervisor._mailbox import Mailbox, Queued
from polysupervisor._serve import Rest, Service

M = TypeVar("M")


class Inbox(Generic[M]):
    """The receiving side of a mailbox, lent to one incarnation.

    Receiving for the first time also says that the incarnation is ready. After a stop was
    requested the queued messages can still be received; then ``receive`` and ``receive_batch``
    raise ``trio.EndOfChannel`` and iteration ends. After the incarnation has ended they raise
    ``trio.ClosedResourceError``.

    Several tasks of one incarnation may receive. What a task received last is *in flight* until
    it calls for more: if the incarnation fails, that is lost, or delivered again
    (``MailboxSpec.redeliver``).
    """

    __slots__ = ("_closed", "_counts", "_ending", "_entries", "_mailbox", "_on_receive")

    def __init__(self, mailbox: Mailbox[M], on_receive: Callable[[], object]) -> None:
        self._mailbox = mailbox
        self._on_receive = on_receive
        self._ending = False
        self._closed = False
        # In the order of their receives, so that what is put back is in the order of the queue.
        self._counts: dict[trio.lowlevel.Task, int] = {}
        self._entries: dict[trio.lowlevel.Task, list[Queued[M]]] = {}

    @property
    def queued(self) -> int:
        """Messages that wait to be received."""
        return len(self._mailbox)

    async def receive(self) -> M:
        """Wait for a message and return it."""
        return (await self.receive_batch(1))[0]

    async def receive_batch(self, max_n: int = 256) -> list[M]:
        """Wait for a message; return it and what else is queued, at most ``max_n``, at least 1.

        One checkpoint for the whole batch. Raises ``ValueError`` if ``max_n`` is below 1.
        """
        if max_n < 1:
            raise ValueError(f"max_n must be at least 1, was {max_n}")
        mailbox = self._mailbox
        task = trio.lowlevel.current_task()
        self._counts.pop(task, None)
        self._entries.pop(task, None)
        self._on_receive()
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while self._closed or not mailbox:
            if self._closed:
                raise trio.ClosedResourceError("this incarnation has ended")
            if self._ending:
                raise trio.EndOfChannel
            await mailbox.wait()
            waited = True
        if self._counts:
            self._forget_ended_tasks()
        if mailbox.redelivers:
            self._entries[task] = mailbox.front(max_n)
        messages = mailbox.take(max_n)
        self._counts[task] = len(messages)
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return messages

    async def serve(self, handle: Callable[[list[M]], Rest | None], max_n: int = 256) -> None:
        """Let ``handle`` take every message until a stop is requested and none is left.

        Where ``receive_batch`` costs a wake-up for each batch, this costs none: while nothing is
        queued, a message is handled at once, in the task that sends it. Everything else is as
        though this task had received it: what ``handle`` raises ends this incarnation and not
        the sender, who hears nothing of it, and context variables are this task's. What is sent
        before this task waits, while it is down, or by the handler to itself is queued as ever,
        and handled here, at most ``max_n`` in one call.

        ``handle`` cannot wait. If something in it would have to, it returns an async function
        with the rest: that runs in this task, and what is sent meanwhile is queued. It must not
        use what belongs to the running task, such as cancel scopes.

        Mailboxes that coalesce or redeliver are served, too, by wake-ups. *Cancellation*: a
        batch is handled or was not taken, but for a rest that waits. Raises ``ValueError`` if
        ``max_n`` is below 1, ``trio.ClosedResourceError`` after the incarnation has ended.
        """
        if max_n < 1:
            raise ValueError(f"max_n must be at least 1, was {max_n}")
        service = Service(self._mailbox, handle)
        task = trio.lowlevel.current_task()
        while True:
            if self._closed or self._ending or self._mailbox:
                try:
                    rest = handle(await self.receive_batch(max_n))
                except trio.EndOfChannel:
                    return
            else:
                rest = await self._wait_in_service(service, task)
            if rest is not None:
                await rest()

    async def _wait_in_service(self, service: Service[M], task: trio.lowlevel.Task) -> Rest | None:
        self._counts.pop(task, None)
        self._entries.pop(task, None)
        self._on_receive()
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return await service.wait()
        finally:
            self._counts[task] = service.in_flight

    def _forget_ended_tasks(self) -> None:
        # What they received is handled: had one failed, this one could not receive any more.
        for task in list(self._counts):
            if getcoroutinestate(task.coro) == CORO_CLOSED:
                del self._counts[task]
                self._entries.pop(task, None)

    def __aiter__(self) -> Inbox[M]:
        return self

    async def __anext__(self) -> M:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def end(self) -> None:
        """Let receivers end once the mailbox is empty. For the runtime."""
        self._ending = True
        self._mailbox.wake_all()

    def take_back(self, *, failed: bool) -> int:
        """Take the mailbox back: the incarnation has ended. For the runtime; idempotent.

        If it failed, what it had in flight is put back or counted as lost; returns how many
        messages were lost.
        """
        self._closed = True
        lost = 0
        if failed and self._mailbox.redelivers:
            entries = [entry for batch in self._entries.values() for entry in batch]
            lost = self._mailbox.put_back(entries)
        elif failed:
            lost = sum(self._counts.values())
        self._mailbox.lost_in_flight += lost
        self._counts.clear()
        self._entries.clear()
        self._mailbox.wake_all()
        return lost
