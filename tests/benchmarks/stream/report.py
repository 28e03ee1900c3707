"""What was measured, kept, and written: figures.json, report.md, performance.svg, the docs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cattrs
from attrs import evolve, frozen
from tests.benchmarks.stream.chart import chart
from tests.benchmarks.stream.figures import Figures
from tests.benchmarks.stream.machine import machine
from tests.benchmarks.stream.roster import Ready
from tests.benchmarks.stream.runner import ROOT, Run
from tests.benchmarks.stream.scenarios import Scenario, scenarios
from tests.benchmarks.stream.table import TITLES, section
from tests.benchmarks.stream.targets import targets_table

DOCS = ROOT / "docs" / "explanation"
BEGIN, END = "<!-- begin: measured -->", "<!-- end: measured -->"
FIGURES, REPORT, CHART, PAGE = "figures.json", "report.md", "performance.svg", "performance.md"


@frozen
class Report:
    """Scenarios measured, be it at different times on one machine."""

    machine: tuple[str, ...]
    rounds: Mapping[str, int]
    """By scenario, like the following."""
    figures: Mapping[str, Figures]
    absent: Mapping[str, Mapping[str, str]]
    """Clients that were wanted and not there, and why."""
    versions: Mapping[str, str]
    """By client."""

    @classmethod
    def of(
        cls,
        wanted: Sequence[Scenario],
        ready: Iterable[Ready],
        absent: Mapping[str, str],
        runs: Sequence[Run],
        rounds: int,
    ) -> "Report":
        """The report of some runs."""
        return cls(
            tuple(machine()),
            {one.name: rounds for one in wanted},
            {one.name: Figures.of(one, runs) for one in wanted},
            {one.name: absent for one in wanted},
            {one.client.name: one.versions for one in ready},
        )

    def joined(self, older: "Report") -> "Report":
        """This, and what only an older one has measured."""
        return evolve(
            self,
            rounds={**older.rounds, **self.rounds},
            figures={**older.figures, **self.figures},
            absent={**older.absent, **self.absent},
            versions={**older.versions, **self.versions},
        )

    def markdown(self, *, is_quick: bool = False) -> str:
        """Machine, targets and a table for each scenario."""
        measured = [one for one in scenarios(is_quick=is_quick) if one.name in self.figures]
        sections = [
            section(one, self.figures[one.name], self.absent[one.name])
            + f"\n\nRounds: {self.rounds[one.name]}."
            for one in measured
        ]
        parts = ["### Machine and versions", self._machine_lines(), *sections]
        targets = targets_table(self.figures)
        if targets and not is_quick:
            parts += ["### Targets", targets]
        return "\n\n".join(parts) + "\n"

    def _machine_lines(self) -> str:
        lines = [f"- {line}" for line in self.machine]
        told = (name for name in TITLES if name in self.versions)
        lines += [f"- {TITLES[name].strip('*')}: {self.versions[name]}" for name in told]
        return "\n".join(lines)

    # --- files ----------------------------------------------------------------------------

    @classmethod
    def read(cls, folder: Path) -> "Report | None":
        """What `write` has kept in a folder; None when there is nothing."""
        path = folder / FIGURES
        if not path.exists():
            return None
        return cattrs.structure(json.loads(path.read_text()), cls)

    def write(self, folder: Path, *, is_quick: bool) -> None:
        """Keep the figures, and what is made of them."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FIGURES).write_text(json.dumps(cattrs.unstructure(self), indent=1))
        (folder / REPORT).write_text(self.markdown(is_quick=is_quick))
        (folder / CHART).write_text(chart(self.figures))

    def write_docs(self, folder: Path = DOCS) -> None:
        """Put table and chart into the page about performance."""
        page = folder / PAGE
        before, _, rest = page.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}\n\n{self.markdown()}\n{END}{after}")
        (folder / CHART).write_text(chart(self.figures))
