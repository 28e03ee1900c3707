"""Orders and trades as the channel tells of them, for tests of the account."""

from typing import Any

from polyactors.account.trades import Owner
from polyactors.book.numbers import UNITS_PER_ONE, Side
from polyactors.protocol.user_events import (
    MakerFill,
    OrderEvent,
    OrderKind,
    OrderStatus,
    TradeEvent,
    TraderSide,
    TradeStatus,
)

API_KEY = "3e2c94ca-8124-c4c1-c7ea-be1ea21b71fe"
ADDRESS = "0xa3D82Ed56F4c68d2328Fb8c29e568Ba2cAF7d7c8"
US = Owner(API_KEY, ADDRESS)
HALF = UNITS_PER_ONE // 2


def shares(number: int) -> int:
    return number * UNITS_PER_ONE


def order(matched: int = 0, kind: OrderKind = OrderKind.UPDATE, **others: Any) -> OrderEvent:
    given: dict[str, Any] = {
        "id": "order",
        "market": "0xm",
        "token": "1",
        "side": Side.BID,
        "price": HALF,
        "original_size": shares(10),
        "status": OrderStatus.LIVE,
        "created_at_s": 1000,
        "owner": API_KEY,
    }
    return OrderEvent(kind=kind, size_matched=shares(matched), **{**given, **others})


def maker(size: int = 4, **others: Any) -> MakerFill:
    given: dict[str, Any] = {
        "order_id": "order",
        "token": "1",
        "side": Side.BID,
        "price": HALF,
        "owner": API_KEY,
    }
    return MakerFill(matched_size=shares(size), **{**given, **others})


def trade(
    status: TradeStatus = TradeStatus.MATCHED, *makers: MakerFill, **others: Any
) -> TradeEvent:
    """A stranger sells to us, who are the maker, unless `others` says otherwise."""
    fills = makers or (maker(),)
    given: dict[str, Any] = {
        "id": "trade",
        "taker_order_id": "taker",
        "market": "0xm",
        "token": "1",
        "side": Side.ASK,
        "size": sum(fill.matched_size for fill in fills),
        "price": HALF,
        "trader_side": TraderSide.MAKER,
        "match_time_s": 2000,
        "last_update_s": 2000,
        "owner": "stranger",
    }
    return TradeEvent(status=status, maker_fills=fills, **{**given, **others})
