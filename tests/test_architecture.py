"""The arrows between the layers, read from the imports: a wrong one fails here."""

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def folder_of(package: str) -> Path:
    """Where the package under test lies: in the checkout, or where a wheel was installed."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


PACKAGES = {name: folder_of(name) for name in ("polyactors", "polysupervisor")}
IMPURE = {
    "trio", "trio_websocket", "wsproto", "httpx2", "structlog", "rich", "starlette", "hypercorn",
    "time", "random", "socket", "ssl", "logging", "threading", "asyncio", "os", "polysupervisor",
}  # fmt: skip
TOP = (
    "polyactors.cli",
    "polyactors.commands",
    "polyactors.options",
    "polyactors.outputs",
    "polyactors.preflight",
    "polyactors.run",
    "polyactors.logs",
    "polyactors.demo",
    "polyactors.replay",
    "polyactors.testing",
)
PUBLIC = ("polyactors", "polyactors.__main__")
TREE = ("polyactors.tree", "polyactors.feed_tree")
SERVICE = ("polyactors.opening", "polyactors.service", *TREE)
ACTORS = ("connection", "heartbeat", "parser", "books", "shard", "snapshots", "audit", "observer")
"""Wired by the tree; discovery is the service's own."""


def modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


MODULES = modules()


def imports(path: Path, *, with_type_checking: bool = True) -> set[str]:
    """Every module that a file imports, in full; relative imports are not used here."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if not with_type_checking:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                skipped.update(child for part in node.body for child in ast.walk(part))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
            found.update(
                f"{node.module}.{alias.name}"
                for alias in node.names
                if f"{node.module}.{alias.name}" in MODULES
            )
    return found


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("name", [name for name in MODULES if is_in(name, "polysupervisor")])
def test_polysupervisor_knows_nobody_of_ours(name: str) -> None:
    wrong = [other for other in imports(MODULES[name]) if is_in(other, "polyactors")]
    assert not wrong, f"{name} imports {wrong}, but polysupervisor stands alone"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in MODULES
        if any(is_in(name, f"polyactors.{pure}") for pure in ("book", "protocol", "account"))
    ],
)
def test_book_protocol_and_account_are_pure(name: str) -> None:
    roots = {other.split(".")[0] for other in imports(MODULES[name])}
    # The file of credentials is asked for its mode by its descriptor, which only `os` can.
    allowed = {"os"} if name == "polyactors.account.credentials" else set[str]()
    wrong = sorted(roots & (IMPURE - allowed))
    assert not wrong, f"{name} imports {wrong}, but it is pure: no I/O, no clock, no chance"


def test_the_book_knows_only_itself() -> None:
    for name, path in MODULES.items():
        if is_in(name, "polyactors.book"):
            ours = {other for other in imports(path) if is_in(other, "polyactors")}
            wrong = [other for other in ours if not is_in(other, "polyactors.book")]
            assert not wrong, f"{name} imports {wrong}, but the book knows only itself"


def test_the_protocol_knows_only_the_book() -> None:
    for name, path in MODULES.items():
        if is_in(name, "polyactors.protocol"):
            ours = {other for other in imports(path) if is_in(other, "polyactors")}
            below = ("polyactors.book", "polyactors.protocol")
            wrong = [o for o in ours if not any(is_in(o, layer) for layer in below)]
            assert not wrong, f"{name} imports {wrong}, but the protocol knows only the book"


def test_the_account_knows_only_the_protocol_the_book_and_the_errors() -> None:
    below = tuple(f"polyactors.{name}" for name in ("account", "protocol", "book", "errors"))
    for name, path in MODULES.items():
        if is_in(name, "polyactors.account"):
            ours = {other for other in imports(path) if is_in(other, "polyactors")}
            wrong = [o for o in ours if not any(is_in(o, layer) for layer in below)]
            assert not wrong, f"{name} imports {wrong}, but may know only {below}"


def test_the_venue_knows_none_of_what_reads_it() -> None:
    """A mistake in how the wire is read must not be able to hide in how it is written."""
    for name, path in MODULES.items():
        if is_in(name, "polyactors.venue"):
            readers = ("polyactors.protocol", "polyactors.account")
            wrong = [o for o in imports(path) if any(is_in(o, reader) for reader in readers)]
            assert not wrong, f"{name} imports {wrong}"


def test_actors_know_neither_the_service_nor_the_command_line() -> None:
    above = (*TOP, *SERVICE, "polyactors.terminal", "polyactors.sinks")
    for name, path in MODULES.items():
        if is_in(name, "polysupervisor") or name in PUBLIC:
            continue
        if any(is_in(name, module) for module in above):
            continue
        wrong = [
            other
            for other in imports(path, with_type_checking=False)
            if any(is_in(other, module) for module in above)
        ]
        assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("name", SERVICE)
def test_service_and_tree_know_no_command_line_and_no_venue(name: str) -> None:
    wrong = [
        other
        for other in imports(MODULES[name])
        if any(is_in(other, module) for module in (*TOP, "polyactors.terminal", "polyactors.venue"))
    ]
    assert not wrong, f"{name} imports {wrong}, which stand above it"


def test_the_tree_does_not_know_the_service_not_even_its_type() -> None:
    for name in TREE:
        assert "polyactors.service" not in imports(MODULES[name]), name
    assert "polyactors.tree" not in imports(MODULES["polyactors.feed_tree"])


def test_the_service_leaves_the_actors_to_the_tree() -> None:
    assert not imports(MODULES["polyactors.service"]) & {f"polyactors.{name}" for name in ACTORS}


def test_only_service_and_tree_build_the_tree() -> None:
    for name, path in MODULES.items():
        if name not in SERVICE:
            assert not imports(path) & set(TREE), name


def test_private_names_of_trio_websocket_are_touched_in_one_module() -> None:
    for name, path in MODULES.items():
        if name != "polyactors.pulled_websocket":
            assert "_send_channel" not in path.read_text(), name
            assert "_handle_message_event" not in path.read_text(), name


def test_every_module_is_looked_at() -> None:
    assert {*SERVICE, "polyactors.book.orderbook", "polysupervisor"} <= set(MODULES)
    assert "polyactors.account.account" in MODULES
    assert {f"polyactors.{name}" for name in ACTORS} <= set(MODULES)


def test_the_source_roots_are_no_packages() -> None:
    assert not (ROOT / "actors" / "__init__.py").exists()
    assert not (ROOT / "supervisor" / "__init__.py").exists()
