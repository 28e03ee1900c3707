"""When faults come: schedules, and playing them against the sessions that are there."""

import math
from collections.abc import Callable, Iterator, Mapping
from random import Random

import trio
from attrs import field, frozen

from polyactors.venue.faults import ARMED_KINDS, DEFAULT_SECONDS, FaultKind, NoTarget
from polyactors.venue.injection import FaultInjector

_TARGET_POLL_SECONDS = 0.1


@frozen
class ScheduledFault:
    """One fault of a schedule."""

    at_seconds: float
    """Since the start of the schedule."""
    kind: FaultKind
    seconds: float
    """How long it lasts."""
    patience_seconds: float = 2.0
    """How long it waits for a subscribed session that it can hit, before it is left out."""


_DEMO_SETTLE_SECONDS: Mapping[FaultKind, float] = {
    FaultKind.RESET: 8.0,
    FaultKind.GARBAGE: 8.0,
    FaultKind.DUPLICATE: 8.0,
    FaultKind.UNKNOWN_FIELDS: 8.0,
    FaultKind.STALL: 10.0,
    FaultKind.REFUSE: 10.0,
    FaultKind.SLOW: 10.5,
    FaultKind.LOST_DELTA: 12.0,
    FaultKind.LOST_IN_GROUP: 12.0,
    FaultKind.LOST_GROUP: 12.0,
    FaultKind.REORDER: 12.0,
    FaultKind.CLOCK_SKEW: 12.0,
    FaultKind.MISSING_BOOK: 16.0,
    FaultKind.TOKEN_STALL: 16.0,
    FaultKind.MIRROR: 16.0,
    FaultKind.STALE_REST: 16.0,
    FaultKind.REST_ERROR: 16.0,
}
"""From the start of a fault to the end of a demo, at least. A missing book is noticed only when
the client's deadline for a first book (10 s) has passed, a lost last change when its audit comes
round (6 s in the demo), and the audit cannot do without REST. Not among them: an oversized
frame, which looks like a reset and costs the viewer's machine 64 MiB."""
_DEMO_SECONDS: Mapping[FaultKind, float] = {
    **DEFAULT_SECONDS,
    **dict.fromkeys(ARMED_KINDS, 2.0),
    FaultKind.STALL: 8.0,
    FaultKind.SLOW: 2.5,
    FaultKind.MISSING_BOOK: 5.0,
    FaultKind.TOKEN_STALL: 4.0,
    FaultKind.MIRROR: 4.0,
    FaultKind.STALE_REST: 4.0,
    FaultKind.REST_ERROR: 4.0,
    FaultKind.UNKNOWN_FIELDS: 3.0,
    FaultKind.CLOCK_SKEW: 3.0,
}
_DEMO_OPENING = ((3.0, FaultKind.RESET), (7.0, FaultKind.STALL), (14.0, FaultKind.GARBAGE))
_DEMO_QUIET_END_SECONDS = 8.0
_STEADY_SECONDS: Mapping[FaultKind, tuple[float, ...]] = {
    FaultKind.STALL: (120.0,),
    FaultKind.REFUSE: (3.0,),
    FaultKind.SLOW: (5.0,),
    FaultKind.TOKEN_STALL: (10.0, 120.0),
    FaultKind.MIRROR: (10.0, 120.0),
    FaultKind.STALE_REST: (5.0, 60.0),
}


