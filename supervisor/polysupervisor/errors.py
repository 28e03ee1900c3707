"""What can go wrong with supervision itself.

::

    SupervisionError
    ├── SupervisorEscalation   a supervisor gave up: its restarts are exhausted
    ├── StartFailed            a child did not become ready
    ├── NotRunning             the supervisor does not take commands (now)
    ├── NotFound               no child of that id
    ├── AlreadyRunning         the child runs, or is about to run again
    ├── AlreadyPresent         a stopped child of that id is present
    ├── Restarting             the child waits for its restart
    ├── TooManyChildren        ``max_children`` is reached
    ├── NoMailbox              the child was specified without a mailbox
    ├── NameTaken              another child has registered under that name
    ├── LinkedExit             a linked child failed
    ├── HeldLoop               a child held the event loop for too long
    └── RestartRequested       an actor asked for a restart

Failures of children are not errors of this module: they become
:class:`~polysupervisor.ExitReason` data, and no exception object of a child is kept.
"""
# ruff: noqa: N818 - these names are the vocabulary of OTP, kept as it is

from polysupervisor._exit import ExitReason


class SupervisionError(Exception):
    """Base of every error that this package raises on purpose."""


class SupervisorEscalation(SupervisionError):
    """A supervisor could not keep its children up within its restart intensity.

    Raised out of ``Supervisor.run()`` after all children were stopped in order. A parent
    supervisor sees it as the crash of its child and applies its own policy; it may be listed in
    ``ChildSpec.expected``.
    """

    def __init__(self, path: str, child: str, why: str, reason: ExitReason) -> None:
        super().__init__(f"{path} gave up: child {child} {why}; last exit: {reason}")
        if reason.traceback:
            self.add_note(f"Where {path}/{child} failed:\n{reason.traceback}")
        self.path = path
        """Path of the supervisor that gave up."""
        self.child = child
        """Id of the child whose failure exhausted it."""
        self.reason = reason
        """How that child ended last; the causes below it are in its text."""


class StartFailed(SupervisionError):
    """A child ended, or ran out of time, before it was ready.

    Raised out of ``run()`` when it happens at the first start of the supervisor (the children
    that were up have been stopped in reverse order), and to the caller of ``start_child`` and
    ``restart_child``. A failing start at an automatic restart is not raised: it is retried.
    """

    def __init__(self, path: str, reason: ExitReason) -> None:
        super().__init__(f"child {path} failed to start: {reason}")
        if reason.traceback:
            self.add_note(f"Where {path} failed:\n{reason.traceback}")
        self.path = path
        """Path of the child."""
        self.reason = reason
        """Why it did not become ready."""


class NotRunning(SupervisionError):
    """The supervisor has not finished its start, is stopping, or has ended."""


class NotFound(SupervisionError):
    """The supervisor has no child of that id."""


class AlreadyRunning(SupervisionError):
    """The child is running, starting, or stopping."""


class AlreadyPresent(SupervisionError):
    """A child of that id is present but does not run now.

    It waits for its restart, or is at rest: ``restart_child`` it or ``delete_child`` it.
    """


class Restarting(SupervisionError):
    """The child waits for its own restart, or for its turn in the restart of its group."""


class TooManyChildren(SupervisionError):
    """A dynamic supervisor has ``max_children`` already, those that restart included."""


class NoMailbox(SupervisionError):
    """A message was sent to, or an inbox asked of, a child specified without a mailbox."""


class NameTaken(SupervisionError):
    """Another child has registered under that name, and has not ended for good."""


class LinkedExit(SupervisionError):
    """A linked child failed: why the other was ended. Also when linking to one that is down."""

    def __init__(self, path: str, incarnation: int, reason: ExitReason | None) -> None:
        how = "is not running" if reason is None else f"ended: {reason}"
        super().__init__(f"linked child {path}#{incarnation} {how}")
        self.path = path
        """Path of the child that failed."""
        self.incarnation = incarnation
        """Which incarnation of it."""
        self.reason = reason
        """How it ended; ``None`` if it was not running when the link was asked for."""


class RestartRequested(SupervisionError):
    """An actor asked that it or its sibling be treated as failed; the text says who and why."""


class HeldLoop(SupervisionError):
    """A child has held the event loop for longer than its ``HoldLimit``."""

    def __init__(self, path: str, seconds: float, limit: float, where: str) -> None:
        at = f", at {where}" if where else ""
        super().__init__(
            f"{path} held the event loop for {seconds:.2f} s, more than {limit:g} s{at}"
        )
        self.path = path
        """Path of the child."""
        self.seconds = seconds
        """How long, from one turn of Trio to the next."""
        self.where = where
        """Where it was when it was interrupted; empty if it let go by itself."""
