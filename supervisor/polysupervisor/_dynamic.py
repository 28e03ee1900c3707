"""Supervisors of children that come and go."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from polysupervisor._child import ChildSpec, Strategy
from polysupervisor._events import EventBus
from polysupervisor._flags import Flags
from polysupervisor._intensity import Intensity
from polysupervisor._machine import Machine
from polysupervisor._supervisor import STOP_DEADLINE_SECONDS, Supervisor

PER_CHILD_INTENSITY = Intensity(scope="child", on_exhausted="give_up")
"""One bad child must not take down the others, so each has its own window and is given up."""


class DynamicSupervisor(Supervisor):
    """A supervisor for many independent children, added by ``start_child``.

    The rules are those of Elixir's DynamicSupervisor: always one_for_one; all children are
    stopped at the same time; a child that finished or was stopped is forgotten (one that was
    given up is kept for ``restart_child``). ``max_children`` bounds the children that are
    present, whatever their state; ``None`` means no bound. The other arguments, and errors, are
    those of :class:`Supervisor`.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec[Any] | Supervisor] = (),
        *,
        max_children: int | None = None,
        intensity: Intensity = PER_CHILD_INTENSITY,
        stop_deadline: float = STOP_DEADLINE_SECONDS,
        rng: Random | None = None,
        events: EventBus | None = None,
    ) -> None:
        flags = Flags(
            strategy=Strategy.ONE_FOR_ONE,
            intensity=intensity,
            auto_shutdown="never",
            stop_deadline=stop_deadline,
            dynamic=True,
            max_children=max_children,
        )
        self._machine = Machine(name, children, flags, rng, events)
