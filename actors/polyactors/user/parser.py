"""The parser of the user channel: frames become events of the account, and nothing is dropped.

An unreadable frame may have been a fill. So it is counted and kept, without any of the
credentials that it may repeat, and the account is read anew from REST.
"""

from polyactors.logger import log
from polyactors.messages import (
    Abort,
    ControlMessage,
    Frames,
    HeartbeatMessage,
    PongReceived,
    UserParsed,
)
from polyactors.parser import UNREADABLE_PER_SESSION_MAX, note_unknown, note_unreadable
from polyactors.protocol.events import ControlText, Unreadable
from polyactors.protocol.user_codec import UserCodec
from polyactors.protocol.user_events import OrderEvent, UserDecoded
from polyactors.user.line import UserLine
from polyactors.user.state import AccountReason
from polysupervisor import Address, Context

BATCHES_PER_WAKE_MAX = 64


async def run_user_parser(
    ctx: Context[Frames],
    line: UserLine,
    account: Address[UserParsed],
    heartbeat: Address[HeartbeatMessage],
    connection: Address[ControlMessage],
) -> None:
    """Parse until stopped. Never fails on what a frame says, only on bugs."""
    codec = UserCodec()
    statistics = line.env.statistics
    unreadable = 0  # in one session: the next one is a new incarnation's
    if line.epoch is not None:
        # Frames that a former incarnation had taken, or that waited for it, are gone.
        line.doubt(AccountReason.ACTOR_RESTARTED)
    line.parser_ready.set()
    ctx.ready()
    while True:
        for frames in await ctx.inbox.receive_batch(BATCHES_PER_WAKE_MAX):
            if frames.epoch != line.epoch:
                statistics.stale_batches += 1
                continue
            parsed = UserParsed(frames.epoch, [])
            pongs = 0
            for frame in frames.frames:
                decoded = codec.receive_frame(frame)
                parsed.events.extend(decoded.events)
                pongs += decoded.control is ControlText.PONG
                unreadable += _note(decoded, line)
            if parsed.events:
                await account.send(parsed)
            if pongs:
                await heartbeat.send(PongReceived(frames.epoch))
            if unreadable > UNREADABLE_PER_SESSION_MAX:
                detail = f"{unreadable} unreadable frames in one session"
                connection.send_nowait(Abort(frames.epoch, "unreadable", detail))


def _note(decoded: UserDecoded, line: UserLine) -> bool:
    """Count all that a frame held; whether something in it was unreadable."""
    statistics = line.env.statistics
    for event in decoded.events:
        statistics.events["order" if isinstance(event, OrderEvent) else "trade"] += 1
    if decoded.control is ControlText.INVALID_OPERATION:
        log.warning("the exchange rejected a subscription", answer=decoded.control.value)
    names = map(line.redact, decoded.unknown_events), map(line.redact, decoded.unknown_fields)
    unknown_events, unknown_fields = map(tuple, names)
    note_unknown(
        UserDecoded(unknown_events=unknown_events, unknown_fields=unknown_fields), statistics
    )
    if decoded.unreadable:
        first = decoded.unreadable[0]
        shown = Unreadable(line.redact(first.why), line.redact(first.excerpt))
        note_unreadable(shown, statistics)
        line.doubt(AccountReason.PARSE_FAILURE)
    return bool(decoded.unreadable)
