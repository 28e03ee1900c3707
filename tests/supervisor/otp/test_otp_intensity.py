"""supervisor_SUITE, and the rule that its cases rest on: how many restarts are too many."""

from typing import TYPE_CHECKING

import pytest
from trio.testing import MockClock

from polysupervisor import Intensity, Shutdown, Strategy, Supervisor

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage


async def test_multiple_restarts(stage: "Stage", autojump_clock: MockClock) -> None:
    """One restart within a second is granted again and again when they are 2.1 s apart."""
    spec = stage.spec("child1", shutdown=Shutdown(grace=0))
    root = Supervisor("root", [spec], intensity=Intensity(limit=1, period=1))
    async with stage.up(root):
        for _ in range(4):
            await stage.crash(root, "child1")
            await stage.sleep(2.1)
        assert stage.lives(root) == {"child1": 5}
        await root.stop_child("child1")
        await root.delete_child("child1")


@pytest.mark.parametrize(("seconds", "falls"), [(9.999, True), (10, True), (10.001, False)])
async def test_add_restart__edge_of_the_period(
    seconds: float, falls: bool, stage: "Stage", autojump_clock: MockClock
) -> None:
    """A restart exactly ``period`` old still counts; one that is older does not."""
    root = Supervisor("root", [stage.spec("a")], intensity=Intensity(limit=1, period=10))
    async with stage.up(root, falls=falls):
        await stage.crash(root, "a")
        await stage.sleep(seconds)
        await stage.crash(root, "a")
        assert stage.is_down(root) == falls


async def test_add_restart__window_slides(stage: "Stage", autojump_clock: MockClock) -> None:
    """Each restart is forgotten when it is too old itself, not all of them at once."""
    root = Supervisor("root", [stage.spec("a")], intensity=Intensity(limit=2, period=10))
    async with stage.up(root, falls=True):
        for seconds in (6, 6, 6, 3):
            await stage.crash(root, "a")
            assert not stage.is_down(root)
            await stage.sleep(seconds)
        await stage.crash(root, "a")  # at 21, after those at 12 and 18
        assert stage.is_down(root)


async def test_add_restart__limit_of_zero(stage: "Stage", autojump_clock: MockClock) -> None:
    """With a limit of zero the first failure is too many."""
    root = Supervisor("root", [stage.spec("a")], intensity=Intensity(limit=0, period=10))
    async with stage.up(root, falls=True):
        await stage.crash(root, "a")
        assert stage.is_down(root)


@pytest.mark.parametrize("strategy", Strategy)
async def test_add_restart__one_entry_for_a_decision(
    strategy: Strategy, stage: "Stage", autojump_clock: MockClock
) -> None:
    """All children share one window, and a group of three that restarts is one entry."""
    children = [stage.spec(each) for each in "abc"]
    intensity = Intensity(limit=3, period=3600)
    async with stage.up(
        Supervisor("root", children, strategy=strategy, intensity=intensity), falls=True
    ) as root:
        await stage.crash(root, "a", "b", "c")
        assert set(stage.states(root).values()) == {"running"}
        await stage.crash(root, "a")
        assert stage.is_down(root)


async def test_add_restart__failing_attempt_is_an_entry(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """A crash and two starts that fail make three entries; a fourth is too many."""
    root = Supervisor(
        "root",
        [stage.spec("a", "ready fail fail ready")],
        intensity=Intensity(limit=3, period=3600),
    )
    async with stage.up(root, falls=True):
        await stage.crash(root, "a")
        assert stage.lives(root) == {"a": 4}
        await stage.crash(root, "a")
        assert stage.is_down(root)


async def test_add_restart__commands_spend_nothing(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """Stopping and restarting by command is no failure."""
    root = Supervisor("root", [stage.spec("a")], intensity=Intensity(limit=0))
    async with stage.up(root):
        for _ in range(5):
            await root.stop_child("a")
            await root.restart_child("a")
        assert stage.lives(root) == {"a": 6}
