"""What cannot be true of the account: it is not applied, but counted, and kept for inspection.

An event of the channel is refused at once. A row of a list may just be older than what the
channel told meanwhile, so a list contradicts us only when the next one still does, and what we
hold has not changed in between.
"""

from collections import deque
from collections.abc import Iterable, Mapping

from attrs import evolve

from polyactors.account.changes import Impossible
from polyactors.account.orders import Order, falls_short
from polyactors.protocol.user_events import OrderEvent, UserEvent

IMPOSSIBLE_KEPT_MAX = 100
"""Impossible events that are kept for inspection; the latest."""
ROWS_REMEMBERED_MAX = 10_000
"""Refused rows that are known again in the next list; the first refused go first."""


class Refusals:
    """The events that were refused."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: deque[Impossible] = deque(maxlen=IMPOSSIBLE_KEPT_MAX)
        self._rows: dict[tuple[str, str], None] = {}  # each list has them anew
        self._new_rows: deque[Impossible] = deque(maxlen=IMPOSSIBLE_KEPT_MAX)

    def refuse(self, why: str, event: UserEvent, *, is_listed: bool) -> None:
        """Count and keep it; a row of a list (`is_listed`) once, however many lists have it."""
        refused = Impossible(why, _without_owners(event), is_listed)
        if is_listed:
            if (event.id, why) in self._rows:
                return
            self._rows[event.id, why] = None
            if len(self._rows) > ROWS_REMEMBERED_MAX:
                del self._rows[next(iter(self._rows))]
            self._new_rows.append(refused)
        self.count += 1
        self.kept.append(refused)

    def take_new_rows(self) -> list[Impossible]:
        """The rows that were refused since the last call."""
        found = list(self._new_rows)
        self._new_rows.clear()
        return found


class Disputes:
    """Where the last list of open orders said less than we hold."""

    def __init__(self) -> None:
        self._held: dict[str, Order] = {}  # what we held when the last list said less

    def take(
        self, rows: Iterable[OrderEvent], orders: Mapping[str, Order]
    ) -> list[tuple[OrderEvent, str]]:
        """The rows of a list that contradict us for the second time, and why."""
        held, self._held = self._held, {}
        found: list[tuple[OrderEvent, str]] = []
        for row in {row.id: row for row in rows}.values():
            order = orders.get(row.id)
            why = falls_short(order, row) if order is not None else ""
            if order is None or not why:
                continue
            before = held.get(row.id)
            if before is not None and before.says_the_same(order):
                found.append((row, why))
            self._held[row.id] = order
        return found


def _without_owners(event: UserEvent) -> UserEvent:
    """The event without API keys and wallets: it is kept, and may be shown or written down."""
    if isinstance(event, OrderEvent):
        return evolve(event, owner="", maker_address="")
    makers = tuple(evolve(maker, owner="", maker_address="") for maker in event.maker_fills)
    return evolve(event, owner="", trade_owner="", maker_address="", maker_fills=makers)
