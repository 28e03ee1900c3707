"""The actors of the user channel and their supervisors.

user                ONE_FOR_ONE
├ account           keeper.py; outlives every reconnect
└ user-feed         REST_FOR_ONE: connection → heartbeat → parser

Beside the core, so that nothing here can hurt the books.
"""

import traceback
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeVar, cast

from polyactors.config import (
    BACKOFF_SECONDS_MIN,
    CONTROL_KEYS_MAX,
    FEED_GAVE_UP_RETRY_SECONDS,
    FEED_GAVE_UP_RETRY_SECONDS_MAX,
)
from polyactors.connection import run_connection
from polyactors.errors import SessionFailed
from polyactors.heartbeat import run_heartbeat
from polyactors.logger import Outage
from polyactors.messages import (
    Abort,
    ControlMessage,
    Frames,
    HeartbeatMessage,
    UserParsed,
)
from polyactors.user.keeper import MAILBOX_BATCHES, run_keeper
from polyactors.user.line import LINE_ID, UserLine
from polyactors.user.lists import AccountLists
from polyactors.user.parser import run_user_parser
from polyactors.user.state import AccountReason
from polysupervisor import (
    Address,
    Backoff,
    ChildSpec,
    Context,
    Intensity,
    MailboxSpec,
    Overflow,
    Shutdown,
    Strategy,
    Supervisor,
    SupervisorEscalation,
)

ACTOR_SHUTDOWN = Shutdown(grace=2.0, kill=2.0)
HEARTBEAT_MESSAGES_MAX = 64
REST_CALM_SECONDS = 30.0
MessageT = TypeVar("MessageT")


def user_spec(line: UserLine, lists: AccountLists) -> ChildSpec[object]:
    """The user channel as a child of the service's root. When it has given up it is tried again,
    but rarely, and the books go on."""
    outage = Outage(calm_seconds=REST_CALM_SECONDS)
    return ChildSpec(
        id=LINE_ID,
        factory=lambda: make_user(line, lists, outage),
        backoff=Backoff(
            min=FEED_GAVE_UP_RETRY_SECONDS,
            max=FEED_GAVE_UP_RETRY_SECONDS_MAX,
            jitter=0.0,
            reset_after=FEED_GAVE_UP_RETRY_SECONDS_MAX,
        ),
        expected=(SupervisorEscalation,),
        shutdown=Shutdown(grace=10.0),
    )


def make_user(line: UserLine, lists: AccountLists, outage: Outage) -> Supervisor:
    """The account and its feed."""
    account: ChildSpec[UserParsed] = ChildSpec(
        id="account",
        factory=lambda: _told(line, lambda ctx: run_keeper(ctx, line, lists, outage)),
        backoff=Backoff(min=0.1, max=5.0, first_immediate=True),
        mailbox=MailboxSpec(size=MAILBOX_BATCHES, keep_on_restart=False),
        shutdown=ACTOR_SHUTDOWN,
    )

    def address() -> Address[UserParsed]:
        return supervisor.address("account")

    supervisor: Supervisor = Supervisor(
        LINE_ID,
        [account, _make_feed(line, address)],
        strategy=Strategy.ONE_FOR_ONE,
        intensity=Intensity(5, 60.0),
    )
    return supervisor


def _make_feed(line: UserLine, account: Callable[[], Address[UserParsed]]) -> Supervisor:
    def address(child: str) -> "Address[Any]":
        return supervisor.address(child)

    reconnect_seconds_max = line.env.settings.reconnect_seconds_max
    connection: ChildSpec[ControlMessage] = ChildSpec(
        id="connection",
        factory=lambda: _told(
            line, lambda ctx: run_connection(ctx, line, address("parser"), address("heartbeat"))
        ),
        backoff=Backoff(
            min=min(BACKOFF_SECONDS_MIN, reconnect_seconds_max),
            max=reconnect_seconds_max,
            jitter=1.0,
            reset_after=inf,
        ),
        expected=(SessionFailed,),
        mailbox=MailboxSpec(
            size=CONTROL_KEYS_MAX,
            overflow=Overflow.COALESCE,
            key=_control_key,
            keep_on_restart=False,
        ),
        shutdown=ACTOR_SHUTDOWN,
    )
    heartbeat: ChildSpec[HeartbeatMessage] = ChildSpec(
        id="heartbeat",
        factory=lambda: _told(
            line, lambda ctx: run_heartbeat(ctx, line, address("connection"), None)
        ),
        mailbox=MailboxSpec(size=HEARTBEAT_MESSAGES_MAX, keep_on_restart=False),
        shutdown=ACTOR_SHUTDOWN,
    )
    parser: ChildSpec[Frames] = ChildSpec(
        id="parser",
        factory=lambda: _told(
            line,
            lambda ctx: run_user_parser(
                ctx, line, account(), address("heartbeat"), address("connection")
            ),
        ),
        mailbox=MailboxSpec(size=MAILBOX_BATCHES, keep_on_restart=False),
        shutdown=ACTOR_SHUTDOWN,
    )
    supervisor = Supervisor(
        "user-feed",
        [connection, heartbeat, parser],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(5, 60.0),
    )
    line.connection_address = supervisor.address("connection")
    return supervisor


def _told(
    line: UserLine, run: Callable[[Context[MessageT]], Awaitable[None]]
) -> Callable[[Context[MessageT]], Awaitable[None]]:
    """An actor whose crash is known to the line at once, and quotes none of the credentials.

    An error may say what it was about, and that came from a server which knows them.
    """

    async def told(ctx: Context[MessageT]) -> None:
        crash: RuntimeError | None = None
        try:
            await run(ctx)
        except SessionFailed:
            raise
        except Exception as error:
            if not ctx.stop_requested.is_set():  # a stop ends mailboxes: no crash, also in groups
                line.lose(AccountReason.ACTOR_RESTARTED)
            found = "".join(traceback.format_exception(error))
            shown = line.redact(found)
            if shown == found:
                raise
            first: Exception = error
            while isinstance(first, ExceptionGroup):
                first = cast("ExceptionGroup[Exception]", first).exceptions[0]
            crash = RuntimeError(line.redact(f"{type(first).__name__}: {first}"))
            crash.add_note(shown)
        if crash is not None:  # out here it has no context that would be shown
            raise crash

    return told


def _control_key(message: ControlMessage) -> object:
    return type(message) if not isinstance(message, Abort) else (Abort, message.epoch)
