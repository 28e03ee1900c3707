"""The command line in this process: help, mistakes, exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from polyactors import __version__, cli, commands, replay, run
from polyactors.cli import EXIT_EVENTS_MISSING, main
from polyactors.cli.arguments import COMMANDS, make_parser, parse
from polyactors.errors import UsageError
from polysupervisor import EXIT_ESCALATION

HEAVY = ("trio", "rich", "httpx2", "structlog", "msgspec", "hypercorn", "starlette", "stamina")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("POLYACTORS_"):
            monkeypatch.delenv(name)


def stop_before_running(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Mapping[str, Any]]:
    """Replace a command by one that keeps the values it was called with."""
    calls: list[Mapping[str, Any]] = []

    def command(values: Mapping[str, Any]) -> int:
        calls.append(values)
        return 0

    monkeypatch.setattr(commands, "COMMANDS", {**commands.COMMANDS, name: command})
    return calls


@pytest.mark.parametrize("argv", [["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_printed_and_clean(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    printed = capsys.readouterr()
    assert "xample" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([name, "--help"])
    printed = capsys.readouterr().out
    for option in COMMANDS[name].options:
        assert option.flag in printed


def test_help_needs_nothing_heavy() -> None:
    program = (
        "import sys\nfrom polyactors.cli import main\n"
        f"for argv in (['--help'], *([name, '--help'] for name in {list(COMMANDS)})):\n"
        "    assert main(argv) == 0\n"
        f"found = [name for name in {HEAVY} if name in sys.modules]\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"polyactors {__version__}\n"


def test_run_is_the_command_when_none_is_named() -> None:
    assert parse([])[0] == "run"
    command, values = parse(["--token", "1", "--token", "2", "--top", "3", "--plain"])
    assert command == "run"
    assert (values["token"], values["top"], values["plain"]) == (["1", "2"], 3, True)


def test_the_values_of_every_option_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stop_before_running(monkeypatch, "demo")
    argv = "demo --seed 7 --markets 2 --rate 5 --no-faults --seconds 3 --events - --plain"
    argv += " --actor a:B --actor c"
    assert main(argv.split()) == 0
    assert calls == [
        {
            "seed": 7,
            "markets": 2,
            "rate": 5.0,
            "faults": False,
            "seconds": 3.0,
            "events": "-",
            "summary": None,
            "plain": True,
            "log_level": "warning",
            "actor": ["a:B", "c"],
            "actors": {},
            "config": None,
        }
    ]


def test_faults_are_on_in_the_demo_and_off_in_the_venue() -> None:
    assert parse(["demo"])[1]["faults"] is True
    assert parse(["venue"])[1]["faults"] is False


def test_nothing_named_means_the_twenty_most_active_markets() -> None:
    assert run.wanted_of(parse([])[1]).top == 20
    assert run.wanted_of(parse(["--token", "1"])[1]).top == 0
    assert run.wanted_of(parse(["--market", "rain"])[1]).top == 0


MISTAKES = [
    (
        "nonsense",
        "there is no command 'nonsense'; the commands are run, account, demo, venue, replay",
    ),
    ("--nonsense", "unrecognized arguments: --nonsense; see `polyactors run --help`"),
    ("run extra", "unrecognized arguments: extra"),
    ("run --to 1", "unrecognized arguments: --to"),
    ("run --token", "--token: expected one argument"),
    ("run --faults", "unrecognized arguments: --faults"),
    ("demo --faults=maybe", "--faults"),
    ("run --top 0", "--top must be a whole number from 1 to 5000, not '0'"),
    ("run --top 5001", "--top must be"),
    ("run --top 1.5", "--top must be"),
    ("run --seconds -1", "--seconds must be a number greater than 0, not '-1'"),
    ("run --seconds 0", "--seconds must be"),
    ("run --seconds nan", "--seconds must be"),
    (
        "demo --seconds inf",
        "--seconds must be a finite number greater than 0, not 'inf'; leave it out to go on until",
    ),
    ("demo --seconds=-inf", "--seconds must be a finite number"),
    ("run --seconds soon", "--seconds must be"),
    ("run --ping-interval-seconds 0", "--ping-interval-seconds must be a number greater than 0"),
    ("run --pong-deadline-seconds inf", "--pong-deadline-seconds must be a finite number"),
    ("run --ids-per-frame 101", "greater than 0 and at most 100"),
    ("run --log-level loud", "--log-level must be one of debug, info, warning, error, not 'loud'"),
    ("run --token abc", "'abc' is not a token id"),
    ("run --token 12x", "'12x' is not a token id"),
    ("run --token=-1", "'-1' is not a token id"),
    (f"run --token {2**256}", "is not a token id"),
    ("run --market https://polymarket.com/", "is not the URL of a market; expected"),
    ("run --market a/b", "is not a market: expected its slug, URL or condition id"),
    ("run --ws-url http://example.org", "is not a WebSocket URL; expected wss://HOST/PATH"),
    ("run --ws-url wss://example.org:99999", "is not a URL"),
    ("run --ws-url ws://example.org/ws?x=1", "--ws-url must not have a query"),
    ("run --ws-url ws://example.org/ws#x", "--ws-url must not have a query (?…) or a fragment"),
    ("run --ws-url ws://me:secret@example.org/ws", "--ws-url must not name a user"),
    ("run --clob-url https://me@example.org", "--clob-url must not name a user"),
    ("run --gamma-url https://example.org?x=1", "--gamma-url must not have a query"),
    ("run --token 1 --clob-url ftp://example.org", "is not a URL; expected https://HOST"),
    ("run --token 1 --gamma-url gamma", "is not a URL; expected https://HOST"),
    ("run --config {tmp}/none.toml", "cannot read the configuration"),
    ("run --config {tmp}", "cannot read the configuration"),
    ("run --events {tmp}/none/e", "cannot write the events to"),
    ("run --summary {tmp}", "cannot write the summary to"),
    ("run --events {tmp}/a --summary {tmp}/a", "give each its own file"),
    ("run --events=", "--events must not be empty"),
    ("demo --rate 0", "--rate must be a number greater than 0"),
    ("demo --rate -1", "--rate must be"),
    ("demo --rate inf", "--rate must be"),
    ("demo --markets 0", "--markets must be a whole number from 1"),
    ("demo --seed x", "--seed must be a whole number, not 'x'"),
    ("venue --rate inf", "--rate must be a finite number greater than 0 and at most 100000"),
    ("venue --rate nan", "--rate must be a number"),
    ("venue --port 65536", "--port must be a whole number from 0 to 65535, not '65536'"),
    ("venue --host a..b", "cannot listen on a..b:0"),
    ("replay", "the following arguments are required: FILE; see `polyactors replay --help`"),
    ("replay {tmp}/none.jsonl", "cannot read"),
    ("replay {tmp}", "cannot read"),
    ("replay {tmp}/words.txt", "has no readable line; expected one WebSocket frame (JSON) a line"),
    ("replay {tmp}/words.txt", ", which is not what --events writes"),
    ("replay {tmp}/empty.txt", "has no readable line"),
    ("replay {tmp}/words.gz", "cannot read"),
    ("replay {tmp}/many.txt", "has no readable line"),
]
LINES_BEFORE = {"words.txt": 1, "many.txt": replay.BAD_LINES_NAMED_MAX + 1}
"""What a replay says of single lines before its sentence."""


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.txt").write_text("these are no frames\n")
    (tmp_path / "words.gz").write_text("this is not gzipped\n")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "many.txt").write_text("no frame\n" * 300)
    assert main(arguments.format(tmp=tmp_path).split()) == 2
    printed = capsys.readouterr()
    complaint = printed.err.splitlines()[-1]
    assert complaint.startswith("polyactors: ")
    assert sentence in complaint
    assert "Traceback" not in printed.err
    assert len(printed.err.splitlines()) == 1 + LINES_BEFORE.get(arguments.rpartition("/")[2], 0)
    assert printed.out == ""


def test_a_taken_port_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["venue", "--rest-port", str(port)]) == 2
    printed = capsys.readouterr()
    assert f"cannot listen on 127.0.0.1:{port}: the port is in use" in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("error", "code", "complaint"),
    [
        (UsageError("say it"), 2, "polyactors: say it\n"),
        (
            ExceptionGroup("", [ExceptionGroup("", [UsageError("say it")])]),
            2,
            "polyactors: say it\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()]), 130, ""),
    ],
)
def test_what_ends_a_command_becomes_an_exit_code(
    error: BaseException,
    code: int,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(values: Mapping[str, Any]) -> int:
        raise error

    monkeypatch.setattr(commands, "COMMANDS", {"demo": fail})
    assert main(["demo"]) == code
    assert capsys.readouterr().err == complaint


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(values: Mapping[str, Any]) -> int:
        raise ExceptionGroup("", [UsageError("a mistake"), RuntimeError("a bug")])

    monkeypatch.setattr(commands, "COMMANDS", {"demo": fail})
    with pytest.raises(ExceptionGroup):
        main(["demo"])


def polyactors(
    *argv: str, redirection: str = "", stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """A process of its own, with the shell's `redirection`, buffered as users have it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PYTHONUNBUFFERED", None)
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    return subprocess.run(
        [*shell, sys.executable, "-m", "polyactors", *argv],
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_reader_who_leaves_ends_it_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = polyactors("--help", stdout=write_end)
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


FULL = "polyactors: cannot write to standard output: No space left on device; redirect it"
CLOSED = "polyactors: standard output is closed; redirect it"
SHORT_DEMO = ("demo", "--seconds", "0.3", "--markets", "1", "--no-faults")
has_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no /dev/full"
)


