"""Starts a client in whatever Python it needs: ``python start.py CLIENT TASK``.

Not by `-m`: a package of a peer may bring a package `tests` of its own, which would be found
instead of ours.
"""

import runpy
import sys
from pathlib import Path
from types import ModuleType

if __name__ == "__main__":
    tests = ModuleType("tests")
    tests.__path__ = [str(Path(__file__).resolve().parents[2])]
    sys.modules["tests"] = tests
    del sys.path[0]  # modules of ours must not hide somebody's
    _, client, *sys.argv[1:] = sys.argv
    runpy.run_module(f"tests.benchmarks.stream.clients.{client}", run_name="__main__")
