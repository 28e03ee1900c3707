"""Options and policy of an actor: structured strictly, and every error names its key."""

import math
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import attrs
import pytest
from attrs.validators import gt
from hypothesis import given
from hypothesis import strategies as st

from polyactors import ActorContext, ActorPolicy, BookUpdated, UsageError, actor, actor_spec
from polyactors.extensions.policy import policy_of
from polyactors.extensions.spec import POLICY_KEYS, ActorSpec, check_name, default_name

WHERE = "[actors.watch] in polyactors.toml"


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


@attrs.frozen
class Leg:
    token: str
    weight: Decimal = Decimal(1)


@attrs.define
class Watch:
    """Watches."""

    name: str
    times: int = 1
    ratio: float = 0.5
    is_loud: bool = False
    spread_max: Decimal = attrs.field(default=Decimal("0.05"), validator=gt(Decimal(0)))
    tokens: list[str] = attrs.field(factory=list[str])
    leg: Leg | None = None
    legs: tuple[Leg, ...] = ()
    weights: dict[str, Decimal] = attrs.field(factory=dict[str, Decimal])
    speed: Speed = Speed.SLOW
    side: Literal["BUY", "SELL"] = "BUY"
    _hidden: int = attrs.field(default=0, alias="hidden")
    state: int = attrs.field(init=False, default=0)

    async def handle(self, update: BookUpdated) -> None: ...


def made(**options: object) -> Any:
    return actor_spec(Watch, options={"name": "a", **options}).make()


async def watch_all(update: BookUpdated) -> None: ...


@pytest.mark.parametrize(
    ("key", "given_", "value"),
    [
        ("times", 3, 3),
        ("ratio", 2, 2.0),
        ("ratio", math.inf, math.inf),
        ("is_loud", True, True),
        ("spread_max", "0.10", Decimal("0.10")),
        ("spread_max", 1, Decimal(1)),
        ("spread_max", 0.1, Decimal("0.1")),
        ("tokens", ["1", "2"], ["1", "2"]),
        ("leg", {"token": "1"}, Leg("1")),
        ("legs", [{"token": "1", "weight": "3"}], (Leg("1", Decimal(3)),)),
        ("weights", {"1": "0.5"}, {"1": Decimal("0.5")}),
        ("speed", "fast", Speed.FAST),
        ("side", "SELL", "SELL"),
    ],
)  # fmt: skip
def test_options_are_structured(key: str, given_: object, value: object) -> None:
    found = getattr(made(**{key: given_}), key)
    assert found == value
    assert type(found) is type(value)


def test_what_is_not_given_has_its_default() -> None:
    assert made() == Watch("a")
    assert made(hidden=3)._hidden == 3
    assert made() is not made()
    assert made().tokens is not made().tokens


WRONG: list[tuple[dict[str, object], str]] = [
    ({"times": "3"}, "times: expected a whole number, got '3'"),
    ({"times": 1.5}, "times: expected a whole number, got 1.5"),
    ({"times": True}, "times: expected a whole number, got True"),
    ({"ratio": "0.5"}, "ratio: expected a number, got '0.5'"),
    ({"ratio": 10**400}, "ratio: int too large to convert to float"),
    ({"is_loud": 1}, "is_loud: expected true or false, got 1"),
    ({"name": 5}, "name: expected text, got 5"),
    ({"spread_max": "wide"}, "spread_max: expected a number, got 'wide'"),
    ({"spread_max": "nan"}, "spread_max: expected a number, got 'nan'"),
    ({"spread_max": 0}, "'spread_max' must be > 0: 0"),
    ({"tokens": ["1", 2]}, "tokens[1]: expected text, got 2"),
    ({"tokens": "123"}, "tokens: expected a list, got '123'"),
    ({"legs": "123"}, "legs: expected a list, got '123'"),
    ({"leg": {"token": 1}}, "leg.token: expected text, got 1"),
    ({"leg": {}}, "leg.token: it must be set"),
    ({"leg": {"token": "1", "wieght": 2}}, "leg: unknown key 'wieght'; the keys are token, weight"),
    ({"leg": 3}, "leg: "),
    ({"legs": [{"token": "1"}, {"weight": 2}]}, "legs[1].token: it must be set"),
    ({"weights": {"1": "x"}}, "weights['1']: expected a number, got 'x'"),
    ({"weights": 3}, "weights: "),
    ({"speed": "warp"}, "speed: 'warp' is not a valid Speed"),
    ({"side": "HOLD"}, "side: expected one of 'BUY', 'SELL', got 'HOLD'"),
    ({"tiems": 3}, "unknown key 'tiems'; the keys are hidden, is_loud, leg, legs, name, ratio"),
    ({"state": 3}, "unknown key 'state'; the keys are"),
    ({"_hidden": 3}, "unknown key '_hidden'; the keys are"),
]


