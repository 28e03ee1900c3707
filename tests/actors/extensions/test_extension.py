"""The life of a user's actor, with the real service, on virtual time."""

import json
import math
import re
import threading
from decimal import Decimal
from typing import Any

import attrs
import pytest
import trio
from attrs import frozen
from trio.testing import MockClock

from polyactors import (
    ActorContext,
    ActorEvent,
    ActorGaveUp,
    ActorRestarted,
    BookUpdated,
    Gap,
    RawFrame,
    TradePrinted,
    TrustChanged,
    UsageError,
    actor_spec,
    open_service,
)
from polyactors.book.trust import TrustState
from polyactors.events import to_json
from polyactors.extensions import hands
from polyactors.extensions.failures import sole
from polyactors.testing import Stage, stage

SOON = {"backoff_seconds_min": 0.01, "backoff_seconds_max": 0.02}
"""Restarts that a test need not wait for."""


@frozen
class Do:
    """What a test tells an actor to do, by its name."""

    what: str
    value: Any = ""


LOG: list[str] = []
"""What the actors of a test have done."""


@pytest.fixture(autouse=True)
def _nothing_done_yet() -> None:
    LOG.clear()


class Doer:
    """Does as told, and keeps a log."""

    async def setup(self, context: ActorContext) -> None:
        self.context = context
        LOG.append(f"setup {context.incarnation}")

    async def handle(self, do: Do) -> None:
        LOG.append(f"{do.what} {do.value}".rstrip())
        if do.what == "crash":
            raise ValueError("as told")
        if do.what == "hang":
            await trio.sleep_forever()
        if do.what == "sleep":
            await trio.sleep(do.value)
        if do.what == "count":
            self.context.count("told", do.value)
        if do.what == "gauge":
            self.context.gauge("measured", do.value)

    async def teardown(self) -> None:
        LOG.append("teardown")


def put(play: Stage, actor: str, *all_: Do) -> None:
    """Put messages into its mailbox, as another actor would."""
    extensions = play.service._extensions  # pyright: ignore[reportPrivateUsage]
    for do in all_:
        extensions.find(actor).take(do)


async def tell(play: Stage, actor: str, *all_: Do) -> None:
    """The same, and see what comes of it."""
    put(play, actor, *all_)
    await play.settle(0.1)


def of(play: Stage, kind: type) -> list[Any]:
    return [event for event in play.events if isinstance(event, kind)]


# --- in order -----------------------------------------------------------------------------


async def test_setup_then_messages_then_teardown(autojump_clock: MockClock) -> None:
    async with stage(Doer) as play:
        await tell(play, "doer", Do("a"), Do("b"))
        assert play.status("doer").state == "running"
    assert LOG == ["setup 1", "a", "b", "teardown"]


async def test_every_event_that_it_takes_comes_in_order(autojump_clock: MockClock) -> None:
    got: list[object] = []

    async def watch(event: BookUpdated | TradePrinted | TrustChanged) -> None:
        got.append(event)

    async with stage(watch) as play:
        play.quote(play.yes, "0.40", "0.42")
        play.trade(play.yes, "BUY", 10)
        await play.settle()
        wanted = [
            e for e in play.events if isinstance(e, BookUpdated | TradePrinted | TrustChanged)
        ]
    assert got[: len(wanted)] == wanted
    assert {type(event) for event in got} == {BookUpdated, TradePrinted, TrustChanged}


async def test_a_batch_is_all_that_waits(autojump_clock: MockClock) -> None:
    batches: list[list[int]] = []

    async def watch(messages: list[Do], context: ActorContext) -> None:
        assert context.name == "watch"
        batches.append([do.value for do in messages])
        await trio.sleep(0.05)

    async with stage(watch) as play:
        await tell(play, "watch", *(Do("x", number) for number in range(5)))
        await tell(play, "watch", Do("x", 5))
        assert [number for batch in batches for number in batch] == list(range(6))
        assert len(batches) <= 3
        assert play.status("watch").handled == 6


