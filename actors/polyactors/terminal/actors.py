"""The panels of users' actors: one line for each, and below it what the actor shows."""

from collections.abc import Iterable, Iterator, Sequence

from polyactors.extensions.extension import ActorStatus
from polyactors.terminal.news import plain_reason
from polyactors.terminal.text import count, printable

BAD_STATES = frozenset({"restarting", "gave_up", "stopped"})
Part = tuple[str, str]
"""A text and its style."""


def panel_lines(actors: Sequence[ActorStatus], lines_max: int) -> list[list[Part]]:
    """At most `lines_max` lines; every actor has its own before any shows more."""
    heads = [_head(status) for status in actors]
    if len(heads) > lines_max:
        left_out = len(heads) - lines_max + 1
        rest: Part = (f"… and {count(left_out, 'more actor')}", "dim")
        return [*heads[: lines_max - 1], [rest]] if lines_max else []
    room = lines_max - len(heads)
    lines: list[list[Part]] = []
    for head, status in zip(heads, actors, strict=True):
        shown = status.lines[: max(room, 0)]
        room -= len(shown)
        lines += [head, *([("  ", ""), (printable(line), "")] for line in shown)]
    return lines


def _head(status: ActorStatus) -> list[Part]:
    style = "bold red" if status.state in BAD_STATES else "green"
    parts: list[Part] = [
        (status.name, "bold"),
        (f"  {status.state.replace('_', ' ')}", style),
        (f"  {count(status.handled, 'message')}", "dim"),
    ]
    if status.incarnation > 1:
        parts.append((f"  {count(status.incarnation - 1, 'restart')}", "cyan"))
    if status.lost:
        parts.append((f"  {status.lost:,} lost", "red"))
    if status.state in BAD_STATES and status.last_failure:
        parts.append((f"  {printable(plain_reason(status.last_failure))}", "red"))
    parts += [(f"  {name} {value:,.10g}", "") for name, value in sorted(status.metrics.items())]
    return parts


def actors_text(actors: Iterable[ActorStatus]) -> str:
    """`actors watch running, hog gave up; `, or nothing."""
    told = ", ".join(f"{status.name} {status.state.replace('_', ' ')}" for status in actors)
    return f"actors {told}; " if told else ""


def unwell_text(actors: Iterable[ActorStatus]) -> str:
    """Of those that are not well at the end: `actor rec gave up, 12 messages not handled`; of the
    others nothing."""
    return "; ".join(
        f"actor {status.name} {', '.join(troubles)}"
        for status in actors
        if (troubles := list(_troubles(status)))
    )


def _troubles(status: ActorStatus) -> Iterator[str]:
    if status.state == "gave_up":
        yield "gave up"
    unhandled = status.queued + status.lost
    if unhandled:
        yield f"{count(unhandled, 'message')} not handled"
