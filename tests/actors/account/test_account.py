from collections.abc import Sequence
from typing import Any

import pytest
from attrs import asdict, evolve
from tests.actors.account.events import ADDRESS, API_KEY, US, maker, order, shares, trade

from polyactors.account import account as module
from polyactors.account import refusals
from polyactors.account import trades as trades_module
from polyactors.account.account import Account, Coverage
from polyactors.account.changes import (
    Change,
    Impossible,
    OrderChanged,
    PositionChanged,
    TradeChanged,
)
from polyactors.account.orders import OrderState
from polyactors.book.numbers import Side
from polyactors.protocol.user_events import (
    OrderEvent,
    OrderKind,
    OrderStatus,
    TraderSide,
    TradeStatus,
    UserEvent,
)

MATCHED, MINED, CONFIRMED = TradeStatus.MATCHED, TradeStatus.MINED, TradeStatus.CONFIRMED
RETRYING, FAILED = TradeStatus.RETRYING, TradeStatus.FAILED
PLACEMENT = order(0, OrderKind.PLACEMENT)


def an_account(**limits: int) -> Account:
    return Account(US, **limits)


def test_a_fill_changes_trade_position_and_order_once_whichever_tells_first() -> None:
    by_trade, by_order = an_account(), an_account()
    by_trade.apply(PLACEMENT)
    by_order.apply(PLACEMENT)

    told, moved, filled = by_trade.apply(trade(MATCHED))
    assert isinstance(told, TradeChanged)
    assert isinstance(moved, PositionChanged)
    assert (moved.token, moved.old, moved.new) == ("1", 0, shares(4))
    assert isinstance(filled, OrderChanged)
    assert filled.filled_size == shares(4)
    assert by_trade.apply(order(4)) == []

    (first,) = by_order.apply(order(4))
    assert isinstance(first, OrderChanged)
    assert first.filled_size == shares(4)
    changes = by_order.apply(trade(MATCHED))
    assert [type(change) for change in changes] == [TradeChanged, PositionChanged]

    assert by_order.orders == by_trade.orders
    assert by_order.positions == by_trade.positions == {"1": shares(4)}


def test_a_trade_that_comes_before_its_order_fills_it_from_the_beginning() -> None:
    account = an_account()
    account.apply(trade(MATCHED))
    (change,) = account.apply(PLACEMENT)
    assert isinstance(change, OrderChanged)
    assert change.old is None
    assert change.new.size_matched == change.filled_size == shares(4)
    assert account.traded_size("order") == shares(4)


def test_partial_fills_of_several_trades_add_up_and_both_sources_agree() -> None:
    account = an_account()
    account.apply(PLACEMENT)
    account.apply(trade(MATCHED, id="a"))
    account.apply(order(4))
    account.apply(order(10))
    assert account.open_orders() == []
    account.apply(trade(MATCHED, maker(6), id="b"))
    assert account.orders["order"].state is OrderState.FILLED
    assert account.positions == {"1": shares(10)}


def test_what_a_sale_takes_may_go_below_nothing_and_back() -> None:
    account = an_account()
    account.apply(trade(MATCHED, maker(4, side=Side.ASK), id="a"))
    assert account.positions == {"1": -shares(4)}
    account.apply(trade(MATCHED, maker(4), id="b"))
    assert account.positions == {}


def test_one_trade_with_ourselves_moves_both_tokens_once() -> None:
    """The exchange tells of it twice, once for each side."""
    account = an_account()
    mint = maker(4, token="2", side=Side.BID)
    for side in TraderSide:
        account.apply(trade(MATCHED, mint, owner=API_KEY, side=Side.BID, trader_side=side))
    assert account.positions == {"1": shares(4), "2": shares(4)}
    assert account.repeats == 1


def test_a_side_of_ours_that_a_first_message_lacked_is_added() -> None:
    account = an_account()
    account.apply(trade(MATCHED, maker(4, owner="stranger"), trader_side=TraderSide.TAKER))
    changes = account.apply(trade(MATCHED, maker(4), trader_side=TraderSide.TAKER))
    assert [type(change) for change in changes] == [TradeChanged, PositionChanged]
    assert account.positions == {}
    assert [fill.order_id for fill in account.trades["trade"].fills] == ["taker", "order"]


