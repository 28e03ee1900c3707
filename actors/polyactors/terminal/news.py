"""News: the events that matter to a person, condensed to sentences.

Two hundred books that go STALE together are one sentence, and so are the three actors of a
connection that are restarted together.
"""

import re
from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import frozen

from polyactors.book.trust import StaleReason, TrustState
from polyactors.errors import SessionFailed
from polyactors.events import (
    AccountStateChanged,
    ActorEvent,
    ActorGaveUp,
    ActorRestarted,
    Event,
    FaultInjected,
    FaultRecovered,
    FeedDown,
    FeedUp,
    Gap,
    OrderChanged,
    PositionChanged,
    TickSizeChanged,
    TradeChanged,
    TrustChanged,
)
from polyactors.terminal.text import count, printable, short_token
from polyactors.user.state import AccountState

WITH_ITS_GROUP = "restarted with its group"
"""The reason of an actor that fell because a sibling did."""
RECOVERED_TOLD_MAX = 20
"""Changes of the account recovered together that are told one by one; of more, how many."""
EXTENSIONS = "root/extensions/"
"""Where users' actors are."""
TEXT_CHARS_MAX = 160
_RAISED = re.compile(r"\w+ \((?:\w+\.)*(?P<error>\w+(?:: .*)?)\)(?P<place> at [^)]*)?", re.DOTALL)
"""How an ExitReason with an exception reads: kind, then the qualified name and the text."""


class Tone(Enum):
    """What kind of news it is."""

    GOOD = "good"
    BAD = "bad"
    FAULT = "fault"
    PLAIN = "plain"


@frozen
class News:
    """One sentence, and when it became true."""

    time_ns: int
    """Wall clock, nanoseconds since the epoch."""
    text: str
    tone: Tone


@frozen
class _Trust:
    """Books that took the same step."""

    state: TrustState
    reason: StaleReason | None


@frozen
class _Restart:
    """Actors of one supervisor."""

    supervisor: str


@frozen
class _Said:
    """What an actor of a user's said in the same words."""

    actor: str
    name: str


def token_name(token: str, names: Mapping[str, str]) -> str:
    """What a token is called: its market's question and outcome where they are known."""
    return names.get(token) or short_token(token)


def condense(events: Iterable[Event], names: Mapping[str, str]) -> list[News]:
    """The news in `events`, in their order; what belongs together stands at its first event."""
    events = list(events)
    recovered = sum(
        isinstance(event, OrderChanged | TradeChanged | PositionChanged) and event.reconciled
        for event in events
    )
    groups: dict[object, list[Event]] = {}
    for number, event in enumerate(events):
        key: object = number
        match event:
            case TrustChanged():
                key = _Trust(event.state, event.reason)
            case ActorRestarted() if not event.path.startswith(EXTENSIONS):
                key = _Restart(event.path.rpartition("/")[0])
            case ActorEvent():
                key = _Said(event.actor, event.name)
            case (
                OrderChanged(reconciled=True)
                | TradeChanged(reconciled=True)
                | PositionChanged(reconciled=True)
            ) if recovered > RECOVERED_TOLD_MAX:
                key = "recovered"
            case _:
                pass
        groups.setdefault(key, []).append(event)
    return [
        News(group[0].time_ns, printable(told[0]), told[1])
        for group in groups.values()
        if (told := _tell(group, names)) is not None
    ]


def _tell(group: list[Event], names: Mapping[str, str]) -> tuple[str, Tone] | None:
    event = group[0]
    match event:
        case TrustChanged():
            return _tell_trust(
                event, [one for one in group if isinstance(one, TrustChanged)], names
            )
        case ActorRestarted():
            return _tell_restarts([one for one in group if isinstance(one, ActorRestarted)])
        case ActorGaveUp():
            name = event.path.rpartition("/")[2]
            return _cut(f"{name} gave up: {plain_reason(event.reason)}"), Tone.BAD
        case ActorEvent():
            return _tell_said([one for one in group if isinstance(one, ActorEvent)], names)
        case FeedUp():
            return f"{event.feed} up (epoch {event.epoch})", Tone.GOOD
        case FeedDown(reason="stopping"):
            return f"{event.feed} down: {event.detail or 'stopping'}", Tone.PLAIN
        case FeedDown():
            detail = f" ({event.detail})" if event.detail else ""
            return _cut(f"{event.feed} down: {event.reason}{detail}"), Tone.BAD
        case Gap(reason=StaleReason.OVERFLOW, feed=None):
            return "events were lost here: this view was too slow", Tone.BAD
        case Gap(token=None, reason=StaleReason.DISCONNECTED | StaleReason.FEED_STALLED):
            return None  # the feed going down and coming up has told it
        case Gap(token=None):
            return f"gap on {event.feed}: {event.reason.value}", Tone.BAD
        case FaultInjected():
            target = event.feed
            if event.token is not None:
                target = token_name(event.token, names)
            on = f" on {target}" if target else ""
            return f"fault {event.id} injected: {event.kind}{on}", Tone.FAULT
        case FaultRecovered():
            return f"fault {event.id} healed: {event.kind}, {event.seconds:.1f} s", Tone.GOOD
        case OrderChanged() | TradeChanged() | PositionChanged() if len(group) > 1:
            return _tell_recovered(group)
        case OrderChanged():
            return _tell_order(event, names)
        case TradeChanged():
            return _tell_trade(event, names)
        case PositionChanged():
            return _tell_position(event, names)
        case AccountStateChanged():
            reason = f": {event.reason.value}" if event.reason is not None else ""
            tone = _ACCOUNT_TONES.get(event.state, Tone.BAD)
            return f"the account is {event.state.value}{reason}", tone
        case TickSizeChanged():
            name = token_name(event.token, names)
            return f"{name}: tick size {event.old or '?'} → {event.new}", Tone.PLAIN
        case _:
            return None  # books and trades are not news; a gap of one token is told by its trust


