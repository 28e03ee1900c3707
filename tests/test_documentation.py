"""Every code block of README and docs runs, against the embedded exchange instead of the net."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTS = re.compile(
    r"\s+It prints( something like)?:?\n\n```(?:text)?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
"""What a page says that the block before it prints: exactly, or with other numbers."""
SECONDS_MAX = 60


def blocks(language: str) -> list[object]:
    """Of each block its text, and what the page shows of its output, if it does."""
    found: list[object] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1] == language:
                line = text[: match.start()].count("\n") + 1
                shown = PRINTS.match(text, match.end())
                name = f"{page.relative_to(ROOT)}:{line}"
                found.append(pytest.param(match[2], shown, id=name))
    return found


def assert_is_shown(printed: str, shown: re.Match[str]) -> None:
    """The page shows what was printed, or with other numbers some lines of it."""
    is_alike, lines = shown[1], shown[2]
    if is_alike:
        missing = set(map(shape_of, lines.splitlines())) - set(map(shape_of, printed.splitlines()))
        assert not missing, f"nothing like {missing} in\n{printed}"
    else:
        assert printed == lines


def shape_of(line: str) -> str:
    return re.sub(r"[0-9]+(?:\.[0-9]+)?", "0", line.strip())


@pytest.fixture(scope="module")
def exchange() -> Iterator[dict[str, str]]:
    """An environment whose endpoints are a running venue's."""
    venue = subprocess.Popen(
        [sys.executable, "-m", "polyactors", "venue", "--seed", "1", "--markets", "6"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": python_path()},
    )
    assert venue.stdout is not None
    options = shlex.split(venue.stdout.readline())
    named = dict(zip(options[::2], options[1::2], strict=True))
    yield {
        "POLYACTORS_WS_URL": named["--ws-url"],
        "POLYACTORS_CLOB_URL": named["--clob-url"],
        "POLYACTORS_GAMMA_URL": named["--gamma-url"],
    }
    venue.send_signal(signal.SIGTERM)
    assert venue.wait(10) == 0
    venue.stdout.close()


def python_path() -> str:
    """Where this run of pytest finds our packages: the checkout, or nothing for a wheel."""
    return os.pathsep.join(path for path in sys.path if path)


def run(argv: list[str], cwd: Path, exchange: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=cwd,
        # CI: Hypothesis makes allowance for a busy machine.
        env=os.environ | exchange | {"PYTHONPATH": python_path(), "CI": "true"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def run_python(code: str, cwd: Path, exchange: dict[str, str]) -> str:
    """What a block prints; its tests are called, too."""
    tests = re.findall(r"^def (test_\w+)\(", code, re.MULTILINE)
    calls = "".join(f"\n{name}()" for name in tests)
    done = run([sys.executable, "-W", "error", "-c", code + calls], cwd, exchange)
    assert done.returncode == 0, done.stderr
    assert done.stdout or tests, "an example that shows nothing"
    return done.stdout


def run_commands(code: str, cwd: Path, exchange: dict[str, str]) -> None:
    """Run the commands of a block, one after the other; each shows something."""
    frames = cwd / "frames.jsonl"
    frames.write_text('{"event_type":"book","asset_id":"1","market":"0x1","bids":[],"asks":[]}\n')
    for line in code.splitlines():
        # What installs is run by CI in a fresh environment; SLUG stands for a market's.
        command = line.split("#")[0].removeprefix("pip install . && ").strip()
        if not command.startswith("python -m polyactors"):
            assert command.startswith("pip install"), f"no test knows how to run {line!r}"
            continue
        words = shlex.split(command.replace("SLUG", first_slug(exchange)))
        argv = [sys.executable, *words[1:]]
        if words[3] in ("run", "demo"):
            argv += ["--seconds", "3"]
        if words[3] == "venue":
            serves(argv, cwd)
            continue
        done = run(argv, cwd, exchange)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip(), f"{line} shows nothing"


@pytest.mark.parametrize(("code", "shown"), blocks("python"))
def test_python_blocks_run(
    code: str, shown: re.Match[str] | None, tmp_path: Path, exchange: dict[str, str]
) -> None:
    printed = run_python(code, tmp_path, exchange)
    if shown is not None:
        assert_is_shown(printed, shown)


@pytest.mark.parametrize(("code", "shown"), blocks("bash"))
def test_commands_run(
    code: str, shown: re.Match[str] | None, tmp_path: Path, exchange: dict[str, str]
) -> None:
    assert shown is None, "the output of commands is not compared yet"
    run_commands(code, tmp_path, exchange)


def serves(argv: list[str], cwd: Path) -> None:
    """A venue runs until it is stopped, and says first how to use it."""
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as venue:
        assert venue.stdout is not None
        assert venue.stdout.readline().startswith("--ws-url ws://")
        venue.send_signal(signal.SIGINT)
        assert venue.wait(10) == 0


def first_slug(exchange: dict[str, str]) -> str:
    import httpx2

    url = exchange["POLYACTORS_GAMMA_URL"] + "/markets/keyset?limit=1"
    page = httpx2.get(url).json()
    return str(page["markets"][0]["slug"])


def rows_of(page: str, heading: str) -> dict[str, list[str]]:
    """The first table behind a heading: by its first cell, the others."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    table = text.split(f"\n## {heading}\n", 1)[1].split("\n|---", 1)[1].split("\n\n", 1)[0]
    rows = [row.strip("|").split("|") for row in table.splitlines()[1:]]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in rows}


def test_the_life_of_a_trade_is_the_one_that_is_followed() -> None:
    from polyactors.account.trades import TRANSITIONS

    told: dict[str, set[str]] = {
        status: set() if cells[1] == "nothing" else set(cells[1].split(", "))
        for status, cells in rows_of("real-time/user-channel.md", "The life of a trade").items()
    }
    assert told == {
        status.value: {one.value for one in following} for status, following in TRANSITIONS.items()
    }


def test_every_field_of_an_accounts_events_is_named() -> None:
    from polyactors import events
    from polyactors.user import reading

    named = rows_of("reference/events.md", "The account")
    for name, kind in (
        ("order", reading.OrderReading),
        ("trade", reading.TradeReading),
        ("fill", reading.FillReading),
    ):
        assert in_order(named[f"`{name}`"][0]) == list(kind.__struct_fields__)
    named = rows_of_events()
    for event in (
        events.AccountStateChanged,
        events.OrderChanged,
        events.TradeChanged,
        events.PositionChanged,
    ):
        fields = list(event.__struct_fields__)
        assert ["time_ns", *in_order(named[f"`{event.type}`"][0])] == fields


def rows_of_events() -> dict[str, list[str]]:
    text = (ROOT / "docs/reference/events.md").read_text(encoding="utf-8")
    rows = [row.strip("|").split("|") for row in text.splitlines() if row.startswith("| `")]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in rows}


def in_order(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_every_output_that_a_page_shows_is_compared() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        behind_blocks = sum(
            PRINTS.match(text, block.end()) is not None
            for block in BLOCK.finditer(text)
            if block[1] == "python"
        )
        assert text.count("\nIt prints") == behind_blocks, page.name


def test_every_anchor_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", text):
            path = (page.parent / target).resolve() if target else page
            assert anchor in anchors_of(path), f"{page.name} links to {target}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def test_every_page_is_linked_from_another() -> None:
    linked: set[Path] = set()
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            assert path.exists(), f"{page.name} links to {target}"
            linked.add(path)
    missing = [page for page in PAGES[1:] if page.resolve() not in linked]
    assert not missing


def test_the_readme_fits_one_screen_and_names_both_commands() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 90
    assert "pip install . && python -m polyactors demo" in readme
    assert "pip install '.[test]' && python -m pytest" in readme
