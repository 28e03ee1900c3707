"""Mailboxes: owned by the supervisor, so they and their addresses outlive every incarnation.

A message counts as handed over when ``receive`` returned it (at most once, as in Erlang and
Akka). Operations are atomic for cancellation: a cancelled ``receive`` took nothing, a cancelled
``send`` left nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Any, Generic, TypeVar

import attrs
import trio

from polysupervisor.errors import NoMailbox

M = TypeVar("M")


class Overflow(Enum):
    """What a full mailbox does with one more message."""

    BLOCK = "block"
    """``send`` waits for room, first come first served; ``send_nowait`` raises
    ``trio.WouldBlock``."""
    ERROR = "error"
    """``send`` and ``send_nowait`` raise ``trio.WouldBlock``."""
    COALESCE = "coalesce"
    """A message replaces the queued one of the same key, in its place. Neither send ever waits;
    a message of one more *distinct* key than ``size`` raises ``trio.WouldBlock``."""


@attrs.frozen
class MailboxSpec:
    """The mailbox of a child. Raises ``ValueError`` if ``key`` and ``COALESCE`` come apart."""

    size: int = attrs.field(default=256, validator=attrs.validators.ge(1))
    """Messages (with ``COALESCE``: distinct keys) that it holds; at least 1."""
    overflow: Overflow = Overflow.BLOCK
    """What happens when it is full."""
    key: Callable[[Any], Hashable] | None = None
    """Which messages are the same, for ``COALESCE`` and only for it; runs in the sender."""
    keep_on_restart: bool = True
    """Whether the next incarnation gets what is queued. If not, the queue is emptied (and the
    messages counted as dropped) when the old incarnation has ended, and once more when its
    whole group has; what is sent from then on is kept for the next incarnation."""

    def __attrs_post_init__(self) -> None:
        if (self.key is not None) != (self.overflow is Overflow.COALESCE):
            raise ValueError("key and Overflow.COALESCE need each other")


@attrs.frozen
class MailboxStats:
    """Figures of one mailbox, over all incarnations."""

    depth: int
    """Messages queued now."""
    peak: int
    """Most messages that were ever queued."""
    blocked: int
    """Senders waiting for room now."""
    sent: int
    """Messages accepted so far."""
    coalesced: int
    """Messages of these that replaced a queued one."""
    dropped: int
    """Messages discarded unread: at restarts with ``keep_on_restart=False`` and at the end."""
    oldest_age: float
    """Seconds since the oldest queued message was sent; 0.0 when there is none."""
    lost_in_flight: int
    """Messages received by incarnations that failed before they received again."""


class _Sender(Generic[M]):
    __slots__ = ("admitted", "message", "task")

    def __init__(self, task: trio.lowlevel.Task, message: M) -> None:
        self.task = task
        self.message = message
        self.admitted = False


def _ended_for_good() -> trio.BrokenResourceError:
    return trio.BrokenResourceError("the child has ended for good")


class Mailbox(Generic[M]):
    """A bounded queue with the policies ``BLOCK`` and ``ERROR``; the base of the others."""

    __slots__ = (
        "_blocked",
        "_parked",
        "_queue",
        "_receivers",
        "_sent_at",
        "_size",
        "_waits",
        "coalesced",
        "dropped",
        "lost_in_flight",
        "open",
        "peak",
        "sent",
    )

    def __init__(self, spec: MailboxSpec) -> None:
        self._size = spec.size
        self._waits = spec.overflow is Overflow.BLOCK
        self._queue: deque[M] = deque()
        self._sent_at: deque[float] = deque()
        # Waiting senders in order of arrival. One leaves when its message was moved to the
        # queue, when it is cancelled, or when the mailbox closes.
        self._blocked: dict[_Sender[M], None] = {}
        self._receivers = trio.lowlevel.ParkingLot()
        self._parked = 0  # asking the lot costs more than the rest of a put
        self.open = True
        self.sent = 0
        self.peak = 0
        self.coalesced = 0
        self.dropped = 0
        self.lost_in_flight = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, message: M) -> None:
        """Queue a message and wake a receiver, or raise ``WouldBlock`` or ``Broken…Error``."""
        if not self.open:
            raise _ended_for_good()
        self._store(message)
        self.sent += 1
        depth = len(self)
        if depth > self.peak:
            self.peak = depth
        if self._parked:
            self._receivers.unpark()

    def _store(self, message: M) -> None:
        # A full queue with waiting senders always stays full: a take lets the first one in.
        if len(self._queue) >= self._size:
            raise trio.WouldBlock
        self._queue.append(message)
        self._sent_at.append(trio.current_time())

    async def send(self, message: M) -> None:
        """Queue a message, waiting for room where the policy says so."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.put(message)
        except trio.WouldBlock:
            if not self._waits:
                raise
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        sender = _Sender(trio.lowlevel.current_task(), message)
        self._blocked[sender] = None

        def leave(_: object) -> trio.lowlevel.Abort:
            del self._blocked[sender]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
        if not sender.admitted:
            raise _ended_for_good()

    async def wait(self) -> None:
        """Wait until there may be a message, or ``wake_all`` is called."""
        self._parked += 1
        try:
            await self._receivers.park()
        finally:
            self._parked -= 1

    def wake_all(self) -> None:
        """Let all who wait look again."""
        self._receivers.unpark_all()

    def take(self, count: int) -> list[M]:
        """Remove and return the oldest messages, at most ``count``, without waiting."""
        queue, times = self._queue, self._sent_at
        if count >= len(queue):
            taken = list(queue)
            queue.clear()
            times.clear()
        else:
            taken = [queue.popleft() for _ in range(count)]
            for _ in range(count):
                times.popleft()
        self._admit()
        return taken

    def _admit(self) -> None:
        while self._blocked and len(self._queue) < self._size:
            sender = next(iter(self._blocked))
            del self._blocked[sender]
            self.put(sender.message)
            sender.admitted = True
            trio.lowlevel.reschedule(sender.task)

    def drop_all(self) -> None:
        """Discard and count what is queued; senders that wait are let in."""
        self.dropped += len(self)
        self._clear()
        self._admit()

    def _clear(self) -> None:
        self._queue.clear()
        self._sent_at.clear()

    def close(self) -> None:
        """Refuse further messages and release waiting senders with an error; idempotent."""
        self.open = False
        blocked, self._blocked = self._blocked, {}
        for sender in blocked:
            trio.lowlevel.reschedule(sender.task)

    def oldest_sent_at(self) -> float | None:
        """When the oldest queued message was sent, on Trio's clock."""
        return self._sent_at[0] if self._sent_at else None

    def stats(self) -> MailboxStats:
        """Return the figures as they are now."""
        oldest = self.oldest_sent_at()
        return MailboxStats(
            depth=len(self),
            peak=self.peak,
            blocked=len(self._blocked),
            sent=self.sent,
            coalesced=self.coalesced,
            dropped=self.dropped,
            oldest_age=0.0 if oldest is None else trio.current_time() - oldest,
            lost_in_flight=self.lost_in_flight,
        )


