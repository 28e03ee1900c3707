"""`basket-watch`: the walk of the levels against brute force, and the actor in the real service."""

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
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
    Settings,
    StaleReason,
    TrustChanged,
    TrustState,
    UsageError,
    actor_spec,
)
from polyactors.book.numbers import Side, to_units
from polyactors.examples.basket import BasketWatch, Edge, find_edge, sets
from polyactors.testing import Stage, stage
from polyactors.venue import NoTarget

HALF = Decimal("0.5")
ONE = Decimal(1)

halves = st.integers(1, 12).map(lambda count: HALF * count)
cents = st.integers(1, 99).map(lambda count: Decimal(count) / 100)


@st.composite
def legs_of(draw: st.DrawFn, side: str) -> list[list[Level]]:
    """Two to four legs of up to four levels, the best first: asks to buy, bids to sell."""
    legs: list[list[Level]] = []
    for _ in range(draw(st.integers(2, 4))):
        prices = draw(st.lists(cents, max_size=4, unique=True))
        prices.sort(reverse=side == "sell")
        legs.append([Level(price, draw(halves)) for price in prices])
    return legs


def every_half_set(legs: list[list[Level]]) -> list[Decimal]:
    """The price of one set after the other, half a set each, bought share by half share."""
    shares = [[one.price for one in leg for _ in range(int(one.size / HALF))] for leg in legs]
    return [sum(prices, Decimal(0)) for prices in zip(*shares, strict=False)]


@given(legs_of("buy"))
def test_the_walk_is_what_half_shares_cost(legs: list[list[Level]]) -> None:
    walked = [price for size, price in sets(legs) for _ in range(int(size / HALF))]
    assert walked == every_half_set(legs)
    assert all(size > 0 for size, _ in sets(legs))


def test_an_edge_of_just_so_much_is_too_little() -> None:
    legs = [[Level(Decimal("0.45"), ONE)], [Level(Decimal("0.50"), ONE)]]
    assert find_edge("buy", legs, Decimal("0.05"), ONE) is None
    assert find_edge("buy", legs, Decimal("0.049"), ONE) is not None


@given(
    st.sampled_from(["buy", "sell"]).flatmap(lambda side: st.tuples(st.just(side), legs_of(side))),
    st.integers(0, 20).map(lambda count: Decimal(count) / 100),
    halves,
)
def test_an_edge_is_what_brute_force_finds(
    drawn: tuple[str, list[list[Level]]], edge: Decimal, size_min: Decimal
) -> None:
    side, legs = drawn
    gains = [ONE - price if side == "buy" else price - ONE for price in every_half_set(legs)]
    good = [gain for gain in gains if gain > edge]
    assert good == gains[: len(good)], "prices only get worse"
    found = find_edge("buy" if side == "buy" else "sell", legs, edge, size_min)
    if len(good) * HALF < size_min:
        assert found is None
        return
    first = good[: int(size_min / HALF)]
    assert found == Edge(
        "buy" if side == "buy" else "sell",
        sum(first, Decimal(0)) * HALF / size_min,
        len(good) * HALF,
        sum(good, Decimal(0)) * HALF,
    )


# --- the actor --------------------------------------------------------------------------------

TWO_FEEDS = Settings(tokens_per_connection=4)
"""Of four markets the first two are on one feed, the others on another."""


def across(play: Stage, *markets: int) -> list[str]:
    """The YES tokens of some markets."""
    return [play.tokens[2 * market] for market in markets]


def opened(play: Stage) -> list[Mapping[str, object]]:
    return play.named("basket_open")


async def tokens_of_a_stage(**arguments: int) -> list[str]:
    """The exchange's tokens follow from its seed: options can name them before it runs."""
    async with stage(BasketWatch, options={"pairs": False}, **arguments) as play:  # type: ignore[arg-type]
        return play.tokens


