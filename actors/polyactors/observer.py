"""What watches: the observer tells the stream what the supervisors did, and the lookout tells
the log which feeds cannot connect, for programs that do not read the stream for that.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from math import inf

import trio

from polyactors.connects import PROVEN_SECONDS
from polyactors.environment import Environment
from polyactors.events import ActorGaveUp, ActorRestarted, FeedDown, FeedUp
from polyactors.events import Event as StreamEvent
from polyactors.feed import STOPPING
from polyactors.logger import Outage, log
from polyactors.stream import Subscription as StreamSubscription
from polyactors.user.line import CREDENTIALS_REFUSED, LINE_ID
from polysupervisor import Context, Event, EventKind, ExitKind, ExitReason, Subscription

FEEDS_PATH = "root/core/feeds/"
USER_PATH = f"root/{LINE_ID}"
LOOKOUT_EVENTS_MAX = 4096


async def run_observer(
    ctx: Context[object],
    runtime_events: Subscription,
    env: Environment,
    feed_gave_up: Callable[[str], None],
    actor_failed: Callable[[str, ExitReason], bool],
    actor_gave_up: Callable[[str], None],
) -> None:
    """Turn the runtime's events into the service's, until both have ended.

    `runtime_events` belongs to the service and survives this actor; `feed_gave_up` hears the
    id of a feed whose supervisor exhausted its restart intensity, `actor_failed` the path of
    whatever failed and how, and says whether that is its end; `actor_gave_up` the path of whatever
    failed too often.
    """
    reasons: dict[str, str] = {}
    dropped = runtime_events.dropped
    ctx.ready()
    async for event in runtime_events:
        if runtime_events.dropped > dropped:
            # Restarts may be missing in the stream and the summary; the books know on their own.
            lost, dropped = runtime_events.dropped - dropped, runtime_events.dropped
            log.warning("events of the supervisors were lost", events=lost)
        why = event.reason if _has_failed(event) else None
        if why is not None and actor_failed(event.path, why):
            log.error("an actor failed and stays down", path=event.path)
            _gave_up(event, str(why), env)
        if event.kind is EventKind.EXITED and event.reason is not None:
            reasons[event.path] = (
                # No bug, so not a "crash": the words of feed_down are enough.
                event.reason.summary.partition(": ")[2]
                if event.reason.expected
                else str(event.reason)
            )
        elif event.kind is EventKind.STARTED and event.incarnation > 1:
            _restarted(event, reasons.pop(event.path, "restarted with its group"), env)
        elif event.kind is EventKind.KILLED and _has_failed(event):
            reasons[event.path] = str(event.reason)
        elif event.kind in (EventKind.STOPPED, EventKind.KILLED):
            _forget(reasons, event.path)
        elif event.kind is EventKind.GAVE_UP:
            log.error("an actor failed too often and stays down", path=event.path)
            _gave_up(event, reasons.pop(event.path, ""), env)
            actor_gave_up(event.path)
        elif event.kind is EventKind.RESTART_SCHEDULED and event.path == USER_PATH:
            log.error("the user channel gave up", again_in_seconds=event.delay)
            feed_gave_up(LINE_ID)
        elif event.kind is EventKind.RESTART_SCHEDULED and _is_feed(event.path):
            log.error("a feed gave up", path=event.path, again_in_seconds=event.delay)
            feed_gave_up(event.path.removeprefix(FEEDS_PATH))


def _forget(reasons: dict[str, str], path: str) -> None:
    """What was stopped may never be started again, and what was below it with it."""
    for name in [name for name in reasons if name == path or name.startswith(path + "/")]:
        del reasons[name]


def _has_failed(event: Event) -> bool:
    """Whether it crashed, or was stopped as failed: it held the event loop, or left its messages
    waiting."""
    return event.reason is not None and event.reason.kind in (ExitKind.CRASH, ExitKind.STALLED)


def _gave_up(event: Event, reason: str, env: Environment) -> None:
    env.hub.publish(
        [
            ActorGaveUp(
                time_ns=env.clock_ns(),
                path=event.path,
                incarnation=event.incarnation,
                reason=reason or "its group failed too often",
            )
        ]
    )


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


class Outages:
    """Which feeds hold no session, said once and then rarely. Times come in, in seconds.

    A session that ends is no outage yet, its feed reconnects. One that cannot begin is, and one
    that is dropped at once: it holds only when it has lived PROVEN_SECONDS.
    """

    def __init__(self) -> None:
        self._outages: dict[str, Outage] = defaultdict(Outage)
        """By feed."""
        self._young: dict[str, float] = {}
        """When those sessions began that must yet prove themselves, by feed, the oldest first."""
        self._held: set[str] = set()
        """Feeds whose session holds."""

    def take(self, news: Iterable[StreamEvent], now: float) -> None:
        """Note what happened to sessions."""
        self._prove(now)
        for event in news:
            if isinstance(event, FeedUp):
                self._young[event.feed] = now
            elif isinstance(event, FeedDown):
                self._down(event, now)

    def forget(self, feed: str) -> None:
        """The feed is gone for good."""
        self._outages.pop(feed, None)
        self._young.pop(feed, None)
        self._held.discard(feed)

    def next_due(self) -> float:
        """When to call `take` again even without news; inf when nothing is due."""
        return next(iter(self._young.values()), inf) + PROVEN_SECONDS

    def _prove(self, now: float) -> None:
        for feed, since in list(self._young.items()):
            if since + PROVEN_SECONDS <= now:
                del self._young[feed]
                self._held.add(feed)
                self._outages[feed].end(now, "connected again", since=since, feed=feed)

    def _down(self, event: FeedDown, now: float) -> None:
        feed = event.feed
        held = feed in self._held
        self._held.discard(feed)
        self._young.pop(feed, None)
        if event.reason in (STOPPING, CREDENTIALS_REFUSED):
            return  # the one is wanted, the other is told by its own sentence
        outage = self._outages[feed]
        if held:
            outage.begin(now)
        else:
            what = "no connection to the exchange, trying again"
            outage.warn(now, what, feed=feed, reason=event.reason, detail=event.detail)


async def run_lookout(ctx: Context[object], news: StreamSubscription, outages: Outages) -> None:
    """Look out for outages until stopped. `news`, of FeedUp and FeedDown, and `outages` belong
    to the service and survive this actor."""
    ctx.ready()
    while True:
        batch: list[StreamEvent] = []
        with trio.move_on_at(outages.next_due()):
            batch = await news.receive_batch()
        outages.take(batch, trio.current_time())
