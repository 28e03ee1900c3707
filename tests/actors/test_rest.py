"""The REST client against servers that fail in every way: all of it becomes RestFailed."""

import gzip
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
import trio
import trio.testing
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from tests.actors.scripted_server import NO, SETTINGS, YES, Books, Rest

from polyactors.errors import RestFailed, UsageError
from polyactors.quota import Quota
from polyactors.rest import (
    BOOK_REQUESTS_MAX,
    BOOKS_AT_ONCE_MAX,
    BOOKS_PER_REQUEST_MAX,
    BOOKS_REQUESTS_MAX,
    RestClient,
    check_url,
)
from polyactors.transport import Network

BOOKS = Books((YES, NO))


def client(handler: Rest, **settings: Any) -> RestClient:
    network = Network(http_transport=lambda: httpx2.MockTransport(handler))
    return RestClient(evolve(SETTINGS, **settings), network)


def says(status: int = 200, body: bytes = b"", **headers: str) -> Rest:
    async def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=body, headers=headers)

    return handler


def raises(error: Exception) -> Rest:
    async def handler(request: httpx2.Request) -> httpx2.Response:
        raise error

    return handler


def streams(make: Callable[[], AsyncIterator[bytes]]) -> Rest:
    async def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=make())

    return handler


async def drip() -> AsyncIterator[bytes]:
    while True:
        await trio.sleep(1.0)
        yield b" "


async def pour() -> AsyncIterator[bytes]:
    while True:
        await trio.lowlevel.checkpoint()
        yield b" " * 2**20


async def break_off() -> AsyncIterator[bytes]:
    yield b"[{"
    raise httpx2.RemoteProtocolError("peer closed connection without sending complete body")


async def hang(request: httpx2.Request) -> httpx2.Response:
    await trio.sleep_forever()
    raise AssertionError


ASKS: dict[str, Callable[[RestClient], Awaitable[object]]] = {
    "books": lambda rest: rest.fetch_books([YES]),
    "book": lambda rest: rest.fetch_book(YES),
    "markets": lambda rest: rest.fetch_markets({"closed": "false"}),
    "event": lambda rest: rest.fetch_event_markets("slug"),
}
FAILURES: list[tuple[Rest, str]] = [
    (says(500, b"oops"), "HTTP 500"),
    (says(503), "HTTP 503"),
    (says(429, b"slow down"), "HTTP 429"),
    (says(403), "HTTP 403"),
    (says(204), "HTTP 204"),
    (says(200, b"<html>"), ""),
    (says(200, b""), ""),
    (says(200, b"\xff\xfe\x00"), ""),
    (says(200, b'"text"'), ""),
    (says(200, b"[" * 100_000), ""),
    (says(200, b"not gzip", **{"content-encoding": "gzip"}), ""),
    (says(301, b"", location="http://clob.test/books"), "redirects"),
    (says(301, b"", location="ftp://elsewhere.test/"), ""),
    (raises(httpx2.ConnectError("refused")), "refused"),
    (raises(httpx2.ConnectTimeout("")), "ConnectTimeout"),
    (raises(httpx2.ReadError("reset by peer")), "reset by peer"),
    (raises(httpx2.RemoteProtocolError("illegal status line")), "illegal"),
    (raises(OSError(101, "Network is unreachable")), "unreachable"),
    (hang, "no answer within 10 s"),
    (streams(drip), "no answer within 10 s"),
    (streams(pour), "more than"),
    (streams(break_off), "peer closed"),
]


@pytest.mark.parametrize(("handler", "words"), FAILURES)
@pytest.mark.parametrize("ask", ASKS, ids=list(ASKS))
async def test_every_failure_becomes_one_sentence_in_time(
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
    handler: Rest,
    words: str,
    ask: str,
) -> None:
    monkeypatch.setattr("polyactors.rest.ANSWER_BYTES_MAX", 4 * 2**20)
    start = trio.current_time()
    async with client(handler) as rest:
        with pytest.raises(RestFailed) as caught:
            await ASKS[ask](rest)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value)
    assert trio.current_time() - start <= 10.0


