"""Playing a fault schedule against the sessions that are there."""

from collections.abc import Callable

import trio

from polyactors.venue.faults import FaultSchedule, NoTarget, ScheduledFault
from polyactors.venue.injection import FaultInjector

_TARGET_POLL_SECONDS = 0.1


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
