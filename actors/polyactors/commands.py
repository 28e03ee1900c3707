"""What the commands do: values of options in, an exit code out."""

import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from polyactors.cli import EXIT_CLEAN
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.logs import logging_to
from polyactors.options import settings_of
from polyactors.outputs import Outputs, open_outputs
from polyactors.run import actors_of, credentials_of, finish, run_service, wanted_of
from polyactors.service import Service
from polyactors.sinks import STANDARD_OUTPUT
from polyactors.stops import until_signal
from polyactors.terminal.display import Display
from polyactors.terminal.lines import clock
from polyactors.terminal.pipes import complain, say
from polyactors.terminal.text import printable, short_token
from polyactors.transport import Target
from polyactors.user.line import UserLine


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