@pytest.mark.parametrize(("options", "sentence"), WRONG, ids=str)
def test_a_wrong_option_is_named_with_its_table(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        actor_spec(Watch, options={"name": "a"} | options, where=WHERE)
    assert str(caught.value).startswith(f"{WHERE}: {sentence}")
    assert "\n" not in str(caught.value)


def test_every_fault_is_told() -> None:
    with pytest.raises(UsageError) as caught:
        actor_spec(Watch, options={"times": "3", "ratio": "x"}, where=WHERE)
    assert str(caught.value) == (
        f"{WHERE}: name: it must be set; times: expected a whole number, got '3'; "
        "ratio: expected a number, got 'x'"
    )


def test_what_has_no_fields_takes_no_options() -> None:
    class Plain:
        async def handle(self, update: BookUpdated) -> None: ...

    for target, words in ((Plain, "an attrs class"), (watch_all, "a class")):
        with pytest.raises(UsageError, match=f"takes no options, so 'x' cannot be set.*{words}"):
            actor_spec(target, options={"x": 1}, where=WHERE)
        assert actor_spec(target).make() is not None


def test_a_class_that_cannot_be_made_is_told() -> None:
    class Needs:
        def __init__(self, thing: int, other: int = 3) -> None: ...

        async def handle(self, update: BookUpdated) -> None: ...

    with pytest.raises(UsageError, match=r"Needs cannot be made without 'thing'; make it an attrs"):
        actor_spec(Needs)


@pytest.mark.parametrize("error", [OSError("no disk"), RuntimeError("no"), KeyError("x")])
def test_a_constructor_that_fails_is_a_sentence(error: Exception) -> None:
    @attrs.define
    class Fails:
        times: int = 1

        def __attrs_post_init__(self) -> None:
            raise error

        async def handle(self, update: BookUpdated) -> None: ...

    with pytest.raises(UsageError, match=rf"^\[actors.watch\].*: .*{error.args[0]}"):
        actor_spec(Fails, where=WHERE)


def test_a_type_that_no_table_can_hold_is_told() -> None:
    class Thing:
        pass

    @attrs.define
    class Odd:
        thing: Thing

        async def handle(self, update: BookUpdated) -> None: ...

    with pytest.raises(UsageError, match=r"^\[actors.watch\].*Thing"):
        actor_spec(Odd, options={"thing": 1}, where=WHERE)


def test_a_field_cannot_be_named_as_what_every_table_has() -> None:
    for key in ("mailbox", "restart", "actor"):
        kind = attrs.make_class("Kind", {key: attrs.field(default=1)})
        setattr(kind, "handle", Watch.handle)  # noqa: B010 - of a class made here
        with pytest.raises(UsageError, match=f"a field cannot be named '{key}'"):
            actor_spec(kind)


# --- classes and functions ----------------------------------------------------------------


class Base:
    async def handle(self, update: BookUpdated) -> None: ...


class Child(Base):
    pass


def test_a_handle_is_inherited() -> None:
    spec = actor_spec(Child)
    assert spec.name == "child"
    assert str(spec.takes) == "BookUpdated"
    assert callable(spec.handler(spec.make()))


def hooked(**hooks: object) -> type:
    return type("Hooked", (Base,), hooks)


async def one(self: object) -> None: ...
async def two(self: object, context: ActorContext) -> None: ...
def sync_one(self: object) -> int:
    return 1


def sync_two(self: object, state: int) -> None: ...


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (type("Nothing", (), {}), "Nothing has no `handle`: write `async def handle(self, message"),
        (type("Wrong", (), {"handle": 3}), "Wrong has no `handle`"),
        (5, "5 is neither a class nor an async function, so it is no actor"),
        (Child(), "is neither a class nor an async function"),
        (print, "print is neither a class nor an async function"),
        (sync_one, "must be an async function"),
    ],
)
def test_what_is_no_actor_is_told(target: object, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        actor_spec(target)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (hooked(setup=one), "Hooked.setup must be `async def setup(self, context: ActorContext)"),
        (hooked(setup=sync_two), "Hooked.setup must be `async def setup"),
        (hooked(setup=3), "Hooked.setup must be `async def setup"),
        (hooked(teardown=two), "Hooked.teardown must be `async def teardown(self) -> None`"),
        (hooked(teardown=sync_one), "Hooked.teardown must be"),
        (hooked(snapshot=one, restore=sync_two), "Hooked.snapshot must be `def snapshot(self)"),
        (hooked(snapshot=sync_one, restore=two), "Hooked.restore must be `def restore(self, state"),
        (hooked(snapshot=sync_one), "Hooked has only one of `snapshot` and `restore`"),
        (hooked(restore=sync_two), "Hooked has only one of `snapshot` and `restore`"),
    ],
)
def test_wrong_hooks_are_told(kind: type, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        actor_spec(kind)
    assert sentence in str(caught.value)


def test_right_hooks_are_taken() -> None:
    actor_spec(hooked(setup=two, teardown=one, snapshot=sync_one, restore=sync_two))


# --- names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("qualname", "name"),
    [
        ("BasketWatch", "basket-watch"),
        ("watch_all", "watch-all"),
        ("outer.<locals>.Inner", "inner"),
        ("Outer.Inner", "inner"),
        ("_private", "private"),
        ("Top5Watch", "top5-watch"),
        ("HTTPWatch", "http-watch"),
        ("__double__", "double"),
    ],
)
def test_the_default_name_is_the_class_in_small_words(qualname: str, name: str) -> None:
    assert default_name(qualname) == name


