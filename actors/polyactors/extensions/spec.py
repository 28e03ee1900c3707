"""One actor of a user's as it is to run: name, class or function, options, policy."""

import inspect
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

import attrs
import cattrs
from attrs import frozen

from polyactors.config import make_converter
from polyactors.errors import UsageError
from polyactors.extensions.policy import ActorPolicy, policy_of
from polyactors.extensions.takes import Handle, Takes, takes_of

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+")
POLICY_KEYS = frozenset(field.name for field in attrs.fields(ActorPolicy))
NO_OPTIONS: Mapping[str, object] = MappingProxyType({})


@frozen
class ActorSpec:
    """An actor as it is to run. Made by `actor_spec`, which checks everything that can be."""

    name: str
    """Its name in the tree, in the stream and for other actors; one word."""
    target: type | Handle
    """A class with `handle`, or an async function that handles one message."""
    options: Mapping[str, object]
    """For the fields of the class, as TOML has them."""
    policy: ActorPolicy
    takes: Takes

    def make(self) -> object:
        """A new instance for a new incarnation; the function itself. Raises what the class
        raises."""
        if not isinstance(self.target, type):
            return self.target
        if not attrs.has(self.target):
            return self.target()
        return _converter.structure(dict(self.options), self.target)

    def handler(self, instance: object) -> Handle:
        """What handles the messages."""
        if isinstance(self.target, type):
            return cast("Handle", getattr(instance, "handle"))  # noqa: B009 - of a user's class
        return self.target


def actor_spec(
    target: object,
    *,
    name: str | None = None,
    options: Mapping[str, object] = NO_OPTIONS,
    policy: Mapping[str, object] = NO_OPTIONS,
    where: str = "",
) -> ActorSpec:
    """What an actor of a user's is, checked.

    `target` is a class with an async method `handle`, or an async function of a message.
    `options` are the fields of the class, if it is one of attrs; `policy` replaces fields of the
    ActorPolicy that it was decorated with. `where` names the table that they are from. Raises
    UsageError: one sentence that says what to change.
    """
    shown = getattr(target, "__qualname__", repr(target))
    if isinstance(target, type):
        handle = getattr(target, "handle", None)
        if not callable(handle):
            raise UsageError(f"{shown} has no `handle`: write `async def handle(self, message: …)`")
        takes = takes_of(cast("Handle", handle), f"{shown}.handle")
        _check_hooks(target, shown)
    elif inspect.isfunction(target):
        takes = takes_of(target, shown)
    else:
        raise UsageError(f"{shown} is neither a class nor an async function, so it is no actor")
    spec = ActorSpec(
        check_name(name) if name is not None else _own_name(shown),
        target,
        dict(options),
        _policy(target, policy, where or shown),
        takes,
    )
    _check_options(spec, where or shown)
    return spec


def default_name(qualname: str) -> str:
    """`BasketWatch` is basket-watch."""
    return _WORDS.sub("-", qualname.rpartition(".")[2]).strip("-").lower()


def _own_name(shown: str) -> str:
    name = default_name(shown)
    if NAME.fullmatch(name):
        return name
    raise UsageError(
        f"{shown} would be the actor {name!r}, which is no name: give it a name of its own, in a "
        "table [actors.NAME] with actor = …"
    )


