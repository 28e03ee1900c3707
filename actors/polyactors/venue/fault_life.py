"""One fault in its life: it waits, it strikes, it is over. Pure: times come in."""

from collections.abc import Iterable

from attrs import evolve

from polyactors.venue.faults import FaultKind, FaultRecord, Strike
from polyactors.venue.wire import Part


class Fault:
    """What keeps a `FaultRecord` true.

    `targets` are the numbers of the sessions that it is aimed at; None when it is aimed at
    none. It ends when its time is up, when `end` says so, or when the last target is released.
    """

    def __init__(self, record: FaultRecord, targets: Iterable[int] | None = None) -> None:
        self._record = record
        self._targets = None if targets is None else set(targets)
        self._strikes: dict[tuple[int | None, str], Strike] = {}
        self._struck: float | None = None
        self._ended: float | None = None

    @property
    def id(self) -> int:
        """Of its record."""
        return self._record.id

    @property
    def kind(self) -> FaultKind:
        """Of its record."""
        return self._record.kind

    @property
    def token(self) -> str | None:
        """The token that it is aimed at, if any."""
        return self._record.token

    @property
    def about(self) -> str:
        """Of its record."""
        return self._record.about

    @property
    def until(self) -> float:
        """When its time is up."""
        return self._record.started + self._record.seconds

    def is_over(self, now: float) -> bool:
        """Whether it does nothing any more."""
        if self._ended is None and now >= self.until:
            self._ended = self.until
        return self._ended is not None

    def strike(self, now: float, session: int | None = None, parts: Iterable[Part] = ()) -> None:
        """It did something, and `parts` of what was said to this session were hurt by it."""
        self._struck = now
        for part in parts:
            if part.token:
                key = (session, part.token)
                first = self._strikes[key].first if key in self._strikes else now
                self._strikes[key] = Strike(session, part.token, first, now, part.hash)

    def release(self, now: float, session: int) -> None:
        """This session has had it, or is gone."""
        if self._targets is not None and session in self._targets:
            self._targets.remove(session)
            if not self._targets:
                self.end(now)

    def end(self, now: float) -> None:
        """It is over, unless it was before."""
        if not self.is_over(now):
            self._ended = now

    def record(self, now: float) -> FaultRecord:
        """Its life until now."""
        self.is_over(now)
        return evolve(
            self._record,
            struck=self._struck,
            ended=self._ended,
            strikes=tuple(self._strikes.values()),
        )
