"""One actor of a user's over all its incarnations: supervised like ours, never trusted.

What it costs others is bounded, whatever it does:

- it crashes: it is restarted with backoff, and given up after a row of failures. Nobody waits.
- it hangs: its handler is cancelled after `handle_seconds_max`; until then its mailbox fills up.
- it computes, or calls what blocks: it is interrupted after `hold_seconds_max` (and a quarter).
- it floods: events wait after EVENTS_PER_SECOND, and messages end up in bounded mailboxes.
"""

from collections.abc import Awaitable, Iterable
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import trio
from attrs import frozen

from polyactors.environment import Environment
from polyactors.extensions.hands import ActorContext, Heard
from polyactors.extensions.mailbox import Mailbox
from polyactors.extensions.spec import ActorSpec, check_names
from polysupervisor import (
    Backoff,
    ChildSpec,
    ChildState,
    Context,
    DynamicSupervisor,
    ExitReason,
    HoldLimit,
    Intensity,
    Restart,
    Shutdown,
)

if TYPE_CHECKING:
    from polyactors.service import Service

NAME = "extensions"
OURS = ("polyactors.", "polysupervisor.")
EXAMPLES = "polyactors.examples."
UNLIMITED = Intensity(1_000_000, 1.0, scope="child", on_exhausted="give_up")
"""Each actor's own row of failures decides."""
POISON_CRASHES = 3
"""A snapshot with which so many incarnations in a row failed before they had handled anything is
thrown away."""


class MailboxOverflow(Exception):  # noqa: N818 - the name is the fact
    """The mailbox was full, and the policy is to begin afresh."""


class HandlerTooSlow(Exception):  # noqa: N818 - the name is the fact
    """One call took longer than `handle_seconds_max`."""


@frozen
class ActorStatus:
    """One actor, as a person wants to see it."""

    name: str
    state: str
    """waiting, starting, running, stopping, restarting, stopped, gave_up."""
    incarnation: int
    takes: str
    handled: int
    """Messages, over all incarnations."""
    queued: int
    coalesced: int
    """Book updates that newer ones replaced before they were handled."""
    lost: int
    """Messages that a full mailbox gave up."""
    published: int
    held_seconds: float
    """How long it has held the event loop, over all incarnations."""
    longest_held_seconds: float
    metrics: dict[str, float]
    lines: tuple[str, ...]
    """What it shows."""
    last_failure: str
    """How an incarnation failed last; empty when none did."""


