"""Price-time matching of one market, pure: orders in, engine steps out.

The book of the YES token is the only book. An order for NO at price p is an order for YES at
1 - p on the opposite side (PROTOCOL.md section 6), so the book of NO is an exact mirror and
cannot disagree. One call is one engine step: whatever an order or a cancellation sets off
shares one timestamp, one hash per token and one final state.
"""

from collections.abc import Iterable, Sequence

from attrs import define, frozen

from polyactors.book.integrity import book_hash
from polyactors.book.numbers import PRICE_ONE, Side, to_text

YES, NO = 0, 1
"""Positions of the two tokens of a market, wherever a pair of them is kept."""

MIN_ORDER_SIZE = "5"
"""Smallest order in shares, as Polymarket says it today; an input of the book hash."""

Levels = tuple[tuple[int, int], ...]
"""(price, size) pairs in units, in wire order: best level last."""


@define(eq=False)
class Order:
    """A resting order."""

    id: int
    """Ascending in order of arrival."""
    token: int
    """YES or NO: the token that it was placed on."""
    side: Side
    """BID or ASK of that token."""
    price: int
    """Price of that token, in units."""
    size: int
    """What is left of it, in units of shares."""
    owner: str = ""
    """Id of the order of an account that it is; "" for one of the flow's."""

    @property
    def yes_side(self) -> Side:
        """The side of the YES book that it rests on."""
        return self.side if self.token == YES else self.side.opposite

    @property
    def yes_price(self) -> int:
        """Its price in the YES book, in units."""
        return self.price if self.token == YES else PRICE_ONE - self.price


@frozen
class BookState:
    """One token's book after an engine step: what REST and the initial dump show."""

    market: str
    """Condition id."""
    token: str
    timestamp_ms: int
    """Time of the engine step that made this state."""
    hash: str
    """Ten-field book hash over all that follows."""
    bids: Levels
    """Ascending by price."""
    asks: Levels
    """Descending by price."""
    tick_size: int
    """In units."""
    neg_risk: bool
    last_trade_price: str
    """Of the market, whichever token traded: three decimals, "" before the first trade."""

    @property
    def best_bid(self) -> int:
        """In units; 0 for an empty side, as the wire says it."""
        return self.bids[-1][0] if self.bids else 0

    @property
    def best_ask(self) -> int:
        """In units; PRICE_ONE for an empty side, as the wire says it."""
        return self.asks[-1][0] if self.asks else PRICE_ONE


@frozen
class Touch:
    """One order event of a step: the level that it touched, in terms of the order's token."""

    token: int
    side: Side
    price: int
    size: int
    """Aggregate size of the level after the *whole* step, in units; 0 when it is gone.

    The recorded multi-order cancellation sends each of two orders of one level as its final
    size (INTEGRITY.md section 1), so duplicates and removals of absent levels are normal.
    """


@frozen
class Trade:
    """What one taker matched at one price, in terms of the taker's token."""

    token: int
    side: Side
    """The taker's side."""
    price: int
    size: int
    taker_id: int
    """The taker's order id."""


@frozen
class Fill:
    """What one resting order gave to the step's taker, in terms of its own token."""

    token: int
    side: Side
    price: int
    size: int
    maker_id: int
    """Its order id."""
    owner: str
    """As the order's."""


@frozen
class Step:
    """One engine step: everything that the channels say about it."""

    before: tuple[BookState, BookState]
    after: tuple[BookState, BookState]
    touches: tuple[Touch, ...] = ()
    """In wire order: a taker's resting remainder comes before the levels that it consumed."""
    trades: tuple[Trade, ...] = ()
    """In order of execution, one for each price."""
    fills: tuple[Fill, ...] = ()
    """In order of execution, one for each maker; together they are the trades."""
    taker_id: int | None = None
    """The id of the order that was placed, if any was."""

    @property
    def top_changed(self) -> bool:
        """Whether the best bid or ask changed; the mirror makes it one answer for both tokens."""
        before, after = self.before[YES], self.after[YES]
        return (before.best_bid, before.best_ask) != (after.best_bid, after.best_ask)

    @property
    def tick_changed(self) -> bool:
        """Whether the tick size changed."""
        return self.before[YES].tick_size != self.after[YES].tick_size


