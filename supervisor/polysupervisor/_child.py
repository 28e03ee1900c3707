"""What is to be supervised: specifications, given once and never changed."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
from attrs.validators import ge, gt, instance_of, is_callable, optional

from polysupervisor._context import Context
from polysupervisor._exit import ExitKind
from polysupervisor._hold import HoldLimit
from polysupervisor._intensity import Backoff
from polysupervisor._mailbox import MailboxSpec

if TYPE_CHECKING:
    from polysupervisor._actor import Actor
    from polysupervisor._supervisor import Supervisor

M = TypeVar("M")

Run = Callable[[Context[M]], Awaitable[None]]
"""An actor: one call is one incarnation, its locals are the state, its end is the exit."""


class Strategy(Enum):
    """Who is restarted when a child fails."""

    ONE_FOR_ONE = "one_for_one"
    """Only that child."""
    ONE_FOR_ALL = "one_for_all"
    """All children: stopped in reverse order, started in order."""
    REST_FOR_ONE = "rest_for_one"
    """That child and those after it: stopped in reverse order, started in order."""


class Restart(Enum):
    """When a child that ended by itself is restarted."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """Unless it returned."""
    TEMPORARY = "temporary"
    """Never; its specification is forgotten when it ends."""


def is_restarted(restart: Restart, kind: ExitKind) -> bool:
    """Say whether an exit that nobody asked for leads to a restart (OTP's restart types)."""
    if restart is Restart.TRANSIENT:
        return kind is not ExitKind.NORMAL
    return restart is Restart.PERMANENT


@attrs.frozen
class Shutdown:
    """How a child is stopped: asked, then cancelled, then reported. Seconds."""

    grace: float = attrs.field(default=5.0, validator=ge(0))
    """From the request to stop until it is cancelled; 0 cancels at once, ``inf`` never."""
    kill: float = attrs.field(default=5.0, validator=ge(0))
    """From the cancellation until it is reported as wedged. Trio cannot kill: a child that
    shields itself for ever keeps its supervisor's ``run()`` from returning for as long."""


def check_id(value: str) -> None:
    """Raise ``ValueError`` or ``TypeError`` unless it can be a part of a path."""
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"an id is a text, was {value!r}")
    if not value or "/" in value:
        raise ValueError(f"an id is a non-empty text without a slash, was {value!r}")


def _is_id(_: object, __: object, value: str) -> None:
    check_id(value)


@attrs.frozen
class ChildSpec(Generic[M]):
    """A child of a supervisor."""

    id: str = attrs.field(validator=_is_id)
    """Its name among its siblings, and the last part of its path; no slash."""
    factory: Callable[[], Run[M] | Actor[M] | Supervisor] = attrs.field(validator=is_callable())
    """Called for every incarnation, in the child's own task; returns the actor (an async
    function, or a *new* ``Actor``), or a *new* supervisor to nest: no instance is reused."""
    restart: Restart = attrs.field(default=Restart.PERMANENT, validator=instance_of(Restart))
    """When it is restarted."""
    backoff: Backoff | None = attrs.field(default=None, validator=optional(instance_of(Backoff)))
    """How long a restart waits; ``None``: not at all, as in OTP."""
    expected: tuple[type[Exception], ...] = attrs.field(default=(), validator=instance_of(tuple))
    """Failures that are no bugs: they wait like others but spend no intensity. Give such a child
    a ``backoff``: without one it is restarted at once, each time."""
    shutdown: Shutdown = attrs.field(default=Shutdown(), validator=instance_of(Shutdown))
    """How it is stopped. For a nested supervisor the default stands for OTP's infinite grace:
    the ``stop_deadline`` of the nested supervisor is its bound."""
    start_timeout: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds in which it must be ready; then it is stopped, and the start has failed."""
    mailbox: MailboxSpec | None = attrs.field(
        default=None, validator=optional(instance_of(MailboxSpec))
    )
    """Its mailbox, if it has one."""
    hold: HoldLimit | None = attrs.field(default=None, validator=optional(instance_of(HoldLimit)))
    """How long it may hold the event loop; ``None``: for ever, as everything in Trio. Not for
    supervisors."""
    significant: bool = attrs.field(default=False, validator=instance_of(bool))
    """Whether its end may end the supervisor, as ``auto_shutdown`` says: that of a temporary
    child in any way, that of a transient one when it returns. A permanent one cannot be."""
    labels: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """For people and metrics; the runtime does not look at them."""

    def __attrs_post_init__(self) -> None:
        if iscoroutinefunction(self.factory):
            raise TypeError(
                f"{self.id}: the factory is called for every incarnation and returns the actor;"
                " for an async function of a context write factory=lambda: that_function"
            )
        for each in self.expected:
            if not (isinstance(each, type) and issubclass(each, Exception)):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{self.id}: expected holds classes of Exception, had {each!r}")
        if self.significant and self.restart is Restart.PERMANENT:
            raise ValueError(f"{self.id}: a permanent child never ends, so it is not significant")


NESTED_SHUTDOWN = Shutdown(grace=math.inf, kill=35.0)
"""What a nested supervisor gets unless it is told otherwise.

When it is cancelled, it cancels its children one after the other, within its ``stop_deadline``
(30 s unless told otherwise); only what takes longer is wedged.
"""


def shutdown_of(spec: ChildSpec[Any], is_supervisor: bool) -> Shutdown:
    """Return how a child is stopped, given what its factory made."""
    return NESTED_SHUTDOWN if is_supervisor and spec.shutdown == Shutdown() else spec.shutdown
