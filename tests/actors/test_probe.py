"""Silence: REST says whether a feed without data has stalled or its markets are quiet."""

import json
from collections.abc import Mapping
from functools import partial

import httpx2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from tests.actors.running import LIVE, Answer, Play, Run, is_audit
from tests.actors.scripted_server import NO, SETTINGS, YES, Act, Books, Visit, serve

from polyactors.book.trust import StaleReason
from polyactors.environment import Environment
from polyactors.events import FeedDown
from polyactors.feed import Feed
from polyactors.heartbeat import run_heartbeat
from polyactors.messages import Abort, ControlMessage, HeartbeatMessage, SessionOpened
from polyactors.probe import (
    PROBE_GRACE_SECONDS,
    PROBE_REQUEST_SECONDS_MAX,
    PROBE_SECONDS_MAX,
    PROBE_TOKENS_MAX,
    ProbeOutcome,
    compare,
    probe,
)
from polyactors.rest import RestClient
from polyactors.transport import Network
from polysupervisor import ChildSpec, Context, MailboxSpec, Supervisor

DATA_DEADLINE_SECONDS = 30.0
SILENT = serve(tick_seconds=None)
"""Books, PONGs, and nothing else."""


class Rest:
    """A REST side that answers truthfully, and keeps what the probes asked it.

    It answers them after `late_seconds`, and it does not know the tokens in `unknown`.
    """

    def __init__(self, *, late_seconds: float = 0.0, unknown: tuple[str, ...] = ()) -> None:
        self.late_seconds = late_seconds
        self.unknown = unknown
        self.asked: list[tuple[float, list[str]]] = []
        """By probes: (time, tokens)."""

    async def __call__(self, request: httpx2.Request, books: Books) -> httpx2.Response:
        if is_audit():  # which would find out the same, in its own time
            return httpx2.Response(503)
        tokens = [item["token_id"] for item in json.loads(request.content)]
        self.asked.append((trio.current_time(), tokens))
        await trio.sleep(self.late_seconds)
        known = [token for token in tokens if token not in self.unknown]
        return httpx2.Response(200, json=[books.rest_book(token) for token in known])


def says(status: int, body: bytes = b"") -> Answer:
    async def answer(request: httpx2.Request, books: Books) -> httpx2.Response:
        return httpx2.Response(status, content=body)

    return answer


async def hangs(request: httpx2.Request, books: Books) -> httpx2.Response:
    await trio.sleep_forever()
    raise AssertionError


def mute_change(*, at_seconds: float, token: str = YES) -> Act:
    """The exchange's book changes, and nobody is told."""

    async def act(visit: Visit) -> None:
        await trio.sleep(at_seconds)
        visit.server.books.change(token, "0.5", "77")

    return act


def change(*, at_seconds: float, token: str = YES, late_seconds: float = 0.0) -> Act:
    """The exchange's book changes, and the message about it is late."""

    async def act(visit: Visit) -> None:
        await trio.sleep(at_seconds)
        event = visit.server.books.change(token, "0.5", "77")
        await trio.sleep(late_seconds)
        await visit.send(event)

    return act


def last_down(run: Run) -> tuple[float, FeedDown]:
    """When the feed went down last, by virtual time, and how."""
    down = run.of(FeedDown)[-1]
    return down.time_ns / 1e9 - 1_700_000_000, down


def probes(run: Run) -> dict[str, int]:
    return dict(run.service.statistics.probes)


# --- what an answer means ------------------------------------------------------------------

HASHES = st.dictionaries(st.sampled_from("abcde"), st.sampled_from(["", "1", "2", "3"]))


@given(HASHES, HASHES)
def test_only_what_rest_knows_and_the_stream_did_not_say_is_a_stall(
    said: Mapping[str, str], known: Mapping[str, str]
) -> None:
    finding = compare(said, known)
    asked = [token for token in said if token in known]
    # Nothing is no proof that nothing was lost.
    lost = not asked or any(not said[token] or said[token] != known[token] for token in asked)
    assert (finding.outcome is ProbeOutcome.STALLED) == lost
    assert bool(finding.detail) == lost
    if not lost:
        assert finding.outcome is ProbeOutcome.QUIET


