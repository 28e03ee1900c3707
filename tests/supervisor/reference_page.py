"""The reference page of polysupervisor, from its signatures and docstrings.

``python tests/supervisor/reference_page.py`` writes it.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import polysupervisor
from polysupervisor import testing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "polysupervisor.md"
HEAD = """\
# polysupervisor

Every public name, from the docstrings of the code (`python tests/supervisor/reference_page.py`
writes this page). All seconds are those of Trio's clock. What it means and how it fits together:
[Supervision, from one child to a tree](../explanation/supervision.md).
"""
SECTIONS = {
    "Supervisors": ["Supervisor", "DynamicSupervisor", "ShardedSupervisor"],
    "Specifications": [
        "ChildSpec", "Run", "Restart", "Strategy", "Backoff", "Intensity", "Shutdown",
        "MailboxSpec", "Overflow", "HoldLimit",
    ],
    "Inside an actor": ["Context", "Inbox", "Actor"],
    "Messages": ["Address", "Reply", "MailboxStats", "MailboxGap"],
    "Following others": ["Monitor", "Up", "Down", "Registry"],
    "What can be seen": [
        "Event", "EventKind", "EventBus", "Subscription", "ExitReason", "ExitKind", "ChildInfo",
        "ChildState", "Counts", "TreeNode", "Started",
    ],
}  # fmt: skip
"""The remaining names follow: the process, then errors, then the testing kit."""
INNER_BASES = {"ABC", "Generic", "Nestable", "Watcher"}
FOR_THE_RUNTIME = re.compile(r"For (the \w+|supervisors)\.$")


def names_of(module: ModuleType) -> list[str]:
    """The public names of a module, in the order of its ``__all__`` or of its text."""
    listed: list[str] | None = getattr(module, "__all__", None)
    if listed is not None:
        return listed
    tree = ast.parse(inspect.getsource(module))
    names = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [name for name in names if not name.startswith("_")]


def page() -> str:
    """Return the text of the page."""
    parts = [HEAD]
    left = set(names_of(polysupervisor))
    for title, names in SECTIONS.items():
        parts += [f"## {title}\n", *(entry(polysupervisor, name) for name in names)]
        left -= set(names)
    errors = [name for name in sorted(left) if is_error(getattr(polysupervisor, name))]
    others = [name for name in sorted(left) if name not in errors]
    parts += ["## The process\n", *(entry(polysupervisor, name) for name in others)]
    parts += ["## Errors\n", *(entry(polysupervisor, name) for name in errors)]
    parts += ["## polysupervisor.testing\n", *(entry(testing, name) for name in names_of(testing))]
    return "\n".join(parts)


def is_error(thing: object) -> bool:
    """Say whether it is an exception class."""
    return isinstance(thing, type) and issubclass(thing, Exception)


def entry(module: ModuleType, name: str) -> str:
    """One public name: heading, signature, text, and for a class what is in it."""
    node, text = find(module, name)
    lines = [f"### `{name}`\n"]
    if isinstance(node, ast.ClassDef):
        bases = [ast.unparse(base) for base in node.bases]
        shown = ", ".join(base for base in bases if base.partition("[")[0] not in INNER_BASES)
        lines.append(f"*class*{f' ({shown})' if shown else ''}\n")
        lines.append(prose(ast.get_docstring(node)))
        lines += members(node)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        lines += [f"`{signature(node)}`\n", prose(ast.get_docstring(node))]
    else:
        lines += [f"`{ast.unparse(node)}`\n", prose(text)]
    return "\n".join(lines)


def members(node: ast.ClassDef) -> Iterator[str]:
    """Fields and methods of a class, with what the docstrings say."""
    for field, text in fields(node):
        yield f"* `{field}`: {oneline(text)}"
    for each in node.body:
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        about = ast.get_docstring(each)
        if each.name == "__init__":
            yield from (f"* `{field}`: {oneline(told)}" for field, told in attributes(each))
            arguments = [one for one in signature(each).split(", ") if one]
            if len(arguments) > 1:
                yield f"* `{node.name}{signature(each).partition('__init__')[2]}`"
        elif not each.name.startswith("_") and about and not FOR_THE_RUNTIME.search(about):
            is_property = any("property" in ast.unparse(mark) for mark in each.decorator_list)
            shown = each.name if is_property else signature(each)
            yield f"* `{shown}`: {oneline(about)}"
    yield ""


def fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Annotated or enumerated fields that have a text below them."""
    for one, after in zip(node.body, node.body[1:], strict=False):
        text = docstring(after)
        if text is None or not isinstance(one, ast.AnnAssign | ast.Assign):
            continue
        shown = ast.unparse(one)
        shown = re.sub(r" = attrs\.field\(.*?(default=([^,)]+\)?))?.*$", _default, shown)
        yield shown, text


def _default(match: re.Match[str]) -> str:
    return f" = {match[2]}" if match[2] else ""


def attributes(init: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, str]]:
    """Public attributes that ``__init__`` sets with a text below them."""
    for one, after in zip(init.body, init.body[1:], strict=False):
        text = docstring(after)
        if text is None or not isinstance(one, ast.AnnAssign | ast.Assign):
            continue
        target = one.targets[0] if isinstance(one, ast.Assign) else one.target
        name = ast.unparse(target).removeprefix("self.")
        if not name.startswith("_"):
            yield name, text


def docstring(node: ast.stmt) -> str | None:
    """The text of an expression that is nothing but a text."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        value = node.value.value
        return inspect.cleandoc(value) if isinstance(value, str) else None
    return None


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """``async name(arguments) -> result``, without ``self``."""
    arguments = re.sub(r"^self(, )?", "", ast.unparse(node.args))
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{prefix}{node.name}({arguments}){result}"


def find(module: ModuleType, name: str) -> tuple[ast.stmt, str | None]:
    """The definition of a name, wherever the package has it, and the text below it."""
    thing = getattr(module, name)
    home = inspect.getmodule(thing) if inspect.isclass(thing) or inspect.isfunction(thing) else None
    candidates = [home] if home else [m for m in vars_of_package() if hasattr(m, name)]
    for candidate in candidates:
        body = ast.parse(inspect.getsource(candidate)).body
        for number, node in enumerate(body):
            target = getattr(node, "name", None)
            if isinstance(node, ast.Assign):
                target = ast.unparse(node.targets[0])
            if target == name:
                below = body[number + 1] if number + 1 < len(body) else ast.Pass()
                return node, docstring(below)
    raise LookupError(f"nothing defines {name}")


def vars_of_package() -> list[ModuleType]:
    """The modules of the package that are imported."""
    return [m for m in vars(polysupervisor).values() if isinstance(m, ModuleType)]


def prose(text: str | None) -> str:
    """A docstring as Markdown."""
    plain = re.sub(r":class:`~?(?:\w+\.)*(\w+)`", r"`\1`", text or "")
    plain = plain.replace("``", "`")
    return re.sub(r"::\n\n((?:    .*\n?|\n)+)", "\n", plain).rstrip() + "\n"


def oneline(text: str) -> str:
    """A docstring as one item of a list."""
    return " ".join(prose(text).split())


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
