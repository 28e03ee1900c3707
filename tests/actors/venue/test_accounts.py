"""Accounts of the embedded exchange: order entry, matching, settlement, positions."""

import base64
from typing import Any

import pytest
import trio
from tests.actors.venue.trading import (
    BUY,
    CENT,
    NOW_MS,
    SELL,
    SHARE,
    assert_sound,
    empty_book,
    quiet_venue,
)

from polyactors.book.numbers import PRICE_ONE, Side
from polyactors.venue import (
    AccountCredentials,
    OrderStatus,
    OrderType,
    Outcome,
    Settlement,
    TradeStatus,
    Venue,
    VenueAccount,
    order_desk,
)
from polyactors.venue.account_trades import MAKERS_MAX, VenueTrade
from polyactors.venue.accounts import ACCOUNTS_MAX
from polyactors.venue.engine import NO, YES

SECONDS_TO_SETTLE = 30.0


def the_trade(account: VenueAccount) -> VenueTrade:
    (trade,) = account.trades.values()
    return trade


def parts(account: VenueAccount) -> list[tuple[str, Side, int, int]]:
    """Of each trade what the account got, as (token, side, price, size)."""
    return [
        (part.token, part.side, part.price, part.size)
        for trade in account.trades.values()
        for part in trade.parts(account.api_key)
    ]


# Credentials


def test_credentials_follow_from_the_seed_and_no_two_accounts_share_any() -> None:
    venue, again, other = quiet_venue(), quiet_venue(), quiet_venue(seed=2)
    made = [v.add_account().credentials for v in (venue, venue, other)]
    assert [again.add_account().credentials for _ in range(2)] == made[:2]
    for field in ("api_key", "secret", "passphrase", "address"):
        assert len({getattr(credentials, field) for credentials in made}) == 3
    for credentials in made:
        assert len(base64.urlsafe_b64decode(credentials.secret)) == 32
        assert (credentials.address[:2], len(credentials.address)) == ("0x", 42)


def test_an_account_can_be_given_its_credentials_and_a_proxy_wallet() -> None:
    credentials = AccountCredentials("key", "c2VjcmV0", "pass", "0xA")
    venue = quiet_venue()
    account = venue.add_account(credentials, maker_address="0xB")
    assert (account.api_key, account.maker_address) == ("key", "0xB")
    assert venue.accounts.get("key") is account
    assert list(venue.accounts) == [account]
    with pytest.raises(ValueError, match="already"):
        venue.add_account(credentials)


def test_a_secret_is_base64_and_no_repr_shows_it() -> None:
    with pytest.raises(ValueError, match="base64"):
        AccountCredentials("key", "not base64!", "pass", "0xA")
    account = quiet_venue().add_account()
    known = account.credentials
    assert known.secret not in repr(account)
    assert known.passphrase not in repr(account)


def test_accounts_are_limited() -> None:
    venue = quiet_venue()
    for _ in range(ACCOUNTS_MAX):
        venue.add_account()
    with pytest.raises(ValueError, match="already"):
        venue.add_account()


# Orders that rest


async def test_an_order_rests_in_both_books_and_is_cancelled(autojump_clock: object) -> None:
    venue = quiet_venue()
    market = empty_book(venue)
    account = venue.add_account()
    order = account.place(venue.tokens[NO], BUY, 30 * CENT, 7 * SHARE)
    assert (order.status, order.size_matched) == (OrderStatus.LIVE, 0)
    assert market.engine.states[YES].asks == ((70 * CENT, 7 * SHARE),)
    assert market.engine.states[NO].bids == ((30 * CENT, 7 * SHARE),)
    assert_sound(venue)
    account.cancel(order.id)
    assert order.status is OrderStatus.CANCELED
    assert market.engine.states[YES].asks == ()
    assert account.open_orders == []
    with pytest.raises(LookupError, match="open"):
        account.cancel(order.id)
    with pytest.raises(LookupError, match="open"):
        account.cancel("0x0")


