"""Single stories; every interleaving of them is in `tests/properties/test_account_model.py`."""

from attrs import evolve
from tests.actors.account.events import US, maker, order, shares, trade

from polyactors.account.account import Account
from polyactors.account.changes import Change, OrderChanged, PositionChanged, TradeChanged
from polyactors.account.orders import OrderState
from polyactors.account.reconcile import (
    OVERLAP_SECONDS,
    PENDING_BY_ID_MAX,
    PIECE_ROWS,
    Reconciliation,
    begin,
    cover,
    pending_before,
    pieces,
    trades_after_s,
    unlisted,
)
from polyactors.protocol.user_events import OrderEvent, OrderKind, TradeEvent, TradeStatus

MATCHED, CONFIRMED, FAILED = TradeStatus.MATCHED, TradeStatus.CONFIRMED, TradeStatus.FAILED
PLACEMENT = order(0, OrderKind.PLACEMENT)
NOW_S = 100_000


def finish(
    account: Account, begun: Reconciliation, orders: list[OrderEvent], trades: list[TradeEvent]
) -> list[Change]:
    """Step 5, all of it: what is not listed is missing for the second time."""
    missing = unlisted(account, begun, orders)
    after_s = trades_after_s(account, begun, orders)
    changes: list[Change] = []
    for piece in pieces(account, begun, orders, trades, after_s):
        changes += account.apply_all(piece, reconciled=True)
    changes += account.settle_disputes(orders)
    for order_id in missing:
        changes += account.close_missing(order_id)
    cover(account, begun, orders, trades, NOW_S)
    return changes


def reconcile(
    account: Account, orders: list[OrderEvent], trades: list[TradeEvent], *markets: str
) -> int:
    """All steps at once; the second after which trades were to be listed."""
    begun = begin(account, markets)
    after_s = trades_after_s(account, begun, orders)
    by_id = pending_before(account, begun, after_s)
    listed = [row for row in trades if row.match_time_s > after_s or row.id in by_id]
    finish(account, begun, orders, listed)
    return after_s


def test_what_a_gap_hid_is_told_once_and_marked() -> None:
    account = Account(US)
    account.apply(PLACEMENT)
    begun = begin(account)
    changes = finish(account, begun, [order(4)], [trade(CONFIRMED)])
    assert [type(change) for change in changes] == [OrderChanged, TradeChanged, PositionChanged]
    assert all(change.reconciled for change in changes)
    assert finish(account, begin(account), [order(4)], [trade(CONFIRMED)]) == []
    assert account.apply(order(4)) == account.apply(trade(MATCHED)) == []


def test_what_the_channel_told_meanwhile_is_not_told_again() -> None:
    account = Account(US)
    account.apply(PLACEMENT)
    begun = begin(account)
    live = account.apply(trade(MATCHED))
    assert not any(change.reconciled for change in live)
    changes = finish(account, begun, [order(4)], [trade(MATCHED)])
    assert changes == []


def test_an_order_that_is_not_listed_is_filled_if_its_trades_say_so() -> None:
    account = Account(US)
    account.apply(PLACEMENT)
    trades = [trade(CONFIRMED, maker(6), id="a"), trade(CONFIRMED, maker(4), id="b")]
    finish(account, begin(account), [], trades)
    assert account.orders["order"].state is OrderState.FILLED


def test_an_order_that_is_not_listed_is_cancelled_otherwise() -> None:
    account = Account(US)
    account.apply(PLACEMENT)
    changes = finish(account, begin(account), [], [trade(CONFIRMED, maker(6))])
    assert account.orders["order"].state is OrderState.CANCELLED
    assert account.orders["order"].size_matched == shares(6)
    assert isinstance(changes[-1], OrderChanged)
    assert changes[-1].filled_size == 0  # told of with the trade


def test_an_order_that_was_placed_meanwhile_is_not_missed_in_the_list() -> None:
    account = Account(US)
    begun = begin(account)
    account.apply(PLACEMENT)
    assert unlisted(account, begun, []) == []
    assert finish(account, begun, [], []) == []
    assert account.orders["order"].state is OrderState.OPEN


def test_only_what_is_still_open_is_asked_for_by_id() -> None:
    account = Account(US)
    for name in "abcd":
        account.apply(order(0, id=name))
    begun = begin(account)
    account.apply(order(0, OrderKind.CANCELLATION, id="a"))
    assert unlisted(account, begun, [order(0, id="b")]) == ["c", "d"]