def test_a_nested_function_has_its_own_name() -> None:
    async def inner(update: BookUpdated) -> None: ...

    assert actor_spec(inner).name == "inner"
    assert actor_spec(inner, name="other").name == "other"


@pytest.mark.parametrize("name", ["", "A", "1a", "a b", "a/b", "a" * 41, "ä", "-a", 5, None, "a\n"])
def test_a_wrong_name_is_told(name: object) -> None:
    with pytest.raises(UsageError, match="is no name of an actor: up to 40 lower-case letters"):
        check_name(name)


@given(st.from_regex(r"[a-z][a-z0-9_-]{0,39}", fullmatch=True))
def test_a_right_name_is_taken(name: str) -> None:
    assert check_name(name) == name


def test_a_class_whose_name_cannot_be_an_actors_is_told_what_to_do() -> None:
    kind = type("Übersicht", (Base,), {})
    with pytest.raises(UsageError, match=r"Übersicht.*give it a name"):
        actor_spec(kind)
    assert actor_spec(kind, name="overview").name == "overview"


@pytest.mark.parametrize("name", sorted(POLICY_KEYS))
def test_an_actor_may_be_named_like_a_policy_key(name: str) -> None:
    assert actor_spec(watch_all, name=name).name == name


# --- policy -------------------------------------------------------------------------------


@actor(mailbox=10, overflow="drop_oldest", hold_seconds_max=math.inf)
class Decorated(Base):
    pass


@actor(restart="temporary")
async def decorated(update: BookUpdated) -> None: ...


def policy(target: object = Base, **keys: object) -> ActorPolicy:
    return actor_spec(target, policy=keys, where=WHERE).policy


def test_a_policy_is_decorated_and_the_table_comes_before_it() -> None:
    assert policy() == ActorPolicy()
    assert policy(Decorated) == ActorPolicy(
        mailbox=10, overflow="drop_oldest", hold_seconds_max=math.inf
    )
    assert policy(Decorated, mailbox=20).mailbox == 20
    assert policy(Decorated, mailbox=20).overflow == "drop_oldest"
    assert policy(decorated).restart == "temporary"
    assert policy_of(type("Sub", (Decorated,), {})).mailbox == 10


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mailbox", 2),
        ("mailbox", 1_000_000),
        ("backoff_seconds_min", 0),
        ("backoff_seconds_max", 1e6),
        ("gives_up_after", 0),
        ("healthy_seconds", math.inf),
        ("handle_seconds_max", math.inf),
        ("hold_seconds_max", math.inf),
        ("hold_seconds_max", 1),
        ("stop_seconds_max", 0.001),
    ],
)
def test_limits_are_taken(key: str, value: float) -> None:
    assert getattr(policy(**{key: value}), key) == value


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"mailbox": 1}, "'mailbox' must be >= 2: 1"),
        ({"mailbox": 1_000_001}, "'mailbox' must be <= 1000000: 1000001"),
        ({"mailbox": "big"}, "mailbox: expected a whole number, got 'big'"),
        ({"mailbox": 2.5}, "mailbox: expected a whole number, got 2.5"),
        ({"overflow": "block"}, "overflow: expected one of 'coalesce', 'drop_oldest', 'restart'"),
        ({"restart": "transient"}, "restart: expected one of 'permanent', 'temporary', got"),
        ({"gives_up_after": -1}, "'gives_up_after' must be >= 0: -1"),
        ({"hold_seconds_max": 0}, "'hold_seconds_max' must be > 0"),
        ({"hold_seconds_max": math.nan}, "'hold_seconds_max' must be > 0"),
        ({"stop_seconds_max": math.inf}, "'stop_seconds_max' must be < inf"),
        ({"backoff_seconds_max": math.inf}, "'backoff_seconds_max' must be < inf"),
        ({"backoff_seconds_min": math.nan}, "'backoff_seconds_min' must be >= 0"),
        ({"backoff_seconds_min": 40}, "backoff_seconds_min must be at most backoff_seconds_max"),
    ],
)
def test_a_wrong_policy_is_named_with_its_table(keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        policy(**keys)
    assert str(caught.value).startswith(f"{WHERE}: {sentence}")
    assert "\n" not in str(caught.value)


def test_a_wrong_decorator_fails_where_it_stands() -> None:
    with pytest.raises(TypeError, match="mailboxes"):
        actor(mailboxes=3)
    with pytest.raises(ValueError, match="overflow"):
        actor(overflow="block")


def test_a_spec_keeps_its_own_options() -> None:
    options: dict[str, object] = {"name": "a"}
    spec: ActorSpec = actor_spec(Watch, options=options)
    options["name"] = "b"
    assert spec.make().name == "a"  # type: ignore[attr-defined]
