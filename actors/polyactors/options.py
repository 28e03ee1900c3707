"""Options: what can be set, under which names, and which source wins.

An option `data_deadline_seconds` is `--data-deadline-seconds` on the command line,
`POLYACTORS_DATA_DEADLINE_SECONDS` in the environment and `data_deadline_seconds` in the file of
`run --config`; the command line comes before the environment, the environment before the file.
A repeatable option (`--token`) is a list in the file (`tokens`) and text with commas or spaces
in the environment (`POLYACTORS_TOKEN`). A variable that is empty counts as not set.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from attrs import evolve

from polyactors.config import Settings, read_file, url_fault
from polyactors.errors import UsageError
from polyactors.option import Option

TOP_DEFAULT = 20
"""Markets that `run` follows when nothing is named."""
LOG_LEVELS = ("debug", "info", "warning", "error")


def _settings_options() -> tuple[Option, ...]:
    # A number of Settings has its minimum or must be greater than 0, as its validator says, too.
    return tuple(
        Option(
            setting.name,
            setting.type or str,
            setting.metadata["help"],
            metavar=setting.metadata.get("metavar"),
            default=setting.default,
            above=0 if setting.type in (int, float) and "minimum" not in setting.metadata else None,
            minimum=setting.metadata.get("minimum"),
            maximum=setting.metadata.get("maximum"),
            fault=url_fault if setting.metadata.get("metavar") == "URL" else None,
        )
        for setting in attrs.fields(Settings)
    )


SETTINGS = _settings_options()
FOLLOW = (
    Option("token", str, "a token id; repeatable", metavar="ID", key="tokens", is_repeatable=True),
    Option(
        "market",
        str,
        "a market, or all markets of an event; repeatable",
        metavar="SLUG|URL|CONDITION_ID",
        key="markets",
        is_repeatable=True,
    ),
    Option(
        "top",
        int,
        f"the N most active markets ({TOP_DEFAULT} when nothing is named)",
        metavar="N",
        minimum=1,
        maximum=5000,
    ),
)
CREDENTIALS = Option(
    "credentials",
    str,
    "read the API credentials from this file, not from the environment (POLYMARKET_API_KEY, "
    "POLYMARKET_API_SECRET, POLYMARKET_API_PASSPHRASE, POLYMARKET_ADDRESS)",
    metavar="FILE",
)
USER = (
    Option("user", bool, "follow the orders and trades of your own account, too", default=False),
    CREDENTIALS,
)
ACCOUNT = (
    CREDENTIALS,
    Option(
        "market",
        str,
        "only what concerns this market; repeatable",
        metavar="CONDITION_ID",
        key="markets",
        is_repeatable=True,
    ),
)
ACTORS = (
    Option(
        "actor",
        str,
        "run this actor beside the books: module:Class, or the name of an installed one; "
        "repeatable",
        metavar="MODULE:CLASS|NAME",
        is_repeatable=True,
        is_in_file=False,
    ),
)
TABLES_KEY = "actors"
"""The tables of the file that set up actors, one for each; what is in them they check."""
ACTOR_IN_FILE = f"; an actor has a table of its own: write [{TABLES_KEY}.NAME], and it runs"
OUTPUT = (
    Option(
        "events", str, "write every event as a line of JSON; - is standard output", metavar="PATH"
    ),
    Option("summary", str, "write a JSON object at the end; - is standard output", metavar="PATH"),
    Option(
        "seconds",
        float,
        "stop in order after so long",
        metavar="S",
        above=0,
        endless="leave it out to go on until you stop it",
    ),
    Option("plain", bool, "plain lines, also on a terminal", default=False),
)
LOGGING = (
    Option(
        "log_level",
        str,
        "what is logged to standard error",
        metavar="LEVEL",
        default="warning",
        choices=LOG_LEVELS,
    ),
)
REPLAY_LOGGING = (evolve(LOGGING[0], default="error"),)
"""A replay names its bad lines itself."""
CONFIG = (Option("config", str, "read options from a TOML file", metavar="FILE", is_in_file=False),)
EXCHANGE = (
    Option("seed", int, "same seed, same markets and orders", metavar="N", default=1),
    Option("markets", int, "markets listed", metavar="N", default=4, minimum=1, maximum=2000),
    Option(
        "rate",
        float,
        "engine steps a second over all markets",
        metavar="R",
        default=20.0,
        above=0,
        maximum=100_000,
    ),
)
DEMO_FAULTS = (Option("faults", bool, "let the exchange misbehave", default=True),)
VENUE_FAULTS = (
    Option("faults", bool, "let the exchange misbehave, some every 15 s", default=False),
)
LISTEN = (
    Option("host", str, "address to listen on", metavar="HOST", default="127.0.0.1"),
    Option(
        "port",
        int,
        "port of the WebSocket; 0 picks a free one",
        metavar="P",
        default=0,
        minimum=0,
        maximum=65535,
    ),
    Option(
        "rest_port",
        int,
        "port of REST and Gamma; 0 picks a free one",
        metavar="P",
        default=0,
        minimum=0,
        maximum=65535,
    ),
)
REPORT = (Option("json", bool, "print the report as one JSON object", default=False),)


def collect(
    options: Iterable[Option],
    given: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The value of every option: given, else from the environment, else the file, else default.

    `given` holds what the command line said, texts (lists of them for repeatable options) and
    booleans. The file is read when there is an option `config`. Raises UsageError that names
    the source of the first bad value.
    """
    options = tuple(options)
    environment = os.environ if environment is None else environment
    found: dict[str, Any] = {}
    for option in options:
        label = option.variable
        if text := environment.get(option.variable):
            found[option.name] = option.parse(text, label)
        if option.name in given:
            value = given[option.name]
            read = option.parse if isinstance(value, str) else option.check
            found[option.name] = read(value, option.flag)
    path = found.get("config")
    in_file = {} if path is None else _read_config(path, options)
    defaults: dict[str, Any] = {option.name: option.default for option in options}
    if _takes_actors(options):
        defaults[TABLES_KEY] = {}
    return defaults | in_file | found


def _takes_actors(options: Iterable[Option]) -> bool:
    return any(option in ACTORS for option in options)


def settings_of(values: Mapping[str, Any]) -> Settings:
    """The Settings among collected values; the fields that were not collected have defaults."""
    names = {setting.name for setting in attrs.fields(Settings)}
    return Settings(**{name: value for name, value in values.items() if name in names})


def _read_config(path: str, options: Sequence[Option]) -> dict[str, Any]:
    by_key = {option.key: option for option in options if option.is_in_file}
    found: dict[str, Any] = {}
    for key, value in read_file(path).items():
        if key == TABLES_KEY and _takes_actors(options):
            if not isinstance(value, dict):
                raise UsageError(f"{key} in {path} must be tables: write [actors.NAME]")
            found[key] = value
            continue
        option = by_key.get(key)
        if option is None:
            is_actor = key == ACTORS[0].key and _takes_actors(options)
            hint = ACTOR_IN_FILE if is_actor else _suggestion(key, by_key)
            raise UsageError(f"{path}: unknown key {key!r}{hint}")
        found[option.name] = option.check(value, f"{key} in {path}")
    return found


def _suggestion(key: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, list(known), n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return "; the keys are the long options of `polyactors run --help` with _ for -"
