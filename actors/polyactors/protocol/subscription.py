"""The text frames that a client sends (docs.polymarket.com, wss/market and wss/user).

On the market channel:

1. The first frame of a connection is the typed subscription. Anything else, a PING too, is
   answered by close 1008 (seen August 2026); the typed frame a second time by the text
   INVALID OPERATION (seen March 2026).
2. More tokens follow in frames with `operation`, which came in December 2025.
3. PING goes out every 10 s from then on; the text PONG answers.

There is no acknowledgement of anything: a token is subscribed when its book comes.

On the user channel the typed subscription carries the credentials in clear text, and markets
(condition ids) stand in the place of tokens; without any, it is the whole account. Nothing
acknowledges it either: what comes first is the first thing that happens.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

PING = "PING"
"""The heartbeat: a text frame, not WebSocket's own ping."""
IDS_PER_FRAME = 100
"""Token ids, or markets, in one frame. No limit is documented, but a frame with thousands of ids
is answered by a close, again at each attempt; the official Rust client cuts at 100
(rs-clob-client-v2 #117, September 2026)."""
TOKENS_PER_CONNECTION = 200
"""Tokens of one connection that are always served. Beyond 500 some got no deltas (2025), beyond
about 750 the first book never came (August 2026)."""


def subscribe_frames(
    tokens: Iterable[str], *, ids_per_frame: int = IDS_PER_FRAME, custom_features: bool = True
) -> list[str]:
    """The frames that begin a connection, in order: the typed one with the first tokens, and
    an `operation` for each further chunk.

    Never empty: without tokens the typed frame stands alone, which with custom features is the
    feed of new markets. `initial_dump` and `level` are left out: the first book comes without
    them as well (measured, August 2026), and what `level` means is documented nowhere.

    Raises:
        ValueError: `ids_per_frame` is less than 1.
    """
    first, *others = list(_chunks(tokens, ids_per_frame)) or [[]]
    typed = {
        "assets_ids": first,
        "type": "market",
        "custom_feature_enabled": custom_features,
    }
    return [_frame(typed), *(_subscribe(chunk, custom_features) for chunk in others)]


def unsubscribe_frames(tokens: Iterable[str], *, ids_per_frame: int = IDS_PER_FRAME) -> list[str]:
    """The frames that end the subscription of these tokens on a running connection.

    Messages that are under way still arrive. Empty without tokens.

    Raises:
        ValueError: `ids_per_frame` is less than 1.
    """
    return [_unsubscribe(chunk) for chunk in _chunks(tokens, ids_per_frame)]


def resubscribe_frames(
    tokens: Iterable[str], *, ids_per_frame: int = IDS_PER_FRAME, custom_features: bool = True
) -> list[str]:
    """The frames that bring a fresh book of each of these tokens on a running connection.

    A subscription of what is subscribed is refused (text NO NEW ASSETS), so each chunk is
    unsubscribed and at once subscribed again. Empty without tokens.

    Raises:
        ValueError: `ids_per_frame` is less than 1.
    """
    return [
        frame
        for chunk in _chunks(tokens, ids_per_frame)
        for frame in (_unsubscribe(chunk), _subscribe(chunk, custom_features))
    ]


def user_subscribe_frames(
    api_key: str,
    secret: str,
    passphrase: str,
    markets: Iterable[str] = (),
    *,
    ids_per_frame: int = IDS_PER_FRAME,
) -> list[str]:
    """The frames that begin a connection of the user channel, in order.

    The first holds the credentials: it must go nowhere but into the socket. Without markets it
    is the whole account (the name is left out, as documented; an empty array means the same).

    Raises:
        ValueError: `ids_per_frame` is less than 1.
    """
    first, *others = list(_chunks(markets, ids_per_frame)) or [[]]
    auth = {"apiKey": api_key, "secret": secret, "passphrase": passphrase}
    typed = {"auth": auth, **({"markets": first} if first else {}), "type": "user"}
    return [_frame(typed), *(_user_operation("subscribe", chunk) for chunk in others)]


def user_operation_frames(
    operation: Literal["subscribe", "unsubscribe"],
    markets: Iterable[str],
    *,
    ids_per_frame: int = IDS_PER_FRAME,
) -> list[str]:
    """The frames that add or remove markets on a running connection; empty without markets.

    Only what is not subscribed may be added: a market subscribed twice is told twice
    (nautilus_trader #3403).

    Raises:
        ValueError: `ids_per_frame` is less than 1.
    """
    return [_user_operation(operation, chunk) for chunk in _chunks(markets, ids_per_frame)]


def _user_operation(operation: str, chunk: Sequence[str]) -> str:
    return _frame({"operation": operation, "markets": chunk})


def _subscribe(chunk: Sequence[str], custom_features: bool) -> str:
    # The flag goes along each time: the server applies it anew, even from a frame whose tokens
    # it then refuses (official Python SDK, market_protocol.py).
    return _frame(
        {
            "operation": "subscribe",
            "assets_ids": chunk,
            "custom_feature_enabled": custom_features,
        }
    )


def _unsubscribe(chunk: Sequence[str]) -> str:
    return _frame({"operation": "unsubscribe", "assets_ids": chunk})


def _frame(message: Mapping[str, object]) -> str:
    return msgspec.json.encode(message).decode()


def _chunks(ids: Iterable[str], ids_per_frame: int) -> Iterator[list[str]]:
    if ids_per_frame < 1:
        raise ValueError(f"ids_per_frame must be at least 1, not {ids_per_frame}")
    distinct = list(dict.fromkeys(ids))
    for start in range(0, len(distinct), ids_per_frame):
        yield distinct[start : start + ids_per_frame]
