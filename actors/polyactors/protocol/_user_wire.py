"""Where the user channel's words become ours, as `_wire` is for the market channel.

The REST lists of orders and trades use the same names, without `event_type`, `type` and
`timestamp`, so they are structured here, too. Sources are recorded messages of 2024-09 to
2025-11 and the official TypeScript bindings. Sizes are read as decimal shares everywhere, which
is what was recorded from REST, too; the OpenAPI document calls them "fixed-math with 6 decimals"
there.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from polyactors.book.numbers import Side
from polyactors.protocol import _readers as read
from polyactors.protocol._elements import Names, NamesInside
from polyactors.protocol._json import (
    Wire,
    WireError,
    excerpt_of_text,
    is_array,
    is_object,
)
from polyactors.protocol._wire import Reader, make_converter
from polyactors.protocol.user_events import (
    MakerFill,
    OrderEvent,
    OrderKind,
    OrderStatus,
    TradeEvent,
    TraderSide,
    TradeStatus,
    UserEvent,
)

MAKERS_MAX = 10_000
"""Entries of one trade's maker_orders."""
STATUS_LENGTH_MAX = 200
"""Characters of a status; the longest recorded one is a sentence of 80."""

EVENT_TYPES: Mapping[str, type[UserEvent]] = {"order": OrderEvent, "trade": TradeEvent}
"""The wire's `event_type` and our message."""
TYPES: Mapping[str, str] = {
    **dict.fromkeys([kind.value for kind in OrderKind], "order"),
    "TRADE": "trade",
}
"""The wire's `type`, which says the event type where `event_type` is missing (2025-01)."""

_SECONDS_IN_MS = 1000


# Readers


def read_id(value: object, _: object = None) -> str:
    """The id of an order (a hash) or of a trade (a UUID): text, 1 to 100 characters."""
    if isinstance(value, str) and 0 < len(value) <= read.IDENTIFIER_LENGTH_MAX:
        return value
    raise WireError(f"not an id: {read.show(value)}")


def read_market(value: object, _: object = None) -> str:
    """A condition id, in lower case: it is compared with those that were subscribed to."""
    return read.read_market(value).lower()


def _word(value: object) -> str:
    if isinstance(value, str) and value and len(value) <= STATUS_LENGTH_MAX:
        return value.upper()
    raise WireError(f"expected a word, got {read.show(value)}")


def read_order_kind(value: object, _: object = None) -> OrderKind:
    """PLACEMENT, UPDATE or CANCELLATION."""
    try:
        return OrderKind(_word(value))
    except ValueError:
        raise WireError(f"not a kind of order event: {read.show(value)}") from None


def read_order_status(value: object, _: object = None) -> OrderStatus:
    """With or without the prefix ORDER_STATUS_ (REST); a new word is UNKNOWN.

    A word may have a reason behind it: "CANCELED_order couldn't be fully filled. …" (a killed
    FOK order), CANCELED_MARKET_RESOLVED. INVALID is what a venue's own cancellation says (2026).
    """
    if value is None or value == "":
        return OrderStatus.UNKNOWN
    word = _word(value).removeprefix("ORDER_STATUS_")
    if word.startswith("CANCEL") or word == "INVALID":
        return OrderStatus.CANCELED
    return OrderStatus.__members__.get(word, OrderStatus.UNKNOWN)


def read_trade_status(value: object, _: object = None) -> TradeStatus:
    """With or without the prefix TRADE_STATUS_ (REST); MATCHED_NOT_BROADCASTED is MATCHED.

    A new word is an error: what it means for a position cannot be guessed.
    """
    word = _word(value).removeprefix("TRADE_STATUS_").removesuffix("_NOT_BROADCASTED")
    try:
        return TradeStatus(word)
    except ValueError:
        raise WireError(f"not a status of a trade: {read.show(value)}") from None


def read_trader_side(value: object, _: object = None) -> TraderSide | None:
    """TAKER or MAKER; None when absent."""
    if value is None or value == "":
        return None
    try:
        return TraderSide(_word(value))
    except ValueError:
        raise WireError(f"not a side of a trader: {read.show(value)}") from None


def read_optional_size(value: object, _: object = None) -> int:
    """A size in units; 0 when absent or empty (a killed order's size_matched)."""
    return 0 if value is None or value == "" else read.read_size(value)


def read_seconds(value: object, _: object = None) -> int:
    """Seconds since the epoch, from seconds, milliseconds or ISO 8601; 0 when absent.

    ISO texts stand in hand-made examples only; without an offset they are UTC.
    """
    if isinstance(value, str) and "-" in value and len(value) <= read.IDENTIFIER_LENGTH_MAX:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise WireError(f"not a time: {read.show(value)}") from None
        return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))
    return read.read_timestamp_ms(value) // _SECONDS_IN_MS


def _read_makers(entries: object, _: object = None) -> tuple[MakerFill, ...]:
    if entries is None:
        return ()
    if not is_array(entries):
        raise WireError(f"expected an array of maker orders, got {read.show(entries)}")
    if len(entries) > MAKERS_MAX:
        raise WireError(f"{len(entries)} maker orders, at most {MAKERS_MAX} are read")
    for entry in entries:
        if not is_object(entry):
            raise WireError(f"expected a maker order, got {read.show(entry)}")
    return tuple([user_converter.structure(entry, MakerFill) for entry in entries])