def test_the_finding_says_of_how_many_tokens() -> None:
    finding = compare({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "7"})
    assert finding.detail == "REST shows other books of 1 of 2 tokens"
    assert "first one never came" in compare({"a": ""}, {"a": "1"}).detail
    assert "REST knows none of 2 tokens" in compare({"a": "1", "b": "2"}, {"c": "1"}).detail


# --- through the real actors ---------------------------------------------------------------


async def test_a_quiet_market_stays_live_however_long_it_lasts(
    play: Play, autojump_clock: object
) -> None:
    rest = Rest(late_seconds=0.5)
    async with play(SILENT, rest=rest) as run:
        await trio.sleep(10 * DATA_DEADLINE_SECONDS + 5.0)
        assert run.downs == []
        assert len(run.visits) == 1
        assert run.path_of(YES) == run.path_of(NO) == LIVE
        assert probes(run) == {"quiet": 10}
        # One look each deadline, counted from the question, for that is what the answer is about.
        times = [at for at, _ in rest.asked]
        assert times == pytest.approx([DATA_DEADLINE_SECONDS * n for n in range(1, 11)])


async def test_pings_go_on_while_rest_is_asked(play: Play, autojump_clock: object) -> None:
    async with play(
        serve(tick_seconds=None, pong=True),
        rest=Rest(late_seconds=4.5),
        ping_interval_seconds=1.0,
        pong_deadline_seconds=3.0,
    ) as run:
        await trio.sleep(65.5)
        pings = [at for at, text in run.visits[0].received if text == "PING"]
        assert pings == pytest.approx([float(n) for n in range(1, 66)], abs=0.01)
        assert run.downs == []


async def test_no_pong_while_rest_is_asked_is_a_pong_timeout(
    play: Play, autojump_clock: object
) -> None:
    async with play(
        serve(tick_seconds=None, pong=False),
        serve(),
        rest=Rest(late_seconds=4.9),
        ping_interval_seconds=29.0,
        pong_deadline_seconds=3.0,
    ) as run:
        await run.until(lambda: run.downs)
        assert run.downs == ["pong_timeout"]
        assert trio.current_time() == pytest.approx(32.0)
        await trio.sleep(10)  # the answer, at 34.9 s, is of no use to the next session
        assert run.downs == ["pong_timeout"]
        assert probes(run) == {}


async def test_a_stall_is_found_after_the_grace(play: Play, autojump_clock: object) -> None:
    act = serve(tick_seconds=None, beside=mute_change(at_seconds=10.0))
    async with play(act, serve(), rest=Rest(late_seconds=0.25)) as run:
        await run.until(lambda: run.downs)
        at, down = last_down(run)
        assert at == pytest.approx(DATA_DEADLINE_SECONDS + 0.25 + PROBE_GRACE_SECONDS)
        assert down.reason == "feed_stalled"
        assert down.detail == (
            "no market data for 30 s, and REST shows other books of 1 of 2 tokens"
        )
        assert probes(run) == {"stalled": 1}
        await run.all_live()
        await run.check_books()


async def test_a_stall_that_begins_after_a_quiet_proof_is_found_within_its_bound(
    play: Play, autojump_clock: object
) -> None:
    for lost_at in (30.1, 45.0, 59.9, 60.5):
        act = serve(tick_seconds=None, beside=mute_change(at_seconds=lost_at))
        async with play(act, serve(), rest=Rest(late_seconds=4.0)) as run:
            began = trio.current_time()
            await run.until(partial(getattr, run, "downs"))
            seconds = trio.current_time() - began - lost_at
            assert seconds <= DATA_DEADLINE_SECONDS + PROBE_SECONDS_MAX
            assert probes(run)["stalled"] == 1


