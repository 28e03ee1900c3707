"""Whatever an actor of a user's does, books and other subscribers do not notice.

The real service, books and hashes, with an offender beside a bystander. On virtual time; what
computes does so in real time, so the limit on that is short. What is asserted is what was counted:
how long what cost on this machine says bench_isolation.py.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

import attrs
import pytest
import trio
from trio.testing import MockClock

from polyactors import (
    ActorContext,
    ActorEvent,
    ActorGaveUp,
    ActorSpec,
    BookUpdated,
    TrustChanged,
    TrustState,
    actor_spec,
)
from polyactors.book.numbers import to_units
from polyactors.extensions.hands import EVENTS_PER_SECOND, TASKS_MAX
from polyactors.testing import Stage, stage

HOLD_SECONDS_MAX = 0.02
STOP_SECONDS_MAX = 2.0
MAILBOX = 64
POLICY: Mapping[str, object] = {
    "mailbox": MAILBOX,
    "hold_seconds_max": HOLD_SECONDS_MAX,
    "handle_seconds_max": 1.0,
    "stop_seconds_max": STOP_SECONDS_MAX,
    "gives_up_after": 3,
}
INCARNATIONS = 4
GIVES_UP_SECONDS = 30.0
"""A step that nobody interrupts ends by itself, and fails its test."""
STEPS = 15


class Bystander:
    """Another actor: it keeps the newest top of each token."""

    def __init__(self) -> None:
        self.tops: dict[str, tuple[Decimal | None, Decimal | None]] = {}
        BYSTANDERS.append(self)

    async def handle(self, update: BookUpdated) -> None:
        self.tops[update.token] = (update.best_bid, update.best_ask)


BYSTANDERS: list[Bystander] = []


@attrs.frozen
class Note:
    number: int


class Victim:
    """It is sent what a flood has, and takes its time."""

    async def handle(self, note: Note) -> None:
        await trio.sleep(0.01)


def compute() -> None:
    end = time.perf_counter() + GIVES_UP_SECONDS
    while time.perf_counter() < end:
        pass


# --- offenders that fail --------------------------------------------------------------------


async def crash(update: BookUpdated) -> None:
    raise ValueError("always")


class CrashAtStart:
    async def setup(self, context: ActorContext) -> None:
        raise ValueError("always")

    async def handle(self, update: BookUpdated) -> None: ...


class CrashBeside:
    """In a task beside its handler."""

    async def setup(self, context: ActorContext) -> None:
        context.start_soon(self.fail)

    async def handle(self, update: BookUpdated) -> None: ...

    async def fail(self) -> None:
        await trio.sleep(0.5)
        raise ValueError("always")


class CrashAtEnd:
    async def handle(self, update: BookUpdated) -> None:
        raise ValueError("always")

    async def teardown(self) -> None:
        raise ValueError("there, too")


async def crash_with_all(update: BookUpdated) -> None:
    raise BaseExceptionGroup("all", [ValueError("one"), ExceptionGroup("two", [OSError("three")])])


async def hang(update: BookUpdated) -> None:
    await trio.sleep_forever()


class HangAtEnd:
    async def handle(self, update: BookUpdated) -> None:
        raise ValueError("always")

    async def teardown(self) -> None:
        await trio.sleep_forever()


async def loop_without_end(update: BookUpdated) -> None:
    compute()


async def loop_that_takes_exceptions(update: BookUpdated) -> None:
    while True:
        with suppress(Exception):
            compute()


async def sleep_in_the_loop(update: BookUpdated) -> None:
    time.sleep(GIVES_UP_SECONDS)  # noqa: ASYNC251 - the very mistake


async def sort_a_million(update: BookUpdated) -> None:
    sorted(range(1_000_000), key=lambda number: -number)


class LoopAtStart:
    async def setup(self, context: ActorContext) -> None:
        compute()

    async def handle(self, update: BookUpdated) -> None: ...


class LoopBeside:
    async def setup(self, context: ActorContext) -> None:
        context.start_soon(self.loop)

    async def handle(self, update: BookUpdated) -> None: ...

    async def loop(self) -> None:
        compute()


async def thousand_tasks_that_compute(update: BookUpdated, context: ActorContext) -> None:
    async def work() -> None:
        sum(range(40_000))

    for _ in range(TASKS_MAX):
        context.start_soon(work)
    await trio.sleep_forever()


async def tasks_that_start_tasks(update: BookUpdated, context: ActorContext) -> None:
    async def start_two() -> None:
        context.start_soon(start_two)
        context.start_soon(start_two)

    context.start_soon(start_two)
    await trio.sleep_forever()


async def publish_without_end(update: BookUpdated, context: ActorContext) -> None:
    while True:
        await context.publish("noise", number=1)


FAILING = [
    crash,
    CrashAtStart,
    CrashBeside,
    CrashAtEnd,
    crash_with_all,
    hang,
    HangAtEnd,
    loop_without_end,
    loop_that_takes_exceptions,
    sleep_in_the_loop,
    sort_a_million,
    LoopAtStart,
    LoopBeside,
    thousand_tasks_that_compute,
    tasks_that_start_tasks,
    publish_without_end,
]
HOGS = (
    loop_without_end,
    loop_that_takes_exceptions,
    sleep_in_the_loop,
    sort_a_million,
    LoopAtStart,
    LoopBeside,
)
"""Those with one step that holds the loop."""


# --- offenders that only take much ----------------------------------------------------------


async def be_slow(update: BookUpdated) -> None:
    await trio.sleep(0.9)


async def send_to_another(update: BookUpdated, context: ActorContext) -> None:
    for number in range(100):
        await context.send("victim", Note(number))


async def send_to_itself(message: BookUpdated | Note, context: ActorContext) -> None:
    if isinstance(message, BookUpdated):
        for number in range(100):
            await context.send("offender", Note(number))


async def thousand_tasks_that_wait(update: BookUpdated, context: ActorContext) -> None:
    with suppress(RuntimeError):
        while True:
            context.start_soon(trio.sleep, 5)


async def publish_much(update: BookUpdated, context: ActorContext) -> None:
    for number in range(20):
        await context.publish("noise", number=number, text="x" * 1000)


TAKING = [
    be_slow,
    send_to_another,
    send_to_itself,
    thousand_tasks_that_wait,
    publish_much,
]


# --- what nobody may notice -----------------------------------------------------------------


def offender(target: object, **policy: object) -> ActorSpec:
    return actor_spec(target, name="offender", policy={**POLICY, **policy})


@asynccontextmanager
async def beside(spec: ActorSpec) -> AsyncGenerator[Stage, None]:
    """A stage with an offender; at its end, and at the stop, everything is as without it."""
    BYSTANDERS.clear()
    victim = actor_spec(Victim, policy={"mailbox": MAILBOX})
    async with stage(spec, Bystander, victim, markets=2) as play:
        yield play
        assert_unharmed(play)
    assert all(status.state == "stopped" for status in play.service.actor_statuses()[1:])
    assert play.status("offender").state in ("stopped", "gave_up")


async def trade_on(play: Stage) -> None:
    """Books change; the offender has news all the time, and its mailbox never more than it may."""
    for number in range(STEPS):
        for place, token in enumerate(play.tokens[::2]):
            play.quote(token, f"0.{30 + (number + place) % 20}", f"0.{60 + number % 7}")
        await play.settle(0.5)
        for status in play.service.actor_statuses():
            assert status.queued <= (4096 if status.name == "bystander" else MAILBOX)
    await play.settle(60)


def assert_unharmed(play: Stage) -> None:
    """Books LIVE, never anything else, and the exchange's own; every event at the bystander."""
    assert play.service.states() == {"LIVE": len(play.tokens)}
    changes = [event for event in play.events if isinstance(event, TrustChanged)]
    assert not [change for change in changes if change.state is TrustState.STALE]
    updates = [event for event in play.events if isinstance(event, BookUpdated)]
    assert len(updates) > STEPS
    newest = {event.token: (event.best_bid, event.best_ask) for event in updates}
    (bystander,) = BYSTANDERS
    for token in play.tokens:
        book, real = play.book(token), play.venue.book_state(token)
        assert real is not None
        assert book.settled
        assert {to_units(level.price): to_units(level.size) for level in book.bids} == dict(
            real.bids
        )
        assert {to_units(level.price): to_units(level.size) for level in book.asks} == dict(
            real.asks
        )
        assert book.best_bid is not None
        assert book.best_ask is not None
        assert bystander.tops[token] == newest[token] == (book.best_bid.price, book.best_ask.price)
    status = play.status("bystander")
    assert (status.incarnation, status.coalesced, status.lost) == (1, 0, 0)
    assert status.handled == len(updates)


