"""The reference of the errors: who was wrong, what follows, and the exit codes."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from tests.documents.api import entry, find
from tests.documents.living import Node, observe
from tests.documents.markdown import table
from tests.supervisor.reference_page import names_of, oneline

import polysupervisor._app
from polyactors import cli, errors
from polysupervisor import Backoff, Intensity, Restart
from polysupervisor import errors as supervision

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "errors.md"
HEAD = """\
# Errors and exit codes

From the code (`python -m tests.documents` writes this page). An error says who was wrong: you, the
exchange or the network, or we. What you did is a `UsageError`, one sentence that says what to do.
What the exchange or the network did is expected: it ends in a restart after a backoff, never in
your program. A bug of ours crashes one actor, which is restarted and counted.

So a program has to handle few: `UsageError` from `open_service`, `BookNotLive` and `UnknownToken`
from `book`, `AccountNotLive` from `account.read`, and `polysupervisor.SupervisorEscalation` when
the service has given up. Trio's own (`Cancelled`, exception groups) pass untouched; `open_service`
raises the error itself, in no group.
"""
RESTARTS = """\
## What an error does to an actor

Read off the running tree. An error of a class that is *expected* is no bug: it waits for its
backoff and spends no restart intensity. Any other spends one restart of its supervisor's, and when
there are more than that the supervisor gives up: [supervision](../explanation/supervision.md).
"""
SUPERVISION = """\
## Errors of the supervisors

All in `polysupervisor`, and [described there](polysupervisor.md#errors). Of these a program that
uses `open_service` meets the first alone, and `NotRunning` from `follow` while the service stops.
"""
EXITS = """\
## Exit codes

What is said besides, and when: [command line](command-line.md#input-signals-output).
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD, "## Errors of polyactors\n", _drawn(errors)]
    classes = [name for name in names_of(errors) if isinstance(getattr(errors, name), type)]
    parts += [entry(errors.__name__, name) for name in classes]
    head = ("actor", "restarted", "expected", "backoff", "its supervisor's restarts")
    parts += [RESTARTS, table(head, _restarts(observe().root))]
    parts += [SUPERVISION, _drawn(supervision)]
    parts += [EXITS, table(("code", "name", "when"), _exits())]
    return "\n".join(parts)


def _drawn(module: ModuleType) -> str:
    """The tree of errors in a module's docstring."""
    text = inspect.cleandoc(module.__doc__ or "").replace("``", "")
    found = re.search(r"^ *(\w+\n(?:^ *[├└│].*\n?)+)", text + "\n", re.MULTILINE)
    assert found is not None, module.__name__
    return f"```text\n{inspect.cleandoc(found[0])}\n```\n"


def _restarts(node: Node) -> Iterator[list[str]]:
    for child in node.children:
        number = re.search(r"-\d+$", child.id)
        if number is not None and number[0] != "-0":
            continue  # one feed is as the other
        spec = child.spec
        path = child.path.removeprefix("root/").replace("-0", "-k")
        if spec is None:  # as polysupervisor does with an instance
            yield [path, "never: the one above it gives up at once", "nothing", "", ""]
        else:
            yield [
                path,
                "always" if spec.restart is Restart.PERMANENT else "unless it returned",
                ", ".join(f"`{kind.__name__}`" for kind in spec.expected) or "nothing",
                _backoff(spec.backoff),
                _intensity(node.intensity),
            ]
        yield from _restarts(child)


def _backoff(backoff: Backoff | None) -> str:
    if backoff is None:
        return "none: at once"
    first = "none at first, then " if backoff.first_immediate else ""
    return f"{first}{backoff.min:g} to {backoff.max:g} s"


def _intensity(intensity: Intensity | None) -> str:
    assert intensity is not None
    each = " each" if intensity.scope == "child" else ""
    then = "then it is left down" if intensity.on_exhausted == "give_up" else "then it gives up"
    return f"{intensity.limit} in {intensity.period:g} s{each}, {then}"


def _exits() -> Iterator[list[str]]:
    found: dict[int, list[str]] = {}
    for module in (cli, polysupervisor._app):
        for name, code in vars(module).items():
            if name.startswith("EXIT_") and code not in found:
                _, text = find(module.__name__, name)
                found[code] = [str(code), f"`{name}`", oneline(text or "")]
    return (found[code] for code in sorted(found))
