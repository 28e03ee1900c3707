"""What may be believed of an account: its state, and why it is not LIVE. Pure.

`SYNCING → LIVE → STALE(reason) → SYNCING …`, and from anywhere to REFUSED. That is the end, unless
the credentials had been good before: then they may be again.
LIVE says that every order and trade up to this moment is known, as far as the exchange has told
it: the lists of REST were read during this session, and the channel has told the rest.
"""

from enum import Enum, StrEnum

from attrs import frozen


class AccountState(Enum):
    """The state of an account."""

    SYNCING = "SYNCING"
    """On its way: the channel is being connected, or the lists are being read."""
    LIVE = "LIVE"
    """Every order and trade up to this moment is known."""
    STALE = "STALE"
    """Something may have been missed. What is known stays readable, labelled."""
    REFUSED = "REFUSED"
    """The exchange does not take the credentials: nothing is tried any more; where it had taken
    them before, it is asked rarely."""


class AccountReason(StrEnum):
    """Why an account is STALE."""

    DISCONNECTED = "disconnected"
    """The user channel was lost, or is not open yet again."""
    CREDENTIALS_REFUSED = "credentials_refused"
    """REST refuses, for now, what it had taken before."""
    FEED_STALLED = "feed_stalled"
    """The lists of REST showed what the channel had kept back."""
    PARSE_FAILURE = "parse_failure"
    """A frame of the channel could not be read."""
    ACTOR_RESTARTED = "actor_restarted"
    """An actor of the channel crashed, and what it had in hand is gone."""
    FEED_GAVE_UP = "feed_gave_up"
    """They crashed again and again: they are tried again, but rarely."""
    MARKETS_CHANGED = "markets_changed"
    """Further markets were subscribed to, whose orders and trades are not known yet."""


TRANSITIONS = {
    AccountState.SYNCING: {AccountState.LIVE, AccountState.STALE, AccountState.REFUSED},
    AccountState.LIVE: {AccountState.STALE, AccountState.REFUSED},
    AccountState.STALE: {AccountState.SYNCING, AccountState.STALE, AccountState.REFUSED},
    AccountState.REFUSED: {AccountState.SYNCING},
}


@frozen
class AccountTrust:
    """The state of an account at one moment."""

    state: AccountState = AccountState.SYNCING
    reason: AccountReason | None = None
    """Set when, and only when, the state is STALE."""
    since_seconds: float = 0.0
    """When the state was entered, on the caller's clock."""

    def to(
        self, state: AccountState, *, now_seconds: float, reason: AccountReason | None = None
    ) -> "AccountTrust":
        """The next one; asserts that the transition is in the table and carries its reason."""
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        assert (reason is not None) == (state is AccountState.STALE)
        return AccountTrust(state, reason, now_seconds)
