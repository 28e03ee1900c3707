"""A screen's data as lines of styled text: header, table of books, news, hint. Pure.

Cells are cut and padded here: rich's own tables measure every cell twice and would hold up the
service for 40 ms a frame.
"""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from attrs import frozen
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from polyactors.book.orderbook import Level
from polyactors.book.trust import TrustState
from polyactors.terminal.actors import panel_lines
from polyactors.terminal.lines import clock
from polyactors.terminal.news import News, Tone
from polyactors.terminal.screen import Row, Screen, Verified, feeds_text
from polyactors.terminal.text import age, count, duration
from polyactors.user.state import AccountState

HINT = "Ctrl-C stops"
HEADER_LINES = 3
TABLE_HEADER_LINES = 2
"""A blank line and the column titles."""
FOOT_LINES = 2
"""A blank line above the news, the hint below them."""
NEWS_LINES_MIN = 1
NEWS_LINES_MAX = 12
"""At most so many are kept for the news when there are more tokens than lines."""
NEWS_WRAP_FROM = 40
"""Columns from which on long news take several lines; below that they are cut."""
GAP = "  "
"""Between two columns."""
REASON_FROM = 70
"""Columns from which on a STALE book's reason stands in its row."""

Part = tuple[str, str]
"""A text and its style."""

STATE_STYLES = {
    TrustState.LIVE: "green",
    TrustState.SYNCING: "yellow",
    TrustState.STALE: "bold red",
    TrustState.EMPTY: "dim",
}
ACCOUNT_STYLES = {
    AccountState.LIVE: "green",
    AccountState.SYNCING: "yellow",
    AccountState.STALE: "bold red",
    AccountState.REFUSED: "bold red",
}
TONE_STYLES = {
    Tone.GOOD: "green",
    Tone.BAD: "red",
    Tone.FAULT: "bold magenta",
    Tone.PLAIN: "cyan",
}


