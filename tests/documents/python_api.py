"""The reference of polyactors for programs: `polyactors`, `.testing` and `.venue`."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import get_args

from tests.documents.api import entry
from tests.supervisor.reference_page import names_of

import polyactors
from polyactors import Event, testing, venue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "python.md"
HEAD = """\
# Python

Every public name of `polyactors`, `polyactors.testing` and `polyactors.venue`, from the docstrings
of the code (`python -m tests.documents` writes this page). How it is used: [use it from
Python](../how-to/use-from-python.md). The supervisors underneath are a package of their own:
[polysupervisor](polysupervisor.md). The errors: [errors](errors.md).

All of it is for one Trio thread, that of `trio.run`. Prices are USDC per share within (0, 1) and
sizes shares, both exact `Decimal`s. Names say the unit last: `_ns` are nanoseconds of our wall
clock since the epoch, `_ms` milliseconds and `_s` seconds of the exchange's, `_seconds` an
interval.
"""
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "The service": ("open_service", "Service", "Settings", "Network"),
    "Books": (
        "BookReading", "OrderBook", "Level", "Side", "Trust", "TrustState", "StaleReason",
    ),
    "Actors of your own": (
        "ActorContext", "ActorPolicy", "actor", "ActorSpec", "actor_spec", "ActorStatus",
    ),
    "Events": (
        "Event", *(kind.__name__ for kind in get_args(Event)), "AccountEvent", "RawFrame",
    ),
    "The account": ("Credentials", "AccountReading", "AccountState", "AccountReason"),
}  # fmt: skip
REACHED: Mapping[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "The service": (
        (
            "polyactors.stream",
            "Subscription",
            ("coalesced", "lost", "held", "close", "receive_batch"),
        ),
        ("polyactors.service", "FeedStatus", ()),
        ("polyactors.service", "TokenStatus", ()),
        ("polyactors.protocol.listings", "MarketListing", ()),
    ),
    "The account": (
        (
            "polyactors.user.line",
            "UserLine",
            ("trust", "read", "believed", "summary", "subscribe", "unsubscribe"),
        ),
        ("polyactors.user.reading", "OrderReading", ()),
        ("polyactors.user.reading", "TradeReading", ()),
        ("polyactors.user.reading", "FillReading", ()),
        ("polyactors.user.state", "AccountTrust", ()),
    ),
}
"""What is handed out and not imported: module, name, and which members are for programs."""
ERRORS = {
    name
    for name in polyactors.__all__
    if isinstance(thing := getattr(polyactors, name), type) and issubclass(thing, Exception)
}
"""They have a page of their own."""


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for title, names in SECTIONS.items():
        parts += [f"## {title}\n", *(entry(_home(name), name) for name in names)]
        reached = REACHED.get(title, ())
        parts += [entry(module, name, only=only) for module, name, only in reached]
    parts += [_section("polyactors.testing", testing.__doc__)]
    for module in ("polyactors.testing.stage", "polyactors.testing.books"):
        made = names_of(import_module(module))
        parts += [entry(module, name) for name in made if name in testing.__all__]
    parts += [_section("polyactors.venue", venue.__doc__)]
    parts += [entry(getattr(venue, name).__module__, name) for name in venue.__all__]
    parts += [entry("polyactors.venue.memory", "memory_network")]
    return "\n".join(parts)


def _home(name: str) -> str:
    homes: Mapping[str, str] = polyactors._HOME_OF  # pyright: ignore[reportPrivateUsage]
    return homes[name]


def _section(title: str, text: str | None) -> str:
    # What follows the first paragraphs is an example, which stands in the tutorial and the README.
    return f"## {title}\n\n{(text or '').partition('    >>>')[0].strip()}\n"
