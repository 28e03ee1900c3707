"""Actors by `module:Class`, by the name of an installed one, and by a table."""

import itertools
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from polyactors import UsageError
from polyactors.extensions.listing import listing_lines
from polyactors.extensions.loading import installed, load_actors, resolve

WATCH = '''\
"""A module of a user's."""

import attrs

from polyactors import ActorContext, BookUpdated, actor


@attrs.define
class Watch:
    """Watches spreads,
    day and night.

    Not shown.
    """

    times: int
    ratio: float = attrs.field(default=0.5, metadata={"help": "how much"})
    tokens: list[str] = attrs.field(factory=list)

    async def handle(self, update: BookUpdated) -> None: ...

    class Inner:
        async def handle(self, update: BookUpdated) -> None: ...


@actor(mailbox=10)
async def watch_all(updates: list[BookUpdated], context: ActorContext) -> None: ...


number = 5
'''
_numbers = itertools.count()


class Place:
    """A directory on the path; each of its modules has a name that no other test has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def module(self, text: str) -> str:
        name = f"user_module_{next(_numbers)}"
        (self.folder / f"{name}.py").write_text(text)
        return name

    def install(self, entries: str, name: str = "their_package") -> None:
        folder = self.folder / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(entries)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Place(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("user_module"):
            del sys.modules[name]


def group(*lines: str) -> str:
    return "\n".join(("[polyactors.actors]", *lines, ""))


def refused(target: str) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(target)
    return str(caught.value)


# --- module:Class -------------------------------------------------------------------------


def test_a_class_a_function_and_a_nested_class_are_found(place: Place) -> None:
    name = place.module(WATCH)
    for attribute in ("Watch", "watch_all", "Watch.Inner"):
        found = resolve(f"{name}:{attribute}")
        assert getattr(found, "__qualname__", "") == attribute


def test_a_module_of_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    name = Place(tmp_path).module(WATCH)
    assert resolve(f"{name}:watch_all") is not None
    assert sys.path[-1] == str(tmp_path)  # last: nothing that is installed is hidden
    del sys.modules[name]


def test_what_is_not_there_is_told(place: Place) -> None:
    name = place.module(WATCH)
    assert refused("no_such:X").startswith("no_such:X: there is no module 'no_such', neither inst")
    assert "there is no module 'no_such'" in refused("no_such.deep:X")
    assert f"there is no module '{name}.deep'" in refused(f"{name}.deep:X")
    near = refused(f"{name}:Wacth")
    assert near == f"{name}:Wacth: there is no 'Wacth' in {name}; did you mean 'Watch'?"
    assert refused(f"{name}:Nothing") == f"{name}:Nothing: there is no 'Nothing' in {name}"
    assert "there is no 'Inn' in" in refused(f"{name}:Watch.Inn")


@pytest.mark.parametrize("target", [":", ":X", ".x:X", "..:X"])
def test_what_names_no_module_is_told(target: str) -> None:
    assert refused(target) == f"'{target}' names no module: write module:Class"


def test_what_names_no_class_is_told(place: Place) -> None:
    name = place.module(WATCH)
    for target in (f"{name}:", f"{name}:.", f"{name}:Watch."):
        assert refused(target) == f"'{target}' names no class: write module:Class"


@pytest.mark.parametrize("target", ["watch.py:Watch", "./watch.py:Watch", "dir/watch:Watch"])
def test_a_file_is_no_module(target: str) -> None:
    assert refused(target) == (
        f"'{target}' names a file: write the module as `import` has it, such as watch:Watch"
    )


@pytest.mark.parametrize(
    ("text", "why", "line"),
    [
        ("x = 1\nraise RuntimeError('not today')\n", "RuntimeError: not today", 2),
        ("def f():\n    return 1 / 0\n\nf()\n", "ZeroDivisionError: division by zero", 2),
        ("import no_such_thing\n", "No module named 'no_such_thing'", 1),
        ("from polyactors import Wacth\n", "ImportError: cannot import name 'Wacth'", 1),
        ("assert False\n", "AssertionError", 1),
        ("\nimport sys\nsys.exit(3)\n", "SystemExit: 3", 3),
        ("\nraise ValueError('two\\nlines')\n", "ValueError: two\nlines", 2),
        (
            "from polyactors import actor\n\n@actor(mailboxes=3)\nclass A: ...\n",
            "TypeError: ActorPolicy.__init__() got an unexpected keyword argument 'mailboxes'",
            3,
        ),
    ],
)
def test_a_module_that_fails_is_told_with_its_line(
    place: Place, text: str, why: str, line: int
) -> None:
    name = place.module(text)
    said = refused(f"{name}:X")
    assert said.startswith(f"{name}:X cannot be imported: {why}")
    assert said.endswith(f"({place.folder / name}.py, line {line})")


def test_a_syntax_error_is_told_with_its_line(place: Place) -> None:
    name = place.module("x = 1\nclass X(\n")
    assert f"({name}.py, line 2)" in refused(f"{name}:X")


def test_an_interrupt_while_it_is_imported_is_no_mistake(place: Place) -> None:
    name = place.module("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        resolve(f"{name}:X")


# --- installed ----------------------------------------------------------------------------


def test_an_installed_actor_is_found_by_its_name(place: Place) -> None:
    name = place.module(WATCH)
    place.install(group(f"watcher = {name}:watch_all", f"zoo = {name}:Watch"))
    assert {"watcher", "zoo"} <= set(installed())
    (spec,) = load_actors(["watcher"], {})
    assert spec.name == "watcher"
    assert spec.policy.mailbox == 10


def test_a_near_miss_is_told(place: Place) -> None:
    place.install(group("spread-watch = a:B"))
    assert refused("spread-wacht") == (
        "no actor 'spread-wacht' is installed: did you mean 'spread-watch', "
        "or write module:Class for your own"
    )
    assert "`polyactors actors list` shows them" in refused("something-else")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("no_such_module:X", "broken1: there is no module 'no_such_module'"),
        ("json:NoSuchThing", "broken1: there is no 'NoSuchThing' in json"),
        ("json", "broken1: the entry point is 'json', which names no class: it needs module:Class"),
        ("a b c", "broken1: the entry point is 'a b c', which names no class"),
        ("!!", "broken1: the entry point is '!!', which names no class"),
    ],
)
def test_a_broken_entry_point_is_told(place: Place, value: str, sentence: str) -> None:
    place.install(group(f"broken1 = {value}"))
    assert refused("broken1").startswith(sentence)


def test_a_broken_distribution_does_not_hide_the_others(place: Place) -> None:
    name = place.module(WATCH)
    place.install(group("this is no line of an entry point", "= x:Y", "[", "odd"), "aa_broken")
    (place.folder / "bb_broken-1.0.dist-info").mkdir()
    (place.folder / "bb_broken-1.0.dist-info" / "entry_points.txt").write_text("")
    place.install(group(f"fine = {name}:watch_all"))
    assert callable(resolve("fine"))


def test_the_listing_tells_each(place: Place) -> None:
    name = place.module(WATCH)
    broken = place.module("raise RuntimeError('not today')\n")
    place.install(
        group(
            f"zz-aaa = {name}:Watch",
            f"zz-bbb = {name}:watch_all",
            f"zz-ccc = {broken}:Watch",
            f"zz-ddd = {name}:number",
            "zz-eee = !!",
            f"Fff = {name}:watch_all",
        )
    )
    text = "\n".join(listing_lines())
    assert (
        f"zz-aaa  {name}:Watch\n"
        "    Watches spreads, day and night.\n"
        "    takes BookUpdated\n"
        "    times: int, required\n"
        "    ratio: float = 0.5, how much\n"
        "    tokens: list[str] = []\n"
        f"zz-bbb  {name}:watch_all\n"
        "    takes list[BookUpdated]\n"
    ) in text
    assert (
        f"zz-ccc  {broken}:Watch\n    broken: zz-ccc cannot be imported: RuntimeError: not" in text
    )
    assert f"zz-ddd  {name}:number\n    broken: 5 is neither a class nor an async function" in text
    assert "zz-eee  !!\n    broken: zz-eee: the entry point is '!!'" in text
    assert f"Fff  {name}:watch_all\n    broken: 'Fff' is no name of an actor" in text
    assert "Run one with --actor NAME" in text


def test_nothing_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: object) -> list[EntryPoint]:
        return []

    monkeypatch.setattr("polyactors.extensions.loading.entry_points", none)
    assert list(listing_lines()) == [
        "no actors are installed (entry-point group polyactors.actors)"
    ]


# --- tables -------------------------------------------------------------------------------


def tables_refused(named: list[str], tables: Mapping[str, object]) -> str:
    with pytest.raises(UsageError) as caught:
        load_actors(named, tables, "c.toml")
    return str(caught.value)


def test_a_table_sets_up_an_actor_of_ones_own(place: Place) -> None:
    name = place.module(WATCH)
    table = {"actor": f"{name}:Watch", "times": 3, "mailbox": 7, "overflow": "drop_oldest"}
    (spec,) = load_actors([], {"mine": table})
    assert spec.name == "mine"
    assert dict(spec.options) == {"times": 3}
    assert (spec.policy.mailbox, spec.policy.overflow) == (7, "drop_oldest")
    assert table["actor"] == f"{name}:Watch"  # it is the caller's


def test_a_table_sets_up_an_installed_actor_that_may_be_named_as_well(place: Place) -> None:
    name = place.module(WATCH)
    place.install(group(f"watcher = {name}:watch_all"))
    for named in ([], ["watcher"], ["watcher", "watcher"]):
        (spec,) = load_actors(named, {"watcher": {"mailbox": 5}})
        assert (spec.name, spec.policy.mailbox) == ("watcher", 5)


def test_one_class_can_be_several_actors(place: Place) -> None:
    name = place.module(WATCH)
    tables = {key: {"actor": f"{name}:Watch", "times": n} for n, key in enumerate("ab")}
    specs = load_actors([f"{name}:watch_all"], tables)
    assert [spec.name for spec in specs] == ["a", "b", "watch-all"]


def test_two_actors_of_one_name_are_told_before_anything_runs(place: Place) -> None:
    name = place.module(WATCH)
    other = place.module(WATCH)
    said = tables_refused([f"{name}:watch_all", f"{other}:watch_all"], {})
    assert said.startswith("two actors have the name 'watch-all': give one its own")
    table = {"watch-all": {"actor": f"{name}:watch_all"}}
    assert "two actors have the name 'watch-all'" in tables_refused([f"{other}:watch_all"], table)


def test_a_table_named_by_its_target_is_one_actor(place: Place) -> None:
    """The table has a name of its own, and `--actor` says what it stands for."""
    name = place.module(WATCH)
    table = {"mine": {"actor": f"{name}:Watch", "times": 3}}
    (spec,) = load_actors([f"{name}:Watch"], table)
    assert spec.name == "mine"


def test_wrong_tables_are_told_with_their_place(place: Place) -> None:
    name = place.module(WATCH)
    where = "[actors.mine] in c.toml: "
    watch = f"{name}:Watch"
    assert tables_refused([], {"mine": 5}) == (
        "actors.mine in c.toml must be a table: write [actors.mine]"
    )
    for table, said in (
        ({"actor": 5}, "actor must be a text like 'module:Class', not 5"),
        ({}, "no actor 'mine' is installed"),
        ({"actor": watch}, "times: it must be set"),
        ({"actor": watch, "times": "3"}, "times: expected a whole number, got '3'"),
        ({"actor": watch, "times": 3, "tiems": 1}, "unknown key 'tiems'; the keys are ratio, t"),
        ({"actor": watch, "times": 3, "mailbox": 0}, "'mailbox' must be >= 2"),
        ({"actor": f"{name}:watch_all", "x": 1}, "watch_all takes no options, so 'x' cannot"),
        ({"actor": f"{name}:number"}, "5 is neither a class nor an async function"),
    ):
        assert tables_refused([], {"mine": table}).startswith(where + said), table
    said = tables_refused([], {"Mine": {"actor": watch, "times": 3}})
    assert said.startswith("[actors.Mine] in c.toml: 'Mine' is no name of an actor")


def test_an_actor_that_needs_options_says_so_when_it_is_only_named(place: Place) -> None:
    name = place.module(WATCH)
    said = tables_refused([f"{name}:Watch"], {})
    where = "without a table [actors.NAME] in the file of --config"
    assert said == f"{name}:Watch, {where}: times: it must be set"