async def test_an_orderly_stop_handles_what_waits(autojump_clock: MockClock) -> None:
    async with stage(Doer) as play:
        for number in range(4):
            put(play, "doer", Do("sleep", 1 + number / 10))
    assert LOG == ["setup 1", "sleep 1.0", "sleep 1.1", "sleep 1.2", "sleep 1.3", "teardown"]


async def test_an_orderly_stop_has_a_bound(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy={"stop_seconds_max": 2}) as play:
        await tell(play, "doer", *(Do("sleep", 0.9) for _ in range(100)))
        began = trio.current_time()
    assert 2 <= trio.current_time() - began < 4
    assert LOG.count("sleep 0.9") <= 4
    assert LOG[-1] == "teardown"


async def test_a_teardown_may_wait_within_its_bound(autojump_clock: MockClock) -> None:
    class Slow(Doer):
        async def teardown(self) -> None:
            await trio.sleep(0.9)
            LOG.append("teardown")

    async with stage(Slow, policy={"stop_seconds_max": 2}) as play:
        await tell(play, "slow", Do("hang"))
    assert LOG[-1] == "teardown"  # though it was cancelled


async def test_a_teardown_without_end_is_bounded(autojump_clock: MockClock) -> None:
    class Endless(Doer):
        async def teardown(self) -> None:
            LOG.append("teardown")
            await trio.sleep_forever()

    async with stage(Endless, policy={"stop_seconds_max": 2}) as play:
        await tell(play, "endless", Do("a"))
        began = trio.current_time()
    assert trio.current_time() - began < 3
    assert LOG[-1] == "teardown"


async def test_a_teardown_that_fails_hurts_nobody(autojump_clock: MockClock) -> None:
    class Fails(Doer):
        async def teardown(self) -> None:
            raise RuntimeError("no end")

    async with stage(Fails) as play:
        await tell(play, "fails", Do("a"))
    assert "RuntimeError: no end" in play.status("fails").last_failure


# --- failures -----------------------------------------------------------------------------


async def test_a_crash_loses_one_message(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy=SOON) as play:
        await tell(play, "doer", Do("a"), Do("crash"), Do("b"), Do("c"))
        status = play.status("doer")
        assert LOG == ["setup 1", "a", "crash", "teardown", "setup 2", "b", "c"]
        assert (status.state, status.incarnation, status.handled) == ("running", 2, 3)
        assert status.last_failure.startswith("crash (ValueError: as told) at test_extension.py:")
        (restart,) = of(play, ActorRestarted)
        assert (restart.path, restart.incarnation) == ("root/extensions/doer", 2)
        assert restart.reason == "crash (ValueError: as told)"


async def test_a_restart_waits_longer_each_time(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy={"backoff_seconds_min": 8}) as play:
        times: list[float] = []
        for incarnation in (2, 3, 4):
            await tell(play, "doer", Do("crash"))
            began = trio.current_time()
            assert play.status("doer").state == "restarting"
            while play.status("doer").incarnation < incarnation:
                await play.settle(0.1)
            times.append(trio.current_time() - began)
        assert 3 <= times[0] <= 9
        assert 7 <= times[1] <= 17
        assert 14 <= times[2] <= 31


async def test_the_last_failure_is_known_before_the_restart(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy={"backoff_seconds_min": 8}) as play:
        await tell(play, "doer", Do("crash"))
        assert play.status("doer").state == "restarting"
        assert "ValueError: as told" in play.status("doer").last_failure


