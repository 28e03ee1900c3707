"""The stream of events: one publisher side, any number of bounded subscriptions.

Publishing never waits: a slow subscriber hurts only itself, and is told so in its own stream.
When its queue is full, book updates coalesce (the latest of each token stays, in its newest
place). If even that is not enough the oldest events are given up, and a Gap with the reason
overflow stands before all that is left; of every token the last update goes after all else, and
the last trust change last of all, with the last state of the account, so that a reader who takes
no notice of the Gap still does not go on trusting a book, or an account, that has turned STALE.
"""

from collections import deque
from collections.abc import Callable
from typing import Self, TypeVar

import trio

from polyactors.book.trust import StaleReason
from polyactors.errors import UsageError
from polyactors.events import AccountStateChanged, BookUpdated, Event, Gap, RawFrame, TrustChanged

QUEUE_EVENTS_MAX = 65_536
"""Events that a subscription holds for a reader who is behind."""
QUEUE_EVENTS_MIN = 2
"""The Gap, and one event behind it."""


class Subscription:
    """One reader's view of the stream. Iterate it; it ends when the service has stopped.

    Several readers share the events: each goes to one of them. Close it (or use it in a `with`)
    when the reader stops before the service does, or it goes on collecting up to its limit.
    """

    def __init__(
        self,
        close: "Callable[[Subscription], None]",
        clock_ns: Callable[[], int],
        limit: int,
        kinds: tuple[type[Event], ...] | None,
    ) -> None:
        self._events: deque[Event] = deque()
        self._close = close
        self._clock_ns = clock_ns
        self._limit = limit
        self._kinds = kinds
        self._wake = trio.Event()
        self._ended = False
        self.coalesced: int = 0
        """Book updates that a newer one of the same token replaced while the reader was behind."""
        self.lost: int = 0
        """Events given up; a Gap with the reason overflow says when there were some."""

    @property
    def held(self) -> int:
        """Events that wait for the reader."""
        return len(self._events)

    @property
    def is_crowded(self) -> bool:
        """Whether half of the room is taken."""
        return len(self._events) > self._limit // 2

    def push(self, events: list[Event]) -> None:
        """Add events; never waits. Called by the hub."""
        if self._kinds is not None:
            events = [event for event in events if isinstance(event, self._kinds)]
            if not events:
                return
        self._add(events)

    def _add(self, events: list[Event]) -> None:
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
            await self._news()
        return self.take_all()

    def take_all(self) -> list[Event]:
        """All that has come since the last call, perhaps nothing; never waits."""
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
            await self._news()
        return self._events.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _news(self) -> None:
        if self._wake.is_set():  # not one that somebody waits for: all readers wake up
            self._wake = trio.Event()
        await self._wake.wait()

    def _shrink(self) -> None:
        found = {
            # There is one account, whatever number of tokens.
            (type(event), None if isinstance(event, AccountStateChanged) else event.token): index
            for index, event in enumerate(self._events)
            if isinstance(event, BookUpdated | TrustChanged | AccountStateChanged)
        }
        latest = set(found.values())
        kept = [
            (event, 0 if index not in latest else 1 if isinstance(event, BookUpdated) else 2)
            for index, event in enumerate(self._events)
            if index in latest or not isinstance(event, BookUpdated)
        ]
        self.coalesced += len(self._events) - len(kept)
        # Some room must be free again, or a queue that is nearly full of what does not coalesce
        # would be gone through at every push, at the cost of whoever publishes.
        is_enough = len(kept) <= self._limit - self._limit // 8
        self._events = deque(event for event, _ in kept) if is_enough else self._give_up(kept)

    def _give_up(self, events: list[tuple[Event, int]]) -> deque[Event]:
        """Half of the room, the newest `events`; the highest numbers are the last to go."""
        kept = [(event, rank) for event, rank in events if not _is_marker(event)]
        excess = len(kept) - self._limit // 2 + 1  # one place is the marker's
        for turn in range(3):
            left: list[tuple[Event, int]] = []
            for event, rank in kept:
                if rank == turn and excess > 0:
                    excess -= 1
                    self.lost += 1
                else:
                    left.append((event, rank))
            kept = left
        marker = Gap(
            time_ns=self._clock_ns(),
            feed=None,
            epoch=None,
            token=None,
            reason=StaleReason.OVERFLOW,
        )
        return deque([marker, *(event for event, _ in kept)])


def _checked(limit: object) -> int:
    if isinstance(limit, int) and not isinstance(limit, bool) and limit >= QUEUE_EVENTS_MIN:
        return limit
    raise UsageError(
        f"limit must be a whole number of events from {QUEUE_EVENTS_MIN}, not {limit!r}"
    )


def _is_marker(event: Event) -> bool:
    return isinstance(event, Gap) and event.reason is StaleReason.OVERFLOW and event.feed is None


S = TypeVar("S", bound=Subscription)


class EventHub:
    """Where actors publish and users subscribe."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._subscriptions: list[Subscription] = []
        self._frame_readers: list[Callable[[list[RawFrame]], None]] = []
        self._ended = False

    def publish(self, events: list[Event]) -> None:
        """Hand events to every subscription, in order. Never waits, never raises."""
        for subscription in self._subscriptions:
            subscription.push(events)

    @property
    def wants_frames(self) -> bool:
        """Whether somebody takes raw frames."""
        return bool(self._frame_readers)

    def publish_frames(self, frames: list[RawFrame]) -> None:
        """Hand raw frames to those who take them. Never waits, never raises."""
        for take in self._frame_readers:
            take(frames)

    def read_frames(self, take: Callable[[list[RawFrame]], None]) -> None:
        """Let `take`, which must neither wait nor raise, have the raw frames from now on."""
        self._frame_readers.append(take)

    def ignore_frames(self, take: Callable[[list[RawFrame]], None]) -> None:
        """No longer. Idempotent."""
        if take in self._frame_readers:
            self._frame_readers.remove(take)

    @property
    def is_crowded(self) -> bool:
        """Whether some reader is so far behind that half of its room is taken."""
        return any(one.is_crowded for one in self._subscriptions)

    def subscribe(
        self, limit: int = QUEUE_EVENTS_MAX, kinds: tuple[type[Event], ...] | None = None
    ) -> Subscription:
        """A subscription from now on that holds at most `limit` events, only those of `kinds`.

        Raises UsageError for a limit below QUEUE_EVENTS_MIN.
        """
        return self.add(Subscription(self.remove, self._clock_ns, _checked(limit), kinds))

    def add(self, subscription: S) -> S:
        """From now on it gets what is published."""
        self._subscriptions.append(subscription)
        if self._ended:
            subscription.end()
        return subscription

    def end(self) -> None:
        """The service has stopped: every subscription ends after what it still holds."""
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()

    def remove(self, subscription: Subscription) -> None:
        """No longer. Idempotent."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