def check_name(name: object) -> str:
    """The name of an actor. Raises UsageError."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return name
    raise UsageError(
        f"{name!r} is no name of an actor: up to 40 lower-case letters, digits, - and _, "
        "a letter first"
    )


def check_names(specs: Iterable[ActorSpec]) -> None:
    """Raises UsageError when two actors have one name."""
    found: set[str] = set()
    for spec in specs:
        if spec.name in found:
            raise UsageError(
                f"two actors have the name {spec.name!r}: give one its own, in a table "
                f"[actors.NAME] with actor = …"
            )
        found.add(spec.name)


def option_fields(target: object) -> tuple["attrs.Attribute[Any]", ...]:
    """The fields of an actor that are its options."""
    if not isinstance(target, type) or not attrs.has(target):
        return ()
    return tuple(field for field in attrs.fields(target) if field.init)


def option_key(field: "attrs.Attribute[Any]") -> str:
    """The key of a field in a table."""
    return field.alias or field.name


_HOOKS: Mapping[str, tuple[bool, str]] = {
    "setup": (True, "async def setup(self, context: ActorContext) -> None"),
    "teardown": (True, "async def teardown(self) -> None"),
    "snapshot": (False, "def snapshot(self) -> …"),
    "restore": (False, "def restore(self, state) -> None"),
}


def _check_hooks(target: type, shown: str) -> None:
    for name, (is_async, signature) in _HOOKS.items():
        hook = getattr(target, name, None)
        if hook is None:
            continue
        count = len(inspect.signature(hook).parameters) if callable(hook) else 0
        wanted = 2 if name in ("setup", "restore") else 1
        if inspect.iscoroutinefunction(hook) is not is_async or count != wanted:
            raise UsageError(f"{shown}.{name} must be `{signature}`")
    if hasattr(target, "snapshot") is not hasattr(target, "restore"):
        raise UsageError(f"{shown} has only one of `snapshot` and `restore`: they need each other")


def _policy(target: object, given: Mapping[str, object], where: str) -> ActorPolicy:
    kept = attrs.asdict(policy_of(target))
    try:
        return _converter.structure(kept | dict(given), ActorPolicy)
    except cattrs.ClassValidationError as error:
        raise UsageError(f"{where}: {_told(error)}") from None


def _check_options(spec: ActorSpec, where: str) -> None:
    target = spec.target
    if not isinstance(target, type) or not attrs.has(target):
        if spec.options:
            what = "an attrs class" if isinstance(target, type) else "a class"
            raise UsageError(
                f"{where}: {target.__qualname__} takes no options, so {min(spec.options)!r} "
                f"cannot be set: only the fields of {what} can"
            )
        if isinstance(target, type):
            _check_constructor(target, where)
        return
    for field in option_fields(target):
        if option_key(field) in POLICY_KEYS | {"actor"}:
            raise UsageError(
                f"{target.__qualname__}: a field cannot be named {option_key(field)!r}, which "
                "every actor's table has already"
            )
    try:
        spec.make()
    except cattrs.ClassValidationError as error:
        raise UsageError(f"{where}: {_told(error)}") from None
    except Exception as error:  # whatever a class of a user's does when it is made
        raise UsageError(f"{where}: {type(error).__name__}: {error}") from None


def _check_constructor(target: type, where: str) -> None:
    needed = [
        name
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise UsageError(
            f"{where}: {target.__qualname__} cannot be made without {needed[0]!r}; make it an "
            "attrs class, whose fields are its options"
        )


def _told(error: cattrs.ClassValidationError) -> str:
    """Every fault with the key that it is at."""

    def sentence(fault: BaseException, _: type | None) -> str:
        if isinstance(fault, cattrs.ForbiddenExtraKeysError):
            keys = ", ".join(repr(key) for key in sorted(fault.extra_fields))
            known = ", ".join(sorted(field_keys(fault.cl))) or "none"
            return f"unknown key {keys}; the keys are {known}"
        if isinstance(fault, KeyError):
            return f"{fault.args[0]!r} is missing"
        return str(fault)

    lines = cattrs.transform_error(error, path="", format_exception=sentence)
    return "; ".join(_readable(line) for line in lines)


def field_keys(kind: type) -> list[str]:
    """The keys of an attrs class."""
    return [option_key(field) for field in attrs.fields(kind) if field.init]


def _readable(line: str) -> str:
    """cattrs says `what @ .key`."""
    what, at, path = line.rpartition(" @ ")
    path = path.lstrip(".")
    if what == f"{path.rpartition('.')[2]!r} is missing":
        what = "it must be set"
    return f"{path}: {what}" if at and path else what or line


_converter = make_converter()