class MatchingEngine:
    """The order book of one market.

    Prices and sizes are integers in the units of `polyactors.book.numbers`. Steps must be
    given timestamps that never go back; several may share one.
    """

    def __init__(
        self,
        *,
        market: str,
        tokens: tuple[str, str],
        tick_size: int,
        neg_risk: bool,
        timestamp_ms: int,
    ) -> None:
        self.market = market
        self.tokens = tokens
        self.tick_size = tick_size
        self.neg_risk = neg_risk
        self.orders: dict[int, Order] = {}
        """Resting orders by id, in order of arrival."""
        self.volume = 0
        """Shares traded so far, in units."""
        self._levels: dict[Side, dict[int, list[Order]]] = {Side.BID: {}, Side.ASK: {}}
        self._last_trade_price: int | None = None
        self._next_id = 1
        self.states = self._make_states(timestamp_ms)

    def best(self, side: Side) -> int | None:
        """Best price of a side of the YES book, in units; None when the side is empty."""
        prices = self._levels[side]
        if not prices:
            return None
        return max(prices) if side is Side.BID else min(prices)

    def queue(self, side: Side, price: int) -> Sequence[Order]:
        """The orders at one level of the YES book, first to be matched first."""
        return tuple(self._levels[side].get(price, ()))

    def prices(self, side: Side) -> list[int]:
        """The prices of a side of the YES book, best first."""
        return sorted(self._levels[side], reverse=side is Side.BID)

    def available(self, token: int, side: Side, price: int) -> int:
        """What an order would be matched with at once; prices and side in terms of `token`."""
        taker = Order(0, token, side, price, 1)
        opposite = self._levels[taker.yes_side.opposite]
        return sum(
            order.size
            for best, queue in opposite.items()
            if _crosses(taker, best)
            for order in queue
        )

    def place(
        self,
        token: int,
        side: Side,
        price: int,
        size: int,
        timestamp_ms: int,
        *,
        owner: str = "",
        rests: bool = True,
    ) -> Step:
        """Match a limit order; prices and side in terms of `token`.

        What is left of it rests, or is gone where `rests` is false.
        """
        assert 0 < price < PRICE_ONE
        assert size > 0
        taker = Order(self._next_id, token, side, price, size, owner)
        self._next_id += 1
        fills, trades = self._match(taker)
        touched = [(fill.token, fill.side, fill.price) for fill in fills]
        if taker.size and rests:
            self._levels[taker.yes_side].setdefault(taker.yes_price, []).append(taker)
            self.orders[taker.id] = taker
            touched.insert(0, (token, side, price))
        return self._finish(timestamp_ms, touched, trades, fills, taker.id)

    def cancel(self, order_ids: Iterable[int], timestamp_ms: int) -> Step:
        """Take resting orders out, all in one step.

        Raises:
            KeyError: an order is not resting.
        """
        touched: list[tuple[int, Side, int]] = []
        for order_id in order_ids:
            order = self.orders[order_id]
            self._remove(order)
            touched.append((order.token, order.side, order.price))
        return self._finish(timestamp_ms, touched)

    def change_tick(self, tick_size: int, timestamp_ms: int) -> Step:
        """Set the grid for new orders; what rests off the new grid stays where it is."""
        self.tick_size = tick_size
        return self._finish(timestamp_ms, [])

    def _match(self, taker: Order) -> tuple[list[Fill], list[Trade]]:
        fills: list[Fill] = []
        trades: list[Trade] = []
        opposite = taker.yes_side.opposite
        while taker.size:
            best = self.best(opposite)
            if best is None or not _crosses(taker, best):
                break
            traded = 0
            for maker in self.queue(opposite, best):
                size = min(maker.size, taker.size)
                maker.size -= size
                taker.size -= size
                traded += size
                fills.append(
                    Fill(maker.token, maker.side, maker.price, size, maker.id, maker.owner)
                )
                if not maker.size:
                    self._remove(maker)
                if not taker.size:
                    break
            price = best if taker.token == YES else PRICE_ONE - best
            trades.append(Trade(taker.token, taker.side, price, traded, taker.id))
            self._last_trade_price = price
            self.volume += traded
        return fills, trades

    def _remove(self, order: Order) -> None:
        del self.orders[order.id]
        levels = self._levels[order.yes_side]
        queue = levels[order.yes_price]
        queue.remove(order)
        if not queue:
            del levels[order.yes_price]

    def _finish(
        self,
        timestamp_ms: int,
        touched: Sequence[tuple[int, Side, int]],
        trades: Sequence[Trade] = (),
        fills: Sequence[Fill] = (),
        taker_id: int | None = None,
    ) -> Step:
        before = self.states
        self.states = self._make_states(timestamp_ms)
        touches = tuple(
            Touch(token, side, price, self._size_at(token, side, price))
            for token, side, price in touched
        )
        return Step(before, self.states, touches, tuple(trades), tuple(fills), taker_id)

    def _size_at(self, token: int, side: Side, price: int) -> int:
        if token == NO:
            side, price = side.opposite, PRICE_ONE - price
        return sum(order.size for order in self._levels[side].get(price, ()))

    def _make_states(self, timestamp_ms: int) -> tuple[BookState, BookState]:
        bids, asks = (
            tuple(
                (price, sum(order.size for order in queue))
                for price, queue in sorted(self._levels[side].items(), reverse=side is Side.ASK)
            )
            for side in (Side.BID, Side.ASK)
        )
        mirrored_bids, mirrored_asks = (
            tuple((PRICE_ONE - price, size) for price, size in levels) for levels in (asks, bids)
        )
        return (
            self._make_state(YES, timestamp_ms, bids, asks),
            self._make_state(NO, timestamp_ms, mirrored_bids, mirrored_asks),
        )

    def _make_state(self, token: int, timestamp_ms: int, bids: Levels, asks: Levels) -> BookState:
        last_trade_price = _three_decimals(self._last_trade_price)
        return BookState(
            market=self.market,
            token=self.tokens[token],
            timestamp_ms=timestamp_ms,
            hash=book_hash(
                market=self.market,
                token=self.tokens[token],
                timestamp_ms=timestamp_ms,
                bids=bids,
                asks=asks,
                min_order_size=MIN_ORDER_SIZE,
                tick_size=to_text(self.tick_size),
                neg_risk=self.neg_risk,
                last_trade_price=last_trade_price,
            ),
            bids=bids,
            asks=asks,
            tick_size=self.tick_size,
            neg_risk=self.neg_risk,
            last_trade_price=last_trade_price,
        )


def _crosses(taker: Order, best: int) -> bool:
    if taker.yes_side is Side.BID:
        return taker.yes_price >= best
    return taker.yes_price <= best


def _three_decimals(price: int | None) -> str:
    """INTEGRITY.md section 5: hashed and shown with three decimals, whatever the tick."""
    if price is None:
        return ""
    whole, thousandths = divmod(price * 1000 // PRICE_ONE, 1000)
    return f"{whole}.{thousandths:03d}"
