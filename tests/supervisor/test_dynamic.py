from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    ChildSpec,
    Context,
    DynamicSupervisor,
    Restart,
    Shutdown,
    Supervisor,
    TooManyChildren,
)

Spec = Callable[..., ChildSpec[Any]]
BOOM = ValueError("boom")


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.id: child.state.value for child in supervisor.children()}


async def steady(ctx: Context[Any]) -> None:
    ctx.ready()
    await ctx.stop_requested.wait()


async def test_all_children_are_stopped_at_the_same_time(autojump_clock: MockClock) -> None:
    async def slow(ctx: Context[Any]) -> None:
        await steady(ctx)
        await trio.sleep(3)

    pool = DynamicSupervisor("pool", [ChildSpec("first", lambda: slow)])
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        for number in range(100):
            await pool.start_child(ChildSpec(str(number), lambda: slow))
        pool.stop()
    assert trio.current_time() == 3


async def test_one_bad_child_is_given_up_and_the_others_go_on(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    pool = DynamicSupervisor("pool")
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        for child in ("bad", "good"):
            await pool.start_child(puppet_spec(child))
        for _ in range(4):
            await pool.address("bad").send(BOOM)
            await wait_all_tasks_blocked()
        await pool.address("good").send(BOOM)
        await wait_all_tasks_blocked()
        assert states(pool) == {"bad": "gave_up", "good": "running"}
        await pool.restart_child("bad", reset_backoff=True)
        assert states(pool) == {"bad": "running", "good": "running"}
        pool.stop()


async def test_children_that_finished_or_were_stopped_are_forgotten(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    pool = DynamicSupervisor("pool")
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        for _ in range(2):  # the ids are free again
            await pool.start_child(puppet_spec("a", restart=Restart.TRANSIENT))
            await pool.start_child(puppet_spec("b", restart=Restart.TEMPORARY))
            await pool.start_child(puppet_spec("c"))
            address = pool.address("a")
            await address.send(None)
            await pool.address("b").send(BOOM)
            await pool.stop_child("c")
            await wait_all_tasks_blocked()
            assert states(pool) == {}
            with pytest.raises(trio.BrokenResourceError):
                address.send_nowait(None)
        pool.stop()


async def test_max_children_counts_all_that_are_present(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    pool = DynamicSupervisor("pool", [puppet_spec("a")], max_children=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        await pool.start_child(puppet_spec("b"))
        with pytest.raises(TooManyChildren, match="pool has 2 children already"):
            await pool.start_child(puppet_spec("c"))
        await pool.stop_child("a")
        await pool.start_child(puppet_spec("c"))
        pool.stop()
    with pytest.raises(ValueError, match="max_children=1"):
        DynamicSupervisor("pool", [puppet_spec("a"), puppet_spec("b")], max_children=1)


async def test_slow_start_of_one_child_does_not_hold_up_another(
    autojump_clock: MockClock,
) -> None:
    async def slow(ctx: Context[Any]) -> None:
        await trio.sleep(5)
        await steady(ctx)

    pool = DynamicSupervisor("pool")
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        nursery.start_soon(pool.start_child, ChildSpec("slow", lambda: slow))
        await wait_all_tasks_blocked()
        await pool.start_child(ChildSpec("quick", lambda: steady))
        assert trio.current_time() == 0
        assert states(pool) == {"slow": "starting", "quick": "running"}
        await trio.sleep(6)
        pool.stop()


async def test_stop_while_one_is_wedged_and_one_stops_already(autojump_clock: MockClock) -> None:
    async def shielded(ctx: Context[Any]) -> None:
        ctx.ready()
        with trio.CancelScope(shield=True):
            await trio.sleep(50)

    short = Shutdown(grace=1, kill=1)
    pool = DynamicSupervisor(
        "pool",
        [ChildSpec("a", lambda: shielded, shutdown=short), ChildSpec("b", lambda: steady)],
    )
    events = pool.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        nursery.start_soon(pool.stop_child, "a")
        await trio.sleep(10)
        pool.stop()
        await trio.sleep(1)
        assert states(pool) == {"a": "stopping", "b": "stopped"}
    assert trio.current_time() == 50
    assert [event.path async for event in events if event.kind == "wedged"] == ["pool/a"]
