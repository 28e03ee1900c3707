"""The arguments: which commands there are, their options and help, and a line's values."""

import argparse
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from attrs import frozen

from polyactors import __version__, options
from polyactors.errors import UsageError
from polyactors.option import Option
from polyactors.options import collect
from polyactors.terminal.pipes import say

PRECEDENCE = """\
Every option can also be set in the environment: POLYACTORS_LOG_LEVEL=info for
--log-level info, POLYACTORS_PLAIN=yes for --plain, POLYACTORS_TOKEN="ID,ID" for --token.
The command line comes before the environment."""
FILE_HELP = """\
The file of --config comes last. Its keys are the names of the options with _ for -, but
tokens and markets for --token and --market, which are lists:
  markets = ["will-it-rain"]
  top = 5
  data_deadline_seconds = 20
  events = "events.jsonl"
"""
EXIT_CODES = """\
Exit codes: 0 clean, 2 usage, configuration or a full standard output, 3 a replay found a
desync, 70 gave up, 74 the file of --events is incomplete, 130 second signal or interrupted."""


@frozen
class Command:
    """A sub-command: what it is for, and which options it has, in groups."""

    name: str
    help: str
    example: str
    groups: tuple[tuple[str, tuple[Option, ...]], ...]
    epilog: str = PRECEDENCE
    takes_files: bool = False

    @property
    def options(self) -> tuple[Option, ...]:
        """All its options."""
        return tuple(option for _, group in self.groups for option in group)


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "run",
            "stream live order books (the default)",
            "polyactors run --market will-it-rain --events events.jsonl",
            (
                ("what to follow", options.FOLLOW + options.USER),
                ("output", options.OUTPUT + options.LOGGING),
                ("settings", options.CONFIG + options.SETTINGS),
            ),
            f"{PRECEDENCE}\n{FILE_HELP}",
        ),
        Command(
            "account",
            "your own orders, trades and positions, complete after every reconnect",
            "polyactors account --credentials account.toml",
            (
                ("what to follow", options.ACCOUNT),
                ("output", options.OUTPUT + options.LOGGING),
                ("settings", options.CONFIG + options.SETTINGS),
            ),
        ),
        Command(
            "demo",
            "the same service against an exchange in this process that misbehaves; no network",
            "polyactors demo --seconds 30 --seed 1",
            (
                ("the exchange", options.EXCHANGE + options.DEMO_FAULTS),
                ("output", options.OUTPUT + options.LOGGING),
            ),
        ),
        Command(
            "venue",
            "that exchange alone, on two ports; its first line is the options for `run`",
            "polyactors venue --port 8001 --rest-port 8002 --faults",
            (
                ("the exchange", options.EXCHANGE + options.VENUE_FAULTS),
                ("where", options.LISTEN),
                ("output", options.LOGGING),
            ),
        ),
        Command(
            "replay",
            "recorded frames, one a line, through the same actors",
            "polyactors replay recorded.jsonl.gz --json",
            (("output", options.REPORT + options.REPLAY_LOGGING),),
            takes_files=True,
        ),
    )
}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that never breaks a URL."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")

    def _print_message(self, message: str, file: object = None) -> None:
        # Help and version, the only ones; argparse itself would not say that it failed.
        say(message.removesuffix("\n"))


def make_parser(command: Command) -> argparse.ArgumentParser:
    """The parser of one sub-command; values stay text, what is not given is absent."""
    parser = _Parser(
        prog=f"polyactors {command.name}",
        usage=f"polyactors {command.name} [OPTION …]" + " FILE …" * command.takes_files,
        description=f"{command.help}.\n\nExample: {command.example}",
        epilog=command.epilog,
        formatter_class=_Help,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    if command.takes_files:
        parser.add_argument(
            "files", metavar="FILE", nargs="+", help="one WebSocket frame a line; .gz, .zst too"
        )
    for title, group in command.groups:
        arguments = parser.add_argument_group(title)
        for option in group:
            _add(arguments.add_argument, option)
    return parser


def _add(add_argument: Callable[..., object], option: Option) -> None:
    text = option.help.replace("%", "%%")
    if option.kind is bool:
        state = "on" if option.default else "off"
        add_argument(
            option.flag, action=argparse.BooleanOptionalAction, help=f"{text} (default {state})"
        )
        return
    if option.choices:
        text += f": {', '.join(option.choices)}"
    if option.default is not None:
        shown = f"{option.default:g}" if option.kind is float else option.default
        text += f" (default {shown})"
    add_argument(
        option.flag,
        metavar=option.metavar,
        help=text,
        action="append" if option.is_repeatable else "store",
    )


def make_main_parser() -> argparse.ArgumentParser:
    """The parser that stands before the sub-commands: it only explains."""
    lines = [f"  {command.name:8}{command.help}" for command in COMMANDS.values()]
    lines += ["", "examples:"]
    lines += [f"  {command.example}" for command in COMMANDS.values()]
    parser = _Parser(
        prog="polyactors",
        usage="polyactors [--version] [-h] [COMMAND] [OPTION …]",
        description="Correct, live Polymarket order books from a supervised stream.\n\ncommands:\n"
        + "\n".join(lines),
        epilog=f"`polyactors COMMAND --help` lists the options of a command.\n{EXIT_CODES}",
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"polyactors {__version__}")
    return parser


def parse(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The command and its values, from every source. Raises UsageError, SystemExit for --help."""
    first = argv[0] if argv else ""
    if first in ("-h", "--help", "--version"):
        make_main_parser().parse_args(argv[:1])
    if first in COMMANDS:
        argv = argv[1:]
    elif first and not first.startswith("-"):
        known = ", ".join(COMMANDS)
        raise UsageError(f"there is no command {first!r}; the commands are {known}")
    command = COMMANDS[first if first in COMMANDS else "run"]
    given = vars(make_parser(command).parse_args(argv))
    files = given.pop("files", None)
    values = collect(command.options, given)
    return command.name, values if files is None else values | {"files": files}
