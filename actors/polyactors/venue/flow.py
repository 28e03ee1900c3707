"""Seeded order flow for one market, pure: what the traders of the emulator do next.

Every manner of the recorded channel has to occur: orders inside, at and away from the touch,
single and multi-order cancellations, partial fills, sweeps that leave a remainder, emptied
sides, tick changes and their return. The number of orders is bounded, and the price returns
to its anchor, so that a run of days looks like a run of minutes.
"""

from collections.abc import Callable
from random import Random

from polyactors.book.numbers import PRICE_ONE, Side
from polyactors.venue.engine import NO, YES, MatchingEngine, Order, Step

COARSE_TICK = PRICE_ONE // 100
"""Tick size in the middle of the price range, 0.01."""
FINE_TICK = PRICE_ONE // 1000
"""Tick size near 0 and 1, and of some markets everywhere, 0.001."""
ORDERS_MIN = 40
"""With fewer resting orders, the next order rests."""
ORDERS_MAX = 140
"""With more resting orders, the next step cancels."""

_FINE_BELOW, _FINE_ABOVE = PRICE_ONE * 4 // 100, PRICE_ONE * 96 // 100
_COARSE_FROM, _COARSE_TO = PRICE_ONE * 5 // 100, PRICE_ONE * 95 // 100
_CENT_OF_SHARE = PRICE_ONE // 100
_ROUND_SIZES = (5, 10, 15, 20, 25, 50, 100, 200, 250, 500, 1000)


