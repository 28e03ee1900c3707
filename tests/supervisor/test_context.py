from collections.abc import Callable
from typing import Any

import pytest
import trio

from polysupervisor import ChildSpec, Context, Intensity, Supervisor, SupervisorEscalation


async def run_once(actor: Callable[[Context[Any]], Any]) -> None:
    """Run an actor for one incarnation; it crashes or stops the supervisor by returning."""
    root: Supervisor

    async def run(ctx: Context[Any]) -> None:
        await actor(ctx)
        root.stop()
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("a", lambda: run)], intensity=Intensity(limit=0))
    await root.run()


async def test_only_the_first_ready_counts() -> None:
    async def parent(ctx: Context[Any]) -> None:
        ctx.ready("first")
        ctx.ready("second")
        await ctx.stop_requested.wait()

    root = Supervisor("root")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert (await root.start_child(ChildSpec("a", lambda: parent))).value == "first"
        root.stop()


async def test_inbox_of_a_child_without_mailbox_is_an_error() -> None:
    async def actor(ctx: Context[Any]) -> None:
        ctx.ready()
        await ctx.inbox.receive()

    with pytest.raises(SupervisorEscalation, match="NoMailbox: root/a was specified without"):
        await run_once(actor)


async def test_crash_in_the_own_nursery_is_the_crash_of_the_actor() -> None:
    async def fail() -> None:
        raise ValueError("boom")

    async def actor(ctx: Context[Any]) -> None:
        ctx.ready()
        async with ctx.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    with pytest.raises(SupervisorEscalation) as caught:
        await run_once(actor)
    assert caught.value.reason.types == ("ValueError",)


async def test_incarnations_do_not_inherit_context_variables_from_one_another() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="untouched")
    seen: list[str] = []

    async def actor(ctx: Context[Any]) -> None:
        seen.append(variable.get())
        variable.set(f"set by {ctx.incarnation}")
        ctx.ready()
        if ctx.incarnation < 3:
            raise ValueError("boom")
        root.stop()
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("a", lambda: actor)])
    await root.run()
    assert seen == ["untouched"] * 3


async def test_ignoring_is_for_the_start_and_readiness_does_not_undo_it() -> None:
    async def late(ctx: Context[Any]) -> None:
        ctx.ready()
        with pytest.raises(RuntimeError, match="root/a is ready"):
            ctx.ignore()

    await run_once(late)

    async def fickle(ctx: Context[Any]) -> None:
        ctx.ignore()
        ctx.ready()

    root = Supervisor("root", [ChildSpec("a", lambda: fickle)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert [child.state.value for child in root.children()] == ["stopped"]
        root.stop()


async def test_a_beat_of_a_child_without_mailbox_does_no_harm() -> None:
    async def actor(ctx: Context[Any]) -> None:
        ctx.ready()
        ctx.beat("alive")

    await run_once(actor)
