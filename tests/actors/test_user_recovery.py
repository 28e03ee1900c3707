"""What the lists of REST are good for when they lag, fail, change while they are read, or are long;
on virtual time."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import httpx2
import pytest
import trio
from tests.actors.running import Play
from tests.actors.scripted_server import Visit
from tests.actors.user_server import (
    LIVE,
    NOW_S,
    STALE,
    Lists,
    follow,
    order,
    page,
    path_of,
    talk,
    trade,
    until_state,
)

from polyactors.account.account import Account
from polyactors.account.reconcile import OVERLAP_SECONDS, PIECE_ROWS
from polyactors.events import Event, OrderChanged, PositionChanged, TradeChanged
from polyactors.user.lists import ORDERS_READINGS_MAX, PAGE_ATTEMPTS_MAX
from polyactors.user.recovery import GRACE_SECONDS, MISSING_BY_ID_MAX

DAY_S = 86_400
HOUR = 3600.0


def exchange(
    orders: Callable[[], Sequence[dict[str, Any]]],
    trades: Callable[[], Sequence[dict[str, Any]]],
    rows_per_page: int = 1000,
) -> Callable[[httpx2.Request], httpx2.Response]:
    """Both lists as the exchange cuts them, newest trades first."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked = request.url.params
        if request.url.path == "/data/orders":
            rows = list(orders())
        else:
            after_s = int(asked.get("after", 0))
            rows = [row for row in reversed(trades()) if int(row["match_time"]) > after_s]
        rows = [row for row in rows if asked.get("id", row["id"]) == row["id"]]
        start = 0 if asked["next_cursor"] == "MA==" else int(asked["next_cursor"])
        end = start + rows_per_page
        return page(*rows[start:end], cursor=str(end) if end < len(rows) else "LTE=")

    return answer


def settled(id: str, at_s: int, **others: Any) -> dict[str, Any]:  # noqa: A002
    """A trade that nothing can follow."""
    when = {"match_time": str(at_s), "last_update": str(at_s)}
    return trade(id, 1, f"of {id}", status="CONFIRMED", **when, **others)


# Long histories


