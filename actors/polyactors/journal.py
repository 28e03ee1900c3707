"""The journal of a book shard: what it publishes, gathered in order until it is handed out."""

from polyactors.book.numbers import Side, to_decimal
from polyactors.book.trust import DESYNCS, StaleReason, Trust, TrustState
from polyactors.events import (
    BookUpdated,
    Cause,
    Event,
    Gap,
    TickSizeChanged,
    TradePrinted,
    TrustChanged,
)
from polyactors.feed import Feed
from polyactors.logger import log
from polyactors.protocol.events import LastTradePrice, TickSizeChange
from polyactors.token_book import TokenBook


class Journal:
    """Turns what happens to the books of one feed into events of the stream.

    Updates gather until they are published, so that only the last one of each token is left;
    everything else stands where it happened, and a change of trust always before any later
    update of its token.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._statistics = feed.env.statistics
        self._clock_ns = feed.env.clock_ns
        self._events: list[Event] = []
        self._updated: dict[str, TokenBook] = {}

    def take(self) -> list[Event]:
        """All events since the last call."""
        events, self._events = self._events, []
        return events

    def trust(
        self, state: TokenBook, new: TrustState, now: float, reason: StaleReason | None = None
    ) -> None:
        """Change a token's trust, and say so. The same trust again is no event."""
        before = self._feed.trust[state.token]
        if before.state is new and before.reason is reason:
            return
        self._feed.trust[state.token] = before.to(new, now_seconds=now, reason=reason)
        if new is TrustState.STALE:
            self._feed.stale_since_seconds.setdefault(state.token, now)
        elif new is TrustState.LIVE:
            stale_since = self._feed.stale_since_seconds.pop(state.token, None)
            if stale_since is not None:
                self._statistics.heal.add(now - stale_since)
        if reason in DESYNCS:
            self._statistics.desyncs_by_reason[reason.value] += 1
            group = state.group
            log.info(
                "a book is proven wrong",
                token=state.token,
                reason=reason.value,
                hash=group.hash,
                timestamp_ms=group.timestamp_ms,
            )
        self._updated.pop(state.token, None)
        trust = self._feed.trust[state.token]
        if self._feed.relay is None:
            market = state.market or None
            self._events.append(trust_changed(self._feed, state.token, market, before, trust))
        else:
            self._events += self._feed.relay.trust_changed(self._feed, state, now)

    def update(self, state: TokenBook, cause: Cause) -> None:
        """The book of a LIVE token changed."""
        state.last_cause = cause
        self._updated[state.token] = state

    def publish_updates(self) -> None:
        """Publish the books that changed since the last call, one update per token."""
        if self._updated:
            feed, relay = self._feed, self._feed.relay
            for state in self._updated.values():
                if relay is not None:
                    before = relay.admit(feed, state)
                    if before is None:
                        continue
                    self._events += before
                self._events.append(book_updated(feed, state))
            self._updated.clear()

    def gap(self, token: str | None, reason: StaleReason) -> None:
        """Something was missed here; None for every token of the feed."""
        relay = self._feed.relay
        self._events += [
            Gap(
                time_ns=self._clock_ns(),
                feed=self._feed.id,
                epoch=self._feed.epoch,
                token=missed,
                reason=reason,
            )
            for missed in ((token,) if relay is None else relay.missed(self._feed, token))
        ]

    def trade(self, event: LastTradePrice) -> None:
        """A trade was printed."""
        if self._feed.relay is not None:
            what = (event.timestamp_ms, event.price, event.size, event.side)
            if not self._feed.relay.is_news(self._feed, event.token, what):
                return
        self._events.append(
            TradePrinted(
                time_ns=self._clock_ns(),
                token=event.token,
                market=event.market,
                epoch=self._feed.epoch or 0,
                price=to_decimal(event.price),
                size=to_decimal(event.size),
                side="BUY" if event.side is Side.BID else "SELL",
                timestamp_ms=event.timestamp_ms,
            )
        )

    def tick_size(self, event: TickSizeChange) -> None:
        """The price grid of a token changed."""
        if self._feed.relay is not None:
            what = (event.timestamp_ms, event.old, event.new)
            if not self._feed.relay.is_news(self._feed, event.token, what):
                return
        self._events.append(
            TickSizeChanged(
                time_ns=self._clock_ns(),
                token=event.token,
                market=event.market,
                epoch=self._feed.epoch or 0,
                old=event.old,
                new=event.new,
            )
        )


def trust_changed(
    feed: Feed, token: str, market: str | None, before: Trust, trust: Trust
) -> TrustChanged:
    """The event of a transition, as `feed` has made it."""
    return TrustChanged(
        time_ns=feed.env.clock_ns(),
        token=token,
        market=market,
        epoch=feed.last_epoch,
        state=trust.state,
        previous=before.state,
        reason=trust.reason,
    )


def book_updated(feed: Feed, state: TokenBook) -> BookUpdated:
    """The event of the book of `feed` as it is now."""
    bids, asks = state.book.bid_side.prices, state.book.ask_side.prices
    settled = state.settled
    best_bid = to_decimal(bids[-1]) if bids else None
    best_ask = to_decimal(asks[0]) if asks else None
    if not settled and bids and asks and bids[-1] >= asks[0]:
        best_bid = best_ask = None  # the step is half told: this is nobody's top of book
    return BookUpdated(
        time_ns=feed.env.clock_ns(),
        token=state.token,
        market=state.market,
        epoch=feed.epoch or 0,
        best_bid=best_bid,
        best_ask=best_ask,
        bids=len(bids),
        asks=len(asks),
        cause=state.last_cause,
        settled=settled,
    )
