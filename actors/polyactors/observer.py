"""The observer: the actor that tells the stream what the supervisors did."""

from collections.abc import Callable

from polyactors.environment import Environment
from polyactors.events import ActorRestarted
from polyactors.logger import log
from polysupervisor import Context, Event, EventKind, Subscription

FEEDS_PATH = "root/core/feeds/"


async def run_observer(
    ctx: Context[object],
    runtime_events: Subscription,
    env: Environment,
    feed_gave_up: Callable[[str], None],
) -> None:
    """Turn the runtime's events into the service's, until both have ended.

    `runtime_events` belongs to the service and survives this actor; `feed_gave_up` hears the
    id of a feed whose supervisor exhausted its restart intensity.
    """
    reasons: dict[str, str] = {}
    ctx.ready()
    async for event in runtime_events:
        if event.kind is EventKind.EXITED and event.reason is not None:
            reasons[event.path] = (
                # No bug, so not a "crash": the words of feed_down are enough.
                event.reason.summary.partition(": ")[2]
                if event.reason.expected
                else str(event.reason)
            )
        elif event.kind is EventKind.STARTED and event.incarnation > 1:
            _restarted(event, reasons.pop(event.path, "restarted with its group"), env)
        elif event.kind is EventKind.GAVE_UP:
            log.error("an actor failed too often and stays down", path=event.path)
        elif event.kind is EventKind.RESTART_SCHEDULED and _is_feed(event.path):
            log.error("a feed gave up", path=event.path, again_in_seconds=event.delay)
            feed_gave_up(event.path.removeprefix(FEEDS_PATH))


def _is_feed(path: str) -> bool:
    return path.startswith(FEEDS_PATH) and "/" not in path.removeprefix(FEEDS_PATH)


def _restarted(event: Event, reason: str, env: Environment) -> None:
    env.statistics.restarts[event.path] += 1
    env.hub.publish(
        [
            ActorRestarted(
                time_ns=env.clock_ns(),
                path=event.path,
                incarnation=event.incarnation,
                reason=reason,
            )
        ]
    )
