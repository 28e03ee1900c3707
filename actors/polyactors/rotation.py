"""Rotation: a feed is replaced by a fresh one without a break, make before break.

The replacement carries the same tokens; when it is LIVE wherever the old feed is, the old one is
let go. That is done to sessions of a certain age, if the user wants it, and at once to a suspect:
a session in which tokens have gone silent although the rest flows. The relay's list of feeds is
the truth at every moment, so that a restart of this actor, or of the core, goes on from there.
"""

from collections.abc import Awaitable, Callable
from math import inf

import trio
from attrs import define

from polyactors.book.trust import StaleReason, TrustState
from polyactors.feed import Feed
from polyactors.logger import log
from polyactors.relay import Chunk, Relay
from polyactors.statistics import Statistics
from polysupervisor import Context

ROTATION_SECONDS_MAX = 60.0
"""A replacement that is not LIVE by then is dropped again."""
OVERLAP_SECONDS = 1.0
"""For so long both feeds are LIVE: what is on its way to one comes by the other."""
LOOK_SECONDS = 0.25
"""How often a replacement is looked at."""
ROTATION_INTERVAL_SECONDS = 10.0
"""Between two planned rotations, at least."""
POSTPONED_SECONDS_MAX = 60.0
"""For so long a planned rotation waits while a book of the session is on its way."""
SUSPECT_INTERVAL_SECONDS = 60.0
"""A chunk's suspects are replaced at most so often."""
RETRY_SECONDS = 60.0
"""After a rotation that failed its chunk is left alone for so long, doubling up to the maximum."""
RETRY_SECONDS_MAX = 600.0
ROTATED = "rotated"
NEVER_LIVE = "the replacement was not LIVE in time"


@define
class Replacement:
    """A rotation that is under way."""

    old: Feed
    new: Feed
    began_seconds: float
    tokens: frozenset[str]
    """Those that were LIVE at its begin."""
    ready_seconds: float = inf
    """Since when the new feed is LIVE wherever the old one is."""


class Rotation:
    """Which feed is replaced when; never two at once. Times on Trio's clock, in seconds."""

    def __init__(self, relay: Relay, rotation_seconds: float, statistics: Statistics) -> None:
        """`rotation_seconds`: the age at which a session is replaced; 0 for never."""
        self._relay = relay
        self._statistics = statistics
        self._rotation_seconds = rotation_seconds or inf
        self._next_planned_seconds = -inf
        self._not_before_seconds: dict[Chunk, float] = {}
        self._failures: dict[Chunk, int] = {}
        """In a row."""
        self.under_way: Replacement | None = None
        self.alarm: trio.CancelScope | None = None
        """What the actor waits in."""
        relay.on_suspicion = self._wake

    def next_due(self, now: float) -> float:
        """When `begin` may have something to do; inf for not before a suspicion."""
        due = min((self._due_seconds(chunk, feed) for chunk, feed in self._up()), default=inf)
        return min(due, now + self._rotation_seconds)  # sessions may begin while we wait

    def begin(self, now: float) -> bool:
        """Add a replacement for the feed whose turn it is; False when it is nobody's."""
        due = [(self._due_seconds(*one), index) for index, one in enumerate(self._up())]
        seconds, index = min(due, default=(inf, 0))
        if seconds > now:
            return False
        chunk, old = self._up()[index]
        if old.is_suspect:
            self._not_before_seconds[chunk] = now + SUSPECT_INTERVAL_SECONDS
        live = (token for token in old.tokens if old.trust[token].state is TrustState.LIVE)
        tokens = frozenset(live)
        self.under_way = Replacement(old, self._relay.twin(old), now, tokens)
        return True

    def settle(self, now: float) -> bool:
        """Let the old feed go if the new one is ready, or the new one if it takes too long;
        whether one was let go."""
        rotation = self.under_way
        if rotation is None:
            return True
        old, new = rotation.old, rotation.new
        if not _is_ready(rotation):
            rotation.ready_seconds = inf
        elif rotation.ready_seconds == inf:
            rotation.ready_seconds = now
        chunk = self._relay.chunk_of(old)
        if rotation.ready_seconds + OVERLAP_SECONDS <= now:
            self._failures.pop(chunk, None)
            self._statistics.rotations += 1
            self._relay.remove(old, ROTATED)
            log.info("feed rotated", feed=old.id, by=new.id, suspect=old.is_suspect)
        elif now - rotation.began_seconds >= ROTATION_SECONDS_MAX:
            failures = self._failures[chunk] = self._failures.get(chunk, 0) + 1
            wait = min(RETRY_SECONDS_MAX, RETRY_SECONDS * 2.0 ** min(failures - 1, 10))
            self._not_before_seconds[chunk] = now + wait
            self._relay.remove(new, NEVER_LIVE)
            log.warning(
                "a feed was not rotated: the replacement was not LIVE in time",
                feed=old.id,
                replacement=new.id,
                again_in_seconds=wait,
            )
        else:
            return False
        self._next_planned_seconds = now + ROTATION_INTERVAL_SECONDS
        self.under_way = None
        return True

    def _up(self) -> list[tuple[Chunk, Feed]]:
        """The feeds with a session, the oldest session first."""
        up = [
            (chunk, feed)
            for chunk in self._relay.chunks
            for feed in chunk.carriers
            if feed.epoch is not None
        ]
        return sorted(up, key=lambda one: one[1].session_since_seconds)

    def _due_seconds(self, chunk: Chunk, feed: Feed) -> float:
        not_before = self._not_before_seconds.get(chunk, -inf)
        if feed.is_suspect:
            return not_before
        due = feed.session_since_seconds + self._rotation_seconds
        if not _is_whole(feed):
            due += POSTPONED_SECONDS_MAX  # a fresh session would begin its recovery anew
        return max(due, self._next_planned_seconds, not_before)

    def _wake(self) -> None:
        if self.alarm is not None:
            self.alarm.deadline = -inf


def _is_whole(feed: Feed) -> bool:
    """Whether every book is LIVE that the exchange knows."""
    gone = StaleReason.UNKNOWN_TOKEN
    trusts = feed.trust.values()
    return all(trust.state is TrustState.LIVE or trust.reason is gone for trust in trusts)


def _is_ready(rotation: Replacement) -> bool:
    """Whether the new feed is LIVE wherever the old one is, or was when the rotation began."""
    old, new = rotation.old, rotation.new
    if new.epoch is None:
        return False
    for token, trust in new.trust.items():
        if trust.state is TrustState.LIVE or trust.reason is StaleReason.UNKNOWN_TOKEN:
            continue  # what the exchange does not know any more is LIVE nowhere
        if token in rotation.tokens or old.trust[token].state is TrustState.LIVE:
            return False
    return True


async def run_rotation(
    ctx: Context[object],
    rotation: Rotation,
    grow: Callable[[], Awaitable[None]],
    shrink: Callable[[], Awaitable[None]],
) -> None:
    """Rotate until stopped. `rotation` belongs to the service and survives this actor.

    `grow` and `shrink` start and stop feeds so that those of the relay run.
    """
    ctx.ready()
    await grow()  # a former incarnation may have come no further
    await shrink()
    while True:
        now = trio.current_time()
        if rotation.under_way is None:
            with trio.CancelScope(deadline=rotation.next_due(now)) as rotation.alarm:
                await trio.sleep_forever()
            if rotation.begin(trio.current_time()):
                await grow()
        elif rotation.settle(now):
            await shrink()
        else:
            await trio.sleep(LOOK_SECONDS)
