"""supervisor_SUITE: who restarts with whom, in which order, and when it becomes too much."""

from typing import TYPE_CHECKING, Any

import pytest
from trio.testing import MockClock

from polysupervisor import ChildSpec, Intensity, Restart, Strategy, Supervisor

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage

TWO = Intensity(limit=2, period=3600)
FOUR = Intensity(limit=4, period=3600)


async def test_one_for_one(stage: "Stage", autojump_clock: MockClock) -> None:
    """Only the child that died restarts; the third death is one too many."""
    children = [stage.spec("child1"), stage.spec("child2")]
    async with stage.up(Supervisor("root", children, intensity=TWO), falls=True) as root:
        await stage.crash(root, "child1")
        assert stage.lives(root) == {"child1": 2, "child2": 1}
        assert stage.counts(root) == (2, 2, 0, 2)
        await stage.crash(root, "child2")
        await stage.crash(root, "child1")
        assert stage.is_down(root)


async def test_one_for_all(stage: "Stage", autojump_clock: MockClock) -> None:
    """No child is the same afterwards; the third death is one too many."""
    root = Supervisor(
        "root",
        [stage.spec("child1"), stage.spec("child2")],
        strategy=Strategy.ONE_FOR_ALL,
        intensity=TWO,
    )
    async with stage.up(root, falls=True):
        await stage.crash(root, "child1")
        assert stage.lives(root) == {"child1": 2, "child2": 2}
        assert stage.counts(root) == (2, 2, 0, 2)
        await stage.crash(root, "child2", "child2")
        assert stage.is_down(root)


async def test_rest_for_one(stage: "Stage", autojump_clock: MockClock) -> None:
    """The child that died and the later one restart; the third death is one too many."""
    root = Supervisor(
        "root",
        [stage.spec("child1"), stage.spec("child2"), stage.spec("child3")],
        strategy=Strategy.REST_FOR_ONE,
        intensity=TWO,
    )
    async with stage.up(root, falls=True):
        await stage.crash(root, "child2")
        assert stage.lives(root) == {"child1": 1, "child2": 2, "child3": 2}
        assert stage.counts(root) == (3, 3, 0, 3)
        await stage.crash(root, "child3", "child2")
        assert stage.is_down(root)


@pytest.mark.parametrize(
    ("strategy", "dies", "child1", "child2"),
    [
        pytest.param(
            Strategy.ONE_FOR_ONE, "child1", "ready fail", "ready", id="one_for_one_escalation"
        ),
        pytest.param(
            Strategy.ONE_FOR_ALL, "child1", "ready", "ready fail", id="one_for_all_escalation"
        ),
        pytest.param(
            Strategy.REST_FOR_ONE, "child1", "ready", "ready fail", id="rest_for_one_escalation"
        ),
    ],
)
async def test_escalation(
    strategy: Strategy,
    dies: str,
    child1: str,
    child2: str,
    stage: "Stage",
    autojump_clock: MockClock,
) -> None:
    """A child that cannot start again takes the supervisor down, and all of its children."""
    children = [stage.spec("child1", child1), stage.spec("child2", child2)]
    async with stage.up(
        Supervisor("root", children, strategy=strategy, intensity=FOUR), falls=True
    ) as root:
        await stage.crash(root, dies)
        assert stage.is_down(root)
        story = stage.story()
    assert sum("start_failed" in line for line in story) == 4
    assert story.index("root#1 escalated") < len(story) - 1  # then the others were stopped
    assert set(stage.states(root).values()) == {"stopped"}


@pytest.mark.parametrize(
    ("strategy", "child1"),
    [
        pytest.param(
            Strategy.ONE_FOR_ALL,
            ["stopping", "stopped", "starting", "started"],
            id="one_for_all_other_child_fails_restart",
        ),
        pytest.param(Strategy.REST_FOR_ONE, [], id="rest_for_one_other_child_fails_restart"),
    ],
)
async def test_other_child_fails_restart(
    strategy: Strategy, child1: list[str], stage: "Stage", autojump_clock: MockClock
) -> None:
    """When the second of a group does not start, one_for_all begins anew with the first.

    rest_for_one goes on from the second: the first, restarted already, is left alone.
    """
    children = [stage.spec("child1"), stage.spec("child2", "ready fail ready")]
    intensity = Intensity(limit=3, period=3600)
    async with stage.up(
        Supervisor("root", children, strategy=strategy, intensity=intensity)
    ) as root:
        await stage.crash(root, "child1")
        story = stage.story()
        failed = story.index("root/child2#2 start_failed")
        assert story.index("root/child1#2 started") < failed
        after = [line.split()[1] for line in story[failed:] if line.startswith("root/child1")]
        assert after == child1
        assert story[-2:] == ["root/child2#3 starting", "root/child2#3 started"]
        assert set(stage.states(root).values()) == {"running"}


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_child_that_dies_while_its_group_stops(
    strategy: Strategy, stage: "Stage", autojump_clock: MockClock
) -> None:
    """It would have been stopped in a moment, so its death is no decision of its own."""
    children = [stage.spec("a"), stage.spec("b"), stage.spec("c", stop_seconds=1)]
    intensity = Intensity(limit=1)
    async with stage.up(
        Supervisor("root", children, strategy=strategy, intensity=intensity)
    ) as root:
        await stage.crash(root, "a")
        assert stage.states(root)["c"] == "stopping"
        await stage.crash(root, "b")
        await stage.sleep(1)
        assert stage.lives(root) == {"a": 2, "b": 2, "c": 2}
        assert set(stage.states(root).values()) == {"running"}


