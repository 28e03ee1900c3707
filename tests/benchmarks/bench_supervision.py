"""What supervision costs, as ratios to bare Trio taken in the same run.

``python tests/benchmarks/bench_supervision.py [--quick]`` prints a Markdown table.
"""

import argparse
import gc
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from polysupervisor import (
    ChildSpec,
    Context,
    DynamicSupervisor,
    Intensity,
    MailboxSpec,
    Supervisor,
)

UNBOUNDED = Intensity(limit=2**31)


class Crash(Exception):  # noqa: N818 - what a crash is called here
    """The failure of a restart."""


async def bare_restarts(count: int) -> None:
    """A task that says it is started, crashes, and is reported; then the next one."""
    send, receive = trio.open_memory_channel[str](1)

    async def incarnation(task_status: trio.TaskStatus[None]) -> None:
        try:
            task_status.started()
            await trio.lowlevel.checkpoint()
            raise Crash
        except Crash as error:
            send.send_nowait(repr(error))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            await nursery.start(incarnation)
            await receive.receive()


async def supervised_restarts(count: int) -> None:
    """A supervised child that becomes ready, crashes, and is restarted without delay."""
    done = trio.Event()

    async def actor(ctx: Context[Any]) -> None:
        ctx.ready()
        await trio.lowlevel.checkpoint()
        if ctx.incarnation > count:
            done.set()
            await ctx.stop_requested.wait()
            return
        raise Crash

    root = Supervisor("root", [ChildSpec("child", lambda: actor)], intensity=UNBOUNDED)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await done.wait()
        root.stop()


async def bare_life(count: int) -> tuple[float, float]:
    """As many idle tasks, each started with its handshake, then cancelled.

    Returns the seconds of the start, and of all of it.
    """

    async def idle(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    begun = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            await nursery.start(idle)
        started = time.perf_counter()
        nursery.cancel_scope.cancel()
    return started - begun, time.perf_counter() - begun


async def bare_starts(count: int) -> float:
    """The start of as many bare tasks."""
    return (await bare_life(count))[0]


async def bare_ends(count: int) -> float:
    """The start and end of as many bare tasks."""
    return (await bare_life(count))[1]


async def idle_actor(ctx: Context[Any]) -> None:
    """Ready, then nothing until it is stopped."""
    ctx.ready()
    await ctx.stop_requested.wait()


async def supervised_starts(count: int) -> float:
    """As many idle children of one supervisor; returns the seconds of the start."""
    specs = [ChildSpec(f"child-{n}", lambda: idle_actor) for n in range(count)]
    root = Supervisor("root", specs)
    async with trio.open_nursery() as nursery:
        begun = time.perf_counter()
        await nursery.start(root.run)
        took = time.perf_counter() - begun
        root.stop()
    return took


async def dynamic_life(count: int) -> float:
    """Start as many dynamic children by command, and stop them all; returns the seconds."""
    pool = DynamicSupervisor("pool")
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        begun = time.perf_counter()
        for n in range(count):
            await pool.start_child(ChildSpec(f"child-{n}", lambda: idle_actor))
        pool.stop()
    return time.perf_counter() - begun


async def memory_of(count: int, mailbox: MailboxSpec | None) -> float:
    """Bytes that one idle child takes, by the growth of the resident set."""
    gc.collect()
    before = resident_bytes()
    specs = [ChildSpec(f"child-{n}", lambda: idle_actor, mailbox=mailbox) for n in range(count)]
    root = Supervisor("root", specs)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        grown = resident_bytes() - before
        root.stop()
    return grown / count


def resident_bytes() -> int:
    """The resident set of this process now."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except FileNotFoundError:  # the peak is all that other systems tell
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(run: Callable[[int], Awaitable[Any]], count: int) -> float:
    """Seconds per item of one run."""
    gc.collect()
    begun = time.perf_counter()
    trio.run(run, count)
    return (time.perf_counter() - begun) / count


def inner(run: Callable[[int], Awaitable[float]], count: int) -> float:
    """Seconds per item that a run took by its own account."""
    gc.collect()
    return trio.run(run, count) / count


def row(name: str, ratios: list[float], target: str) -> str:
    """A line of the table: median with minimum and maximum."""
    median = statistics.median(ratios)
    return f"| {name} | {median:.2f} [{min(ratios):.2f}-{max(ratios):.2f}] | {target} |"


def main(quick: bool) -> None:
    """Measure everything, interleaved, and print the table."""
    rounds = 2 if quick else 7
    restarts, children = (200, 100) if quick else (5_000, 10_000)
    crash: list[float] = []
    start: list[float] = []
    growth: list[float] = []
    bare_growth: list[float] = []
    for _ in range(rounds):
        crash.append(timed(bare_restarts, restarts) / timed(supervised_restarts, restarts))
        start.append(inner(supervised_starts, children) / inner(bare_starts, children))
        growth.append(inner(dynamic_life, children) * 10 / inner(dynamic_life, children // 10))
        bare_growth.append(inner(bare_ends, children) * 10 / inner(bare_ends, children // 10))
    # Each in a process of its own, so that none lives on memory that another has freed.
    memory = [
        float(
            subprocess.run(
                [sys.executable, __file__, "--memory", kind, str(children)],
                check=True, capture_output=True, text=True,
            ).stdout
        )
        for kind in ("without", "with")
    ]  # fmt: skip
    print(f"| {children:,} children, {restarts:,} restarts | ratio | target |")
    print("|---|---|---|")
    print(row("crash to running, rate against a bare loop", crash, ">= 0.5"))
    print(row("start of idle children, time against nursery.start", start, "<= 4"))
    print(row(f"dynamic start and stop, {children:,} against a tenth", growth, "< 13"))
    print(row("the same of bare tasks", bare_growth, ""))
    print(
        f"| bytes a child, without and with a mailbox | {memory[0]:.0f}, {memory[1]:.0f} | < 8192 |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, to see that it runs")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        box = MailboxSpec() if given.memory[0] == "with" else None
        print(trio.run(memory_of, int(given.memory[1]), box))
    else:
        main(given.quick)
