"""A share of a core that may be spent, and no more: what hashes of books in turn cost."""

from math import inf

BURST_SECONDS = 0.002
"""What gathers at most while nothing is spent, so that a quiet hour buys no long block."""
WORTHWHILE_SECONDS = 0.001
"""What must be left for a new beginning, as waking up costs, too."""


class Budget:
    """`share` seconds of work for each second that passes. All times in seconds, from 0 on.

    Work may go on while something is left, and a piece costs what it costs: what it took too
    much is worked off before the next.
    """

    __slots__ = ("_left_seconds", "_seen_seconds", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        """From 0 (no work at all) to 1 (a whole core)."""
        self._left_seconds = 0.0
        self._seen_seconds = 0.0

    def is_open(self, now: float) -> bool:
        """Whether another piece of work may begin now."""
        self._refill(now)
        return self._left_seconds > 0

    def opens_at(self, now: float) -> float:
        """When it is worth while to begin; `now` if it is already, inf if never."""
        self._refill(now)
        missing_seconds = WORTHWHILE_SECONDS - self._left_seconds
        if missing_seconds <= 0:
            return now
        return now + missing_seconds / self.share if self.share > 0 else inf

    def spend(self, cost_seconds: float) -> None:
        """Work was done."""
        self._left_seconds -= cost_seconds

    def _refill(self, now: float) -> None:
        if now > self._seen_seconds:
            gathered = (now - self._seen_seconds) * self.share
            self._left_seconds = min(BURST_SECONDS, self._left_seconds + gathered)
            self._seen_seconds = now
