"""`open_service`: the service for the time of an `async with` block."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from polyactors.account.credentials import Credentials
from polyactors.config import Settings, from_environment, make_settings
from polyactors.discovery import make_wanted, shown
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.extensions.spec import ActorSpec, actor_spec
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.transport import Network
from polyactors.user.line import UserLine


@asynccontextmanager
async def open_service(
    tokens: Sequence[str] = (),
    *,
    markets: Sequence[str] = (),
    top: int | None = None,
    credentials: Credentials | None = None,
    user_markets: Sequence[str] = (),
    actors: Sequence[object] = (),
    settings: Settings | None = None,
    network: Network | None = None,
) -> AsyncGenerator[Service, None]:
    """Follow tokens, markets (slug, URL or condition id) and the `top` most active markets.

    With `credentials` the account is followed, too, in `user_markets` (condition ids) or, without
    any, in all; then nothing else need be named.

    `actors` are classes with `handle`, or async functions of a message, or what `actor_spec`
    made of one with a name and options.

    The service runs while the `async with` block does, and is stopped in order at its end.
    Without `settings`, what the environment says (POLYACTORS_WS_URL …) and the defaults hold.
    Error handling: UsageError says at once what cannot be followed, and later that a market does
    not exist. An error of the block passes through as it is; SupervisorEscalation is raised when
    the service's own root gives up; of two errors the first, with a note of the other. An
    exchange that cannot be reached is none: the service tries on, and warns in the log.
    Cancellation: the service is stopped and waited for.
    """
    given = _given("credentials", credentials, Credentials)
    if given is None and user_markets:
        raise UsageError("user_markets are markets of an account: credentials are missing")
    specs = [one if isinstance(one, ActorSpec) else actor_spec(one) for one in actors]
    wanted = make_wanted(tokens, markets, top, may_be_nothing=given is not None)
    env = Environment(
        _given("settings", settings, Settings) or make_settings(from_environment()),
        _given("network", network, Network) or Network(),
    )
    async with RestClient(env.settings, env.network) as rest:
        user = None if given is None else UserLine(given, env, user_markets)
        service = Service(wanted, env=env, rest=rest, user=user, actors=specs)
        error: BaseException | None = None
        is_open = False
        try:
            async with trio.open_nursery() as nursery:

                async def run(task_status: trio.TaskStatus[None]) -> None:
                    nonlocal error
                    try:
                        await service.run(task_status=task_status)
                    except _FAILURES as failure:
                        if not is_open:
                            raise  # to nursery.start
                        error = _first(error, failure)
                    else:
                        error = _first(error, service.failure)
                    if error is not None:
                        nursery.cancel_scope.cancel(reason=str(error))

                # What fails is kept and raised below: out of a nursery it would come wrapped.
                try:
                    await nursery.start(run)
                    is_open = True
                    yield service
                except _FAILURES as failure:
                    error = _first(error, failure)
                finally:
                    service.stop()
        finally:
            if error is not None:
                raise error


_FAILURES = (Exception, KeyboardInterrupt, SystemExit)
T = TypeVar("T")


def _first(first: BaseException | None, second: BaseException | None) -> BaseException | None:
    """What to raise of two failures: the first is the cause; the other must not be lost."""
    if first is None:
        return second
    if second is not None:
        first.add_note(f"and then: {type(second).__name__}: {second}")
    return first


def _given(name: str, value: object, kind: type[T]) -> T | None:
    if value is None or isinstance(value, kind):
        return value
    raise UsageError(f"{name} must be a polyactors.{kind.__name__}, not {shown(value)}")