async def test_it_is_given_up_after_a_row_of_failures(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy=SOON | {"gives_up_after": 2}) as play:
        await tell(play, "doer", *(Do("crash") for _ in range(3)), Do("a"), Do("b"))
        await play.settle()
        status = play.status("doer")
        assert LOG.count("crash") == 3
        assert "a" not in LOG
        assert (status.state, status.incarnation) == ("gave_up", 3)
        assert (status.queued, status.lost) == (0, 2)
        (event,) = of(play, ActorGaveUp)
        assert (event.path, event.incarnation) == ("root/extensions/doer", 3)
        assert event.reason == "crash (ValueError: as told)"
        assert json.loads(to_json(event))["type"] == "actor_gave_up"
        await tell(play, "doer", Do("c"))
        assert (play.status("doer").queued, play.status("doer").lost) == (0, 3)
        assert play.book(play.yes).state is TrustState.LIVE
    assert play.status("doer").state == "gave_up"


async def test_a_healthy_life_ends_the_row(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy=SOON | {"gives_up_after": 2, "healthy_seconds": 10}) as play:
        for _ in range(4):
            await tell(play, "doer", Do("crash"))
            await play.settle(11)
        assert play.status("doer").state == "running"


async def test_it_can_say_itself_that_it_is_healthy(autojump_clock: MockClock) -> None:
    class Healthy(Doer):
        async def handle(self, do: Do) -> None:
            self.context.healthy()
            await super().handle(do)

    async with stage(Healthy, policy=SOON | {"gives_up_after": 1}) as play:
        for _ in range(4):
            await tell(play, "healthy", Do("crash"))
        assert play.status("healthy").state == "running"


async def test_a_temporary_actor_stays_down(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy={"restart": "temporary"}) as play:
        await tell(play, "doer", Do("crash"), Do("a"))
        await play.settle()
        status = play.status("doer")
        assert (status.state, status.incarnation, status.queued) == ("stopped", 1, 0)
        assert "ValueError: as told" in status.last_failure
        assert LOG == ["setup 1", "crash", "teardown"]
        (gave_up,) = [event for event in play.events if isinstance(event, ActorGaveUp)]
        assert (gave_up.path, gave_up.incarnation) == ("root/extensions/doer", 1)
        assert "as told" in gave_up.reason


@pytest.mark.parametrize("failing", ["setup", "__init__", "restore"])
async def test_a_start_that_fails_hurts_nobody(autojump_clock: MockClock, failing: str) -> None:
    def init(self: object) -> None:
        raise OSError(f"no {failing}")

    def restore(self: object, state: int) -> None:
        raise OSError(f"no {failing}")

    def snapshot(self: object) -> int:
        return 1

    async def setup(self: object, context: ActorContext) -> None:
        raise OSError(f"no {failing}")

    hook: object = {"__init__": init, "restore": restore, "setup": setup}[failing]
    hooks: dict[str, Any] = {failing: hook}
    if failing == "restore":
        hooks["snapshot"] = snapshot
    kind = type("Starts", (Doer,), hooks)
    async with stage(kind, policy=SOON | {"gives_up_after": 2}) as play:
        if failing == "restore":
            await tell(play, "starts", Do("a"), Do("crash"))
        await play.settle()
        status = play.status("starts")
        assert status.state == "gave_up"
        assert f"OSError: no {failing}" in status.last_failure
        assert play.book(play.yes).state is TrustState.LIVE


async def test_what_failed_first_is_the_reason(autojump_clock: MockClock) -> None:
    class Half:
        async def setup(self, context: ActorContext) -> None:
            raise OSError("no network")

        async def handle(self, do: Do) -> None: ...

        async def teardown(self) -> None:
            self.connection.close()  # type: ignore[attr-defined]

    async with stage(Half, policy=SOON) as play:
        await play.settle()
        assert "OSError: no network" in play.status("half").last_failure


async def test_a_hang_is_cancelled(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy=SOON | {"handle_seconds_max": 5}) as play:
        await tell(play, "doer", Do("hang"), Do("a"))
        await play.settle(4)
        assert play.status("doer").incarnation == 1
        await play.settle(1.5)
        assert LOG == ["setup 1", "hang", "teardown", "setup 2", "a"]
        failure = play.status("doer").last_failure
        said = r"HandlerTooSlow: handle took more than 5 s\) at test_extension.py:\d+$"
        assert re.search(said, failure)


