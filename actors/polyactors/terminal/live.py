"""The live view: a table of books that redraws in place, on the terminal's alternate screen.

rich draws into a buffer, from which a thread writes: a terminal that takes nothing (Ctrl-S, a
slow line) stops its own view and nothing else.
"""

import io
from collections.abc import Callable
from typing import Protocol

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from polyactors.logs import LogLines
from polyactors.terminal.news import News
from polyactors.terminal.output import Output
from polysupervisor import Context

FRAME_SECONDS = 0.2


class LiveScreen:
    """rich's Live, as text to write."""

    def __init__(self, size: Callable[[], tuple[int, int]]) -> None:
        """`size`: columns and lines, asked anew for every frame."""
        self._size = size
        self._buffer = io.StringIO()
        self._console = Console(file=self._buffer, force_terminal=True, legacy_windows=False)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def enter(self) -> str:
        """Onto the alternate screen, and hide the cursor."""
        self._console.size = self._size()
        self._live.start()
        return self._take()

    def frame(self, make: Callable[[int, int], RenderableType]) -> str:
        """One frame; `make` gets columns and lines."""
        width, height = self._console.size = self._size()
        self._live.update(make(width, height), refresh=True)
        return self._take()

    def leave(self) -> str:
        """Back to the ordinary screen, cursor and all."""
        self._live.update(Group(Text()))
        self._live.stop()
        return self._take()

    def _take(self) -> str:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text


class Watched(Protocol):
    """What is shown."""

    async def catch_up(self) -> list[News]:
        """Take in what is new."""
        ...

    def tell_error(self, text: str) -> None:
        """Something that no event tells went wrong."""
        ...


async def run_live(
    ctx: Context[object],
    watch: Watched,
    draw: Callable[[int, int], RenderableType],
    output: Output,
    logs: LogLines | None,
) -> None:
    """Draw until stopped; `draw` gets columns and lines. `logs` are held back meanwhile, if they
    go to the same terminal.

    Raises OSError when the terminal is gone. Cancellation: the terminal is restored, within
    RESTORE_SECONDS_MAX.
    """
    live = LiveScreen(output.size)
    if logs is not None:
        logs.hold(on_error=watch.tell_error)
    try:
        await output.write(live.enter())
        ctx.ready()
        while not ctx.stop_requested.is_set():
            await watch.catch_up()
            await output.write(live.frame(draw))
            with trio.move_on_after(FRAME_SECONDS):
                await ctx.stop_requested.wait()
    finally:
        await output.restore(live.leave())
        if logs is not None:
            logs.release()
