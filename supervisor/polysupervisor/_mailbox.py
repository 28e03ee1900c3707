"""Mailboxes: owned by the supervisor, so they and their addresses outlive every incarnation.

A message counts as handed over when ``receive`` returned it (at most once, as in Erlang and
Akka), unless ``MailboxSpec.redeliver`` says otherwise. Operations are atomic for cancellation:
a cancelled ``receive`` took nothing, a cancelled ``send`` left nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

import trio

from polysupervisor._mailbox_spec import MailboxGap as MailboxGap
from polysupervisor._mailbox_spec import MailboxSpec as MailboxSpec
from polysupervisor._mailbox_spec import MailboxStats as MailboxStats
from polysupervisor._mailbox_spec import Overflow as Overflow

M = TypeVar("M")


class Queued(NamedTuple, Generic[M]):
    """A message with what the mailbox knows of it."""

    message: M
    sent_at: float
    returned: int = 0
    """How often it was put back."""
    key: Hashable = None
    """With ``COALESCE``: so that the supervisor need not run a user's function."""


class _Sender(Generic[M]):
    __slots__ = ("admitted", "message", "task")

    def __init__(self, task: trio.lowlevel.Task, message: M) -> None:
        self.task = task
        self.message = message
        self.admitted = False


def ended_for_good() -> trio.BrokenResourceError:
    """Return what senders and askers get from then on."""
    return trio.BrokenResourceError("the child has ended for good")


def _nobody_cares() -> None:
    """Be what a mailbox tells until it has a supervisor."""