def test_a_trade_that_failed_in_the_gap_gives_its_position_back() -> None:
    account = Account(US)
    account.apply(trade(MATCHED))
    changes = finish(account, begin(account), [], [trade(FAILED)])
    assert [type(change) for change in changes] == [TradeChanged, PositionChanged]
    assert account.positions == {}


def test_trades_are_listed_in_the_order_in_which_they_were_matched() -> None:
    account = Account(US)
    rows = [trade(MATCHED, id=str(second), match_time_s=second) for second in (3, 1, 2)]
    finish(account, begin(account), [], rows)
    assert list(account.trades) == ["1", "2", "3"]


# From when on trades are asked for


def test_the_first_time_from_the_beginning_that_the_user_chose() -> None:
    assert reconcile(Account(US, since_s=5000), [], []) == 4999
    assert reconcile(Account(US), [], []) == 0


def test_then_from_an_overlap_before_the_newest_that_a_list_had() -> None:
    account = Account(US, since_s=5000)
    reconcile(account, [], [trade(CONFIRMED, match_time_s=9000)])
    account.apply(trade(CONFIRMED, id="live", match_time_s=10_000))
    assert reconcile(account, [], []) == 9000 - OVERLAP_SECONDS - 1
    assert reconcile(account, [], []) == 9000 - OVERLAP_SECONDS - 1


def test_never_from_before_the_beginning_for_the_overlap_alone() -> None:
    account = Account(US, since_s=5000)
    reconcile(account, [], [trade(CONFIRMED, match_time_s=5001)])
    assert reconcile(account, [], []) == 4999


def test_a_trade_that_is_not_final_is_asked_for_by_id_and_pulls_no_list_back() -> None:
    account = Account(US, since_s=1000)
    reconcile(account, [], [trade(MATCHED), trade(CONFIRMED, id="b", match_time_s=9000)])
    covered = 9000 - OVERLAP_SECONDS - 1
    assert pending_before(account, begin(account), covered) == ["trade"]
    assert pending_before(account, begin(account, ["0xother"]), covered) == []
    assert pending_before(account, begin(account), 1999) == []  # it will be listed
    assert reconcile(account, [], [trade(CONFIRMED)]) == covered
    assert account.trades["trade"].is_final
    assert pending_before(account, begin(account), covered) == []


def test_the_list_reaches_back_when_too_many_trades_are_not_final() -> None:
    account = Account(US)
    stuck = [
        trade(MATCHED, id=f"{at:03}", match_time_s=1000 + at) for at in range(PENDING_BY_ID_MAX + 3)
    ]
    reconcile(account, [], [*stuck, trade(CONFIRMED, id="b", match_time_s=9000)])
    begun = begin(account)
    after_s = trades_after_s(account, begun, [])
    assert after_s == 1000 + PENDING_BY_ID_MAX - 1
    by_id = [row.id for row in stuck[:PENDING_BY_ID_MAX]]
    assert pending_before(account, begun, after_s) == by_id


def test_a_trade_of_the_future_does_not_cover_what_was_not_matched_yet() -> None:
    account = Account(US)
    rows = [trade(CONFIRMED, match_time_s=NOW_S - 50), trade(CONFIRMED, id="b", match_time_s=10**9)]
    reconcile(account, [], rows)
    assert reconcile(account, [], rows) == NOW_S - OVERLAP_SECONDS - 1
    assert set(account.trades) == {"trade", "b"}


def test_what_was_matched_before_the_beginning_is_left_out_unless_an_order_needs_it() -> None:
    account = Account(US, since_s=5000)
    rows = [
        trade(CONFIRMED, maker(6, order_id="needs"), id="needed", match_time_s=3000),
        trade(CONFIRMED, maker(6, order_id="other"), id="old", match_time_s=4999),
        trade(CONFIRMED, maker(6, order_id="other"), id="edge", match_time_s=5000),
    ]
    reconcile(account, [order(6, id="needs")], rows)
    assert list(account.trades) == ["needed", "edge"]
    # Once it is explained, it pulls nothing further in, and what is known goes on.
    reconcile(account, [order(6, id="needs")], rows)
    assert list(account.trades) == ["needed", "edge"]


