"""The account on a terminal: what it shows at one moment, as plain data, and as one line."""

from collections import deque
from collections.abc import Callable
from decimal import Decimal

import trio
from attrs import Factory, define, frozen

from polyactors.service import Service
from polyactors.stream import Subscription
from polyactors.terminal.lines import clock
from polyactors.terminal.news import News, Tone, condense
from polyactors.terminal.screen import NEWS_KEPT_MAX
from polyactors.terminal.text import count, printable
from polyactors.user.reading import AccountReading, OrderReading, TradeReading


@frozen(kw_only=True)
class AccountScreen:
    """All that a terminal shows of an account at one moment."""

    title: str
    elapsed_seconds: float
    channel: str
    """`up`, `connecting`, or `down: reset`."""
    account: AccountReading
    news: tuple[News, ...]
    """Oldest first."""

    @property
    def state_text(self) -> str:
        """`LIVE`, or `STALE (disconnected)`."""
        reason = self.account.reason
        state = self.account.state.value
        return state if reason is None else f"{state} ({reason.value})"

    @property
    def recent_trades(self) -> list[TradeReading]:
        """All that are known, the newest first."""
        trades = list(self.account.trades.values())
        return sorted(trades, key=lambda trade: trade.match_time_s, reverse=True)

    @property
    def open_orders(self) -> list[OrderReading]:
        """The newest first."""
        return self.account.open_orders[::-1]

    @property
    def positions(self) -> list[tuple[str, Decimal]]:
        """By token, the greatest first."""
        return sorted(self.account.positions.items(), key=lambda item: -abs(item[1]))


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

    def screen(self) -> AccountScreen:
        """What to show now."""
        line = self.service.account
        channel = "up" if line.epoch is not None else "connecting"
        if line.epoch is None and line.down_reason:
            channel = f"down: {printable(line.down_reason)}"
        return AccountScreen(
            title=self.title,
            elapsed_seconds=trio.current_time() - self.started_seconds,
            channel=channel,
            account=line.read(allow_stale=True),
            news=tuple(self.news),
        )


def account_status_line(screen: AccountScreen, time_ns: int) -> str:
    """How things stand, in one line."""
    account = screen.account
    return (
        f"{clock(time_ns)} status: account {screen.state_text}; channel {screen.channel}; "
        f"{count(len(screen.open_orders), 'open order')}; {count(len(account.trades), 'trade')}; "
        f"{count(len(account.positions), 'position')}\n"
    )
