"""The one place where the wire's words become ours: a table, and the converter made of it.

`WIRE_NAMES` says for each of our messages which name each field has on the wire today and how
its value is read. From it follow the structure hooks of the one cattrs converter, and what
counts as an unknown field. Forms of earlier eras, and fields that may be missing, are first
rewritten to today's form (`MODERNISE`), so that only one form is ever structured.

Facts are from recorded frames; where the exchange's documents differ, they say when
(docs.polymarket.com, market channel and its migration guide of September 2025).
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override
from msgspec import Struct

from polyactors.protocol import _readers as read
from polyactors.protocol._json import Wire, WireError, is_array, is_object
from polyactors.protocol.events import (
    BestBidAsk,
    BookSnapshot,
    LastTradePrice,
    LevelChange,
    MarketEvent,
    MarketResolved,
    NewMarket,
    PriceChange,
    TickSizeChange,
)
from polyactors.protocol.listings import MarketListing

Reader = Callable[[Any, Any], Any]

CHANGES_MAX = 10_000
"""Entries of one price_change; real ones have one or two."""

EVENT_TYPES: Mapping[str, type[MarketEvent]] = {
    "book": BookSnapshot,
    "price_change": PriceChange,
    "last_trade_price": LastTradePrice,
    "tick_size_change": TickSizeChange,
    "best_bid_ask": BestBidAsk,
    "new_market": NewMarket,
    "market_resolved": MarketResolved,
}
"""The wire's `event_type` and our message."""


def _read_changes(entries: list[Any], _: object) -> tuple[LevelChange, ...]:
    # cattrs' own hook for tuples does the same at twice the cost.
    structure = converter.get_structure_hook(LevelChange)
    try:
        return tuple([structure(entry, LevelChange) for entry in entries])
    except TypeError:
        other = next(entry for entry in entries if not is_object(entry))
        raise WireError(f"expected a change, got {read.show(other)}") from None


WIRE_NAMES: Mapping[type, Mapping[str, tuple[str, Reader]]] = {
    BookSnapshot: {
        "token": ("asset_id", read.read_token),
        "market": ("market", read.read_market),
        "bids": ("bids", read.read_bids),
        "asks": ("asks", read.read_asks),
        "hash": ("hash", read.read_hash),
        "timestamp_ms": ("timestamp", read.read_timestamp_ms),
        "tick_size": ("tick_size", read.read_optional_tick_text),
        "last_trade_price": ("last_trade_price", read.read_optional_number_text),
        "min_order_size": ("min_order_size", read.read_optional_decimal_text),
        "neg_risk": ("neg_risk", read.read_optional_flag),
    },
    LevelChange: {
        "token": ("asset_id", read.read_token),
        "side": ("side", read.read_side),
        "price": ("price", read.read_level_price),
        "size": ("size", read.read_size),
        "hash": ("hash", read.read_hash),
        "best_bid": ("best_bid", read.read_optional_best_bid),
        "best_ask": ("best_ask", read.read_optional_best_ask),
    },
    PriceChange: {
        "market": ("market", read.read_market),
        "timestamp_ms": ("timestamp", read.read_timestamp_ms),
        "changes": ("price_changes", _read_changes),
    },
    LastTradePrice: {
        "token": ("asset_id", read.read_token),
        "market": ("market", read.read_market),
        "price": ("price", read.read_trade_price),
        "size": ("size", read.read_size),
        "side": ("side", read.read_side),
        "timestamp_ms": ("timestamp", read.read_timestamp_ms),
        "price_text": ("price", read.read_number_text),
        "transaction_hash": ("transaction_hash", read.read_optional_text),
    },
    TickSizeChange: {
        "token": ("asset_id", read.read_token),
        "market": ("market", read.read_market),
        "old": ("old_tick_size", read.read_optional_tick),
        "new": ("new_tick_size", read.read_tick),
        "timestamp_ms": ("timestamp", read.read_timestamp_ms),
    },
    BestBidAsk: {
        "token": ("asset_id", read.read_token),
        "market": ("market", read.read_market),
        "best_bid": ("best_bid", read.read_best_bid),
        "best_ask": ("best_ask", read.read_best_ask),
        "timestamp_ms": ("timestamp", read.read_timestamp_ms),
    },
    NewMarket: {
        "market": ("market", read.read_market),
        "slug": ("slug", read.read_text),
        "question": ("question", read.read_text),
        "tokens": ("assets_ids", read.read_tokens),
        "outcomes": ("outcomes", read.read_texts),
        "timestamp_ms": ("timestamp", read.read_timestamp_ms),
    },
    MarketResolved: {
        "market": ("market", read.read_market),
        "tokens": ("assets_ids", read.read_tokens),
        "winning_token": ("winning_asset_id", read.read_optional_token),
        "winning_outcome": ("winning_outcome", read.read_optional_text),
        "timestamp_ms": ("timestamp", read.read_timestamp_ms),
    },
    MarketListing: {
        "condition_id": ("conditionId", read.read_market),
        "slug": ("slug", read.read_text),
        "question": ("question", read.read_text),
        "tokens": ("clobTokenIds", read.read_tokens),
        "outcomes": ("outcomes", read.read_texts),
        "tick_size": ("orderPriceMinTickSize", read.read_optional_tick_text),
        "min_order_size": ("orderMinSize", read.read_optional_decimal_text),
        "neg_risk": ("negRisk", read.read_optional_flag),
        "accepting_orders": ("acceptingOrders", read.read_flag),
        "active": ("active", read.read_flag),
        "closed": ("closed", read.read_flag),
        "volume_24h_usdc": ("volume24hr", read.read_amount),
    },
}
"""Our message: our field: its name on the wire today, and how its value is read."""

