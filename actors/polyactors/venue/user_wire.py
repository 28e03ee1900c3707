"""What the user channel says, and REST's rows of orders and trades: the wire's own keys.

Written from recorded messages of 2024-09 to 2026-05 and PROTOCOL.md section 3, without any code
that our client reads them with: a mistake there must not be able to hide here.

At the top of a trade stands the taker's side, also when the receiver is one of the makers
(recorded 2024-09 and 2025-01). A maker's price and token are its own: a buyer of No at 0.4
trades with a buyer of Yes at 0.6.
"""

from attrs import frozen

from polyactors.book.numbers import Side, to_text
from polyactors.venue.account_records import AccountOrder, OrderStatus
from polyactors.venue.account_trades import Party, VenueTrade
from polyactors.venue.listing import OUTCOMES
from polyactors.venue.settlement import TradeStatus
from polyactors.venue.wire import Part, WireEvent, to_json

PLACEMENT, UPDATE, CANCELLATION = "PLACEMENT", "UPDATE", "CANCELLATION"
"""The `type` of an order event."""
TAKER, MAKER = "TAKER", "MAKER"
"""The `trader_side` of a trade event."""
MARKET_CLOSED = "INVALID"
"""The status of an order that the exchange itself cancels (recorded 2026-03)."""
LABELS = (
    *(f"order {kind}" for kind in (PLACEMENT, UPDATE, CANCELLATION)),
    *(f"trade {status}" for status in TradeStatus),
)
"""What faults know the messages by."""

_SIDE_WORDS = {Side.BID: "BUY", Side.ASK: "SELL"}


@frozen
class AccountEvent:
    """One message of the channel, with the market by which a session chooses it."""

    market: str
    """Condition id."""
    message: WireEvent


def order_event(
    order: AccountOrder, kind: str, timestamp_ms: int, *, status: str = ""
) -> AccountEvent:
    """An order as it is now; `status` for what the record does not have."""
    fields: dict[str, object] = {
        **_order(order),
        "created_at": _seconds(order.created_at_ms),
        "status": status or order.status.value,
        "order_owner": order.owner,
        "timestamp": str(timestamp_ms),
        "type": kind,
        "event_type": "order",
    }
    return _event(order.market, order.token, "order", kind, fields)


def killed_event(order: AccountOrder, timestamp_ms: int) -> AccountEvent:
    """A FOK or FAK order that found nothing: all that is ever said of it.

    It has empty texts where nothing was ever stored (recorded 2026-05).
    """
    fields: dict[str, object] = {
        **_order(order),
        "size_matched": "",
        "associate_trades": [],
        "outcome": "",
        "created_at": "",
        "status": f"{OrderStatus.CANCELED}_{order.reason}",
        "order_owner": order.owner,
        "timestamp": str(timestamp_ms),
        "type": CANCELLATION,
        "event_type": "order",
    }
    return _event(order.market, order.token, "order", CANCELLATION, fields)


def trade_event(
    trade: VenueTrade, trader_side: str, timestamp_ms: int, *, has_prefix: bool
) -> AccountEvent:
    """A trade as it is now, as one side of it hears of it."""
    fields: dict[str, object] = {
        **_trade(trade, trader_side, has_prefix=has_prefix),
        "trade_owner": trade.taker.owner,
        "timestamp": str(timestamp_ms),
        "type": "TRADE",
        "event_type": "trade",
    }
    return _event(trade.market, trade.taker.token, "trade", trade.status.value, fields)


def order_row(order: AccountOrder, *, has_prefix: bool) -> dict[str, object]:
    """A row of GET /data/orders; `created_at` is a number there."""
    prefix = "ORDER_STATUS_" if has_prefix else ""
    return {
        **_order(order),
        "created_at": order.created_at_ms // 1000,
        "status": f"{prefix}{order.status}",
    }


def trade_row(trade: VenueTrade, trader_side: str, *, has_prefix: bool) -> dict[str, object]:
    """A row of GET /data/trades."""
    return _trade(trade, trader_side, has_prefix=has_prefix)


def _event(
    market: str, token: str, kind: str, word: str, fields: dict[str, object]
) -> AccountEvent:
    part = Part(token, to_json(fields))
    return AccountEvent(market, WireEvent(kind, (part,), label=f"{kind} {word}"))


def _order(order: AccountOrder) -> dict[str, object]:
    return {
        "asset_id": order.token,
        "associate_trades": list(order.trade_ids) or None,
        "expiration": str(order.expiration_s),
        "id": order.id,
        "maker_address": order.maker_address,
        "market": order.market,
        "order_type": order.type.value,
        "original_size": to_text(order.size),
        "outcome": OUTCOMES[order.outcome],
        "owner": order.owner,
        "price": to_text(order.price),
        "side": _SIDE_WORDS[order.side],
        "size_matched": to_text(order.size_matched),
    }


def _trade(trade: VenueTrade, trader_side: str, *, has_prefix: bool) -> dict[str, object]:
    taker = trade.taker
    prefix = "TRADE_STATUS_" if has_prefix else ""
    return {
        "asset_id": taker.token,
        "bucket_index": trade.bucket_index,
        "fee_rate_bps": "0",
        "id": trade.id,
        "last_update": _seconds(trade.updated_at_ms),
        "maker_address": taker.maker_address,
        "maker_orders": [_maker(maker) for maker in trade.makers],
        "market": trade.market,
        "match_time": _seconds(trade.matched_at_ms),
        "outcome": OUTCOMES[taker.outcome],
        "owner": taker.owner,
        "price": to_text(taker.price),
        "side": _SIDE_WORDS[taker.side],
        "size": to_text(taker.size),
        "status": f"{prefix}{trade.status}",
        "taker_order_id": taker.order_id,
        "trader_side": trader_side,
        "transaction_hash": trade.transaction_hash,
    }


def _maker(maker: Party) -> dict[str, object]:
    return {
        "asset_id": maker.token,
        "fee_rate_bps": "0",
        "maker_address": maker.maker_address,
        "matched_amount": to_text(maker.size),
        "order_id": maker.order_id,
        "outcome": OUTCOMES[maker.outcome],
        "outcome_index": maker.outcome,
        "owner": maker.owner,
        "price": to_text(maker.price),
        "side": _SIDE_WORDS[maker.side],
    }


def _seconds(timestamp_ms: int) -> str:
    return str(timestamp_ms // 1000)
