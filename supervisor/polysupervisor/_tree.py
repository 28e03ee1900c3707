"""What a supervisor shows of itself: values that are right at the moment of asking."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs

from polysupervisor._address import Address


class ChildState(StrEnum):
    """Where a child is in its life."""

    WAITING = "waiting"
    """Its turn will come: in the first start, or in the restart of its group."""
    STARTING = "starting"
    """An incarnation runs and is not ready."""
    RUNNING = "running"
    """An incarnation is ready."""
    STOPPING = "stopping"
    """An incarnation was asked to stop and is still there (also when wedged)."""
    RESTARTING = "restarting"
    """It failed and starts again when ``due``."""
    STOPPED = "stopped"
    """It finished, or was stopped by command or with its group."""
    GAVE_UP = "gave_up"
    """It failed too often and stays down until ``restart_child``."""


AT_REST = frozenset({ChildState.STOPPED, ChildState.GAVE_UP})
"""Down, and not to come up by itself."""

TRANSITIONS: Mapping[ChildState, frozenset[ChildState]] = {
    ChildState.WAITING: frozenset({ChildState.STARTING, ChildState.RESTARTING, ChildState.STOPPED}),
    ChildState.STARTING: frozenset(
        {
            ChildState.RUNNING,
            ChildState.STOPPING,
            ChildState.WAITING,
            ChildState.RESTARTING,
            ChildState.STOPPED,
            ChildState.GAVE_UP,
        }
    ),
    ChildState.RUNNING: frozenset(
        {
            ChildState.STOPPING,
            ChildState.WAITING,
            ChildState.RESTARTING,
            ChildState.STOPPED,
            ChildState.GAVE_UP,
        }
    ),
    ChildState.STOPPING: frozenset(
        {
            ChildState.STOPPED,
            ChildState.WAITING,
            ChildState.STARTING,
            ChildState.RESTARTING,
            ChildState.GAVE_UP,
        }
    ),
    ChildState.RESTARTING: frozenset({ChildState.STARTING, ChildState.WAITING, ChildState.STOPPED}),
    ChildState.STOPPED: frozenset({ChildState.STARTING, ChildState.WAITING}),
    ChildState.GAVE_UP: frozenset({ChildState.STARTING, ChildState.WAITING}),
}
"""Which state may follow which; the supervisor checks every step against it."""


@attrs.frozen
class ChildInfo:
    """One child at one moment."""

    id: str
    """Its name among its siblings."""
    path: str
    """Ids from the root down, joined by ``/``."""
    state: ChildState
    """Where it is in its life."""
    incarnation: int
    """Starts so far, the present one included."""
    since: float
    """When it entered this state, on Trio's clock; 0.0 before the supervisor runs."""
    due: float | None
    """When it may start again, on Trio's clock; ``None`` when no restart is scheduled."""
    attempt: int
    """Consecutive restarts; 0 again after ``Backoff.reset_after`` or ``reset_backoff``."""


@attrs.frozen
class Counts:
    """How many children there are (OTP's ``count_children``)."""

    specs: int
    """Children, whatever their state."""
    active: int
    """Children with an incarnation, also one that starts or stops."""
    supervisors: int
    """Children that are supervisors, as far as their factory was called."""
    workers: int
    """The others."""


@attrs.frozen
class TreeNode:
    """A supervisor or worker with all that is below it, at one moment."""

    id: str
    """Its name among its siblings."""
    path: str
    """Ids from the root down, joined by ``/``."""
    state: ChildState
    """Where it is in its life."""
    incarnation: int
    """Starts so far; 0 or 1 for the root."""
    since: float
    """When it entered this state, on Trio's clock."""
    due: float | None
    """When it may start again, on Trio's clock."""
    attempt: int
    """Consecutive restarts."""
    is_supervisor: bool
    """Whether it supervises others."""
    children: tuple[TreeNode, ...]
    """In start order; empty for a worker and for a supervisor that is down."""


@attrs.frozen
class Started:
    """A child that was started by command and is ready."""

    id: str
    """Its name among its siblings."""
    path: str
    """Ids from the root down, joined by ``/``."""
    incarnation: int
    """Starts so far."""
    value: object
    """What it gave to ``Context.ready``."""
    ignored: bool
    """Whether it said that it need not run, so that nothing runs now."""
    address: Address[Any]
    """Where to send messages."""
