"""Hashing books: fresh ones at once, all others in turn, within a share of a core.

The hash is the only check that sees every level. It costs some hundred microseconds, so a
changed book waits for its turn, the longest unchecked first, and is taken as it is when its
group is closed: the hash speaks of that moment. It is hashed a little later, one book at a time,
so that no update has to wait for it. Where no known last trade price fits, the search for another
goes on in slices. The book moves on meanwhile.
"""

from collections import deque

from attrs import frozen

from polyactors.book.budget import Budget
from polyactors.book.trust import TrustState
from polyactors.book.verify import CANDIDATES_PER_SLICE, HashCheck, Verdict
from polyactors.feed import Feed
from polyactors.logger import log
from polyactors.token_book import TokenBook

ASIDE_SECONDS = 0.001
"""How long a book that was taken waits for its hash: its update is with the readers by then."""
DUE_MAX = 4
"""Books whose turn has come in the middle of a group. Each is a copy of its levels at the end of
it, which may be soon for all of them."""


@frozen
class _Begun:
    state: TokenBook
    generation: int
    """The book's, when it was taken."""
    check: HashCheck
    taken_seconds: float


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
        self._due: dict[str, TokenBook] = {}
        """Books whose turn has come: they are taken at the end of the open group."""
        self._begun: deque[_Begun] = deque()
        """Books that were taken and not judged yet, the oldest first."""

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
        self._due.pop(state.token, None)
        verdict = self._check_received(state, levels_json) or self._check_whole(state)
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
        """A group has ended. The verdict, where every group has one."""
        if self._every_group:
            return self._count(state, self._check_whole(state), now)
        if self._due and self._due.pop(state.token, None) is not None:
            self._take(state, now)
        else:
            self.waiting.setdefault(state.token, state)
        return None

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
        if self._begun:
            return max(self._budget.opens_at(now), self._begun[0].taken_seconds + ASIDE_SECONDS)
        if self.waiting and len(self._due) < DUE_MAX:
            return self._budget.opens_at(now)
        return float("inf")

    def on_time(self, now: float) -> TokenBook | None:
        """Hash one book, or go on with a search, if the budget allows it. Returns the book if it
        is proven wrong."""
        self._budget.share = self._feed.hash_share()
        while self._budget.is_open(now):
            if not self._begun and not self._take_next(now):
                break
            begun = self._begun[0]
            state = begun.state
            if not self._is_believed(state) or state.generation != begun.generation:
                self._begun.popleft()
                continue
            verdict = self._go_on(begun)
            if verdict is None:
                break
            is_wrong = self._count(state, verdict, begun.taken_seconds) is Verdict.WRONG
            return state if is_wrong else None
        return None

    def _take_next(self, now: float) -> bool:
        """Take the book whose turn it is and that is settled; of others, the end of the open group
        is waited for. Whether there was one."""
        while self.waiting and len(self._due) < DUE_MAX:
            state = self.waiting.pop(next(iter(self.waiting)))
            if self._is_believed(state):
                if state.settled:
                    self._take(state, now)
                    return True
                if state.group.is_open:
                    self._due[state.token] = state
                # Else a splice holds changes back: its next group brings it here again.
        return False

    def _take(self, state: TokenBook, now: float) -> None:
        self.waiting.pop(state.token, None)
        check = state.begin_check(self._env.last_trade_prices.known(state.market))
        self._begun.append(_Begun(state, state.generation, check, now))
        self._statistics.hash_checks += 1

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

    def _check_whole(self, state: TokenBook) -> Verdict:
        """Compare now, whatever it costs."""
        began = self._env.cpu_seconds()
        check = state.begin_check(self._env.last_trade_prices.known(state.market))
        verdict = check.run()
        assert verdict is not None
        self._spend(began)
        self._statistics.hash_checks += 1
        self.waiting.pop(state.token, None)
        if verdict is Verdict.RIGHT:
            self._learn(state, check)
        return verdict

    def _go_on(self, begun: _Begun) -> Verdict | None:
        began = self._env.cpu_seconds()
        check = begun.check
        verdict = check.run(CANDIDATES_PER_SLICE)
        self._spend(began)
        if verdict is not None:
            self._begun.popleft()
            if verdict is Verdict.RIGHT:
                self._learn(begun.state, check)
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
