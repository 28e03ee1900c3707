"""The user channel where the exchange's words and ours part: spellings, sizes, and late moments."""

from decimal import Decimal
from typing import Any

import pytest
import trio
from tests.actors.running import Play
from tests.actors.user_server import (
    ADDRESS,
    API_KEY,
    LIVE,
    M1,
    M2,
    M3,
    NOW_S,
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

from polyactors.user.checks import check_markets

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


# Whose it is


def made_of(order_id: str, **others: Any) -> list[dict[str, Any]]:
    """The maker orders of a trade: one of ours."""
    return [
        {
            "order_id": order_id,
            "owner": API_KEY,
            "maker_address": ADDRESS,
            "matched_amount": "4",
            "price": "0.5",
            "asset_id": "11",
            "side": "BUY",
            "outcome": "Yes",
            **others,
        }
    ]


THEIRS: dict[str, Any] = {
    "order_id": "taken",
    "owner": "x",
    "trade_owner": "x",
    "maker_address": "0x" + "7" * 40,
    "side": "SELL",
    "trader_side": "MAKER",
}
FORMER = {"owner": "11111111-2222-3333-4444-555555555555", "maker_address": "0x" + "9" * 40}


async def test_what_a_former_key_placed_is_ours_by_its_order_and_its_wallet(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    lists.orders = [order("mine", matched=4, **FORMER)]
    lists.trades = [
        trade("t", maker_orders=made_of("mine", owner="y"), **THEIRS),
        trade("before", maker_orders=made_of("closed", **FORMER), **THEIRS),
    ]
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        account = run.service.account
        assert set(account.read().trades) == {"t", "before"}
        assert account.read().positions == {"11": Decimal(8)}
        assert account.account.impossible == 0


async def test_a_row_that_is_nobodys_is_said_aloud_once(
    play: Play, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    lists = Lists()
    lists.trades = [trade("t", maker_orders=made_of("theirs", **FORMER), **THEIRS)]
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        await trio.sleep(300.0)
        assert run.service.account.account.impossible == 1
        assert run.downs == []
    (said,) = [record for record in caplog.records if "REST lists" in record.getMessage()]
    assert said.levelname == "WARNING"
    assert "no side of a trade is ours" in said.getMessage()


async def test_a_status_of_a_known_trade_counts_without_its_fills(
    play: Play, autojump_clock: object
) -> None:
    matched = trade("t", maker_orders=made_of("mine"), **THEIRS)
    failed = {**matched, "status": "FAILED", "maker_orders": None, "last_update": str(NOW_S + 9)}
    lists = Lists()
    lists.trades = [matched]
    async with follow(play, talk(failed), lists=lists) as run:
        await until_state(run, LIVE)
        lists.trades = [failed]
        await trio.sleep(300.0)
        reading = run.service.account.read()
        assert reading.trades["t"].status == "FAILED"
        assert reading.positions == {}
        assert run.downs == []


async def test_lists_that_insist_win_over_what_failed(play: Play, autojump_clock: object) -> None:
    lists = Lists()
    lists.orders = [order(matched=6)]
    lists.trades = [trade("a", 6, status="FAILED"), trade("b", 6, status="CONFIRMED")]
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        assert run.service.account.read().orders["order-1"].state == "FILLED"
        await trio.sleep(300.0)
        found = run.service.account.read().orders["order-1"]
        assert (found.state, found.filled_size, found.open_size) == ("OPEN", Decimal(6), Decimal(4))
        assert run.service.account.account.impossible == 1


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
