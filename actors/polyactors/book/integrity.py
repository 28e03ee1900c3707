"""The book summary hash: the only end-to-end check that the exchange offers.

SHA-1 over compact JSON of the REST book with an empty `hash`. Fields, their order and their
formats are verified against captures from 2024 to 2026; no document of the exchange states
them. The one weak input is the last trade price: it is the market's, not the token's, it has
three decimals, and the exchange may use a newer one than it has told us yet.
"""

import json
from collections.abc import Iterable, Sequence
from hashlib import sha1
from itertools import chain, islice

from polyactors.book.numbers import to_text


def _last_trade_price_tail(price: str) -> bytes:
    return f',"last_trade_price":{json.dumps(price)}}}'.encode()


_SEARCHED: tuple[tuple[str, bytes], ...] = tuple(
    (price, _last_trade_price_tail(price))
    for price in ("", *(f"{thousandths / 1000:.3f}" for thousandths in range(1001)))
)
"""Every last trade price that the exchange is known to write, with its end of the pre-image;
"" is a never-traded market."""

_ERAS = frozenset(
    {
        (False, False, False, False, False),
        (True, False, False, False, False),
        (True, True, True, True, False),
        (True, True, True, True, True),
    }
)
"""Presence of timestamp, min_order_size, tick_size, neg_risk, last_trade_price."""


def book_hash(
    *,
    market: str,
    token: str,
    timestamp_ms: int | None,
    bids: Sequence[tuple[int, int]],
    asks: Sequence[tuple[int, int]],
    min_order_size: str | None,
    tick_size: str | None,
    neg_risk: bool | None,
    last_trade_price: str | None,
) -> str:
    """The hash of a book, 40 hex digits, as the exchange computes it.

    `bids` and `asks` are (price, size) in units in the order of the wire (bids ascending,
    asks descending: `OrderBook.wire_bids`). The four texts and the flag are as on the wire;
    they are no part of the levels, and a wrong one gives a wrong hash.

    None leaves a field out, which older recordings need. The eras are: no timestamp (October
    2024), a timestamp (November 2024), and min_order_size, tick_size and neg_risk (July 2025),
    and last_trade_price (since about December 2025, the current one).

    Raises:
        ValueError: no era has just these fields. An unknown input is not an absent one.
    """
    known = (timestamp_ms, min_order_size, tick_size, neg_risk, last_trade_price)
    if tuple(value is not None for value in known) not in _ERAS:
        raise ValueError("no era of the book hash has just these fields")
    levels = _both_sides_json(bids, asks)
    text = _before_last_trade_price(
        market, token, timestamp_ms, levels, min_order_size, tick_size, neg_risk
    )
    tail = b"}" if last_trade_price is None else _last_trade_price_tail(last_trade_price)
    return sha1(text.encode() + tail, usedforsecurity=False).hexdigest()


class PriceSearch:
    """The search for the last trade price with which a book hashes to `hash`, in slices.

    Tries `candidates` (what is known of the market) in order, then "" and 0.000 to 1.000. A
    hit proves every level right, so it also proves that the exchange's last trade price was
    this one. None proves that levels or inputs differ, as long as the exchange writes three
    decimals, which is unverified for ticks finer than 0.001.

    The last trade price is the last field, so all before it is hashed once, here, and that
    state is copied for each candidate: about a millisecond for all 1,002 of them. The book may
    change while a search is under way.
    """

    __slots__ = ("_before", "_hash", "_rest", "found", "is_over")

    def __init__(
        self,
        *,
        hash: str,  # noqa: A002 - the wire's own word, as in the messages
        candidates: Iterable[str],
        market: str,
        token: str,
        timestamp_ms: int,
        bids: Sequence[tuple[int, int]],
        asks: Sequence[tuple[int, int]],
        min_order_size: str,
        tick_size: str,
        neg_risk: bool,
        levels_json: str = "",
    ) -> None:
        """`levels_json`: what stands in the pre-image instead of `bids` and `asks`."""
        levels = levels_json or _both_sides_json(bids, asks)
        text = _before_last_trade_price(
            market, token, timestamp_ms, levels, min_order_size, tick_size, neg_risk
        )
        self._before = sha1(text.encode(), usedforsecurity=False)
        self._hash = hash
        known = [(price, _last_trade_price_tail(price)) for price in candidates]
        self._rest = chain(known, _SEARCHED)
        self.found: str | None = None
        """The last trade price that hit."""
        self.is_over = False
        """Found, or nothing is left to try."""

    def run(self, count: int | None = None) -> bool:
        """Try `count` more candidates, None for all that are left; whether it is over now."""
        if self.is_over:
            return True
        tried = 0
        for price, tail in islice(self._rest, count):
            tried += 1
            state = self._before.copy()
            state.update(tail)
            if state.hexdigest() == self._hash:
                self.found = price
                self.is_over = True
                return True
        self.is_over = count is None or tried < count
        return self.is_over


def _before_last_trade_price(
    market: str,
    token: str,
    timestamp_ms: int | None,
    levels: str,
    min_order_size: str | None,
    tick_size: str | None,
    neg_risk: bool | None,
) -> str:
    parts = [f'{{"market":{json.dumps(market)},"asset_id":{json.dumps(token)}']
    if timestamp_ms is not None:
        parts.append(f',"timestamp":"{timestamp_ms}"')
    parts.append(f',"hash":"",{levels}')
    if min_order_size is not None:
        parts.append(
            f',"min_order_size":{json.dumps(min_order_size)},"tick_size":{json.dumps(tick_size)}'
            f',"neg_risk":{json.dumps(neg_risk)}'
        )
    return "".join(parts)


def _both_sides_json(bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> str:
    return f'"bids":{_levels_json(bids)},"asks":{_levels_json(asks)}'


def _levels_json(levels: Sequence[tuple[int, int]]) -> str:
    return (
        "["
        + ",".join(
            f'{{"price":"{to_text(price)}","size":"{to_text(size)}"}}' for price, size in levels
        )
        + "]"
    )
