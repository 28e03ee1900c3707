"""A market server that does what a script says.

The script is a list of acts, one for each connection that the service opens; the last one is
played for all that follow. An act gets the `Visit`: it may upgrade and speak WebSocket, or
write whatever bytes it likes. What it has sent and received is kept for the test to judge.
Everything runs over in-memory streams, so on the virtual time of `autojump_clock`.
"""

import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

import httpx2
import trio
import trio.testing
import trio_websocket
from wsproto.utilities import generate_accept_token

from polyactors.book.integrity import book_hash
from polyactors.book.numbers import PRICE_ONE, Side, parse_units, to_text
from polyactors.book.orderbook import OrderBook
from polyactors.config import Settings

MARKET = "0x" + "ab" * 32
YES, NO = "1111", "2222"
CLOCK_START_NS = 1_700_000_000_000_000_000
SETTINGS = Settings(ws_url="ws://market.test/ws", clob_url="http://clob.test")

Act = Callable[["Visit"], Awaitable[None]]
Rest = Callable[[httpx2.Request], Coroutine[None, None, httpx2.Response]]
Pair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]


class Books:
    """The exchange's own books: each token's, alone (complements are not mirrored)."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._books = {token: OrderBook(token, MARKET) for token in tokens}
        for book in self._books.values():
            bids = [(parse_units("0.4"), parse_units("10")), (parse_units("0.5"), parse_units("2"))]
            asks = [(parse_units("0.7"), parse_units("30")), (parse_units("0.6"), parse_units("4"))]
            book.replace(bids, asks)
        self._stamp_ms = dict.fromkeys(self._books, CLOCK_START_NS // 1_000_000)

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(self._books)

    def levels(self, token: str) -> dict[str, list[dict[str, str]]]:
        """The truth that the service's book must equal."""
        return self._books[token].to_wire()

    def snapshot(self, token: str) -> dict[str, Any]:
        """The event `book`, as after a subscription."""
        return {
            "market": MARKET,
            "asset_id": token,
            "timestamp": str(self._stamp_ms[token]),
            "hash": self._hash(token),
            **self.levels(token),
            "tick_size": "0.01",
            "event_type": "book",
            "last_trade_price": "0.500",
        }

    def rest_book(self, token: str) -> dict[str, Any]:
        """The answer of GET /book."""
        snapshot = self.snapshot(token)
        del snapshot["event_type"]
        return {**snapshot, "min_order_size": "5", "neg_risk": False}

    def change(self, token: str, price: str, size: str, side: Side = Side.BID) -> dict[str, Any]:
        """Set a level, in an engine step of its own: the event `price_change` that says so."""
        book = self._books[token]
        book.set_level(side, parse_units(price), parse_units(size))
        self._stamp_ms[token] += 1
        return {
            "market": MARKET,
            "event_type": "price_change",
            "timestamp": str(self._stamp_ms[token]),
            "price_changes": [
                {
                    "asset_id": token,
                    "price": price,
                    "size": size,
                    "side": "BUY" if side is Side.BID else "SELL",
                    "hash": self._hash(token),
                    "best_bid": to_text(book.best_bid_units or 0),
                    "best_ask": to_text(PRICE_ONE if (ask := book.best_ask_units) is None else ask),
                }
            ],
        }

    def _hash(self, token: str) -> str:
        book = self._books[token]
        return book_hash(
            market=MARKET,
            token=token,
            timestamp_ms=self._stamp_ms[token],
            bids=book.wire_bids,
            asks=book.wire_asks,
            min_order_size="5",
            tick_size="0.01",
            neg_risk=False,
            last_trade_price="0.500",
        )


