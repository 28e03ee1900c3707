"""The embedded exchange: an emulator of Polymarket's market channel and REST, with faults.

It needs no network, is seeded and deterministic, and follows the wire rather than our client,
so any client of Polymarket can be tested against it.
"""

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

__all__ = [
    "Endpoints",
    "FaultKind",
    "FaultRecord",
    "FaultSchedule",
    "GarbageVariant",
    "ListenFailed",
    "Listing",
    "NoTarget",
    "RestErrorVariant",
    "ScheduledFault",
    "Strike",
    "Venue",
    "serve_venue",
]
