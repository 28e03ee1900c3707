"""parse_units against Decimal over any text, and text back to the same units."""

from decimal import Decimal, InvalidOperation
from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyactors.book.numbers import (
    DECIMALS_MAX,
    TEXT_LENGTH_MAX,
    UNITS_PER_ONE,
    parse_units,
    to_decimal,
    to_text,
    to_units,
)

DIGITS = st.text("0123456789", max_size=25)
PLAIN = st.builds("{}.{}".format, DIGITS, st.text("0123456789", max_size=16))
SCIENTIFIC = st.builds(
    "{}{}e{}".format, st.sampled_from(["", "+", "-"]), PLAIN, st.integers(-60, 60)
)
LONG = st.text("09", min_size=TEXT_LENGTH_MAX - 1, max_size=TEXT_LENGTH_MAX + 1)
FOREIGN = st.text("1٣².", max_size=4)
NOISE = st.text("00112345789..+-eE_ \nNaInf", max_size=TEXT_LENGTH_MAX + 3)
TEXTS = st.one_of(DIGITS, PLAIN, SCIENTIFIC, LONG, FOREIGN, NOISE, st.text())


def expected_units(text: str) -> int | None:
    """What the contract says, by way of Decimal and exact fractions."""
    if len(text) > TEXT_LENGTH_MAX or not text.isascii() or "_" in text or text.startswith("-"):
        return None
    if any(character.isspace() for character in text):
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    if value and (value.adjusted() >= TEXT_LENGTH_MAX or value.adjusted() < -DECIMALS_MAX):
        return None
    units = Fraction(value) * UNITS_PER_ONE if value else Fraction(0)
    return int(units) if units.denominator == 1 else None


@given(TEXTS)
@settings(max_examples=600, deadline=None)
@example("1e-")
@example("-0.5")
@example("1e-5")
@example("\x1c1")
def test_text_is_read_as_decimal_reads_it_or_refused(text: str) -> None:
    expected = expected_units(text)
    try:
        actual = parse_units(text)
    except ValueError:
        assert expected is None
    else:
        assert actual == expected


@given(st.integers(0, 10**30))
def test_units_survive_text_and_decimal(units: int) -> None:
    assert parse_units(to_text(units)) == units
    assert to_units(to_decimal(units)) == units
    assert Fraction(to_decimal(units)) == Fraction(units, UNITS_PER_ONE)


@given(st.integers(-(10**30), 10**30))
def test_text_is_the_shortest_plain_spelling(units: int) -> None:
    text = to_text(units)
    assert Fraction(text) == Fraction(units, UNITS_PER_ONE)
    assert "e" not in text.lower()
    if "." in text:
        assert not text.endswith(("0", "."))
    assert not text.lstrip("-").startswith(("00", "."))
