"""Actors as classes, for those who would rather fill in methods than write a function."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

from polysupervisor._child import Shutdown
from polysupervisor._context import Context
from polysupervisor._exit import ExitKind, ExitReason, describe, leaves, split_cancelled
from polysupervisor._inbox import Inbox
from polysupervisor.errors import NoMailbox

M = TypeVar("M")


class Actor(Generic[M]):
    """One incarnation of a child as an object: its attributes are the state.

    The factory of a ``ChildSpec`` returns a *new* one for every incarnation (the class itself
    is a factory), so a restart begins with fresh state. Override what is needed: ``handle`` or
    ``handle_batch`` if the child has a mailbox, and ``setup`` and ``teardown``. They are called
    in one task, one after the other. An exception out of any of them ends the incarnation as
    failed, and the supervisor decides.
    """

    __has_run = False

    async def setup(self, ctx: Context[M]) -> None:
        """Prepare; the child is ready when this returns. Keep ``ctx`` for later use.

        *Error handling*: an exception is a failed start. After ``ctx.ignore()`` nothing is
        handled.
        """

    async def handle(self, msg: M) -> None:
        """Handle one message; the next is received after this. A failure loses this one alone."""

    async def handle_batch(self, msgs: list[M]) -> None:
        """Handle all messages that are queued, at least one; ``handle`` is then not called.

        Faster for streams. A failure loses the whole batch.
        """

    async def teardown(self, reason: ExitReason | None) -> None:
        """Clean up; called once, last, whatever happened, also when ``setup`` failed.

        ``reason`` is ``None`` after an ordered end, else how it failed: ``START_FAILED``,
        ``CRASH``, or ``KILLED`` if it was cancelled for whatever cause (``expected`` is not
        judged yet).

        *Cancellation*: it is shielded, and cancelled after ``Shutdown.grace`` seconds, or half
        of ``Shutdown.kill`` after the actor was cancelled if that is sooner. *Error handling*:
        an exception is a failure, also after an ordered end; ``trio.TooSlowError`` if it takes
        too long after a failure. Both failures come out then, in a group.
        """

    def _begin(self) -> None:
        if self.__has_run:
            name = type(self).__name__
            raise RuntimeError(f"this {name} has run: a factory returns a new one for every start")
        # Not by assignment, which a frozen class refuses.
        object.__setattr__(self, "_Actor__has_run", True)


async def run_actor(actor: Actor[M], ctx: Context[M], shutdown: Shutdown) -> None:
    """Run one incarnation to its end. For the runtime.

    *Cancellation*: goes on after ``teardown``. *Error handling*: raises what ``setup``, the
    handlers or ``teardown`` raised, in a group if that is more than one; ``RuntimeError`` if
    the instance has run before, ``TypeError`` if there is a mailbox and nothing to handle it.
    """
    actor._begin()  # pyright: ignore[reportPrivateUsage] - for the runtime, not for users
    inbox = _inbox_of(actor, ctx)
    try:
        await _work(actor, ctx, inbox)
        # Told to stop and cancelled at once, it may have ended without hearing of the latter.
        await trio.lowlevel.checkpoint_if_cancelled()
    except BaseException as error:
        try:
            await _tear_down(actor, ctx, error, shutdown)
        except BaseException as second:
            # No list in a local variable: it would keep them, they this frame, it the actor.
            raise BaseExceptionGroup(f"{ctx.path} and its teardown", [error, second]) from None
        raise
    await _tear_down(actor, ctx, None, shutdown)


def _inbox_of(actor: Actor[M], ctx: Context[M]) -> Inbox[M] | None:
    try:
        inbox = ctx.inbox
    except NoMailbox:
        return None
    if not (_overrides(actor, "handle") or _overrides(actor, "handle_batch")):
        name = type(actor).__name__
        raise TypeError(f"{ctx.path} has a mailbox: {name} must override handle or handle_batch")
    return inbox


def _overrides(actor: Actor[M], method: str) -> bool:
    return getattr(type(actor), method) is not getattr(Actor, method)


async def _work(actor: Actor[M], ctx: Context[M], inbox: Inbox[M] | None) -> None:
    await actor.setup(ctx)
    if ctx.is_ignored:
        return
    ctx.ready()
    if inbox is None:
        await ctx.stop_requested.wait()
    elif not _overrides(actor, "handle_batch"):
        async for message in inbox:  # one by one, so that no more than one is in flight
            await actor.handle(message)
    else:
        while True:
            try:
                messages = await inbox.receive_batch()
            except trio.EndOfChannel:
                return
            await actor.handle_batch(messages)


def _reason_of(error: BaseException, ctx: Context[M]) -> ExitReason | None:
    """Say what the supervisor will say, as far as it can be known by now."""
    failure = split_cancelled(error)[1]
    stopping = ctx.stop_requested.is_set()
    if failure is None:
        return ExitReason(ExitKind.KILLED)
    if stopping and all(isinstance(leaf, trio.EndOfChannel) for leaf in leaves(failure)):
        return None  # a handler that receives by itself has come to the end
    started = ctx.is_ready or stopping
    return describe(failure, ExitKind.CRASH if started else ExitKind.START_FAILED)


async def _tear_down(
    actor: Actor[M], ctx: Context[M], error: BaseException | None, shutdown: Shutdown
) -> None:
    if not _overrides(actor, "teardown"):
        return
    reason = None if error is None else _reason_of(error, ctx)
    async with trio.open_nursery() as ears:
        deadline = trio.current_time() + shutdown.grace
        with trio.CancelScope(deadline=deadline, shield=True) as shielded:
            # Half of the kill time, so that it is over before it would be called wedged. Also
            # if the cancellation comes only now: without this, an infinite grace has no end.
            ears.start_soon(_hear_cancellation, shielded, shutdown.kill / 2)
            await actor.teardown(reason)
        ears.cancel_scope.cancel()
    # Not reached after a cancellation, which the nursery passes on; the supervisor cancels an
    # actor that it has told to stop, so this is about one that failed by itself.
    if shielded.cancelled_caught:
        raise trio.TooSlowError(f"teardown of {ctx.path} took more than {shutdown.grace:g} s")


async def _hear_cancellation(shielded: trio.CancelScope, seconds: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        shielded.deadline = min(shielded.deadline, trio.current_time() + seconds)