@pytest.mark.parametrize(
    ("statuses", "position"),
    [
        ((MATCHED, MINED, CONFIRMED), 4),
        ((CONFIRMED,), 4),
        ((CONFIRMED, MATCHED, MINED, RETRYING), 4),
        ((MATCHED, RETRYING), 4),
        ((MATCHED, RETRYING, MINED, CONFIRMED), 4),
        ((MATCHED, RETRYING, FAILED), 0),
        ((MATCHED, FAILED, FAILED, MATCHED, RETRYING), 0),
        ((FAILED, MATCHED), 0),
    ],
)
def test_a_position_follows_the_fate_of_its_trade(
    statuses: tuple[TradeStatus, ...], position: int
) -> None:
    account = an_account()
    changes = [
        change
        for second, status in enumerate(statuses)
        for change in account.apply(trade(status, last_update_s=second))
    ]
    assert account.positions.get("1", 0) == shares(position)
    moves = [change.new - change.old for change in changes if isinstance(change, PositionChanged)]
    assert moves in ([], [shares(4)], [shares(4), -shares(4)])
    assert account.impossible == 0


def test_a_failed_trade_stays_matched_in_its_order() -> None:
    account = an_account()
    account.apply(PLACEMENT)
    account.apply(trade(MATCHED))
    changes = account.apply(trade(FAILED))
    assert [type(change) for change in changes] == [TradeChanged, PositionChanged]
    assert account.orders["order"].size_matched == shares(4)


@pytest.mark.parametrize(("first", "second"), [(CONFIRMED, FAILED), (FAILED, CONFIRMED)])
def test_a_final_trade_does_not_become_its_opposite(
    first: TradeStatus, second: TradeStatus
) -> None:
    account = an_account()
    account.apply(trade(first))
    before = dict(account.positions)
    assert account.apply(trade(second)) == []
    assert account.trades["trade"].status is first
    assert account.positions == before
    why = f"a trade that is {first.value} cannot be {second.value}"
    assert account.impossible == 1
    kept = trade(second, maker(owner=""), owner="", maker_address="")
    assert list(account.impossible_kept) == [Impossible(why, kept)]


def test_what_cannot_be_is_counted_and_the_latest_kept() -> None:
    account = an_account()
    account.apply(PLACEMENT)
    account.apply(order(1, token="2"))
    account.apply(trade(MATCHED, maker(4, order_id="theirs", owner="stranger")))
    account.apply(trade(MATCHED))
    account.apply(trade(MATCHED, maker(5)))
    assert [kept.why for kept in account.impossible_kept] == [
        "an order changed its token",
        "no side of a trade is ours",
        "an order got another fill of a trade",
    ]
    assert account.orders["order"].size_matched == shares(4)
    for _ in range(refusals.IMPOSSIBLE_KEPT_MAX):
        account.apply(order(1, token="2"))
    assert account.impossible == 103
    assert len(account.impossible_kept) == refusals.IMPOSSIBLE_KEPT_MAX


def test_no_key_is_shown_by_what_was_impossible() -> None:
    account = an_account()
    account.apply(trade(MATCHED, maker(4, owner=API_KEY.upper()), owner=API_KEY.upper()))
    account.apply(PLACEMENT)
    account.apply(order(1, token="2"))
    shown = repr([asdict(kept) for kept in account.impossible_kept]) + repr(account.orders)
    assert account.impossible == 2
    assert API_KEY not in shown.lower()


def test_repeats_are_counted_and_change_nothing() -> None:
    account = an_account()
    for event in (PLACEMENT, order(4), trade(MATCHED), trade(MINED)):
        assert account.apply(event)
    for event in (PLACEMENT, order(4), trade(MATCHED), trade(MINED)):
        assert account.apply(event) == []
    assert account.repeats == 4


def test_a_repeated_status_of_a_later_second_outlives_a_late_other_one() -> None:
    account = an_account()
    account.apply(trade(MINED, last_update_s=5, transaction_hash="0xfirst"))
    assert account.apply(trade(MINED, last_update_s=9, transaction_hash="0xsecond")) == []
    assert account.apply(trade(RETRYING, last_update_s=7, transaction_hash="0xfirst")) == []
    assert account.trades["trade"].status is MINED
    assert account.trades["trade"].transaction_hash == "0xsecond"


