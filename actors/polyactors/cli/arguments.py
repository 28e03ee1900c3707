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
A table [actors.NAME] sets up an actor: its options and its policy; with
actor = "module:Class" one of your own.
"""
EXIT_CODES = """\
Exit codes: 0 clean, 2 usage, configuration or a full standard output, 3 a replay found a
desync, 70 gave up, 74 the file of --events is incomplete, 130 second signal or interrupted."""


@frozen
class Operand:
    """What a sub-command takes besides options."""

    name: str
    """Of the value."""
    metavar: str
    help: str
    nargs: str | None = None
    """As argparse has it; None: exactly one."""
    default: str | None = None
    choices: tuple[str, ...] | None = None

    @property
    def shown(self) -> str:
        """In the usage."""
        return {"+": f"{self.metavar} …", "?": f"[{self.metavar}]"}.get(
            self.nargs or "", self.metavar
        )


@frozen
class Command:
    """A sub-command: what it is for, and which options it has, in groups."""

    name: str
    help: str
    example: str
    groups: tuple[tuple[str, tuple[Option, ...]], ...]
    epilog: str = PRECEDENCE
    operand: Operand | None = None

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
                ("your own actors", options.ACTORS),
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
                ("your own actors", options.ACTORS + options.CONFIG),
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
            operand=Operand("files", "FILE", "one WebSocket frame a line; .gz, .zst too", "+"),
        ),
        Command(
            "actors",
            "the actors that are installed: what each takes, its options",
            "polyactors actors list",
            (),
            "What a package installs under the entry-point group polyactors.actors is here.",
            operand=Operand("what", "list", "the only thing to ask", "?", "list", ("list",)),
        ),
        Command(
            "new-actor",
            "write the package of a new actor, with a passing test",
            "polyactors new-actor my-watch",
            (),
            "NAME becomes a directory here, and the actor's name: lower-case letters, digits, -.",
            operand=Operand("name", "NAME", "what the actor is called"),
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
        usage=_usage(command),
        description=f"{command.help}.\n\nExample: {command.example}",
        epilog=command.epilog,
        formatter_class=_Help,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    operand = command.operand
    if operand is not None:
        parser.add_argument(
            operand.name,
            metavar=operand.metavar,
            nargs=operand.nargs,
            help=operand.help,
            choices=operand.choices,
            default=operand.default,
        )
    for title, group in command.groups:
        arguments = parser.add_argument_group(title)
        for option in group:
            _add(arguments.add_argument, option)
    return parser


def _usage(command: Command) -> str:
    options = [" [OPTION …]"] if command.groups else []
    operand = [f" {command.operand.shown}"] if command.operand is not None else []
    return "".join([f"polyactors {command.name}", *options, *operand])


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
    lines = [f"  {command.name:11}{command.help}" for command in COMMANDS.values()]
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
    operand = {} if command.operand is None else {command.operand.name: None}
    operand = {name: given.pop(name) for name in operand}
    return command.name, collect(command.options, given) | operand
