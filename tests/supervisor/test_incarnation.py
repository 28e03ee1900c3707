"""Every outcome of an incarnation becomes data; what is no outcome of it passes."""

import gc
import weakref
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from polysupervisor import (
    Backoff,
    ChildSpec,
    Context,
    ExitKind,
    Intensity,
    NotRunning,
    Supervisor,
    SupervisorEscalation,
)
from polysupervisor._exit import leaves

Spec = Callable[..., ChildSpec[Any]]


class BrokenRandom(Random):
    """Stands for a bug in the supervisor's own task."""

    def random(self) -> float:
        raise RuntimeError("a bug of the runtime")


async def silent(ctx: Context[Any]) -> None:
    await trio.sleep_forever()


async def test_bug_of_the_runtime_comes_out_and_cancels_all_children(puppet_spec: Spec) -> None:
    ended: list[str] = []

    async def bystander(ctx: Context[Any]) -> None:
        ctx.ready()
        try:
            await trio.sleep_forever()
        finally:
            ended.append(ctx.id)

    async def dirty(ctx: Context[Any]) -> None:
        ctx.ready()
        async with ctx.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                ended.append(ctx.id)
                raise ValueError("in clean-up")

    root = Supervisor(
        "root",
        [
            puppet_spec("a", backoff=Backoff()),
            ChildSpec("b", lambda: bystander),
            ChildSpec("c", lambda: dirty),
        ],
        rng=BrokenRandom(),
    )

    async def wait_in_vain() -> None:
        with pytest.raises(NotRunning, match="root has stopped"):
            await root.start_child(ChildSpec("d", lambda: silent))

    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with pytest.raises(BaseExceptionGroup) as caught:
                await root.run(task_status=task_status)
            assert [str(leaf) for leaf in leaves(caught.value)] == ["a bug of the runtime"]

        await nursery.start(run)
        nursery.start_soon(wait_in_vain)
        await wait_all_tasks_blocked()
        root.address("a").send_nowait(ValueError("boom"))
    assert sorted(ended) == ["b", "c"]


async def test_supervisor_that_a_factory_returns_twice_fails_to_start(puppet_spec: Spec) -> None:
    same = Supervisor("x", [puppet_spec("w")], intensity=Intensity(limit=0))
    root = Supervisor("root", [ChildSpec("inner", lambda: same)], intensity=Intensity(limit=1))
    same.address("w").send_nowait(ValueError("boom"))
    with pytest.raises(SupervisorEscalation, match="make a new supervisor instead") as caught:
        await root.run()
    assert caught.value.reason.kind is ExitKind.START_FAILED


async def test_system_exit_among_errors_comes_out_and_is_no_crash() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def actor(ctx: Context[Any]) -> None:
        ctx.ready()
        async with ctx.open_nursery() as nursery:
            nursery.start_soon(leave)
            await trio.sleep_forever()

    root = Supervisor("root", [ChildSpec("a", lambda: actor)])
    with pytest.raises(BaseExceptionGroup) as caught:
        await root.run()
    assert [type(leaf) for leaf in leaves(caught.value)] == [SystemExit]
    assert root.children()[0].incarnation == 1


async def test_dead_incarnation_gives_its_locals_back() -> None:
    class Book:
        pass

    books: list[weakref.ref[Book]] = []

    async def actor(ctx: Context[Any]) -> None:
        book = Book()
        books.append(weakref.ref(book))
        ctx.ready()
        if ctx.incarnation < 3:
            raise ValueError("boom")
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("a", lambda: actor)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        gc.collect()
        assert [book() is None for book in books] == [True, True, False]
        root.stop()
