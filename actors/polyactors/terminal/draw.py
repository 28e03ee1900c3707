"""A screen's data as what rich prints: header, table of books, news, hint. Pure."""

from collections.abc import Callable
from decimal import Decimal
from typing import Literal

from attrs import frozen
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from polyactors.book.orderbook import Level
from polyactors.book.trust import TrustState
from polyactors.terminal.lines import clock
from polyactors.terminal.news import News, Tone
from polyactors.terminal.screen import Row, Screen, feeds_text
from polyactors.terminal.text import age, count, duration

HINT = "Ctrl-C stops"
HEADER_LINES = 2
TABLE_HEADER_LINES = 2
"""A blank line and the column titles."""
FOOT_LINES = 2
"""A blank line above the news, the hint below them."""
NEWS_LINES_MIN = 1
NEWS_LINES_MAX = 12
"""At least so many are kept for the news on a high terminal."""

WIDE_FROM = 84
"""Columns from which on a STALE book's reason stands in its row."""

STATE_STYLES = {
    TrustState.LIVE: "green",
    TrustState.SYNCING: "yellow",
    TrustState.STALE: "bold red",
    TrustState.EMPTY: "dim",
}
TONE_STYLES = {
    Tone.GOOD: "green",
    Tone.BAD: "red",
    Tone.FAULT: "bold magenta",
    Tone.PLAIN: "cyan",
}


@frozen
class _Column:
    title: str
    width: int | None
    """None: what is left."""
    from_width: int
    """Shown on terminals at least so wide."""
    cell: Callable[[Row], Text]
    justify: Literal["left", "right"] = "right"


def rows_max(height: int) -> int:
    """How many tokens fit on a terminal of so many lines, the line that counts the rest aside."""
    return max(height - HEADER_LINES - TABLE_HEADER_LINES - FOOT_LINES - _news_lines(height) - 1, 0)


def draw(screen: Screen, width: int, height: int) -> RenderableType:
    """All of `height` lines; nothing is wider than `width`."""
    parts: list[RenderableType] = [_header(screen), _feeds(screen)]
    lines = HEADER_LINES
    if screen.rows:
        parts += [Text(), _table(screen, width)]
        lines += TABLE_HEADER_LINES + len(screen.rows)
    if screen.hidden:
        parts.append(_line((f"… and {count(screen.hidden, 'more token')}", "dim")))
        lines += 1
    room = max(height - lines - FOOT_LINES, 0)
    news = screen.news[len(screen.news) - room :] if room < len(screen.news) else screen.news
    parts.append(Text())
    parts += [_news(item) for item in news]
    parts += [Text()] * (room - len(news))
    parts.append(_line((HINT, "dim")))
    return Group(*parts)


def _news_lines(height: int) -> int:
    return min(max((height - 8) // 3, NEWS_LINES_MIN), NEWS_LINES_MAX)


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _header(screen: Screen) -> Text:
    return _line(
        (screen.title, "bold"),
        (f"   up {duration(screen.elapsed_seconds)}", ""),
        (f"   {screen.messages_per_second:,.1f} messages/s", ""),
        (f"   {count(screen.restarts, 'restart')}", "cyan" if screen.restarts else ""),
    )


def _feeds(screen: Screen) -> Text:
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
    return _line(*parts, (" feeds ", "dim"), (feeds_text(screen), style))


def _table(screen: Screen, width: int) -> Table:
    columns = [column for column in _COLUMNS if width >= column.from_width]
    columns.append(_WIDE_STATE if width >= WIDE_FROM else _NARROW_STATE)
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(
            column.title,
            width=column.width,
            ratio=1 if column.width is None else None,
            justify=column.justify,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in screen.rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _news(item: News) -> Text:
    return _line((clock(item.time_ns) + " ", "dim"), (item.text, TONE_STYLES[item.tone]))


def _price(row: Row, level: Level | None, style: str) -> Text:
    if level is None:
        return Text("-", "dim")
    # At least two decimals, so that the points stand below one another.
    text = f"{level.price:.2f}" if level.price == round(level.price, 2) else f"{level.price:f}"
    return Text(text, style if row.state is TrustState.LIVE else "dim")


def _size(level: Level | None) -> Text:
    return Text("") if level is None else Text(compact(level.size), "dim")


def compact(size: Decimal) -> str:
    """Shares in at most seven characters: `12.5`, `5,200`, `126.7k`, `3.1M`."""
    for above, divisor, unit in ((10**9, 10**9, "G"), (10**6, 10**6, "M"), (10**5, 10**3, "k")):
        if size >= above:
            return f"{size / divisor:,.1f}{unit}"
    return f"{size:,.0f}" if size >= 1000 else f"{size:.2f}".rstrip("0").rstrip(".")


def _spread(row: Row) -> Text:
    return Text("-" if row.spread is None else f"{row.spread:f}", "dim")


def _state(row: Row) -> Text:
    return Text(row.state.value, STATE_STYLES[row.state])


def _state_and_reason(row: Row) -> Text:
    reason = f" {row.reason.value}" if row.reason is not None else ""
    return _state(row) + Text(reason, STATE_STYLES[row.state])


_COLUMNS = (
    _Column("TOKEN", None, 0, lambda row: Text(row.name), "left"),
    _Column("FEED", 8, 130, lambda row: Text(row.feed, "dim"), "left"),
    _Column("SIZE", 7, 96, lambda row: _size(row.best_bid)),
    _Column("BID", 6, 0, lambda row: _price(row, row.best_bid, "green")),
    _Column("ASK", 6, 0, lambda row: _price(row, row.best_ask, "red")),
    _Column("SIZE", 7, 96, lambda row: _size(row.best_ask)),
    _Column("SPREAD", 6, 72, _spread),
    _Column("LEVELS", 7, 84, lambda row: Text(f"{row.bids}/{row.asks}", "dim")),
    _Column("AGE", 5, 50, lambda row: Text(age(row.age_seconds), "dim")),
)
_NARROW_STATE = _Column("STATE", 7, 0, _state, "left")
_WIDE_STATE = _Column("STATE", 21, WIDE_FROM, _state_and_reason, "left")