WIRE_NAMES: Mapping[type, Mapping[str, tuple[str, Reader]]] = {
    OrderEvent: {
        "kind": ("type", read_order_kind),
        "id": ("id", read_id),
        "market": ("market", read_market),
        "token": ("asset_id", read.read_token),
        "side": ("side", read.read_side),
        "price": ("price", read.read_trade_price),
        "original_size": ("original_size", read.read_size),
        "size_matched": ("size_matched", read_optional_size),
        "status": ("status", read_order_status),
        "order_type": ("order_type", read.read_text),
        "outcome": ("outcome", read.read_text),
        "created_at_s": ("created_at", read_seconds),
        "expiration_s": ("expiration", read_seconds),
        "associate_trades": ("associate_trades", read.read_texts),
        "maker_address": ("maker_address", read.read_text),
        "timestamp_ms": ("timestamp", read.read_timestamp_ms),
        "owner": ("owner", read.read_text),
    },
    MakerFill: {
        "order_id": ("order_id", read_id),
        "token": ("asset_id", read.read_token),
        "side": ("side", read.read_side),
        "price": ("price", read.read_trade_price),
        "matched_size": ("matched_amount", read.read_size),
        "outcome": ("outcome", read.read_text),
        "maker_address": ("maker_address", read.read_text),
        "fee_rate_bps": ("fee_rate_bps", read.read_amount),
        "owner": ("owner", read.read_text),
    },
    TradeEvent: {
        "id": ("id", read_id),
        "taker_order_id": ("taker_order_id", read_id),
        "market": ("market", read_market),
        "token": ("asset_id", read.read_token),
        "side": ("side", read.read_side),
        "size": ("size", read.read_size),
        "price": ("price", read.read_average_price),
        "status": ("status", read_trade_status),
        "trader_side": ("trader_side", read_trader_side),
        "maker_fills": ("maker_orders", _read_makers),
        "outcome": ("outcome", read.read_text),
        "match_time_s": ("match_time", read_seconds),
        "last_update_s": ("last_update", read_seconds),
        "transaction_hash": ("transaction_hash", read.read_optional_text),
        "fee_rate_bps": ("fee_rate_bps", read.read_amount),
        "maker_address": ("maker_address", read.read_text),
        "timestamp_ms": ("timestamp", read.read_timestamp_ms),
        "owner": ("owner", read.read_text),
        "trade_owner": ("trade_owner", read.read_text),
    },
}
"""Our message: our field: its name on the wire today, and how its value is read."""

_ORDER_NAMES = frozenset(name for name, _ in WIRE_NAMES[OrderEvent].values())
_TRADE_NAMES = frozenset(name for name, _ in WIRE_NAMES[TradeEvent].values())
_MAKER_NAMES = frozenset(name for name, _ in WIRE_NAMES[MakerFill].values())
KNOWN_NAMES: Names = {
    "order": _ORDER_NAMES | {"event_type", "order_owner"},
    "trade": _TRADE_NAMES | {"event_type", "type", "bucket_index", "matchtime"},
}
KNOWN_NAMES_INSIDE: NamesInside = {
    "order": (),
    "trade": (("maker_orders", _MAKER_NAMES | {"outcome_index"}),),
}


# What may be missing, and earlier forms


_ORDER_DEFAULTS: Wire = dict.fromkeys(
    _ORDER_NAMES - {"id", "market", "asset_id", "side", "price", "original_size"}
) | {"type": OrderKind.UPDATE.value}
_MAKER_DEFAULTS: Wire = dict.fromkeys(("outcome", "maker_address", "fee_rate_bps", "owner"))
_TRADE_DEFAULTS: Wire = dict.fromkeys(
    _TRADE_NAMES - {"id", "taker_order_id", "market", "asset_id", "side", "size", "price", "status"}
)


def _modern_order(wire: Wire) -> Wire:
    return {**_ORDER_DEFAULTS, **wire}


def _modern_trade(wire: Wire) -> Wire:
    modern = {**_TRADE_DEFAULTS, **wire}
    if "match_time" not in wire:
        modern["match_time"] = wire.get("matchtime")  # until 2024
    makers = modern["maker_orders"]
    if is_array(makers):
        modern["maker_orders"] = [
            _modern_maker(maker, wire) if is_object(maker) else maker for maker in makers
        ]
    return modern


def _modern_maker(maker: Wire, trade: Wire) -> Wire:
    """Add the maker's side where the wire has none (2024-09).

    On the same token one buys what the other sells. On the complement both buy (a pair of
    shares is minted for them) or both sell (a pair is merged).
    """
    modern = {**_MAKER_DEFAULTS, **maker}
    if modern.get("side") in (None, ""):
        taker = read.read_side(trade.get("side"))
        is_same = read.read_token(maker.get("asset_id")) == read.read_token(trade.get("asset_id"))
        modern["side"] = "BUY" if (taker.opposite if is_same else taker) is Side.BID else "SELL"
    return modern


MODERNISE: Mapping[type, Callable[[Wire], Wire]] = {
    OrderEvent: _modern_order,
    TradeEvent: _modern_trade,
}
"""Our message: how an object of any era becomes one of today. Raises WireError."""

user_converter = make_converter(WIRE_NAMES)
"""Structures today's form of each message, given as an object."""


# What must not be shown


_SECRETS = re.compile(
    r'("(?:owner|order_owner|trade_owner|apiKey|secret|passphrase)"\s*[:,]\s*")[^"]*', re.ASCII
)


def excerpt_of_frame(frame: str | bytes) -> str:
    """As `excerpt_of_text`, without API keys, nor credentials that a server might echo."""
    text = frame if isinstance(frame, str) else frame.decode(errors="replace")
    return excerpt_of_text(_SECRETS.sub(r"\1…", text))


def excerpt_of_element(value: Any) -> str:
    """As `excerpt_of_value`, without API keys."""
    try:
        return excerpt_of_frame(msgspec.json.encode(value))
    except RecursionError:
        return "(nested too deeply to be shown)"