@frozen
class Picture:
    """Lines that rich prints as they are."""

    lines: tuple[tuple[Part, ...], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The protocol of rich."""
        for line in self.lines:
            for text, style in line:
                yield Segment(text, Style.parse(style))
            yield Segment.line()


@frozen
class _Column:
    title: str
    width: int
    """Cells; 0: what is left."""
    from_width: int
    """Shown on terminals at least so wide."""
    cell: Callable[[Row], Part]
    is_left: bool = False


def panel_lines_max(height: int) -> int:
    """How many lines of a terminal may be the panels of actors."""
    return height // 4


def rows_max(height: int, panel: int = 0) -> int:
    """How many tokens fit on a terminal of so many lines, the line that counts the rest aside,
    below a panel of so many lines."""
    height -= panel + (1 if panel else 0)
    news = min(max((height - 8) // 3, NEWS_LINES_MIN), NEWS_LINES_MAX)
    return max(height - HEADER_LINES - TABLE_HEADER_LINES - FOOT_LINES - news - 1, 0)


def draw(screen: Screen, width: int, height: int) -> Picture:
    """`height` lines, the last of them the hint; nothing is wider than `width` cells."""
    lines: list[list[Part]] = [_header(screen), _feeds(screen), _verified(screen.verified)]
    panel = panel_lines(screen.actors, panel_lines_max(height))
    if panel:
        lines += [[], *panel]
    if screen.rows:
        lines += [[], *_table(screen.rows, width)]
    if screen.hidden:
        lines.append([(f"… and {count(screen.hidden, 'more token')}", "dim")])
    lines.append([])
    room = max(height - len(lines) - 1, 0)
    news = _news(screen.news, width, room)
    lines += news
    lines += [[]] * (room - len(news))
    lines = [*lines[: height - 1], [(HINT, "dim")]]
    return Picture(tuple(fit(line, width) for line in lines))


def fit(line: Iterable[Part], width: int) -> tuple[Part, ...]:
    """The line, cut with an ellipsis when it is wider than `width` cells."""
    fitted: list[Part] = []
    for text, style in line:
        cells = cell_len(text)
        if cells > width:
            fitted.append((_cut(text, width), style))
            break
        fitted.append((text, style))
        width -= cells
    return tuple(fitted)


def _cut(text: str, width: int) -> str:
    return set_cell_size(text, width - 1) + "…" if width else ""


def _header(screen: Screen) -> list[Part]:
    return [
        (screen.title, "bold"),
        (f"   up {duration(screen.elapsed_seconds)}", ""),
        (f"   {screen.messages_per_second:,.1f} messages/s", ""),
        (f"   {count(screen.restarts, 'restart')}", "cyan" if screen.restarts else ""),
    ]


def _feeds(screen: Screen) -> list[Part]:
    parts = [("books ", "dim")]
    parts += [
        (f"{screen.states[state.value]:,} {state.value}  ", STATE_STYLES[state])
        for state in (TrustState.LIVE, TrustState.SYNCING, TrustState.STALE, TrustState.EMPTY)
        if screen.states.get(state.value)
    ]
    if not screen.tokens:
        parts.append(("none yet  ", "yellow"))
    is_up = screen.feeds and not screen.feeds_down
    style = "green" if is_up else "bold red" if screen.feeds else "yellow"
    parts += [(" feeds ", "dim"), (feeds_text(screen), style)]
    if screen.account is not None:
        parts += [
            ("   account ", "dim"),
            (screen.account_text, ACCOUNT_STYLES[screen.account.state]),
        ]
    return parts


def _verified(verified: Verified) -> list[Part]:
    return [
        ("verified ", "dim"),
        (verified.groups_text, ""),
        (f"   {verified.desyncs_text}", "red" if verified.desyncs else ""),
        (f"   {verified.unverifiable_text}", "dim"),
    ]


def news_parts(item: News, width: int) -> list[list[Part]]:
    """Its lines: what to do about a failure often stands at the end of a long sentence."""
    stamp = clock(item.time_ns) + " "
    texts = [item.text]
    if width >= NEWS_WRAP_FROM:
        texts = textwrap.wrap(item.text, width - len(stamp), break_on_hyphens=False) or [""]
    stamps = [stamp, *[" " * len(stamp)] * (len(texts) - 1)]
    return [
        [(before, "dim"), (text, TONE_STYLES[item.tone])]
        for before, text in zip(stamps, texts, strict=True)
    ]


def _news(items: Sequence[News], width: int, room: int) -> list[list[Part]]:
    """The newest, on at most `room` lines: whole ones, or the end of the last that is longer."""
    lines: list[list[Part]] = []
    for item in reversed(items):
        parts = news_parts(item, width)
        if lines and len(parts) + len(lines) > room:
            break
        lines = parts + lines
        if len(lines) >= room:
            break
    return lines[-room:] if room else []


def _table(rows: Iterable[Row], width: int) -> list[list[Part]]:
    columns = [column for column in _COLUMNS if width >= column.from_width]
    columns.append(_STATE_AND_REASON if width >= REASON_FROM else _STATE)
    fixed = sum(column.width + len(GAP) for column in columns) - len(GAP)
    left = max(width - fixed, 0)

    def line(cells: Iterable[Part]) -> list[Part]:
        parts: list[Part] = []
        for column, (text, style) in zip(columns, cells, strict=True):
            padded = _pad(text, column.width or left, is_left=column.is_left)
            parts += [(padded, style), (GAP, "")]
        return parts[:-1]

    titles = line((column.title, "dim") for column in columns)
    return [titles, *(line(column.cell(row) for column in columns) for row in rows)]


def _pad(text: str, width: int, *, is_left: bool) -> str:
    missing = width - cell_len(text)
    if missing < 0:
        return _cut(text, width)
    return text + " " * missing if is_left else " " * missing + text


def _name(row: Row) -> Part:
    return row.name, ""


def _feed(row: Row) -> Part:
    return row.feed, "dim"


def _bid(row: Row) -> Part:
    return _price(row, row.best_bid, "green")


def _ask(row: Row) -> Part:
    return _price(row, row.best_ask, "red")


def _price(row: Row, level: Level | None, style: str) -> Part:
    if level is None:
        return "-", "dim"
    # At least two decimals, so that the points stand below one another.
    text = f"{level.price:.2f}" if level.price == round(level.price, 2) else f"{level.price:f}"
    return text, style if row.state is TrustState.LIVE else "dim"


def _bid_size(row: Row) -> Part:
    return _size(row.best_bid)


def _ask_size(row: Row) -> Part:
    return _size(row.best_ask)


def _size(level: Level | None) -> Part:
    return ("" if level is None else compact(level.size)), "dim"


def compact(size: Decimal) -> str:
    """Shares in at most seven characters: `12.5`, `5,200`, `126.7k`, `3.1M`."""
    for above, divisor, unit in ((10**9, 10**9, "G"), (10**6, 10**6, "M"), (10**5, 10**3, "k")):
        if size >= above:
            return f"{size / divisor:,.1f}{unit}"
    return f"{size:,.0f}" if size >= 1000 else f"{size:.2f}".rstrip("0").rstrip(".")


def _spread(row: Row) -> Part:
    return ("-" if row.spread is None else f"{row.spread:f}"), "dim"


def _levels(row: Row) -> Part:
    return f"{row.bids}/{row.asks}", "dim"


def _age(row: Row) -> Part:
    return age(row.age_seconds), "dim"


def _state(row: Row) -> Part:
    return row.state.value, STATE_STYLES[row.state]


def _state_and_reason(row: Row) -> Part:
    reason = f" {row.reason.value}" if row.reason is not None else ""
    return row.state.value + reason, STATE_STYLES[row.state]


_COLUMNS = (
    _Column("TOKEN", 0, 0, _name, is_left=True),
    _Column("FEED", 8, 130, _feed, is_left=True),
    _Column("SIZE", 7, 104, _bid_size),
    _Column("BID", 6, 0, _bid),
    _Column("ASK", 6, 0, _ask),
    _Column("SIZE", 7, 104, _ask_size),
    _Column("SPREAD", 6, 78, _spread),
    _Column("LEVELS", 7, 88, _levels),
    _Column("AGE", 5, 50, _age),
)
_STATE = _Column("STATE", 7, 0, _state, is_left=True)
_STATE_AND_REASON = _Column("STATE", 21, REASON_FROM, _state_and_reason, is_left=True)