class OrderFlow:
    """The traders of one market: `act` is one engine step.

    Everything is drawn from `rng`, so one seed and one number of steps make one story.
    `anchor` is the price of YES, in units, that the flow returns to.
    """

    def __init__(self, rng: Random, engine: MatchingEngine, anchor: int) -> None:
        self._rng = rng
        self.engine = engine
        self._anchor = anchor
        self._fair = anchor
        self._has_fine_tick_always = engine.tick_size == FINE_TICK
        self._kinds: tuple[tuple[Callable[[int], Step], int], ...] = (
            (self._place_away, 360),
            (self._place_at_touch, 140),
            (self._place_inside, 130),
            (self._cancel_one, 190),
            (self._cancel_several, 50),
            (self._take, 80),
            (self._sweep, 47),
            (self._clear_side, 3),
        )

    def open_market(self, timestamp_ms: int, *, traded: bool) -> None:
        """Fill the empty book; with `traded`, until a first trade has been printed."""
        for _ in range(3 * ORDERS_MIN // 2):
            self._place_away(timestamp_ms)
        while traded and not self.engine.volume:
            self._take(timestamp_ms)

    def act(self, timestamp_ms: int) -> Step:
        """The next engine step; it always changes the market."""
        self._drift()
        tick_size = self._due_tick_size()
        if tick_size != self.engine.tick_size:
            return self.engine.change_tick(tick_size, timestamp_ms)
        count = len(self._own_orders())
        if count > ORDERS_MAX:
            return self._cancel_several(timestamp_ms)
        for side in Side:
            if self.engine.best(side) is None:
                return self._rest_on(side, timestamp_ms)
        if count < ORDERS_MIN:
            return self._place_away(timestamp_ms)
        kinds, weights = zip(*self._kinds, strict=True)
        act: Callable[[int], Step] = self._rng.choices(kinds, weights)[0]
        return act(timestamp_ms)

    def _drift(self) -> None:
        pull = 1 if self._fair < self._anchor else -1
        step = self._rng.choice((-4, -3, -2, -1, 0, 1, 2, 3, 4)) * FINE_TICK
        if self._rng.random() < 0.1:
            step += pull * FINE_TICK
        self._fair = min(max(self._fair + step, 8 * FINE_TICK), PRICE_ONE - 8 * FINE_TICK)

    def _due_tick_size(self) -> int:
        """PROTOCOL.md section 2: finer when the price is above 0.96 or below 0.04.

        The way back has a margin of a cent, or a price at the border would flap.
        """
        bid, ask = self.engine.best(Side.BID), self.engine.best(Side.ASK)
        tick_size = self.engine.tick_size
        if self._has_fine_tick_always or bid is None or ask is None:
            return tick_size
        price = (bid + ask) // 2
        if price < _FINE_BELOW or price > _FINE_ABOVE:
            return FINE_TICK
        if _COARSE_FROM <= price <= _COARSE_TO:
            return COARSE_TICK
        return tick_size

    def _place_away(self, timestamp_ms: int) -> Step:
        return self._rest_on(self._rng.choice((Side.BID, Side.ASK)), timestamp_ms)

    def _rest_on(self, side: Side, timestamp_ms: int) -> Step:
        """Rest an order behind the fair price: what draws the book back to it."""
        behind = 1 + min(int(self._rng.expovariate(0.15)), 40)
        return self._rest(side, self._seen_by(side, self._fair), behind, timestamp_ms)

    def _place_at_touch(self, timestamp_ms: int) -> Step:
        side = self._rng.choice((Side.BID, Side.ASK))
        return self._rest(side, self._touch(side), 0, timestamp_ms)

    def _place_inside(self, timestamp_ms: int) -> Step:
        side = self._pressed_side()
        return self._rest(side, self._touch(side), -1, timestamp_ms)

    def _rest(self, side: Side, start: int, ticks_behind: int, timestamp_ms: int) -> Step:
        """Rest an order so many ticks behind `start`, on the grid and never crossing.

        `start` is as a bid sees it: an ask is a bid in the mirror, and the grid mirrors onto
        itself.
        """
        tick = self.engine.tick_size
        opposite = self.engine.best(side.opposite)
        limit = PRICE_ONE if opposite is None else self._seen_by(side, opposite)
        highest = (limit - 1) // tick * tick
        if not highest:
            return self._take_from(side.opposite, timestamp_ms)
        price = min(max(start // tick * tick - ticks_behind * tick, tick), highest)
        return self._aim(side, self._seen_by(side, price), self._size(), timestamp_ms)

    def _touch(self, side: Side) -> int:
        best = self.engine.best(side)
        return self._seen_by(side, self._fair if best is None else best)

    @staticmethod
    def _seen_by(side: Side, price: int) -> int:
        """A price as a bid sees it: itself for BID, its complement for ASK; its own inverse."""
        return price if side is Side.BID else PRICE_ONE - price

    def _cancel_one(self, timestamp_ms: int) -> Step:
        order = self._rng.choice(self._own_orders())
        return self.engine.cancel((order.id,), timestamp_ms)

    def _cancel_several(self, timestamp_ms: int) -> Step:
        """Cancel neighbours in time: they are often neighbours in the book as well."""
        orders = self._own_orders()
        count = min(self._rng.randint(2, 6), len(orders))
        start = self._rng.randint(0, len(orders) - count)
        return self.engine.cancel([o.id for o in orders[start : start + count]], timestamp_ms)

    def _clear_side(self, timestamp_ms: int) -> Step:
        side = self._rng.choice((Side.BID, Side.ASK))
        orders = [order.id for order in self._own_orders() if order.yes_side is side]
        if not orders:  # an account alone holds that side
            return self._rest_on(side, timestamp_ms)
        return self.engine.cancel(orders, timestamp_ms)

    def _take(self, timestamp_ms: int) -> Step:
        return self._take_from(self._pressed_side().opposite, timestamp_ms)

    def _take_from(self, side: Side, timestamp_ms: int) -> Step:
        """Match a first level: a part of its first order, all of that order, or all of it."""
        best = self.engine.best(side)
        assert best is not None, "both sides are filled before anybody takes"
        queue = self.engine.queue(side, best)
        sizes = (self._part_of(queue[0]), queue[0].size, sum(order.size for order in queue))
        return self._aim(side.opposite, best, self._rng.choice(sizes), timestamp_ms)

    def _sweep(self, timestamp_ms: int) -> Step:
        """Match several levels at once; half of the sweeps leave a remainder that rests."""
        side = self._pressed_side()
        depth = self._rng.randint(1, 4)
        prices = self.engine.prices(side.opposite)[:depth]
        available = sum(
            order.size for price in prices for order in self.engine.queue(side.opposite, price)
        )
        remainder = self._size() if self._rng.random() < 0.5 else 0
        return self._aim(side, prices[-1], available + remainder, timestamp_ms)

    def _pressed_side(self) -> Side:
        """The side of the YES book that buys or sells towards the fair price, mostly."""
        bid, ask = self.engine.best(Side.BID), self.engine.best(Side.ASK)
        if bid is None or ask is None or self._rng.random() < 0.25:
            return self._rng.choice((Side.BID, Side.ASK))
        return Side.BID if 2 * self._fair > bid + ask else Side.ASK

    def _aim(self, side: Side, price: int, size: int, timestamp_ms: int) -> Step:
        """Place an order that means this in the YES book, on either token."""
        if self._rng.random() < 0.5:
            return self.engine.place(YES, side, price, size, timestamp_ms)
        return self.engine.place(NO, side.opposite, PRICE_ONE - price, size, timestamp_ms)

    def _size(self) -> int:
        """At least five shares, at most two decimals."""
        if self._rng.random() < 0.4:
            return self._rng.choice(_ROUND_SIZES) * 100 * _CENT_OF_SHARE
        return self._rng.randint(500, 50_000) * _CENT_OF_SHARE

    def _own_orders(self) -> list[Order]:
        """Those of the flow, which alone it counts and cancels; an account's are not its own."""
        return [order for order in self.engine.orders.values() if not order.owner]

    def _part_of(self, order: Order) -> int:
        cents = order.size // _CENT_OF_SHARE
        return self._rng.randint(1, cents - 1) * _CENT_OF_SHARE if cents > 1 else order.size
