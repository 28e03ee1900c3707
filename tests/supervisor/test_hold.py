"""A child that does not give way is interrupted. In real time: virtual time does not pass
while a task computes. What is asserted is what happened, never how long it took."""

import gc
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from tests.supervisor import shared_code

from polysupervisor import (
    Backoff,
    ChildSpec,
    Context,
    DynamicSupervisor,
    Event,
    EventKind,
    ExitKind,
    ExitReason,
    HoldLimit,
)

Body = Callable[[Context[object]], Awaitable[None]]

LIMIT = HoldLimit(seconds=0.02)
GIVES_UP_SECONDS = 30.0
"""A body that nobody interrupts ends by itself, and fails its test."""


def compute(seconds: float = GIVES_UP_SECONDS) -> None:
    """Keep the processor busy: seconds of work, however busy the machine is."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def first_exit(body: Body, limit: HoldLimit = LIMIT) -> ExitReason:
    """How the first incarnation ended; the tree is stopped then."""

    async def run(ctx: Context[object]) -> None:
        ctx.ready()
        await trio.lowlevel.checkpoint()
        await body(ctx)
        await trio.sleep_forever()

    spec = ChildSpec(id="a", factory=lambda: run, hold=limit, backoff=Backoff(min=99, max=99))
    root = DynamicSupervisor("root", [spec])
    async with trio.open_nursery() as nursery:
        events = root.events.subscribe()
        nursery.start_soon(root.run)
        reason = await reason_of_exit(events)
        root.stop()
    return reason


async def reason_of_exit(events: "trio.abc.ReceiveChannel[Event]") -> ExitReason:
    async for event in events:
        if event.kind in (EventKind.EXITED, EventKind.KILLED) and event.path == "root/a":
            assert event.reason is not None
            return event.reason
    raise AssertionError("it never ended")


def assert_held(reason: ExitReason, where: str = "") -> None:
    assert reason.kind is ExitKind.CRASH
    assert set(reason.types) == {"HeldLoop"}
    assert "root/a held the event loop for" in reason.summary
    assert where in reason.summary


async def test_a_loop_without_end_is_interrupted_where_it_is() -> None:
    async def body(_: Context[object]) -> None:
        compute()

    assert_held(await first_exit(body), where="test_hold.py")


async def test_what_takes_every_exception_is_interrupted_all_the_same() -> None:
    async def body(_: Context[object]) -> None:
        while True:
            with suppress(Exception):
                compute()

    assert_held(await first_exit(body))


async def test_a_blocking_call_is_cut_short() -> None:
    async def body(_: Context[object]) -> None:
        time.sleep(GIVES_UP_SECONDS)  # noqa: ASYNC251 - the very mistake

    assert_held(await first_exit(body), where="in test_a_blocking")


async def test_a_task_of_its_nursery_is_its_own() -> None:
    async def computes() -> None:
        compute()

    async def body(_: Context[object]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(computes)
            nursery.start_soon(trio.sleep_forever)

    assert_held(await first_exit(body), where="in compute")


async def test_many_tasks_with_a_little_each_count_together() -> None:
    async def computes() -> None:
        while True:
            compute(0.002)
            await trio.lowlevel.checkpoint()

    async def body(_: Context[object]) -> None:
        async with trio.open_nursery() as nursery:
            for _number in range(50):
                nursery.start_soon(computes)

    assert_held(await first_exit(body))


async def test_what_takes_even_the_interrupt_fails_the_second_time() -> None:
    async def body(_: Context[object]) -> None:
        while True:
            with suppress(BaseException):
                compute()
            await trio.lowlevel.checkpoint()

    assert_held(await first_exit(body))


async def test_an_error_beside_it_is_told_too() -> None:
    async def computes() -> None:
        compute()

    async def fails_in_clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("beside")

    async def body(_: Context[object]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_in_clean_up)
            await trio.lowlevel.checkpoint()
            nursery.start_soon(computes)

    reason = await first_exit(body)
    assert {"HeldLoop", "ValueError"} <= set(reason.types)


async def test_shared_code_comes_to_its_end_first() -> None:
    done: list[str] = []

    async def body(_: Context[object]) -> None:
        shared_code.change(compute, done)
        compute()

    spares = HoldLimit(LIMIT.seconds, lambda name: name == shared_code.__name__)
    assert_held(await first_exit(body, spares))
    assert done == ["begun", "ended"]


async def test_without_sparing_it_does_not() -> None:
    done: list[str] = []

    async def body(_: Context[object]) -> None:
        shared_code.change(compute, done)

    assert_held(await first_exit(body))
    assert done == ["begun"]


async def test_who_gives_way_may_go_on(autojump_clock: trio.testing.MockClock) -> None:
    steps = 0

    async def body(ctx: Context[object]) -> None:
        nonlocal steps
        for steps in range(200):  # noqa: B007 - counts
            compute(LIMIT.seconds / 40)
            await trio.sleep(1)
        assert ctx.hold is not None
        assert ctx.hold.total > ctx.hold.longest > 0
        raise LookupError("by itself")

    reason = await first_exit(body, HoldLimit(seconds=5.0))
    assert reason.types == ("LookupError",)
    assert steps == 199


async def test_no_limit_no_interrupt() -> None:
    async def run(ctx: Context[object]) -> None:
        ctx.ready()
        compute(LIMIT.seconds * 5)
        assert ctx.hold is None
        raise LookupError("by itself")

    spec = ChildSpec(id="a", factory=lambda: run, backoff=Backoff(min=99, max=99))
    root = DynamicSupervisor("root", [spec])
    async with trio.open_nursery() as nursery:
        events = root.events.subscribe()
        nursery.start_soon(root.run)
        assert (await reason_of_exit(events)).types == ("LookupError",)
        root.stop()


async def test_garbage_that_is_collected_in_its_step_is_everybodys() -> None:
    heap = [[number] for number in range(300_000)]

    def collect() -> float:
        began = time.thread_time()
        gc.collect()
        return time.thread_time() - began

    async def collects(ctx: Context[object]) -> None:
        for _ in range(5):
            collect()
            await trio.lowlevel.checkpoint()
        raise ValueError("it came to its end")

    limit = HoldLimit(seconds=min(collect() for _ in range(3)) / 2)
    reason = await first_exit(collects, limit)
    assert reason.types == ("ValueError",)
    assert len(heap) == 300_000


async def test_others_signals_are_passed_on_and_the_handler_is_put_back() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGURG, lambda number, _: heard.append(number))
    try:
        handler = signal.getsignal(signal.SIGURG)

        async def body(_: Context[object]) -> None:
            assert signal.getsignal(signal.SIGURG) is not handler
            signal.raise_signal(signal.SIGURG)
            raise LookupError("by itself")

        reason = await first_exit(body)
        assert reason.types == ("LookupError",)
        assert heard == [signal.SIGURG]
        assert signal.getsignal(signal.SIGURG) is handler
    finally:
        signal.signal(signal.SIGURG, before)


def test_in_another_thread_it_is_noticed_when_it_is_over() -> None:
    async def body(_: Context[object]) -> None:
        compute(LIMIT.seconds * 5)
        await trio.sleep_forever()

    async def main() -> None:
        reason = await trio.to_thread.run_sync(lambda: trio.run(first_exit, body))
        assert_held(reason)

    trio.run(main)


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_a_limit_is_above_zero(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        HoldLimit(seconds)
