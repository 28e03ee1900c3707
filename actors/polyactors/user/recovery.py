"""One reading of REST's lists, as account/reconcile.py says: what they show is recovered.

What is read is true whatever becomes of the session meanwhile, so a reading goes on to its end,
and what was read of a list that fails is kept. Whether it makes the account LIVE is the keeper's.

A long history is applied in pieces, and other tasks run between them. The stream hears of each,
and the next piece waits until its readers have room again, if they are readers who read.
"""

import trio

from polyactors.account import reconcile
from polyactors.account.changes import Change, OrderChanged
from polyactors.errors import RestFailed
from polyactors.protocol.user_events import OrderEvent, TradeEvent, UserEvent
from polyactors.user.line import UserLine
from polyactors.user.lists import AccountLists

GRACE_SECONDS = 2.0
"""What the channel has to tell of a change that REST lists already, before it counts as kept
back; and REST to list what the channel told already, before an order counts as gone. Measured
delays of the market channel are below 0.4 s (INTEGRITY.md section 4)."""
MISSING_BY_ID_MAX = 20
"""Orders that are asked for one by one; of more, the whole list is read again."""
UNLISTED_SECONDS = 60
"""A trade that was matched so long ago, is not final, and is in no list: REST does not know it."""
CLOCK_AHEAD_SECONDS = 60
"""A trade that was matched so much later than now is odd."""
ROOM_SECONDS_MAX = 1.0
"""A reader who is behind has to make room for one piece in that time, or is not waited for."""
ROOM_POLL_SECONDS = 0.01


class Recovery:
    """One reading; it begins when it is made."""

    def __init__(self, line: UserLine, lists: AccountLists, *, is_live: bool) -> None:
        """`is_live`: the account is, so that the channel ought to tell first."""
        self._line = line
        self._lists = lists
        self._is_live = is_live
        self._epoch = line.epoch
        self._doubts = line.take_doubts()
        self._begun = reconcile.begin(line.account, line.markets)
        self._waits_for_room = True
        self.kept_back = 0
        """Changes that the channel might have told, but did not."""
        self.recovered = 0
        """All changes."""
        line.heard.forget_before(trio.current_time() - GRACE_SECONDS)

    @property
    def is_conclusive(self) -> bool:
        """Whether the session is still the same, and nothing was missed in it since the begin."""
        line = self._line
        return line.epoch == self._epoch and line.doubts == self._doubts

    async def run(self) -> None:
        """Read the lists, and recover what they show. Raises RestFailed, CredentialsRefused."""
        line, account = self._line, self._line.account
        orders, gone = await self._read_orders()
        after_s = reconcile.trades_after_s(account, self._begun, orders)
        trades: list[TradeEvent] = []
        try:
            for trade_id in reconcile.pending_before(account, self._begun, after_s):
                trades += await self._lists.trade(trade_id)
            await self._lists.trades(after_s, trades)
        except RestFailed:
            if not self._is_live:  # else the channel may still tell first
                await self._apply(orders, trades, after_s)
            raise
        if self._is_live:
            await self._wait_until(trio.current_time() + GRACE_SECONDS)
        await self._apply(orders, trades, after_s)
        for order_id, asked_seconds in gone.items():
            if line.heard.seconds(order_id) <= asked_seconds - GRACE_SECONDS:
                self._tell(account.close_missing(order_id))
        now_s = line.env.clock_ns() // 1_000_000_000
        self._note_unlisted({trade.id for trade in trades})
        reconcile.cover(account, self._begun, orders, trades, now_s)

    def _note_unlisted(self, listed: set[str]) -> None:
        """Trades that the channel told a while ago, and REST lists no more, or never did."""
        line = self._line
        latest_s = line.env.clock_ns() // 1_000_000_000 - UNLISTED_SECONDS
        old = reconcile.pending(line.account, self._begun, latest_s)
        line.note_unlisted(old - listed)

    async def _read_orders(self) -> tuple[list[OrderEvent], dict[str, float]]:
        """All open orders; and when it was asked for those that are gone.

        Gone is what is missing twice, and the second time so long after it was told of last that
        no list lags behind. (No list was to be trusted at once: one that is a moment old lacks
        the order that was just placed.)
        """
        account = self._line.account
        orders, slipped = await self._lists.orders()
        missing = slipped.union(reconcile.unlisted(account, self._begun, orders))
        if not missing:
            return orders, {}
        heard_seconds = max(map(self._line.heard.seconds, missing))
        await self._wait_until(heard_seconds + GRACE_SECONDS)
        # Of most of them the channel has told meanwhile.
        missing = slipped.union(reconcile.unlisted(account, self._begun, orders))
        gone: dict[str, float] = {}
        found: list[OrderEvent] = []
        if len(missing) > MISSING_BY_ID_MAX:
            gone = dict.fromkeys(missing, trio.current_time())
            again, _ = await self._lists.orders()
            found = [order for order in again if order.id in missing]
        else:
            for order_id in sorted(missing):
                gone[order_id] = trio.current_time()
                found += await self._lists.order(order_id)
        for order in found:
            gone.pop(order.id, None)
        return [*orders, *found], gone

    async def _apply(
        self, orders: list[OrderEvent], trades: list[TradeEvent], after_s: int
    ) -> None:
        line, account = self._line, self._line.account
        for events in reconcile.pieces(account, self._begun, orders, trades, after_s):
            line.env.statistics.odd_trades += sum(map(self._is_odd, events))
            changes = account.apply_all(events, reconciled=True)
            line.heard.note(events)
            self._note_and_tell(changes)
            await self._make_room()
        listed = [order for order in orders if self._begun.concerns(order.market)]
        self._note_and_tell(account.settle_disputes(listed))

    def _note_and_tell(self, changes: list[Change]) -> None:
        self.kept_back += sum(not _is_mistake_of_lists(change) for change in changes)
        self._tell(changes)

    def _tell(self, changes: list[Change]) -> None:
        self.recovered += len(changes)
        self._line.tell(changes)

    def _is_odd(self, row: UserEvent) -> bool:
        latest_s = self._line.env.clock_ns() // 1_000_000_000 + CLOCK_AHEAD_SECONDS
        is_new = row.id not in self._line.account.trades
        return isinstance(row, TradeEvent) and is_new and row.match_time_s > latest_s

    async def _make_room(self) -> None:
        """Let the others run, and readers read."""
        await trio.lowlevel.checkpoint()
        hub = self._line.env.hub
        if self._waits_for_room and hub.is_crowded:
            with trio.move_on_after(ROOM_SECONDS_MAX):
                while hub.is_crowded:  # noqa: ASYNC110 - rare, and the hub waits for nobody
                    await trio.sleep(ROOM_POLL_SECONDS)
            self._waits_for_room = not hub.is_crowded

    async def _wait_until(self, seconds: float) -> None:
        """Less, when the reading is of no use for the session any more."""
        if self.is_conclusive and seconds > trio.current_time():
            with trio.move_on_at(seconds):
                await self._line.wait_woken()


def _is_mistake_of_lists(change: Change) -> bool:
    """Whether an order is open again that an earlier list had lacked: no fault of the channel."""
    return isinstance(change, OrderChanged) and change.old is not None and change.old.is_missing
