"""What faults do to REST's answers: late ones, refused ones, and books of another time."""

from collections.abc import Callable, Iterable, Mapping

import trio

from polyactors.venue.accounts import AccountLists, Accounts, VenueAccount
from polyactors.venue.engine import BookState
from polyactors.venue.fault_life import Fault
from polyactors.venue.faults import RestErrorVariant
from polyactors.venue.wire import Part


class RestFaults:
    """The one error and the one stale state that REST can have at a time.

    `book_state` gives the present book of a token, `tokens` all that have one.
    """

    def __init__(
        self,
        book_state: Callable[[str], BookState | None],
        tokens: Callable[[], Iterable[str]],
        accounts: Accounts,
    ) -> None:
        self._book_state = book_state
        self._tokens = tokens
        self._accounts = accounts
        self._error: Fault | None = None
        self._variant = RestErrorVariant.UNAVAILABLE
        self._error_changed = trio.Event()
        self._staleness: Fault | None = None
        self._stale_books: Mapping[str, BookState] = {}
        self._stale_lists: Mapping[str, AccountLists] = {}

    def fail(self, fault: Fault, variant: RestErrorVariant) -> None:
        """Let requests fail until the fault is over; an earlier such fault ends."""
        if self._error is not None:
            self._error.end(trio.current_time())
        self._error, self._variant = fault, variant
        self._error_changed.set()
        self._error_changed = trio.Event()

    def freeze(self, fault: Fault) -> None:
        """Let the books and lists of now be the answer until it is over; an earlier one ends."""
        if self._staleness is not None:
            self._staleness.end(trio.current_time())
        self._staleness = fault
        states = ((token, self._book_state(token)) for token in self._tokens())
        self._stale_books = {token: state for token, state in states if state is not None}
        self._stale_lists = {account.api_key: account.lists() for account in self._accounts}

    def answer(self, token: str) -> BookState | None:
        """The book that a request for a token gets; None for none."""
        state = self._book_state(token)
        staleness = self._present_staleness()
        if staleness is None:
            return state
        stale = self._stale_books.get(token)
        if stale is not state:
            part = Part(token, "", stale.hash if stale else "")
            staleness.strike(trio.current_time(), None, [part])
        return stale

    def answer_lists(self, account: VenueAccount) -> AccountLists:
        """The orders and trades that a request of an account gets."""
        lists = account.lists()
        staleness = self._present_staleness()
        if staleness is None:
            return lists
        stale = self._stale_lists.get(account.api_key, AccountLists())
        if stale != lists:
            staleness.strike(trio.current_time())
        return stale

    async def admit(self) -> bool:
        """Whether a request is answered, once that is decided; False for 503.

        A silent fault holds it until the fault is over. *Cancellation*: at once.
        """
        while self._error is not None:
            now = trio.current_time()
            if self._error.is_over(now):
                self._error = None
            else:
                self._error.strike(now)
                if self._variant is RestErrorVariant.UNAVAILABLE:
                    return False
                with trio.move_on_at(self._error.until):
                    await self._error_changed.wait()
        return True

    def _present_staleness(self) -> Fault | None:
        if self._staleness is not None and self._staleness.is_over(trio.current_time()):
            self._staleness, self._stale_books, self._stale_lists = None, {}, {}
        return self._staleness