@pytest.mark.parametrize("late_seconds", [0.2, 0.9])
async def test_what_is_under_way_when_rest_is_asked_is_no_stall(
    play: Play, autojump_clock: object, late_seconds: float
) -> None:
    act = serve(tick_seconds=None, beside=change(at_seconds=29.9, late_seconds=0.1 + late_seconds))
    async with play(act, rest=Rest()) as run:
        await trio.sleep(100)
        assert run.downs == []
        assert probes(run)["alive"] == 1
        await run.check_books()


async def test_data_that_comes_while_rest_hangs_is_a_sign_of_life(
    play: Play, autojump_clock: object
) -> None:
    act = serve(tick_seconds=None, beside=change(at_seconds=32.0))
    async with play(act, rest=hangs) as run:
        await trio.sleep(61)
        assert run.downs == []
        assert probes(run) == {"alive": 1}


@pytest.mark.parametrize(
    ("rest", "seconds"),
    [
        (says(503), 0.0),
        (says(404), 0.0),
        (says(200, b"<html>"), 0.0),
        (hangs, PROBE_REQUEST_SECONDS_MAX),
    ],
)
async def test_without_an_answer_silence_is_a_stall(
    play: Play, autojump_clock: object, rest: Answer, seconds: float
) -> None:
    async with play(SILENT, serve(), rest=rest) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == pytest.approx(DATA_DEADLINE_SECONDS + seconds)
        assert run.downs == ["feed_stalled"]
        assert "and REST did not answer (" in last_down(run)[1].detail


async def test_a_token_that_rest_does_not_know_has_nothing_to_say(
    play: Play, autojump_clock: object
) -> None:
    act = serve(tick_seconds=None, beside=mute_change(at_seconds=10.0))
    async with play(act, rest=Rest(unknown=(YES,))) as run:
        await trio.sleep(100)
        assert run.downs == []
        assert probes(run) == {"quiet": 3}


async def test_a_rest_side_that_knows_no_token_at_all_proves_no_quiet(
    play: Play, autojump_clock: object
) -> None:
    act = serve(tick_seconds=None, beside=mute_change(at_seconds=10.0))
    async with play(act, serve(), rest=Rest(unknown=(YES, NO))) as run:
        await run.until(lambda: run.downs)
        assert run.downs == ["feed_stalled"]
        assert "REST knows none of 2 tokens" in last_down(run)[1].detail


async def test_a_feed_of_tokens_that_are_gone_is_left_in_peace(
    play: Play, autojump_clock: object
) -> None:
    async def knows_none(request: httpx2.Request, books: Books) -> httpx2.Response:
        is_single = request.url.path == "/book"
        return httpx2.Response(404) if is_single else httpx2.Response(200, json=[])

    act = serve(tick_seconds=None, withheld=[YES, NO])
    async with play(act, rest=knows_none, first_book_deadline_seconds=5.0) as run:
        await trio.sleep(100)
        assert run.service.trust(YES).reason is StaleReason.UNKNOWN_TOKEN
        assert run.downs == []
        assert probes(run) == {"quiet": 3}


async def test_a_feed_that_never_brought_a_book_has_stalled(
    play: Play, autojump_clock: object
) -> None:
    act = serve(tick_seconds=None, withheld=[YES, NO])
    # Without that deadline, or REST's book would come in between.
    async with play(act, serve(), rest=Rest(), first_book_deadline_seconds=1e6) as run:
        await run.until(lambda: run.downs)
        assert run.downs == ["feed_stalled"]
        assert "first one never came" in last_down(run)[1].detail


async def test_a_token_without_its_first_book_fails_no_feed_whose_others_are_quiet(
    play: Play, autojump_clock: object
) -> None:
    rest = Rest()
    act = serve(tick_seconds=None, withheld=[NO])
    async with play(act, rest=rest, first_book_deadline_seconds=1e6) as run:
        await trio.sleep(100)
        assert run.downs == []
        assert [tokens for _, tokens in rest.asked] == [[YES]] * 3


