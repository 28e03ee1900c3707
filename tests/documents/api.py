"""Entries of a reference: what the code says of a class, a function or a constant.

As on the page of polysupervisor, but with every field, and with what a class inherits.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, cast

import attrs
from tests.supervisor.reference_page import attributes, docstring, oneline, prose, signature

COMMON = {
    "type": "Its name in JSON.",
    "token": "Token id, decimal digits.",
    "market": "Condition id, 0x and 64 hex digits.",
    "feed": "Id of the feed.",
    "epoch": "The session that it is of; epochs never repeat.",
    "time_ns": "When we took or decided it.",
    "received_at_ns": "When its batch was taken from the socket.",
    "timestamp_ms": "When the exchange said it; 0 when the wire gave none.",
}
"""What these names mean everywhere, where a class says nothing else."""
INNER_BASES = {"object", "Struct", "Generic"}
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _body(module: str) -> list[ast.stmt]:
    return ast.parse(inspect.getsource(import_module(module))).body


def find(module: str, name: str) -> tuple[ast.stmt, str | None]:
    """The definition of a name in its own module, and the text below it."""
    body = _body(module)
    for number, node in enumerate(body):
        target = getattr(node, "name", None)
        if isinstance(node, ast.Assign):
            target = ast.unparse(node.targets[0])
        elif isinstance(node, ast.AnnAssign):
            target = ast.unparse(node.target)
        if target == name:
            below = body[number + 1] if number + 1 < len(body) else ast.Pass()
            return node, docstring(below)
    raise LookupError(f"nothing in {module} defines {name}")


def entry(module: str, name: str, *, only: tuple[str, ...] = ()) -> str:
    """One name: heading, kind, text, and for a class what is in it (or `only` these members)."""
    node, text = find(module, name)
    lines = [f"### `{name}`\n"]
    if isinstance(node, ast.ClassDef):
        kind = cast("type[Any]", getattr(import_module(module), name))
        bases = [base.__name__ for base in kind.__bases__ if base.__name__ not in INNER_BASES]
        shown = ", ".join(base for base in bases if not base.startswith("_"))
        lines.append(f"*class*{f' ({shown})' if shown else ''}\n")
        lines.append(prose(ast.get_docstring(node)))
        found = dict(_members(kind))
        lines += [line for key, line in found.items() if not only or key in only]
        lines.append("")
    elif isinstance(node, FunctionNode):
        lines += [f"`{_signature(node)}`\n", prose(ast.get_docstring(node))]
    else:
        lines += [f"`{ast.unparse(node)}`\n", prose(text)]
    return "\n".join(lines)


def _signature(node: FunctionNode) -> str:
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    shown = signature(node)
    if "asynccontextmanager" in marks:
        return "async with " + shown.removeprefix("async ").partition(" -> ")[0]
    if "st.composite" in marks:  # its first argument is Hypothesis' own
        arguments, _, drawn = re.sub("draw: st.DrawFn(, )?", "", shown).partition(" -> ")
        return f"{arguments} -> SearchStrategy[{drawn}]"
    return shown


def _members(kind: type[Any]) -> Iterator[tuple[str, str]]:
    """Fields and methods of a class and of what it inherits of ours, by name; the last counts."""
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("polyactors"):
            node, _ = find(base.__module__, base.__name__)
            assert isinstance(node, ast.ClassDef)
            yield from _fields(base, node)
            for each in node.body:
                if isinstance(each, FunctionNode):
                    yield from _method(kind.__name__, each)


def _fields(kind: type[Any], node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for one, after in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if not isinstance(one, ast.AnnAssign | ast.Assign):
            continue
        name = ast.unparse(one.target if isinstance(one, ast.AnnAssign) else one.targets[0])
        if name.startswith("_"):
            continue
        shown, text = ast.unparse(one), docstring(after)
        if attrs.has(kind) and name in attrs.fields_dict(kind):
            field = attrs.fields_dict(kind)[name]
            shown = shown.partition(" = ")[0] + _default(field)
            text = text or field.metadata.get("help")
        elif issubclass(kind, Enum) and isinstance(getattr(kind, name).value, str):
            shown = f"{name} = {getattr(kind, name).value!r}"
        text = text or COMMON.get(name)
        yield name, f"* `{shown}`" + (f": {oneline(text)}" if text else "")


def _default(field: "attrs.Attribute[Any]") -> str:
    if field.default is attrs.NOTHING:
        return ""
    if isinstance(field.default, Enum):
        return f" = {type(field.default).__name__}.{field.default.name}"
    if callable(field.default):
        return f" = {field.default.__name__}"
    made = isinstance(field.default, cast("type[Any]", attrs.Factory))
    return " = …" if made else f" = {field.default!r}"


def _method(owner: str, node: FunctionNode) -> Iterator[tuple[str, str]]:
    about = ast.get_docstring(node)
    if node.name == "__init__":
        for name, told in attributes(node):
            yield name, f"* `{name}`: {oneline(told)}"
        arguments = signature(node).partition("__init__")[2].removesuffix(" -> None")
        if arguments != "()":
            yield "__init__", f"* `{owner}{arguments}`" + (f": {oneline(about)}" if about else "")
    elif not node.name.startswith("_") and about:
        marks = [ast.unparse(mark) for mark in node.decorator_list]
        shown = node.name if any("property" in mark for mark in marks) else signature(node)
        if "classmethod" in marks:
            shown = shown.replace("cls, ", "").replace("(cls)", "()")
        yield node.name, f"* `{shown}`: {oneline(about)}"
