"""What the user channel says: the life of one's own orders, and of one's own trades.

Prices and sizes are integers in the units of `polyactors.book.numbers`. Times that the exchange
gives in seconds stay seconds (`_s`), its milliseconds stay milliseconds (`_ms`); 0 says that the
wire gave none. The REST lists of orders and trades are read into the same classes.

`owner` is an API key, `maker_address` a wallet: they are compared, and never shown (`repr=False`).
"""

from decimal import Decimal
from enum import Enum

from attrs import field, frozen

from polyactors.book.numbers import Side
from polyactors.protocol.events import ControlText, Unreadable


class OrderKind(Enum):
    """What happened to an order (the wire's `type`)."""

    PLACEMENT = "PLACEMENT"
    UPDATE = "UPDATE"
    """Some of it was matched. A row of a REST list is one, too."""
    CANCELLATION = "CANCELLATION"
    """Whatever was still open is gone: cancelled by us, expired, killed or refused."""


class OrderStatus(Enum):
    """The wire's `status` of an order; its sizes say more, and are what is believed."""

    LIVE = "LIVE"
    MATCHED = "MATCHED"
    DELAYED = "DELAYED"
    """Marketable, and waiting for the exchange's delay of matching."""
    UNMATCHED = "UNMATCHED"
    """Marketable, but neither delayed nor matched."""
    CANCELED = "CANCELED"
    """Also INVALID, and CANCELED with a reason behind it."""
    UNKNOWN = "UNKNOWN"
    """A word that we do not know: counted as an unknown field."""


class TradeStatus(Enum):
    """How far the settlement of a trade is (the wire's `status`, any prefix removed)."""

    MATCHED = "MATCHED"
    """By the engine; MATCHED_NOT_BROADCASTED, too."""
    MINED = "MINED"
    CONFIRMED = "CONFIRMED"
    """Final: it is settled."""
    RETRYING = "RETRYING"
    """Its transaction failed and is sent again."""
    FAILED = "FAILED"
    """Final: it is as if it had never been."""


class TraderSide(Enum):
    """Which side of a trade the receiver of the message was on."""

    TAKER = "TAKER"
    MAKER = "MAKER"


@frozen
class OrderEvent:
    """Wire event `order`, or a row of GET /data/orders."""

    kind: OrderKind
    id: str
    """The order's hash, 0x and 64 hex digits."""
    market: str
    """Condition id."""
    token: str
    side: Side
    price: int
    """The limit, in units."""
    original_size: int
    """In units."""
    size_matched: int = 0
    """In units: all that was matched so far; never falls."""
    status: OrderStatus = OrderStatus.LIVE
    order_type: str = ""
    """GTC, GTD, FOK or FAK."""
    outcome: str = ""
    created_at_s: int = 0
    expiration_s: int = 0
    """0 when it does not expire."""
    associate_trades: tuple[str, ...] = ()
    """Ids of trades that it took part in. Not to be relied upon: it is null on updates, too."""
    maker_address: str = field(default="", repr=False)
    """The wallet that the order spends from: of the account, or its proxy."""
    timestamp_ms: int = 0
    """When the exchange said so; 0 on REST."""
    owner: str = field(default="", repr=False)
    """The API key that it was placed with."""


@frozen
class MakerFill:
    """One entry of a trade's `maker_orders`: a resting order, and how much of it was matched."""

    order_id: str
    token: str
    """The maker's own token; may be the complement of the taker's."""
    side: Side
    """The maker's own side. Where the wire gives none (2024): the opposite of the taker's on
    the same token, the taker's on the complement (there both buy, or both sell)."""
    price: int
    """The maker's, in units."""
    matched_size: int
    """In units."""
    outcome: str = ""
    maker_address: str = field(default="", repr=False)
    fee_rate_bps: Decimal = Decimal(0)
    owner: str = field(default="", repr=False)
    """The maker's API key."""


@frozen
class TradeEvent:
    """Wire event `trade`, or a row of GET /data/trades.

    All but `trader_side` and `maker_fills` is the taker's, whoever receives it: also `owner`,
    `maker_address` and `outcome` (captures of 2024-09 and 2025-01, both sides).
    """

    id: str
    taker_order_id: str
    market: str
    token: str
    side: Side
    size: int
    """All that the taker got, in units: the sum over the makers."""
    price: int
    """The taker's average, in units, rounded by the exchange (captured: 0.09 USDC for 7 shares
    as 0.013). The makers' prices are exact."""
    status: TradeStatus
    trader_side: TraderSide | None = None
    """None when the wire does not say."""
    maker_fills: tuple[MakerFill, ...] = ()
    """Of all makers, not only ours."""
    outcome: str = ""
    match_time_s: int = 0
    """When the engine matched it: the same in every message about the trade."""
    last_update_s: int = 0
    """When the status was reached."""
    transaction_hash: str | None = None
    fee_rate_bps: Decimal = Decimal(0)
    maker_address: str = field(default="", repr=False)
    """The taker's wallet, in spite of its name."""
    timestamp_ms: int = 0
    """When the exchange said so; 0 on REST."""
    owner: str = field(default="", repr=False)
    """The taker's API key."""
    trade_owner: str = field(default="", repr=False)


UserEvent = OrderEvent | TradeEvent


@frozen
class UserDecoded:
    """All that one text frame of the user channel, or one page of a REST list, held, in order."""

    events: tuple[UserEvent, ...] = ()
    control: ControlText | None = None
    unreadable: tuple[Unreadable, ...] = ()
    unknown_events: tuple[str, ...] = ()
    """`event_type` of each element of a kind that we do not know."""
    unknown_fields: tuple[str, ...] = ()
    """`event_type.field` of each field that we do not know."""
