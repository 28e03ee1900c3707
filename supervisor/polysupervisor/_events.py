"""What supervisors tell: a stream of events that can never block a supervisor."""

from __future__ import annotations

from collections import deque
from enum import StrEnum

import attrs
import trio

from polysupervisor._exit import ExitReason

SUBSCRIPTION_EVENTS_MAX = 1_000
"""Events that a subscription holds unless told otherwise."""


class EventKind(StrEnum):
    """What happened. Equal to its value, so ``event.kind == "started"`` holds."""

    STARTING = "starting"
    """An incarnation is being started."""
    STARTED = "started"
    """It is ready."""
    IGNORED = "ignored"
    """It said that it need not run, and returned."""
    START_FAILED = "start_failed"
    """It ended, or ran out of time, before it was ready; ``reason`` says how."""
    EXITED = "exited"
    """It ended although nobody had asked it to; ``reason`` says how."""
    RESTART_SCHEDULED = "restart_scheduled"
    """A restart follows after ``delay`` seconds; it is consecutive restart ``attempt``."""
    STOPPING = "stopping"
    """It was asked to stop."""
    STOPPED = "stopped"
    """It ended by itself after it was asked to; ``reason`` says how."""
    KILLED = "killed"
    """It ended after it had to be cancelled; ``reason`` says how."""
    WEDGED = "wedged"
    """It is still there ``Shutdown.kill`` seconds after it was cancelled."""
    STALLED = "stalled"
    """It leaves messages waiting without receiving, so it is stopped as failed."""
    INTENSITY = "intensity"
    """A failure of this child exhausted the restart intensity (or its ``max_attempts``)."""
    GAVE_UP = "gave_up"
    """This child stays down."""
    ESCALATED = "escalated"
    """This supervisor stops all children and fails; ``reason`` is its child's last exit."""
    LOST_IN_FLIGHT = "lost_in_flight"
    """An incarnation failed between a receive and the next: its last message or batch may be
    lost or half done (delivery is at most once); mailbox statistics hold the count."""
    OVERFLOW = "overflow"
    """Its mailbox is full and has refused or dropped a message; once until it is read again."""


@attrs.frozen
class Event:
    """One fact about one child or supervisor."""

    seq: int
    """Number on its bus, from 1, without gaps: a jump at a subscriber is a drop."""
    t: float
    """``trio.current_time()`` in seconds."""
    path: str
    """Whom it is about, such as ``root/core/feeds/feed-0/connection``."""
    incarnation: int
    """Which incarnation, from 1; 0 before the first."""
    kind: EventKind
    """What happened."""
    reason: ExitReason | None = None
    """How an incarnation ended, where the kind says so."""
    delay: float | None = None
    """Seconds until the restart, of ``restart_scheduled``."""
    attempt: int | None = None
    """Consecutive restarts including this one, of ``restart_scheduled``."""


class Subscription(trio.abc.ReceiveChannel[Event]):
    """A bounded queue of events for one reader, who is never waited for.

    ``receive`` raises ``trio.EndOfChannel`` when the bus was closed and the queue is empty, and
    ``trio.ClosedResourceError`` after ``aclose``; iteration ends at the former. *Cancellation*:
    no event is lost by a cancelled ``receive``.
    """

    def __init__(self, bus: EventBus, maxlen: int) -> None:
        self._bus = bus
        self._events: deque[Event] = deque(maxlen=maxlen)
        self._readers = trio.lowlevel.ParkingLot()
        self._closed = False
        self.dropped = 0
        """Events that this reader was too slow for; the oldest are dropped first."""

    @property
    def pending(self) -> int:
        """Events that can be received without waiting."""
        return len(self._events)

    def deliver(self, event: Event) -> None:
        """Queue an event, dropping the oldest when full. For the bus."""
        if len(self._events) == self._events.maxlen:
            self.dropped += 1
        self._events.append(event)
        self._readers.unpark()

    def wake(self) -> None:
        """Let waiting readers look again. For the bus."""
        self._readers.unpark_all()

    def receive_nowait(self) -> Event:
        """Return the oldest event, or raise ``trio.WouldBlock`` if there is none."""
        if self._closed:
            raise trio.ClosedResourceError
        if self._events:
            return self._events.popleft()
        if self._bus.closed:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> Event:
        """Wait for the oldest event and return it."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self._readers.park()

    async def aclose(self) -> None:
        """Leave the bus; idempotent."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Leave the bus without a checkpoint; idempotent."""
        self._closed = True
        self._events.clear()
        self._bus.forget(self)
        self.wake()


class EventBus:
    """Hands every event to every subscriber, without ever waiting for one.

    The root supervisor makes one unless it is given one, and closes only the one it made. All
    supervisors below share it.
    """

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._seq = 0
        self.closed = False
        """Whether no further event will come."""

    @property
    def dropped(self) -> int:
        """Events dropped at the present subscribers, together."""
        return sum(each.dropped for each in self._subscriptions)

    def subscribe(self, maxlen: int = SUBSCRIPTION_EVENTS_MAX) -> Subscription:
        """Return a queue of the events from now on, holding at most ``maxlen`` of them.

        The caller closes it (``async with`` or ``aclose``). Raises ``ValueError`` when
        ``maxlen`` is below 1.
        """
        if maxlen < 1:
            raise ValueError(f"maxlen must be at least 1, was {maxlen}")
        subscription = Subscription(self, maxlen)
        self._subscriptions.add(subscription)
        return subscription

    def publish(
        self,
        path: str,
        incarnation: int,
        kind: EventKind,
        reason: ExitReason | None = None,
        delay: float | None = None,
        attempt: int | None = None,
    ) -> None:
        """Number an event, stamp it with the time, and queue it everywhere. For supervisors."""
        self._seq += 1
        if not self._subscriptions:
            return
        now = trio.current_time()
        event = Event(self._seq, now, path, incarnation, kind, reason, delay, attempt)
        for subscription in self._subscriptions:
            subscription.deliver(event)

    def forget(self, subscription: Subscription) -> None:
        """Stop delivering to it."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End the stream: readers get what is queued, then the end; idempotent."""
        self.closed = True
        for subscription in self._subscriptions:
            subscription.wake()
