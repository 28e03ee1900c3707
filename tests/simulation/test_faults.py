"""Each fault of the exchange alone: how it is told, what it touches, that it heals."""

from typing import TYPE_CHECKING

import attrs
import httpx2
import pytest
import trio

from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import ActorRestarted, BookUpdated, Event, FeedDown, Gap, TrustChanged
from polyactors.probe import PROBE_GRACE_SECONDS
from polyactors.rest import RestClient
from polyactors.transport import Network
from polyactors.venue import trickling
from polyactors.venue.faults import FaultKind, GarbageVariant
from polyactors.venue.scheduling import FaultSchedule

if TYPE_CHECKING:
    from tests.simulation.world import Simulate, World

SEED = 7
DATA_DEADLINE_SECONDS = 3.0


def downs(events: list[Event]) -> list[str]:
    return [e.reason for e in events if isinstance(e, FeedDown) and e.reason != "stopping"]


def stale(events: list[Event]) -> set[tuple[str, StaleReason]]:
    """The tokens that turned STALE, and why."""
    return {
        (e.token, e.reason) for e in events if isinstance(e, TrustChanged) and e.reason is not None
    }


async def play(world: "World", kind: str, **arguments: object) -> "World":
    """One fault, after which everything must come to rest. Keeps what followed it."""
    await world.heal()
    await trio.sleep(1.0)
    world.events.clear()
    world.venue.inject(kind, **arguments)  # type: ignore[arg-type]
    await trio.sleep(0.5)
    await world.come_to_rest()
    return world


def test_a_reset_is_told_and_healed(simulate: "Simulate") -> None:
    async def scenario(world: "World") -> "World":
        return await play(world, "reset")

    world = simulate(SEED, scenario)
    assert downs(world.events) == ["reset"]
    assert stale(world.events) == {(t, StaleReason.DISCONNECTED) for t in world.service.tokens}


def test_a_stall_with_live_pongs_is_found_by_the_data_deadline(simulate: "Simulate") -> None:
    async def scenario(world: "World") -> tuple["World", float]:
        began = trio.current_time() + 1.0
        await play(world, "stall", seconds=20.0)
        return world, began

    world, began = simulate(SEED, scenario, rate=20.0)
    assert downs(world.events) == ["feed_stalled"]
    assert stale(world.events) == {(t, StaleReason.FEED_STALLED) for t in world.service.tokens}
    (down,) = (e for e in world.events if isinstance(e, FeedDown) and e.reason == "feed_stalled")
    seconds = down.time_ns / 1e9 - 1_700_000_000 - began
    # Counted from the last data, which came a moment before the stall began; then REST, which
    # is ahead, is given the time that a message may be on its way.
    probed = DATA_DEADLINE_SECONDS + PROBE_GRACE_SECONDS
    assert probed - 1.0 < seconds <= probed + 0.2


def test_a_stall_that_ends_before_the_deadline_leaves_nothing_that_a_new_session_does_not_heal(
    simulate: "Simulate",
) -> None:
    # Lost deltas below the top are betrayed by nothing but hashes, which are not checked for
    # every group yet: until a book comes, such a token can be wrong. (Why `World.inject`
    # leaves short stalls out.)
    async def scenario(world: "World") -> "World":
        await world.heal()
        world.venue.inject("stall", seconds=2.0)
        await trio.sleep(2.5)
        assert downs(world.events) == []
        world.venue.inject("reset")
        await trio.sleep(0.5)
        await world.come_to_rest()
        return world

    world = simulate(SEED, scenario, rate=20.0)
    assert downs(world.events) == ["reset"]


def test_a_refused_connect_is_told_by_its_status(simulate: "Simulate") -> None:
    async def scenario(world: "World") -> "World":
        return await play(world, "refuse", seconds=3.0)

    world = simulate(SEED, scenario)
    first, *others = downs(world.events)
    assert first == "reset"
    assert set(others) == {"handshake_429"}


