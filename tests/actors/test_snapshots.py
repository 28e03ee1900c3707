"""A book that never comes: asked for again, then fetched by REST and spliced in exactly."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx2
import pytest
import trio
from tests.actors.running import LIVE, Answer, Play, Run, is_audit
from tests.actors.scripted_server import NO, YES, Act, Books, Visit, serve

from polyactors import books as books_actor
from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import ActorRestarted, BookUpdated
from polyactors.feed import Feed
from polyactors.snapshots import ANSWER_SECONDS_MAX, SINGLE_REQUESTS_MAX

NEVER_DELIVERED = [
    (TrustState.SYNCING, None),
    (TrustState.STALE, StaleReason.NEVER_DELIVERED),
    (TrustState.SYNCING, None),
]


class ScriptedRest:
    """A REST side that gives one answer after the other, and good ones after those.

    The audit, which asks about all that is LIVE, is told the truth beside that.
    """

    def __init__(self, *answers: Answer, unknown: tuple[str, ...] = ()) -> None:
        self.requests: list[tuple[float, str, list[str]]] = []
        """(time, path, tokens)"""
        self._answers = list(answers)
        self.unknown = unknown

    async def __call__(self, request: httpx2.Request, books: Books) -> httpx2.Response:
        if is_audit():
            return await good(request, books, self.unknown)
        self.requests.append((trio.current_time(), request.url.path, asked(request)))
        if self._answers:
            return await self._answers.pop(0)(request, books)
        return await good(request, books, self.unknown)


def asked(request: httpx2.Request) -> list[str]:
    if request.method == "POST":
        return [item["token_id"] for item in json.loads(request.content)]
    return [request.url.params["token_id"]]


async def good(
    request: httpx2.Request, books: Books, unknown: tuple[str, ...] = ()
) -> httpx2.Response:
    known = [token for token in asked(request) if token not in unknown]
    if request.method == "POST":
        return httpx2.Response(200, json=[books.rest_book(token) for token in known])
    if not known:
        return httpx2.Response(404, json={"error": "No orderbook exists for the requested token"})
    return httpx2.Response(200, json=books.rest_book(known[0]))


def says(status: int, body: bytes) -> Answer:
    async def answer(request: httpx2.Request, books: Books) -> httpx2.Response:
        return httpx2.Response(status, content=body)

    return answer


def late(seconds: float) -> Answer:
    """The answer is made at once, and comes late: as from a throttled server."""

    async def answer(request: httpx2.Request, books: Books) -> httpx2.Response:
        response = await good(request, books)
        await trio.sleep(seconds)
        return response

    return answer


def slow(seconds: float) -> Answer:
    async def answer(request: httpx2.Request, books: Books) -> httpx2.Response:
        await trio.sleep(seconds)
        return await good(request, books)

    return answer


async def dripping(request: httpx2.Request, books: Books) -> httpx2.Response:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            await trio.sleep(1.0)
            yield b" "

    return httpx2.Response(200, content=drip())


async def huge(request: httpx2.Request, books: Books) -> httpx2.Response:
    async def pour() -> AsyncIterator[bytes]:
        while True:
            await trio.lowlevel.checkpoint()
            yield b" " * 2**20

    return httpx2.Response(200, content=pour())


async def breaks(request: httpx2.Request, books: Books) -> httpx2.Response:
    raise httpx2.ReadError("connection reset by peer")


def book_of_no(*, at_seconds: float) -> Act:
    """The book that was withheld, so late."""

    async def dump(visit: Visit) -> None:
        await trio.sleep(at_seconds)
        await visit.send(visit.server.books.snapshot(NO))

    return dump


async def test_a_missing_first_book_is_redriven_after_its_deadline(
    play: Play, autojump_clock: object
) -> None:
    async def forgetful(visit: Visit) -> None:
        """Forgets the first book of NO, and sends it when asked again."""
        await visit.subscription()
        await visit.send([visit.server.books.snapshot(YES)])
        while True:
            text = await visit.receive()
            if text == "PING":
                await visit.send("PONG")
            elif NO in visit.note(json.loads(text)):
                await visit.send([visit.server.books.snapshot(NO)])

    async with play(forgetful) as run:
        await run.all_live()
        assert trio.current_time() == pytest.approx(10.0)
        await run.check_books()
        assert run.path_of(YES) == LIVE
        assert run.path_of(NO) == [*NEVER_DELIVERED, (TrustState.LIVE, None)]
        redrive = [(at, text) for at, text in run.visits[0].received if "operation" in text]
        assert [at for at, _ in redrive] == pytest.approx([10.0, 10.0])
        first, second = [json.loads(text) for _, text in redrive]
        assert (first["operation"], first["assets_ids"]) == ("unsubscribe", [NO])
        assert (second["operation"], second["assets_ids"]) == ("subscribe", [NO])


async def test_a_book_that_never_comes_is_fetched_and_spliced_into_the_changes(
    play: Play, autojump_clock: object
) -> None:
    rest = ScriptedRest()
    async with play(serve(withheld=[NO]), rest=rest) as run:
        await run.all_live()
        assert trio.current_time() == pytest.approx(20.0)
        await run.check_books()
        assert [request[1:] for request in rest.requests] == [("/books", [NO])]
        assert next(event.cause for event in run.of(BookUpdated) if event.token == NO) == "rest"
        await trio.sleep(60)
        await run.check_books()
        assert run.path_of(NO) == [*NEVER_DELIVERED, (TrustState.LIVE, None)]
        assert run.path_of(YES) == LIVE
        assert run.service.statistics.desyncs == 0


@pytest.mark.parametrize(
    "answers",
    [
        [says(500, b"oops")],
        [says(503, b"")],
        [says(429, b"slow down")],
        [says(404, b"{}")],
        [says(200, b"not JSON")],
        [says(200, b"")],
        [says(200, b'{"error":"no"}')],
        [says(200, b"[1, null, {}]")],
        [says(200, b"\xff\xfe")],
        [says(301, b"")],
        [breaks],
        [huge],
        [dripping],
        [slow(1e6)],
        [says(200, b"[]"), says(500, b"")],
        [says(200, b"[]"), says(200, b"not JSON")],
        [says(200, b"[]"), slow(1e6)],
        [says(500, b"")] * 5,
    ],
)
async def test_whatever_rest_answers_the_book_comes_right_in_the_end(
    play: Play,
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[Answer],
) -> None:
    monkeypatch.setattr("polyactors.rest.ANSWER_BYTES_MAX", 4 * 2**20)
    rest = ScriptedRest(*answers)
    async with play(serve(withheld=[NO]), rest=rest) as run:
        await run.all_live(seconds=400.0)
        await run.check_books()
        await trio.sleep(30)
        await run.check_books()
        assert run.path_of(YES) == LIVE
        assert run.of(ActorRestarted) == []
        assert len(rest.requests) == len(answers) + 1


async def test_a_rest_book_from_before_the_changes_that_we_hold_is_refused(
    play: Play, autojump_clock: object
) -> None:
    stale = says(200, json.dumps([Books([NO]).rest_book(NO)]).encode())
    rest = ScriptedRest(stale, stale)
    async with play(serve(withheld=[NO]), rest=rest) as run:
        await run.all_live(seconds=400.0)
        assert len(rest.requests) == 3
        await run.check_books()
        assert run.path_of(NO)[-1] == (TrustState.LIVE, None)
        assert (TrustState.LIVE, None) not in run.path_of(NO)[:-1]


async def test_a_rest_book_that_is_ahead_of_the_stream_waits_for_it(
    play: Play, autojump_clock: object
) -> None:
    """The server makes changes that it sends 1.5 s later; REST has them at once."""

    async def tick(visit: Visit) -> None:
        number = 0
        while True:
            await trio.sleep(0.5)
            number += 1
            for token in (YES, NO):
                change = visit.server.books.change(token, "0.5", str(number))
                visit.nursery.start_soon(deliver, visit, change)

    async def deliver(visit: Visit, change: dict[str, Any]) -> None:
        await trio.sleep(1.5)  # within what an audit grants
        await visit.send(change)

    behind = serve(tick_seconds=None, withheld=[NO], beside=tick)
    async with play(behind, rest=ScriptedRest()) as run:
        await run.until(lambda: run.state(NO) is TrustState.LIVE)
        assert run.service.book(NO).to_wire() == run.server.books.levels(NO), "REST was ahead"
        sizes: list[int] = []
        for _ in range(30):
            sizes.append(int(run.service.book(NO).to_wire()["bids"][-1]["size"]))
            await trio.sleep(0.5)
        # No change that the REST book held already was applied on top of it.
        assert sizes == sorted(sizes)
        assert sizes[0] >= 39  # two a second
        assert sizes[-1] > sizes[0] + 20
        assert run.path_of(NO) == [*NEVER_DELIVERED, (TrustState.LIVE, None)]
        assert run.service.statistics.desyncs == 0


async def test_a_rest_answer_that_comes_late_is_spliced_at_its_own_moment(
    play: Play, autojump_clock: object
) -> None:
    rest = ScriptedRest(late(9.5))
    async with play(serve(withheld=[NO], tick_seconds=0.3), rest=rest) as run:
        await run.all_live()
        assert trio.current_time() == pytest.approx(29.5)
        await run.check_books()
        assert len(rest.requests) == 1


async def test_a_book_that_comes_by_itself_while_rest_hangs_is_taken_and_rest_is_not(
    play: Play,
    autojump_clock: object,
) -> None:
    act = serve(withheld=[NO], beside=book_of_no(at_seconds=22.5))
    async with play(act, rest=ScriptedRest(late(6.0))) as run:
        await run.all_live()
        assert trio.current_time() == pytest.approx(22.5)
        await trio.sleep(30)
        await run.check_books()
        assert {event.cause for event in run.of(BookUpdated)} == {"snapshot", "delta"}


async def test_a_session_that_ends_while_rest_is_asked_takes_its_question_along(
    play: Play, autojump_clock: object
) -> None:
    rest = ScriptedRest(late(9.0))
    async with play(serve(withheld=[NO], seconds=23.0), serve(), rest=rest) as run:
        await trio.sleep(60)
        await run.check_books()
        assert "rest" not in {event.cause for event in run.of(BookUpdated)}
        assert len(rest.requests) == 1


async def test_an_answer_to_a_question_of_the_session_before_is_not_taken(
    play: Play, autojump_clock: object
) -> None:
    acts = [serve(withheld=[NO], tick_seconds=None, seconds=seconds) for seconds in (5.0, None)]
    rest = ScriptedRest(late(9.0))
    async with play(*acts, rest=rest, first_book_deadline_seconds=2.0) as run:
        await run.all_live()
        # Asked after 4 s, and again in the next session, long before the first answer at 13 s.
        assert trio.current_time() > 13.1
        assert len(rest.requests) == 2
        await run.check_books()


async def test_a_token_that_rest_does_not_know_is_stale_and_rarely_asked_for_again(
    play: Play,
    autojump_clock: object,
) -> None:
    act = serve(withheld=[NO], beside=book_of_no(at_seconds=300.0))
    rest = ScriptedRest(unknown=(NO,))
    async with play(act, rest=rest) as run:
        await trio.sleep(290)
        # Its deltas come all the same: it is tried again, a minute after each refusal.
        asked = [path for _, path, _ in rest.requests]
        assert asked[:2] == ["/books", "/book"]
        assert len(asked) <= 2 * 5
        unknown = (TrustState.STALE, StaleReason.UNKNOWN_TOKEN)
        assert run.path_of(NO)[: len(NEVER_DELIVERED) + 1] == [*NEVER_DELIVERED, unknown]
        assert run.path_of(YES) == LIVE
        rest.unknown = ()  # which the audit would hear as well
        await trio.sleep(20)  # a book is the better witness
        assert run.state(NO) is TrustState.LIVE
        await run.check_books()


async def test_a_book_of_another_token_is_not_adopted(play: Play, autojump_clock: object) -> None:
    async def confused(request: httpx2.Request, books: Books) -> httpx2.Response:
        book = books.rest_book(YES)
        return httpx2.Response(200, json=[book] if request.method == "POST" else book)

    rest = ScriptedRest(confused, confused)
    async with play(serve(withheld=[NO]), rest=rest) as run:
        await run.until(lambda: len(rest.requests) == 2)
        await trio.sleep(1.0)
        assert run.state(NO) is TrustState.SYNCING
        await run.all_live()
        await run.check_books()


async def test_without_rest_the_others_live_and_the_redrives_back_off(
    play: Play, autojump_clock: object
) -> None:
    async with play(serve(withheld=[NO])) as run:
        await trio.sleep(600)
        assert run.path_of(YES) == LIVE
        assert run.state(NO) is not TrustState.LIVE
        redrives = [f for f in run.visits[0].frames if f.get("operation") == "subscribe"]
        assert 10 <= len(redrives) <= 30
        assert run.downs == []
        assert run.of(ActorRestarted) == []


async def test_the_books_that_rest_has_are_not_held_back_by_those_that_it_has_not(
    play: Play,
    autojump_clock: object,
) -> None:
    tokens = [str(number) for number in range(1, 101)]

    async def reluctant(request: httpx2.Request, books: Books) -> httpx2.Response:
        if request.method == "GET":
            await trio.sleep(9.0)
        return await good(request, books, unknown=tuple(tokens[:50]))

    act = serve(withheld=tokens, tick_seconds=3.0)
    async with play(act, tokens=tokens, rest=reluctant) as run:
        await run.until(lambda: run.service.states()["LIVE"] == 50)
        assert trio.current_time() == pytest.approx(20.0)


async def test_a_lookup_that_fails_loses_no_book_and_ends_the_lookups_of_its_batch(
    play: Play,
    autojump_clock: object,
) -> None:
    tokens = [str(number) for number in range(1, 11)]
    lookups = 0

    async def rest(request: httpx2.Request, books: Books) -> httpx2.Response:
        nonlocal lookups
        if request.method == "POST":
            return await good(request, books, unknown=("3", "4", "5"))
        lookups += 1
        await trio.sleep_forever()
        raise AssertionError

    async with play(serve(withheld=tokens), tokens=tokens, rest=rest) as run:
        await run.until(lambda: run.service.states()["LIVE"] == 7)
        assert trio.current_time() == pytest.approx(20.0)
        await trio.sleep(10.5)
        assert lookups == 1
        assert run.of(ActorRestarted) == []


async def test_only_so_many_tokens_are_looked_up_one_by_one(
    play: Play, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 101)]
    rest = ScriptedRest(unknown=tuple(tokens))
    async with play(serve(withheld=tokens), tokens=tokens, rest=rest) as run:
        await trio.sleep(29.9)
        paths = [path for _, path, _ in rest.requests]
        assert paths.count("/book") == SINGLE_REQUESTS_MAX
        assert unknown_of(run) == SINGLE_REQUESTS_MAX
        times = [at for at, _, _ in rest.requests]
        assert all(after - before > 0.2 for before, after in pairwise(times))
        await run.until(lambda: unknown_of(run) == 100, seconds=600.0)


def unknown_of(run: Run) -> int:
    return sum(
        run.service.trust(token).reason is StaleReason.UNKNOWN_TOKEN for token in run.service.tokens
    )


async def test_questions_of_several_feeds_go_out_in_one_request(
    play: Play, autojump_clock: object
) -> None:
    rest = ScriptedRest(slow(5.0))
    async with play(serve(withheld=[YES, NO]), rest=rest, tokens_per_connection=1) as run:
        await run.all_live()
        await run.check_books()
        assert [path for _, path, _ in rest.requests] == ["/books"] * len(rest.requests)
        assert len(rest.requests) <= 2


async def test_a_rest_side_is_never_asked_for_what_the_stream_delivers(
    play: Play, autojump_clock: object
) -> None:
    rest = ScriptedRest()
    async with play(serve(seconds=30), serve(), rest=rest) as run:
        await trio.sleep(120)
        await run.check_books()
    assert rest.requests == []


async def test_a_storm_of_thousands_of_tokens_keeps_to_the_limits_and_is_over_soon(
    play: Play, autojump_clock: object
) -> None:
    """Half of all books never come, all are audited, and then every feed falls silent."""
    tokens = [str(number) for number in range(1, 5001)]
    withheld = tokens[::2]
    requests: dict[str, list[float]] = {"/books": [], "/book": []}

    async def rest(request: httpx2.Request, books: Books) -> httpx2.Response:
        requests[request.url.path].append(trio.current_time())
        await trio.sleep(0.05)
        return await good(request, books, unknown=tuple(tokens[:20]))

    act = serve(withheld=withheld, tick_seconds=None)
    async with play(act, tokens=tokens, rest=rest, first_book_deadline_seconds=5.0) as run:
        # From the last redrive on: REST is asked about 2,500 books.
        await run.until(lambda: run.service.states()["LIVE"] >= 4980, seconds=60.0)
        assert trio.current_time() < 40.0
        await trio.sleep(90.0)  # audits in their second round, and three probes of each feed
        assert run.downs == []
        assert run.service.statistics.probes["quiet"] >= 2 * 25
        assert run.service.statistics.audits >= 3 * 4980
        assert run.service.states()["LIVE"] == 4980
    assert busiest(requests["/books"]) <= 250, "half of Polymarket's limit"
    assert busiest(requests["/book"]) <= 300, "a fifth of Polymarket's limit"


def busiest(times: list[float]) -> int:
    """The most requests in any 10 s."""
    return max(sum(start <= at < start + 10.0 for at in times) for start in times)


async def test_an_outage_of_rest_is_told_once_and_so_is_its_end(
    play: Play, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    rest = ScriptedRest(*[says(503, b"")] * 8)
    async with play(serve(withheld=[NO]), rest=rest) as run:
        await run.until(lambda: run.state(NO) is TrustState.LIVE, seconds=1000.0)
        assert len(rest.requests) == 9
        told = [message for message in caplog.messages if "no snapshots by REST" in message]
        assert 1 <= len(told) <= 1 + trio.current_time() / 300.0
        assert "HTTP 503" in told[0]


async def test_a_shard_that_takes_nothing_does_not_hold_up_the_answers_of_others(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyactors.tree.MAILBOX_BATCHES", 1)
    serve_books = books_actor._serve  # pyright: ignore[reportPrivateUsage]

    async def stuck(ctx: Any, feed: Feed, shard: Any, handle: Any) -> bool:
        if feed.id == "feed-0" and trio.current_time() > 19.99:  # it has asked
            await trio.sleep_forever()
        return await serve_books(ctx, feed, shard, handle)

    monkeypatch.setattr(books_actor, "_serve", stuck)
    act = serve(withheld=[YES, NO], tick_seconds=0.5)
    async with play(act, rest=ScriptedRest(late(1.0)), tokens_per_connection=1) as run:
        await run.until(lambda: run.state(NO) is TrustState.LIVE, seconds=60.0)
        assert 21.0 < trio.current_time() < 22.0 + ANSWER_SECONDS_MAX
        await run.stop(cancelled=True)
