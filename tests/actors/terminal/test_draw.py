"""The live view's pictures, as text, on terminals of many sizes."""

import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from polyactors.book.orderbook import Level
from polyactors.book.trust import StaleReason, TrustState
from polyactors.service import FeedStatus
from polyactors.terminal.draw import HINT, compact, draw, fit, rows_max
from polyactors.terminal.news import News, Tone
from polyactors.terminal.screen import Row, Screen, Verified

BID = Level(Decimal("0.8"), Decimal("378.79"))
ASK = Level(Decimal("0.851"), Decimal(1020))


def row(name: str = "Yes · Will it rain?", **more: object) -> Row:
    values: dict[str, object] = {
        "name": name,
        "feed": "feed-0",
        "state": TrustState.LIVE,
        "reason": None,
        "best_bid": BID,
        "best_ask": ASK,
        "spread": Decimal("0.051"),
        "bids": 13,
        "asks": 10,
        "age_seconds": 0.12,
    }
    return Row(**(values | more))  # type: ignore[arg-type]


STALE = row(
    "No · Will it rain?", state=TrustState.STALE, reason=StaleReason.DISCONNECTED, age_seconds=61.0
)
EMPTY = row(
    "8910…4242",
    state=TrustState.EMPTY,
    best_bid=None,
    best_ask=None,
    spread=None,
    bids=0,
    asks=0,
    age_seconds=None,
)
UP = FeedStatus("feed-0", 3, None, 2, 2, 100)
DOWN = FeedStatus("feed-1", None, "handshake_429", 1, 0, 0)


def screen(
    rows: Sequence[Row] = (row(), STALE, EMPTY),
    feeds: Sequence[FeedStatus] = (UP, DOWN),
    news: int = 3,
    followed: int = 3,
    desyncs: Mapping[str, int] | None = None,
    unverifiable: int = 0,
) -> Screen:
    return Screen(
        title="polyactors test",
        elapsed_seconds=83.0,
        feeds=tuple(feeds),
        states={"LIVE": followed - 2, "STALE": 1, "EMPTY": 1} if followed else {},
        restarts=3,
        messages_per_second=1234.56,
        verified=Verified(81_200, 964, unverifiable, desyncs or {}),
        rows=tuple(rows),
        news=tuple(News(n * 10**9, f"news {n}", Tone.PLAIN) for n in range(news)),
    )


def picture(shown: Screen, width: int, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(draw(shown, width, height))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_essentials_stand_there_at_every_width(width: int) -> None:
    lines = picture(screen(), width)
    assert lines[0].startswith("polyactors test   up 01:23   1,234.6 messages/s   3 restarts")
    assert lines[1].startswith("books 1 LIVE  1 STALE  1 EMPTY   feeds 1/2 up; ")
    assert lines[2].strip() == "verified 81,200 groups by top, 964 by hash   0 desyncs"
    live = next(line for line in lines if line.startswith("Yes · Will it rain?"))
    stale = next(line for line in lines if line.startswith("No · Will it rain?"))
    empty = next(line for line in lines if line.startswith("8910…4242"))
    assert [word in live for word in ("0.80", "0.851", "0.1s", "LIVE")] == [True] * 4
    assert stale.rstrip().endswith("61s  STALE disconnected" if width >= 70 else "61s  STALE")
    assert empty.split()[-1] == "EMPTY"
    assert "-" in empty
    assert lines[-1].strip() == HINT
    assert any(line.strip().endswith("news 2") for line in lines)


def test_wider_terminals_show_more() -> None:
    shown = {width: "\n".join(picture(screen(), width)) for width in (45, 60, 70, 80, 90, 110, 160)}
    for words, from_width in [
        (("AGE",), 60),
        (("STALE disconnected",), 70),
        (("SPREAD", "0.051"), 80),
        (("LEVELS", "13/10"), 90),
        (("SIZE", "378.79", "1,020"), 110),
        (("FEED", "feed-0"), 160),
    ]:
        for width, text in shown.items():
            assert all(word in text for word in words) == (width >= from_width), (words, width)


def test_a_feed_that_is_down_says_why() -> None:
    assert "feed-1 down: handshake_429" in picture(screen(), 100)[1]


@pytest.mark.parametrize("reason", StaleReason)
@pytest.mark.parametrize("width", [70, 80, 120])
def test_every_reason_stands_there_in_full_and_leaves_room_for_the_name(
    reason: StaleReason, width: int
) -> None:
    stale = row(state=TrustState.STALE, reason=reason)
    lines = picture(screen([stale]), width)
    line = next(line for line in lines if line.startswith("Yes · Will it rain?"))
    assert line.rstrip().endswith(f"STALE {reason.value}")


def test_states_differ_in_colour_too() -> None:
    rows = [row(state.value, state=state) for state in TrustState]
    styles = {
        text.strip(): style
        for line in draw(screen(rows), 50, 24).lines
        for text, style in line[-1:]
        if text.strip() in TrustState.__members__
    }
    assert len(set(styles.values())) == len(TrustState) == len(styles)


def test_desyncs_are_told_with_their_reasons() -> None:
    shown = screen(desyncs={"crossed": 1, "top_mismatch": 1200})
    told = "1,201 desyncs (1,200 top_mismatch, 1 crossed)"
    assert picture(shown, 100)[2].rstrip().endswith(told)
    assert draw(shown, 100, 24).lines[2][2] == (f"   {told}", "red")
    assert picture(shown, 60)[2].rstrip().endswith("1,201 desyncs …")


def test_groups_whose_hash_cannot_be_told_are_counted() -> None:
    told = picture(screen(unverifiable=1048), 100)[2].rstrip()
    assert told == "verified 81,200 groups by top, 964 by hash   0 desyncs   1,048 unverifiable"


def test_before_anything_is_known_it_says_so() -> None:
    lines = picture(screen((), (), 0, 0), 100)
    assert lines[1].strip() == "books none yet   feeds none yet"


def test_tokens_without_a_row_are_counted() -> None:
    lines = picture(screen(followed=1234), 80)
    assert any(line.strip() == "… and 1,231 more tokens" for line in lines)


@given(
    width=st.integers(1, 250),
    height=st.integers(1, 80),
    tokens=st.integers(0, 60),
    news=st.integers(0, 100),
)
def test_it_fits_any_terminal(width: int, height: int, tokens: int, news: int) -> None:
    fitting = min(tokens, rows_max(height))
    rows = [row(f"{number} · " + "question " * 12) for number in range(fitting)]
    shown = screen(rows, news=news, followed=max(tokens, 2))
    console = Console(width=width, height=height)
    lines = console.render_lines(draw(shown, width, height), pad=False)
    assert len(lines) == height
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)
    hint = "".join(segment.text for segment in lines[-1])
    assert hint == HINT if width >= len(HINT) else hint == HINT[: width - 1] + "…"


