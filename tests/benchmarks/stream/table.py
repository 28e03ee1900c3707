"""Figures as Markdown."""

from collections.abc import Iterable, Mapping, Sequence

from tests.benchmarks.stream.figures import OURS, Figures, Spread
from tests.benchmarks.stream.roster import CLIENTS
from tests.benchmarks.stream.scenarios import Scenario

TITLES = {client.name: client.title for client in CLIENTS}
NONE = "-"


def number(value: float) -> str:
    """Three digits that count."""
    size = abs(value)
    if size < 0.9995:
        return f"{value:.3g}"
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{value:,.{decimals}f}"


def cell(spread: Spread | None) -> str:
    """Median [minimum-maximum]."""
    if spread is None:
        return NONE
    low, high = number(spread.low), number(spread.high)
    middle = number(spread.median)
    return middle if low == high else f"{middle} [{low}-{high}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def scenario_table(scenario: Scenario, figures: Figures) -> str:
    """A row for each client in each variant."""
    labels = [variant.label for variant in scenario.variants]
    head = [""] if any(labels) else []
    head.append("client")
    for measure in scenario.measures:
        head += [measure.name, "to ours"] if measure.is_compared else [measure.name]
        if scenario.is_growth:
            head.append(f"to {labels[0]}")
    rows: list[list[str]] = []
    for label in labels:
        present = figures.clients(label)
        for client in (name for name in TITLES if name in present):
            row = [label] if any(labels) else []
            row.append(TITLES[client])
            for measure in scenario.measures:
                row.append(cell(figures.spread(label, client, measure.name)))
                if measure.is_compared:
                    ratio = figures.ratio(label, client, measure.name)
                    row.append("1" if client == OURS else cell(ratio))
                if scenario.is_growth:
                    row.append(cell(figures.growth(label, labels[0], client, measure.name)))
            rows.append(row)
    return table(head, rows)


def section(scenario: Scenario, figures: Figures, absent: Mapping[str, str]) -> str:
    """What is measured, the table, and what does not count."""
    parts = [f"### {scenario.title}", scenario.text, scenario_table(scenario, figures)]
    notes = [f"- {line}" for line in (*figures.faults(), *figures.checks())]
    notes += [f"- {name}: skipped ({why})" for name, why in absent.items()]
    if notes:
        parts.append("\n".join(notes))
    return "\n\n".join(parts)