async def test_everybody_on_the_market_channel_sees_it_as_any_other_order(
    autojump_clock: object,
) -> None:
    """What is said is the same as when the flow places and cancels it."""
    venue, twin = quiet_venue(), quiet_venue()
    empty_book(venue)
    engine = empty_book(twin).engine
    account = venue.add_account()
    order = account.place(venue.tokens[YES], BUY, 30 * CENT, 7 * SHARE)
    engine.place(YES, BUY, 30 * CENT, 7 * SHARE, NOW_MS)
    assert venue.books() == twin.books()
    account.cancel(order.id)
    engine.cancel(list(engine.orders), NOW_MS)
    assert venue.books() == twin.books()


async def test_cancelling_all_takes_one_step_for_each_market(autojump_clock: object) -> None:
    venue = quiet_venue(markets=3)
    account, other = venue.add_account(), venue.add_account()
    for token in (*venue.tokens[:4], venue.tokens[0]):
        account.place(token, BUY, CENT, 5 * SHARE)
    stays = other.place(venue.tokens[0], BUY, CENT, 5 * SHARE)
    ids = [order.id for order in account.orders.values()]
    assert account.cancel_all() == ids
    assert account.cancel_all() == []
    assert all(order.status is OrderStatus.CANCELED for order in account.orders.values())
    assert stays.is_open
    assert_sound(venue)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"price": 0}, "invalid price"),
        ({"price": PRICE_ONE}, "invalid price"),
        ({"price": CENT // 2}, "invalid price"),
        ({"size": 4 * SHARE}, "invalid size"),
        ({"size": 5 * SHARE + 1}, "invalid size"),
        ({"token": "123"}, "no open market"),
        ({"order_type": "GTX"}, "GTX"),
        ({"settles": "someday"}, "someday"),
        ({"order_type": "GTD"}, "expiration"),
        ({"order_type": "GTD", "expiration_s": NOW_MS // 1000}, "expiration"),
        ({"expiration_s": NOW_MS}, "expiration"),
    ],
)
async def test_what_the_exchange_does_not_take_leaves_no_trace(
    autojump_clock: object, arguments: dict[str, Any], why: str
) -> None:
    venue = quiet_venue()
    account = venue.add_account()
    before = venue.books()
    order: dict[str, Any] = {
        "token": venue.tokens[0],
        "side": BUY,
        "price": CENT,
        "size": 5 * SHARE,
    }
    with pytest.raises(ValueError, match=why):
        account.place(**{**order, **arguments})
    assert account.orders == {}
    assert venue.books() == before


async def test_the_orders_of_an_account_are_limited(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_desk, "ORDERS_MAX", 2)
    venue = quiet_venue()
    account = venue.add_account()
    for _ in range(2):
        account.place(venue.tokens[0], BUY, CENT, 5 * SHARE)
    with pytest.raises(ValueError, match="2 orders"):
        account.place(venue.tokens[0], BUY, CENT, 5 * SHARE)


# Matching


async def test_a_taker_is_matched_with_several_makers_at_their_prices(
    autojump_clock: object,
) -> None:
    venue = quiet_venue()
    engine = empty_book(venue).engine
    yes, no = venue.tokens
    engine.place(YES, SELL, 40 * CENT, 5 * SHARE, NOW_MS)
    engine.place(NO, BUY, 58 * CENT, 10 * SHARE, NOW_MS)
    account = venue.add_account()
    order = account.place(yes, BUY, 45 * CENT, 20 * SHARE)
    trade = the_trade(account)
    assert (trade.taker.order_id, trade.taker.size) == (order.id, 15 * SHARE)
    assert trade.taker.price == 413 * PRICE_ONE // 1000  # (5 * 0.40 + 10 * 0.42) / 15, rounded
    assert [(m.token, m.side, m.price, m.size) for m in trade.makers] == [
        (yes, SELL, 40 * CENT, 5 * SHARE),
        (no, BUY, 58 * CENT, 10 * SHARE),
    ]
    assert len({trade.taker.owner, *(maker.owner for maker in trade.makers)}) == 3
    assert trade.sides(account.api_key) == ["TAKER"]
    assert (order.size_matched, order.status) == (15 * SHARE, OrderStatus.LIVE)
    assert order.trade_ids == [trade.id]
    assert engine.states[YES].bids == ((45 * CENT, 5 * SHARE),)
    assert account.positions == {yes: 15 * SHARE}


async def test_one_step_of_the_flow_fills_several_orders_in_one_trade(
    autojump_clock: object,
) -> None:
    venue = quiet_venue()
    engine = empty_book(venue).engine
    yes, no = venue.tokens
    account = venue.add_account()
    first = account.place(yes, SELL, 40 * CENT, 5 * SHARE)
    second = account.place(no, BUY, 59 * CENT, 8 * SHARE)
    third = account.place(yes, SELL, 60 * CENT, 5 * SHARE)
    step = engine.place(NO, SELL, 55 * CENT, 9 * SHARE, NOW_MS)
    venue.accounts.taken(step)
    trade = the_trade(account)
    assert trade.sides(account.api_key) == ["MAKER"]
    assert [maker.order_id for maker in trade.makers] == [first.id, second.id]
    assert (trade.taker.token, trade.taker.side, trade.taker.size) == (no, SELL, 9 * SHARE)
    assert parts(account) == [(yes, SELL, 40 * CENT, 5 * SHARE), (no, BUY, 59 * CENT, 4 * SHARE)]
    assert [o.status for o in (first, second, third)] == [
        OrderStatus.MATCHED,
        OrderStatus.LIVE,
        OrderStatus.LIVE,
    ]
    assert account.positions == {yes: -5 * SHARE, no: 4 * SHARE}


async def test_many_makers_are_several_trades_of_one_match(autojump_clock: object) -> None:
    venue = quiet_venue()
    engine = empty_book(venue).engine
    for _ in range(MAKERS_MAX):
        engine.place(YES, SELL, 40 * CENT, 5 * SHARE, NOW_MS)
    maker, taker = venue.add_account(), venue.add_account()
    rests = maker.place(venue.tokens[YES], SELL, 41 * CENT, 5 * SHARE)
    order = taker.place(venue.tokens[YES], BUY, 41 * CENT, 5 * (MAKERS_MAX + 1) * SHARE)
    first, second = taker.trades.values()
    assert [len(trade.makers) for trade in (first, second)] == [MAKERS_MAX, 1]
    assert [trade.bucket_index for trade in (first, second)] == [0, 1]
    assert first.taker.order_id == second.taker.order_id == order.id
    assert (first.taker.price, second.taker.price) == (40 * CENT, 41 * CENT)
    assert first.transaction_hash != second.transaction_hash
    assert order.status is rests.status is OrderStatus.MATCHED
    assert order.size_matched == first.taker.size + second.taker.size
    assert list(maker.trades.values()) == [second], "nothing of his is in the first"


async def test_two_accounts_trade_with_each_other_and_one_with_itself(
    autojump_clock: object,
) -> None:
    venue = quiet_venue()
    empty_book(venue)
    yes, no = venue.tokens
    anna, bela = venue.add_account(), venue.add_account()
    anna.place(yes, SELL, 40 * CENT, 5 * SHARE)
    bela.place(yes, BUY, 40 * CENT, 5 * SHARE)
    assert the_trade(anna) is the_trade(bela)
    assert (anna.positions, bela.positions) == ({yes: -5 * SHARE}, {yes: 5 * SHARE})
    anna.place(no, SELL, 30 * CENT, 5 * SHARE)
    anna.place(no, BUY, 30 * CENT, 6 * SHARE)
    *_, own = anna.trades.values()
    assert own.sides(anna.api_key) == ["TAKER", "MAKER"]
    assert anna.positions == {yes: -5 * SHARE}
    assert [order.size_matched for order in anna.orders.values()] == [5 * SHARE] * 3
    assert anna.orders.keys().isdisjoint(bela.orders)


# Orders that do not rest


async def test_fok_is_all_or_nothing(autojump_clock: object) -> None:
    venue = quiet_venue()
    engine = empty_book(venue).engine
    account = venue.add_account()
    engine.place(NO, BUY, 60 * CENT, 10 * SHARE, NOW_MS)
    engine.place(YES, SELL, 50 * CENT, 10 * SHARE, NOW_MS)
    before = venue.books()
    killed = account.place(venue.tokens[YES], BUY, 45 * CENT, 11 * SHARE, OrderType.FOK)
    assert (killed.status, killed.size_matched) == (OrderStatus.CANCELED, 0)
    assert venue.books() == before
    assert account.trades == {}
    filled = account.place(venue.tokens[YES], BUY, 50 * CENT, 11 * SHARE, OrderType.FOK)
    assert (filled.status, filled.size_matched) == (OrderStatus.MATCHED, 11 * SHARE)
    assert engine.states[YES].asks == ((50 * CENT, 9 * SHARE),)


async def test_fak_takes_what_there_is_and_never_rests(autojump_clock: object) -> None:
    venue = quiet_venue()
    engine = empty_book(venue).engine
    account = venue.add_account()
    before = venue.books()
    killed = account.place(venue.tokens[YES], SELL, 45 * CENT, 5 * SHARE, OrderType.FAK)
    assert (killed.status, killed.size_matched) == (OrderStatus.CANCELED, 0)
    assert venue.books() == before
    engine.place(YES, BUY, 45 * CENT, 5 * SHARE, NOW_MS)
    partly = account.place(venue.tokens[YES], SELL, 45 * CENT, 8 * SHARE, OrderType.FAK)
    assert (partly.status, partly.size_matched) == (OrderStatus.CANCELED, 5 * SHARE)
    assert (engine.states[YES].bids, engine.states[YES].asks) == ((), ())
    engine.place(YES, BUY, 45 * CENT, 9 * SHARE, NOW_MS)
    filled = account.place(venue.tokens[YES], SELL, 45 * CENT, 8 * SHARE, OrderType.FAK)
    assert (filled.status, filled.size_matched) == (OrderStatus.MATCHED, 8 * SHARE)
    assert account.open_orders == []


async def test_gtd_is_cancelled_at_its_expiration_and_not_before(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    venue = quiet_venue()
    nursery.start_soon(venue.run)
    account = venue.add_account()
    expiration_s = NOW_MS // 1000 + 60
    seconds = expiration_s - NOW_MS / 1000
    expires, cancelled = (
        account.place(
            venue.tokens[0], BUY, CENT, 5 * SHARE, OrderType.GTD, expiration_s=expiration_s
        )
        for _ in range(2)
    )
    account.cancel(cancelled.id)
    await trio.sleep(seconds - 0.01)
    assert expires.is_open
    await trio.sleep(0.02)
    assert expires.status is OrderStatus.CANCELED
    assert_sound(venue)


# Settlement


async def test_a_trade_is_matched_at_once_then_mined_then_confirmed(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    venue = quiet_venue()
    nursery.start_soon(venue.run)
    account = venue.add_account(settlement=Settlement((2, 2), (3, 3)))
    take(venue, account)
    trade = the_trade(account)
    for seconds, status in ((0, "MATCHED"), (1.9, "MATCHED"), (0.2, "MINED"), (2.8, "MINED")):
        await trio.sleep(seconds)
        assert trade.status.value == status
    await trio.sleep(0.2)
    assert trade.statuses == [TradeStatus.MATCHED, TradeStatus.MINED, TradeStatus.CONFIRMED]


async def test_a_failed_trade_is_given_back_but_its_order_stays_matched(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    venue = quiet_venue()
    nursery.start_soon(venue.run)
    account = venue.add_account()
    order = take(venue, account, settles="failed_late")
    assert account.positions == {order.token: order.size}
    await trio.sleep(SECONDS_TO_SETTLE)
    assert [status.value for status in the_trade(account).statuses] == [
        "MATCHED",
        "MINED",
        "RETRYING",
        "FAILED",
    ]
    assert account.positions == {}
    assert (order.status, order.size_matched) == (OrderStatus.MATCHED, order.size)


async def test_the_takers_wish_goes_before_the_makers_and_both_before_chance(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    venue = quiet_venue()
    nursery.start_soon(venue.run)
    empty_book(venue)
    anna, bela = (venue.add_account(settlement=Settlement(failed_chance=1)) for _ in range(2))
    for taker_settles in (Outcome.RETRIED, None):
        anna.place(venue.tokens[0], SELL, 40 * CENT, 5 * SHARE, settles=Outcome.CONFIRMED)
        bela.place(venue.tokens[0], BUY, 40 * CENT, 5 * SHARE, settles=taker_settles)
    await trio.sleep(SECONDS_TO_SETTLE)
    first, second = anna.trades.values()
    assert TradeStatus.RETRYING in first.statuses
    assert first.status is second.status is TradeStatus.CONFIRMED
    assert TradeStatus.RETRYING not in second.statuses


async def test_a_pause_stops_the_engine_and_settles_what_is_under_way(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    venue = quiet_venue()
    nursery.start_soon(venue.run)
    account = venue.add_account()
    take(venue, account)
    venue.pause()
    await trio.sleep(SECONDS_TO_SETTLE)
    assert the_trade(account).status is TradeStatus.CONFIRMED


def take(venue: Venue, account: VenueAccount, settles: str | None = None, index: int = 0) -> Any:
    """Buy what a stranger sells."""
    engine = empty_book(venue, index).engine
    engine.place(YES, SELL, 40 * CENT, 5 * SHARE, NOW_MS)
    token = venue.markets[index].tokens[YES]
    return account.place(token, BUY, 40 * CENT, 5 * SHARE, settles=settles)


# Among the flow


async def test_the_flow_meets_the_orders_of_accounts_and_never_cancels_them(
    autojump_clock: object,
) -> None:
    venue = quiet_venue(markets=2)
    patient, busy = venue.add_account(), venue.add_account()
    far = [patient.place(token, BUY, CENT, 5 * SHARE) for token in venue.tokens]
    for number in range(60):
        for token in venue.tokens:
            state = venue.book_state(token)
            assert state is not None
            price = state.best_bid // state.tick_size * state.tick_size
            if state.tick_size <= price <= PRICE_ONE - state.tick_size:
                busy.place(token, BUY, price, 20 * SHARE)
        venue.step(20)
        assert_sound(venue)
        if number % 2:
            busy.cancel_all()
    matched = [order for order in busy.orders.values() if order.size_matched]
    assert len(matched) > 20
    assert {trade.sides(busy.api_key)[0] for trade in busy.trades.values()} >= {"MAKER"}
    assert max(len(trade.parts(busy.api_key)) for trade in busy.trades.values()) > 1
    assert all(order.status is not OrderStatus.CANCELED for order in far)


async def test_the_same_calls_give_the_same_books_orders_and_trades(
    autojump_clock: object,
) -> None:
    def story() -> tuple[object, object]:
        venue = quiet_venue(markets=2)
        account = venue.add_account()
        for number in range(40):
            token = venue.tokens[number % 4]
            account.place(token, (BUY, SELL)[number % 3 == 0], 30 * CENT, (5 + number) * SHARE)
            venue.step(10)
            if number % 7 == 6:
                account.cancel_all()
        return venue.books(), account.oracle()

    first = story()
    assert first == story()


async def test_an_account_that_does_nothing_changes_nothing(autojump_clock: object) -> None:
    venue, alone = quiet_venue(markets=2), quiet_venue(markets=2)
    venue.add_account()
    said = [[event.text for event in v.step(300)] for v in (venue, alone)]
    assert said[0] == said[1]


async def test_what_rests_in_a_market_that_closes_is_cancelled(autojump_clock: object) -> None:
    venue = quiet_venue(markets=2)
    account = venue.add_account()
    closed, open_one = (account.place(venue.tokens[i], BUY, CENT, 5 * SHARE) for i in (1, 2))
    venue.resolve_market(venue.markets[0].condition_id, YES)
    assert closed.status is OrderStatus.CANCELED
    assert open_one.is_open
    with pytest.raises(ValueError, match="no open market"):
        account.place(closed.token, BUY, CENT, 5 * SHARE)
    assert account.cancel_all() == [open_one.id]


async def test_the_oracle_has_all_orders_trades_and_positions(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    venue = quiet_venue()
    nursery.start_soon(venue.run)
    account = venue.add_account(settlement=Settlement(has_prefix=True))
    order = take(venue, account)
    cancelled = account.place(venue.tokens[0], BUY, CENT, 5 * SHARE)
    account.cancel(cancelled.id)
    await trio.sleep(SECONDS_TO_SETTLE)
    oracle: Any = account.oracle()
    assert [(row["id"], row["status"]) for row in oracle["orders"]] == [
        (order.id, "MATCHED"),
        (cancelled.id, "CANCELED"),
    ]
    assert [row["statuses"] for row in oracle["trades"]] == [["MATCHED", "MINED", "CONFIRMED"]]
    assert oracle["positions"] == {order.token: "5"}
    assert account.lists().orders == [], "REST lists what is open"
    assert [row["status"] for row in account.lists().trades] == ["TRADE_STATUS_CONFIRMED"]