@pytest.mark.parametrize("target", FAILING, ids=lambda target: target.__name__)
async def test_what_fails_is_restarted_and_then_given_up(
    autojump_clock: MockClock, target: Callable[..., object]
) -> None:
    async with beside(offender(target)) as play:
        await trade_on(play)
        (gave_up,) = [event for event in play.events if isinstance(event, ActorGaveUp)]
        assert gave_up.path == "root/extensions/offender"
        status = play.status("offender")
        assert (status.state, status.incarnation) == ("gave_up", INCARNATIONS)
        assert status.queued == 0
        assert status.lost > 0 or target is CrashBeside  # which handles its messages
        assert status.last_failure
        if target in HOGS:
            assert "HeldLoop" in status.last_failure
        before = trio.current_time()
    assert trio.current_time() - before < STOP_SECONDS_MAX


@pytest.mark.parametrize("target", TAKING, ids=lambda target: target.__name__)
async def test_what_takes_much_goes_on_at_nobody_elses_expense(
    autojump_clock: MockClock, target: Callable[..., object]
) -> None:
    async with beside(offender(target, hold_seconds_max=1.0, handle_seconds_max=60.0)) as play:
        await trade_on(play)
        status = play.status("offender")
        assert (status.state, status.incarnation, status.last_failure) == ("running", 1, "")
        victim = play.status("victim")
        assert (victim.state, victim.incarnation) == ("running", 1)
        if target is send_to_another:
            assert victim.lost > 0
        if target in (be_slow, send_to_itself):
            assert status.coalesced + status.lost > 0


