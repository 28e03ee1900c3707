"""One actor of a user's over all its incarnations: supervised like ours, never trusted.

What it costs others is bounded, whatever it does:

- it crashes: it is restarted with backoff, and given up after a row of failures. Nobody waits.
- it hangs: its handler is cancelled after `handle_seconds_max`; until then its mailbox fills up.
- it computes, or calls what blocks: it is interrupted after `hold_seconds_max` (and a quarter).
- it floods: events wait after EVENTS_PER_SECOND, and messages end up in bounded mailboxes.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

import trio
from attrs import frozen

from polyactors.environment import Environment
from polyactors.extensions.failures import (
    HandlerTooSlow,
    MailboxOverflow,
    is_ours,
    own_part,
    sole,
    told,
)
from polyactors.extensions.hands import ActorContext, Heard
from polyactors.extensions.mailbox import Mailbox
from polyactors.extensions.spec import ActorSpec
from polysupervisor import (
    Backoff,
    ChildSpec,
    ChildState,
    Context,
    ExitReason,
    HoldLimit,
    Restart,
    Shutdown,
)

if TYPE_CHECKING:
    from polyactors.extensions.roster import Extensions
    from polyactors.service import Service

POISON_CRASHES = 3
"""A snapshot with which so many incarnations in a row failed before they had handled anything is
thrown away."""


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
            hold=HoldLimit(policy.hold_seconds_max, spares=is_ours),
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
        self._last_failure = told(reason)

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
            raise sole(group) from None
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

    async def _bounded(self, what: str, call: Awaitable[Any], *, shield: bool = False) -> None:
        policy = self.spec.policy
        seconds = policy.stop_seconds_max / 2 if shield else policy.handle_seconds_max
        place = None
        with trio.move_on_after(seconds, shield=shield) as scope:
            try:
                await call
            except BaseException as error:
                place = own_part(error)
                raise
        if scope.cancelled_caught:
            raise HandlerTooSlow(f"{what} took more than {seconds:g} s").with_traceback(place)

    async def _end_at_stop(self, ctx: Context[object]) -> None:
        await ctx.stop_requested.wait()
        self._mailbox.end()

    async def _tear_down(self, actor: object) -> None:
        teardown = getattr(actor, "teardown", None)
        if teardown is not None:
            await self._bounded("teardown", teardown(), shield=True)

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
