"""The installed actors, told to a person: what each takes, its options, or why it is broken."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

import attrs

from polyactors.errors import UsageError
from polyactors.extensions.loading import GROUP, installed, resolve
from polyactors.extensions.policy import ActorPolicy
from polyactors.extensions.spec import actor_spec, check_name, option_fields, option_key
from polyactors.extensions.takes import Takes, takes_of

INDENT = "    "


def listing_lines() -> Iterator[str]:
    """What `polyactors actors list` prints. A broken package is told, and is no error."""
    entries = installed()
    if not entries:
        yield f"no actors are installed (entry-point group {GROUP})"
    for name, entry in entries.items():
        try:
            target = resolve(check_name(name))
            takes = _takes(target)
        except UsageError as error:
            yield f"{name}  {entry.value}"
            yield f"{INDENT}broken: {error}"
            continue
        yield f"{name}  {entry.value}"
        summary = (inspect.getdoc(target) or "").partition("\n\n")[0].replace("\n", " ")
        if summary:
            yield f"{INDENT}{summary}"
        yield f"{INDENT}takes {takes}"
        for field in option_fields(target):
            yield f"{INDENT}{_option(field)}"
    if entries:
        yield ""
        yield "Run one with --actor NAME; set its options in a table [actors.NAME] of --config."
        yield f"Every actor's table may have, too: {', '.join(_policy_keys())}."


def _takes(target: object) -> Takes:
    if isinstance(target, type):
        handle = getattr(target, "handle", None)
        if handle is not None:
            return takes_of(handle, f"{target.__qualname__}.handle")
    return actor_spec(target).takes  # which says what is wrong, if it is no function


def _option(field: "attrs.Attribute[Any]") -> str:
    kind = getattr(field.type, "__name__", str(field.type))
    if not isinstance(field.type, type):
        kind = str(field.type).replace("typing.", "")
    default = field.default
    if default is attrs.NOTHING:
        return f"{option_key(field)}: {kind}, required{_help(field)}"
    made: Any = default
    if isinstance(made, attrs.Factory):  # type: ignore[arg-type]
        made = "…" if made.takes_self else made.factory()
    return f"{option_key(field)}: {kind} = {_as_toml(made)}{_help(field)}"


def _as_toml(value: object) -> str:
    """A default as it would stand in the table."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _help(field: "attrs.Attribute[Any]") -> str:
    text = field.metadata.get("help")
    return f", {text}" if text else ""


def _policy_keys() -> list[str]:
    return [field.name for field in attrs.fields(ActorPolicy)]
