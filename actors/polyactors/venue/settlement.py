"""How a trade of the emulated exchange is settled: statuses, ways, and how long they take. Pure.

The ways are those of the official diagram (PROTOCOL.md section 3): MATCHED, MINED, CONFIRMED,
and from MATCHED or MINED to RETRYING, which ends in MINED or FAILED.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from random import Random

from attrs import field, frozen


class TradeStatus(StrEnum):
    """The wire's words, without the prefix TRADE_STATUS_ that newer messages have."""

    MATCHED_NOT_BROADCASTED = "MATCHED_NOT_BROADCASTED"
    """Matched, before anything was sent to the chain."""
    MATCHED = "MATCHED"
    RETRYING = "RETRYING"
    MINED = "MINED"
    CONFIRMED = "CONFIRMED"
    """Final."""
    FAILED = "FAILED"
    """Final: the match does not count."""


class Outcome(StrEnum):
    """The way that a trade's settlement goes after MATCHED."""

    CONFIRMED = "confirmed"
    """MINED, CONFIRMED."""
    RETRIED = "retried"
    """RETRYING, MINED, CONFIRMED."""
    RETRIED_LATE = "retried_late"
    """MINED, RETRYING, MINED, CONFIRMED."""
    FAILED = "failed"
    """RETRYING, FAILED."""
    FAILED_LATE = "failed_late"
    """MINED, RETRYING, FAILED."""


WAYS: Mapping[Outcome, tuple[TradeStatus, ...]] = {
    Outcome.CONFIRMED: (TradeStatus.MINED, TradeStatus.CONFIRMED),
    Outcome.RETRIED: (TradeStatus.RETRYING, TradeStatus.MINED, TradeStatus.CONFIRMED),
    Outcome.RETRIED_LATE: (
        TradeStatus.MINED,
        TradeStatus.RETRYING,
        TradeStatus.MINED,
        TradeStatus.CONFIRMED,
    ),
    Outcome.FAILED: (TradeStatus.RETRYING, TradeStatus.FAILED),
    Outcome.FAILED_LATE: (TradeStatus.MINED, TradeStatus.RETRYING, TradeStatus.FAILED),
}
"""What follows MATCHED."""


def _is_chance(instance: object, attribute: object, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"a chance is a number from 0 to 1, not {value}")


def _is_range(instance: object, attribute: object, value: tuple[float, float]) -> None:
    if not 0 <= value[0] <= value[1] < math.inf:
        raise ValueError(f"expected a least and a greatest number of seconds, not {value}")


@frozen
class Settlement:
    """How an account's trades are settled. Each delay is drawn between the two numbers."""

    mined_seconds: tuple[float, float] = field(default=(1.0, 4.0), validator=_is_range)
    """To MINED, and to MATCHED from MATCHED_NOT_BROADCASTED."""
    confirmed_seconds: tuple[float, float] = field(default=(2.0, 8.0), validator=_is_range)
    """To CONFIRMED."""
    retry_seconds: tuple[float, float] = field(default=(1.0, 6.0), validator=_is_range)
    """To RETRYING, and to FAILED."""
    retried_chance: float = field(default=0.0, validator=_is_chance)
    """Of a trade that is to be confirmed, to be retried before."""
    failed_chance: float = field(default=0.0, validator=_is_chance)
    """Of a trade to fail."""
    unbroadcast_chance: float = field(default=0.0, validator=_is_chance)
    """Of a trade to begin with MATCHED_NOT_BROADCASTED."""
    has_prefix: bool = False
    """Whether statuses are said with TRADE_STATUS_, and in REST's orders with ORDER_STATUS_."""

    def plan(self, rng: Random, outcome: Outcome | None) -> list[tuple[float, TradeStatus]]:
        """The statuses of a trade, each with its seconds after the one before; the first at once.

        `outcome` leaves only the delays to chance.
        """
        if outcome is None:
            outcome = self._choose(rng)
        statuses = [TradeStatus.MATCHED, *WAYS[outcome]]
        if rng.random() < self.unbroadcast_chance:
            statuses.insert(0, TradeStatus.MATCHED_NOT_BROADCASTED)
        delays = [0.0, *(self._delay(rng, status) for status in statuses[1:])]
        return list(zip(delays, statuses, strict=True))

    def _choose(self, rng: Random) -> Outcome:
        if rng.random() < self.failed_chance:
            return rng.choice((Outcome.FAILED, Outcome.FAILED_LATE))
        if rng.random() < self.retried_chance:
            return rng.choice((Outcome.RETRIED, Outcome.RETRIED_LATE))
        return Outcome.CONFIRMED

    def _delay(self, rng: Random, status: TradeStatus) -> float:
        if status in (TradeStatus.RETRYING, TradeStatus.FAILED):
            return rng.uniform(*self.retry_seconds)
        if status is TradeStatus.CONFIRMED:
            return rng.uniform(*self.confirmed_seconds)
        return rng.uniform(*self.mined_seconds)
