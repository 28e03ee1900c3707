"""Where clients come into the exchange: they are counted, given their channel, or refused."""

from collections.abc import Callable, Iterable
from random import Random

import trio

from polyactors.logger import log
from polyactors.venue import market_channel, user_channel, wire
from polyactors.venue.accounts import Accounts
from polyactors.venue.distortion import Distortion
from polyactors.venue.injection import FaultInjector
from polyactors.venue.market_channel import MarketSession
from polyactors.venue.session import Client, Session, serve_client
from polyactors.venue.user_channel import UserSession

SESSIONS_MAX = 256
"""Clients at a time, of both channels; further ones are refused with 429."""


class Door:
    """Serves clients as long as they stay, and keeps the list of them up to date.

    Those of the market channel are in `sessions`, the others in `accounts.sessions`. `dump`
    gives the first books of a session's new tokens.
    """

    def __init__(
        self,
        seed: int,
        sessions: dict[int, MarketSession],
        accounts: Accounts,
        faults: FaultInjector,
        dump: Callable[[int, Iterable[str]], wire.WireEvent | None],
    ) -> None:
        self._seed = seed
        self._sessions = sessions
        self._accounts = accounts
        self._faults = faults
        self._dump = dump
        self._next = 1

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one client until it goes, and close the stream.

        *Error handling*: a client can end its own session only; a mistake of ours in it is
        logged. *Cancellation*: the connection is closed without a close handshake.
        """
        number = self._next
        self._next += 1
        try:
            await serve_client(number, stream, self._enter)
        except* Exception:
            log.exception("a session of the venue crashed", session=number)
        finally:
            self._sessions.pop(number, None)
            self._accounts.sessions.pop(number, None)
            self._faults.session_ended(number)

    def _enter(self, client: Client, path: str) -> Session | int:
        if path not in (market_channel.WS_PATH, user_channel.WS_PATH):
            return 404
        count = len(self._sessions) + len(self._accounts.sessions)
        if self._faults.is_refusing or count >= SESSIONS_MAX:
            return 429
        distortion = Distortion(client.id, Random(f"{self._seed}:distortion:{client.id}"))
        if path == user_channel.WS_PATH:
            user = UserSession(client, log_in=self._accounts.log_in, distortion=distortion)
            self._accounts.sessions[user.id] = user
            return user
        session = MarketSession(
            client, dump=lambda tokens: self._dump(client.id, tokens), distortion=distortion
        )
        self._sessions[session.id] = session
        return session
