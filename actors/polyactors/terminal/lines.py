"""Plain lines: what happens, and every few seconds how things stand. For pipes and files."""

import time
from collections.abc import Awaitable, Callable, Iterable

import trio

from polyactors.terminal.actors import actors_text
from polyactors.terminal.news import News
from polyactors.terminal.output import Output
from polyactors.terminal.screen import Screen, feeds_text, states_text
from polyactors.terminal.text import count
from polysupervisor import Context

LINES_SECONDS = 0.5
"""What happens within so long is condensed together."""
STATUS_SECONDS = 5.0


def news_lines(news: Iterable[News]) -> str:
    """One line for each, with the local time."""
    return "".join(f"{clock(item.time_ns)} {item.text}\n" for item in news)


def status_line(screen: Screen, time_ns: int) -> str:
    """How things stand, in one line."""
    account = "" if screen.account is None else f"account {screen.account_text}; "
    return (
        f"{clock(time_ns)} status: {account}{actors_text(screen.actors)}"
        f"feeds {feeds_text(screen)}; "
        f"books {states_text(screen.states)}; {screen.messages_per_second:,.1f} messages/s; "
        f"{count(screen.restarts, 'restart')}; "
        f"{screen.verified.text}\n"
    )


def clock(time_ns: int) -> str:
    """Local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(time_ns / 1e9))


async def run_lines(
    ctx: Context[object],
    catch_up: Callable[[], Awaitable[Iterable[News]]],
    status: Callable[[], str],
    output: Output,
) -> None:
    """Write lines until stopped, then what is left. Raises OSError when they cannot be written.

    `catch_up` brings what is new; `status` is the line that says how things stand.
    """
    ctx.ready()
    status_due = trio.current_time() + STATUS_SECONDS
    is_stopping = False
    while not is_stopping:
        with trio.move_on_after(LINES_SECONDS):
            await ctx.stop_requested.wait()
        is_stopping = ctx.stop_requested.is_set()
        lines = news_lines(await catch_up())
        # Taken at every turn: its rate of messages needs the turns between.
        standing = status()
        if trio.current_time() >= status_due:
            status_due += STATUS_SECONDS
            lines += standing
        if lines:
            await output.write(lines)
