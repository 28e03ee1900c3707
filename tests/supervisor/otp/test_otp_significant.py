"""supervisor_SUITE: significant children, whose end may be the end of their supervisor."""

from typing import TYPE_CHECKING, Any, Literal

import pytest
from trio.testing import MockClock

from polysupervisor import ChildSpec, DynamicSupervisor, Intensity, Restart, Strategy, Supervisor

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage

AutoShutdown = Literal["never", "any", "all"]
EACH: list[AutoShutdown] = ["never", "any", "all"]
FIVE = Intensity(limit=5, period=3600)


@pytest.mark.parametrize("auto_shutdown", EACH)
async def test_nonsignificant_temporary(
    auto_shutdown: AutoShutdown, stage: "Stage", autojump_clock: MockClock
) -> None:
    """The end of a temporary child that is not significant ends no supervisor."""
    async with stage.up(Supervisor("root", auto_shutdown=auto_shutdown)) as root:
        for end in (Supervisor.stop_child, stage.crash, stage.finish):
            await root.start_child(stage.spec("child1", restart=Restart.TEMPORARY))
            await end(root, "child1")
            assert stage.states(root) == {}
            assert not stage.is_down(root)


@pytest.mark.parametrize("auto_shutdown", EACH)
async def test_nonsignificant_transient(
    auto_shutdown: AutoShutdown, stage: "Stage", autojump_clock: MockClock
) -> None:
    """Nor does that of a transient one; it restarts as ever."""
    child = stage.spec("child1", restart=Restart.TRANSIENT)
    root = Supervisor("root", [child], intensity=FIVE, auto_shutdown=auto_shutdown)
    async with stage.up(root):
        await root.stop_child("child1")
        await root.restart_child("child1")
        await stage.crash(root, "child1")
        assert stage.lives(root) == {"child1": 3}
        await stage.finish(root, "child1")
        assert stage.states(root) == {"child1": "stopped"}
        assert not stage.is_down(root)


def three(stage: "Stage", restart: Restart, auto_shutdown: AutoShutdown) -> Supervisor:
    """Two significant children and one that is not."""
    children = [
        stage.spec("child1", restart=restart, significant=True),
        stage.spec("child2", restart=restart, significant=True),
        stage.spec("child3", restart=restart),
    ]
    return Supervisor("root", children, intensity=FIVE, auto_shutdown=auto_shutdown)


ENDED_IN_ORDER = [
    "root/child1#1 exited",
    "root/child3#1 stopping",
    "root/child3#1 stopped",
    "root/child2#1 stopping",
    "root/child2#1 stopped",
]


@pytest.mark.parametrize("how", ["crash", "finish"])
async def test_significant_temporary(how: str, stage: "Stage", autojump_clock: MockClock) -> None:
    """With "any", the first significant temporary child that ends in any way ends them all."""
    async with stage.up(three(stage, Restart.TEMPORARY, "any")) as root:
        stage.story()
        await getattr(stage, how)(root, "child1")
        assert stage.is_down(root)
    assert stage.story() == ENDED_IN_ORDER


@pytest.mark.parametrize("restart", [Restart.TEMPORARY, Restart.TRANSIENT])
async def test_significant_temporary__all(
    restart: Restart, stage: "Stage", autojump_clock: MockClock
) -> None:
    """With "all", only the last significant child that ends, ends them all.

    Also for significant_transient.
    """
    async with stage.up(three(stage, restart, "all")) as root:
        await stage.finish(root, "child1")
        assert not stage.is_down(root)
        assert stage.states(root)["child2"] == stage.states(root)["child3"] == "running"
        stage.story()
        await stage.finish(root, "child2")
        assert stage.is_down(root)
    assert stage.story() == [
        "root/child2#1 exited",
        "root/child3#1 stopping",
        "root/child3#1 stopped",
    ]


@pytest.mark.parametrize("restart", [Restart.TEMPORARY, Restart.TRANSIENT])
async def test_significant_temporary__stopped_by_command(
    restart: Restart, stage: "Stage", autojump_clock: MockClock
) -> None:
    """A stop by command never ends the supervisor. Also for significant_transient."""
    async with stage.up(three(stage, restart, "any")) as root:
        await root.stop_child("child1")
        await stage.settle()
        assert not stage.is_down(root)
        assert stage.states(root)["child2"] == stage.states(root)["child3"] == "running"


async def test_significant_transient(stage: "Stage", autojump_clock: MockClock) -> None:
    """A significant transient child that crashes is restarted; when it returns, all ends."""
    async with stage.up(three(stage, Restart.TRANSIENT, "any")) as root:
        await stage.crash(root, "child1")
        assert stage.lives(root) == {"child1": 2, "child2": 1, "child3": 1}
        stage.story()
        await stage.finish(root, "child1")
        assert stage.is_down(root)
    assert stage.story() == ["root/child1#2 exited", *ENDED_IN_ORDER[1:]]