async def test_the_busiest_tokens_are_asked_about(play: Play, autojump_clock: object) -> None:
    tokens = [str(number) for number in range(1, 3 * PROBE_TOKENS_MAX + 1)]
    busy = tokens[7 : 7 + 2 * PROBE_TOKENS_MAX : 2]
    assert len(busy) == PROBE_TOKENS_MAX

    async def stir(visit: Visit) -> None:
        await trio.sleep(1.0)
        for token in busy:
            await visit.send(visit.server.books.change(token, "0.5", "9"))

    rest = Rest()
    async with play(serve(tick_seconds=None, beside=stir), tokens=tokens, rest=rest) as run:
        await trio.sleep(40)
        assert run.downs == []
        ((_, asked),) = rest.asked
        assert sorted(asked) == sorted(busy)


async def test_a_session_that_ends_takes_its_probe_along(
    play: Play, autojump_clock: object
) -> None:
    cancelled: list[float] = []

    async def rest(request: httpx2.Request, books: Books) -> httpx2.Response:
        if is_audit():
            return httpx2.Response(503)
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(trio.current_time())
        raise AssertionError

    async with play(serve(tick_seconds=None, seconds=32.0), serve(), rest=rest) as run:
        await run.until(lambda: run.downs)
        assert run.downs == ["reset"]
        await trio.sleep(10)
        assert cancelled == pytest.approx([32.0])
        assert run.downs == ["reset"]
        assert probes(run) == {}


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_stop_does_not_wait_for_a_probe(
    play: Play, autojump_clock: object, cancelled: bool
) -> None:
    async with play(SILENT, rest=hangs) as run:
        await trio.sleep(DATA_DEADLINE_SECONDS + 1.0)
        began = trio.current_time()
        await run.stop(cancelled=cancelled)
        assert trio.current_time() - began <= 1.0, "as long as a farewell may take, not a probe"


async def test_a_session_that_is_announced_twice_is_watched_once(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    """A heartbeat that died between the session's begin and its announcement hears of it so."""
    rest = Rest()
    books = Books((YES,))

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return await rest(request, books)

    network = Network(http_transport=lambda: httpx2.MockTransport(answer))
    feed = Feed("feed-0", (YES,), Environment(SETTINGS, network))
    feed.epoch = 7
    orders: list[ControlMessage] = []

    async def take(ctx: Context[ControlMessage]) -> None:
        while True:
            orders.extend(await ctx.inbox.receive_batch())

    connection = ChildSpec[ControlMessage](
        id="connection", factory=lambda: take, mailbox=MailboxSpec()
    )
    async with RestClient(SETTINGS, network) as client:
        heartbeat = ChildSpec[HeartbeatMessage](
            id="heartbeat",
            factory=lambda: (
                lambda ctx: run_heartbeat(
                    ctx, feed, root.address("connection"), partial(probe, feed, client)
                )
            ),
            mailbox=MailboxSpec(),
        )
        root = Supervisor("root", [connection, heartbeat])
        await nursery.start(root.run)
        root.address("heartbeat").send_nowait(SessionOpened(7))
        await trio.sleep(5.0)
        root.address("heartbeat").send_nowait(SessionOpened(7))
        await trio.sleep(PROBE_GRACE_SECONDS + 35.0)
        root.stop()
        await trio.sleep(1.0)
    assert len(rest.asked) == 1
    assert [order for order in orders if isinstance(order, Abort)] == [
        Abort(7, "feed_stalled", orders[-1].detail)  # type: ignore[union-attr]
    ]


async def test_a_shard_without_books_does_not_confuse_the_probe(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hashes are taken when the question is: they are held against the answer's."""
    counted = 0
    last_hash = Feed.last_hash

    def forgetful(feed: Feed, token: str) -> str:
        nonlocal counted
        counted += 1
        return last_hash(feed, token)

    monkeypatch.setattr(Feed, "last_hash", forgetful)
    async with play(SILENT, rest=Rest(late_seconds=3.0)) as run:
        await trio.sleep(DATA_DEADLINE_SECONDS + 1.0)
        before = counted
        assert before > 0
        await trio.sleep(3.0)
        assert counted == before
        assert probes(run) == {"quiet": 1}
