"""`webhook-alert`: tells a URL when a book, a feed, the account or an actor needs an eye.

An alert is posted when a book has not been LIVE for `after_seconds`, and once more when it is LIVE
again; when a feed is down and when it is up; when an actor gave up; when the account is not LIVE
and when it is; and for events of other actors whose names are listed.

A webhook that is slow, down or says 429 delays nothing and nobody: what waits for it is kept by
subject, the newest of each, up to PENDING_MAX subjects; what found no room is counted and told. It
is tried again, ever more rarely, up to every RETRY_SECONDS_MAX, until it takes the newest.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

import attrs
import httpx2
import trio
from attrs.validators import ge, gt

from polyactors import (
    AccountState,
    AccountStateChanged,
    ActorContext,
    ActorEvent,
    ActorGaveUp,
    FeedDown,
    FeedUp,
    Gap,
    TrustChanged,
    TrustState,
    actor,
)

PENDING_MAX = 1000
"""Subjects of which an alert may wait."""
ALERTS_PER_POST_MAX = 100
RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 60.0
Alert = dict[str, object]
Message = TrustChanged | FeedDown | FeedUp | ActorGaveUp | AccountStateChanged | ActorEvent | Gap


def _is_url(_: object, field: "attrs.Attribute[str]", value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{field.name} must begin with https:// or http://, not {value!r}")


def _is_set(_: object, field: "attrs.Attribute[str]", value: str) -> None:
    if value and not os.environ.get(value):
        raise ValueError(f"{field.name} names the environment variable {value}, which is not set")


@actor(handle_seconds_max=5)
@attrs.define
class WebhookAlert:
    """Posts alerts to a URL: books that stay bad, feeds, actors that gave up, the account."""

    url: str = attrs.field(validator=_is_url)
    after_seconds: float = attrs.field(default=10.0, validator=ge(0))
    """A book is told of when it has not been LIVE for so long."""
    batch_seconds: float = attrs.field(default=1.0, validator=ge(0))
    """What comes within so long goes out together."""
    timeout_seconds: float = attrs.field(default=10.0, validator=gt(0))
    format: Literal["json", "text"] = "json"
    """`text` is {"text": "…"}, which chats take."""
    header: str = "Authorization"
    token_variable: str = attrs.field(default="", validator=_is_set)
    """The environment variable with the value of that header; it is never logged."""
    names: list[str] = attrs.field(factory=list)
    """Events of other actors that are alerts."""
    _pending: dict[str, Alert] = attrs.field(init=False, factory=dict[str, Alert])
    """By subject, the one that waits longest first."""
    _left_out: int = attrs.field(init=False, default=0)
    _bad: dict[str, float] = attrs.field(init=False, factory=dict[str, float])
    """Books that are not LIVE and not yet told: when they are, on Trio's clock."""
    _told: set[str] = attrs.field(init=False, factory=set[str])
    """Books, feeds and the account, as far as they are known to be bad: perhaps it still waits."""
    _news: trio.Event = attrs.field(init=False, factory=trio.Event)
    _context: ActorContext = attrs.field(init=False)

    async def setup(self, context: ActorContext) -> None:
        """Books that are not LIVE now have been so for an unknown time: their wait begins."""
        self._context = context
        self._look_at_all()
        context.start_soon(self._watch)
        context.start_soon(self._post_all)

    async def handle(self, message: Message) -> None:
        """Note what it means; never waits for the webhook."""
        if isinstance(message, TrustChanged):
            self._trust(message.token, message.state is TrustState.LIVE)
        elif isinstance(message, FeedDown):
            if message.reason != "stopping":
                self._bad_news(message.feed, "feed_down", feed=message.feed, reason=message.reason)
        elif isinstance(message, FeedUp):
            self._good_news(message.feed, "feed_up", feed=message.feed)
        elif isinstance(message, ActorGaveUp):
            self._alert(message.path, "actor_gave_up", path=message.path, reason=message.reason)
        elif isinstance(message, AccountStateChanged):
            reason = None if message.reason is None else message.reason.value
            if message.state is AccountState.LIVE:
                self._good_news("account", "account_live")
            else:
                self._bad_news(
                    "account", "account_not_live", state=message.state.value, reason=reason
                )
        elif isinstance(message, Gap):
            if message.feed is None:  # this mailbox was full: the books are looked at anew
                self._look_at_all()
        elif message.name in self.names:
            subject = f"{message.actor}/{message.name}"
            self._alert(subject, message.name, actor=message.actor, data=dict(message.data))

    async def teardown(self) -> None:
        """One last attempt for what waits."""
        with suppress(httpx2.HTTPError, OSError):
            if self._pending:
                async with self.client() as client:
                    await self._post(client, self._take())

    def client(self) -> httpx2.AsyncClient:
        """What posts. `trust_env` is off: no proxy of the environment, no file of passwords."""
        return httpx2.AsyncClient(timeout=self.timeout_seconds, trust_env=False)

    # --- what is an alert ---------------------------------------------------------------------

    def _trust(self, token: str, is_live: bool) -> None:
        if not is_live:
            if token not in self._told:
                self._bad.setdefault(token, trio.current_time() + self.after_seconds)
                self._news.set()
            return
        self._bad.pop(token, None)
        self._good_news(token, "book_live", token=token)

    def _look_at_all(self) -> None:
        service = self._context.service
        for token in service.tokens:
            self._trust(token, service.trust(token).state is TrustState.LIVE)

    def _bad_news(self, subject: str, kind: str, **data: object) -> None:
        self._told.add(subject)
        self._alert(subject, kind, **data)

    def _good_news(self, subject: str, kind: str, **data: object) -> None:
        """It is over: what nobody was told of yet is not told at all."""
        if subject not in self._told:
            return
        self._told.discard(subject)
        if self._pending.pop(subject, None) is None:
            self._alert(subject, kind, **data)

    async def _watch(self) -> None:
        """Tell of the books that have been bad for long enough."""
        while True:
            now = trio.current_time()
            for token in [token for token, due in self._bad.items() if due <= now]:
                del self._bad[token]
                trust = self._context.service.trust(token)
                reason = None if trust.reason is None else trust.reason.value
                state = trust.state.value
                self._bad_news(token, "book_not_live", token=token, state=state, reason=reason)
            due = min(self._bad.values(), default=now + 1.0)
            await trio.sleep(min(max(due - now, 0.05), 1.0))

    def _alert(self, subject: str, kind: str, **data: object) -> None:
        if subject in self._pending:
            del self._pending[subject]  # the newest replaces it, and waits from now on
        elif len(self._pending) >= PENDING_MAX:
            self._pending.pop(next(iter(self._pending)))
            self._left_out += 1
        self._pending[subject] = {"kind": kind, "time_ns": self._context.time_ns, **data}
        self._news.set()

    # --- posting ------------------------------------------------------------------------------

    async def _post_all(self) -> None:
        async with self.client() as client:
            while True:
                await self._news.wait()
                await trio.sleep(self.batch_seconds)
                self._news = trio.Event()
                failures = 0
                while self._pending:
                    failures = 0 if await self._try(client) else failures + 1
                    if failures:
                        self._context.count("posts_failed")
                        seconds = RETRY_SECONDS_MIN * 2.0 ** min(failures - 1, 10)
                        await trio.sleep(min(seconds, RETRY_SECONDS_MAX))

    async def _try(self, client: httpx2.AsyncClient) -> bool:
        """Post some; what was not taken waits on, unless something newer of its subject came."""
        taken, left_out = self._take(), self._left_out
        try:
            await self._post(client, taken)
        except (httpx2.HTTPError, OSError) as error:
            # Its text may quote the URL, and a URL may be a secret.
            self._context.log.warning("the webhook takes no alerts", why=type(error).__name__)
            self._pending = taken | self._pending
            return False
        self._left_out -= left_out
        self._context.count("alerts_posted", len(taken))
        self._context.show(f"{len(self._told)} bad; last told: {_sentence(taken)}")
        return True

    def _take(self) -> dict[str, Alert]:
        subjects = list(self._pending)[:ALERTS_PER_POST_MAX]
        return {subject: self._pending.pop(subject) for subject in subjects}

    async def _post(self, client: httpx2.AsyncClient, alerts: Mapping[str, Alert]) -> None:
        body: dict[str, object]
        if self.format == "json":
            body = {"alerts": list(alerts.values()), "left_out": self._left_out}
        else:
            body = {"text": "\n".join(_line(alert) for alert in alerts.values())}
        secret = os.environ.get(self.token_variable, "") if self.token_variable else ""
        headers = {self.header: secret} if secret else {}
        response = await client.post(self.url, json=body, headers=headers)
        response.raise_for_status()


def _line(alert: Alert) -> str:
    data = ", ".join(
        f"{key} {value}"
        for key, value in alert.items()
        if key not in ("kind", "time_ns") and value is not None
    )
    return f"{alert['kind']}: {data}"


def _sentence(alerts: Mapping[str, Alert]) -> str:
    return _line(list(alerts.values())[-1])
