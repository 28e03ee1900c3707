"""What an actor takes, read from every form of signature; and what is said of wrong ones."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, List, Literal, NewType, Optional, Protocol, TypedDict, Union  # noqa: UP035

import pytest
from attrs import frozen
from tests.actors.extensions import postponed

from polyactors import (
    AccountEvent,
    ActorContext,
    ActorEvent,
    BookUpdated,
    Event,
    Gap,
    OrderChanged,
    RawFrame,
    TrustChanged,
    UsageError,
)
from polyactors.extensions.takes import EVENTS, Handle, Takes, takes_of


@frozen
class Basket:
    sum: int


class Message:
    pass


class Better(Message):
    pass


Wanted = BookUpdated | Basket


def takes(handle: Handle) -> Takes:
    return takes_of(handle, "it")


async def one(message: BookUpdated) -> None: ...
async def union(message: BookUpdated | TrustChanged) -> None: ...
async def old_union(message: Union[BookUpdated, TrustChanged]) -> None: ...  # noqa: UP007
async def nested(message: Union[Wanted, TrustChanged | BookUpdated]) -> None: ...  # noqa: UP007
async def alias(message: Wanted) -> None: ...
async def text(message: "BookUpdated | Basket") -> None: ...
async def annotated(message: Annotated[BookUpdated, "of one token"]) -> None: ...
async def positional(message: Gap, /) -> None: ...
async def own(message: Basket | Message) -> None: ...


FORMS: list[tuple[Handle, tuple[type, ...]]] = [
    (one, (BookUpdated,)),
    (union, (BookUpdated, TrustChanged)),
    (old_union, (BookUpdated, TrustChanged)),
    (nested, (BookUpdated, Basket, TrustChanged)),
    (alias, (BookUpdated, Basket)),
    (text, (BookUpdated, Basket)),
    (annotated, (BookUpdated,)),
    (positional, (Gap,)),
    (own, (Basket, Message)),
]


@pytest.mark.parametrize(("handle", "kinds"), FORMS)
def test_the_kinds_are_those_of_the_annotation(handle: Handle, kinds: tuple[type, ...]) -> None:
    assert takes(handle) == Takes(kinds, is_batch=False, takes_context=False)


async def batch(messages: list[BookUpdated]) -> None: ...
async def old_batch(messages: List[BookUpdated]) -> None: ...  # noqa: UP006
async def batch_of_union(messages: list[BookUpdated | Basket]) -> None: ...
async def batch_and_context(messages: list[RawFrame], context: ActorContext) -> None: ...


@pytest.mark.parametrize(
    ("handle", "kinds", "with_context"),
    [
        (batch, (BookUpdated,), False),
        (old_batch, (BookUpdated,), False),
        (batch_of_union, (BookUpdated, Basket), False),
        (batch_and_context, (RawFrame,), True),
    ],
)
def test_a_list_is_a_batch(handle: Handle, kinds: tuple[type, ...], with_context: bool) -> None:
    assert takes(handle) == Takes(kinds, is_batch=True, takes_context=with_context)


async def with_context(message: BookUpdated, context: ActorContext) -> None: ...
async def bare_context(message: BookUpdated, context) -> None: ...  # type: ignore[no-untyped-def]
async def context_or_none(message: BookUpdated, c: ActorContext | None = None) -> None: ...


WITH_CONTEXT: list[Any] = [with_context, bare_context, context_or_none]


@pytest.mark.parametrize("handle", WITH_CONTEXT)
def test_a_second_parameter_is_the_context(handle: Handle) -> None:
    assert takes(handle).takes_context


async def with_default(message: BookUpdated, limit: int = 3) -> None: ...
async def with_keyword(message: BookUpdated, *, limit: int = 3) -> None: ...
async def with_both(message: BookUpdated, context: ActorContext, limit: int = 3) -> None: ...


def test_what_has_a_default_is_left_to_it() -> None:
    assert not takes(with_default).takes_context
    assert not takes(with_keyword).takes_context
    assert takes(with_both).takes_context


def test_events_frames_and_messages_are_told_apart() -> None:
    async def handle(message: BookUpdated | RawFrame | Basket) -> None: ...

    found = takes(handle)
    assert found.events == (BookUpdated,)
    assert found.frames
    assert str(found) == "BookUpdated | RawFrame | Basket"


def test_the_whole_stream_has_a_short_name() -> None:
    async def everything(message: Event) -> None: ...

    async def more(messages: list[Event | Basket]) -> None: ...

    async def account(message: AccountEvent) -> None: ...

    assert set(takes(everything).kinds) == EVENTS
    assert ActorEvent in EVENTS
    assert RawFrame not in EVENTS
    assert str(takes(everything)) == "Event"
    assert str(takes(more)) == "list[Event | Basket]"
    assert OrderChanged in takes(account).events
    assert str(takes(account)).startswith("OrderChanged | TradeChanged")


def test_postponed_annotations_are_read() -> None:
    assert takes(postponed.Late.handle) == Takes((BookUpdated, TrustChanged), False, True)
    assert takes(postponed.LateBatch.handle) == Takes((TrustChanged,), True, False)


class Static:
    @staticmethod
    async def handle(message: BookUpdated) -> None: ...


class OfClass:
    @classmethod
    async def handle(cls, message: BookUpdated) -> None: ...


def test_methods_of_every_kind_are_read() -> None:
    assert takes(Static.handle) == takes(OfClass.handle) == takes(one)


class Shape(Protocol):
    x: int


class Fields(TypedDict):
    x: int


Token = NewType("Token", str)


async def nothing() -> None: ...
async def three(a: BookUpdated, b: ActorContext, c: int) -> None: ...
async def many(*messages: BookUpdated) -> None: ...
async def keyword(*, message: BookUpdated) -> None: ...
async def words(message: BookUpdated, **more: int) -> None: ...
async def no_hint(message) -> None: ...  # type: ignore[no-untyped-def]
async def of_object(message: object) -> None: ...
async def of_any(message: Any) -> None: ...
async def of_none(message: None) -> None: ...
async def or_none(message: Optional[BookUpdated]) -> None: ...  # noqa: UP045
async def bare_list(messages: list) -> None: ...  # type: ignore[type-arg]
async def old_bare_list(messages: List) -> None: ...  # type: ignore[type-arg]  # noqa: UP006
async def two_lists(messages: list[BookUpdated] | list[Gap]) -> None: ...
async def list_of_list(messages: list[list[Gap]]) -> None: ...
async def list_of_two(messages: "list[BookUpdated, Gap]") -> None: ...  # type: ignore[type-arg]
async def sequence(messages: Sequence[BookUpdated]) -> None: ...
async def literal(message: Literal["x"]) -> None: ...
async def new_type(message: Token) -> None: ...
async def shape(message: Shape) -> None: ...
async def fields(message: Fields) -> None: ...
async def of_call(message: Callable[[], None]) -> None: ...
async def wrong_name(message: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def wrong_second(message: BookUpdated, limit: int) -> None: ...
def not_async(message: BookUpdated) -> None: ...
async def generator(message: BookUpdated):  # type: ignore[no-untyped-def]
    yield message


WRONG: list[tuple[Any, str]] = [
    (nothing, "it takes one message, and the context if it wants: write `async def handle(self,"),
    (three, "it takes one message, and the context if it wants"),
    (many, "it takes one message, and the context if it wants"),
    (keyword, "it takes one message, and the context if it wants"),
    (words, "it takes one message, and the context if it wants"),
    (no_hint, "it does not say what it takes: annotate 'message', for example as `BookUpdated |"),
    (of_object, "it takes object, which is no class of messages: name the events that it wants"),
    (of_any, "it takes Any, which is no class of messages"),
    (of_none, "it takes None, which is no class of messages"),
    (or_none, "it takes None, which is no class of messages"),
    (bare_list, "it takes list, which is no class of messages"),
    (old_bare_list, "it takes List, which is no class of messages"),
    (two_lists, "it takes list, which is no class of messages"),
    (list_of_list, "it takes list, which is no class of messages"),
    (list_of_two, "which is no class of messages"),
    (sequence, "it takes Sequence, which is no class of messages"),
    (literal, "it takes Literal, which is no class of messages"),
    (new_type, "it takes Token, which is no class of messages"),
    (shape, "it takes Shape, which is no class of messages"),
    (fields, "it takes Fields, which is no class of messages"),
    (of_call, "which is no class of messages"),
    (wrong_name, "the annotations of it cannot be read (name 'Nowhere' is not defined): import"),
    (wrong_second, "the second parameter of it, 'limit', is the ActorContext: annotate it so, or"),
    (not_async, "it must be an async function: write `async def`"),
    (generator, "it must be an async function: write `async def`"),
    (postponed.only_for_checkers, "import their names at run time, not only for type checking"),
]


@pytest.mark.parametrize(("handle", "sentence"), WRONG)
def test_a_wrong_signature_is_one_sentence(handle: Handle, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        takes(handle)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
