"""`top-bridge`: republishes the top of every book on a WebSocket of its own.

For whoever does not speak Python: a chart in a browser, a bot in another language. Each client gets
one JSON array with the top of every token at first, and then arrays with those that changed:

    {"token": "8910…", "market": "0x…", "state": "LIVE", "reason": null, "settled": true,
     "bid": "0.48", "bid_size": "30", "ask": "0.52", "ask_size": "25",
     "time_ns": 1700000000000000000}

The state goes out with every top, and what is not LIVE has no prices: a stale top cannot be taken
for a good one. A client who is slow gets the newest top of each token and none of those between,
so what waits for it is never more than one of each; who takes nothing for `stall_seconds` is let
go.
"""

import json
from functools import partial

import attrs
import trio
from attrs.validators import ge, gt, le
from trio_websocket import (
    ConnectionClosed,
    HandshakeError,
    WebSocketConnection,
    wrap_server_stream,
)

from polyactors import ActorContext, BookUpdated, Gap, TrustChanged, TrustState, actor

LOOPBACK = ("127.0.0.1", "::1", "localhost")
TRY_AGAIN_LATER = 1013
"""The close code for a client too many."""
HANDSHAKE_SECONDS_MAX = 5.0
CLOSE_SECONDS_MAX = 1.0
CLIENT_MESSAGE_BYTES_MAX = 1024
"""Clients have nothing to say; what they do say is read and thrown away."""


def _is_reachable_on_purpose(bridge: "TopBridge", _: object, value: str) -> None:
    if value not in LOOPBACK and not bridge.public:
        raise ValueError(f"host {value!r} is open to others than this machine: set public = true")


@attrs.define(eq=False)
class Client:
    """One who listens."""

    changed: dict[str, None]
    """Tokens whose top is to be sent, the one that waits longest first."""
    news: trio.Event = attrs.field(factory=trio.Event)

    def mark(self, token: str) -> None:
        """Its top is another one."""
        self.changed[token] = None
        self.news.set()


@actor(mailbox=16_384)
@attrs.define
class TopBridge:
    """Serves the top of every book, with its trust, to WebSocket clients."""

    public: bool = False
    """Whether `host` may be an address that others than this machine reach."""
    host: str = attrs.field(default="127.0.0.1", validator=_is_reachable_on_purpose)
    port: int = attrs.field(default=0, validator=[ge(0), le(65_535)])
    """0 picks a free one, which is shown and published as `bridge_listening`."""
    clients_max: int = attrs.field(default=50, validator=ge(1))
    stall_seconds: float = attrs.field(default=10.0, validator=gt(0))
    _clients: set[Client] = attrs.field(init=False, factory=set[Client])
    _tops: dict[str, dict[str, object]] = attrs.field(
        init=False, factory=dict[str, dict[str, object]]
    )
    """By token, until it changes."""
    _context: ActorContext = attrs.field(init=False)

    async def setup(self, context: ActorContext) -> None:
        """Listen. A port that is taken is a failure like any other: it is tried again."""
        self._context = context
        listeners = await trio.open_tcp_listeners(self.port, host=self.host)
        address = listeners[0].socket.getsockname()
        context.start_soon(partial(trio.serve_listeners, self.serve, listeners))
        context.show(f"ws://{self.host}:{address[1]}")
        await context.publish("bridge_listening", host=self.host, port=address[1])

    async def handle(self, batch: list[BookUpdated | TrustChanged | Gap]) -> None:
        """Mark what changed, for every client; what is sent is read when it is sent."""
        changed: dict[str, None] = {}
        for message in batch:
            if isinstance(message, Gap):
                missed = self._context.service.tokens if message.token is None else (message.token,)
                changed.update(dict.fromkeys(missed))
            else:
                changed[message.token] = None
        for token in changed:
            self._tops.pop(token, None)
            for client in self._clients:
                client.mark(token)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one client until it goes. Whatever it does, it hurts nobody else."""
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(HANDSHAKE_SECONDS_MAX):
                    request = await wrap_server_stream(
                        nursery, stream, max_message_size=CLIENT_MESSAGE_BYTES_MAX
                    )
                    connection = await request.accept()
                await self._serve(connection, nursery)
            except (HandshakeError, ConnectionClosed, trio.TooSlowError, OSError):
                self._context.count("clients_lost")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._context.count("clients_lost")
            finally:
                nursery.cancel_scope.cancel()
                await trio.aclose_forcefully(stream)

    async def _serve(self, connection: WebSocketConnection, nursery: trio.Nursery) -> None:
        if len(self._clients) >= self.clients_max:
            self._context.count("clients_refused")
            with trio.move_on_after(CLOSE_SECONDS_MAX):
                await connection.aclose(TRY_AGAIN_LATER, "there are enough clients")
            return
        client = Client(dict.fromkeys(self._context.service.tokens))
        client.news.set()
        self._clients.add(client)
        self._context.gauge("clients", len(self._clients))
        nursery.start_soon(_listen, connection, nursery.cancel_scope)
        try:
            while True:
                await client.news.wait()
                client.news = trio.Event()
                changed, client.changed = client.changed, {}
                text = json.dumps([self._top(token) for token in changed])
                with trio.fail_after(self.stall_seconds):
                    await connection.send_message(text)
        finally:
            self._clients.discard(client)
            self._context.gauge("clients", len(self._clients))

    def _top(self, token: str) -> dict[str, object]:
        if token not in self._tops:
            self._tops[token] = self._read(token)
        return self._tops[token]

    def _read(self, token: str) -> dict[str, object]:
        book = self._context.service.book(token, allow_stale=True)
        is_live = book.state is TrustState.LIVE
        bid, ask = (book.best_bid, book.best_ask) if is_live else (None, None)
        return {
            "token": token,
            "market": book.market,
            "state": book.state.value,
            "reason": None if book.reason is None else book.reason.value,
            "settled": book.settled,
            "bid": None if bid is None else str(bid.price),
            "bid_size": None if bid is None else str(bid.size),
            "ask": None if ask is None else str(ask.price),
            "ask_size": None if ask is None else str(ask.size),
            "time_ns": self._context.time_ns,
        }


async def _listen(connection: WebSocketConnection, scope: trio.CancelScope) -> None:
    """Read and forget, which also notices that the client has gone."""
    try:
        while True:
            await connection.get_message()
    except ConnectionClosed:
        scope.cancel()
