"""Whose book is held against REST's next, and when: the audit's plan, without a clock or socket.

All books take turns, the longest unasked first, at a pace that spreads a round evenly over its
period. Those that REST was never asked for have theirs at once: it alone knows their minimum
order size. Books of which there is a suspicion go first, but of any two requests one at least is
for those whose turn it is, so that nothing can push them out.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import ceil, inf
from typing import NamedTuple

from polyactors.rest import BOOKS_PER_REQUEST_MAX

REQUEST_INTERVAL_SECONDS = 0.1
"""Between two requests of the audit at least: a fifth of what Polymarket allows for /books."""
BATCH_BOOKS = 20
"""Books of one request while that suffices: reading them takes some 3 ms."""
AGAIN_SECONDS = 1.0
"""Suspicions gather for so long, so that one request serves them all."""
NEW_SECONDS = 1.0
"""How often it is looked whether a book that REST was never asked for is LIVE by now."""
PLANNED_SHARE = 0.8
"""Of the period: a round is planned to take so much, the rest is for what comes between."""
OVERDUE_SHARE = 0.9
"""Of the period: a book that was not asked for so long has its turn whatever was planned."""
BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 5.0
"""The longest rest after failed requests. Short: what was LIVE meanwhile is overdue."""
PARTS_MAX = 64
"""Parts of failed requests that wait to be asked for apart; of more the oldest are let go."""
LOOKED_AT_MAX = 2000
"""Books of which it is asked at one time whether they are LIVE."""


class Key(NamedTuple):
    """One book."""

    feed: str
    token: str


class AuditRound:
    """Whose turn it is. All times in seconds on the caller's clock.

    Every book that is LIVE has its turn within any `period_seconds`, as long as requests are
    answered quickly and `is_too_large` does not hold; with more books a round takes longer.
    """

    def __init__(self, period_seconds: float) -> None:
        self.period_seconds = period_seconds
        self._planned_seconds = period_seconds * PLANNED_SHARE
        self._overdue_seconds = period_seconds * OVERDUE_SHARE
        self._turns: dict[Key, float] = {}
        """When each book had its turn last, the longest ago first."""
        self._new: dict[Key, None] = {}
        """Books that had no turn yet, in no particular order."""
        self._again: dict[Key, None] = {}
        self._request_seconds = -inf
        """When the last request ended."""
        self._cost_seconds = REQUEST_INTERVAL_SECONDS
        """The last request's duration, and no less than the least interval."""
        self._round_seconds = -inf
        self._again_seconds = -inf
        self._new_seconds = -inf
        self._was_turn = True
        """Whether the last request was for books whose turn it was, at least in part."""
        self._failures = 0
        self._parts: deque[list[Key]] = deque(maxlen=PARTS_MAX)
        """Halves of requests that failed: REST may fail over one of their books."""
        self._was_part = False
        """Whether the last request was for one of these."""

    def __len__(self) -> int:
        return len(self._turns) + len(self._new)

    @property
    def is_too_large(self) -> bool:
        """Whether a round of all books takes longer than the period, however it is planned."""
        return len(self) * REQUEST_INTERVAL_SECONDS > BOOKS_PER_REQUEST_MAX * self._planned_seconds

    def join(self, keys: Iterable[Key]) -> None:
        """Further books take part. Idempotent."""
        self._new.update(dict.fromkeys(key for key in keys if key not in self._turns))

    def leave(self, keys: Iterable[Key]) -> None:
        """These books take part no more. Idempotent."""
        for key in keys:
            self._turns.pop(key, None)
            self._new.pop(key, None)
            self._again.pop(key, None)

    def again(self, key: Key) -> None:
        """There is a suspicion: the book goes before the others. One that is unknown is ignored."""
        if self._is_there(key):
            self._again[key] = None

    # --- requests -------------------------------------------------------------------------

    def next_due(self) -> float:
        """When to call `take` next; inf when there is nothing to do."""
        due = -inf if self._parts else self._others_due()
        return max(due, self._allowed_at())

    def take(
        self,
        now: float,
        is_live: Callable[[Key], bool],
        is_loading: Callable[[str], bool] = lambda feed: False,
    ) -> list[Key]:
        """The books to ask for now, at most BOOKS_PER_REQUEST_MAX, and only LIVE ones; none when
        none is due. A suspicion about a book that is not LIVE is forgotten. Those that had no turn
        yet wait while their feed `is_loading`."""
        if now < self._allowed_at():
            return []
        batch: dict[Key, None] = {}
        if self._parts and not (self._was_part and now >= self._others_due()):
            self._was_part = True
            batch.update((key, None) for key in self._parts.popleft() if self._is_there(key))
            return [key for key in batch if is_live(key)]
        is_new_due, is_round_due = now >= self._new_due(), now >= self._round_due()
        is_turn = is_new_due or is_round_due
        if now >= self._again_due() and (self._was_turn or not is_turn):
            self._take_again(now, is_live, batch)
        room = self._batch_books() - len(batch)
        self._was_turn = is_turn and room > 0
        self._was_part = False
        if self._was_turn and is_new_due:
            may_go = self._loaded(is_live, is_loading)
            self._take_new(now, may_go, batch, ceil(room / 2) if is_round_due else room)
        if self._was_turn and is_round_due:
            self._take_round(now, is_live, batch)
        for key in batch:
            self._turns.pop(key, None)
            self._new.pop(key, None)
            self._again.pop(key, None)
            self._turns[key] = now
        return list(batch)

    def answered(self, began: float, now: float) -> None:
        """A request, begun at `began`, has brought an answer."""
        self._end_request(began, now)
        self._failures = 0

    def failed(self, began: float, now: float, keys: Sequence[Key] = ()) -> None:
        """The request for `keys` has failed: rest a while, the longer the more have failed in a
        row. Its halves are asked for apart, as every other request at most: should REST fail over
        one book, its neighbours are audited all the same, and it alone waits for its next turn."""
        self._end_request(began, now)
        self._failures += 1
        if len(keys) > 1:
            half = len(keys) // 2
            self._parts.extend([list(keys[:half]), list(keys[half:])])

    # --- helpers --------------------------------------------------------------------------

    def _others_due(self) -> float:
        return min(self._again_due(), self._new_due(), self._round_due())

    def _is_there(self, key: Key) -> bool:
        return key in self._turns or key in self._new

    def _end_request(self, began: float, now: float) -> None:
        self._request_seconds = now
        self._cost_seconds = max(REQUEST_INTERVAL_SECONDS, now - began)

    def _allowed_at(self) -> float:
        rest_seconds = REQUEST_INTERVAL_SECONDS
        if self._failures:
            doubled = BACKOFF_SECONDS_MIN * 2.0 ** min(self._failures - 1, 10)
            rest_seconds = min(doubled, BACKOFF_SECONDS_MAX)
        return self._request_seconds + rest_seconds

    def _batch_books(self) -> int:
        """So many that every second request suffices for the round."""
        needed = ceil(len(self) * 2 * self._cost_seconds / self._planned_seconds)
        return max(BATCH_BOOKS, min(needed, BOOKS_PER_REQUEST_MAX))

    def _requests_of_round(self) -> int:
        return max(1, ceil(len(self._turns) / self._batch_books()))

    def _again_due(self) -> float:
        return self._again_seconds + AGAIN_SECONDS if self._again else inf

    def _new_due(self) -> float:
        return self._new_seconds + NEW_SECONDS if self._new else inf

    def _round_due(self) -> float:
        if not self._turns:
            return inf
        pace = self._planned_seconds / self._requests_of_round()
        oldest = next(iter(self._turns.values()))
        return min(self._round_seconds + pace, oldest + self._overdue_seconds)

    def _take_again(
        self, now: float, is_live: Callable[[Key], bool], batch: dict[Key, None]
    ) -> None:
        for key in list(islice(self._again, self._batch_books())):
            del self._again[key]
            if is_live(key):
                batch[key] = None
        # What found no room is not made to wait as if it had to gather.
        self._again_seconds = -inf if self._again else now

    def _loaded(
        self, is_live: Callable[[Key], bool], is_loading: Callable[[str], bool]
    ) -> Callable[[Key], bool]:
        loading = {feed for feed in {key.feed for key in self._new} if is_loading(feed)}
        return lambda key: key.feed not in loading and is_live(key)

    def _take_new(
        self, now: float, is_live: Callable[[Key], bool], batch: dict[Key, None], count: int
    ) -> None:
        self._new_seconds = now
        for key in list(islice(self._new, LOOKED_AT_MAX)):
            if count == 0:
                self._new_seconds = -inf  # there may be more
                return
            del self._new[key]
            self._new[key] = None
            if is_live(key) and key not in batch:
                batch[key] = None
                count -= 1
                self._round_seconds = now  # what was asked just now need not be asked next

    def _take_round(
        self, now: float, is_live: Callable[[Key], bool], batch: dict[Key, None]
    ) -> None:
        self._round_seconds = now
        evenly = ceil(len(self._turns) / self._requests_of_round())
        for number, (key, turn) in enumerate(list(islice(self._turns.items(), LOOKED_AT_MAX))):
            is_overdue = turn + self._overdue_seconds <= now
            if not is_overdue and (number >= evenly or len(batch) >= evenly):
                return
            if len(batch) >= BOOKS_PER_REQUEST_MAX:
                return
            # One that is not LIVE has had its turn as well: should it be LIVE from now on, the
            # next is early enough.
            del self._turns[key]
            self._turns[key] = now
            if is_live(key):
                batch[key] = None
