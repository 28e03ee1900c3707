"""A feed is replaced by a fresh one, and nobody sees it in the books."""

import tracemalloc
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
from tests.actors.test_redundancy import all_up, changes, live_path, told_trades, watch_trades
from tests.simulation.memory import snapshot
from tests.simulation.world import World, simulate

import polyactors
from polyactors.book.trust import StaleReason, Trust, TrustState
from polyactors.config import Settings
from polyactors.environment import Environment
from polyactors.events import ActorRestarted, FeedDown, FeedUp, Gap, TrustChanged
from polyactors.feed import SUSPECT_MISMATCHES, SUSPECT_TOKENS, Feed
from polyactors.relay import IN_FLIGHT_SECONDS, Relay
from polyactors.rotation import (
    NEVER_LIVE,
    OVERLAP_SECONDS,
    POSTPONED_SECONDS_MAX,
    RETRY_SECONDS,
    RETRY_SECONDS_MAX,
    ROTATED,
    ROTATION_INTERVAL_SECONDS,
    ROTATION_SECONDS_MAX,
    SUSPECT_INTERVAL_SECONDS,
    Rotation,
)
from polyactors.transport import Network
from polyactors.venue.exchange import Venue
from polyactors.venue.memory import memory_network

TOKENS = tuple(str(number) for number in range(1, 7))
DEADLINES: dict[str, Any] = {"data_deadline_seconds": 30.0, "audit_seconds": 5.0}

# --- which feed is replaced when --------------------------------------------------------------


class Desk:
    """Three chunks of two tokens, and the decisions about their feeds."""

    def __init__(self, rotation_seconds: float, redundancy: int = 1) -> None:
        self.env = Environment(Settings(tokens_per_connection=2, redundancy=redundancy))
        self.relay = Relay(self.env)
        self.relay.add(TOKENS)
        self.rotation = Rotation(self.relay, rotation_seconds, self.env.statistics)

    def live(self, feed: Feed, since_seconds: float, epoch: int = 1) -> None:
        feed.epoch = feed.last_epoch = epoch
        feed.session_since_seconds = feed.last_data_seconds = since_seconds
        feed.trust.update(dict.fromkeys(feed.tokens, Trust(TrustState.LIVE)))

    def all_live(self) -> None:
        for index, feed in enumerate(self.relay.feeds):
            self.live(feed, float(index))

    @property
    def ids(self) -> list[str]:
        return [feed.id for feed in self.relay.feeds]

    def finish(self, now: float) -> None:
        """The rotation under way succeeds."""
        under_way = self.rotation.under_way
        assert under_way is not None
        self.live(under_way.new, now)
        assert not self.rotation.settle(now)
        assert self.rotation.settle(now + OVERLAP_SECONDS)


async def test_without_a_period_nothing_is_due(autojump_clock: object) -> None:
    desk = Desk(0.0)
    desk.all_live()
    assert desk.rotation.next_due(1e9) == float("inf")
    assert not desk.rotation.begin(1e9)


async def test_the_oldest_session_goes_first_and_the_others_wait(autojump_clock: object) -> None:
    desk = Desk(100.0)
    desk.all_live()
    assert desk.rotation.next_due(50.0) == 100.0
    assert not desk.rotation.begin(99.9)
    assert desk.rotation.begin(100.0)
    assert desk.ids == ["feed-0", "feed-3", "feed-1", "feed-2"]
    desk.finish(103.0)
    assert desk.ids == ["feed-3", "feed-1", "feed-2"]
    due = 103.0 + OVERLAP_SECONDS + ROTATION_INTERVAL_SECONDS
    assert desk.rotation.next_due(104.0) == due
    assert not desk.rotation.begin(due - 0.1)
    assert desk.rotation.begin(due)
    desk.finish(due)
    assert desk.ids == ["feed-3", "feed-4", "feed-2"]
    assert desk.env.statistics.rotations == 2


async def test_a_feed_without_a_session_is_not_rotated(autojump_clock: object) -> None:
    desk = Desk(100.0)
    assert desk.rotation.next_due(50.0) == 150.0  # one may begin meanwhile
    assert not desk.rotation.begin(1000.0)


