"""The user channel's actors against a server that does what a script says, on virtual time."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import trio
import trio.testing
from tests.actors.running import Play, Run, crash_once
from tests.actors.scripted_server import YES, Act, Visit, hang_up, say_nothing
from tests.actors.user_server import (
    ADDRESS,
    API_KEY,
    CREDENTIALS,
    LIVE,
    LOST,
    M1,
    M2,
    M3,
    PASSPHRASE,
    REFUSED,
    SECRET,
    STALE,
    SYNCING,
    Lists,
    auth_frame,
    follow,
    order,
    page,
    path_of,
    talk,
    trade,
    until_state,
    user_visits,
)

from polyactors.account.account import Account
from polyactors.account.signing import l2_headers
from polyactors.book.trust import TrustState
from polyactors.errors import AccountNotLive, UsageError
from polyactors.events import (
    AccountStateChanged,
    ActorRestarted,
    Event,
    FeedDown,
    FeedUp,
    OrderChanged,
    PositionChanged,
    TradeChanged,
)
from polyactors.opening import open_service
from polyactors.protocol.user_codec import UserCodec
from polyactors.user.checks import check_markets
from polyactors.user.line import UserLine
from polyactors.user.state import AccountReason
from polyactors.websocket import WebSocket

PARSE_FAILURE = AccountReason.PARSE_FAILURE
RESTARTED = AccountReason.ACTOR_RESTARTED
CHANGED = AccountReason.MARKETS_CHANGED
HOUR = 3600.0


def kinds(events: list[Event]) -> list[str]:
    return [event.type for event in events if not isinstance(event, ActorRestarted)]


def control_frames(visit: Visit) -> list[dict[str, Any]]:
    """The frames that the client sent behind the first one."""
    return visit.frames[1:]


def subscribe(*markets: str) -> dict[str, Any]:
    return {"operation": "subscribe", "markets": list(markets)}


def unsubscribe(*markets: str) -> dict[str, Any]:
    return {"operation": "unsubscribe", "markets": list(markets)}


def reject(status: int) -> Act:
    """Refuse the upgrade."""

    async def act(visit: Visit) -> None:
        await visit.read_request()
        await visit.request.reject(status)
        await trio.sleep(1.0)

    return act


# Subscriptions


async def test_the_first_frame_holds_the_credentials_and_no_markets(
    play: Play, autojump_clock: object
) -> None:
    async with follow(play, talk(), lists=Lists()) as run:
        await until_state(run, LIVE)
        await trio.sleep(30.0)
    (visit,) = user_visits(run)
    assert visit.path == "/ws/user"
    assert visit.frames == [auth_frame()]
    assert visit.texts.count("PING") == 3


async def test_markets_stand_in_frames_of_limited_length(
    play: Play, autojump_clock: object
) -> None:
    async with follow(
        play, talk(), lists=Lists(), markets=[M1, M2, M1, M3], ids_per_frame=2
    ) as run:
        await until_state(run, LIVE)
    assert user_visits(run)[0].frames == [auth_frame(M1, M2), subscribe(M3)]


async def test_a_subscription_is_sent_once_and_the_account_is_stale_until_it_is_read(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    lists.orders = [order("theirs", market=M2)]
    async with follow(play, talk(), lists=lists, markets=[M1]) as run:
        account = run.service.account
        await until_state(run, LIVE)
        assert account.read().orders == {}  # M2 is none of its markets
        lists.seconds = 1.0
        account.subscribe([M2, M1])
        account.subscribe([M2])
        with pytest.raises(AccountNotLive, match="SYNCING"):
            account.read()
        await until_state(run, LIVE, times=2)
        assert list(account.read().orders) == ["theirs"]
        assert account.markets == (M1, M2)
        account.subscribe([M1, M2])
        await trio.sleep(1.0)
        assert path_of(run) == [(LIVE, None), (STALE, CHANGED), (SYNCING, None), (LIVE, None)]
    assert control_frames(user_visits(run)[0]) == [subscribe(M2)]


async def test_what_is_unsubscribed_at_once_is_never_sent(
    play: Play, autojump_clock: object
) -> None:
    async with follow(play, talk(), lists=Lists(), markets=[M1]) as run:
        account = run.service.account
        await until_state(run, LIVE)
        account.subscribe([M2, M3])
        account.unsubscribe([M2])
        account.unsubscribe([M2])
        await trio.sleep(1.0)
    assert control_frames(user_visits(run)[0]) == [subscribe(M3)]


async def test_what_comes_is_subscribed_before_what_goes_is_given_up(
    play: Play, autojump_clock: object
) -> None:
    async with follow(play, talk(), lists=Lists(), markets=[M1]) as run:
        account = run.service.account
        await until_state(run, LIVE)
        account.subscribe([M2])
        account.unsubscribe([M1])
        await trio.sleep(1.0)
        account.unsubscribe([M1])
        account.subscribe([M1])
        await trio.sleep(1.0)
        assert account.markets == (M2, M1)
    assert control_frames(user_visits(run)[0]) == [
        subscribe(M2),
        unsubscribe(M1),
        subscribe(M1),
    ]


async def test_an_unsubscription_hurts_nothing_that_is_kept(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    lists.orders = [order("one"), order("other", market=M2)]
    async with follow(play, talk(), lists=lists, markets=[M1, M2]) as run:
        await until_state(run, LIVE)
        run.service.account.unsubscribe([M2])
        lists.orders = [order("one")]
        await trio.sleep(200.0)
        # It is not looked after any more, so nobody can say that it is gone.
        assert set(run.service.account.read().orders) == {"one", "other"}
        assert [one.id for one in run.service.account.read().open_orders] == ["one", "other"]
        assert path_of(run) == [(LIVE, None)]


async def test_the_last_market_cannot_be_unsubscribed(play: Play, autojump_clock: object) -> None:
    async with follow(play, talk(), lists=Lists(), markets=[M1, M2]) as run:
        account = run.service.account
        await until_state(run, LIVE)
        for gone in ([M1, M2], [M2, M1, M3]):
            with pytest.raises(UsageError, match="the last market cannot be unsubscribed"):
                account.unsubscribe(gone)
        account.unsubscribe([M3])
        await trio.sleep(1.0)
        assert account.markets == (M1, M2)
    assert control_frames(user_visits(run)[0]) == []


async def test_the_whole_account_has_no_markets_to_change(
    play: Play, autojump_clock: object
) -> None:
    async with follow(play, talk(), lists=Lists()) as run:
        await until_state(run, LIVE)
        run.service.account.subscribe([M1])
        run.service.account.unsubscribe([M1])
        await trio.sleep(1.0)
        assert run.service.account.markets == ()
        assert path_of(run) == [(LIVE, None)]
    assert control_frames(user_visits(run)[0]) == []


@pytest.mark.parametrize("wrong", [["0x12"], [M1[:-1]], [M1 + "0"], [7], [""], M1, [M1, M1 + " "]])
async def test_what_is_no_market_is_refused_and_changes_nothing(
    play: Play, autojump_clock: object, wrong: Any
) -> None:
    async with follow(play, talk(), lists=Lists(), markets=[M1, M2]) as run:
        await until_state(run, LIVE)
        for change in (run.service.account.subscribe, run.service.account.unsubscribe):
            with pytest.raises(UsageError):
                change(wrong)
        assert run.service.account.markets == (M1, M2)
        assert path_of(run) == [(LIVE, None)]


async def test_changes_while_disconnected_are_part_of_the_next_session(
    play: Play, autojump_clock: object
) -> None:
    async with follow(
        play, talk(seconds=10.0), reject(503), talk(), lists=Lists(), markets=[M1, M2]
    ) as run:
        account = run.service.account
        await until_state(run, STALE)
        account.subscribe([M3])
        account.unsubscribe([M1])
        await until_state(run, LIVE, times=2)
    assert user_visits(run)[-1].frames == [auth_frame(M2, M3)]
    assert path_of(run) == [(LIVE, None), *LOST]


class Throttled:
    """Lets the WebSocket's sends through when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = trio.Event()
        self.go = trio.Event()
        self.is_armed = False
        send = WebSocket.send

        async def throttled(websocket: WebSocket, text: str) -> None:
            await send(websocket, text)
            if self.is_armed:
                self.waiting.set()
                await self.go.wait()

        monkeypatch.setattr(WebSocket, "send", throttled)