class Extension:
    """One actor."""

    def __init__(self, spec: ActorSpec, env: Environment, actors: "Extensions") -> None:
        self.spec = spec
        self.heard = Heard()
        self._actors = actors
        self._mailbox = Mailbox(spec.name, env.hub, env.clock_ns, spec.takes, spec.policy)
        self._handled = 0
        self._handled_before = 0
        """Up to the incarnation that runs now."""
        self._state: object = None
        self._has_state = False
        self._poisoned = 0
        self._last_failure = ""
        self._ctx: Context[object] | None = None
        self._held = 0.0
        self._longest_held = 0.0

    def child(self, service: "Service") -> ChildSpec[object]:
        """The actor as a child of the supervisor of all of them."""
        policy = self.spec.policy
        return ChildSpec(
            id=self.spec.name,
            factory=lambda: lambda ctx: self._run(ctx, service),
            restart=Restart(policy.restart),
            backoff=Backoff(
                min=policy.backoff_seconds_min,
                max=policy.backoff_seconds_max,
                reset_after=policy.healthy_seconds,
                max_attempts=policy.gives_up_after,
            ),
            shutdown=Shutdown(grace=policy.stop_seconds_max),
            hold=HoldLimit(policy.hold_seconds_max, spares=_is_ours),
        )

    def take(self, message: object) -> None:
        """Take a message of another actor's. Raises TypeError for a class that it does not take."""
        if not isinstance(message, self.spec.takes.kinds):
            raise TypeError(
                f"the actor {self.spec.name} takes {self.spec.takes}, not {type(message).__name__}"
            )
        self._mailbox.put(message)

    def failed(self, reason: ExitReason) -> None:
        """An incarnation failed."""
        self._last_failure = _told(reason)

    def gave_up(self) -> None:
        """It stays down: nothing is kept for it any more."""
        self._mailbox.close()

    def status(self, state: ChildState) -> ActorStatus:
        """How it stands."""
        ctx = self._ctx
        hold = None if ctx is None else ctx.hold
        held, longest = (0.0, 0.0) if hold is None else (hold.total, hold.longest)
        return ActorStatus(
            name=self.spec.name,
            state=str(state),
            incarnation=0 if ctx is None else ctx.incarnation,
            takes=str(self.spec.takes),
            handled=self._handled,
            queued=self._mailbox.held,
            coalesced=self._mailbox.coalesced,
            lost=self._mailbox.lost,
            published=self.heard.published,
            held_seconds=self._held + held,
            longest_held_seconds=max(self._longest_held, longest),
            metrics=dict(self.heard.metrics),
            lines=self.heard.lines,
            last_failure=self._last_failure,
        )

    # --- one incarnation ------------------------------------------------------------------

    async def _run(self, ctx: Context[object], service: "Service") -> None:
        try:
            await self._live(ctx, service)
        except BaseExceptionGroup as group:
            raise _sole(group) from None
        finally:
            if self.spec.policy.restart == "temporary":
                self.gave_up()

    async def _live(self, ctx: Context[object], service: "Service") -> None:
        self._begin(ctx)
        ctx.ready()  # at once: a start that fails is a crash like any other, with its backoff
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_at_stop, ctx)
            context = ActorContext(ctx, service, self._actors, self.heard, nursery)
            actor = self.spec.make()
            try:
                await self._work(actor, context)
            except BaseException as error:
                try:
                    await self._tear_down(actor)
                except Exception as second:  # what came first is the cause
                    context.log.error("teardown failed, too", error=repr(second))
                    error.add_note(f"and then teardown: {type(second).__name__}: {second}")
                raise
            await self._tear_down(actor)
            nursery.cancel_scope.cancel()

    def _begin(self, ctx: Context[object]) -> None:
        before = self._ctx
        if before is not None and before.hold is not None:
            self._held += before.hold.total
            self._longest_held = max(self._longest_held, before.hold.longest)
        if ctx.last_exit is not None:
            self.failed(ctx.last_exit)
            self._poisoned = self._poisoned + 1 if self._handled == self._handled_before else 0
        self._handled_before = self._handled
        self._ctx = ctx
        self._mailbox.reopen()
        self._mailbox.begin_afresh()

    async def _work(self, actor: object, context: ActorContext) -> None:
        self._restore(actor, context)
        setup = getattr(actor, "setup", None)
        if setup is not None:
            await self._bounded("setup", setup(context))
        handle = self.spec.handler(actor)
        extra = (context,) if self.spec.takes.takes_context else ()
        kinds = self.spec.takes.kinds
        while True:
            try:
                message = await self._mailbox.receive()
            except trio.EndOfChannel:
                return
            if self._mailbox.has_overflowed:
                limit = self.spec.policy.mailbox
                raise MailboxOverflow(f"more than {limit} messages waited; everything was let go")
            batch = [message]
            if self.spec.takes.is_batch:
                batch += self._mailbox.take_all()
            wanted = [one for one in batch if isinstance(one, kinds)]
            if len(wanted) < len(batch):
                self._say_lost(context)
            if wanted:
                await self._bounded(
                    "handle", handle(wanted if self.spec.takes.is_batch else wanted[0], *extra)
                )
                self._handled += len(wanted)
                self._save(actor)

    async def _bounded(self, what: str, call: Awaitable[Any]) -> None:
        seconds = self.spec.policy.handle_seconds_max
        with trio.move_on_after(seconds) as scope:
            await call
        if scope.cancelled_caught:
            raise HandlerTooSlow(f"{what} took more than {seconds:g} s")

    async def _end_at_stop(self, ctx: Context[object]) -> None:
        await ctx.stop_requested.wait()
        self._mailbox.end()

    async def _tear_down(self, actor: object) -> None:
        teardown = getattr(actor, "teardown", None)
        if teardown is None:
            return
        seconds = self.spec.policy.stop_seconds_max / 2
        with trio.CancelScope(deadline=trio.current_time() + seconds, shield=True) as scope:
            await teardown()
        if scope.cancelled_caught:
            raise HandlerTooSlow(f"teardown took more than {seconds:g} s")

    def _say_lost(self, context: ActorContext) -> None:
        """It does not take Gaps, so its log says what its mailbox could not hold."""
        context.log.warning("the mailbox was full, messages were lost", lost=self._mailbox.lost)

    # --- what outlives an incarnation -----------------------------------------------------

    def _save(self, actor: object) -> None:
        snapshot = getattr(actor, "snapshot", None)
        if snapshot is not None:
            self._state, self._has_state = snapshot(), True

    def _restore(self, actor: object, context: ActorContext) -> None:
        if not self._has_state:
            return
        if self._poisoned >= POISON_CRASHES:
            context.log.warning("its state is thrown away: it failed with it, again")
            self._state, self._has_state, self._poisoned = None, False, 0
            return
        cast("Any", actor).restore(self._state)


