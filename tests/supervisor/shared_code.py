"""Code whose changes must not be left half done: what a HoldLimit may spare."""

from collections.abc import Callable


def change(compute: Callable[[float], None], done: list[str]) -> None:
    """Take a while between the two halves of a change."""
    done.append("begun")
    compute(0.2)
    done.append("ended")
