"""The account actor: it owns the account, and keeps it complete.

What the channel says is applied as it comes. Beside that, whenever a session has begun, whenever
something may have been missed, and every `reconcile_seconds`, the lists of REST are read
(recovery.py); only then the account is LIVE. What the lists show, and a session that was LIVE
since the reading before should have told, was kept back: that session is given up.
"""

from functools import partial
from math import inf

import trio

from polyactors.errors import CredentialsRefused, RestFailed
from polyactors.logger import Outage
from polyactors.messages import UserParsed
from polyactors.user.line import UserLine
from polyactors.user.lists import AccountLists
from polyactors.user.recovery import Recovery
from polyactors.user.state import AccountReason, AccountState
from polysupervisor import Context

MAILBOX_BATCHES = 1024
INTERVAL_SECONDS_MIN = 1.0
"""Between the begins of two readings of the lists, whatever comes up."""
REFUSALS_SECONDS_MIN = 180.0
"""Credentials that were taken before are refused when they are for so long."""
REFUSED_AGAIN_SECONDS = 5.0
REFUSED_AGAIN_SECONDS_MAX = 60.0
"""Between two readings of the lists meanwhile: doubling, from the one to the other."""
READMISSION_SECONDS = 600.0
"""Between two questions whether credentials that are refused, but were good, are good again."""
RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 30.0
"""Between two readings of the lists that failed: doubling, from the one to the other."""
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
            line.heard.note(parsed.events)
        nursery.cancel_scope.cancel()


class _Keeper:
    """Reads the lists whenever that is due."""

    def __init__(self, line: UserLine, lists: AccountLists, outage: Outage) -> None:
        self._line = line
        self._lists = lists
        self._outage = outage
        self._failures = 0
        self._refusals = 0
        self._refusal = Outage()
        self._refused_seconds = inf
        """Since when there was nothing but refusals."""
        self._began_seconds = -inf
        self._is_confirmed = False
        """Whether the lists were read again since the account became LIVE."""

    async def run(self) -> None:
        line = self._line
        due_seconds = trio.current_time()
        while True:
            if line.trust.state is AccountState.REFUSED and line.was_accepted:
                await trio.sleep(READMISSION_SECONDS)
                await self._ask_for_readmission()
                continue
            is_doubtful = line.is_refused_for_now or line.was_cut_short
            is_refused = line.trust.state is AccountState.REFUSED
            if is_refused or (line.epoch is None and not is_doubtful):
                await line.wait_woken()
                due_seconds = trio.current_time()
                continue
            if trio.current_time() < due_seconds:
                with trio.move_on_at(due_seconds):
                    await line.wait_woken()
                    if not line.is_refused_for_now:  # else each session would hasten the next one
                        self._failures = 0
                        due_seconds = trio.current_time()
                continue
            if trio.current_time() < self._began_seconds + INTERVAL_SECONDS_MIN:
                await trio.sleep_until(self._began_seconds + INTERVAL_SECONDS_MIN)
                continue
            self._began_seconds = trio.current_time()
            if line.epoch is None:
                seconds = await self._ask_whether_refused()
            else:
                seconds = await self._reconcile()
            due_seconds = seconds + trio.current_time()

    async def _reconcile(self) -> float:
        """Read the lists once; returns after how many seconds to read them again."""
        line, statistics = self._line, self._line.env.statistics
        markets, was_live = line.markets, line.trust.state is AccountState.LIVE
        recovery = Recovery(line, self._lists, is_live=was_live)
        try:
            await recovery.run()
        except CredentialsRefused as error:
            return self._note_refusal(str(error))
        except RestFailed as error:
            self._refusals = 0
            statistics.reconciliations_failed += 1
            what = "the lists of the account cannot be read, trying again"
            self._outage.warn(trio.current_time(), what, why=line.redact(str(error)))
            self._failures += 1
            return min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0 ** min(self._failures - 1, 10))
        finally:
            statistics.recovered_changes += recovery.recovered
        self._accepted()
        self._outage.end(trio.current_time(), "the lists of the account are readable again")
        if not recovery.is_conclusive:
            return 0.0  # the session is another one, or something was missed meanwhile
        statistics.reconciliations += 1
        line.is_complete()
        is_confirmed, self._is_confirmed = self._is_confirmed, was_live
        # Of a market that was left meanwhile the channel need not tell.
        if was_live and is_confirmed and recovery.kept_back and line.markets == markets:
            line.has_stalled(recovery.kept_back)
        seconds = line.env.settings.reconcile_seconds
        return seconds if was_live else min(seconds, CONFIRM_SECONDS)

    def _note_refusal(self, why: str) -> float:
        """REST says 401: wrong credentials, or an exchange in trouble, which passes."""
        line, now_seconds = self._line, trio.current_time()
        self._failures = 0
        if not self._refusals:
            self._refused_seconds = now_seconds
        self._refusals += 1
        if not line.was_accepted or now_seconds >= self._refused_seconds + REFUSALS_SECONDS_MIN:
            self._refusals = 0
            line.refuse(why)
            return 0.0
        line.refuse_for_now()
        what = "the exchange refuses the API credentials, which it had taken before: trying again"
        self._refusal.warn(now_seconds, what, why=line.redact(why))
        doubled = REFUSED_AGAIN_SECONDS * 2.0 ** min(self._refusals - 1, 10)
        return min(REFUSED_AGAIN_SECONDS_MAX, doubled)

    async def _ask_whether_refused(self) -> float:
        """Without a session, which the channel refuses, too; as `_reconcile` otherwise."""
        self._line.was_cut_short = False
        try:
            await self._lists.check_credentials()
        except CredentialsRefused as error:
            return self._note_refusal(str(error))
        except RestFailed:
            self._refusals = 0
            return RETRY_SECONDS_MAX
        self._accepted()
        return 0.0

    def _accepted(self) -> None:
        self._failures = self._refusals = 0
        self._line.take_again()
        self._refusal.end(trio.current_time(), "the exchange takes the API credentials again")

    async def _ask_for_readmission(self) -> None:
        try:
            await self._lists.check_credentials()
        except (CredentialsRefused, RestFailed):
            return
        self._line.readmit()
