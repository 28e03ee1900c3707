"""The embedded exchange without sockets: for whole services on virtual time."""

from typing import TYPE_CHECKING

import trio
import trio.testing

from polyactors.transport import Network

if TYPE_CHECKING:
    import httpx2

    from polyactors.venue.exchange import Venue


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
