"""The probe: REST is asked whether a feed that is silent has anything to say.

A quiet market and a stalled feed look the same on the WebSocket: PONGs come, data does not. REST
tells them apart. It knows every book with its hash, so while its hashes are the ones that the
stream stated last, nothing has happened that we should have heard of.
"""

from collections.abc import Mapping
from enum import StrEnum

import trio
from attrs import frozen

from polyactors.errors import RestFailed
from polyactors.feed import Feed
from polyactors.protocol.events import BookSnapshot
from polyactors.rest import RestClient

PROBE_TOKENS_MAX = 10
"""The busiest tokens of a feed; the others are the audit's."""
PROBE_REQUEST_SECONDS_MAX = 5.0
"""REST that takes longer, its queue and ours included, has not answered."""
PROBE_GRACE_SECONDS = 1.0
"""What REST shows and the stream has not said may be on its way for so long."""
PROBE_SECONDS_MAX = PROBE_REQUEST_SECONDS_MAX + PROBE_GRACE_SECONDS
"""A feed that loses all is found out within its data deadline and so much more, counted from
the first message that was lost."""


class ProbeOutcome(StrEnum):
    """What a probe found."""

    QUIET = "quiet"
    """Nothing was lost up to the question."""
    ALIVE = "alive"
    """Market data came while it was under way."""
    STALLED = "stalled"
    """Something was lost, or nothing speaks against it."""


@frozen
class Finding:
    """What a probe found, with the reason for people."""

    outcome: ProbeOutcome
    detail: str = ""


async def probe(feed: Feed, rest: RestClient) -> Finding:
    """Ask REST about the books of a silent feed; takes at most PROBE_SECONDS_MAX, raises nothing.

    *Cancellation*: at once; nothing is left behind.
    """
    silent_since_seconds = feed.last_data_seconds
    said = {token: feed.last_hash(token) for token in _witnesses(feed)}
    books: Mapping[str, BookSnapshot] | None = None
    why = f"nothing within {PROBE_REQUEST_SECONDS_MAX:g} s"
    with trio.move_on_after(PROBE_REQUEST_SECONDS_MAX):
        try:
            books = await rest.fetch_books(list(said))
        except RestFailed as error:
            why = str(error)
    if feed.last_data_seconds != silent_since_seconds:
        return Finding(ProbeOutcome.ALIVE)
    if books is None:
        return Finding(ProbeOutcome.STALLED, f"REST did not answer ({why})")
    finding = compare(said, {token: book.hash for token, book in books.items()})
    if finding.outcome is ProbeOutcome.STALLED:
        await trio.sleep(PROBE_GRACE_SECONDS)
        if feed.last_data_seconds != silent_since_seconds:
            return Finding(ProbeOutcome.ALIVE)
    return finding


def compare(said: Mapping[str, str], known: Mapping[str, str]) -> Finding:
    """Pure: QUIET or STALLED. By token the hash that the stream stated last, "" for none, and the
    hash that REST knows; a token that REST does not know says nothing."""
    asked = [token for token in said if token in known]
    new = [token for token in asked if not said[token]]
    other = [token for token in asked if said[token] and said[token] != known[token]]
    if other:
        detail = f"REST shows other books of {len(other)} of {len(asked)} tokens"
        return Finding(ProbeOutcome.STALLED, detail)
    if new:
        detail = f"REST has books of {len(new)} tokens whose first one never came"
        return Finding(ProbeOutcome.STALLED, detail)
    return Finding(ProbeOutcome.QUIET)


def _witnesses(feed: Feed) -> list[str]:
    """The busiest tokens of which the stream has stated a hash; if of none, any.

    A token whose first book never came is redriven by its shard; among others it is no sign that
    they have stalled.
    """
    tokens = feed.busiest(len(feed.tokens))
    stated = [token for token in tokens if feed.last_hash(token)]
    return (stated or tokens)[:PROBE_TOKENS_MAX]
