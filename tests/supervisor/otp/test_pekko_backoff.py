"""BackoffSupervisorSpec and BackoffOnRestartSupervisorSpec of Pekko.

Pekko's backoff supervisor with its one child is here a child with a ``Backoff``.
"""

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock

from polysupervisor import (
    Backoff,
    ChildSpec,
    Context,
    Intensity,
    MailboxSpec,
    Restart,
    Shutdown,
    Supervisor,
)

if TYPE_CHECKING:
    from tests.supervisor.otp.conftest import Stage

    from polysupervisor import Reply

MINUTE = 60.0
DAY = 86_400.0
USUAL = Backoff(min=0.1, max=3, jitter=0)
LONG = Backoff(min=100, max=300, jitter=0)


@pytest.mark.parametrize("how", ["finish", "crash"])
async def test_start_child_again(how: str, stage: "Stage", autojump_clock: MockClock) -> None:
    """start child again when it stops; support custom / default stopping strategy.

    With it the count of restarts goes from 0 to 1.
    """
    async with stage.up(Supervisor("root", [stage.spec("c1", backoff=USUAL)])) as root:
        assert root.children()[0].attempt == 0
        await getattr(stage, how)(root, "c1")
        assert stage.states(root) == {"c1": "restarting"}
        await stage.sleep(0.1)
        assert (stage.states(root), stage.lives(root)) == ({"c1": "running"}, {"c1": 2})
        assert root.children()[0].attempt == 1


@pytest.mark.parametrize("how", ["finish", "crash"])
async def test_forward_messages_to_the_child(
    how: str, stage: "Stage", autojump_clock: MockClock
) -> None:
    """forward messages to the child: one address for all of its incarnations."""
    async with stage.up(Supervisor("root", [stage.spec("c1", backoff=USUAL)])) as root:
        address = root.address("c1")
        await address.send("hello")
        await getattr(stage, how)(root, "c1")
        await address.send("again")
        await stage.sleep(1)
        assert stage.heard["c1"] == [(1, "hello"), (2, "again")]


@pytest.mark.parametrize("how", ["finish", "crash"])
async def test_support_manual_reset(how: str, stage: "Stage", autojump_clock: MockClock) -> None:
    """support manual reset: the child says that it is well."""

    def well(ctx: Context[Any]) -> None:
        ctx.reset_backoff()

    async with stage.up(Supervisor("root", [stage.spec("c1", backoff=USUAL)])) as root:
        await getattr(stage, how)(root, "c1")
        await stage.sleep(1)
        assert root.children()[0].attempt == 1
        await stage.tell(root, "c1", well)
        assert root.children()[0].attempt == 0


async def test_no_reply_while_stopped(stage: "Stage", autojump_clock: MockClock) -> None:
    """not reply to sender if replyWhileStopped is NOT specified: who asks waits, to a bound.

    The question is in the mailbox: that the child is down is seen in children(), at once.
    """

    async def answers(ctx: Context[Any]) -> None:
        async for order in ctx.inbox:
            if isinstance(order, Exception):
                raise order
            order.send("here")

    def same(reply: "Reply[str]") -> object:
        return reply

    spec = ChildSpec[Any]("c1", lambda: answers, backoff=LONG, mailbox=MailboxSpec())
    async with stage.up(Supervisor("root", [spec])) as root:
        assert await root.address("c1").ask(same, timeout=1) == "here"
        await stage.crash(root, "c1")
        assert root.children()[0].attempt == 1
        assert stage.states(root) == {"c1": "restarting"}
        with pytest.raises(trio.TooSlowError):
            await root.address("c1").ask(same, timeout=1)
        assert root.address("c1").stats().depth == 1
        await stage.sleep(100)
        assert root.address("c1").stats().depth == 0
        assert stage.states(root) == {"c1": "running"}


@pytest.mark.parametrize(
    ("restarts", "least", "most", "seconds"),
    [
        (0, 0, 0, 0),
        (0, 5 * MINUTE, 7 * MINUTE, 5 * MINUTE),
        (2, 5, 7, 7),
        (2, 5, 7 * DAY, 20),
        (29, 5 * MINUTE, 10 * MINUTE, 10 * MINUTE),
        (29, 10_000 * DAY, 10_000 * DAY, 10_000 * DAY),
        (2**31 - 1, 10_000 * DAY, 10_000 * DAY, 10_000 * DAY),
    ],
)
def test_correctly_calculate_the_delay(
    restarts: int, least: float, most: float, seconds: float
) -> None:
    """correctly calculate the delay."""
    assert Backoff(min=least, max=most, jitter=0).delay(restarts, Random(1)) == seconds


@pytest.mark.parametrize("how", ["finish", "crash"])
async def test_stop_restarting_the_child_after_reaching_the_limit(
    how: str, stage: "Stage", autojump_clock: MockClock
) -> None:
    """stop restarting the child after reaching maxNrOfRetries limit (onStop, onFailure)."""
    backoff = Backoff(min=0.1, max=3, jitter=0, max_attempts=2)
    async with stage.up(
        Supervisor("root", [stage.spec("c1", backoff=backoff)]), falls=True
    ) as root:
        for restarts in (1, 2):
            await getattr(stage, how)(root, "c1")
            assert root.children()[0].attempt == restarts
            await stage.sleep(1)
            assert stage.lives(root) == {"c1": 1 + restarts}
        await getattr(stage, how)(root, "c1")
        assert stage.is_down(root)


