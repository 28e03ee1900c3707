"""What the exchange of the benchmark says: markets with true book hashes, encoded in advance.

A hash covers every level of a book, and each message states two. So the JSON text of every level
is kept in sorted lists: joining and hashing 100 of them costs a few microseconds.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from hashlib import sha1
from random import Random
from typing import Any, Self

TICKS = 1000
"""Prices are whole thousandths, here as everywhere in the benchmark: ticks."""
MIN_ORDER_SIZE = "5"
SIZES = 20_000
"""Different sizes in a stream."""
EPOCH_MS = 1_790_000_000_000
"""Timestamps are this plus microseconds of the schedule: what the wire has room for."""

PRICES = tuple(f"{tick / TICKS:.3f}".rstrip("0").rstrip(".") for tick in range(TICKS + 1))
TICK_OF = {price: tick for tick, price in enumerate(PRICES)}

Top = tuple[int, int, int, int]
"""Best bid, best ask, number of bids, number of asks."""


def level(tick: int, size: str) -> str:
    """One level as it stands in a book."""
    return f'{{"price":"{PRICES[tick]}","size":"{size}"}}'


class Side:
    """The bids of one token, which are the asks of the other one, mirrored. Best is last."""

    def __init__(self, sizes: Mapping[int, str]) -> None:
        self.ticks = sorted(sizes)
        self.bids = [level(tick, sizes[tick]) for tick in self.ticks]
        self.asks = [level(TICKS - tick, sizes[tick]) for tick in self.ticks]

    def set(self, tick: int, size: str) -> None:
        """Set the size at a price, "0" for none."""
        at = bisect_left(self.ticks, tick)
        is_there = at < len(self.ticks) and self.ticks[at] == tick
        if size == "0":
            if is_there:
                del self.ticks[at], self.bids[at], self.asks[at]
        elif is_there:
            self.bids[at], self.asks[at] = level(tick, size), level(TICKS - tick, size)
        else:
            self.ticks.insert(at, tick)
            self.bids.insert(at, level(tick, size))
            self.asks.insert(at, level(TICKS - tick, size))


class Market:
    """The books of both tokens. `sides[i]` are the bids of token i and the asks of the other."""

    def __init__(
        self, condition: str, tokens: tuple[str, str], sides: tuple[Side, Side], last_price: str
    ) -> None:
        self.condition = condition
        self.tokens = tokens
        self.sides = sides
        self.last_price = last_price
        self._heads = [f'{{"market":"{condition}","asset_id":"{token}"' for token in tokens]
        self._rest_tail = (
            f'"min_order_size":"{MIN_ORDER_SIZE}","tick_size":"0.001","neg_risk":false,'
            f'"last_trade_price":"{last_price}"}}'
        )

    @classmethod
    def from_books(cls, books: Iterable[Mapping[str, Any]]) -> Self:
        """The market whose two books these are, as decoded from the wire."""
        first, second = books
        sides = [
            Side({TICK_OF[one["price"]]: one["size"] for one in book["bids"]})
            for book in (first, second)
        ]
        return cls(
            first["market"],
            (first["asset_id"], second["asset_id"]),
            (sides[0], sides[1]),
            first["last_trade_price"],
        )

    def top(self, token: int) -> Top:
        """The top of the book of a token, 0 or 1."""
        bids, asks = self.sides[token].ticks, self.sides[1 - token].ticks
        return bids[-1], TICKS - asks[-1], len(bids), len(asks)

    def hash(self, token: int, timestamp_ms: int) -> str:
        """The exchange's hash of a token's book."""
        return sha1(self._rest_text(token, timestamp_ms, "").encode()).hexdigest()

    def rest_book(self, token: int, timestamp_ms: int) -> str:
        """The book as REST has it."""
        return self._rest_text(token, timestamp_ms, self.hash(token, timestamp_ms))

    def first_book(self, token: int, timestamp_ms: int) -> str:
        """The book as it answers a subscription."""
        return (
            self._head(token, timestamp_ms, self.hash(token, timestamp_ms))
            + '"tick_size":"0.001","event_type":"book",'
            f'"last_trade_price":"{self.last_price}"}}'
        )

    def change(self, token: int, tick: int, size: str, timestamp_ms: int) -> str:
        """Set a bid of a token, and the message that tells of it: of both tokens' books."""
        self.sides[token].set(tick, size)
        entries = [
            self._entry(token, tick, size, "BUY", timestamp_ms),
            self._entry(1 - token, TICKS - tick, size, "SELL", timestamp_ms),
        ]
        if token == 1:
            entries.reverse()
        return (
            f'{{"market":"{self.condition}","price_changes":[{",".join(entries)}],'
            f'"timestamp":"{timestamp_ms}","event_type":"price_change"}}'
        )

    def trade(self, timestamp_ms: int) -> str:
        """A trade at the last price, which changes nothing."""
        return (
            f'{{"market":"{self.condition}","asset_id":"{self.tokens[0]}",'
            f'"price":"{self.last_price.rstrip("0")}","size":"1","fee_rate_bps":"0","side":"BUY",'
            f'"timestamp":"{timestamp_ms}","event_type":"last_trade_price"}}'
        )

    def apply(self, message: Mapping[str, Any]) -> None:
        """Follow a message that `change` made."""
        for entry in message["price_changes"]:
            if entry["side"] == "BUY":
                token = self.tokens.index(entry["asset_id"])
                self.sides[token].set(TICK_OF[entry["price"]], entry["size"])

    def _entry(self, token: int, tick: int, size: str, side: str, timestamp_ms: int) -> str:
        bid, ask, _, _ = self.top(token)
        return (
            f'{{"asset_id":"{self.tokens[token]}","price":"{PRICES[tick]}","size":"{size}",'
            f'"side":"{side}","hash":"{self.hash(token, timestamp_ms)}",'
            f'"best_bid":"{PRICES[bid]}","best_ask":"{PRICES[ask]}"}}'
        )

    def _head(self, token: int, timestamp_ms: int, book_hash: str) -> str:
        bids, asks = self.sides[token].bids, self.sides[1 - token].asks
        return (
            f'{self._heads[token]},"timestamp":"{timestamp_ms}","hash":"{book_hash}",'
            f'"bids":[{",".join(bids)}],"asks":[{",".join(asks)}],'
        )

    def _rest_text(self, token: int, timestamp_ms: int, book_hash: str) -> str:
        return self._head(token, timestamp_ms, book_hash) + self._rest_tail


