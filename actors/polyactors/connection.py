"""The connection: the actor that holds one session of a WebSocket, for a feed or the user channel.

An incarnation is one attempt: connect, subscribe, hand on what comes, fail. The supervisor's
backoff decides when the next one begins. Connecting is no part of the start: the actor is
ready at once, so that an outage never climbs the tree.

The procedure of a session, after PROTOCOL.md sections 1 and 8:
1. Wait until the parser listens, then for the turn at the connect gate.
2. Connect and upgrade.
3. Send the subscription first (a PING before it is answered by 1008), in frames of at most
   `ids_per_frame` ids (one frame with thousands of ids is answered by a close). Meanwhile one
   batch is received: how a server ends the session is then known, whatever else it reads.
4. With the first frame of it out, tell the line, and whoever listens to it, that the session is
   up, and hand on what comes: a server may answer a frame before it reads the next. With the
   last one out, tell the heartbeat.
5. Hand batches of frames to the parser; send what the control mailbox asks for.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from polyactors.connects import PROVEN_SECONDS
from polyactors.environment import Environment
from polyactors.errors import SessionFailed
from polyactors.feed import STOPPING
from polyactors.logger import log
from polyactors.messages import (
    Abort,
    ControlMessage,
    Frames,
    HeartbeatMessage,
    SendPing,
    SessionOpened,
)
from polyactors.parser import note_unreadable
from polyactors.protocol.events import Unreadable
from polyactors.protocol.subscription import PING
from polyactors.transport import Target, connect_websocket
from polyactors.websocket import WebSocket
from polysupervisor import Address, Context

_Work = Callable[[WebSocket], Awaitable[None]]


class Line(Protocol):
    """What a connection serves: it outlives the sessions, and knows what they are for."""

    id: str
    env: Environment
    parser_ready: trio.Event
    first_data: trio.Event
    beyond_first_dump: trio.Event

    @property
    def target(self) -> Target:
        """Where to connect."""
        ...

    async def wait_allowed(self) -> None:
        """Return when a connect makes sense."""
        ...

    def subscription(self) -> Sequence[str]:
        """The frames that begin a session."""
        ...

    def frames_for(self, orders: Sequence[ControlMessage]) -> Sequence[str]:
        """The frames that these orders ask for; PING and Abort are none of them."""
        ...

    def redact(self, text: str) -> str:
        """The text without what must not be shown."""
        ...

    def session_up(self, epoch: int) -> None:
        """A session began: its subscription is on its way, no frame of it was handed on yet."""
        ...

    def session_down(self, epoch: int, reason: str, detail: str) -> None:
        """The session ended, or its connect failed."""
        ...


async def run_connection(
    ctx: Context[ControlMessage],
    line: Line,
    parser: Address[Frames],
    heartbeat: Address[HeartbeatMessage],
) -> None:
    """One attempt at one session. Raises SessionFailed, which is expected, when it is over."""
    line.parser_ready = trio.Event()
    ctx.ready()
    session = _Session(ctx, line, parser, heartbeat, next(line.env.epochs))
    await session.run()


class _Session:
    def __init__(
        self,
        ctx: Context[ControlMessage],
        line: Line,
        parser: Address[Frames],
        heartbeat: Address[HeartbeatMessage],
        epoch: int,
    ) -> None:
        self._ctx = ctx
        self._line = line
        self._env = line.env
        self._parser = parser
        self._heartbeat = heartbeat
        self._epoch = epoch
        self._failure: SessionFailed | None = None
        self._is_up = trio.Event()

    async def run(self) -> None:
        reason, detail = "crashed", "a bug in the connection actor"
        began = False
        websocket: WebSocket | None = None
        # Two nurseries: if the WebSocket has a reader, it must outlive the session for the closing.
        async with trio.open_nursery() as reader_nursery:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_stop, nursery.cancel_scope)
                    await self._line.parser_ready.wait()
                    await self._line.wait_allowed()
                    await self._env.gate.wait_turn(self._epoch)
                    began = True
                    self._env.statistics.connects += 1
                    try:
                        websocket = await self._connect(reader_nursery)
                        nursery.start_soon(
                            self._guard, self._receive, websocket, nursery.cancel_scope
                        )
                        await self._subscribe(websocket)
                    except SessionFailed as failure:
                        self._fail(failure, nursery.cancel_scope)
                    else:
                        for work in (self._announce, self._control, self._grow_stable):
                            nursery.start_soon(self._guard, work, websocket, nursery.cancel_scope)
                if self._failure is not None:
                    reason, detail = self._failure.reason, self._failure.detail
                else:
                    reason, detail = STOPPING, ""
            except* trio.Cancelled:  # from a nursery it comes in a group
                reason, detail = STOPPING, ""
                raise
            finally:
                if websocket is not None and (unreadable := websocket.unreadable) is not None:
                    self._env.statistics.frames += 1
                    shown = Unreadable(unreadable.why, self._line.redact(unreadable.excerpt))
                    note_unreadable(shown, self._env.statistics)
                if began:
                    self._env.gate.end(self._epoch)
                    self._line.session_down(self._epoch, reason, detail)
                if websocket is not None:
                    await websocket.aclose(politely=reason == STOPPING)
                reader_nursery.cancel_scope.cancel()
        if self._failure is not None:
            log.info("feed down", feed=self._line.id, reason=reason, detail=detail)
            raise self._failure

    def _fail(self, failure: SessionFailed, scope: trio.CancelScope) -> None:
        if self._failure is None:
            # What a server says at the end may repeat what it was sent.
            self._failure = SessionFailed(failure.reason, self._line.redact(failure.detail))
        scope.cancel(reason=self._failure.reason)

    async def _guard(
        self,
        work: "_Work",
        websocket: WebSocket,
        scope: trio.CancelScope,
    ) -> None:
        # Failures of a session are remembered, not raised: the nursery would wrap them.
        try:
            await work(websocket)
        except SessionFailed as failure:
            self._fail(failure, scope)
        except (trio.EndOfChannel, trio.BrokenResourceError):
            # A stop is under way: the control mailbox has ended, or the parser and heartbeat,
            # which are stopped first, take no more. _watch_stop ends us.
            pass

    async def _watch_stop(self, scope: trio.CancelScope) -> None:
        await self._ctx.stop_requested.wait()
        scope.cancel(reason="stop requested")

    async def _connect(self, reader_nursery: trio.Nursery) -> WebSocket:
        settings = self._env.settings
        return await connect_websocket(
            reader_nursery,
            self._env.network,
            self._line.target,
            connect_timeout_seconds=settings.connect_timeout_seconds,
            send_timeout_seconds=settings.send_timeout_seconds,
            frame_bytes_max=settings.frame_bytes_max,
        )

    async def _subscribe(self, websocket: WebSocket) -> None:
        first, *others = self._line.subscription()
        await websocket.send(first)
        self._line.session_up(self._epoch)
        self._is_up.set()  # a server that is answered to nothing may not take the others
        for frame in others:
            await websocket.send(frame)

    async def _announce(self, _: WebSocket) -> None:
        await self._heartbeat.send(SessionOpened(self._epoch))

    async def _receive(self, websocket: WebSocket) -> None:
        statistics = self._env.statistics
        while True:
            frames = await websocket.receive_batch()
            received_at_ns = self._env.clock_ns()
            if not self._is_up.is_set():
                await self._is_up.wait()
            if statistics.first_frame_ns is None:
                statistics.note_first_frame()
            statistics.frames += len(frames)
            statistics.bytes += sum(map(len, frames))
            received = Frames(self._line.id, self._epoch, received_at_ns, frames)
            try:
                self._parser.send_nowait(received)  # it is parsed here and now, as a rule
            except trio.WouldBlock:
                await self._parser.send(received)

    async def _control(self, websocket: WebSocket) -> None:
        while True:
            orders = await self._ctx.inbox.receive_batch()
            for order in orders:
                if isinstance(order, SendPing):
                    await websocket.send(PING)
                elif isinstance(order, Abort) and order.epoch == self._epoch:
                    raise SessionFailed(order.reason, order.detail)
            for frame in self._line.frames_for(orders):
                await websocket.send(frame)

    async def _grow_stable(self, websocket: WebSocket) -> None:
        began = trio.current_time()
        await self._line.first_data.wait()
        await trio.sleep(PROVEN_SECONDS)
        self._env.gate.prove(self._epoch)
        await trio.sleep_until(began + self._env.settings.stable_session_seconds)
        # A session that brought nothing but its dump is no reason to reconnect eagerly.
        await self._line.beyond_first_dump.wait()
        self._ctx.reset_backoff()
