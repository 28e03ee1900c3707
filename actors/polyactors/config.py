"""Settings: one attrs class from which options, environment names and the file's keys follow.

A field `ws_url` is the option `--ws-url`, the variable `POLYACTORS_WS_URL` and the key
`ws_url` of the TOML file; options come before the environment, the environment before the file.
"""

import math
import os
import tomllib
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import attrs
import cattrs
from attrs import frozen

from polyactors.errors import UsageError

ENVIRONMENT_PREFIX = "POLYACTORS_"

TOKENS_PER_CONNECTION_MAX = 10_000
FEED_GAVE_UP_RETRY_SECONDS = 60.0
"""A feed that gave up is tried again after so long, doubling up to the maximum below."""
FEED_GAVE_UP_RETRY_SECONDS_MAX = 600.0
BACKOFF_SECONDS_MIN = 0.25
DISCOVERY_SECONDS_MAX = 30.0
"""The longest wait before Gamma is asked again."""


def _is_bool(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"{attribute.name} must be True or False, not {value!r}")


def _switch(default: bool, help_text: str) -> Any:
    return attrs.field(default=default, validator=_is_bool, metadata={"help": help_text})


def url_fault(url: str) -> str | None:
    """Why no path can be appended to a URL; None when one can.

    The URL is not repeated in it: what stands before an @ may be a password.
    """
    try:
        names_user = "@" in urlsplit(url).netloc
    except ValueError:
        return None  # no URL at all, which is said by whoever takes it apart
    if names_user:
        return "must not name a user: the exchange knows none"
    if "?" in url or "#" in url:
        return "must not have a query (?…) or a fragment (#…): a path is appended to it"
    return None


def _base_url(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{attribute.name} must be a text, not {value!r}")
    fault = url_fault(value)
    if fault is not None:
        raise UsageError(f"{attribute.name} {fault}")


def _url(default: str, help_text: str) -> Any:
    return attrs.field(
        default=default, validator=_base_url, metadata={"help": help_text, "metavar": "URL"}
    )


def _in_range(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    name, metadata = attribute.name, attribute.metadata
    if isinstance(value, bool) or not isinstance(value, int if attribute.type is int else _NUMBER):
        kind = "a whole number" if attribute.type is int else "a number"
        raise UsageError(f"{name} must be {kind}, not {value!r}")
    minimum, maximum = metadata.get("minimum"), metadata.get("maximum")
    if minimum is None and not value > 0:
        raise UsageError(f"{name} must be greater than 0")
    if minimum is not None and not value >= minimum:
        raise UsageError(f"{name} must be {minimum} or greater")
    if maximum is not None and value > maximum:
        most = "a finite number" if value == math.inf else f"at most {maximum:g}"
        raise UsageError(f"{name} must be {most}")


_NUMBER = (int, float)


def _number(default: float, help_text: str, **metadata: Any) -> Any:
    """A number greater than 0; from 0 when `metadata` has that for a `minimum`."""
    return attrs.field(
        default=default, validator=_in_range, metadata={"help": help_text} | metadata
    )


@frozen(kw_only=True)
class Settings:
    """Everything that a user can set. Units stand last in the names."""

    ws_url: str = _url(
        "wss://ws-subscriptions-clob.polymarket.com/ws",
        "base of the WebSocket endpoint; /market or /user is appended",
    )
    clob_url: str = _url("https://clob.polymarket.com", "REST endpoint of the order books")
    gamma_url: str = _url(
        "https://gamma-api.polymarket.com", "REST endpoint of the market listings"
    )
    ping_interval_seconds: float = _number(10.0, "seconds between text PINGs", metavar="S")
    pong_deadline_seconds: float = _number(
        25.0, "a PING unanswered for so long fails the connection", metavar="S"
    )
    data_deadline_seconds: float = _number(
        30.0, "a feed without data for so long (PONG is no data) has stalled", metavar="S"
    )
    first_book_deadline_seconds: float = _number(
        10.0, "a subscribed token without a book for so long is redriven", metavar="S"
    )
    connect_timeout_seconds: float = _number(
        10.0, "a connection or upgrade that takes longer has failed", metavar="S"
    )
    send_timeout_seconds: float = _number(
        10.0, "a connection that takes no data for so long is half-open", metavar="S"
    )
    rest_timeout_seconds: float = _number(
        10.0, "a REST request that takes longer has failed", metavar="S"
    )
    reconnect_seconds_max: float = _number(
        30.0,
        "the longest wait before a reconnect (none at first, then 0.25 s, doubling, jittered)",
        metavar="S",
    )
    stable_session_seconds: float = _number(
        60.0,
        "a session that brought changes for so long makes the next reconnect quick again",
        metavar="S",
    )
    audit_seconds: float = _number(
        60.0, "every book is compared with REST's at least so often", metavar="S"
    )
    hash_budget_percent: float = _number(
        2.0,
        "of one core, at most, for hashing books in turn",
        metavar="PERCENT",
        maximum=100.0,
    )
    reconcile_seconds: float = _number(
        60.0, "the account is compared with REST's lists at least so often", metavar="S"
    )
    history_days: float = _number(
        0.0,
        "older trades of the account are not asked for; 0: all there ever were",
        metavar="DAYS",
        minimum=0,
    )
    tokens_per_connection: int = _number(
        200,
        "more tokens open further connections; above some 500 Polymarket delivers nothing",
        metavar="N",
        maximum=TOKENS_PER_CONNECTION_MAX,
    )
    redundancy: int = _number(
        1,
        "connections for each token: what one of them misses, another has",
        metavar="N",
        maximum=4,
    )
    rotation_seconds: float = _number(
        0.0,
        "a session that old is replaced by a fresh one, without a break; 0: never",
        metavar="S",
        minimum=0,
    )
    ids_per_frame: int = _number(
        100, "token ids in one subscription frame at most", metavar="N", maximum=100
    )
    frame_bytes_max: int = _number(
        64 * 2**20, "a larger frame ends the connection (1009)", metavar="BYTES"
    )
    custom_features: bool = _switch(
        True, "ask for best_bid_ask, new_market and market_resolved events"
    )


def _strict_float(value: Any, _: type) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


def _strict_int(value: Any, _: type) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _strict_bool(value: Any, _: type) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {value!r}")
    return value


def _strict_str(value: Any, _: type) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value


def _strict_decimal(value: Any, _: type) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"expected a number, got {value!r}")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise ValueError(f"expected a number, got {value!r}")
    return number


def make_converter() -> cattrs.Converter:
    """A converter for what users write: nothing is guessed, and every unknown key is a fault."""
    converter = cattrs.Converter(forbid_extra_keys=True, use_alias=True)
    hooks: list[tuple[Any, Callable[[Any, type], Any]]] = [
        (float, _strict_float),
        (int, _strict_int),
        (bool, _strict_bool),
        (str, _strict_str),
        (Decimal, _strict_decimal),
    ]
    for type_, hook in hooks:
        converter.register_structure_hook(type_, hook)
    converter.register_structure_hook_func(_is_literal, _strict_literal)
    _be_strict_with_lists(converter)
    return converter


def _is_literal(type_: Any) -> bool:
    return get_origin(type_) is Literal


def _strict_literal(value: Any, type_: Any) -> Any:
    for allowed in get_args(type_):
        if value == allowed and type(value) is type(allowed):
            return value
    raise ValueError(f"expected one of {', '.join(map(repr, get_args(type_)))}, got {value!r}")


def _be_strict_with_lists(converter: cattrs.Converter) -> None:
    """A text is no list of its letters, which cattrs takes it for."""
    asked: set[Any] = set()

    def is_collection(type_: Any) -> bool:
        origin = get_origin(type_) or type_
        is_one = isinstance(origin, type) and issubclass(origin, Collection)
        return is_one and not issubclass(origin, str | bytes | Mapping) and type_ not in asked

    def hook_of(type_: Any) -> Callable[[Any, Any], Any]:
        asked.add(type_)
        try:
            take = converter.get_structure_hook(type_, cache_result=False)
        finally:
            asked.discard(type_)

        def strict_list(value: Any, kind: Any) -> Any:
            if not isinstance(value, list | tuple | set | frozenset):
                raise TypeError(f"expected a list, got {value!r}")
            return take(value, kind)

        return strict_list

    converter.register_structure_hook_factory(is_collection, hook_of)


_converter = make_converter()


def parse_text(name: str, text: str, type_: Any) -> Any:
    """A value from the environment, where everything is text. Raises UsageError."""
    try:
        if type_ is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                text.lower()
            ]
        return type_(text)
    except (ValueError, KeyError):
        words = {float: "a number", int: "a whole number", bool: "true or false"}
        raise UsageError(f"{name} must be {words[type_]}, not {text!r}") from None


