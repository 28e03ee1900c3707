"""How long a wrong book may be called LIVE, at most: a named bound for each way to go wrong.

Seconds throughout, counted from the moment when the book began to differ from the exchange's.
A fault that is no older than its bound may still be undetected; an older one is a breach.

| what went wrong | bound | why |
|---|---|---|
| the top, and the exchange's newest step was heard | 0 once settled | its group's end |
| deeper, and the exchange spoke of the token again | `audit` | its turn at the hash |
| a last change, or a whole token's, was lost | `audit` | REST states another hash |
| nothing comes any more | `silence` | the data deadline, then the probe |
| a fault that shows at once | 0 | STALE or a gap before anything else |
| bytes that are late | their own length | not lost: under way |

What keeps REST from telling the truth keeps the audit from finding it, and prolongs `audit`
by its own length; so does what holds the stream up.
"""

from collections.abc import Iterable, Mapping

from attrs import frozen
from tests.simulation.delays import Delays

from polyactors.audit_round import AGAIN_SECONDS, BACKOFF_SECONDS_MAX, REQUEST_INTERVAL_SECONDS
from polyactors.comparison import AUDIT_GRACE_SECONDS
from polyactors.config import Settings
from polyactors.probe import PROBE_SECONDS_MAX
from polyactors.venue.faults import FaultKind, FaultRecord

DELIVERY_SECONDS = 0.002
"""From the exchange to the reader on a network without delays. Virtual time stands still until
everybody has acted, so this is ample."""
AUDIT_AGAIN_SECONDS_MAX = AUDIT_GRACE_SECONDS + AGAIN_SECONDS + 2 * REQUEST_INTERVAL_SECONDS
"""From the audit's first answer, which may only be ahead of the stream, to the second, which
proves: the grace for the stream, and the pace of the requests. It fits into `audit_seconds`,
half of which a round takes, unless that is set to seconds."""
REST_BACKOFF_SECONDS_MAX = BACKOFF_SECONDS_MAX
"""What the audit rests, at most, after REST has failed it."""
HEAL_SECONDS_MAX = 90.0
"""From the last fault until every book is right: a backoff of 30 s, a first book that does not
come, and a backoff of the token's own."""
STOP_SECONDS_MAX = 30.0

AT_ONCE = frozenset(
    {
        FaultKind.RESET,
        FaultKind.REFUSE,
        FaultKind.GARBAGE,
        FaultKind.MISSING_BOOK,
        FaultKind.OVERSIZE,
    }
)
"""Kinds that the service sees as they happen: no book may be wrong by them for a moment."""
HARMLESS = frozenset(
    {
        FaultKind.DUPLICATE,  # sizes are absolute
        FaultKind.UNKNOWN_FIELDS,
        FaultKind.CLOCK_SKEW,  # hashes tell what timestamps do not
        FaultKind.SLOW,  # late, complete and in order
        FaultKind.REST_ERROR,  # an answer that does not come proves nothing
    }
)
"""Kinds that must leave every book as it is."""
LOSSY = frozenset(FaultKind) - AT_ONCE - HARMLESS
"""Kinds by which a book can be wrong for a while: silently lost, out of order, or out of date."""
LASTING = frozenset(
    {
        FaultKind.STALL,
        FaultKind.REFUSE,
        FaultKind.SLOW,
        FaultKind.TOKEN_STALL,
        FaultKind.MIRROR,
        FaultKind.STALE_REST,
        FaultKind.REST_ERROR,
        FaultKind.UNKNOWN_FIELDS,
        FaultKind.CLOCK_SKEW,
    }
)
"""Kinds that go on for a while; the others happen at once, or lie in wait for their chance."""
_BLIND_AFTER_SECONDS: Mapping[FaultKind, float] = {
    FaultKind.STALE_REST: 0.0,
    FaultKind.REST_ERROR: REST_BACKOFF_SECONDS_MAX,
    FaultKind.SLOW: 0.0,
}
"""Kinds while which the audit sees nothing, and for how long after their end."""


@frozen
class Bounds:
    """The bounds under one set of settings."""

    delivery: float
    """From the exchange to the reader."""
    audit: float
    """Until a book has had its turn at the hash, and until what was lost is missed by REST's."""
    silence: float
    """Until a session that says nothing of what happens has failed."""

    @classmethod
    def of(cls, settings: Settings, delays: Delays) -> "Bounds":
        """As the settings have it, and the network: two answers of REST must arrive."""
        delivery = delays.stream_seconds + DELIVERY_SECONDS
        seconds = settings.audit_seconds
        audit = max(seconds, seconds / 2 + AUDIT_AGAIN_SECONDS_MAX) + 2 * delays.rest_seconds
        return cls(
            delivery=delivery,
            audit=audit + delivery,
            silence=settings.data_deadline_seconds + PROBE_SECONDS_MAX + delivery,
        )

    def deadline(
        self, since: float, culprits: Iterable[FaultRecord], log: Iterable[FaultRecord]
    ) -> float:
        """Until when a book that is wrong since then, by one of these, may be undetected."""
        deadline = since + max(self._seconds(record, since) for record in culprits)
        for record in sorted(log, key=lambda record: record.started):
            if record.kind in _BLIND_AFTER_SECONDS and record.started < deadline:
                blind_until = end_of(record) + _BLIND_AFTER_SECONDS[record.kind]
                deadline += max(0.0, blind_until - max(record.started, since))
        return deadline

    def _seconds(self, record: FaultRecord, since: float) -> float:
        if record.kind not in LOSSY:
            return 0.0
        if record.kind is FaultKind.STALL and end_of(record) >= since + self.silence:
            return self.silence
        return self.audit


def end_of(record: FaultRecord) -> float:
    """When a fault is over, at the latest, as far as one can say now."""
    return record.started + record.seconds if record.ended is None else record.ended


def cover(record: FaultRecord, token: str, since: float, until: float) -> bool:
    """Whether a fault hurt this token at any time from `since` to `until`."""
    return any(
        strike.token == token and strike.first <= until and strike.last >= since
        for strike in record.strikes
    )
