"""What holds a secret, and what must not show one.

Tools print objects where nobody thinks of it: a traceback with its variables, a debugger, a log
of arguments. What is here prints as REDACTED, and is otherwise what it is.
"""

from collections.abc import Iterable
from typing import NoReturn, Self

REDACTED = "[redacted]"
PIECE_LENGTH = 8
"""Characters in a row of a secret that are too many to be shown: excerpts are cut anywhere."""

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


class Secretive:
    """Base of objects with secrets: they show none, and are neither copied nor pickled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({REDACTED})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("credentials are not pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("credentials are not pickled")


class HiddenText(str):
    """A text with a secret in it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return REDACTED


class HiddenHeaders(dict[str, str]):
    """Headers with a secret among them."""

    def __repr__(self) -> str:
        return REDACTED


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text with every piece of each secret blacked out, in any case of letters.

    A piece is PIECE_LENGTH characters or more in a row, or all of a shorter secret.
    """
    lowered = text.translate(_LOWER)
    pieces: dict[int, set[str]] = {}
    for secret in secrets:
        size = min(len(secret), PIECE_LENGTH)
        value = secret.translate(_LOWER)
        found = (value[at : at + size] for at in range(len(value) - size + 1))
        pieces.setdefault(size, set()).update(found)
    shown: list[str] = []
    kept_from = hidden_to = (
        0  # what is hidden ends at hidden_to, from kept_from on is not yet shown
    )
    for at in range(len(text)):
        size = max((size for size in pieces if lowered[at : at + size] in pieces[size]), default=0)
        if not size:
            continue
        if at > hidden_to or not shown:
            shown += [text[kept_from:at], REDACTED]
        kept_from = hidden_to = max(hidden_to, at + size)
    return "".join([*shown, text[kept_from:]])
