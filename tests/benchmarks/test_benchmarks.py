"""That every benchmark runs and prints a table; how fast it was is nobody's pass condition."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ("Saturated", "Live", "Memory", "Start-up", "Reset", "Growth", "TLS")
BENCHMARKS = sorted(Path(__file__).parent.glob("bench_*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmark_runs(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # For a benchmark that measures in processes of its own.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    runpy.run_path(str(path))["main"](True)
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("|")
    assert set(rule) == set("|-")
    assert rows
    assert all(row.count("|") == head.count("|") for row in rows)


def test_every_scenario_runs_and_leaves_the_right_books(tmp_path: Path) -> None:
    paths = [str(ROOT), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.stream", "--quick", "--out", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = done.stdout
    assert [line[4:] for line in report.splitlines() if line.startswith("### ")] == [
        "Machine and versions",
        *SCENARIOS,
    ]
    assert report.count("| **polyactors** |") == len(SCENARIOS) + 1  # growth has two
    assert "do not count" not in report
    assert (tmp_path / "report.md").read_text() == report
    assert (tmp_path / "performance.svg").stat().st_size > 0