def test_a_long_list_comes_in_pieces_and_nothing_is_forgotten_between_them() -> None:
    account = Account(US, final_trades_max=0)
    reconcile(account, [], [trade(CONFIRMED, match_time_s=90_000)], "0xm")
    rows = [
        trade(CONFIRMED, id=f"t{at}", market="0xother", match_time_s=1000 + at)
        for at in range(2 * PIECE_ROWS + 1)
    ]
    begun = begin(account, ["0xm", "0xother"])
    told = [
        account.apply_all(piece, reconciled=True)
        for piece in pieces(account, begun, [], rows[::-1], trades_after_s(account, begun, []))
    ]
    assert [len(changes) for changes in told] == [2 * PIECE_ROWS, 2 * PIECE_ROWS, 2]
    # The list failed before its end: older rows come with the next one.
    older = trade(CONFIRMED, id="older", market="0xother", match_time_s=500)
    account.apply(trade(CONFIRMED, id="live", match_time_s=90_001))
    reconcile(account, [], [older, *rows], "0xm", "0xother")
    assert account.positions == {"1": shares(4 * (len(rows) + len(["first", "live", "older"])))}
    assert account.forgotten == 0


def test_a_list_in_pieces_insists_as_well() -> None:
    account = Account(US)
    other = trade(CONFIRMED, maker(1, order_id="other"))
    rows = [
        trade(FAILED, maker(6), id="a"),
        trade(CONFIRMED, maker(6), id="b"),
        *(evolve(other, id=f"t{at}") for at in range(PIECE_ROWS)),
    ]
    orders = [order(6)]
    for state in (OrderState.FILLED, OrderState.OPEN, OrderState.OPEN):
        finish(account, begin(account), orders, rows)
        assert account.orders["order"].state is state
    assert account.impossible == 1


def test_of_a_partly_matched_order_all_trades_are_asked_for_once() -> None:
    """Else the sum of its trades could not tell later that it was filled."""
    account = Account(US, since_s=5000)
    old = trade(CONFIRMED, maker(6), id="old", match_time_s=3000)
    assert reconcile(account, [order(6)], [old]) == 1000 - OVERLAP_SECONDS - 1
    rest = trade(CONFIRMED, maker(4), id="rest", match_time_s=8000)
    assert reconcile(account, [], [old, rest]) == 4999
    assert account.orders["order"].state is OrderState.FILLED


def test_an_order_of_which_nothing_is_matched_needs_no_older_trades() -> None:
    assert reconcile(Account(US, since_s=5000), [order(0)], []) == 4999


def test_an_order_that_vanished_before_it_was_ever_listed_needs_its_trades() -> None:
    account = Account(US, since_s=5000)
    account.apply(order(7))
    old = trade(CONFIRMED, maker(10), match_time_s=3000)
    assert reconcile(account, [], [old]) == 1000 - OVERLAP_SECONDS - 1
    assert account.orders["order"].state is OrderState.FILLED


def test_a_session_that_ended_before_the_end_moves_nothing() -> None:
    account = Account(US, since_s=1000)
    begun = begin(account)
    account.apply(trade(CONFIRMED, match_time_s=9000))
    assert trades_after_s(account, begun, []) == 999
    assert reconcile(account, [], []) == 999


# Markets


def test_rows_of_markets_that_are_not_subscribed_are_left_out() -> None:
    """Nothing would keep them current."""
    account = Account(US)
    account.apply(order(0, id="elsewhere", market="0xother"))
    rows = [order(0), order(0, id="b", market="0xother")]
    trades = [trade(CONFIRMED), trade(CONFIRMED, id="b", market="0xother")]
    finish(account, begin(account, ["0xm"]), rows, trades)
    assert sorted(account.orders) == ["elsewhere", "order"]
    assert account.orders["elsewhere"].state is OrderState.OPEN
    assert sorted(account.trades) == ["trade"]


def test_a_market_that_was_added_is_asked_for_from_the_beginning() -> None:
    account = Account(US, since_s=1000)
    reconcile(account, [], [trade(CONFIRMED, match_time_s=9000)], "0xm")
    covered = 9000 - OVERLAP_SECONDS - 1
    assert reconcile(account, [], [], "0xm") == covered
    other = trade(CONFIRMED, id="b", market="0xother", match_time_s=2000)
    assert reconcile(account, [], [other], "0xm", "0xother") == 999
    assert "b" in account.trades


def test_a_market_less_is_complete_and_all_markets_are_more() -> None:
    account = Account(US, since_s=1000)
    reconcile(account, [], [trade(CONFIRMED, match_time_s=9000)])
    assert reconcile(account, [], [], "0xm") == 9000 - OVERLAP_SECONDS - 1
    assert reconcile(account, [], []) == 999
