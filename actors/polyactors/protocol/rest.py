"""Bodies of REST answers become messages: books of the CLOB, listings of Gamma.

Every function takes the body of a 200 and raises `WireError`, one sentence, when it is not what
was asked for. In a list, one bad element never loses the others.
"""

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from polyactors.protocol._json import (
    Wire,
    WireError,
    decode_json,
    decode_unambiguous_json,
    excerpt_of_value,
    is_array,
    is_object,
)
from polyactors.protocol._readers import read_text, read_tick_text, read_tokens, show
from polyactors.protocol._typed import read_rest_book
from polyactors.protocol._wire import MODERNISE, converter
from polyactors.protocol.codec import tokens_in
from polyactors.protocol.events import BookSnapshot, Unreadable
from polyactors.protocol.listings import MarketListing, MarketsPage

__all__ = [
    "END_CURSOR",
    "MarketListing",
    "MarketsPage",
    "WireError",
    "decode_book",
    "decode_books",
    "decode_events",
    "decode_markets_page",
    "decode_tick_size",
    "each_book",
]

END_CURSOR = "LTE="
"""`next_cursor` of the last page on the CLOB (official Python client). Gamma sends none."""

T = TypeVar("T")


def decode_book(body: bytes) -> BookSnapshot:
    """The book of GET /book.

    Raises:
        WireError: no such book; an `error` that the exchange sent instead is quoted.
    """
    return read_rest_book(body) or _structure(decode_unambiguous_json(body), BookSnapshot)


def decode_books(body: bytes) -> tuple[list[BookSnapshot], list[Unreadable]]:
    """The books of POST /books, and what of the answer could not be read.

    Tokens that the exchange does not know are missing without a word.

    Raises:
        WireError: the body is no JSON array.
    """
    books: list[BookSnapshot] = []
    unreadable: list[Unreadable] = []
    for book in each_book(body):
        if isinstance(book, Unreadable):
            unreadable.append(book)
        else:
            books.append(book)
    return books, unreadable


def each_book(body: bytes) -> Iterator[BookSnapshot | Unreadable]:
    """What `decode_books` gives, in the answer's order and one at a time: most of the work is done
    as the iterator advances, so that who must not be long can pause between.

    Raises:
        WireError: the body is no JSON array; at once, not when the iterator advances.
    """
    try:
        elements = _decode_elements(body)  # 500 books at once would take 20 MB
    except (ValueError, RecursionError):
        return map(_book_or_unreadable, _array(decode_unambiguous_json(body), "books"))
    return map(_each_book_or_unreadable, elements)


_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _each_book_or_unreadable(element: msgspec.Raw) -> BookSnapshot | Unreadable:
    book = read_rest_book(element)
    if book is not None:
        return book
    try:
        value = decode_unambiguous_json(bytes(element))
    except WireError as error:
        return _unreadable(error, bytes(element).decode(errors="replace"))
    return _book_or_unreadable(value)


def _book_or_unreadable(element: object) -> BookSnapshot | Unreadable:
    try:
        return _structure(element, BookSnapshot)
    except WireError as error:
        return _unreadable(error, element)


def decode_tick_size(body: bytes) -> str:
    """The tick of GET /tick-size, canonical text: "0.01" for {"minimum_tick_size": 0.01}.

    Raises:
        WireError: no such answer.
    """
    wire = _object(decode_json(body), "a tick size")
    try:
        return read_tick_text(wire.get("minimum_tick_size"))
    except ValueError as error:
        raise WireError(f"minimum_tick_size: {error}") from None


def decode_markets_page(body: bytes) -> MarketsPage:
    """A page of Gamma's GET /markets/keyset: {"markets": […], "next_cursor": "…"}.

    Read as well: {"data": […], "next_cursor": …}, and the bare array of the older GET /markets.
    Markets without an order book (`enableOrderBook` is false, or no token ids) are counted and
    left out.

    Raises:
        WireError: none of these.
    """
    page = decode_json(body)
    if is_array(page):
        return _read_markets(page, "")
    wire = _object(page, "a page of markets")
    markets = wire["markets"] if "markets" in wire else wire.get("data")
    cursor = _cursor(wire.get("next_cursor"))
    return _read_markets(_array(markets, "markets"), cursor)


def decode_events(body: bytes) -> list[MarketListing]:
    """The markets of Gamma's GET /events or /events/keyset, open or not, that have an order book.

    Raises:
        WireError: no such answer, or none of its markets could be read.
    """
    answer = decode_json(body)
    if is_object(answer):
        answer = answer.get("events", [answer])
    rows = [
        row
        for event in _array(answer, "events")
        for row in _array(_object(event, "an event").get("markets") or [], "markets")
    ]
    page = _read_markets(rows, "")
    if page.unreadable and not page.markets:
        raise WireError(page.unreadable[0].why)
    return list(page.markets)


def _read_markets(rows: list[object], cursor: str) -> MarketsPage:
    markets: list[MarketListing] = []
    unreadable: list[Unreadable] = []
    without_book = 0
    for row in rows:
        try:
            if _has_book(row):
                markets.append(_structure(row, MarketListing))
            else:
                without_book += 1
        except WireError as error:
            unreadable.append(_unreadable(error, row))
    return MarketsPage(tuple(markets), cursor, tuple(unreadable), without_book)


def _has_book(row: object) -> bool:
    wire = _object(row, "a market")
    if "conditionId" not in wire:
        raise WireError("has no conditionId")
    if wire.get("enableOrderBook") is False:
        return False
    return bool(read_tokens(wire.get("clobTokenIds")))


def _structure(value: object, message: type[T]) -> T:
    wire = _object(value, "an order book" if message is BookSnapshot else "a market")
    try:
        read = converter.structure(MODERNISE[message](wire), message)
    except KeyError as error:
        if isinstance(wire.get("error"), str):
            raise WireError(f"the exchange answered {show(wire['error'])}") from None
        raise WireError(f"has no {error.args[0]}") from None
    except ValueError as error:
        raise WireError(str(error)) from None
    if isinstance(read, MarketListing) and read.outcomes and len(read.outcomes) != len(read.tokens):
        raise WireError(f"{len(read.tokens)} tokens for {len(read.outcomes)} outcomes")
    return read


def _unreadable(error: WireError, element: object) -> Unreadable:
    return Unreadable(str(error), excerpt_of_value(element), tokens_in(element))


def _cursor(value: object) -> str:
    cursor = read_text(value)
    return "" if cursor == END_CURSOR else cursor


def _object(value: object, what: str) -> Wire:
    if is_object(value):
        return value
    raise WireError(f"expected {what}, got {show(value)}")


def _array(value: object, what: str) -> list[object]:
    if is_array(value):
        return value
    raise WireError(f"expected an array of {what}, got {show(value)}")
