"""Options: what can be set, under which names, and which source wins.

An option `data_deadline_seconds` is `--data-deadline-seconds` on the command line,
`POLYACTORS_DATA_DEADLINE_SECONDS` in the environment and `data_deadline_seconds` in the file of
`run --config`; the command line comes before the environment, the environment before the file.
A repeatable option (`--token`) is a list in the file (`tokens`) and text with commas or spaces
in the environment (`POLYACTORS_TOKEN`). A variable that is empty counts as not set.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import attrs
from attrs import Factory, evolve, field, frozen

from polyactors.config import ENVIRONMENT_PREFIX, Settings, read_file
from polyactors.errors import UsageError

TOP_DEFAULT = 20
"""Markets that `run` follows when nothing is named."""
LOG_LEVELS = ("debug", "info", "warning", "error")
TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
SHOWN_CHARS_MAX = 80
"""A bad value is shown up to so many characters."""
_SEPARATORS = re.compile(r"[,\s]+")


@frozen
class Option:
    """One thing that can be set."""

    name: str
    """Option and environment variable are made from it."""
    kind: type
    """str, int, float or bool; of each element when the option is repeatable."""
    help: str
    metavar: str | None = field(default=None, kw_only=True)
    default: object = field(default=None, kw_only=True)
    """None: not set."""
    is_repeatable: bool = field(default=False, kw_only=True)
    key: str = field(default=Factory(lambda self: self.name, takes_self=True), kw_only=True)
    """Its name in the file."""
    above: float | None = field(default=None, kw_only=True)
    """Exclusive lower bound."""
    minimum: float | None = field(default=None, kw_only=True)
    maximum: float | None = field(default=None, kw_only=True)
    choices: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def expected(self) -> str:
        """What a value must be, for people."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (
                ("greater than", self.above),
                ("from", self.minimum),
                (self._upper_word, self.maximum),
            )
            if bound is not None
        ]
        return " ".join([words[self.kind], *bounds])

    @property
    def _upper_word(self) -> str:
        if self.minimum is not None:
            return "to"
        return "at most" if self.above is None else "and at most"

    def parse(self, text: str, label: str) -> Any:
        """The value that `text` stands for. Raises UsageError that names `label`."""
        if self.is_repeatable:
            return [part for part in _SEPARATORS.split(text) if part]
        try:
            value = TRUTH[text.lower()] if self.kind is bool else self.kind(text)
        except (ValueError, KeyError):
            raise self._unfit(text, label) from None
        return self.check(value, label, text)

    def check(self, value: object, label: str, text: str | None = None) -> Any:
        """The value, if it is of the kind and within the bounds. Raises UsageError.

        `text` is how the user wrote it.
        """
        if self.is_repeatable:
            texts = _texts(value)
            if texts is None:
                raise UsageError(f"{label} must be a list of texts, not {value!r}")
            return texts
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if (
            type(value) is not self.kind
            or (self.choices and value not in self.choices)
            or (isinstance(value, (int, float)) and not self._is_within_bounds(value))
        ):
            raise self._unfit(value if text is None else text, label)
        if value == "":
            raise UsageError(f"{label} must not be empty")
        return value

    def _is_within_bounds(self, value: float) -> bool:
        # Written so that NaN is outside.
        return (
            value == value
            and (self.above is None or value > self.above)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
        )

    def _unfit(self, value: object, label: str) -> UsageError:
        shown = repr(value)
        if len(shown) > SHOWN_CHARS_MAX:
            shown = shown[:SHOWN_CHARS_MAX] + "…"
        return UsageError(f"{label} must be {self.expected}, not {shown}")


def _texts(value: object) -> list[str] | None:
    if not isinstance(value, list):
        return None
    elements = cast("list[object]", value)
    texts = [element for element in elements if isinstance(element, str)]
    return texts if len(texts) == len(elements) else None


def _settings_options() -> tuple[Option, ...]:
    # Every number of Settings must be greater than 0; that is what its validator says, too.
    return tuple(
        Option(
            setting.name,
            setting.type or str,
            setting.metadata["help"],
            metavar=setting.metadata.get("metavar"),
            default=setting.default,
            above=0 if setting.type in (int, float) else None,
            maximum=setting.metadata.get("maximum"),
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
OUTPUT = (
    Option(
        "events", str, "write every event as a line of JSON; - is standard output", metavar="PATH"
    ),
    Option("summary", str, "write a JSON object at the end; - is standard output", metavar="PATH"),
    Option("seconds", float, "stop in order after so long", metavar="S", above=0),
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
CONFIG = (Option("config", str, "read options from a TOML file", metavar="FILE"),)
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
VENUE_FAULTS = (Option("faults", bool, "let the exchange misbehave", default=False),)
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
    return {option.name: option.default for option in options} | in_file | found


def settings_of(values: Mapping[str, Any]) -> Settings:
    """The Settings among collected values; the fields that were not collected have defaults."""
    names = {setting.name for setting in attrs.fields(Settings)}
    return Settings(**{name: value for name, value in values.items() if name in names})


def _read_config(path: str, options: Sequence[Option]) -> dict[str, Any]:
    by_key = {option.key: option for option in options if option.name != "config"}
    found: dict[str, Any] = {}
    for key, value in read_file(path).items():
        option = by_key.get(key)
        if option is None:
            raise UsageError(f"{path}: unknown key {key!r}{_suggestion(key, by_key)}")
        found[option.name] = option.check(value, f"{key} in {path}")
    return found


def _suggestion(key: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, list(known), n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return "; the keys are the long options of `polyactors run --help` with _ for -"
