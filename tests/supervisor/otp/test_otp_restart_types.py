"""supervisor_SUITE: permanent, transient and temporary children, and what is kept of them."""

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from trio.testing import MockClock

from polysupervisor import (
    AlreadyPresent,
    AlreadyRunning,
    ChildSpec,
    Context,
    DynamicSupervisor,
    Intensity,
    MailboxSpec,
    Restart,
    Strategy,
    Supervisor,
)

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage

FEW = Intensity(limit=2, period=3600)
EACH_RESTART_TYPE = [Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY]


@pytest.mark.parametrize(
    ("restart", "how", "states", "counts"),
    [
        pytest.param(restart, how, states, counts, id=f"{restart.value}_{how}")
        for restart, how, states, counts in [
            (Restart.PERMANENT, "normal", {"child1": "running"}, (1, 1, 0, 1)),
            (Restart.TRANSIENT, "normal", {"child1": "stopped"}, (1, 0, 0, 1)),
            (Restart.TEMPORARY, "normal", {}, (0, 0, 0, 0)),
            (Restart.PERMANENT, "abnormal", {"child1": "running"}, (1, 1, 0, 1)),
            (Restart.TRANSIENT, "abnormal", {"child1": "running"}, (1, 1, 0, 1)),
            (Restart.TEMPORARY, "abnormal", {}, (0, 0, 0, 0)),
        ]
    ],
)
async def test_restart_type(
    restart: Restart,
    how: str,
    states: dict[str, str],
    counts: tuple[int, int, int, int],
    stage: "Stage",
    autojump_clock: MockClock,
) -> None:
    """Permanent: always restarted. Transient: unless it returned. Temporary: never, forgotten."""
    async with stage.up(Supervisor("root", intensity=FEW)) as root:
        await root.start_child(stage.spec("child1", restart=restart))
        await (stage.finish if how == "normal" else stage.crash)(root, "child1")
        assert (stage.states(root), stage.counts(root)) == (states, counts)
        assert set(stage.lives(root).values()) <= {2 if states.get("child1") == "running" else 1}


@pytest.mark.parametrize(
    ("restart", "state"),
    [
        pytest.param(Restart.PERMANENT, "running", id="permanent_shutdown"),
        pytest.param(Restart.TRANSIENT, "stopped", id="transient_shutdown"),
        pytest.param(Restart.TEMPORARY, None, id="temporary_shutdown"),
    ],
)
async def test_exit_for_shutdown(
    restart: Restart, state: str | None, stage: "Stage", autojump_clock: MockClock
) -> None:
    """A supervisor that was told to stop ended in order, so that counts as normal; twice."""
    made: list[Supervisor] = []

    def factory() -> Supervisor:
        made.append(Supervisor("inner", [stage.spec("w")]))
        return made[-1]

    spec: ChildSpec[Any] = ChildSpec("child1", factory, restart=restart)
    async with stage.up(Supervisor("root", intensity=FEW)) as root:
        for life in (1, 2):
            if life == 1 or restart is Restart.TEMPORARY:
                await root.start_child(spec)
            elif restart is Restart.TRANSIENT:
                await root.restart_child("child1")
            inner = made[-1]
            inner.stop()
            await stage.settle()
            assert stage.is_down(inner)
            assert stage.states(root).get("child1") == state
        assert len(made) == (3 if restart is Restart.PERMANENT else 2)


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_temporary_bystander(
    strategy: Strategy, stage: "Stage", autojump_clock: MockClock
) -> None:
    """A temporary child that is stopped with its group does not come back."""
    children = [
        stage.spec("child1"),
        stage.spec("child2", restart=Restart.TEMPORARY),
    ]
    async with stage.up(Supervisor("root", children, strategy=strategy, intensity=FEW)) as root:
        await stage.finish(root, "child1")
        assert stage.lives(root) == {"child1": 2}
        assert "root/child2#1 stopped" in stage.story()


@pytest.mark.parametrize("how", ["abnormal", "normal", "supervisor"])
@pytest.mark.parametrize("strategy", Strategy)
async def test_do_not_save_child_specs_for_temporary_children(
    strategy: Strategy, how: str, stage: "Stage", autojump_clock: MockClock
) -> None:
    """Of a temporary child that has ended nothing is present; the others are."""
    root = Supervisor("root", strategy=strategy, intensity=FEW)
    async with stage.up(root):
        for restart in EACH_RESTART_TYPE:
            child = restart.value
            await root.start_child(stage.spec(child, restart=restart))
            if how == "supervisor":
                await root.stop_child(child)
            else:
                await (stage.finish if how == "normal" else stage.crash)(root, child)
            spec = stage.spec(child, restart=restart)
            if restart is Restart.TEMPORARY:
                await root.start_child(spec)
            elif how == "supervisor" or (how == "normal" and restart is Restart.TRANSIENT):
                with pytest.raises(AlreadyPresent):
                    await root.start_child(spec)
                await root.restart_child(child)
            else:
                with pytest.raises(AlreadyRunning):
                    await root.start_child(spec)
        assert set(stage.states(root).values()) == {"running"}


class Large:
    """What a factory holds on to."""

    size = 1_000_000


def _holds(large: Large, restart: Restart) -> ChildSpec[Any]:
    async def actor(ctx: Context[str]) -> None:
        async for order in ctx.inbox:
            if order == "crash":
                raise ValueError("told to")
            return

    def factory() -> Any:
        assert large.size
        return actor

    return ChildSpec("child", factory, restart=restart, mailbox=MailboxSpec())


@pytest.mark.parametrize("order", ["return", "crash"])
@pytest.mark.parametrize("strategy", [*Strategy, None])
async def test_do_not_save_start_parameters_for_temporary_children(
    strategy: Strategy | None, order: str, stage: "Stage", autojump_clock: MockClock
) -> None:
    """What the factory of an ended temporary child held is free; of a permanent one it is not.

    Twice, for simple_one_for_one_corruption: the first end must not spoil the bookkeeping.
    """
    root = Supervisor("root", strategy=strategy) if strategy else DynamicSupervisor("root")
    async with stage.up(root):
        for restart in (Restart.TEMPORARY, Restart.TEMPORARY, Restart.PERMANENT):
            large = Large()
            kept = weakref.ref(large)
            await root.start_child(_holds(large, restart))
            del large
            await stage.tell(root, "child", order)
            gc.collect()
            assert (kept() is None) == (restart is Restart.TEMPORARY)
