"""SupervisionSpec of Pekko (typed): what follows a failure, for an actor and its messages.

Pekko's default is to stop; here a child that shall not restart is temporary. A failure never
resumes. What Pekko decides by exception type is here ``ChildSpec.expected`` and the intensity:
expected failures always restart, others as often as the intensity grants.
"""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from polysupervisor import (
    Backoff,
    ChildSpec,
    Context,
    EventKind,
    Intensity,
    MailboxSpec,
    Overflow,
    Restart,
    StartFailed,
    Supervisor,
    SupervisorEscalation,
)

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage


class Exc1(Exception):  # noqa: N818 - Pekko's names
    pass


class Exc2(Exc1):
    pass


class Exc3(Exception):  # noqa: N818
    pass


def give_up(limit: int, period: float = 60.0) -> Intensity:
    """At most ``limit`` restarts of each child, then that child stays down."""
    return Intensity(limit=limit, period=period, scope="child", on_exhausted="give_up")


QUICK = Backoff(min=0.01, max=0.01, jitter=0)
GROWING = Backoff(min=1, max=10, jitter=0, reset_after=10)
WITH_AND_WITHOUT = pytest.mark.parametrize("backoff", [None, QUICK], ids=["restart", "backoff"])


# Receive, stop, restart.


async def test_receive_message(stage: "Stage", autojump_clock: MockClock) -> None:
    """receive message; forward messages to the child."""
    async with stage.up(Supervisor("root", [stage.spec("a")])) as root:
        await stage.tell(root, "a", "ping")
        assert stage.heard["a"] == [(1, "ping")]


@pytest.mark.parametrize("error", [Exc1, Exc2, Exc3])
async def test_stop_when_not_supervised(
    error: Callable[[], Exception], stage: "Stage", autojump_clock: MockClock
) -> None:
    """default to stop when no strategy; stop when strategy is stop; stop when not supervised."""
    spec = stage.spec("a", restart=Restart.TEMPORARY)
    async with stage.up(Supervisor("root", [spec, stage.spec("b")])) as root:
        address = root.address("a")
        await stage.tell(root, "a", error())
        assert stage.states(root) == {"b": "running"}
        with pytest.raises(trio.BrokenResourceError):
            address.send_nowait("ping")


async def test_stop_when_unhandled_exception(stage: "Stage", autojump_clock: MockClock) -> None:
    """stop when unhandled exception: it is not among the expected ones, and nothing is granted."""
    spec = stage.spec("a", expected=(Exc1,))
    async with stage.up(Supervisor("root", [spec], intensity=give_up(0))) as root:
        await stage.tell(root, "a", Exc3())
        assert stage.states(root) == {"a": "gave_up"}


async def test_restart_when_handled_exception(stage: "Stage", autojump_clock: MockClock) -> None:
    """restart when handled exception (and its subclasses): with fresh state."""

    async def counter(ctx: Context[Any]) -> None:
        count = 0
        async for order in ctx.inbox:
            if isinstance(order, Exception):
                raise order
            count += 1
            seen.append(count)

    seen: list[int] = []
    spec = ChildSpec[Any]("a", lambda: counter, expected=(Exc1,), mailbox=MailboxSpec())
    async with stage.up(Supervisor("root", [spec], intensity=give_up(0))) as root:
        for order in ("increment", "increment", Exc2(), "increment"):
            await stage.tell(root, "a", order)
        assert seen == [1, 2, 1]


@pytest.mark.parametrize("inner", [None, QUICK])
@pytest.mark.parametrize("first", [OSError, ValueError])
async def test_both_kinds_of_failure_restart(
    first: type[Exception], inner: Backoff | None, stage: "Stage", autojump_clock: MockClock
) -> None:
    """support nesting/flattening exceptions with different (restart, backoff) strategies."""
    spec = stage.spec("a", expected=(OSError,), backoff=inner)
    async with stage.up(Supervisor("root", [spec], intensity=give_up(1))) as root:
        for number, error in enumerate((first, ValueError if first is OSError else OSError), 2):
            await stage.tell(root, "a", error())
            await stage.sleep(1)
            await stage.tell(root, "a", "ping")
            assert stage.heard["a"][-1] == (number, "ping")


