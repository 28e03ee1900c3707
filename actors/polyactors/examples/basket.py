"""`basket-watch`: where a set of all outcomes costs less than it pays, or sells for more.

A *basket* is a list of tokens of which exactly one will pay 1 USDC: YES and NO of a market, or all
YES tokens of a negative-risk event. One of each is a *set*: whoever buys one for less than 1, or
sells one (minted for 1) for more, wins whatever happens. Before fees, and if it really was so: a
book that is behind the others makes an edge where there is none. Hence the *skew bound*.

All books are read in the same moment, so what can be apart is what they have heard of:

- Legs of one market: an order for one token is an order for the other, and the exchange tells both
  in one message. The times of their last changes must lie within the bound.
- Legs of different markets: a quiet token's book is as right as a busy one's, however old its last
  change, while its connection is heard: nothing came, so nothing has changed. So the times count
  at which each leg's feed told a change of *any* token; legs on one feed are never apart.

What no clock shows is a single token that the exchange has silently forgotten: the service's audit
finds it within a minute.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Literal

import attrs
import trio
from attrs.validators import ge, gt, lt

from polyactors import (
    ActorContext,
    BookNotLive,
    BookReading,
    BookUpdated,
    Gap,
    Level,
    TrustChanged,
    TrustState,
    UnknownToken,
)

SHOW_SECONDS = 1.0
FOLLOWED_SECONDS = 10.0
UNSETTLED_NS_MAX = 1_000_000_000
"""A basket stays open for so long while its books do not come to rest."""
ZERO, ONE = Decimal(0), Decimal(1)
Told = tuple[str, dict[str, object]]
"""The name and the data of an event."""


@attrs.frozen
class Edge:
    """What a basket is worth at one moment, before fees."""

    side: Literal["buy", "sell"]
    """Buy one of each from the asks, or sell one of each to the bids."""
    edge: Decimal
    """USDC a set, on average over the first `size_min` sets."""
    size: Decimal
    """Sets that can be had, of which even the last one brings more than the edge asked for."""
    profit: Decimal
    """USDC of all of them."""


def sets(legs: Sequence[Sequence[Level]]) -> Iterator[tuple[Decimal, Decimal]]:
    """Walk the levels of all legs, best first: (how many sets, the price of one of them)."""
    left = [list(levels)[::-1] for levels in legs]
    while all(left):
        size = min(levels[-1].size for levels in left)
        yield size, sum((levels[-1].price for levels in left), ZERO)
        for levels in left:
            level = levels.pop()
            if level.size > size:
                levels.append(Level(level.price, level.size - size))


def find_edge(
    side: Literal["buy", "sell"], legs: Sequence[Sequence[Level]], edge: Decimal, size_min: Decimal
) -> Edge | None:
    """What the legs' levels (asks to buy, bids to sell) are worth; None when it is too little."""
    size = profit = first = ZERO
    for step, price in sets(legs):
        gain = ONE - price if side == "buy" else price - ONE
        if gain <= edge:
            break
        first += gain * min(step, max(size_min - size, ZERO))
        size += step
        profit += gain * step
    return Edge(side, first / size_min, size, profit) if size >= size_min else None


@attrs.define(eq=False)
class Basket:
    """One basket, and what was told of it."""

    name: str
    """The condition id of its market, or `basket-1` … in the order of the option."""
    tokens: tuple[str, ...]
    gain: Decimal | None = None
    """USDC of the first set, by the latest news; None while a leg has no price or is not LIVE."""
    found: Edge | None = None
    """While it is open: as it was judged last."""
    unsettled_ns: int | None = None
    """Since when it is open and could not be judged because a leg was never settled."""
    opened_ns: int = 0


def _are_baskets(_: object, __: object, baskets: list[list[str]]) -> None:
    if any(len(tokens) < 2 or len(set(tokens)) < len(tokens) for tokens in baskets):
        raise ValueError("a basket is a list of two or more different token ids")


