"""One client of the user channel (PROTOCOL.md section 3), in the manners of `session`.

1. The first frame has `auth` with apiKey, secret and passphrase in clear text, and may have
   `markets`: none of them means the whole account. Credentials that are refused end the
   connection at once, without a close frame: no code is documented.
2. Nothing is replayed: a client hears of what happens from now on.
3. Who subscribes to a market twice gets everything about it twice (nautilus_trader#3403).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, cast

from polyactors.venue import wire
from polyactors.venue.distortion import Distortion
from polyactors.venue.session import Client, Session, object_of, texts_of

if TYPE_CHECKING:
    from polyactors.venue.accounts import VenueAccount
    from polyactors.venue.user_wire import AccountEvent

WS_PATH = "/ws/user"
"""The path of the channel."""

LogIn = Callable[[str, str, str], "VenueAccount | None"]


class UserSession(Session):
    """The session of one client.

    `log_in` gives the account of an API key, a secret and a passphrase, None to refuse them.
    `distortion` is what faults do to the messages.
    """

    def __init__(self, client: Client, *, log_in: LogIn, distortion: Distortion) -> None:
        super().__init__(client, distortion=distortion)
        self.account: VenueAccount | None = None
        """Whose events it gets; None before the first frame, and when that was refused."""
        self.markets = Counter[str]()
        """How often it subscribed to each market; unknown ids too."""
        self.is_whole = False
        """Whether it gets the events of all markets, because it began without any."""
        self._log_in = log_in

    @property
    def tokens(self) -> Collection[str]:
        """The tokens of the account's orders, where it gets events of their markets."""
        if self.account is None:
            return ()
        orders = self.account.orders.values()
        return {order.token: None for order in orders if self._copies(order.market)}.keys()

    def publish(self, events: Iterable["AccountEvent"]) -> None:
        """Queue what concerns this session of one moment; never blocks."""
        self.send_data(
            [event.message for event in events for _ in range(self._copies(event.market))]
        )

    def subscribe_first(self, message: str | bytes) -> bool:
        """Take the typed subscription in; False when the frame is none."""
        frame = object_of(message)
        kind, given = frame.get("type"), frame.get("markets")
        markets = [] if given is None else texts_of(given)
        if not isinstance(kind, str) or kind.lower() != "user" or markets is None:
            return False
        self.account = self._authenticate(frame.get("auth"))
        if self.account is None:
            self.drop("wrong credentials")
        self.is_whole = not markets
        self.markets.update(markets)
        return True

    def answer(self, message: str | bytes) -> None:
        """Do an operation, or say that it is none."""
        frame = object_of(message)
        operation, markets = frame.get("operation"), texts_of(frame.get("markets"))
        if "type" in frame or markets is None:
            self.send(wire.INVALID_OPERATION)
        elif operation == "subscribe":
            self.markets.update(markets)
        elif operation == "unsubscribe":
            for market in markets:
                del self.markets[market]
        else:
            self.send(wire.INVALID_OPERATION)

    def _copies(self, market: str) -> int:
        return self.is_whole + self.markets[market]

    def _authenticate(self, auth: object) -> "VenueAccount | None":
        given = cast("dict[str, Any]", auth) if isinstance(auth, dict) else {}
        texts = texts_of([given.get(key) for key in ("apiKey", "secret", "passphrase")])
        return None if texts is None else self._log_in(*texts)
