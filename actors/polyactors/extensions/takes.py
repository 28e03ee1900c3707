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
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import frozen

from polyactors.errors import UsageError
from polyactors.events import Event, RawFrame

EVENTS: frozenset[type] = frozenset(typing.get_args(Event))
ANYTHING: frozenset[object] = frozenset({object, Any})
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

    @property
    def messages(self) -> tuple[type, ...]:
        """Those that only other actors send."""
        return tuple(kind for kind in self.kinds if kind not in EVENTS and kind is not RawFrame)

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
    if not 1 <= len(parameters) <= 2 or any(p.kind not in _PLAIN for p in parameters):
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
    is_batch = typing.get_origin(hint) is list
    if is_batch:
        (hint,) = typing.get_args(hint)
    return Takes(tuple(_kinds(hint, what)), is_batch, len(parameters) == 2)


_PLAIN = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


def _kinds(hint: Any, what: str) -> list[type]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        found = [kind for part in typing.get_args(hint) for kind in _kinds(part, what)]
        return list(dict.fromkeys(found))
    if isinstance(hint, type) and hint not in ANYTHING and typing.get_origin(hint) is None:
        return [hint]
    shown = getattr(hint, "__name__", str(hint))
    raise UsageError(
        f"{what} takes {shown}, which is no class of messages: name the events that it wants, "
        "such as `BookUpdated | TrustChanged`, or Event for all"
    )
