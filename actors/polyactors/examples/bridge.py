"""`top-bridge`: the top of every book on a socket of its own, for programs in any language.

A client connects by TCP and reads lines, each a JSON object: no handshake, no library, `nc` is
enough. Not a WebSocket, because any web page could open one to this machine and read along; nothing
that a browser can open reads these lines. `hello` says how many tokens there are, a `top` for each
follows, then a `top` for each change, and `alive` when nothing changes.

Every `top` has the trust state, and prices only while that is LIVE: a stale top is never shown as
a good one. A client that takes less than is told gets of each token only the newest top, read from
the book when the line is written; one that takes nothing for `stall_seconds` is dropped. The end of
the lines is the end of all trust. Clients have nothing to say: who sends something is dropped, too.
"""

import json
import socket
from contextlib import suppress
from ipaddress import ip_address

import attrs
import trio
from attrs.validators import ge, gt, le

from polyactors import (
    ActorContext,
    BookNotLive,
    BookUpdated,
    Gap,
    Level,
    StaleReason,
    TrustChanged,
    TrustState,
)

LINES_PER_WRITE = 100
UNSENT_BYTES_MAX = 65_536
"""What the kernel holds for a client: tops that grow old where no newer one can replace them."""
DAY_SECONDS = 86_400.0
Price = tuple[str, str] | None
"""USDC per share, and shares; None: an empty side, or no LIVE book."""


@attrs.frozen
class Top:
    """What a client is told of a token."""

    state: TrustState
    reason: StaleReason | None
    settled: bool
    """False while more of the same engine step may follow."""
    bid: Price
    ask: Price


@attrs.define(eq=False)
class Client:
    """Who reads."""

    changed: dict[str, None]
    """Tokens that it is to be told of, in the order of their oldest untold change."""
    told: dict[str, Top] = attrs.field(factory=dict[str, Top])
    woken: trio.Event = attrs.field(factory=trio.Event)

    def wake(self, tokens: dict[str, None]) -> None:
        """There may be news of these."""
        self.changed.update(tokens)
        self.woken.set()


def _is_address(_: object, __: object, host: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(
            f"host must be an IP address of this machine, such as 127.0.0.1, not {host!r}"
        ) from None


@attrs.define
class TopBridge:
    """Republishes the top of every book, with its trust, as lines of JSON on a TCP port."""

    host: str = attrs.field(default="127.0.0.1", validator=_is_address)
    """Who reaches this address can read along, without any password."""
    port: int = attrs.field(default=0, validator=[ge(0), le(65_535)])
    """0: any that is free; the event `bridge_listening` and the panel say which."""
    clients_max: int = attrs.field(default=16, validator=ge(1))
    stall_seconds: float = attrs.field(default=10.0, validator=[gt(0), le(DAY_SECONDS)])
    """A client that takes longer for one write, up to LINES_PER_WRITE lines, is dropped."""
    alive_seconds: float = attrs.field(default=5.0, validator=[gt(0), le(DAY_SECONDS)])
    """Without a change a line says this often that there was none."""
    _clients: set[Client] = attrs.field(init=False, factory=set[Client])
    _where: str = attrs.field(init=False, default="")
    _context: ActorContext = attrs.field(init=False)

    async def listen(self) -> tuple[trio.abc.Listener[trio.abc.Stream], int]:
        """A listener and its port; a test has one without sockets. Raises OSError."""
        try:
            (listener,) = await trio.open_tcp_listeners(self.port, host=self.host)
        except OSError as error:
            where = f"{self.host} port {self.port}"
            raise OSError(f"cannot listen on {where}: {error.strerror or error}") from None
        return listener, listener.socket.getsockname()[1]

    async def setup(self, context: ActorContext) -> None:
        """Listen."""
        self._context = context
        listener, port = await self.listen()
        self._where = f"{self.host} port {port}"
        if not ip_address(self.host).is_loopback:
            context.log.warning("other machines can read the tops", host=self.host, port=port)
        context.start_soon(trio.serve_listeners, self._serve, [listener])
        await context.publish("bridge_listening", host=self.host, port=port)
        self._show()

    async def handle(self, batch: list[BookUpdated | TrustChanged | Gap]) -> None:
        """Say which tokens have news; what it is the clients' own tasks read, when they write."""
        tokens = {m.token: None for m in batch if not isinstance(m, Gap)}
        if any(isinstance(m, Gap) and m.feed is None for m in batch):  # it was too slow itself
            tokens = dict.fromkeys(self._context.service.tokens)
        for client in self._clients:
            client.wake(tokens)

    # --- one client -----------------------------------------------------------------------

    async def _serve(self, stream: trio.abc.Stream) -> None:
        if isinstance(stream, trio.SocketStream):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES_MAX)
        client = Client(dict.fromkeys(self._context.service.tokens))
        try:
            if len(self._clients) >= self.clients_max:
                self._context.count("refused")
                await self._write(stream, _line("refused", reason="too many clients"))
                return
            self._clients.add(client)
            self._show()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wait_gone, stream, nursery.cancel_scope)
                await self._tell(client, stream)
                nursery.cancel_scope.cancel()
        finally:
            self._clients.discard(client)
            self._show()
            await trio.aclose_forcefully(stream)

    async def _tell(self, client: Client, stream: trio.abc.Stream) -> None:
        """Write lines until the client has gone or stalls."""
        lines = _line("hello", tokens=len(client.changed), time_ns=self._context.time_ns)
        while await self._write(stream, lines):
            told_at = trio.current_time()
            lines = self._take_lines(client)
            while not lines:
                client.woken = trio.Event()
                with trio.move_on_at(told_at + self.alive_seconds) as scope:
                    await client.woken.wait()
                lines = self._take_lines(client)
                if scope.cancelled_caught and not lines:
                    lines = _line("alive", time_ns=self._context.time_ns)

    async def _write(self, stream: trio.abc.Stream, lines: bytes) -> bool:
        """Whether the client took them."""
        with trio.move_on_after(self.stall_seconds) as scope:
            try:
                await stream.send_all(lines)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
        if scope.cancelled_caught:
            self._context.count("stalled")
        return not scope.cancelled_caught

    def _take_lines(self, client: Client) -> bytes:
        lines: list[bytes] = []
        while client.changed and len(lines) < LINES_PER_WRITE:
            token = next(iter(client.changed))
            del client.changed[token]
            top = self._read(token)
            if client.told.get(token) != top:
                client.told[token] = top
                lines.append(self._top_line(token, top))
        return b"".join(lines)

    def _read(self, token: str) -> Top:
        try:
            book = self._context.service.book(token)
        except BookNotLive as error:
            return Top(error.state, error.reason, False, None, None)
        return Top(book.state, None, book.settled, _price(book.best_bid), _price(book.best_ask))

    def _top_line(self, token: str, top: Top) -> bytes:
        self._context.count("lines")
        return _line(
            "top",
            time_ns=self._context.time_ns,
            token=token,
            state=top.state.value,
            reason=None if top.reason is None else top.reason.value,
            settled=top.settled,
            bid=top.bid,
            ask=top.ask,
        )

    def _show(self) -> None:
        self._context.gauge("clients", len(self._clients))
        self._context.show(f"{self._where}, {len(self._clients)} of {self.clients_max} clients")


async def _wait_gone(stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.receive_some(1)
    scope.cancel()


def _line(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, **fields}).encode() + b"\n"


def _price(level: Level | None) -> Price:
    return None if level is None else (str(level.price), str(level.size))
