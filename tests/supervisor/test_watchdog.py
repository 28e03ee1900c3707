"""The watchdog against tasks that really hold the event loop: the few tests in real time."""

import logging
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest
import trio
import trio.lowlevel

from polysupervisor import Blocked, ChildSpec, Context, Supervisor, Watchdog, run_app
from polysupervisor._watchdog import EXIT_WEDGED, Watch

LIMIT = 0.2


async def spin(ctx: Context[Any]) -> None:
    ctx.ready()
    await trio.lowlevel.checkpoint()
    until = time.perf_counter() + 5 * LIMIT
    while time.perf_counter() < until:
        pass
    await ctx.stop_requested.wait()


def test_the_actor_that_blocks_is_named_while_it_blocks_and_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    noticed: list[tuple[Blocked, float]] = []
    begun = time.perf_counter()

    def note(blocked: Blocked) -> None:
        noticed.append((blocked, time.perf_counter() - begun))

    async def watched() -> None:
        root = Supervisor("root", [ChildSpec("shard-0", lambda: spin)])
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                await trio.sleep(6 * LIMIT)
                root.stop()

            nursery.start_soon(end)
            await run_app(root, watchdog=Watchdog(limit=LIMIT, on_blocked=note))

    with caplog.at_level(logging.DEBUG, logger="polysupervisor"):
        trio.run(watched)
    ((blocked, seconds),) = noticed
    assert blocked.task == "root/shard-0"
    assert blocked.seconds >= LIMIT
    assert "in spin" in blocked.stack
    assert seconds < 5 * LIMIT, "it was told only when it was over"
    now, stack, after = (record.getMessage() for record in caplog.records)
    assert now.startswith("root/shard-0 blocks the event loop for ")
    assert "test_watchdog.py:" in now
    assert stack.startswith("stack of root/shard-0")
    assert after.startswith("root/shard-0 let the event loop go on after ")


def test_an_idle_loop_and_one_of_many_short_steps_raise_no_alarm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def busy(ctx: Context[Any]) -> None:
        ctx.ready()
        until = time.perf_counter() + 3 * LIMIT
        while time.perf_counter() < until:
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        root = Supervisor("root", [ChildSpec("busy", lambda: busy)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_app(root, watchdog=Watchdog(limit=LIMIT)))
            await trio.sleep(6 * LIMIT)
            root.stop()

    with caplog.at_level(logging.INFO, logger="polysupervisor"):
        trio.run(main)
    assert caplog.records == []


def judged(watchdog: Watchdog, looks: list[float]) -> list[Blocked]:
    """What a watch says of one step when its thread looks at these seconds after the begin."""
    noticed: list[Blocked] = []
    watch = Watch(Watchdog(watchdog.limit, watchdog.exit_after, noticed.append))

    async def step() -> None:
        watch.before_task_step(trio.lowlevel.current_task())
        begun = watch.step_begun()
        assert begun is not None
        before = begun
        for seconds in looks:
            watch.look_at(begun + seconds, before)
            before = begun + seconds

    trio.run(step)
    return noticed


def test_time_in_which_the_process_did_not_run_does_not_count() -> None:
    watchdog = Watchdog(limit=1.0)
    assert judged(watchdog, [0.25, 0.5, 0.75]) == []
    assert [round(each.seconds, 2) for each in judged(watchdog, [0.25, 0.5, 0.75, 1.0])] == [1.0]
    assert judged(watchdog, [0.25, 60.25, 60.5]) == []  # stopped for a minute
    assert len(judged(watchdog, [0.25, 60.25, 60.5, 60.75, 61.0])) == 1


def test_a_failing_callback_is_logged_and_the_watch_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: Blocked) -> None:
        raise ValueError("no")

    watch = Watch(Watchdog(limit=1.0, on_blocked=fail))

    async def step() -> None:
        watch.before_task_step(trio.lowlevel.current_task())
        begun = watch.step_begun()
        assert begun is not None
        for seconds in (0.5, 1.0, 1.5):
            watch.look_at(begun + seconds, begun + seconds - 0.25)
        watch.after_task_step(trio.lowlevel.current_task())
        watch.look_at(begun + 2.0, begun + 1.75)

    trio.run(step)
    assert "on_blocked of the watchdog failed" in caplog.text


class Ended(Exception):  # noqa: N818 - the process would have
    """What ``os._exit`` is replaced by, since a test cannot survive it."""


def test_the_process_is_ended_at_its_limits_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr("os._exit", end)
    assert len(judged(Watchdog(limit=1.0, exit_after=2.0), [0.5, 1.0, 1.5, 1.9])) == 1
    with pytest.raises(Ended, match=str(EXIT_WEDGED)):
        judged(Watchdog(limit=1.0, exit_after=2.0), [0.5, 1.0, 1.5, 2.0])
    patient = Watch(Watchdog(limit=1.0))
    patient.expect_end()
    now = time.perf_counter()
    patient.look_at(now + 1e6, now + 1e6)
    strict = Watch(Watchdog(limit=1.0, exit_after=2.0))
    strict.expect_end()
    strict.look_at(now + 1.5, now)
    with pytest.raises(Ended):
        strict.look_at(now + 60.0, now)


def test_a_blockage_without_a_callback_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch(Watchdog(limit=1.0))
    assert watch.step_begun() is None

    async def step() -> None:
        watch.before_task_step(trio.lowlevel.current_task())
        begun = watch.step_begun()
        assert begun is not None
        watch.look_at(begun + 1.0, begun + 0.75)

    trio.run(step)
    assert [record.levelname for record in caplog.records if record.levelname != "DEBUG"] == [
        "ERROR"
    ]


APP = """
import logging, signal, sys, time
import trio
from polysupervisor import ChildSpec, Shutdown, Supervisor, Watchdog, run_app

async def actor(ctx):
    ctx.ready()
    print("ready", flush=True)
    {body}

logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
spec = ChildSpec("actor", lambda: actor, shutdown=Shutdown(grace=60))
root = Supervisor("root", [spec])
watchdog = Watchdog(limit=0.2, exit_after=0.6)
sys.exit(trio.run(lambda: run_app(root, watchdog=watchdog)))
"""


def start(body: str) -> subprocess.Popen[str]:
    code = APP.format(body=textwrap.indent(body, "    ").strip())
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )


def test_a_loop_that_is_blocked_too_long_ends_the_process() -> None:
    with start("time.sleep(60)") as process:
        _, told = process.communicate(timeout=30)
    assert process.returncode == EXIT_WEDGED
    assert "CRITICAL root/actor has blocked the event loop for " in told


def test_a_child_that_resists_after_the_second_signal_ends_the_process() -> None:
    body = "with trio.CancelScope(shield=True):\n    await trio.sleep_forever()"
    with start(body) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)  # two of one kind at once may become one
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == EXIT_WEDGED
    assert "have not ended after the second signal" in told


def test_an_ordered_stop_under_a_flood_of_signals_ends_with_its_own_code() -> None:
    body = "await ctx.stop_requested.wait()\nawait trio.sleep(0.3)"
    with start(body) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
            time.sleep(0.05)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
