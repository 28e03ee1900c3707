"""`candles`: open, high, low, close and volume of the trades, per token and interval.

A trade belongs to the interval of the exchange's own time (`timestamp_ms`). Trades come late, and
a quiet token's last candle must end, too: so a candle is closed by the clock, `late_seconds` after
the end of its interval, whether or not anything comes. What comes later still is counted apart.

`complete` is what a chart cannot show otherwise: that no trade can be missing. It is true when the
book was LIVE, without a Gap, from `late_seconds` before the candle's first moment (by so much may
the exchange's clock be ahead of ours) until it was closed. A candle that is not complete is
published even without trades: nobody knows whether there were any.

Each token has at most `late_seconds` / `interval_seconds` + 3 open candles, however wrong the
timestamps are: a trade of an interval that has not come for our clock, nor will next, is no news
but a mistake, and counted apart, too.
"""

from collections import deque
from decimal import Decimal

import attrs
import trio
from attrs.validators import ge, le

from polyactors import (
    ActorContext,
    Gap,
    StaleReason,
    TradePrinted,
    TrustChanged,
    TrustState,
)

ZERO = Decimal(0)
SLEEP_SECONDS_MAX = 10.0
"""The wall clock, by which candles are closed, may be set while we sleep."""
EMPTY_MAX = 60
"""Intervals without trades that are closed at once, after a time in which the process slept."""
NS_PER_MS = 1_000_000


@attrs.define
class Candle:
    """The trades of one token in one interval."""

    open: Decimal
    """USDC per share."""
    high: Decimal
    low: Decimal
    close: Decimal
    first_ms: int
    """The exchange's time of the first trade, and of the last: they may come in any order."""
    last_ms: int
    volume: Decimal = ZERO
    """Shares."""
    turnover: Decimal = ZERO
    """USDC."""
    trades: int = 0

    @classmethod
    def of(cls, trade: TradePrinted) -> "Candle":
        """A candle to which this trade is still to be added."""
        price, time_ms = trade.price, trade.timestamp_ms
        return cls(price, price, price, price, time_ms, time_ms)

    def add(self, trade: TradePrinted) -> None:
        """Count a trade in. Of those of one millisecond the order is that in which they came."""
        price, time_ms = trade.price, trade.timestamp_ms
        if time_ms < self.first_ms:
            self.first_ms, self.open = time_ms, price
        if time_ms >= self.last_ms:
            self.last_ms, self.close = time_ms, price
        self.high, self.low = max(self.high, price), min(self.low, price)
        self.volume += trade.size
        self.turnover += trade.size * price
        self.trades += 1


@attrs.define
class Series:
    """The open candles of one token, and since when nothing of it was missed."""

    interval_ms: int
    late_ms: int
    closed_ms: int
    """Up to here every interval is closed."""
    open: dict[int, Candle] = attrs.field(factory=dict[int, Candle])
    """By the beginning of the interval, milliseconds."""
    live_ms: int | None = None
    """Since when the book is LIVE without a Gap; None while it is not LIVE."""
    market: str | None = None
    is_over: bool = False
    """The exchange does not know the token any more."""

    def take(self, trade: TradePrinted, now_ms: int) -> str:
        """Count a trade in. Says what it was: `trades`, `late_trades`, `early_trades`."""
        start_ms = trade.timestamp_ms - trade.timestamp_ms % self.interval_ms
        if start_ms < self.closed_ms:
            return "late_trades"
        if start_ms > now_ms + self.interval_ms:
            return "early_trades"
        self.open.setdefault(start_ms, Candle.of(trade)).add(trade)
        return "trades"

    def close(self, now_ms: int) -> list[tuple[int, Candle | None, bool]]:
        """Close what is due: (start, candle or None without trades, whether it is complete)."""
        due_ms = now_ms - self.late_ms
        end_ms = due_ms - due_ms % self.interval_ms
        first_ms = max(self.closed_ms, end_ms - EMPTY_MAX * self.interval_ms)
        starts = {start for start in self.open if start < end_ms}
        starts.update(range(first_ms, end_ms, self.interval_ms))
        self.closed_ms = max(self.closed_ms, end_ms)
        return [
            (start, self.open.pop(start, None), self._is_whole(start)) for start in sorted(starts)
        ]

    def _is_whole(self, start_ms: int) -> bool:
        return self.live_ms is not None and self.live_ms + self.late_ms <= start_ms


