"""The choice of the view, and the view as a child of the service."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from attrs import Factory, define

from polyactors.logs import LogLines
from polyactors.service import Service
from polyactors.terminal.account import AccountWatch, account_status_line
from polyactors.terminal.lines import run_lines, status_line
from polyactors.terminal.news import News, Tone
from polyactors.terminal.output import GONE, RESTORE_SECONDS_MAX, Output
from polyactors.terminal.pipes import complain, is_closed, say, silence, takes_more
from polyactors.terminal.screen import SUBSCRIPTION_EVENTS_MAX, Watch
from polyactors.terminal.text import printable
from polysupervisor import Backoff, ChildSpec, Context, Restart, Shutdown

if TYPE_CHECKING:
    from rich.console import RenderableType


@define
class Display:
    """The view of one run: live on a terminal, plain lines elsewhere."""

    stream: TextIO
    is_live: bool
    logs: LogLines
    title: str
    names: Mapping[str, str] = Factory(dict[str, str])
    """By token: what to call it."""
    is_account: bool = False
    """Shows the account instead of the books."""
    notices: Sequence[str] = ()
    """News from before the service began."""

    @classmethod
    def choose(cls, logs: LogLines, title: str, *, plain: bool, stdout_is_data: bool) -> "Display":
        """Live if standard output is a terminal that can, and nobody asked for plain lines.

        Standard output that carries data carries nothing else: then plain lines go to standard
        error. A closed standard output is no reason not to run: the user is told, once.
        """
        stream = sys.stderr if stdout_is_data else sys.stdout
        if not stdout_is_data and is_closed(stream):
            complain("polyactors: standard output is closed, so nothing is shown")
            silence(stream)
        is_live = not plain and not stdout_is_data and _can_be_live(stream)
        return cls(stream, is_live, logs, title)

    def say(self, text: str) -> None:
        """One line, before or after the view; none where nobody reads. Raises as `pipes.say`."""
        if takes_more(self.stream, RESTORE_SECONDS_MAX):
            say(text, self.stream)

    def child(self, service: Service) -> ChildSpec[object]:
        """The view as the last child of the service: first to stop."""
        watch: Watch | AccountWatch
        subscription = service.events(SUBSCRIPTION_EVENTS_MAX)
        if self.is_account:
            watch = AccountWatch(service, subscription, self.title, service.env.clock_ns)
        else:
            watch = Watch(
                service=service,
                subscription=subscription,
                title=self.title,
                names=self.names,
                clock_ns=service.env.clock_ns,
            )
        now_ns = service.env.clock_ns()
        watch.news.extend(News(now_ns, printable(text), Tone.BAD) for text in self.notices)
        output = Output(self.stream)
        return ChildSpec(
            id="terminal",
            factory=lambda: lambda ctx: self._run(ctx, watch, output, service),
            restart=Restart.TRANSIENT,
            # Whatever happens to a view, the service goes on: it spends no restart intensity.
            expected=(Exception,),
            backoff=Backoff(min=1.0, max=30.0),
            shutdown=Shutdown(grace=1.0),
        )

    async def _run(
        self,
        ctx: Context[object],
        watch: Watch | AccountWatch,
        output: Output,
        service: Service,
    ) -> None:
        try:
            if self.is_live:
                from polyactors.terminal.live import run_live  # rich: only when it is used

                logs = self.logs if sys.stderr.isatty() else None
                await run_live(ctx, watch, drawing_of(watch), output, logs)
            else:
                await run_lines(ctx, watch.catch_up, status_of(watch), output)
        except OSError as error:
            if error.errno not in GONE:
                raise
            silence(self.stream)
            service.stop()


def drawing_of(watch: Watch | AccountWatch) -> "Callable[[int, int], RenderableType]":
    """How it is drawn, on so many columns and lines."""
    from polyactors.terminal.actors import panel_lines
    from polyactors.terminal.draw import draw, panel_lines_max, rows_max
    from polyactors.terminal.draw_account import draw_account

    if isinstance(watch, AccountWatch):
        return lambda width, height: draw_account(watch.screen(height), width, height)

    def picture(width: int, height: int) -> "RenderableType":
        actors = watch.service.actor_statuses()
        panel = len(panel_lines(actors, panel_lines_max(height)))
        return draw(watch.screen(rows_max(height, panel)), width, height)

    return picture


def status_of(watch: Watch | AccountWatch) -> Callable[[], str]:
    """How things stand, in one line."""
    if isinstance(watch, AccountWatch):
        return lambda: account_status_line(watch.screen(0), watch.clock_ns())
    return lambda: status_line(watch.screen(0), watch.clock_ns())


def _can_be_live(stream: TextIO) -> bool:
    if not stream.isatty():
        return False
    from rich.console import Console

    return not Console(file=stream).is_dumb_terminal
