"""Rules of Trio that neither lint nor types know, read from the sources.

A wait that is hidden in a helper is not seen; a reader of the change has to.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

from tests.test_architecture import MODULES

TESTS = Path(__file__).resolve().parent
CLOCKS = {"autojump_clock", "mock_clock"}
SLEEPS = {"trio.sleep", "trio.sleep_until", "time.sleep"}
REAL_TIME = {
    "actors/test_sinks.py": "a thread writes the file",
    "actors/test_wrong_for_ever.py": "a socket that the system buffers",
    "actors/venue/test_server.py": "sockets of another library",
}
"""Tests that must wait for what knows no clock of Trio's, and for what."""
CANCELLED = {"trio.Cancelled", "Cancelled", "BaseException"}


def swallowed(source: str) -> Iterator[int]:
    """Lines of async functions where a Cancelled is caught and goes no further."""
    for task in ast.walk(ast.parse(source)):
        if not isinstance(task, ast.AsyncFunctionDef):
            continue
        for node in _own(task):
            if isinstance(node, ast.Try | ast.TryStar):
                for handler in node.handlers:
                    caught = _names(handler.type) if handler.type else {"BaseException"}
                    raises = any(isinstance(part, ast.Raise) for part in ast.walk(handler))
                    if caught & CANCELLED and not raises:
                        yield handler.lineno
                    if caught & CANCELLED:
                        break  # the handlers below it never see one
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                yield from [node.lineno for name in node.args if _names(name) & CANCELLED]


def real_sleeps(source: str) -> Iterator[int]:
    """Lines where an async test sleeps, and takes no clock that jumps."""
    for test in ast.walk(ast.parse(source)):
        if not isinstance(test, ast.AsyncFunctionDef) or not test.name.startswith("test_"):
            continue
        if not _has_clock(test):
            yield from (part.lineno for part in _own(test) if _sleeps(part))


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """What is in it, but not in functions in it: they may run elsewhere."""
    for part in ast.iter_child_nodes(node):
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield part
            yield from _own(part)


def _sleeps(part: ast.AST) -> TypeGuard[ast.Call]:
    if not isinstance(part, ast.Call) or ast.unparse(part.func) not in SLEEPS:
        return False
    return not (part.args and ast.unparse(part.args[0]) == "0")


def _has_clock(test: ast.AsyncFunctionDef) -> bool:
    arguments = {argument.arg for argument in (*test.args.args, *test.args.kwonlyargs)}
    marks = " ".join(ast.unparse(decorator) for decorator in test.decorator_list)
    return bool(arguments & CLOCKS) or any(clock in marks for clock in CLOCKS)


def _names(caught: ast.expr) -> set[str]:
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return {ast.unparse(part) for part in parts}


def test_no_module_swallows_a_cancellation() -> None:
    wrong = [f"{path}:{line}" for path in MODULES.values() for line in swallowed(path.read_text())]
    assert not wrong, f"Trio must get its Cancelled back: raise again, or catch less, in {wrong}"


def test_no_test_sleeps_in_real_time() -> None:
    wrong = {
        f"tests/{name}:{line}"
        for path in sorted(TESTS.rglob("test_*.py"))
        if (name := path.relative_to(TESTS).as_posix()) not in REAL_TIME
        for line in real_sleeps(path.read_text())
    }
    assert not wrong, f"a test that sleeps takes the fixture autojump_clock: {sorted(wrong)}"


def test_who_may_sleep_does() -> None:
    for name in REAL_TIME:
        assert list(real_sleeps((TESTS / name).read_text())), f"{name} need not be in REAL_TIME"


def test_what_breaks_a_rule_is_seen() -> None:
    caught = "async def work():\n    try:\n        pass\n    except {}:\n        {}\n"
    for what in ("trio.Cancelled", "BaseException", "(ValueError, trio.Cancelled)"):
        assert list(swallowed(caught.format(what, "pass"))) == [4]
        assert not list(swallowed(caught.format(what, "raise")))
    assert not list(swallowed(caught.format("ValueError", "pass")))
    assert list(swallowed("async def work():\n    with suppress(trio.Cancelled):\n        f()\n"))
    test = "async def test_it({}) -> None:\n    await trio.sleep({})\n"
    assert list(real_sleeps(test.format("", "2"))) == [2]
    assert not list(real_sleeps(test.format("autojump_clock: MockClock", "2")))
    assert not list(real_sleeps(test.format("", "0")))
