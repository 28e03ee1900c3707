"""`candles`: the sums against brute force, and the actor in the real service on virtual time."""

from decimal import Decimal

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from trio.testing import MockClock

from polyactors import (
    ActorContext,
    Gap,
    Settings,
    StaleReason,
    TradePrinted,
    UsageError,
    actor_spec,
)
from polyactors.examples.candles import Candle, CandleBuilder, Series
from polyactors.testing import Stage, stage

INTERVAL, LATE, BEGIN = 10, 3, 1000
MINUTE = 60.0


def trade(timestamp_ms: int, price: Decimal, size: Decimal) -> TradePrinted:
    return TradePrinted(
        time_ns=0, token="1", market="0x1", epoch=1, price=price, size=size, side="BUY",
        timestamp_ms=timestamp_ms,
    )  # fmt: skip


prices = st.integers(1, 99).map(lambda cents: Decimal(cents) / 100)
sizes = st.integers(1, 10_000).map(lambda hundredths: Decimal(hundredths) / 100)
kinds = st.sampled_from(["trade"] * 4 + ["close"] * 4 + ["live"] * 3 + ["lost", "gap"])
steps = st.tuples(st.integers(0, 12), kinds, st.integers(-25, 25), prices, sizes)


@given(st.lists(steps, max_size=60))
def test_candles_are_what_all_trades_say(
    history: list[tuple[int, str, int, Decimal, Decimal]],
) -> None:
    """The model keeps every trade and every moment of doubt, and works each candle out anew."""
    series = Series(INTERVAL, LATE, BEGIN)
    now, closed_at = BEGIN, BEGIN - INTERVAL
    counted: list[TradePrinted] = []
    doubts = [0.0]
    lost_since: int | None = 0
    told: set[int] = set()
    for passed, what, offset, price, size in history:
        now += passed
        if what == "trade":
            one = trade(now + offset, price, size)
            start = one.timestamp_ms // INTERVAL * INTERVAL
            result = series.take(one, now)
            if start < BEGIN or start + INTERVAL + LATE <= closed_at:
                assert result == "late_trades"
            elif start > now + INTERVAL:
                assert result == "early_trades"
            else:
                assert result == "trades"
                counted.append(one)
            assert len(series.open) <= (now - closed_at) // INTERVAL + LATE // INTERVAL + 3
        elif what == "live":
            if lost_since is not None:
                doubts += [moment / 2 for moment in range(2 * lost_since, 2 * now)]
            lost_since = series.live_ms = now
            doubts.append(now - 0.5)
            lost_since = None
        elif what == "lost":
            series.live_ms = None
            lost_since = now if lost_since is None else lost_since
        elif what == "gap" and series.live_ms is not None:
            series.live_ms = now
            doubts.append(now - 0.5)
        elif what == "close":
            closed_at = now
            for start, candle, is_complete in series.close(now):
                assert start + INTERVAL + LATE <= now
                assert start not in told
                told.add(start)
                bad = any(start - LATE <= doubt <= now for doubt in doubts)
                assert is_complete is (not bad and lost_since is None)
                inside = [one for one in counted if start <= one.timestamp_ms < start + INTERVAL]
                check(candle, inside)
            # Every interval that is due was told, with or without trades.
            due = range(BEGIN, now - LATE - INTERVAL + 1, INTERVAL)
            assert told == set(due)


def check(candle: Candle | None, trades: list[TradePrinted]) -> None:
    if not trades:
        assert candle is None
        return
    assert candle is not None
    in_order = sorted(trades, key=lambda one: one.timestamp_ms)  # stable: as they came
    assert candle.open == in_order[0].price
    assert candle.close == in_order[-1].price
    assert candle.high == max(one.price for one in trades)
    assert candle.low == min(one.price for one in trades)
    assert candle.volume == sum(one.size for one in trades)
    assert candle.turnover == sum(one.size * one.price for one in trades)
    assert candle.trades == len(trades)


def test_after_a_long_sleep_only_so_many_empty_intervals_are_told() -> None:
    series = Series(INTERVAL, LATE, BEGIN)
    series.take(trade(BEGIN, Decimal("0.5"), Decimal(1)), BEGIN)
    closed = series.close(BEGIN + 10_000 * INTERVAL)
    assert len(closed) == 61
    assert closed[0][0] == BEGIN
    assert series.close(BEGIN + 10_000 * INTERVAL) == []


