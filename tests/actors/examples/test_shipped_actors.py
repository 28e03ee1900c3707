"""What comes along is installed, documented with tables that load, and made of public names."""

import ast
import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import polyactors
from polyactors.extensions.listing import listing_lines
from polyactors.extensions.loading import installed, load_actors
from polyactors.extensions.spec import option_fields

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs" / "how-to").glob("shipped-actors*.md"))
BLOCK = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLES = [
    pytest.param(block, id=f"{page.stem}:{number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
]


def shipped() -> dict[str, str]:
    """The entry points of the project file, whether or not it is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries: dict[str, str] = project["entry-points"]["polyactors.actors"]
    return entries


def target_of(entry: str) -> Any:
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)


def modules() -> list[Path]:
    folder = Path(str(polyactors.__file__)).parent / "examples"
    return [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]


@pytest.mark.parametrize("block", TABLES)
def test_a_table_of_the_documents_loads(block: str) -> None:
    tables: dict[str, dict[str, object]] = tomllib.loads(block)["actors"]
    for name, table in tables.items():
        target = str(table.get("actor", name))
        table["actor"] = shipped().get(target, target)
    specs = load_actors([], tables)
    assert [spec.name for spec in specs] == list(tables)


def test_every_option_is_in_the_documents() -> None:
    tables = [tomllib.loads(str(one.values[0]))["actors"] for one in TABLES]
    for name, entry in shipped().items():
        shown = {key for table in tables for key in table.get(name, ())}
        missing = {field.alias for field in option_fields(target_of(entry))} - shown
        if any(name in table for table in tables):
            assert not missing, name


def test_what_is_installed_is_what_the_project_file_says() -> None:
    found = {name: entry.value for name, entry in installed().items()}
    if not set(shipped()) & set(found):
        pytest.skip("polyactors is not installed, only on the path")
    assert shipped().items() <= found.items()
    lines = list(listing_lines())
    assert not any("broken" in line for line in lines)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_an_example_knows_only_what_users_know(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            ours = [alias.name for alias in node.names if alias.name.startswith("polya")]
            assert not ours or ours == ["polyactors"]
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("poly"):
            assert node.module == "polyactors"
            assert {alias.name for alias in node.names} <= set(polyactors.__all__)