async def test_a_flood_of_events_is_no_more_than_so_many_a_second(
    autojump_clock: MockClock,
) -> None:
    async with beside(offender(publish_without_end, handle_seconds_max=20.0)) as play:
        for number in range(STEPS):
            for token in play.tokens[::2]:
                play.quote(token, f"0.{30 + number}", "0.80")
            await play.settle(10 / STEPS)
        noise = [event for event in play.events if isinstance(event, ActorEvent)]
        assert len(noise) <= EVENTS_PER_SECOND * 12
        assert len(noise) >= EVENTS_PER_SECOND * 9
        await play.settle()


async def test_one_task_more_than_it_may_have_is_refused(autojump_clock: MockClock) -> None:
    async def tasks(update: BookUpdated, context: ActorContext) -> None:
        for _ in range(TASKS_MAX + 1):
            context.start_soon(trio.sleep_forever)

    async with beside(offender(tasks)) as play:
        await trade_on(play)
        assert f"at most {TASKS_MAX} tasks" in play.status("offender").last_failure


async def test_a_stop_waits_for_nobody_longer_than_it_may(autojump_clock: MockClock) -> None:
    async with beside(offender(hang, handle_seconds_max=10_000.0)) as play:
        await trade_on(play)
        assert play.status("offender").incarnation == 1
        before = trio.current_time()
    assert trio.current_time() - before <= STOP_SECONDS_MAX + 1
