"""Words for people: short names, durations, and text that cannot control a terminal."""

TOKEN_DIGITS = 4
"""Digits kept at either end of a token id."""


def printable(text: str) -> str:
    """The text in one line, its control characters escaped.

    Much of what is shown comes from the other side, and an escape sequence could do anything
    to a terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def short_token(token: str) -> str:
    """`8910…4242` for a long token id."""
    if len(token) <= 2 * TOKEN_DIGITS + 1:
        return token
    return f"{token[:TOKEN_DIGITS]}…{token[-TOKEN_DIGITS:]}"


def duration(seconds: float) -> str:
    """`42 s`, `03:07` or `1:02:03`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def age(seconds: float | None) -> str:
    """How long ago: `0.3s`, `42s`, `3m`, `2h`; `-` for never."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.0f}h"


def count(number: int, noun: str) -> str:
    """`1 book`, `2 books`, `1,234 books`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
