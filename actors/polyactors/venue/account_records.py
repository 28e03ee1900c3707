"""What the exchange knows of an account's order, and ids that follow from what they name. Pure.

Prices and sizes are integers in the units of `polyactors.book.numbers`.
"""

import hashlib
import uuid
from enum import StrEnum

from attrs import define, field

from polyactors.book.numbers import Side
from polyactors.venue.settlement import Outcome

FOK_KILLED = "order couldn't be fully filled. FOK orders are fully filled or killed."
"""Recorded (2026-05): why a FOK order is cancelled at once."""
FAK_KILLED = (
    "no orders found to match with FAK order. "
    "FAK orders are partially filled or killed if no match is found."
)
"""Why a FAK order is cancelled at once: what the official clients show for it."""


class OrderType(StrEnum):
    """How long an order lives."""

    GTC = "GTC"
    """Until it is filled or cancelled."""
    GTD = "GTD"
    """The same, and at most to its expiration."""
    FOK = "FOK"
    """Now, all of it or nothing."""
    FAK = "FAK"
    """Now, what there is; the rest is cancelled."""


class OrderStatus(StrEnum):
    """Where an order is in its life. The wire's words; it has others, which are not emulated."""

    LIVE = "LIVE"
    MATCHED = "MATCHED"
    """All of it."""
    CANCELED = "CANCELED"


@define(eq=False)
class AccountOrder:
    """An order of an account."""

    id: str
    """0x and 64 hex digits."""
    owner: str
    """API key."""
    maker_address: str
    market: str
    """Condition id."""
    token: str
    outcome: int
    """YES or NO: position of the token."""
    side: Side
    price: int
    size: int
    type: OrderType
    created_at_ms: int
    expiration_s: int
    """0 for none."""
    settles: Outcome | None
    """How its trades are settled; None for chance."""
    size_matched: int = 0
    """Failed trades included: a match is not taken back from its order."""
    status: OrderStatus = OrderStatus.LIVE
    reason: str = ""
    """Why it was killed at once, "" when it was not."""
    trade_ids: list[str] = field(factory=list[str])
    engine_id: int | None = None
    """While it rests."""

    @property
    def is_open(self) -> bool:
        """Whether it can be matched."""
        return self.status is OrderStatus.LIVE


def digest(*parts: object) -> bytes:
    """32 bytes that depend on nothing but these."""
    return hashlib.sha256(":".join(map(str, parts)).encode()).digest()


def hex_id(*parts: object) -> str:
    """An order's id, or a transaction's."""
    return f"0x{digest(*parts).hex()}"


def uuid_of(*parts: object) -> str:
    """A trade's id, or an API key."""
    return str(uuid.UUID(bytes=digest(*parts)[:16], version=4))


def address_of(*parts: object) -> str:
    """A wallet's."""
    return f"0x{digest(*parts)[:20].hex()}"
