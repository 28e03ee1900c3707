"""The counters, and the summary made of them."""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyactors.statistics import (
    LAG_MS_MAX,
    OTHER,
    SAMPLES_KEPT_MAX,
    UNKNOWN_NAMES_MAX,
    Statistics,
    count_name,
    rss_bytes,
)

KEYS = {
    "seconds",
    "frames",
    "bytes",
    "events",
    "unknown_events",
    "unreadable_frames",
    "connects",
    "restarts",
    "resyncs",
    "tokens",
    "first_frame_ns",
    "last_applied_ns",
    "cpu_seconds",
    "rss_bytes",
    "lag_ms",
    "groups",
    "groups_top_ok",
    "groups_hash_ok",
    "groups_hash_unverifiable",
    "snapshots",
    "snapshots_hash_ok",
    "snapshots_hash_unverifiable",
    "desyncs",
    "desyncs_by_reason",
    "audits_ok",
    "audits_behind",
    "audits_suspect",
    "hash_checks",
    "hash_cpu_seconds",
    "detect_seconds",
    "heal_seconds",
}
"""What the issues list; there may be more."""


def test_the_summary_of_a_service_that_did_nothing_has_every_key() -> None:
    summary = Statistics().summary({})
    assert set(summary) >= KEYS
    assert summary["lag_ms"] == {"p50": None, "p99": None}
    assert (summary["first_frame_ns"], summary["last_applied_ns"]) == (None, None)
    assert (summary["frames"], summary["events"], summary["tokens"]) == (0, {}, {})
    assert json.loads(json.dumps(summary)) == summary


def test_the_summary_says_what_was_counted() -> None:
    statistics = Statistics()
    statistics.frames, statistics.bytes, statistics.connects = 3, 400, 2
    statistics.unreadable_frames = 1
    statistics.unreadable_samples.append("<html>")
    statistics.events.update({"book": 2, "price_change": 5})
    statistics.unknown_events.update({"odd": 2, "odder": 1})
    statistics.restarts["root/core/feeds/feed-0/parser"] = 1
    statistics.resyncs["parse_failure"] = 4
    statistics.note_first_frame()
    statistics.last_applied_ns = time.monotonic_ns()
    statistics.note_lags([1000], 1012)
    summary = statistics.summary({"LIVE": 8})
    assert (summary["frames"], summary["bytes"], summary["connects"]) == (3, 400, 2)
    assert (summary["unreadable_frames"], summary["unreadable_samples"]) == (1, ["<html>"])
    assert summary["events"] == {"book": 2, "price_change": 5}
    assert summary["unknown_events"] == 3
    assert summary["unknown_event_types"] == {"odd": 2, "odder": 1}
    assert summary["restarts"] == {"root/core/feeds/feed-0/parser": 1}
    assert summary["resyncs"] == {"parse_failure": 4}
    assert summary["tokens"] == {"LIVE": 8}
    assert summary["lag_ms"] == {"p50": 12, "p99": 12}
    first, last = statistics.first_frame_ns, statistics.last_applied_ns
    assert first is not None
    assert statistics.started_ns <= first <= last <= time.monotonic_ns()
    assert (summary["first_frame_ns"], summary["last_applied_ns"]) == (first, last)
    assert json.loads(json.dumps(summary)) == summary


def test_the_summary_says_what_was_verified() -> None:
    statistics = Statistics()
    statistics.groups, statistics.groups_top_wrong = 9, 1
    statistics.groups_hash_ok, statistics.groups_hash_unverifiable = 5, 1
    statistics.snapshots, statistics.snapshots_hash_ok = 4, 3
    statistics.snapshots_hash_unverifiable = 1
    statistics.audits_ok, statistics.audits_behind, statistics.audits_suspect = 7, 2, 1
    statistics.hash_checks, statistics.hash_cpu_seconds = 10, 0.0123456
    statistics.desyncs_by_reason.update({"top_mismatch": 1, "audit_mismatch": 2})
    statistics.detect.add(1.0)
    statistics.heal.add(0.01)
    summary = statistics.summary({})
    expected = {
        "groups": 9,
        "groups_top_ok": 8,
        "groups_hash_ok": 5,
        "groups_hash_unverifiable": 1,
        "snapshots": 4,
        "snapshots_hash_ok": 3,
        "snapshots_hash_unverifiable": 1,
        "desyncs": 3,
        "desyncs_by_reason": {"top_mismatch": 1, "audit_mismatch": 2},
        "audits_ok": 7,
        "audits_behind": 2,
        "audits_suspect": 1,
        "hash_checks": 10,
        "hash_cpu_seconds": 0.012,
        "detect_seconds": {"p50": 1.0, "p99": 1.0, "count": 1},
        "heal_seconds": {"p50": 0.01, "p99": 0.01, "count": 1},
    }
    assert {key: summary[key] for key in expected} == expected
    assert json.loads(json.dumps(summary)) == summary


