"""``run_app`` with real signals to this very process."""

import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

from polysupervisor import (
    ChildSpec,
    Context,
    ExitKind,
    Intensity,
    Restart,
    Shutdown,
    StartFailed,
    Supervisor,
    run_app,
)

Spec = Callable[..., ChildSpec[Any]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_first_signal_stops_in_order_and_the_exit_code_is_0(number: int) -> None:
    async def child(ctx: Context[Any]) -> None:
        ctx.ready()
        os.kill(os.getpid(), number)
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("a", lambda: child)])
    events = root.events.subscribe()
    assert await run_app(root) == 0
    last = [event async for event in events][-1]
    assert last.reason is not None
    assert (last.kind, last.reason.kind) == ("stopped", ExitKind.SHUTDOWN)


async def test_second_signal_cancels_a_third_is_ignored_and_the_exit_code_is_130() -> None:
    async def child(ctx: Context[Any]) -> None:
        ctx.ready()
        os.kill(os.getpid(), signal.SIGINT)
        await ctx.stop_requested.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await trio.sleep_forever()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    spec = ChildSpec("a", lambda: child, shutdown=Shutdown(grace=1000))
    assert await run_app(Supervisor("root", [spec], stop_deadline=2000)) == 130


async def test_escalation_is_logged_and_the_exit_code_is_70(
    puppet_spec: Spec, caplog: pytest.LogCaptureFixture
) -> None:
    root = Supervisor("root", [puppet_spec("a")], intensity=Intensity(limit=0))
    root.address("a").send_nowait(ValueError("boom"))
    with caplog.at_level(logging.CRITICAL, "polysupervisor"):
        assert await run_app(root) == 70
    assert "root gave up: child a" in caplog.text
    assert "ValueError: boom" in caplog.text


async def test_stop_from_inside_ends_with_0() -> None:
    async def child(ctx: Context[Any]) -> None:
        ctx.ready()
        root.stop()
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("a", lambda: child)])
    assert await run_app(root, signals=(signal.SIGUSR1,)) == 0


async def test_other_errors_of_the_root_come_out_as_they_are() -> None:
    async def broken(ctx: Context[Any]) -> None:
        raise ValueError("boom")

    async def leaves(ctx: Context[Any]) -> None:
        ctx.ready()
        raise SystemExit(3)

    with pytest.raises(StartFailed, match="boom"):
        await run_app(Supervisor("root", [ChildSpec("a", lambda: broken)]))
    with pytest.raises(SystemExit):
        await run_app(Supervisor("root", [ChildSpec("a", lambda: leaves)]))


async def test_cancellation_from_outside_goes_on() -> None:
    root = Supervisor("root")
    with trio.CancelScope() as scope:
        scope.cancel()
        await run_app(root)
    assert scope.cancelled_caught


async def test_it_is_ready_when_all_children_are_and_needs_no_signals(
    puppet_spec: Spec, autojump_clock: trio.testing.MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a")])
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_app, root, signals=()))
        assert [child.state.value for child in root.children()] == ["running"]
        root.stop()


async def test_what_goes_wrong_is_logged_as_what_it_is(
    puppet_spec: Spec, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    specs = [
        puppet_spec("bug"),
        puppet_spec("net", expected=(OSError,)),
        puppet_spec("done", restart=Restart.TRANSIENT),
    ]
    root = Supervisor("root", specs, intensity=Intensity(limit=1, on_exhausted="give_up"))

    async def script() -> None:
        for child, error in (
            ("bug", ValueError("boom")), ("net", OSError("reset")), ("done", None),
            ("bug", KeyError("k")),
        ):  # fmt: skip
            await root.address(child).send(error)
            await trio.sleep(1)
        root.stop()

    with caplog.at_level(logging.DEBUG, logger="polysupervisor"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(script)
            assert await run_app(root) == 0
    told = [(record.levelname, record.getMessage().splitlines()[0]) for record in caplog.records]
    assert told == [
        ("ERROR", "root/bug#1: crash (ValueError: boom)"),
        ("DEBUG", "root/net#1: crash (OSError: reset)"),
        ("ERROR", "root/bug#2: crash (KeyError: 'k')"),
        ("WARNING", "root/bug#2: gave_up"),
    ]
    assert "raise order" in caplog.records[0].getMessage()


async def test_what_is_raised_says_where_the_actor_failed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def broken(ctx: Context[Any]) -> None:
        raise LookupError("typo")

    inner = Supervisor("inner", [ChildSpec("a", lambda: broken)])
    with pytest.raises(StartFailed) as caught:
        await run_app(Supervisor("root", [inner]), signals=())
    assert any("in broken" in note for note in caught.value.__notes__)
