"""Proof by simulation: the laws of the stream and the oracle's hold for every seed.

And they can fail: each planted defect below is found by some seed.
"""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.simulation import many, stories

from polyactors.book.groups import HashGroup
from polyactors.book.orderbook import OrderBook
from polyactors.book.trust import StaleReason
from polyactors.checks import HashChecks
from polyactors.comparison import RestComparison
from polyactors.journal import Journal
from polyactors.recovery import Recovery
from polyactors.shard import BookShard
from polyactors.token_book import TokenBook
from polyactors.venue.faults import FaultKind

SEEDS_FOR_EVERYTHING = 60
"""So many seeds show every kind of fault, and every way to find one."""


@pytest.fixture(scope="module")
def report() -> many.Report:
    """What came of the seeds that were played here."""
    return many.Report()


def test_a_story(seed: int, report: many.Report) -> None:
    world = stories.run(seed)
    assert world.oracle.compared > 10
    assert world.oracle.shown > 20
    report.add(many.played(seed, world))


def test_the_stories_hold_what_they_promise(report: many.Report) -> None:
    # Stories without their faults would pass every other test.
    if report.played < SEEDS_FOR_EVERYTHING:
        report = many.Report()
        for seed in range(1, SEEDS_FOR_EVERYTHING + 1):
            report.add(many.played(seed, stories.run(seed)))
    assert set(report.struck) == set(FaultKind)
    wrong_by = {kind for kinds in report.errors for kind in kinds.split("+")}
    assert wrong_by >= {"lost_delta", "lost_in_group", "lost_group", "mirror", "token_stall"}
    detected = {e.reason.value for found in report.errors.values() for e in found if e.reason}
    assert detected >= {"top_mismatch", "hash_mismatch", "book_mismatch", "audit_mismatch"}


def test_a_seed_plays_exactly_the_same_again() -> None:
    first, again, other = (stories.run(seed) for seed in (5, 5, 6))
    assert len(first.events) > 200
    assert many.digest(first) == many.digest(again)
    assert many.digest(first) != many.digest(other)


def test_a_seed_plays_the_same_in_every_process() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation.many", "5", "--digest"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] == f"5 {many.digest(stories.run(5))}\n"


# --- planted defects ----------------------------------------------------------------------


def play_all(seeds: range) -> None:
    for seed in seeds:
        stories.run(seed, may_merge=False)


Plant = Callable[[pytest.MonkeyPatch], None]
SEEDS_FOR_A_DEFECT = range(1, 31)


def _do_nothing(*_: object) -> None:
    pass


def _agree(*_: object) -> bool:
    return True


def no_judgement_of_groups(patch: pytest.MonkeyPatch) -> None:
    plain = HashGroup.close

    def close(group: HashGroup, book: OrderBook) -> None:
        plain(group, book)

    # A budget that suffices would find by the hash what the top does not say.
    patch.setattr(HashGroup, "close", close)
    patch.setattr(HashChecks, "closed", _do_nothing)


def no_audit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RestComparison, "is_right", _agree)


def no_stale_on_disconnect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BookShard, "session_down", _do_nothing)


def no_gaps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BookShard, "_missed", _do_nothing)


def books_adopted_in_silence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Recovery, "replace", _do_nothing)


def an_update_swallowed(patch: pytest.MonkeyPatch) -> None:
    plain, count = Journal.update, 0

    def update(journal: Journal, state: TokenBook, cause: object, **how: object) -> None:
        nonlocal count
        count += 1
        if count % 50:
            plain(journal, state, cause, **how)  # type: ignore[arg-type]

    patch.setattr(Journal, "update", update)


def false_alarms(patch: pytest.MonkeyPatch) -> None:
    plain, count = HashGroup.close, 0

    def close(group: HashGroup, book: OrderBook) -> StaleReason | None:
        nonlocal count
        count += 1
        wrong = plain(group, book)
        return wrong if count % 20 else StaleReason.TOP_MISMATCH

    patch.setattr(HashGroup, "close", close)


@pytest.mark.parametrize(
    ("plant", "law"),
    [
        (no_judgement_of_groups, "a wrong top|settled and crossed"),
        (no_audit, "wrong for"),
        (no_stale_on_disconnect, "without a fault|in silence|STALE is missing|a false alarm"),
        (no_gaps, "without a fault"),
        (books_adopted_in_silence, "in silence"),
        (an_update_swallowed, "not in the stream"),
        (false_alarms, "a false alarm"),
    ],
)
def test_a_planted_defect_is_found(plant: Plant, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=law):
        play_all(SEEDS_FOR_A_DEFECT)