def test_time_and_memory_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = Statistics()
    monkeypatch.setattr(time, "monotonic_ns", lambda: statistics.started_ns + 1_500_000_000)
    monkeypatch.setattr(time, "process_time", lambda: statistics.cpu_started_seconds + 0.25)
    summary = statistics.summary({})
    assert (summary["seconds"], summary["cpu_seconds"]) == (1.5, 0.25)


def test_resident_memory_is_what_the_system_says() -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        assert rss_bytes() > 2**20
        return
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS:")]
    assert abs(rss_bytes() - int(line.split()[1]) * 1024) < 16 * 2**20


@given(st.lists(st.integers(-5, 2 * LAG_MS_MAX), min_size=1), st.floats(0.1, 100.0))
def test_a_percentile_is_the_nearest_rank(lags: list[int], percent: float) -> None:
    statistics = Statistics()
    statistics.note_lags([-lag for lag in lags], 0)
    ranked = sorted(min(max(lag, 0), LAG_MS_MAX) for lag in lags)
    found = statistics.lag_percentile_ms(percent)
    assert found is not None
    at_most = sum(lag <= found for lag in ranked)
    below = sum(lag < found for lag in ranked)
    needed = len(ranked) * percent / 100
    assert at_most >= needed - 1e-9
    assert below < max(needed, 1) + 1e-9


def test_percentiles_of_a_hundred_lags() -> None:
    statistics = Statistics()
    statistics.note_lags(list(range(100)), 100)
    assert [statistics.lag_percentile_ms(p) for p in (50, 99, 100)] == [50, 99, 100]


def test_lags_beyond_the_greatest_are_counted_as_it() -> None:
    statistics = Statistics()
    statistics.note_lags([1003, 1000 - LAG_MS_MAX, 999 - LAG_MS_MAX, -(10**12)], 1000)
    assert statistics.lags_ms == {0: 1, LAG_MS_MAX: 3}


def test_the_other_side_cannot_make_the_counters_grow() -> None:
    statistics = Statistics()
    for number in range(10 * UNKNOWN_NAMES_MAX):
        count_name(statistics.unknown_events, f"name-{number}")
    count_name(statistics.unknown_events, "name-0")
    assert len(statistics.unknown_events) == UNKNOWN_NAMES_MAX + 1
    assert statistics.unknown_events["name-0"] == 2
    assert statistics.unknown_events[f"name-{UNKNOWN_NAMES_MAX - 1}"] == 1
    assert statistics.unknown_events[OTHER] == 9 * UNKNOWN_NAMES_MAX
    assert statistics.summary({})["unknown_events"] == 10 * UNKNOWN_NAMES_MAX + 1


def test_only_the_newest_samples_are_kept() -> None:
    statistics = Statistics()
    statistics.unreadable_samples.extend(str(n) for n in range(SAMPLES_KEPT_MAX + 3))
    assert statistics.unreadable_samples[0] == "3"
    assert len(statistics.unreadable_samples) == SAMPLES_KEPT_MAX


PAGE = Path(__file__).parents[2] / "docs/reference/events.md"
BY_OTHERS = {"account", "actors", "events_missing"}
"""Keys of the summary that the service and the command line add."""


@pytest.mark.skipif(not PAGE.exists(), reason="tested without the docs")
def test_the_page_explains_every_key_of_the_summary() -> None:
    table = PAGE.read_text().partition("\n## Summary\n")[2].partition("\n\n| key | meaning |\n")[2]
    cells = re.findall(r"^\| (`.*?) \|", table.partition("\n\n")[0], re.MULTILINE)
    explained = {key for cell in cells for key in re.findall(r"`(\w+)`", cell)} - BY_OTHERS
    told = set(Statistics().summary({}))
    wrong = sorted(told ^ explained)
    assert not wrong, f"summary and the table Summary of docs/reference/events.md differ in {wrong}"
