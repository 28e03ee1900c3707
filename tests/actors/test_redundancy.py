"""Two connections for each token, against the embedded exchange: losing one is not seen."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from tests.simulation.stories import inject
from tests.simulation.world import World, simulate

from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import (
    BookUpdated,
    Event,
    FeedDown,
    FeedUp,
    Gap,
    TradePrinted,
    TrustChanged,
)
from polyactors.feed import Feed
from polyactors.venue.faults import FaultKind
from polyactors.venue.wire import WireEvent

SETTINGS: dict[str, Any] = {"redundancy": 2, "audit_seconds": 5.0}
QUIET: dict[str, Any] = {"data_deadline_seconds": 60.0, "pong_deadline_seconds": 60.0}


def session_of(world: World, feed: Feed) -> int:
    """The number of the exchange's session that is a feed's: the order of connecting tells."""
    epochs = sorted(feed.epoch for feed in world.feeds if feed.epoch is not None)
    subscribed = sorted(s.id for s in world.venue.sessions.values() if s.tokens)
    assert feed.epoch is not None
    assert len(subscribed) == len(epochs)
    return subscribed[epochs.index(feed.epoch)]


def has_reconnected(feed: Feed, epoch: int | None) -> bool:
    return feed.epoch not in (None, epoch)


async def all_up(world: World) -> None:
    """Wait until every carrier of every token is LIVE."""
    await world.until(
        lambda: all(
            trust.state is TrustState.LIVE for feed in world.feeds for trust in feed.trust.values()
        )
    )


def live_path(world: World) -> Counter[tuple[str, TrustState]]:
    """What is public of a token that was never lost."""
    tokens = world.service.tokens
    path = Counter({(t, s): 1 for t in tokens for s in (TrustState.SYNCING, TrustState.LIVE)})
    assert len(path) == 2 * len(tokens)
    return path


def changes(events: list[Event]) -> Counter[tuple[str, TrustState]]:
    return Counter((e.token, e.state) for e in events if isinstance(e, TrustChanged))


def told_trades(events: list[Event]) -> Counter[tuple[str, str, str, int]]:
    return Counter(
        (e.token, str(e.price), str(e.size), e.timestamp_ms)
        for e in events
        if isinstance(e, TradePrinted)
    )


def watch_trades(world: World) -> Counter[tuple[str, str, str, int]]:
    """The trades that the exchange prints from now on."""
    printed = Counter[tuple[str, str, str, int]]()
    plain: Callable[[int], list[WireEvent]] = world.venue.step

    def step(n: int = 1) -> list[WireEvent]:
        said = plain(n)
        for event in said:
            if event.kind == "last_trade_price":
                fields = json.loads(event.parts[0].text)
                printed[
                    fields["asset_id"], fields["price"], fields["size"], int(fields["timestamp"])
                ] += 1
        return said

    world.venue.step = step  # type: ignore[method-assign]
    return printed


def test_two_feeds_carry_the_same_tokens_and_do_not_connect_at_once() -> None:
    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(5.0)
        await world.compare()
        assert world.service.states() == {"LIVE": 6}
        assert world.service.summary()["tokens"] == {"LIVE": 6}
        assert len(world.service.token_statuses()) == 6
        return world

    world = simulate(1, scenario, markets=3, tokens_per_connection=4, **SETTINGS)
    assert [feed.id for feed in world.feeds] == ["feed-0", "feed-1", "feed-2", "feed-3"]
    assert [len(feed.tokens) for feed in world.feeds] == [4, 4, 2, 2]
    assert world.feeds[0].tokens == world.feeds[1].tokens
    ups = [event.time_ns for event in world.events if isinstance(event, FeedUp)]
    assert len(set(ups)) == 4
    assert changes(world.events) == live_path(world)


@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.STALL, FaultKind.GARBAGE])
@pytest.mark.parametrize("seed", range(1, 4))
def test_one_session_lost_again_and_again_is_not_seen(kind: FaultKind, seed: int) -> None:
    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(2.0)
        start, printed = len(world.events), watch_trades(world)
        for _ in range(8):
            for name in ("feed-0", "feed-1"):
                feed = next(feed for feed in world.feeds if feed.id == name)
                epoch = feed.epoch
                seconds = 6.0 if kind is FaultKind.STALL else None
                world.venue.inject(kind, session=session_of(world, feed), seconds=seconds)
                await trio.sleep(world.rng.uniform(0.0, 3.0))
                await world.compare()
                if kind is not FaultKind.GARBAGE:
                    await world.until(partial(has_reconnected, feed, epoch))
                await all_up(world)
                await trio.sleep(1.5)
        await world.come_to_rest()
        assert told_trades(world.events[start:]) == printed
        assert printed.total() > 20
        return world

    world = simulate(seed, scenario, markets=2, rate=10.0, **SETTINGS)
    assert changes(world.events) == live_path(world)
    assert not [event for event in world.events if isinstance(event, Gap)]
    if kind is not FaultKind.GARBAGE:
        downs = [e for e in world.events if isinstance(e, FeedDown) and e.reason != "stopping"]
        assert len(downs) >= 16
        assert {down.feed for down in downs} == {"feed-0", "feed-1"}


async def crash(world: World, rounds: int) -> World:
    await all_up(world)
    await trio.sleep(2.0)
    for _ in range(rounds):
        for feed in world.feeds:
            world.crash_parser(feed)
            await trio.sleep(3.0)
            world.crash_shard(feed)
            await trio.sleep(3.0)
            await all_up(world)
    await world.come_to_rest()
    return world


def test_a_parser_or_a_shard_that_crashes_is_not_seen() -> None:
    world = simulate(3, lambda world: crash(world, 2), markets=2, rate=20.0, **SETTINGS)
    assert changes(world.events) == live_path(world)
    assert not [event for event in world.events if isinstance(event, Gap)]


def test_a_core_that_is_restarted_after_many_crashes_says_what_was_missed() -> None:
    world = simulate(3, lambda world: crash(world, 4), markets=2, rate=20.0, **SETTINGS)
    gaps = [(event.feed, event.token) for event in world.events if isinstance(event, Gap)]
    assert gaps == [("feed-0", None)]  # the other's session began behind it


def test_both_sessions_lost_is_seen_at_once_and_told_as_a_gap() -> None:
    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(2.0)
        world.events.clear()
        world.venue.inject("refuse", seconds=3.0)
        for session in list(world.venue.sessions):
            world.venue.inject("reset", session=session)
        await trio.sleep(0.1)
        assert world.service.states() == {"STALE": 4}
        await world.come_to_rest()
        return world

    world = simulate(4, scenario, **SETTINGS)
    gaps = [event for event in world.events if isinstance(event, Gap)]
    assert [(gap.token, gap.reason) for gap in gaps] == [(None, StaleReason.DISCONNECTED)]
    reasons = Counter(e.reason for e in world.events if isinstance(e, TrustChanged))
    assert reasons[StaleReason.DISCONNECTED] == 4


def test_the_faster_connection_is_the_one_that_is_told() -> None:
    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(2.0)
        for feed, other in (world.feeds, world.feeds[::-1]):
            world.venue.inject("slow", session=session_of(world, feed), seconds=4.0)
            await trio.sleep(2.0)
            start = len(world.events)
            await trio.sleep(1.9)
            updates = [e for e in world.events[start:] if isinstance(e, BookUpdated)]
            assert len(updates) > 10
            assert {update.epoch for update in updates} == {other.epoch}
            await trio.sleep(4.0)
        await world.come_to_rest()
        return world

    world = simulate(5, scenario, markets=2, rate=30.0, **SETTINGS | QUIET)
    assert changes(world.events) == live_path(world)


@pytest.mark.parametrize("seed", range(1, 13))
def test_the_laws_hold_in_a_storm(seed: int) -> None:
    async def scenario(world: World) -> World:
        end = trio.current_time() + 30.0
        kinds = [kind for kind in FaultKind if kind is not FaultKind.OVERSIZE]
        while trio.current_time() < end:
            await trio.sleep(world.rng.expovariate(1.2))
            what = world.rng.random()
            if what < 0.6:
                inject(world, world.rng.choice(kinds))
            elif what < 0.65:
                world.crash_parser(world.rng.choice(world.feeds))
            elif what < 0.7:
                world.crash_shard(world.rng.choice(world.feeds))
            else:
                await world.compare()
        await world.come_to_rest()
        return world

    world = simulate(
        seed,
        scenario,
        markets=1 + seed % 2,
        rate=6.0,
        audit_seconds=5.0,
        redundancy=2 + seed % 2,
        tokens_per_connection=(2, 200)[seed % 2],
    )
    assert world.laws.counts["book_updated"] > 20
