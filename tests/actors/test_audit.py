"""The audit: every LIVE book is held against REST's within its period, at a bearable rate."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from math import ceil, inf

import httpx2
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.running import LIVE, Play, Run, crash_once, is_audit
from tests.actors.scripted_server import NO, YES, Books, Visit, serve

from polyactors import audit
from polyactors.audit import SINGLE_REQUESTS_MAX
from polyactors.audit_round import (
    AGAIN_SECONDS,
    BACKOFF_SECONDS_MAX,
    BATCH_BOOKS,
    NEW_SECONDS,
    PLANNED_SHARE,
    REQUEST_INTERVAL_SECONDS,
    AuditRound,
    Key,
)
from polyactors.book.trust import TrustState
from polyactors.events import ActorRestarted
from polyactors.messages import AuditAgain, Audited
from polyactors.rest import BOOKS_PER_REQUEST_MAX
from polyactors.shard import BookShard
from polyactors.tree import Tree

PERIOD_SECONDS = 30.0
PLANNED_SECONDS = PERIOD_SECONDS * PLANNED_SHARE


# --- whose turn it is, and when ------------------------------------------------------------


def keys_of(feed: str, count: int) -> list[Key]:
    return [Key(feed, str(number)) for number in range(count)]


def always(_: Key) -> bool:
    return True


class Player:
    """Does what the actor does, on a clock of its own: waits until a request is due, asks."""

    def __init__(self, *, cost_seconds: float = 0.0) -> None:
        self.round = AuditRound(PERIOD_SECONDS)
        self.now = 0.0
        self.live: set[Key] = set()
        self.requests: list[tuple[float, list[Key]]] = []
        self.waits: dict[Key, float] = {}
        """Since when each has been LIVE, or was asked for last."""
        self.waited_seconds_max = 0.0
        self.cost_seconds = cost_seconds

    def join(self, keys: list[Key]) -> None:
        self.round.join(keys)
        self.set_live(keys)

    def leave(self, keys: list[Key]) -> None:
        self.round.leave(keys)
        self.set_dead(keys)

    def set_live(self, keys: list[Key]) -> None:
        for key in keys:
            self.live.add(key)
            self.waits.setdefault(key, self.now)

    def set_dead(self, keys: list[Key]) -> None:
        for key in keys:
            self.live.discard(key)
            self.waits.pop(key, None)

    def run(self, seconds: float, *, fails: Callable[[list[Key]], bool] = lambda _: False) -> None:
        end = self.now + seconds
        while True:
            due = self.round.next_due()
            if due > end:
                break
            self.now = max(self.now, due)
            batch = self.round.take(self.now, self.live.__contains__)
            if batch:
                self._ask(batch, fails(batch))
        self.now = max(self.now, end)
        self.note_waits()

    def _ask(self, batch: list[Key], fails: bool) -> None:
        assert len(batch) == len(set(batch)) <= BOOKS_PER_REQUEST_MAX
        assert self.live.issuperset(batch)
        self.requests.append((self.now, batch))
        began = self.now
        self.now += self.cost_seconds
        if fails:
            self.round.failed(began, self.now, batch)
            return
        self.round.answered(began, self.now)
        for key in batch:
            self.note_wait(key)
            self.waits[key] = began

    def note_wait(self, key: Key) -> None:
        self.waited_seconds_max = max(self.waited_seconds_max, self.now - self.waits[key])

    def note_waits(self) -> None:
        for key in self.waits:
            self.note_wait(key)

    @property
    def gaps(self) -> list[float]:
        """Between each two requests."""
        return [after - before for (before, _), (after, _) in pairwise(self.requests)]


FEEDS = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "live", "dead", "again", "flood", "wait"]),
        FEEDS,
        st.integers(0, 2000),
        st.floats(0.0, 20.0),
    ),
    max_size=25,
)


@given(STEPS, st.sampled_from([0.0, 0.05, 0.3]))
def test_every_live_book_is_asked_for_within_its_period_whatever_comes_and_goes(
    steps: list[tuple[str, str, int, float]], cost_seconds: float
) -> None:
    player = Player(cost_seconds=cost_seconds)
    player.join(keys_of("a", 100))
    for what, feed, count, seconds in steps:
        keys = keys_of(feed, count)
        if what == "join":
            player.join(keys)
        elif what == "leave":
            player.leave(keys)
        elif what == "live":
            known = set(player.round._turns) | set(player.round._new)  # pyright: ignore[reportPrivateUsage]
            player.set_live([key for key in keys if key in known])
        elif what == "dead":
            player.set_dead(keys)
        elif what == "again":
            for key in keys[-30:]:
                player.round.again(key)
        elif what == "flood":
            for key in keys:
                player.round.again(key)
        player.run(seconds)
    player.run(2 * PERIOD_SECONDS)
    assert player.waited_seconds_max <= PERIOD_SECONDS
    assert all(gap >= REQUEST_INTERVAL_SECONDS - 1e-9 for gap in player.gaps)


@settings(max_examples=25)
@given(st.integers(1, 2400))
def test_a_round_is_spread_evenly_over_its_period(count: int) -> None:
    player = Player()
    player.join(keys_of("a", count))
    player.run(4 * PERIOD_SECONDS)  # the first round, all at once, is behind
    before = len(player.requests)
    player.run(10 * PERIOD_SECONDS)
    requests = player.requests[before:]
    asked = Counter(key for _, batch in requests for key in batch)
    assert len(asked) == count
    assert min(asked.values()) >= 10
    assert max(asked.values()) <= 10 / PLANNED_SHARE + 2
    assert max(len(batch) for _, batch in requests) <= BATCH_BOOKS
    gaps = [after - before for (before, _), (after, _) in pairwise(requests)]
    pace = PLANNED_SECONDS / ceil(count / BATCH_BOOKS)
    assert gaps == pytest.approx([pace] * len(gaps))


def test_more_books_make_larger_requests_not_more_of_them() -> None:
    player = Player()
    player.join(keys_of("a", 20_000))
    player.run(3 * PERIOD_SECONDS)
    assert BATCH_BOOKS < max(len(batch) for _, batch in player.requests) <= BOOKS_PER_REQUEST_MAX
    assert player.waited_seconds_max <= PERIOD_SECONDS
    assert not player.round.is_too_large
    recent = [at for at, _ in player.requests if at > 2 * PERIOD_SECONDS]
    assert len(recent) <= PERIOD_SECONDS / REQUEST_INTERVAL_SECONDS / 2 / PLANNED_SHARE


def test_with_too_many_books_the_round_takes_longer_and_keeps_to_its_limits() -> None:
    player = Player()
    count = 100_000
    player.join(keys_of("a", count))
    assert player.round.is_too_large
    longest = 2 * count / BOOKS_PER_REQUEST_MAX * REQUEST_INTERVAL_SECONDS
    player.run(3 * longest)
    assert all(gap >= REQUEST_INTERVAL_SECONDS - 1e-9 for gap in player.gaps)
    assert PERIOD_SECONDS < player.waited_seconds_max <= longest


def test_a_slow_rest_is_asked_for_more_at_a_time() -> None:
    player = Player(cost_seconds=2.0)
    player.join(keys_of("a", 1000))
    player.run(4 * PERIOD_SECONDS)
    before = len(player.requests)
    player.run(4 * PERIOD_SECONDS)
    requests = player.requests[before:]
    assert len(requests) <= 4 * PERIOD_SECONDS / 2.0
    asked = Counter(key for _, batch in requests for key in batch)
    assert min(asked.values()) >= 4
    assert len(asked) == 1000


def test_a_suspicion_goes_first_and_several_go_together() -> None:
    player = Player()
    keys = keys_of("a", 1000)
    player.join(keys)
    player.run(10.0)
    before = len(player.requests)
    player.round.again(keys[5])
    player.run(0.3)
    assert any(keys[5] in batch for _, batch in player.requests[before : before + 2])
    before = len(player.requests)
    for key in keys[10:15]:
        player.round.again(key)
    player.run(AGAIN_SECONDS + 0.3)
    (batch,) = [batch for _, batch in player.requests[before:] if keys[10] in batch]
    assert set(keys[10:15]) <= set(batch)


def test_hundreds_of_suspicions_are_looked_into_one_batch_after_the_other() -> None:
    player = Player()
    keys = keys_of("a", 1000)
    player.join(keys)
    player.run(10.0)
    before = len(player.requests)
    for key in keys[:400]:
        player.round.again(key)
    player.run(AGAIN_SECONDS + 400 / BATCH_BOOKS * 2 * REQUEST_INTERVAL_SECONDS)
    asked = {key for _, batch in player.requests[before:] for key in batch}
    assert asked >= set(keys[:400])


def test_many_books_at_once_take_the_others_turns_from_none() -> None:
    player = Player()
    player.join(keys_of("a", BATCH_BOOKS))  # all have their turn at the same time
    player.run(PLANNED_SECONDS - 0.5)
    player.join(keys_of("b", 40_000))
    player.run(2 * PERIOD_SECONDS)
    assert player.waited_seconds_max <= PERIOD_SECONDS


def test_suspicions_without_end_do_not_push_the_round_out() -> None:
    player = Player()
    keys = keys_of("a", 2000)
    player.join(keys)
    for _ in range(3000):
        for key in keys[:500]:
            player.round.again(key)
        player.run(0.05)
    assert player.waited_seconds_max <= PERIOD_SECONDS


def test_a_suspicion_about_an_unknown_or_dead_book_is_nothing() -> None:
    player = Player()
    player.join(keys_of("a", 2))
    player.run(5.0)
    player.set_dead([Key("a", "1")])
    before = len(player.requests)
    player.round.again(Key("a", "1"))
    player.round.again(Key("z", "1"))
    player.run(5.0)
    assert player.requests[before:] == []


def test_a_book_is_asked_for_soon_after_it_turned_live() -> None:
    player = Player()
    keys = keys_of("a", 500)
    player.round.join(keys)
    player.run(7.0)
    assert player.requests == []
    player.set_live(keys)
    player.run(NEW_SECONDS + 500 / BATCH_BOOKS * REQUEST_INTERVAL_SECONDS)
    assert {key for _, batch in player.requests for key in batch} == set(keys)


def test_nothing_is_due_without_books() -> None:
    plan = AuditRound(PERIOD_SECONDS)
    assert plan.next_due() == inf
    plan.join(keys_of("a", 3))
    plan.leave(keys_of("a", 3))
    assert plan.next_due() == inf
    assert plan.take(100.0, always) == []


def test_a_failing_rest_is_asked_ever_more_rarely_and_what_is_overdue_is_made_up_for() -> None:
    player = Player()
    player.join(keys_of("a", 2000))
    player.run(PERIOD_SECONDS)
    before = len(player.requests)
    player.run(300.0, fails=lambda _: True)
    failed = player.requests[before:]
    assert len(failed) <= 300.0 / BACKOFF_SECONDS_MAX + 6
    assert len({key for _, batch in failed for key in batch}) > BATCH_BOOKS, "not one over and over"
    before = len(player.requests)
    while len(player.requests) == before:
        player.run(0.1)
    player.run(2.0)
    asked = {key for _, batch in player.requests[before:] for key in batch}
    # All but those that an attempt was made for not long ago.
    lately = int(PERIOD_SECONDS / BACKOFF_SECONDS_MAX) * BOOKS_PER_REQUEST_MAX
    assert len(asked) >= 2000 - lately
    assert all(gap >= REQUEST_INTERVAL_SECONDS - 1e-9 for gap in player.gaps)


@pytest.mark.parametrize("count", [2, 8, 300])
def test_a_book_that_rest_fails_over_costs_no_other_its_audit(count: int) -> None:
    player = Player()
    keys = keys_of("a", count)
    poison = keys[count // 2]
    player.join(keys)
    player.run(3 * PERIOD_SECONDS, fails=lambda batch: poison in batch)
    before = len(player.requests)
    player.run(PERIOD_SECONDS, fails=lambda batch: poison in batch)
    asked = {key for _, batch in player.requests[before:] if poison not in batch for key in batch}
    assert asked == {*keys} - {poison}
    assert len(player.requests) - before < 60


def test_what_left_meanwhile_is_not_asked_for_apart() -> None:
    player = Player()
    keys = keys_of("a", 4)
    player.join(keys)
    player.run(2.0, fails=lambda _: True)
    player.leave(keys[:3])
    before = len(player.requests)
    player.run(PERIOD_SECONDS)
    assert {key for _, batch in player.requests[before:] for key in batch} == {keys[3]}


# --- through the real actors ---------------------------------------------------------------


class Rest:
    """A REST side that answers audits truthfully, and keeps what they asked it."""

    def __init__(self, *, unknown: tuple[str, ...] = (), omitted: tuple[str, ...] = ()) -> None:
        self.unknown = unknown
        self.omitted = omitted
        """POST /books leaves them out, GET /book knows them."""
        self.asked: list[tuple[float, str, list[str]]] = []
        """(time, path, tokens)"""
        self.status = 200
        self.late_seconds = 0.0

    async def __call__(self, request: httpx2.Request, books: Books) -> httpx2.Response:
        if request.method == "POST":
            tokens = [item["token_id"] for item in json.loads(request.content)]
        else:
            tokens = [request.url.params["token_id"]]
        assert is_audit()
        self.asked.append((trio.current_time(), request.url.path, tokens))
        await trio.sleep(self.late_seconds)
        if self.status != 200:
            return httpx2.Response(self.status)
        if request.method == "GET":
            if tokens[0] in self.unknown:
                return httpx2.Response(404)
            return httpx2.Response(200, json=books.rest_book(tokens[0]))
        known = [token for token in tokens if token not in (*self.unknown, *self.omitted)]
        return httpx2.Response(200, json=[books.rest_book(token) for token in known])


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, Audited]]:
    """What the shards heard from the audit, and when."""
    said: list[tuple[float, Audited]] = []
    plain = BookShard.audited

    def audited(self: BookShard, answer: Audited, now: float) -> None:
        said.append((now, answer))
        plain(self, answer, now)

    monkeypatch.setattr(BookShard, "audited", audited)
    return said


Heard = list[tuple[float, Audited]]


def tree_of(run: Run) -> Tree:
    return run.service._tree  # pyright: ignore[reportPrivateUsage]


async def test_every_book_is_audited_soon_after_the_start_and_then_in_every_period(
    play: Play, autojump_clock: object, heard: Heard
) -> None:
    rest = Rest()
    async with play(serve(), rest=rest) as run:
        await trio.sleep(300)
        times = [at for at, _, _ in rest.asked]
        assert times[0] <= 1.5
        assert all(after - before <= 30.0 for before, after in pairwise(times))
        assert len(times) <= 300 / PLANNED_SECONDS + 2
        assert {tuple(sorted(tokens)) for _, _, tokens in rest.asked} == {(YES, NO)}
        assert [len(answer.snapshots) for _, answer in heard] == [2] * len(times)
        assert {answer.epoch for _, answer in heard} == set(run.epochs)
        assert run.service.statistics.audits == 2 * len(times)
        assert run.path_of(YES) == run.path_of(NO) == LIVE
        assert run.service.statistics.desyncs == 0


async def test_the_setting_says_how_often(play: Play, autojump_clock: object) -> None:
    rest = Rest()
    async with play(serve(), rest=rest, audit_seconds=10.0):
        await trio.sleep(100)
        times = [at for at, _, _ in rest.asked]
        assert all(after - before <= 5.0 for before, after in pairwise(times))
        assert len(times) >= 20


async def test_each_feed_hears_of_its_own_tokens(
    play: Play, autojump_clock: object, heard: Heard
) -> None:
    rest = Rest()
    async with play(serve(), rest=rest, tokens_per_connection=1) as run:
        await trio.sleep(100)
        told = {answer.feed: {s.token for s in answer.snapshots} for _, answer in heard}
        assert told == {"feed-0": {YES}, "feed-1": {NO}}
        assert {answer.epoch for _, answer in heard} == set(run.epochs)
        # Feeds share requests, but for the first ones, which may not be LIVE at the same time.
        assert {len(tokens) for _, _, tokens in rest.asked[2:]} == {2}


async def test_a_book_that_is_not_live_is_not_asked_for(play: Play, autojump_clock: object) -> None:
    rest = Rest()
    act = serve(withheld=[NO])
    async with play(act, rest=rest, first_book_deadline_seconds=1e6):
        await trio.sleep(100)
        assert {tuple(tokens) for _, _, tokens in rest.asked} == {(YES,)}


async def test_tokens_that_are_followed_later_are_audited_too(
    play: Play, autojump_clock: object
) -> None:
    tokens = [YES, NO, "3333"]
    rest = Rest()
    async with play(serve(), tokens=tokens, rest=rest) as run:
        await trio.sleep(10)
        books = run.server.books
        more = Books(["4444"])
        books._books.update(more._books)  # pyright: ignore[reportPrivateUsage]
        books._stamp_ms.update(more._stamp_ms)  # pyright: ignore[reportPrivateUsage]
        await run.service.follow(["4444"])
        await trio.sleep(5)
        assert any("4444" in asked for _, _, asked in rest.asked)


async def test_an_answer_about_a_session_that_is_over_is_dropped(
    play: Play, autojump_clock: object, heard: Heard
) -> None:
    rest = Rest()
    rest.late_seconds = 5.0
    async with play(serve(seconds=4.0), serve(), rest=rest) as run:
        await trio.sleep(60)
        assert rest.asked[0][0] < 4.0
        assert heard
        assert {answer.epoch for _, answer in heard} == {run.epochs[1]}
        assert len(heard) == len(rest.asked) - 1


async def test_a_suspicion_is_looked_into_at_once(
    play: Play, autojump_clock: object, heard: Heard
) -> None:
    rest = Rest()
    async with play(serve(), rest=rest) as run:
        await trio.sleep(10.0)
        before = len(rest.asked)
        address = tree_of(run)._audit  # pyright: ignore[reportPrivateUsage]
        assert address is not None
        address.send_nowait(AuditAgain("feed-0", NO))
        address.send_nowait(AuditAgain("feed-0", NO))
        address.send_nowait(AuditAgain("feed-9", NO))
        await trio.sleep(0.5)
        assert [tokens for _, _, tokens in rest.asked[before:]] == [[NO]]
        assert [s.token for s in heard[-1][1].snapshots] == [NO]


async def test_a_token_that_rest_does_not_know_is_told_so(
    play: Play, autojump_clock: object, heard: Heard
) -> None:
    rest = Rest(unknown=(NO,))
    async with play(serve(), rest=rest):
        await trio.sleep(5)
        assert [path for _, path, _ in rest.asked] == ["/books", "/book"]
        assert [answer.unknown for _, answer in heard] == [(), (NO,)]
        assert [s.token for s in heard[0][1].snapshots] == [YES]


async def test_a_token_that_was_left_out_is_compared_all_the_same(
    play: Play, autojump_clock: object, heard: Heard
) -> None:
    async with play(serve(), rest=Rest(omitted=(NO,))):
        await trio.sleep(5)
        assert [[s.token for s in answer.snapshots] for _, answer in heard] == [[YES], [NO]]
        assert not any(answer.unknown for _, answer in heard)


async def test_only_so_many_tokens_are_asked_for_singly_in_a_period(
    play: Play, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 61)]
    rest = Rest(omitted=tuple(tokens))
    async with play(serve(tick_seconds=5.0), tokens=tokens, rest=rest):
        await trio.sleep(29.0)
        assert [path for _, path, _ in rest.asked].count("/book") == SINGLE_REQUESTS_MAX
        await trio.sleep(61.0)
        singles = [at for at, path, _ in rest.asked if path == "/book"]
        assert len(singles) == 3 * SINGLE_REQUESTS_MAX
        times = [at for at, _, _ in rest.asked]
        assert all(b - a >= REQUEST_INTERVAL_SECONDS - 1e-9 for a, b in pairwise(times))


async def test_an_outage_is_told_once_counted_and_outlived(
    play: Play, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    rest = Rest()
    async with play(serve(), rest=rest) as run:
        await trio.sleep(50)
        rest.status = 503
        await trio.sleep(200)
        failed = run.service.statistics.audit_requests_failed
        assert 3 <= failed <= 200 / BACKOFF_SECONDS_MAX + 3
        told = [m for m in caplog.messages if "REST does not answer" in m]
        assert len(told) == 1
        assert "HTTP 503" in told[0]
        rest.status = 200
        await trio.sleep(100)
        assert len([m for m in caplog.messages if "REST answers the audit again" in m]) == 1
        times = [at for at, _, _ in rest.asked if at > 250.0]
        assert times[0] - 250.0 <= PERIOD_SECONDS
        assert run.path_of(YES) == LIVE
        assert run.of(ActorRestarted) == []


async def test_a_rest_that_fails_now_and_then_does_not_flood_the_log(
    play: Play, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    async def flaky(request: httpx2.Request, books: Books) -> httpx2.Response:
        nonlocal calls
        calls += 1
        if calls % 2:
            return httpx2.Response(503)
        tokens = [item["token_id"] for item in json.loads(request.content)]
        return httpx2.Response(200, json=[books.rest_book(token) for token in tokens])

    async with play(serve(), rest=flaky, audit_seconds=4.0):
        await trio.sleep(290)
    assert calls > 100
    assert len([m for m in caplog.messages if "REST" in m]) == 1


async def test_a_hanging_rest_holds_up_neither_the_books_nor_a_stop(
    play: Play, autojump_clock: object
) -> None:
    rest = Rest()
    rest.late_seconds = inf
    async with play(serve(), rest=rest) as run:
        await trio.sleep(100)
        await run.check_books()
        assert rest.asked
        began = trio.current_time()
        await run.stop()
        assert trio.current_time() - began < 1.0


async def test_a_shard_that_takes_nothing_misses_its_answers_and_blocks_nobody(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyactors.tree.MAILBOX_BATCHES", 1)
    stuck = trio.Event()

    async def hold(ctx: object, feed: object, shard: object, handle: object) -> bool:
        stuck.set()
        await trio.sleep_forever()
        return True

    rest = Rest()
    async with play(serve(tick_seconds=0.5), rest=rest, audit_seconds=4.0) as run:
        await run.all_live()
        monkeypatch.setattr("polyactors.books._serve", hold)
        await stuck.wait()
        await trio.sleep(60)
        assert run.service.statistics.audits_lost > 0
        assert len(rest.asked) > 20, "the others are asked for as ever"
        began = trio.current_time()
        await run.stop(cancelled=True)
        assert trio.current_time() - began <= 1.0


async def test_an_audit_that_crashes_comes_back(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = crash_once(monkeypatch, AuditRound, "take")
    rest = Rest()
    async with play(serve(), rest=rest) as run:
        await trio.sleep(10)
        crash()
        await trio.sleep(100)
        assert "root/core/audit" in {event.path for event in run.of(ActorRestarted)}
        assert run.path_of(YES) == LIVE
        assert rest.asked[-1][0] > 50.0


async def test_too_many_books_are_told_once(
    play: Play,
    autojump_clock: object,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polyactors.audit_round.BOOKS_PER_REQUEST_MAX", 1)
    monkeypatch.setattr("polyactors.audit_round.BATCH_BOOKS", 1)
    tokens = [str(number) for number in range(1, 21)]
    rest = Rest()
    async with play(serve(), tokens=tokens, rest=rest, audit_seconds=2.0) as run:
        await trio.sleep(60)
        told = [m for m in caplog.messages if "too many books" in m]
        assert len(told) == 1
        assert "books=20" in told[0]
        asked = Counter(token for _, _, asked in rest.asked for token in asked)
        assert set(asked) == set(tokens)
        assert len(rest.asked) <= 60 / REQUEST_INTERVAL_SECONDS + 1
        assert run.state(tokens[0]) is TrustState.LIVE


async def test_a_change_that_is_on_its_way_is_no_reason_to_doubt(
    play: Play, autojump_clock: object
) -> None:
    """REST is 50 ms ahead of the stream, all the time."""

    async def tick(visit: Visit) -> None:
        number = 0
        while True:
            await trio.sleep(0.05)
            number += 1
            event = visit.server.books.change(YES, "0.5", str(number))
            await trio.sleep(0.05)
            await visit.send(event)

    act = serve(tick_seconds=None, beside=tick)
    async with play(act, rest=Rest(), audit_seconds=4.0) as run:
        await trio.sleep(25)
        assert run.path_of(YES) == LIVE
        assert run.service.statistics.audits > 10
        assert audit.FEEDS_SECONDS == 1.0
