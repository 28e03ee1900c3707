"""What must hold of every stream of events, whatever the exchange does."""

from collections import Counter
from collections.abc import Callable

from polyactors.book.trust import TRANSITIONS, StaleReason, TrustState
from polyactors.events import BookUpdated, Event, FeedDown, FeedUp, Gap, TrustChanged

STALE_BY_SESSION = (StaleReason.DISCONNECTED, StaleReason.FEED_STALLED)


class Laws:
    """What must hold of every stream of events; `broken` names each breach."""

    def __init__(self, carriers: Callable[[str], list[str]]) -> None:
        """`carriers`: the feeds that carry a token, one or several."""
        self.broken: list[str] = []
        self.is_stopping = False
        """A STALE is a breach from now on: at an orderly stop the last states stand."""
        self.counts = Counter[str]()
        self.stale_reasons = Counter[str]()
        self.down_reasons = Counter[str]()
        self._carriers = carriers
        self._states: dict[str, tuple[TrustState, StaleReason | None]] = {}
        self._doubtful: set[str] = set()
        """Tokens of a Gap that were not called anything but LIVE since."""
        self._epochs: dict[str, int] = {}
        self._feed_of: dict[int, str] = {}
        """By epoch: whose session it was."""
        self._last_epochs: dict[str, int] = {}
        """By feed: each session of a feed has a greater one than those before."""
        self._ended: set[int] = set()
        self._time_ns = 0
        self._must_turn_stale: set[str] = set()
        """Tokens whose STALE is due before anything else, after their feed's feed_down."""
        self._went_down: str | None = None
        """The feed whose feed_down is the last event but STALEs."""
        self._shared: set[str] = set()
        """Tokens that several feeds carry, or have carried while one replaced another."""
        self._unseen: set[str] = set()
        """Tokens whose last session was lost and of which no gap has said so: due right after
        the next feed_up."""
        self._came_up: str | None = None
        """The feed whose feed_up is the last event."""

    def take(self, event: Event) -> None:
        """Judge the next event."""
        self.counts[event.type] += 1
        self._check(event.time_ns >= self._time_ns, "time goes back", event)
        self._time_ns = event.time_ns
        came_up, self._came_up = self._came_up, None
        if not isinstance(event, Gap):
            is_said = not any(came_up in self._carriers(token) for token in self._unseen)
            self._check(came_up is None or is_said, "a gap is missing after feed_up", event)
        elif came_up is not None:
            self._came_up = came_up  # there may be one for each of several tokens
        is_consequence = isinstance(event, TrustChanged) and event.reason in STALE_BY_SESSION
        if isinstance(event, Gap | TrustChanged | BookUpdated) and event.token is not None:
            # Another carrier may take over, token by token.
            is_consequence |= len(self._carriers(event.token)) > 1
        if not is_consequence:
            self._check(not self._must_turn_stale, "STALE is missing after feed_down", event)
            self._must_turn_stale.clear()
            self._went_down = None
        match event:
            case TrustChanged():
                self._trust_changed(event)
            case BookUpdated():
                self._book_updated(event)
            case FeedUp():
                self._check(self._is_new(event), "an epoch repeats", event)
                self._check(event.feed not in self._epochs, "two sessions of one feed", event)
                self._last_epochs[event.feed] = event.epoch
                self._epochs[event.feed] = event.epoch
                self._feed_of = {
                    epoch: feed
                    for epoch, feed in self._feed_of.items()
                    if feed != event.feed and (feed in self._epochs or event.epoch - epoch < 99)
                }
                self._feed_of[event.epoch] = event.feed
                self._came_up = event.feed
                self._shared.update(t for t in self._states if len(self._carriers(t)) > 1)
            case FeedDown():
                self._feed_down(event)
            case Gap():
                named = [t for t in self._states if event.feed in self._carriers(t)]
                named = named if event.token is None else [event.token]
                if event.reason in STALE_BY_SESSION:
                    # Where several carry a token, one may take over without having seen all.
                    is_due = event.feed == came_up and bool(self._unseen.intersection(named))
                    is_shared = not self._shared.isdisjoint(named)
                    self._check(is_due or is_shared, "a gap without a lost session", event)
                    self._unseen.difference_update(named)
                # What one carrier has missed need not make the book of another doubtful.
                if event.reason is not StaleReason.UNSUBSCRIBED:  # a carrier was let go
                    self._doubtful.update(t for t in named if len(self._carriers(t)) == 1)
            case _:
                pass

    def _trust_changed(self, event: TrustChanged) -> None:
        before, _ = self._states.get(event.token, (TrustState.EMPTY, None))
        self._check(event.previous is before, f"previous was {before}", event)
        self._check(event.state in TRANSITIONS[before], "no such transition", event)
        is_stale = event.state is TrustState.STALE
        self._check(is_stale == (event.reason is not None), "STALE has a reason, alone", event)
        if event.reason is not None:
            self._check(not self.is_stopping, "STALE at an orderly stop", event)
            self.stale_reasons[event.reason.value] += 1
        if event.reason in STALE_BY_SESSION:
            feed = self._feed_of.get(event.epoch or 0)
            self._check(feed == self._went_down, "STALE away from its feed_down", event)
            self._must_turn_stale.discard(event.token)
        self._states[event.token] = (event.state, event.reason)
        self._doubtful.discard(event.token)

    def _book_updated(self, event: BookUpdated) -> None:
        state, _ = self._states.get(event.token, (TrustState.EMPTY, None))
        self._check(state is TrustState.LIVE, f"an update of a {state} book", event)
        self._check(event.token not in self._doubtful, "an update after a gap", event)
        live = [self._epochs.get(feed) for feed in self._carriers(event.token)]
        self._check(event.epoch in live, f"the live epochs are {live}", event)
        if event.settled and event.best_bid is not None and event.best_ask is not None:
            self._check(event.best_bid < event.best_ask, "settled and crossed", event)

    def _is_new(self, event: FeedUp | FeedDown) -> bool:
        known = {*self._epochs.values(), *self._ended}
        return event.epoch not in known and event.epoch > self._last_epochs.get(event.feed, 0)

    def _feed_down(self, event: FeedDown) -> None:
        self.down_reasons[event.reason] += 1
        up = self._epochs.pop(event.feed, None)
        lost = {
            token
            for token in self._states
            if event.feed in self._carriers(token)
            and not any(feed in self._epochs for feed in self._carriers(token))
        }
        if up is not None:
            self._unseen |= lost
        is_right = self._is_new(event) if up is None else event.epoch == up
        self._check(is_right, f"{up} was live", event)
        self._check(event.epoch not in self._ended, "an epoch ends twice", event)
        self._ended = {event.epoch, *(epoch for epoch in self._ended if epoch > event.epoch - 99)}
        self._last_epochs[event.feed] = event.epoch
        self._went_down = event.feed
        if self.is_stopping:
            return
        self._must_turn_stale = {
            token
            for token, (state, reason) in self._states.items()
            if token in lost
            and state is not TrustState.EMPTY
            # No second STALE for the same reason; and a shard that just crashed is not there
            # to say another: its books are STALE already.
            and reason not in (*STALE_BY_SESSION, StaleReason.ACTOR_RESTARTED)
        }

    def _check(self, holds: bool, law: str, event: Event) -> None:
        if not holds and len(self.broken) < 20:
            self.broken.append(f"{law}: {event}")
