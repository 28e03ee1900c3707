"""From runs to figures: medians with minimum and maximum, and ratios taken within a round."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from attrs import field, frozen
from tests.benchmarks.stream.runner import Run
from tests.benchmarks.stream.scenarios import Scenario

OURS = "ours"


@frozen
class Row:
    """The figures of one run."""

    variant: str
    client: str
    round: int
    values: Mapping[str, float]
    """By measure; empty when the run was wrong."""
    faults: tuple[str, ...] = ()
    checks: Mapping[str, int] = field(factory=dict[str, int])
    """What was verified meanwhile, and how often."""


@frozen
class Spread:
    """Several values of one figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None of nothing."""
        return cls(median(values), min(values), max(values)) if values else None


Values = dict[int, float]
"""By round."""


@frozen
class Figures:
    """The runs of one scenario."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, scenario: Scenario, runs: Iterable[Run]) -> "Figures":
        """The figures that a scenario takes from its runs."""
        rows: list[Row] = []
        for run in runs:
            if run.variant in scenario.variants:
                values: dict[str, float] = {}
                if not run.faults:
                    measures = scenario.measures
                    values = {one.name: one.of(run.variant, run.result) for one in measures}
                checks = run.result.get("checks", {})
                label = run.variant.label
                rows.append(Row(label, run.client, run.round, values, run.faults, checks))
        return cls(tuple(rows))

    def values(self, variant: str, client: str, measure: str) -> Values:
        """What was measured in each round whose run was right."""
        return {
            row.round: row.values[measure]
            for row in self.rows
            if (row.variant, row.client) == (variant, client) and measure in row.values
        }

    def spread(self, variant: str, client: str, measure: str) -> Spread | None:
        """Median, minimum and maximum."""
        return Spread.of(list(self.values(variant, client, measure).values()))

    def ratio(self, variant: str, client: str, measure: str) -> Spread | None:
        """What it is to ours: 2 where ours needs half as much."""
        theirs = self.values(variant, client, measure)
        return ratios(theirs, self.values(variant, OURS, measure))

    def growth(self, variant: str, first: str, client: str, measure: str) -> Spread | None:
        """What it is to the same client's in the first variant."""
        now = self.values(variant, client, measure)
        return ratios(now, self.values(first, client, measure))

    def clients(self, variant: str) -> list[str]:
        """Who ran, each once."""
        return list(dict.fromkeys(row.client for row in self.rows if row.variant == variant))

    def checks(self) -> list[str]:
        """What was verified in the last run of who verifies."""
        told: dict[str, str] = {}
        for row in self.rows:
            if row.checks:
                where = " ".join(filter(None, (row.client, row.variant)))
                counts = (f"{count:,} {what}" for what, count in row.checks.items())
                told[where] = f"{where} verified, last: {', '.join(counts)}"
        return list(told.values())

    def faults(self) -> list[str]:
        """Of each client whose runs were not all right, what was wrong."""
        runs: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            runs.setdefault((row.client, row.variant), []).append(row)
        told: list[str] = []
        for (client, variant), rows in runs.items():
            wrong = [row for row in rows if row.faults]
            if wrong:
                what = "; ".join(dict.fromkeys(fault for row in wrong for fault in row.faults))
                where = " ".join(filter(None, (client, variant)))
                told.append(f"{where}: {len(wrong)} of {len(rows)} runs do not count: {what}")
        return told


def ratios(some: Values, others: Values) -> Spread | None:
    """Of values to others, each taken within a round: a busy machine slows both."""
    return Spread.of([some[one] / others[one] for one in some if one in others])
