"""The audit: the actor that holds every LIVE book against REST's, round after round.

What no later message of the stream can reveal, a lost last change, is found in no other way. A
book is asked for at least every half of `audit_seconds`, so that one that went wrong is named
within all of it, a grace and a second opinion included. What an answer means is for the shard to
say; which book is asked for when is in audit_round.py.
"""

from collections.abc import Mapping, Sequence

import trio

from polyactors.audit_round import REQUEST_INTERVAL_SECONDS, AuditRound, Key
from polyactors.book.trust import StaleReason, Trust, TrustState
from polyactors.environment import Environment
from polyactors.errors import RestFailed
from polyactors.feed import Feed
from polyactors.logger import Outage, log
from polyactors.messages import AuditAgain, Audited, ShardMessage
from polyactors.protocol.events import BookSnapshot
from polyactors.rest import BOOKS_PER_REQUEST_MAX, RestClient
from polysupervisor import Address, Context

FEEDS_SECONDS = 1.0
"""How often it is looked whether there are further feeds."""
LOADING_SECONDS_MAX = 5.0
"""How long at most books that REST was never asked for wait for all the others of their feed."""
SINGLE_REQUESTS_MAX = 10
"""In one period: tokens missing from answers that are asked for one by one, to tell those that
REST does not know from those that it left out."""


async def run_audit(
    ctx: Context[AuditAgain],
    env: Environment,
    rest: RestClient,
    feeds: Sequence[Feed],
    shards: Mapping[str, Address[ShardMessage]],
    outage: Outage,
) -> None:
    """Send Audited to the shards until stopped.

    `feeds` and `shards` (by feed) are the service's own and may grow. `outage` outlives this
    actor and says in the log when REST does not answer. No more than one request is under way;
    a shard that takes no more messages misses its answer, which its next turn makes up for.
    """
    auditor = _Auditor(env, rest, feeds, shards, outage)
    ctx.ready()
    while True:
        due = min(auditor.round.next_due(), trio.current_time() + FEEDS_SECONDS)
        with trio.move_on_at(due):
            for suspicion in await ctx.inbox.receive_batch():
                auditor.round.again(Key(suspicion.feed, suspicion.token))
        auditor.look_for_feeds()
        keys = auditor.round.take(trio.current_time(), auditor.is_asked, auditor.is_loading)
        if keys:
            await auditor.ask(keys)


