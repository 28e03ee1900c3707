from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polyactors.book.numbers import (
    PRICE_ONE,
    TEXT_LENGTH_MAX,
    Side,
    parse_all_units,
    parse_units,
    round_units,
    to_decimal,
    to_text,
    to_units,
)

SPELLINGS = st.one_of(
    st.from_regex(r"[0-9]{0,6}(\.[0-9]{0,10})?", fullmatch=True),
    st.text(alphabet="0123456789.", max_size=TEXT_LENGTH_MAX + 1),
    st.sampled_from(["1e3", "+1", "-1", "1_000", "\u0663", "\u00b2", " 1", "NaN"]),
)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0.48", 480_000_000),
        (".48", 480_000_000),
        ("00.480", 480_000_000),
        ("48e-2", 480_000_000),
        ("+4.8E-1", 480_000_000),
        ("1", PRICE_ONE),
        ("5.", 5 * PRICE_ONE),
        ("0", 0),
        ("0.000000001", 1),
        ("0.0000000010000", 1),
        ("0e99999", 0),
        ("126680", 126_680 * PRICE_ONE),
        ("1e3", 1_000 * PRICE_ONE),
        ("5199.99", 5_199_990_000_000),
    ],
)
def test_every_spelling_of_a_number_is_one_value(text: str, units: int) -> None:
    assert parse_units(text) == units


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-1",
        "-0",
        "NaN",
        "sNaN",
        "Infinity",
        "inf",
        " 1",
        "1 ",
        "1\n",
        "1_000",
        "1,5",
        "0x10",
        "1e",
        "e1",
        "--1",
        "1.2.3",
        "٣",
        "²",
        "0.٤",
        "0.0000000001",
        "1e-10",
        "1e40",
        "1e-99999",
        "1e99999999999999999999",
        "1e-99999999999999999999",
    ],
)
def test_what_is_no_price_or_size_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_units(text)


@given(st.lists(SPELLINGS, max_size=5))
@example(["1", ""])
@example(["1.2.3", "4"])
@example(["1." + "0" * 11])
@example(["9" * TEXT_LENGTH_MAX])
@example(["0." + "0" * (TEXT_LENGTH_MAX - 2)])
def test_many_numbers_are_read_as_each_of_them_is(texts: list[str]) -> None:
    try:
        units = [parse_units(text) for text in texts]
    except ValueError:
        with pytest.raises(ValueError, match=r"number|decimals|exponent"):
            parse_all_units(texts)
    else:
        assert parse_all_units(texts) == units


def test_text_is_read_up_to_its_longest_and_no_further() -> None:
    longest = "9" * TEXT_LENGTH_MAX
    assert parse_units(longest) == int(longest) * PRICE_ONE
    assert parse_units("0." + "0" * (TEXT_LENGTH_MAX - 2)) == 0
    with pytest.raises(ValueError, match="41 characters"):
        parse_units(longest + "9")
    with pytest.raises(ValueError, match="41 characters"):
        parse_units("0." + "0" * (TEXT_LENGTH_MAX - 1))


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0.48", 480_000_000),
        ("4.8e-1", 480_000_000),
        ("0.012857142857", 12_857_143),
        ("0.0000000004999", 0),
        ("0.0000000005", 0),
        ("0.0000000005001", 1),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("0.99999999999", PRICE_ONE),
        ("9" * (TEXT_LENGTH_MAX - 4) + "e-50", 0),
        ("5e-10", 0),
        ("6e-10", 1),
        ("9e-11", 0),
        ("1e-99999", 0),
    ],
)
def test_what_is_only_shown_may_be_rounded_half_to_even(text: str, units: int) -> None:
    assert round_units(text) == units


@pytest.mark.parametrize("text", ["", "-0.1", "NaN", "1e40", "0.5 ", "0." + "1" * TEXT_LENGTH_MAX])
def test_what_is_no_number_is_not_rounded_to_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        round_units(text)


def test_a_huge_exponent_costs_no_time_or_memory() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_units("1e999999999")


@pytest.mark.parametrize("text", ["0.48", "126680", "5199.99", "0", "1", "0.001", "10.7", "-0.01"])
def test_text_is_as_short_as_on_the_wire(text: str) -> None:
    units = int(Decimal(text) * PRICE_ONE)
    assert to_text(units) == text
    assert to_decimal(units) == Decimal(text)
    assert str(to_decimal(units)) == text


def test_conversion_does_not_depend_on_the_decimal_context() -> None:
    with localcontext() as context:
        context.prec = 2
        assert parse_units("5199.990000001") == 5_199_990_000_001
        assert parse_units("5199.990000001e0") == 5_199_990_000_001
        assert str(to_decimal(5_199_990_000_001)) == "5199.990000001"


def test_a_decimal_of_a_user_is_taken_exactly_or_refused() -> None:
    assert to_units(Decimal("0.50")) == 500_000_000
    assert to_units(Decimal("1E+3")) == 1_000 * PRICE_ONE
    for value in ("-0.01", "NaN", "0.0000000001"):
        with pytest.raises(ValueError, match=r"."):
            to_units(Decimal(value))


def test_sides_are_opposite_and_their_repr_is_python() -> None:
    assert Side.BID.opposite is Side.ASK
    assert Side.ASK.opposite is Side.BID
    assert [repr(side) for side in Side] == ["Side.BID", "Side.ASK"]
