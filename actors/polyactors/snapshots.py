"""The snapshots actor: books by REST for tokens whose book never came over the WebSocket.

Questions coalesce by token, go out in batches, and every one is answered, if only by "no
answer": how to go on is the shard's decision. Paced far below Polymarket's limits (/books 500
requests per 10 s); past them the exchange does not refuse but queues, and answers come late.
"""

from contextlib import suppress

import trio

from polyactors.errors import RestFailed
from polyactors.logger import log
from polyactors.messages import FetchBook, RestBook, ShardMessage
from polyactors.protocol.events import BookSnapshot
from polyactors.rest import BOOKS_PER_REQUEST_MAX, RestClient
from polysupervisor import Address, Context

REQUEST_INTERVAL_SECONDS = 0.25
SINGLE_REQUESTS_MAX = 20
"""Tokens missing from one answer that are asked for one by one, to tell unknown from late."""


async def run_snapshots(
    ctx: Context[FetchBook], rest: RestClient, shards: "dict[str, Address[ShardMessage]]"
) -> None:
    """Answer FetchBook by RestBook until stopped. `shards`: where the books of a feed live."""
    ctx.ready()
    while True:
        questions = await ctx.inbox.receive_batch(BOOKS_PER_REQUEST_MAX)
        lookups = SINGLE_REQUESTS_MAX
        try:
            books = await rest.fetch_books([question.token for question in questions])
        except RestFailed as error:
            log.warning("no snapshots by REST", tokens=len(questions), why=str(error))
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
                    log.warning("no snapshot by REST", token=question.token, why=str(error))
                    lookups = 0  # it may be REST that ails: the others must not wait for that
            await _answer(shards, question, book, is_unknown=is_unknown)
        await trio.sleep(REQUEST_INTERVAL_SECONDS)


async def _answer(
    shards: "dict[str, Address[ShardMessage]]",
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
    with suppress(trio.BrokenResourceError):
        await address.send(answer)
