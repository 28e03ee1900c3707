"""What outlives the actors of the user channel: credentials, the account, and the session.

As `Feed` is for books. All changes are synchronous, so that readers and actors never see half of
one, and the stream hears of each at once, in the order in which it happened.
"""

from collections.abc import Callable, Iterable, Sequence

import trio

from polyactors.account import changes
from polyactors.account.account import Account
from polyactors.account.credentials import Credentials
from polyactors.account.secrecy import HiddenText
from polyactors.account.trades import Owner
from polyactors.environment import Environment
from polyactors.errors import AccountNotLive, UsageError
from polyactors.events import (
    AccountStateChanged,
    Event,
    FeedDown,
    FeedUp,
)
from polyactors.logger import log
from polyactors.messages import Abort, ChangeMarkets, ControlMessage
from polyactors.protocol.subscription import user_operation_frames, user_subscribe_frames
from polyactors.protocol.user_events import TradeEvent
from polyactors.transport import Target, user_target
from polyactors.user.checks import check_markets, check_secrecy
from polyactors.user.heard import LastHeard
from polyactors.user.reading import AccountReading, Readings
from polyactors.user.state import AccountReason, AccountState, AccountTrust
from polyactors.user.telling import event_of
from polysupervisor import Address

LINE_ID = "user"
CREDENTIALS_REFUSED = "credentials_refused"
"""The reason of a feed_down: REST does not take what the channel seemed to."""
SECONDS_PER_DAY = 86_400
REFUSED = (
    "the exchange refuses the API credentials: check them and this machine's clock, and start again"
)


