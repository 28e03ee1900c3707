"""The demo: the same service against the embedded exchange, over loopback, with faults.

The exchange misbehaves on a schedule; what it does and how long the books took to be right
again stands in the stream as fault_injected and fault_recovered.
"""

from collections.abc import Callable, Sequence
from functools import partial

import attrs
import trio

from polyactors.book.trust import TrustState
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.events import FaultInjected, FaultRecovered, FeedDown, TrustChanged
from polyactors.extensions.spec import ActorSpec
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.stops import deliver_soon
from polyactors.stream import Subscription
from polyactors.transport import Network
from polyactors.venue.exchange import Venue
from polyactors.venue.faults import FaultRecord
from polyactors.venue.scheduling import FaultSchedule
from polyactors.venue.server import Endpoints, serve_venue
from polysupervisor import ChildSpec, Context, Shutdown, run_app

DATA_DEADLINE_SECONDS = 3.0
PING_INTERVAL_SECONDS = 1.0
PONG_DEADLINE_SECONDS = 3.0
FIRST_BOOK_DEADLINE_SECONDS = 2.0
AUDIT_SECONDS = 6.0
RECONNECT_SECONDS_MAX = 1.0
"""The exchange fails every few seconds on purpose: no reason to come back ever more slowly."""
UNFELT_SECONDS = 1.0
"""A fault that is over for so long without having disturbed a book may have been shrugged off."""

Sink = Callable[[Service], ChildSpec[object]]


def demo_settings(settings: Settings, endpoints: Endpoints) -> Settings:
    """The user's settings with the exchange's endpoints, and deadlines that a viewer can see."""
    return attrs.evolve(
        settings,
        ws_url=endpoints.ws_url,
        clob_url=endpoints.clob_url,
        gamma_url=endpoints.gamma_url,
        data_deadline_seconds=DATA_DEADLINE_SECONDS,
        ping_interval_seconds=PING_INTERVAL_SECONDS,
        pong_deadline_seconds=PONG_DEADLINE_SECONDS,
        first_book_deadline_seconds=FIRST_BOOK_DEADLINE_SECONDS,
        audit_seconds=AUDIT_SECONDS,
        reconnect_seconds_max=RECONNECT_SECONDS_MAX,
    )


async def run_demo(
    *,
    seed: int,
    markets: int,
    rate: float,
    faults: bool,
    seconds: float | None,
    settings: Settings,
    actors: Sequence[ActorSpec] = (),
    sinks: Sequence[Sink] = (),
    last: Sink | None = None,
    on_service: Callable[[Service], None] = lambda service: None,
) -> int:
    """Run until `seconds` have passed or a signal came; returns the exit code."""
    tracker = FaultTracker()
    venue = tracker.venue = Venue(
        seed=seed,
        markets=markets,
        rate=rate,
        schedule=FaultSchedule.for_demo(seed, seconds) if faults else None,
        on_fault=tracker.injected,
    )
    async with trio.open_nursery() as nursery:
        endpoints = await nursery.start(partial(serve_venue, venue))
        env = Environment(demo_settings(settings, endpoints))
        async with RestClient(env.settings, Network()) as rest:
            service = Service(
                Wanted(tokens=tuple(venue.tokens)),
                env=env,
                rest=rest,
                actors=actors,
                sinks=[*sinks, tracker.sink],
                last=last,
            )
            on_service(service)
            nursery.start_soon(venue.run)
            if seconds is not None:
                nursery.start_soon(_stop_after, seconds, service)
            nursery.start_soon(deliver_soon)  # run_app opens its receiver in this very step
            code = await run_app(service.root)
            env.hub.end()
        nursery.cancel_scope.cancel()
    return code


async def _stop_after(seconds: float, service: Service) -> None:
    await trio.sleep(seconds)
    service.stop()


class FaultTracker:
    """Says in the stream which fault was injected, and when its books were right again.

    Right is what the exchange says: here, and only here, its own books are at hand.
    """

    def __init__(self) -> None:
        self.venue: Venue | None = None
        self._open: dict[int, FaultRecord] = {}
        self._disturbed: set[int] = set()
        self._service: Service | None = None

    def sink(self, service: Service) -> ChildSpec[object]:
        """The child that watches the books recover."""
        self._service = service
        subscription = service.events()
        return ChildSpec(
            id="faults",
            factory=lambda: lambda ctx: self._watch(ctx, service, subscription),
            shutdown=Shutdown(grace=0.0),
        )

    def injected(self, record: FaultRecord) -> None:
        """The exchange begins to misbehave."""
        service = self._service
        assert service is not None
        self._open[record.id] = record
        feed = service.feed_id(record.tokens[0]) if record.tokens else None
        service.env.hub.publish(
            [
                FaultInjected(
                    time_ns=service.env.clock_ns(),
                    id=record.id,
                    kind=str(record.kind),
                    token=record.token,
                    feed=None if record.token is not None else feed,
                )
            ]
        )

    async def _watch(
        self, ctx: Context[object], service: Service, subscription: Subscription
    ) -> None:
        ctx.ready()
        while True:
            with trio.move_on_after(UNFELT_SECONDS / 4):
                for event in await subscription.receive_batch():
                    if isinstance(event, FeedDown) or (
                        isinstance(event, TrustChanged) and event.state is TrustState.STALE
                    ):
                        self._disturbed.update(self._open)
            for record in list(self._open.values()):
                if self._is_over(record, service):
                    self._recovered(record, service)

    def _is_over(self, record: FaultRecord, service: Service) -> bool:
        assert self.venue is not None
        record = next((r for r in self.venue.fault_log if r.id == record.id), record)
        if record.ended is None:
            return False
        # It may not have been noticed yet, or pass unfelt, like frames that are only late.
        was_felt = record.id in self._disturbed
        if not was_felt and trio.current_time() < record.ended + UNFELT_SECONDS:
            return False
        tokens = record.hurt or record.tokens or service.tokens
        return all(self._is_right(token, service) for token in tokens)

    def _is_right(self, token: str, service: Service) -> bool:
        assert self.venue is not None
        state = self.venue.book_state(token)
        if service.trust(token).state is not TrustState.LIVE or state is None:
            return state is None  # resolved: there is nothing to be right about
        book = service.book(token)
        return (tuple(book.wire_bids), tuple(book.wire_asks)) == (
            tuple(state.bids),
            tuple(state.asks),
        )

    def _recovered(self, record: FaultRecord, service: Service) -> None:
        del self._open[record.id]
        self._disturbed.discard(record.id)
        service.env.hub.publish(
            [
                FaultRecovered(
                    time_ns=service.env.clock_ns(),
                    id=record.id,
                    kind=str(record.kind),
                    seconds=round(trio.current_time() - record.started, 3),
                )
            ]
        )