_ACCOUNT_TONES = {AccountState.LIVE: Tone.GOOD, AccountState.SYNCING: Tone.PLAIN}


def _tell_recovered(group: list[Event]) -> tuple[str, Tone]:
    orders = {event.order.id for event in group if isinstance(event, OrderChanged)}
    trades = {event.trade.id for event in group if isinstance(event, TradeChanged)}
    told = [
        count(len(found), noun) for found, noun in ((orders, "order"), (trades, "trade")) if found
    ]
    return f"recovered by REST: {' and '.join(told)}", Tone.PLAIN


def _tell_order(event: OrderChanged, names: Mapping[str, str]) -> tuple[str, Tone]:
    order = event.order
    what = "placed" if event.previous is None and order.state == "OPEN" else order.state.lower()
    text = f"{order.side} {order.original_size:f} at {order.price:f}"
    filled = f", +{event.filled_size:f} filled" if event.filled_size else ""
    if order.filled_size != event.filled_size:
        filled += f", {order.filled_size:f} in all"
    name = token_name(order.token, names)
    return f"order {short_token(order.id)} {what}: {text} of {name}{filled}{_by(event)}", Tone.PLAIN


def _tell_position(event: PositionChanged, names: Mapping[str, str]) -> tuple[str, Tone]:
    name = token_name(event.token, names)
    is_back = (event.new > event.old) is not (event.fill.side == "BUY")
    why = ": given back, its trade failed" if is_back else ""
    tone = Tone.BAD if is_back else Tone.PLAIN
    return f"position {name}: {event.old:f} → {event.new:f} shares{why}{_by(event)}", tone


def _tell_trade(event: TradeChanged, names: Mapping[str, str]) -> tuple[str, Tone]:
    trade = event.trade
    fill = trade.fills[0]
    tone = Tone.BAD if trade.status == "FAILED" else Tone.PLAIN
    if trade.status == "CONFIRMED":
        tone = Tone.GOOD
    text = f"{fill.side} {fill.size:f} at {fill.price:f} of {token_name(fill.token, names)}"
    return f"trade {short_token(trade.id)} {trade.status}: {text}{_by(event)}", tone


def _by(event: OrderChanged | TradeChanged | PositionChanged) -> str:
    """Where it was heard of, when not on the channel."""
    return " (by REST)" if event.reconciled else ""


def _tell_trust(
    first: TrustChanged, group: list[TrustChanged], names: Mapping[str, str]
) -> tuple[str, Tone] | None:
    if first.state not in (TrustState.LIVE, TrustState.STALE):
        return None
    tokens = {event.token for event in group}
    name = token_name(first.token, names) if len(tokens) == 1 else count(len(tokens), "book")
    if first.reason is None:
        return f"{name} LIVE", Tone.GOOD
    return f"{name} STALE: {first.reason.value}", Tone.BAD


def _tell_restarts(group: list[ActorRestarted]) -> tuple[str, Tone]:
    if group[0].path.startswith(EXTENSIONS):
        name = group[0].path.removeprefix(EXTENSIONS)
        return _cut(f"{name} restarted: {plain_reason(group[0].reason)}"), Tone.BAD
    own = next((event for event in group if event.reason != WITH_ITS_GROUP), group[0])
    supervisor = group[0].path.rpartition("/")[0].rpartition("/")[2] or "the service"
    children = ", ".join(dict.fromkeys(event.path.rpartition("/")[2] for event in group))
    text = f"{supervisor} restarted {children}"
    if not _is_session_end(own):  # which its feed has told
        text += f": {plain_reason(own.reason)}"
    return _cut(text), Tone.PLAIN


def _tell_said(group: list[ActorEvent], names: Mapping[str, str]) -> tuple[str, Tone]:
    last = group[-1]
    times = f" ×{len(group)}" if len(group) > 1 else ""  # noqa: RUF001 - a times sign
    data = " ".join(f"{key}={_shown(value, names)}" for key, value in last.data.items())
    return _cut(f"{last.actor}: {last.name}{times} {data}".rstrip()), Tone.PLAIN


def _shown(value: object, names: Mapping[str, str]) -> str:
    """A value of an actor's; ids of tokens by their names, as a person knows them."""
    if isinstance(value, str):
        return token_name(value, names) if value.isdecimal() and len(value) > 30 else value
    return str(value)


def _is_session_end(restart: ActorRestarted) -> bool:
    is_crash = _RAISED.fullmatch(restart.reason) is not None
    is_connection = restart.path.endswith("/connection")
    return SessionFailed.__name__ in restart.reason or (is_connection and not is_crash)


def plain_reason(reason: str) -> str:
    """`crash (polyactors.errors.RestFailed: no answer)` is `RestFailed: no answer`."""
    match = _RAISED.fullmatch(reason)
    return reason if match is None else match["error"] + (match["place"] or "")


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"
