"""supervisor_SUITE: commands, what they refuse, and what can be seen of the children."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import pytest
import trio
from trio.testing import MockClock

from polysupervisor import (
    AlreadyPresent,
    AlreadyRunning,
    Backoff,
    ChildSpec,
    Context,
    Intensity,
    MailboxSpec,
    NotFound,
    NotRunning,
    Restart,
    Restarting,
    Shutdown,
    StartFailed,
    Strategy,
    Supervisor,
)

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage

FEW = Intensity(limit=2, period=3600)
LOOP: dict[str, Any] = {
    "backoff": Backoff(min=1, max=1, jitter=0),
    "shutdown": Shutdown(grace=0),
}
"""A restart that waits a second, so that a restart loop can be looked at, and a brutal end."""
MANY = Intensity(limit=8, period=10)


# Commands.


async def test_child_adm(stage: "Stage", autojump_clock: MockClock) -> None:
    """Start, stop, restart and delete, each in the right and in the wrong state."""
    spec = stage.spec("child1")
    async with stage.up(Supervisor("root", [spec], intensity=FEW)) as root:
        with pytest.raises(AlreadyRunning):
            await root.start_child(spec)

        with pytest.raises(NotFound):
            await root.stop_child("hej")
        await root.stop_child("child1")
        assert (stage.states(root), stage.counts(root)) == ({"child1": "stopped"}, (1, 0, 0, 1))
        await root.stop_child("child1")
        with pytest.raises(AlreadyPresent):
            await root.start_child(spec)

        assert (await root.restart_child("child1")).incarnation == 2
        assert (stage.states(root), stage.counts(root)) == ({"child1": "running"}, (1, 1, 0, 1))
        with pytest.raises(AlreadyRunning):
            await root.restart_child("child1")
        with pytest.raises(NotFound):
            await root.restart_child("child2")

        with pytest.raises(AlreadyRunning):
            await root.delete_child("child1")
        with pytest.raises(NotFound):
            await root.delete_child("hej")
        await root.stop_child("child1")
        await root.delete_child("child1")
        with pytest.raises(NotFound):
            await root.restart_child("child1")
        assert (stage.states(root), stage.counts(root)) == ({}, (0, 0, 0, 0))

        await root.start_child(spec)
        assert (stage.states(root), stage.counts(root)) == ({"child1": "running"}, (1, 1, 0, 1))


async def test_child_adm__of_a_supervisor_that_does_not_run(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """Commands to a supervisor that is not there are errors; looking at it is not."""
    root = Supervisor("root", [stage.spec("child1")])
    for _ in ("before", "after"):
        with pytest.raises(NotRunning):
            await root.start_child(stage.spec("child2"))
        with pytest.raises(NotRunning):
            await root.stop_child("child1")
        with pytest.raises(NotRunning):
            await root.restart_child("child1")
        with pytest.raises(NotRunning):
            await root.delete_child("child1")
        assert stage.counts(root) == (1, 0, 0, 1)
        if not stage.is_down(root):
            async with stage.up(root):
                pass


async def test_extra_return(stage: "Stage", autojump_clock: MockClock) -> None:
    """What a child gave to ready() comes back from start_child and restart_child."""
    spec = stage.spec("child1", value="extra")
    async with stage.up(Supervisor("root", [spec], intensity=FEW)) as root:
        await root.stop_child("child1")
        assert (await root.restart_child("child1")).value == "extra"
        await root.stop_child("child1")
        await root.delete_child("child1")
        assert (await root.start_child(spec)).value == "extra"
        await stage.crash(root, "child1")
        assert (stage.lives(root), stage.counts(root)) == ({"child1": 2}, (1, 1, 0, 1))


async def test_which_children(stage: "Stage", autojump_clock: MockClock) -> None:
    """All children in start order, running or not, until they are deleted."""
    async with stage.up(Supervisor("root")) as root:
        assert root.children() == []
        await root.start_child(stage.spec("child1"))
        await root.start_child(stage.spec("child2"))
        assert list(stage.states(root).items()) == [("child1", "running"), ("child2", "running")]
        assert [child.path for child in root.children()] == ["root/child1", "root/child2"]
        await root.stop_child("child1")
        assert list(stage.states(root).items()) == [("child1", "stopped"), ("child2", "running")]
        assert root.address("child1").id == "child1"
        await root.delete_child("child1")
        assert stage.states(root) == {"child2": "running"}
        for absent in ("child1", "childx"):
            with pytest.raises(NotFound):
                root.address(absent)


# Faulty specifications and flags.


async def test_child_specs(stage: "Stage", autojump_clock: MockClock) -> None:
    """What is no specification is refused, and the supervisor goes on."""
    bad: Any = "hej"
    async with stage.up(Supervisor("root")) as root:
        with pytest.raises((TypeError, ValueError), match="hej"):
            await root.start_child(bad)
        await root.start_child(stage.spec("good"))
        assert stage.states(root) == {"good": "running"}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        pytest.param("factory", "mfa", id="invalid_mfa"),
        pytest.param("restart", "prmanent", id="invalid_restart_type"),
        pytest.param("restart", None, id="invalid_restart_type_none"),
        pytest.param("shutdown", -10, id="invalid_shutdown"),
        pytest.param("significant", "maybe", id="invalid_significant"),
        pytest.param("id", 5, id="invalid_id"),
        pytest.param("id", "", id="empty_id"),
        pytest.param("start_timeout", 0, id="invalid_start_timeout"),
    ],
)
def test_child_specs__part_that_is_invalid(part: str, value: object, stage: "Stage") -> None:
    """A specification with a part that means nothing is refused where it is made."""
    make: Any = ChildSpec
    arguments = {"id": "child", "factory": lambda: None, "restart": Restart.TEMPORARY}
    with pytest.raises((TypeError, ValueError)):
        make(**{**arguments, part: value})


def test_child_specs__shutdown_below_zero() -> None:
    """Nobody stops in less than no time."""
    for arguments in ({"grace": -10}, {"kill": -10}, {"grace": math.nan}):
        with pytest.raises(ValueError, match=r"grace|kill"):
            Shutdown(**arguments)


@pytest.mark.parametrize("grace", [0, 1, math.inf])
@pytest.mark.parametrize("restart", Restart)
def test_child_specs__what_is_valid(restart: Restart, grace: float, stage: "Stage") -> None:
    """Each way to restart goes with each way to shut down."""
    spec = stage.spec("child", restart=restart, shutdown=Shutdown(grace=grace))
    Supervisor("root", [spec])
    with pytest.raises(ValueError, match="two children of the id 'child'"):
        Supervisor("root", [spec, spec])


@pytest.mark.parametrize("significant", [False, True])
@pytest.mark.parametrize("restart", Restart)
@pytest.mark.parametrize("auto_shutdown", ["never", "any", "all"])
def test_child_specs_map(
    auto_shutdown: Literal["never", "any", "all"],
    restart: Restart,
    significant: bool,
    stage: "Stage",
) -> None:
    """A significant child must be able to end, and its end must mean something."""

    def make() -> Supervisor:
        spec = stage.spec("child", restart=restart, significant=significant)
        return Supervisor("root", [spec], auto_shutdown=auto_shutdown)

    if significant and (restart is Restart.PERMANENT or auto_shutdown == "never"):
        with pytest.raises(ValueError, match="significant"):
            make()
    else:
        make()


def _flags(**arguments: Any) -> Callable[[], object]:
    make: Any = Supervisor
    return lambda: make("root", **arguments)


def _intensity(**arguments: Any) -> Callable[[], object]:
    return lambda: Supervisor("root", intensity=Intensity(**arguments))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_flags(strategy="none_for_one"), id="invalid_strategy"),
        pytest.param(_flags(intensity=2), id="invalid_type"),
        pytest.param(_flags(auto_shutdown="sometimes"), id="invalid_auto_shutdown"),
        pytest.param(_flags(silly_flag=True), id="silly_flag"),
        pytest.param(_intensity(limit="infinity"), id="invalid_intensity_text"),
        pytest.param(_intensity(limit=math.inf), id="invalid_intensity_infinity"),
        pytest.param(_intensity(limit=-1), id="invalid_intensity_negative"),
        pytest.param(_intensity(period=0), id="invalid_period_zero"),
        pytest.param(_intensity(period=-1), id="invalid_period_negative"),
        pytest.param(_intensity(period=math.inf), id="invalid_period_infinity"),
        pytest.param(_intensity(period=math.nan), id="invalid_period_nan"),
        pytest.param(_intensity(scope="all"), id="invalid_scope"),
        pytest.param(_intensity(on_exhausted="pray"), id="invalid_on_exhausted"),
    ],
)
def test_sup_flags(make: Callable[[], object]) -> None:
    """Flags that mean nothing are refused where they are given."""
    with pytest.raises((TypeError, ValueError)):
        make()


# Restart loops: they are seen, can be ended, and do not hold the supervisor.


async def test_hanging_restart_loop(stage: "Stage", autojump_clock: MockClock) -> None:
    """A child in its restart loop is present, not running; a command ends the loop."""
    async with stage.up(Supervisor("root", [stage.spec("child1", **LOOP)], intensity=MANY)) as root:
        stage.starts["child1"] = ["2:fail"]
        await stage.crash(root, "child1")
        await stage.sleep(3.5)  # it waited 1 s, hung for 2 s, failed, and waits again
        with pytest.raises(Restarting):
            await root.restart_child("child1")
        with pytest.raises(Restarting):
            await root.delete_child("child1")
        assert stage.states(root) == {"child1": "restarting"}
        assert stage.counts(root) == (1, 0, 0, 1)

        await root.stop_child("child1")
        assert stage.states(root) == {"child1": "stopped"}
        stage.starts["child1"] = ["ready"]
        await root.restart_child("child1")
        assert stage.states(root) == {"child1": "running"}


@pytest.mark.parametrize("seconds", [3.5, 4.5])
async def test_hanging_restart_loop__the_supervisor_stops(
    seconds: float, stage: "Stage", autojump_clock: MockClock
) -> None:
    """A loop delays no end, neither between two attempts (3.5) nor within one (4.5)."""
    async with stage.up(Supervisor("root", [stage.spec("child1", **LOOP)], intensity=MANY)) as root:
        stage.starts["child1"] = ["2:fail"]
        await stage.crash(root, "child1")
        await stage.sleep(seconds)
    assert trio.current_time() == seconds
    assert stage.states(root) == {"child1": "stopped"}


async def test_hanging_restart_loop__while_the_start_hangs(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """Also while an attempt hangs all can be seen, and the command ends it at once."""
    async with stage.up(Supervisor("root", [stage.spec("child1", **LOOP)], intensity=MANY)) as root:
        stage.starts["child1"] = ["hang"]
        await stage.crash(root, "child1")
        await stage.sleep(2)
        assert stage.states(root) == {"child1": "starting"}
        assert root.tree().children[0].incarnation == 2
        await root.start_child(stage.spec("child2"))
        await root.stop_child("child1")
        assert trio.current_time() == 2
        assert stage.states(root) == {"child1": "stopped", "child2": "running"}


async def test_hanging_restart_loop__cannot_be_started_a_second_time(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """To start_child it is present, not running. Also for hanging_restart_loop_rest_for_one."""
    for strategy in (Strategy.ONE_FOR_ONE, Strategy.REST_FOR_ONE):
        spec = stage.spec("child1", **LOOP)
        async with stage.up(Supervisor("root", [spec], strategy=strategy)) as root:
            await stage.crash(root, "child1")
            assert stage.states(root) == {"child1": "restarting"}
            with pytest.raises(AlreadyPresent):
                await root.start_child(spec)


def _rest_for_one(stage: "Stage") -> Supervisor:
    children = [stage.spec("child1"), stage.spec("child2", **LOOP), stage.spec("child3")]
    return Supervisor("root", children, strategy=Strategy.REST_FOR_ONE, intensity=MANY)


async def test_hanging_restart_loop_rest_for_one(stage: "Stage", autojump_clock: MockClock) -> None:
    """The later child waits for the one in its loop; the earlier one is not touched."""
    async with stage.up(_rest_for_one(stage)) as root:
        for _ in range(2):
            stage.starts["child2"] = ["2:fail"]
            await stage.crash(root, "child2")
            await stage.sleep(3.5)
            with pytest.raises(Restarting):
                await root.restart_child("child2")
            with pytest.raises(Restarting):
                await root.delete_child("child2")
            assert stage.lives(root)["child1"] == 1
            assert stage.counts(root) == (3, 1, 0, 3)
            await root.stop_child("child2")
            assert stage.states(root)["child2"] == "stopped"
            stage.starts["child2"] = ["ready"]
            await root.restart_child("child2")
            assert stage.states(root)["child2"] == "running"
            await stage.sleep(20)

        stage.starts["child2"] = ["2:fail"]
        await stage.crash(root, "child2")
        await stage.sleep(4.5)
        began = trio.current_time()
    assert trio.current_time() == began


async def test_hanging_restart_loop_rest_for_one__ended_by_command(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """When the loop is ended by command the later child stays down: its turn has not come."""
    async with stage.up(_rest_for_one(stage)) as root:
        stage.starts["child2"] = ["2:fail"]
        await stage.crash(root, "child2")
        await stage.sleep(3.5)
        await root.stop_child("child2")
        await stage.sleep(20)
        assert stage.states(root)["child2"] == "stopped"
        assert stage.counts(root) == (3, 1, 0, 3)
        assert stage.lives(root)["child3"] == 1


# Names.


async def _server(ctx: Context[Exception | None]) -> None:
    ctx.registry.register("server")
    async for order in ctx.inbox:
        if order is not None:
            raise order
        return


@pytest.mark.parametrize("how", ["kill_supervisor", "kill_worker", "exit_worker", "restart_worker"])
async def test_simple_global_supervisor(
    how: str, stage: "Stage", autojump_clock: MockClock
) -> None:
    """However a worker comes to start again, its name leads to it."""
    intensity = Intensity(limit=0) if how == "kill_supervisor" else Intensity(limit=3)
    made: list[Supervisor] = []

    def middle() -> Supervisor:
        child = ChildSpec[Any]("child", lambda: _server, mailbox=MailboxSpec())
        made.append(Supervisor("s", [child], strategy=Strategy.ONE_FOR_ALL, intensity=intensity))
        return made[-1]

    top = Supervisor("top", [ChildSpec("sup2", middle)], strategy=Strategy.ONE_FOR_ALL)
    async with stage.up(top):
        before = top.registry.lookup("server")
        assert before == made[0].address("child")
        if how == "restart_worker":
            await made[0].stop_child("child")
            await made[0].restart_child("child")
        else:
            await (stage.finish if how == "exit_worker" else stage.crash)(made[0], "child")
        after = top.registry.lookup("server")
        assert after == made[-1].address("child")
        assert (after != before) == (how == "kill_supervisor")
        expected = 1 if how == "kill_supervisor" else 2
        assert stage.lives(made[-1]) == {"child": expected}
    assert top.registry.names() == ()


async def test_start_by_command_while_the_supervisor_starts_is_refused(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """It could wait for itself; the child that tried fails and not the supervisor's loop."""
    root: Supervisor

    async def eager(ctx: Context[Any]) -> None:
        await root.start_child(stage.spec("other"))

    root = Supervisor("root", [ChildSpec("eager", lambda: eager)])
    with pytest.raises(StartFailed, match="NotRunning"):
        await root.run()
