"""The account actor: it owns the account, and keeps it complete.

What the channel says is applied as it comes. Beside that, whenever a session has begun, whenever
something may have been missed, and every `reconcile_seconds`, the lists of REST are read as
account/reconcile.py says; only then the account is LIVE. What the lists show, and a session that
was LIVE since the reading before should have told, was kept back: that session is given up.
"""

from functools import partial
from math import inf

import trio

from polyactors.account import reconcile
from polyactors.errors import CredentialsRefused, RestFailed
from polyactors.logger import Outage
from polyactors.messages import UserParsed
from polyactors.protocol.user_events import OrderEvent
from polyactors.user.line import UserLine
from polyactors.user.lists import AccountLists
from polyactors.user.state import AccountReason, AccountState
from polysupervisor import Context

MAILBOX_BATCHES = 1024
INTERVAL_SECONDS_MIN = 1.0
"""Between the begins of two readings of the lists, whatever comes up."""
REFUSALS_MIN = 3
"""Credentials that were taken before are refused when they are so many times in a row."""
RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 30.0
"""Between two readings of the lists that failed: doubling, from the one to the other."""
GRACE_SECONDS = 2.0
"""What the channel has to tell of a change that REST lists already, before it counts as kept
back. Measured delays of the market channel are below 0.4 s (INTEGRITY.md section 4)."""

CONFIRM_SECONDS = 5.0
"""Nothing acknowledges a subscription: what happens before it has taken effect, but after the
lists were read, is told by neither. So soon after the account has become LIVE they are read once
more, and what they alone tell then is no fault of the channel."""


async def run_keeper(
    ctx: Context[UserParsed], line: UserLine, lists: AccountLists, outage: Outage
) -> None:
    """Keep the account of `line` until stopped. `outage` outlives this actor and says in the log
    when the lists cannot be read."""
    if line.epoch is not None:
        line.doubt(AccountReason.ACTOR_RESTARTED)  # batches that waited for a former incarnation
    ctx.ready()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(_Keeper(line, lists, outage).run))
        async for parsed in ctx.inbox:
            if parsed.epoch != line.epoch:
                line.env.statistics.stale_batches += 1
                continue
            line.last_data_seconds = trio.current_time()
            line.tell(line.account.apply_all(parsed.events))
        nursery.cancel_scope.cancel()


class _Keeper:
    """Reads the lists whenever that is due."""

    def __init__(self, line: UserLine, lists: AccountLists, outage: Outage) -> None:
        self._line = line
        self._lists = lists
        self._outage = outage
        self._failures = 0
        self._refusals = 0
        self._began_seconds = -inf
        self._is_confirmed = False
        """Whether the lists were read again since the account became LIVE."""

    async def run(self) -> None:
        line = self._line
        due_seconds = trio.current_time()
        while True:
            if line.epoch is None or line.trust.state is AccountState.REFUSED:
                await line.wait_woken()
                due_seconds = trio.current_time()
                continue
            if trio.current_time() < due_seconds:
                with trio.move_on_at(due_seconds):
                    await line.wait_woken()
                    self._failures = 0
                    due_seconds = trio.current_time()
                continue
            if trio.current_time() < self._began_seconds + INTERVAL_SECONDS_MIN:
                await trio.sleep_until(self._began_seconds + INTERVAL_SECONDS_MIN)
                continue
            self._began_seconds = trio.current_time()
            due_seconds = await self._reconcile(line.epoch) + trio.current_time()

    async def _reconcile(self, epoch: int) -> float:
        """Read the lists once; returns after how many seconds to read them again."""
        line = self._line
        began_doubts, markets = line.take_doubts(), line.markets
        was_live = line.trust.state is AccountState.LIVE
        try:
            found = await self._read(epoch, wait=was_live)
        except CredentialsRefused as error:
            self._refusals += 1
            if not line.was_accepted or self._refusals >= REFUSALS_MIN:
                line.refuse(str(error))
            return 0.0
        except RestFailed as error:
            self._refusals = 0
            line.env.statistics.reconciliations_failed += 1
            what = "the lists of the account cannot be read, trying again"
            self._outage.warn(trio.current_time(), what, why=line.redact(str(error)))
            self._failures += 1
            return min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0 ** min(self._failures - 1, 10))
        self._failures = self._refusals = 0
        self._outage.end(trio.current_time(), "the lists of the account are readable again")
        if found is None or line.doubts != began_doubts:
            return 0.0  # the session is another one, or something was missed meanwhile
        line.env.statistics.reconciliations += 1
        line.env.statistics.recovered_changes += found
        line.is_complete()
        is_confirmed, self._is_confirmed = self._is_confirmed, was_live
        # Of a market that was left meanwhile the channel need not tell.
        if was_live and is_confirmed and found and line.markets == markets:
            line.has_stalled(found)
        seconds = line.env.settings.reconcile_seconds
        return seconds if was_live else min(seconds, CONFIRM_SECONDS)

    async def _read(self, epoch: int, *, wait: bool) -> int | None:
        """Recover what the lists show; returns the number of changes, None if the session has
        ended meanwhile. With `wait`, what is on its way by the channel may come first."""
        line, account = self._line, self._line.account
        begun = reconcile.begin(account, line.markets)
        orders, pages = await self._lists.orders()
        if pages > 1:
            orders += await self._look_for(reconcile.unlisted(account, begun, orders), epoch)
        if line.epoch != epoch:
            return None
        trades = await self._lists.trades(reconcile.trades_after_s(account, begun, orders))
        if wait:
            with trio.move_on_after(GRACE_SECONDS):
                await line.wait_woken()  # then they are read anew, and nobody is accused
        if line.epoch != epoch:
            return None
        changes = reconcile.finish(account, begun, orders, trades)
        line.tell(changes)
        return len(changes)

    async def _look_for(self, ids: list[str], epoch: int) -> list[OrderEvent]:
        found: list[OrderEvent] = []
        for order_id in ids:
            if self._line.epoch != epoch:
                break
            found += await self._lists.order(order_id)
        return found
