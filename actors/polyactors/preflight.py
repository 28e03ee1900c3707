"""Before the service starts: one bounded look at what the user asked for.

A token or market that does not exist is the user's mistake, and is said at once. An exchange
that cannot be reached is not: the service starts all the same and goes on trying.
"""

from collections.abc import Sequence

import trio
from attrs import Factory, evolve, frozen

from polyactors.book.verify import HashInputs
from polyactors.config import Settings
from polyactors.discovery import Wanted, resolve
from polyactors.errors import RestFailed, UsageError
from polyactors.protocol.events import BookSnapshot
from polyactors.protocol.listings import MarketListing
from polyactors.rest import BOOKS_PER_REQUEST_MAX, RestClient

PREFLIGHT_SECONDS_MAX = 3.0
TOKENS_NAMED_MAX = 3
NO_NETWORK = "`python -m polyactors demo` needs no network"


@frozen
class Preflight:
    """What was found."""

    wanted: Wanted
    """What the service shall follow; it names markets only if the listing did not answer."""
    names: dict[str, str]
    """By token: outcome and question of its market, as listed; empty if nothing was."""
    notices: tuple[str, ...]
    """What could not be checked, a sentence each."""
    listings: tuple[MarketListing, ...] = ()
    """The markets that were looked up."""
    hash_inputs: dict[str, HashInputs] = Factory(dict[str, HashInputs])
    """By token: what its REST book states of what the book hash takes."""


async def preflight(wanted: Wanted, rest: RestClient, settings: Settings) -> Preflight:
    """Check the tokens and look up the markets, within PREFLIGHT_SECONDS_MAX for both.

    Raises UsageError for a token or a market that does not exist.
    """
    result = Preflight(wanted, {}, ())
    mistakes: list[UsageError] = []
    notices: list[str] = []
    listings: list[MarketListing] | None = None
    hash_inputs: dict[str, HashInputs] = {}

    async def check() -> None:
        try:
            for book in await _check_tokens(wanted.tokens, rest):
                hash_inputs[book.token] = HashInputs(
                    book.tick_size, book.min_order_size, book.neg_risk
                )
        except UsageError as error:
            mistakes.append(error)
            nursery.cancel_scope.cancel()
        except (RestFailed, trio.TooSlowError) as error:
            notices.append(
                f"the tokens were not checked, {_why(settings.clob_url, error)}; "
                f"going on without ({NO_NETWORK})"
            )

    async def look_up() -> None:
        nonlocal listings
        try:
            with trio.fail_after(PREFLIGHT_SECONDS_MAX):
                listings = await resolve(evolve(wanted, tokens=()), rest)
        except UsageError as error:
            mistakes.append(error)
            nursery.cancel_scope.cancel()
        except (RestFailed, trio.TooSlowError) as error:
            notices.append(
                f"the markets were not found yet, {_why(settings.gamma_url, error)}; "
                f"asking again until it answers ({NO_NETWORK})"
            )

    async with trio.open_nursery() as nursery:
        if wanted.tokens:
            nursery.start_soon(check)
        if wanted.needs_listing:
            nursery.start_soon(look_up)
    if mistakes:
        raise mistakes[0]
    if listings is not None:
        result = _with_listings(wanted, listings, settings.gamma_url)
    return evolve(result, notices=tuple(notices), hash_inputs=hash_inputs)


def _with_listings(wanted: Wanted, listings: Sequence[MarketListing], gamma_url: str) -> Preflight:
    found = [token for listing in listings for token in listing.tokens]
    tokens = tuple(dict.fromkeys((*wanted.tokens, *found)))
    if not tokens:
        raise UsageError(f"{gamma_url} lists no open market; name one with --market or --token")
    return Preflight(Wanted(tokens=tokens), names_of(listings), (), tuple(listings))


def names_of(listings: Sequence[MarketListing]) -> dict[str, str]:
    """By token: `Yes · Will it rain?`, the outcome first, since long questions are cut."""
    return {
        token: f"{outcome} · {listing.question or listing.slug}"
        for listing in listings
        for token, outcome in zip(listing.tokens, listing.outcomes, strict=False)
    }


async def _check_tokens(tokens: Sequence[str], rest: RestClient) -> list[BookSnapshot]:
    missing: list[str] = []
    books: list[BookSnapshot] = []
    with trio.fail_after(PREFLIGHT_SECONDS_MAX):
        for start in range(0, len(tokens), BOOKS_PER_REQUEST_MAX):
            asked = tokens[start : start + BOOKS_PER_REQUEST_MAX]
            known = await rest.fetch_books(asked)
            books += known.values()
            missing += [token for token in asked if token not in known]
        # A book may have been left out for other reasons; only a 404 says that there is none.
        unknown: list[str] = []
        for token in missing:
            if await rest.fetch_book(token) is None:
                unknown.append(token)
            if len(unknown) == TOKENS_NAMED_MAX:
                break
    if unknown:
        raise UsageError(
            f"the exchange has no order book for the token {', '.join(unknown)}; "
            "find the ids of open markets with --market SLUG"
        )
    return books


def _why(url: str, error: Exception) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"no answer from {url} within {PREFLIGHT_SECONDS_MAX:g} s"
    return str(error)
