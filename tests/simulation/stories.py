"""What a seed plays: settings, a market's pace, faults and bugs at random, and the rest after.

Everything is drawn from the seed. A story is short, a day's misfortune in half a minute:
periods are scaled down so that each bound can be reached, passed and judged.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

import trio
from attrs import frozen
from tests.simulation.bounds import LASTING
from tests.simulation.delays import Delays
from tests.simulation.world import World, simulate

from polyactors.venue.faults import FaultKind, NoTarget

STORY_SECONDS = 25.0
"""Of faults; then everything comes to rest."""
STRIKE_PATIENCE_STEPS = 40
"""Engine steps in which a fault that lies in wait has its chance to strike a last change."""
_SECONDS_OF: Mapping[FaultKind, tuple[float, float]] = {
    # From what nobody notices to what outlives every deadline.
    FaultKind.STALL: (0.3, 9.0),
    FaultKind.REFUSE: (0.2, 4.0),
    FaultKind.SLOW: (0.2, 2.5),
    FaultKind.TOKEN_STALL: (0.5, 10.0),
    FaultKind.MIRROR: (0.5, 8.0),
    FaultKind.STALE_REST: (0.5, 10.0),
    FaultKind.REST_ERROR: (0.5, 8.0),
    FaultKind.UNKNOWN_FIELDS: (0.5, 4.0),
    FaultKind.CLOCK_SKEW: (0.5, 5.0),
}
_WEIGHTS: Mapping[FaultKind, float] = {
    FaultKind.OVERSIZE: 0.4,  # a large frame takes real time
    FaultKind.REFUSE: 0.5,
    FaultKind.RESET: 0.5,
    FaultKind.LOST_DELTA: 2.0,
    FaultKind.LOST_IN_GROUP: 2.0,
    FaultKind.LOST_GROUP: 2.0,
    FaultKind.STALE_REST: 2.0,
}
"""How often a kind comes, against 1 for the others."""
LOST_LAST = (FaultKind.LOST_DELTA, FaultKind.LOST_GROUP, FaultKind.TOKEN_STALL, FaultKind.MIRROR)
"""Kinds that can take a last change, which nothing after it betrays."""


@frozen
class Story:
    """The frame of one seed's scenario."""

    markets: int
    rate: float
    """Engine steps a second."""
    delays: Delays
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, seed: int, *, may_merge: bool = True) -> "Story":
        """The story of a seed; `may_merge` also with several feeds for the same tokens."""
        rng = Random(f"{seed}:story")
        markets = rng.choice((1, 1, 2, 2, 3))
        return cls(
            markets,
            rng.choice((2.0, 5.0, 8.0)),
            Delays(rng.choice((0.0, 0.0, 0.08)), rng.choice((0.0, 0.0, 0.2, 0.6))),
            {
                "data_deadline_seconds": rng.choice((3.0, 3.0, 8.0, 30.0)),
                "audit_seconds": rng.choice((4.0, 5.0, 6.0, 8.0)),
                "hash_budget_percent": rng.choice((0.5, 2.0, 100.0)),
                "custom_features": rng.random() < 0.8,
                "ids_per_frame": rng.choice((1, 2, 100)),
                "tokens_per_connection": rng.choice((2, 3, 200)),
                "reconnect_seconds_max": rng.choice((0.5, 2.0, 8.0)),
                "redundancy": rng.choice((1, 1, 1, 2)) if may_merge else 1,
                "rotation_seconds": rng.choice((0.0, 0.0, 0.0, 7.0)) if may_merge else 0.0,
            },
        )


def run(seed: int, *, may_merge: bool = True) -> World:
    """Play the story of a seed; raises what is broken."""
    story = Story.of(seed, may_merge=may_merge)
    return simulate(
        seed,
        play,
        markets=story.markets,
        rate=story.rate,
        delays=story.delays,
        **story.settings,
    )


async def play(world: World) -> World:
    """Misfortunes at random, then rest."""
    end = trio.current_time() + STORY_SECONDS
    while trio.current_time() < end:
        await trio.sleep(world.rng.expovariate(1.2))
        what = world.rng.random()
        if what < 0.45:
            inject(world, _any_kind(world.rng))
        elif what < 0.6:
            await lose_last(world)
        elif what < 0.7:
            await be_quiet(world, world.rng.uniform(0.2, 6.0))
        elif what < 0.75:
            world.crash_parser(world.rng.choice(world.feeds))
        elif what < 0.8:
            world.crash_shard(world.rng.choice(world.feeds))
        elif what < 0.85:
            world.venue.step(world.rng.randint(2, 30))
        else:
            await world.compare(quiet_seconds=world.rng.choice((0.0, 0.3)))
    await world.come_to_rest()
    return world


def inject(world: World, kind: FaultKind, *, token: str | None = None) -> int | None:
    """One fault, if there is a session that it can hit; returns its number."""
    rng = world.rng
    subscribed = [s.id for s in world.venue.sessions.values() if s.tokens]
    aim: dict[str, Any] = {}
    if kind in LASTING:
        aim["seconds"] = rng.uniform(*_SECONDS_OF[kind])
    if kind is FaultKind.MISSING_BOOK:
        aim |= {"token": rng.choice(world.venue.tokens), "reset": rng.random() < 0.8}
    elif token is not None:
        aim["token"] = token
    elif kind not in (FaultKind.REFUSE, FaultKind.STALE_REST, FaultKind.REST_ERROR):
        if not subscribed:
            return None
        if rng.random() < 0.5:
            aim["session"] = rng.choice(subscribed)
        else:
            aim["token"] = rng.choice(world.venue.tokens)
    try:
        return world.venue.inject(kind, **aim).id
    except NoTarget:
        return None


async def lose_last(world: World) -> None:
    """Let a change be lost after which the exchange says nothing, so that only REST knows."""
    fault = inject(world, world.rng.choice(LOST_LAST), token=world.rng.choice(world.venue.tokens))
    world.venue.pause()
    for _ in range(STRIKE_PATIENCE_STEPS):
        world.venue.step()
        if any(record.id == fault and record.struck for record in world.venue.fault_log):
            break
    await be_quiet(world, world.rng.uniform(0.5, 1.8) * world.oracle.bounds.audit)


async def be_quiet(world: World, seconds: float) -> None:
    """The exchange has nothing to say for a while."""
    world.venue.pause()
    await trio.sleep(seconds)
    world.oracle.judge()
    world.venue.resume()


def _any_kind(rng: Random) -> FaultKind:
    kinds = list(FaultKind)
    return rng.choices(kinds, [_WEIGHTS.get(kind, 1.0) for kind in kinds])[0]