@attrs.define
class BasketWatch:
    """Watches sets of outcomes for arbitrage: buys below 1 and sales above, within a skew bound."""

    edge: Decimal = attrs.field(default=Decimal("0.01"), validator=[ge(ZERO), lt(ONE)])
    """USDC that every set must bring more than; fees must be in it."""
    size_min: Decimal = attrs.field(default=Decimal(5), validator=gt(ZERO))
    """Sets that must be there."""
    skew_seconds: float = attrs.field(default=0.25, validator=gt(0))
    """What the legs may be apart."""
    pairs: bool = True
    """Watch every two followed tokens of one market."""
    baskets: list[list[str]] = attrs.field(factory=list[list[str]], validator=_are_baskets)
    """Further ones: token ids of mutually exclusive outcomes, all that there are."""
    _all: list[Basket] = attrs.field(init=False, factory=list[Basket])
    _of: dict[str, list[Basket]] = attrs.field(init=False, factory=dict[str, list[Basket]])
    """By token."""
    _first: dict[str, str] = attrs.field(init=False, factory=dict[str, str])
    """By market: the token of it that was seen first."""
    _news: dict[str, BookUpdated] = attrs.field(init=False, factory=dict[str, BookUpdated])
    """By token that is LIVE: the last."""
    _heard_ns: dict[str | None, int] = attrs.field(init=False, factory=dict[str | None, int])
    """By feed: when it told a change last."""
    _watched: dict[Basket, None] = attrs.field(init=False, factory=dict[Basket, None])
    """Those that are open, or have an edge that could not be judged."""
    _context: ActorContext = attrs.field(init=False)

    async def setup(self, context: ActorContext) -> None:
        """Begin with the baskets that were given."""
        self._context = context
        for number, tokens in enumerate(self.baskets, 1):
            self._add(f"basket-{number}", *tokens)
        context.start_soon(self._show)
        context.start_soon(self._say_what_is_not_followed)

    async def handle(self, batch: list[BookUpdated | TrustChanged | Gap]) -> None:
        """Take in all that waits and judge it: until the first `await` no book can change."""
        touched: dict[Basket, None] = {}
        for message in batch:
            if isinstance(message, BookUpdated):
                self._learn(message)
            elif isinstance(message, TrustChanged) and message.state is not TrustState.LIVE:
                self._news.pop(message.token, None)
            elif isinstance(message, Gap) and message.feed is None:  # it was too slow itself
                self._news.clear()
                touched.update(dict.fromkeys(self._all))
            touched.update(dict.fromkeys(self._of.get(message.token or "", ())))
        for basket in touched:
            basket.gain = self._gain(basket)
        now_ns = self._context.time_ns
        await self._tell([self._judge(basket, now_ns) for basket in {**touched, **self._watched}])

    async def teardown(self) -> None:
        """Nothing stays open that nobody watches."""
        now_ns = self._context.time_ns
        await self._tell([self._close(basket, "stopped", now_ns) for basket in self._all])

    def _learn(self, update: BookUpdated) -> None:
        self._news[update.token] = update
        self._heard_ns[self._context.service.feed_id(update.token)] = update.time_ns
        first = self._first.setdefault(update.market, update.token)
        if self.pairs and first != update.token:
            self._add(update.market, first, update.token)

    def _add(self, name: str, *tokens: str) -> None:
        if all(set(one.tokens) != set(tokens) for one in self._of.get(tokens[0], ())):
            self._all.append(Basket(name, tokens))
            for token in tokens:
                self._of.setdefault(token, []).append(self._all[-1])

    def _gain(self, basket: Basket) -> Decimal | None:
        """By best prices: no set brings more, so books are read only where that is enough."""
        news = [self._news.get(token) for token in basket.tokens]
        asks = [one.best_ask for one in news if one is not None and one.best_ask is not None]
        bids = [one.best_bid for one in news if one is not None and one.best_bid is not None]
        buy = [ONE - sum(asks)] if len(asks) == len(news) else []
        sell = [sum(bids) - ONE] if len(bids) == len(news) else []
        return max(buy + sell, default=None)

    def _judge(self, basket: Basket, now_ns: int) -> list[Told]:
        self._watched.pop(basket, None)
        if basket.found is None and (basket.gain is None or basket.gain <= self.edge):
            return []
        self._watched[basket] = None
        books, doubt = self._view(basket)
        if doubt:
            self._context.count(f"held_back_{doubt}")
            if doubt == "unsettled":  # more of an engine step may follow, if not for too long
                basket.unsettled_ns = basket.unsettled_ns or now_ns
                if now_ns - basket.unsettled_ns <= UNSETTLED_NS_MAX:
                    return []
            return self._close(basket, doubt, now_ns)
        asks, bids = [book.asks for book in books], [book.bids for book in books]
        found = find_edge("buy", asks, self.edge, self.size_min)
        found = found or find_edge("sell", bids, self.edge, self.size_min)
        basket.unsettled_ns = None
        told: list[Told] = []
        if found is None or (basket.found is not None and basket.found.side != found.side):
            told += self._close(basket, "edge_gone", now_ns)
        if found is not None and basket.found is None:
            basket.opened_ns = now_ns
            told.append(("basket_open", _data(basket) | attrs.asdict(found)))
        basket.found = found
        return told

    def _close(self, basket: Basket, reason: str, now_ns: int) -> list[Told]:
        if basket.found is None:
            return []
        side, basket.found, basket.unsettled_ns = basket.found.side, None, None
        open_seconds = (now_ns - basket.opened_ns) / 1e9
        data = {"side": side, "reason": reason, "open_seconds": open_seconds}
        return [("basket_closed", _data(basket) | data)]

    def _view(self, basket: Basket) -> tuple[list[BookReading], str]:
        """All books of this moment, or why they are no view of one; then the text is not empty."""
        news = [self._news[token] for token in basket.tokens if token in self._news]
        if len(news) < len(basket.tokens):
            return [], "not_live"
        if not all(one.settled for one in news):  # the same as below, before anything is copied
            return [], "unsettled"
        try:
            books = [self._context.service.book(token) for token in basket.tokens]
        except (BookNotLive, UnknownToken):
            return [], "not_live"
        clocks = [one.time_ns for one in news]
        if len({book.market for book in books}) > 1:
            feed_id = self._context.service.feed_id
            clocks = [self._heard_ns.get(feed_id(book.token), 0) for book in books]
        if not all(book.settled for book in books):
            return [], "unsettled"
        return books, "skew" if max(clocks) - min(clocks) > self.skew_seconds * 1e9 else ""

    async def _tell(self, told: list[list[Told]]) -> None:
        for name, data in (event for events in told for event in events):
            self._context.count(name)
            await self._context.publish(name, **data)

    async def _say_what_is_not_followed(self) -> None:
        """A token that the service does not follow is a mistake; of `top` it knows them late."""
        await trio.sleep(FOLLOWED_SECONDS)
        named = {token for tokens in self.baskets for token in tokens}
        missing = sorted(named - set(self._context.service.tokens))
        if missing:
            self._context.log.warning("tokens are not followed: nothing is done", tokens=missing)

    async def _show(self) -> None:
        while True:
            opened = sum(basket.found is not None for basket in self._all)
            known = [(one.gain, one.name) for one in self._all if one.gain is not None]
            best = [f"best: {gain:+} a set, {name}" for gain, name in [max(known)]] if known else []
            self._context.show(f"{len(self._all)} baskets, {opened} open", *best)
            await trio.sleep(SHOW_SECONDS)


def _data(basket: Basket) -> dict[str, object]:
    return {"basket": basket.name, "tokens": list(basket.tokens)}