# --- the actor --------------------------------------------------------------------------------


async def at_next_minute(play: Stage, seconds: float = 0.0) -> int:
    """Wait for the beginning of the next minute of the wall clock, and so many seconds."""
    now_ns = play.service.env.clock_ns()
    start_ns = (now_ns // 60_000_000_000 + 1) * 60_000_000_000
    await play.settle((start_ns - now_ns) / 1e9 + seconds)
    return start_ns // 1_000_000


def candles(play: Stage, token: str, start_ms: int) -> list[dict[str, object]]:
    named = [dict(data) for data in play.named("candle")]
    return [data for data in named if (data["token"], data["start_ms"]) == (token, start_ms)]


async def test_a_candle_is_closed_by_the_clock_with_exact_sums(autojump_clock: MockClock) -> None:
    async with stage(CandleBuilder) as play:
        play.quote(play.yes, "0.40", "0.42", size=1000)
        start_ms = await at_next_minute(play, 10)
        play.trade(play.yes, "BUY", "10.5")
        await play.settle(1)
        play.quote(play.yes, "0.43", "0.45", size=1000)  # trades away what is better
        await play.settle(1)
        play.trade(play.yes, "SELL", 5)
        await play.settle(49.5)  # 61.5 s: the interval is over, the candle is not closed
        assert not candles(play, play.yes, start_ms)
        await play.settle(1)
        (candle,) = candles(play, play.yes, start_ms)
        printed = [
            event
            for event in play.events
            if isinstance(event, TradePrinted)
            and event.token == play.yes
            and start_ms <= event.timestamp_ms < start_ms + 60_000
        ]
        assert candle == {
            "token": play.yes,
            "market": play.venue.markets[0].condition_id,
            "start_ms": start_ms,
            "seconds": 60,
            "open": "0.42",
            "high": str(max(one.price for one in printed)),
            "low": "0.42",
            "close": "0.43",
            "volume": str(sum(one.size for one in printed)),
            "turnover": str(sum(one.size * one.price for one in printed)),
            "trades": len(printed),
            "complete": True,
        }
        assert play.status("candle-builder").metrics["trades"] >= len(printed)


async def test_a_quiet_minute_that_missed_nothing_is_no_candle(autojump_clock: MockClock) -> None:
    async with stage(CandleBuilder) as play:
        start_ms = await at_next_minute(play)
        await play.settle(2 * MINUTE)
        assert not candles(play, play.yes, start_ms)


async def test_lost_trust_makes_the_candle_incomplete_even_without_trades(
    autojump_clock: MockClock,
) -> None:
    async with stage(CandleBuilder) as play:
        start_ms = await at_next_minute(play, 30)
        play.venue.inject("reset")
        await play.live()
        await play.settle(MINUTE)
        for token in play.tokens:
            (candle,) = candles(play, token, start_ms)
            assert candle["complete"] is False
            assert candle["trades"] == 0
            assert candle["open"] is None
        assert not candles(play, play.yes, start_ms + 60_000)


async def test_a_loss_while_the_last_trades_may_be_under_way_counts(
    autojump_clock: MockClock,
) -> None:
    """The interval is over, its candle is not closed: a trade of it may have been lost."""
    async with stage(CandleBuilder) as play:
        play.quote(play.yes, "0.40", "0.42")
        start_ms = await at_next_minute(play, 59)
        play.trade(play.yes, "BUY", 5)
        await play.settle(1.5)
        play.venue.inject("reset")
        await play.settle(MINUTE)
        (candle,) = candles(play, play.yes, start_ms)
        assert (candle["trades"], candle["complete"]) == (1, False)


async def test_trades_that_come_too_late_are_counted_apart(autojump_clock: MockClock) -> None:
    options = {"interval_seconds": 1, "late_seconds": 0.5}
    async with stage(CandleBuilder, options=options) as play:
        play.quote(play.yes, "0.40", "0.42", size=1000)
        await play.settle(5)
        counted = play.status("candle-builder").metrics["trades"]
        play.venue.inject("slow", seconds=20)
        for _ in range(10):
            play.trade(play.yes, "BUY", 5)
        await play.settle(MINUTE)
        metrics = play.status("candle-builder").metrics
        assert metrics["late_trades"] > 0
        assert metrics["trades"] - counted + metrics["late_trades"] == 10
        volume = sum(
            Decimal(str(data["volume"]))
            for data in play.named("candle")
            if data["token"] == play.yes and data["close"] == "0.42"
        )
        assert volume == 5 * (metrics["trades"] - counted)


class Fragile(CandleBuilder):
    """Fails when told."""

    fail = trio.Event()

    async def setup(self, context: ActorContext) -> None:
        await super().setup(context)
        if context.incarnation == 1:
            context.start_soon(self._fail)

    async def _fail(self) -> None:
        await self.fail.wait()
        raise ValueError("as told")


async def test_what_a_crash_lost_is_no_complete_candle(autojump_clock: MockClock) -> None:
    Fragile.fail = trio.Event()
    async with stage(Fragile) as play:
        start_ms = await at_next_minute(play, 30)
        Fragile.fail.set()
        await play.settle(MINUTE)
        assert play.status("fragile").incarnation == 2
        (candle,) = candles(play, play.yes, start_ms)
        assert candle["complete"] is False
        assert not candles(play, play.yes, start_ms + 60_000)


class Held(CandleBuilder):
    """Can be asked directly."""

    last: "Held"

    async def setup(self, context: ActorContext) -> None:
        Held.last = self
        await super().setup(context)


def gap(play: Stage, *, feed: str | None, token: str | None) -> Gap:
    reason = StaleReason.OVERFLOW if feed is None else StaleReason.PARSE_FAILURE
    time_ns = play.service.env.clock_ns()
    return Gap(time_ns=time_ns, feed=feed, epoch=1, token=token, reason=reason)


async def test_a_gap_concerns_its_token_its_feed_or_everything(autojump_clock: MockClock) -> None:
    async with stage(Held, markets=2, settings=Settings(tokens_per_connection=2)) as play:
        feed = play.service.feed_id(play.yes)
        cases = [
            (gap(play, feed=feed, token=play.yes), {play.yes}),
            (gap(play, feed=feed, token=None), {play.yes, play.no}),
            (gap(play, feed=None, token=None), set(play.tokens)),
        ]
        await at_next_minute(play, 2.5)  # the first minute was not whole
        for missed, meant in cases:
            start_ms = await at_next_minute(play, 30)
            await Held.last.handle([structs.replace(missed, time_ns=play.service.env.clock_ns())])
            await play.settle(MINUTE)
            incomplete = {token for token in play.tokens if candles(play, token, start_ms)}
            assert incomplete == meant


async def test_what_begins_within_a_millisecond_has_missed_a_part_of_it(
    autojump_clock: MockClock,
) -> None:
    async with stage(Held, options={"late_seconds": 0}) as play:
        start_ms = await at_next_minute(play)
        missed = structs.replace(gap(play, feed=None, token=None), time_ns=start_ms * 10**6 + 1)
        await Held.last.handle([missed])
        await play.settle(MINUTE + 1)
        assert candles(play, play.yes, start_ms)


async def test_a_token_that_the_exchange_does_not_know_any_more_has_no_candles(
    autojump_clock: MockClock,
) -> None:
    settings = Settings(audit_seconds=10)
    async with stage(CandleBuilder, markets=2, settings=settings) as play:
        await at_next_minute(play)
        over = play.yes
        play.venue.resolve_market(play.venue.markets[0].condition_id, 0)
        await play.settle(5 * MINUTE)
        assert play.service.trust(over).reason is StaleReason.UNKNOWN_TOKEN
        play.events.clear()
        await play.settle(5 * MINUTE)
        assert not play.named("candle")


async def test_a_stop_tells_what_is_open(autojump_clock: MockClock) -> None:
    async with stage(CandleBuilder) as play:
        play.quote(play.yes, "0.40", "0.42")
        start_ms = await at_next_minute(play)
        play.trade(play.yes, "BUY", 5)
        await play.settle()
        play.service.stop()
        await play.settle(5 * MINUTE)  # whatever ends when: it is told once
    await play.settle()
    (candle,) = candles(play, play.yes, start_ms)
    assert (candle["close"], candle["complete"]) == ("0.42", False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"interval_seconds": 0}, "interval_seconds"),
        ({"interval_seconds": 0.5}, "expected a whole number"),
        ({"late_seconds": -1}, "late_seconds"),
        ({"late_seconds": float("nan")}, "late_seconds"),
        ({"seconds": 60}, "unknown key 'seconds'"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        actor_spec(CandleBuilder, options=options)