async def test_a_replacement_is_ready_when_it_is_live_wherever_the_old_one_is(
    autojump_clock: object,
) -> None:
    desk = Desk(100.0)
    desk.all_live()
    old = desk.relay.feeds[0]
    stale = Trust(TrustState.STALE, StaleReason.NEVER_DELIVERED)
    old.is_suspect = True  # or it would wait for that book
    old.trust["2"] = stale
    assert desk.rotation.begin(100.0)
    assert desk.rotation.under_way is not None
    new = desk.rotation.under_way.new
    assert not desk.rotation.settle(105.0)  # no session
    desk.live(new, 105.0)
    new.trust["1"] = Trust(TrustState.SYNCING)
    assert not desk.rotation.settle(105.0)
    new.trust["1"] = Trust(TrustState.LIVE)
    new.trust["2"] = stale
    assert not desk.rotation.settle(106.0)
    new.epoch = None  # and it is gone again
    assert not desk.rotation.settle(106.5)
    new.epoch = 2
    assert not desk.rotation.settle(107.0)
    old.epoch = None  # the old one fails meanwhile, and what was LIVE there must be LIVE here
    old.trust["1"] = Trust(TrustState.STALE, StaleReason.DISCONNECTED)
    assert not desk.rotation.settle(107.0 + OVERLAP_SECONDS - 0.1)
    assert desk.rotation.settle(107.0 + OVERLAP_SECONDS)
    assert desk.ids == ["feed-3", "feed-1", "feed-2"]


@pytest.mark.parametrize(
    "trust",
    [Trust(TrustState.SYNCING), Trust(TrustState.STALE, StaleReason.NEVER_DELIVERED)],
)
async def test_a_planned_rotation_waits_for_books_that_are_on_their_way_but_not_for_ever(
    trust: Trust, autojump_clock: object
) -> None:
    """A fresh session would begin their recovery anew, each time."""
    desk = Desk(100.0)
    desk.all_live()
    feed = desk.relay.feeds[0]
    feed.trust["2"] = trust
    assert desk.rotation.next_due(50.0) == 101.0  # the next feed's turn
    assert desk.rotation.begin(101.0)
    assert desk.rotation.under_way is not None
    assert desk.rotation.under_way.old.id == "feed-1"
    desk.finish(101.0)
    late = 100.0 + POSTPONED_SECONDS_MAX
    desk.live(desk.relay.feeds[1], late)
    desk.live(desk.relay.feeds[2], late)
    assert not desk.rotation.begin(late - 0.1)
    feed.trust["2"] = Trust(TrustState.STALE, StaleReason.UNKNOWN_TOKEN)
    assert desk.rotation.next_due(late - 1.0) < late, "there is nothing to wait for"
    feed.trust["2"] = trust
    assert desk.rotation.begin(late)
    assert desk.rotation.under_way.old is feed


async def test_what_the_exchange_does_not_know_any_more_holds_up_nothing(
    autojump_clock: object,
) -> None:
    desk = Desk(100.0)
    desk.all_live()
    assert desk.rotation.begin(100.0)
    assert desk.rotation.under_way is not None
    new = desk.rotation.under_way.new
    desk.live(new, 101.0)
    new.trust["2"] = Trust(TrustState.STALE, StaleReason.UNKNOWN_TOKEN)
    assert not desk.rotation.settle(101.0)
    assert desk.rotation.settle(101.0 + OVERLAP_SECONDS)


