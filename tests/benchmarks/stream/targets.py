"""What the service is held to, as a table. Never a pass condition: machines differ."""

from collections.abc import Mapping

from attrs import frozen
from tests.benchmarks.stream.figures import OURS, Figures
from tests.benchmarks.stream.table import NONE, TITLES, number, table

US, P50, P99, CPU = "µs a message", "p50 ms", "p99 ms", "CPU ms per 1,000 messages"


@frozen
class Target:
    """A bound on a ratio of theirs to ours, from below; or on ours, from above."""

    scenario: str
    variant: str
    measure: str
    bound: float
    client: str = OURS
    first: str = ""
    """With it, the bound is on what ours is to ours in this variant."""

    def line(self, figures: Figures) -> list[str]:
        """What is wanted, what was measured, and whether that is enough."""
        where = " ".join(filter(None, (self.scenario, self.variant)))
        if self.client != OURS:
            spread = figures.ratio(self.variant, self.client, self.measure)
            wanted = f"{TITLES[self.client]} to ours at least {number(self.bound)}"
        elif self.first:
            spread = figures.growth(self.variant, self.first, OURS, self.measure)
            wanted = f"to {self.first} at most {number(self.bound)}"
        else:
            spread = figures.spread(self.variant, OURS, self.measure)
            wanted = f"at most {number(self.bound)}"
        value = spread.median if spread else None
        is_met = value is not None and (
            value >= self.bound if self.client != OURS else value <= self.bound
        )
        found = NONE if value is None else number(value)
        return [where, self.measure, wanted, found, "yes" if is_met else "no"]


POLY = "poly_websockets"
GROWTH = "p50 at the end / at the beginning"
TARGETS = (
    Target("saturated", "", US, 0.4, "limit"),
    Target("saturated", "", US, 8.0, "nautilus"),
    Target("saturated", "", US, 7.0, "asyncio_shape"),
    Target("saturated", "", US, 1.0, POLY),
    Target("saturated", "", US, 20.0, "straight"),
    Target("live", "1,000 messages/s", P50, 1.0, POLY),
    Target("live", "1,000 messages/s", P99, 1 / 0.6, POLY),
    Target("live", "1,000 messages/s", CPU, 1.0, POLY),
    Target("live", "5,000 messages/s", GROWTH, 1.5),
    Target("memory", "10,000 tokens", "MB", 80.0),
    Target("startup", "10,000 tokens", "ms", 1.0, POLY),
    Target("reset", "500 tokens", "ms", 100.0),
    Target("growth", "100 tokens", US, 1.2, first="10 tokens"),
    Target("growth", "1,000 tokens", US, 1.2, first="10 tokens"),
    Target("growth", "10,000 tokens", US, 1.2, first="10 tokens"),
)


def targets_table(figures: Mapping[str, Figures]) -> str:
    """Of all scenarios that were run."""
    lines = [one.line(figures[one.scenario]) for one in TARGETS if one.scenario in figures]
    head = ["scenario", "measure", "wanted", "measured", "met"]
    return table(head, lines) if lines else ""
