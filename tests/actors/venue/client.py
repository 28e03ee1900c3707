"""Clients of the two channels that know the wire and nothing of ours."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
import trio.testing
import trio_websocket

from polyactors.venue import Venue, VenueAccount, market_channel, user_channel

SOON = 0.15
"""Virtual seconds after which nothing more is on its way."""


class Client:
    """A client that knows the wire and nothing else."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self.connection = connection

    async def send(self, frame: object) -> None:
        await self.connection.send_message(frame if isinstance(frame, str) else json.dumps(frame))

    async def subscribe_first(self, tokens: list[str], **more: object) -> None:
        await self.send({"assets_ids": tokens, "type": "market", **more})

    async def operate(self, operation: str, tokens: list[str], **more: object) -> None:
        await self.send({"operation": operation, "assets_ids": tokens, **more})

    async def frames(self, seconds: float = SOON) -> list[str]:
        """All that arrives in that time."""
        frames: list[str] = []
        with trio.move_on_after(seconds):
            while True:
                frame = await self.connection.get_message()
                assert isinstance(frame, str)
                frames.append(frame)
        return frames

    async def books(self) -> list[str]:
        """The tokens of the one array that must have come."""
        (frame,) = await self.frames()
        return [book["asset_id"] for book in json.loads(frame)]

    async def messages(self, seconds: float = SOON) -> list[Any]:
        return [json.loads(frame) for frame in await self.frames(seconds)]

    async def close_code(self, seconds: float = 5.0) -> tuple[int, str | None]:
        """How the connection ends, which it must do in time."""
        with trio.fail_after(seconds):
            while True:
                try:
                    await self.connection.get_message()
                except trio_websocket.ConnectionClosed as error:
                    reason = error.reason or trio_websocket.CloseReason(0, "none given")
                    return reason.code, reason.reason

    async def is_open(self) -> bool:
        await self.send("PING")
        return "PONG" in await self.frames()


class UserClient(Client):
    """A client of the user channel."""

    async def log_in(self, account: VenueAccount, *markets: str) -> None:
        await self.send(login(account, *markets))

    async def operate_markets(self, operation: str, *markets: str) -> None:
        await self.send({"operation": operation, "markets": markets})

    async def labels(self, seconds: float = SOON) -> list[str]:
        """What arrives in that time, each in two or three words."""
        return [label_of(message) for message in await self.messages(seconds)]


def login(account: VenueAccount, *markets: str) -> dict[str, Any]:
    """The first frame of the user channel."""
    known = account.credentials
    auth = {"apiKey": known.api_key, "secret": known.secret, "passphrase": known.passphrase}
    return {"auth": auth, "type": "user", **({"markets": markets} if markets else {})}


def label_of(message: dict[str, Any]) -> str:
    """What it is about: "order UPDATE LIVE", "trade MINED"."""
    kind = message["event_type"]
    return (
        f"{kind} {message['type']} {message['status']}"
        if kind == "order"
        else (f"{kind} {message['status']}")
    )


async def open_client(
    nursery: trio.Nursery, stream: trio.abc.Stream, max_message_size: int = 2**24
) -> Client:
    return Client(await _upgrade(nursery, stream, market_channel.WS_PATH, max_message_size))


async def open_user_client(nursery: trio.Nursery, stream: trio.abc.Stream) -> UserClient:
    return UserClient(await _upgrade(nursery, stream, user_channel.WS_PATH, 2**24))


async def _upgrade(
    nursery: trio.Nursery, stream: trio.abc.Stream, path: str, max_message_size: int
) -> trio_websocket.WebSocketConnection:
    # Annotated for sockets, written for any stream.
    any_stream = cast("trio.SocketStream", stream)
    return await trio_websocket.wrap_client_stream(
        nursery, any_stream, "venue", path, max_message_size=max_message_size
    )


def messages_in(frame: object) -> list[Any]:
    """The messages of a frame: an array of them, or one."""
    return cast("list[object]", frame) if isinstance(frame, list) else [frame]


def tokens_of(messages: list[Any]) -> set[str]:
    """What these messages speak of."""
    entries = [entry for m in messages for entry in m.get("price_changes", [m])]
    return {entry["asset_id"] for entry in entries}


Connect = Callable[[Venue], Awaitable[Client]]
ConnectUser = Callable[[Venue], Awaitable[UserClient]]


async def subscribed(connect: Connect, venue: Venue) -> Client:
    """A client that follows every token and has read its first books."""
    client = await connect(venue)
    await client.subscribe_first(venue.tokens)
    assert await client.books() == venue.tokens
    return client


async def refusal(nursery: trio.Nursery, venue: Venue, path: str = market_channel.WS_PATH) -> int:
    """The status that answers a handshake; by hand, since trio-websocket's client crashes."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(venue.serve_stream, theirs)
    await ours.send_all(HANDSHAKE.format(path=path).encode())
    answer = b""
    while chunk := await ours.receive_some():
        answer += chunk
    return int(answer.split()[1])


HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: venue\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
