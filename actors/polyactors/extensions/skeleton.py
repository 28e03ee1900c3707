"""`polyactors new-actor NAME`: the package of an actor, small and complete, with a passing test."""

import keyword
import re
from importlib.util import find_spec
from pathlib import Path

import polyactors
from polyactors.errors import UsageError
from polyactors.extensions.loading import installed
from polyactors.extensions.spec import check_name

_NAME = re.compile(r"[a-z][a-z0-9-]*")
PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["polyactors>={version}", "attrs>=24.2"]

[project.optional-dependencies]
test = ["polyactors[test]"]

# Found by `polyactors actors list`, and run by `polyactors run --actor {name}`.
[project.entry-points."polyactors.actors"]
{name} = "{package}:{cls}"

[tool.pytest.ini_options]
pythonpath = ["."]
trio_mode = true
"""
CODE = '''\
"""{cls}: an actor for polyactors. Change what it takes, what it does, and this line."""

from decimal import Decimal

import attrs
from attrs.validators import gt

from polyactors import ActorContext, BookUpdated


@attrs.define
class {cls}:
    """Publishes when the spread of a token becomes wide, and when it is narrow again."""

    spread_max: Decimal = attrs.field(default=Decimal("0.05"), validator=gt(0))
    """USDC per share. A field is an option: set it in the table [actors.{name}] of a file."""
    _wide: set[str] = attrs.field(init=False, factory=set)
    _context: ActorContext = attrs.field(init=False)

    async def setup(self, context: ActorContext) -> None:
        """Called once in each incarnation, before the first message."""
        self._context = context

    async def handle(self, update: BookUpdated) -> None:
        """Called with each message of the class that the annotation names."""
        if update.best_bid is None or update.best_ask is None or not update.settled:
            return
        spread = update.best_ask - update.best_bid
        is_wide = spread > self.spread_max
        if is_wide is not (update.token in self._wide):
            (self._wide.add if is_wide else self._wide.discard)(update.token)
            what = "spread_wide" if is_wide else "spread_narrow"
            await self._context.publish(what, token=update.token, spread=spread)
            self._context.show(f"{{len(self._wide)}} spreads are wide")
'''
TEST = '''\
"""The real service with the actor, against an exchange that does as told, on virtual time."""

from {package} import {cls}
from polyactors.testing import stage


async def test_a_wide_spread_is_told_once(autojump_clock):
    async with stage({cls}, options={{"spread_max": "0.10"}}) as play:
        play.quote(play.yes, "0.40", "0.41")
        await play.settle()
        play.events.clear()
        play.quote(play.yes, "0.40", "0.60")
        await play.settle()
        told = [data for data in play.named("spread_wide") if data["token"] == play.yes]
        assert told == [{{"token": play.yes, "spread": "0.2"}}]
'''
README = """\
# {name}

```bash
pip install -e '.[test]' && python -m pytest
python -m polyactors actors list
python -m polyactors demo --actor {name}
python -m polyactors run --config my.toml
```

In `my.toml` its table sets it up, and whatever has a table runs:

```toml
top = 5

[actors.{name}]
spread_max = 0.10
```
"""


def write_skeleton(name: str, parent: Path) -> Path:
    """Write the package `name` into a new directory of `parent`; returns the directory.

    Raises UsageError for what is no name, what exists already, and what cannot be written.
    """
    if not _NAME.fullmatch(check_name(name)) or name.endswith("-"):
        raise UsageError(f"{name!r} is no name of a package: lower-case letters, digits and -")
    if name in installed():
        raise UsageError(f"an actor {name!r} is installed already: choose another name")
    package = name.replace("-", "_")
    cls = "".join(word.capitalize() for word in name.split("-"))
    if keyword.iskeyword(package) or cls in polyactors.__all__ or find_spec(package) is not None:
        raise UsageError(
            f"{name!r} would hide what has that name already, as {package} or {cls}: choose another"
        )
    folder = parent / name
    words = {"name": name, "package": package, "cls": cls, "version": polyactors.__version__}
    files = {
        "pyproject.toml": PYPROJECT,
        f"{package}.py": CODE,
        f"tests/test_{package}.py": TEST,
        "README.md": README,
    }
    try:
        folder.mkdir()
        for path, text in files.items():
            file = folder / path
            file.parent.mkdir(exist_ok=True)
            file.write_text(text.format(**words), encoding="utf-8")
    except FileExistsError:
        raise UsageError(f"{folder} exists already: choose another name, or remove it") from None
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}") from None
    return folder


def next_steps(folder: Path) -> list[str]:
    """What to do with it."""
    return [
        f"wrote {folder.name}/: the actor, its test, pyproject.toml, README.md",
        f"  cd {folder.name} && pip install -e '.[test]' && python -m pytest",
        f"  python -m polyactors demo --actor {folder.name}",
    ]
