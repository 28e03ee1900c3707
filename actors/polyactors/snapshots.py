"""The snapshots actor: books by REST for tokens whose book never came over the WebSocket.

Questions coalesce by token, go out in batches, and every one is answered, if only by "no
answer": how to go on is the shard's decision. Paced far below Polymarket's limits (/books 500
requests per 10 s); past them the exchange does not refuse but queues, and answers come late.
The audit is another actor, with another pace: it holds up no fetch.
"""

from collections.abc import Mapping
from contextlib import suppress

import trio

from polyactors.errors import RestFailed
from polyactors.logger import Outage
from polyactors.messages import FetchBook, RestBook, ShardMessage
from polyactors.protocol.events import BookSnapshot
from polyactors.rest import BOOKS_PER_REQUEST_MAX, RestClient
from polysupervisor import Address, Context

REQUEST_INTERVAL_SECONDS = 0.25
SINGLE_REQUESTS_MAX = 20
"""Tokens missing from one answer that are asked for one by one, to tell unknown from late."""
ANSWER_SECONDS_MAX = 5.0
"""A shard that takes no message for so long goes without: it asks again, the others cannot wait."""


async def run_snapshots(
    ctx: Context[FetchBook],
    rest: RestClient,
    shards: "Mapping[str, Address[ShardMessage]]",
    outage: Outage,
) -> None:
    """Answer FetchBook by RestBook until stopped. `shards`: where the books of a feed live.

    `outage` outlives this actor and says in the log when REST does not answer.
    """
    ctx.ready()
    while True:
        questions = await ctx.inbox.receive_batch(BOOKS_PER_REQUEST_MAX)
        lookups = SINGLE_REQUESTS_MAX
        try:
            books = await rest.fetch_books([question.token for question in questions])
            outage.end(trio.current_time(), "REST gives snapshots again")
        except RestFailed as error:
            _warn(outage, error)
            books, lookups = {}, 0
        missing: list[FetchBook] = []
        for question in questions:
            if question.token in books:
                await _answer(shards, question, books[question.token])
            else:
                missing.append(question)
        for question in missing:
            book, is_unknown = None, False
            if lookups > 0:
                lookups -= 1
                await trio.sleep(REQUEST_INTERVAL_SECONDS)
                try:
                    book = await rest.fetch_book(question.token)
                    is_unknown = book is None
                except RestFailed as error:
                    _warn(outage, error)
                    lookups = 0  # it may be REST that ails: the others must not wait for that
            await _answer(shards, question, book, is_unknown=is_unknown)
        await trio.sleep(REQUEST_INTERVAL_SECONDS)


def _warn(outage: Outage, error: RestFailed) -> None:
    what = "no snapshots by REST for books that never came, trying again"
    outage.warn(trio.current_time(), what, why=str(error))


async def _answer(
    shards: "Mapping[str, Address[ShardMessage]]",
    question: FetchBook,
    book: BookSnapshot | None,
    *,
    is_unknown: bool = False,
) -> None:
    address = shards.get(question.feed)
    if address is None:
        return
    answer = RestBook(question.feed, question.epoch, question.token, book, is_unknown)
    # Broken: the books have ended for good, what asked is gone, and we are stopped next.
    with trio.move_on_after(ANSWER_SECONDS_MAX), suppress(trio.BrokenResourceError):
        await address.send(answer)