@frozen
class FaultSchedule:
    """Faults by the clock: first `opening`, then its kinds in seeded order, again and again.

    Iterating it gives the same faults each time, in ascending order of time; the iteration
    is endless when `until_seconds` is infinite.
    """

    seed: int
    opening: tuple[ScheduledFault, ...]
    gap_seconds: tuple[float, float]
    """Least and greatest time between two faults."""
    until_seconds: float = math.inf
    """The end of the run."""
    settle_seconds: Mapping[FaultKind, float] = field(factory=lambda: dict.fromkeys(FaultKind, 0.0))
    """Its kinds, each with the time that it needs from its start to the end of the run."""
    durations: Mapping[FaultKind, tuple[float, ...]] = field(
        factory=dict[FaultKind, tuple[float, ...]]
    )
    """Durations to choose from; those of `DEFAULT_SECONDS` for a kind that is not named."""

    @classmethod
    def for_demo(cls, seed: int, seconds: float | None) -> "FaultSchedule":
        """The demo's: a reset, a stall and garbage at 3, 7 and 14 s, then all but oversized frames.

        With `seconds`, the last fault starts at least 8 s before that end, kinds that take
        longer to heal correspondingly earlier. From 15 s to 22 s the opening is compressed
        to fit; below 15 s it is one reset, and below 7 s there are no faults at all.
        """
        end = math.inf if seconds is None else seconds
        last = end - _DEMO_QUIET_END_SECONDS
        if end < 15.0:
            times = [(min(3.0, max(1.0, last)), FaultKind.RESET)] if end >= 7.0 else []
        else:
            factor = min(1.0, last / _DEMO_OPENING[-1][0])
            times = [(at * factor, kind) for at, kind in _DEMO_OPENING]
        opening = tuple(
            ScheduledFault(at, kind, _DEMO_SECONDS[kind], min(2.0, max(0.0, last - at)))
            for at, kind in times
        )
        durations = {kind: (value,) for kind, value in _DEMO_SECONDS.items()}
        return cls(seed, opening, (3.0, 4.5), end, _DEMO_SETTLE_SECONDS, durations)

    @classmethod
    def steady(cls, seed: int, every_seconds: float = 15.0) -> "FaultSchedule":
        """For ever: all kinds in seeded order, one each `every_seconds` on the average.

        Stalls outlive any sensible data deadline, as the real ones do (hours were seen). A
        stall that ends sooner is another fault: lost deltas in a session that goes on.
        """
        gap = (0.7 * every_seconds, 1.3 * every_seconds)
        return cls(seed, (), gap, durations=_STEADY_SECONDS)

    def __iter__(self) -> Iterator[ScheduledFault]:
        yield from self.opening
        rng = Random(f"{self.seed}:schedule")
        at = self.opening[-1].at_seconds if self.opening else 0.0
        pending: list[FaultKind] = []
        while True:
            at += rng.uniform(*self.gap_seconds)
            if not pending:
                pending = list(self.settle_seconds)
                rng.shuffle(pending)
            left = self.until_seconds - at
            kind = next((k for k in pending if self.settle_seconds[k] <= left), None)
            if kind is None:
                return
            pending.remove(kind)
            seconds = rng.choice(self.durations.get(kind, (DEFAULT_SECONDS[kind],)))
            patience = min(2.0, left - self.settle_seconds[kind])
            yield ScheduledFault(at, kind, seconds, patience)


async def play(
    schedule: FaultSchedule, faults: FaultInjector, until_resumed: Callable[[], trio.Event]
) -> None:
    """Inject a schedule's faults, each as soon as it is due and somebody would feel it.

    `until_resumed` gives the event that is set while the exchange is not paused; a pause
    shifts what is left of the schedule. Returns at the end of the schedule.
    """
    start = trio.current_time()
    for fault in schedule:
        await trio.sleep_until(start + fault.at_seconds)
        paused_at = trio.current_time()
        await until_resumed().wait()
        start += trio.current_time() - paused_at
        await _inject_when_felt(fault, faults)


async def _inject_when_felt(fault: ScheduledFault, faults: FaultInjector) -> None:
    with trio.move_on_after(fault.patience_seconds):
        while not faults.has_subscribers:  # noqa: ASYNC110 - bounded, and seldom
            await trio.sleep(_TARGET_POLL_SECONDS)
    if faults.has_subscribers:
        try:
            faults.inject(fault.kind, seconds=fault.seconds, reset=True)
        except NoTarget:
            return  # they follow nothing that the exchange has a book of