@has_full_device
@pytest.mark.parametrize(
    "argv", [("--help",), ("--version",), ("venue",), ("replay", "--json", "{tmp}"), SHORT_DEMO]
)
def test_a_full_standard_output_is_one_sentence(argv: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text(FRAMES)
    words = [word.format(tmp=path) for word in argv]
    done = polyactors(*words, redirection=">/dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith(FULL)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("argv", [("--help",), ("venue",), (*SHORT_DEMO, "--events", "-")])
def test_a_closed_standard_output_is_one_sentence(argv: tuple[str, ...]) -> None:
    done = polyactors(*argv, redirection=">&-")
    assert done.returncode == 2
    assert done.stderr.startswith(CLOSED)
    assert len(done.stderr.splitlines()) == 1


def test_what_is_only_shown_can_go_to_a_closed_standard_output(tmp_path: Path) -> None:
    events, summary = tmp_path / "events.jsonl", tmp_path / "summary.json"
    argv = (*SHORT_DEMO, "--events", str(events), "--summary", str(summary))
    done = polyactors(*argv, redirection=">&-")
    assert done.returncode == 0
    assert done.stderr == "polyactors: standard output is closed, so nothing is shown\n"
    assert json.loads(summary.read_text())["tokens"] == {"LIVE": 2}
    assert all(json.loads(line)["type"] for line in events.read_text().splitlines())


def test_a_closed_standard_error_sends_nothing_to_standard_output() -> None:
    done = polyactors("demo", "--seconds", "0", redirection="2>&-")
    assert (done.returncode, done.stdout) == (2, "")


@has_full_device
def test_an_events_file_that_cannot_be_written_is_an_exit_code_of_its_own() -> None:
    done = polyactors(*SHORT_DEMO, "--events", "/dev/full", "--summary", "-")
    assert done.returncode == EXIT_EVENTS_MISSING == 74
    summary = json.loads(done.stdout)
    assert summary["tokens"] == {"LIVE": 2}
    assert summary["events_missing"] > 0
    logged = [line for line in done.stderr.splitlines() if " ERROR " in line]
    assert len(logged) == 1
    assert "file='/dev/full' why='No space left on device'" in logged[0]
    assert "events are missing from /dev/full: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_encoding_without_an_ellipsis_is_no_reason_to_fail() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "polyactors", "run", "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


STOP_WHILE_IMPORTING = """
import signal, sys
from polyactors.cli import main

class Stop:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Stop())
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("module", "code"), [("polyactors.options", 130), ("trio", 0), ("polyactors.demo", 0)]
)
def test_a_stop_while_it_still_imports_is_quiet_and_in_order_once_the_arguments_are_read(
    module: str, code: int, tmp_path: Path
) -> None:
    program = STOP_WHILE_IMPORTING.format(module=module)
    summary = tmp_path / "summary.json"
    done = subprocess.run(
        [sys.executable, "-c", program, "demo", "--markets", "1", "--summary", str(summary)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
    if code == 0:
        assert json.loads(summary.read_text())["events_missing"] == 0


def test_an_interrupted_replay_has_no_result(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with subprocess.Popen(
        [sys.executable, "-m", "polyactors", "replay", str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as replaying:
        with path.open("w"):  # opens only once the other side has: it waits for a line now
            replaying.send_signal(signal.SIGTERM)
            assert replaying.wait(timeout=20) == 130
        assert replaying.stdout is not None
        assert replaying.stderr is not None
        assert replaying.stdout.read() == replaying.stderr.read() == ""


def test_the_venue_says_first_how_to_reach_it_and_ends_clean_on_a_signal() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-m", "polyactors", "venue", "--markets", "1"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as venue:
        assert venue.stdout is not None
        assert venue.stderr is not None
        options = venue.stdout.readline().split()
        venue.send_signal(signal.SIGTERM)
        assert venue.wait(timeout=20) == 0
        assert venue.stdout.read() == ""
        assert venue.stderr.read() == ""
    given = vars(make_parser(COMMANDS["run"]).parse_args(options))
    assert given.keys() == {"ws_url", "clob_url", "gamma_url"}
    assert given["ws_url"].startswith("ws://127.0.0.1:")


def test_the_demo_writes_nothing_but_data_to_a_standard_output_that_carries_data() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = "demo --seconds 1 --markets 1 --events - --summary -"
    done = subprocess.run(
        [sys.executable, "-m", "polyactors", *argv.split()],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *events, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"feed_up", "trust_changed", "book_updated"} <= {event["type"] for event in events}
    assert summary["tokens"] == {"LIVE": 2}
    assert "feed-0 up (epoch 1)" in done.stderr
    assert "stopped after " in done.stderr.splitlines()[-1]


FRAMES = (
    '{"event_type":"book","asset_id":"1","market":"0x1","timestamp":"1","hash":"",'
    '"bids":[{"price":"0.4","size":"5"}],"asks":[{"price":"0.6","size":"7"}]}\n'
)


def test_replay_prints_a_report_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text(FRAMES + "not a frame\n" + FRAMES)
    assert main(["replay", str(path)]) == 0
    printed = capsys.readouterr()
    assert "1  0.4/0.6  (1 bids, 1 asks)" in printed.out
    assert printed.err.startswith(f"{path}:2: ")
    assert len(printed.err.splitlines()) == 1


def test_replay_prints_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text(FRAMES)
    assert main(["replay", "--json", str(path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 1
    assert report["tokens"]["1"]["best_bid"] == "0.4"


def test_a_replay_names_so_many_bad_lines_and_counts_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text(FRAMES + "x\n" * (replay.BAD_LINES_NAMED_MAX + 2))
    assert main(["replay", str(path)]) == 0
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == replay.BAD_LINES_NAMED_MAX + 1 <= 6
    assert complaints[-1] == f"{path}: and 2 more bad lines"


def test_the_parser_and_the_commands_know_the_same_names() -> None:
    assert set(COMMANDS) == set(commands.COMMANDS)


def test_the_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    words = capsys.readouterr().out.partition("Exit codes:")[2].replace(",", " ").split()
    codes = [getattr(cli, name) for name in vars(cli) if name.startswith("EXIT_")]
    assert sorted({*codes, EXIT_ESCALATION}) == [int(word) for word in words if word.isdigit()]