async def test_a_basket_opens_with_its_edge_and_size_and_closes(autojump_clock: MockClock) -> None:
    yes_1, yes_2 = (await tokens_of_a_stage(markets=2))[::2]
    async with stage(BasketWatch, options={"baskets": [[yes_1, yes_2]]}, markets=2) as play:
        play.quote(yes_1, "0.40", "0.60", size=50)
        play.quote(yes_2, "0.30", "0.50", size=50)
        await play.settle()
        play.events.clear()
        play.quote(yes_1, "0.40", "0.45", size=30)
        await play.settle()
        (open_,) = opened(play)
        assert open_ == {
            "basket": "basket-1",
            "tokens": [yes_1, yes_2],
            "side": "buy",
            "edge": "0.05",
            "size": open_["size"],
            "profit": open_["profit"],
        }
        asks = [play.book(token).asks for token in (yes_1, yes_2)]
        expected = find_edge("buy", asks, Decimal("0.01"), Decimal(5))
        assert expected is not None
        assert (open_["size"], open_["profit"]) == (str(expected.size), str(expected.profit))
        assert not play.named("basket_closed")
        play.trade(yes_1, "BUY", 30)  # the next ask is 0.60
        await play.settle()
        (closed,) = play.named("basket_closed")
        assert (closed["side"], closed["reason"]) == ("buy", "edge_gone")
        assert len(opened(play)) == 1


async def test_a_sale_above_one_is_an_edge_too(autojump_clock: MockClock) -> None:
    yes_1, yes_2 = (await tokens_of_a_stage(markets=2))[::2]
    async with stage(BasketWatch, options={"baskets": [[yes_1, yes_2]]}, markets=2) as play:
        play.quote(yes_1, "0.40", "0.45")
        play.quote(yes_2, "0.30", "0.50")
        await play.settle()
        play.events.clear()
        play.quote(yes_1, "0.60", "0.70")
        play.quote(yes_2, "0.45", "0.50")
        await play.settle()
        assert [data["side"] for data in play.named("basket_closed")] == ["buy"]
        (last,) = opened(play)
        assert (last["side"], last["edge"]) == ("sell", "0.05")


async def test_too_few_sets_are_none(autojump_clock: MockClock) -> None:
    yes_1, yes_2 = (await tokens_of_a_stage(markets=2))[::2]
    options = {"baskets": [[yes_1, yes_2]], "size_min": 31}
    async with stage(BasketWatch, options=options, markets=2) as play:
        play.quote(yes_1, "0.40", "0.60", size=50)
        play.quote(yes_2, "0.30", "0.50", size=50)
        await play.settle()
        play.events.clear()
        play.quote(yes_1, "0.40", "0.45", size=30)
        await play.settle()
        assert not opened(play)


async def test_a_book_that_is_not_live_closes_its_basket_at_once(
    autojump_clock: MockClock,
) -> None:
    yes_1, yes_2 = (await tokens_of_a_stage(markets=2))[::2]
    async with stage(BasketWatch, options={"baskets": [[yes_1, yes_2]]}, markets=2) as play:
        play.quote(yes_1, "0.40", "0.45")
        play.quote(yes_2, "0.30", "0.50")
        await play.settle()
        assert opened(play)
        play.events.clear()
        play.venue.inject("refuse", seconds=5)
        await play.settle(1)
        (closed,) = play.named("basket_closed")
        assert closed["reason"] == "not_live"
        assert not opened(play)
        await play.live()
        await play.settle()
        assert len(opened(play)) == 1


class Held(BasketWatch):
    """Can be asked directly."""

    last: "Held"

    async def setup(self, context: ActorContext) -> None:
        Held.last = self
        await super().setup(context)


