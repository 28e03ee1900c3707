"""The embedded exchange: an emulator of Polymarket's channels and REST, with faults.

It needs no network, is seeded and deterministic, and follows the wire rather than our client,
so any client of Polymarket can be tested against it.
"""

from polyactors.venue.account_records import OrderStatus, OrderType
from polyactors.venue.accounts import AccountCredentials, VenueAccount
from polyactors.venue.exchange import Venue
from polyactors.venue.faults import (
    FaultKind,
    FaultRecord,
    GarbageVariant,
    NoTarget,
    RestErrorVariant,
    Strike,
)
from polyactors.venue.listing import Listing
from polyactors.venue.scheduling import FaultSchedule, ScheduledFault
from polyactors.venue.server import Endpoints, ListenFailed, serve_venue
from polyactors.venue.settlement import Outcome, Settlement, TradeStatus

__all__ = [
    "AccountCredentials",
    "Endpoints",
    "FaultKind",
    "FaultRecord",
    "FaultSchedule",
    "GarbageVariant",
    "ListenFailed",
    "Listing",
    "NoTarget",
    "OrderStatus",
    "OrderType",
    "Outcome",
    "RestErrorVariant",
    "ScheduledFault",
    "Settlement",
    "Strike",
    "TradeStatus",
    "Venue",
    "VenueAccount",
    "serve_venue",
]