async def test_a_replacement_that_takes_too_long_is_dropped_and_tried_again_ever_more_rarely(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(100.0)
    desk.live(desk.relay.feeds[0], 0.0)
    now, waits = 100.0, list[float]()
    for _ in range(6):
        assert desk.rotation.begin(now)
        assert not desk.rotation.settle(now + ROTATION_SECONDS_MAX - 0.1)
        now += ROTATION_SECONDS_MAX
        assert desk.rotation.settle(now)
        assert desk.ids == ["feed-0", "feed-1", "feed-2"]
        begun = now
        while not desk.rotation.begin(now):
            now += 10.0
        waits.append(now - begun)
        desk.rotation.settle(now + 2 * ROTATION_SECONDS_MAX)
        now += 2 * ROTATION_SECONDS_MAX + RETRY_SECONDS_MAX
    assert waits[0] == RETRY_SECONDS
    assert waits[-1] == RETRY_SECONDS_MAX
    assert desk.env.statistics.rotations == 0
    assert "a feed was not rotated" in caplog.text


async def test_a_suspect_is_rotated_at_once_but_its_chunk_once_a_minute(
    autojump_clock: object,
) -> None:
    desk = Desk(0.0)
    desk.all_live()
    woken = 0

    def on_suspicion() -> None:
        nonlocal woken
        woken += 1

    desk.relay.on_suspicion = on_suspicion
    feed = desk.relay.feeds[1]
    for _ in range(SUSPECT_MISMATCHES):
        assert not feed.is_suspect
        feed.note_audit_mismatch("3")
    assert feed.is_suspect
    feed.note_audit_mismatch("4")
    assert woken == 1
    assert desk.rotation.next_due(50.0) <= 50.0
    assert desk.rotation.begin(50.0)
    desk.finish(51.0)
    assert desk.ids == ["feed-0", "feed-3", "feed-2"]
    fresh = desk.relay.feeds[1]
    for _ in range(SUSPECT_MISMATCHES):
        fresh.note_audit_mismatch("3")
    assert desk.rotation.next_due(60.0) == 50.0 + SUSPECT_INTERVAL_SECONDS
    assert not desk.rotation.begin(60.0)
    assert desk.rotation.begin(50.0 + SUSPECT_INTERVAL_SECONDS)


async def test_many_tokens_with_one_mismatch_make_a_suspect_until_the_next_session(
    autojump_clock: object,
) -> None:
    feed = Feed("feed-0", TOKENS, Environment(Settings()))
    feed.session_up(1)
    for token in TOKENS[: SUSPECT_TOKENS - 1]:
        feed.note_audit_mismatch(token)
    assert not feed.is_suspect
    feed.note_audit_mismatch(TOKENS[-1])
    assert feed.is_suspect
    feed.session_up(2)
    assert not feed.is_suspect
    feed.note_audit_mismatch(TOKENS[0])
    assert not feed.is_suspect


# --- the whole service ------------------------------------------------------------------------


def rotated(world: World) -> list[str]:
    """The feeds that were let go, in order."""
    downs = (event for event in world.events if isinstance(event, FeedDown))
    return [down.feed for down in downs if (down.reason, down.detail) == ("stopping", ROTATED)]


def has_restarted(world: World, path: str) -> bool:
    return any(isinstance(event, ActorRestarted) and event.path == path for event in world.events)


def suspect(feed: Feed) -> None:
    for _ in range(SUSPECT_MISMATCHES):
        feed.note_audit_mismatch(feed.tokens[0])


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_rotation_under_load_is_not_seen(seed: int) -> None:
    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(3.0)
        start, printed = len(world.events), watch_trades(world)
        first = world.feeds[0]
        suspect(first)
        for _ in range(60):
            await trio.sleep(world.rng.uniform(0.0, 0.3))
            assert world.service.states() == {"LIVE": 4}
            await world.compare()
        assert first not in world.feeds
        await world.come_to_rest()
        assert told_trades(world.events[start:]) == printed
        assert printed.total() > 10
        return world

    world = simulate(seed, scenario, markets=2, rate=30.0, tokens_per_connection=2, **DEADLINES)
    assert changes(world.events) == live_path(world)
    assert not [event for event in world.events if isinstance(event, Gap)]
    assert rotated(world) == ["feed-0"]
    assert [feed.id for feed in world.feeds] == ["feed-2", "feed-1"]
    assert world.service.summary()["rotations"] == 1
    assert [status.id for status in world.service.feed_statuses()] == ["feed-2", "feed-1"]
    assert world.service.feed_id(world.feeds[0].tokens[0]) == "feed-2"


def test_a_session_in_which_a_token_has_gone_silent_is_replaced() -> None:
    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(3.0)
        token = world.service.tokens[0]
        (session,) = (session.id for session in world.venue.sessions.values() if session.tokens)
        world.venue.inject("token_stall", token=token, session=session, seconds=600.0)
        await trio.sleep(60.0)
        assert rotated(world) == ["feed-0"]
        await world.until(lambda: world.service.states() == {"LIVE": 2})
        await world.compare()
        return world

    world = simulate(11, scenario, markets=1, rate=5.0, **DEADLINES)
    reasons = [event.reason for event in world.events if isinstance(event, TrustChanged)]
    assert reasons.count(StaleReason.AUDIT_MISMATCH) >= SUSPECT_MISMATCHES
    assert len(world.feeds) == 1


def test_planned_rotations_are_staggered() -> None:
    async def scenario(world: World) -> World:
        await trio.sleep(115.0)
        await world.come_to_rest()
        return world

    world = simulate(
        2,
        scenario,
        markets=3,
        rate=20.0,
        tokens_per_connection=2,
        rotation_seconds=40.0,
        **DEADLINES,
    )
    assert changes(world.events) == live_path(world)
    assert not [event for event in world.events if isinstance(event, Gap)]
    gone = rotated(world)
    assert gone[:3] == ["feed-0", "feed-1", "feed-2"]
    times = [
        event.time_ns / 1e9
        for event in world.events
        if isinstance(event, FeedUp) and event.feed not in ("feed-0", "feed-1", "feed-2")
    ]
    assert len(gone) == len(times) == world.service.statistics.rotations >= 5
    for one, following in pairwise(times):
        assert following - one >= ROTATION_INTERVAL_SECONDS


def test_redundant_feeds_are_rotated_one_by_one() -> None:
    async def scenario(world: World) -> World:
        end = trio.current_time() + 100.0
        while trio.current_time() < end:
            await trio.sleep(0.25)
            assert 2 <= len(world.feeds) <= 3
        await world.come_to_rest()
        return world

    world = simulate(
        3, scenario, markets=2, rate=20.0, rotation_seconds=20.0, redundancy=2, **DEADLINES
    )
    assert changes(world.events) == live_path(world)
    assert not [event for event in world.events if isinstance(event, Gap)]
    assert len(rotated(world)) >= 6
    assert len(world.feeds) == 2


def test_a_replacement_that_cannot_connect_is_dropped_and_the_old_feed_stays() -> None:
    is_refusing = False

    def refusing(network: Network) -> Network:
        async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
            if is_refusing:
                raise OSError("no route to host")
            return await network.open_stream(host, port, tls)

        return attrs.evolve(network, open_stream=open_stream)

    async def scenario(world: World) -> World:
        nonlocal is_refusing
        await all_up(world)
        await trio.sleep(3.0)
        is_refusing = True
        suspect(world.feeds[0])
        await trio.sleep(ROTATION_SECONDS_MAX - 5.0)
        assert [feed.id for feed in world.feeds] == ["feed-0", "feed-1"]
        await trio.sleep(10.0)
        assert [feed.id for feed in world.feeds] == ["feed-0"]
        assert rotated(world) == []
        is_refusing = False
        await trio.sleep(RETRY_SECONDS - 10.0)
        assert [feed.id for feed in world.feeds] == ["feed-0"]
        await trio.sleep(20.0)  # it is still a suspect
        assert [feed.id for feed in world.feeds] == ["feed-2"]
        await world.come_to_rest()
        return world

    world = simulate(4, scenario, markets=1, rate=5.0, network=refusing, **DEADLINES)
    assert changes(world.events) == live_path(world)
    assert rotated(world) == ["feed-0"]
    assert world.service.statistics.rotations == 1


def test_a_replacement_that_lacks_a_book_is_dropped_without_a_word() -> None:
    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(3.0)
        world.venue.pause()  # a trade would bring the book
        token = world.service.tokens[0]
        world.venue.inject("rest_error", seconds=200.0)
        suspect(world.feeds[0])
        end = trio.current_time() + ROTATION_SECONDS_MAX + 5.0
        while trio.current_time() < end:
            if not any(fault.kind == "missing_book" for fault in world.venue.active_faults):
                world.venue.inject("missing_book", token=token)  # the redrive's, too
            await trio.sleep(0.05)
            assert world.service.states() == {"LIVE": 2}
        assert [feed.id for feed in world.feeds] == ["feed-0"]
        return world

    world = simulate(5, scenario, markets=1, rate=5.0, audit_seconds=5.0, data_deadline_seconds=1e4)
    assert changes(world.events) == live_path(world)
    downs = [e for e in world.events if isinstance(e, FeedDown) and e.feed == "feed-1"]
    assert [(down.reason, down.detail) for down in downs] == [("stopping", NEVER_LIVE)]
    assert world.service.statistics.rotations == 0


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3, 0.9, 1.2, 1.3])
def test_a_stop_in_the_middle_of_a_rotation(delay: float) -> None:
    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(3.0)
        suspect(world.feeds[0])
        await trio.sleep(delay)
        return world  # the simulation stops the service, and judges its stop

    world = simulate(6, scenario, markets=2, rate=20.0, **DEADLINES)
    assert changes(world.events) == live_path(world)
    down = {event.feed for event in world.events if isinstance(event, FeedDown)}
    assert down == {event.feed for event in world.events if isinstance(event, FeedUp)}


