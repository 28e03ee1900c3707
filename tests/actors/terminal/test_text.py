"""Words for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyactors.terminal.text import age, count, duration, printable, short_token


@given(st.text())
def test_printable_text_has_no_control_characters_and_one_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


@given(st.text("0123456789", min_size=1, max_size=78))
def test_a_token_is_short_and_keeps_both_ends(token: str) -> None:
    short = short_token(token)
    assert len(short) <= 9
    assert token.startswith(short[:4])
    assert token.endswith(short[-4:])


def test_a_long_token() -> None:
    assert short_token("8910" + "0" * 69 + "4242") == "8910…4242"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (59.9, "59 s"), (60.0, "01:00"), (187.0, "03:07"), (3723.0, "1:02:03")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-0.2, "0.0s"),
        (0.34, "0.3s"),
        (9.94, "9.9s"),
        (9.95, "10s"),
        (119.0, "119s"),
        (120.0, "2m"),
        (7200.0, "2h"),
    ],
)
def test_ages(seconds: float | None, text: str) -> None:
    assert age(seconds) == text


def test_counts() -> None:
    assert [count(number, "book") for number in (0, 1, 1234)] == [
        "0 books",
        "1 book",
        "1,234 books",
    ]