NOTICE = (
    "the tokens were not checked, https://clob.polymarket.com/books: all attempts to connect to "
    "clob.polymarket.com:443 failed; going on without "
    "(`python -m polyactors demo` needs no network)"
)


@pytest.mark.parametrize("width", [60, 80, 110, 140])
def test_long_news_go_on_in_the_next_line(width: int) -> None:
    shown = attrs.evolve(screen(), news=(News(0, "before", Tone.PLAIN), News(0, NOTICE, Tone.BAD)))
    lines = picture(shown, width)
    start = next(index for index, line in enumerate(lines) if "the tokens" in line)
    stamp = lines[start].index("the tokens")
    assert lines[start - 1][stamp:].strip() == "before"
    told = [line[stamp:].strip() for line in lines[start:-1]]
    assert " ".join(text for text in told if text) == NOTICE
    assert all(not line[:stamp].strip() for line in lines[start + 1 : -1])


def test_of_too_many_news_the_end_is_shown() -> None:
    shown = attrs.evolve(screen(), news=tuple(News(0, NOTICE, Tone.BAD) for _ in range(50)))
    lines = picture(shown, 80, 14)
    told = [line.strip() for line in lines[:-1] if line.strip()]
    assert told[-1].endswith("needs no network)")
    assert lines[-1].strip() == HINT


def test_no_news_begin_in_their_middle() -> None:
    said = [News(0, NOTICE, Tone.BAD), *(News(0, f"then {n}", Tone.PLAIN) for n in range(8))]
    shown = attrs.evolve(screen(), news=tuple(said))
    cut = 0
    for height in range(14, 40):
        text = " ".join(line.strip() for line in picture(shown, 80, height))
        assert ("the tokens" in text) is ("needs no network)" in text)
        cut += "the tokens" not in text
        assert "then 7" in text
    assert 0 < cut < 26


def test_wide_characters_count_twice() -> None:
    assert fit([("ab", ""), ("漢字", "bold"), ("c", "")], 5) == (("ab", ""), ("漢…", "bold"))
    assert fit([("ab", ""), ("漢字", "bold")], 6) == (("ab", ""), ("漢字", "bold"))
    line = next(line for line in picture(screen([row("漢" * 50)]), 60) if "漢" in line)
    assert cell_len(line.rstrip()) < 60
    assert line.rstrip().endswith("LIVE")


def test_more_lines_never_show_fewer_tokens() -> None:
    fitting = [rows_max(height) for height in range(1, 100)]
    assert fitting[0] == 0
    assert all(less <= more for less, more in pairwise(fitting))
    assert fitting[-1] > 70


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ("0.5", "0.5"),
        ("100", "100"),
        ("12.50", "12.5"),
        ("999.99", "999.99"),
        ("1020.4", "1,020"),
        ("99999", "99,999"),
        ("126680", "126.7k"),
        ("3100000", "3.1M"),
        ("2000000000", "2.0G"),
    ],
)
def test_sizes_are_short(size: str, text: str) -> None:
    assert compact(Decimal(size)) == text