class UserLine:
    """The user channel of one account."""

    def __init__(
        self, credentials: Credentials, env: Environment, markets: Sequence[str] = ()
    ) -> None:
        """`markets` are condition ids; none means the whole account.

        Raises UsageError for what is no condition id, and for endpoints that would have the
        credentials in clear text.
        """
        check_secrecy(env)
        self.id = LINE_ID
        self.env = env
        self.credentials = credentials
        self.markets = check_markets(markets)
        """What the channel is to be subscribed to; empty for the whole account."""
        self._subscribed: tuple[str, ...] = ()
        """What the live session is subscribed to."""
        days = env.settings.history_days
        since_s = env.clock_ns() // 1_000_000_000 - round(days * SECONDS_PER_DAY) if days else 0
        self.account = Account(
            Owner(credentials.api_key, credentials.address), since_s=max(0, since_s)
        )
        self._readings = Readings(self.account)
        self.trust = AccountTrust()
        self.epoch: int | None = None
        """The live session; None while there is none."""
        self.down_reason: str | None = None
        """Why the last session ended; None while one is live or none was tried."""
        self.on_refused: Callable[[], None] | None = None
        """Called when the credentials are refused, instead of an error in the log."""
        self.last_data_seconds = 0.0
        self.first_data = trio.Event()
        """Set once the account was LIVE in the live session."""
        self.beyond_first_dump = self.first_data
        self.parser_ready = trio.Event()
        self.rows_read = 0
        """Of the lists, since they were begun to be read last."""
        self.was_accepted = False
        """Whether the account was LIVE before: the credentials are right, or have been."""
        self.is_refused_for_now = False
        """Whether REST refuses, for now, credentials that it had taken before. Sessions then come
        and go, since the channel refuses them, too, and change nothing."""
        self.was_cut_short = False
        """Whether the last session ended before the account was LIVE in it, though it had been in
        another: perhaps the credentials are refused."""
        self.doubts = 0
        """Counts what may have been missed: a reconciliation from before a doubt proves nothing."""
        self.connection_address: Address[ControlMessage] | None = None
        self.unlisted_trades: set[str] = set()
        """Not final, and unknown to REST."""
        self.heard = LastHeard(self.account)
        self._woken = trio.Event()
        self._allowed = trio.Event()
        self._allowed.set()

    # --- for the connection ---------------------------------------------------------------

    @property
    def target(self) -> Target:
        """The user channel."""
        return user_target(self.env.settings.ws_url)

    async def wait_allowed(self) -> None:
        """Return at once, unless the credentials were refused: then when they are taken again."""
        await self._allowed.wait()

    def subscription(self) -> list[str]:
        """The frames that begin a session. The first holds the credentials."""
        known = self.credentials
        self._subscribed = self.markets
        first, *others = user_subscribe_frames(
            known.api_key,
            known.secret,
            known.passphrase,
            self.markets,
            ids_per_frame=self.env.settings.ids_per_frame,
        )
        return [HiddenText(first), *others]

    def frames_for(self, orders: Sequence[ControlMessage]) -> list[str]:
        """The frames that make the session's markets what they ought to be."""
        before, self._subscribed = self._subscribed, self.markets
        limit = self.env.settings.ids_per_frame
        fresh = [one for one in self.markets if one not in before]
        gone = [one for one in before if one not in self.markets]
        return [
            *user_operation_frames("subscribe", fresh, ids_per_frame=limit),
            *user_operation_frames("unsubscribe", gone, ids_per_frame=limit),
        ]

    def redact(self, text: str) -> str:
        """The text without any of the credentials."""
        return self.credentials.redact(text)

    def begin(self) -> None:
        """There is a service that will follow it. The state counts from here: when this was made
        Trio's clock may not have run yet."""
        self.trust = AccountTrust(since_seconds=_now_seconds())

    def session_up(self, epoch: int) -> None:
        """A session began: from here on the channel tells what happens, and nothing before."""
        self.epoch = epoch
        self.down_reason = None
        self.last_data_seconds = trio.current_time()
        self.first_data = self.beyond_first_dump = trio.Event()
        self._publish([FeedUp(time_ns=self.env.clock_ns(), feed=self.id, epoch=epoch)])
        if not self.is_refused_for_now:
            self._enter(AccountState.SYNCING)
        self._wake()
        # Both may have happened while the subscription was on its way.
        if self.trust.state is AccountState.REFUSED:
            self._abort_refused()
        elif self._subscribed != self.markets:
            self._change_markets()

    def session_down(self, epoch: int, reason: str, detail: str) -> None:
        """The session ended, or its connect failed."""
        was_up = self.epoch is not None
        down = FeedDown(
            time_ns=self.env.clock_ns(), feed=self.id, epoch=epoch, reason=reason, detail=detail
        )
        self._publish([down])
        if was_up and not self.env.is_stopping and not self.is_refused_for_now:
            is_stall = reason == "feed_stalled"
            self._enter(
                AccountState.STALE,
                AccountReason.FEED_STALLED if is_stall else AccountReason.DISCONNECTED,
            )
        self.epoch = None
        self.down_reason = reason
        if was_up and self.was_accepted and not self.first_data.is_set():
            self.was_cut_short = True
            self._wake()

    # --- for the parser and the keeper ----------------------------------------------------

    async def wait_woken(self) -> None:
        """Return when a session has begun, or a doubt has come up, since the last return."""
        await self._woken.wait()
        self._woken = trio.Event()

    def take_doubts(self) -> int:
        """The number of doubts so far, for lists that are read from now on: those cover them."""
        self._woken = trio.Event()
        self.rows_read = 0
        return self.doubts

    def lose(self, reason: AccountReason) -> None:
        """From now on something is missed in the live session, until a doubt says that it ended."""
        self.doubts += 1
        if self.epoch is not None and not self.env.is_stopping:
            self._enter(AccountState.STALE, reason)

    def doubt(self, reason: AccountReason) -> None:
        """Something may have been missed in the live session: the lists must say what."""
        self.lose(reason)
        if self.epoch is not None and not self.env.is_stopping:
            self._enter(AccountState.SYNCING)
            self._wake()

    def note_rows(self, rows: int) -> None:
        """So many further rows of the lists were read."""
        self.rows_read += rows

    def tell(self, found: Iterable[changes.Change]) -> None:
        """Publish what changed in the account, in order."""
        epoch, clock_ns = self.epoch, self.env.clock_ns
        readings = self._readings
        self._publish([event_of(one, readings, time_ns=clock_ns(), epoch=epoch) for one in found])
        for refused in self.account.take_refused_rows():
            what = "trade" if isinstance(refused.event, TradeEvent) else "order"
            log.warning(
                f"REST lists a {what} that cannot be true of this account: it is left out",
                id=self.redact(refused.event.id),
                why=refused.why,
            )

    def note_unlisted(self, trades: set[str]) -> None:
        """REST does not list these trades, which are not final: what becomes of them nobody can
        say. They stay as they were, and so do the positions."""
        fresh = trades - self.unlisted_trades
        self.unlisted_trades = trades
        if fresh:
            log.warning(
                "REST does not know trades that the channel told, and that are not settled: they, "
                "and the positions, stay as they were",
                trades=len(fresh),
                first=self.redact(min(fresh)),
            )

    def is_complete(self) -> None:
        """The lists were read in this session: nothing is missing any more."""
        if self.trust.reason is AccountReason.CREDENTIALS_REFUSED:
            self._enter(AccountState.SYNCING)
        if self.trust.state is AccountState.SYNCING:
            self._enter(AccountState.LIVE)
        self.was_accepted = True
        self.first_data.set()

    def refuse_for_now(self) -> None:
        """REST refuses the credentials, which it had taken: perhaps it is only in trouble."""
        self.doubts += 1
        self.is_refused_for_now = True
        if not self.env.is_stopping:
            self._enter(AccountState.STALE, AccountReason.CREDENTIALS_REFUSED)

    def take_again(self) -> None:
        """REST takes the credentials again."""
        if self.is_refused_for_now:
            self.is_refused_for_now = False
            if self.epoch is None and self.trust.state is AccountState.STALE:
                self._enter(AccountState.STALE, AccountReason.DISCONNECTED)

    def has_stalled(self, missing: int) -> None:
        """The lists show what the live session should have told: it is no good."""
        if self.connection_address is not None and self.epoch is not None:
            detail = f"the channel kept back {missing} changes that REST lists"
            self.connection_address.send_nowait(Abort(self.epoch, "feed_stalled", detail))

    def refuse(self, why: str) -> None:
        """The exchange does not take the credentials: say so once, and connect no more."""
        if self.trust.state is AccountState.REFUSED:
            return
        if self.on_refused is None:
            what = f"{REFUSED}; market data goes on"
            log.error(what, why=self.redact(why))
        self._allowed = trio.Event()
        self.is_refused_for_now = False
        self._enter(AccountState.REFUSED)
        self._abort_refused()
        if self.on_refused is not None:
            self.on_refused()

    def readmit(self) -> None:
        """The exchange takes the credentials again."""
        if self.trust.state is AccountState.REFUSED:
            log.warning("the exchange takes the API credentials again")
            self._change_to(AccountState.SYNCING)
            self._allowed.set()

    def gave_up(self) -> None:
        """The supervisor has given up for now."""
        if self.trust.state is not AccountState.REFUSED:
            self._enter(AccountState.STALE, AccountReason.FEED_GAVE_UP)

    # --- for programs ---------------------------------------------------------------------

    def read(self, *, allow_stale: bool = False) -> AccountReading:
        """The account, now.

        Raises AccountNotLive unless it is LIVE; with `allow_stale` what is known comes, labelled.
        """
        trust = self.believed()
        if trust.state is not AccountState.LIVE and not allow_stale:
            age_seconds = trio.current_time() - trust.since_seconds
            raise AccountNotLive(trust.state, trust.reason, age_seconds)
        return self._readings.account(trust, trio.current_time())

    def believed(self) -> AccountTrust:
        """The state; LIVE only while a session is live, also when the service stops."""
        trust = self.trust
        if trust.state is AccountState.LIVE and self.epoch is None:
            stale = AccountReason.DISCONNECTED
            return AccountTrust(AccountState.STALE, stale, trust.since_seconds)
        return trust

    def summary(self) -> dict[str, object]:
        """What `--summary` writes about the account."""
        statistics, account = self.env.statistics, self.account
        return {
            "state": self.trust.state.value,
            "reason": None if self.trust.reason is None else self.trust.reason.value,
            # Not 0 of an account that was never read: nobody knows.
            "open_orders": len(account.open_orders()) if self.was_accepted else None,
            "trades": len(account.trades) if self.was_accepted else None,
            "reconciliations": statistics.reconciliations,
            "reconciliations_failed": statistics.reconciliations_failed,
            "recovered_changes": statistics.recovered_changes,
            "unlisted_trades": len(self.unlisted_trades),
            "odd_trades": statistics.odd_trades,
            "repeats": account.repeats,
            "impossible": account.impossible,
            "impossible_samples": [self.redact(kept.why) for kept in account.impossible_kept],
        }

    def subscribe(self, markets: Iterable[str]) -> None:
        """Follow further markets. Nothing happens when the whole account is followed.

        The account is STALE(markets_changed) until their orders and trades were read.
        """
        checked = check_markets(markets)
        if not self.markets:
            return
        fresh = tuple(one for one in checked if one not in self.markets)
        if fresh:
            self.markets += fresh
            self._change_markets()
            self.doubt(AccountReason.MARKETS_CHANGED)

    def unsubscribe(self, markets: Iterable[str]) -> None:
        """Follow these markets no more: what is known of them stays, and grows old.

        Raises UsageError when none would be left, since without markets it is the whole account.
        """
        gone = frozenset(check_markets(markets)) & frozenset(self.markets)
        kept = tuple(one for one in self.markets if one not in gone)
        if gone and not kept:
            raise UsageError("the last market cannot be unsubscribed: stop the service instead")
        if gone:
            self.markets = kept
            self._change_markets()

    # --- helpers --------------------------------------------------------------------------

    def _abort_refused(self) -> None:
        if self.connection_address is not None and self.epoch is not None:
            abort = Abort(self.epoch, CREDENTIALS_REFUSED, "by REST")
            self.connection_address.send_nowait(abort)

    def _change_markets(self) -> None:
        # Without a session the next one begins with the markets as they are then.
        if self.connection_address is not None and self.epoch is not None:
            self.connection_address.send_nowait(ChangeMarkets())

    def _wake(self) -> None:
        self._woken.set()

    def _enter(self, state: AccountState, reason: AccountReason | None = None) -> None:
        before = self.trust
        if before.state is AccountState.REFUSED or (before.state, before.reason) == (state, reason):
            return
        self._change_to(state, reason)

    def _change_to(self, state: AccountState, reason: AccountReason | None = None) -> None:
        before = self.trust
        self.trust = before.to(state, now_seconds=trio.current_time(), reason=reason)
        changed = AccountStateChanged(
            time_ns=self.env.clock_ns(),
            epoch=self.epoch,
            state=state,
            previous=before.state,
            reason=reason,
        )
        self._publish([changed])

    def _publish(self, events: list[Event]) -> None:
        self.env.hub.publish(events)


def _now_seconds() -> float:
    """Trio's clock; 0 for a service that is made before Trio runs."""
    try:
        return trio.current_time()
    except RuntimeError:
        return 0.0
