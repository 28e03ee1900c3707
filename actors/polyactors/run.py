"""One run of the service: from what was asked for to an exit code.

Everything opened here is closed here, also after a signal; a summary is written at every end
that the service reached, whether it was clean or not.
"""

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

from polyactors.account.credentials import Credentials, from_environment, from_file
from polyactors.cli import EXIT_CLEAN, EXIT_EVENTS_MISSING
from polyactors.discovery import Wanted, check_token, parse_market
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.extensions.loading import load_actors
from polyactors.extensions.spec import ActorSpec
from polyactors.options import TOP_DEFAULT
from polyactors.outputs import Outputs
from polyactors.preflight import preflight
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.stops import deliver_soon, until_signal
from polyactors.terminal.account import NEVER_READ
from polyactors.terminal.actors import unwell_text
from polyactors.terminal.display import Display
from polyactors.terminal.pipes import complain
from polyactors.terminal.screen import Verified, account_text, messages, states_text
from polyactors.terminal.text import count, duration, printable
from polyactors.user.line import REFUSED, UserLine
from polysupervisor import run_app


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
        env.learn(found.listings)
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
        line = service.account
        trust = line.trust  # as it was when the service stopped
        known = (
            f"{count(len(line.account.open_orders()), 'open order')}, "
            f"{count(len(line.account.trades), 'trade')}"
        )
        yield f"account {account_text(trust)}, {known if line.was_accepted else NEVER_READ}"
    if service.tokens:
        yield f"books {states_text(service.states())}"
    unwell = unwell_text(service.actor_statuses())
    if unwell:
        yield unwell
    yield count(messages(statistics), "message")
    yield count(statistics.restarts.total(), "restart")
    if service.tokens:
        yield Verified.of(statistics).text
