"""What the commands do: values of options in, an exit code out.

Everything opened here is closed here, also after a signal; a summary is written at every end
that the service reached, whether it was clean or not.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import trio
from attrs import frozen

from polyactors.account.credentials import Credentials, from_environment, from_file
from polyactors.cli import EXIT_CLEAN, EXIT_EVENTS_MISSING
from polyactors.config import Settings
from polyactors.discovery import Wanted, check_token, parse_market
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.extensions.loading import load_actors
from polyactors.extensions.spec import ActorSpec
from polyactors.logs import logging_to
from polyactors.options import TOP_DEFAULT, settings_of
from polyactors.preflight import preflight
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.sinks import (
    STANDARD_OUTPUT,
    EventsFile,
    events_sink,
    open_events_file,
    open_raw,
    write_all,
)
from polyactors.stops import deliver_soon, until_signal
from polyactors.terminal.display import Display
from polyactors.terminal.lines import clock
from polyactors.terminal.pipes import complain, say
from polyactors.terminal.screen import Verified, messages, states_text
from polyactors.terminal.text import count, duration, printable, short_token
from polyactors.transport import Target
from polyactors.user.line import REFUSED, UserLine
from polysupervisor import ChildSpec, run_app

Sink = Callable[[Service], ChildSpec[object]]


@frozen
class Outputs:
    """Where the events and the summary go."""

    events: EventsFile | None = None
    summary: BinaryIO | None = None
    """Unbuffered."""

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The children of the service that write."""
        return () if self.events is None else (events_sink(self.events),)

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write the summary, if one is wanted. Raises UsageError when it cannot be written."""
        if self.summary is None:
            return
        missing = 0 if self.events is None else self.events.missing
        text = json.dumps({**summary, "events_missing": missing})
        try:
            write_all(self.summary, text.encode() + b"\n")
        except BrokenPipeError:
            raise  # its reader has gone, which is no mistake
        except OSError as error:
            raise UsageError(
                f"cannot write the summary: {error.strerror}; give --summary another file"
            ) from None


@contextmanager
def open_outputs(values: Mapping[str, Any]) -> Generator[Outputs, None, None]:
    """Open both files before anything else, so that a wrong path is said at once."""
    events_path, summary_path = values["events"], values["summary"]
    if events_path == summary_path and events_path not in (None, STANDARD_OUTPUT):
        raise UsageError(f"--events and --summary both name {events_path}; give each its own file")
    with ExitStack() as stack:
        summary = events = None
        if summary_path is not None:
            summary = stack.enter_context(open_raw(summary_path, "the summary"))
        if events_path is not None:
            events = stack.enter_context(closing(open_events_file(events_path)))
        yield Outputs(events, summary)


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
    if values["credentials"] and not values["user"]:
        raise UsageError("--credentials is for your own account: give --user, too")
    user = UserLine(credentials_of(values), env) if values["user"] else None
    actors = actors_of(values)
    with _prepared(values, "polyactors run") as (outputs, display):
        return trio.run(
            partial(
                run_service,
                wanted,
                env=env,
                outputs=outputs,
                display=display,
                seconds=values["seconds"],
                user=user,
                actors=actors,
            )
        )


def account_command(values: Mapping[str, Any]) -> int:
    """`account`: one's own orders, trades and positions, until stopped."""
    env = Environment(settings_of(values))
    line = UserLine(credentials_of(values), env, values["market"] or ())
    Target.parse(env.settings.ws_url)
    with _prepared(values, "polyactors account") as (outputs, display):
        display.is_account = True
        return trio.run(
            partial(
                run_service,
                Wanted(),
                env=env,
                outputs=outputs,
                display=display,
                seconds=values["seconds"],
                user=line,
            )
        )


def credentials_of(values: Mapping[str, Any]) -> Credentials:
    """From the file that was named, or else from the environment. Raises UsageError."""
    path = values["credentials"]
    return from_environment(os.environ) if path is None else from_file(Path(path))