class CoalescingMailbox(Mailbox[M]):
    """Keeps one message per key: the newest, at the place of the oldest."""

    __slots__ = ("_by_key", "_key")

    def __init__(self, spec: MailboxSpec, key: Callable[[M], Hashable]) -> None:
        super().__init__(spec)
        self._key = key
        # A dictionary keeps a key's place when its value is replaced.
        self._by_key: dict[Hashable, tuple[float, M]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def _store(self, message: M) -> None:
        key = self._key(message)
        queued = self._by_key.get(key)
        if queued is not None:
            self._by_key[key] = (queued[0], message)
            self.coalesced += 1
        elif len(self._by_key) < self._size:
            self._by_key[key] = (trio.current_time(), message)
        else:
            raise trio.WouldBlock

    def take(self, count: int) -> list[M]:
        """Remove and return the messages of the oldest keys, at most ``count``."""
        keys = list(self._by_key)[:count]
        return [self._by_key.pop(key)[1] for key in keys]

    def _clear(self) -> None:
        self._by_key.clear()

    def oldest_sent_at(self) -> float | None:
        """When the oldest key was queued, on Trio's clock."""
        return next((at for at, _ in self._by_key.values()), None)


def make_mailbox(spec: MailboxSpec) -> Mailbox[Any]:
    """Return the mailbox that a specification asks for."""
    return Mailbox[Any](spec) if spec.key is None else CoalescingMailbox[Any](spec, spec.key)


class Inbox(Generic[M]):
    """The receiving side of a mailbox, lent to one incarnation.

    Receiving for the first time also says that the incarnation is ready. After a stop was
    requested the queued messages can still be received; then ``receive`` and ``receive_batch``
    raise ``trio.EndOfChannel`` and iteration ends. After the incarnation has ended they raise
    ``trio.ClosedResourceError``. Several tasks of one incarnation may receive.
    """

    __slots__ = ("_closed", "_ending", "_mailbox", "_on_receive", "in_flight")

    def __init__(self, mailbox: Mailbox[M], on_receive: Callable[[], object]) -> None:
        self._mailbox = mailbox
        self._on_receive = on_receive
        self._ending = False
        self._closed = False
        self.in_flight = 0
        """Messages handed out by the last receive and not yet followed by another."""

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
        self.in_flight = 0
        self._on_receive()
        await trio.lowlevel.checkpoint_if_cancelled()
        parked = False
        while not mailbox or self._closed:
            if self._closed:
                raise trio.ClosedResourceError("this incarnation has ended")
            if self._ending:
                raise trio.EndOfChannel
            await mailbox.wait()
            parked = True
        messages = mailbox.take(max_n)
        self.in_flight = len(messages)
        if not parked:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return messages

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

    def close(self) -> None:
        """Take the mailbox back: the incarnation has ended. For the runtime."""
        self._closed = True
        self._mailbox.wake_all()


class Address(Generic[M]):
    """Where to send messages for a child: valid before its start and across its restarts.

    While the child is down messages are queued. When it has ended for good (it finished, was
    stopped by command, was given up, or its supervisor ended) senders, also those that wait,
    get ``trio.BrokenResourceError``; ``restart_child`` makes the address valid again.
    """

    __slots__ = ("_box", "id")

    def __init__(self, id: str, box: Mailbox[M] | None) -> None:  # noqa: A002 - its name in a spec
        self.id = id
        """Id of the child."""
        self._box = box

    def __repr__(self) -> str:
        return f"<Address of {self.id}>"

    @property
    def _mailbox(self) -> Mailbox[M]:
        if self._box is None:
            raise NoMailbox(f"{self.id} was specified without a mailbox")
        return self._box

    async def send(self, msg: M) -> None:
        """Queue a message; a full mailbox waits or raises as ``Overflow`` says.

        *Cancellation*: a cancelled send has left nothing. *Error handling*: raises
        ``trio.BrokenResourceError`` when the child has ended for good, ``NoMailbox`` when it
        was specified without one.
        """
        await self._mailbox.send(msg)

    def send_nowait(self, msg: M) -> None:
        """Queue a message or raise ``trio.WouldBlock``; a coalescing mailbox replaces instead."""
        self._mailbox.put(msg)

    def stats(self) -> MailboxStats:
        """Return the figures of the mailbox."""
        return self._mailbox.stats()