@pytest.mark.parametrize("is_overflow", [False, True])
async def test_what_was_heard_before_is_worth_nothing_after(
    autojump_clock: MockClock, is_overflow: bool
) -> None:
    """Trust is lost, or the mailbox was: the clock of a leg begins with its next news, even if the
    book itself is LIVE again."""
    yes_1, yes_2 = (await tokens_of_a_stage(markets=2))[::2]
    options = {"baskets": [[yes_1, yes_2]], "pairs": False}
    async with stage(Held, options=options, markets=2) as play:
        play.quote(yes_1, "0.40", "0.45")
        play.quote(yes_2, "0.30", "0.50")
        await play.settle()
        play.events.clear()
        time_ns, reason = play.service.env.clock_ns(), StaleReason.OVERFLOW
        message = (
            Gap(time_ns=time_ns, feed=None, epoch=None, token=None, reason=reason)
            if is_overflow
            else TrustChanged(
                time_ns=time_ns, token=yes_2, market=None, epoch=1, state=TrustState.STALE,
                previous=TrustState.LIVE, reason=reason,
            )
        )  # fmt: skip
        await Held.last.handle([message])
        await play.settle()
        assert [data["reason"] for data in play.named("basket_closed")] == ["not_live"]
        assert not any("best" in line for line in play.status("held").lines)
        play.quote(yes_1, "0.40", "0.44")
        await play.settle()
        assert not opened(play)
        play.quote(yes_2, "0.30", "0.49")
        await play.settle()
        assert len(opened(play)) == 1


async def test_books_that_do_not_come_to_rest_close_their_basket(
    autojump_clock: MockClock,
) -> None:
    yes_1, yes_2 = (await tokens_of_a_stage(markets=2))[::2]
    async with stage(BasketWatch, options={"baskets": [[yes_1, yes_2]]}, markets=2) as play:
        play.quote(yes_1, "0.40", "0.45")
        play.quote(yes_2, "0.30", "0.50")
        await play.settle()
        play.events.clear()
        moving_ns = play.service.env.clock_ns()
        trader = play.venue.add_account()
        for _ in range(30):
            trader.place(yes_1, Side.BID, to_units(Decimal("0.10")), to_units(Decimal(5)))
            await play.settle(0.1)
        (closed,) = [one for one in play.published if one.name == "basket_closed"]
        assert closed.data["reason"] == "unsettled"
        assert 1.0 <= (closed.time_ns - moving_ns) / 1e9 <= 1.3
        assert not opened(play)
        await play.settle()
        assert len(opened(play)) == 1