class _Auditor:
    def __init__(
        self,
        env: Environment,
        rest: RestClient,
        feeds: Sequence[Feed],
        shards: Mapping[str, Address[ShardMessage]],
        outage: Outage,
    ) -> None:
        self.round = AuditRound(env.settings.audit_seconds / 2)
        self._statistics = env.statistics
        self._rest = rest
        self._all_feeds = feeds
        self._shards = shards
        self._outage = outage
        self._feeds: dict[str, Feed] = {}
        """Those that take part in the round."""
        self._told_too_large = False
        self._singles_left = SINGLE_REQUESTS_MAX
        self._singles_since_seconds = trio.current_time()

    def look_for_feeds(self) -> None:
        """Let those feeds take part that there are now."""
        present = {feed.id: feed for feed in self._all_feeds}
        if present == self._feeds:
            return
        for feed in self._feeds.values():
            if present.get(feed.id) is not feed:
                self.round.leave(Key(feed.id, token) for token in feed.tokens)
        for feed in present.values():
            if self._feeds.get(feed.id) is not feed:
                self.round.join(Key(feed.id, token) for token in feed.tokens)
        self._feeds = present
        if self.round.is_too_large and not self._told_too_large:
            self._told_too_large = True
            log.warning(
                "too many books: REST cannot be asked about each so often, rounds take longer",
                books=len(self.round),
                every_seconds=self.round.period_seconds,
            )

    def is_asked(self, key: Key) -> bool:
        """Whether REST may have news: a believed book, or one that REST did not know."""
        trust = self._trust(key)
        return trust.state is TrustState.LIVE or trust.reason is StaleReason.UNKNOWN_TOKEN

    def is_loading(self, feed_id: str) -> bool:
        """Whether the first books of a session are still coming in. To read as many again from
        REST would double the time until they all are there."""
        feed = self._feeds.get(feed_id)
        if feed is None or feed.epoch is None:
            return False
        is_young = trio.current_time() < feed.session_since_seconds + LOADING_SECONDS_MAX
        return is_young and any(one.state is not TrustState.LIVE for one in feed.trust.values())

    def _trust(self, key: Key) -> Trust:
        """The book's, EMPTY without a live session."""
        feed = self._feeds.get(key.feed)
        return Trust() if feed is None or feed.epoch is None else feed.trust[key.token]

    async def ask(self, keys: Sequence[Key]) -> None:
        """One request for these books; the shards hear what came of it."""
        epochs = {key.feed: self._feeds[key.feed].epoch for key in keys}
        tokens = list(dict.fromkeys(key.token for key in keys))
        began = trio.current_time()
        try:
            books = await self._rest.fetch_books(tokens[:BOOKS_PER_REQUEST_MAX])
        except RestFailed as error:
            self._statistics.audit_requests_failed += 1
            now = trio.current_time()
            self.round.failed(began, now, keys)
            what = "REST does not answer: books are not held against it, trying again"
            self._outage.warn(now, what, why=str(error))
            return
        self.round.answered(began, trio.current_time())
        self._outage.end(trio.current_time(), "REST answers the audit again")
        self._tell(keys, epochs, books, frozenset())
        live = (key for key in keys if self._trust(key).state is TrustState.LIVE)
        missing = [key for key in live if key.token not in books]
        if missing:
            await self._ask_singly(missing, epochs)

    async def _ask_singly(self, keys: Sequence[Key], epochs: Mapping[str, int | None]) -> None:
        """REST leaves tokens out that it does not know, and says so only when asked for one."""
        if trio.current_time() >= self._singles_since_seconds + self.round.period_seconds:
            self._singles_left = SINGLE_REQUESTS_MAX
            self._singles_since_seconds = trio.current_time()
        keys = keys[: self._singles_left]
        books: dict[str, BookSnapshot] = {}
        unknown: set[str] = set()
        for key in keys:
            self._singles_left -= 1
            await trio.sleep(REQUEST_INTERVAL_SECONDS)
            began = trio.current_time()
            try:
                book = await self._rest.fetch_book(key.token)
            except RestFailed as error:
                # No outage: /books has just answered. It may be this one book that ails.
                self._statistics.audit_requests_failed += 1
                log.info("no answer about a single book", token=key.token, why=str(error))
                break
            finally:
                self.round.answered(began, trio.current_time())
            if book is None:
                unknown.add(key.token)
            else:
                books[key.token] = book
        self._tell(keys, epochs, books, unknown)

    def _tell(
        self,
        keys: Sequence[Key],
        epochs: Mapping[str, int | None],
        books: Mapping[str, BookSnapshot],
        unknown: frozenset[str] | set[str],
    ) -> None:
        """Hand the answers out, one message for each feed whose session is still the same."""
        for feed_id, epoch in epochs.items():
            feed, address = self._feeds.get(feed_id), self._shards.get(feed_id)
            if feed is None or address is None or epoch is None or feed.epoch != epoch:
                continue
            tokens = [key.token for key in keys if key.feed == feed_id]
            snapshots = tuple(books[token] for token in tokens if token in books)
            absent = tuple(token for token in tokens if token in unknown)
            if not snapshots and not absent:
                continue
            self._statistics.audits += len(snapshots)
            try:
                # Never waits: a shard so far behind would hold an old book against a new one.
                address.send_nowait(Audited(feed_id, epoch, snapshots, absent))
            except (trio.WouldBlock, trio.BrokenResourceError):
                self._statistics.audits_lost += len(snapshots)