class Visit:
    """One connection, as the server sees it."""

    def __init__(self, server: "ScriptedServer", stream: trio.abc.Stream, number: int) -> None:
        self.server = server
        self.stream = stream
        self.number = number
        """0 for the first connection of the service."""
        self.opened_at = trio.current_time()
        self.received: list[tuple[float, str]] = []
        """What the client sent, with the time; binary frames as their repr."""
        self.subscribed: dict[str, None] = {}
        self.path = ""
        self.close_code: int | None = None
        """How the connection ended; None while it is open, or when it was no WebSocket."""
        self.websocket: trio_websocket.WebSocketConnection
        self.request: trio_websocket.WebSocketRequest
        self.nursery: trio.Nursery

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.received]

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The JSON frames that the client sent."""
        return [json.loads(text) for text in self.texts if text.startswith("{")]

    async def read_request(self) -> None:
        """Read the client's request, which says the path. Idempotent."""
        if not self.path:
            self.request = await trio_websocket.wrap_server_stream(self.nursery, self.stream)
            self.path = self.request.path

    async def upgrade(self) -> None:
        """Read the client's request and accept it."""
        await self.read_request()
        self.websocket = await self.request.accept()

    async def read(self) -> bytes:
        """The bytes that the client sent, below the WebSocket."""
        return bytes(await self.stream.receive_some(65536))

    async def upgrade_by_hand(self, behind: bytes = b"") -> None:
        """Accept, without anything that reads from then on. `behind` goes out with the answer."""
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", await self.read(), re.IGNORECASE)
        assert key is not None
        await self.raw(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + generate_accept_token(key[1]) + b"\r\n\r\n" + behind
        )

    async def receive(self) -> str:
        """The client's next frame."""
        frame = await self.websocket.get_message()
        text = frame if isinstance(frame, str) else repr(frame)
        self.received.append((trio.current_time(), text))
        return text

    async def send(self, *messages: object) -> None:
        """Send each message as a text frame: text as it is, all else as JSON."""
        for message in messages:
            text = message if isinstance(message, str) else json.dumps(message)
            await self.websocket.send_message(text)

    async def raw(self, data: bytes) -> None:
        """Write bytes below the WebSocket, between two of its own frames."""
        if hasattr(self, "websocket"):
            async with self.websocket._stream_lock:  # pyright: ignore[reportPrivateUsage]
                await self.stream.send_all(data)
        else:
            await self.stream.send_all(data)

    async def subscription(self) -> None:
        """Upgrade and read the typed frame, without any answer."""
        await self.upgrade()
        self.note(json.loads(await self.receive()))

    async def dump(self) -> None:
        """The first books of all that is subscribed, in one array."""
        await self.send([self.server.books.snapshot(token) for token in self.subscribed])

    def note(self, frame: dict[str, Any]) -> list[str]:
        """Take a subscription frame in; returns the tokens that are new by it."""
        tokens: list[str] = frame["assets_ids"]
        if frame.get("operation") == "unsubscribe":
            for token in tokens:
                self.subscribed.pop(token, None)
            return []
        fresh = [token for token in tokens if token not in self.subscribed]
        self.subscribed.update(dict.fromkeys(fresh))
        return fresh


