"""One order of ours: what is known of it, and how an event adds to that.

An order's facts only grow with its events: what was matched, and whether the rest was cancelled.
So events may come late, twice or in any order, and the outcome is the same.

How much was matched is said twice on the wire: by the order's own `size_matched`, and by the
trades that it took part in. Either may be ahead of the other, or lost, and neither can be too
high: the greater of the two is known to be matched. A trade that fails later stays matched: the
engine does not put the order back into the book (the position is given back, see `account`), as
long as the lists of open orders do not insist that it did.
"""

from enum import Enum

from attrs import evolve, frozen

from polyactors.book.numbers import Side
from polyactors.protocol.user_events import OrderEvent, OrderKind, OrderStatus


class OrderState(Enum):
    """What became of an order."""

    OPEN = "OPEN"
    """Some of it may still be matched."""
    FILLED = "FILLED"
    """All of it was matched."""
    CANCELLED = "CANCELLED"
    """The rest is gone: cancelled by whomever, expired, killed. What was matched stays."""


@frozen
class Order:
    """An order of ours, as far as it is known. Prices and sizes are in units."""

    id: str
    market: str
    token: str
    side: Side
    price: int
    original_size: int
    size_matched: int = 0
    """Filled so far; falls only where a list insists that what FAILED is no part of it."""
    told_size: int = 0
    """Filled so far as the order's own events say; its trades may be ahead of them."""
    outcome: str = ""
    order_type: str = ""
    created_at_s: int = 0
    expiration_s: int = 0
    is_cancelled: bool = False
    """The exchange said so: it never comes back."""
    is_missing: bool = False
    """The list of open orders lacked it: it is gone, unless a later list has it, or the channel
    says something new of it."""
    told_at_ms: int = 0
    """Of the latest event of the channel, by the exchange's clock; 0 when there was none."""

    @property
    def state(self) -> OrderState:
        """Filled when all is matched, whatever else was said; else cancelled, or open."""
        if 0 < self.original_size <= self.size_matched:
            return OrderState.FILLED
        if self.is_cancelled or self.is_missing:
            return OrderState.CANCELLED
        return OrderState.OPEN

    @property
    def open_size(self) -> int:
        """What may still be matched, in units; 0 unless the order is open, and while its size is
        not known (a size of 0 is one that was not given)."""
        if self.state is not OrderState.OPEN:
            return 0
        return max(0, self.original_size - self.size_matched)

    def says_the_same(self, other: "Order") -> bool:
        """Whether nothing that a consumer acts upon is different."""
        return self.size_matched == other.size_matched and self.state is other.state


def order_of(event: OrderEvent, traded_size: int = 0) -> Order:
    """The order that a first event speaks of; `traded_size` is what its trades say already."""
    return Order(
        id=event.id,
        market=event.market,
        token=event.token,
        side=event.side,
        price=event.price,
        original_size=event.original_size,
        size_matched=max(event.size_matched, traded_size),
        told_size=event.size_matched,
        outcome=event.outcome,
        order_type=event.order_type,
        created_at_s=event.created_at_s,
        expiration_s=event.expiration_s,
        is_cancelled=_cancels(event),
        told_at_ms=event.timestamp_ms,
    )


def contradiction(order: Order, event: OrderEvent) -> str:
    """Why an event cannot speak of this order; "" when it can.

    What an order is never changes. A size of 0 is one that was not given.
    """
    if order.market != event.market:
        return "an order changed its market"
    if order.token != event.token:
        return "an order changed its token"
    if order.side is not event.side:
        return "an order changed its side"
    if order.original_size and event.original_size not in (0, order.original_size):
        return "an order changed its original size"
    return ""


def falls_short(order: Order, row: OrderEvent) -> str:
    """What a row of the list of open orders says less than is known of its order; "" if nothing."""
    if _cancels(row) or contradiction(order, row):
        return ""
    if order.is_cancelled:
        return "a list has an order as open that was cancelled"
    if row.size_matched < order.size_matched:
        return "a list says that less of an order is matched"
    return ""


def merged(order: Order, event: OrderEvent, *, is_listed: bool) -> Order:
    """The order with what an event adds. `is_listed`: it is a row of the list of open orders."""
    is_cancelled = order.is_cancelled or _cancels(event)
    # A repeat, or what comes late, is no sign of life.
    is_news = event.timestamp_ms > order.told_at_ms or event.size_matched > order.size_matched
    return evolve(
        order,
        price=order.price or event.price,
        original_size=order.original_size or event.original_size,
        size_matched=max(order.size_matched, event.size_matched),
        told_size=max(order.told_size, event.size_matched),
        outcome=order.outcome or event.outcome,
        order_type=order.order_type or event.order_type,
        created_at_s=order.created_at_s or event.created_at_s,
        expiration_s=order.expiration_s or event.expiration_s,
        is_cancelled=is_cancelled,
        is_missing=order.is_missing and not is_listed and not is_news,
        told_at_ms=max(order.told_at_ms, event.timestamp_ms),
    )


def _cancels(event: OrderEvent) -> bool:
    return event.kind is OrderKind.CANCELLATION or event.status is OrderStatus.CANCELED
