"""What a reader gets: the levels of one moment, labelled with how far they may be trusted."""

from typing import Self

from polyactors.book.orderbook import BookView, OrderBook
from polyactors.book.trust import StaleReason, Trust, TrustState


class BookReading(BookView):
    """A book as it was at one moment, with its trust. It never changes.

    `settled` is False while the token's hash group was open: more changes of the same engine
    step may follow, and the book may even look crossed. Promises speak of settled books.
    """

    __slots__ = ("_age_seconds", "_settled", "_trust")

    _age_seconds: float
    _settled: bool
    _trust: Trust

    @classmethod
    def take(cls, book: OrderBook, trust: Trust, *, settled: bool, now_seconds: float) -> Self:
        """Copy `book`; `now_seconds` is on the clock that `trust` was set by."""
        view = book.view()
        reading = cls._of(view.token, view.market, view._bids, view._asks)
        reading._trust = trust
        reading._settled = settled
        reading._age_seconds = now_seconds - trust.since_seconds
        return reading

    def labelled(self, trust: Trust, *, now_seconds: float) -> "BookReading":
        """The same levels with another trust, or at another moment."""
        reading = BookReading._of(self._token, self._market, self._bids, self._asks)
        reading._trust = trust
        reading._settled = self._settled
        reading._age_seconds = now_seconds - trust.since_seconds
        return reading

    @property
    def state(self) -> TrustState:
        """The trust state at the moment of reading."""
        return self._trust.state

    @property
    def reason(self) -> StaleReason | None:
        """Why the book is STALE; None in every other state."""
        return self._trust.reason

    @property
    def age_seconds(self) -> float:
        """How long the token had been in its state."""
        return self._age_seconds

    @property
    def settled(self) -> bool:
        """Whether no hash group was open."""
        return self._settled