async def test_where_it_hung_is_told_in_its_own_line(autojump_clock: MockClock) -> None:
    async def waits(do: Do) -> None:
        async with trio.open_nursery():
            await deeper()

    async def deeper() -> None:
        await trio.Event().wait()

    async with stage(waits, policy=SOON | {"handle_seconds_max": 5}) as play:
        await tell(play, "waits", Do("a"))
        await play.settle(6)
        line = deeper.__code__.co_firstlineno + 1
        assert f"test_extension.py:{line}" in play.status("waits").last_failure


async def test_a_setup_without_end_is_cancelled(autojump_clock: MockClock) -> None:
    class Endless(Doer):
        async def setup(self, context: ActorContext) -> None:
            await trio.sleep_forever()

    async with stage(Endless, policy=SOON | {"handle_seconds_max": 5}) as play:
        await play.settle(5.5)
        assert "HandlerTooSlow: setup took more than 5 s" in play.status("endless").last_failure


async def test_a_full_mailbox_can_mean_a_restart(autojump_clock: MockClock) -> None:
    policy = SOON | {"mailbox": 4, "overflow": "restart"}
    async with stage(Doer, policy=policy) as play:
        await tell(play, "doer", Do("sleep", 1))
        await tell(play, "doer", *(Do("x", number) for number in range(6)))
        await play.settle(2)
        await tell(play, "doer", Do("after"))
        assert LOG == ["setup 1", "sleep 1", "teardown", "setup 2", "x 5", "after"]
        failure = play.status("doer").last_failure
        assert "MailboxOverflow: more than 4 messages waited; everything was let go" in failure
        assert play.status("doer").lost == 5


async def test_a_gap_says_what_was_lost_to_who_takes_it(autojump_clock: MockClock) -> None:
    got: list[object] = []

    async def watch(message: Do | Gap) -> None:
        got.append(message)
        await trio.sleep(1)

    async with stage(watch, policy={"mailbox": 4, "overflow": "drop_oldest"}) as play:
        await tell(play, "watch", Do("x", 0))
        await tell(play, "watch", *(Do("x", number) for number in range(1, 20)))
        await play.settle(20)
    assert isinstance(got[1], Gap)
    assert got[1].feed is None
    assert got[-1] == Do("x", 19)
    assert play.status("watch").lost == 20 - (len(got) - 1)


async def test_an_actor_that_takes_no_gaps_gets_none(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy={"mailbox": 4, "overflow": "drop_oldest"}) as play:
        await tell(play, "doer", Do("sleep", 1), *(Do("x", number) for number in range(9)))
        await play.settle(2)
        assert play.status("doer").lost > 0
        assert LOG[-1] == "x 8"
        assert play.status("doer").incarnation == 1


# --- state --------------------------------------------------------------------------------


class Counter(Doer):
    def __init__(self) -> None:
        self.sum = 0

    async def handle(self, do: Do) -> None:
        await super().handle(do)
        self.sum += 1
        self.context.gauge("sum", self.sum)

    def snapshot(self) -> int:
        return self.sum

    def restore(self, state: int) -> None:
        if state >= 3:
            raise ValueError("three is too many")
        self.sum = state


async def test_state_outlives_a_crash(autojump_clock: MockClock) -> None:
    async with stage(Counter, policy=SOON) as play:
        await tell(play, "counter", Do("a"), Do("b"), Do("crash"))
        await tell(play, "counter", Do("c"))
        assert play.status("counter").metrics == {"sum": 3}


async def test_a_state_that_poisons_is_thrown_away(autojump_clock: MockClock) -> None:
    async with stage(Counter, policy=SOON) as play:
        await tell(play, "counter", Do("a"), Do("b"), Do("c"), Do("crash"))
        await play.settle()
        status = play.status("counter")
        assert (status.state, status.incarnation) == ("running", 5)
        await tell(play, "counter", Do("d"))
        assert play.status("counter").metrics == {"sum": 1}


