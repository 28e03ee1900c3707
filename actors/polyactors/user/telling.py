"""What changed in the account, as the stream tells it."""

from polyactors.account import changes
from polyactors.book.numbers import to_decimal
from polyactors.events import Event, OrderChanged, PositionChanged, TradeChanged
from polyactors.user.reading import FillReading, Readings


def event_of(
    change: changes.Change, readings: Readings, *, time_ns: int, epoch: int | None
) -> Event:
    """The event of one change, told now in this session."""
    if isinstance(change, changes.OrderChanged):
        return OrderChanged(
            time_ns=time_ns,
            epoch=epoch,
            order=readings.order(change.new),
            filled_size=to_decimal(change.filled_size),
            previous=None if change.old is None else change.old.state.value,
            reconciled=change.reconciled,
        )
    if isinstance(change, changes.TradeChanged):
        return TradeChanged(
            time_ns=time_ns,
            epoch=epoch,
            trade=readings.trade(change.new),
            previous=None if change.old is None else change.old.status.value,
            reconciled=change.reconciled,
        )
    return PositionChanged(
        time_ns=time_ns,
        epoch=epoch,
        token=change.token,
        old=to_decimal(change.old),
        new=to_decimal(change.new),
        fill=FillReading.take(change.fill),
        reconciled=change.reconciled,
    )