def test_what_a_list_tells_is_marked_as_reconciled() -> None:
    account = an_account()
    changes = account.apply_all([order(1), trade(MATCHED)], reconciled=True)
    assert len(changes) == 4
    assert all(change.reconciled for change in changes)


def test_an_order_that_no_list_has_is_closed_once() -> None:
    account = an_account()
    account.apply(order(4))
    (change,) = account.close_missing("order")
    assert isinstance(change, OrderChanged)
    assert change.reconciled
    assert change.new.state is OrderState.CANCELLED
    assert change.filled_size == 0
    assert account.close_missing("order") == account.close_missing("unknown") == []
    assert account.apply(order(4, OrderKind.CANCELLATION)) == []
    assert account.apply(order(4), reconciled=True) == []  # the exchange said it: final


def test_an_order_that_a_later_list_has_is_open_again() -> None:
    account = an_account()
    account.apply(order(4))
    account.close_missing("order")
    (change,) = account.apply(order(4), reconciled=True)
    assert isinstance(change, OrderChanged)
    assert change.new.state is OrderState.OPEN


# What of a trade is ours


FORMER: dict[str, Any] = {"owner": "former-key", "maker_address": "0xProxy"}


def test_a_fill_of_a_known_order_is_ours_whatever_its_key() -> None:
    account = an_account()
    account.apply(order(0, owner="former-key"))
    account.apply(trade(MATCHED, maker(4, owner="former-key")))
    assert account.positions == {"1": shares(4)}
    account.apply(order(0, id="taker", owner="former-key", side=Side.ASK))
    account.apply(trade(MATCHED, maker(1, order_id="theirs", owner="x"), id="b", trader_side=None))
    assert account.positions == {"1": shares(3)}


def test_a_wallet_that_was_seen_on_an_order_of_ours_is_ours() -> None:
    account = an_account()
    known = trade(MATCHED, maker(4, order_id="forgotten", **FORMER))
    assert account.apply(known) == []
    account.apply(order(0, **FORMER))
    assert account.apply(known)
    assert account.positions == {"1": shares(4)}
    assert "proxy" not in repr(account.owner).lower()


def test_a_strangers_wallet_on_what_cannot_be_our_order_is_not_ours() -> None:
    account = an_account()
    account.apply(PLACEMENT)
    account.apply(order(1, token="2", maker_address="0xstranger"))
    stranger = maker(4, order_id="theirs", owner="x", maker_address="0xstranger")
    assert account.apply(trade(MATCHED, stranger)) == []
    assert account.impossible == 2


def test_wallets_of_ours_are_bounded() -> None:
    account = an_account()
    for number in range(trades_module.WALLETS_MAX + 10):
        account.apply(order(0, maker_address=f"0x{number}"))
    assert account.owner.owns("", ADDRESS)
    assert not account.owner.owns("", f"0x{trades_module.WALLETS_MAX + 9}")


@pytest.mark.parametrize(("status", "position"), [(MINED, 4), (CONFIRMED, 4), (FAILED, 0)])
def test_a_status_of_a_known_trade_needs_no_fills_of_ours(
    status: TradeStatus, position: int
) -> None:
    account = an_account()
    account.apply(trade(MATCHED))
    bare = evolve(trade(status, last_update_s=2001), maker_fills=())
    assert account.apply(bare)
    assert account.apply(bare) == []
    assert account.trades["trade"].status is status
    assert account.trades["trade"].fills[0].size == shares(4)
    assert account.positions.get("1", 0) == shares(position)
    assert account.impossible == 0


def test_a_row_that_is_refused_is_said_and_counted_once() -> None:
    account = an_account()
    theirs = trade(MATCHED, maker(4, order_id="theirs", owner="x"))
    for _ in range(3):
        account.apply(theirs, reconciled=True)
    account.apply(evolve(theirs, id="another"), reconciled=True)
    refused = account.take_refused_rows()
    assert [(kept.event.id, kept.is_listed) for kept in refused] == [
        ("trade", True),
        ("another", True),
    ]
    assert account.take_refused_rows() == []
    assert account.impossible == len(account.impossible_kept) == 2
    account.apply(theirs)  # the channel is believed to say each thing once
    assert account.impossible == 3
    assert account.take_refused_rows() == []