@attrs.define
class CandleBuilder:
    """Builds candles of the trades, closes them by the clock, and says which lack something."""

    interval_seconds: int = attrs.field(default=60, validator=[ge(1), le(86_400)])
    """Of one candle; they begin at its multiples since 1970, UTC."""
    late_seconds: float = attrs.field(default=2.0, validator=[ge(0), le(600)])
    """How long after its end a candle is closed."""
    _series: dict[str, Series] = attrs.field(init=False, factory=dict[str, Series])
    """By token."""
    _lines: deque[str] = attrs.field(init=False, factory=lambda: deque[str](maxlen=4))
    _context: ActorContext = attrs.field(init=False)

    async def setup(self, context: ActorContext) -> None:
        """After a restart most books are LIVE already, and of the time before something is lost."""
        self._context = context
        for token in context.service.tokens:
            if context.service.trust(token).state is TrustState.LIVE:
                self._of(token).live_ms = _up_to_ms(context.time_ns)
        context.start_soon(self._close_by_clock)

    async def handle(self, batch: list[TradePrinted | TrustChanged | Gap]) -> None:
        """Count in all that waits."""
        now_ms = self._context.time_ns // NS_PER_MS
        for message in batch:
            if isinstance(message, TradePrinted):
                series = self._of(message.token)
                series.market = message.market
                self._context.count(series.take(message, now_ms))
            elif isinstance(message, TrustChanged):
                series = self._of(message.token)
                is_live = message.state is TrustState.LIVE
                series.live_ms = _up_to_ms(message.time_ns) if is_live else None
                series.market = message.market or series.market
                series.is_over = message.reason is StaleReason.UNKNOWN_TOKEN
            else:
                self._missed(message)

    async def teardown(self) -> None:
        """What is open is told as it is, which is not complete."""
        left = [
            (token, start, s.open[start]) for token, s in self._series.items() for start in s.open
        ]
        for series in self._series.values():
            series.open.clear()
        for token, start_ms, candle in left:
            await self._tell(token, start_ms, candle, is_complete=False)

    def _of(self, token: str) -> Series:
        if token not in self._series:
            interval_ms, late_ms = self.interval_seconds * 1000, int(self.late_seconds * 1000)
            now_ms = self._context.time_ns // NS_PER_MS
            begun_ms = now_ms - now_ms % interval_ms
            self._series[token] = Series(interval_ms, late_ms, begun_ms)
        return self._series[token]

    def _missed(self, gap: Gap) -> None:
        feed_id = self._context.service.feed_id
        for token, series in self._series.items():
            is_meant = gap.token in (None, token) and gap.feed in (None, feed_id(token))
            if is_meant and series.live_ms is not None:
                series.live_ms = _up_to_ms(gap.time_ns)

    async def _close_by_clock(self) -> None:
        interval_ms, late_ms = self.interval_seconds * 1000, int(self.late_seconds * 1000)
        while True:
            now_ms = self._context.time_ns // NS_PER_MS
            # All at once: what comes while they are published belongs to the next ones.
            closed = [(token, *one) for token, s in self._series.items() for one in s.close(now_ms)]
            for token, start_ms, candle, is_complete in closed:
                if candle is not None or not (is_complete or self._series[token].is_over):
                    await self._tell(token, start_ms, candle, is_complete=is_complete)
            now_ms = self._context.time_ns // NS_PER_MS
            next_ms = ((now_ms - late_ms) // interval_ms + 1) * interval_ms + late_ms
            await trio.sleep(min((next_ms - now_ms) / 1000, SLEEP_SECONDS_MAX))

    async def _tell(
        self, token: str, start_ms: int, candle: Candle | None, *, is_complete: bool
    ) -> None:
        prices = ("open", "high", "low", "close")
        await self._context.publish(
            "candle",
            token=token,
            market=self._series[token].market,
            start_ms=start_ms,
            seconds=self.interval_seconds,
            **{name: getattr(candle, name, None) for name in prices},
            volume=ZERO if candle is None else candle.volume,
            turnover=ZERO if candle is None else candle.turnover,
            trades=0 if candle is None else candle.trades,
            complete=is_complete,
        )
        if candle is not None:
            self._lines.append(f"{token[:8]} {candle.close} volume {candle.volume}")
            self._context.show(*self._lines)


def _up_to_ms(time_ns: int) -> int:
    """Milliseconds, rounded up: what began within one has missed a part of it."""
    return -(-time_ns // NS_PER_MS)
