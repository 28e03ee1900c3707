"""From what a user writes to actors: `module:Class`, an installed actor's name, a table.

[actors.candles]                       # the name of an installed actor, or with `actor`:
actor = "my_package.watch:Watch"
seconds = 60                           # its options and, beside them, its policy:
overflow = "drop_oldest"
"""

import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import PurePath
from typing import cast

from polyactors.errors import UsageError
from polyactors.extensions.spec import POLICY_KEYS, ActorSpec, actor_spec, check_names
from polyactors.logger import log

OURS = PurePath(__file__).parents[1]
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
    has_table = {_target(name, table) for name, table in tables.items()} | tables.keys()
    for target in dict.fromkeys(named):
        if target not in has_table:
            name = None if ":" in target else target
            where = f"{target}, without a table [actors.{name or 'NAME'}] in the file of --config"
            specs.append(actor_spec(resolve(target), name=name, where=where))
    check_names(specs)
    return specs


def _target(name: str, table: object) -> object:
    return cast("dict[str, object]", table).get("actor", name) if isinstance(table, dict) else name


def _of_table(name: str, table: object, source: str) -> ActorSpec:
    where = f"[actors.{name}] in {source}"
    if not isinstance(table, dict):
        raise UsageError(f"actors.{name} in {source} must be a table: write [actors.{name}]")
    keys = dict(cast("dict[str, object]", table))
    target = _target(name, keys)
    keys.pop("actor", None)
    if not isinstance(target, str):
        raise UsageError(f"{where}: actor must be a text like 'module:Class', not {target!r}")
    policy = {key: keys.pop(key) for key in POLICY_KEYS & keys.keys()}
    try:
        return actor_spec(resolve(target), name=name, options=keys, policy=policy, where=where)
    except UsageError as error:
        told = str(error)
        raise UsageError(told if told.startswith(where) else f"{where}: {told}") from None


def installed() -> dict[str, EntryPoint]:
    """The installed actors, by name, sorted. None is imported."""
    try:
        found = list(entry_points(group=GROUP))
    except Exception:  # one package whose entry points are no such thing spoils it for all
        found = list(_readable_entries())
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.name)}


def _readable_entries() -> Iterator[EntryPoint]:
    for package in distributions():
        try:
            yield from package.entry_points.select(group=GROUP)
        except Exception as error:
            log.warning(
                "the entry points of a package cannot be read",
                package=package.name,
                error=str(error),
            )


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
    module, attribute = _parts(entries[target])
    return _attribute(_module(module, target), attribute, target)


def _parts(entry: EntryPoint) -> tuple[str, str]:
    """Its module and its class. Raises UsageError."""
    try:
        module, attribute = str(entry.module), cast("str | None", entry.attr)
    except AttributeError:  # it does not look like one at all
        module, attribute = "", None
    if not attribute:
        raise UsageError(
            f"{entry.name}: the entry point is {entry.value!r}, which names no class: it needs "
            "module:Class"
        )
    return module, attribute


def _module(name: str, target: str) -> object:
    if name.endswith(".py") or "/" in name or os.sep in name:
        stem = PurePath(name.removesuffix(".py")).name
        attribute = target.partition(":")[2]
        raise UsageError(
            f"{target!r} names a file: write the module as `import` has it, such as "
            f"{stem}:{attribute}"
        )
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
    except (Exception, SystemExit) as error:  # a script that ends the process as it is imported
        raise _broken(target, error) from None


def _broken(target: str, error: BaseException) -> UsageError:
    why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return UsageError(f"{target} cannot be imported: {why}{_where(error)}")


def _where(error: BaseException) -> str:
    """The line that failed, behind the machinery of imports."""
    if isinstance(error, SyntaxError):
        return ""  # it says so itself
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and OURS not in PurePath(frame.filename).parents
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