@pytest.mark.parametrize("delay", [0.02, 0.5, 1.2])
def test_a_core_that_is_restarted_in_the_middle_goes_on_from_the_list_of_feeds(
    delay: float,
) -> None:
    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(3.0)
        suspect(world.feeds[0])
        await trio.sleep(delay)
        with trio.fail_after(30.0):
            while not has_restarted(world, "root/core/books"):
                world.crash_shard(world.feeds[0])  # until its supervisor gives up
                await trio.sleep(0.02)
        await trio.sleep(60.0)
        assert len(world.feeds) == 1
        assert world.service.states() == {"LIVE": 2}
        await world.compare()
        return world

    world = simulate(7, scenario, markets=1, rate=20.0, **DEADLINES)
    assert has_restarted(world, "root/core/rotation")
    assert len(rotated(world)) <= 1


def test_a_rotation_actor_that_crashes_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, calls = Rotation.settle, 0

    def settle(self: Rotation, now: float) -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("planted")
        is_settled = plain(self, now)
        if is_settled and calls < 100:
            calls = 100
            raise RuntimeError("planted")
        return is_settled

    monkeypatch.setattr(Rotation, "settle", settle)

    async def scenario(world: World) -> World:
        await all_up(world)
        await trio.sleep(3.0)
        suspect(world.feeds[0])
        await trio.sleep(10.0)
        assert [feed.id for feed in world.feeds] == ["feed-1"]
        subscribed = [session for session in world.venue.sessions.values() if session.tokens]
        assert len(subscribed) == 1
        await world.come_to_rest()
        return world

    world = simulate(8, scenario, markets=1, rate=20.0, **DEADLINES)
    assert rotated(world) == ["feed-0"]
    assert changes(world.events) == live_path(world)
    restarts = [e for e in world.events if isinstance(e, ActorRestarted)]
    assert [e.path for e in restarts].count("root/core/rotation") == 2


