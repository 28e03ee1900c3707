"""supervisor_SUITE: simple_one_for_one, which is a DynamicSupervisor here (as in Elixir).

It has no template, so OTP's count of one specification is the number of children, and children
have ids, so that those may be restarted by command that OTP knows only by pid.
"""

from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from polysupervisor import (
    AlreadyRunning,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Intensity,
    NotFound,
    NotRunning,
    Restart,
    Restarting,
    Shutdown,
    Supervisor,
)

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage


def shared(limit: int) -> Intensity:
    """OTP's rule: all children have one window, and too many restarts end the supervisor."""
    return Intensity(limit=limit, period=3600)


async def test_simple_one_for_one(stage: "Stage", autojump_clock: MockClock) -> None:
    """Only the child that died restarts; the third death is one too many."""
    async with stage.up(DynamicSupervisor("root", intensity=shared(2)), falls=True) as root:
        await root.start_child(stage.spec("child1"))
        await root.start_child(stage.spec("child2"))
        await stage.crash(root, "child1")
        assert stage.lives(root) == {"child1": 2, "child2": 1}
        assert stage.counts(root)[1:] == (2, 0, 2)
        await stage.crash(root, "child2", "child1")
        assert stage.is_down(root)


async def test_simple_one_for_one_extra(stage: "Stage", autojump_clock: MockClock) -> None:
    """The same when children have something to say when they are ready."""
    async with stage.up(DynamicSupervisor("root", intensity=shared(2)), falls=True) as root:
        for child in ("child1", "child2"):
            started = await root.start_child(stage.spec(child, value="extra"))
            assert started.value == "extra"
        await stage.crash(root, "child1")
        assert stage.lives(root) == {"child1": 2, "child2": 1}
        await stage.crash(root, "child2", "child1")
        assert stage.is_down(root)


async def test_simple_one_for_one_escalation(stage: "Stage", autojump_clock: MockClock) -> None:
    """A child that cannot start again takes the supervisor down, and its siblings."""
    async with stage.up(DynamicSupervisor("root", intensity=shared(4)), falls=True) as root:
        await root.start_child(stage.spec("child1", "ready fail"))
        await root.start_child(stage.spec("child2"))
        await stage.crash(root, "child1")
        assert stage.is_down(root)
    story = stage.story()
    assert sum("start_failed" in line for line in story) == 4
    assert "root/child2#1 stopped" in story


async def test_simple_one_for_one_shutdown(stage: "Stage", autojump_clock: MockClock) -> None:
    """All children have the same time to stop, at the same time."""
    async with stage.up(DynamicSupervisor("root")) as root:
        for child, seconds in (("child1", 1), ("child2", 1), ("child3", 5)):
            spec = stage.spec(child, stop_seconds=seconds, shutdown=Shutdown(grace=2))
            await root.start_child(spec)
        stage.events()
    ends = [(event.path, event.kind.value, event.t) for event in stage.events() if event.reason]
    assert sorted(ends) == [
        ("root/child1", "stopped", 1),
        ("root/child2", "stopped", 1),
        ("root/child3", "killed", 2),
    ]


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.PERMANENT])
async def test_simple_one_for_one_restart_ignore(
    restart: Restart, stage: "Stage", autojump_clock: MockClock
) -> None:
    """A child that ignores its restart is forgotten, and the supervisor ends without error."""
    async with stage.up(DynamicSupervisor("root", intensity=shared(10))) as root:
        await root.start_child(stage.spec("child1", "ready ready ignore", restart=restart))
        await stage.crash(root, "child1")
        assert stage.lives(root) == {"child1": 2}
        await stage.crash(root, "child1")
        assert stage.states(root) == {}
        assert stage.story()[-1] == "root/child1#3 ignored"


