import pytest
import trio

from polysupervisor import EventBus, EventKind


async def test_every_subscriber_gets_numbered_events_from_its_subscription_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bus = EventBus()
    bus.publish("root/a", 1, EventKind.STARTING)
    first = bus.subscribe()
    await trio.sleep(2)
    bus.publish("root/a", 1, EventKind.STARTED)
    second = bus.subscribe()
    bus.publish("root/a", 1, EventKind.RESTART_SCHEDULED, delay=0.5, attempt=3)
    event = await first.receive()
    assert (event.seq, event.t, event.path, event.incarnation) == (2, 2.0, "root/a", 1)
    assert event.kind == "started"
    event = second.receive_nowait()
    assert (event.seq, event.kind, event.delay, event.attempt) == (
        3,
        "restart_scheduled",
        0.5,
        3,
    )
    with pytest.raises(trio.WouldBlock):
        second.receive_nowait()


async def test_slow_reader_loses_the_oldest_and_nobody_waits_for_it() -> None:
    bus = EventBus()
    slow, quick = bus.subscribe(maxlen=2), bus.subscribe(maxlen=10)
    for number in range(5):
        bus.publish("root", number, EventKind.STARTED)
    assert [slow.receive_nowait().incarnation for _ in range(2)] == [3, 4]
    assert (slow.dropped, quick.dropped, bus.dropped) == (3, 0, 3)


async def test_iteration_ends_when_the_bus_is_closed_and_read_out() -> None:
    bus, got = EventBus(), list[str]()
    events = bus.subscribe()

    async def read() -> None:
        async for event in events:
            got.append(event.path)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        bus.publish("root", 1, EventKind.STARTED)
        bus.publish("root/a", 1, EventKind.STARTED)
        bus.close()
        bus.close()
    assert got == ["root", "root/a"]
    assert bus.closed
    with pytest.raises(trio.EndOfChannel):
        events.receive_nowait()


async def test_closed_subscription_gets_nothing_more() -> None:
    bus = EventBus()
    async with bus.subscribe() as events:
        bus.publish("root", 1, EventKind.STARTED)
    with pytest.raises(trio.ClosedResourceError):
        await events.receive()
    bus.publish("root", 1, EventKind.EXITED)
    assert bus.dropped == 0


async def test_closing_wakes_a_waiting_reader() -> None:
    events = EventBus().subscribe()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await events.receive()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        events.close()


async def test_cancelled_receive_loses_nothing() -> None:
    bus = EventBus()
    events = bus.subscribe()
    with trio.CancelScope() as scope:
        scope.cancel()
        bus.publish("root", 1, EventKind.STARTED)
        await events.receive()
    assert events.receive_nowait().seq == 1


def test_queue_of_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match="maxlen"):
        EventBus().subscribe(0)
