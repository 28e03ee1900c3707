"""`paper-quoter`: quotes on paper, and pulls its quotes in the moment a book loses trust.

It shows what a maker needs: quotes around the microprice or the midpoint on the price grid, which
never cross; no quote on a book that must not be believed, nor on one that came back a moment ago;
fills, positions and cash that survive a crash. Nothing leaves this process: to quote for real, send
an order where `_quote` sets one, and cancel where `_pull` forgets one.

A market's two tokens are two sides of one book: of each market one token is quoted, and trades of
the other count at one minus their price. Having sold more than was bought, one holds the other
token (a set of both is minted for 1 USDC), so a position may be negative.

Fills are honest guesses: a quote is filled by a trade at a worse price than its own (the taker
would have met it first), and by one at its own price only with `fills_at_touch`, because nobody
knows how many stand before it.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
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
    StaleReason,
    TickSizeChanged,
    TradePrinted,
    TrustChanged,
    TrustState,
    UnknownToken,
)

SHOW_SECONDS = 1.0
FOLLOWED_SECONDS = 10.0
CALM_SECONDS_MIN = 0.001
TRADE_LAG_NS = 500_000_000
"""The exchange tells a trade after the book that it has changed: a trade that comes so soon after
quotes were moved meets those from before."""
ZERO, ONE = Decimal(0), Decimal(1)
Told = tuple[str, dict[str, object]]
"""The name and the data of an event."""


def fair_price(bid: Level, ask: Level, kind: str) -> Decimal:
    """`mid`: half of both prices. `microprice`: nearer to the side with less in it."""
    if kind == "mid":
        return (bid.price + ask.price) / 2
    return (bid.price * ask.size + ask.price * bid.size) / (bid.size + ask.size)


def on_grid(price: Decimal, tick: Decimal, rounding: str) -> Decimal | None:
    """The price of the grid beside this one; None when that is no price."""
    rounded = (price / tick).to_integral_value(rounding) * tick
    return rounded if tick <= rounded <= ONE - tick else None


def quote_prices(
    fair: Decimal, spread: Decimal, tick: Decimal, best_bid: Decimal, best_ask: Decimal
) -> tuple[Decimal | None, Decimal | None]:
    """Bid and ask at least `spread` apart around `fair`, on the grid, taking nobody's order."""
    bid = min(fair - spread / 2, best_ask - tick)
    ask = max(fair + spread / 2, best_bid + tick)
    return on_grid(bid, tick, ROUND_FLOOR), on_grid(ask, tick, ROUND_CEILING)


@attrs.define
class Quotes:
    """What stands in the market for a token; a side without a price has no order."""

    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal
    """Shares that are left of it."""
    ask_size: Decimal
    until_ns: int | None = None
    """Trades that are told later do not meet them; None while they stand."""


@attrs.frozen
class Account:
    """What the fills of a token have come to."""

    position: Decimal = ZERO
    """Shares."""
    cash: Decimal = ZERO
    """USDC; fees are not in it."""
    fills: int = 0

    def traded(self, size: Decimal, price: Decimal) -> "Account":
        """After a fill; the size of a sale is below 0."""
        return Account(self.position + size, self.cash - size * price, self.fills + 1)


def fill(
    quotes: Quotes, price: Decimal, size: Decimal, *, buys: bool, at_touch: bool
) -> tuple[Decimal, Decimal] | None:
    """What a taker's trade takes of the quotes: shares (below 0 for a sale of ours), and price."""
    own, left = (quotes.ask, quotes.ask_size) if buys else (quotes.bid, quotes.bid_size)
    if own is None or not left or (price < own if buys else price > own):
        return None
    if price == own and not at_touch:
        return None
    taken = min(size, left)
    if buys:
        quotes.ask_size -= taken
        return -taken, own
    quotes.bid_size -= taken
    return taken, own