class Extensions:
    """All actors of users, of one service."""

    def __init__(self, specs: Iterable[ActorSpec], env: Environment) -> None:
        """Raises UsageError when two have one name."""
        specs = tuple(specs)
        check_names(specs)
        self._all = {spec.name: Extension(spec, env, self) for spec in specs}
        self._supervisor: DynamicSupervisor | None = None

    def __bool__(self) -> bool:
        return bool(self._all)

    def find(self, name: str) -> Extension:
        """An actor. Raises LookupError."""
        try:
            return self._all[name]
        except KeyError:
            known = ", ".join(self._all) or "none"
            raise LookupError(f"there is no actor {name!r}; there are {known}") from None

    def supervisor(self, service: "Service") -> DynamicSupervisor:
        """The supervisor of all of them."""
        self._supervisor = DynamicSupervisor(
            NAME, [one.child(service) for one in self._all.values()], intensity=UNLIMITED
        )
        return self._supervisor

    def gave_up(self, path: str) -> None:
        """The supervisors gave up what has this path, which may be one of these."""
        found = self._at(path)
        if found is not None:
            found.gave_up()

    def failed(self, path: str, reason: ExitReason) -> None:
        """What has this path, which may be one of these, failed."""
        found = self._at(path)
        if found is not None:
            found.failed(reason)

    def _at(self, path: str) -> Extension | None:
        name = path.removeprefix(f"root/{NAME}/")
        return None if name == path else self._all.get(name)

    def statuses(self) -> list[ActorStatus]:
        """All of them, now."""
        states: dict[str, ChildState] = {}
        if self._supervisor is not None:
            states = {child.id: child.state for child in self._supervisor.children()}
        return [one.status(states.get(name, ChildState.STOPPED)) for name, one in self._all.items()]


def _sole(group: "BaseExceptionGroup[BaseException]") -> BaseException:
    """The failure in a group of one, beginning where foreign code does; else the group."""
    members = list(group.exceptions)
    while len(members) == 1 and isinstance(members[0], BaseExceptionGroup):
        members = list(cast("BaseExceptionGroup[BaseException]", members[0]).exceptions)
    if len(members) > 1:
        return group
    error = members[0]
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace):
        trace = trace.tb_next
    return error if trace is None else error.with_traceback(trace)


def _is_machinery(trace: TracebackType) -> bool:
    name = str(trace.tb_frame.f_globals.get("__name__", ""))
    return _is_ours(name) or name.partition(".")[0] in ("trio", "contextlib")


def _told(reason: ExitReason) -> str:
    """How it failed, and in which line."""
    if reason.trace is None or not reason.trace.frames:
        return str(reason)
    file, line, _ = reason.trace.frames[-1]
    place = f"{PurePath(file).name}:{line}"
    return str(reason) if _is_ours_file(file) else f"{reason} at {place}"


def _is_ours_file(file: str) -> bool:
    return "polysupervisor" in file or "polyactors/extensions" in file


def _is_ours(module: str) -> bool:
    """Whether code of a module must come to its end: it may change what others share."""
    return module.startswith(OURS) and not module.startswith(EXAMPLES)