async def test_an_actor_without_hooks_begins_with_nothing(autojump_clock: MockClock) -> None:
    class Forgets(Doer):
        seen = 0

        async def handle(self, do: Do) -> None:
            self.seen += 1
            self.context.gauge("seen", self.seen)
            await super().handle(do)

    async with stage(Forgets, policy=SOON) as play:
        await tell(play, "forgets", Do("a"), Do("b"), Do("crash"), Do("c"))
        assert play.status("forgets").metrics == {"seen": 1}


# --- what it is given ---------------------------------------------------------------------


async def test_the_context_knows_who_and_when(autojump_clock: MockClock) -> None:
    seen: list[tuple[str, int, bool, int]] = []

    class Looks(Doer):
        async def setup(self, context: ActorContext) -> None:
            await super().setup(context)
            had = context.last_exit is not None
            seen.append((context.name, context.incarnation, had, context.time_ns))

    async with stage(Looks, policy=SOON) as play:
        await tell(play, "looks", Do("crash"))
        assert [one[:3] for one in seen] == [("looks", 1, False), ("looks", 2, True)]
        assert seen[0][3] < seen[1][3] <= play.service.env.clock_ns()


async def test_actors_send_to_one_another(autojump_clock: MockClock) -> None:
    errors: list[str] = []

    async def front(update: BookUpdated, context: ActorContext) -> None:
        await context.send("doer", Do("hello"))
        for to, message in (("nobody", Do("x")), ("doer", update), ("doer", "text")):
            try:
                await context.send(to, message)
            except (LookupError, TypeError) as error:
                errors.append(f"{type(error).__name__}: {error.args[0]}")

    async with stage(front, Doer) as play:
        await play.settle()
        assert "hello" in LOG
        assert errors[:3] == [
            "LookupError: there is no actor 'nobody'; there are front, doer",
            "TypeError: the actor doer takes Do, not BookUpdated",
            "TypeError: the actor doer takes Do, not str",
        ]


async def test_a_subclass_of_what_is_taken_may_be_sent(autojump_clock: MockClock) -> None:
    class More(Do):
        pass

    async with stage(Doer) as play:
        await tell(play, "doer", More("more"))
        assert LOG[-1] == "more"


async def test_two_actors_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two actors have the name 'doer'"):
        async with stage(Doer, Doer):
            pass


async def test_one_class_can_be_two_actors(autojump_clock: MockClock) -> None:
    async with stage(Doer, actor_spec(Doer, name="other")) as play:
        await tell(play, "other", Do("a"))
        assert play.status("other").handled == 1
        assert play.status("doer").handled == 0


class Publisher:
    """Publishes what it is told, and keeps what that raised."""

    errors: list[str] = []  # noqa: RUF012 - a test clears it

    async def handle(self, do: Do, context: ActorContext) -> None:
        try:
            await context.publish(do.what, **do.value)
        except (ValueError, TypeError) as error:
            self.errors.append(f"{type(error).__name__}: {error}")


async def published(play: Stage, what: str, **data: object) -> Any:
    Publisher.errors.clear()
    play.events.clear()
    await tell(play, "publisher", Do(what, data))
    if Publisher.errors:
        return Publisher.errors[0]
    (event,) = play.published
    return event


async def test_what_is_published_is_in_the_stream_as_json_has_it(
    autojump_clock: MockClock,
) -> None:
    async with stage(Publisher) as play:
        inner = [1, 2]
        event = await published(
            play,
            "said",
            price=Decimal("0.10"),
            deep={"a": inner},
            none=None,
            big=2**63,
            nan=math.nan,
        )
        inner.append(3)
        assert event == ActorEvent(
            time_ns=event.time_ns,
            actor="publisher",
            name="said",
            data={"price": "0.10", "deep": {"a": [1, 2]}, "none": None, "big": 2**63, "nan": None},
        )
        line = json.loads(to_json(event))
        assert (line["type"], line["data"]["price"]) == ("actor_event", "0.10")
        assert play.status("publisher").published == 1


