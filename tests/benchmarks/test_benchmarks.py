"""That every benchmark runs and prints a table; how fast it was is nobody's pass condition."""

import os
import runpy
import sys
from pathlib import Path

import pytest

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
