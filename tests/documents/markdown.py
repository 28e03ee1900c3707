"""Small pieces of Markdown."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a `|` in a cell stays one."""
    lines = [_row(head), "|---" * len(head) + "|", *map(_row, rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def with_block(page: str, name: str, text: str) -> str:
    """The page with `text` between `<!-- begin: name … -->` and `<!-- end: name -->`."""
    head, begin, rest = page.partition(f"<!-- begin: {name} ")
    comment, line_end, old = rest.partition("-->\n")
    _, end, tail = old.partition(f"<!-- end: {name} -->")
    if not (begin and line_end and end):
        raise LookupError(f"no block {name}")
    return f"{head}{begin}{comment}{line_end}{text}{end}{tail}"