async def test_significant_transient__all_that_have_an_incarnation_count(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """With "all", one that was stopped by command is not waited for."""
    async with stage.up(three(stage, Restart.TRANSIENT, "all")) as root:
        await root.stop_child("child2")
        assert not stage.is_down(root)
        await stage.finish(root, "child1")
        assert stage.is_down(root)


async def test_significant_transient__one_that_restarts_is_waited_for(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """With "all", a significant child in its restart loop has not ended."""
    root = three(stage, Restart.TRANSIENT, "all")
    async with stage.up(root):
        stage.starts["child2"] = ["2:ready"]
        await stage.crash(root, "child2")
        await stage.finish(root, "child1")
        assert stage.states(root)["child2"] == "starting"
        assert not stage.is_down(root)


def test_significant_simple() -> None:
    """A dynamic supervisor has no auto_shutdown."""
    make: Any = DynamicSupervisor
    for auto_shutdown in ("any", "all"):
        with pytest.raises(TypeError, match="auto_shutdown"):
            make("root", auto_shutdown=auto_shutdown)


async def test_significant_simple__refuses_significant_children(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """So it takes no significant children either, and goes on."""
    spec = stage.spec("a", restart=Restart.TRANSIENT, significant=True)
    with pytest.raises(ValueError, match="significant"):
        DynamicSupervisor("root", [spec])
    async with stage.up(DynamicSupervisor("root")) as root:
        with pytest.raises(ValueError, match="significant"):
            await root.start_child(spec)
        assert stage.states(root) == {}
        await root.start_child(stage.spec("b"))


@pytest.mark.parametrize("auto_shutdown", ["any", "all"])
@pytest.mark.parametrize(
    ("strategy", "lives"),
    [
        (Strategy.ONE_FOR_ONE, {"child1": 1, "child2": 2, "child3": 1}),
        (Strategy.ONE_FOR_ALL, {"child1": 2, "child2": 2, "child3": 2}),
        (Strategy.REST_FOR_ONE, {"child1": 1, "child2": 2, "child3": 2}),
    ],
)
async def test_significant_bystander(
    strategy: Strategy,
    lives: dict[str, int],
    auto_shutdown: AutoShutdown,
    stage: "Stage",
    autojump_clock: MockClock,
) -> None:
    """Significant children that are stopped with the group of another do not count."""
    children = [
        stage.spec(child, restart=Restart.TRANSIENT, significant=child != "child2")
        for child in ("child1", "child2", "child3")
    ]
    root = Supervisor(
        "root", children, strategy=strategy, intensity=FIVE, auto_shutdown=auto_shutdown
    )
    async with stage.up(root):
        await stage.crash(root, "child2")
        assert stage.lives(root) == lives
        assert set(stage.states(root).values()) == {"running"}


@pytest.mark.parametrize("auto_shutdown", ["any", "all"])
async def test_significant_bystander__temporary(
    auto_shutdown: AutoShutdown, stage: "Stage", autojump_clock: MockClock
) -> None:
    """Not even a temporary one, which does not come back."""
    children = [
        stage.spec("child1"),
        stage.spec("child2", restart=Restart.TEMPORARY, significant=True),
    ]
    root = Supervisor("root", children, strategy=Strategy.ONE_FOR_ALL, auto_shutdown=auto_shutdown)
    async with stage.up(root):
        await stage.crash(root, "child1")
        assert stage.lives(root) == {"child1": 2}


@pytest.mark.parametrize("significant", [True, False])
async def test_significant_escalation(
    significant: bool, stage: "Stage", autojump_clock: MockClock
) -> None:
    """A supervisor that has ended this way has returned: the one above follows if it matters."""
    worker = stage.spec("child1", restart=Restart.TRANSIENT, significant=True)
    made: list[Supervisor] = []

    def factory() -> Supervisor:
        made.append(Supervisor("sup1", [worker], auto_shutdown="any"))
        return made[-1]

    spec = ChildSpec[Any]("sup1", factory, restart=Restart.TRANSIENT, significant=significant)
    async with stage.up(Supervisor("root", [spec], auto_shutdown="any")) as root:
        await stage.finish(made[0], "child1")
        assert stage.is_down(made[0])
        assert stage.states(root) == {"sup1": "stopped"}
        assert stage.is_down(root) == significant


async def test_significant_escalation__permanent_supervisor_is_restarted(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """A permanent supervisor that ends itself is started again, as any permanent child."""
    worker = stage.spec("child1", restart=Restart.TRANSIENT, significant=True)
    made: list[Supervisor] = []

    def factory() -> Supervisor:
        made.append(Supervisor("sup1", [worker], auto_shutdown="any"))
        return made[-1]

    async with stage.up(Supervisor("root", [ChildSpec[Any]("sup1", factory)])) as root:
        await stage.finish(made[0], "child1")
        assert stage.lives(root) == {"sup1": 2}
        assert stage.states(made[1]) == {"child1": "running"}


@pytest.mark.parametrize("auto_shutdown", ["any", "all"])
async def test_significant_child_that_need_not_run_has_not_ended(
    auto_shutdown: AutoShutdown, stage: "Stage", autojump_clock: MockClock
) -> None:
    """To ignore the start is no end, neither at first nor when started by command."""
    first = stage.spec("child1", "ignore", restart=Restart.TRANSIENT, significant=True)
    async with stage.up(Supervisor("root", [first], auto_shutdown=auto_shutdown)) as root:
        for restart in (Restart.TRANSIENT, Restart.TEMPORARY):
            spec = stage.spec(restart.value, "ignore", restart=restart, significant=True)
            await root.start_child(spec)
        await stage.settle()
        assert stage.states(root) == {"child1": "stopped", "transient": "stopped"}
        assert not stage.is_down(root)


@pytest.mark.parametrize("auto_shutdown", EACH)
async def test_significant_upgrade(
    auto_shutdown: AutoShutdown, stage: "Stage", autojump_clock: MockClock
) -> None:
    """What these cases say without an upgrade: "never" takes no significant child, others do."""
    spec = stage.spec("child1", restart=Restart.TRANSIENT, significant=True)
    async with stage.up(Supervisor("root", auto_shutdown=auto_shutdown)) as root:
        if auto_shutdown == "never":
            with pytest.raises(ValueError, match="significant"):
                await root.start_child(spec)
        else:
            await root.start_child(spec)
        assert stage.states(root) == ({} if auto_shutdown == "never" else {"child1": "running"})
