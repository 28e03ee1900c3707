"""What the commands do: values of options in, an exit code out.

Everything opened here is closed here, also after a signal; a summary is written at every end
that the service reached, whether it was clean or not.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from signal import SIGINT, SIGTERM
from typing import Any, TextIO, TypeVar

import trio
from attrs import frozen

from polyactors.config import Settings
from polyactors.discovery import Wanted, check_token, parse_market
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.logs import logging_to
from polyactors.options import TOP_DEFAULT, settings_of
from polyactors.preflight import preflight
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.sinks import events_sink, open_events_file
from polyactors.terminal.display import Display
from polyactors.terminal.lines import clock
from polyactors.terminal.screen import states_text
from polyactors.terminal.text import count, duration, printable, short_token
from polyactors.transport import Target
from polysupervisor import ChildSpec, run_app

EXIT_CLEAN = 0
EXIT_DESYNC = 3
STANDARD_OUTPUT = "-"
BAD_LINES_NAMED_MAX = 100
"""Bad lines of one file that a replay names; all are counted."""
Sink = Callable[[Service], ChildSpec[object]]
T = TypeVar("T")


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
            raise  # its reader has gone, which is no mistake
        except OSError as error:
            raise UsageError(f"cannot write the summary: {error.strerror}") from None


@contextmanager
def open_outputs(values: Mapping[str, Any]) -> Generator[Outputs, None, None]:
    """Open both files before anything else, so that a wrong path is said at once."""
    events_path, summary_path = values["events"], values["summary"]
    if events_path == summary_path and events_path not in (None, STANDARD_OUTPUT):
        raise UsageError(f"--events and --summary both name {events_path}; give each its own file")
    summary = None if summary_path is None else _open_summary(summary_path)
    try:
        events = None if events_path is None else open_events_file(events_path)
        try:
            yield Outputs(() if events is None else (events_sink(events),), summary)
        finally:
            if events is not None:
                events.close()
    finally:
        if summary is not None and summary_path != STANDARD_OUTPUT:
            summary.close()


def _open_summary(path: str) -> TextIO:
    if path == STANDARD_OUTPUT:
        return sys.stdout
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write the summary to {path}: {error.strerror}") from None


@contextmanager
def _prepared(
    values: Mapping[str, Any], title: str
) -> Generator[tuple[Outputs, Display], None, None]:
    with logging_to(sys.stderr, values["log_level"]) as logs, open_outputs(values) as outputs:
        stdout_is_data = STANDARD_OUTPUT in (values["events"], values["summary"])
        yield (
            outputs,
            Display.choose(logs, title, plain=values["plain"], stdout_is_data=stdout_is_data),
        )


def run_command(values: Mapping[str, Any]) -> int:
    """`run`: the service, until stopped."""
    env = Environment(settings_of(values))
    wanted = wanted_of(values)
    Target.parse(env.settings.ws_url)  # a wrong URL is said before anything is asked
    with _prepared(values, "polyactors run") as (outputs, display):
        return trio.run(
            partial(
                run_service,
                wanted,
                env=env,
                outputs=outputs,
                display=display,
                seconds=values["seconds"],
            )
        )


def wanted_of(values: Mapping[str, Any]) -> Wanted:
    """What to follow. Raises UsageError for what cannot be a token or a market."""
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
        found = await until_signal(partial(preflight, wanted, rest, env.settings))
        if found is None:
            return EXIT_CLEAN
        for notice in found.notices:
            print(f"polyactors: {printable(notice)}", file=sys.stderr, flush=True)
        display.names, display.notices = found.names, found.notices
        service = Service(found.wanted, env=env, rest=rest, sinks=outputs.sinks, last=display.child)
        try:
            code = await _run_root(service, seconds)
        finally:
            env.hub.end()
    finish(service, outputs, display)
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


def finish(service: Service, outputs: Outputs, display: Display) -> None:
    """The summary, and the last line for people. Raises the failure of the service."""
    outputs.write_summary(service)
    if service.failure is not None:
        raise service.failure
    statistics = service.statistics
    seconds = (time.monotonic_ns() - statistics.started_ns) / 1e9
    display.say(
        f"stopped after {duration(seconds)}: books {states_text(service.states())}; "
        f"{count(statistics.frames, 'message')}; "
        f"{count(statistics.restarts.total(), 'restart')}"
    )


def demo_command(values: Mapping[str, Any]) -> int:
    """`demo`: the same against an exchange in this process."""
    from polyactors.demo import run_demo
    from polyactors.venue.listing import OUTCOMES, make_listing

    seed, markets = values["seed"], values["markets"]
    services: list[Service] = []
    with _prepared(values, "polyactors demo") as (outputs, display):
        listings = [make_listing(seed, index) for index in range(markets)]
        display.names = {
            token: f"{outcome} · {listing.question}"
            for listing in listings
            for token, outcome in zip(listing.tokens, OUTCOMES, strict=True)
        }
        code = trio.run(
            partial(
                run_demo,
                seed=seed,
                markets=markets,
                rate=values["rate"],
                faults=values["faults"],
                seconds=values["seconds"],
                settings=Settings(),
                sinks=outputs.sinks,
                last=display.child,
                on_service=services.append,
            )
        )
        for service in services:
            finish(service, outputs, display)
    return code


def venue_command(values: Mapping[str, Any]) -> int:
    """`venue`: that exchange alone, until a signal."""
    with logging_to(sys.stderr, values["log_level"]):
        trio.run(until_signal, partial(serve, values))
    return EXIT_CLEAN


async def serve(values: Mapping[str, Any]) -> None:
    """Serve an exchange until cancelled; the first line on standard output is how to reach it.

    Raises UsageError when a port cannot be had.
    """
    from polyactors.venue import FaultRecord, FaultSchedule, ListenFailed, Venue, serve_venue

    def say_fault(record: FaultRecord) -> None:
        target = f" on {short_token(record.token)}" if record.token else ""
        if record.session is not None:
            target += f" in session {record.session}"
        lasts = f" for {record.seconds:g} s" if record.seconds else ""
        print(
            f"{clock(time.time_ns())} fault {record.id}: {record.kind}{target}{lasts}",
            file=sys.stderr,
            flush=True,
        )

    venue = Venue(
        seed=values["seed"],
        markets=values["markets"],
        rate=values["rate"],
        schedule=FaultSchedule.steady(values["seed"]) if values["faults"] else None,
        on_fault=say_fault,
    )
    serving = partial(
        serve_venue,
        venue,
        host=values["host"],
        port=values["port"],
        rest_port=values["rest_port"],
    )
    mistake: ListenFailed | None = None
    async with trio.open_nursery() as nursery:
        try:
            endpoints = await nursery.start(serving)
        except ListenFailed as error:
            mistake = error  # raised below: out of the nursery it would come in a group
        else:
            print(endpoints.as_options(), flush=True)
            nursery.start_soon(venue.run)
    if mistake is not None:
        raise UsageError(str(mistake))


def replay_command(values: Mapping[str, Any]) -> int:
    """`replay`: recorded frames through the same actors."""
    from polyactors.replay import replay_files

    bad_lines: Counter[str] = Counter()

    def name_bad_line(path: str, line: int, why: str) -> None:
        bad_lines[path] += 1
        if bad_lines[path] <= BAD_LINES_NAMED_MAX:
            print(f"{path}:{line}: {printable(why)}", file=sys.stderr)

    def show_progress(frames: int) -> None:
        print(f"\r{frames:,} frames", end="", file=sys.stderr, flush=True)

    has_progress = sys.stderr.isatty()
    with logging_to(sys.stderr, values["log_level"]):
        report = trio.run(
            partial(
                replay_files,
                values["files"],
                on_bad_line=name_bad_line,
                progress=show_progress if has_progress else lambda frames: None,
            )
        )
    if has_progress:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    for path, number in bad_lines.items():
        if number > BAD_LINES_NAMED_MAX:
            more = count(number - BAD_LINES_NAMED_MAX, "more bad line")
            print(f"{path}: {more}", file=sys.stderr)
    if values["json"]:
        print(json.dumps(report.to_json()))
    else:
        print("\n".join(printable(line) for line in report.lines()))
    return EXIT_DESYNC if report.desyncs else EXIT_CLEAN


async def until_signal(work: Callable[[], Awaitable[T]]) -> T | None:
    """The result of `work`; None when SIGINT or SIGTERM cancelled it first."""
    result: T | None = None
    failure: Exception | None = None
    with trio.open_signal_receiver(SIGINT, SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            try:
                result = await work()
            except Exception as error:
                failure = error  # raised below: out of a nursery it would come in a group
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


COMMANDS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "run": run_command,
    "demo": demo_command,
    "venue": venue_command,
    "replay": replay_command,
}
