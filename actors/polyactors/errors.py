"""The errors of polyactors: who was wrong, and what happens next.

PolyactorsError
├── UsageError       the user's mistake: one sentence that says what to do, exit code 2
├── BookNotLive      a book was read that must not be trusted right now
├── UnknownToken     the service was asked about a token that it does not follow
├── SessionFailed    a connection ended (theirs or the network's fault): back off, try again
├── RestFailed       a REST request brought nothing usable: back off, try again
├── CredentialsRefused  the exchange does not take them: nothing that a repeat would change
└── AccountNotLive   an account was read that may lack something right now
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from polyactors.book.trust import StaleReason, TrustState
    from polyactors.user.state import AccountReason, AccountState


class PolyactorsError(Exception):
    """Base of every error that polyactors raises on purpose."""


class UsageError(PolyactorsError):
    """The user asked for something impossible; the text is one sentence with the remedy."""


class BookNotLive(PolyactorsError):  # noqa: N818 - the name is the fact
    """A book that is not LIVE was read without `allow_stale=True`.

    `state`, `reason` (None unless STALE) and `age_seconds` (since the state was entered)
    say how bad it is.
    """

    def __init__(
        self, token: str, state: TrustState, reason: StaleReason | None, age_seconds: float
    ) -> None:
        # The very arguments, so that it can be pickled and copied; the sentence is __str__'s.
        super().__init__(token, state, reason, age_seconds)
        self.token = token
        self.state = state
        self.reason = reason
        self.age_seconds = age_seconds

    def __str__(self) -> str:
        why = f" ({self.reason.value})" if self.reason is not None else ""
        return f"the book of {self.token} is {self.state.value}{why} since {self.age_seconds:.1f} s"


class UnknownToken(PolyactorsError):  # noqa: N818 - the name is the fact
    """The service does not follow this token."""


class SessionFailed(PolyactorsError):  # noqa: N818 - the name is the fact
    """A session of a feed ended or could not begin. Expected: it spends no restart intensity.

    `reason` is the word of the `feed_down` event: reset, closed_CODE, handshake_STATUS, dns,
    tls, pong_timeout, feed_stalled, unreadable, credentials_refused. `detail` is for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class CredentialsRefused(PolyactorsError):  # noqa: N818 - the name is the fact
    """The exchange refused API credentials (HTTP 401)."""


class AccountNotLive(PolyactorsError):  # noqa: N818 - the name is the fact
    """An account that is not LIVE was read without `allow_stale=True`.

    `state`, `reason` (None unless STALE) and `age_seconds` say how bad it is.
    """

    def __init__(
        self, state: AccountState, reason: AccountReason | None, age_seconds: float
    ) -> None:
        super().__init__(state, reason, age_seconds)
        self.state = state
        self.reason = reason
        self.age_seconds = age_seconds

    def __str__(self) -> str:
        why = f" ({self.reason.value})" if self.reason is not None else ""
        return f"the account is {self.state.value}{why} since {self.age_seconds:.1f} s"


class RestFailed(PolyactorsError):  # noqa: N818 - the name is the fact
    """A REST request failed for a reason that may pass: network, throttling, server error."""


def chain_of(error: BaseException) -> list[BaseException]:
    """An error with all that stands behind it, the members of groups too."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop(0)
        if link is not None and link not in chain:
            chain.append(link)
            waiting.append(link.__cause__ or link.__context__)
            if isinstance(link, BaseExceptionGroup):
                group = cast("BaseExceptionGroup[BaseException]", link)
                waiting.extend(group.exceptions)
    return chain
