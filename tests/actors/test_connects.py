"""Never a storm: how often a server can be connected to."""

import trio
from hypothesis import given
from hypothesis import strategies as st

from polyactors.connects import (
    CONNECTS_MAX,
    PROVEN_SECONDS,
    STAGGER_SECONDS,
    WINDOW_SECONDS,
    ConnectGate,
    ConnectWindow,
)


def test_connects_are_staggered() -> None:
    window = ConnectWindow()
    assert window.next_at(5.0) <= 5.0
    window.record(1, 5.0)
    assert window.next_at(5.0) == 5.0 + STAGGER_SECONDS


def test_the_limit_holds_to_the_edge_of_the_window() -> None:
    window = ConnectWindow()
    for epoch in range(CONNECTS_MAX):
        window.record(epoch, float(epoch) * 0.1)
    assert window.next_at(2.0) == WINDOW_SECONDS
    assert window.next_at(WINDOW_SECONDS) <= WINDOW_SECONDS


def test_a_proven_session_makes_room() -> None:
    window = ConnectWindow()
    for epoch in range(CONNECTS_MAX):
        window.record(epoch, 0.0)
    window.prove(3)
    assert window.next_at(1.0) <= 1.0


def test_a_session_that_held_and_ended_counts_again() -> None:
    window = ConnectWindow()
    for epoch in range(CONNECTS_MAX + 8):
        window.record(epoch, epoch * 0.1)
        window.prove(epoch)
    assert window.next_at(3.0) <= 3.0
    for epoch in range(CONNECTS_MAX + 8):
        window.end(epoch)
    # The twelfth newest must be out of the window, not just the oldest.
    assert window.next_at(3.0) == 0.8 + WINDOW_SECONDS


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=120))
def test_no_window_ever_holds_more_unproven_connects_than_allowed(
    attempts: list[tuple[float, bool]],
) -> None:
    window = ConnectWindow()
    now = 0.0
    made: list[tuple[float, int]] = []
    for epoch, (wait, proves) in enumerate(attempts):
        now = max(now + wait, window.next_at(now + wait))
        # `next_at` promises the earliest moment, so asking again then must agree.
        assert window.next_at(now) <= now
        window.record(epoch, now)
        made.append((now, epoch))
        if proves:
            window.prove(epoch)
            made.pop()
        for start, _ in made:
            inside = [at for at, _ in made if start <= at < start + WINDOW_SECONDS]
            assert len(inside) <= CONNECTS_MAX


async def test_many_feeds_against_a_server_that_drops_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gate = ConnectGate()
    connects: list[float] = []

    async def feed(number: int) -> None:
        for attempt in range(20):
            await gate.wait_turn(number * 1000 + attempt)
            connects.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(feed, number)
    assert len(connects) == 200
    for start in connects:
        assert len([at for at in connects if start <= at < start + 10.0]) <= 12


async def test_feeds_that_hold_do_not_wait_for_the_window(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gate = ConnectGate()

    async def feed(epoch: int) -> None:
        await gate.wait_turn(epoch)
        await trio.sleep(PROVEN_SECONDS)
        gate.prove(epoch)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for epoch in range(50):
            nursery.start_soon(feed, epoch)
    assert trio.current_time() - start < 15.0


async def test_a_cancelled_wait_records_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gate = ConnectGate()
    for epoch in range(CONNECTS_MAX):
        await gate.wait_turn(epoch)
    with trio.move_on_after(1.0) as scope:
        await gate.wait_turn(99)
    assert scope.cancelled_caught
    before = trio.current_time()
    await gate.wait_turn(100)
    assert trio.current_time() - before < WINDOW_SECONDS
