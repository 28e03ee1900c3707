"""A network that takes its time: what is said arrives later, and REST's books are from between."""

from collections import deque
from random import Random

import attrs
import httpx2
import trio

from polyactors.transport import Network


@attrs.frozen
class Delays:
    """How long things take, at most."""

    stream_seconds: float = 0.0
    """From the exchange to the client, on the WebSocket."""
    rest_seconds: float = 0.0
    """From a question to its answer. The answer is of any moment between."""

    def slow_down(self, network: Network, nursery: trio.Nursery, rng: Random) -> Network:
        """The same network, with these delays; bytes are carried by tasks in `nursery`."""
        plain_open, plain_transport = network.open_stream, network.http_transport
        assert plain_open is not None
        assert plain_transport is not None

        async def open_stream(host: str, port: int, tls: bool) -> trio.abc.Stream:
            stream = _LateStream(await plain_open(host, port, tls), self.stream_seconds)
            nursery.start_soon(stream.carry)
            return stream

        return attrs.evolve(
            network,
            open_stream=open_stream if self.stream_seconds else plain_open,
            http_transport=(
                (lambda: _LateTransport(plain_transport(), self.rest_seconds, rng))
                if self.rest_seconds
                else plain_transport
            ),
        )


class _LateStream(trio.abc.Stream):
    """Every byte arrives so much later as it was sent, the end of the stream as well."""

    def __init__(self, stream: trio.abc.Stream, late_seconds: float) -> None:
        self._stream = stream
        self._late_seconds = late_seconds
        self._under_way: deque[tuple[float, bytes]] = deque()
        """What was sent, with the time of its arrival; empty bytes for the end."""
        self._sent = trio.Event()

    async def carry(self) -> None:
        """Take everything from the sender, to the end."""
        data = b"."
        while data:
            try:
                data = bytes(await self._stream.receive_some())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            self._under_way.append((trio.current_time() + self._late_seconds, data))
            self._sent.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        while not self._under_way:
            self._sent = trio.Event()
            await self._sent.wait()
        await trio.sleep_until(self._under_way[0][0])
        data = bytearray()
        while self._under_way and self._under_way[0][0] <= trio.current_time():
            if not self._under_way[0][1]:
                break
            data += self._under_way.popleft()[1]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _LateTransport(httpx2.AsyncBaseTransport):
    def __init__(self, inner: httpx2.AsyncBaseTransport, late_seconds: float, rng: Random) -> None:
        self._inner = inner
        self._late_seconds = late_seconds
        self._rng = rng

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        total = self._rng.uniform(0.0, self._late_seconds)
        before = self._rng.uniform(0.0, total)
        await trio.sleep(before)
        response = await self._inner.handle_async_request(request)
        await response.aread()
        await trio.sleep(total - before)
        return response
