"""The table of states in the documentation, from the same data that the code checks against.

``python tests/supervisor/transition_table.py`` writes it into the page.
"""

from pathlib import Path

from polysupervisor import ChildState
from polysupervisor._tree import TRANSITIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "supervision.md"
BEGIN = "<!-- transitions:"
END = "<!-- end of transitions -->"


def table() -> str:
    """Return the table in Markdown: a row for each state, a mark for each that may follow."""
    names = [state.value for state in ChildState]
    rows = [f"| from ↓ to → | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for state in ChildState:
        marks = ("●" if each in TRANSITIONS[state] else " " for each in ChildState)
        rows.append(f"| `{state.value}` | {' | '.join(marks)} |")
    return "\n".join(rows)


def with_table(page: str) -> str:
    """Return the text of the page with the table of today."""
    head, begin, rest = page.partition(BEGIN)
    comment, _, tail = rest.partition("\n")
    return f"{head}{begin}{comment}\n{table()}\n{END}{tail.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
