"""Accounts of the emulated exchange: their credentials, their orders and trades, and order entry.

What an account really has is here, whatever faults do to the channel and to REST: tests hold it
against what a client believes. Nothing of it is ever forgotten.
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from attrs import field, frozen

from polyactors.book.numbers import Side, to_text
from polyactors.venue import user_wire
from polyactors.venue.account_records import (
    AccountOrder,
    OrderType,
    address_of,
    digest,
    uuid_of,
)
from polyactors.venue.account_trades import VenueTrade
from polyactors.venue.agenda import Agenda
from polyactors.venue.engine import Step
from polyactors.venue.market import Market
from polyactors.venue.order_desk import OrderDesk
from polyactors.venue.settlement import Outcome, Settlement, TradeStatus

if TYPE_CHECKING:
    from polyactors.venue.user_channel import UserSession

ACCOUNTS_MAX = 1000
PAGE_ROWS = 100
"""Rows of a page of REST's lists."""


def _is_base64(instance: object, attribute: object, value: str) -> None:
    try:
        base64.b64decode(value, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a secret is URL-safe base64") from None


@frozen
class AccountCredentials:
    """What a client of the account authenticates with."""

    api_key: str
    secret: str = field(repr=False, validator=_is_base64)
    """URL-safe base64."""
    passphrase: str = field(repr=False)
    address: str
    """Of the wallet that signs, 0x and 40 hex digits."""

    @classmethod
    def make(cls, seed: int, index: int) -> "AccountCredentials":
        """Those of this seed's account number `index`."""
        key = (seed, "account", index)
        return cls(
            api_key=uuid_of(*key, "key"),
            secret=base64.urlsafe_b64encode(digest(*key, "secret")).decode(),
            passphrase=digest(*key, "passphrase").hex(),
            address=address_of(*key),
        )


@frozen
class AccountLists:
    """REST's rows of an account, newest first, as they were at one moment."""

    orders: Sequence[Mapping[str, object]] = ()
    """The open ones."""
    trades: Sequence[Mapping[str, object]] = ()
    """All; one that the account made with itself has a row for each side."""


class VenueAccount:
    """One account. Made by `Venue.add_account`; use it in the venue's Trio thread."""

    def __init__(
        self,
        credentials: AccountCredentials,
        desk: OrderDesk,
        sessions: Mapping[int, "UserSession"],
        *,
        maker_address: str | None,
        settlement: Settlement,
        rng: Random,
    ) -> None:
        self.credentials = credentials
        self.maker_address = maker_address or credentials.address
        """Of the wallet that trades: another one where the signer acts for a proxy wallet."""
        self.settlement = settlement
        """How its trades are settled; trades that there are keep their way."""
        self.rng = rng
        """For what its trades leave to chance."""
        self.orders: dict[str, AccountOrder] = {}
        """Every one, by id, in order of placement."""
        self.trades: dict[str, VenueTrade] = {}
        """Every one, by id, in order of matching."""
        self.is_revoked = False
        """Whether its credentials are refused."""
        self._desk = desk
        self._sessions = sessions

    def __repr__(self) -> str:
        return f"VenueAccount({self.credentials!r})"

    @property
    def api_key(self) -> str:
        """The wire's `owner`."""
        return self.credentials.api_key

    @property
    def open_orders(self) -> list[AccountOrder]:
        """Those that can be matched."""
        return [order for order in self.orders.values() if order.is_open]

    @property
    def positions(self) -> dict[str, int]:
        """What was bought less what was sold of each token, in units, where that is not 0.

        Trades count from MATCHED on, unless they failed. Nothing limits what is sold.
        """
        positions: dict[str, int] = {}
        for trade in self.trades.values():
            if trade.status is TradeStatus.FAILED:
                continue
            for part in trade.parts(self.api_key):
                change = part.size if part.side is Side.BID else -part.size
                positions[part.token] = positions.get(part.token, 0) + change
        return {token: size for token, size in positions.items() if size}

    @property
    def sessions(self) -> list["UserSession"]:
        """Its clients on the user channel."""
        return [session for session in self._sessions.values() if session.account is self]

    def place(
        self,
        token: str,
        side: Side,
        price: int,
        size: int,
        order_type: OrderType | str = OrderType.GTC,
        *,
        expiration_s: int = 0,
        settles: Outcome | str | None = None,
    ) -> AccountOrder:
        """Place a limit order; price and size in units. It is matched at once where it can be.

        `expiration_s` is for GTD, `settles` the way of the trades in which it takes part (those
        of the taker's first), None for the settlement's chances. A killed order is returned,
        too; look at its `status`.

        Raises:
            ValueError: the exchange does not take such an order, or there is no such market.
        """
        return self._desk.place(
            self,
            token,
            side,
            price,
            size,
            OrderType(order_type),
            expiration_s,
            None if settles is None else Outcome(settles),
        )

    def cancel(self, order_id: str) -> None:
        """Cancel an order.

        Raises:
            LookupError: no such order is open.
        """
        order = self.orders.get(order_id)
        if order is None or not order.is_open:
            raise LookupError(f"no order {order_id} is open")
        self._desk.cancel([order])

    def cancel_all(self) -> list[str]:
        """Cancel what is open; those of a market in one engine step. Returns the ids."""
        orders = self.open_orders
        self._desk.cancel(orders)
        return [order.id for order in orders]

    def revoke(self) -> None:
        """Refuse its credentials from now on, and drop its clients."""
        self.is_revoked = True
        for session in self.sessions:
            session.drop("revoked credentials")

    def restore(self) -> None:
        """Take its credentials again."""
        self.is_revoked = False

    def tell(self, events: Sequence[user_wire.AccountEvent]) -> None:
        """Publish what one moment meant to it; nothing is kept for who is not connected."""
        for session in self.sessions:
            session.publish(events)

    def lists(self) -> AccountLists:
        """What REST lists of it now."""
        has_prefix = self.settlement.has_prefix
        return AccountLists(
            orders=[
                user_wire.order_row(order, has_prefix=has_prefix)
                for order in reversed(self.open_orders)
            ],
            trades=[
                user_wire.trade_row(trade, side, has_prefix=has_prefix)
                for trade in reversed(self.trades.values())
                for side in trade.sides(self.api_key)
            ],
        )

    def oracle(self) -> dict[str, object]:
        """All orders and trades, oldest first, and the positions: the truth, as JSON."""
        return {
            "api_key": self.api_key,
            "orders": [user_wire.order_row(o, has_prefix=False) for o in self.orders.values()],
            "trades": [
                {
                    **user_wire.trade_row(trade, side, has_prefix=False),
                    "statuses": [status.value for status in trade.statuses],
                }
                for trade in self.trades.values()
                for side in trade.sides(self.api_key)
            ],
            "positions": {token: to_text(size) for token, size in self.positions.items()},
        }


class Accounts:
    """All accounts of an exchange; `find` and `publish` as for `OrderDesk`."""

    def __init__(
        self,
        seed: int,
        *,
        find: Callable[[str], tuple[Market, int] | None],
        publish: Callable[[Step], object],
        now_ms: Callable[[], int],
    ) -> None:
        self.page_rows = PAGE_ROWS
        """Rows of a page of REST's lists."""
        self.sessions: dict[int, UserSession] = {}
        """The connected clients of the user channel by number, those without account too."""
        self._seed = seed
        self._by_key: dict[str, VenueAccount] = {}
        self._agenda = Agenda()
        self._desk = OrderDesk(
            find=find, publish=publish, accounts=self._by_key, now_ms=now_ms, agenda=self._agenda
        )

    def add(
        self,
        credentials: AccountCredentials | None = None,
        *,
        maker_address: str | None = None,
        settlement: Settlement | None = None,
    ) -> VenueAccount:
        """See `Venue.add_account`."""
        index = len(self._by_key)
        if index >= ACCOUNTS_MAX:
            raise ValueError(f"there are {ACCOUNTS_MAX} accounts already")
        account = VenueAccount(
            credentials or AccountCredentials.make(self._seed, index),
            self._desk,
            self.sessions,
            maker_address=maker_address,
            settlement=settlement or Settlement(),
            rng=Random(f"{self._seed}:account:{index}"),
        )
        if account.api_key in self._by_key:
            raise ValueError("there is an account with this API key already")
        self._by_key[account.api_key] = account
        return account

    def __iter__(self) -> Iterator[VenueAccount]:
        return iter(self._by_key.values())

    def get(self, api_key: str) -> VenueAccount | None:
        """The account with this key, revoked or not."""
        return self._by_key.get(api_key)

    def log_in(self, api_key: str, secret: str, passphrase: str) -> VenueAccount | None:
        """The account with these credentials; None when they are refused."""
        account = self._by_key.get(api_key)
        if account is None or account.is_revoked:
            return None
        known = account.credentials
        return account if (known.secret, known.passphrase) == (secret, passphrase) else None

    def taken(self, step: Step) -> None:
        """The flow did an engine step."""
        self._desk.taken(step)

    def market_closed(self, condition_id: str) -> None:
        """A market has no book any more."""
        self._desk.market_closed(condition_id)

    async def run(self) -> None:
        """Settle trades and let orders expire, for ever. *Cancellation*: at once."""
        await self._agenda.run()
