"""Actors on the command line: --actor, tables, `actors list` and `new-actor`."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from polyactors import __version__
from polyactors.cli import main
from polyactors.extensions.skeleton import write_skeleton

MODULE = """\
import attrs

from polyactors import ActorContext, BookUpdated, TradePrinted


@attrs.define
class Watch:
    times: int = 1
    context: ActorContext = attrs.field(init=False)

    async def setup(self, context: ActorContext) -> None:
        self.context = context

    async def handle(self, update: BookUpdated) -> None:
        self.context.gauge("times", self.times)
        await self.context.publish("seen", token=update.token)


async def fails(update: BookUpdated, context: ActorContext) -> None:
    context.show("about to [bold]fail[/bold]\\x1b[2J")
    raise ValueError("as \\x1b[31mtold")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_actors.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_actors", raising=False)
    for name in list(os.environ):
        if name.startswith("POLYACTORS_"):
            monkeypatch.delenv(name)
    return tmp_path


def run(folder: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    found_at = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    return subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": found_at} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def demo(folder: Path, *argv: str, **environment: str) -> dict[str, Any]:
    """What the summary of a short demo says of its actors."""
    fixed = ["-m", "polyactors", "demo", "--seconds", "2", "--plain", "--no-faults", "--markets=1"]
    done = run(folder, *fixed, "--summary", "s.json", *argv, **environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback (most recent call last)" not in done.stdout
    assert "\x1b" not in done.stdout
    found: dict[str, Any] = json.loads((folder / "s.json").read_text()).get("actors", {})
    return found


# --- run and demo -------------------------------------------------------------------------


def test_an_actor_runs_in_the_demo(folder: Path) -> None:
    found = demo(folder, "--actor", "my_actors:Watch", "--events", "events.jsonl")
    assert list(found) == ["watch"]
    assert found["watch"]["handled"] > 0
    assert found["watch"]["metrics"] == {"times": 1}
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    seen = [event for event in events if event["type"] == "actor_event"]
    assert len(seen) == found["watch"]["published"]
    assert {(event["actor"], event["name"]) for event in seen} == {("watch", "seen")}
    assert all(event["data"]["token"].isdecimal() for event in seen)


def test_the_last_line_names_the_actors_that_are_not_well(folder: Path) -> None:
    (folder / "my.toml").write_text(
        '[actors.watch]\nactor = "my_actors:Watch"\n'
        '[actors.fails]\nactor = "my_actors:fails"\n'
        "gives_up_after = 1\nbackoff_seconds_min = 0.01\n"
    )
    fixed = ["-m", "polyactors", "demo", "--seconds", "2", "--plain", "--no-faults", "--markets=1"]
    done = run(folder, *fixed, "--config", "my.toml", "--summary", "s.json")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    found = json.loads((folder / "s.json").read_text())["actors"]["fails"]
    unhandled = found["queued"] + found["lost"]
    count = f"{unhandled} message{'s' * (unhandled != 1)}"
    told = f", {count} not handled" if unhandled else ""
    assert f"; actor fails gave up{told}; " in last
    assert "actor watch" not in last


def test_tables_and_options_and_the_environment_are_taken_together(folder: Path) -> None:
    (folder / "c.toml").write_text(
        'seed = 3\n[actors.mine]\nactor = "my_actors:Watch"\ntimes = 5\nmailbox = 100\n'
    )
    found = demo(folder, "--config", "c.toml", POLYACTORS_ACTOR="my_actors:fails")
    assert list(found) == ["mine", "fails"]
    assert found["mine"]["metrics"] == {"times": 5}
    assert "ValueError: as " in found["fails"]["last_failure"]
    only = demo(folder, "--config", "c.toml", "--actor", "my_actors:Watch", POLYACTORS_ACTOR="x:Y")
    assert list(only) == ["mine"]  # the table is that actor's; the option comes before the variable


MISTAKES = [
    ("--actor no_such:X", "no_such:X: there is no module 'no_such'"),
    ("--actor my_actors:Wacth", "there is no 'Wacth' in my_actors; did you mean 'Watch'?"),
    ("--actor nobody", "no actor 'nobody' is installed"),
    ("--actor my_actors.py:Watch", "'my_actors.py:Watch' names a file"),
    ("--actor my_actors:attrs", "is neither a class nor an async function"),
    ("--actor=", "no actor '' is installed"),
    ("--config actors.toml", "actors in actors.toml must be tables: write [actors.NAME]"),
    ("--config scalar.toml", "actors.mine in scalar.toml must be a table: write [actors.mine]"),
    ("--config key.toml", "[actors.mine] in key.toml: unknown key 'tmies'; the keys are times"),
    ("--config value.toml", "[actors.mine] in value.toml: times: expected a whole number, got"),
    ("--config policy.toml", "[actors.mine] in policy.toml: 'mailbox' must be >= 2: 0"),
    ("--config inf.toml", "[actors.mine] in inf.toml: 'stop_seconds_max' must be < inf"),
    ("--config two.toml --actor my_actors:Watch", "two actors have the name 'watch'"),
    ("--config actor.toml", "actor.toml: unknown key 'actor'; an actor has a table of its own"),
    ("--config one.toml", "one.toml: unknown key 'actor'; an actor has a table of its own"),
]
CONFIGS = {
    "actors": "actors = 5\n",
    "scalar": "actors.mine = 5\n",
    "key": '[actors.mine]\nactor = "my_actors:Watch"\ntmies = 3\n',
    "value": '[actors.mine]\nactor = "my_actors:Watch"\ntimes = "3"\n',
    "policy": '[actors.mine]\nactor = "my_actors:Watch"\nmailbox = 0\n',
    "inf": '[actors.mine]\nactor = "my_actors:Watch"\nstop_seconds_max = inf\n',
    "two": '[actors.watch]\nactor = "my_actors:fails"\n',
    "actor": 'actor = "my_actors:Watch"\n',
    "one": "[actor.watch]\ntimes = 3\n",
}


@pytest.mark.parametrize("command", ["run --token 1", "demo"])
@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence_before_anything_runs(
    command: str, arguments: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in CONFIGS.items():
        (folder / f"{name}.toml").write_text(text)
    assert main([*command.split(), *arguments.split()]) == 2
    printed = capsys.readouterr()
    (complaint,) = printed.err.splitlines()
    assert complaint.startswith("polyactors: ")
    assert sentence in complaint
    assert printed.out == ""


def test_infinity_is_a_limit_of_what_may_have_none(folder: Path) -> None:
    (folder / "c.toml").write_text(
        '[actors.mine]\nactor = "my_actors:Watch"\nhold_seconds_max = inf\n'
    )
    assert demo(folder, "--config", "c.toml")["mine"]["handled"] > 0


@pytest.mark.parametrize("command", ["account", "venue"])
def test_other_commands_take_no_actors(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--actor", "x:Y"]) == 2
    assert "unrecognized arguments: --actor" in capsys.readouterr().err


SCRIPT = """\
import trio
from trio.testing import MockClock

from polyactors import BookUpdated, TrustChanged
from polyactors.testing import stage


async def watch(change: TrustChanged) -> None:
    pass


async def main() -> None:
    async def fails(update: BookUpdated) -> None:
        raise ValueError("as told")

    async with stage(watch, fails) as play:
        print(play.status("watch").handled, play.status("fails").last_failure)


trio.run(main, clock=MockClock(autojump_threshold=0))
"""


def test_actors_of_a_script_run_as_well(folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT)
    done = run(folder, "script.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 crash (ValueError: as told) at script.py:14")


# --- actors list --------------------------------------------------------------------------


def install(folder: Path, *entries: str) -> None:
    made = folder / "their_package-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text("\n".join(["[polyactors.actors]", *entries, ""]))


def test_installed_actors_are_listed_and_run(folder: Path) -> None:
    install(folder, "spreads = my_actors:Watch", "broken = my_actors:Nothing", "odd = !!")
    for argv in (["actors"], ["actors", "list"]):
        done = run(folder, "-m", "polyactors", *argv)
        assert (done.returncode, done.stderr) == (0, "")
        assert "spreads  my_actors:Watch\n    takes BookUpdated\n    times: int = 1" in done.stdout
        assert "broken: broken: there is no 'Nothing' in my_actors" in done.stdout
        assert "odd: the entry point is '!!', which names no class" in done.stdout
    assert demo(folder, "--actor", "spreads")["spreads"]["handled"] > 0
    done = run(folder, "-m", "polyactors", "demo", "--actor", "broken")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_only_a_list_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["actors", "show"]) == 2
    assert "see `polyactors actors --help`" in capsys.readouterr().err


# --- new-actor ----------------------------------------------------------------------------


def test_a_new_actor_passes_its_own_test(folder: Path) -> None:
    done = run(folder, "-m", "polyactors", "new-actor", "my-watch")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cd my-watch && pip install -e '.[test]' && python -m pytest" in done.stdout
    made = folder / "my-watch"
    tested = run(made, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error")
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["polyactors.actors"] == {"my-watch": "my_watch:MyWatch"}
    assert f"polyactors>={__version__}" in project["dependencies"]
    ran = demo(made, "--actor", "my_watch:MyWatch")
    assert ran["my-watch"]["handled"] > 0


def test_a_new_actor_is_not_named_as_an_installed_one(folder: Path) -> None:
    install(folder, "spreads = my_actors:Watch")
    done = run(folder, "-m", "polyactors", "new-actor", "spreads")
    assert done.returncode == 2
    told = "polyactors: an actor 'spreads' is installed already: choose another name\n"
    assert done.stderr == told
    assert not (folder / "spreads").exists()


def test_its_test_can_fail(folder: Path) -> None:
    made = write_skeleton("other", folder)
    code = made / "other.py"
    code.write_text(code.read_text().replace("spread > self", "spread < self"))
    tested = run(made, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 1
    assert "1 failed" in tested.stdout


def test_what_it_writes_is_well_formed(folder: Path) -> None:
    pytest.importorskip("ruff")
    made = write_skeleton("bucket-watch", folder)
    for tool in (["check", "--select", "E,F,W"], ["format", "--check"]):
        done = run(made, "-m", "ruff", *tool, "--isolated", "--line-length", "100", ".")
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("My", "'My' is no name of an actor"),
        ("x-", "'x-' is no name of a package: lower-case letters, digits and -"),
        ("a_b", "'a_b' is no name of a package"),
        ("", "'' is no name of an actor"),
        ("../up", "'../up' is no name of an actor"),
        ("a" * 41, "is no name of an actor"),
        ("class", "'class' would hide what has that name already, as class or Class"),
        ("json", "'json' would hide what has that name already"),
        ("polyactors", "'polyactors' would hide what has that name already"),
        (
            "book-updated",
            "'book-updated' would hide what has that name already, as book_updated or",
        ),
        ("taken", "taken exists already: choose another name, or remove it"),
    ],
)
def test_a_wrong_name_is_one_sentence(
    name: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "taken").mkdir()
    before = sorted(folder.iterdir())
    assert main(["new-actor", name]) == 2
    (complaint,) = capsys.readouterr().err.splitlines()
    assert sentence in complaint
    assert sorted(folder.iterdir()) == before


def test_where_nothing_can_be_written_it_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert main(["new-actor", "fresh-one"]) == 2
    assert "No space left on device" in capsys.readouterr().err


def test_a_name_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-actor"]) == 2
    assert "required: NAME; see `polyactors new-actor --help`" in capsys.readouterr().err
