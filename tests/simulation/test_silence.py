"""Silence, with an exchange whose REST side tells the truth: quiet markets, and stalls."""

from typing import TYPE_CHECKING

import pytest
import trio

from polyactors.book.trust import StaleReason
from polyactors.events import FeedDown, TrustChanged
from polyactors.probe import PROBE_GRACE_SECONDS, PROBE_SECONDS_MAX

if TYPE_CHECKING:
    from tests.simulation.world import Simulate, World

DATA_DEADLINE_SECONDS = 3.0
LOSS_SECONDS = 0.5
"""At 40 steps a second something is lost within so long after a stall has begun."""


def downs(world: "World") -> list[str]:
    return [e.reason for e in world.events if isinstance(e, FeedDown) and e.reason != "stopping"]


@pytest.mark.parametrize("number", range(1, 5))
def test_a_market_that_pauses_for_many_deadlines_stays_live(
    number: int, simulate: "Simulate"
) -> None:
    async def scenario(world: "World") -> "World":
        await world.heal()
        await trio.sleep(2.0)
        world.events.clear()
        world.venue.pause()
        await trio.sleep(10 * DATA_DEADLINE_SECONDS)
        assert downs(world) == []
        assert not [event for event in world.events if isinstance(event, TrustChanged)]
        world.venue.resume()
        await trio.sleep(2.0)
        await world.come_to_rest()
        return world

    world = simulate(number, scenario, rate=20.0, tokens_per_connection=(1, 2, 200)[number % 3])
    assert downs(world) == []
    assert world.service.statistics.probes["quiet"] >= 9 * len(world.feeds)
    assert world.service.statistics.probes["stalled"] == 0
    assert world.service.statistics.desyncs == 0


@pytest.mark.parametrize("number", range(1, 5))
def test_a_stall_is_found_in_a_busy_market_and_in_one_that_was_quiet(
    number: int, simulate: "Simulate"
) -> None:
    async def scenario(world: "World") -> "World":
        await world.heal()
        for quiet_seconds in (0.0, 1.0, 7.0 + number % 3):
            await trio.sleep(2.0)
            world.events.clear()
            world.venue.pause()
            await trio.sleep(quiet_seconds)
            world.venue.inject("stall", seconds=20.0)
            world.venue.resume()
            began = trio.current_time()
            await world.until(lambda: bool(downs(world)))
            assert downs(world) == ["feed_stalled"]
            seconds = trio.current_time() - began - LOSS_SECONDS
            assert seconds <= DATA_DEADLINE_SECONDS + PROBE_SECONDS_MAX
            # This REST answers at once: all that is left of the probe is its grace.
            assert seconds <= DATA_DEADLINE_SECONDS + PROBE_GRACE_SECONDS
            stale = {
                event.reason
                for event in world.events
                if isinstance(event, TrustChanged) and event.reason is not None
            }
            # An audit may have been there before.
            assert stale - {StaleReason.AUDIT_MISMATCH} == {StaleReason.FEED_STALLED}
            await world.heal()
        await world.come_to_rest()
        return world

    world = simulate(number, scenario, rate=40.0)
    assert world.service.statistics.probes["stalled"] == 3
