"""What faults do to the frames of one session, pure: messages in, frames out.

The stages, in order, each for the faults of its kind that are aimed at this session:

1. What is lost for a while: STALL, TOKEN_STALL, MIRROR.
2. What is lost once: LOST_IN_GROUP, LOST_GROUP, LOST_DELTA.
3. DUPLICATE, then REORDER.
4. The text: UNKNOWN_FIELDS, then half frames (GARBAGE).

So two faults never claim the same loss. Faults of one kind act one after the other, the oldest
first. Plain texts like PONG do not pass here.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from polyactors.venue.fault_life import Fault
from polyactors.venue.faults import FaultKind
from polyactors.venue.unknown_fields import with_unknowns
from polyactors.venue.wire import WireEvent

HOLD_SECONDS = 0.2
"""How long a frame waits for the one that it shall change places with."""
_PASS_CHANCE = 0.75
"""Of a step with a trade to be spared: the books after it would heal the loss at once."""


_CHANGES = ("price_change", "order", "trade")
"""The kinds of messages that are news: what is lost, repeated or late is one of them."""
STAGES = (
    FaultKind.STALL,
    FaultKind.TOKEN_STALL,
    FaultKind.MIRROR,
    FaultKind.LOST_IN_GROUP,
    FaultKind.LOST_GROUP,
    FaultKind.LOST_DELTA,
    FaultKind.DUPLICATE,
    FaultKind.REORDER,
    FaultKind.UNKNOWN_FIELDS,
    FaultKind.GARBAGE,
)
"""The kinds that work on a session's messages, in the order in which they do."""
Stage = Callable[[Fault, list[WireEvent], float], list[WireEvent]]


