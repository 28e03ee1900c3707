"""A child that leaves messages waiting is stopped as failed; one that beats is left alone."""

from typing import Any

import trio
from trio.testing import MockClock

from polysupervisor import (
    ChildSpec,
    ChildState,
    Context,
    EventKind,
    ExitKind,
    Intensity,
    MailboxSpec,
    Overflow,
    Shutdown,
    Supervisor,
)
from polysupervisor.testing import FaultPlan, run_virtual

BOX = MailboxSpec(stall_after=5, size=10)


async def reader(ctx: Context[float]) -> None:
    async for seconds in ctx.inbox:
        await trio.sleep(seconds)


def spec(**arguments: Any) -> ChildSpec[float]:
    return ChildSpec("reader", lambda: reader, mailbox=BOX, **arguments)


async def test_stalled_child_is_stopped_reported_and_restarted(autojump_clock: MockClock) -> None:
    async def scenario(root: Supervisor) -> None:
        address = root.address("reader")
        address.send_nowait(1_000)
        await trio.sleep(1)
        address.send_nowait(1)  # nobody waits for more before this
        await trio.sleep(100)
        assert address.stats().depth == 0

    begun = trio.current_time()
    root = Supervisor("root", [spec(shutdown=Shutdown(grace=2))])
    events = await run_virtual(root, scenario)
    told = [(event.kind.value, event.t - begun) for event in events]
    assert told[2:7] == [
        ("stalled", 6.0),
        ("stopping", 6.0),
        ("exited", 8.0),
        ("lost_in_flight", 8.0),
        ("restart_scheduled", 8.0),
    ]
    exited = events[4].reason
    assert exited is not None
    assert exited.kind is ExitKind.STALLED
    assert exited.summary == "1 messages waited 5 s without a receive"


async def test_stalls_spend_the_intensity_like_crashes(autojump_clock: MockClock) -> None:
    async def scenario(root: Supervisor) -> None:
        for _ in range(6):
            await root.address("reader").send(1_000)
        await trio.sleep(60)
        assert [child.state for child in root.children()] == [ChildState.GAVE_UP]

    root = Supervisor("root", [spec()], intensity=Intensity(limit=1, on_exhausted="give_up"))
    events = await run_virtual(root, scenario)
    assert [event.kind for event in events].count(EventKind.STALLED) == 2


async def test_beats_and_receives_are_progress(autojump_clock: MockClock) -> None:
    async def diligent(ctx: Context[int]) -> None:
        async for _ in ctx.inbox:
            for part in range(3):
                await trio.sleep(4)
                ctx.beat(f"part {part}")

    async def scenario(root: Supervisor) -> None:
        for number in range(5):
            await root.address("worker").send(number)
        await trio.sleep(100)
        assert root.address("worker").stats().depth == 0

    root = Supervisor("root", [ChildSpec("worker", lambda: diligent, mailbox=BOX)])
    events = await run_virtual(root, scenario)
    assert EventKind.STALLED not in {event.kind for event in events}


async def test_a_note_of_the_last_beat_is_in_the_reason(autojump_clock: MockClock) -> None:
    async def stuck(ctx: Context[int]) -> None:
        async for _ in ctx.inbox:
            ctx.beat("asking the oracle")
            await trio.sleep_forever()

    async def scenario(root: Supervisor) -> None:
        root.address("worker").send_nowait(1)
        root.address("worker").send_nowait(2)
        await trio.sleep(60)

    root = Supervisor("root", [ChildSpec("worker", lambda: stuck, mailbox=BOX)])
    events = await run_virtual(root, scenario)
    reasons = [str(event.reason) for event in events if event.kind is EventKind.EXITED]
    assert reasons[0].endswith("it was last about: asking the oracle)")


async def test_messages_that_wait_for_a_restart_are_watched_from_its_readiness(
    autojump_clock: MockClock,
) -> None:
    async def scenario(root: Supervisor) -> None:
        root.address("reader").send_nowait(0)
        root.address("reader").send_nowait(1_000)
        root.address("reader").send_nowait(0)
        await trio.sleep(30)
        # Those that waited for the restart, and those that follow it, are watched alike.
        assert root.children()[0].incarnation == 3

    plan = FaultPlan().crash("reader", at_message=1)
    root = Supervisor("root", plan.wrap(spec()))
    events = await run_virtual(root, scenario)
    assert [event.kind for event in events].count(EventKind.STALLED) == 1


async def test_an_overflow_is_told_once_until_the_mailbox_is_read(
    autojump_clock: MockClock,
) -> None:
    async def lazy(ctx: Context[int]) -> None:
        ctx.ready()
        for _ in range(2):
            await trio.sleep(10)
            await ctx.inbox.receive()
        await ctx.stop_requested.wait()

    box = MailboxSpec(size=2, overflow=Overflow.DROP_OLDEST)
    root = Supervisor("root", [ChildSpec("lazy", lambda: lazy, mailbox=box)])

    async def scenario(root: Supervisor) -> None:
        for number in range(9):
            root.address("lazy").send_nowait(number)
        await trio.sleep(11)
        for number in range(9):
            root.address("lazy").send_nowait(number)
        stats = root.address("lazy").stats()
        assert (stats.depth, stats.dropped) == (2, 15)

    events = await run_virtual(root, scenario)
    assert [event.kind for event in events].count(EventKind.OVERFLOW) == 2