async def test_what_cannot_be_published_is_refused(autojump_clock: MockClock) -> None:
    loop: list[object] = []
    loop.append(loop)
    async with stage(Publisher) as play:
        for what in ("Said", "", "a b", "a" * 65, "ä"):
            assert "is no name: up to 64 lower-case" in await published(play, what)
        assert (await published(play, "x", thing=object())).startswith("TypeError")
        assert (await published(play, "x", huge=10**5000)).startswith("ValueError")
        assert (await published(play, "x", loop=loop)).startswith("ValueError: JSON cannot")
        assert (await published(play, "x", text="\ud800")).startswith("UnicodeEncodeError")
        full = "x" * (hands.DATA_BYTES_MAX - len('{"text":""}'))
        assert isinstance(await published(play, "x", text=full), ActorEvent)
        assert await published(play, "x", text=full + "x") == (
            "ValueError: an event holds at most 65536 bytes, not 65537"
        )
        assert play.status("publisher").incarnation == 1


async def test_a_flood_of_events_waits(autojump_clock: MockClock) -> None:
    async def flood(_: Do, context: ActorContext) -> None:
        for _number in range(5 * hands.EVENTS_PER_SECOND):
            await context.publish("again")

    async with stage(flood) as play:
        began = trio.current_time()
        await tell(play, "flood", Do("go"))
        assert play.status("flood").published <= 1.2 * hands.EVENTS_PER_SECOND
        while play.status("flood").handled == 0:
            await play.settle(0.1)
        assert 3.9 <= trio.current_time() - began <= 5
        await play.settle()
        assert len(play.published) == 5 * hands.EVENTS_PER_SECOND


async def test_events_of_others_can_be_taken(autojump_clock: MockClock) -> None:
    got: list[str] = []

    async def listen(event: ActorEvent, context: ActorContext) -> None:
        got.append(f"{event.actor} {event.name}")
        await context.publish("heard")

    async with stage(listen, Publisher) as play:
        await tell(play, "publisher", Do("said", {}))
        await play.settle()
        assert got == ["publisher said"]


async def test_metrics_are_counted_over_restarts(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy=SOON) as play:
        await tell(play, "doer", Do("count", 2), Do("crash"), Do("count", 0.5), Do("gauge", -1))
        assert play.status("doer").metrics == {"told": 2.5, "measured": -1}


WRONG_NUMBERS = [math.nan, math.inf, 10**400, "many", None, 1j]


@pytest.mark.parametrize("value", WRONG_NUMBERS, ids=lambda value: str(value)[:10])
async def test_what_is_no_number_is_no_metric(autojump_clock: MockClock, value: object) -> None:
    async with stage(Doer, policy=SOON) as play:
        await tell(play, "doer", Do("gauge", value))
        assert "measured must be a finite number, not" in play.status("doer").last_failure
        assert play.status("doer").metrics == {}


async def test_the_number_and_the_names_of_metrics_are_bounded(autojump_clock: MockClock) -> None:
    errors: list[str] = []

    async def counts(_: Do, context: ActorContext) -> None:
        for number in range(hands.METRICS_MAX):
            context.count(f"m{number}")
        context.count("m0")
        for name in ("one_more", "Wrong", ""):
            try:
                context.count(name)
            except ValueError as error:
                errors.append(str(error))

    async with stage(counts) as play:
        await tell(play, "counts", Do("go"))
        assert len(play.status("counts").metrics) == hands.METRICS_MAX
        assert play.status("counts").metrics["m0"] == 2
        assert errors[0] == "an actor has at most 64 metrics: 'one_more' is too many"
        assert len(errors) == 3


