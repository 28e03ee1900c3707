"""The arithmetic of restarts: backoff and intensity. Pure: time and randomness come in."""

from __future__ import annotations

import math
from collections import deque
from random import Random
from typing import Any, Literal

import attrs
from attrs.validators import gt, in_, instance_of, lt


def _at_least(bound: float) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
        if not value >= bound:  # also refuses NaN
            raise ValueError(f"{attribute.name} must be at least {bound}, was {value}")

    return check


@attrs.frozen
class Backoff:
    """How long to wait before a restart: exponential, capped, with jitter below the cap.

    Units are seconds. Raises ``ValueError`` for a ``min`` above ``max``, an infinite ``max``, a
    ``factor`` below 1 or a ``jitter`` outside 0..1. ``Backoff(min=0, max=0)`` never waits.
    """

    min: float = attrs.field(default=0.25, validator=_at_least(0))
    """Base of the first delay."""
    max: float = 30.0
    """No delay is ever longer, jitter included."""
    factor: float = attrs.field(default=2.0, validator=_at_least(1))
    """Growth of the base from one consecutive failure to the next."""
    jitter: float = 0.5
    """The delay is uniform in ``[base * (1 - jitter), base]``; 1.0 is full jitter."""
    reset_after: float = attrs.field(default=60.0, validator=_at_least(0))
    """An incarnation that was ready this long starts the count anew; ``inf``: only
    ``Context.reset_backoff()`` does."""
    first_immediate: bool = False
    """The first restart does not wait; the second then waits like a first one."""
    max_attempts: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_at_least(0))
    )
    """More consecutive restarts than this count as exhausted intensity; ``None``: no bound."""

    def __attrs_post_init__(self) -> None:
        if not self.min <= self.max < math.inf:
            raise ValueError(f"max must be finite and at least min, was {self.max}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be within 0..1, was {self.jitter}")

    def delay(self, attempt: int, rng: Random) -> float:
        """Return the seconds to wait after ``attempt`` earlier consecutive failures.

        ``delay(0, rng)`` is the wait before the first restart. Never above ``max``, whatever
        the attempt.
        """
        if self.first_immediate:
            if attempt == 0:
                return 0.0
            attempt -= 1
        try:
            base = min(self.max, self.min * self.factor**attempt)
        except OverflowError:
            base = self.max if self.min > 0 else 0.0
        low = base * (1 - self.jitter)
        # The sum may round to one unit above the base.
        return min(base, low + (base - low) * rng.random())


NO_BACKOFF = Backoff(min=0.0, max=0.0)
"""What a child without ``backoff`` gets: restarts at once, as in OTP."""


@attrs.frozen
class Intensity:
    """How many restarts are too many: more than ``limit`` within ``period`` seconds.

    The rule is OTP's ``add_restart`` on a float clock: a sliding window, a restart exactly
    ``period`` old still counts, one entry per decision (not per child of a group), and a failed
    restart attempt is an entry again. Expected failures spend nothing.
    """

    limit: int = attrs.field(default=3, validator=[instance_of(int), _at_least(0)])
    """Restarts that are granted within any ``period``; 0 grants none."""
    period: float = attrs.field(default=60.0, validator=[gt(0), lt(math.inf)])
    """Length of the window in seconds; above 0 and finite."""
    scope: Literal["supervisor", "child"] = attrs.field(
        default="supervisor", validator=in_(("supervisor", "child"))
    )
    """Whether all children spend from one window or each has its own."""
    on_exhausted: Literal["escalate", "give_up", "give_up_unless_last"] = attrs.field(
        default="escalate", validator=in_(("escalate", "give_up", "give_up_unless_last"))
    )
    """``escalate``: stop all, raise ``SupervisorEscalation`` out of ``run()``. ``give_up``: the
    child, and with a group strategy its group, stays down; an event says so.
    ``give_up_unless_last``: the same, but escalate when no other child would be left."""


class RestartWindow:
    """The restarts that were granted within the last period; holds at most ``limit`` times."""

    __slots__ = ("_granted", "_limit", "_period")

    def __init__(self, intensity: Intensity) -> None:
        self._limit = intensity.limit
        self._period = intensity.period
        self._granted: deque[float] = deque()

    def spend(self, now: float) -> bool:
        """Grant a restart at ``now`` (seconds, not decreasing) or say that they are exhausted."""
        granted = self._granted
        # Written as a sum because a clock that slept `period` shows exactly t + period.
        while granted and granted[0] + self._period < now:
            granted.popleft()
        if len(granted) >= self._limit:
            return False
        granted.append(now)
        return True