async def test_order_of_children(stage: "Stage", autojump_clock: MockClock) -> None:
    """Children start as specified and end the other way round, in a group and at the end."""
    ids = ["ch7", "ch3", "ch10", "ch2", "ch5"]
    root = Supervisor(
        "root",
        [stage.spec(each) for each in ids],
        strategy=Strategy.REST_FOR_ONE,
        intensity=TWO,
    )
    async with stage.up(root):
        started = [line for line in stage.story() if line.endswith("started")]
        assert started == [f"root/{each}#1 started" for each in ids]
        await stage.crash(root, "ch10")
        story = stage.story()
        assert [line for line in story if line.endswith("stopped")] == [
            "root/ch5#1 stopped",
            "root/ch2#1 stopped",
        ]
        assert [line for line in story if line.endswith("started")] == [
            "root/ch10#2 started",
            "root/ch2#2 started",
            "root/ch5#2 started",
        ]
    stopped = [line.split("#")[0] for line in stage.story() if line.endswith("stopped")]
    assert stopped == [f"root/{each}" for each in reversed(ids)]


async def test_group_start_covers_all_that_are_present(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """A finished transient child and one stopped by command come back with their group."""
    root = Supervisor(
        "root",
        [
            stage.spec("a"),
            stage.spec("finished", restart=Restart.TRANSIENT),
            stage.spec("commanded"),
            stage.spec("temporary", restart=Restart.TEMPORARY),
        ],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with stage.up(root):
        await stage.finish(root, "finished")
        await root.stop_child("commanded")
        await stage.crash(root, "a")
        assert stage.lives(root) == {"a": 2, "finished": 2, "commanded": 2}
        assert set(stage.states(root).values()) == {"running"}


async def test_tree(stage: "Stage", autojump_clock: MockClock) -> None:
    """A tree: a worker restarts alone; a supervisor that fails restarts the whole group above.

    Children that had been added to it by command are gone then, and the transient supervisor
    that had been stopped is back.
    """
    made: dict[str, list[Supervisor]] = {}

    def supervisor(child_id: str, *workers: str, **arguments: Any) -> ChildSpec[Any]:
        def factory() -> Supervisor:
            children = [stage.spec(worker) for worker in workers]
            made.setdefault(child_id, []).append(Supervisor("s", children, intensity=FOUR))
            return made[child_id][-1]

        return ChildSpec(child_id, factory, **arguments)

    root = Supervisor("root", strategy=Strategy.ONE_FOR_ALL, intensity=FOUR)
    async with stage.up(root):
        await root.start_child(supervisor("supchild1", "child1", "child2"))
        await root.start_child(supervisor("supchild2"))
        await root.start_child(supervisor("supchild3", restart=Restart.TRANSIENT))
        await root.stop_child("supchild3")
        assert stage.counts(root) == (3, 2, 3, 0)
        sup1, sup2 = made["supchild1"][0], made["supchild2"][0]
        assert (stage.counts(sup1), stage.counts(sup2)) == ((2, 2, 0, 2), (0, 0, 0, 0))

        await sup2.start_child(stage.spec("child3", "ready fail"))
        await sup2.start_child(stage.spec("child4"))
        await stage.crash(sup2, "child4")
        assert stage.lives(sup2) == {"child3": 1, "child4": 2}
        assert stage.lives(sup1) == {"child1": 1, "child2": 1}

        await stage.crash(sup2, "child3")
        assert stage.lives(root) == {"supchild1": 2, "supchild2": 2, "supchild3": 2}
        assert stage.counts(root) == (3, 3, 3, 0)
        assert stage.states(made["supchild1"][-1]) == {"child1": "running", "child2": "running"}
        assert stage.states(made["supchild2"][-1]) == {}
        assert stage.states(made["supchild3"][-1]) == {}


async def test_tree__is_what_tree_shows(stage: "Stage", autojump_clock: MockClock) -> None:
    """The same is seen from the root, and the numbers of its children in count()."""
    inner = Supervisor("inner", [stage.spec("w")])
    async with stage.up(Supervisor("root", [inner, stage.spec("v")])) as root:
        node = root.tree()
        assert [(each.path, each.is_supervisor) for each in node.children] == [
            ("root/inner", True),
            ("root/v", False),
        ]
        assert [each.path for each in node.children[0].children] == ["root/inner/w"]
        assert stage.counts(root) == (2, 2, 1, 1)