async def test_what_is_shown_is_bounded(autojump_clock: MockClock) -> None:
    async def shows(do: Do, context: ActorContext) -> None:
        context.show(*do.value)

    async with stage(shows) as play:
        await tell(play, "shows", Do("show", ["x" * 1000] * 20))
        lines = play.status("shows").lines
        assert lines == ("x" * hands.LINE_CHARS_MAX,) * hands.LINES_MAX
        await tell(play, "shows", Do("show", []))
        assert play.status("shows").lines == ()


async def test_a_task_beside_the_handler_fails_with_it(autojump_clock: MockClock) -> None:
    class Beside(Doer):
        async def setup(self, context: ActorContext) -> None:
            await super().setup(context)
            context.start_soon(self.beside, context.incarnation)

        async def beside(self, incarnation: int) -> None:
            try:
                await trio.sleep(1 if incarnation == 1 else math.inf)
                raise RuntimeError("beside")
            finally:
                LOG.append(f"ended {incarnation}")

    async with stage(Beside, policy=SOON) as play:
        await play.settle(1.1)
        status = play.status("beside")
        assert status.incarnation == 2
        assert status.last_failure.startswith("crash (RuntimeError: beside) at test_extension.py:")
    assert LOG == ["setup 1", "ended 1", "teardown", "setup 2", "teardown", "ended 2"]


async def test_a_handler_may_fail_in_a_nursery_of_its_own(autojump_clock: MockClock) -> None:
    async def fails() -> None:
        raise KeyError("inner")

    async def nests(_: Do) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            nursery.start_soon(fails)

    async with stage(nests, policy=SOON) as play:
        await tell(play, "nests", Do("go"))
        status = play.status("nests")
        assert status.incarnation == 2
        assert "KeyError: 'inner'; KeyError: 'inner'" in status.last_failure


