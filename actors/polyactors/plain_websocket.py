"""The WebSocket by trio-websocket's public API alone: for versions whose inside we do not know.

Slower by far, each message comes by itself, and less is known of how a connection ended: what
the server sent is told by the close code that trio-websocket makes of it, and a server that
hangs up amid the upgrade costs the connect timeout. Nothing else differs.
"""

import trio
import trio_websocket
from wsproto.utilities import RemoteProtocolError

from polyactors.errors import chain_of
from polyactors.websocket import RECEIVE_BYTES, WebSocket

FRAMES_BUFFERED_MAX = 256
"""Frames that trio-websocket may hold for us; past that the socket is not read."""


class PlainWebSocket(WebSocket):
    """Read by a task of trio-websocket's."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        host_header: str,
        resource: str,
        *,
        frame_bytes_max: int,
        send_timeout_seconds: float,
    ) -> None:
        super().__init__(stream, send_timeout_seconds=send_timeout_seconds)
        self._host_header = host_header
        self._resource = resource
        self._frame_bytes_max = frame_bytes_max
        self._scope = trio.CancelScope()
        """Around the reader."""

    async def upgrade(self, nursery: trio.Nursery) -> None:
        """Start the reader in `nursery`, which it never raises into; wait for the upgrade.

        Raises SessionFailed when the server refuses or does not speak HTTP.
        """
        settled = trio.Event()
        nursery.start_soon(self._run_reader, settled)
        try:
            await settled.wait()
        except trio.Cancelled:
            self._scope.cancel()  # it would wait for ever when the server has hung up
            raise
        if self._error is not None or self._refused_status:
            raise self._failure()

    async def _run_reader(self, settled: trio.Event) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._connection = await trio_websocket.wrap_client_stream(
                        nursery,
                        self._stream,  # type: ignore[arg-type,unused-ignore] # any will do
                        self._host_header,
                        self._resource,
                        message_queue_size=FRAMES_BUFFERED_MAX,
                        max_message_size=self._frame_bytes_max,
                        receive_buffer_size=RECEIVE_BYTES,
                    )
                    settled.set()
        except Exception as error:
            # Behind the group of the nursery stands what the reader raised. trio-websocket fails
            # to answer a broken upgrade; what broke it stands behind that.
            chain = [link for link in chain_of(error) if not isinstance(link, ExceptionGroup)]
            for link in chain:
                if isinstance(link, trio_websocket.ConnectionRejected):
                    self._refused_status = link.status_code
            broken = (link for link in chain if isinstance(link, RemoteProtocolError))
            self._error = next(broken, error)
        finally:
            settled.set()

    async def receive_batch(self) -> list[str | bytes]:
        """As WebSocket has it; each message is a batch."""
        try:
            return [await self._connection.get_message()]
        except trio_websocket.ConnectionClosed:
            raise self._failure() from None
