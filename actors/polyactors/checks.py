"""Hashing books: fresh ones at once, all others in turn, within a share of a core.

The hash is the only check that sees every level. It costs some hundred microseconds, so a
changed book waits for its turn, the longest unchecked first, and is hashed when its group is
closed: the hash speaks of that moment. Where no known last trade price fits, the search for
another goes on in slices, while the book moves on.
"""

from collections import deque

from polyactors.book.budget import Budget
from polyactors.book.trust import TrustState
from polyactors.book.verify import CANDIDATES_PER_SLICE, HashCheck, Verdict
from polyactors.feed import Feed
from polyactors.logger import log
from polyactors.token_book import TokenBook


class HashChecks:
    """Which books of one feed are hashed when, and what came of it."""

    def __init__(self, feed: Feed, *, every_group: bool = False) -> None:
        """`every_group`: at each end, whatever it costs; for replays."""
        self._feed = feed
        self._env = feed.env
        self._statistics = feed.env.statistics
        self._every_group = every_group
        self._budget = Budget(feed.hash_share())
        self.waiting: dict[str, TokenBook] = {}
        """Books that changed since they were hashed, by token, the longest waiting first."""
        self._searches: deque[tuple[TokenBook, int, HashCheck]] = deque()
        """Checks that no known last trade price has ended, with the book's generation."""

    def learn_price(self, market: str, price: str | None) -> None:
        """The market's last trade price was stated, as text; None is no news."""
        if price is not None and market:
            self._env.last_trade_prices.learn(market, price)

    def fresh(self, state: TokenBook, levels_json: str = "") -> Verdict:
        """Judge the whole book that was just adopted, before it is called LIVE.

        What was received is hashed as it stands (`levels_json`), a tenth of the cost of writing
        out the levels of the book, which its turn will come to. Where that does not fit, as when
        a server writes numbers in another way, the book decides.
        """
        verdict = self._check_received(state, levels_json) or self._check(state, is_whole=True)
        assert verdict is not None
        self._statistics.snapshots += 1
        self._statistics.snapshots_hash_ok += verdict is Verdict.RIGHT
        if verdict is Verdict.WRONG:
            was_doubtful = self._env.formula.is_doubtful
            if state.last_cause == "rest":
                self._env.formula.note_wrong(state.market)
            if self._env.formula.is_doubtful and not self._every_group:
                if not was_doubtful:
                    log.error(
                        "REST's books of many markets do not hash to what REST says: the exchange "
                        "seems to have changed the formula, and hashes prove nothing for now"
                    )
                verdict = Verdict.UNVERIFIABLE
        self._statistics.snapshots_hash_unverifiable += verdict is Verdict.UNVERIFIABLE
        return verdict

    def closed(self, state: TokenBook, now: float) -> Verdict | None:
        """A group has ended. The verdict, when it was the book's turn and it took no search."""
        if not state.hash_is_due and not self._every_group:
            self.waiting.setdefault(state.token, state)
            return None
        state.hash_is_due = False
        verdict = self._check(state, is_whole=self._every_group)
        return None if verdict is None else self._count(state, verdict, now)

    def unsolicited(self, state: TokenBook) -> None:
        """A `book` came that equals ours: its own hash waits for its turn."""
        self._statistics.snapshots += 1
        self.waiting.setdefault(state.token, state)

    def hurry(self, state: TokenBook) -> None:
        """Doubts have come up: this book is the next."""
        self.waiting.pop(state.token, None)
        self.waiting = {state.token: state, **self.waiting}

    def next_due(self, now: float) -> float:
        """When `on_time` has something to do; inf when nothing waits."""
        if not self.waiting and not self._searches:
            return float("inf")
        return self._budget.opens_at(now)

    def on_time(self, now: float) -> list[TokenBook]:
        """Go on as far as the budget goes. Returns the books that are proven wrong."""
        self._budget.share = self._feed.hash_share()
        wrong: list[TokenBook] = []
        while (self._searches or self.waiting) and self._budget.is_open(now):
            verdict = None
            if self._searches:
                state, generation, check = self._searches[0]
                if not self._is_believed(state) or state.generation != generation:
                    self._searches.popleft()
                    continue
                verdict = self._go_on(state, check)
            else:
                state = self.waiting.pop(next(iter(self.waiting)))
                if not self._is_believed(state):
                    continue
                if state.settled:
                    verdict = self._check(state, is_whole=False)
                else:
                    state.hash_is_due = True
            if verdict is not None and self._count(state, verdict, now) is Verdict.WRONG:
                wrong.append(state)
        return wrong

    def _is_believed(self, state: TokenBook) -> bool:
        return self._feed.trust[state.token].state is TrustState.LIVE

    def _check_received(self, state: TokenBook, levels_json: str) -> Verdict | None:
        """RIGHT if a known last trade price makes it so; None else."""
        if not levels_json or self._every_group:
            return None
        began = self._env.cpu_seconds()
        known = self._env.last_trade_prices.known(state.market)
        check = state.begin_check(known, levels_json)
        is_right = check.run_known() is Verdict.RIGHT
        self._spend(began)
        if not is_right:
            return None
        self._statistics.hash_checks += 1
        self.waiting.setdefault(state.token, state)
        self._learn(state, check)
        return Verdict.RIGHT

    def _check(self, state: TokenBook, *, is_whole: bool) -> Verdict | None:
        """Compare now; None when it takes a search, which has begun then."""
        began = self._env.cpu_seconds()
        check = state.begin_check(self._env.last_trade_prices.known(state.market))
        verdict = check.run() if is_whole else check.run_known()
        self._spend(began)
        self._statistics.hash_checks += 1
        self.waiting.pop(state.token, None)
        if verdict is None:
            self._searches.append((state, state.generation, check))
        elif verdict is Verdict.RIGHT:
            self._learn(state, check)
        return verdict

    def _go_on(self, state: TokenBook, check: HashCheck) -> Verdict | None:
        began = self._env.cpu_seconds()
        verdict = check.run(CANDIDATES_PER_SLICE)
        self._spend(began)
        if verdict is not None:
            self._searches.popleft()
            if verdict is Verdict.RIGHT:
                self._learn(state, check)
        return verdict

    def _spend(self, began: float) -> None:
        cost_seconds = self._env.cpu_seconds() - began
        self._budget.spend(cost_seconds)
        self._statistics.hash_cpu_seconds += cost_seconds

    def _learn(self, state: TokenBook, check: HashCheck) -> None:
        """A hash that fits proves what went into it."""
        self.learn_price(state.market, check.last_trade_price)
        if state.inputs.tick_size == check.stated_tick_size:  # else it has changed meanwhile
            state.inputs.prove(check.tick_size)
        self._env.formula.note_right()

    def _count(self, state: TokenBook, verdict: Verdict, now: float) -> Verdict:
        if verdict is Verdict.WRONG and self._env.formula.is_doubtful and not self._every_group:
            verdict = Verdict.UNVERIFIABLE
        if verdict is Verdict.RIGHT:
            state.right_since_seconds = now
            self._statistics.groups_hash_ok += 1
        elif verdict is Verdict.UNVERIFIABLE:
            self._statistics.groups_hash_unverifiable += 1
        return verdict
