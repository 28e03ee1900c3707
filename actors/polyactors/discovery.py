"""Discovery: which tokens stand behind `--market` and `--top`, from Gamma's listing.

`resolve` asks once; the discovery actor asks until it is answered, backed off by its
supervisor, and hands the tokens to the service. A slug that does not exist is the user's
mistake and is said at once.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeGuard, cast
from urllib.parse import urlsplit

import trio
from attrs import frozen

from polyactors.errors import RestFailed, UsageError
from polyactors.logger import Outage, log
from polyactors.protocol.events import Unreadable
from polyactors.protocol.rest import MarketListing
from polyactors.rest import MARKETS_PER_PAGE, RestClient
from polysupervisor import Context

TOP_MAX = 5000
PAGES_MAX = 100
SHOWN_CHARS_MAX = 100
"""A bad value is shown up to so many characters."""

_CONDITION_ID = re.compile(r"0x[0-9a-fA-F]{64}")
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN = re.compile(r"[0-9]{1,78}")


@frozen
class Wanted:
    """What the user asked to follow."""

    tokens: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    """Slugs or condition ids, as `parse_market` gives them."""
    top: int = 0
    """The most active markets by 24 h volume; 0 for none."""

    @property
    def needs_listing(self) -> bool:
        """Whether Gamma must be asked."""
        return bool(self.markets) or self.top > 0


def make_wanted(
    tokens: object, markets: object, top: object, *, may_be_nothing: bool = False
) -> Wanted:
    """What a program asked for; None is nothing. Raises UsageError, also when all is nothing and
    that may not be."""
    if top is not None and not (_is_whole(top) and 1 <= top <= TOP_MAX):
        raise UsageError(f"top must be a whole number from 1 to {TOP_MAX}, not {shown(top)}")
    wanted = Wanted(
        tuple(check_token(token) for token in listed("tokens", tokens)),
        tuple(parse_market(market) for market in listed("markets", markets)),
        0 if top is None else top,
    )
    if not (wanted.tokens or wanted.needs_listing or may_be_nothing):
        raise UsageError("there is nothing to follow: give tokens=[…], markets=[…] or top=N")
    return wanted


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def listed(name: str, values: object) -> list[object]:
    """What stands in a list or any other iterable; None is nothing. Raises UsageError.

    A single text is none: Python would take `tokens="123"` for 1, 2 and 3.
    """
    if values is None:
        return []
    if isinstance(values, str | bytes):
        raise UsageError(f"{name} must be a list, like {name}=[{shown(values)}]")
    if not isinstance(values, Iterable):
        raise UsageError(f"{name} must be a list of texts, not {shown(values)}")
    return list(cast("Iterable[object]", values))


def shown(value: object) -> str:
    """The `repr` of what the user gave, on one line and not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"


def check_token(token: object) -> str:
    """The token id. Raises UsageError when it cannot be one."""
    if not isinstance(token, str):
        raise UsageError(f"{shown(token)} is not a token id: expected its digits as a text")
    if not _TOKEN.fullmatch(token) or int(token) >= 2**256:
        raise UsageError(
            f"{shown(token)} is not a token id: expected up to 78 decimal digits "
            "(a market is followed by its slug, with --market or markets=[…])"
        )
    return token


def parse_market(text: object) -> str:
    """A slug, a condition id, or the slug in a polymarket.com URL. Raises UsageError."""
    if not isinstance(text, str):
        raise UsageError(f"{shown(text)} is not a market: expected its slug, URL or condition id")
    text = text.strip()
    if _CONDITION_ID.fullmatch(text):
        return text.lower()
    if "://" in text:
        try:
            parts = [part for part in urlsplit(text).path.split("/") if part]
        except ValueError:  # an address that is none
            parts = []
        if (len(parts) >= 2 and parts[-2] in ("event", "market")) or len(parts) >= 3:
            text = parts[-1]
        else:
            raise UsageError(f"{text!r} is not the URL of a market; expected …/event/SLUG")
    if not _SLUG.fullmatch(text):
        raise UsageError(f"{text!r} is not a market: expected its slug, URL or condition id")
    return text


