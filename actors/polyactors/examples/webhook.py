"""`webhook-alert`: tells a URL what is wrong, and when it is over.

What is told is *state*: a book, a feed or the account that is down for longer than `after_seconds`,
an actor that gave up. So nothing of it waits in a queue: there is what is wrong now, and what the
webhook was told; every `batch_seconds` the difference is posted, and was told when the answer is
2xx. A webhook that is slow or down delays nothing, and gets the newest state when it is back; what
came and went meanwhile is counted in `left_out`.

Chosen events of other actors are no state: the newest EVENTS_MAX wait, the rest is in `left_out`.
The event `began` says that the webhook is to forget what it was told: the rest is told afresh.

A URL may itself be the secret: the log has only its host, and no error's own words.
"""

import html
import json
import os
from collections import deque
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import attrs
import httpx2
import trio
from attrs.validators import ge, gt, le, matches_re

from polyactors import (
    AccountState,
    ActorContext,
    ActorEvent,
    ActorGaveUp,
    ActorRestarted,
    TrustState,
)

EVENTS_MAX = 100
ALERTS_PER_POST = 100
LINE_CHARS_MAX = 500
RETRY_SECONDS_MAX = 60.0
"""Between attempts the wait doubles up to this, unless the answer's Retry-After asks for more."""
RETRY_AFTER_SECONDS_MAX = 600.0
DAY_SECONDS = 86_400.0
Key = tuple[Literal["account", "actor", "book", "feed"], str]
"""What is well or not, and its id."""
Alert = dict[str, object]
WORDS = {
    "account": ("is not LIVE", "is LIVE again"),
    "actor": ("stays down", "runs again"),
    "book": ("is not LIVE", "is LIVE again"),
    "feed": ("is down", "is up again"),
}


@attrs.define(eq=False)
class Problem:
    """Something that is, or was, not as it should be."""

    since_ns: int
    due_ns: int
    """When it is old enough to be told."""
    reason: str
    over_ns: int | None = None


