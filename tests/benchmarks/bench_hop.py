"""What a message from one actor to another costs, as ratios to a plain Trio channel.

``python tests/benchmarks/bench_hop.py [--quick]`` prints a Markdown table. The shapes take turns
in one run, so that a busy machine slows all of them.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from polysupervisor import Address, ChildSpec, Context, MailboxSpec, Supervisor

BURST = 64
SIZE = 256
"""Of the channel's buffer as of the mailbox."""

Send = Callable[[Address[int], int], Awaitable[None]]
Receive = Callable[[Context[int], int], Awaitable[None]]


async def channel(count: int, size: int = SIZE) -> None:
    """A plain hop: ``await send`` and ``async for``, message by message."""
    send, receive = trio.open_memory_channel[int](size)

    async def produce() -> None:
        async with send:
            for number in range(count):
                await send.send(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        got = 0
        async for _ in receive:
            got += 1
    assert got == count


async def rendezvous(count: int) -> None:
    """The same without a buffer."""
    await channel(count, 0)


async def hop(count: int, send: Send, receive: Receive) -> None:
    """A supervised child receives what another task sends it."""
    done = trio.Event()

    async def actor(ctx: Context[int]) -> None:
        await receive(ctx, count)
        done.set()
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("child", lambda: actor, mailbox=MailboxSpec(size=SIZE))])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await send(root.address("child"), count)
        await done.wait()
        root.stop()


async def send_each(address: Address[int], count: int) -> None:
    """``await send`` for every message: a checkpoint each."""
    for number in range(count):
        await address.send(number)


async def send_bursts(address: Address[int], count: int) -> None:
    """``send_nowait`` for a burst, and one checkpoint after it."""
    for begin in range(0, count, BURST):
        for number in range(begin, begin + BURST):
            address.send_nowait(number)
        await trio.lowlevel.checkpoint()


async def receive_each(ctx: Context[int], count: int) -> None:
    """``async for``, message by message."""
    got = 0
    async for _ in ctx.inbox:
        got += 1
        if got == count:
            return


async def receive_batches(ctx: Context[int], count: int) -> None:
    """``receive_batch``."""
    got = 0
    while got < count:
        got += len(await ctx.inbox.receive_batch())


def rate(run: Callable[..., Awaitable[Any]], count: int, *arguments: Any) -> float:
    """Messages per second of processor time, as nothing else may be waited for."""
    gc.collect()
    begun = time.process_time()
    trio.run(run, count, *arguments)
    return count / (time.process_time() - begun)


SHAPES: list[tuple[str, str, Callable[..., Awaitable[Any]], tuple[Any, ...]]] = [
    ("channel without a buffer, `await send`, `async for`", "", rendezvous, ()),
    ("mailbox, `await send`, `async for`", "", hop, (send_each, receive_each)),
    ("mailbox, `await send`, `receive_batch`", "", hop, (send_each, receive_batches)),
    (
        f"mailbox, {BURST} x `send_nowait` and a checkpoint, `receive_batch`",
        ">= 10",
        hop,
        (send_bursts, receive_batches),
    ),
]


def main(quick: bool) -> None:
    """Measure every shape in turn, several times, and print the table."""
    rounds, count = (2, 10 * BURST) if quick else (25, 200 * BURST)
    ratios: list[list[float]] = [[] for _ in SHAPES]
    plain: list[float] = []
    rates: list[list[float]] = [[] for _ in SHAPES]
    for _ in range(rounds):
        plain.append(rate(channel, count))
        for index, (_, _, run, arguments) in enumerate(SHAPES):
            rates[index].append(rate(run, count, *arguments))
            ratios[index].append(rates[index][-1] / plain[-1])
    print(f"| {count:,} messages, {rounds} rounds | ratio | messages/s | target |")
    print("|---|---|---|---|")
    name = f"channel with a buffer of {SIZE}, `await send`, `async for`"
    print(f"| {name} | 1 | {statistics.median(plain):,.0f} | |")
    for (name, target, _, _), each, speeds in zip(SHAPES, ratios, rates, strict=True):
        spread = f"{statistics.median(each):.2f} [{min(each):.2f}-{max(each):.2f}]"
        print(f"| {name} | {spread} | {statistics.median(speeds):,.0f} | {target} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, to see that it runs")
    main(parser.parse_args().quick)