def test_the_refused_rows_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "ROWS_REMEMBERED_MAX", 2)
    account = an_account()
    for name in "abcabc":
        account.apply(trade(MATCHED, maker(4, order_id="x", owner="x"), id=name), reconciled=True)
    assert account.impossible == 6
    assert len(account.take_refused_rows()) == 6


# Lists that contradict us


def take_list(account: Account, rows: Sequence[UserEvent]) -> list[Change]:
    """All rows that REST has, in one piece."""
    changes = account.apply_all(rows, reconciled=True)
    return changes + account.settle_disputes(row for row in rows if isinstance(row, OrderEvent))


def test_what_a_list_insists_upon_is_counted_once() -> None:
    account = an_account()
    account.apply_all([order(4)])
    for impossible in (0, 1, 1):  # the first may just be older than what the channel said
        assert take_list(account, [order(3)]) == []
        assert account.impossible == impossible
    assert account.impossible_kept[0].why == "a list says that less of an order is matched"
    assert account.impossible_kept[0].is_listed
    assert account.orders["order"].size_matched == shares(4), "the order's own word"


def test_a_list_that_has_a_cancelled_order_for_open_is_counted() -> None:
    account = an_account()
    account.apply(order(4, OrderKind.CANCELLATION))
    for _ in range(2):
        take_list(account, [order(4)])
    assert [kept.why for kept in account.impossible_kept] == [
        "a list has an order as open that was cancelled"
    ]
    assert account.orders["order"].state is OrderState.CANCELLED


def test_a_list_that_is_only_late_contradicts_nothing() -> None:
    account = an_account()
    for matched in range(1, 9):
        account.apply(order(matched))
        take_list(account, [order(matched - 1)])
    take_list(account, [])
    take_list(account, [order(7)])  # the list between had nothing to say
    take_list(account, [order(7), order(8)])  # two pages: the later is newer
    take_list(account, [order(7, status=OrderStatus.CANCELED)])
    assert account.impossible == 0


def test_what_failed_is_no_part_of_an_order_when_the_lists_insist() -> None:
    account = an_account()
    rows: list[UserEvent] = [
        order(6),
        trade(FAILED, maker(6), id="a"),
        trade(CONFIRMED, maker(6), id="b"),
    ]
    take_list(account, rows)
    assert account.orders["order"].state is OrderState.FILLED
    (change,) = take_list(account, rows)
    assert isinstance(change, OrderChanged)
    assert (change.new.state, change.new.size_matched) == (OrderState.OPEN, shares(6))
    assert change.filled_size == -shares(6)
    assert account.impossible == 1
    for _ in range(3):
        assert take_list(account, rows) == []
    # What is matched from now on counts on top of it, and once.
    account.apply(trade(MATCHED, maker(2), id="c"))
    assert account.orders["order"].size_matched == account.traded_size("order") == shares(8)
    rows += [trade(FAILED, maker(2), id="c")]
    for _ in range(3):
        take_list(account, rows)
    assert account.orders["order"].size_matched == account.traded_size("order") == shares(6)
    assert account.positions == {"1": shares(6)}


def test_what_was_left_out_of_an_order_is_not_taken_out_again_when_it_is_forgotten() -> None:
    account = an_account(final_trades_max=0)
    rows: list[UserEvent] = [
        order(6),
        trade(FAILED, maker(6), id="a"),
        trade(CONFIRMED, maker(6), id="b"),
    ]
    for _ in range(3):
        take_list(account, rows)
    account.cover(Coverage(to_s=3000))
    account.apply(order(6))
    assert account.trades == {}
    assert account.traded_size("order") == account.orders["order"].size_matched == shares(6)


# Memory


