"""What waits for an actor of a user's: bounded, and at nobody's expense but its own.

Putting something in never waits, whatever the actor does: what it costs the one who publishes is
a look at the class of each event, and, when it is full, a pass over what it holds that makes room
for at least an eighth of it.
"""

from collections import deque
from collections.abc import Callable
from typing import cast

import trio

from polyactors.events import ActorEvent, Event, RawFrame
from polyactors.extensions.policy import ActorPolicy
from polyactors.extensions.takes import Takes
from polyactors.stream import EventHub, Subscription


class Mailbox(Subscription):
    """The messages of one actor over all its incarnations."""

    def __init__(
        self,
        owner: str,
        hub: EventHub,
        clock_ns: Callable[[], int],
        takes: Takes,
        policy: ActorPolicy,
    ) -> None:
        super().__init__(self._leave, clock_ns, policy.mailbox, takes.events)
        self._owner = owner
        self._hub = hub
        self._overflow = policy.overflow
        self.has_overflowed = False
        """With the policy `restart`: everything was thrown away, and it is to begin afresh."""
        self._is_closed = False
        if takes.events:
            hub.add(self)
        if takes.frames:
            hub.read_frames(self.put_frames)

    @property
    def is_crowded(self) -> bool:
        """Never: nobody waits for a user's actor."""
        return False

    def push(self, events: list[Event]) -> None:
        """Add events of the stream; what it published itself does not come back to it."""
        if any(type(event) is ActorEvent for event in events):
            events = [e for e in events if not (type(e) is ActorEvent and e.actor == self._owner)]
        super().push(events)

    def put_frames(self, frames: list[RawFrame]) -> None:
        """Add raw frames; never waits."""
        self._add(cast("list[Event]", frames))

    def put(self, message: object) -> None:
        """Add a message of another actor's; never waits."""
        self._add([cast("Event", message)])

    def begin_afresh(self) -> None:
        """The overflow is dealt with."""
        self.has_overflowed = False

    async def receive(self) -> object:
        """The oldest message. Raises trio.EndOfChannel after the end."""
        await trio.lowlevel.checkpoint()  # whatever it takes, others get their turn
        while not self._events and not self.has_overflowed:
            if self._ended:
                raise trio.EndOfChannel
            await self._news()
        return None if self.has_overflowed else self._events.popleft()

    def reopen(self) -> None:
        """An incarnation begins: what came meanwhile waits for it."""
        self._ended = False

    def _add(self, events: list[Event]) -> None:
        if self._is_closed:
            self.lost += len(events)
        else:
            super()._add(events)

    def _shrink(self) -> None:
        if self._overflow == "coalesce":
            super()._shrink()
        elif self._overflow == "drop_oldest":
            self._events = self._give_up([(event, 0) for event in self._events])
        else:
            self.lost += len(self._events)
            self._events = deque()
            self.has_overflowed = True

    def _leave(self, _: Subscription) -> None:
        self._is_closed = True
        self.lost += len(self._events)
        self._hub.remove(self)
        self._hub.ignore_frames(self.put_frames)
