"""What the documents have from the code is what the code says today."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.documents import configuration
from tests.documents.api import find
from tests.documents.generated import FILES
from tests.documents.living import declared, observe
from tests.documents.python_api import ERRORS, PAGE

import polyactors
from polyactors import testing, venue
from polyactors.cli.arguments import COMMANDS
from polyactors.options import collect


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_written_file_is_that_of_the_code(path: Path) -> None:
    # Compared without white space: versions of Python break lines of unparsed code differently.
    shown, needed = path.read_text(encoding="utf-8"), FILES[path]()
    assert shown.split() == needed.split(), "run python -m tests.documents"


def test_each_message_goes_where_its_docstring_says_and_no_other_is_sent() -> None:
    assert observe().said == declared()


def test_the_tree_that_was_looked_at_was_whole() -> None:
    ids = {node.id for node in observe().root.walk()}
    assert {"core", "feed-0", "feed-1", "shard-1", "discovery", "user-feed", "events"} <= ids


def test_every_public_name_of_polyactors_has_an_entry_with_a_text() -> None:
    page = PAGE.read_text(encoding="utf-8")
    errors = PAGE.with_name("errors.md").read_text(encoding="utf-8")
    names = {*polyactors.__all__, *venue.__all__} - {"__version__"}
    names |= {name for name in testing.__dict__ if is_public(name)}
    for name in names:
        _, heading, entry = (errors if name in ERRORS else page).partition(f"### `{name}`\n")
        assert heading, name
        assert len(entry.partition("###")[0].split()) > 5, name


@pytest.mark.parametrize("kind", get_args(polyactors.Event), ids=lambda kind: kind.__name__)
def test_every_event_is_public_and_on_its_page_with_its_fields(kind: Any) -> None:
    assert kind.__name__ in polyactors.__all__
    page = PAGE.with_name("events.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{kind.type}` \| (.*) \|$", page, re.MULTILINE)
    assert row is not None, kind
    own = set(kind.__struct_fields__) - {"time_ns", "token", "market", "epoch"}
    assert own <= set(re.findall(r"`(\w+)`", row[1]))


def is_public(name: str) -> bool:
    thing = getattr(testing, name)
    return not name.startswith("_") and getattr(thing, "__module__", "") == testing.__name__


def test_every_option_of_every_command_is_in_the_configuration_reference() -> None:
    page = configuration.PAGE.read_text(encoding="utf-8")
    for command in COMMANDS.values():
        for option in command.options:
            assert f"| `{option.flag}`" in page, option.name
            assert f"`{option.variable}`" in page, option.name


def test_every_key_of_the_configuration_reference_is_taken(tmp_path: Path) -> None:
    """An option that the file cannot have is not said to have a key."""
    page = configuration.PAGE.read_text(encoding="utf-8")
    keys = set(re.findall(r"`(\w+) =`", page))
    by_key = {
        option.key: option
        for command in COMMANDS.values()
        for option in command.options
        if option.is_in_file
    }
    assert keys <= by_key.keys()


def test_the_example_of_a_file_is_one(tmp_path: Path) -> None:
    page = configuration.PAGE.read_text(encoding="utf-8")
    path = tmp_path / "polyactors.toml"
    path.write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    values = collect(COMMANDS["run"].options, {"config": str(path)}, {})
    assert values["market"] == ["will-it-rain"]
    assert values["data_deadline_seconds"] == 20.0


def test_what_no_module_defines_is_not_found() -> None:
    with pytest.raises(LookupError):
        find("polyactors.messages", "Nothing")
