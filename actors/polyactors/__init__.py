"""polyactors: correct, live Polymarket order books from a supervised stream, on Trio.

    async with polyactors.open_service(tokens=[...]) as service:
        async for event in service.events():
            ...
        book = service.book(token)      # raises BookNotLive when it must not be trusted

Names are imported when they are first used, so that `polyactors.book` stays free of Trio.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyactors.account.credentials import Credentials
    from polyactors.book.numbers import Side
    from polyactors.book.orderbook import Level, OrderBook
    from polyactors.book.reading import BookReading
    from polyactors.book.trust import StaleReason, Trust, TrustState
    from polyactors.config import Settings
    from polyactors.errors import (
        AccountNotLive,
        BookNotLive,
        PolyactorsError,
        UnknownToken,
        UsageError,
    )
    from polyactors.events import (
        AccountEvent,
        AccountStateChanged,
        ActorEvent,
        ActorGaveUp,
        ActorRestarted,
        BookUpdated,
        Event,
        FaultInjected,
        FaultRecovered,
        FeedDown,
        FeedUp,
        Gap,
        OrderChanged,
        PositionChanged,
        RawFrame,
        TickSizeChanged,
        TradeChanged,
        TradePrinted,
        TrustChanged,
    )
    from polyactors.extensions.extension import ActorStatus
    from polyactors.extensions.hands import ActorContext
    from polyactors.extensions.policy import ActorPolicy, actor
    from polyactors.extensions.spec import ActorSpec, actor_spec
    from polyactors.opening import open_service
    from polyactors.service import Service
    from polyactors.transport import Network
    from polyactors.user.reading import AccountReading
    from polyactors.user.state import AccountReason, AccountState

__version__ = "0.1.0"

_HOMES = {
    "polyactors.account.credentials": ("Credentials",),
    "polyactors.book.numbers": ("Side",),
    "polyactors.book.orderbook": ("Level", "OrderBook"),
    "polyactors.book.reading": ("BookReading",),
    "polyactors.book.trust": ("StaleReason", "Trust", "TrustState"),
    "polyactors.config": ("Settings",),
    "polyactors.errors": (
        "AccountNotLive",
        "BookNotLive",
        "PolyactorsError",
        "UnknownToken",
        "UsageError",
    ),
    "polyactors.events": (
        "AccountEvent",
        "AccountStateChanged",
        "ActorEvent",
        "ActorGaveUp",
        "ActorRestarted",
        "BookUpdated",
        "Event",
        "FaultInjected",
        "FaultRecovered",
        "FeedDown",
        "FeedUp",
        "Gap",
        "OrderChanged",
        "PositionChanged",
        "RawFrame",
        "TickSizeChanged",
        "TradeChanged",
        "TradePrinted",
        "TrustChanged",
    ),
    "polyactors.extensions.extension": ("ActorStatus",),
    "polyactors.extensions.hands": ("ActorContext",),
    "polyactors.extensions.policy": ("ActorPolicy", "actor"),
    "polyactors.extensions.spec": ("ActorSpec", "actor_spec"),
    "polyactors.opening": ("open_service",),
    "polyactors.service": ("Service",),
    "polyactors.transport": ("Network",),
    "polyactors.user.reading": ("AccountReading",),
    "polyactors.user.state": ("AccountReason", "AccountState"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AccountEvent",
    "AccountNotLive",
    "AccountReading",
    "AccountReason",
    "AccountState",
    "AccountStateChanged",
    "ActorContext",
    "ActorEvent",
    "ActorGaveUp",
    "ActorPolicy",
    "ActorRestarted",
    "ActorSpec",
    "ActorStatus",
    "BookNotLive",
    "BookReading",
    "BookUpdated",
    "Credentials",
    "Event",
    "FaultInjected",
    "FaultRecovered",
    "FeedDown",
    "FeedUp",
    "Gap",
    "Level",
    "Network",
    "OrderBook",
    "OrderChanged",
    "PolyactorsError",
    "PositionChanged",
    "RawFrame",
    "Service",
    "Settings",
    "Side",
    "StaleReason",
    "TickSizeChanged",
    "TradeChanged",
    "TradePrinted",
    "Trust",
    "TrustChanged",
    "TrustState",
    "UnknownToken",
    "UsageError",
    "__version__",
    "actor",
    "actor_spec",
    "open_service",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'polyactors' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