class Trading:
    """Endless changes of some markets, the same for the same seed."""

    def __init__(self, tokens: int, levels: int, seed: int = 7) -> None:
        self._random = Random(seed)
        self._levels = levels
        cents = (self._random.randrange(500, 500_000) for _ in range(SIZES))
        self._sizes = [f"{cent / 100:.2f}".rstrip("0").rstrip(".") for cent in cents]
        self.markets = [self._open() for _ in range(tokens // 2)]

    def step(self, timestamp_ms: int) -> tuple[int, str]:
        """The number of a market in which something happens, and the message that tells it."""
        random = self._random
        number = self._choose()
        market = self.markets[number]
        token = random.randrange(2)
        side, other = market.sides[token].ticks, market.sides[1 - token].ticks
        best = side[-1]
        tick = max(1, best - min(int(random.expovariate(0.25)), self._levels - 5))
        if random.random() < 0.15 and best + 1 + other[-1] < TICKS:
            tick = best + 1
        is_full = len(side) > self._levels // 2
        at = bisect_left(side, tick)
        is_there = at < len(side) and side[at] == tick
        is_cancelled = is_there and is_full and random.random() < 0.3
        size = "0" if is_cancelled else random.choice(self._sizes)
        return number, market.change(token, tick, size, timestamp_ms)

    def _choose(self) -> int:
        """Few markets are busy and many are not, as in life."""
        count = len(self.markets)
        if count <= 20:
            return self._random.randrange(count)
        return min(int(self._random.expovariate(5 / count)), count - 1)

    def _open(self) -> Market:
        random = self._random
        price = random.randrange(200, 800)
        tokens = str(random.randrange(10**76, 10**77)), str(random.randrange(10**76, 10**77))
        sides = [
            Side({best - depth: random.choice(self._sizes) for depth in range(self._levels)})
            for best in (price - 1, TICKS - price - 1)
        ]
        condition = f"0x{random.getrandbits(256):064x}"
        return Market(condition, tokens, (sides[0], sides[1]), f"{price / TICKS:.3f}")