def read_file(path: str) -> dict[str, Any]:
    """The keys of a TOML file. Raises UsageError when it cannot be read or is no TOML."""
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None


def from_environment(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The settings found as POLYACTORS_… in the environment; an empty one counts as not set.

    Raises UsageError.
    """
    environment = os.environ if environment is None else environment
    found: dict[str, Any] = {}
    for field in attrs.fields(Settings):
        name = ENVIRONMENT_PREFIX + field.name.upper()
        if text := environment.get(name):
            found[field.name] = parse_text(name, text, field.type)
    return found


def make_settings(values: Mapping[str, Any], *, source: str = "the configuration") -> Settings:
    """Settings from plain values. Raises UsageError that names every key in question."""
    try:
        settings = _converter.structure(dict(values), Settings)
    except cattrs.ClassValidationError as error:
        raise UsageError(f"{source}: {'; '.join(_problems(error))}") from None
    for field in attrs.fields(Settings):
        maximum = field.metadata.get("maximum")
        value = getattr(settings, field.name)
        if value == math.inf:  # for programs only: a replay has no deadline
            raise UsageError(f"{source}: {field.name} must be a finite number")
        if maximum is not None and value > maximum:
            raise UsageError(f"{source}: {field.name} must be at most {maximum}")
    return settings


def _problems(error: cattrs.ClassValidationError) -> list[str]:
    of_keys, of_all = error.group_exceptions()
    problems = [f"{note.name}: {problem}" for problem, note in of_keys]
    for problem in of_all:
        if isinstance(problem, cattrs.ForbiddenExtraKeysError):
            problems += [f"unknown key {key!r}" for key in sorted(problem.extra_fields)]
        else:  # a validator's, which names its key
            problems.append(str(problem))
    return problems