@pytest.mark.parametrize("variant", list(GarbageVariant))
def test_garbage_is_a_gap_and_a_resync_in_the_same_session(
    variant: GarbageVariant, simulate: "Simulate"
) -> None:
    async def scenario(world: "World") -> "World":
        return await play(world, "garbage", variant=variant)

    for seed in range(1, 4):  # the text of the garbage is the seed's choice
        world = simulate(seed, scenario)
        assert downs(world.events) == []
        (gap,) = (event for event in world.events if isinstance(event, Gap))
        assert (gap.feed, gap.reason) == ("feed-0", StaleReason.PARSE_FAILURE)
        touched = world.service.tokens if gap.token is None else (gap.token,)
        assert stale(world.events) == {(token, StaleReason.PARSE_FAILURE) for token in touched}
        assert world.service.summary()["unreadable_frames"] == 1


def test_a_missing_first_book_is_redriven(simulate: "Simulate") -> None:
    async def scenario(world: "World") -> str:
        await world.heal()
        token = world.service.tokens[0]
        world.venue.pause()  # a trade would bring a book
        world.venue.inject("missing_book", token=token, reset=True)
        await world.until(lambda: not world.venue.active_faults)
        began = trio.current_time()
        await world.until(lambda: world.service.states()["LIVE"] == 4)
        assert 1.8 <= trio.current_time() - began <= 2.2
        world.venue.resume()
        await world.come_to_rest()
        assert (token, StaleReason.NEVER_DELIVERED) in stale(world.events)
        assert {t for t, r in stale(world.events) if r is StaleReason.NEVER_DELIVERED} == {token}
        return token

    simulate(SEED, scenario, data_deadline_seconds=30.0)


