"""A kit to test own actors with: faults on purpose, virtual time, and waiting for an event.

::

    async def test_the_worker_comes_back(autojump_clock):
        plan = FaultPlan().crash("worker", at_message=3)
        root = Supervisor("root", plan.wrap(worker_spec))
        events = await run_virtual(root, scenario)
        assert [event.kind for event in events if event.path == "root/worker"] == [...]

Everything here is for tests: nothing of the runtime imports it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import trio

# Trio has no public way to repeat its scheduling; Hypothesis uses the same two names.
from trio._core import _run as trio_run  # pyright: ignore[reportPrivateUsage]
from trio.testing import MockClock

from polysupervisor._actor import Actor, run_actor
from polysupervisor._child import ChildSpec, Shutdown
from polysupervisor._context import Context
from polysupervisor._events import Event, EventBus, EventKind
from polysupervisor._inbox import Inbox
from polysupervisor._supervisor import Supervisor

M = TypeVar("M")

Body = Callable[[Context[Any]], Awaitable[None]]

EVENTS_MAX = 100_000
"""Events that ``run_virtual`` keeps; the oldest are dropped beyond it."""


class InjectedFault(Exception):  # noqa: N818 - a fault on purpose is no error
    """What an injected crash raises unless it is given an exception."""


@attrs.define
class _Faults:
    """What is planned for one child, and how far it has come."""

    crash_at_message: int | None = None
    crash_after: float = math.inf
    error: Exception = attrs.field(factory=lambda: InjectedFault("injected crash"))
    failing_starts: int = 0
    hang_at_message: int | None = None
    hangs: bool = False
    slow_stop: float = 0.0
    wedge: float = 0.0
    messages: int = 0

    def left(self) -> list[str]:
        """What has not struck."""
        planned = {
            "crash at a message": self.crash_at_message is not None,
            "crash after a time": self.crash_after < math.inf,
            "failing start": self.failing_starts > 0,
            "hang": self.hangs or self.hang_at_message is not None,
            "slow stop": self.slow_stop > 0,
            "wedge": self.wedge > 0,
        }
        return [name for name, is_left in planned.items() if is_left]


class FaultPlan:
    """Which child shall fail, and how. Each fault strikes once, ``fail_start`` as often as told.

    A child is named by its id, or by its path when ids repeat within the tree. Faults of one
    child add up. The methods return the plan, so that they can be chained. A plan is for one
    run, since it counts what it has done.
    """

    def __init__(self) -> None:
        self._faults: dict[str, _Faults] = {}

    def _of(self, child_id: str) -> _Faults:
        return self._faults.setdefault(child_id, _Faults())

    def crash(
        self,
        child_id: str,
        *,
        at_message: int | None = None,
        after: float | None = None,
        exc: Exception | None = None,
    ) -> FaultPlan:
        """Raise when message number ``at_message`` (from 1, over all incarnations) has been
        received, or ``after`` seconds of an incarnation's life.

        A crash at a message loses it in flight. ``exc`` is raised, ``InjectedFault`` by default.
        Raises ``ValueError`` unless exactly one of the two times is given.
        """
        if (at_message is None) == (after is None):
            raise ValueError("say when it shall crash: either at_message or after")
        faults = self._of(child_id)
        faults.crash_at_message = at_message
        faults.crash_after = math.inf if after is None else after
        if exc is not None:
            faults.error = exc
        return self

    def hang(self, child_id: str, *, at_message: int | None = None) -> FaultPlan:
        """Do nothing for ever: from the start of an incarnation, which is ready, or from when
        message number ``at_message`` was received. Requests to stop are not heard; a
        cancellation is."""
        faults = self._of(child_id)
        faults.hang_at_message = at_message
        faults.hangs = at_message is None
        return self

    def fail_start(self, child_id: str, times: int) -> FaultPlan:
        """Raise before being ready, in as many starts."""
        self._of(child_id).failing_starts = times
        return self

    def slow_stop(self, child_id: str, t: float) -> FaultPlan:
        """Take ``t`` seconds longer to end after a request to stop; a cancellation cuts it."""
        self._of(child_id).slow_stop = t
        return self

    def wedge(self, child_id: str, cpu_s: float) -> FaultPlan:
        """Resist a cancellation for ``cpu_s`` seconds, as a long computation would.

        The seconds are those of Trio's clock, and other tasks go on, so that virtual time
        serves; a child that really blocks the loop is for ``Watchdog`` and real time.
        """
        self._of(child_id).wedge = cpu_s
        return self

    def pending(self) -> list[str]:
        """Return what has not struck (yet), as lines ``child: fault``.

        Empty at the end of a test that planned only what could happen; a misspelt id stays.
        """
        return [
            f"{child}: {fault}" for child, each in self._faults.items() for fault in each.left()
        ]

    def wrap(self, *specs: ChildSpec[Any]) -> list[ChildSpec[Any]]:
        """Return specifications whose actors do as planned; also for ``start_child``.

        Supervisors that their factories return are installed into, see ``install``.
        """
        return [attrs.evolve(spec, factory=self._wrapped(spec)) for spec in specs]

    def install(self, root: Supervisor) -> Supervisor:
        """Plan the faults of a tree that is already built, before it runs; returns it.

        Reaches all children given in specifications, also those of nested supervisors, but
        not children that are added later by ``start_child``: these are for ``wrap``.
        """
        for child in root._machine.records():  # pyright: ignore[reportPrivateUsage]
            if isinstance(child.instance, Supervisor):
                self.install(child.instance)
            else:
                (child.spec,) = self.wrap(child.spec)
        return root

    def _wrapped(self, spec: ChildSpec[Any]) -> Callable[[], Any]:
        def factory() -> Any:
            made = spec.factory()
            if isinstance(made, Supervisor):
                return self.install(made)
            body = _function_of(made, spec.shutdown)

            async def run(ctx: Context[Any]) -> None:
                faults = self._faults.get(ctx.path) or self._faults.get(ctx.id)
                await _misbehave(body, ctx, faults)

            return run

        return factory


def _function_of(made: Body | Actor[Any], shutdown: Shutdown) -> Body:
    if not isinstance(made, Actor):
        return made
    actor: Actor[Any] = made  # pyright: ignore[reportUnknownVariableType] - it is Actor[Any]

    async def run(ctx: Context[Any]) -> None:
        await run_actor(actor, ctx, shutdown)

    return run


async def _misbehave(run: Body, ctx: Context[Any], faults: _Faults | None) -> None:
    if faults is None:
        await run(ctx)
        return
    if faults.failing_starts:
        faults.failing_starts -= 1
        raise InjectedFault("injected failure of a start")
    if faults.hangs:
        faults.hangs = False
        ctx.ready()
        run = _do_nothing
    inbox = ctx._inbox  # pyright: ignore[reportPrivateUsage]
    if inbox is not None:
        ctx._inbox = _FaultyInbox(inbox, faults)  # pyright: ignore[reportPrivateUsage]
    crash_after, faults.crash_after = faults.crash_after, math.inf
    with trio.move_on_after(crash_after) as crash:
        await _ending(run, ctx, faults)
    if crash.cancelled_caught:
        raise faults.error


async def _do_nothing(_: Context[Any]) -> None:
    await trio.sleep_forever()


async def _ending(run: Body, ctx: Context[Any], faults: _Faults) -> None:
    """Live, and then be slow to stop and hard to cancel."""
    try:
        await run(ctx)
    finally:
        if trio.current_effective_deadline() == -math.inf:
            wedge, faults.wedge = faults.wedge, 0.0
            with trio.CancelScope(shield=True):
                await trio.sleep(wedge)
        elif ctx.stop_requested.is_set():
            slow_stop, faults.slow_stop = faults.slow_stop, 0.0
            await trio.sleep(slow_stop)


class _FaultyInbox(Inbox[M]):
    """Hands on what the inbox of the incarnation receives, counting."""

    __slots__ = ("_faults", "_inner")

    def __init__(self, inner: Inbox[M], faults: _Faults) -> None:
        self._inner = inner
        self._faults = faults

    @property
    def queued(self) -> int:
        """As of the real one."""
        return self._inner.queued

    async def receive_batch(self, max_n: int = 256) -> list[M]:
        """Receive as the real one does, then crash or hang if it is time."""
        faults = self._faults
        messages = await self._inner.receive_batch(max_n)
        before, faults.messages = faults.messages, faults.messages + len(messages)
        crash, hang = faults.crash_at_message, faults.hang_at_message
        if crash is not None and before < crash <= faults.messages:
            faults.crash_at_message = None
            raise faults.error
        if hang is not None and before < hang <= faults.messages:
            faults.hang_at_message = None
            await trio.sleep_forever()
        return messages


@contextmanager
def _repeatable(seed: int) -> Generator[None]:
    """Let Trio schedule tasks in an order that depends on the seed alone."""
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING  # pyright: ignore[reportPrivateUsage]
    state = trio_run._r.getstate()  # pyright: ignore[reportPrivateUsage]
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
        trio_run._r.setstate(state)  # pyright: ignore[reportPrivateUsage]


async def run_virtual(
    root: Supervisor,
    scenario: Callable[[Supervisor], Awaitable[object]],
    *,
    seed: int = 0,
    autojump: float = 0.0,
) -> list[Event]:
    """Run a tree on virtual time, play ``scenario(root)`` against it, stop it in order, and
    return the events of the whole tree.

    The clock of the run must be a ``trio.testing.MockClock`` (pytest-trio's ``mock_clock`` or
    ``autojump_clock``): it jumps when nothing has happened for ``autojump`` real seconds. The
    same ``seed`` gives the same scheduling and jitter. The scenario begins when all children
    are ready; when it returns the tree is stopped.

    *Error handling*: raises ``RuntimeError`` on a real clock; what the scenario or
    ``root.run()`` raises comes out as it is (a scenario that expects an escalation catches it
    by ``pytest.raises`` around this call). A tree that ends by itself cancels the scenario.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, MockClock):
        raise RuntimeError(
            "run_virtual needs virtual time: use pytest-trio's autojump_clock, or"
            " trio.run(..., clock=trio.testing.MockClock())"
        )
    clock.autojump_threshold = autojump
    root._machine.rng.seed(seed)  # pyright: ignore[reportPrivateUsage]
    events = root.events.subscribe(EVENTS_MAX)
    failure: list[BaseException] = []
    ready = trio.Event()
    with _repeatable(seed):
        async with trio.open_nursery() as nursery:

            async def live() -> None:
                # Kept, so that the nursery does not wrap it in a group.
                try:
                    await root.run(task_status=_Told(ready))
                except Exception as error:
                    failure.append(error)
                nursery.cancel_scope.cancel()

            async def play() -> None:
                await ready.wait()
                try:
                    await scenario(root)
                except Exception as error:
                    failure.insert(0, error)
                root.stop()

            nursery.start_soon(live)
            nursery.start_soon(play)
    if failure:
        raise failure[0]
    seen: list[Event] = []
    while events.pending:
        seen.append(events.receive_nowait())
    return seen


class _Told(trio.TaskStatus[None]):
    """Sets an event when a supervisor says that it has started."""

    def __init__(self, ready: trio.Event) -> None:
        self._ready = ready

    def started(self, value: None = None) -> None:
        """Set it."""
        self._ready.set()


async def wait_event(
    bus: EventBus,
    kind: EventKind | str,
    id: str | None = None,  # noqa: A002 - its name in a spec
    incarnation: int | None = None,
) -> Event:
    """Wait for the next event of that kind and return it.

    ``id`` is the id or the path of a child. Only events from now on count, so subscribe to the
    bus where one must not be missed. *Error handling*: raises ``trio.EndOfChannel`` when the
    tree ends first, ``ValueError`` for a kind that does not exist. Waits as long as it takes:
    bound it with ``trio.fail_after``.
    """
    kind = EventKind(kind)
    async with bus.subscribe() as events:
        while True:
            event = await events.receive()
            if (
                event.kind == kind
                and id in (None, event.path, event.path.rpartition("/")[2])
                and incarnation in (None, event.incarnation)
            ):
                return event