async def test_static_child_that_ignores_its_restart_stays_present(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """Below an ordinary supervisor it is kept, as when it ignores its first start."""
    async with stage.up(Supervisor("root", [stage.spec("child1", "ready ignore")])) as root:
        await stage.crash(root, "child1")
        assert stage.states(root) == {"child1": "stopped"}
        assert stage.counts(root) == (1, 0, 0, 1)


async def test_child_adm_simple(stage: "Stage", autojump_clock: MockClock) -> None:
    """Children come and go by command; one that was stopped is forgotten."""
    root = DynamicSupervisor("root")
    with pytest.raises(NotRunning):
        await root.start_child(stage.spec("child1"))
    async with stage.up(root):
        assert (stage.states(root), stage.counts(root)) == ({}, (0, 0, 0, 0))
        await root.start_child(stage.spec("child1"))
        await root.start_child(stage.spec("child2"))
        assert stage.counts(root)[1:] == (2, 0, 2)

        await root.stop_child("child1")
        assert stage.states(root) == {"child2": "running"}
        assert stage.counts(root)[1:] == (1, 0, 1)
        for absent in ("child1", "childx"):
            with pytest.raises(NotFound):
                await root.stop_child(absent)
            with pytest.raises(NotFound):
                await root.restart_child(absent)
            with pytest.raises(NotFound):
                await root.delete_child(absent)
        with pytest.raises(AlreadyRunning):
            await root.restart_child("child2")
        with pytest.raises(AlreadyRunning):
            await root.delete_child("child2")


async def test_which_children_simple_one_for_one(stage: "Stage", autojump_clock: MockClock) -> None:
    """Each child is listed while it is there, and found by its id."""
    async with stage.up(DynamicSupervisor("root")) as root:
        for child in ("child1", "child2"):
            await root.start_child(stage.spec(child, restart=Restart.TEMPORARY))
        assert [each.id for each in root.children()] == ["child1", "child2"]
        await root.stop_child("child1")
        assert [each.id for each in root.children()] == ["child2"]
        assert root.address("child2").id == "child2"
        with pytest.raises(NotFound):
            root.address("child1")


async def test_count_children(stage: "Stage", autojump_clock: MockClock) -> None:
    """A thousand children, and a thousand more, and none."""
    async with stage.up(DynamicSupervisor("root")) as root:
        for number in range(2000):
            await root.start_child(stage.spec(str(number), restart=Restart.TEMPORARY))
            if number == 999:
                assert len(root.children()) == 1000
                assert stage.counts(root)[1:] == (1000, 0, 1000)
        assert len(root.children()) == 2000
        assert stage.counts(root)[1:] == (2000, 0, 2000)
        for child in root.children():
            root.address(child.id).send_nowait(ValueError("killed"))
        await stage.settle()
        assert (stage.states(root), stage.counts(root)) == ({}, (0, 0, 0, 0))


async def test_count_children_supervisor(stage: "Stage", autojump_clock: MockClock) -> None:
    """The same when the children are supervisors."""
    made: list[Supervisor] = []

    def factory() -> Supervisor:
        made.append(Supervisor("s"))
        return made[-1]

    async with stage.up(DynamicSupervisor("root")) as root:
        for number in range(200):
            await root.start_child(ChildSpec[Any](str(number), factory, restart=Restart.TEMPORARY))
            if number == 99:
                assert stage.counts(root)[1:] == (100, 100, 0)
        assert len(root.children()) == 200
        assert stage.counts(root)[1:] == (200, 200, 0)
        for supervisor in made:
            supervisor.stop()
        await stage.settle()
        assert (stage.states(root), stage.counts(root)) == ({}, (0, 0, 0, 0))


async def test_count_restarting_children(stage: "Stage", autojump_clock: MockClock) -> None:
    """A child between two attempts is counted as present, and not as active."""
    root = DynamicSupervisor("root", intensity=Intensity(limit=20, period=10))
    wait = Backoff(min=2, max=2, jitter=0)
    async with stage.up(root):
        for number, child in enumerate("abc", start=1):
            await root.start_child(stage.spec(child, backoff=wait, shutdown=Shutdown(grace=0)))
            assert stage.counts(root)[1:] == (number, 0, number)
        await stage.crash(root, "a", "b", "c")
        assert stage.counts(root)[1:] == (0, 0, 3)
        await stage.sleep(2.5)
        assert stage.counts(root)[1:] == (3, 0, 3)

        stage.starts.update(a=["fail"], b=["fail"])
        await stage.crash(root, "a", "b")
        await stage.sleep(4.5)
        assert stage.counts(root)[1:] == (1, 0, 3)
        stage.starts.update(a=["ready"], b=["ready"])
        await stage.sleep(4)
        assert stage.counts(root)[1:] == (3, 0, 3)

        for left, child in ((2, "c"), (1, "a"), (0, "b")):
            await root.stop_child(child)
            assert stage.counts(root)[1:] == (left, 0, left)


async def test_count_restarting_children__of_supervisors(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """A supervisor between two attempts, or stopped, still counts among the supervisors."""
    made: list[Supervisor] = []

    def factory() -> Supervisor:
        made.append(Supervisor("s", [stage.spec("w")], intensity=Intensity(limit=0)))
        return made[-1]

    spec = ChildSpec[Any]("inner", factory, backoff=Backoff(min=5, max=5, jitter=0))
    async with stage.up(Supervisor("root", [spec])) as root:
        assert stage.counts(root) == (1, 1, 1, 0)
        await stage.crash(made[0], "w")
        assert stage.states(root) == {"inner": "restarting"}
        assert stage.counts(root) == (1, 0, 1, 0)
        await root.stop_child("inner")
        assert stage.counts(root) == (1, 0, 1, 0)
        assert root.tree().children[0].is_supervisor


async def test_simple_one_for_one_scale_many_temporary_children(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """Many children start and are stopped one by one. How long it takes: tests/benchmarks."""
    async with stage.up(DynamicSupervisor("root")) as root:
        for number in range(1000):
            await root.start_child(stage.spec(str(number), restart=Restart.TEMPORARY))
        for number in range(1000):
            await root.stop_child(str(number))
        assert stage.states(root) == {}


async def test_scale_start_stop_many_children(stage: "Stage", autojump_clock: MockClock) -> None:
    """The same below an ordinary supervisor, which keeps them."""
    async with stage.up(Supervisor("root")) as root:
        for number in range(1000):
            await root.start_child(stage.spec(str(number)))
        for number in range(1000):
            await root.stop_child(str(number))
        assert stage.counts(root) == (1000, 0, 0, 1000)


async def test_hanging_restart_loop_simple(stage: "Stage", autojump_clock: MockClock) -> None:
    """A child in its restart loop can be stopped, is forgotten then, and delays no end."""
    loop: dict[str, Any] = {
        "backoff": Backoff(min=1, max=1, jitter=0),
        "shutdown": Shutdown(grace=0),
    }
    root = DynamicSupervisor("root", intensity=Intensity(limit=8, period=10))
    async with stage.up(root):
        for _ in range(2):
            await root.start_child(stage.spec("child1", **loop))
            stage.starts["child1"] = ["2:fail"]
            await stage.crash(root, "child1")
            await stage.sleep(3.5)
            with pytest.raises(Restarting):
                await root.restart_child("child1")
            with pytest.raises(Restarting):
                await root.delete_child("child1")
            assert stage.states(root) == {"child1": "restarting"}
            assert stage.counts(root)[1:] == (0, 0, 1)
            await root.stop_child("child1")
            assert stage.states(root) == {}
            await stage.sleep(20)
        await root.start_child(stage.spec("child1", **loop))
        stage.starts["child1"] = ["2:fail"]
        await stage.crash(root, "child1")
        await stage.sleep(4.5)
        began = trio.current_time()
    assert trio.current_time() == began
