"""Durations and percentiles of them, in bounded memory."""

from collections import Counter
from math import log10

from attrs import Factory, define

DURATION_SECONDS_MIN = 0.001
"""Shorter durations are counted as this one."""
DURATION_SECONDS_MAX = 10_000.0
"""Longer durations are counted as this one."""
BUCKETS_PER_DECADE = 40
"""Seven decades: 281 buckets at most, each 6 % wide."""
RELATIVE_ERROR_MAX = 0.03
"""A percentile differs from the exact one by at most this part of it: half a bucket's width."""


def nearest_rank(counts: Counter[int], percent: float) -> int | None:
    """The nearest-rank percentile of counted values; None when nothing was counted.

    `percent` is above 0 and at most 100.
    """
    rank = max(1, -(-counts.total() * percent // 100))
    for value in sorted(counts):
        rank -= counts[value]
        if rank <= 0:
            return value
    return None


@define
class Durations:
    """A histogram with buckets on a logarithmic scale."""

    buckets: Counter[int] = Factory(Counter[int])
    """By power of 10 ** (1 / BUCKETS_PER_DECADE), from that of DURATION_SECONDS_MIN on."""

    @property
    def count(self) -> int:
        """How many were added."""
        return self.buckets.total()

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bounded = min(max(seconds, DURATION_SECONDS_MIN), DURATION_SECONDS_MAX)
        self.buckets[round(log10(bounded / DURATION_SECONDS_MIN) * BUCKETS_PER_DECADE)] += 1

    def percentile(self, percent: float) -> float | None:
        """The nearest-rank percentile in seconds, within RELATIVE_ERROR_MAX of the exact one.

        None when nothing was added. `percent` is above 0 and at most 100.
        """
        bucket = nearest_rank(self.buckets, percent)
        if bucket is None:
            return None
        return DURATION_SECONDS_MIN * 10 ** (bucket / BUCKETS_PER_DECADE)

    def summary(self) -> dict[str, float | int | None]:
        """The object of `--summary`: p50 and p99 in seconds (four digits), and the count."""
        return {"p50": self._rounded(50), "p99": self._rounded(99), "count": self.count}

    def _rounded(self, percent: float) -> float | None:
        seconds = self.percentile(percent)
        return None if seconds is None else float(f"{seconds:.4g}")