def test_the_orders_that_were_closed_first_are_forgotten_first() -> None:
    account = an_account(closed_orders_max=2)
    for name in "abcd":
        account.apply(order(0, id=name))
        account.apply(trade(MATCHED, maker(1, order_id=name), id=f"trade of {name}"))
    for name in "cba":
        account.apply(order(1, OrderKind.CANCELLATION, id=name))
    assert list(account.orders) == ["a", "b", "d"]
    assert account.traded_size("c") == 0
    assert account.positions == {"1": shares(4)}


def test_only_final_trades_from_before_the_last_reconciliation_are_forgotten() -> None:
    account = an_account(final_trades_max=1)
    for second in range(1, 6):
        account.apply(trade(CONFIRMED, id=str(second), match_time_s=second))
    assert len(account.trades) == 5  # never reconciled: it may have missed some
    account.cover(Coverage(to_s=3))
    account.apply(trade(MATCHED, id="6", match_time_s=6))
    assert sorted(account.trades) == ["3", "4", "5", "6"]
    assert account.positions == {"1": shares(24)}


def test_a_trade_that_was_forgotten_does_not_count_again() -> None:
    account = an_account(final_trades_max=0)
    account.apply(trade(CONFIRMED))
    account.cover(Coverage(to_s=3000))
    account.apply(trade(MATCHED, id="another", match_time_s=3001))
    assert list(account.trades) == ["another"]
    assert account.apply(trade(CONFIRMED)) == account.apply(trade(FAILED)) == []
    assert account.forgotten == 2
    assert account.positions == {"1": shares(8)}
    # In another market nothing was forgotten, so there it is new.
    assert account.apply(trade(CONFIRMED, id="elsewhere", market="0xother", token="9"))


def test_of_a_market_that_was_left_only_what_was_complete_then_is_forgotten() -> None:
    account = an_account(final_trades_max=0)
    both = frozenset({"0xm", "0xother"})
    account.cover(Coverage(to_s=1500, markets=both))
    account.apply(trade(CONFIRMED, id="early", match_time_s=1400))
    account.apply(trade(CONFIRMED, id="late", match_time_s=2000))
    account.cover(Coverage(to_s=9000, markets=frozenset({"0xother"})))
    account.apply(trade(CONFIRMED, id="elsewhere", market="0xother", match_time_s=8000))
    assert set(account.trades) == {"late"}
    # What the channel had kept back before that is in the lists when the market comes back.
    assert account.apply(trade(CONFIRMED, id="missed", match_time_s=1999), reconciled=True)
    assert account.apply(trade(CONFIRMED, id="early", match_time_s=1400), reconciled=True) == []
    account.cover(Coverage(to_s=9000, markets=both))
    account.apply(PLACEMENT)
    assert not account.trades


def test_what_was_complete_in_all_markets_may_be_forgotten_in_each() -> None:
    account = an_account(final_trades_max=0)
    account.cover(Coverage(to_s=1500))
    account.cover(Coverage(to_s=3000, markets=frozenset({"0xother"})))
    account.apply(trade(CONFIRMED, id="a", match_time_s=1400))
    account.apply(trade(CONFIRMED, id="b", match_time_s=2000))
    assert set(account.trades) == {"b"}
    account.cover(Coverage(to_s=3000))
    account.apply(PLACEMENT)
    assert not account.trades


def test_what_orders_got_is_forgotten_with_their_trades_unless_they_are_known() -> None:
    account = an_account(final_trades_max=0)
    account.apply(PLACEMENT)
    account.apply(trade(MATCHED, maker(1), maker(2, order_id="never seen")))
    account.apply(trade(MATCHED, maker(1, order_id="never seen"), id="b", match_time_s=5000))
    account.apply(trade(CONFIRMED, maker(1), maker(2, order_id="never seen")))
    account.cover(Coverage(to_s=3000))
    account.apply(PLACEMENT)
    assert list(account.trades) == ["b"]
    assert account.traded_size("never seen") == shares(1)
    assert account.traded_size("order") == shares(1)


def test_limits_by_default() -> None:
    account = an_account()
    assert (module.CLOSED_ORDERS_MAX, module.FINAL_TRADES_MAX) == (10_000, 10_000)
    for number in range(10_001):
        account.apply(order(10, id=str(number)))
    assert len(account.orders) == 10_000
    assert "0" not in account.orders
