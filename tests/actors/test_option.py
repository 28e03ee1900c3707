"""One option: kinds, bounds, and the sentence about a value that it does not take."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyactors.cli.arguments import COMMANDS
from polyactors.errors import UsageError
from polyactors.option import Option

RUN = COMMANDS["run"].options
BOUNDED = Option("it", float, "", above=0, maximum=10)


def attempt(option: Option, text: str) -> object:
    """The value, or the error itself."""
    try:
        return option.parse(text, option.flag)
    except UsageError as error:
        return error


@given(st.floats())
def test_a_number_is_taken_if_and_only_if_it_is_within_the_bounds(value: float) -> None:
    result = attempt(BOUNDED, repr(value))
    if not math.isnan(value) and 0 < value <= 10:
        assert result == value
    else:
        number = "a finite number" if math.isinf(value) else "a number"
        assert str(result) == (
            f"--it must be {number} greater than 0 and at most 10, not {repr(value)!r}"
        )


FLOATS = [
    pytest.param(option, id=f"{command.name} {option.flag}")
    for command in COMMANDS.values()
    for option in command.options
    if option.kind is float
]


@pytest.mark.parametrize("option", FLOATS)
@pytest.mark.parametrize("text", ["inf", "-inf", "1e999", "Infinity", "nan", "0", "-0.0", "-1"])
def test_no_number_of_any_command_can_be_infinite_none_or_below_its_bound(
    option: Option, text: str
) -> None:
    result = attempt(option, text)
    if option.minimum == 0 and text in ("0", "-0.0"):
        assert result == 0.0
        return
    assert isinstance(result, UsageError)
    assert ("finite" in str(result)) == (text in ("inf", "-inf", "1e999", "Infinity"))


def test_instead_of_infinity_the_option_is_left_out() -> None:
    endless = Option("it", float, "", above=0, endless="leave it out")
    assert str(attempt(endless, "inf")).endswith("not 'inf'; leave it out")
    assert str(attempt(endless, "nan")).endswith("not 'nan'")


def test_a_whole_number_may_be_greater_than_any_float() -> None:
    assert attempt(Option("seed", int, ""), "9" * 400) == int("9" * 400)


@pytest.mark.parametrize("name", ["ws_url", "clob_url", "gamma_url"])
@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("example.org/ws?x=1", "a query"),
        ("example.org/ws?", "a query"),
        ("example.org/ws#x", "a fragment"),
        ("example.org/ws#", "a fragment"),
        ("me:secret@example.org/ws", "name a user"),
        ("@example.org/ws", "name a user"),
    ],
)
def test_a_url_that_no_path_can_be_appended_to_is_refused(name: str, rest: str, fault: str) -> None:
    option = next(option for option in RUN if option.name == name)
    scheme = "wss" if name == "ws_url" else "https"
    result = attempt(option, f"{scheme}://{rest}")
    assert isinstance(result, UsageError)
    assert str(result).startswith(f"{option.flag} must not ")
    assert fault in str(result)
    assert "secret" not in str(result)
    assert attempt(option, f"{scheme}://example.org/a@b/ws") == f"{scheme}://example.org/a@b/ws"


@given(st.sampled_from([option for option in RUN if not option.is_repeatable]), st.text())
def test_any_text_is_a_value_or_one_line_of_complaint(option: Option, text: str) -> None:
    result = attempt(option, text)
    if isinstance(result, UsageError):
        assert str(result).startswith(option.flag)
        assert "\n" not in str(result)
        assert len(str(result)) < 250
    else:
        assert type(result) is option.kind
