"""Supervision for Trio: OTP's rules, one task per supervisor, nothing that cannot be stopped.

A :class:`Supervisor` runs children given as :class:`ChildSpec`, each an async function of one
:class:`Context`; it restarts those that fail, with backoff, until that happens too often.
"""

from polysupervisor._actor import Actor
from polysupervisor._address import Address
from polysupervisor._app import EXIT_CANCELLED, EXIT_CLEAN, EXIT_ESCALATION, run_app
from polysupervisor._ask import Reply
from polysupervisor._child import ChildSpec, Restart, Run, Shutdown, Strategy
from polysupervisor._context import Context
from polysupervisor._dynamic import DynamicSupervisor
from polysupervisor._events import Event, EventBus, EventKind, Subscription
from polysupervisor._exit import ExitKind, ExitReason
from polysupervisor._hold import HoldLimit
from polysupervisor._inbox import Inbox
from polysupervisor._intensity import Backoff, Intensity
from polysupervisor._mailbox_spec import MailboxGap, MailboxSpec, MailboxStats, Overflow
from polysupervisor._monitor import Down, Monitor, Up
from polysupervisor._registry import Registry
from polysupervisor._serve import Rest
from polysupervisor._sharded import ShardedSupervisor
from polysupervisor._supervisor import Supervisor
from polysupervisor._tree import ChildInfo, ChildState, Counts, Started, TreeNode
from polysupervisor._watchdog import EXIT_WEDGED, Blocked, Watchdog
from polysupervisor.errors import (
    AlreadyPresent,
    AlreadyRunning,
    HeldLoop,
    LinkedExit,
    NameTaken,
    NoMailbox,
    NotFound,
    NotRunning,
    Restarting,
    RestartRequested,
    StartFailed,
    SupervisionError,
    SupervisorEscalation,
    TooManyChildren,
)

__all__ = [
    "EXIT_CANCELLED",
    "EXIT_CLEAN",
    "EXIT_ESCALATION",
    "EXIT_WEDGED",
    "Actor",
    "Address",
    "AlreadyPresent",
    "AlreadyRunning",
    "Backoff",
    "Blocked",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "Context",
    "Counts",
    "Down",
    "DynamicSupervisor",
    "Event",
    "EventBus",
    "EventKind",
    "ExitKind",
    "ExitReason",
    "HeldLoop",
    "HoldLimit",
    "Inbox",
    "Intensity",
    "LinkedExit",
    "MailboxGap",
    "MailboxSpec",
    "MailboxStats",
    "Monitor",
    "NameTaken",
    "NoMailbox",
    "NotFound",
    "NotRunning",
    "Overflow",
    "Registry",
    "Reply",
    "Rest",
    "Restart",
    "RestartRequested",
    "Restarting",
    "Run",
    "ShardedSupervisor",
    "Shutdown",
    "StartFailed",
    "Started",
    "Strategy",
    "Subscription",
    "SupervisionError",
    "Supervisor",
    "SupervisorEscalation",
    "TooManyChildren",
    "TreeNode",
    "Up",
    "Watchdog",
    "run_app",
]
