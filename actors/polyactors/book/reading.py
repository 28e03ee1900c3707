"""What a reader gets: the levels of one moment, labelled with how far they may be trusted."""

from typing import Self

from polyactors.book.orderbook import BookView, Level, OrderBook
from polyactors.book.trust import StaleReason, Trust, TrustState


class BookReading(BookView):
    """A book as it was at one moment, with its trust. It never changes.

    `settled` is False while the token's hash group was open: more changes of the same engine
    step may follow. Promises speak of settled books. A book that looks crossed meanwhile has
    no best bid, best ask, spread and midpoint; its levels are as they are.
    """

    __slots__ = ("_age_seconds", "_is_half_told", "_settled", "_trust")

    _age_seconds: float
    _is_half_told: bool
    _settled: bool
    _trust: Trust

    @classmethod
    def take(cls, book: OrderBook, trust: Trust, *, settled: bool, now_seconds: float) -> Self:
        """Copy `book`; `now_seconds` is on the clock that `trust` was set by."""
        view = book.view()
        reading = cls._of(view.token, view.market, view.bid_side, view.ask_side)
        reading._trust = trust
        reading._settled = settled
        reading._is_half_told = not settled and view.is_crossed
        reading._age_seconds = now_seconds - trust.since_seconds
        return reading

    def labelled(self, trust: Trust, *, now_seconds: float) -> "BookReading":
        """The same levels with another trust, or at another moment."""
        reading = BookReading._of(self._token, self._market, self.bid_side, self.ask_side)
        reading._trust = trust
        reading._settled = self._settled
        reading._is_half_told = self._is_half_told
        reading._age_seconds = now_seconds - trust.since_seconds
        return reading

    @property
    def best_bid_units(self) -> int | None:
        """As of the book; None while an open group leaves it crossed: nobody's top of book."""
        return None if self._is_half_told else super().best_bid_units

    @property
    def best_ask_units(self) -> int | None:
        """As `best_bid_units`."""
        return None if self._is_half_told else super().best_ask_units

    @property
    def best_bid(self) -> Level | None:
        """As `best_bid_units`."""
        return None if self._is_half_told else super().best_bid

    @property
    def best_ask(self) -> Level | None:
        """As `best_bid_units`."""
        return None if self._is_half_told else super().best_ask

    @property
    def is_crossed(self) -> bool:
        """Whether the levels cross, which only an open group may leave them."""
        return self._is_half_told or super().is_crossed

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
