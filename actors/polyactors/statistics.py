"""Counters of one service: what the summary reports. Every actor of a service shares one.

Plain integers, changed only between checkpoints of one Trio loop, so nothing protects them.
"""

import resource
import sys
import time
from collections import Counter, deque
from pathlib import Path

from attrs import Factory, define

from polyactors.durations import Durations, nearest_rank

LAG_MS_MAX = 60_000
"""Greater lags are counted as this one, so that the histogram stays bounded."""
SAMPLES_KEPT_MAX = 20
"""Unreadable frames kept for inspection, the newest ones."""
UNKNOWN_NAMES_MAX = 256
"""Different unknown event types or fields counted by name; more are counted as OTHER."""
OTHER = "(other)"
GONE = "(rotated)"
"""Stands for the path of actors that were replaced."""


def count_name(counter: Counter[str], name: str) -> None:
    """Count a name that the other side chose: the number of different names is bounded."""
    counter[name if name in counter or len(counter) < UNKNOWN_NAMES_MAX else OTHER] += 1


@define
class Statistics:
    """What happened since the service began."""

    started_ns: int = Factory(time.monotonic_ns)
    cpu_started_seconds: float = Factory(time.process_time)
    frames: int = 0
    bytes: int = 0
    """Of frames, after the WebSocket framing was taken off; characters of text frames."""
    events: Counter[str] = Factory(Counter[str])
    """By the wire's event type."""
    unknown_events: Counter[str] = Factory(Counter[str])
    unknown_fields: Counter[str] = Factory(Counter[str])
    unreadable_frames: int = 0
    unreadable_samples: deque[str] = Factory(lambda: deque[str](maxlen=SAMPLES_KEPT_MAX))
    connects: int = 0
    """Attempts to connect."""
    restarts: Counter[str] = Factory(Counter[str])
    """By path of the actor."""
    resyncs: Counter[str] = Factory(Counter[str])
    """By reason."""
    rotations: int = 0
    """Feeds that were replaced by fresh ones."""
    reconciliations: int = 0
    """Times that the lists of the account were read."""
    reconciliations_failed: int = 0
    odd_trades: int = 0
    """Of the lists, matched later than now: theirs is the exchange's clock."""
    recovered_changes: int = 0
    """Changes of the account that the lists told and the channel had not."""
    stale_batches: int = 0
    """Batches of a dead epoch that were dropped."""
    foreign_events: int = 0
    """Events of tokens that the feed does not follow (the complement of a followed one)."""
    requests_lost: int = 0
    """Resyncs and fetches for a child that is gone for good; its return brings fresh books."""
    groups: int = 0
    """Hash groups that were closed and judged."""
    groups_top_wrong: int = 0
    """Groups whose best prices were not the stated ones."""
    groups_hash_ok: int = 0
    groups_hash_unverifiable: int = 0
    """Groups whose turn at the hash had come, but whose hash hangs on what we do not know."""
    snapshots: int = 0
    """Whole books taken, from the stream and from REST."""
    snapshots_hash_ok: int = 0
    snapshots_hash_unverifiable: int = 0
    desyncs_by_reason: Counter[str] = Factory(Counter[str])
    """Books proven wrong."""
    audits: int = 0
    """Books that REST gave to be compared."""
    audits_lost: int = 0
    """Of them, those that a shard was too far behind to take."""
    audit_requests_failed: int = 0
    audits_ok: int = 0
    """Books that REST confirmed."""
    audits_behind: int = 0
    """Answers of REST that were older than the local book: they prove nothing."""
    audits_suspect: int = 0
    """Answers of REST that the stream had not said, or not yet: asked again."""
    probes: Counter[str] = Factory(Counter[str])
    """Of silent feeds, by what they found: quiet, alive, stalled."""
    hash_checks: int = 0
    """Books hashed to compare, whatever came of it."""
    hash_cpu_seconds: float = 0.0
    """What they cost."""
    detect: Durations = Factory(Durations)
    """How long at most a wrong book stood before it was called STALE: from when that kind of
    check last knew it right; for a stalled feed, from its last data."""
    heal: Durations = Factory(Durations)
    """From STALE, whatever the reason, to LIVE again."""
    first_frame_ns: int | None = None
    """Monotonic."""
    last_applied_ns: int | None = None
    """Monotonic."""
    lags_ms: Counter[int] = Factory(Counter[int])

    @property
    def desyncs(self) -> int:
        """Books proven wrong, for whatever reason."""
        return self.desyncs_by_reason.total()

    def note_first_frame(self) -> None:
        """The first frame of the service has arrived."""
        self.first_frame_ns = time.monotonic_ns()

    @property
    def groups_top_ok(self) -> int:
        """Groups whose best prices were the stated ones, or that stated none."""
        return self.groups - self.groups_top_wrong

    def note_lags(self, stamps_ms: list[int], now_ms: int) -> None:
        """Count events' own timestamps, at least one, against our clock; a clock ahead of ours is
        0."""
        lags_ms = [now_ms - stamp_ms for stamp_ms in stamps_ms]
        if min(lags_ms) < 0 or max(lags_ms) > LAG_MS_MAX:
            lags_ms = [min(max(lag_ms, 0), LAG_MS_MAX) for lag_ms in lags_ms]
        if len(lags_ms) == 1:
            self.lags_ms[lags_ms[0]] += 1
        else:
            self.lags_ms.update(lags_ms)

    def forget_actor(self, path: str) -> None:
        """An actor, and what was below it, is gone for good: its restarts are the next one's."""
        for name in [name for name in self.restarts if name == path or name.startswith(path + "/")]:
            self.restarts[GONE + name.removeprefix(path)] += self.restarts.pop(name)

    def lag_percentile_ms(self, percent: float) -> int | None:
        """Nearest-rank percentile; None before the first event."""
        return nearest_rank(self.lags_ms, percent)

    def summary(self, tokens: dict[str, int]) -> dict[str, object]:
        """The object that `--summary` writes. `tokens`: number of tokens by trust state."""
        return {
            "seconds": round((time.monotonic_ns() - self.started_ns) / 1e9, 3),
            "frames": self.frames,
            "bytes": self.bytes,
            "events": dict(self.events),
            "unknown_events": self.unknown_events.total(),
            "unknown_event_types": dict(self.unknown_events),
            "unknown_fields": dict(self.unknown_fields),
            "unreadable_frames": self.unreadable_frames,
            "unreadable_samples": list(self.unreadable_samples),
            "connects": self.connects,
            "restarts": dict(self.restarts),
            "resyncs": dict(self.resyncs),
            "rotations": self.rotations,
            "stale_batches": self.stale_batches,
            "groups": self.groups,
            "groups_top_ok": self.groups_top_ok,
            "groups_hash_ok": self.groups_hash_ok,
            "groups_hash_unverifiable": self.groups_hash_unverifiable,
            "snapshots": self.snapshots,
            "snapshots_hash_ok": self.snapshots_hash_ok,
            "snapshots_hash_unverifiable": self.snapshots_hash_unverifiable,
            "desyncs": self.desyncs,
            "desyncs_by_reason": dict(self.desyncs_by_reason),
            "audits": self.audits,
            "audits_lost": self.audits_lost,
            "audit_requests_failed": self.audit_requests_failed,
            "audits_ok": self.audits_ok,
            "audits_behind": self.audits_behind,
            "audits_suspect": self.audits_suspect,
            "probes": dict(self.probes),
            "hash_checks": self.hash_checks,
            "hash_cpu_seconds": round(self.hash_cpu_seconds, 3),
            "detect_seconds": self.detect.summary(),
            "heal_seconds": self.heal.summary(),
            "tokens": tokens,
            "first_frame_ns": self.first_frame_ns,
            "last_applied_ns": self.last_applied_ns,
            "cpu_seconds": round(time.process_time() - self.cpu_started_seconds, 3),
            "rss_bytes": rss_bytes(),
            "lag_ms": {"p50": self.lag_percentile_ms(50), "p99": self.lag_percentile_ms(99)},
        }


def rss_bytes() -> int:
    """Resident memory of this process; the peak where the system does not tell the present."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