class RowsPerStep(trio.abc.Instrument):
    """How many rows were applied to an account in one step of a task, at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.max = 0
        self._now = 0
        apply_all = Account.apply_all

        def counted(account: Account, events: Any, **options: Any) -> Any:
            self._now += len(events)
            self.max = max(self.max, self._now)
            return apply_all(account, events, **options)

        monkeypatch.setattr(Account, "apply_all", counted)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._now = 0


async def test_a_long_history_holds_nobody_up_and_no_reader_loses_any_of_it(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists, rows = Lists(), [settled(f"t{at}", NOW_S - 10_000 + at) for at in range(5000)]
    lists.instead = exchange(list, lambda: rows)
    steps = RowsPerStep(monkeypatch)
    trio.lowlevel.add_instrument(steps)
    async with follow(play, talk(), lists=lists) as run:
        seen: list[Event] = []
        subscription = run.service.events(limit=2000)

        async def read() -> None:
            while True:
                seen.extend(await subscription.receive_batch())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await until_state(run, LIVE)
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        assert subscription.lost == 0
        told = [event.trade.id for event in seen if isinstance(event, TradeChanged)]
        assert told == [row["id"] for row in rows]  # in the order in which they were matched
        assert sum(isinstance(event, PositionChanged) for event in seen) == 5000
    trio.lowlevel.remove_instrument(steps)
    assert 1 <= steps.max <= PIECE_ROWS


async def test_a_reader_who_never_reads_is_not_waited_for(
    play: Play, autojump_clock: object
) -> None:
    lists, rows = Lists(), [settled(f"t{at}", NOW_S - 10_000 + at) for at in range(5000)]
    lists.instead = exchange(list, lambda: rows)
    async with follow(play, talk(), lists=lists) as run:
        with run.service.events(limit=100):
            began = trio.current_time()
            await until_state(run, LIVE)
            assert trio.current_time() - began < 1.5


# Lists that lag


async def test_a_list_of_a_moment_ago_cancels_no_order(play: Play, autojump_clock: object) -> None:
    """The order is told 0.1 s before the list is read, and listed 0.2 s later."""
    lists = Lists()
    lists.orders = [order("old")]

    async def speak(visit: Visit) -> None:
        await visit.upgrade()

        async def say() -> None:
            await trio.sleep_until(start + 66.9)  # read at 0, 5 and 67 s
            await visit.send(order("fresh"))
            await trio.sleep(0.3)
            lists.orders = [order("old"), order("fresh")]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            while True:
                if await visit.receive() == "PING":
                    await visit.send("PONG")

    start = trio.current_time()
    async with follow(play, speak, lists=lists) as run:
        await trio.sleep(300.0)
        fresh = [event.order.state for event in run.of(OrderChanged) if event.order.id == "fresh"]
        assert fresh == ["OPEN"]
        assert run.downs == []
        assert path_of(run) == [(LIVE, None)]


async def test_an_order_that_was_told_of_right_before_a_gap_is_looked_for_after_the_grace(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    late: list[dict[str, Any]] = []

    def listed() -> list[dict[str, Any]]:
        return late if trio.current_time() >= 11.0 else []

    lists.instead = exchange(listed, list)
    async with follow(
        play, talk(order(), at_seconds=9.9, seconds=10.0), talk(), lists=lists
    ) as run:
        late.append(order())
        await until_state(run, LIVE, times=2)
        assert trio.current_time() >= 9.9 + GRACE_SECONDS
        assert [one.id for one in run.service.account.read().open_orders] == ["order-1"]
        assert [event.order.state for event in run.of(OrderChanged)] == ["OPEN"]


async def test_an_order_whose_cancellation_was_kept_back_is_closed_and_nobody_is_accused(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    async with follow(play, talk(order()), lists=lists) as run:
        await trio.sleep(20.0)
        assert [one.state for one in run.service.account.read().orders.values()] == ["OPEN"]
        await trio.sleep(100.0)
        assert [one.state for one in run.service.account.read().orders.values()] == ["CANCELLED"]
        assert run.downs == []
        assert path_of(run) == [(LIVE, None)]


async def test_an_order_that_the_lists_had_lacked_for_long_is_open_when_the_channel_says_so(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    said = (order(), order(), order(timestamp=str(NOW_S * 1000 + 150_000)))
    async with follow(play, talk(*said, at_seconds=20.0, every_seconds=65.0), lists=lists) as run:
        await until_state(run, LIVE)
        await trio.sleep(100.0)  # 20 s, 85 s: the second is a repeat, and says nothing new
        assert [event.order.state for event in run.of(OrderChanged)] == ["OPEN", "CANCELLED"]
        await trio.sleep(52.0)
        assert [event.order.state for event in run.of(OrderChanged)][2:] == ["OPEN"]
        assert run.downs == []


async def test_an_order_that_a_list_had_lacked_wrongly_accuses_nobody(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    lists.orders = [order()]
    async with follow(play, talk(), lists=lists) as run:
        await trio.sleep(30.0)
        lists.orders = []
        await trio.sleep(60.0)
        lists.orders = [order()]
        await trio.sleep(120.0)
        states = [event.order.state for event in run.of(OrderChanged)]
        assert states == ["OPEN", "CANCELLED", "OPEN"]
        assert run.downs == []


async def test_many_orders_that_are_gone_are_asked_for_at_once(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    lists.orders = [order(f"o{at}") for at in range(MISSING_BY_ID_MAX + 5)]
    async with follow(play, talk(seconds=10.0), talk(), lists=lists) as run:
        await until_state(run, STALE)
        lists.orders, before = lists.orders[:1], len(lists.requests)
        await until_state(run, LIVE, times=2)
        assert [one.id for one in run.service.account.read().open_orders] == ["o0"]
        assert lists.paths[before:] == ["/data/orders"] * 2 + ["/data/trades"]


# Lists that change while they are read


async def test_an_order_that_slips_through_the_pages_is_known_before_live(
    play: Play, autojump_clock: object
) -> None:
    lists, opened = Lists(), ["a", "b", "new"]

    def listed() -> list[dict[str, Any]]:
        rows = [order(name) for name in opened]
        if len(lists.requests) == 1:
            opened.remove("a")  # behind the first page: "new" moves to it
        return rows

    lists.instead = exchange(listed, list, rows_per_page=2)
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        assert set(run.service.account.read().orders) == {"b", "new"}


async def test_a_list_that_never_comes_to_rest_is_not_waited_for(
    play: Play, autojump_clock: object
) -> None:
    lists, readings = Lists(), 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal readings
        if request.url.path == "/data/trades":
            return page()
        if "id" in request.url.params:
            return page(*[order("slips")] if request.url.params["id"] == "slips" else [])
        if request.url.params["next_cursor"] == "MA==":
            readings += 1
            return page(order(f"o{readings}"), cursor="1")
        return page(*[order("slips")] if readings == 1 else [])

    lists.instead = answer
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        assert readings == ORDERS_READINGS_MAX
        assert set(run.service.account.read().orders) == {f"o{readings}", "slips"}


# Lists that fail


async def test_a_page_that_fails_is_asked_for_again_and_the_list_goes_on(
    play: Play, autojump_clock: object
) -> None:
    lists, rng = Lists(), Random(1)
    rows = [settled(f"t{at}", NOW_S - 10_000 + at) for at in range(300)]
    good = exchange(list, lambda: rows, rows_per_page=1)
    lists.instead = lambda request: httpx2.Response(502) if rng.random() < 0.05 else good(request)
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        assert len(run.service.account.read().trades) == 300
        assert len(lists.requests) < 400
        assert run.service.statistics.reconciliations_failed == 0


async def test_what_was_read_of_a_list_that_fails_is_kept_and_the_account_not_live(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    rows = [settled(f"t{at}", NOW_S - 10 + at) for at in range(4)]
    good = exchange(lambda: [order()], lambda: rows, rows_per_page=2)

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(502) if request.url.params["next_cursor"] == "2" else good(request)

    lists.instead = answer
    async with follow(play, talk(), lists=lists) as run:
        await run.until(lambda: len(run.of(TradeChanged)) == 2)
        assert len(lists.requests) == 2 + PAGE_ATTEMPTS_MAX
        await trio.sleep(200.0)
        assert path_of(run) == []
        known = run.service.account.read(allow_stale=True)
        assert set(known.trades) == {"t2", "t3"}
        lists.instead = good
        await until_state(run, LIVE)
        assert set(run.service.account.read().trades) == {"t0", "t1", "t2", "t3"}
        assert [event.new for event in run.of(PositionChanged)] == [1, 2, 3, 4]


async def test_sessions_shorter_than_a_reading_do_not_keep_trades_unknown(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    lists.seconds = 8.0
    lists.trades = [settled("t", NOW_S)]
    async with follow(play, talk(seconds=12.0), lists=lists, reconnect_seconds_max=1.0) as run:
        await trio.sleep(60.0)
        assert LIVE not in [state for state, _ in path_of(run)]
        assert set(run.service.account.read(allow_stale=True).trades) == {"t"}
        lists.seconds = 1.0
        await until_state(run, LIVE)
        assert len(run.of(TradeChanged)) == 1


# Which trades are asked for


async def test_a_trade_of_the_future_hides_no_other(play: Play, autojump_clock: object) -> None:
    lists = Lists()
    rows = [settled("odd", NOW_S + 40 * DAY_S)]
    lists.instead = exchange(list, lambda: rows)
    async with follow(play, talk(seconds=20.0), talk(), lists=lists, history_days=30.0) as run:
        await until_state(run, LIVE)
        await until_state(run, STALE)
        rows.insert(0, settled("missed", NOW_S + 21))
        await until_state(run, LIVE, times=2)
        assert set(run.service.account.read().trades) == {"odd", "missed"}
        await trio.sleep(300.0)
        assert run.service.account.summary()["odd_trades"] == 1


async def test_one_trade_that_is_never_settled_has_no_history_read_again(
    play: Play, autojump_clock: object
) -> None:
    lists = Lists()
    rows = [
        trade("stuck", 1, match_time=str(NOW_S - 90 * DAY_S), status="MINED"),
        *(settled(f"t{at}", NOW_S - 80 * DAY_S + at * 1000) for at in range(500)),
    ]
    lists.instead = exchange(list, lambda: rows)
    async with follow(play, talk(), lists=lists) as run:
        await until_state(run, LIVE)
        await trio.sleep(100.0)
        before = len(lists.requests)
        await trio.sleep(400.0)
        asked = [dict(request.url.params) for _, request in lists.requests[before:]]
        assert {params.get("id") for params in asked} == {None, "stuck"}
        newest_s = NOW_S - 80 * DAY_S + 499_000
        after = {params["after"] for params in asked if "after" in params}
        assert after == {str(newest_s - OVERLAP_SECONDS - 1)}
        rows[0] |= {"status": "CONFIRMED", "last_update": str(NOW_S)}
        await run.until(lambda: run.of(TradeChanged)[-1].trade.id == "stuck")
        assert run.of(TradeChanged)[-1].trade.status == "CONFIRMED"
        assert run.service.account.account.trades["stuck"].is_final


async def test_the_beginning_that_was_chosen_does_not_move_after_live(
    play: Play, autojump_clock: object
) -> None:
    lists, since_s = Lists(), NOW_S - DAY_S
    pending = {"match_time": str(since_s + 20), "last_update": str(since_s + 20)}
    rows = [settled("old", since_s - 100), trade("edge", 4, "o", status="MINED", **pending)]
    lists.instead = exchange(list, lambda: rows)
    async with follow(play, talk(), lists=lists, history_days=1.0) as run:
        await until_state(run, LIVE)
        assert run.service.account.read().positions == {"11": 4}
        lists.instead = exchange(  # an order from before has the list reach further back
            lambda: [order(matched=3, created_at=str(since_s - 500))], lambda: rows
        )
        await trio.sleep(200.0)
        assert run.service.account.read().positions == {"11": 4}
        assert set(run.service.account.read().trades) == {"edge"}