async def test_a_leg_that_is_not_followed_is_a_warning(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with stage(BasketWatch, options={"baskets": [["1", "2"]]}) as play:
        await play.settle(30)
    told = [one.getMessage() for one in caplog.records if "not followed" in one.getMessage()]
    assert len(told) == 1
    assert "['1', '2']" in told[0]


async def test_a_stop_closes_what_is_open(autojump_clock: MockClock) -> None:
    yes_1, yes_2 = (await tokens_of_a_stage(markets=2))[::2]
    async with stage(BasketWatch, options={"baskets": [[yes_1, yes_2]]}, markets=2) as play:
        play.quote(yes_1, "0.40", "0.45")
        play.quote(yes_2, "0.30", "0.50")
        await play.settle()
        play.events.clear()
    await play.settle()
    assert [data["reason"] for data in play.named("basket_closed")] == ["stopped"]


async def test_a_leg_whose_feed_is_silent_holds_its_basket_back(autojump_clock: MockClock) -> None:
    """Its book is LIVE still, and perhaps long wrong: the stall is not found yet."""
    tokens = await tokens_of_a_stage(markets=4)
    basket = [tokens[0], tokens[4]]
    async with stage(
        BasketWatch, options={"baskets": [basket]}, markets=4, settings=TWO_FEEDS
    ) as play:
        play.quote(basket[0], "0.40", "0.60")
        play.quote(basket[1], "0.30", "0.50")
        await play.settle()
        play.events.clear()
        play.venue.inject("stall", token=basket[1], seconds=20)
        await play.settle(5)
        play.quote(basket[1], "0.60", "0.70")  # unheard: with this there is no edge
        play.quote(basket[0], "0.40", "0.45")
        await play.settle()
        assert play.book(basket[1]).state is TrustState.LIVE
        assert not opened(play)
        assert play.status("basket-watch").metrics["held_back_skew"] > 0


async def test_a_quiet_leg_is_believed_while_its_feed_is_heard(autojump_clock: MockClock) -> None:
    tokens = await tokens_of_a_stage(markets=4)
    basket = [tokens[0], tokens[4]]
    async with stage(
        BasketWatch, options={"baskets": [basket]}, markets=4, settings=TWO_FEEDS
    ) as play:
        play.quote(basket[0], "0.40", "0.60")
        play.quote(basket[1], "0.30", "0.50")
        await play.settle(3600)
        play.events.clear()
        play.quote(basket[0], "0.40", "0.45")
        await play.settle(5)
        assert not opened(play)  # the other feed has said nothing for an hour
        play.quote(tokens[2], "0.40", "0.50")
        play.quote(tokens[6], "0.40", "0.50")  # now both have, of other tokens
        await play.settle()
        assert [data["edge"] for data in opened(play)] == ["0.05"]


async def test_the_books_of_one_market_must_have_changed_together(
    autojump_clock: MockClock,
) -> None:
    """`mirror` loses the entries of one token: the pair seems to have an edge, and has none."""
    async with stage(BasketWatch, options={"edge": 0}) as play:
        play.quote(play.yes, "0.40", "0.60")
        trader = play.venue.add_account()
        best_bid = trader.place(play.yes, Side.BID, to_units(Decimal("0.50")), to_units(Decimal(9)))
        await play.settle(5)
        play.events.clear()
        play.venue.inject("mirror", token=play.no, seconds=60)
        trader.cancel(best_bid.id)
        trader.place(play.yes, Side.ASK, to_units(Decimal("0.45")), to_units(Decimal(9)))
        await play.settle(0.5)
        yes, no = play.book(play.yes).best_ask, play.book(play.no).best_ask
        assert yes is not None
        assert no is not None
        assert yes.price + no.price < 1, "so it looks"
        await play.settle(60)
        assert not opened(play)
        assert play.status("basket-watch").metrics["held_back_skew"] > 0


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_told_of_a_half_told_step(autojump_clock: MockClock, seed: int) -> None:
    """Whatever happens at the exchange: by the stream itself, every leg was LIVE and settled when a
    basket opened, and its best prices had the edge."""
    rng = Random(seed)
    yes = (await tokens_of_a_stage(markets=3))[::2]
    options = {"baskets": [yes], "edge": "0.02", "skew_seconds": 0.25}
    async with stage(BasketWatch, options=options, markets=3, seed=1) as play:
        for _ in range(150):
            token = rng.choice(yes)
            bid = rng.randint(20, 38)
            play.quote(token, Decimal(bid) / 100, Decimal(bid + rng.randint(1, 8)) / 100)
            if rng.random() < 0.03:
                with suppress(NoTarget):  # between two sessions
                    play.venue.inject(rng.choice(["reset", "lost_delta", "duplicate", "mirror"]))
            await play.settle(rng.choice([0, 0.01, 0.1, 0.3, 0.5]))
        await play.settle(10)
        books: dict[str, BookUpdated] = {}
        live: set[str] = set()
        count = 0
        for event in play.events:
            if isinstance(event, BookUpdated):
                books[event.token] = event
            elif isinstance(event, TrustChanged):
                (live.add if event.state is TrustState.LIVE else live.discard)(event.token)
            elif isinstance(event, ActorEvent) and event.name == "basket_open":
                count += 1
                legs = [books[token] for token in yes if token in live]
                assert len(legs) == len(yes)
                assert all(leg.settled for leg in legs)
                is_buy = event.data["side"] == "buy"
                tops = [leg.best_ask if is_buy else leg.best_bid for leg in legs]
                total = sum((top for top in tops if top is not None), Decimal(0))
                assert (ONE - total if is_buy else total - ONE) > Decimal("0.02")
        assert count > 5
        told = [one.name for one in play.published]
        assert told == [("basket_open", "basket_closed")[i % 2] for i in range(len(told))]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"baskets": [["1"]]}, "two or more different token ids"),
        ({"baskets": [["1", "1"]]}, "two or more different token ids"),
        ({"baskets": ["12", "34"]}, "expected a list, got '12'"),
        ({"edge": 1}, "edge"),
        ({"edge": "much"}, "expected a number"),
        ({"size_min": 0}, "size_min"),
        ({"skew_seconds": 0}, "skew_seconds"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        actor_spec(BasketWatch, options=options)
