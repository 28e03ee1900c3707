"""The common case, fast: frames of today's form that hold nothing unknown, typed in one pass.

`codec` reads any frame of any era, element by element, and says of everything what it was. That
takes ten times as long as JSON itself. Nearly all frames are one of four events in today's form,
and these msgspec decodes straight into Structs. Whatever it refuses (an unknown name, a missing
one, another era, a number that is no text), and whatever the readers refuse, is None here: then
`codec` reads the frame again and finds out. So what is read here is the same there, only slower;
a property test holds one against the other.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from polyactors.book.numbers import Side, parse_all_units, parse_units
from polyactors.protocol import _readers as read
from polyactors.protocol._elements import ELEMENTS_MAX
from polyactors.protocol._json import WireError
from polyactors.protocol.events import (
    BestBidAsk,
    BookSnapshot,
    LastTradePrice,
    LevelChange,
    MarketEvent,
    PriceChange,
)

T = TypeVar("T")

_REMEMBERED_MAX = 8192
"""Texts of one kind whose value is kept; all prices of a tick of 0.001 many times over."""

_Hash = Annotated[str, Meta(max_length=read.IDENTIFIER_LENGTH_MAX)]
_Market = Annotated[str, Meta(min_length=1, max_length=read.IDENTIFIER_LENGTH_MAX)]
_TimestampMs = Annotated[int, Meta(ge=read.SECONDS_BELOW, lt=read.TIMESTAMP_MS_BELOW)]


class Remembered(dict[str, T]):
    """What texts mean, by text: a hit costs a look-up. It forgets all when it is full."""

    def __init__(self, of: Callable[[str], T], limit: int = _REMEMBERED_MAX) -> None:
        super().__init__()
        self._of = of
        self._limit = limit

    def __missing__(self, text: str) -> T:
        value = self._of(text)
        if len(self) >= self._limit:
            self.clear()
        self[text] = value
        return value


# Equal tokens come out as the same object, which makes every later look-up by token faster.
_tokens = Remembered(read.read_token, 2 * _REMEMBERED_MAX)
_markets = Remembered(read.read_market, 2 * _REMEMBERED_MAX)
_prices = Remembered(read.read_level_price)
_sizes = Remembered(parse_units, 4 * _REMEMBERED_MAX)
_best_bids = Remembered(read.read_best_bid)
_best_asks = Remembered(read.read_best_ask)


class _Part(Struct, gc=False, forbid_unknown_fields=True):
    """A part of an event."""


class _Event(Struct, gc=False, forbid_unknown_fields=True, tag_field="event_type"):
    """An element of a frame. All names stand there, but those that may be UNSET."""


class _Level(_Part):
    price: str
    size: str


class _Change(_Part):
    asset_id: str
    price: str
    size: str
    side: Side
    hash: _Hash
    best_bid: str
    best_ask: str


class _Changes(_Event):
    market: _Market
    price_changes: list[_Change]

    def names(self) -> int:
        return 4 + 7 * len(self.price_changes)

    def at(self, timestamp_ms: int) -> PriceChange:
        return PriceChange(
            self.market,
            timestamp_ms,
            tuple(
                [
                    LevelChange(
                        _tokens[change.asset_id],
                        change.side,
                        _prices[change.price],
                        _sizes[change.size],
                        change.hash,
                        _best_bids[change.best_bid],
                        _best_asks[change.best_ask],
                    )
                    for change in self.price_changes
                ]
            ),
        )


class _PriceChange(_Changes, tag="price_change"):
    timestamp: str

    def read(self) -> PriceChange:
        return self.at(read.timestamp_ms_of(self.timestamp))


class _TimedChange(_Changes, tag="price_change"):
    """As `_PriceChange`, for a decoder that is not strict: it takes the text for the number."""

    timestamp: _TimestampMs

    def read(self) -> PriceChange:
        return self.at(self.timestamp)


class RestBook(_Part):
    """A book as REST states it: of the WebSocket's it has all but the type of the event."""

    market: str
    asset_id: str
    timestamp: str
    hash: _Hash
    bids: list[_Level]
    asks: list[_Level]
    min_order_size: str | UnsetType = UNSET
    tick_size: str | UnsetType = UNSET
    neg_risk: bool | UnsetType = UNSET
    last_trade_price: str | UnsetType = UNSET

    def names(self) -> int:
        optional = (self.tick_size, self.last_trade_price, self.min_order_size, self.neg_risk)
        stated = 4 - optional.count(UNSET)
        return 6 + stated + 2 * (len(self.bids) + len(self.asks))

    def read(self) -> BookSnapshot:
        tick_size, price, minimum = self.tick_size, self.last_trade_price, self.min_order_size
        return BookSnapshot(
            token=_tokens[self.asset_id],
            market=_markets[self.market],
            bids=read.best_last(Side.BID, _levels(self.bids)),
            asks=read.best_last(Side.ASK, _levels(self.asks)),
            hash=self.hash,
            timestamp_ms=read.timestamp_ms_of(self.timestamp),
            tick_size=None if tick_size is UNSET else read.read_optional_tick_text(tick_size),
            last_trade_price=None if price is UNSET else read.read_optional_number_text(price),
            min_order_size=None if minimum is UNSET else read.read_optional_decimal_text(minimum),
            neg_risk=None if self.neg_risk is UNSET else self.neg_risk,
            levels_json=f'"bids":{_text_of(self.bids)},"asks":{_text_of(self.asks)}',
        )


