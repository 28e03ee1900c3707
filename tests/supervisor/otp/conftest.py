"""Puppets for the yardstick: actors whose every step a test decides, on virtual time.

Only the public API is used, and only what can be seen from outside is looked at.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    ChildSpec,
    ChildState,
    Context,
    Event,
    MailboxSpec,
    SupervisionError,
    Supervisor,
    SupervisorEscalation,
)


class Died(Exception):  # noqa: N818 - a fact about a puppet
    """How a puppet dies when it is told to."""


class Stage:
    """Makes puppets, runs a supervisor of them, and tells them what to do."""

    def __init__(self) -> None:
        self.starts: dict[str, list[str]] = {}
        """How a puppet's next incarnations start; the last word goes for all further ones."""
        self.heard: dict[str, list[tuple[int, str]]] = {}
        """The texts that a puppet received, each with the incarnation that did."""
        self.error: SupervisionError | None = None
        """What came out of ``run()``."""

    def spec(
        self,
        child_id: str,
        starts: str = "ready",
        *,
        stop_seconds: float = 0.0,
        last_words: Exception | None = None,
        value: object = None,
        **arguments: Any,
    ) -> ChildSpec[Any]:
        """Specify a puppet; further arguments are those of ``ChildSpec``.

        ``starts`` has a word for each incarnation: ready, fail, return, ignore or hang, as in
        ``"ready 2:fail"``, where 2 is after how many seconds. When it is asked to stop it takes
        ``stop_seconds`` and then raises ``last_words``, if any.
        """
        self.starts[child_id] = starts.split()
        self.heard[child_id] = []

        async def puppet(ctx: Context[Any]) -> None:
            words = self.starts[child_id]
            word = words.pop(0) if len(words) > 1 else words[0]
            seconds, _, act = word.rpartition(":")
            await trio.sleep(float(seconds or 0))
            if act == "fail":
                raise Died(f"{child_id} does not start")
            if act == "hang":
                await trio.sleep_forever()
            if act == "ignore":
                ctx.ignore()
            if act in ("ignore", "return"):
                return
            ctx.ready(value)
            async for order in ctx.inbox:
                if order is None:
                    return
                if isinstance(order, str):
                    self.heard[child_id].append((ctx.incarnation, order))
                elif isinstance(order, BaseException):
                    raise order
                elif isinstance(order, float):
                    await trio.sleep(order)
                else:
                    order(ctx)
            await trio.sleep(stop_seconds)
            if last_words is not None:
                raise last_words

        arguments.setdefault("mailbox", MailboxSpec())
        return ChildSpec(child_id, lambda: puppet, **arguments)

    @asynccontextmanager
    async def up(
        self, root: Supervisor, *, falls: bool = False
    ) -> AsyncGenerator[Supervisor, None]:
        """Run a supervisor, ready when entered and stopped when left.

        It must have ended without an error, or, with ``falls``, by escalation.
        """
        assert trio.current_time() < 10_000, "the test has not asked for autojump_clock"
        self._events = root.events.subscribe()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run, root)
            yield root
            root.stop()
        assert root.count().active == 0
        assert isinstance(self.error, SupervisorEscalation if falls else type(None)), self.error

    async def _run(self, root: Supervisor, task_status: trio.TaskStatus[None]) -> None:
        try:
            await root.run(task_status=task_status)
        except SupervisionError as error:
            self.error = error

    async def tell(self, supervisor: Supervisor, child_id: str, order: object) -> None:
        """Give a puppet an order and wait until all have done what follows at once.

        The order is an exception to raise, a float of seconds to sleep without listening, a
        text to remember, a function to call with the context, or ``None`` to return.
        """
        await supervisor.address(child_id).send(order)
        await self.settle()

    @staticmethod
    async def settle() -> None:
        """Wait until all have done what they can do without the clock."""
        await wait_all_tasks_blocked()

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and what is due at the very end of it happen."""
        await trio.sleep(seconds)
        await self.settle()

    async def crash(self, supervisor: Supervisor, *child_ids: str) -> None:
        """Let puppets die, one after the other."""
        for child_id in child_ids:
            await self.tell(supervisor, child_id, Died(f"{child_id} was told to"))

    async def finish(self, supervisor: Supervisor, *child_ids: str) -> None:
        """Let puppets return, one after the other."""
        for child_id in child_ids:
            await self.tell(supervisor, child_id, None)

    def events(self) -> list[Event]:
        """Take the events that came since they were last taken."""
        taken: list[Event] = []
        while True:
            try:
                taken.append(self._events.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return taken

    def story(self) -> list[str]:
        """Take them as lines ``path#incarnation kind``, those of mailboxes left out."""
        return [
            f"{event.path}#{event.incarnation} {event.kind}"
            for event in self.events()
            if event.kind not in ("lost_in_flight", "overflow")
        ]

    @staticmethod
    def states(supervisor: Supervisor) -> dict[str, str]:
        """Return the state of each child, in start order."""
        return {child.id: child.state.value for child in supervisor.children()}

    @staticmethod
    def lives(supervisor: Supervisor) -> dict[str, int]:
        """Return how often each child was started."""
        return {child.id: child.incarnation for child in supervisor.children()}

    @staticmethod
    def counts(supervisor: Supervisor) -> tuple[int, int, int, int]:
        """Return OTP's four numbers: specs, active, supervisors, workers."""
        counts = supervisor.count()
        return counts.specs, counts.active, counts.supervisors, counts.workers

    @staticmethod
    def is_down(supervisor: Supervisor) -> bool:
        """Say whether a supervisor has ended."""
        return supervisor.tree().state is ChildState.STOPPED


@pytest.fixture
def stage(autojump_clock: MockClock) -> Stage:
    """An empty stage; the test itself must ask for ``autojump_clock`` to run on it."""
    return Stage()
