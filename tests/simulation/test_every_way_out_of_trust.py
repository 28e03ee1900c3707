"""Every reason for STALE, by the real actors and the embedded exchange; and every way back.

Each scenario lets the exchange, its network or an actor fail until the stream gives the reason.
Whatever it was, the token comes back by a whole book that was verified by its hash.
"""

from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
from tests.simulation.world import Simulate, World

from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import BookUpdated, Gap, TrustChanged

WAIT_SECONDS_MAX = 120.0


def reasons(world: World) -> set[StaleReason]:
    return {e.reason for e in world.events if isinstance(e, TrustChanged) and e.reason is not None}


def knows_hash_inputs(world: World) -> bool:
    """The audit has brought what the WebSocket never says."""
    inputs = world.service.env.hash_inputs
    return all(inputs[token].min_order_size is not None for token in world.service.tokens)


async def until_stale(world: World, reason: StaleReason) -> None:
    await world.until(lambda: reason in reasons(world))


async def again_until(world: World, reason: StaleReason, fail: Callable[[], object]) -> None:
    """Let something fail again and again: where it strikes is the seed's choice."""
    with trio.fail_after(WAIT_SECONDS_MAX):
        while reason not in reasons(world):
            await world.heal()
            fail()
            await trio.sleep(1.0)


async def disconnected(world: World) -> None:
    world.venue.inject("reset")
    await until_stale(world, StaleReason.DISCONNECTED)


async def feed_stalled(world: World) -> None:
    world.venue.inject("stall", seconds=60.0)
    await until_stale(world, StaleReason.FEED_STALLED)


async def never_delivered(world: World) -> None:
    world.venue.pause()  # the book after a trade would do as well
    world.venue.inject("missing_book", token=world.service.tokens[0], reset=True)
    await until_stale(world, StaleReason.NEVER_DELIVERED)
    world.venue.resume()


async def top_mismatch(world: World) -> None:
    await again_until(world, StaleReason.TOP_MISMATCH, lambda: world.venue.inject("lost_group"))


async def hash_mismatch(world: World) -> None:
    await again_until(world, StaleReason.HASH_MISMATCH, lambda: world.venue.inject("lost_group"))


async def book_mismatch(world: World) -> None:
    await again_until(world, StaleReason.BOOK_MISMATCH, lambda: world.venue.inject("lost_group"))


async def audit_mismatch(world: World) -> None:
    def lose_the_last_change() -> None:
        world.venue.inject("lost_group")
        world.venue.step(3)
        world.venue.pause()

    async def speak_again() -> None:
        await trio.sleep(12.0)
        world.venue.resume()

    with trio.fail_after(WAIT_SECONDS_MAX):
        while StaleReason.AUDIT_MISMATCH not in reasons(world):
            await world.heal()
            lose_the_last_change()
            await speak_again()


async def parse_failure(world: World) -> None:
    world.venue.inject("garbage", variant="text")
    await until_stale(world, StaleReason.PARSE_FAILURE)


async def actor_restarted(world: World) -> None:
    world.crash_shard(world.feeds[0])
    await until_stale(world, StaleReason.ACTOR_RESTARTED)


async def feed_gave_up(world: World) -> None:
    with trio.fail_after(WAIT_SECONDS_MAX):
        while StaleReason.FEED_GAVE_UP not in reasons(world):
            world.crash_parser(world.feeds[0])
            await trio.sleep(0.5)


async def unknown_token(world: World) -> None:
    gone = world.venue.markets[0]
    world.venue.resolve_market(gone.condition_id, 0)
    await world.until(
        lambda: all(
            world.service.trust(token).reason is StaleReason.UNKNOWN_TOKEN for token in gone.tokens
        )
    )
    others = [token for token in world.service.tokens if token not in gone.tokens]
    assert {world.service.trust(token).state for token in others} == {TrustState.LIVE}


WAYS: dict[StaleReason, Callable[[World], Awaitable[None]]] = {
    StaleReason.DISCONNECTED: disconnected,
    StaleReason.FEED_STALLED: feed_stalled,
    StaleReason.NEVER_DELIVERED: never_delivered,
    StaleReason.TOP_MISMATCH: top_mismatch,
    StaleReason.HASH_MISMATCH: hash_mismatch,
    StaleReason.BOOK_MISMATCH: book_mismatch,
    StaleReason.AUDIT_MISMATCH: audit_mismatch,
    StaleReason.PARSE_FAILURE: parse_failure,
    StaleReason.ACTOR_RESTARTED: actor_restarted,
    StaleReason.FEED_GAVE_UP: feed_gave_up,
}
GAPS = {
    StaleReason.NEVER_DELIVERED: StaleReason.DISCONNECTED,
    StaleReason.FEED_GAVE_UP: StaleReason.DISCONNECTED,
}
"""Reasons that are told by another's gap: that of the session which was lost."""
WITHOUT_A_WAY = {
    StaleReason.OVERFLOW: "the mailboxes on a book's way wait; it is a reason of gaps alone",
    StaleReason.UNSUBSCRIBED: "a followed token stays followed",
    StaleReason.CROSSED: "the exchange states its top, so top_mismatch comes first; test_shard.py",
}


def test_every_reason_has_its_way_or_none() -> None:
    assert {*WAYS, *WITHOUT_A_WAY, StaleReason.UNKNOWN_TOKEN} == set(StaleReason)


@pytest.mark.parametrize("reason", WAYS, ids=lambda reason: reason.value)
def test_every_way_out_of_trust_leads_back_by_a_verified_book(
    simulate: Simulate, reason: StaleReason
) -> None:
    async def scenario(world: World) -> World:
        await world.heal()
        await world.until(lambda: knows_hash_inputs(world))
        unverified.append(world.service.statistics.snapshots_hash_unverifiable)
        await WAYS[reason](world)
        await world.heal()
        await world.come_to_rest()
        unverified.append(world.service.statistics.snapshots_hash_unverifiable)
        return world

    unverified: list[int] = []

    world = simulate(3, scenario, audit_seconds=8.0, rate=20.0)
    assert reason in reasons(world)
    for before, after in returns(world, reason):
        assert isinstance(before, TrustChanged)
        # Whole books bring a token back, and its first update says so.
        assert isinstance(after, BookUpdated)
        assert after.cause in ("snapshot", "rest")
    assert unverified[0] == unverified[1]
    assert world.service.statistics.snapshots_hash_ok > 0
    # Nothing is lost without a gap.
    gaps = {event.reason for event in world.events if isinstance(event, Gap)}
    assert GAPS.get(reason, reason) in gaps


def returns(world: World, reason: StaleReason) -> Iterator[tuple[TrustChanged, BookUpdated]]:
    """Each return to LIVE of a token that was STALE by this, and its first update then."""
    lost: set[str] = set()
    back: dict[str, TrustChanged] = {}
    for event in world.events:
        if isinstance(event, TrustChanged):
            back.pop(event.token, None)
            if event.reason is reason:
                lost.add(event.token)
            elif event.state is TrustState.LIVE and event.token in lost:
                lost.remove(event.token)
                back[event.token] = event
        elif isinstance(event, BookUpdated) and event.token in back:
            yield back.pop(event.token), event


def test_a_market_that_is_gone_leaves_its_tokens_unknown(simulate: Simulate) -> None:
    async def scenario(world: World) -> None:
        await world.heal()
        await unknown_token(world)

    simulate(3, scenario, audit_seconds=8.0, rate=20.0)