class LateTransport(httpx2.AsyncBaseTransport):
    """REST whose answers are late, and then as old as they are late."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, late_seconds: float) -> None:
        self._inner = inner
        self._late_seconds = late_seconds

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        await trio.sleep(self._late_seconds)
        return response


async def miss_books(world: "World", *, is_slow: bool = False) -> set[str]:
    """Leave one token out of every dump for a while; returns the causes of its updates."""
    token = world.service.tokens[0]
    await world.heal()
    world.venue.inject("missing_book", token=token, reset=True)
    end = trio.current_time() + 10.0
    while trio.current_time() < end:
        is_waiting = world.service.trust(token).state is TrustState.SYNCING
        if is_waiting and not world.venue.active_faults:
            world.venue.inject("missing_book", token=token)  # the redrive's, too
            if is_slow:
                world.venue.inject("slow", token=token, seconds=4.0)
        await trio.sleep(0.1)
        await world.compare()
    await world.come_to_rest()
    updates = [e for e in world.events if isinstance(e, BookUpdated) and e.token == token]
    return {update.cause for update in updates}


@pytest.mark.parametrize(
    ("late_seconds", "is_slow"), [(0.0, False), (2.0, False), (0.0, True)], ids=str
)
def test_a_book_that_no_subscription_brings_comes_by_rest_and_is_spliced(
    late_seconds: float, is_slow: bool, simulate: "Simulate", monkeypatch: pytest.MonkeyPatch
) -> None:
    # Late: the book is behind the stream. Slow: it is ahead of it.
    monkeypatch.setattr(trickling, "TRICKLE_SECONDS", 1.0)

    def late(network: Network) -> Network:
        plain = network.http_transport
        assert plain is not None
        return attrs.evolve(network, http_transport=lambda: LateTransport(plain(), late_seconds))

    async def scenario(world: "World") -> set[str]:
        causes = await miss_books(world, is_slow=is_slow)
        assert world.service.statistics.desyncs == 0
        return causes

    found = [
        simulate(
            seed,
            scenario,
            markets=1,
            rate=2.0,
            network=late,
            data_deadline_seconds=60.0,
            pong_deadline_seconds=60.0,
            tokens_per_connection=1,
        )
        for seed in range(1, 7)
    ]
    # Where a trade brought a book before, REST was not needed.
    assert sum("rest" in causes for causes in found) >= 2


def test_a_rest_book_from_before_what_the_stream_said_is_refused(simulate: "Simulate") -> None:
    answers: dict[bytes, httpx2.Response] = {}

    def stale(network: Network) -> Network:
        plain = network.http_transport
        assert plain is not None
        inner = plain()

        async def handle(request: httpx2.Request) -> httpx2.Response:
            if request.content not in answers:
                answers[request.content] = await inner.handle_async_request(request)
                await answers[request.content].aread()
            return answers[request.content]

        return attrs.evolve(network, http_transport=lambda: httpx2.MockTransport(handle))

    async def scenario(world: "World") -> set[str]:
        async with RestClient(world.service.env.settings, world.network) as rest:
            await rest.fetch_books([world.service.tokens[0]])  # what REST says from now on
        await world.heal()
        await trio.sleep(3.0)
        return await miss_books(world)

    for seed in range(1, 5):
        answers.clear()
        causes = simulate(
            seed,
            scenario,
            markets=1,
            rate=2.0,
            network=stale,
            data_deadline_seconds=60.0,
            tokens_per_connection=1,
        )
        assert causes == {"snapshot", "delta"}
        assert len(answers) == 2  # the one about this token alone, and the audit's about both


def test_a_shard_that_crashes_is_told_and_its_books_come_again(simulate: "Simulate") -> None:
    async def scenario(world: "World") -> "World":
        await world.heal()
        world.events.clear()
        world.crash_shard(world.feeds[0])
        while not stale(world.events):
            world.venue.step()
            await trio.sleep(0.01)
        world.venue.pause()  # a trade would bring a book
        await trio.sleep(0.5)
        assert world.service.states() == {"LIVE": 4}
        world.venue.resume()
        await world.come_to_rest()
        return world

    world = simulate(SEED, scenario, tokens_per_connection=2)
    assert downs(world.events) == []
    assert stale(world.events) == {(t, StaleReason.ACTOR_RESTARTED) for t in world.feeds[0].tokens}
    restarted = [event.path for event in world.events if isinstance(event, ActorRestarted)]
    assert restarted == ["root/core/books/shard-0"]


def test_a_slow_session_is_late_and_nothing_else(simulate: "Simulate") -> None:
    async def scenario(world: "World") -> "World":
        return await play(world, "slow", seconds=2.0)

    world = simulate(SEED, scenario)
    assert downs(world.events) == []
    assert stale(world.events) == set()


def test_a_parser_that_crashes_reports_a_gap_and_leaves_the_session(simulate: "Simulate") -> None:
    async def scenario(world: "World") -> "World":
        await world.heal()
        world.events.clear()
        world.crash_parser(world.feeds[0])
        await world.come_to_rest()
        return world

    world = simulate(SEED, scenario, tokens_per_connection=2)
    assert downs(world.events) == []
    (gap,) = (event for event in world.events if isinstance(event, Gap))
    assert (gap.feed, gap.token, gap.reason) == ("feed-0", None, StaleReason.ACTOR_RESTARTED)
    assert stale(world.events) == {(t, StaleReason.ACTOR_RESTARTED) for t in world.feeds[0].tokens}
    (restarted,) = (event for event in world.events if isinstance(event, ActorRestarted))
    assert restarted.path == "root/core/feeds/feed-0/parser"


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.REFUSE])
def test_a_fault_of_one_feed_does_not_touch_the_other(
    kind: FaultKind, simulate: "Simulate"
) -> None:
    async def scenario(world: "World") -> "World":
        arguments = {"token": world.feeds[0].tokens[0]}
        if kind is FaultKind.MISSING_BOOK:
            return await play(world, kind, reset=True, **arguments)
        return await play(world, kind, **arguments)

    world = simulate(SEED, scenario, rate=20.0, tokens_per_connection=2)
    assert {token for token, _ in stale(world.events)} <= set(world.feeds[0].tokens)


@pytest.mark.parametrize("demo_seed", range(1, 5))
def test_the_demo_heals_before_its_end_and_shows_three_kinds_of_trouble(
    demo_seed: int, simulate: "Simulate"
) -> None:
    async def scenario(world: "World") -> "World":
        await trio.sleep(30.0)
        assert world.service.states() == {"LIVE": 8}
        return world

    schedule = FaultSchedule.for_demo(demo_seed, 30.0)
    world = simulate(demo_seed, scenario, markets=4, rate=20.0, schedule=schedule)
    reasons = {reason.value for _, reason in stale(world.events)}
    restarts = {event.reason for event in world.events if isinstance(event, ActorRestarted)}
    assert len(reasons | set(downs(world.events)) | restarts) >= 3
    assert downs(world.events)