async def test_changes_in_the_moment_of_a_reconnect_reach_the_server(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subscription is under way with the markets of before; there is no session yet."""
    throttled = Throttled(monkeypatch)
    async with follow(play, talk(seconds=10.0), talk(), lists=Lists(), markets=[M1, M2]) as run:
        account = run.service.account
        await until_state(run, STALE)
        throttled.is_armed = True
        await throttled.waiting.wait()
        account.subscribe([M3])
        account.unsubscribe([M1])
        throttled.is_armed = False
        throttled.go.set()
        await until_state(run, LIVE, times=2)
        await trio.sleep(1.0)
    visit = user_visits(run)[-1]
    assert visit.frames == [auth_frame(M1, M2), subscribe(M3), unsubscribe(M1)]


async def test_a_market_that_goes_while_the_lists_are_read_is_no_stall(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    async with follow(play, talk(), lists=lists, markets=[M1, M2], reconcile_seconds=10.0) as run:
        account = run.service.account
        await until_state(run, LIVE)
        lists.seconds = 1.0
        await trio.sleep(10.5)
        account.unsubscribe([M2])
        lists.orders = [order("late", market=M2)]
        await trio.sleep(10.0)
        assert run.downs == []


# States and their order


async def test_the_stream_of_an_ordinary_session(play: Play, autojump_clock: object) -> None:
    said = (order(), order(matched=4), trade())
    async with follow(play, talk(*said), lists=Lists()) as run:
        await until_state(run, LIVE)
        await run.until(lambda: run.of(PositionChanged))
        reading = run.service.account.read()
    assert kinds(run.events) == [
        "feed_up",
        "account_state",
        "order_changed",
        "order_changed",
        "trade_changed",
        "position_changed",
        "feed_down",
    ]
    orders = run.of(OrderChanged)
    assert [(e.previous, e.filled_size, e.reconciled) for e in orders] == [
        (None, Decimal(0), False),
        ("OPEN", Decimal(4), False),
    ]
    (changed,) = run.of(TradeChanged)
    assert (changed.previous, changed.trade.status, changed.reconciled) == (None, "MATCHED", False)
    (position,) = run.of(PositionChanged)
    assert (position.old, position.new, position.reconciled) == (Decimal(0), Decimal(4), False)
    assert reading.positions == {"11": Decimal(4)}
    assert [one.open_size for one in reading.open_orders] == [6]
    epochs = {getattr(e, "epoch", None) for e in run.events}
    assert epochs == set(run.epochs)


async def test_what_is_recovered_stands_before_live(play: Play, autojump_clock: object) -> None:
    lists = Lists()
    lists.orders = [order(matched=4)]
    lists.trades = [trade()]
    async with follow(play, talk(seconds=10.0), talk(), lists=lists) as run:
        await until_state(run, STALE)
        lists.orders = [order("order-2")]  # the first one was cancelled meanwhile
        lists.trades = [trade(), trade("trade-2", 1)]
        await until_state(run, LIVE, times=2)
        reading = run.service.account.read()
    assert kinds(run.events) == [
        *("feed_up", "order_changed", "trade_changed", "position_changed", "account_state"),
        *("feed_down", "account_state", "feed_up", "account_state"),
        *("order_changed", "trade_changed", "position_changed", "order_changed"),
        *("order_changed", "account_state", "feed_down"),
    ]
    assert path_of(run) == [(LIVE, None), *LOST]
    recovered = (OrderChanged, TradeChanged, PositionChanged)
    assert all(event.reconciled for event in run.events if isinstance(event, recovered))
    assert {key: one.state for key, one in reading.orders.items()} == {
        "order-1": "CANCELLED",
        "order-2": "OPEN",
    }
    assert reading.orders["order-1"].filled_size == 5
    assert reading.positions == {"11": Decimal(5)}


async def test_an_event_that_comes_while_the_lists_are_read_is_told_once(
    play: Play, autojump_clock: object
) -> None:
    """The channel tells it live before the account is LIVE; the lists have it as well."""
    lists = Lists()
    lists.seconds = 2.0
    lists.orders, lists.trades = [order(matched=4)], [trade()]
    said = (order(), order(matched=4), trade(), trade())
    async with follow(play, talk(*said, at_seconds=1.0), lists=lists) as run:
        await until_state(run, LIVE)
        await trio.sleep(100.0)
    assert [e.reconciled for e in run.of(OrderChanged)] == [False, False]
    assert [e.reconciled for e in run.of(TradeChanged)] == [False]
    assert [e.new for e in run.of(PositionChanged)] == [4]
    assert path_of(run) == [(LIVE, None)]


async def test_the_account_is_stale_in_the_moment_in_which_the_session_ends(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    session_down = UserLine.session_down

    def watched(line: UserLine, *args: Any) -> None:
        seen.append(line.believed().state.value)
        session_down(line, *args)
        seen.append(line.believed().state.value)

    monkeypatch.setattr(UserLine, "session_down", watched)
    async with follow(play, talk(seconds=10.0), talk(), lists=Lists()) as run:
        await until_state(run, STALE)
        down = kinds(run.events).index("feed_down")
        state = run.events[down + 1]
        assert isinstance(state, AccountStateChanged)
        assert (state.state, state.previous) == (STALE, LIVE)
        assert state.reason is AccountReason.DISCONNECTED
        assert state.epoch == run.epochs[0]
        assert state.time_ns == run.events[down].time_ns
        assert seen == ["LIVE", "STALE"]
        with pytest.raises(AccountNotLive, match=r"STALE \(disconnected\)"):
            run.service.account.read()
        await until_state(run, LIVE, times=2)


@pytest.mark.parametrize(
    "garbage",
    ["no json", "{", "[[1]]", '{"event_type": "order"}', "7", '{"a":1,"a":2}', "null", b"\xff\xfe"],
    ids=repr,
)
async def test_an_unreadable_frame_is_doubted_at_once_and_live_only_after_the_lists(
    play: Play, autojump_clock: object, garbage: str | bytes
) -> None:
    lists = Lists()

    async def speak(visit: Visit) -> None:
        await visit.upgrade()
        await visit.receive()
        await trio.sleep(20.0)
        await visit.websocket.send_message(garbage)
        await trio.sleep_forever()

    async with follow(play, speak, lists=lists) as run:
        await until_state(run, LIVE)
        await trio.sleep(15.0)
        lists.orders, lists.seconds = [order()], 1.5
        began = trio.current_time()
        await until_state(run, STALE)
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.1)
        assert path_of(run)[1:] == [(STALE, PARSE_FAILURE), (SYNCING, None)]
        await until_state(run, LIVE, times=2)
        assert trio.current_time() - began == pytest.approx(8.0, abs=0.1)
        assert kinds(run.events)[-2:] == ["order_changed", "account_state"]
        assert run.of(OrderChanged)[0].reconciled
        assert run.downs == []
        assert run.service.statistics.unreadable_frames == 1


async def test_a_second_doubt_while_the_lists_are_read_has_them_read_again(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    async with follow(play, talk("x", "y", at_seconds=5.0, every_seconds=1.5), lists=lists) as run:
        await until_state(run, LIVE)
        lists.seconds = 1.0
        before = len(lists.requests)
        await until_state(run, LIVE, times=2)
        assert path_of(run) == [
            (LIVE, None),
            (STALE, PARSE_FAILURE),
            (SYNCING, None),
            (STALE, PARSE_FAILURE),
            (SYNCING, None),
            (LIVE, None),
        ]
        assert len(lists.requests) - before == 4


async def test_a_doubt_waits_for_no_grace_of_a_reading_that_is_under_way(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    async with follow(play, talk("x", at_seconds=6.0), lists=lists) as run:
        await until_state(run, LIVE)
        await until_state(run, LIVE, times=2)  # the lists were read from 5 s on
        assert trio.current_time() == pytest.approx(6.0, abs=0.01)


async def test_too_many_unreadable_frames_end_the_session(
    play: Play, autojump_clock: object
) -> None:
    async with follow(play, talk(*["x"] * 101), talk(), lists=Lists()) as run:
        await until_state(run, LIVE)
        await run.until(lambda: run.downs)
        assert run.downs == ["unreadable"]
        await trio.sleep(5.0)
        assert path_of(run)[-1] == (LIVE, None)


@pytest.mark.parametrize("markets", [[], [M1]], ids=["all", "some"])
async def test_what_happens_before_a_subscription_takes_effect_is_recovered_soon(
    play: Play, autojump_clock: object, markets: list[str]
) -> None:
    """Nothing acknowledges it: the lists may have been read before the channel began to tell."""
    lists = Lists()
    async with follow(play, talk(), lists=lists, markets=markets) as run:
        await until_state(run, LIVE)
        await trio.sleep(0.3)
        lists.orders = [order()]
        await trio.sleep(10.0)
        assert [event.reconciled for event in run.of(OrderChanged)] == [True]
        if markets:
            run.service.account.subscribe([M2])
            await until_state(run, LIVE, times=2)
            await trio.sleep(0.3)
            lists.orders = [order(), order("order-2", market=M2)]
            await trio.sleep(10.0)
            assert [event.reconciled for event in run.of(OrderChanged)] == [True, True]
        await trio.sleep(200.0)
        assert run.downs == []


async def test_what_a_live_session_kept_back_ends_it(play: Play, autojump_clock: object) -> None:
    lists = Lists()
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        await trio.sleep(10.0)
        lists.orders = [order()]
        await until_state(run, STALE)
        assert path_of(run)[1] == (STALE, AccountReason.FEED_STALLED)
        down = run.of(FeedDown)[0]
        assert (down.feed, down.reason) == ("user", "feed_stalled")
        assert down.detail == "the channel kept back 1 changes that REST lists"
        await until_state(run, LIVE, times=2)
    assert len(user_visits(run)) == 2


async def test_what_the_channel_tells_a_moment_later_than_rest_is_no_stall(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    async with follow(
        play, talk(order(), at_seconds=61.0), lists=lists, reconcile_seconds=60.0
    ) as run:
        await until_state(run, LIVE)
        await trio.sleep(50.0)
        lists.orders = [order()]
        await trio.sleep(100.0)
        assert [event.reconciled for event in run.of(OrderChanged)] == [False]
        assert run.downs == []


async def test_an_account_that_nothing_happens_to_stays_live(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        await trio.sleep(HOUR)
        assert path_of(run) == [(LIVE, None)]
        assert run.downs == []
        assert 2 * 55 <= len(lists.requests) <= 2 * 62
        assert len(user_visits(run)) == 1


async def test_a_channel_without_pong_is_given_up(play: Play, autojump_clock: object) -> None:
    async def mute(visit: Visit) -> None:
        await visit.upgrade()
        while True:
            await visit.receive()

    async with follow(play, mute, talk(), lists=Lists()) as run:
        await until_state(run, STALE)
        assert run.downs == ["pong_timeout"]
        assert path_of(run)[1] == (STALE, AccountReason.DISCONNECTED)
        await until_state(run, LIVE, times=2)


async def test_the_account_is_read_only_while_it_is_live(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    lists.seconds = 1.0
    async with follow(play, talk(order(), seconds=20.0), say_nothing, lists=lists) as run:
        account = run.service.account
        with pytest.raises(AccountNotLive, match="SYNCING") as syncing:
            account.read()
        assert (syncing.value.state, syncing.value.reason) == (SYNCING, None)
        assert account.read(allow_stale=True).state is SYNCING
        await until_state(run, LIVE)
        await trio.sleep(10.0)
        reading = account.read()
        assert (reading.state, reading.reason) == (LIVE, None)
        assert list(reading.orders) == ["order-1"]
        await until_state(run, STALE)
        await trio.sleep(3.0)
        with pytest.raises(AccountNotLive) as stale:
            account.read()
        assert (stale.value.state, stale.value.reason) == (STALE, AccountReason.DISCONNECTED)
        assert stale.value.age_seconds == pytest.approx(3.0)
        old = account.read(allow_stale=True)
        assert (old.state, list(old.orders)) == (STALE, ["order-1"])
        assert reading.state is LIVE  # what was read does not change
    with pytest.raises(AccountNotLive):
        account.read()


async def test_after_a_stop_nothing_is_live(play: Play, autojump_clock: object) -> None:
    async with follow(play, talk(order()), lists=Lists()) as run:
        await until_state(run, LIVE)
        await trio.sleep(10.0)
    with pytest.raises(AccountNotLive, match=r"STALE \(disconnected\)"):
        run.service.account.read()
    assert list(run.service.account.read(allow_stale=True).orders) == ["order-1"]
    assert run.service.account.summary()["state"] == "LIVE", "as it was left"


# REST


async def test_requests_are_signed_for_the_path_without_its_query(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    async with follow(play, talk(), lists=lists, markets=[M1]) as run:
        await until_state(run, LIVE)
    assert lists.paths == ["/data/orders", "/data/trades"]
    for _, request in lists.requests:
        stamp = int(request.headers["poly_timestamp"])
        expected = l2_headers(CREDENTIALS, "GET", request.url.path, stamp)
        assert {name: request.headers[name] for name in expected} == expected
        assert expected["POLY_ADDRESS"] == ADDRESS
        assert request.url.host == "clob.test"
        assert not any(value in str(request.url) for value in (API_KEY, SECRET, PASSPHRASE))


async def test_all_pages_of_both_lists_are_read(play: Play, autojump_clock: object) -> None:
    lists = Lists()
    pages = {
        "/data/orders": {"MA==": page(order("a"), cursor="Mg=="), "Mg==": page(order("b"))},
        "/data/trades": {
            "MA==": page(trade("t1", order_id="x"), cursor="1"),
            "1": page(cursor="2"),  # an empty page is not the last one
            "2": page(trade("t2", order_id="y"), cursor=""),
        },
    }
    lists.instead = lambda request: pages[request.url.path][request.url.params["next_cursor"]]
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        reading = run.service.account.read()
    assert set(reading.orders) == {"a", "b"}
    assert set(reading.trades) == {"t1", "t2"}
    assert len(lists.requests) == 2 + 2 + 3  # of orders twice, since there were several pages


async def test_an_order_that_slips_through_the_pages_is_asked_for(
    play: Play, autojump_clock: object
) -> None:
    """Between two pages an order closes, so the first of the second page moves to the first."""
    lists = Lists()
    async with follow(play, talk(order("a"), order("slipped"), order("gone")), lists=lists) as run:
        await until_state(run, LIVE)

        def answer(request: httpx2.Request) -> httpx2.Response:
            asked = request.url.params.get("id")
            if request.url.path == "/data/trades":
                return page()
            if asked is not None:
                return page(*[order(asked)] if asked == "slipped" else [])
            if request.url.params["next_cursor"] == "MA==":
                return page(order("a"), cursor="Mg==")
            return page()

        lists.instead = answer
        await trio.sleep(100.0)
        orders = run.service.account.read(allow_stale=True).orders
    assert {key: one.state for key, one in orders.items()} == {
        "a": "OPEN",
        "slipped": "OPEN",
        "gone": "CANCELLED",
    }


def status(code: int, **options: Any) -> Callable[[httpx2.Request], httpx2.Response]:
    return lambda _: httpx2.Response(code, **options)


async def silence(_: httpx2.Request) -> httpx2.Response:
    await trio.sleep_forever()
    raise AssertionError


def bad_page(**row: Any) -> Callable[[httpx2.Request], httpx2.Response]:
    return lambda _: page(order("good"), {**order("bad"), **row})


def elsewhere(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(302, headers={"location": "http://elsewhere.test/data/orders"})


def in_circles(request: httpx2.Request) -> httpx2.Response:
    cursor = request.url.params["next_cursor"]
    return page(cursor={"MA==": "b", "b": "c", "c": "b"}[cursor])


TROUBLE: dict[str, Callable[[httpx2.Request], Any]] = {
    "500": status(500),
    "429": status(429),
    "404": status(404),
    "silence": silence,
    "redirect": elsewhere,
    "circles": in_circles,
    "a row without a price": bad_page(price=None),
    "a row that is none": lambda _: httpx2.Response(200, json={"data": [7]}),
    "a row twice named": lambda _: httpx2.Response(200, content=b'[{"id":"a","id":"b"}]'),
    "no page": lambda _: httpx2.Response(200, json={"error": "not today"}),
    "no json": lambda _: httpx2.Response(200, content=b"<html>"),
    "empty": lambda _: httpx2.Response(200, content=b""),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
@pytest.mark.parametrize("path", ["/data/orders", "/data/trades"])
async def test_lists_in_trouble_are_read_again_and_nothing_is_concluded_from_them(
    play: Play,
    autojump_clock: object,
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[[httpx2.Request], Any],
    path: str,
) -> None:
    lists = Lists()
    lists.orders = [order()]
    async with follow(play, talk(seconds=20.0), talk(), lists=lists) as run:
        account = run.service.account
        await until_state(run, LIVE)

        def answer(request: httpx2.Request) -> Any:
            return trouble(request) if request.url.path == path else page(order())

        lists.instead = answer
        await until_state(run, STALE)
        before = len(lists.requests)
        await trio.sleep(300.0)
        assert path_of(run)[-1] == (SYNCING, None)
        known = account.read(allow_stale=True)
        assert [one.id for one in known.open_orders] == ["order-1"]
        assert account.summary()["reconciliations_failed"] != 0
        # 1, 2, 4 … 30 seconds between two readings, of which one is of few requests.
        assert len(lists.requests) - before <= 18 * 4
        assert {request.url.host for _, request in lists.requests} == {"clob.test"}
        assert len(user_visits(run)) == 2  # the channel is good: no reason to reconnect
        lists.instead = None
        await until_state(run, LIVE, times=2)
        await trio.sleep(120.0)
    said = [r.getMessage() for r in caplog.records if "lists of the account" in r.getMessage()]
    *troubles, end = said
    assert 1 <= len(troubles) <= 2  # said once, and again after five minutes
    assert all("cannot be read" in trouble for trouble in troubles)
    assert "readable again" in end


async def test_the_headers_go_to_no_other_host(play: Play, autojump_clock: object) -> None:
    lists = Lists()
    for code in (301, 302, 303, 307, 308):
        location = {"location": "https://elsewhere.test/data/orders"}
        lists.instead = status(code, headers=location)
        async with follow(play, talk(), lists=lists) as run:
            await trio.sleep(30.0)
            assert path_of(run) == []
    assert {request.url.host for _, request in lists.requests} == {"clob.test"}


async def test_trouble_with_the_lists_of_a_live_session_leaves_it_live(
    play: Play, autojump_clock: object
) -> None:
    """The channel tells everything; the lists only confirm it."""
    lists = Lists()
    async with follow(play, talk(order(), at_seconds=100.0), lists=lists) as run:
        await until_state(run, LIVE)
        lists.instead = status(500)
        await trio.sleep(200.0)
        assert path_of(run) == [(LIVE, None)]
        assert list(run.service.account.read().orders) == ["order-1"]


async def test_a_session_that_ends_while_the_lists_are_read_concludes_nothing(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    lists.seconds = 3.0
    async with follow(play, talk(seconds=4.0), talk(), lists=lists) as run:
        await until_state(run, STALE)
        assert path_of(run) == [(STALE, AccountReason.DISCONNECTED)]
        lists.orders = [order()]  # which the reading that is under way does not see any more
        await until_state(run, LIVE)
        assert list(run.service.account.read().orders) == ["order-1"]
        assert run.epochs == [e.epoch for e in run.of(FeedUp)]
        assert run.of(AccountStateChanged)[-1].epoch == run.epochs[-1]
        assert run.service.statistics.reconciliations == 1


# Refused


@pytest.mark.parametrize("code", [401])
async def test_refused_credentials_are_said_once_and_market_data_goes_on(
    play: Play, autojump_clock: object, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    lists = Lists()
    lists.instead = status(code, json={"error": "Unauthorized/Invalid api key"})
    async with follow(play, talk(), lists=lists, tokens=[YES]) as run:
        await until_state(run, REFUSED)
        await run.all_live()
        await trio.sleep(HOUR)
        assert path_of(run) == [(REFUSED, None)]
        assert len(user_visits(run)) == 1
        assert len(lists.requests) == 1
        assert run.state(YES) is TrustState.LIVE
        assert [down.reason for down in run.of(FeedDown)] == ["credentials_refused"]
        with pytest.raises(AccountNotLive, match="REFUSED"):
            run.service.account.read()
        run.service.account.subscribe([M1])
        await run.check_books()
    said = [r for r in caplog.records if "refuses the API credentials" in r.getMessage()]
    assert [record.levelname for record in said] == ["ERROR"]


async def test_credentials_that_are_refused_for_minutes_end_a_live_account(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        lists.instead = status(401)
        await run.until(lambda: path_of(run)[-1] == (STALE, AccountReason.CREDENTIALS_REFUSED))
        began, before = trio.current_time(), len(lists.requests)
        await run.until(lambda: REFUSED in [state for state, _ in path_of(run)], seconds=600.0)
        assert 180.0 <= trio.current_time() - began <= 240.0
        assert len(lists.requests) - before <= 7
        assert [state for state, _ in path_of(run)] == [LIVE, STALE, REFUSED]
        assert run.downs == []
        before = len(lists.requests)
        await trio.sleep(HOUR + 1.0)
        assert run.downs == ["credentials_refused"]
        assert len(user_visits(run)) == 1
        assert len(lists.requests) - before == 6  # whether they are taken again
        lists.instead = status(500)
        await trio.sleep(HOUR)
        assert path_of(run)[-1] == (REFUSED, None)
        lists.instead = None
        await run.until(lambda: path_of(run)[-1] == (LIVE, None), seconds=700.0)
        assert [state for state, _ in path_of(run)] == [LIVE, STALE, REFUSED, SYNCING, LIVE]
        assert len(user_visits(run)) == 2


async def test_refusals_of_seconds_leave_the_session_and_are_made_good(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    async with follow(play, talk(order(), at_seconds=63.0), lists=lists) as run:
        await until_state(run, LIVE)
        lists.instead = status(401)
        await until_state(run, STALE)
        with pytest.raises(AccountNotLive, match="credentials_refused"):
            run.service.account.read()
        await trio.sleep(3.0)
        lists.instead = None
        lists.orders = [order()]
        await until_state(run, LIVE, times=2)
        await trio.sleep(HOUR)
        refused = (STALE, AccountReason.CREDENTIALS_REFUSED)
        assert path_of(run) == [(LIVE, None), refused, (SYNCING, None), (LIVE, None)]
        assert run.downs == []


async def test_a_refusal_of_a_session_that_has_ended_holds_for_the_next_one(
    play: Play, autojump_clock: object
) -> None:
    """REST says 401 while the next session is being connected."""
    lists = Lists()
    lists.seconds = 3.0
    lists.instead = status(401)

    async def slow(visit: Visit) -> None:
        await trio.sleep(3.0)
        await talk()(visit)

    async with follow(play, talk(seconds=2.0), slow, lists=lists) as run:
        await until_state(run, REFUSED)
        await trio.sleep(HOUR)
        assert run.service.account.epoch is None
        assert len(run.visits) == 2
        assert len(lists.requests) == 1
        assert path_of(run)[-1] == (REFUSED, None)
        assert run.downs[-1] == "credentials_refused"


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["fast lists", "slow lists"])
async def test_a_channel_that_alone_refuses_is_tried_rarely_and_never_live_for_long(
    play: Play, autojump_clock: object, seconds: float
) -> None:
    lists = Lists()
    lists.seconds = seconds

    async def refusing(visit: Visit) -> None:
        await visit.upgrade()
        await visit.receive()  # and hang up, without a close frame

    async with follow(play, refusing, lists=lists, tokens=[YES]) as run:
        await run.all_live()
        await trio.sleep(HOUR)
        visits = user_visits(run)
        # 30 s at most between two connects, jittered from 0 on: about 15 s on average.
        assert 60 < len(visits) < 400
        assert set(run.downs) == {"reset"}
        assert REFUSED not in [state for state, _ in path_of(run)]
        if seconds:
            assert LIVE not in [state for state, _ in path_of(run)]
        with pytest.raises(AccountNotLive):
            run.service.account.read()
        assert run.state(YES) is TrustState.LIVE
        await run.check_books()


# Crashes


def restarted(run: Run) -> list[str]:
    return [event.path for event in run.of(ActorRestarted)]


async def test_the_account_actor_crashes_in_a_session(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = crash_once(monkeypatch, Account, "apply_all")
    lists = Lists()
    async with follow(play, talk(order(), trade()), lists=lists) as run:
        await until_state(run, LIVE)
        lists.orders, lists.trades = [order(matched=4)], [trade()]
        arm()
        await until_state(run, LIVE, times=2)
        await run.until(lambda: restarted(run))
        assert restarted(run) == ["root/user/account"]
        assert path_of(run) == [
            (LIVE, None),
            (STALE, RESTARTED),
            (SYNCING, None),
            (LIVE, None),
        ]
        assert run.service.account.read().positions == {"11": Decimal(4)}
        assert run.downs == []
    assert len(user_visits(run)) == 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Account, "apply_all"), (UserCodec, "receive_frame")],
    ids=["account", "parser"],
)
async def test_the_account_is_not_live_from_the_moment_of_a_crash_on(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch, kind: type, name: str
) -> None:
    """A restart that is not the first may wait for a moment, in which what comes is lost."""
    crashed = trio.Event()
    is_armed = False
    method = getattr(kind, name)

    def broken(self: object, *args: Any, **kwargs: Any) -> Any:
        nonlocal is_armed
        if is_armed:
            is_armed = False
            crashed.set()
            raise RuntimeError("injected")
        return method(self, *args, **kwargs)

    monkeypatch.setattr(kind, name, broken)
    said = [order(str(number)) for number in range(20)]
    lists = Lists()
    lists.orders, lists.seconds = said, 1.0
    async with follow(play, talk(*said, every_seconds=1.0), lists=lists) as run:
        for times in range(1, 4):
            await until_state(run, LIVE, times=times)
            crashed, is_armed = trio.Event(), True
            await crashed.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert run.service.account.believed().state is not LIVE
        await trio.sleep(30.0)
        assert len(run.service.account.read().orders) == 20
        assert len(run.of(OrderChanged)) == 20
        assert set(path_of(run)[1:]) == {(STALE, RESTARTED), (SYNCING, None), (LIVE, None)}


async def test_a_crash_of_the_parser_in_a_session_loses_nothing(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = crash_once(monkeypatch, UserCodec, "receive_frame")
    lists = Lists()
    async with follow(play, talk(order(), trade()), lists=lists) as run:
        await until_state(run, LIVE)
        lists.orders, lists.trades = [order(matched=4)], [trade()]
        arm()
        await until_state(run, LIVE, times=2)
        await run.until(lambda: restarted(run))
        assert restarted(run) == ["root/user/user-feed/parser"]
        assert path_of(run)[1:] == [(STALE, RESTARTED), (SYNCING, None), (LIVE, None)]
        assert run.service.account.read().positions == {"11": Decimal(4)}
        assert run.downs == []
    assert len(user_visits(run)) == 1


@pytest.mark.parametrize("actor", ["account", "parser"])
async def test_an_actor_that_crashes_between_sessions_hurts_nothing(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch, actor: str
) -> None:
    """What it takes from its mailbox is of the session before."""
    lists = Lists()
    async with follow(play, talk(order(), seconds=10.0), talk(), lists=lists) as run:
        await until_state(run, STALE)
        supervisor = run.service.root
        assert run.service.account.epoch is None
        owner, name = (UserCodec, "receive_frame") if actor == "parser" else (Account, "apply_all")
        crash_once(monkeypatch, owner, name)()
        lists.orders = [order()]
        await until_state(run, LIVE, times=2)
        assert supervisor is run.service.root
        assert list(run.service.account.read().orders) == ["order-1"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(UserLine, "frames_for"), (UserLine, "subscription"), (UserLine, "session_up")],
)
async def test_a_crash_of_the_connection_is_a_reconnect(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch, kind: type, name: str
) -> None:
    method = getattr(kind, name)
    crashes = 0

    def broken(self: object, *args: Any) -> Any:
        nonlocal crashes
        crashes += 1
        if crashes == 2:
            raise RuntimeError("injected")
        return method(self, *args)

    monkeypatch.setattr(kind, name, broken)
    async with follow(play, talk(seconds=30.0), talk(), lists=Lists()) as run:
        await until_state(run, LIVE)
        await trio.sleep(120.0)
        assert crashes >= 2
        assert "crashed" in run.downs
        assert path_of(run)[-1] == (LIVE, None)
        assert "root/user/user-feed/connection" in restarted(run)


async def test_a_user_channel_that_crashes_for_ever_gives_up_for_a_while_and_hurts_no_book(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_broken = True
    apply_all = Account.apply_all

    def broken(self: Account, *args: Any, **kwargs: Any) -> Any:
        if is_broken:
            raise RuntimeError("injected")
        return apply_all(self, *args, **kwargs)

    monkeypatch.setattr(Account, "apply_all", broken)
    lists = Lists()
    lists.orders = [order()]
    async with follow(play, talk(), lists=lists, tokens=[YES]) as run:
        await run.until(lambda: (STALE, AccountReason.FEED_GAVE_UP) in path_of(run))
        await run.all_live()
        await trio.sleep(30.0)
        assert run.service.account.epoch is None
        with pytest.raises(AccountNotLive, match="feed_gave_up"):
            run.service.account.read()
        is_broken = False
        await until_state(run, LIVE)
        assert run.state(YES) is TrustState.LIVE
        assert not any(path.startswith("root/core") for path in restarted(run))


# Stops


async def in_the_backoff(run: Run) -> None:
    await run.until(lambda: len(run.downs) >= 3)
    await trio.sleep(0.01)


async def while_the_lists_are_read(run: Run) -> None:
    await run.until(lambda: run.of(FeedUp))
    await trio.sleep(0.5)


async def while_the_channel_may_still_tell(run: Run) -> None:
    await until_state(run, LIVE)
    await trio.sleep(63.0)


async def at_once(run: Run) -> None:
    pass


async def while_live(run: Run) -> None:
    await until_state(run, LIVE)


async def when_refused(run: Run) -> None:
    await until_state(run, REFUSED)
    await trio.sleep(1.0)


async def when_doubted(run: Run) -> None:
    await until_state(run, STALE)


MOMENTS: list[tuple[Callable[[Run], Awaitable[None]], Act, Any]] = [
    (at_once, talk(), None),
    (at_once, say_nothing, None),
    (in_the_backoff, hang_up, None),
    (while_the_lists_are_read, talk(), silence),
    (while_the_lists_are_read, talk(), status(500)),
    (while_the_channel_may_still_tell, talk(), None),
    (while_live, talk(), None),
    (when_refused, talk(), status(401)),
    (when_doubted, talk("x"), None),
    (when_doubted, talk(seconds=3.0), None),
]


@pytest.mark.parametrize("cancelled", [False, True], ids=["stopped", "cancelled"])
@pytest.mark.parametrize(
    ("moment", "act", "answer"), MOMENTS, ids=lambda one: getattr(one, "__name__", "")
)
async def test_a_stop_is_clean_at_any_moment(
    play: Play,
    autojump_clock: object,
    moment: Callable[[Run], Awaitable[None]],
    act: Act,
    answer: Any,
    cancelled: bool,
) -> None:
    lists = Lists()
    lists.instead = answer
    lists.seconds = 1.0
    async with follow(play, act, lists=lists) as run:
        await moment(run)
        before = trio.current_time()
        await run.stop(cancelled=cancelled)
        assert trio.current_time() - before <= 2.0
        requests, visits = len(lists.requests), len(run.visits)
        await trio.sleep(100.0)
        assert (len(lists.requests), len(run.visits)) == (requests, visits)
        assert not any("root/user" in task.name for task in tasks())


def tasks() -> list[trio.lowlevel.Task]:
    """Every task that there is."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found: list[trio.lowlevel.Task] = []
    waiting = [root]
    while waiting:
        task = waiting.pop()
        found.append(task)
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


async def test_the_tasks_of_a_running_service_have_its_names(
    play: Play, autojump_clock: object
) -> None:
    """So that the test above can fail."""
    async with follow(play, talk(), lists=Lists()) as run:
        await until_state(run, LIVE)
        names = [task.name for task in tasks()]
    assert any("root/user/account" in name for name in names)


# Who has an account


async def test_a_service_without_credentials_has_no_account(
    play: Play, autojump_clock: object
) -> None:
    async with play(talk()) as run:
        with pytest.raises(UsageError, match="open it with credentials"):
            _ = run.service.account
        assert "account" not in run.service.summary()


async def test_credentials_alone_need_no_tokens(play: Play, autojump_clock: object) -> None:
    async with follow(play, talk(), lists=Lists()) as run:
        await until_state(run, LIVE)
        assert run.service.tokens == ()
        assert {visit.path for visit in run.visits} == {"/ws/user"}
        assert run.service.summary()["account"] == run.service.account.summary()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"user_markets": [M1]}, "credentials are missing"),
        ({"credentials": "key"}, "credentials must be"),
        ({"credentials": CREDENTIALS, "user_markets": ["0x1"]}, "no market of an account"),
        ({"credentials": CREDENTIALS, "user_markets": M1}, "markets"),
        ({}, "nothing"),
    ],
)
async def test_what_cannot_be_opened_is_said_at_once(
    autojump_clock: object, arguments: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        async with open_service(**arguments):
            pass


def test_a_line_can_be_made_before_trio_runs() -> None:
    assert check_markets([M1, M1, M2]) == (M1, M2)
