"""Supervision for Trio: OTP's rules, one task per supervisor, nothing that cannot be stopped.

A :class:`Supervisor` runs children given as :class:`ChildSpec`, each an async function of one
:class:`Context`; it restarts those that fail, with backoff, until that happens too often.
"""

from polysupervisor._app import EXIT_CANCELLED, EXIT_CLEAN, EXIT_ESCALATION, run_app
from polysupervisor._child import ChildSpec, Restart, Run, Shutdown, Strategy
from polysupervisor._context import Context
from polysupervisor._dynamic import DynamicSupervisor
from polysupervisor._events import Event, EventBus, EventKind, Subscription
from polysupervisor._exit import ExitKind, ExitReason
from polysupervisor._intensity import Backoff, Intensity
from polysupervisor._mailbox import Address, Inbox, MailboxSpec, MailboxStats, Overflow
from polysupervisor._supervisor import Supervisor
from polysupervisor._tree import ChildInfo, ChildState, Counts, Started, TreeNode
from polysupervisor.errors import (
    AlreadyPresent,
    AlreadyRunning,
    NoMailbox,
    NotFound,
    NotRunning,
    Restarting,
    StartFailed,
    SupervisionError,
    SupervisorEscalation,
    TooManyChildren,
)

__all__ = [
    "EXIT_CANCELLED",
    "EXIT_CLEAN",
    "EXIT_ESCALATION",
    "Address",
    "AlreadyPresent",
    "AlreadyRunning",
    "Backoff",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "Context",
    "Counts",
    "DynamicSupervisor",
    "Event",
    "EventBus",
    "EventKind",
    "ExitKind",
    "ExitReason",
    "Inbox",
    "Intensity",
    "MailboxSpec",
    "MailboxStats",
    "NoMailbox",
    "NotFound",
    "NotRunning",
    "Overflow",
    "Restart",
    "Restarting",
    "Run",
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
    "run_app",
]
