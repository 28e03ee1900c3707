"""The account as programs read it: at once, unchangeable, and each row made once."""

import copy
import pickle
import time
from decimal import Decimal
from typing import Any, cast

import pytest
from tests.actors.account.events import US, maker, order, trade

from polyactors.account.account import Account
from polyactors.protocol.user_events import OrderKind, TradeStatus
from polyactors.user import reading as module
from polyactors.user.reading import AccountReading, OrderReading, Readings, TradeReading
from polyactors.user.state import AccountTrust

TRUST = AccountTrust()


def an_account(rows: int) -> Account:
    account = Account(US)
    for number in range(rows):
        name = str(number)
        account.apply(order(4, OrderKind.CANCELLATION, id=name))
        filled = maker(4, order_id=name, token=name)
        account.apply(trade(TradeStatus.CONFIRMED, filled, id=name, match_time_s=number))
    return account


def test_a_reading_at_the_limits_of_memory_holds_up_nobody() -> None:
    account = an_account(10_000)
    readings = Readings(account)

    def seconds() -> float:
        began = time.perf_counter()
        readings.account(TRUST, 0.0)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.01


def test_a_row_is_made_once_for_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    take = OrderReading.take

    def counted(row: Any) -> OrderReading:
        made.append(row.id)
        return take(row)

    monkeypatch.setattr(OrderReading, "take", counted)
    account = Account(US)
    readings = Readings(account)
    account.apply(order(0, id="a"))
    account.apply(order(0, id="b"))
    reading = readings.account(TRUST, 0.0)
    assert made == []
    for _ in range(3):
        reading = readings.account(TRUST, 0.0)
        assert [one.id for one in reading.open_orders] == ["a", "b"]
        assert readings.order(account.orders["a"]) is reading.orders["a"]
    assert made == ["a", "b"]
    account.apply(order(1, id="b"))
    assert readings.account(TRUST, 0.0).orders["b"].filled_size == 1
    assert reading.orders["b"].filled_size == 0
    assert made[:3] == ["a", "b", "b"]


def test_a_reading_does_not_change_with_its_account() -> None:
    account = Account(US)
    readings = Readings(account)
    account.apply(order(1))
    account.apply(trade(TradeStatus.MATCHED))
    reading = readings.account(TRUST, 0.0)
    account.apply(order(9))
    account.apply(order(2, id="another"))
    account.apply(trade(TradeStatus.FAILED))
    assert set(reading.orders) == {"order"}
    assert reading.orders["order"].filled_size == 4
    assert reading.trades["trade"].status == "MATCHED"
    assert reading.positions == {"1": Decimal(4)}
    later = readings.account(TRUST, 0.0)
    assert set(later.orders) == {"order", "another"}
    assert later.trades["trade"].status == "FAILED"
    assert later.positions == {}


def test_a_reading_cannot_be_changed() -> None:
    reading = AccountReading.take(an_account(1), TRUST, 0.0)
    for rows in (reading.orders, reading.trades, reading.positions):
        with pytest.raises(TypeError):
            cast("dict[str, Any]", rows)["0"] = None
        with pytest.raises(KeyError):
            _ = rows["unknown"]
        assert "0" in rows
        assert "unknown" not in rows
        assert rows.get("unknown") is None


def test_rows_are_like_a_dictionary() -> None:
    account = an_account(2)
    reading = AccountReading.take(account, TRUST, 0.0)
    expected = {key: TradeReading.take(one) for key, one in account.trades.items()}
    assert reading.trades == expected
    assert repr(reading.trades) == repr(expected)
    assert copy.deepcopy(reading.trades) == pickle.loads(pickle.dumps(reading.trades)) == expected
    assert reading == AccountReading.take(account, TRUST, 0.0)


def test_readings_of_what_was_forgotten_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BEYOND", 10)
    account = Account(US, closed_orders_max=5)
    readings = Readings(account)
    for number in range(100):
        account.apply(order(4, OrderKind.CANCELLATION, id=str(number)))
        assert readings.order(account.orders[str(number)]).id == str(number)
    assert len(readings._orders._kept) <= 2 * 5 + 10 + 1  # pyright: ignore[reportPrivateUsage]
