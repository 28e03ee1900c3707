"""The embedded exchange without sockets: for services, or any client, on virtual time."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, cast

import trio
import trio.testing
import trio_websocket

from polyactors.transport import Network

if TYPE_CHECKING:
    import httpx2

    from polyactors.venue.exchange import Venue

CLOSE_SECONDS = 1.0
"""How long the close handshake of a `memory_websocket` may take."""
MESSAGE_BYTES_MAX = 64 * 2**20
"""Of a `memory_websocket`: the books of a subscription come as one message of any size."""


def memory_network(venue: "Venue", nursery: trio.Nursery) -> Network:
    """A `Network` whose every stream ends in `venue`, whatever host it asks for.

    The sessions run in `nursery`, which must outlive the service. REST requests are answered
    by the venue's own application, in the caller's task.
    """

    async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
        client, server = trio.testing.memory_stream_pair()
        nursery.start_soon(venue.serve_stream, server)
        await trio.lowlevel.checkpoint()
        return client

    def http_transport() -> "httpx2.AsyncBaseTransport":
        import httpx2

        return httpx2.ASGITransport(app=venue.rest_app())  # type: ignore[arg-type,unused-ignore]

    return Network(open_stream=open_stream, http_transport=http_transport)


@asynccontextmanager
async def memory_websocket(
    venue: "Venue", channel: Literal["market", "user"] = "market"
) -> AsyncGenerator[trio_websocket.WebSocketConnection, None]:
    """A plain WebSocket to a channel of `venue`, as `trio_websocket.open_websocket_url` gives one.

    Error handling: errors of the block, and of a refused handshake, pass through as they are.
    Cancellation, and the end of the block: the connection is closed, within CLOSE_SECONDS.
    """
    client, server = trio.testing.memory_stream_pair()
    # Annotated for sockets, written for any stream.
    stream = cast("trio.SocketStream", client)
    error: Exception | None = None  # out of the nursery it would come wrapped
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(venue.serve_stream, server)
            websocket = await trio_websocket.wrap_client_stream(
                nursery, stream, "venue", f"/ws/{channel}", max_message_size=MESSAGE_BYTES_MAX
            )
            try:
                yield websocket
            except Exception as raised:
                error = raised
            finally:
                with trio.move_on_after(CLOSE_SECONDS, shield=True):
                    await websocket.aclose()
            nursery.cancel_scope.cancel()
    except* trio_websocket.HandshakeError as refused:
        error = refused.exceptions[0]
    if error is not None:
        raise error
