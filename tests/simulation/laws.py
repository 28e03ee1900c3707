"""What must hold of every stream of events, whatever the exchange does."""

from collections import Counter
from collections.abc import Callable

from polyactors.book.trust import TRANSITIONS, StaleReason, TrustState
from polyactors.events import BookUpdated, Event, FeedDown, FeedUp, Gap, TrustChanged

STALE_BY_SESSION = (StaleReason.DISCONNECTED, StaleReason.FEED_STALLED)


class Laws:
    """What must hold of every stream of events; `broken` names each breach."""

    def __init__(self, feed_of: Callable[[str], str | None]) -> None:
        self.broken: list[str] = []
        self.is_stopping = False
        """A STALE is a breach from now on: at an orderly stop the last states stand."""
        self.counts = Counter[str]()
        self.stale_reasons = Counter[str]()
        self.down_reasons = Counter[str]()
        self._feed_of = feed_of
        self._states: dict[str, tuple[TrustState, StaleReason | None]] = {}
        self._doubtful: set[str] = set()
        """Tokens of a Gap that were not called anything but LIVE since."""
        self._epochs: dict[str, int] = {}
        self._epoch_max = 0
        self._ended: set[int] = set()
        self._time_ns = 0
        self._must_turn_stale: set[str] = set()
        """Tokens whose STALE is due before anything else, after their feed's feed_down."""
        self._went_down: str | None = None
        """The feed whose feed_down is the last event but STALEs."""
        self._unseen: set[str] = set()
        """Feeds that lost a session and have not said so by a gap: due right after feed_up."""
        self._came_up: str | None = None
        """The feed whose feed_up is the last event."""

    def take(self, event: Event) -> None:
        """Judge the next event."""
        self.counts[event.type] += 1
        self._check(event.time_ns >= self._time_ns, "time goes back", event)
        self._time_ns = event.time_ns
        came_up, self._came_up = self._came_up, None
        if came_up in self._unseen:
            is_said = isinstance(event, Gap) and (event.feed, event.token) == (came_up, None)
            self._check(is_said, "a gap is missing after feed_up", event)
        is_consequence = isinstance(event, TrustChanged) and event.reason in STALE_BY_SESSION
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
                self._check(event.epoch > self._epoch_max, "an epoch repeats", event)
                self._check(event.feed not in self._epochs, "two sessions of one feed", event)
                self._epoch_max = max(self._epoch_max, event.epoch)
                self._epochs[event.feed] = event.epoch
                self._came_up = event.feed
            case FeedDown():
                self._feed_down(event)
            case Gap():
                if event.reason in STALE_BY_SESSION:
                    is_due = event.feed in self._unseen and event.feed == came_up
                    self._check(is_due, "a gap without a lost session", event)
                    self._unseen.discard(event.feed or "")
                named = [t for t in self._states if self._feed_of(t) == event.feed]
                self._doubtful.update(named if event.token is None else [event.token])
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
            feed = self._feed_of(event.token)
            self._check(feed == self._went_down, "STALE away from its feed_down", event)
            self._must_turn_stale.discard(event.token)
        self._states[event.token] = (event.state, event.reason)
        self._doubtful.discard(event.token)

    def _book_updated(self, event: BookUpdated) -> None:
        state, _ = self._states.get(event.token, (TrustState.EMPTY, None))
        self._check(state is TrustState.LIVE, f"an update of a {state} book", event)
        self._check(event.token not in self._doubtful, "an update after a gap", event)
        epoch = self._epochs.get(self._feed_of(event.token) or "")
        self._check(event.epoch == epoch, f"the live epoch is {epoch}", event)
        if event.settled and event.best_bid is not None and event.best_ask is not None:
            self._check(event.best_bid < event.best_ask, "settled and crossed", event)

    def _feed_down(self, event: FeedDown) -> None:
        self.down_reasons[event.reason] += 1
        up = self._epochs.pop(event.feed, None)
        if up is not None:
            self._unseen.add(event.feed)
        is_new = event.epoch > self._epoch_max
        self._check(event.epoch == up or (up is None and is_new), f"{up} was live", event)
        self._check(event.epoch not in self._ended, "an epoch ends twice", event)
        self._ended = {event.epoch, *(epoch for epoch in self._ended if epoch > event.epoch - 99)}
        self._epoch_max = max(self._epoch_max, event.epoch)
        self._went_down = event.feed
        if self.is_stopping:
            return
        self._must_turn_stale = {
            token
            for token, (state, reason) in self._states.items()
            if self._feed_of(token) == event.feed
            and state is not TrustState.EMPTY
            # No second STALE for the same reason; and a shard that just crashed is not there
            # to say another: its books are STALE already.
            and reason not in (*STALE_BY_SESSION, StaleReason.ACTOR_RESTARTED)
        }

    def _check(self, holds: bool, law: str, event: Event) -> None:
        if not holds and len(self.broken) < 20:
            self.broken.append(f"{law}: {event}")
