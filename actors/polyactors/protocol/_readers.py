"""One function per kind of value on the wire: a plain JSON value in, our value out, or a WireError.

Each is a structure hook of cattrs, hence the second parameter, which none of them needs. The
channel sends decimal numbers as strings; JSON numbers are read too, exactly (`_json`). A
`null` is read as an absent value wherever a value may be absent.

Texts of prices, sizes and token ids recur all the time, so what they mean is cached.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from polyactors.book.numbers import (
    PRICE_ONE,
    TEXT_LENGTH_MAX,
    UNITS_PER_ONE,
    Side,
    parse_units,
    round_units,
    to_text,
)
from polyactors.protocol._json import WireError, decode_json, is_array

TOKEN_DIGITS_MAX = 78
"""A token id is an unsigned number of 256 bits: at most 78 decimal digits."""
IDENTIFIER_LENGTH_MAX = 100
"""Characters of a condition id (66 on the wire) or a hash (40 on the wire)."""
LEVELS_MAX = 100_000
"""Levels of one side of one book. A tick of 0.0001 has 9,999."""
SECONDS_BELOW = 10**11
"""A timestamp below this is in seconds, from here on in milliseconds.

10**11 seconds are the year 5138, 10**11 milliseconds are March 1973: no event of this exchange
(since 2020) can be taken for the other. The channel sends milliseconds; seconds stand in
documents and in the REST API.
"""
TIMESTAMP_MS_BELOW = 10**14
"""The same year 5138 in milliseconds: later ones are no timestamps."""
CACHED_TEXTS = 16_384
"""Texts whose meaning is kept, of each kind; all prices of a tick of 0.0001 fit."""

CACHED_SIZES = 2048
"""Sizes hardly repeat: a greater cache would only fill memory."""

_SIDES = {
    "BUY": Side.BID,
    "SELL": Side.ASK,
    "BID": Side.BID,
    "ASK": Side.ASK,
}
_JSON_WORDS: dict[type, str] = {
    dict: "an object",
    list: "an array",
    bool: "true or false",
    type(None): "null",
}


def show(value: object) -> str:
    """A value as it is named in an error sentence: short, whatever it is."""
    if isinstance(value, str):
        return repr(value) if len(value) <= TEXT_LENGTH_MAX else f"{value[:TEXT_LENGTH_MAX]!r}…"
    if type(value) is int:
        return str(value) if abs(value) < 10**TEXT_LENGTH_MAX else "a huge number"
    return _JSON_WORDS.get(type(value), "an object with a name twice")


def _number_text(value: object) -> str:
    if isinstance(value, str):
        return value
    # A bool is an int to Python, but no number to JSON.
    if type(value) is int:
        return str(value)
    raise WireError(f"expected a number, got {show(value)}")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise WireError(f"expected text, got {show(value)}")


# Names and plain text


@lru_cache(CACHED_TEXTS)
def _token_of(text: str) -> str:
    if len(text) <= TOKEN_DIGITS_MAX and text.isdigit() and text.isascii():
        return text
    raise WireError(f"not a token id of at most {TOKEN_DIGITS_MAX} decimal digits: {show(text)}")


def read_token(value: object, _: object = None) -> str:
    """An ERC-1155 token id: 1 to 78 decimal digits, as text or as an exact JSON integer."""
    # Equal ids come out as the same object, which makes every later look-up by token faster.
    return _token_of(value if type(value) is str else _number_text(value))


def read_tokens(value: object, _: object = None) -> tuple[str, ...]:
    """Token ids, as an array or as a string that holds one (Gamma); nothing when absent."""
    return tuple(read_token(item) for item in _items(value))


def read_texts(value: object, _: object = None) -> tuple[str, ...]:
    """Texts, as an array or as a string that holds one (Gamma); nothing when absent."""
    return tuple(_text(item) for item in _items(value))


def _items(value: object) -> list[object]:
    if isinstance(value, str) and value:
        value = decode_json(value)
    if value is None or value == "":
        return []
    if is_array(value):
        return value
    raise WireError(f"expected an array, got {show(value)}")


@lru_cache(CACHED_TEXTS)
def _market_of(text: str) -> str:
    if 0 < len(text) <= IDENTIFIER_LENGTH_MAX:
        return text
    raise WireError(f"not a condition id: {show(text)}")


def read_market(value: object, _: object = None) -> str:
    """A condition id: text of at most 100 characters, not empty (on the wire 0x + 64 digits)."""
    return _market_of(value if type(value) is str else _text(value))


def read_hash(value: object, _: object = None) -> str:
    """A book hash; "" when absent."""
    if type(value) is str and len(value) <= IDENTIFIER_LENGTH_MAX:
        return value
    if value is None:
        return ""
    raise WireError(f"not a hash: {show(value)}")


def read_text(value: object, _: object = None) -> str:
    """Text for people; "" when absent."""
    return "" if value is None else _text(value)


def read_optional_text(value: object, _: object = None) -> str | None:
    """Text; None when absent or empty."""
    return None if value is None else _text(value) or None


def read_optional_token(value: object, _: object = None) -> str | None:
    """A token id; None when absent or empty."""
    return None if value is None or value == "" else read_token(value)


def read_flag(value: object, _: object = None) -> bool:
    """True or false; false when absent."""
    return read_optional_flag(value) or False


def read_optional_flag(value: object, _: object = None) -> bool | None:
    """True or false; None when absent."""
    if value is None or isinstance(value, bool):
        return value
    raise WireError(f"expected true or false, got {show(value)}")


# Numbers


@lru_cache(CACHED_TEXTS)
def _level_price_of(text: str) -> int:
    price = parse_units(text)
    if 0 < price < PRICE_ONE:
        return price
    raise WireError(f"price of a level outside (0, 1): {show(text)}")


def read_level_price(value: object, _: object = None) -> int:
    """The price of a level in units, in (0, 1); any such price, on the tick's grid or off it."""
    return _level_price_of(value if type(value) is str else _number_text(value))


