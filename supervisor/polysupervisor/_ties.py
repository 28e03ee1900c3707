"""What one incarnation's ``Context`` can ask, answered by its supervisor."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from polysupervisor._address import Address, life_of
from polysupervisor._context import Ties
from polysupervisor._exit import ExitReason
from polysupervisor._incarnation import Incarnation
from polysupervisor._monitor import Link, Monitor
from polysupervisor._record import Child
from polysupervisor.errors import RestartRequested

if TYPE_CHECKING:
    from polysupervisor._lifecycle import Lifecycle


class ChildTies(Ties):
    """Turns the wishes of an incarnation into messages to its supervisor."""

    __slots__ = ("_child", "_supervisor", "incarnation", "registry")

    incarnation: Incarnation

    def __init__(self, supervisor: Lifecycle, child: Child) -> None:
        self._supervisor = supervisor
        self._child = child
        self.registry = supervisor.registry

    def ready(self, value: object) -> None:
        """Post it."""
        supervisor = self._supervisor
        supervisor.post(partial(supervisor.became_ready, self._child, self.incarnation, value))

    def exited(self, reason: ExitReason, lethal: BaseException | None) -> None:
        """Post how the incarnation has ended."""
        supervisor, child = self._supervisor, self._child
        supervisor.post(partial(supervisor.exited, child, self.incarnation, reason, lethal))

    def reset_backoff(self) -> None:
        """Forget its failures."""
        self._child.attempt = 0

    def beat(self, note: str) -> None:
        """Note the progress, for the watch on stalls."""
        self.incarnation.note = note
        if self._child.mailbox is not None:
            self._child.mailbox.touch()

    def monitor(self, who: Address[Any]) -> Monitor:
        """Make one that ends with the incarnation."""
        monitor = Monitor(life_of(who))
        # Without those that were closed, or an actor that makes many would keep them all.
        open_ones = (each for each in self.incarnation.monitors if not each.is_closed)
        self.incarnation.monitors = (*open_ones, monitor)
        return monitor

    def link(self, who: Address[Any]) -> None:
        """Tie the two incarnations."""
        Link(self._child.life, life_of(who))

    def fail(self, error: Exception) -> None:
        """Post it, for this incarnation alone."""
        supervisor, child = self._supervisor, self._child
        number = self.incarnation.context.incarnation
        supervisor.post(partial(supervisor.condemn_incarnation, child, number, error))

    def request_restart(self, child_id: str, reason: str) -> None:
        """Post it, for the incarnation that is there now."""
        target = self._supervisor.find(child_id)
        error = RestartRequested(f"{self._child.path} asked for it: {reason}")
        by_itself = target is self._child
        self._supervisor.post(
            partial(self._supervisor.condemn_incarnation, target, target.number, error, by_itself)
        )