@attrs.define
class PaperQuoter:
    """Quotes both sides of each market on paper, and pulls when a book is not to be trusted."""

    spread: Decimal = attrs.field(default=Decimal("0.02"), validator=[gt(ZERO), lt(ONE)])
    """USDC between bid and ask, at least."""
    size: Decimal = attrs.field(default=Decimal(20), validator=gt(ZERO))
    """Shares of a quote."""
    position_max: Decimal = attrs.field(default=Decimal(200), validator=gt(ZERO))
    """Shares, of either token of a market: a quote that could go beyond is not placed."""
    fair: Literal["microprice", "mid"] = "microprice"
    """What to quote around."""
    calm_seconds: float = attrs.field(default=2.0, validator=ge(0))
    """How long a book must have been LIVE."""
    fills_at_touch: bool = False
    """Whether a trade at the price of a quote fills it."""
    tokens: list[str] = attrs.field(factory=list[str])
    """Tokens to quote; none: of each followed market the one that is LIVE first."""
    _quotes: dict[str, Quotes] = attrs.field(init=False, factory=dict[str, Quotes])
    _former: dict[str, Quotes] = attrs.field(init=False, factory=dict[str, Quotes])
    """By token: the ones before, which late trades meet."""
    _accounts: dict[str, Account] = attrs.field(init=False, factory=dict[str, Account])
    """Of every token that is quoted, now or when its book allows it."""
    _quoted: dict[str, tuple[str, ...]] = attrs.field(
        init=False, factory=dict[str, tuple[str, ...]]
    )
    """By market: those of its tokens."""
    _mids: dict[str, Decimal] = attrs.field(init=False, factory=dict[str, Decimal])
    _waiting: set[str] = attrs.field(init=False, factory=set[str])
    """Tokens that are LIVE, but perhaps not for long enough."""
    _context: ActorContext = attrs.field(init=False)

    async def setup(self, context: ActorContext) -> None:
        """After a restart most books are LIVE already, and no event will say so."""
        self._context = context
        for token in context.service.tokens:
            self._await_calm(token)
        context.start_soon(self._show)
        context.start_soon(self._say_what_is_not_followed)

    async def handle(
        self, batch: list[TrustChanged | TradePrinted | TickSizeChanged | BookUpdated | Gap]
    ) -> None:
        """Pull first, whatever else waits; then trades, then new prices."""
        told: list[Told] = []
        for message in batch:
            if isinstance(message, TrustChanged) and message.state is not TrustState.LIVE:
                told += self._pull(message.token, message.reason, message.time_ns)
            elif isinstance(message, Gap) and message.feed is None:  # it was too slow itself
                for token in list(self._quotes):
                    told += self._pull(token, message.reason, message.time_ns)
                    self._await_calm(token)
        moved: dict[str, None] = {}
        for message in batch:
            if isinstance(message, TradePrinted):
                filled = self._trade(message)
                moved.update(dict.fromkeys(str(data["token"]) for _, data in filled))
                told += filled
            elif isinstance(message, TrustChanged):
                self._await_calm(message.token)
            elif not isinstance(message, Gap):
                moved[message.token] = None
        for token in moved:
            told += self._quote(token)
        await self._tell(told)

    def snapshot(self) -> "State":
        """What a restart must not forget; quotes it must."""
        return dict(self._accounts), dict(self._quoted)

    def restore(self, state: "State") -> None:
        """Go on with it."""
        self._accounts, self._quoted = dict(state[0]), dict(state[1])

    async def teardown(self) -> None:
        """Nothing is left in the market, whatever the end is."""
        while self._quotes:
            await self._tell(self._pull(next(iter(self._quotes)), None, self._context.time_ns))

    def _pull(self, token: str, reason: StaleReason | None, since_ns: int) -> list[Told]:
        """Forget the quotes of a token. A maker's call that cancels its orders stands here."""
        quotes = self._quotes.pop(token, None)
        if quotes is None:
            return []
        quotes.until_ns = since_ns
        self._former[token] = quotes
        told = "stopped" if reason is None else reason.value
        seconds = (self._context.time_ns - since_ns) / 1e9
        return [("quotes_pulled", {"token": token, "reason": told, "seconds": seconds})]

    def _quote(self, token: str) -> list[Told]:
        """Move the quotes of a token to where they belong now. A maker's orders stand here."""
        book = self._book(token) if token in self._accounts else None
        if book is None or book.age_seconds < self.calm_seconds:
            return []
        bid, ask, own_bid, own_ask = book.best_bid, book.best_ask, None, None
        if not book.settled and (bid is None or ask is None):
            return []  # the engine's step is half told
        tick = self._context.service.tick_size(token)
        if bid is not None and ask is not None and tick is not None:
            self._mids[token] = (bid.price + ask.price) / 2
            fair = fair_price(bid, ask, self.fair)
            own_bid, own_ask = quote_prices(fair, self.spread, tick, bid.price, ask.price)
        position = self._accounts[token].position
        if position + self.size > self.position_max:
            own_bid = None
        if position - self.size < -self.position_max:
            own_ask = None
        quotes, before = Quotes(own_bid, own_ask, self.size, self.size), self._quotes.get(token)
        if quotes == before or (before is None and own_bid is None and own_ask is None):
            return []
        self._quotes[token] = quotes
        self._context.count("requotes")
        if before is not None:
            before.until_ns = self._context.time_ns + TRADE_LAG_NS
            self._former[token] = before
            return []
        return [("quotes_placed", {"token": token, "bid": own_bid, "ask": own_ask})]

    def _trade(self, trade: TradePrinted) -> list[Told]:
        told: list[Told] = []
        for token in self._quoted.get(trade.market, ()):
            quotes = self._former.get(token)
            if quotes is None or trade.time_ns >= (quotes.until_ns or 0):
                quotes = self._quotes.get(token)
            if quotes is None:
                continue
            is_own = trade.token == token
            price, buys = trade.price if is_own else ONE - trade.price, trade.side == "BUY"
            filled = fill(
                quotes, price, trade.size, buys=buys is is_own, at_touch=self.fills_at_touch
            )
            if filled is not None:
                account = self._accounts[token] = self._accounts[token].traded(*filled)
                data = {"size": filled[0], "price": filled[1], "position": account.position}
                told.append(("paper_fill", {"token": token, **data, "cash": account.cash}))
        return told

    def _book(self, token: str) -> BookReading | None:
        try:
            return self._context.service.book(token)
        except (BookNotLive, UnknownToken):
            return None

    def _await_calm(self, token: str) -> None:
        """A book may be LIVE (again): quote it when it has been so for long enough."""
        book = self._book(token)
        if book is None:
            return
        mine = self._quoted.get(book.market, ())
        if token not in mine and (token in self.tokens or not (self.tokens or mine)):
            self._quoted[book.market] = (*mine, token)
            self._accounts[token] = Account()
        if token in self._accounts and token not in self._waiting:
            self._waiting.add(token)
            self._context.start_soon(self._quote_when_calm, token)

    async def _quote_when_calm(self, token: str) -> None:
        book = self._book(token)
        while book is not None and book.age_seconds < self.calm_seconds:
            await trio.sleep(max(self.calm_seconds - book.age_seconds, CALM_SECONDS_MIN))
            book = self._book(token)
        self._waiting.discard(token)
        await self._tell(self._quote(token))

    async def _tell(self, told: list[Told]) -> None:
        for name, data in told:
            self._context.count(name)
            await self._context.publish(name, **data)

    async def _say_what_is_not_followed(self) -> None:
        """A token that the service does not follow is a mistake; of `top` it knows them late."""
        await trio.sleep(FOLLOWED_SECONDS)
        missing = sorted(set(self.tokens) - set(self._context.service.tokens))
        if missing:
            self._context.log.warning("tokens are not followed: nothing is done", tokens=missing)

    async def _show(self) -> None:
        while True:
            worth = sum(
                (one.cash + one.position * self._mids.get(token, ZERO))
                for token, one in self._accounts.items()
            )
            fills = sum(account.fills for account in self._accounts.values())
            self._context.show(
                f"{len(self._quotes)} tokens quoted, {fills} fills, {worth:+.2f} USDC"
            )
            await trio.sleep(SHOW_SECONDS)


State = tuple[dict[str, Account], dict[str, tuple[str, ...]]]