async def test_books_come_by_token_and_unknown_ones_are_left_out() -> None:
    seen: list[httpx2.Request] = []

    async def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=[BOOKS.rest_book(YES)])

    async with client(handler, clob_url="http://clob.test/") as rest:
        books = await rest.fetch_books([YES, NO])
    assert list(books) == [YES]
    assert books[YES].neg_risk is False
    assert str(seen[0].url) == "http://clob.test/books"
    assert seen[0].headers["content-type"] == "application/json"
    assert json.loads(seen[0].content) == [{"token_id": YES}, {"token_id": NO}]


async def test_one_bad_book_does_not_lose_the_others_and_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = json.dumps([{"asset_id": NO}, 7, BOOKS.rest_book(YES)]).encode()
    async with client(says(200, body)) as rest:
        assert list(await rest.fetch_books([YES, NO])) == [YES]
    assert caplog.messages == ["unreadable books by REST books=2 why='has no market'"]


async def test_a_book_that_can_never_be_read_is_said_once(
    caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    bodies = [[{"asset_id": NO}], [BOOKS.rest_book(YES)]] * 50

    async def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=bodies.pop())

    async with client(handler) as rest:
        while bodies:
            await rest.fetch_books([YES])
            await trio.sleep(1.0)
    assert len(caplog.messages) == 1


async def test_reading_a_large_answer_lets_others_work_in_between() -> None:
    books = [BOOKS.rest_book(YES) | {"asset_id": str(n)} for n in range(BOOKS_PER_REQUEST_MAX)]
    turns = 0
    answered = 0

    async def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal answered
        answered = turns
        return httpx2.Response(200, json=books)

    async with client(handler) as rest, trio.open_nursery() as nursery:

        async def work() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(work)
        found = await rest.fetch_books([str(n) for n in range(BOOKS_PER_REQUEST_MAX)])
        assert len(found) == BOOKS_PER_REQUEST_MAX
        assert turns - answered >= BOOKS_PER_REQUEST_MAX // BOOKS_AT_ONCE_MAX - 1
        nursery.cancel_scope.cancel()


async def test_requests_for_books_keep_to_their_quota_however_many_ask(
    autojump_clock: object,
) -> None:
    times: dict[str, list[float]] = {"POST": [], "GET": []}

    async def handler(request: httpx2.Request) -> httpx2.Response:
        times[request.method].append(trio.current_time())
        book = BOOKS.rest_book(YES)
        return httpx2.Response(200, json=[book] if request.method == "POST" else book)

    async with client(handler) as rest, trio.open_nursery() as nursery:
        for _ in range(2 * BOOKS_REQUESTS_MAX + 1):
            nursery.start_soon(rest.fetch_books, [YES])
        for _ in range(BOOK_REQUESTS_MAX + 1):
            nursery.start_soon(rest.fetch_book, YES)
    at = Counter(times["POST"])
    assert at == {0.0: BOOKS_REQUESTS_MAX, 10.0: BOOKS_REQUESTS_MAX, 20.0: 1}
    assert Counter(times["GET"]) == {0.0: BOOK_REQUESTS_MAX, 10.0: 1}


async def test_one_that_gives_up_its_turn_takes_nobody_elses(autojump_clock: object) -> None:
    quota = Quota(2, 10.0)
    turns: list[tuple[str, float]] = []

    async def take(name: str, patience_seconds: float) -> None:
        with trio.move_on_after(patience_seconds):
            await quota.wait_turn()
            turns.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for number, (name, patience_seconds) in enumerate(
            [("a", 99.0), ("b", 99.0), ("impatient", 5.0), ("c", 99.0), ("d", 99.0), ("e", 99.0)]
        ):
            nursery.start_soon(take, name, patience_seconds)
            await trio.sleep(0.1 * (number == 0))
    assert [at for _, at in sorted(turns, key=lambda turn: turn[1])] == pytest.approx(
        [0.0, 0.1, 10.0, 10.1, 20.0]
    )
    assert "impatient" not in dict(turns)


