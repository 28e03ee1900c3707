"""The stage that users test their actors on: it does what it says, with the real service."""

from decimal import Decimal

import attrs
import pytest
import trio
from trio.testing import MockClock

from polyactors import ActorContext, BookNotLive, BookUpdated, Level, TradePrinted, TrustChanged
from polyactors.testing import stage


async def count_trades(trade: TradePrinted, context: ActorContext) -> None:
    context.count("trades")
    await context.publish("printed", price=trade.price, size=trade.size, side=trade.side)


@attrs.define
class Tops:
    times: int = 1
    context: ActorContext = attrs.field(init=False)

    async def setup(self, context: ActorContext) -> None:
        self.context = context

    async def handle(self, update: BookUpdated) -> None:
        if update.settled:
            for _ in range(self.times):
                await self.context.publish("top", bid=update.best_bid, ask=update.best_ask)


async def test_ten_lines_are_a_test(autojump_clock: MockClock) -> None:
    async with stage(count_trades) as play:
        play.quote(play.yes, "0.40", "0.42")
        await play.settle()
        printed = play.status("count-trades").metrics.get("trades", 0)
        play.trade(play.yes, "BUY", 10)
        await play.settle()
        assert play.status("count-trades").metrics["trades"] == printed + 1
        assert play.named("printed")[-1] == {"price": "0.42", "size": "10", "side": "BUY"}


async def test_what_happened_is_there_however_the_time_passed(autojump_clock: MockClock) -> None:
    async with stage(count_trades) as play:
        play.quote(play.yes, "0.40", "0.42")
        await play.settle()
        play.events.clear()
        play.trade(play.yes, "BUY", 10)
        await trio.sleep(1)
        assert [data["size"] for data in play.named("printed")] == ["10"]
        assert any(isinstance(event, TradePrinted) for event in play.events)


async def test_the_best_prices_are_as_told(autojump_clock: MockClock) -> None:
    async with stage(Tops, markets=2) as play:
        for bid, ask in (("0.40", "0.42"), ("0.70", "0.71"), ("0.01", "0.99"), ("0.30", "0.90")):
            play.quote(play.yes, bid, ask, size=7)
            await play.settle()
            book = play.book(play.yes)
            assert book.best_bid == Level(Decimal(bid), Decimal(7))
            assert book.best_ask == Level(Decimal(ask), Decimal(7))
            assert play.named("top")[-1]["bid"] is not None


async def test_options_reach_the_first_actor(autojump_clock: MockClock) -> None:
    async with stage(Tops, count_trades, options={"times": 3}) as play:
        before = len(play.named("top"))
        play.quote(play.yes, "0.40", "0.60")
        await play.settle()
        assert (len(play.named("top")) - before) % 3 == 0
        assert len(play.named("top")) > before


async def test_faults_happen_when_told(autojump_clock: MockClock) -> None:
    states: list[str] = []

    async def watch(change: TrustChanged) -> None:
        states.append(change.state.name)

    async with stage(watch) as play:
        states.clear()
        play.venue.inject("reset")
        await play.settle(0.001)
        with pytest.raises(BookNotLive):
            play.book(play.yes)
        await play.live()
        assert states[0] == "STALE"
        assert states[-1] == "LIVE"


async def test_what_cannot_be_is_refused(autojump_clock: MockClock) -> None:
    async with stage(count_trades) as play:
        with pytest.raises(ValueError, match="a bid below an ask"):
            play.quote(play.yes, "0.50", "0.50")
        with pytest.raises(ValueError, match="best price"):
            play.trade(play.yes, "SELL", 10_000_000)
        with pytest.raises(LookupError, match="there is no actor 'nobody'; there are count-trades"):
            play.status("nobody")