class ScriptedServer:
    """Plays `acts`, one a connection, in `nursery`; the last one again for all that follow."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *acts: Act,
        tokens: Sequence[str] = (YES, NO),
        make_pair: Pair = trio.testing.memory_stream_pair,
        open_seconds: float = 0.0,
    ) -> None:
        """`open_seconds`: how long a stream takes to open."""
        self.books = Books(tokens)
        self.visits: list[Visit] = []
        self._nursery = nursery
        self._acts = acts
        self._make_pair = make_pair
        self._open_seconds = open_seconds

    @property
    def connects(self) -> list[float]:
        return [visit.opened_at for visit in self.visits]

    async def open_stream(self, host: str, port: int, tls: bool) -> trio.abc.Stream:
        """What the service opens its streams by."""
        await trio.sleep(self._open_seconds)
        ours, theirs = self._make_pair()
        visit = Visit(self, theirs, len(self.visits))
        self.visits.append(visit)
        self._nursery.start_soon(self._play, visit)
        return ours

    async def _play(self, visit: Visit) -> None:
        act = self._acts[min(visit.number, len(self._acts) - 1)]
        try:
            async with trio.open_nursery() as visit.nursery:
                await act(visit)
                visit.nursery.cancel_scope.cancel()
        except* (
            trio_websocket.ConnectionClosed,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
        ):
            pass  # the client left: that is for the test to judge
        finally:
            if hasattr(visit, "websocket") and visit.websocket.closed is not None:
                visit.close_code = visit.websocket.closed.code
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(visit.stream)


def serve(
    *,
    seconds: float | None = None,
    tick_seconds: float | None = 1.0,
    pong: bool = True,
    withheld: Iterable[str] = (),
    beside: Act | None = None,
    then: Act | None = None,
) -> Act:
    """A good server: 1008 for a first frame that is no subscription, books, PONGs, changes.

    After `seconds` it hangs up, or goes on with the act `then`. `tick_seconds` is the time
    between two changes of every token, None for no changes. The books of `withheld` never come.
    `beside` is played at the same time, from the first moment on.
    """
    kept_back = frozenset(withheld)

    async def act(visit: Visit) -> None:
        if beside is not None:
            visit.nursery.start_soon(beside, visit)
        with trio.move_on_after(float("inf") if seconds is None else seconds):
            await visit.upgrade()
            async with trio.open_nursery() as nursery:
                if tick_seconds is not None:
                    nursery.start_soon(_tick, visit, tick_seconds)
                await _answer(visit, pong, kept_back)
                nursery.cancel_scope.cancel()
        if then is not None:
            await then(visit)

    return act


def saying(
    *frames: object, at_seconds: float = 5.25, every_seconds: float = 0.0, **serving: Any
) -> Act:
    """A good server that says these things after a while, between two of its changes.

    A function is called with the exchange's books for what to say. `serving`: as for `serve`.
    """

    async def speak(visit: Visit) -> None:
        await trio.sleep(at_seconds)
        for frame in frames:
            await visit.send(frame(visit.server.books) if callable(frame) else frame)
            await trio.sleep(every_seconds)

    return serve(beside=speak, **serving)


async def _answer(visit: Visit, pong: bool, withheld: frozenset[str]) -> None:
    began = False
    while True:
        text = await visit.receive()
        if text == "PING" and began:
            if pong:
                await visit.send("PONG")
            continue
        frame: dict[str, Any] = json.loads(text) if text.startswith("{") else {}
        if (frame.get("type") == "market") is began:
            if not began:
                await visit.websocket.aclose(1008, "invalid subscription payload")
                return
            if "operation" not in frame:
                await visit.send("INVALID OPERATION")
                continue
        began = True
        fresh = visit.note(frame)
        books = [visit.server.books.snapshot(t) for t in fresh if t not in withheld]
        if books:
            await visit.send(books)
        elif not fresh and frame.get("operation") == "subscribe":
            await visit.send("NO NEW ASSETS")


async def _tick(visit: Visit, tick_seconds: float) -> None:
    size = 1
    while True:
        await trio.sleep(tick_seconds)
        size += 1
        for token in list(visit.subscribed):
            await visit.send(visit.server.books.change(token, "0.5", str(size)))


async def hang_up(visit: Visit) -> None:
    """Close the TCP connection at once."""


async def say_nothing(visit: Visit) -> None:
    """Accept the TCP connection, and that is all."""
    await trio.sleep_forever()


async def deaf(visit: Visit) -> None:
    """Upgrade, and read nothing from then on."""
    await visit.upgrade_by_hand()
    await trio.sleep_forever()


async def drop_after_dump(visit: Visit) -> None:
    """Hang up right after the first books."""
    await visit.subscription()
    await visit.dump()


def refuse(status: int, body: bytes = b"") -> Act:
    """Refuse the upgrade with an HTTP status."""

    async def act(visit: Visit) -> None:
        request = await trio_websocket.wrap_server_stream(visit.nursery, visit.stream)
        headers = [(b"Location", b"ws://elsewhere.test/")] if status == 301 else None
        await request.reject(status, extra_headers=headers, body=body)
        await trio.sleep(1.0)

    return act


def answer(data: bytes, *, then: Act = say_nothing) -> Act:
    """Read the client's request and answer with these bytes."""

    async def act(visit: Visit) -> None:
        await visit.read()
        await visit.raw(data)
        await then(visit)

    return act


def close_with(payload: bytes) -> Act:
    """Send the dump, then a close frame with this payload, and leave the stream open."""

    async def act(visit: Visit) -> None:
        await visit.subscription()
        await visit.dump()
        await visit.raw(frame_bytes(0x8, payload))
        await trio.sleep(30.0)

    return act


def write_after_dump(*data: bytes) -> Act:
    """Send the dump, then these bytes as they are, and go on waiting."""

    async def act(visit: Visit) -> None:
        await visit.subscription()
        await visit.dump()
        for chunk in data:
            await visit.raw(chunk)
        await trio.sleep_forever()

    return act


def frame_bytes(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    masked: bool = False,
) -> bytes:
    """A WebSocket frame (RFC 6455 section 5.2). `reserved`: the three reserved bits, 0 to 7."""
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 2**16:
        head += bytes([mask_bit | 126]) + len(payload).to_bytes(2, "big")
    else:
        head += bytes([mask_bit | 127]) + len(payload).to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload  # a mask of zeros changes nothing
