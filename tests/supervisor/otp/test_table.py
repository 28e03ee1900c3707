"""The table in README.md: all cases are there, and the tests that it names exist."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
TABLE = (FOLDER / "README.md").read_text().split("## supervisor_SUITE")[1]
OTP, PEKKO, BACKOFF, ON_RESTART = re.split(r"\n## SupervisionSpec|\n## Backoff|\n`Backoff", TABLE)
TESTS = {
    name
    for path in FOLDER.glob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize(
    ("section", "cases"), [(OTP, 93), (PEKKO, 90), (BACKOFF, 13), (ON_RESTART, 8)]
)
def test_every_case_has_a_row(section: str, cases: int) -> None:
    rows = re.findall(r"^\| (?!case|\*\*)(.+?) \|", section, re.MULTILINE)
    for_each_strategy = sum(int(n) - 1 for n in re.findall(r"\((\d)(?:\)|: one)", " ".join(rows)))
    assert len(set(rows)) == len(rows)
    assert len(rows) + for_each_strategy == cases


def test_every_test_that_is_named_exists() -> None:
    named: set[str] = set()
    for row in TABLE.splitlines():
        stem = ""
        for name in re.findall(r"`(?:test_\w+\.py::)?((?:test)?_\w+)[`\[]", row):
            stem = name.split("__")[0] or stem
            named.add(name if name.startswith("test") else stem + name)
    assert len(named) > 100
    assert named <= TESTS
