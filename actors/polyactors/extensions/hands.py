"""What an actor of a user's is given: who it is, the service, and how it makes itself heard."""

import math
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from attrs import Factory, define

from polyactors.events import ActorEvent
from polyactors.logger import log
from polysupervisor import Context

if TYPE_CHECKING:
    from polyactors.extensions.roster import Extensions
    from polyactors.service import Service

TASKS_MAX = 1000
"""Tasks of one actor at a time."""
METRICS_MAX = 64
"""Different names that one actor may count and measure."""
LINES_MAX = 8
LINE_CHARS_MAX = 160
"""Of what an actor shows in the live view."""
DATA_BYTES_MAX = 65_536
"""Of one event, as JSON."""
EVENTS_PER_SECOND = 1000
"""What an actor publishes faster than that waits: so much at once, and so many a second."""
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_encoder = msgspec.json.Encoder(decimal_format="string")


@define
class Heard:
    """What one actor has made known of itself, over all its incarnations."""

    metrics: dict[str, float] = Factory(dict[str, float])
    lines: tuple[str, ...] = ()
    published: int = 0
    room: float = EVENTS_PER_SECOND
    """How many events it may publish at once, now."""
    measured_at: float = 0.0


class ActorContext:
    """The hands of one incarnation of an actor. It ends with it; do not keep it longer."""

    def __init__(
        self,
        ctx: "Context[object]",
        service: "Service",
        actors: "Extensions",
        heard: Heard,
        nursery: trio.Nursery,
    ) -> None:
        self.name = ctx.id
        """The actor's name."""
        self.incarnation = ctx.incarnation
        """1 for the first start, one more for each restart."""
        self.last_exit = ctx.last_exit
        """How the incarnation before this one ended; None for the first."""
        self.service = service
        """The service: books, trust, account, tokens. `service.book(token)` raises BookNotLive."""
        self.log = log.bind(actor=ctx.id)
        """A logger that names the actor."""
        self._ctx = ctx
        self._actors = actors
        self._heard = heard
        self._nursery = nursery

    @property
    def time_ns(self) -> int:
        """The wall clock of the service, nanoseconds since the epoch, as events have it."""
        return self.service.env.clock_ns()

    async def publish(self, event: str, /, **data: object) -> None:
        """Publish an event of one's own into the stream: an ActorEvent that `event` names.

        `data` is what JSON can hold, Decimals as texts, up to DATA_BYTES_MAX bytes in all. What
        comes faster than EVENTS_PER_SECOND waits here. Raises ValueError for what is too large
        or no lower-case word, TypeError for what JSON cannot hold. Cancellation: it is published
        or not.
        """
        name = _word(event)
        try:
            encoded = _encoder.encode(data)
        except RecursionError as error:
            raise ValueError(f"JSON cannot hold the data of {name}: {error}") from None
        if len(encoded) > DATA_BYTES_MAX:
            raise ValueError(f"an event holds at most {DATA_BYTES_MAX} bytes, not {len(encoded)}")
        await self._take_turn()
        time_ns = self.time_ns
        self.service.env.hub.publish(
            [
                ActorEvent(
                    time_ns=time_ns,
                    actor=self.name,
                    name=name,
                    # A copy: what the actor changes later is not what it said.
                    data=msgspec.json.decode(encoded),
                )
            ]
        )
        self._heard.published += 1

    async def send(self, to: str, message: object) -> None:
        """Put a message into the mailbox of another actor. Its policy says what a full one does.

        Raises LookupError when there is no actor of that name, TypeError when it does not take
        messages of this class. Cancellation: it was sent.
        """
        self._actors.find(to).take(message)
        await trio.lowlevel.checkpoint()

    def count(self, metric: str, by: float = 1) -> None:
        """Add to a counter of one's own. Counters outlive restarts.

        Raises ValueError for what is no lower-case word, no finite number, and for one name more
        than METRICS_MAX.
        """
        self.gauge(metric, self._heard.metrics.get(metric, 0) + by)

    def gauge(self, metric: str, value: float) -> None:
        """Set a measurement of one's own. Raises as `count` does."""
        metrics = self._heard.metrics
        if metric not in metrics and len(metrics) >= METRICS_MAX:
            raise ValueError(f"an actor has at most {METRICS_MAX} metrics: {metric!r} is too many")
        metrics[_word(metric)] = _number(metric, value)

    def show(self, *lines: str) -> None:
        """Show these lines in the live view, in the place of those before; none: nothing.

        At most LINES_MAX lines of LINE_CHARS_MAX characters are shown.
        """
        self._heard.lines = tuple(str(line)[:LINE_CHARS_MAX] for line in lines[:LINES_MAX])

    def start_soon(self, run: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run a task beside the handler. An exception out of it is a failure of the actor; it is
        cancelled when the incarnation ends, and not begun when that ends already. Raises
        RuntimeError for one more than TASKS_MAX."""
        if trio.current_effective_deadline() == -math.inf:
            return  # tasks that only start tasks would go on for ever
        if len(self._nursery.child_tasks) > TASKS_MAX:  # one is the runtime's
            raise RuntimeError(f"an actor runs at most {TASKS_MAX} tasks at a time")
        self._nursery.start_soon(run, *args)

    def healthy(self) -> None:
        """Declare this incarnation a success: its failures in a row are forgotten."""
        self._ctx.reset_backoff()

    async def _take_turn(self) -> None:
        await trio.lowlevel.checkpoint()
        heard, now = self._heard, trio.current_time()
        refilled = heard.room + (now - heard.measured_at) * EVENTS_PER_SECOND
        heard.room = min(refilled, EVENTS_PER_SECOND) - 1
        heard.measured_at = now
        if heard.room < 0:
            await trio.sleep(-heard.room / EVENTS_PER_SECOND)


def _word(name: str) -> str:
    if _WORD.fullmatch(name):
        return name
    raise ValueError(f"{name!r} is no name: up to 64 lower-case letters, digits and _")


def _number(metric: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number):
        return number
    raise ValueError(f"{metric} must be a finite number, not {value!r:.100}")
