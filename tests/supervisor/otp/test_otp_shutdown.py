"""supervisor_SUITE: how children are stopped, and that nothing can keep a supervisor from it."""

import math
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from polysupervisor import (
    ChildSpec,
    Context,
    DynamicSupervisor,
    Event,
    Intensity,
    Restart,
    Shutdown,
    Supervisor,
)

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage

EACH_RESTART_TYPE = [Restart.TEMPORARY, Restart.TRANSIENT, Restart.PERMANENT]
NONE = Intensity(limit=0)


def ends(events: list[Event]) -> dict[str, tuple[str, float]]:
    """How and when each child ended."""
    return {event.path: (event.kind.value, event.t) for event in events if event.reason}


async def test_sup_stop_infinity(stage: "Stage", autojump_clock: MockClock) -> None:
    """Without a bound a worker and a supervisor may take all the time they need."""
    forever = Shutdown(grace=math.inf)
    slow = stage.spec("slow", stop_seconds=500, shutdown=forever)
    root = Supervisor(
        "root",
        [
            ChildSpec(
                "child1",
                lambda: Supervisor("s", [slow], stop_deadline=math.inf),
                shutdown=forever,
            ),
            stage.spec("child2", stop_seconds=1000, shutdown=forever),
        ],
        stop_deadline=math.inf,
    )
    async with stage.up(root):
        stage.events()
    assert ends(stage.events()) == {
        "root/child2": ("stopped", 1000),
        "root/child1/slow": ("stopped", 1500),
        "root/child1": ("stopped", 1500),
    }


async def test_sup_stop_timeout(stage: "Stage", autojump_clock: MockClock) -> None:
    """A child that does not listen is killed when its time is over; the other stops by itself."""
    second = Shutdown(grace=1)
    children = [stage.spec("child1", shutdown=second), stage.spec("child2", shutdown=second)]
    async with stage.up(Supervisor("root", children)) as root:
        await stage.tell(root, "child2", 200.0)
    assert ends(stage.events()) == {"root/child2": ("killed", 1), "root/child1": ("stopped", 1)}


async def test_sup_stop_timeout_dynamic(stage: "Stage", autojump_clock: MockClock) -> None:
    """The same below a dynamic supervisor, where the other need not wait."""
    async with stage.up(DynamicSupervisor("root")) as root:
        for child in ("child1", "child2"):
            spec = stage.spec(child, restart=Restart.TEMPORARY, shutdown=Shutdown(grace=1))
            await root.start_child(spec)
        await stage.tell(root, "child2", 200.0)
    assert ends(stage.events()) == {"root/child1": ("stopped", 0), "root/child2": ("killed", 1)}


async def test_sup_stop_brutal_kill(stage: "Stage", autojump_clock: MockClock) -> None:
    """Without any grace a child is killed at once."""
    children = [
        stage.spec("child1", shutdown=Shutdown(grace=1)),
        stage.spec("child2", stop_seconds=9, shutdown=Shutdown(grace=0)),
    ]
    async with stage.up(Supervisor("root", children)):
        stage.events()
    assert ends(stage.events()) == {"root/child2": ("killed", 0), "root/child1": ("stopped", 0)}


async def test_sup_stop_brutal_kill_dynamic(stage: "Stage", autojump_clock: MockClock) -> None:
    """All children of a dynamic supervisor are killed at once."""
    async with stage.up(DynamicSupervisor("root")) as root:
        for number in range(10):
            await root.start_child(
                stage.spec(
                    f"child{number}",
                    stop_seconds=9,
                    restart=Restart.TEMPORARY,
                    shutdown=Shutdown(grace=0),
                )
            )
    assert list(ends(stage.events()).values()) == [("killed", 0)] * 10


async def test_sup_stop_race(stage: "Stage", autojump_clock: MockClock) -> None:
    """Children that end by themselves, in any way, during the stop of another are no failures."""
    middle = [f"{restart.value}_{how}" for restart in EACH_RESTART_TYPE for how in ("ret", "die")]
    children = [
        stage.spec("child_a", restart=Restart.TEMPORARY),
        *(stage.spec(each, restart=Restart(each.split("_")[0])) for each in middle),
        stage.spec("child_z", stop_seconds=1, restart=Restart.TEMPORARY),
    ]
    root = Supervisor("root", children, intensity=NONE)
    async with stage.up(root):
        stage.events()
        root.stop()
        await stage.sleep(0.2)
        for child in middle:
            await (stage.finish if child.endswith("ret") else stage.crash)(root, child)
        assert stage.states(root)["child_z"] == "stopping"
        assert not stage.is_down(root)
    told = stage.events()
    assert ends(told) == {
        **{f"root/{child}": ("exited", 0.2) for child in middle},
        "root/child_z": ("stopped", 1),
        "root/child_a": ("stopped", 1),
    }
    reasons = {event.path: event.reason.kind.value for event in told if event.reason}
    assert {reasons[f"root/{child}"] for child in middle if child.endswith("die")} == {"crash"}
    assert {reasons[f"root/{child}"] for child in middle if child.endswith("ret")} == {"normal"}


@pytest.mark.parametrize("restart", EACH_RESTART_TYPE)
async def test_sup_stop_non_shutdown_exit_dynamic(
    restart: Restart, stage: "Stage", autojump_clock: MockClock
) -> None:
    """Children that end with an error when asked to stop are reported, and that is all."""
    root = DynamicSupervisor("root", intensity=NONE)
    async with stage.up(root):
        for child, error in (("good", None), ("bad", ValueError("at the stop"))):
            await root.start_child(stage.spec(child, last_words=error, restart=restart))
    last = {event.path: event.reason for event in stage.events() if event.kind == "stopped"}
    assert {path: reason and reason.kind.value for path, reason in last.items()} == {
        "root/good": "shutdown",
        "root/bad": "crash",
    }
    bad = last["root/bad"]
    assert bad is not None
    assert bad.summary == "ValueError: at the stop"


async def test_child_unlink(stage: "Stage", autojump_clock: MockClock) -> None:
    """A child that escapes its end does not hang its supervisor, which is told and goes on."""

    async def naughty(ctx: Context[Any]) -> None:
        ctx.ready()
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    spec = ChildSpec[Any]("naughty_child", lambda: naughty, shutdown=Shutdown(grace=1, kill=1))
    root = Supervisor("root", [stage.spec("before"), spec])
    async with stage.up(root), trio.open_nursery() as nursery:
        nursery.start_soon(root.stop_child, "naughty_child")
        await stage.sleep(5)
        await root.start_child(stage.spec("other"))
        await stage.crash(root, "other")
        assert trio.current_time() == 5
        assert stage.states(root)["naughty_child"] == "stopping"
        assert "root/naughty_child#1 wedged" in stage.story()
        root.stop()
    ended = ends(stage.events())
    assert ended["root/other"] == ended["root/before"] == ("stopped", 5)
    assert trio.current_time() == 60


async def test_intensity_that_is_exhausted_stops_the_others_in_order(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """Giving up is an ordered stop too, each child with its own time."""
    children = [stage.spec("a"), stage.spec("b"), stage.spec("c", stop_seconds=2)]
    async with stage.up(Supervisor("root", children, intensity=NONE), falls=True) as root:
        await stage.crash(root, "b")
        assert not stage.is_down(root)
    assert list(ends(stage.events()).items()) == [
        ("root/b", ("intensity", 0)),
        ("root", ("escalated", 0)),
        ("root/c", ("stopped", 2)),
        ("root/a", ("stopped", 2)),
    ]