def actors_of(values: Mapping[str, Any]) -> list[ActorSpec]:
    """The actors of the command line and of the file's tables. Raises UsageError."""
    return load_actors(values["actor"] or (), values["actors"], values["config"] or "")


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
    user: UserLine | None = None,
    actors: Sequence[ActorSpec] = (),
) -> int:
    """Run the service until a signal or for `seconds`; returns the exit code of the process.

    Raises UsageError when the user asked for what does not exist; after the summary, if the
    service had started.
    """
    async with RestClient(env.settings, env.network) as rest:
        found = await until_signal(partial(preflight, wanted, rest, env.settings))
        if found is None:
            outputs.write_summary(env.statistics.summary({}))
            display.say("stopped before the service began")
            return EXIT_CLEAN
        for notice in found.notices:
            complain(f"polyactors: {printable(notice)}")
        display.names, display.notices = found.names, found.notices
        env.hash_inputs.update(found.hash_inputs)
        service = Service(
            found.wanted,
            env=env,
            rest=rest,
            user=user,
            actors=actors,
            sinks=outputs.sinks,
            last=display.child,
        )
        if user is not None and not service.tokens and not wanted.needs_listing:
            user.on_refused = lambda: service.fail(UsageError(REFUSED))
        try:
            code = await _run_root(service, seconds)
        finally:
            env.hub.end()
    return finish(code, service, outputs, display)


async def _run_root(service: Service, seconds: float | None) -> int:
    async def stop_in_time() -> None:
        if seconds is not None:
            await trio.sleep(seconds)
            service.stop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_in_time)
        nursery.start_soon(deliver_soon)  # run_app opens its receiver in this very step
        code = await run_app(service.root)
        nursery.cancel_scope.cancel()
    return code


def finish(code: int, service: Service, outputs: Outputs, display: Display) -> int:
    """The summary, and the last line for people; the exit code, which is `code` unless events
    are missing. Raises the failure of the service."""
    missing = None if outputs.events is None else outputs.events.complaint()
    if missing is not None:
        complain(f"polyactors: {printable(missing)}")
        code = code or EXIT_EVENTS_MISSING
    outputs.write_summary(service.summary())
    if service.failure is not None:
        raise service.failure
    statistics = service.statistics
    seconds = (time.monotonic_ns() - statistics.started_ns) / 1e9
    with suppress(KeyboardInterrupt):  # everything is done
        display.say(f"stopped after {duration(seconds)}: {'; '.join(_results(service))}")
    return code


def _results(service: Service) -> Generator[str, None, None]:
    statistics = service.statistics
    if service.follows_account:
        account = service.account.account
        yield (
            f"account {service.account.trust.state.value}, "
            f"{count(len(account.open_orders()), 'open order')}, "
            f"{count(len(account.trades), 'trade')}"
        )
    if service.tokens:
        yield f"books {states_text(service.states())}"
    yield count(messages(statistics), "message")
    yield count(statistics.restarts.total(), "restart")
    if service.tokens:
        yield Verified.of(statistics).text


def demo_command(values: Mapping[str, Any]) -> int:
    """`demo`: the same against an exchange in this process."""
    from polyactors.demo import run_demo
    from polyactors.venue.listing import OUTCOMES, make_listing

    seed, markets = values["seed"], values["markets"]
    services: list[Service] = []
    actors = actors_of(values)
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
                actors=actors,
                sinks=outputs.sinks,
                last=display.child,
                on_service=services.append,
            )
        )
        for service in services:
            code = finish(code, service, outputs, display)
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
    from polyactors.venue.faults import ARMED_KINDS

    def say_fault(record: FaultRecord) -> None:
        target = f" on {short_token(record.token)}" if record.token else ""
        if record.session is not None:
            target += f" in session {record.session}"
        waits = "within" if record.kind in ARMED_KINDS else "for"
        lasts = f" {waits} {record.seconds:g} s" if record.seconds else ""
        complain(f"{clock(time.time_ns())} fault {record.id}: {record.kind}{target}{lasts}")

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
            say(endpoints.as_options())
            nursery.start_soon(venue.run)
    if mistake is not None:
        raise UsageError(str(mistake))


def actors_command(values: Mapping[str, Any]) -> int:
    """`actors list`: what is installed."""
    from polyactors.extensions.listing import listing_lines

    for line in listing_lines():
        say(printable(line))
    return EXIT_CLEAN


def new_actor_command(values: Mapping[str, Any]) -> int:
    """`new-actor NAME`: a package to begin with."""
    from polyactors.extensions.skeleton import next_steps, write_skeleton

    for line in next_steps(write_skeleton(values["name"], Path.cwd())):
        say(line)
    return EXIT_CLEAN


def replay_command(values: Mapping[str, Any]) -> int:
    """`replay`: recorded frames through the same actors."""
    from polyactors import replay

    return replay.replay_command(values)


COMMANDS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "run": run_command,
    "account": account_command,
    "demo": demo_command,
    "venue": venue_command,
    "replay": replay_command,
    "actors": actors_command,
    "new-actor": new_actor_command,
}
