"""When each open order was told of last: the lists of REST may lag behind that."""

from collections.abc import Iterable
from math import inf

import trio

from polyactors.account.account import Account
from polyactors.account.orders import OrderState
from polyactors.protocol.user_events import OrderEvent, UserEvent


class LastHeard:
    """What an account was told of its open orders, by whomever, and when."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._seconds: dict[str, float] = {}

    def note(self, events: Iterable[UserEvent]) -> None:
        """These were applied to the account now."""
        now_seconds = trio.current_time()
        for event in events:
            if not isinstance(event, OrderEvent):
                continue
            order = self._account.orders.get(event.id)
            if order is not None and order.state is OrderState.OPEN:
                self._seconds[event.id] = now_seconds
            else:
                self._seconds.pop(event.id, None)

    def seconds(self, order_id: str) -> float:
        """When the order was told to be open last, on Trio's clock."""
        return self._seconds.get(order_id, -inf)

    def forget_before(self, seconds: float) -> None:
        """No list lags behind what was told before."""
        self._seconds = {key: at for key, at in self._seconds.items() if at >= seconds}
