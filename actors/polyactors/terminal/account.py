"""The account on a terminal: what it shows at one moment, as plain data, and as one line."""

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from heapq import nlargest

import trio
from attrs import Factory, define, frozen

from polyactors.book.numbers import to_decimal
from polyactors.service import Service
from polyactors.stream import Subscription
from polyactors.terminal.lines import clock
from polyactors.terminal.news import News, Tone, condense
from polyactors.terminal.screen import NEWS_KEPT_MAX, account_text
from polyactors.terminal.text import count, duration, printable
from polyactors.user.reading import OrderReading, TradeReading
from polyactors.user.state import AccountState, AccountTrust

NEVER_READ = "its orders and trades are not known"
"""Of an account whose lists were never read: 0 would be a lie."""


@frozen(kw_only=True)
class AccountScreen:
    """All that a terminal shows of an account at one moment."""

    title: str
    elapsed_seconds: float
    channel: str
    """`up`, `connecting`, or `down: reset`."""
    trust: AccountTrust
    state_seconds: float
    """For how long it has been so."""
    is_known: bool
    """Whether its lists were read at least once."""
    rows_read: int
    """Rows of REST's lists that were read so far, while the account is SYNCING; else 0."""
    orders: tuple[OrderReading, ...]
    """Open ones, the newest first; no more than fit."""
    open_orders: int
    """How many there are."""
    trades: tuple[TradeReading, ...]
    """The newest first; no more than fit."""
    known_trades: int
    positions: tuple[tuple[str, Decimal], ...]
    """By token, the greatest first."""
    news: tuple[News, ...]
    """Oldest first."""

    @property
    def state_text(self) -> str:
        """`LIVE`, `STALE (disconnected) for 12 s`, `SYNCING (1,200 rows read) for 3 s`."""
        told = account_text(self.trust)
        if self.rows_read:
            told += f" ({self.rows_read:,} rows read)"
        if self.trust.state is AccountState.LIVE:
            return told
        return f"{told} for {duration(self.state_seconds)}"


@define
class AccountWatch:
    """Follows the account of a service for one terminal."""

    service: Service
    subscription: Subscription
    title: str
    clock_ns: Callable[[], int]
    started_seconds: float = Factory(trio.current_time)
    news: deque[News] = Factory(lambda: deque[News](maxlen=NEWS_KEPT_MAX))

    async def catch_up(self) -> list[News]:
        """Take in what the stream holds, without waiting for more; returns what is new."""
        if not self.subscription.held:
            await trio.lowlevel.checkpoint()
            return []
        fresh = condense(await self.subscription.receive_batch(), {})
        self.news.extend(fresh)
        return fresh

    def tell_error(self, text: str) -> None:
        """Something that no event tells went wrong."""
        self.news.append(News(self.clock_ns(), text, Tone.BAD))

    def screen(self, rows_max: int) -> AccountScreen:
        """What to show now, with at most `rows_max` orders, and as many trades."""
        line = self.service.account
        channel = "up" if line.epoch is not None else "connecting"
        if line.epoch is None and line.down_reason:
            channel = f"down: {printable(line.down_reason)}"
        account, trust = line.account, line.believed()
        opened = account.open_orders()
        orders = nlargest(rows_max, opened, key=lambda order: (order.created_at_s, order.id))
        trades = nlargest(rows_max, account.trades.values(), key=lambda trade: trade.match_time_s)
        positions = sorted(account.positions.items(), key=lambda item: -abs(item[1]))
        is_reading = trust.state is AccountState.SYNCING and line.rows_read > 0
        return AccountScreen(
            title=self.title,
            elapsed_seconds=trio.current_time() - self.started_seconds,
            channel=channel,
            trust=trust,
            state_seconds=trio.current_time() - trust.since_seconds,
            is_known=line.was_accepted,
            rows_read=line.rows_read if is_reading else 0,
            orders=tuple(map(OrderReading.take, orders)),
            open_orders=len(opened),
            trades=tuple(map(TradeReading.take, trades)),
            known_trades=len(account.trades),
            positions=tuple((token, to_decimal(size)) for token, size in positions),
            news=tuple(self.news),
        )


def account_status_line(screen: AccountScreen, time_ns: int) -> str:
    """How things stand, in one line."""
    known = (
        f"{count(screen.open_orders, 'open order')}; {count(screen.known_trades, 'trade')}; "
        f"{count(len(screen.positions), 'position')}"
    )
    return (
        f"{clock(time_ns)} status: account {screen.state_text}; channel {screen.channel}; "
        f"{known if screen.is_known else NEVER_READ}\n"
    )
