"""Fault schedules that are played, on virtual time."""

from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket
from tests.actors.venue.client import Connect, open_client, subscribed

from polyactors.venue import FaultKind, FaultSchedule, ScheduledFault, Venue


def make_venue(markets: int = 2, **more: Any) -> Venue:
    return Venue(seed=1, markets=markets, rate=0, **more)


async def test_a_schedule_is_injected_when_due(
    autojump_clock: object, connect: Connect, nursery: trio.Nursery
) -> None:
    schedule = FaultSchedule.for_demo(1, 20.0)
    venue = make_venue(schedule=schedule)
    client = await subscribed(connect, venue)
    start = trio.current_time()
    await nursery.start(venue.run)
    assert (await client.close_code())[0] == 1006
    assert trio.current_time() - start == pytest.approx(3 * 12 / 14, abs=0.01)
    await subscribed(connect, venue)
    await trio.sleep(20)
    assert [record.kind for record in venue.fault_log] == [fault.kind for fault in schedule]


async def test_a_scheduled_fault_waits_for_a_client_but_not_for_long(
    autojump_clock: object, connect: Connect, nursery: trio.Nursery
) -> None:
    faults = tuple(ScheduledFault(at, FaultKind.RESET, 0.0) for at in (1.0, 10.0))
    venue = make_venue(schedule=FaultSchedule(1, faults, (1, 1), settle_seconds={}))
    await nursery.start(venue.run)
    await trio.sleep(5)
    assert venue.fault_log == ()
    await trio.sleep(6)
    client = await connect(venue)
    await client.subscribe_first(venue.tokens)
    assert (await client.close_code(1.0))[0] == 1006


async def test_a_scheduled_fault_that_can_hit_nobody_is_left_out(
    autojump_clock: object, connect: Connect, nursery: trio.Nursery
) -> None:
    kinds = (FaultKind.TOKEN_STALL, FaultKind.MIRROR, FaultKind.LOST_DELTA)
    faults = tuple(ScheduledFault(at, kind, 5.0) for at, kind in enumerate(kinds, start=1))
    venue = make_venue(schedule=FaultSchedule(1, faults, (1, 1), settle_seconds={}))
    client = await connect(venue)
    await client.subscribe_first(["123"])
    await nursery.start(venue.run)
    await client.frames(5)
    assert [record.kind for record in venue.fault_log] == [FaultKind.LOST_DELTA]


async def test_a_pause_holds_scheduled_faults_back(
    autojump_clock: object, connect: Connect, nursery: trio.Nursery
) -> None:
    faults = tuple(ScheduledFault(at, FaultKind.STALL, 0.5) for at in (1.0, 3.0))
    venue = make_venue(schedule=FaultSchedule(1, faults, (1, 1), settle_seconds={}))
    client = await subscribed(connect, venue)
    start = trio.current_time()
    await nursery.start(venue.run)
    venue.pause()
    for _ in range(4):
        await client.frames(5)
        await client.send("PING")
    assert list(venue.fault_log) == []
    venue.resume()
    await client.frames(5)
    times = [fault.started - start for fault in venue.fault_log]
    assert times == [pytest.approx(20, abs=1), pytest.approx(22, abs=1)]


async def test_every_kind_can_be_scheduled_for_hours_without_harm(
    autojump_clock: object, connect: Connect, nursery: trio.Nursery
) -> None:
    schedule = FaultSchedule.steady(3, 20.0)
    venue = Venue(seed=3, markets=1, rate=0.2, schedule=schedule, oversize_bytes=2**16)
    await nursery.start(venue.run)
    deadline = trio.current_time() + 3600
    sessions = 0
    while trio.current_time() < deadline:
        try:
            async with trio.open_nursery() as client_nursery:
                ours, theirs = trio.testing.memory_stream_pair()
                nursery.start_soon(venue.serve_stream, theirs)
                client = await open_client(client_nursery, ours)
                sessions += 1
                await client.subscribe_first(venue.tokens)
                while trio.current_time() < deadline:
                    await client.frames(10)
                    await client.send("PING")
                client_nursery.cancel_scope.cancel()
        except* trio_websocket.ConnectionRejected:
            await trio.sleep(1)
        except* trio_websocket.ConnectionClosed:
            pass
    assert {fault.kind for fault in venue.fault_log} == set(FaultKind)
    assert len(venue.fault_log) > 120
    assert sessions > 20
    assert len(venue.sessions) <= 1
