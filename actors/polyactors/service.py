"""The service as a program sees it: books, their trust, the stream. opening.py makes it.

The actors behind it, and who supervises whom, are in tree.py.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random

import trio
from attrs import Attribute, asdict, frozen

from polyactors.book.reading import BookReading
from polyactors.book.trust import Trust, TrustState
from polyactors.discovery import Wanted, check_token, listed, run_discovery, shown
from polyactors.environment import Environment
from polyactors.errors import BookNotLive, UnknownToken, UsageError
from polyactors.extensions.extension import ActorStatus
from polyactors.extensions.roster import Extensions
from polyactors.extensions.spec import ActorSpec
from polyactors.feed import STOPPING
from polyactors.logger import Outage, log
from polyactors.protocol.listings import MarketListing
from polyactors.relay import Relay
from polyactors.rest import RestClient
from polyactors.statistics import Statistics
from polyactors.stream import QUEUE_EVENTS_MAX, Subscription
from polyactors.transport import market_target
from polyactors.tree import Tree
from polyactors.user.line import UserLine
from polysupervisor import ChildSpec, Context


@frozen
class FeedStatus:
    """One feed, as a person wants to see it."""

    id: str
    epoch: int | None
    """The live session; None while there is none."""
    down_reason: str | None
    """Why the last session ended, in the words of `feed_down`; None while one is live or none
    was tried."""
    tokens: int
    """How many it carries."""
    live: int
    """How many of them are LIVE."""
    messages: int
    """Frames parsed since the service began."""


@frozen
class TokenStatus:
    """One token, as a person wants to see it."""

    token: str
    feed: str
    """Id of the feed whose book is shown."""
    reading: BookReading
    """The book, labelled, LIVE or not."""


class Service:
    """Order books of any number of tokens, supervised. Made by `open_service`, or run by hand:
    `run()` in a nursery, `stop()` to end it."""

    def __init__(
        self,
        wanted: Wanted,
        *,
        env: Environment,
        rest: RestClient,
        user: UserLine | None = None,
        actors: Sequence[ActorSpec] = (),
        sinks: "Sequence[Callable[[Service], ChildSpec[object]]]" = (),
        last: "Callable[[Service], ChildSpec[object]] | None" = None,
        rng: Random | None = None,
    ) -> None:
        """`sinks` hear everything: they start first and stop last. `last` is the terminal's
        child. `rest` must be open while the service runs. `user` is the account that it follows
        as well. `actors` are those of users. `rng` is the source of all jitter."""
        market_target(env.settings.ws_url)  # a wrong URL is the user's mistake, said at once
        self.env = env
        self.failure: UsageError | None = None
        """Set when the service ended itself because the user asked for the impossible."""
        self._wanted = wanted
        self._user = user
        if user is not None:
            user.begin()
        self._rest = rest
        self._awaits_listing = wanted.needs_listing
        self._listing_outage = Outage()
        self._relay = Relay(env)
        self._feeds = self._relay.feeds
        self._extensions = Extensions(actors, env)
        self._add_feeds(wanted.tokens)
        self._tree = Tree(
            env,
            rest,
            self._relay,
            sinks=[sink(self) for sink in sinks],
            discover=self._discover if wanted.needs_listing else None,
            user=user,
            extensions=self._extensions.supervisor(self) if self._extensions else None,
            actor_failed=self._extensions.failed,
            actor_gave_up=self._extensions.gave_up,
            last=None if last is None else last(self),
            rng=rng,
        )
        self.root = self._tree.root

    # --- for programs ---------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until stopped; `task_status` is told when every actor is up, which does not wait for
        the exchange.

        Raises SupervisorEscalation when the root gives up. Cancellation: the actors are stopped
        in reverse order without grace, and waited for. Resource handling: every subscription to
        the events ends; `rest` stays open.
        """
        try:
            await self.root.run(task_status=task_status)
        finally:
            self.env.hub.end()
            self._say_what_never_came()

    def stop(self) -> None:
        """Begin an orderly stop. Idempotent, never waits."""
        self.root.stop()

    def events(self, limit: int = QUEUE_EVENTS_MAX) -> Subscription:
        """The stream from now on; at most `limit` events (2 or more) are held for a slow reader.

        A Gap with the reason overflow and no feed says that it was too slow and has missed
        something: then `trust` and `book` are to be asked again.
        """
        return self.env.hub.subscribe(limit)

    def book(self, token: str, *, allow_stale: bool = False) -> BookReading:
        """The book of a token, now.

        Raises BookNotLive unless it is LIVE; with `allow_stale` the last known levels come,
        labelled. Raises UnknownToken for a token that the service does not follow, UsageError
        for what is no text.
        """
        self._check(token)
        reading = self._relay.reading(token)
        if reading.state is not TrustState.LIVE and not allow_stale:
            raise BookNotLive(token, reading.state, reading.reason, reading.age_seconds)
        return reading

    def trust(self, token: str) -> Trust:
        """The trust state of a token, now. Raises UnknownToken.

        As `book` has it: what was LIVE in a session that is over is not, though the stream and
        the summary leave the last states as they were when the service stopped.
        """
        self._check(token)
        return self._relay.trust(token)

    def tick_size(self, token: str) -> Decimal | None:
        """The price grid of a token, USDC per share; None until the exchange has told it.

        Levels of a time with another grid may lie off it. Raises as `trust`.
        """
        self._check(token)
        inputs = self.env.hash_inputs.get(token)
        return None if inputs is None or inputs.tick_size is None else Decimal(inputs.tick_size)

    def listing(self, token: str) -> MarketListing | None:
        """The market of a token with its question, slug and outcomes, as it was looked up; None
        for one that was named by its id. Raises as `trust`."""
        self._check(token)
        return self.env.listings.get(token)

    @property
    def follows_account(self) -> bool:
        """Whether there is an `account`."""
        return self._user is not None

    @property
    def account(self) -> UserLine:
        """The account that the service follows: `read()` it, look at its `trust`, `subscribe` to
        further markets. Raises UsageError for a service without credentials."""
        if self._user is None:
            raise UsageError("the service follows no account: open it with credentials")
        return self._user

    def actor_statuses(self) -> list[ActorStatus]:
        """The users' actors, now."""
        return self._extensions.statuses()

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every token that the service follows, in no promised order."""
        return self._relay.tokens

    @property
    def statistics(self) -> Statistics:
        """The counters of the service, live; `summary` has them as plain values."""
        return self.env.statistics

    def states(self) -> Counter[str]:
        """Number of tokens by the name of their trust state; a state without any may be absent."""
        return self._relay.states()

    def summary(self) -> dict[str, object]:
        """What `--summary` writes: plain values, ready for JSON."""
        summary = self.statistics.summary(dict(self.states()))
        if self._user is not None:
            summary["account"] = self._user.summary()
        if self._extensions:
            summary["actors"] = {
                status.name: asdict(status, filter=_is_told) for status in self.actor_statuses()
            }
        return summary

    def feed_statuses(self) -> list[FeedStatus]:
        """All feeds, now."""
        return [
            FeedStatus(
                feed.id,
                feed.epoch,
                feed.down_reason,
                len(feed.tokens),
                feed.states()[TrustState.LIVE],
                feed.messages,
            )
            for feed in self._feeds
        ]

    def token_statuses(self) -> list[TokenStatus]:
        """All tokens with their books, now."""
        relay = self._relay
        return [
            TokenStatus(token, relay.leader(token).id, relay.reading(token))
            for token in relay.tokens
        ]

    def feed_id(self, token: str) -> str | None:
        """The feed whose book of a token is shown; None when none follows it."""
        return self._relay.leader(token).id if self._relay.carries(token) else None

    async def follow(self, tokens: Sequence[str]) -> None:
        """Follow further tokens, on feeds of their own; known ones are passed over.

        Safe to repeat after an error or a cancellation: what was started stays, the rest follows.
        Raises UsageError for what are no tokens, and then follows none of them; NotRunning before
        the service has started and while it stops.
        """
        self._add_feeds(tokens)
        await self._tree.grow()

    def fail(self, error: UsageError) -> None:
        """End the service: the user asked for something that does not exist."""
        self.failure = error
        self.stop()

    # --- helpers --------------------------------------------------------------------------

    async def _discover(self, ctx: Context[object]) -> None:
        if not self._awaits_listing:
            # The core was restarted: asked again, Gamma may have delisted what is followed.
            ctx.ready()
            return
        outage = self._listing_outage
        learn = self.env.learn
        await run_discovery(ctx, self._wanted, self._rest, self.follow, self.fail, learn, outage)
        self._awaits_listing = False

    def _add_feeds(self, tokens: object) -> None:
        checked = [check_token(token) for token in listed("tokens", tokens)]
        fresh = [token for token in dict.fromkeys(checked) if not self._relay.carries(token)]
        self._relay.add(fresh)

    def _check(self, token: object) -> None:
        if not isinstance(token, str):
            raise UsageError(f"a token id is a text of digits, not {shown(token)}")
        if not self._relay.carries(token):
            raise UnknownToken(f"the service does not follow the token {shown(token)}")

    def _say_what_never_came(self) -> None:
        """For a program that ends before anything has failed, which can take many seconds."""
        if self._awaits_listing and not self._listing_outage.is_told:
            log.warning("stopped before the market listing had answered")
        untried = [f for f in self._feeds if not f.last_epoch and f.down_reason in (None, STOPPING)]
        if untried and len(untried) == len(self._feeds):
            log.warning("stopped before a connection to the exchange was open")


def _is_told(field: "Attribute[object]", _: object) -> bool:
    return field.name != "name"
