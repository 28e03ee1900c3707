"""The stream of events: one publisher side, any number of bounded subscriptions.

Publishing never waits: a slow subscriber hurts only itself, and is told so in its own stream.
When its queue is full, book updates coalesce (the latest of each token stays, in its newest
place); if even that is not enough the oldest events go, and a Gap with the reason overflow
stands where they were. Trades and trust changes are therefore never lost silently.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

import trio

from polyactors.book.trust import StaleReason
from polyactors.events import BookUpdated, Event, Gap

QUEUE_EVENTS_MAX = 65_536
"""Events that a subscription holds for a reader who is behind."""


class Subscription:
    """One reader's view of the stream. Iterate it; it ends when the service has stopped.

    Not for two readers at once. Close it (or use it in a `with`) when the reader stops before
    the service does, or it goes on collecting up to its limit.
    """

    def __init__(
        self, close: "Callable[[Subscription], None]", clock_ns: Callable[[], int], limit: int
    ) -> None:
        self._events: deque[Event] = deque()
        self._close = close
        self._clock_ns = clock_ns
        self._limit = limit
        self._wake = trio.Event()
        self._ended = False
        self.coalesced = 0
        """Book updates that a newer one of the same token replaced while the reader was behind."""
        self.lost = 0
        """Events given up; each run of them is marked by a Gap with the reason overflow."""

    @property
    def held(self) -> int:
        """Events that wait for the reader."""
        return len(self._events)

    def push(self, events: Iterable[Event]) -> None:
        """Add events; never waits. Called by the hub."""
        self._events.extend(events)
        if len(self._events) > self._limit:
            self._shrink()
        self._wake.set()

    def end(self) -> None:
        """No more events will come: the reader gets what is left, then the end."""
        self._ended = True
        self._wake.set()

    def close(self) -> None:
        """Stop collecting. Idempotent."""
        self._close(self)
        self._events.clear()
        self.end()

    async def receive_batch(self) -> list[Event]:
        """All that has come since the last call, at least one event.

        Raises trio.EndOfChannel after the end. Cancellation: nothing is lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._events:
            if self._ended:
                raise trio.EndOfChannel
            self._wake = trio.Event()
            await self._wake.wait()
        batch = list(self._events)
        self._events.clear()
        return batch

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()  # before the look: what is taken is handed over
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._wake = trio.Event()
            await self._wake.wait()
        return self._events.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shrink(self) -> None:
        latest: dict[str, int] = {}
        for index, event in enumerate(self._events):
            if isinstance(event, BookUpdated):
                latest[event.token] = index
        before = len(self._events)
        self._events = deque(
            event
            for index, event in enumerate(self._events)
            if not isinstance(event, BookUpdated) or latest[event.token] == index
        )
        self.coalesced += before - len(self._events)
        # Half the room must be free again, or a full queue would shrink at every push.
        excess = len(self._events) - self._limit // 2
        if len(self._events) <= self._limit:
            return
        for _ in range(excess):
            self._events.popleft()
        self.lost += excess
        self._events.appendleft(
            Gap(
                time_ns=self._clock_ns(),
                feed=None,
                epoch=None,
                token=None,
                reason=StaleReason.OVERFLOW,
            )
        )


class EventHub:
    """Where actors publish and users subscribe."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._subscriptions: list[Subscription] = []
        self._ended = False

    def publish(self, events: list[Event]) -> None:
        """Hand events to every subscription, in order. Never waits, never raises."""
        for subscription in self._subscriptions:
            subscription.push(events)

    def subscribe(self, limit: int = QUEUE_EVENTS_MAX) -> Subscription:
        """A subscription from now on that holds at most `limit` events (at least 2)."""
        assert limit >= 2
        subscription = Subscription(self._remove, self._clock_ns, limit)
        self._subscriptions.append(subscription)
        if self._ended:
            subscription.end()
        return subscription

    def end(self) -> None:
        """The service has stopped: every subscription ends after what it still holds."""
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()

    def _remove(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