async def resolve(wanted: Wanted, rest: RestClient) -> list[MarketListing]:
    """The markets that `wanted` names, each once, in its order.

    Raises UsageError for a market that does not exist or has no order book, RestFailed when
    Gamma did not answer.
    """
    found: dict[str, MarketListing] = {}
    for market in wanted.markets:
        listings = await _find(market, rest)
        if not listings:
            raise UsageError(
                f"no market with an order book is called {market!r}; "
                "check the slug in the market's URL"
            )
        found.update((listing.condition_id, listing) for listing in listings)
    if wanted.top:
        for listing in await _most_active(wanted.top, rest):
            found.setdefault(listing.condition_id, listing)
    return list(found.values())


async def _find(market: str, rest: RestClient) -> Sequence[MarketListing]:
    key = "condition_ids" if _CONDITION_ID.fullmatch(market) else "slug"
    page = await rest.fetch_markets({key: market, "limit": str(MARKETS_PER_PAGE)})
    matching = [
        listing for listing in page.markets if market in (listing.slug, listing.condition_id)
    ]
    if not matching and page.unreadable:
        raise RestFailed(f"the listing of {market!r} is unreadable: {page.unreadable[0].why}")
    if matching or key == "condition_ids":
        return matching
    # The slug of an event stands for all its open markets.
    return [listing for listing in await rest.fetch_event_markets(market) if not listing.closed]


async def _most_active(count: int, rest: RestClient) -> list[MarketListing]:
    listings: dict[str, MarketListing] = {}
    cursor = ""
    cursors: set[str] = set()
    unreadable: list[Unreadable] = []
    for _ in range(PAGES_MAX):
        params = {
            "closed": "false",
            "order": "volume24hr",
            "ascending": "false",
            "limit": str(min(MARKETS_PER_PAGE, count)),
        }
        if cursor:
            params["after_cursor"] = cursor
        page = await rest.fetch_markets(params)
        listings.update((one.condition_id, one) for one in page.markets if not one.closed)
        unreadable += page.unreadable
        cursor = page.next_cursor
        is_empty = not (page.markets or page.unreadable or page.without_book)
        if len(listings) >= count or not cursor or cursor in cursors or is_empty:
            break
        cursors.add(cursor)
    if unreadable:
        log.warning("unreadable market listings", listings=len(unreadable), why=unreadable[0].why)
    # Sources disagree on how `order` is spelled, so the answer's order is not relied on.
    by_volume = sorted(listings.values(), key=lambda one: one.volume_24h_usdc, reverse=True)
    return by_volume[:count]


async def run_discovery(
    ctx: Context[object],
    wanted: Wanted,
    rest: RestClient,
    follow: Callable[[Sequence[str]], Awaitable[None]],
    fail: Callable[[UsageError], None],
    learn: Callable[[Sequence[MarketListing]], None],
    outage: Outage,
) -> None:
    """Resolve what is still wanted and follow it; ends when that is done.

    Raises RestFailed (expected: the supervisor backs off) while Gamma cannot be reached, and
    while it lists nothing to follow. `outage` outlives this actor and says so in the log.
    """
    ctx.ready()
    try:
        listings = await resolve(wanted, rest)
        if not listings:
            raise RestFailed("no open market is listed")
    except UsageError as error:
        fail(error)
        return
    except RestFailed as error:
        what, why = "the markets were not found, asking again", str(error)
        if not outage.warn(trio.current_time(), what, why=why):
            log.info(what, why=why)
        raise
    learn(listings)
    tokens = [token for listing in listings for token in _tokens_of(listing)]
    outage.end(trio.current_time(), "the market listing answers")
    log.info("markets found", markets=len(listings), tokens=len(tokens))
    await follow(tokens)


def _tokens_of(listing: MarketListing) -> Sequence[str]:
    try:
        return [check_token(token) for token in listing.tokens]
    except UsageError as error:  # the listing's mistake, and no other market's
        log.warning("a market cannot be followed", slug=listing.slug, why=str(error))
        return ()
