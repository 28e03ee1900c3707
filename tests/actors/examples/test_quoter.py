"""`paper-quoter`: its prices and fills for any book, and the actor in the real service."""

from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from polyactors import (
    ActorContext,
    ActorEvent,
    BookUpdated,
    Gap,
    Level,
    StaleReason,
    TickSizeChanged,
    TradePrinted,
    TrustChanged,
    TrustState,
    UsageError,
    actor_spec,
)
from polyactors.book.numbers import UNITS_PER_ONE, Side
from polyactors.examples.quoter import (
    Account,
    PaperQuoter,
    Quotes,
    fair_price,
    fill,
    quote_prices,
)
from polyactors.testing import Stage, sizes, stage
from polyactors.venue import NoTarget

ticks = st.sampled_from([Decimal(text) for text in ("0.1", "0.01", "0.005", "0.0025", "0.001")])


@st.composite
def tops(draw: st.DrawFn) -> tuple[Level, Level, Decimal]:
    """Best bid, best ask, and a tick size, whose grid they may lie off."""
    bid, ask = sorted(draw(st.lists(st.integers(1, 9999), min_size=2, max_size=2, unique=True)))
    levels = [Level(Decimal(price) / 10_000, draw(sizes())) for price in (bid, ask)]
    return levels[0], levels[1], draw(ticks)


@given(tops())
def test_fair_prices_lie_between_the_best(top: tuple[Level, Level, Decimal]) -> None:
    bid, ask, _ = top
    assert fair_price(bid, ask, "mid") * 2 == bid.price + ask.price
    exact = (
        Fraction(bid.price) * Fraction(ask.size) + Fraction(ask.price) * Fraction(bid.size)
    ) / (Fraction(bid.size) + Fraction(ask.size))
    assert abs(Fraction(fair_price(bid, ask, "microprice")) - exact) < Fraction(1, 10**20)
    assert bid.price <= fair_price(bid, ask, "microprice") <= ask.price


@given(tops(), st.integers(1, 2000).map(lambda number: Decimal(number) / 10_000))
def test_quotes_are_the_best_of_the_grid_that_keep_the_spread_and_take_nothing(
    top: tuple[Level, Level, Decimal], spread: Decimal
) -> None:
    bid, ask, tick = top
    fair = fair_price(bid, ask, "microprice")
    grid = [tick * count for count in range(1, int(1 / tick))]
    own_bid, own_ask = quote_prices(fair, spread, tick, bid.price, ask.price)
    bids = [one for one in grid if one <= fair - spread / 2 and one <= ask.price - tick]
    asks = [one for one in grid if one >= fair + spread / 2 and one >= bid.price + tick]
    assert own_bid == max(bids, default=None)
    assert own_ask == min(asks, default=None)


trades = st.tuples(
    st.integers(1, 99).map(lambda cents: Decimal(cents) / 100), sizes(), st.booleans()
)


@given(st.lists(trades, max_size=20), st.booleans())
def test_fills_and_cash_are_what_the_trades_gave(
    history: list[tuple[Decimal, Decimal, bool]], at_touch: bool
) -> None:
    bid, ask, size = Decimal("0.40"), Decimal("0.44"), Decimal(1000)
    quotes, account = Quotes(bid, ask, size, size), Account()
    bought = sold = Decimal(0)
    for price, shares, buys in history:
        filled = fill(quotes, price, shares, buys=buys, at_touch=at_touch)
        is_met = (price > ask or (at_touch and price == ask)) if buys else (
            price < bid or (at_touch and price == bid)
        )  # fmt: skip
        wanted = min(shares, size - (sold if buys else bought)) if is_met else 0
        assert (filled is not None) is bool(wanted)
        if filled is None:
            continue
        account = account.traded(*filled)
        if buys:
            sold += wanted
            assert filled == (-wanted, ask)
        else:
            bought += wanted
            assert filled == (wanted, bid)
    assert account.position == bought - sold
    assert account.cash == sold * ask - bought * bid
    assert (quotes.bid_size, quotes.ask_size) == (size - bought, size - sold)


# --- the actor --------------------------------------------------------------------------------

