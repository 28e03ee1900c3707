"""The feeds of a service, and what of their news is public.

The tokens are cut into *chunks*, and each chunk is carried by one feed or, for redundancy and
while one is replaced, by several. One that carries its chunk alone publishes by itself and this
module costs it nothing. Several are merged here, between their journals and the hub: each token
has an arbiter (arbiter.py), which lets everything through once.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import inf

import trio

from polyactors.arbiter import Arbiter
from polyactors.book.reading import BookReading
from polyactors.book.trust import StaleReason, Trust, TrustState
from polyactors.environment import Environment
from polyactors.events import Event
from polyactors.feed import Feed
from polyactors.token_book import TokenBook
from polysupervisor import Context

IN_FLIGHT_SECONDS = 10.0
"""For so long after a carrier has left, another may still bring what that one has told."""
_LIVE = TrustState.LIVE


class Chunk:
    """Tokens that share their connections."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        self.carriers: list[Feed] = []
        self.is_merged = False
        """Whether arbiters decide what of the carriers is public."""
        self.left_seconds = inf
        """When the last carrier but one left; inf while there are several, or always was one."""


class Relay:
    """All feeds of one service, and the public state of every token."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.feeds: list[Feed] = []
        """Those that are to run: what is added starts, what is removed stops, with the tree."""
        self.chunks: list[Chunk] = []
        self.on_suspicion = _nothing
        """Called when a feed has become a suspect."""
        self.alarm: trio.CancelScope | None = None
        """What `run_relay` waits in; its deadline follows what happens."""
        self._made = 0
        self._chunks: dict[str, Chunk] = {}
        """By token."""
        self._arbiters: dict[str, Arbiter] = {}
        """Of the tokens that several feeds carry, or did a moment ago."""
        self._catching_up: dict[str, Arbiter] = {}

    # --- feeds ----------------------------------------------------------------------------

    def add(self, tokens: Sequence[str]) -> None:
        """Carry further tokens, none of which is carried yet."""
        settings = self._env.settings
        size = settings.tokens_per_connection
        for start in range(0, len(tokens), size):
            chunk = Chunk(tokens[start : start + size])
            self.chunks.append(chunk)
            self._chunks.update(dict.fromkeys(chunk.tokens, chunk))
            for _ in range(settings.redundancy):
                self._join(chunk, len(self.feeds))

    def twin(self, feed: Feed) -> Feed:
        """A further feed with the tokens of `feed`."""
        twin = self._join(self.chunk_of(feed), self.feeds.index(feed) + 1)
        twin.markets.update(feed.markets)
        return twin

    def remove(self, feed: Feed, why: str) -> None:
        """Let go a feed that is not the only one of its chunk; from now on nothing of it is
        public but its feed_down, with `why` for a detail."""
        chunk = self.chunk_of(feed)
        chunk.carriers.remove(feed)
        self.feeds.remove(feed)
        feed.farewell = why
        now = trio.current_time()
        if len(chunk.carriers) == 1:
            chunk.left_seconds = now
        events: list[Event] = []
        for token in chunk.tokens:
            arbiter = self._arbiters[token]
            events += arbiter.leave(feed, now)
            self._note_catch_up(arbiter)
        if events:
            self._env.hub.publish(events)
        self._set_alarm()

    def chunk_of(self, feed: Feed) -> Chunk:
        """The tokens that `feed` carries."""
        return self._chunks[feed.tokens[0]]

    # --- what is public -------------------------------------------------------------------

    @property
    def tokens(self) -> tuple[str, ...]:
        """All that are carried."""
        return tuple(self._chunks)

    def carries(self, token: str) -> bool:
        """Whether the token is one of them."""
        return token in self._chunks

    def leader(self, token: str) -> Feed:
        """The feed whose book of the token is the public one."""
        arbiter = self._arbiters.get(token)
        return self._chunks[token].carriers[0] if arbiter is None else arbiter.leader

    def trust(self, token: str) -> Trust:
        """The token's trust; LIVE only while a session is live, also when the service stops."""
        leader = self.leader(token)
        believed = leader.believed(token)
        arbiter = self._arbiters.get(token)
        if arbiter is None or (arbiter.trust.state is _LIVE and believed.state is not _LIVE):
            return believed
        return arbiter.trust

    def reading(self, token: str) -> BookReading:
        """The token's levels as they are now, labelled with its trust."""
        arbiter = self._arbiters.get(token)
        if arbiter is None:
            return self.leader(token).reading(token)
        trust, now = self.trust(token), trio.current_time()
        if arbiter.kept is not None and now < arbiter.due_seconds:
            return arbiter.kept.labelled(trust, now_seconds=now)
        return arbiter.leader.reading(token, trust)

    def states(self) -> Counter[str]:
        """Number of tokens by trust state."""
        states = Counter[str]()
        for chunk in self.chunks:
            if chunk.is_merged:
                states.update(self._arbiters[token].trust.state.value for token in chunk.tokens)
            else:
                (feed,) = chunk.carriers
                states.update(trust.state.value for trust in feed.trust.values())
        return states

    # --- what journals and feeds ask ------------------------------------------------------

    def trust_changed(self, feed: Feed, book: TokenBook, now: float) -> list[Event]:
        """What is public of a change of trust, which `feed` has made."""
        arbiter = self._arbiters.get(book.token)
        if arbiter is None:
            return []
        events = arbiter.trust_changed(feed, book, now)
        self._note_catch_up(arbiter)
        return events

    def admit(self, feed: Feed, book: TokenBook) -> list[Event] | None:
        """What is public before an update of `feed`, and the update, too; None: it is not."""
        arbiter = self._arbiters.get(book.token)
        return None if arbiter is None else arbiter.admit(feed, book, trio.current_time())

    def is_news(self, feed: Feed, token: str, what: Hashable) -> bool:
        """Whether a trade or the like is told for the first time."""
        arbiter = self._arbiters.get(token)
        return arbiter is not None and arbiter.is_news(feed, what)

    def missed(self, feed: Feed, token: str | None) -> list[str | None]:
        """Of what `feed` has missed now, that which no other carrier saw; None is all of it."""
        if feed not in self.chunk_of(feed).carriers:
            return []
        tokens = feed.tokens if token is None else (token,)
        missed = [token for token in tokens if not self._arbiters[token].covers(feed)]
        return [token] if len(missed) == len(tokens) else [*missed]

    def session_up(self, feed: Feed) -> list[tuple[str | None, StaleReason]]:
        """What nobody saw until this session of `feed`, and why; None is all of its tokens."""
        reasons = {token: self._arbiters[token].session_up(feed) for token in feed.tokens}
        different = set(reasons.values())
        if len(different) == 1 and (reason := different.pop()) is not None:
            return [(None, reason)]
        return [(token, reason) for token, reason in reasons.items() if reason is not None]

    def session_down(self, feed: Feed, reason: StaleReason) -> None:
        """A session of `feed` is over."""
        if feed in self.chunk_of(feed).carriers:
            events: list[Event] = []
            for token in feed.tokens:
                events += self._arbiters[token].session_down(feed, reason)
            if events:
                self._env.hub.publish(events)

    # --- time -----------------------------------------------------------------------------

    def next_due(self) -> float:
        """When `on_time` must be called next; inf when nothing is due."""
        left = (chunk.left_seconds + IN_FLIGHT_SECONDS for chunk in self.chunks)
        catching_up = (arbiter.due_seconds for arbiter in self._catching_up.values())
        return min(min(left, default=inf), min(catching_up, default=inf))

    def on_time(self, now: float) -> None:
        """Act on every due time that has come."""
        events: list[Event] = []
        distrusted: list[tuple[Feed, str]] = []
        for token, arbiter in list(self._catching_up.items()):
            if arbiter.wants_fresh():
                distrusted.append((arbiter.leader, token))
            events += arbiter.on_time(now)
            if arbiter.kept is None and not arbiter.is_held:
                del self._catching_up[token]
        if events:
            self._env.hub.publish(events)
        for feed, token in distrusted:
            feed.distrust(token)
        for chunk in self.chunks:
            if chunk.left_seconds + IN_FLIGHT_SECONDS <= now:
                self._part(chunk, now)

    # --- helpers --------------------------------------------------------------------------

    def _join(self, chunk: Chunk, place: int) -> Feed:
        feed = Feed(f"feed-{self._made}", chunk.tokens, self._env)
        self._made += 1
        feed.on_suspicion = self._suspicion
        self.feeds.insert(place, feed)
        chunk.carriers.append(feed)
        chunk.left_seconds = inf
        if len(chunk.carriers) > 1:
            first = chunk.carriers[0]
            if not chunk.is_merged:
                chunk.is_merged = True
                self._arbiters.update({token: Arbiter(token, first) for token in chunk.tokens})
            for token in chunk.tokens:
                self._arbiters[token].join(feed)
            first.relay = feed.relay = self
        return feed

    def _part(self, chunk: Chunk, now: float) -> None:
        """One carrier has been alone for long enough: it publishes by itself again."""
        (feed,) = chunk.carriers
        if any(self._arbiters[token].is_busy for token in chunk.tokens):
            chunk.left_seconds = now
            return
        for token in chunk.tokens:
            feed.trust[token] = self._arbiters.pop(token).trust
        feed.relay = None
        chunk.is_merged = False
        chunk.left_seconds = inf

    def _note_catch_up(self, arbiter: Arbiter) -> None:
        is_due = arbiter.kept is not None or arbiter.is_held
        if is_due and arbiter.token not in self._catching_up:
            self._catching_up[arbiter.token] = arbiter
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self.alarm is not None:
            self.alarm.deadline = self.next_due()

    def _suspicion(self) -> None:
        self.on_suspicion()


async def run_relay(ctx: Context[object], relay: Relay) -> None:
    """Keep the relay's due times until stopped."""
    ctx.ready()
    while True:
        with trio.CancelScope(deadline=relay.next_due()) as relay.alarm:
            await trio.sleep_forever()
        relay.on_time(trio.current_time())


def _nothing() -> None:
    pass