@given(st.lists(st.floats(0.0, 5.0), max_size=40), st.integers(1, 5))
def test_no_window_ever_holds_more_than_the_quota(waits: list[float], count_max: int) -> None:
    turns: list[float] = []

    async def main() -> None:
        quota = Quota(count_max, 10.0)
        for wait_seconds in waits:
            await trio.sleep(wait_seconds)
            await quota.wait_turn()
            turns.append(trio.current_time())

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))
    for first, beyond in zip(turns, turns[count_max:], strict=False):
        assert beyond - first >= 10.0 - 1e-9


async def test_no_more_tokens_are_asked_for_than_a_request_takes() -> None:
    async with client(says()) as rest:
        with pytest.raises(AssertionError):
            await rest.fetch_books([str(n) for n in range(BOOKS_PER_REQUEST_MAX + 1)])


async def test_a_404_of_one_book_is_an_unknown_token() -> None:
    async with client(says(404, b'{"error":"No orderbook exists"}')) as rest:
        assert await rest.fetch_book(YES) is None
        with pytest.raises(RestFailed):  # of the listing's path it is a fault
            await rest.fetch_books([YES])
        with pytest.raises(RestFailed):
            await rest.fetch_markets({})
        assert await rest.fetch_event_markets("slug") == ()


async def test_the_book_of_another_token_is_no_answer() -> None:
    async with client(says(200, json.dumps(BOOKS.rest_book(NO)).encode())) as rest:
        with pytest.raises(RestFailed, match=f"asked for {YES}, got {NO}"):
            await rest.fetch_book(YES)


async def test_compressed_answers_and_redirects_are_followed() -> None:
    body = gzip.compress(json.dumps(BOOKS.rest_book(YES)).encode())

    async def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "clob.test":
            location = str(request.url.copy_with(host="moved.test"))
            return httpx2.Response(307, headers={"location": location})
        return httpx2.Response(200, content=body, headers={"content-encoding": "gzip"})

    async with client(handler) as rest:
        book = await rest.fetch_book(YES)
    assert book is not None
    assert book.token == YES


async def test_a_small_answer_that_unpacks_to_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polyactors.rest.ANSWER_BYTES_MAX", 2**20)
    bomb = gzip.compress(b" " * 16 * 2**20)
    async with client(says(200, bomb, **{"content-encoding": "gzip"})) as rest:
        with pytest.raises(RestFailed, match="more than"):
            await rest.fetch_book(YES)


async def test_a_refused_connection_fails_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
    settings = evolve(SETTINGS, clob_url=f"http://127.0.0.1:{port}")
    async with RestClient(settings, Network()) as rest:
        with pytest.raises(RestFailed, match=str(port)):
            await rest.fetch_book(YES)


async def test_a_cancelled_request_ends_at_once_and_the_client_can_be_used_again(
    autojump_clock: object,
) -> None:
    answers: list[Rest] = [hang, says(200, json.dumps(BOOKS.rest_book(YES)).encode())]

    async def handler(request: httpx2.Request) -> httpx2.Response:
        return await answers.pop(0)(request)

    async with client(handler) as rest:
        with trio.move_on_after(1.0) as scope:
            await rest.fetch_book(YES)
        assert scope.cancelled_caught
        assert trio.current_time() == 1.0
        assert await rest.fetch_book(YES) is not None


@pytest.mark.parametrize(
    "url", ["", "clob.test", "ftp://clob.test", "http://", "http://h:port", "http://[::1"]
)
def test_a_wrong_url_is_the_users_mistake(url: str) -> None:
    with pytest.raises(UsageError, match="clob_url"):
        check_url("clob_url", url)