async def test_a_cancellation_from_outside_is_not_swallowed(autojump_clock: MockClock) -> None:
    """The teardown fails, and so does a task beside, while the whole service is cancelled."""

    class Stubborn(Doer):
        async def setup(self, context: ActorContext) -> None:
            await super().setup(context)
            context.start_soon(self.beside)

        async def beside(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise RuntimeError("beside")

        async def teardown(self) -> None:
            raise RuntimeError("teardown")

    with trio.CancelScope() as scope:
        async with stage(Stubborn) as play:
            await tell(play, "stubborn", Do("hang"))
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_group_that_holds_a_cancellation_passes_as_it_is() -> None:
    found: list[trio.Cancelled] = []

    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            found.append(cancelled)
            raise
    alone = BaseExceptionGroup("", [BaseExceptionGroup("", found)])
    mixed = BaseExceptionGroup("", [*found, ValueError()])
    assert sole(alone) is found[0]
    assert sole(mixed) is mixed


# --- raw frames ---------------------------------------------------------------------------


async def test_raw_frames_come_as_the_exchange_sent_them(autojump_clock: MockClock) -> None:
    frames: list[RawFrame] = []

    async def record(batch: list[RawFrame]) -> None:
        frames.extend(batch)

    async with stage(record) as play:
        play.quote(play.yes, "0.40", "0.42")
        await play.settle()
        assert play.status("record").handled == len(frames)
        assert not any(isinstance(event, RawFrame) for event in play.events)
    assert {frame.feed for frame in frames} == {"feed-0"}
    texts = [str(frame.frame) for frame in frames]
    assert any(play.yes in text and '"price_change"' in text for text in texts)
    assert all(json.loads(text) for text in texts)
    assert [frame.time_ns for frame in frames] == sorted(frame.time_ns for frame in frames)


async def test_without_takers_no_frame_is_copied(autojump_clock: MockClock) -> None:
    async with stage(Doer) as play:
        assert not play.service.env.hub.wants_frames


async def test_frames_and_events_keep_their_order(autojump_clock: MockClock) -> None:
    """A frame is there before what came of it."""
    kinds: list[type] = []

    async def both(message: RawFrame | BookUpdated) -> None:
        kinds.append(type(message))

    async with stage(both) as play:
        await play.settle()
    assert kinds[0] is RawFrame
    assert BookUpdated in kinds


# --- seen from outside --------------------------------------------------------------------


async def test_the_summary_holds_what_json_can(autojump_clock: MockClock) -> None:
    async def shows(do: Do, context: ActorContext) -> None:
        context.gauge("decimal", Decimal("0.5"))  # type: ignore[arg-type]
        context.gauge("whole", 10**300)
        context.show("\x1b[31m[red]\ud800 line")

    async with stage(shows) as play:
        await tell(play, "shows", Do("go"))
        summary = json.loads(json.dumps(play.service.summary(), allow_nan=False))
    found = summary["actors"]["shows"]
    assert found["metrics"] == {"decimal": 0.5, "whole": 1e300}
    assert found["state"] == "running"
    assert found["takes"] == "Do"
    assert "name" not in found
    after = json.loads(json.dumps(play.service.summary(), allow_nan=False))["actors"]["shows"]
    assert (after["state"], after["handled"]) == ("stopped", 1)


async def test_without_actors_there_is_nothing_of_them(autojump_clock: MockClock) -> None:
    async with stage() as play:
        assert play.service.actor_statuses() == []
        assert "actors" not in play.service.summary()


async def test_how_long_it_held_the_loop_is_known(autojump_clock: MockClock) -> None:
    async with stage(Doer, policy=SOON) as play:
        await tell(play, "doer", Do("a"))
        first = play.status("doer")
        assert 0 < first.longest_held_seconds <= first.held_seconds
        await tell(play, "doer", Do("crash"), Do("b"))
        second = play.status("doer")
        assert second.incarnation == 2
        assert second.held_seconds > first.held_seconds


def test_a_service_outside_the_main_thread_has_actors_as_well() -> None:
    failures: list[BaseException] = []

    async def play_it() -> None:
        async with stage(Doer, policy=SOON) as play:
            await tell(play, "doer", Do("a"), Do("crash"), Do("b"))
            assert LOG == ["setup 1", "a", "crash", "teardown", "setup 2", "b"]

    def run() -> None:
        try:
            trio.run(play_it, clock=MockClock(autojump_threshold=0))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert failures == []


async def test_a_service_starts_with_limits_of_every_size(autojump_clock: MockClock) -> None:
    policy: dict[str, object] = {
        "mailbox": 2,
        "backoff_seconds_min": 0,
        "backoff_seconds_max": 0,
        "gives_up_after": 0,
        "healthy_seconds": math.inf,
        "handle_seconds_max": math.inf,
        "hold_seconds_max": math.inf,
        "stop_seconds_max": 0.001,
    }
    async with stage(Doer, policy=policy) as play:
        await tell(play, "doer", Do("a"))
        assert LOG == ["setup 1", "a"]
        await tell(play, "doer", Do("crash"))
        assert play.status("doer").state == "gave_up"


async def test_what_is_no_actor_is_refused_before_anything_is_connected() -> None:
    with pytest.raises(UsageError, match="5 is neither a class nor an async function"):
        async with open_service(["1"], actors=[5]):
            pass


# --- the stage ----------------------------------------------------------------------------


async def test_a_failure_in_a_stage_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    with pytest.raises(ZeroDivisionError):
        async with stage(Doer):
            raise ZeroDivisionError
    with pytest.raises(pytest.skip.Exception):
        async with stage(Doer):
            pytest.skip("not today")


async def test_options_of_a_ready_spec_are_refused() -> None:
    @attrs.define
    class Tops:
        times: int = 1

        async def handle(self, do: Do) -> None: ...

    with pytest.raises(UsageError, match="a ready ActorSpec has its own options"):
        async with stage(actor_spec(Tops), options={"times": 3}):
            pass
