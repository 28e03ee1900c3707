"""What a supervisor remembers: its children, the plan it follows, who waits for an answer."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Generic, TypeVar

import trio

from polysupervisor._address import Address
from polysupervisor._child import ChildSpec, Restart, Shutdown, Strategy, shutdown_of
from polysupervisor._exit import ExitReason
from polysupervisor._incarnation import Incarnation, Nestable
from polysupervisor._intensity import NO_BACKOFF, Backoff, RestartWindow
from polysupervisor._life import Life
from polysupervisor._mailbox import Mailbox, make_mailbox
from polysupervisor._timers import Timer
from polysupervisor._tree import AT_REST, ChildInfo, ChildState, Started

T = TypeVar("T")


class Reply(Generic[T]):
    """The answer to a command, set once by the supervisor's task."""

    __slots__ = ("_answered", "_error", "_value")

    def __init__(self) -> None:
        self._answered = trio.Event()
        self._value: T
        self._error: Exception | None = None

    def set(self, value: T) -> None:
        """Answer."""
        self._value = value
        self._answered.set()

    def fail(self, error: Exception) -> None:
        """Refuse, unless it was answered and the caller has only not woken up yet."""
        if not self._answered.is_set():
            self._error = error
            self._answered.set()

    async def wait(self) -> T:
        """Wait for the answer."""
        await self._answered.wait()
        if self._error is not None:
            raise self._error
        return self._value


class After(Enum):
    """What follows when a child that is stopping has ended."""

    REST = "rest"
    """It stays down: stopped by command, or with the supervisor."""
    TURN = "turn"
    """It waits for its turn in the start of its group."""
    START = "start"
    """It starts again at once: a forced restart."""
    FAILURE = "failure"
    """It is stopped as failed (its start timed out, it stalled), so that is judged."""


class Child:
    """One child over all its incarnations."""

    __slots__ = (
        "address",
        "after",
        "attempt",
        "current",
        "delay",
        "due",
        "has_started",
        "instance",
        "last_exit",
        "life",
        "made_supervisor",
        "mailbox",
        "number",
        "ready_at",
        "since",
        "spec",
        "start_reply",
        "state",
        "stop_replies",
        "timer",
        "window",
    )

    def __init__(self, spec: ChildSpec[Any], life: Life, instance: Nestable | None) -> None:
        self.spec = spec
        self.life = life
        self.instance = instance
        self.mailbox: Mailbox[Any] | None = make_mailbox(spec.mailbox) if spec.mailbox else None
        self.address: Address[Any] = Address(spec.id, self.mailbox, life)
        self.state = ChildState.WAITING
        self.since = 0.0
        self.number = 0
        self.attempt = 0
        self.delay: float | None = None
        """The backoff of a decided restart whose group is still stopping."""
        self.due: float | None = None
        """Not before; kept while the group of an earlier sibling restarts."""
        self.window: RestartWindow | None = None
        self.last_exit: ExitReason | None = None
        self.current: Incarnation | None = None
        self.ready_at: float | None = None
        self.has_started = False
        """Whether a start has ever succeeded."""
        self.made_supervisor = False
        """Whether its last incarnation was a supervisor."""
        self.after = After.REST
        self.timer: Timer | None = None
        """The one that its state waits for: start timeout, grace, kill time, or due."""
        self.start_reply: Reply[Started] | None = None
        self.stop_replies: tuple[Reply[None], ...] = ()

    @property
    def path(self) -> str:
        """Ids from the root down, joined by ``/``."""
        return self.life.path

    @property
    def backoff(self) -> Backoff:
        """Its backoff, or none at all."""
        return self.spec.backoff or NO_BACKOFF

    @property
    def shutdown(self) -> Shutdown:
        """How its present incarnation is stopped."""
        return shutdown_of(self.spec, self.nested is not None)

    @property
    def nested(self) -> Nestable | None:
        """The supervisor that it is at present."""
        return self.instance or (self.current.nested if self.current else None)

    @property
    def is_supervisor(self) -> bool:
        """Whether it is a supervisor, as far as its factory was called."""
        return self.nested is not None or self.made_supervisor

    @property
    def is_temporary(self) -> bool:
        """Whether it is forgotten when it ends."""
        return self.spec.restart is Restart.TEMPORARY

    @property
    def will_be_down(self) -> bool:
        """Whether it is at rest, or will be when it has stopped."""
        stops = self.state is ChildState.STOPPING and self.after is After.REST
        return stops or self.state in AT_REST

    def is_proven(self) -> bool:
        """Say whether its incarnation has been ready long enough to forget its failures."""
        if self.current is None or self.ready_at is None:
            return False
        return trio.current_time() >= self.ready_at + self.backoff.reset_after

    def forget_queued(self) -> None:
        """Empty the mailbox between two incarnations, unless it is to be kept."""
        if self.mailbox is not None and self.spec.mailbox and not self.spec.mailbox.keep_on_restart:
            self.mailbox.drop_all()

    def info(self) -> ChildInfo:
        """Show it."""
        return ChildInfo(
            id=self.spec.id,
            path=self.path,
            state=self.state,
            incarnation=self.number,
            since=self.since,
            due=self.due,
            attempt=0 if self.is_proven() else self.attempt,
        )


class Plan:
    """The one ordered stop, and then perhaps start, that a supervisor is about.

    A newer decision replaces it. That loses nothing: members that the old plan had not started
    yet are behind its first failure, so a new group, which reaches to the end of the children,
    holds them too. (None of them is started out of its turn, not even by command.)
    """

    __slots__ = ("after", "cursor", "due", "leader", "members", "stopping", "timer", "why")

    def __init__(self, members: list[Child], after: After, why: str, *, stopping: bool) -> None:
        self.members = members
        self.after = after
        self.why = why
        self.stopping = stopping
        self.cursor = len(members) if stopping else 0
        """While stopping: members before it are still to be stopped. Then: the next to start."""
        self.due = 0.0
        """Not before this does the first member start."""
        self.timer: Timer | None = None
        self.leader: Child | None = None
        """Whose failure it answers, and whose backoff the whole group waits out."""


def group_of(strategy: Strategy, children: Iterable[Child], failed: Child) -> list[Child]:
    """Return who stops and starts together with ``failed``, in start order; none if it alone."""
    if strategy is Strategy.ONE_FOR_ONE:
        return []
    members = list(children)
    return members if strategy is Strategy.ONE_FOR_ALL else members[members.index(failed) :]
