"""From what a user writes to actors: `module:Class`, an installed actor's name, a table.

[actors.candles]                       # the name of an installed actor, or with `actor`:
actor = "my_package.watch:Watch"
seconds = 60                           # its options and, beside them, its policy:
overflow = "drop_oldest"
"""

import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from polyactors.errors import UsageError
from polyactors.extensions.spec import POLICY_KEYS, ActorSpec, actor_spec

GROUP = "polyactors.actors"
"""The entry-point group of installed actors."""


def load_actors(
    named: Iterable[str], tables: Mapping[str, object], source: str = "the configuration"
) -> list[ActorSpec]:
    """The actors that `named` asks for (`module:Class`, or an installed name) and those of the
    tables [actors.NAME] of `source`. What is named and has a table is one actor.

    Raises UsageError: one sentence that names what is wrong and where.
    """
    specs = [_of_table(name, table, source) for name, table in tables.items()]
    found = {spec.name for spec in specs}
    for target in dict.fromkeys(named):
        if target not in found:
            name = None if ":" in target else target
            specs.append(actor_spec(resolve(target), name=name))
    return specs


def _of_table(name: str, table: object, source: str) -> ActorSpec:
    where = f"[actors.{name}] in {source}"
    if not isinstance(table, dict):
        raise UsageError(f"actors.{name} in {source} must be a table: write [actors.{name}]")
    keys = dict(cast("dict[str, object]", table))
    target = keys.pop("actor", name)
    if not isinstance(target, str):
        raise UsageError(f"{where}: actor must be a text like 'module:Class', not {target!r}")
    policy = {key: keys.pop(key) for key in POLICY_KEYS & keys.keys()}
    try:
        found = resolve(target)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return actor_spec(found, name=name, options=keys, policy=policy, where=where)


def installed() -> dict[str, EntryPoint]:
    """The installed actors, by name, sorted. None is imported."""
    found = entry_points(group=GROUP)
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.name)}


def resolve(target: str) -> object:
    """The class or function that a text stands for.

    Modules of the working directory are found, too. Raises UsageError.
    """
    module, colon, attribute = target.partition(":")
    if colon:
        return _attribute(_module(module, target), attribute, target)
    entries = installed()
    if target not in entries:
        near = get_close_matches(target, entries, n=1)
        hint = f"did you mean {near[0]!r}" if near else "`polyactors actors list` shows them"
        raise UsageError(
            f"no actor {target!r} is installed: {hint}, or write module:Class for your own"
        )
    entry = entries[target]
    return _attribute(_module(entry.module, target), entry.attr, target)


def _module(name: str, target: str) -> object:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # last, so that nothing installed is hidden
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(
                f"{target}: there is no module {error.name!r}, neither installed nor in {here}"
            ) from None
        raise UsageError(f"{target} cannot be imported: {error}{_where(error)}") from None
    except (ValueError, TypeError) as error:
        if not name or name.startswith("."):
            raise UsageError(f"{target!r} names no module: write module:Class") from None
        raise _broken(target, error) from None
    except Exception as error:
        raise _broken(target, error) from None


def _broken(target: str, error: Exception) -> UsageError:
    why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return UsageError(f"{target} cannot be imported: {why}{_where(error)}")


def _where(error: BaseException) -> str:
    """The line that failed, behind the machinery of imports."""
    if isinstance(error, SyntaxError):
        return ""  # it says so itself
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename != __file__
    ]
    outside = [frame for frame in frames if "importlib" not in frame.filename]
    return f" ({outside[-1].filename}, line {outside[-1].lineno})" if outside else ""


def _attribute(module: object, path: str, target: str) -> object:
    found = module
    for name in path.split("."):
        if not name:
            raise UsageError(f"{target!r} names no class: write module:Class")
        if not hasattr(found, name):
            names = [n for n in dir(found) if not n.startswith("_")]
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"{target}: there is no {name!r} in {_name(module)}{hint}")
        found = getattr(found, name)
    return found


def _name(module: object) -> str:
    return str(getattr(module, "__name__", module))
