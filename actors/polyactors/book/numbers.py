"""Exact numbers: prices and sizes as integers of 1e-9, decimal text at the edges.

Integers compare and add fast and exactly, and each value has one form only, so ".48" and
"0.48" are one price level. Users see `Decimal`.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache
from itertools import repeat

DECIMALS_MAX = 9
"""Decimals that a price or size may have. The wire has at most 6 (sizes of trades)."""
UNITS_PER_ONE: int = 10**DECIMALS_MAX
"""Units in the number 1."""
PRICE_ONE = UNITS_PER_ONE
"""The price 1 USDC per share: what a share of the winning outcome pays."""
TEXT_LENGTH_MAX = 40
"""Characters that `parse_units` reads; a longer text cannot be a price or size."""
_REMEMBERED_MAX = 2048
"""Conversions to text and to Decimal that are kept: prices are few and come again and again,
and converting the best two anew costs about as much as decoding a message."""

_SCALES: tuple[int, ...] = tuple(
    10 ** (DECIMALS_MAX - decimals) for decimals in range(DECIMALS_MAX + 1)
)
_NUMBER = re.compile(r"\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


class Side(Enum):
    """A side of a book; the value is the wire's word for it."""

    BID = "BUY"
    ASK = "SELL"

    def __repr__(self) -> str:
        return f"Side.{self.name}"  # valid Python: failing properties print runnable stories

    @property
    def opposite(self) -> "Side":
        """The side that an order of this side trades against."""
        return Side.ASK if self is Side.BID else Side.BID


def parse_units(text: str) -> int:
    """The number that `text` says, in units; exact, or an error.

    Reads what `Decimal` reads of finite non-negative numbers: "0.48", ".48", "48", "5.",
    "+1", "4.8e-1", with zeros beyond the ninth decimal.

    Raises:
        ValueError: `text` is not such a number (NaN, Infinity, a minus sign, white space,
            underscores, digits outside ASCII), has more than 9 decimals, is 10**40 or more,
            or is longer than 40 characters.
    """
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if (
        digits.isdigit()
        and digits.isascii()
        and len(fraction) <= DECIMALS_MAX
        and len(digits) < TEXT_LENGTH_MAX
    ):
        return int(digits) * _SCALES[len(fraction)]
    return _parse_units_slowly(text)


def parse_all_units(texts: Sequence[str]) -> list[int]:
    """As `parse_units` of each, in half the time when all are plain digits, as in a whole book.

    Raises:
        ValueError: as `parse_units`, for any of them.
    """
    digits = "".join(texts).replace(".", "")
    if digits.isdigit() and digits.isascii() and max(map(len, texts)) < TEXT_LENGTH_MAX:
        parts = map(str.partition, texts, repeat("."))
        # An empty text, a second dot and too many decimals are left for the slow way to judge.
        with suppress(ValueError, IndexError):
            return [int(whole + decimals) * _SCALES[len(decimals)] for whole, _, decimals in parts]
    return [parse_units(text) for text in texts]


def round_units(text: str) -> int:
    """As `parse_units`, but decimals beyond the ninth are rounded, half to even: only for numbers
    that nothing is computed from.

    Raises:
        ValueError: as `parse_units`, for all but too many decimals.
    """
    return _parse_units_slowly(text, is_rounded=True)


def _parse_units_slowly(text: str, *, is_rounded: bool = False) -> int:
    if len(text) > TEXT_LENGTH_MAX:
        raise ValueError(f"number of {len(text)} characters, at most {TEXT_LENGTH_MAX} are read")
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"not a non-negative decimal number: {text!r}")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"exponent out of range: {text!r}") from None
    if not value:
        return 0
    # Decimal's arithmetic rounds to the context's precision: its parts do not.
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), "the pattern admits only finite numbers"
    coefficient = int("".join(map(str, digits)))
    if value.adjusted() >= TEXT_LENGTH_MAX:
        raise ValueError(f"number too large: {text!r}")
    shift = exponent + DECIMALS_MAX
    if shift >= 0:
        factor: int = 10**shift
        return coefficient * factor
    # At most 40 digits shifted right by 41 or more always leave a remainder, and round to nothing.
    divisor: int = 10 ** min(-shift, TEXT_LENGTH_MAX + 1)
    units, remainder = divmod(coefficient, divisor)
    if remainder and not is_rounded:
        raise ValueError(f"more than {DECIMALS_MAX} decimals: {text!r}")
    above_half = 2 * remainder - divisor
    return units + (above_half > 0 or (above_half == 0 and units % 2 == 1))


@lru_cache(maxsize=_REMEMBERED_MAX)
def to_text(units: int) -> str:
    """Decimal text with as few decimals as are exact, as on the wire: "0.48", "126680", "0"."""
    if units < 0:
        return "-" + to_text(-units)
    whole, fraction = divmod(units, UNITS_PER_ONE)
    return f"{whole}.{fraction:09d}".rstrip("0") if fraction else str(whole)


@lru_cache(maxsize=_REMEMBERED_MAX)
def to_decimal(units: int) -> Decimal:
    """The exact value with as few digits as it needs: `Decimal("0.48")`, `Decimal("126680")`."""
    return Decimal(to_text(units))


def to_units(value: Decimal) -> int:
    """The units of a `Decimal` that a user gave; exact, or an error.

    Raises:
        ValueError: as `parse_units`.
    """
    return parse_units(str(value))
