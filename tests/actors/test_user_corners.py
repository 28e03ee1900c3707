"""The user channel where the exchange's words and ours part: spellings, sizes, and late moments."""

from decimal import Decimal
from typing import Any

import pytest
import trio
from tests.actors.running import Play
from tests.actors.user_server import (
    LIVE,
    M1,
    M2,
    M3,
    Lists,
    auth_frame,
    follow,
    order,
    path_of,
    talk,
    trade,
    until_state,
    user_visits,
)

from polyactors.user.line import check_markets

LOW, HIGH = "0x" + "ab" * 32, "0x" + "AB" * 32


# Condition ids


@pytest.mark.parametrize("wire", [LOW, HIGH])
async def test_a_condition_id_is_the_same_in_either_case_of_its_digits(
    play: Play, autojump_clock: object, wire: str
) -> None:
    lists = Lists()
    lists.orders, lists.trades = [order("mine", market=wire)], [trade("t", market=wire)]
    async with follow(play, talk(), lists=lists, markets=[HIGH]) as run:
        await until_state(run, LIVE)
        reading = run.service.account.read()
        assert set(reading.orders) == {"mine"}
        assert set(reading.trades) == {"t"}
        assert (reading.orders["mine"].market, reading.trades["t"].market) == (LOW, LOW)
        run.service.account.subscribe([M1])
        run.service.account.unsubscribe([HIGH])
        assert run.service.account.markets == (M1,)
    assert user_visits(run)[0].frames[0] == auth_frame(LOW)


def test_a_market_that_is_named_in_both_cases_is_one() -> None:
    assert check_markets([HIGH, LOW]) == (LOW,)


# Numbers


async def test_a_price_of_many_decimals_refuses_no_trade(
    play: Play, autojump_clock: object
) -> None:
    """A taker's price is an average, from which nothing follows."""
    lists = Lists()
    lists.trades = [trade("t", 7, "a", price="0.012857142857"), trade("fine", 1, "b")]
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        trades = run.service.account.read().trades
    assert [(fill.price, fill.size) for fill in trades["t"].fills] == [
        (Decimal("0.012857143"), Decimal(7))
    ]
    assert set(trades) == {"t", "fine"}


@pytest.mark.parametrize("change", [{"size": "4.0000000001"}, {"price": "1.0000000006"}])
async def test_a_size_of_many_decimals_is_not_guessed_at(
    play: Play, autojump_clock: object, change: dict[str, Any]
) -> None:
    lists = Lists()
    lists.trades = [trade(**change)]
    async with follow(play, talk(), lists=lists) as run:
        await trio.sleep(100.0)
        assert (LIVE, None) not in path_of(run)


# Late moments


async def test_markets_may_change_while_the_service_stops(
    play: Play, autojump_clock: object
) -> None:
    async with follow(play, talk(), lists=Lists(), markets=[M1]) as run:
        await until_state(run, LIVE)
        account = run.service.account
        run.service.stop()
        for number in range(20):
            account.subscribe([M2 if number % 2 else M3])
            await trio.lowlevel.checkpoint()
        await run.ended.wait()
        assert set(account.markets) == {M1, M2, M3}
