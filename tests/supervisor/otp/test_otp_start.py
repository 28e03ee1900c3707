"""supervisor_SUITE: how a supervisor and its children start, or do not."""

from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from polysupervisor import (
    ChildSpec,
    Context,
    DynamicSupervisor,
    NotFound,
    Restart,
    Run,
    Shutdown,
    StartFailed,
    Supervisor,
)

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage


async def test_sup_start_normal(stage: "Stage", autojump_clock: MockClock) -> None:
    """A supervisor without children starts, and stops without an error."""
    async with stage.up(Supervisor("root")) as root:
        assert stage.states(root) == {}
    assert stage.is_down(root)


async def test_start_is_in_order_and_each_waits_for_the_one_before(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """The rule that all cases rest on; what happens to an earlier child changes nothing in it."""
    root = Supervisor("root", [stage.spec("a"), stage.spec("b", "5:ready"), stage.spec("c")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await stage.sleep(1)
        assert stage.states(root) == {"a": "running", "b": "starting", "c": "waiting"}
        await stage.crash(root, "a")
        assert stage.states(root) == {"a": "running", "b": "starting", "c": "waiting"}
        await stage.sleep(4)
        assert stage.states(root) == {"a": "running", "b": "running", "c": "running"}
        root.stop()


# A child that need not run.


async def test_sup_start_ignore_init(stage: "Stage", autojump_clock: MockClock) -> None:
    """What would be a supervisor may say that it need not run: that is no failure."""

    async def nothing_to_do(ctx: Context[Any]) -> None:
        ctx.ignore()

    def factory() -> Run[Any] | Supervisor:
        return nothing_to_do  # instead of a new supervisor

    async with stage.up(Supervisor("root", [ChildSpec("inner", factory)])) as root:
        assert stage.states(root) == {"inner": "stopped"}
        assert stage.counts(root)[:2] == (1, 0)
        assert stage.story() == ["root/inner#1 starting", "root/inner#1 ignored"]


async def test_sup_start_ignore_child(stage: "Stage", autojump_clock: MockClock) -> None:
    """An ignoring child started by command is a success; it is kept, and not running."""
    async with stage.up(Supervisor("root")) as root:
        first = await root.start_child(stage.spec("child1", "ignore"))
        second = await root.start_child(stage.spec("child2"))
        assert (first.ignored, second.ignored) == (True, False)
        assert stage.states(root) == {"child1": "stopped", "child2": "running"}
        assert stage.counts(root) == (2, 1, 0, 2)


async def test_sup_start_ignore_child__can_be_started_later(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """It is present like a stopped one, so ``restart_child`` asks it again."""
    async with stage.up(Supervisor("root", [stage.spec("child1", "ignore ready")])) as root:
        started = await root.restart_child("child1")
        assert (started.ignored, stage.states(root)) == (False, {"child1": "running"})


async def test_sup_start_ignore_temporary_child(stage: "Stage", autojump_clock: MockClock) -> None:
    """An ignoring temporary child among the first ones is not kept, and the next starts."""
    children = [
        stage.spec("child1", "ignore", restart=Restart.TEMPORARY),
        stage.spec("child2", restart=Restart.TEMPORARY),
    ]
    async with stage.up(Supervisor("root", children)) as root:
        assert stage.states(root) == {"child2": "running"}
        assert stage.counts(root) == (1, 1, 0, 1)


async def test_sup_start_ignore_temporary_child_start_child(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """Nor is one that was started by command; its id is free again."""
    async with stage.up(Supervisor("root")) as root:
        for _ in range(2):
            spec = stage.spec("child1", "ignore", restart=Restart.TEMPORARY)
            assert (await root.start_child(spec)).ignored
        await root.start_child(stage.spec("child2", restart=Restart.TEMPORARY))
        assert stage.states(root) == {"child2": "running"}
        assert stage.counts(root) == (1, 1, 0, 1)


@pytest.mark.parametrize(
    "restart",
    [
        pytest.param(Restart.TEMPORARY, id="sup_start_ignore_temporary_child_start_child_simple"),
        pytest.param(Restart.PERMANENT, id="sup_start_ignore_permanent_child_start_child_simple"),
    ],
)
async def test_ignoring_dynamic_child_is_not_kept(
    restart: Restart, stage: "Stage", autojump_clock: MockClock
) -> None:
    """A dynamic supervisor keeps no ignoring child, and ends without an error afterwards."""
    async with stage.up(DynamicSupervisor("root")) as root:
        assert (await root.start_child(stage.spec("child1", "ignore", restart=restart))).ignored
        await root.start_child(stage.spec("child2", restart=restart))
        assert stage.states(root) == {"child2": "running"}
        assert stage.counts(root)[1] == 1


# A start that fails.


async def test_sup_start_error_return(stage: "Stage", autojump_clock: MockClock) -> None:
    """A factory that returns what is no actor makes the start fail, naming the child."""
    bad: Any = 5
    spec: ChildSpec[Any] = ChildSpec("child1", lambda: bad)
    root = Supervisor("root", [spec])
    with pytest.raises(StartFailed, match="root/child1"):
        await root.run()
    assert stage.is_down(root)


async def test_sup_start_fail(stage: "Stage", autojump_clock: MockClock) -> None:
    """A factory that raises makes the start fail with its words."""

    def factory() -> Run[Any]:
        raise LookupError("no such thing")

    with pytest.raises(StartFailed, match=r"root/child1 .*no such thing"):
        await Supervisor("root", [ChildSpec("child1", factory)]).run()


async def test_sup_start_fail__the_others_are_stopped(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """The first start is not retried; those that are up are stopped in reverse order."""
    children = [stage.spec("a"), stage.spec("b"), stage.spec("c", "fail ready"), stage.spec("d")]
    root = Supervisor("root", children)
    events = root.events.subscribe()
    with pytest.raises(StartFailed, match="root/c"):
        await root.run()
    told = [(event.path, event.kind.value) async for event in events]
    assert told[4:] == [
        ("root/c", "starting"),
        ("root/c", "start_failed"),
        ("root/b", "stopping"),
        ("root/b", "stopped"),
        ("root/a", "stopping"),
        ("root/a", "stopped"),
    ]


@pytest.mark.parametrize("start", ["fail", "return"])
async def test_sup_start_child_returns_error(
    start: str, stage: "Stage", autojump_clock: MockClock
) -> None:
    """A start by command that fails is raised there, and leaves nothing behind."""
    async with stage.up(Supervisor("root")) as root:
        with pytest.raises(StartFailed, match="root/child1"):
            await root.start_child(stage.spec("child1", start))
        assert (stage.states(root), stage.counts(root)) == ({}, (0, 0, 0, 0))


@pytest.mark.parametrize("start", ["fail", "return"])
async def test_sup_start_child_returns_error_simple(
    start: str, stage: "Stage", autojump_clock: MockClock
) -> None:
    """The same below a dynamic supervisor."""
    async with stage.up(DynamicSupervisor("root")) as root:
        with pytest.raises(StartFailed, match="root/child1"):
            await root.start_child(stage.spec("child1", start))
        assert (stage.states(root), stage.counts(root)) == ({}, (0, 0, 0, 0))


async def test_sup_start_restart_child_returns_error(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """A restart by command that fails is raised there, and the child is still present."""
    async with stage.up(Supervisor("root", [stage.spec("child1", "ready fail")])) as root:
        await root.stop_child("child1")
        with pytest.raises(StartFailed, match="root/child1"):
            await root.restart_child("child1")
        assert stage.states(root) == {"child1": "stopped"}


async def test_sup_start_restart_child_returns_error__after_it_was_ignored(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """Also when it has never run before."""
    async with stage.up(Supervisor("root", [stage.spec("child1", "ignore fail")])) as root:
        with pytest.raises(StartFailed, match="root/child1"):
            await root.restart_child("child1")
        assert stage.states(root) == {"child1": "stopped"}


async def test_faulty_application_shutdown(stage: "Stage", autojump_clock: MockClock) -> None:
    """A failing start deep in the tree comes out of the root with its path and cause."""

    async def faulty(ctx: Context[Any]) -> None:
        raise NameError("name 'an_undefined_function' is not defined")

    inner = Supervisor("inner", [ChildSpec("server", lambda: faulty)])
    app: ChildSpec[Any] = ChildSpec("app", lambda: Supervisor("app", [inner]))
    with pytest.raises(StartFailed) as caught:
        await Supervisor("root", [app]).run()
    assert caught.value.path == "root/app"
    assert "root/app/inner/server" in str(caught.value)
    assert "NameError: name 'an_undefined_function'" in str(caught.value)


async def test_already_started_outside_supervisor(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """A child whose registered name is taken does not start; its supervisor goes on."""

    async def named(ctx: Context[Any]) -> None:
        ctx.registry.register("the name")
        ctx.ready()
        await ctx.stop_requested.wait()

    outside = Supervisor("outside", [ChildSpec("holder", lambda: named)])
    inside = Supervisor("inside")
    async with stage.up(Supervisor("root", [outside, inside])) as root:
        with pytest.raises(StartFailed) as caught:
            await inside.start_child(ChildSpec("child", lambda: named, restart=Restart.TRANSIENT))
        assert caught.value.reason.types == ("NameTaken",)
        assert stage.states(inside) == {}
        assert root.registry.lookup("the name") == outside.address("holder")


# What a specification means when it says little, or nonsense.


async def test_sup_start_map(stage: "Stage", autojump_clock: MockClock) -> None:
    """Defaults: permanent, not significant, 5 s to stop; a supervisor has as long as it needs."""
    slow = stage.spec("slow", stop_seconds=20, shutdown=Shutdown(grace=25))
    children = [
        stage.spec("child1", stop_seconds=6),
        stage.spec("child2", stop_seconds=6, shutdown=Shutdown(grace=0)),
        ChildSpec[Any]("child3", lambda: Supervisor("child3", [slow])),
    ]
    assert {(spec.restart, spec.significant) for spec in children} == {(Restart.PERMANENT, False)}
    async with stage.up(Supervisor("root", children)) as root:
        with pytest.raises(NotFound):
            root.address("child4")
        stage.story()
    ends = [(event.path, event.kind.value, event.t) for event in stage.events() if event.reason]
    assert ends == [
        ("root/child3/slow", "stopped", 20),
        ("root/child3", "stopped", 20),
        ("root/child2", "killed", 20),
        ("root/child1", "killed", 25),
    ]


async def test_sup_start_map_simple(stage: "Stage", autojump_clock: MockClock) -> None:
    """The same defaults for the children of a dynamic supervisor."""
    async with stage.up(DynamicSupervisor("root")) as root:
        for child in ("child1", "child2", "child3"):
            await root.start_child(stage.spec(child, stop_seconds=6))
        with pytest.raises(NotFound):
            root.address("child4")
        await stage.crash(root, "child1")
        assert stage.lives(root) == {"child1": 2, "child2": 1, "child3": 1}
    assert trio.current_time() == 5


def test_sup_start_map_faulty_specs() -> None:
    """A specification without an id or a factory, or with an unknown part, is refused."""
    make: Any = ChildSpec
    with pytest.raises(TypeError, match="'id'"):
        make(factory=lambda: None)
    with pytest.raises(TypeError, match="'factory'"):
        make("child2")
    with pytest.raises(TypeError, match="silly_flag"):
        make("child3", lambda: None, silly_flag=True)


def test_sup_start_map_faulty_specs__no_specification_at_all() -> None:
    """The refusal names what it was given."""
    children: Any = ["child4"]
    with pytest.raises((TypeError, ValueError), match="child4"):
        Supervisor("root", children)
