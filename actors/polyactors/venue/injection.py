"""Injecting faults into the sessions of the emulated exchange, by hand and by schedule."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random

import trio

from polyactors.venue import wire
from polyactors.venue.faults import (
    DEFAULT_SECONDS,
    FaultKind,
    FaultRecord,
    FaultSchedule,
    GarbageVariant,
    NoTarget,
    ScheduledFault,
)
from polyactors.venue.market_channel import MarketSession

FAULT_LOG_MAX = 1000
"""Fault records that are kept, newest ones."""
_TARGET_POLL_SECONDS = 0.1

_TEXTS = (
    "<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>",
    "upstream connect error or disconnect/reset before headers",
    '{"event_type":"price_change","market":',
)
_SHAPES: tuple[Callable[[str], object], ...] = (
    lambda token: {"event_type": "price_change", "market": 42, "price_changes": token},
    lambda token: {"event_type": "book", "asset_id": token, "bids": {"price": "0.5"}, "asks": 7},
    lambda token: [[token], None, "book"],
    lambda token: {"event_type": "price_change", "price_changes": [{"asset_id": token}]},
)


class FaultInjector:
    """Aims faults at sessions and keeps the log; what it draws, it draws from the seed."""

    def __init__(
        self,
        seed: int,
        sessions: Mapping[int, MarketSession],
        book_tokens: Callable[[], list[str]],
        on_fault: Callable[[FaultRecord], None] | None,
    ) -> None:
        self.log: deque[FaultRecord] = deque(maxlen=FAULT_LOG_MAX)
        self.refuse_until = -math.inf
        """`trio.current_time()` until which handshakes are refused."""
        self._rng = Random(f"{seed}:faults")
        self._sessions = sessions
        self._book_tokens = book_tokens
        self._on_fault = on_fault
        self._count = 0
        self._missing_books: dict[str, int] = {}

    def active(self) -> list[FaultRecord]:
        """The faults that last now, with the missing books that nobody missed yet."""
        now = trio.current_time()
        armed = set(self._missing_books.values())
        return [record for record in self.log if record.is_active(now) or record.id in armed]

    def takes_book(self, token: str) -> bool:
        """Whether this first book is to be left out; it is, once for each fault."""
        return self._missing_books.pop(token, None) is not None

    def inject(
        self,
        kind: FaultKind,
        *,
        token: str | None = None,
        session: int | None = None,
        seconds: float | None = None,
        variant: GarbageVariant | None = None,
        reset: bool = False,
    ) -> FaultRecord:
        """See `Venue.inject`."""
        duration = DEFAULT_SECONDS[kind] if seconds is None else seconds
        if not 0 <= duration < math.inf:
            raise ValueError(f"a fault lasts a number of seconds from 0 on, not {seconds}")
        if token is not None and token not in self._book_tokens():
            raise ValueError(f"no book of token {token}")
        if kind is FaultKind.MISSING_BOOK:
            return self._take_book(token or self._choose_token(session), reset)
        if kind is FaultKind.REFUSE:
            targets = list(self._sessions.values())
        else:
            targets = self._targets(token, session)
        until = trio.current_time() + duration
        detail = ""
        match kind:
            case FaultKind.RESET | FaultKind.REFUSE:
                if kind is FaultKind.REFUSE:
                    self.refuse_until = max(self.refuse_until, until)
                for target in targets:
                    target.drop("reset by a fault", reset=True)
            case FaultKind.STALL:
                for target in targets:
                    target.muted_until = max(target.muted_until, until)
            case FaultKind.SLOW:
                for target in targets:
                    target.slow_until = max(target.slow_until, until)
            case FaultKind.GARBAGE:
                variant = variant or self._rng.choice(list(GarbageVariant))
                detail = variant.value
                for target in targets:
                    self._spoil(target, variant)
        return self._record(kind, token, targets, duration, detail)

    async def run(self, schedule: FaultSchedule, until_resumed: Callable[[], trio.Event]) -> None:
        """Inject a schedule's faults, each as soon as it is due and somebody would feel it.

        `until_resumed` gives the event that is set while the exchange is not paused; a pause
        shifts what is left of the schedule. Returns at the end of the schedule.
        """
        start = trio.current_time()
        for fault in schedule:
            await trio.sleep_until(start + fault.at_seconds)
            paused_at = trio.current_time()
            await until_resumed().wait()
            start += trio.current_time() - paused_at
            await self._inject_when_felt(fault)

    async def _inject_when_felt(self, fault: ScheduledFault) -> None:
        with trio.move_on_after(fault.patience_seconds):
            while not self._subscribed():  # noqa: ASYNC110 - bounded, and seldom
                await trio.sleep(_TARGET_POLL_SECONDS)
        if self._subscribed():
            self.inject(fault.kind, seconds=fault.seconds, reset=True)

    def _subscribed(self) -> list[MarketSession]:
        return [session for session in self._sessions.values() if session.tokens]

    def _targets(self, token: str | None, session: int | None) -> list[MarketSession]:
        if session is not None:
            targets = [s for s in self._sessions.values() if s.id == session]
        elif token is not None:
            targets = [s for s in self._sessions.values() if token in s.tokens]
        else:
            subscribed = self._subscribed()
            targets = [self._rng.choice(subscribed)] if subscribed else []
        if not targets:
            raise NoTarget("no session that this fault could hit is connected")
        return targets

    def _choose_token(self, session: int | None) -> str:
        targets = self._subscribed() if session is None else self._targets(None, session)
        return self._rng.choice(self._books_of(targets) or self._book_tokens())

    def _books_of(self, targets: Sequence[MarketSession]) -> list[str]:
        books = set(self._book_tokens())
        tokens = dict.fromkeys(token for target in targets for token in target.tokens)
        return [token for token in tokens if token in books]

    def _take_book(self, token: str, reset: bool) -> FaultRecord:
        targets = [s for s in self._sessions.values() if reset and token in s.tokens]
        for target in targets:
            target.drop("reset so that a book is missed", reset=True)
        record = self._record(FaultKind.MISSING_BOOK, token, targets, 0.0, "")
        self._missing_books[token] = record.id
        return record

    def _spoil(self, target: MarketSession, variant: GarbageVariant) -> None:
        match variant:
            case GarbageVariant.TEXT:
                target.send(self._rng.choice(_TEXTS))
            case GarbageVariant.SHAPE:
                token = next(iter(target.tokens), "")
                target.send(wire.to_json(self._rng.choice(_SHAPES)(token)))
            case GarbageVariant.HALF:
                target.cut_next = True

    def _record(
        self,
        kind: FaultKind,
        token: str | None,
        targets: Sequence[MarketSession],
        seconds: float,
        detail: str,
    ) -> FaultRecord:
        # What is missing is one book; every other fault is felt on all of a session's tokens.
        books = self._books_of(targets) if kind is not FaultKind.MISSING_BOOK else [token or ""]
        self._count += 1
        record = FaultRecord(
            id=self._count,
            kind=kind,
            token=token,
            tokens=tuple(books),
            session=targets[0].id if len(targets) == 1 else None,
            started=trio.current_time(),
            seconds=seconds,
            detail=detail,
        )
        self.log.append(record)
        if self._on_fault is not None:
            self._on_fault(record)
        return record
