"""The snapshots actor: books by REST for tokens whose book never came over the WebSocket.

Questions coalesce by token, go out in batches, and every one is answered, if only by "no
answer": how to go on is the shard's decision. Paced far below Polymarket's limits (/books 500
requests per 10 s); past them the exchange does not refuse but queues, and answers come late.
"""

import trio

from polyactors.environment import log
from polyactors.errors import RestFailed
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
        books, unknown = await _fetch(rest, [question.token for question in questions])
        for question in questions:
            address = shards.get(question.feed)
            if address is not None:
                await address.send(
                    RestBook(
                        question.feed,
                        question.epoch,
                        question.token,
                        books.get(question.token),
                        question.token in unknown,
                    )
                )
        await trio.sleep(REQUEST_INTERVAL_SECONDS)


async def _fetch(
    rest: RestClient, tokens: list[str]
) -> tuple[dict[str, BookSnapshot], frozenset[str]]:
    """The books that REST has, and the tokens that it does not know."""
    try:
        books = await rest.fetch_books(tokens)
        unknown: set[str] = set()
        for token in [token for token in tokens if token not in books][:SINGLE_REQUESTS_MAX]:
            await trio.sleep(REQUEST_INTERVAL_SECONDS)
            book = await rest.fetch_book(token)
            if book is None:
                unknown.add(token)
            else:
                books[token] = book
    except RestFailed as error:
        log.warning("no snapshot by REST", tokens=len(tokens), why=str(error))
        return {}, frozenset()
    return books, frozenset(unknown)