async def test_what_is_followed_later_does_not_disturb_a_rotation(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    venue = Venue(seed=1, markets=2, rate=20.0)
    nursery.start_soon(venue.run)
    settings = Settings(ws_url="ws://venue/ws", clob_url="http://venue", gamma_url="http://venue")
    network = memory_network(venue, nursery)
    first, *others = venue.tokens
    async with polyactors.open_service([first], settings=settings, network=network) as service:
        await trio.sleep(3.0)
        suspect(service._feeds[0])  # pyright: ignore[reportPrivateUsage]
        await trio.sleep(0.1)
        await service.follow([first, *others])
        await trio.sleep(5.0)
        assert [status.id for status in service.feed_statuses()] == ["feed-1", "feed-2"]
        assert service.states() == {"LIVE": 4}
        assert service.feed_id(others[0]) == "feed-2"


def test_rotations_do_not_grow_memory() -> None:
    grown: dict[str, int] = {}

    async def rotations(world: World, count: int) -> None:
        end = world.service.statistics.rotations + count
        with trio.fail_after(count * 30.0):
            while world.service.statistics.rotations < end:  # noqa: ASYNC110 - virtual time
                await trio.sleep(1.0)
        await trio.sleep(IN_FLIGHT_SECONDS / 2)  # between two of them

    async def scenario(world: World) -> World:
        world.is_recording = False
        await all_up(world)
        await rotations(world, 10)
        tracemalloc.start()
        await rotations(world, 2)
        before = snapshot()
        await rotations(world, 40)
        for _ in range(4):  # one of them may lie within a rotation, when there are two feeds
            await rotations(world, 1)
            found = {str(f.traceback): f.size_diff for f in snapshot().compare_to(before, "lineno")}
            if not grown or sum(found.values()) < sum(grown.values()):
                grown.clear()
                grown.update(found)
        return world

    try:
        world = simulate(
            10, scenario, markets=1, rate=2.0, rotation_seconds=20.0, ping_interval_seconds=5.0,
            pong_deadline_seconds=9.0, **DEADLINES
        )  # fmt: skip
    finally:
        tracemalloc.stop()
    assert world.service.statistics.rotations >= 52
    assert sum(grown.values()) < GROWTH_BYTES_MAX, sorted(grown.items(), key=lambda i: -i[1])[:20]


GROWTH_BYTES_MAX = 45_000
"""Of all our own structures together, whose size goes up and down with the books. Twenty
shards that were kept after their rotation showed more than 60 kB, and these are forty."""