class Distortion:
    """The faults of one session. `distort` takes one engine step, or one dump, at a time.

    Times are those of one clock that does not go back; what is drawn is drawn from `rng`.
    """

    def __init__(self, session: int, rng: Random) -> None:
        self._session = session
        self.muted_until = -math.inf
        """Until when all data are lost."""
        self._rng = rng
        self._faults: list[Fault] = []
        self._held: tuple[Fault, WireEvent] | None = None
        self._held_until = math.inf
        self._stages: Mapping[FaultKind, Stage] = {
            FaultKind.STALL: self._stall,
            FaultKind.TOKEN_STALL: self._token_stall,
            FaultKind.MIRROR: self._mirror,
            FaultKind.LOST_IN_GROUP: self._lose_in_group,
            FaultKind.LOST_GROUP: self._lose_group,
            FaultKind.LOST_DELTA: self._lose_one,
            FaultKind.DUPLICATE: self._duplicate,
        }

    @property
    def release_at(self) -> float:
        """When `release` must be called; infinite when nothing is held back."""
        return self._held_until

    def aim(self, fault: Fault) -> None:
        """Let a fault work on what comes from now on, until it is over."""
        if fault.kind is FaultKind.STALL:
            self.muted_until = max(self.muted_until, fault.until)
        self._faults.append(fault)
        self._faults.sort(key=lambda fault: STAGES.index(fault.kind))

    def release(self, now: float) -> list[str]:
        """What was held back and must wait no longer."""
        return [] if now < self._held_until else self._texts(self._let_go(), now)

    def distort(self, events: Iterable[WireEvent], now: float) -> list[str]:
        """The frames that the session gets instead of these messages."""
        frames = self.release(now)
        self._faults = [fault for fault in self._faults if not fault.is_over(now)]
        left = list(events)
        for fault in list(self._faults):
            stage = self._stages.get(fault.kind)
            if stage is not None:
                left = stage(fault, left, now)
        reorder = next((f for f in self._faults if f.kind is FaultKind.REORDER), None)
        if self._held is not None and self._held[0] is not reorder:
            left = self._let_go() + left
        if reorder is not None:
            left = self._reorder(reorder, left, now)
        return frames + self._texts(left, now)

    # Lost for a while

    def _stall(self, fault: Fault, events: list[WireEvent], now: float) -> list[WireEvent]:
        for event in events:
            fault.strike(now, self._session, event.parts)
        return []

    def _token_stall(self, fault: Fault, events: list[WireEvent], now: float) -> list[WireEvent]:
        return self._without(fault, events, now, lambda event: True)

    def _mirror(self, fault: Fault, events: list[WireEvent], now: float) -> list[WireEvent]:
        return self._without(fault, events, now, _is_change)

    def _without(
        self,
        fault: Fault,
        events: list[WireEvent],
        now: float,
        concerns: Callable[[WireEvent], bool],
    ) -> list[WireEvent]:
        left: list[WireEvent] = []
        for event in events:
            kept: WireEvent | None = event
            if concerns(event) and fault.token in event.tokens:
                lost = [part for part in event.parts if part.token == fault.token]
                fault.strike(now, self._session, lost)
                kept = event.keep(lambda part: part.token != fault.token)
            if kept is not None:
                left.append(kept)
        return left

    # Once, for the changes of one step

    def _lose_one(self, fault: Fault, events: list[WireEvent], now: float) -> list[WireEvent]:
        changes = self._changes(fault, events)
        return self._lose(fault, events, now, [self._rng.choice(changes)] if changes else [])

    def _lose_in_group(self, fault: Fault, events: list[WireEvent], now: float) -> list[WireEvent]:
        changes = self._changes(fault, events)[:-1]
        return self._lose(fault, events, now, [self._rng.choice(changes)] if changes else [])

    def _lose_group(self, fault: Fault, events: list[WireEvent], now: float) -> list[WireEvent]:
        return self._lose(fault, events, now, self._changes(fault, events))

    def _lose(
        self, fault: Fault, events: list[WireEvent], now: float, lost: Sequence[WireEvent]
    ) -> list[WireEvent]:
        has_books = any(event.kind == "book" for event in events)
        if not lost or (has_books and self._rng.random() < _PASS_CHANCE):
            return events
        self._spend(fault, now, lost)
        # By identity: two changes of a step can say the very same.
        return [event for event in events if all(event is not gone for gone in lost)]

    def _duplicate(self, fault: Fault, events: list[WireEvent], now: float) -> list[WireEvent]:
        changes = self._changes(fault, events)
        if not changes:
            return events
        chosen = self._rng.choice(changes)
        self._spend(fault, now, [chosen])
        place = next(place for place, event in enumerate(events) if event is chosen)
        return [*events[:place], chosen, *events[place:]]

    def _changes(self, fault: Fault, events: list[WireEvent]) -> list[WireEvent]:
        return [event for event in events if _is_change(event) and _concerns(fault, event)]

    def _spend(self, fault: Fault, now: float, hurt: Sequence[WireEvent]) -> None:
        for event in hurt:
            fault.strike(now, self._session, event.parts)
        fault.release(now, self._session)
        self._faults.remove(fault)

    # Held back

    def _reorder(self, fault: Fault, events: list[WireEvent], now: float) -> list[WireEvent]:
        """Hold a change back until its neighbour has gone first, or a book must not.

        A change after a newer book is more than two neighbours that changed places.
        """
        left: list[WireEvent] = []
        for event in events:
            held = None if self._held is None else self._held[1]
            if fault not in self._faults:
                left.append(event)
            elif held is None:
                if _is_change(event) and _concerns(fault, event):
                    fault.strike(now, self._session, event.parts)
                    self._held, self._held_until = (fault, event), now + HOLD_SECONDS
                else:
                    left.append(event)
            elif not set(held.tokens) & set(event.tokens):
                left.append(event)
            elif _is_change(event):
                left += [event, *self._let_go()]
                self._spend(fault, now, [held, event])
            elif event.kind == "book":
                left += [*self._let_go(), event]
            else:
                left.append(event)
        return left

    def _let_go(self) -> list[WireEvent]:
        held, self._held, self._held_until = self._held, None, math.inf
        return [] if held is None else [held[1]]

    # As text

    def _texts(self, events: Sequence[WireEvent], now: float) -> list[str]:
        frames: list[str] = []
        for event in events:
            texts = [event.text]
            unknown = self._first(FaultKind.UNKNOWN_FIELDS, now)
            if unknown is not None:
                texts = with_unknowns(self._rng, event.text)
                unknown.strike(now)
            half = self._first(FaultKind.GARBAGE, now)
            if half is not None and _concerns(half, event):
                texts[-1] = texts[-1][: len(texts[-1]) // 2]
                self._spend(half, now, [event])
            frames += texts
        return frames

    def _first(self, kind: FaultKind, now: float) -> Fault | None:
        found = (f for f in self._faults if f.kind is kind and not f.is_over(now))
        return next(found, None)


def _is_change(event: WireEvent) -> bool:
    return event.kind in _CHANGES


def _concerns(fault: Fault, event: WireEvent) -> bool:
    is_its_token = fault.token is None or fault.token in event.tokens
    return is_its_token and event.label.startswith(fault.about)