_READ_PAST: Mapping[str, str] = {
    # Names of earlier eras, which MODERNISE reads, and names that say nothing we need.
    "book": "event_type buys sells",
    "price_change": "event_type asset_id changes price size side hash best_bid best_ask",
    "last_trade_price": "event_type fee_rate_bps",
    "tick_size_change": "event_type side",
    "best_bid_ask": "event_type spread",
    "new_market": "event_type id description event_message tags condition_id active"
    " clob_token_ids sports_market_type line game_start_time order_price_min_tick_size"
    " group_item_title taker_base_fee fees_enabled fee_schedule",
    "market_resolved": "event_type id question slug description outcomes event_message tags"
    " condition_id clob_token_ids",
}


def _names_of(message: type) -> frozenset[str]:
    return frozenset(name for name, _ in WIRE_NAMES[message].values())


KNOWN_NAMES: Mapping[str, frozenset[str]] = {
    event_type: _names_of(message) | frozenset(_READ_PAST[event_type].split())
    for event_type, message in EVENT_TYPES.items()
}
"""By event type: the names that an event of it may have in any era."""

_LEVEL_NAMES = frozenset(("price", "size"))
_CHANGE_NAMES = _names_of(LevelChange)
KNOWN_NAMES_INSIDE: Mapping[str, tuple[tuple[str, frozenset[str]], ...]] = {
    **dict.fromkeys(EVENT_TYPES, ()),
    "book": tuple((name, _LEVEL_NAMES) for name in ("bids", "asks", "buys", "sells")),
    "price_change": tuple((name, _CHANGE_NAMES) for name in ("price_changes", "changes")),
}
"""By event type: lists of objects in it, and the names that those may have."""


# Earlier eras


def _modern_book(wire: Wire) -> Wire:
    """`buys` and `sells` (documents of 2024) are `bids` and `asks`."""
    if "bids" in wire and "asks" in wire:
        return wire
    return {**_renamed(wire, "buys", "bids"), **_renamed(wire, "sells", "asks"), **wire}


def _renamed(wire: Wire, old: str, new: str) -> Wire:
    return {new: wire[old]} if old in wire else {}


def _modern_price_change(wire: Wire) -> Wire:
    """Both older forms become the list `price_changes` (since 15 September 2025).

    Before, one message spoke of one token: with its entries as `changes` and one hash for all
    of them (2024-12 to 2025-09), or with a single entry in the message itself (mid-2024).
    When forms are mixed in one message, the newest counts.
    """
    if "price_changes" in wire:
        entries = wire["price_changes"]
    elif "changes" in wire:
        common = {name: wire[name] for name in ("asset_id", "hash") if name in wire}
        entries = wire["changes"]
        if is_array(entries):
            entries = [{**common, **entry} if is_object(entry) else entry for entry in entries]
    elif "price" in wire:
        entries = [{name: value for name, value in wire.items() if name in _CHANGE_NAMES}]
    else:
        raise WireError("has neither price_changes nor changes nor price")
    if not is_array(entries):
        raise WireError(f"expected an array of changes, got {read.show(entries)}")
    if len(entries) > CHANGES_MAX:
        raise WireError(f"{len(entries)} changes, at most {CHANGES_MAX} are read")
    return wire if entries is wire.get("price_changes") else {**wire, "price_changes": entries}


def _modern_tick_size_change(wire: Wire) -> Wire:
    return {"old_tick_size": None, **wire}


def _modern_market_event(wire: Wire) -> Wire:
    """Gamma's names next to the channel's (new_market has both); all but the id may lack."""
    return {
        **_renamed(wire, "condition_id", "market"),
        "assets_ids": wire.get("clob_token_ids"),
        "slug": None,
        "question": None,
        "outcomes": None,
        **wire,
    }


def _modern_listing(wire: Wire) -> Wire:
    return {"slug": None, "question": None, "outcomes": None, **wire}


def _as_it_is(wire: Wire) -> Wire:
    return wire


MODERNISE: Mapping[type, Callable[[Wire], Wire]] = {
    BookSnapshot: _modern_book,
    PriceChange: _modern_price_change,
    LastTradePrice: _as_it_is,
    TickSizeChange: _modern_tick_size_change,
    BestBidAsk: _as_it_is,
    NewMarket: _modern_market_event,
    MarketResolved: _modern_market_event,
    MarketListing: _modern_listing,
}
"""Our message: how an object of any era becomes one of today. Raises WireError."""


# The converter


def make_converter(wire_names: Mapping[type, Mapping[str, tuple[str, Reader]]]) -> Converter:
    """A converter that structures each message of such a table from an object of today's form.

    It raises ValueError for a value that cannot be meant, KeyError for a missing name.
    """
    made = Converter(detailed_validation=False)
    for message, fields in wire_names.items():
        if issubclass(message, Struct):
            made.register_structure_hook(message, _struct_hook(message, fields))
            continue
        overrides: dict[str, Any] = {
            ours: override(rename=name, struct_hook=reader)
            for ours, (name, reader) in fields.items()
        }
        hook = make_dict_structure_fn(cast("type[Any]", message), made, **overrides)
        made.register_structure_hook(message, hook)
    return made


def _struct_hook(
    message: type[Struct], fields: Mapping[str, tuple[str, Reader]]
) -> Callable[[Wire, object], Struct]:
    """What `make_dict_structure_fn` does for attrs classes: what has a default may be missing."""
    required = frozenset(field.name for field in msgspec.structs.fields(message) if field.required)

    def structure(wire: Wire, _: object) -> Struct:
        return message(
            **{
                ours: reader(wire[name], None)
                for ours, (name, reader) in fields.items()
                if ours in required or name in wire
            }
        )

    return structure


converter = make_converter(WIRE_NAMES)
"""Structures today's form of each message, given as an object."""
