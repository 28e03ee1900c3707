"""The whole tree under random faults: what the service says of its books is true."""

import tracemalloc
from typing import TYPE_CHECKING

import attrs
import httpx2
import pytest
import trio
from tests.simulation.memory import snapshot
from tests.simulation.stories import inject

from polyactors.events import ActorRestarted, BookUpdated, FeedUp, TrustChanged
from polyactors.transport import Network
from polyactors.venue import market_channel, session
from polyactors.venue.faults import FaultKind

if TYPE_CHECKING:
    from tests.simulation.world import Simulate, World

FAULTS = [
    *(kind for kind in FaultKind if kind is not FaultKind.OVERSIZE),
    *3 * (FaultKind.RESET, FaultKind.REFUSE, FaultKind.STALL, FaultKind.GARBAGE),
]


def test_450_tokens_share_three_connections_and_a_reset_hurts_one(
    simulate: "Simulate", monkeypatch: pytest.MonkeyPatch
) -> None:
    ids_per_frame: list[int] = []
    plain = session.texts_of

    def texts_of(value: object) -> list[str] | None:
        tokens = plain(value)
        ids_per_frame.append(len(tokens or ()))
        return tokens

    monkeypatch.setattr(market_channel, "texts_of", texts_of)

    async def scenario(world: "World") -> tuple["World", int]:
        with trio.fail_after(1.0):
            await world.heal()
        before = len(world.events)
        hit = next(s for s in world.venue.sessions.values() if world.feeds[1].tokens[0] in s.tokens)
        world.venue.inject("reset", session=hit.id)
        await trio.sleep(0.05)
        assert world.service.states() == {"LIVE": 250, "STALE": 200}
        await world.come_to_rest()
        return world, before

    world, before = simulate(1, scenario, markets=225, rate=50.0, data_deadline_seconds=30.0)
    assert [len(feed.tokens) for feed in world.feeds] == [200, 200, 50]
    assert ids_per_frame == [100, 100, 100, 100, 50, 100, 100]  # 3 feeds, and one again
    hit_tokens = set(world.feeds[1].tokens)
    after = world.events[before:]
    changed = {event.token for event in after if isinstance(event, TrustChanged)}
    assert changed == hit_tokens
    ups = [event.feed for event in world.events if isinstance(event, FeedUp)]
    assert ups == ["feed-0", "feed-1", "feed-2", "feed-1"]
    restarted = {event.path for event in after if isinstance(event, ActorRestarted)}
    assert restarted == {
        f"root/core/feeds/feed-1/{actor}" for actor in ("connection", "heartbeat", "parser")
    }


def test_books_run_while_rest_cannot_be_reached(simulate: "Simulate") -> None:
    asked: list[bytes] = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/books"
        asked.append(request.content)
        raise httpx2.ConnectError("no route to host")

    def without_rest(network: Network) -> Network:
        return attrs.evolve(network, http_transport=lambda: httpx2.MockTransport(refuse))

    async def scenario(world: "World") -> "World":
        await world.heal()
        token = world.service.tokens[0]
        world.venue.pause()  # a trade would bring a book
        # The first book is missing, then that of the redrive; REST would be next.
        world.venue.inject("missing_book", token=token, reset=True)
        await world.until(lambda: not world.venue.active_faults)
        world.venue.inject("missing_book", token=token)
        about_it = f'[{{"token_id":"{token}"}}]'.encode()  # the audit asks about all
        await world.until(lambda: about_it in asked)
        assert world.service.states() == {"LIVE": 3, "SYNCING": 1}
        world.venue.resume()
        await world.compare()
        await world.come_to_rest()
        return world

    world = simulate(3, scenario, network=without_rest, data_deadline_seconds=30.0)
    assert world.laws.stale_reasons["never_delivered"] == 1
    causes = {event.cause for event in world.events if isinstance(event, BookUpdated)}
    assert causes == {"snapshot", "delta"}


def test_half_an_hour_of_faults_does_not_grow_memory(simulate: "Simulate") -> None:
    grown: dict[str, int] = {}

    async def minutes(world: "World", count: float) -> None:
        end = trio.current_time() + 60.0 * count
        while trio.current_time() < end:
            await trio.sleep(12.0)
            inject(world, world.rng.choice(FAULTS))
        await world.come_to_rest()

    async def scenario(world: "World") -> "World":
        world.is_recording = False
        await minutes(world, 10)
        tracemalloc.start()
        await minutes(world, 2)
        before = snapshot()
        await minutes(world, 15)
        for _ in range(3):  # the least of them: what is there only now is no growth
            await minutes(world, 1)
            found = {str(f.traceback): f.size_diff for f in snapshot().compare_to(before, "lineno")}
            if not grown or sum(found.values()) < sum(grown.values()):
                grown.clear()
                grown.update(found)
        return world

    try:
        world = simulate(
            2, scenario, markets=1, rate=1.5, ping_interval_seconds=5.0, pong_deadline_seconds=9.0
        )
    finally:
        tracemalloc.stop()
    assert world.laws.counts["feed_up"] > 40
    assert sum(grown.values()) < GROWTH_BYTES_MAX, sorted(grown.items(), key=lambda i: -i[1])[:20]


GROWTH_BYTES_MAX = 20_000
"""Of all our own structures together, over some 60 reconnects: 300 bytes each would show."""
