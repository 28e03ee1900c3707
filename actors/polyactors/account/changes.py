"""What changed in an account: one frozen record per fact, and each fact once.

`reconciled` says that it was not seen on the channel but recovered from the REST lists.
"""

from attrs import frozen

from polyactors.account.orders import Order
from polyactors.account.trades import Fill, Trade
from polyactors.protocol.user_events import UserEvent


@frozen
class OrderChanged:
    """More of an order was matched, or it appeared, or its state changed."""

    old: Order | None
    """None when it was not known."""
    new: Order
    reconciled: bool = False

    @property
    def filled_size(self) -> int:
        """What was matched since the last change, in units."""
        return self.new.size_matched - (self.old.size_matched if self.old is not None else 0)


@frozen
class TradeChanged:
    """A trade appeared, its status went on, or another order of ours turned up in it."""

    old: Trade | None
    """None when it was not known."""
    new: Trade
    reconciled: bool = False


@frozen
class PositionChanged:
    """A fill came into the position of its token, or was taken out since its trade FAILED.

    The first happens at most once for each fill, and then the second at most once.
    """

    token: str
    old: int
    new: int
    """In units. Below 0 when more was sold than the known trades had bought."""
    fill: Fill
    reconciled: bool = False


Change = OrderChanged | TradeChanged | PositionChanged


@frozen
class Impossible:
    """An event that cannot be true of what is known. It was not applied."""

    why: str
    event: UserEvent
    """Without its owners' API keys and wallets."""
    is_listed: bool = False
    """Whether a list of REST said it, not the channel."""