_size_of = lru_cache(CACHED_SIZES)(parse_units)


def read_size(value: object, _: object = None) -> int:
    """A number of shares in units, 0 or more."""
    return _size_of(value if type(value) is str else _number_text(value))


def read_trade_price(value: object, _: object = None) -> int:
    """The price of a trade in units, in [0, 1]."""
    return _trade_price_of(_number_text(value), parse_units)


def read_average_price(value: object, _: object = None) -> int:
    """The average price of a taker in units, in [0, 1]: informative only (no size follows from
    it), so decimals beyond the ninth are rounded, half to even, and refuse no trade."""
    return _trade_price_of(_number_text(value), round_units)


def _trade_price_of(text: str, units_of: Callable[[str], int]) -> int:
    price = units_of(text)
    if price > PRICE_ONE:
        raise WireError(f"price of a trade above 1: {show(text)}")
    return price


def read_number_text(value: object, _: object = None) -> str:
    """A number as the very text that stood on the wire."""
    text = _number_text(value)
    parse_units(text)
    return text


def read_optional_number_text(value: object, _: object = None) -> str | None:
    """A number as the very text that stood on the wire; "" stays "", None when absent."""
    if value is None:
        return None
    return "" if value == "" else read_number_text(value)


def read_optional_decimal_text(value: object, _: object = None) -> str | None:
    """A number in minimal decimals, as the exchange hashes it; None when absent or empty."""
    return None if value is None or value == "" else to_text(parse_units(_number_text(value)))


@lru_cache(CACHED_TEXTS)
def _best_of(text: str) -> int:
    """In units; 0 when the side is empty."""
    price = parse_units(text) if text else 0
    if price > PRICE_ONE:
        raise WireError(f"best price above 1: {show(text)}")
    return price if price < PRICE_ONE else 0


def read_best_bid(value: object, _: object = None) -> int:
    """The best bid in units; 0 when the side is empty.

    The wire says "0" or "" for an empty side; no level can stand at 0 or at 1, so both mean
    that there is none.
    """
    return _best_of(value if type(value) is str else _number_text(value))


def read_best_ask(value: object, _: object = None) -> int:
    """The best ask in units; PRICE_ONE when the side is empty (the wire's "1", "", or 0)."""
    return _best_of(value if type(value) is str else _number_text(value)) or PRICE_ONE


