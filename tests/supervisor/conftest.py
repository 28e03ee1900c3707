"""Actors and readers that the tests of the runtime share. All of them run on virtual time."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from polysupervisor import ChildSpec, Context, EventKind, MailboxSpec, Run, Subscription

Order = Exception | None


@pytest.fixture
def puppet() -> Run[Any]:
    """An actor that is ready at once, raises what it is sent, and returns on ``None``."""

    async def run(ctx: Context[Order]) -> None:
        ctx.ready()
        async for order in ctx.inbox:
            if order is None:
                return
            raise order

    return run


@pytest.fixture
def puppet_spec(puppet: Run[Any]) -> Callable[..., ChildSpec[Any]]:
    """Make the specification of a puppet; further arguments are those of ``ChildSpec``."""

    def make(child_id: str, **arguments: Any) -> ChildSpec[Any]:
        return ChildSpec(child_id, lambda: puppet, mailbox=MailboxSpec(), **arguments)

    return make


@pytest.fixture
def story() -> Callable[[Subscription], list[str]]:
    """Take what a subscription holds, as lines ``path#incarnation kind``; in-flight left out."""

    def take(events: Subscription) -> list[str]:
        lines: list[str] = []
        while True:
            try:
                event = events.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return lines
            if event.kind is not EventKind.LOST_IN_FLIGHT:
                lines.append(f"{event.path}#{event.incarnation} {event.kind}")

    return take