async def test_final_stop(stage: "Stage", autojump_clock: MockClock) -> None:
    """stop restarting the child if final stop message received; terminate when child terminates.

    supervisor must not stop when final stop message has not been received: a significant child
    that fails comes back, and one that returns is the end.
    """
    spec = stage.spec("c1", backoff=USUAL, restart=Restart.TRANSIENT, significant=True)
    async with stage.up(Supervisor("root", [spec], auto_shutdown="any")) as root:
        await stage.crash(root, "c1")
        await stage.sleep(1)
        assert (stage.states(root), stage.is_down(root)) == ({"c1": "running"}, False)
        await stage.finish(root, "c1")
        assert stage.is_down(root)


# BackoffOnRestartSupervisorSpec


async def test_restart_the_child_with_an_exponential_back_off(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """restart the child with an exponential back off, and there is only one of it."""
    backoff = Backoff(min=0.2, max=10, jitter=0)
    root = Supervisor("root", [stage.spec("c1", backoff=backoff)], intensity=Intensity(limit=5))
    async with stage.up(root):
        for number, seconds in enumerate((0.2, 0.4, 0.8, 1.6), 2):
            began = trio.current_time()
            await stage.crash(root, "c1")
            await stage.sleep(seconds)
            started = [event for event in stage.events() if event.kind == "started"]
            assert started[-1].t == pytest.approx(began + seconds)
            assert stage.lives(root) == {"c1": number}
        await stage.tell(root, "c1", "testmsg")
        assert stage.heard["c1"] == [(5, "testmsg")]
        assert stage.counts(root) == (1, 1, 0, 1)


async def test_stop_on_exceptions_as_dictated(stage: "Stage", autojump_clock: MockClock) -> None:
    """stop on exceptions as dictated by the supervisor strategy: on those not expected."""
    spec = stage.spec("c1", backoff=USUAL, expected=(OSError,))
    async with stage.up(
        Supervisor("root", [spec], intensity=Intensity(limit=0)), falls=True
    ) as root:
        await stage.tell(root, "c1", OSError("normal"))
        await stage.sleep(1)
        assert stage.states(root) == {"c1": "running"}
        await stage.tell(root, "c1", ValueError("stopping"))
        assert stage.is_down(root)


async def test_accept_commands_while_child_is_terminating(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """accept commands while child is terminating: it is still the old one, and none is new."""

    async def slow_to_fail(ctx: Context[Any]) -> None:
        try:
            async for order in ctx.inbox:
                raise order
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)

    spec = ChildSpec[Any](
        "c1", lambda: slow_to_fail, mailbox=MailboxSpec(), shutdown=Shutdown(grace=0)
    )
    async with stage.up(Supervisor("root", [spec])) as root:
        await stage.crash(root, "c1")
        await stage.sleep(1)
        assert (stage.states(root), stage.lives(root)) == ({"c1": "running"}, {"c1": 1})
        assert root.children()[0].attempt == 0
        await root.start_child(stage.spec("other"))
        assert trio.current_time() == 1
        await stage.sleep(2.5)
        assert stage.lives(root) == {"c1": 2, "other": 1}


async def test_respect_max_nr_of_retries(stage: "Stage", autojump_clock: MockClock) -> None:
    """respect maxNrOfRetries property of OneForOneStrategy."""
    backoff = Backoff(min=0.2, max=10, jitter=0)
    intensity = Intensity(limit=5, period=30)
    async with stage.up(
        Supervisor("root", [stage.spec("c1", backoff=backoff)], intensity=intensity), falls=True
    ) as root:
        for _ in range(5):
            await stage.crash(root, "c1")
            await stage.sleep(4)
            assert stage.states(root) == {"c1": "running"}
        await stage.crash(root, "c1")
        assert stage.is_down(root)


async def test_respect_within_time_range(stage: "Stage", autojump_clock: MockClock) -> None:
    """respect withinTimeRange property of OneForOneStrategy."""
    backoff = Backoff(min=0.1, max=0.1, jitter=0)
    intensity = Intensity(limit=3, period=1)
    async with stage.up(
        Supervisor("root", [stage.spec("c1", backoff=backoff)], intensity=intensity), falls=True
    ) as root:
        for _ in range(3):
            await stage.crash(root, "c1")
            await stage.sleep(0.2)
        await stage.sleep(1)
        for _ in range(3):
            await stage.crash(root, "c1")
            await stage.sleep(0.2)
            assert stage.states(root) == {"c1": "running"}
        await stage.crash(root, "c1")
        assert stage.is_down(root)


async def test_keep_restarting_outside_of_within_time_range(
    stage: "Stage", autojump_clock: MockClock
) -> None:
    """keep restarting when failures happen outside of withinTimeRange."""
    backoff = Backoff(min=0.1, max=0.8, jitter=0)
    intensity = Intensity(limit=3, period=0.01)
    root = Supervisor("root", [stage.spec("c1", backoff=backoff)], intensity=intensity)
    async with stage.up(root):
        for _ in range(8):
            await stage.crash(root, "c1")
            await stage.sleep(1)
        assert (stage.states(root), stage.lives(root)) == ({"c1": "running"}, {"c1": 9})
