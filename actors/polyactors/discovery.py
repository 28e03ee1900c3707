"""Discovery: which tokens stand behind `--market` and `--top`, from Gamma's listing.

`resolve` asks once; the discovery actor asks until it is answered, backed off by its
supervisor, and hands the tokens to the service. A slug that does not exist is the user's
mistake and is said at once.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from attrs import frozen

from polyactors.errors import UsageError
from polyactors.logger import log
from polyactors.protocol.rest import MarketListing
from polyactors.rest import MARKETS_PER_PAGE, RestClient
from polysupervisor import Context

TOP_MAX = 5000
PAGES_MAX = 100

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


def check_token(token: str) -> str:
    """The token id. Raises UsageError when it cannot be one."""
    if not _TOKEN.fullmatch(token) or int(token) >= 2**256:
        raise UsageError(
            f"{token!r} is not a token id: expected up to 78 decimal digits "
            "(find them with --market SLUG)"
        )
    return token


def parse_market(text: str) -> str:
    """A slug, a condition id, or the slug in a polymarket.com URL. Raises UsageError."""
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
    if matching or key == "condition_ids":
        return matching
    # The slug of an event stands for all its open markets.
    return [listing for listing in await rest.fetch_event_markets(market) if not listing.closed]


async def _most_active(count: int, rest: RestClient) -> list[MarketListing]:
    listings: list[MarketListing] = []
    cursor = ""
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
        listings.extend(listing for listing in page.markets if not listing.closed)
        cursor = page.next_cursor
        if len(listings) >= count or not cursor or not page.markets:
            break
    # Sources disagree on how `order` is spelled, so the answer's order is not relied on.
    listings.sort(key=lambda listing: listing.volume_24h_usdc, reverse=True)
    return listings[:count]


async def run_discovery(
    ctx: Context[object],
    wanted: Wanted,
    rest: RestClient,
    follow: Callable[[Sequence[str]], Awaitable[None]],
    fail: Callable[[UsageError], None],
) -> None:
    """Resolve what is still wanted and follow it; ends when that is done.

    Raises RestFailed (expected: the supervisor backs off) while Gamma cannot be reached.
    """
    ctx.ready()
    try:
        listings = await resolve(wanted, rest)
    except UsageError as error:
        fail(error)
        return
    tokens = [token for listing in listings for token in listing.tokens]
    log.info("markets found", markets=len(listings), tokens=len(tokens))
    await follow(tokens)