def read_optional_best_bid(value: object, _: object = None) -> int | None:
    """As `read_best_bid`; None when not stated."""
    return None if value is None else read_best_bid(value)


def read_optional_best_ask(value: object, _: object = None) -> int | None:
    """As `read_best_ask`; None when not stated."""
    return None if value is None else read_best_ask(value)


def read_tick_text(value: object, _: object = None) -> str:
    """A tick size as canonical text: any decimal in (0, 1), for new ones appear ("0.0025")."""
    text = _number_text(value)
    tick = parse_units(text)
    if 0 < tick < PRICE_ONE:
        return to_text(tick)
    raise WireError(f"tick size outside (0, 1): {show(text)}")


def read_optional_tick_text(value: object, _: object = None) -> str | None:
    """As `read_tick_text`; None when absent or empty."""
    return None if value is None or value == "" else read_tick_text(value)


def read_tick(value: object, _: object = None) -> Decimal:
    """A tick size: any decimal in (0, 1)."""
    return Decimal(read_tick_text(value))


def read_optional_tick(value: object, _: object = None) -> Decimal | None:
    """As `read_tick`; None when absent or empty."""
    return None if value is None or value == "" else read_tick(value)


def read_amount(value: object, _: object = None) -> Decimal:
    """An amount of money, exact, 0 or more, below 10**40; 0 when absent."""
    if value is None or value == "":
        return Decimal(0)
    text = _number_text(value)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0 or amount.adjusted() >= TEXT_LENGTH_MAX:
        raise WireError(f"not an amount of money: {show(text)}")
    return amount


def timestamp_ms_of(text: str) -> int:
    """As `read_timestamp_ms`, of the usual form at a third of the cost."""
    if len(text) == 13 and text[0] != "0" and text.isdigit() and text.isascii():
        return int(text)
    return read_timestamp_ms(text)


def read_timestamp_ms(value: object, _: object = None) -> int:
    """Milliseconds since the epoch, from seconds or milliseconds (`SECONDS_BELOW` tells).

    0 when absent, empty or 0. Fractions of a millisecond are cut off.
    """
    if value is None or value == "":
        return 0
    text = _number_text(value)
    units = parse_units(text)
    if units < SECONDS_BELOW * UNITS_PER_ONE:
        units *= 1000
    timestamp_ms = units // UNITS_PER_ONE
    if timestamp_ms >= TIMESTAMP_MS_BELOW:
        raise WireError(f"not a timestamp in seconds or milliseconds: {show(text)}")
    return timestamp_ms


# Sides and levels


def read_side(value: object, _: object = None) -> Side:
    """BUY and bid are BID, SELL and ask are ASK, in any case."""
    if isinstance(value, str):
        side = _SIDES.get(value) or _SIDES.get(value.upper())
        if side is not None:
            return side
    raise WireError(f"not a side: {show(value)}")


def read_bids(value: object, _: object = None) -> dict[int, int]:
    """Levels in ascending order of price, whatever their order on the wire."""
    return best_last(Side.BID, _levels(value))


def read_asks(value: object, _: object = None) -> dict[int, int]:
    """Levels in descending order of price, whatever their order on the wire."""
    return best_last(Side.ASK, _levels(value))


def best_last(side: Side, sizes: dict[int, int]) -> dict[int, int]:
    """The levels of a side, size by price, in the order of the wire and without zero sizes."""
    prices = sorted(sizes, reverse=side is Side.ASK)
    if prices == list(sizes) and all(sizes.values()):
        return sizes
    return {price: sizes[price] for price in prices if sizes[price]}


def _levels(value: object) -> dict[int, int]:
    """Size by price; of a price that is there twice the last size counts."""
    if value is None:
        return {}
    if not is_array(value):
        raise WireError(f"expected an array of levels, got {show(value)}")
    if len(value) > LEVELS_MAX:
        raise WireError(f"{len(value)} levels on one side, at most {LEVELS_MAX} are read")
    sizes: dict[int, int] = {}
    try:
        for level in value:
            sizes[read_level_price(level["price"])] = read_size(level["size"])
    except TypeError:
        raise WireError("expected levels, objects with price and size") from None
    return sizes
