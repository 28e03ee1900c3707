"""One option: its names in every source, and which values it takes."""

import math
import re
from collections.abc import Callable
from typing import Any, cast

from attrs import Factory, field, frozen

from polyactors.config import ENVIRONMENT_PREFIX
from polyactors.errors import UsageError

TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
SHOWN_CHARS_MAX = 80
"""A bad value is shown up to so many characters."""
_SEPARATORS = re.compile(r"[,\s]+")


@frozen
class Option:
    """One thing that can be set."""

    name: str
    """Option and environment variable are made from it."""
    kind: type
    """str, int, float or bool; of each element when the option is repeatable."""
    help: str
    metavar: str | None = field(default=None, kw_only=True)
    default: object = field(default=None, kw_only=True)
    """None: not set."""
    is_repeatable: bool = field(default=False, kw_only=True)
    key: str = field(default=Factory(lambda self: self.name, takes_self=True), kw_only=True)
    """Its name in the file."""
    is_in_file: bool = field(default=True, kw_only=True)
    """Whether the file may have it."""
    above: float | None = field(default=None, kw_only=True)
    """Exclusive lower bound."""
    minimum: float | None = field(default=None, kw_only=True)
    maximum: float | None = field(default=None, kw_only=True)
    choices: tuple[str, ...] = field(default=(), kw_only=True)
    fault: Callable[[str], str | None] | None = field(default=None, kw_only=True)
    """What is wrong with a text, behind the option's name; None for a good one."""
    endless: str = field(default="", kw_only=True)
    """What to do instead of asking for infinity."""

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def expected(self) -> str:
        """What a value must be, for people."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (
                ("greater than", self.above),
                ("from", self.minimum),
                (self._upper_word, self.maximum),
            )
            if bound is not None
        ]
        return " ".join([words[self.kind], *bounds])

    @property
    def _upper_word(self) -> str:
        if self.minimum is not None:
            return "to"
        return "at most" if self.above is None else "and at most"

    def parse(self, text: str, label: str) -> Any:
        """The value that `text` stands for. Raises UsageError that names `label`."""
        if self.is_repeatable:
            return [part for part in _SEPARATORS.split(text) if part]
        try:
            value = TRUTH[text.lower()] if self.kind is bool else self.kind(text)
        except (ValueError, KeyError):
            raise self._unfit(text, label) from None
        return self.check(value, label, text)

    def check(self, value: object, label: str, text: str | None = None) -> Any:
        """The value, if it is of the kind and within the bounds. Raises UsageError.

        `text` is how the user wrote it.
        """
        if self.is_repeatable:
            texts = _texts(value)
            if texts is None:
                raise UsageError(f"{label} must be a list of texts, not {value!r}")
            return texts
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = _to_float(value)
        if (
            type(value) is not self.kind
            or (self.choices and value not in self.choices)
            or (isinstance(value, (int, float)) and not self._is_within_bounds(value))
        ):
            raise self._unfit(value if text is None else text, label)
        if value == "":
            raise UsageError(f"{label} must not be empty")
        if self.fault is not None and isinstance(value, str):
            fault = self.fault(value)
            if fault is not None:
                raise UsageError(f"{label} {fault}")
        return value

    def _is_within_bounds(self, value: float) -> bool:
        # Python reads "inf" and "nan" as numbers, but nothing can be set to either.
        return (
            (isinstance(value, int) or math.isfinite(value))
            and (self.above is None or value > self.above)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
        )

    def _unfit(self, value: object, label: str) -> UsageError:
        shown = repr(value)
        if len(shown) > SHOWN_CHARS_MAX:
            shown = shown[:SHOWN_CHARS_MAX] + "…"
        expected, remedy = self.expected, ""
        if self.kind is float and _is_infinite(value):
            expected = expected.replace("a number", "a finite number")
            remedy = f"; {self.endless}" if self.endless else ""
        return UsageError(f"{label} must be {expected}, not {shown}{remedy}")


def _to_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_infinite(value: object) -> bool:
    """Whether a value, or the text of one, is infinity."""
    try:
        return isinstance(value, (str, float)) and math.isinf(float(value))
    except ValueError:
        return False


def _texts(value: object) -> list[str] | None:
    if not isinstance(value, list):
        return None
    elements = cast("list[object]", value)
    texts = [element for element in elements if isinstance(element, str)]
    return texts if len(texts) == len(elements) else None
