"""The panels of users' actors: pure text, on terminals of every size."""

import io
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from tests.actors.terminal.test_draw import screen

from polyactors import ActorStatus
from polyactors.events import ActorEvent, ActorGaveUp, ActorRestarted, Event
from polyactors.terminal.actors import actors_text, panel_lines
from polyactors.terminal.draw import HINT, draw, panel_lines_max, rows_max
from polyactors.terminal.lines import status_line
from polyactors.terminal.news import Tone, condense


def status(name: str = "watch", **more: Any) -> ActorStatus:
    values: dict[str, Any] = {
        "name": name,
        "state": "running",
        "incarnation": 1,
        "takes": "BookUpdated",
        "handled": 1234,
        "queued": 0,
        "coalesced": 0,
        "lost": 0,
        "published": 0,
        "held_seconds": 0.0,
        "longest_held_seconds": 0.0,
        "metrics": {},
        "lines": (),
        "last_failure": "",
    }
    return ActorStatus(**values | more)


def text(*actors: ActorStatus, lines_max: int = 20) -> list[str]:
    return ["".join(part for part, _ in line) for line in panel_lines(actors, lines_max)]


def picture(width: int, height: int, *actors: ActorStatus) -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(draw(attrs.evolve(screen(), actors=actors), width, height))
    return console.export_text().splitlines()


def test_a_line_for_each_and_below_it_what_it_shows() -> None:
    watch = status(lines=("3 spreads are wide", "1 is narrow"), metrics={"b": 2.5, "a": 1234567.0})
    hog = status(
        "hog", state="gave_up", incarnation=6, handled=1, lost=20,
        last_failure="crash (ValueError: no) at hog.py:3",
    )  # fmt: skip
    assert text(watch, hog) == [
        "watch  running  1,234 messages  a 1,234,567  b 2.5",
        "  3 spreads are wide",
        "  1 is narrow",
        "hog  gave up  1 message  5 restarts  20 lost  ValueError: no at hog.py:3",
    ]


def test_a_failure_that_is_over_is_not_shown() -> None:
    assert text(status(last_failure="crash (ValueError: no)")) == ["watch  running  1,234 messages"]


def test_what_actors_say_cannot_control_a_terminal() -> None:
    line = "\x1b[2J[bold]loud[/bold]\r\n\u202eback\x07"
    shown = text(status(state="restarting", lines=(line,), last_failure=line))
    for one in shown:
        assert one.isprintable()
        assert "[bold]loud[/bold]" in one
    assert any("[bold]loud[/bold]" in one for one in picture(100, 24, status(lines=(line,))))


@pytest.mark.parametrize(
    ("lines_max", "shown"),
    [
        (0, []),
        (1, ["… and 3 more actors"]),
        (2, ["a", "… and 2 more actors"]),
        (3, ["a", "b", "c"]),
        (4, ["a", "  1", "b", "c"]),
        (6, ["a", "  1", "  2", "b", "  3", "c"]),
        (9, ["a", "  1", "  2", "b", "  3", "c"]),
    ],
)
def test_every_actor_has_its_line_before_any_shows_more(lines_max: int, shown: list[str]) -> None:
    actors = (status("a", lines=("1", "2")), status("b", lines=("3",)), status("c"))
    found = text(*actors, lines_max=lines_max)
    assert [line.partition("  running")[0] for line in found] == shown


STATUSES = st.lists(
    st.builds(
        status,
        st.sampled_from(["watch", "hog", "a" * 40]),
        state=st.sampled_from(["running", "restarting", "gave_up", "stopped", "waiting"]),
        incarnation=st.integers(0, 10**6),
        handled=st.integers(0, 10**12),
        lost=st.integers(0, 10**9),
        metrics=st.dictionaries(
            st.sampled_from(["a", "b", "m" * 64]), st.floats(allow_nan=False, allow_infinity=False)
        ),
        lines=st.lists(st.text(max_size=160), max_size=8).map(tuple),
        last_failure=st.text(max_size=100),
    ),
    max_size=12,
)


@given(STATUSES, st.integers(0, 30))
def test_never_more_lines_than_there_is_room_for(actors: list[ActorStatus], lines_max: int) -> None:
    lines = panel_lines(actors, lines_max)
    assert len(lines) <= lines_max
    assert bool(lines) == bool(actors and lines_max)
    assert all(part.isprintable() for line in lines for part, _ in line)


@given(STATUSES, st.integers(1, 200), st.integers(1, 60))
def test_the_live_view_keeps_its_size(actors: list[ActorStatus], width: int, height: int) -> None:
    drawn = draw(attrs.evolve(screen(), actors=tuple(actors)), width, height)
    assert len(drawn.lines) <= max(height, 1)
    assert all(sum(cell_len(part) for part, _ in line) <= width for line in drawn.lines)


@pytest.mark.parametrize("height", [24, 40])
def test_books_and_news_keep_their_place_beside_the_panels(height: int) -> None:
    actors = tuple(status(f"actor-{n}", lines=("x",)) for n in range(20))
    lines = picture(100, height, *actors)
    shown = [line for line in lines if line.startswith("actor-")]
    assert len(shown) == panel_lines_max(height) - 1
    assert any("more actors" in line for line in lines)
    assert any("Will it rain?" in line for line in lines)
    assert any(line.strip().endswith("news 2") for line in lines)
    assert lines[-1].strip() == HINT


def test_panels_take_room_from_the_table() -> None:
    assert rows_max(40, 0) == rows_max(40)
    assert rows_max(40, 6) <= rows_max(40) - 4
    assert rows_max(10, 2) >= 0


def test_the_plain_line_tells_each() -> None:
    assert actors_text([]) == ""
    assert actors_text([status(), status("hog", state="gave_up")]) == (
        "actors watch running, hog gave up; "
    )
    line = status_line(attrs.evolve(screen(), actors=(status(),)), 0)
    assert "status: actors watch running; feeds 1/2 up" in line
    assert line.count("\n") == 1


# --- news ---------------------------------------------------------------------------------


def told(*events: Event, names: dict[str, str] | None = None) -> list[tuple[str, Tone]]:
    return [(news.text, news.tone) for news in condense(events, names or {})]


def said(number: int, name: str = "spread_wide", **data: object) -> ActorEvent:
    return ActorEvent(time_ns=number, actor="watch", name=name, data=data)


def test_what_an_actor_says_again_and_again_is_one_line() -> None:
    token = "1" * 70
    events = [said(n, token=token, spread=str(n)) for n in range(3)]
    assert told(*events, said(4, "narrow"), names={token: "Yes · Rain"}) == [
        ("watch: spread_wide ×3 token=Yes · Rain spread=2", Tone.PLAIN),  # noqa: RUF001
        ("watch: narrow", Tone.PLAIN),
    ]


def test_news_of_actors_are_bounded_and_printable() -> None:
    ((line, _),) = told(said(1, text="\x1b[2J" + "x" * 1000, deep={"a": [1, None]}))
    assert line.isprintable()
    assert 100 < line.count("x") <= 160


def test_restarts_and_ends_are_told_by_name() -> None:
    path = "root/extensions/watch"
    reason = "crash (my_module.MyError: no)"
    restarted = ActorRestarted(time_ns=1, path=path, incarnation=2, reason=reason)
    gave_up = ActorGaveUp(time_ns=2, path=path, incarnation=6, reason=reason)
    assert told(restarted, gave_up) == [
        ("watch restarted: MyError: no", Tone.BAD),
        ("watch gave up: MyError: no", Tone.BAD),
    ]
