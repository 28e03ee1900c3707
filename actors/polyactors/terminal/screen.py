"""What a terminal shows at one moment, as plain data: taken here, drawn elsewhere."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

import trio
from attrs import Factory, define, frozen

from polyactors.book.orderbook import Level
from polyactors.book.reading import BookReading
from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import BookUpdated, Event
from polyactors.extensions.extension import ActorStatus
from polyactors.service import FeedStatus, Service
from polyactors.statistics import Statistics
from polyactors.stream import Subscription
from polyactors.terminal.news import News, Tone, condense, token_name
from polyactors.terminal.text import count, printable
from polyactors.user.line import UserLine
from polyactors.user.state import AccountTrust

NEWS_KEPT_MAX = 100
RATE_WINDOW_SECONDS = 3.0
"""Messages a second are counted over so long."""
RANK_SECONDS = 2.0
"""How often the busiest tokens are chosen anew, so that rows do not jump about."""
SUBSCRIPTION_EVENTS_MAX = 16_384

Top = tuple[Level | None, Level | None, Decimal | None]
"""Best bid, best ask, spread."""


@frozen(kw_only=True)
class Row:
    """One token."""

    name: str
    feed: str
    state: TrustState
    reason: StaleReason | None
    best_bid: Level | None = None
    best_ask: Level | None = None
    spread: Decimal | None = None
    """None while a side is empty."""
    bids: int = 0
    """Number of price levels."""
    asks: int = 0
    age_seconds: float | None = None
    """Since the last update; None before the first one."""


@frozen
class Verified:
    """What was checked so far against the exchange's own figures, and what was found wrong."""

    by_top: int
    """Hash groups whose best prices were the stated ones."""
    by_hash: int
    """Hash groups whose book hashed to the stated hash."""
    unverifiable: int
    """Hash groups whose hash hangs on what is not known."""
    desyncs: Mapping[str, int]
    """Books proven wrong, by reason."""

    @classmethod
    def of(cls, statistics: Statistics) -> "Verified":
        """How things stand."""
        return cls(
            statistics.groups_top_ok,
            statistics.groups_hash_ok,
            statistics.groups_hash_unverifiable,
            dict(statistics.desyncs_by_reason),
        )

    @property
    def groups_text(self) -> str:
        """`812 groups by top, 96 by hash`."""
        return f"{count(self.by_top, 'group')} by top, {self.by_hash:,} by hash"

    @property
    def desyncs_text(self) -> str:
        """`0 desyncs`, or `3 desyncs (2 top_mismatch, 1 crossed)`, the most frequent first."""
        told = count(sum(self.desyncs.values()), "desync")
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in Counter(self.desyncs).most_common())
        return f"{told} ({reasons})" if reasons else told

    @property
    def unverifiable_text(self) -> str:
        """`48 unverifiable`; empty when there are none."""
        return f"{self.unverifiable:,} unverifiable" if self.unverifiable else ""

    @property
    def text(self) -> str:
        """All of it."""
        parts = (self.groups_text, self.desyncs_text, self.unverifiable_text)
        return "verified " + "; ".join(part for part in parts if part)


@frozen(kw_only=True)
class Screen:
    """All that a terminal shows at one moment."""

    title: str
    elapsed_seconds: float
    feeds: tuple[FeedStatus, ...]
    states: Mapping[str, int]
    """Number of tokens by trust state."""
    restarts: int
    messages_per_second: float
    verified: Verified
    rows: tuple[Row, ...]
    news: tuple[News, ...]
    """Oldest first."""
    actors: tuple[ActorStatus, ...] = ()
    """Those of the user."""
    account: AccountTrust | None = None
    """None when no account is followed."""
    account_text: str = ""
    """The same in words, and how much there is."""

    @property
    def tokens(self) -> int:
        """How many tokens are followed, shown or not."""
        return sum(self.states.values())

    @property
    def hidden(self) -> int:
        """Tokens for which there was no row."""
        return self.tokens - len(self.rows)

    @property
    def feeds_up(self) -> int:
        """Feeds with a live session."""
        return sum(feed.epoch is not None for feed in self.feeds)

    @property
    def feeds_down(self) -> tuple[FeedStatus, ...]:
        """Feeds without a live session."""
        return tuple(feed for feed in self.feeds if feed.epoch is None)


@define
class _Activity:
    """What the stream said of one token."""

    last_update_ns: int = 0
    updates: int = 0
    """Since the last ranking."""
    rank: float = 0.0