async def test_different_exceptions_are_treated_differently(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """support nesting to handle different exceptions; apply the right nested supervision."""
    spec = stage.spec("a", expected=(Exc2,))
    async with stage.up(Supervisor("root", [spec], intensity=give_up(1))) as root:
        for _ in range(5):
            await stage.tell(root, "a", Exc2())  # always
        await stage.tell(root, "a", Exc3())  # once
        assert stage.states(root) == {"a": "running"}
        await stage.tell(root, "a", Exc1())
        assert stage.states(root) == {"a": "gave_up"}


async def test_message_of_an_unknown_type(stage: "Stage", autojump_clock: MockClock) -> None:
    """handle exceptions from different message type: it is a failure like any other."""
    async with stage.up(Supervisor("root", [stage.spec("a")])) as root:
        await stage.tell(root, "a", object())  # which is not callable
        await stage.tell(root, "a", "ping")
        assert stage.heard["a"] == [(2, "ping")]


async def test_not_catch_fatal_error(stage: "Stage", autojump_clock: MockClock) -> None:
    """not catch fatal error: what no supervisor may handle comes out, after an ordered stop."""

    async def fatal(ctx: Context[Any]) -> None:
        ctx.ready()
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(1)

    root = Supervisor("root", [stage.spec("a"), ChildSpec("b", lambda: fatal)])
    with pytest.raises(KeyboardInterrupt):
        await root.run()
    assert stage.states(root) == {"a": "stopped", "b": "stopped"}
    assert stage.lives(root) == {"a": 1, "b": 1}


# Limits.


async def test_stop_after_restart_retries_limit(stage: "Stage", autojump_clock: MockClock) -> None:
    """stop after restart retries limit; stop when restart limit is hit."""
    async with stage.up(Supervisor("root", [stage.spec("a")], intensity=give_up(2))) as root:
        await stage.crash(root, "a", "a")
        assert stage.states(root) == {"a": "running"}
        await stage.crash(root, "a")
        assert stage.states(root) == {"a": "gave_up"}
        assert stage.story()[-1] == "root/a#3 gave_up"


async def test_reset_retry_limit_after_within_time_range(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """reset retry limit after withinTimeRange; reset fixed limit after timeout."""
    async with stage.up(Supervisor("root", [stage.spec("a")], intensity=give_up(2, 2))) as root:
        for _ in range(2):
            await stage.crash(root, "a", "a")
            assert stage.states(root) == {"a": "running"}
            await stage.sleep(2.1)
        await stage.crash(root, "a", "a", "a")
        assert stage.states(root) == {"a": "gave_up"}


async def test_stop_at_first_exception_when_restart_retries_limit_is_0(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """stop at first exception when restart retries limit is 0."""
    async with stage.up(Supervisor("root", [stage.spec("a")], intensity=give_up(0))) as root:
        await stage.crash(root, "a")
        assert stage.states(root) == {"a": "gave_up"}


# What an actor has started itself goes with it.


class Parent:
    """An actor with tasks of its own, which take their time to end."""

    def __init__(self, helper_seconds: float = 3.0, fails: tuple[int, ...] = ()) -> None:
        self.told: list[str] = []
        self._helper_seconds = helper_seconds
        self._fails = fails

    async def helper(self, number: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self._helper_seconds)
            self.told.append(f"helper of {number} ended")

    async def run(self, ctx: Context[Any]) -> None:
        async with ctx.open_nursery() as nursery:
            nursery.start_soon(self.helper, ctx.incarnation)
            await trio.sleep(0.1)
            if ctx.incarnation in self._fails:
                raise Exc1("in set-up")
            self.told.append(f"start {ctx.incarnation}")
            async for order in ctx.inbox:
                if isinstance(order, Exception):
                    raise order
                self.told.append(f"{order} to {ctx.incarnation}")
            nursery.cancel_scope.cancel()

    def spec(self, backoff: Backoff | None = None) -> ChildSpec[Any]:
        return ChildSpec("parent", lambda: self.run, backoff=backoff, mailbox=MailboxSpec())


@WITH_AND_WITHOUT
async def test_stop_children_when_restarting(
    backoff: Backoff | None, stage: "Stage", autojump_clock: MockClock
) -> None:
    """stop children when restarting / when backoff: the restart waits for their end.

    A message that came meanwhile is for the next incarnation.
    """
    parent = Parent()
    async with stage.up(Supervisor("root", [parent.spec(backoff)])) as root:
        await stage.tell(root, "parent", Exc1())
        await root.address("parent").send("hello")
        await stage.sleep(2)
        assert parent.told == ["start 1"]
        await stage.sleep(2)
        assert parent.told == ["start 1", "helper of 1 ended", "start 2", "hello to 2"]


@WITH_AND_WITHOUT
async def test_stop_children_when_restarting_second_time_during_unstash(
    backoff: Backoff | None, stage: "Stage", autojump_clock: MockClock
) -> None:
    """stop children when restarting (backoff) second time during unstash."""
    parent = Parent()
    async with stage.up(Supervisor("root", [parent.spec(backoff)])) as root:
        for order in (Exc1(), "one", Exc1(), "two"):
            root.address("parent").send_nowait(order)
        await stage.sleep(10)
        assert parent.told == [
            "start 1",
            "helper of 1 ended",
            "start 2",
            "one to 2",
            "helper of 2 ended",
            "start 3",
            "two to 3",
        ]


async def test_stop_children_from_exception_in_first_setup(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """stop children when restart (backoff) from exception in first setup.

    OTP's rule holds: the first start is not retried; but nothing is left running.
    """
    parent = Parent(fails=(1,))
    with pytest.raises(StartFailed, match="in set-up"):
        await Supervisor("root", [parent.spec()]).run()
    assert parent.told == ["helper of 1 ended"]


@WITH_AND_WITHOUT
async def test_stop_children_from_exception_in_later_setup(
    backoff: Backoff | None, stage: "Stage", autojump_clock: MockClock
) -> None:
    """stop children when restart (with limit) / backoff from exception in later setup."""
    parent = Parent(fails=(2, 3))
    async with stage.up(Supervisor("root", [parent.spec(backoff)])) as root:
        await stage.tell(root, "parent", Exc1())
        await stage.sleep(20)
        assert parent.told == [
            "start 1",
            "helper of 1 ended",
            "helper of 2 ended",
            "helper of 3 ended",
            "start 4",
        ]


@WITH_AND_WITHOUT
async def test_not_stop_children_when_restarting(
    backoff: Backoff | None, stage: "Stage", autojump_clock: MockClock
) -> None:
    """optionally NOT stop children when restarting / backoff: make them siblings."""
    children = [stage.spec("parent", backoff=backoff), stage.spec("child")]
    async with stage.up(Supervisor("root", children)) as root:
        await stage.crash(root, "parent")
        await stage.sleep(1)
        assert stage.lives(root) == {"parent": 2, "child": 1}


async def test_failure_of_a_task_of_the_actor(stage: "Stage", autojump_clock: MockClock) -> None:
    """apply supervision to adapter function: an error in a task of its own is the actor's."""

    async def boom() -> None:
        raise Exc1("in the background")

    async def actor(ctx: Context[Any]) -> None:
        async with ctx.open_nursery() as nursery:
            async for order in ctx.inbox:
                if order == "boom":
                    nursery.start_soon(boom)
                else:
                    heard.append((ctx.incarnation, order))
            nursery.cancel_scope.cancel()

    heard: list[tuple[int, str]] = []
    spec = ChildSpec[Any]("a", lambda: actor, mailbox=MailboxSpec(), expected=(Exc1,))
    async with stage.up(Supervisor("root", [spec], intensity=give_up(0))) as root:
        await stage.tell(root, "a", "boom")
        await stage.tell(root, "a", "ping")
        assert heard == [(2, "ping")]


async def test_recover_from_a_death_pact(stage: "Stage", autojump_clock: MockClock) -> None:
    """be able to recover from a DeathPactException: a link's failure is a failure like others."""
    async with stage.up(Supervisor("root", [stage.spec("a"), stage.spec("b")])) as root:

        def link(ctx: Context[Any]) -> None:
            ctx.link(root.address("b"))

        await stage.tell(root, "a", link)
        await stage.crash(root, "b")
        exits = [event for event in stage.events() if event.kind == "exited"]
        reasons = {event.path: event.reason.types for event in exits if event.reason}
        assert reasons == {"root/b": ("Died",), "root/a": ("LinkedExit",)}
        await stage.tell(root, "a", "ping")
        assert stage.heard["a"] == [(2, "ping")]


async def test_watched_child_that_ended_during_the_restart(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """stop children when restarting (the watched one); restart after stopping watched children.

    A monitor ends with its incarnation; the next one asks anew, and hears of the end exactly once.
    """

    async def watcher(ctx: Context[Any]) -> None:
        monitor = ctx.monitor(root.address("b"))
        ctx.ready()
        if ctx.incarnation == 1:
            raise Exc1
        async for fact in monitor:
            heard.append((ctx.incarnation, type(fact).__name__))  # noqa: PERF401 - as they come

    heard: list[tuple[int, str]] = []
    spec = ChildSpec[Any]("a", lambda: watcher, backoff=Backoff(min=5, max=5, jitter=0))
    root = Supervisor("root", [stage.spec("b", restart=Restart.TRANSIENT), spec])
    async with stage.up(root):
        await stage.sleep(1)
        await stage.finish(root, "b")
        await stage.sleep(10)
        assert heard == [(2, "Down")]


# Messages while it is down.


async def test_publish_dropped_messages_while_backing_off_and_stash_is_full(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """publish dropped messages while backing off and stash is full."""
    mailbox = MailboxSpec(size=2, overflow=Overflow.DROP_NEWEST)
    backoff = Backoff(min=1, max=1, jitter=0)
    async with stage.up(
        Supervisor("root", [stage.spec("a", mailbox=mailbox, backoff=backoff)])
    ) as root:
        await stage.crash(root, "a")
        for number in "1234":
            await root.address("a").send(number)
        await stage.sleep(1.5)
        assert stage.heard["a"] == [(2, "1"), (2, "2")]
        assert root.address("a").stats().dropped == 2
        assert [event.kind for event in stage.events()].count(EventKind.OVERFLOW) == 1


async def test_message_in_hand_is_not_tried_again(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """At most once, as in Pekko: the message that failed is lost, and counted."""
    async with stage.up(Supervisor("root", [stage.spec("a")])) as root:
        await stage.crash(root, "a")
        assert stage.lives(root) == {"a": 2}
        assert root.address("a").stats().lost_in_flight == 1


@WITH_AND_WITHOUT
async def test_message_retention_when_it_fails_again(
    backoff: Backoff | None, stage: "Stage", autojump_clock: MockClock
) -> None:
    """ensure unhandled message retention during unstash exception when restart / backoff."""
    async with stage.up(Supervisor("root", [stage.spec("a", backoff=backoff)])) as root:
        for order in (Exc1(), Exc1(), "1", "2"):
            root.address("a").send_nowait(order)
        await stage.sleep(1)
        assert stage.heard["a"] == [(3, "1"), (3, "2")]


@WITH_AND_WITHOUT
async def test_message_retention_when_it_does_not_start(
    backoff: Backoff | None, stage: "Stage", autojump_clock: MockClock
) -> None:
    """ensure stash message retention on start exception when restart / backoff."""
    spec = stage.spec("a", "ready fail fail ready", backoff=backoff)
    async with stage.up(Supervisor("root", [spec])) as root:
        for order in (Exc1(), "1", "2"):
            root.address("a").send_nowait(order)
        await stage.sleep(1)
        assert stage.heard["a"] == [(4, "1"), (4, "2")]


# Backoff.


def delays(stage: "Stage") -> list[tuple[float | None, int | None]]:
    """The delay and the number of each restart that was decided."""
    events = stage.events()
    return [(event.delay, event.attempt) for event in events if event.kind == "restart_scheduled"]


async def test_restart_after_exponential_backoff(stage: "Stage", autojump_clock: MockClock) -> None:
    """restart after exponential backoff: not a moment before."""
    async with stage.up(Supervisor("root", [stage.spec("a", backoff=GROWING)])) as root:
        for number, seconds in ((2, 1), (3, 2), (4, 4)):
            await stage.crash(root, "a")
            await stage.sleep(seconds - 0.001)
            assert stage.states(root) == {"a": "restarting"}
            await stage.sleep(0.002)
            assert (stage.states(root), stage.lives(root)) == ({"a": "running"}, {"a": number})


async def test_fail_if_reaching_maximum_number_of_restarts_with_backoff(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """fail if reaching maximum number of restarts with backoff."""
    backoff = Backoff(min=0.2, max=10, jitter=0, reset_after=10, max_attempts=2)
    root = Supervisor("root", [stage.spec("a", "ready fail", backoff=backoff)])
    async with stage.up(root, falls=True):
        await stage.crash(root, "a")
        await stage.sleep(3)
        assert stage.is_down(root)
    story = stage.story()
    assert [sum(kind in line for line in story) for kind in ("exited", "start_failed")] == [1, 2]


async def test_reset_exponential_backoff_count_after_reset_timeout(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """reset exponential backoff count after reset timeout."""
    backoff = Backoff(min=1, max=10, jitter=0, reset_after=0.1)
    async with stage.up(Supervisor("root", [stage.spec("a", backoff=backoff)])) as root:
        await stage.crash(root, "a")
        await stage.sleep(1 + 0.2)
        await stage.crash(root, "a")
        await stage.sleep(1.05)  # ready for 0.05 s only
        await stage.crash(root, "a")
    assert delays(stage) == [(1, 1), (1, 1), (2, 2)]


async def test_reset_backoff_count_of_more_than_one(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """handle reset backoff count for more than one nested restartWithBackoff: each has its own."""
    children = [
        stage.spec(child, backoff=Backoff(min=0.02, max=10, jitter=0, reset_after=seconds))
        for child, seconds in (("a", 0.9), ("b", 1.1))
    ]
    async with stage.up(Supervisor("root", children, intensity=Intensity(limit=9))) as root:
        await stage.crash(root, "a", "b")
        await stage.sleep(1)
        assert [child.attempt for child in root.children()] == [0, 1]
        await stage.crash(root, "a", "b")
        await stage.sleep(1)
        assert stage.lives(root) == {"a": 3, "b": 3}
    assert delays(stage) == [(0.02, 1), (0.02, 1), (0.02, 1), (0.04, 2)]


async def test_attempts_are_numbered(stage: "Stage", autojump_clock: MockClock) -> None:
    """log at critical level after specified restartWithBackoff attempts; log exceptions.

    The log is the reader's: events tell how often in a row, and why.
    """
    backoff = Backoff(min=0.001, max=0.001, jitter=0, reset_after=2)
    root = Supervisor("root", [stage.spec("a", backoff=backoff)], intensity=Intensity(limit=9))
    reasons: list[str] = []
    attempts: list[int | None] = []
    async with stage.up(root):
        for seconds in (1, 1, 1, 1, 2.1, 1):
            await stage.tell(root, "a", Exc1("exc-1"))
            await stage.sleep(seconds)
    for event in stage.events():
        if event.kind == "exited":
            assert event.reason is not None
            reasons.append(event.reason.summary)
        elif event.kind == "restart_scheduled":
            attempts.append(event.attempt)
    assert attempts == [1, 2, 3, 4, 5, 1]
    assert len(reasons) == 6
    assert all("exc-1" in reason for reason in reasons)


# Starts.


async def test_create_underlying_deferred_behavior_immediately(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """create underlying deferred behavior immediately: at the start, not at the first message."""
    made: list[int] = []

    def factory() -> Any:
        made.append(1)
        return actor

    async def actor(ctx: Context[Any]) -> None:
        async for _ in ctx.inbox:
            pass

    root = Supervisor("root", [ChildSpec("a", factory, mailbox=MailboxSpec())])
    assert made == []
    async with stage.up(root):
        assert made == [1]


@WITH_AND_WITHOUT
@pytest.mark.parametrize("start", ["fail", "return"])
async def test_fail_instead_of_restart_at_the_first_start(
    start: str, backoff: Backoff | None, stage: "Stage", autojump_clock: MockClock
) -> None:
    """fail (instead of / to restart, to resume) when deferred factory or constructor throws.

    Also where Pekko would retry the first start (backoff, withLimit): OTP's rule holds.
    """
    root = Supervisor("root", [stage.spec("a", f"{start} ready", backoff=backoff)])
    with pytest.raises(StartFailed):
        await root.run()
    assert stage.lives(root) == {"a": 1}


async def test_restart_with_exponential_backoff_when_the_start_fails(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """restart with exponential backoff / withLimit when deferred factory throws (at a restart)."""
    spec = stage.spec("a", "ready fail fail ready", backoff=GROWING)
    async with stage.up(Supervisor("root", [spec])) as root:
        await stage.crash(root, "a")
        await stage.sleep(1 + 2 + 4 + 0.1)
        assert stage.lives(root) == {"a": 4}
        assert stage.states(root) == {"a": "running"}
    assert delays(stage) == [(1, 1), (2, 2), (4, 3)]


async def test_fail_after_more_than_limit_when_the_start_fails(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """fail after more than limit in restart.withLimit when deferred factory throws."""
    root = Supervisor("root", [stage.spec("a", "ready fail")], intensity=give_up(2, 1))
    async with stage.up(root):
        await stage.crash(root, "a")
        assert (stage.states(root), stage.lives(root)) == ({"a": "gave_up"}, {"a": 3})


async def test_nested_supervisions_and_defers(stage: "Stage", autojump_clock: MockClock) -> None:
    """work with nested (flatten) supervisions and defers."""
    worker = stage.spec("worker")
    inner = ChildSpec[Any]("inner", lambda: Supervisor("s", [worker], intensity=give_up(3, 1)))
    async with stage.up(Supervisor("root", [inner], intensity=give_up(3, 1))):
        assert "root/inner/worker#1 started" in stage.story()


async def test_instance_is_not_reused(stage: "Stage", autojump_clock: MockClock) -> None:
    """not allow AbstractBehavior without setup: what one incarnation was cannot be the next."""
    instance = Supervisor("s", [stage.spec("w")], intensity=Intensity(limit=0))
    root = Supervisor("root", [ChildSpec("inner", lambda: instance)], intensity=give_up(1))
    async with stage.up(root):
        await stage.crash(instance, "w")
        assert stage.states(root) == {"inner": "gave_up"}
        failed = [event.reason for event in stage.events() if event.kind == "start_failed"]
        assert ["make a new supervisor" in reason.summary for reason in failed if reason] == [True]


# Actors that stop by themselves, under each strategy.

EACH_STRATEGY = pytest.mark.parametrize(
    ("backoff", "intensity"),
    [
        pytest.param(None, Intensity(), id="restart"),
        pytest.param(Backoff(min=0.001, max=0.1), Intensity(), id="backoff"),
        pytest.param(None, give_up(1, 0.1), id="withLimit"),
    ],
)


@EACH_STRATEGY
async def test_that_is_initially_stopped_should_be_stopped(
    backoff: Backoff | None, intensity: Intensity, stage: "Stage", autojump_clock: MockClock
) -> None:
    """that is initially stopped / stopped after setup should be stopped."""
    for starts in ("ignore", "ready"):
        spec = stage.spec("a", starts, restart=Restart.TRANSIENT, backoff=backoff)
        root = Supervisor("root", [spec], intensity=intensity)
        if starts == "ready":
            root.address("a").send_nowait(None)  # it returns as soon as it is ready
        async with stage.up(root):
            await stage.sleep(3)
            assert (stage.states(root), stage.lives(root)) == ({"a": "stopped"}, {"a": 1})


@EACH_STRATEGY
async def test_that_is_stopped_after_restart_should_be_stopped(
    backoff: Backoff | None, intensity: Intensity, stage: "Stage", autojump_clock: MockClock
) -> None:
    """that is stopped after restart should be stopped."""
    spec = stage.spec("a", restart=Restart.TRANSIENT, backoff=backoff)
    async with stage.up(Supervisor("root", [spec], intensity=intensity)) as root:
        await stage.crash(root, "a")
        root.address("a").send_nowait(None)
        await stage.sleep(3)
        assert (stage.states(root), stage.lives(root)) == ({"a": "stopped"}, {"a": 2})


async def test_failure_climbs_one_level_at_a_time(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """A child's failure that is not handled fails its supervisor, whose parent may handle it."""
    made: list[Supervisor] = []

    def factory() -> Supervisor:
        made.append(Supervisor("s", [stage.spec("w")], intensity=Intensity(limit=0)))
        return made[-1]

    spec = ChildSpec[Any]("inner", factory, expected=(SupervisorEscalation,))
    async with stage.up(Supervisor("root", [spec], intensity=Intensity(limit=0))) as root:
        await stage.crash(made[0], "w")
        assert (stage.states(root), stage.lives(root)) == ({"inner": "running"}, {"inner": 2})
