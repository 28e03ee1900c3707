"""What the commands do: values of options in, an exit code out.

Everything opened here is closed here, also after a signal; a summary is written at every end
that the service reached, whether it was clean or not.
"""

import json
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from signal import SIGINT, SIGTERM
from typing import Any, TextIO, TypeVar

import trio
from attrs import define, frozen
from polysupervisor import Backoff, ChildSpec, Context, Restart, Shutdown, run_app

from polyactors.discovery import Wanted, check_token, parse_market
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.logs import LogLines, logging_to
from polyactors.options import TOP_DEFAULT, settings_of
from polyactors.preflight import preflight
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.sinks import events_sink, open_events_file
from polyactors.terminal.lines import clock, run_lines
from polyactors.terminal.output import GONE, Output
from polyactors.terminal.screen import SUBSCRIPTION_EVENTS_MAX, Watch, states_text
from polyactors.terminal.text import count, duration, printable

EXIT_CLEAN = 0
EXIT_DESYNC = 3
STANDARD_OUTPUT = "-"
BAD_LINES_NAMED_MAX = 100
"""Bad lines of one file that a replay names; all are counted."""
PROGRESS_FRAMES = 20_000
Sink = Callable[[Service], ChildSpec[object]]
T = TypeVar("T")


@define
class Display:
    """The view of one run: a live one on a terminal, plain lines elsewhere."""

    stream: TextIO
    is_live: bool
    logs: LogLines
    title: str
    names: Mapping[str, str] = {}

    def say(self, text: str) -> None:
        """One line in the ordinary flow of the stream that the view uses."""
        print(text, file=self.stream, flush=True)

    def child(self, service: Service) -> ChildSpec[object]:
        """The view as the last child of the service: first to stop."""
        watch = Watch(
            service=service,
            subscription=service.events(SUBSCRIPTION_EVENTS_MAX),
            title=self.title,
            names=self.names,
            clock_ns=service.env.clock_ns,
        )
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
        self, ctx: Context[object], watch: Watch, output: Output, service: Service
    ) -> None:
        try:
            if self.is_live:
                from polyactors.terminal.live import run_live

                logs = self.logs if sys.stderr.isatty() else None
                await run_live(ctx, watch, output, logs)
            else:
                await run_lines(ctx, watch, output)
        except OSError as error:
            if error.errno not in GONE:
                raise
            from polyactors.cli import silence

            silence(self.stream)
            service.stop()


@frozen
class Outputs:
    """Where the events and the summary go."""

    sinks: tuple[Sink, ...]
    summary: TextIO | None

    def write_summary(self, service: Service) -> None:
        """Write the summary, if one is wanted. Raises UsageError when it cannot be written."""
        if self.summary is None:
            return
        try:
            print(json.dumps(service.summary()), file=self.summary, flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UsageError(f"cannot write the summary: {error.strerror}") from None


@contextmanager
def open_outputs(values: Mapping[str, Any]) -> Generator[Outputs, None, None]:
    """Open both files before anything else, so that a wrong path is said at once."""
    events, summary = values["events"], values["summary"]
    if events == summary and events not in (None, STANDARD_OUTPUT):
        raise UsageError(f"--events and --summary both name {events}; give each its own file")
    summary_file: TextIO | None = None
    if summary == STANDARD_OUTPUT:
        summary_file = sys.stdout
    elif summary is not None:
        try:
            summary_file = open(summary, "w", encoding="utf-8")  # noqa: SIM115 - closed below
        except OSError as error:
            raise UsageError(f"cannot write the summary to {summary}: {error.strerror}") from None
    events_file = None
    try:
        events_file = None if events is None else open_events_file(events)
        yield Outputs(() if events_file is None else (events_sink(events_file),), summary_file)
    finally:
        if events_file is not None and events != STANDARD_OUTPUT:
            events_file.close()
        if summary_file is not None and summary != STANDARD_OUTPUT:
            summary_file.close()


def open_display(values: Mapping[str, Any], logs: LogLines, title: str) -> Display:
    """Choose the view. Standard output that carries data carries nothing else."""
    carries_data = STANDARD_OUTPUT in (values["events"], values["summary"])
    stream = sys.stderr if carries_data else sys.stdout
    is_live = not carries_data and not values["plain"] and stream.isatty() and not _is_dumb()
    return Display(stream, is_live, logs, title)


def _is_dumb() -> bool:
    from rich.console import Console

    return Console().is_dumb_terminal


def run_command(values: Mapping[str, Any]) -> int:
    """`run`: the service, until stopped."""
    settings = settings_of(values)
    wanted = _wanted(values)
    with logging_to(sys.stderr, values["log_level"]) as logs, open_outputs(values) as outputs:
        display = open_display(values, logs, "polyactors run")
        return trio.run(
            partial(
                run_service,
                wanted,
                env=Environment(settings),
                outputs=outputs,
                display=display,
                seconds=values["seconds"],
            )
        )


def _wanted(values: Mapping[str, Any]) -> Wanted:
    wanted = Wanted(
        tuple(dict.fromkeys(check_token(token) for token in values["token"] or ())),
        tuple(dict.fromkeys(parse_market(market) for market in values["market"] or ())),
        values["top"] or 0,
    )
    return wanted if wanted.tokens or wanted.needs_listing else Wanted(top=TOP_DEFAULT)


async def run_service(
    wanted: Wanted,
    *,
    env: Environment,
    outputs: Outputs,
    display: Display,
    seconds: float | None,
) -> int:
    """Run the service until a signal or for `seconds`; returns the exit code of the process.

    Raises UsageError when the user asked for what does not exist; after the summary, if the
    service had started.
    """
    async with RestClient(env.settings, env.network) as rest:
        look = partial(
            preflight,
            wanted,
            rest,
            clob_url=env.settings.clob_url,
            gamma_url=env.settings.gamma_url,
        )
        found = await until_signal(look)
        if found is None:
            return EXIT_CLEAN
        for notice in found.notices:
            print(f"polyactors: {printable(notice)}", file=sys.stderr, flush=True)
        display.names = found.names
        service = Service(
            found.wanted, env=env, rest=rest, sinks=outputs.sinks, last=display.child
        )
        try:
            code = await _run_root(service, seconds)
        finally:
            env.hub.end()
    outputs.write_summary(service)
    if service.failure is not None:
        raise service.failure
    say_goodbye(service, display)
    return code


async def _run_root(service: Service, seconds: float | None) -> int:
    async def stop_in_time() -> None:
        if seconds is not None:
            await trio.sleep(seconds)
            service.stop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_in_time)
        code = await run_app(service.root)
        nursery.cancel_scope.cancel()
    return code


def say_goodbye(service: Service, display: Display) -> None:
    """The last line for people: how it went."""
    summary = service.statistics
    elapsed_seconds = (trio.lowlevel.current_clock().current_time() if False else 0.0)
    display.say(
        f"stopped after {duration(elapsed_seconds)}: books {states_text(service.states())}; "
        f"{count(summary.frames, 'message')}, {count(summary.restarts.total(), 'restart')}"
    )


async def until_signal(work: Callable[[], Awaitable[T]]) -> T | None:
    """The result of `work`; None when SIGINT or SIGTERM cancelled it first."""
    result: T | None = None
    with trio.open_signal_receiver(SIGINT, SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            result = await work()
            nursery.cancel_scope.cancel()
    return result
