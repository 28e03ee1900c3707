"""What an actor takes, read from the signature of its `handle`.

    async def handle(self, message: BookUpdated | TrustChanged) -> None: ...
    async def handle(self, messages: list[TradePrinted]) -> None: ...
    async def handle(self, message: RawFrame | Stop, context: ActorContext) -> None: ...

Events of the stream, raw frames, and classes of one's own that other actors send. A list: all
that waits, in one call.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from attrs import frozen

from polyactors.errors import UsageError
from polyactors.events import Event, RawFrame
from polyactors.extensions.hands import ActorContext

EVENTS: frozenset[type] = frozenset(typing.get_args(Event))
NO_MESSAGES: frozenset[object] = frozenset({object, Any, list, type(None)})
Handle: TypeAlias = Callable[..., typing.Awaitable[None]]


@frozen
class Takes:
    """What a handler takes, and how."""

    kinds: tuple[type, ...]
    """Classes of messages."""
    is_batch: bool
    """Whether it gets lists."""
    takes_context: bool
    """Whether its second parameter is the ActorContext."""

    @property
    def events(self) -> tuple[type, ...]:
        """Those that the stream carries."""
        return tuple(kind for kind in self.kinds if kind in EVENTS)

    @property
    def frames(self) -> bool:
        """Whether raw frames are wanted."""
        return RawFrame in self.kinds

    def __str__(self) -> str:
        names = " | ".join(kind.__name__ for kind in self.kinds)
        if set(self.kinds) >= EVENTS:
            others = [kind.__name__ for kind in self.kinds if kind not in EVENTS]
            names = " | ".join(["Event", *others])
        return f"list[{names}]" if self.is_batch else names


def takes_of(handle: Handle, what: str) -> Takes:
    """Read a signature; `what` names the handler. Raises UsageError that says what to write."""
    if not inspect.iscoroutinefunction(handle):
        raise UsageError(f"{what} must be an async function: write `async def`")
    parameters = [p for p in inspect.signature(handle).parameters.values() if p.name != "self"]
    needed = [p for p in parameters if p.default is p.empty]
    is_odd = any(p.kind not in _PLAIN for p in needed)
    if not needed or needed[0] is not parameters[0] or len(needed) > 2 or is_odd:
        raise UsageError(
            f"{what} takes one message, and the context if it wants: "
            "write `async def handle(self, message: BookUpdated)`"
        )
    try:
        hints = typing.get_type_hints(handle)
    except Exception as error:
        raise UsageError(
            f"the annotations of {what} cannot be read ({error}): import their names at run "
            "time, not only for type checking"
        ) from None
    hint = hints.get(parameters[0].name)
    if hint is None:
        raise UsageError(
            f"{what} does not say what it takes: annotate {parameters[0].name!r}, for example "
            "as `BookUpdated | TrustChanged`"
        )
    is_batch = typing.get_origin(hint) is list and len(typing.get_args(hint)) == 1
    if is_batch:
        (hint,) = typing.get_args(hint)
    return Takes(tuple(_kinds(hint, what)), is_batch, _takes_context(parameters, hints, what))


_PLAIN = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


def _takes_context(
    parameters: list[inspect.Parameter], hints: Mapping[str, Any], what: str
) -> bool:
    """Whether the second parameter is the context; further ones keep their defaults."""
    if len(parameters) < 2:
        return False
    second = parameters[1]
    hint = hints.get(second.name)
    is_needed = second.default is second.empty
    if second.kind in _PLAIN:
        if ActorContext in (hint, *typing.get_args(hint)):
            return True
        if hint is None and is_needed:
            return True
    if is_needed or any(p.default is p.empty for p in parameters[2:]):
        raise UsageError(
            f"the second parameter of {what}, {second.name!r}, is the ActorContext: annotate it "
            "so, or give it a default"
        )
    return False


def _kinds(hint: Any, what: str) -> list[type]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        found = [kind for part in typing.get_args(hint) for kind in _kinds(part, what)]
        return list(dict.fromkeys(found))
    if isinstance(hint, type) and hint not in NO_MESSAGES and _can_be_told(hint):
        return [hint]
    shown = "None" if hint is type(None) else getattr(hint, "__name__", str(hint))
    raise UsageError(
        f"{what} takes {shown}, which is no class of messages: name the events that it wants, "
        "such as `BookUpdated | TrustChanged`, or Event for all"
    )


def _can_be_told(kind: type) -> bool:
    """Whether there can be instances of it: not of a TypedDict, nor of most protocols."""
    try:
        isinstance(None, kind)
    except TypeError:
        return False
    return True