@define
class Watch:
    """Follows a service for one terminal. It reads books only of the rows that are shown."""

    service: Service
    subscription: Subscription
    title: str
    names: Mapping[str, str]
    """By token: what its market and outcome are called."""
    clock_ns: Callable[[], int]
    started_seconds: float = Factory(trio.current_time)
    news: deque[News] = Factory(lambda: deque[News](maxlen=NEWS_KEPT_MAX))
    _activity: dict[str, _Activity] = Factory(dict[str, _Activity])
    _tops: dict[str, Top] = Factory(dict[str, Top])
    """By token that was shown: its best prices when it had some last."""
    _ranked_seconds: float = 0.0
    _messages: deque[tuple[float, int]] = Factory(deque[tuple[float, int]])

    async def catch_up(self) -> list[News]:
        """Take in what the stream holds, without waiting for more; returns what is new."""
        if not self.subscription.held:
            await trio.lowlevel.checkpoint()
            return []
        events = await self.subscription.receive_batch()
        for event in events:
            if isinstance(event, BookUpdated):
                activity = self._activity.setdefault(event.token, _Activity())
                activity.last_update_ns = event.time_ns
                activity.updates += 1
        fresh = self._condense(events)
        self.news.extend(fresh)
        return fresh

    def tell_error(self, text: str) -> None:
        """Something that no event tells went wrong."""
        self.news.append(News(self.clock_ns(), text, Tone.BAD))

    def screen(self, rows_max: int) -> Screen:
        """What to show now, with at most `rows_max` tokens."""
        now = trio.current_time()
        statistics = self.service.statistics
        followed = self.service.account if self.service.follows_account else None
        return Screen(
            title=self.title,
            elapsed_seconds=now - self.started_seconds,
            feeds=tuple(self.service.feed_statuses()),
            states=self.service.states(),
            restarts=statistics.restarts.total(),
            messages_per_second=self._rate(now, messages(statistics)),
            verified=Verified.of(statistics),
            account=None if followed is None else followed.believed(),
            account_text="" if followed is None else _account_text(followed),
            actors=tuple(self.service.actor_statuses()),
            rows=tuple(self._row(token) for token in self._pick(now, rows_max)),
            news=tuple(self.news),
        )

    def _condense(self, events: Iterable[Event]) -> list[News]:
        return condense(
            (event for event in events if not isinstance(event, BookUpdated)), self.names
        )

    def _rate(self, now: float, number: int) -> float:
        self._messages.append((now, number))
        while self._messages[0][0] < now - RATE_WINDOW_SECONDS and len(self._messages) > 2:
            self._messages.popleft()
        since, before = self._messages[0]
        return (number - before) / (now - since) if now > since else 0.0

    def _pick(self, now: float, rows_max: int) -> Sequence[str]:
        tokens = self.service.tokens
        if len(tokens) <= rows_max:
            return tokens
        if now - self._ranked_seconds >= RANK_SECONDS:
            self._ranked_seconds = now
            for activity in self._activity.values():
                activity.rank = activity.rank / 2 + activity.updates
                activity.updates = 0

        def urgency(token: str) -> tuple[bool, float]:
            activity = self._activity.get(token)
            is_live = self.service.trust(token).state is TrustState.LIVE
            return is_live, -activity.rank if activity is not None else 0.0

        shown = set(sorted(tokens, key=urgency)[: max(rows_max, 0)])
        return [token for token in tokens if token in shown]

    def _row(self, token: str) -> Row:
        reading: BookReading = self.service.book(token, allow_stale=True)
        activity = self._activity.get(token)
        best_bid, best_ask, spread = self._top(token, reading)
        return Row(
            name=printable(token_name(token, self.names)),
            feed=self.service.feed_id(token) or "",
            state=reading.state,
            reason=reading.reason,
            best_bid=best_bid,
            best_ask=best_ask,
            spread=spread,
            bids=reading.bid_count,
            asks=reading.ask_count,
            age_seconds=None
            if activity is None
            else (self.clock_ns() - activity.last_update_ns) / 1e9,
        )

    def _top(self, token: str, reading: BookReading) -> Top:
        # In the middle of an engine step a book may look crossed, and then it has no top. What
        # it was a few milliseconds before is of use to a person; a blank would flicker.
        is_half_told = not reading.settled and reading.is_crossed
        if not is_half_told or token not in self._tops:
            self._tops[token] = reading.best_bid, reading.best_ask, reading.spread
        return self._tops[token]


def messages(statistics: Statistics) -> int:
    """What the exchange has said so far of its markets, readable or not; PONG says nothing.

    A frame that holds many events, like the first one, is so many messages.
    """
    return (
        statistics.events.total() + statistics.unknown_events.total() + statistics.unreadable_frames
    )


def _account_text(line: UserLine) -> str:
    told = account_text(line.believed())
    if not line.was_accepted:
        return told
    orders, positions = len(line.account.open_orders()), len(line.account.positions)
    return f"{told}, {count(orders, 'open order')}, {count(positions, 'position')}"


def account_text(trust: AccountTrust) -> str:
    """`LIVE`, or `STALE (disconnected)`."""
    return trust.state.value if trust.reason is None else f"{trust.state.value} ({trust.reason})"


def states_text(states: Mapping[str, int]) -> str:
    """`8 LIVE, 2 STALE`; the good ones first, `none yet` for nothing."""
    counts = Counter(states)
    order = [state.value for state in reversed(TrustState)]
    order.sort(key=lambda state: state != TrustState.LIVE.value)
    told = [f"{counts[state]:,} {state}" for state in order if counts[state]]
    return ", ".join(told) or "none yet"


def feeds_text(screen: Screen, shown_max: int = 2) -> str:
    """`1/2 up; feed-1 down: reset`."""
    if not screen.feeds:
        return "none yet"
    down = screen.feeds_down
    told = [f"{screen.feeds_up}/{len(screen.feeds)} up"]
    told += [
        f"{feed.id} down: {printable(feed.down_reason)}"
        if feed.down_reason
        else f"{feed.id} connecting"
        for feed in down[:shown_max]
    ]
    if len(down) > shown_max:
        told.append(f"{len(down) - shown_max} more down")
    return "; ".join(told)
