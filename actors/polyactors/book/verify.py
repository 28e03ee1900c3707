"""Whether a local book hashes to what the exchange stated, as far as that can be known."""

from collections.abc import Sequence
from decimal import Decimal
from enum import Enum

from attrs import define

from polyactors.book.integrity import PriceSearch
from polyactors.book.orderbook import OrderBook

FINEST_VERIFIED_TICK = Decimal("0.001")
"""For finer ticks the format of the last trade price in the hash is unknown (INTEGRITY.md 5)."""
OTHER_TICKS = ("0.1", "0.01", "0.001")
"""Tried when the stated tick does not fit: the place of a tick_size_change among the steps is
disputed, and one can be lost. A hit proves the levels all the same."""
CANDIDATES_PER_SLICE = 400
"""Last trade prices tried in one go: well below a millisecond."""
FORMER_TICK_SIZES_MAX = 3
KNOWN_PRICES_MAX = 4
"""Last trade prices of one market that are remembered."""


class Verdict(Enum):
    """What the hash of a book proves."""

    RIGHT = "right"
    """Every level is the exchange's."""
    WRONG = "wrong"
    """Something differs."""
    UNVERIFIABLE = "unverifiable"
    """An input of the hash is unknown, or its format is."""


@define
class HashInputs:
    """What the hash of a token's book needs besides its levels; None while unknown."""

    tick_size: str | None = None
    min_order_size: str | None = None
    neg_risk: bool | None = None
    former_tick_sizes: tuple[str, ...] = ()
    """Until a book has hashed with `tick_size`: what it was before, the newest first. Steps of
    that time may still be judged, or under way."""

    def learn(
        self,
        tick_size: str | None = None,
        min_order_size: str | None = None,
        neg_risk: bool | None = None,
    ) -> None:
        """Take over what a message states; most state none of it."""
        if tick_size is not None and tick_size != self.tick_size:
            if self.tick_size is not None:
                former = (self.tick_size, *self.former_tick_sizes)
                self.former_tick_sizes = former[:FORMER_TICK_SIZES_MAX]
            self.tick_size = tick_size
        self.min_order_size = self.min_order_size if min_order_size is None else min_order_size
        self.neg_risk = self.neg_risk if neg_risk is None else neg_risk

    def prove(self, tick_size: str | None) -> None:
        """A book has hashed with this tick size."""
        if tick_size == self.tick_size:
            self.former_tick_sizes = ()
        elif tick_size not in self.former_tick_sizes:
            self.learn(tick_size)  # a change that was never told


class LastTradePrices:
    """The last trade prices that are known of each market, as texts, the newest first.

    The hash takes the market's, whichever of its tokens traded, and the exchange uses a new one
    before it tells: so the older ones are kept, too, for what is still under way.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, ...]] = {}

    def known(self, market: str) -> tuple[str, ...]:
        """What to try first, the newest first; at most KNOWN_PRICES_MAX."""
        return self._known.get(market, ())

    def learn(self, market: str, price: str) -> None:
        """The market has traded at this price, or a hash has shown so."""
        known = self._known.get(market, ())
        if known[:1] != (price,):
            others = (one for one in known if one != price)
            self._known[market] = (price, *others)[:KNOWN_PRICES_MAX]


class HashCheck:
    """One comparison of a book, as it is now, with the hash stated for it; in slices.

    The verdict is None until `run` has come to it. To begin costs a copy of the levels; what the
    first `run` costs is their hash (about 1 µs a level), and each as many candidates as it is
    allowed. The book may change meanwhile.
    """

    __slots__ = (
        "_begin", "_is_known_format", "_known", "_other_ticks", "_search", "last_trade_price",
        "stated_tick_size", "tick_size", "verdict",
    )  # fmt: skip

    def __init__(
        self,
        book: OrderBook,
        book_hash: str,
        timestamp_ms: int,
        inputs: HashInputs,
        last_trade_prices: Sequence[str],
        levels_json: str = "",
    ) -> None:
        """`levels_json`: the levels as they were received, to be hashed instead of the book's."""
        self.verdict: Verdict | None = None
        self._known = tuple(last_trade_prices)
        self.last_trade_price: str | None = None
        """The one with which the book is RIGHT."""
        self.stated_tick_size = inputs.tick_size
        """What was known when the check began."""
        self.tick_size: str | None = inputs.tick_size
        """The one with which the book is RIGHT."""
        if (
            not book_hash
            or inputs.tick_size is None
            or inputs.min_order_size is None
            or inputs.neg_risk is None
        ):
            self.verdict = Verdict.UNVERIFIABLE
            return
        bids, asks = ([], []) if levels_json else (book.wire_bids, book.wire_asks)
        minimum, neg_risk = inputs.min_order_size, inputs.neg_risk

        def search(tick_size: str) -> PriceSearch:
            return PriceSearch(
                hash=book_hash,
                candidates=self._known,
                market=book.market,
                token=book.token,
                timestamp_ms=timestamp_ms,
                bids=bids,
                asks=asks,
                min_order_size=minimum,
                tick_size=tick_size,
                neg_risk=neg_risk,
                levels_json=levels_json,
            )

        self._begin = search
        self._search: PriceSearch | None = None
        ticks = (inputs.tick_size, *inputs.former_tick_sizes)
        self._is_known_format = all(Decimal(tick) >= FINEST_VERIFIED_TICK for tick in ticks)
        self._other_ticks = list(dict.fromkeys((*ticks, *OTHER_TICKS)))[1:]

    def run(self, candidates: int | None = None) -> Verdict | None:
        """Try so many more last trade prices, None for all; None as long as it is open."""
        while self.verdict is None:
            if self._search is None:
                assert self.tick_size is not None, "without one there is a verdict"
                self._search = self._begin(self.tick_size)
            if not self._search.run(candidates):
                break
            if self._search.found is not None or not self._other_ticks:
                self.verdict = self._judge(self._search.found)
            else:
                # Both may be unknown: the tick has just changed, and a trade is not told yet.
                self.tick_size = self._other_ticks.pop(0)
                self._search = None
                if candidates is not None:
                    break
        return self.verdict

    def run_known(self) -> Verdict | None:
        """Try the last trade prices that are known, and no others."""
        return self.run(len(self._known)) if self._known else self.verdict

    def _judge(self, found: str | None) -> Verdict:
        self.last_trade_price = found
        if found is not None:
            return Verdict.RIGHT
        self.tick_size = self.stated_tick_size
        return Verdict.WRONG if self._is_known_format else Verdict.UNVERIFIABLE
