"""What is summed up over trades and reconciliations: the fills of each order, and up to where the
trades of each market are complete."""

from collections.abc import Container, Iterable

from polyactors.account.trades import Fill, Trade

ALL = ""
"""In place of a market: whatever market."""


class TradedSizes:
    """What the known trades say was matched of each order, in units."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._left_out: set[tuple[str, str]] = set()  # fills, by trade and order

    def of(self, order_id: str) -> int:
        """The sum of an order's fills."""
        return self._sizes.get(order_id, 0)

    def add(self, fill: Fill) -> int:
        """Count a fill, once; returns the new sum."""
        self._sizes[fill.order_id] = self.of(fill.order_id) + fill.size
        return self._sizes[fill.order_id]

    def leave_out_failed(self, order_id: str, trades: Iterable[Trade]) -> None:
        """What FAILED is no part of this order's sum any more."""
        for trade in trades:
            for fill in trade.fills:
                identity = (trade.id, order_id)
                is_meant = fill.order_id == order_id and not trade.counts
                if is_meant and identity not in self._left_out:
                    self._left_out.add(identity)
                    self._sizes[order_id] = max(0, self.of(order_id) - fill.size)

    def forget_order(self, order_id: str) -> None:
        """The order is not known any more."""
        self._sizes.pop(order_id, None)

    def forget_trade(self, trade: Trade, orders: Container[str]) -> None:
        """The trade is not known any more; of `orders` the sums stay."""
        for fill in trade.fills:
            identity = (trade.id, fill.order_id)
            if identity in self._left_out:
                self._left_out.remove(identity)
            elif fill.order_id not in orders:
                left = self._sizes.pop(fill.order_id, 0) - fill.size
                if left > 0:
                    self._sizes[fill.order_id] = left


class Completeness:
    """Up to which second the trades of a market are all known."""

    def __init__(self) -> None:
        self._to_s: dict[str, int] = {}  # also of markets that were left
        self._forgotten_to_s: dict[str, int] = {}  # by market: the newest trade forgotten

    def cover(self, markets: frozenset[str], to_s: int) -> None:
        """A reconciliation of these markets is finished; none stand for all."""
        if not markets:
            self._to_s.clear()
        self._to_s.update(dict.fromkeys(markets or (ALL,), to_s))

    def to_s(self, market: str) -> int:
        """Of a market that was left it is what was complete then: it may lack trades since."""
        return self._to_s.get(market, self._to_s.get(ALL, -1))

    def forget(self, trade: Trade) -> None:
        """The trade is not known any more; an event about it is nothing new."""
        newest_s = max(trade.match_time_s, self._forgotten_to_s.get(trade.market, -1))
        self._forgotten_to_s[trade.market] = newest_s

    def is_forgotten(self, market: str, match_time_s: int) -> bool:
        """Whether a trade that is not known is one that was forgotten: no older one is new."""
        return match_time_s <= self._forgotten_to_s.get(market, -1)