class Mailbox(Generic[M]):
    """A bounded queue with every policy but ``COALESCE``, of which it is the base."""

    __slots__ = (
        "_armed",
        "_at_once",
        "_blocked",
        "_now",
        "_overflow",
        "_overflowing_since",
        "_peak",
        "_queue",
        "_receivers",
        "_redeliver",
        "_returned",
        "_sent_at",
        "_size",
        "_stalls",
        "_touched",
        "coalesced",
        "dropped",
        "lost_in_flight",
        "on_overflow",
        "on_waiting",
        "open",
        "redelivered",
        "sent",
    )

    def __init__(self, spec: MailboxSpec) -> None:
        self._size = spec.size
        self._overflow = spec.overflow
        self._redeliver = spec.redeliver
        self._stalls = spec.stall_after is not None
        self._queue: deque[M] = deque()
        # A list, since an empty deque takes 700 bytes; shifting some thousand floats is cheap.
        self._sent_at: list[float] = []
        # How often each was put back; for the first messages alone, as they return to the front.
        self._returned: list[int] = []
        # Waiting senders in order of arrival. One leaves when its message was moved to the
        # queue, when it is cancelled, or when the mailbox closes.
        self._blocked: dict[_Sender[M], None] = {}
        # Waiting receivers likewise. One leaves as soon as it is woken, so that a burst wakes
        # each of them once: a ParkingLot made that half of the cost of a put.
        self._receivers: dict[trio.lowlevel.Task, None] = {}
        # Handles a message in its sender's task, for a receiver that is parked.
        self._at_once: Callable[[M], None] | None = None
        self.on_overflow: Callable[[], object] = _nobody_cares
        """Told of the first overflow since messages were last taken."""
        self.on_waiting: Callable[[], object] | None = None
        """Told of the first message since ``rearm``."""
        # Trio's own clock, once messages are taken: `trio.current_time` looks it up every time.
        self._now: Callable[[], float] = trio.current_time
        self._armed = self._stalls
        self._touched = 0.0
        self._peak = 0  # up to the last time that the queue became shorter
        # Since when a message has waited, those discarded included.
        self._overflowing_since: float | None = None
        self.open = True
        self.sent = 0
        self.coalesced = 0
        self.dropped = 0
        self.lost_in_flight = 0
        self.redelivered = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def peak(self) -> int:
        """Most messages that were ever queued."""
        return max(self._peak, len(self))

    @property
    def redelivers(self) -> bool:
        """Whether what was in flight is to be put back."""
        return self._redeliver > 0

    # Sending.

    def put(self, message: M) -> None:
        """Queue a message and wake a receiver, or raise ``WouldBlock`` or ``Broken…Error``.

        While a receiver offers to, the message is handled at once instead.
        """
        if not self.open:
            raise ended_for_good()
        at_once = self._at_once
        if at_once is not None:
            self._at_once = None
            self.sent += 1
            at_once(message)
            return
        # A full queue with waiting senders always stays full: a take lets the first one in.
        if len(self._queue) < self._size or self._make_room():
            self._queue.append(message)
            self._sent_at.append(self._now())
        else:
            self.dropped += 1
        self.sent += 1
        if self._receivers or self._armed:
            self._announce()

    def _announce(self) -> None:
        if self._receivers:
            self.wake(next(iter(self._receivers)))
        if self._armed and self.on_waiting is not None:
            self._armed = False
            self.on_waiting()

    def _note_overflow(self) -> None:
        if self._overflowing_since is None:
            self._overflowing_since = self.oldest_sent_at()
            self.on_overflow()

    def _make_room(self) -> bool:
        """Discard what is queued, as the policy says; return whether the new message fits."""
        self._peak = self.peak
        self._note_overflow()
        if self._overflow is Overflow.DROP_OLDEST:
            excess = len(self._queue) - self._size + 1
            self.dropped += excess
            self._remove(excess)
            return True
        if self._overflow is Overflow.DROP_NEWEST:
            return False
        if self._overflow is Overflow.CLEAR_AND_GAP:
            fits = self._size > 1
            since = self._sent_at[0]
            gaps = [entry.dropped for entry in self._queue if isinstance(entry, MailboxGap)]
            unread = len(self._queue) - len(gaps)
            self.dropped += unread
            self._clear()
            gap: Any = MailboxGap(sum(gaps) + unread + (not fits))
            self._queue.append(gap)
            self._sent_at.append(since)
            return fits
        raise trio.WouldBlock

    async def send(self, message: M) -> None:
        """Queue a message, waiting for room where the policy says so."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._overflow is not Overflow.BLOCK or len(self._queue) < self._size or not self.open:
            self.put(message)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        sender = _Sender(trio.lowlevel.current_task(), message)
        self._blocked[sender] = None

        def leave(_: object) -> trio.lowlevel.Abort:
            del self._blocked[sender]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
        if not sender.admitted:
            raise ended_for_good()

    def _admit(self) -> None:
        while self._blocked and len(self._queue) < self._size:
            sender = next(iter(self._blocked))
            del self._blocked[sender]
            self.put(sender.message)
            sender.admitted = True
            trio.lowlevel.reschedule(sender.task)

    # Receiving.

    async def wait(self, at_once: Callable[[M], None] | None = None) -> None:
        """Wait until there may be a message, or ``wake_all`` is called.

        ``at_once`` is the offer to handle messages meanwhile, each in its sender's task. It is
        withdrawn for each call, and made again by ``offer``; it must not raise.
        """
        task = trio.lowlevel.current_task()
        self._receivers[task] = None
        self._at_once = at_once

        def leave(_: object) -> trio.lowlevel.Abort:
            self._leave(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    def offer(self, task: trio.lowlevel.Task, at_once: Callable[[M], None]) -> None:
        """Handle messages again in the tasks that send them, if ``task`` waits still."""
        if task in self._receivers:
            self._at_once = at_once

    def wake(self, task: trio.lowlevel.Task) -> None:
        """Let one look again, if it waits still."""
        if task in self._receivers:
            self._leave(task)
            trio.lowlevel.reschedule(task)

    def wake_all(self) -> None:
        """Let all who wait look again."""
        for task in list(self._receivers):
            self.wake(task)

    def _leave(self, task: trio.lowlevel.Task) -> None:
        del self._receivers[task]
        self._at_once = None

    def take(self, count: int) -> list[M]:
        """Remove and return the oldest messages, at most ``count``, without waiting."""
        self._now = trio.lowlevel.current_clock().current_time
        self._peak = self.peak
        self._overflowing_since = None
        self.touch()
        taken = self._remove(count)
        self._admit()
        return taken

    def _remove(self, count: int) -> list[M]:
        queue = self._queue
        if count >= len(queue):
            taken = list(queue)
            self._clear()
            return taken
        del self._returned[:count]
        del self._sent_at[:count]
        return [queue.popleft() for _ in range(count)]

    def _clear(self) -> None:
        self._queue.clear()
        self._sent_at.clear()
        self._returned.clear()

    def front(self, count: int) -> list[Queued[M]]:
        """Return what ``take`` would, with all that ``put_back`` needs."""
        returned = self._returned[:count]
        returned += [0] * (min(count, len(self._queue)) - len(returned))
        return [Queued(*entry) for entry in zip(self._queue, self._sent_at, returned, strict=False)]

    def put_back(self, entries: Sequence[Queued[M]]) -> int:
        """Return messages to the front, in this order and whether or not there is room.

        Those that were put back as often as allowed are lost; returns how many that are.
        """
        kept = [entry for entry in entries if entry.returned < self._redeliver]
        self._restore([entry._replace(returned=entry.returned + 1) for entry in kept])
        self.redelivered += len(kept)
        return len(entries) - len(kept)

    def _restore(self, entries: list[Queued[M]]) -> None:
        for entry in reversed(entries):
            self._queue.appendleft(entry.message)
        self._sent_at[:0] = [entry.sent_at for entry in entries]
        self._returned[:0] = [entry.returned for entry in entries]

    # The end, and between two incarnations.

    def drop_all(self) -> None:
        """Discard and count what is queued; senders that wait are let in."""
        gaps = sum(isinstance(entry, MailboxGap) for entry in self._queue)
        self.dropped += len(self) - gaps
        self._peak = self.peak
        self._overflowing_since = None
        self._clear()
        self._admit()

    def close(self) -> None:
        """Refuse further messages and release waiting senders with an error; idempotent."""
        self.open = False
        blocked, self._blocked = self._blocked, {}
        for sender in blocked:
            trio.lowlevel.reschedule(sender.task)

    # What is known of it.

    def rearm(self) -> None:
        """Call ``on_waiting`` again, when the next message is queued."""
        self._armed = self._stalls

    def touch(self) -> None:
        """Note that the child makes progress, if it can stall."""
        if self._stalls:
            self._touched = self._now()

    def waiting_since(self) -> float | None:
        """Since when a message has waited without progress, on Trio's clock; ``None``: none has.

        Messages discarded on overflow have waited too: a child that never receives has stalled,
        however young what is queued now.
        """
        oldest = self.oldest_sent_at()
        if oldest is None:
            return None
        since = self._overflowing_since
        return max(oldest if since is None else min(oldest, since), self._touched)

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
            redelivered=self.redelivered,
        )


class CoalescingMailbox(Mailbox[M]):
    """Keeps one message per key: the newest, at the place of the oldest."""

    __slots__ = ("_by_key", "_key")

    def __init__(self, spec: MailboxSpec, key: Callable[[M], Hashable]) -> None:
        super().__init__(spec)
        self._key = key
        # A dictionary keeps a key's place when its value is replaced.
        self._by_key: dict[Hashable, Queued[M]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def put(self, message: M) -> None:
        """Queue a message, or replace one, and wake a receiver; raises as the others do."""
        if not self.open:
            raise ended_for_good()
        key = self._key(message)
        queued = self._by_key.get(key)
        if queued is not None:
            self._by_key[key] = Queued(message, queued.sent_at, key=key)
            self.coalesced += 1
        elif len(self._by_key) < self._size:
            self._by_key[key] = Queued(message, self._now(), key=key)
        else:
            self._note_overflow()
            raise trio.WouldBlock
        self.sent += 1
        self._announce()

    def _remove(self, count: int) -> list[M]:
        return [self._by_key.pop(entry.key).message for entry in self.front(count)]

    def _clear(self) -> None:
        self._by_key.clear()

    def front(self, count: int) -> list[Queued[M]]:
        """Return the entries of the oldest keys, at most ``count``."""
        return [*islice(self._by_key.values(), count)]

    def put_back(self, entries: Sequence[Queued[M]]) -> int:
        """Return those to the front of whose key no newer one is there; it wins, and counts."""
        newest = {entry.key: entry for entry in entries}
        kept = [entry for key, entry in newest.items() if key not in self._by_key]
        self.coalesced += len(entries) - len(kept)
        return super().put_back(kept)

    def _restore(self, entries: list[Queued[M]]) -> None:
        self._by_key = {entry.key: entry for entry in entries} | self._by_key

    def oldest_sent_at(self) -> float | None:
        """When the oldest key was queued, on Trio's clock."""
        return next((entry.sent_at for entry in self._by_key.values()), None)


def make_mailbox(spec: MailboxSpec) -> Mailbox[Any]:
    """Return the mailbox that a specification asks for."""
    return Mailbox[Any](spec) if spec.key is None else CoalescingMailbox[Any](spec, spec.key)
