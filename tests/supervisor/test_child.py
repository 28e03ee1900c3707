import math
from typing import Any

import pytest

from polysupervisor import ChildSpec, Context, ExitKind, Restart, Shutdown, StartFailed, Supervisor
from polysupervisor._child import is_restarted, shutdown_of


async def actor(ctx: Context[None]) -> None:
    ctx.ready()


@pytest.mark.parametrize("kind", ExitKind)
def test_only_a_transient_child_cares_how_it_ended(kind: ExitKind) -> None:
    assert is_restarted(Restart.PERMANENT, kind)
    assert is_restarted(Restart.TRANSIENT, kind) == (kind is not ExitKind.NORMAL)
    assert not is_restarted(Restart.TEMPORARY, kind)


def test_nested_supervisor_has_no_grace_of_its_own_unless_it_is_given_one() -> None:
    plain: ChildSpec[None] = ChildSpec("a", lambda: actor)
    assert shutdown_of(plain, is_supervisor=False) == Shutdown(grace=5, kill=5)
    assert shutdown_of(plain, is_supervisor=True).grace == math.inf
    strict: ChildSpec[None] = ChildSpec("a", lambda: actor, shutdown=Shutdown(grace=1))
    assert shutdown_of(strict, is_supervisor=True).grace == 1


def test_bounds_are_checked() -> None:
    with pytest.raises(ValueError, match="grace"):
        Shutdown(grace=-1)
    with pytest.raises(ValueError, match="kill"):
        Shutdown(kill=-1)
    with pytest.raises(ValueError, match="start_timeout"):
        ChildSpec("a", lambda: actor, start_timeout=0)


def test_specification_cannot_be_changed_and_shares_no_labels() -> None:
    first: ChildSpec[None] = ChildSpec("a", lambda: actor)
    second: ChildSpec[None] = ChildSpec("b", lambda: actor)
    assert first.labels is not second.labels
    with pytest.raises(AttributeError):
        first.id = "c"  # type: ignore[misc]  # wrong on purpose


def test_an_async_function_in_the_place_of_its_factory_is_explained() -> None:
    factory: Any = actor
    with pytest.raises(TypeError, match="write factory=lambda"):
        ChildSpec("a", factory)


async def test_a_factory_that_makes_no_actor_is_explained() -> None:
    factory: Any = lambda: 7  # noqa: E731
    spec: ChildSpec[Any] = ChildSpec("a", factory)
    with pytest.raises(StartFailed, match="the factory of root/a made 7, which is no async"):
        await Supervisor("root", [spec]).run()
