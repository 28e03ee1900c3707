"""A quiet market to trade in, and what tests of accounts look at."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from polyactors.book.integrity import book_hash
from polyactors.book.numbers import PRICE_ONE, Side, parse_units
from polyactors.venue import Venue
from polyactors.venue.engine import YES
from polyactors.venue.market import Market

CENT = PRICE_ONE // 100
SHARE = PRICE_ONE
BUY, SELL = Side.BID, Side.ASK
NOW_MS = 1_789_156_413_823


def quiet_venue(markets: int = 1, seed: int = 1, **more: Any) -> Venue:
    """No trader does anything but by `step`, and the exchange's clock stands still."""
    return Venue(seed=seed, markets=markets, rate=0, now_ms=lambda: NOW_MS, **more)


def empty_book(venue: Venue, index: int = 0) -> Market:
    """A market of which the flow's orders are gone: what accounts place is all there is."""
    market = venue.market_at(venue.markets[index])
    market.engine.cancel(list(market.engine.orders), NOW_MS)
    return market


def assert_sound(venue: Venue) -> None:
    """Every book hashes to what it says, is not crossed, and mirrors its complement."""
    books = venue.books()
    for listing in venue.markets:
        yes, no = (books[token] for token in listing.tokens)
        for book in (yes, no):
            assert book["hash"] == _hash_of(book)
        for side, mirrored in (("bids", "asks"), ("asks", "bids")):
            assert _levels(yes[side]) == [
                (Decimal(1) - price, size) for price, size in _levels(no[mirrored])
            ]
        state = venue.market_at(listing).engine.states[YES]
        assert state.best_bid < state.best_ask


def _levels(levels: Any) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(level["price"]), Decimal(level["size"])) for level in levels]


def _hash_of(book: Mapping[str, Any]) -> str:
    bids, asks = (
        tuple((parse_units(level["price"]), parse_units(level["size"])) for level in book[side])
        for side in ("bids", "asks")
    )
    return book_hash(
        market=book["market"],
        token=book["asset_id"],
        timestamp_ms=int(book["timestamp"]),
        bids=bids,
        asks=asks,
        min_order_size=book["min_order_size"],
        tick_size=book["tick_size"],
        neg_risk=book["neg_risk"],
        last_trade_price=book["last_trade_price"],
    )
