"""Injecting faults into the emulated exchange: aiming them, and keeping their log."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

import trio

from polyactors.venue import wire
from polyactors.venue.distortion import STAGES
from polyactors.venue.fault_life import Fault
from polyactors.venue.faults import (
    DEFAULT_SECONDS,
    FaultKind,
    FaultRecord,
    FaultVariant,
    GarbageVariant,
    NoTarget,
    RestErrorVariant,
)
from polyactors.venue.market_channel import MarketSession
from polyactors.venue.rest_faults import RestFaults
from polyactors.venue.session import Session
from polyactors.venue.user_channel import UserSession
from polyactors.venue.user_wire import LABELS

FAULT_LOG_MAX = 1000
"""Faults that are kept, newest ones; an older one is over, whatever it was."""

_AT_ONCE = (FaultKind.RESET, FaultKind.OVERSIZE, GarbageVariant.TEXT, GarbageVariant.SHAPE)
_OF_ONE_TOKEN = (FaultKind.MISSING_BOOK, FaultKind.TOKEN_STALL, FaultKind.MIRROR)
_OF_NO_SESSION = (FaultKind.STALE_REST, FaultKind.REST_ERROR, FaultKind.CLOCK_SKEW)
_VARIANTS: Mapping[FaultKind, Sequence[FaultVariant]] = {
    FaultKind.GARBAGE: tuple(GarbageVariant),
    FaultKind.REST_ERROR: tuple(RestErrorVariant),
}

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
    """Aims faults at sessions and keeps the log; what it draws, it draws from the seed.

    Of the faults that hit the whole exchange, the next one of a kind ends the one before.
    """

    def __init__(
        self,
        seed: int,
        sessions: Mapping[int, MarketSession],
        user_sessions: Mapping[int, UserSession],
        book_tokens: Callable[[], list[str]],
        rest: RestFaults,
        on_fault: Callable[[FaultRecord], None] | None,
        *,
        oversize_bytes: int,
    ) -> None:
        self._rng = Random(f"{seed}:faults")
        self._sessions = sessions
        self._user_sessions = user_sessions
        self._book_tokens = book_tokens
        self._rest = rest
        self._on_fault = on_fault
        self._oversize_bytes = oversize_bytes
        self._count = 0
        self._log: deque[Fault] = deque()
        self._refusal: Fault | None = None
        self._clock_skew: Fault | None = None
        self._missing_books: list[Fault] = []

    # What has become of them

    def log(self) -> tuple[FaultRecord, ...]:
        """The faults so far, oldest first, at most FAULT_LOG_MAX; after the run all are over."""
        now = trio.current_time() if trio.lowlevel.in_trio_run() else math.inf
        return tuple(fault.record(now) for fault in self._log)

    def active(self) -> list[FaultRecord]:
        """The faults that last now, and those that lie in wait."""
        return [record for record in self.log() if record.ended is None]

    @property
    def is_refusing(self) -> bool:
        """Whether handshakes are refused now."""
        return self._refusal is not None and not self._refusal.is_over(trio.current_time())

    @property
    def is_clock_skewed(self) -> bool:
        """Whether the exchange's clock runs ahead now."""
        return self._clock_skew is not None and not self._clock_skew.is_over(trio.current_time())

    def left_of(self, books: wire.WireEvent, session: int) -> wire.WireEvent | None:
        """The first books of a dump that are not missing; each such fault takes one."""
        return books.keep(lambda part: not self._takes_book(part, session))

    def session_ended(self, session: int) -> None:
        """No fault hits it any more."""
        for fault in self._log:
            fault.release(trio.current_time(), session)

    # Injecting

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody would feel a fault."""
        return bool(self._subscribed())

    def inject(
        self,
        kind: FaultKind,
        *,
        token: str | None = None,
        session: int | None = None,
        seconds: float | None = None,
        variant: str | None = None,
        reset: bool = False,
        account: str | None = None,
        about: str = "",
    ) -> FaultRecord:
        """See `Venue.inject`."""
        duration = DEFAULT_SECONDS[kind] if seconds is None else seconds
        if not 0 <= duration < math.inf:
            raise ValueError(f"a fault lasts a number of seconds from 0 on, not {seconds}")
        if token is not None and token not in self._book_tokens():
            raise ValueError(f"no book of token {token}")
        if not any(label.startswith(about) for label in LABELS):
            raise ValueError(f"nothing is about {about}, known are {', '.join(LABELS)}")
        if kind in _OF_NO_SESSION or kind is FaultKind.REFUSE:
            token = session = account = None
        chosen = self._choose_variant(kind, variant)
        targets = self._targets(kind, token, session, account)
        if kind in _OF_ONE_TOKEN:
            token = token or self._choose_token(kind, targets)
        if kind is FaultKind.MISSING_BOOK:
            holders = (s for s in self._sessions.values() if reset and token in s.tokens)
            targets = list[Session](holders)
        self._count += 1
        record = FaultRecord(
            id=self._count,
            kind=kind,
            token=token,
            tokens=(token,) if token and kind in _OF_ONE_TOKEN else self._books_of(targets),
            session=targets[0].id if len(targets) == 1 else None,
            started=trio.current_time(),
            seconds=0.0 if kind in _AT_ONCE or chosen in _AT_ONCE else duration,
            detail=chosen or "",
            about=about,
        )
        is_of_sessions = kind in STAGES or kind is FaultKind.SLOW
        fault = Fault(record, [target.id for target in targets] if is_of_sessions else None)
        if len(self._log) == FAULT_LOG_MAX:
            self._log.popleft().end(record.started)
        self._log.append(fault)
        self._begin(fault, targets, chosen)
        record = fault.record(record.started)
        if self._on_fault is not None:
            self._on_fault(record)
        return record

    def _choose_variant(self, kind: FaultKind, variant: str | None) -> FaultVariant | None:
        variants = _VARIANTS.get(kind, ())
        if variant is None:
            return self._rng.choice(variants) if variants else None
        chosen = next((known for known in variants if known == variant), None)
        if chosen is None:
            known = ", ".join(variants) or "none"
            raise ValueError(f"{kind} has no variant {variant}, known are {known}")
        return chosen

    def _targets(
        self, kind: FaultKind, token: str | None, session: int | None, account: str | None
    ) -> list[Session]:
        """The sessions to aim at: all that are meant, or one of the seed's choice."""
        if kind in _OF_NO_SESSION:
            return []
        if kind is FaultKind.REFUSE:
            return [*self._sessions.values(), *self._user_sessions.values()]
        sessions = self._meant(session, account)
        targets: list[Session] = []
        if token is not None or session is not None or account is not None:
            targets = [
                target
                for target in sessions
                if session in (None, target.id) and (token is None or token in target.tokens)
            ]
        elif kind is FaultKind.MISSING_BOOK:
            targets = sessions
        elif subscribed := self._subscribed():
            targets = [self._rng.choice(subscribed)]
        if not targets and kind is not FaultKind.MISSING_BOOK:
            raise NoTarget("no session that this fault could hit is connected")
        return targets

    def _meant(self, session: int | None, account: str | None) -> list[Session]:
        """Those of the user channel only where their account or their number is given."""
        if account is not None:
            users = self._user_sessions.values()
            return [u for u in users if u.account is not None and u.account.api_key == account]
        if session is not None and session in self._user_sessions:
            return [self._user_sessions[session]]
        return [*self._sessions.values()]

    def _subscribed(self) -> list[MarketSession]:
        return [session for session in self._sessions.values() if session.tokens]

    def _choose_token(self, kind: FaultKind, targets: Sequence[Session]) -> str:
        books: Sequence[str] = self._books_of(targets)
        if not books and kind is FaultKind.MISSING_BOOK:
            books = self._book_tokens()
        if not books:
            raise NoTarget("no session that this fault could hit follows a token with a book")
        return self._rng.choice(books)

    def _books_of(self, targets: Iterable[Session]) -> tuple[str, ...]:
        books = set(self._book_tokens())
        tokens = dict.fromkeys(token for target in targets for token in target.tokens)
        return tuple(token for token in tokens if token in books)

    def _begin(
        self, fault: Fault, targets: Sequence[Session], variant: FaultVariant | None
    ) -> None:
        now = trio.current_time()
        match fault.kind:
            case FaultKind.RESET | FaultKind.REFUSE:
                if fault.kind is FaultKind.REFUSE:
                    self._refusal = _replace(self._refusal, fault, now)
                self._strike_all(fault, targets, now)
                for target in targets:
                    target.drop("reset by a fault", reset=True)
            case FaultKind.SLOW:
                self._strike_all(fault, targets, now)
                for target in targets:
                    target.slow_until = max(target.slow_until, fault.until)
            case FaultKind.OVERSIZE:
                fault.strike(now)
                for target in targets:
                    target.send_oversize(self._oversize_bytes)
            case FaultKind.GARBAGE if variant is not GarbageVariant.HALF:
                fault.strike(now)
                for target in targets:
                    target.send(self._garbage(target, variant))
            case FaultKind.MISSING_BOOK:
                self._missing_books.append(fault)
                for target in targets:
                    target.drop("reset so that a book is missed", reset=True)
            case FaultKind.CLOCK_SKEW:
                fault.strike(now)
                self._clock_skew = _replace(self._clock_skew, fault, now)
            case FaultKind.STALE_REST:
                self._rest.freeze(fault)
            case FaultKind.REST_ERROR:
                assert isinstance(variant, RestErrorVariant)
                self._rest.fail(fault, variant)
            case _:
                for target in targets:
                    target.distortion.aim(fault)

    def _strike_all(self, fault: Fault, targets: Sequence[Session], now: float) -> None:
        for target in targets:
            parts = [wire.Part(token, "") for token in self._books_of([target])]
            fault.strike(now, target.id, parts)

    def _garbage(self, target: Session, variant: FaultVariant | None) -> str:
        if variant is GarbageVariant.TEXT:
            return self._rng.choice(_TEXTS)
        return wire.to_json(self._rng.choice(_SHAPES)(next(iter(target.tokens), "")))

    def _takes_book(self, part: wire.Part, session: int) -> bool:
        now = trio.current_time()
        self._missing_books = [fault for fault in self._missing_books if not fault.is_over(now)]
        fault = next((f for f in self._missing_books if f.token == part.token), None)
        if fault is None:
            return False
        fault.strike(now, session, [part])
        fault.end(now)
        return True


def _replace(before: Fault | None, fault: Fault, now: float) -> Fault:
    if before is not None:
        before.end(now)
    return fault