def _is_url(_: object, __: object, url: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        is_good = False  # whose words repeat it
    if not is_good or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("url must begin with https:// or http:// and name a host")
    if "@" in urlsplit(url).netloc:
        raise ValueError("url must not hold a password: name a variable in token_variable")


def _is_variable(_: object, __: object, name: str) -> None:
    value = os.environ.get(name, "") if name else "none is needed"
    if not value:
        raise ValueError(f"token_variable: the environment has no {name}; set it, or name another")
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError(f"token_variable: what {name} holds cannot be sent in a header")


@attrs.define
class WebhookAlert:
    """Posts to a URL which books, feeds and actors are down for long, and when that is over."""

    url: str = attrs.field(validator=_is_url, repr=False)
    format: Literal["json", "slack"] = "json"
    """`slack`: a line of text for each alert, as {"text": …}."""
    after_seconds: float = attrs.field(default=5.0, validator=[ge(0), le(DAY_SECONDS)])
    """How long a book, a feed or the account must be down."""
    batch_seconds: float = attrs.field(default=2.0, validator=[gt(0), le(DAY_SECONDS)])
    """What comes within so long is one post."""
    timeout_seconds: float = attrs.field(default=10.0, validator=[gt(0), le(DAY_SECONDS)])
    """A post that takes longer has failed."""
    events: list[str] = attrs.field(factory=list[str])
    """Names of actors' events that are posted, too."""
    token_variable: str = attrs.field(default="", validator=_is_variable)
    """The environment variable with the value of a header, such as `Bearer …`; empty: none."""
    token_header: str = attrs.field(default="Authorization", validator=matches_re(r"[\w-]+"))
    _wrong: dict[Key, Problem] = attrs.field(init=False, factory=dict[Key, Problem])
    """Now."""
    _told: dict[Key, Problem] = attrs.field(init=False, factory=dict[Key, Problem])
    """What the webhook holds for wrong."""
    _events: deque[Alert] = attrs.field(init=False, factory=deque[Alert])
    _left_out: int = attrs.field(init=False, default=0)
    _turn: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    """One post at a time."""
    _context: ActorContext = attrs.field(init=False)
    _client: httpx2.AsyncClient = attrs.field(init=False, repr=False)

    async def open_client(self) -> httpx2.AsyncClient:
        """The HTTP client; a test has one without sockets. In a thread, because it reads the trust
        store, which takes longer than an actor may hold the event loop."""
        return await trio.to_thread.run_sync(httpx2.AsyncClient)

    async def setup(self, context: ActorContext) -> None:
        """Begin afresh, whatever was told before."""
        self._context = context
        self._client = await self.open_client()
        self._add_event(context.name, "began", {"incarnation": context.incarnation})
        context.start_soon(self._look_for_ever)
        context.start_soon(self._post_for_ever)

    async def handle(self, message: ActorGaveUp | ActorRestarted | ActorEvent) -> None:
        """Note it; nothing here waits for the webhook."""
        if isinstance(message, ActorGaveUp):
            self._note(("actor", message.path), message.reason, 0.0)
        elif isinstance(message, ActorRestarted):
            self._note(("actor", message.path), None)
        elif message.name in self.events:
            self._add_event(message.actor, message.name, message.data)

    async def teardown(self) -> None:
        """A last attempt."""
        if hasattr(self, "_client"):
            await self._post_due()
            await self._client.aclose()

    # --- what is wrong --------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            found = dict(self._look())
            gone = [key for key in self._wrong if key[0] != "actor" and key not in found]
            for key in gone:  # such as a feed that another has replaced
                self._note(key, None)
            for key, reason in found.items():
                self._note(key, reason, self.after_seconds)
            await trio.sleep(self.batch_seconds)

    def _look(self) -> Iterator[tuple[Key, str | None]]:
        service = self._context.service
        for token in service.tokens:
            trust = service.trust(token)
            is_live = trust.state is TrustState.LIVE
            yield ("book", token), None if is_live else (trust.reason or trust.state).value
        for feed in service.feed_statuses():
            yield ("feed", feed.id), feed.down_reason
        if service.follows_account:
            account = service.account.believed()
            is_live = account.state is AccountState.LIVE
            yield ("account", ""), None if is_live else (account.reason or account.state).value

    def _note(self, key: Key, reason: str | None, after_seconds: float = 0.0) -> None:
        """It is not well for this reason; None: it is."""
        now_ns = self._context.time_ns
        before = self._wrong.get(key)
        if reason is not None and before is None:
            self._wrong[key] = Problem(now_ns, now_ns + int(after_seconds * 1e9), reason)
        elif reason is not None and before is not None:
            before.reason = reason
        elif before is not None:
            del self._wrong[key]
            before.over_ns = now_ns
            self._left_out += before.due_ns <= now_ns and self._told.get(key) is not before

    def _add_event(self, actor: str, name: str, data: object) -> None:
        time_ns = self._context.time_ns
        self._events.append(
            {"kind": "event", "id": actor, "name": name, "time_ns": time_ns, "data": data}
        )
        if len(self._events) > EVENTS_MAX:
            self._events.popleft()
            self._left_out += 1

    def _due(self) -> tuple[list[Alert], dict[Key, Problem]]:
        """What the webhook does not know, and what it will hold for wrong then."""
        now_ns = self._context.time_ns
        alerts: list[Alert] = []
        told = dict(self._told)
        for key, problem in self._told.items():
            if problem.over_ns is not None and len(alerts) < ALERTS_PER_POST:
                alerts.append(_alert(key, problem, problem.over_ns))
                del told[key]
        for key, problem in self._wrong.items():
            if problem.due_ns <= now_ns and key not in told and len(alerts) < ALERTS_PER_POST:
                alerts.append(_alert(key, problem, now_ns))
                told[key] = problem
        return alerts, told

    # --- the webhook ----------------------------------------------------------------------

    async def _post_for_ever(self) -> None:
        failures = 0
        while True:
            wait_seconds = min(self.batch_seconds * 2.0 ** min(failures, 32), RETRY_SECONDS_MAX)
            await trio.sleep(max(wait_seconds, self.batch_seconds))
            why, retry_after_seconds = await self._post_due()
            failures = failures + 1 if why else 0
            if failures == 1:
                what = "the webhook takes nothing, trying again"
                self._context.log.warning(what, host=urlsplit(self.url).hostname, why=why)
            self._context.show(f"posts fail: {why}" if why else f"{len(self._told)} are down")
            await trio.sleep(retry_after_seconds)

    async def _post_due(self) -> tuple[str, float]:
        """Post until all is told. Returns why it was not, and how long the webhook wants peace."""
        async with self._turn:
            while True:
                alerts, told = self._due()
                events = list(self._events)[: ALERTS_PER_POST - len(alerts)]
                if not alerts and not events:
                    return "", 0.0
                before, left_out = self._told, self._left_out
                self._told = told  # as if: what ends meanwhile must be told, too
                why, retry_after_seconds = await self._post([*alerts, *events], left_out)
                self._context.count("posts_failed" if why else "posts")
                if why:
                    fresh = [one for key, one in told.items() if before.get(key) is not one]
                    self._left_out += sum(one.over_ns is not None for one in fresh)
                    self._told = before
                    return why, retry_after_seconds
                self._left_out -= left_out
                while events and self._events and self._events[0] in events:
                    events.remove(self._events.popleft())

    async def _post(self, alerts: list[Alert], left_out: int) -> tuple[str, float]:
        """Returns why it was not taken, empty if it was, and its Retry-After."""
        token = os.environ.get(self.token_variable)
        headers = {} if token is None else {self.token_header: token}
        body = {"actor": self._context.name, "alerts": alerts, "left_out": left_out}
        if self.format == "slack":
            body = {"text": _text(alerts, left_out)}
        try:
            with trio.fail_after(self.timeout_seconds):
                async with self._client.stream(
                    "POST", self.url, json=body, headers=headers
                ) as answer:  # whose body nobody reads
                    if answer.is_success:
                        return "", 0.0
                    after = answer.headers.get("retry-after", "")
                    seconds = float(after) if after.isdecimal() else 0.0  # or a date
                    why = f"status {answer.status_code}"
                    return why, min(seconds, RETRY_AFTER_SECONDS_MAX)
        except (httpx2.HTTPError, trio.TooSlowError) as error:
            return type(error).__name__, 0.0


def _alert(key: Key, problem: Problem, now_ns: int) -> Alert:
    return {
        "kind": key[0],
        "id": key[1],
        "is_over": problem.over_ns is not None,
        "reason": problem.reason,
        "since_ns": problem.since_ns,
        "seconds": (now_ns - problem.since_ns) / 1e9,
    }


def _text(alerts: list[Alert], left_out: int) -> str:
    lines = [_line(alert)[:LINE_CHARS_MAX] for alert in alerts]
    lines += [f"{left_out} more came and went unseen"] if left_out else []
    return html.escape("\n".join(lines), quote=False)


def _line(alert: Alert) -> str:
    kind, name = str(alert["kind"]), alert["id"]
    if kind == "event":
        return f"{name}: {alert['name']} {json.dumps(alert['data'])}"
    words = WORDS[kind][bool(alert["is_over"])]
    return f"{kind} {name} {words}, after {alert['seconds']:.1f} s: {alert['reason']}"