CALM = 2.0


Waiting = TrustChanged | TradePrinted | TickSizeChanged | BookUpdated | Gap


class Held(PaperQuoter):
    """Can be looked at; fails on a trade of 13 shares."""

    last: "Held"
    seen: list[tuple[str, str] | None]

    async def setup(self, context: ActorContext) -> None:
        Held.last, self.seen = self, list[tuple[str, str] | None]()
        await super().setup(context)

    def standing(self, token: str) -> tuple[str, str] | None:
        quotes = self._quotes.get(token)
        return None if quotes is None else (str(quotes.bid), str(quotes.ask))

    async def handle(self, batch: list[Waiting]) -> None:
        if any(isinstance(one, TradePrinted) and one.size == 13 for one in batch):
            raise ValueError("thirteen")
        await super().handle(batch)
        self.seen += [self.standing(token) for token in self._quotes]


async def test_a_token_that_is_not_followed_is_a_warning(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = await tokens_of_a_stage()
    async with stage(PaperQuoter, options={"tokens": [tokens[0], "123"]}) as play:
        await play.settle(30)
        assert play.status("paper-quoter").metrics["quotes_placed"] == 1
    told = [one.getMessage() for one in caplog.records if "not followed" in one.getMessage()]
    assert len(told) == 1
    assert "['123']" in told[0]


async def tokens_of_a_stage() -> list[str]:
    async with stage(PaperQuoter) as play:
        return play.tokens


async def quoting(play: Stage) -> None:
    """0.40 and 0.44 on YES, with 100 shares each: so 0.41 and 0.43 are quoted."""
    play.quote(play.yes, "0.40", "0.44")
    await play.settle(2 * CALM)
    assert Held.last.standing(play.yes) == ("0.41", "0.43")
    play.events.clear()


async def test_one_token_of_each_market_is_quoted_after_the_calm(autojump_clock: MockClock) -> None:
    async with stage(Held, markets=2) as play:
        await play.settle(CALM - 0.1)
        assert not play.named("quotes_placed")
        await play.settle(0.2)
        placed = play.named("quotes_placed")
        assert sorted(str(data["token"]) for data in placed) == sorted(play.tokens[::2])


async def test_quotes_follow_the_book(autojump_clock: MockClock) -> None:
    async with stage(Held) as play:
        await quoting(play)
        play.quote(play.yes, "0.50", "0.54")
        await play.settle()
        assert Held.last.standing(play.yes) == ("0.51", "0.53")
        assert not play.named("quotes_pulled")


async def test_a_lost_connection_pulls_in_the_same_moment(autojump_clock: MockClock) -> None:
    async with stage(Held, markets=2) as play:
        await quoting(play)
        play.venue.inject("reset")
        await play.settle(CALM - 0.5)
        pulled = play.named("quotes_pulled")
        assert {data["token"] for data in pulled} == set(play.tokens[::2])
        assert {data["reason"] for data in pulled} == {"disconnected"}
        assert {data["seconds"] for data in pulled} == {0}, "on this clock, work takes no time"
        assert not play.named("quotes_placed")
        await play.live()
        live_ns = {
            event.token: event.time_ns
            for event in play.events
            if isinstance(event, TrustChanged) and event.state is TrustState.LIVE
        }
        await play.settle(2 * CALM)
        again = [one for one in play.published if one.name == "quotes_placed"]
        assert len(again) == 2
        for event in again:
            waited = (event.time_ns - live_ns[str(event.data["token"])]) / 1e9
            assert waited == pytest.approx(CALM, abs=0.01)


async def test_a_pull_comes_before_whatever_else_waits(autojump_clock: MockClock) -> None:
    async with stage(Held) as play:
        await quoting(play)
        now_ns, market = play.service.env.clock_ns(), play.venue.markets[0].condition_id

        def printed(later_ns: int, price: str) -> TradePrinted:
            return TradePrinted(
                time_ns=now_ns + later_ns, token=play.yes, market=market, epoch=1,
                price=Decimal(price), size=Decimal(5), side="BUY", timestamp_ms=now_ns // 10**6,
            )  # fmt: skip

        lost = TrustChanged(
            time_ns=now_ns + 2, token=play.yes, market=market, epoch=1, state=TrustState.STALE,
            previous=TrustState.LIVE, reason=StaleReason.TOP_MISMATCH,
        )  # fmt: skip
        await Held.last.handle([printed(1, "0.44"), lost, printed(3, "0.45")])
        await play.settle(0)
        assert [one.name for one in play.published][:2] == ["quotes_pulled", "paper_fill"]
        (filled,) = play.named("paper_fill")  # the quote stood when the first was printed
        assert filled["size"] == "-5"


async def test_an_actor_that_was_too_slow_pulls_everything(autojump_clock: MockClock) -> None:
    async with stage(Held, markets=2) as play:
        await quoting(play)
        time_ns, reason = play.service.env.clock_ns(), StaleReason.OVERFLOW
        gap = Gap(time_ns=time_ns, feed=None, epoch=None, token=None, reason=reason)
        await Held.last.handle([gap])
        await play.settle()
        assert [data["reason"] for data in play.named("quotes_pulled")] == ["overflow"] * 2
        assert len(play.named("quotes_placed")) == 2


async def test_a_half_told_step_moves_no_quote(autojump_clock: MockClock) -> None:
    """Its frames trickle in: for a while the book looks crossed, and has no best prices."""
    async with stage(Held) as play:
        await quoting(play)
        play.venue.inject("slow", seconds=30)
        Held.last.seen.clear()
        trader = play.venue.add_account()
        for _ in range(10):
            state = play.venue.book_state(play.yes)
            assert state is not None
            price, size = state.best_ask, dict(state.asks)[state.best_ask]
            # More than there is: what is left rests at the price of what it took.
            trader.place(play.yes, Side.BID, price, size + 50 * UNITS_PER_ONE)
            await play.settle(1)
        await play.settle(30)
        assert any(
            isinstance(event, BookUpdated) and event.best_bid is None and not event.settled
            for event in play.events
        )
        assert ("None", "None") not in Held.last.seen


async def test_a_trade_through_a_quote_fills_it(autojump_clock: MockClock) -> None:
    async with stage(Held) as play:
        await quoting(play)
        play.trade(play.yes, "BUY", 5)  # at 0.44
        await play.settle()
        play.trade(play.no, "BUY", 7)  # at 0.60: so somebody sells YES at 0.40
        await play.settle()
        common = {"token": play.yes}
        assert play.named("paper_fill") == [
            common | {"size": "-5", "price": "0.43", "position": "-5", "cash": "2.15"},
            common | {"size": "7", "price": "0.41", "position": "2", "cash": "-0.72"},
        ]


async def test_a_trade_that_is_told_after_the_book_met_the_quotes_before_it(
    autojump_clock: MockClock,
) -> None:
    """The book moves away first, and the quotes with it: the fill is not lost by that."""
    async with stage(Held) as play:
        await quoting(play)
        play.trade(play.yes, "BUY", 100)  # takes all of 0.44
        await play.settle()
        (filled,) = play.named("paper_fill")
        assert (filled["price"], filled["size"]) == ("0.43", "-20")
        assert Held.last.standing(play.yes) != ("0.41", "0.43")


async def test_at_its_own_price_a_quote_is_filled_only_if_asked(autojump_clock: MockClock) -> None:
    for at_touch, count in ((False, 0), (True, 1)):
        options = {"spread": "0.04", "fills_at_touch": at_touch}
        async with stage(Held, options=options) as play:
            play.quote(play.yes, "0.40", "0.44")
            await play.settle(2 * CALM)
            assert Held.last.standing(play.yes) == ("0.40", "0.44")
            play.events.clear()
            play.trade(play.yes, "BUY", 5)
            await play.settle()
            assert len(play.named("paper_fill")) == count


async def test_no_quote_could_go_beyond_the_position_allowed(autojump_clock: MockClock) -> None:
    async with stage(Held, options={"position_max": 25}) as play:
        await quoting(play)
        play.trade(play.yes, "BUY", 30)
        await play.settle()
        assert Held.last.standing(play.yes) == ("0.41", "None")  # 20 are sold, 40 would be too many
        play.trade(play.yes, "BUY", 30)
        await play.settle()
        play.trade(play.yes, "SELL", 30)
        await play.settle()
        play.trade(play.yes, "SELL", 30)
        await play.settle()
        assert Held.last.standing(play.yes) == ("None", "0.43")
        positions = [data["position"] for data in play.named("paper_fill")]
        assert positions == ["-20", "0", "20"]


async def test_positions_outlive_a_crash_and_quotes_do_not(autojump_clock: MockClock) -> None:
    async with stage(Held, options={"fair": "mid"}) as play:
        await quoting(play)
        play.trade(play.yes, "BUY", 5)
        await play.settle()
        play.trade(play.yes, "BUY", 13)
        await play.settle(0.1)
        assert [data["reason"] for data in play.named("quotes_pulled")] == ["stopped"]
        await play.settle(2 * CALM)
        assert play.status("held").incarnation == 2
        assert len(play.named("quotes_placed")) == 1
        play.trade(play.yes, "BUY", 6)
        await play.settle()
        last = play.named("paper_fill")[-1]
        assert (last["position"], last["cash"]) == ("-11", "4.73")


async def test_a_stop_leaves_nothing_in_the_market(autojump_clock: MockClock) -> None:
    async with stage(Held, markets=3) as play:
        await play.settle(2 * CALM)
        play.events.clear()
    await play.settle()
    assert [data["reason"] for data in play.named("quotes_pulled")] == ["stopped"] * 3


async def test_the_grid_of_a_token_is_the_one_that_the_exchange_told(
    autojump_clock: MockClock,
) -> None:
    async with stage(Held, options={"spread": "0.011"}, markets=3) as play:
        fine = play.tokens[4]
        assert play.service.tick_size(fine) == Decimal("0.001")
        assert play.service.tick_size(play.yes) == Decimal("0.01")
        play.quote(play.yes, "0.40", "0.44")
        play.quote(fine, "0.40", "0.44")
        await play.settle(2 * CALM)
        assert Held.last.standing(play.yes) == ("0.41", "0.43")
        assert Held.last.standing(fine) == ("0.414", "0.426")


@pytest.mark.parametrize("seed", range(3))
async def test_no_quote_stands_on_a_book_that_is_not_live(
    autojump_clock: MockClock, seed: int
) -> None:
    """By the stream alone: no time passes between a loss of trust and the pull, and nothing is
    filled or placed in between."""
    rng = Random(seed)
    async with stage(Held, options={"calm_seconds": 0.5}, markets=2, seed=seed) as play:
        for _ in range(120):
            play.venue.step(rng.randint(0, 5))
            if rng.random() < 0.15:
                with suppress(NoTarget):  # between two sessions
                    play.venue.inject(rng.choice(["reset", "lost_delta", "garbage"]))
            await play.settle(rng.choice([0, 0.01, 0.2, 1.0]))
        await play.settle(5)
        standing: set[str] = set()
        live: set[str] = set()
        pulls = 0
        lost_ns: dict[str, int] = {}
        for event in play.events:
            late = [token for token in standing - live if event.time_ns > lost_ns[token]]
            assert not late
            if isinstance(event, TrustChanged):
                (live.add if event.state is TrustState.LIVE else live.discard)(event.token)
                if event.previous is TrustState.LIVE:
                    lost_ns[event.token] = event.time_ns
            elif isinstance(event, ActorEvent):
                token = str(event.data["token"])
                if event.name == "quotes_placed":
                    assert token in live
                    assert token not in standing
                    standing.add(token)
                elif event.name == "quotes_pulled":
                    pulls += 1
                    standing.remove(token)
                    assert event.data["seconds"] == 0
                else:
                    assert token in standing
        assert pulls > 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"spread": 0}, "spread"),
        ({"size": -1}, "size"),
        ({"fair": "vwap"}, "fair"),
        ({"calm_seconds": -1}, "calm_seconds"),
        ({"tokens": "123"}, "expected a list, got '123'"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        actor_spec(PaperQuoter, options=options)
