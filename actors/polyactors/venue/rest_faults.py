"""What faults do to REST's answers: late ones, refused ones, and books of another time."""

from collections.abc import Callable, Iterable, Mapping

import trio

from polyactors.venue.engine import BookState
from polyactors.venue.fault_life import Fault
from polyactors.venue.faults import RestErrorVariant
from polyactors.venue.wire import Part


class RestFaults:
    """The one error and the one stale state that REST can have at a time.

    `book_state` gives the present book of a token, `tokens` all that have one.
    """

    def __init__(
        self, book_state: Callable[[str], BookState | None], tokens: Callable[[], Iterable[str]]
    ) -> None:
        self._book_state = book_state
        self._tokens = tokens
        self._error: Fault | None = None
        self._variant = RestErrorVariant.UNAVAILABLE
        self._error_changed = trio.Event()
        self._staleness: Fault | None = None
        self._stale_books: Mapping[str, BookState] = {}

    def fail(self, fault: Fault, variant: RestErrorVariant) -> None:
        """Let requests fail until the fault is over; an earlier such fault ends."""
        if self._error is not None:
            self._error.end(trio.current_time())
        self._error, self._variant = fault, variant
        self._error_changed.set()
        self._error_changed = trio.Event()

    def freeze(self, fault: Fault) -> None:
        """Let the books of now be the answer until the fault is over; an earlier one ends."""
        if self._staleness is not None:
            self._staleness.end(trio.current_time())
        self._staleness = fault
        states = ((token, self._book_state(token)) for token in self._tokens())
        self._stale_books = {token: state for token, state in states if state is not None}

    def answer(self, token: str) -> BookState | None:
        """The book that a request for a token gets; None for none."""
        state = self._book_state(token)
        if self._staleness is None:
            return state
        now = trio.current_time()
        if self._staleness.is_over(now):
            self._staleness, self._stale_books = None, {}
            return state
        stale = self._stale_books.get(token)
        if stale is not state:
            self._staleness.strike(now, None, [Part(token, "", stale.hash if stale else "")])
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
