"""An open WebSocket that is received in batches: what both ways to read it have in common.

pulled_websocket.py is the way, plain_websocket.py the one for versions of the libraries whose
inside we do not know. Every end of a connection becomes a `SessionFailed` here, with the reason
of `feed_down`.
"""

from abc import ABC, abstractmethod

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto.frame_protocol import CloseReason

from polyactors.errors import SessionFailed
from polyactors.framing import Framing
from polyactors.protocol.events import Unreadable

CLOSE_DEADLINE_SECONDS = 1.0
"""A close handshake is tried for so long; then the stream is just closed."""
FRAMES_PER_BATCH_MAX = 1024
"""The rest comes with the next batch."""
RECEIVE_BYTES = 262144
"""One read takes so much at most."""


class WebSocket(ABC):
    """One open WebSocket, received in batches. Made by `connect_websocket`."""

    _connection: WebSocketConnection
    _framing: Framing | None = None
    """None when what the server sent is known from trio-websocket alone."""

    def __init__(self, stream: trio.abc.Stream, *, send_timeout_seconds: float) -> None:
        self._stream = stream
        self._send_timeout_seconds = send_timeout_seconds
        self._refused_status = 0
        """HTTP status of the answer that refused the upgrade; 0 when there was none."""
        self._error: Exception | None = None
        """What is wrong with the server's half of the upgrade."""
        self._is_cut = False
        """Half a frame may have been sent: what is sent behind it would be taken for its rest."""

    @abstractmethod
    async def receive_batch(self) -> list[str | bytes]:
        """Wait for a message and return it with all that has arrived behind it.

        At most FRAMES_PER_BATCH_MAX, the others come with the next call. For one task at a time.

        Cancellation: nothing is lost, a cancelled call has taken nothing. (One that is cancelled
        while it answers a ping may leave half a frame on the wire: then only close.)
        Raises SessionFailed when the connection has ended and all was handed out.
        """

    async def send(self, text: str) -> None:
        """Send a text frame; a peer that takes nothing for the send timeout is half-open.

        Cancellation: the connection can only be closed then, half the frame may be sent.
        Raises SessionFailed when the connection has ended, and after the send timeout.
        """
        try:
            with trio.fail_after(self._send_timeout_seconds):
                await self._connection.send_message(text)
        except ConnectionClosed:
            raise self._failure() from None
        except trio.Cancelled:
            self._is_cut = True
            raise
        except trio.TooSlowError:
            self._is_cut = True
            # Also for who waits to send an answer.
            await trio.aclose_forcefully(self._stream)
            if self._connection.closed is not None:
                raise self._failure() from None  # it had ended before, and says more
            raise SessionFailed(
                "reset", f"nothing could be sent for {self._send_timeout_seconds:g} s"
            ) from None

    async def aclose(self, *, politely: bool) -> None:
        """Close within CLOSE_DEADLINE_SECONDS, also when cancelled.

        `politely` says goodbye with the close handshake; a peer that is believed dead is
        spared the wait.
        """
        if politely and not self._is_cut:
            with trio.move_on_after(CLOSE_DEADLINE_SECONDS, shield=True):
                await self._say_goodbye()
        with trio.move_on_after(CLOSE_DEADLINE_SECONDS, shield=True):
            await trio.aclose_forcefully(self._stream)

    @property
    def refusal(self) -> SessionFailed | None:
        """The HTTP answer that refused the upgrade, if there was one, its body read or not."""
        status = self._refused_status
        if not status:
            return None
        return SessionFailed(f"handshake_{status}", f"the server refused with HTTP {status}")

    @property
    def unreadable(self) -> Unreadable | None:
        """The frame that ended the open connection by being unreadable or too large, if one did."""
        framing, closed = self._framing, self._connection.closed
        if framing is None:
            return None
        why = framing.breach
        if why is None and framing.close_frame is None and closed is not None:
            why = closed.reason if closed.code == CloseReason.MESSAGE_TOO_BIG else None
        return None if why is None else Unreadable(why, framing.head.decode(errors="replace"))

    async def _say_goodbye(self) -> None:
        await self._connection.aclose()

    def _failure(self) -> SessionFailed:
        refusal, framing = self.refusal, self._framing
        if refusal is not None:
            return refusal
        if self._error is not None:
            return SessionFailed("unreadable", f"not the WebSocket protocol: {self._error}")
        if framing is not None and (sent := framing.close_frame) is not None:
            return SessionFailed(f"closed_{sent.code}", sent.reason)
        if framing is not None and framing.breach is not None:
            return SessionFailed("unreadable", framing.breach)
        closed = self._connection.closed
        if closed is None or closed.code == CloseReason.ABNORMAL_CLOSURE:
            return SessionFailed("reset", "the connection ended without a close frame")
        # A close frame without a code is 1005; 1009 is what we close by on a frame too large.
        return SessionFailed(f"closed_{closed.code}", closed.reason or "")