class _Book(RestBook, tag_field="event_type", tag="book"):
    def names(self) -> int:
        return 1 + super().names()


class _Trade(_Event, tag="last_trade_price"):
    market: str
    asset_id: str
    price: str
    size: str
    side: Side
    timestamp: str
    fee_rate_bps: str | UnsetType = UNSET
    transaction_hash: str | UnsetType = UNSET

    def names(self) -> int:
        return 7 + (self.fee_rate_bps is not UNSET) + (self.transaction_hash is not UNSET)

    def read(self) -> LastTradePrice:
        transaction = self.transaction_hash
        return LastTradePrice(
            token=_tokens[self.asset_id],
            market=_markets[self.market],
            price=read.read_trade_price(self.price),
            size=_sizes[self.size],
            side=self.side,
            timestamp_ms=read.timestamp_ms_of(self.timestamp),
            price_text=self.price,
            transaction_hash=None if transaction is UNSET else transaction or None,
        )


class _BestBidAsk(_Event, tag="best_bid_ask"):
    market: str
    asset_id: str
    best_bid: str
    best_ask: str
    timestamp: str
    spread: str | UnsetType = UNSET

    def names(self) -> int:
        return 6 + (self.spread is not UNSET)

    def read(self) -> BestBidAsk:
        return BestBidAsk(
            token=_tokens[self.asset_id],
            market=_markets[self.market],
            best_bid=_best_bids[self.best_bid],
            best_ask=_best_asks[self.best_ask],
            timestamp_ms=read.timestamp_ms_of(self.timestamp),
        )


_Typed = _PriceChange | _Book | _Trade | _BestBidAsk
_decode_one = msgspec.json.Decoder(_Typed).decode
# The tag stands last on the wire, so msgspec has to look for it before it can begin.
_CHANGE_ENDS = '"event_type":"price_change"}'
_decode_change = msgspec.json.Decoder(_TimedChange, strict=False).decode
_decode_rest_book = msgspec.json.Decoder(RestBook).decode
_decode_array = msgspec.json.Decoder(list[_Typed]).decode


def _text_of(levels: list[_Level]) -> str:
    return msgspec.json.encode(levels).decode()


def _levels(levels: list[_Level]) -> dict[int, int]:
    if len(levels) > read.LEVELS_MAX:
        raise WireError("too many levels")
    prices = [_prices[level.price] for level in levels]
    # Whole books have more sizes than are worth remembering.
    sizes = parse_all_units([level.size for level in levels])
    return dict(zip(prices, sizes, strict=True))  # the last size of a price counts


def read_known(frames: Sequence[str | bytes], begin: int) -> tuple[list[MarketEvent], int]:
    """The events of the frames from the one at `begin` on, up to the first in which not everything
    is known and well, and that one's index."""
    events: list[MarketEvent] = []
    for index in range(begin, len(frames)):
        frame = frames[index]
        if type(frame) is not str:
            return events, index
        try:
            # A name that is there twice would go unnoticed, but for its colon.
            if frame[:1] != "[":
                is_change = frame.endswith(_CHANGE_ENDS)
                element = _decode_change(frame) if is_change else _decode_one(frame)
                if frame.count(":") != element.names():
                    return events, index
                events.append(element.read())
            else:
                elements = _decode_array(frame)
                names = sum([element.names() for element in elements])
                if len(elements) > ELEMENTS_MAX or frame.count(":") != names:
                    return events, index
                events += [element.read() for element in elements]
        except (ValueError, RecursionError):  # msgspec's, too
            return events, index
    return events, len(frames)


def read_rest_book(body: bytes | msgspec.Raw) -> BookSnapshot | None:
    """A book of REST in which everything is known and well; None for any other."""
    try:
        book = _decode_rest_book(body)
        return book.read() if bytes(body).count(b":") == book.names() else None
    except (ValueError, RecursionError):
        return None
