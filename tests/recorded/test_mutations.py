"""Each single fault of a recording is harmless, or detected by the token's next group or book.

What is neither is undetectable without a later message, and stands in the table of
docs/explanation/what-can-be-detected.md. Of kinds with very many faults a part is drawn for
what takes longest; POLYACTORS_MUTATIONS=all takes all of them, and thousands of recordings.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
import trio
from attrs import frozen
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.recorded.mutations import KINDS, Mutation, messages_of, mutations, mutations_of
from tests.recorded.verdicts import (
    Book,
    Outcome,
    Recording,
    Verdict,
    captured,
    of_the_venue,
    outcome_of,
    true_states,
)

from polyactors.book.trust import StaleReason
from polyactors.replay import replay_files

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "what-can-be-detected.md"
TAKES_ALL = os.environ.get("POLYACTORS_MUTATIONS") == "all"
DRAWN_OF_A_KIND_MAX = 10**9 if TAKES_ALL else 15
EXAMPLES = settings(max_examples=5_000 if TAKES_ALL else min(50, settings().max_examples))
REVEALED = (Verdict.HARMLESS, Verdict.HEALED, Verdict.DETECTED)
HIDDEN = (Verdict.NAMED, Verdict.UNDETECTED)


@frozen
class Case:
    """A fault and what became of it at the end of the recording."""

    fault: Mutation
    outcome: Outcome
    verdict: Verdict


def judge(faults: Iterable[Mutation], tail: list[bytes], truth: dict[str, Book]) -> list[Case]:
    async def run() -> list[Case]:
        cases: list[Case] = []
        for fault in faults:
            outcome = await outcome_of([*fault.lines, *tail])
            cases.append(Case(fault, outcome, outcome.verdict(truth)))
        return cases

    return trio.run(run)


def drawn(faults: Iterable[Mutation]) -> Iterator[Mutation]:
    """Always the same ones, at most DRAWN_OF_A_KIND_MAX of a kind."""
    by_kind: dict[str, list[Mutation]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind, []).append(fault)
    for kind, all_of_it in by_kind.items():
        yield from Random(kind).sample(all_of_it, min(len(all_of_it), DRAWN_OF_A_KIND_MAX))


@pytest.fixture(scope="module")
def capture(shared_captures: Path) -> Recording:
    path = shared_captures / "market" / "capture_2026-09-11_ask_cancellation.jsonl"
    return captured(path.read_bytes().splitlines())


@pytest.fixture(scope="module")
def exchange() -> Recording:
    """A fill of six messages, two trades, a new tick size, and three groups, the last of them
    of one message."""
    return of_the_venue(8, market=1, before=290, steps=5)


@pytest.fixture(scope="module")
def capture_ends(capture: Recording) -> list[Case]:
    """All faults of the capture, nothing following."""
    return judge(mutations(capture.lines), [], capture.truth_after(""))


@pytest.fixture(scope="module")
def exchange_ends(exchange: Recording) -> list[Case]:
    """All faults of the exchange's recording, nothing following."""
    return judge(mutations(exchange.lines), [], exchange.truth_after(""))


SOURCES = pytest.mark.parametrize("source", ["capture", "exchange"])


@pytest.fixture
def recording(source: str, request: pytest.FixtureRequest) -> Recording:
    found: Recording = request.getfixturevalue(source)
    return found


@pytest.fixture
def at_the_end(source: str, request: pytest.FixtureRequest) -> list[Case]:
    found: list[Case] = request.getfixturevalue(f"{source}_ends")
    return found


# --- the theorem ---------------------------------------------------------------------------


@SOURCES
@pytest.mark.parametrize("tail", ["", "group", "book"])
def test_without_a_fault_nothing_is_doubted(recording: Recording, tail: str) -> None:
    whole = Mutation("none", "", recording.lines)
    (case,) = judge([whole], recording.tails()[tail], recording.truth_after(tail))
    assert case.verdict is Verdict.HARMLESS
    report = case.outcome.report
    assert report.groups == report.groups_hash_ok > 0


@SOURCES
@pytest.mark.parametrize("tail", ["group", "book"])
def test_each_fault_is_harmless_or_detected_by_one_more_group_or_book(
    recording: Recording, at_the_end: list[Case], tail: str
) -> None:
    hidden = [case.fault for case in at_the_end if case.verdict in HIDDEN]
    faults = {fault.what: fault for fault in (*drawn(mutations(recording.lines)), *hidden)}
    cases = judge(faults.values(), recording.tails()[tail], recording.truth_after(tail))
    assert [case.fault.what for case in cases if case.verdict not in REVEALED] == []
    # A whole book heals, too; only what is hashed and stands in no later book stays wrong.
    ill = {case.fault.kind for case in cases if case.verdict is Verdict.DETECTED}
    assert tail == "group" or ill <= {"book: hash input changed"}
    # And the faults that nothing betrayed before are now told, not only put right.
    told = {case.fault.what for case in cases if case.outcome.doubts}
    assert {fault.what for fault in hidden} <= told


@SOURCES
def test_what_nothing_betrays_is_a_book_that_the_exchange_had_before(
    recording: Recording, at_the_end: list[Case]
) -> None:
    states = true_states(recording.lines)
    truth = recording.truth_after("")
    hidden = [case for case in at_the_end if case.verdict in HIDDEN]
    assert hidden
    for case in hidden:
        for token in case.outcome.wrong(truth):
            assert case.outcome.books[token] in states[token][:-1], case.fault.what


def test_what_nothing_betrays_at_the_end_of_the_capture_is_its_last_group(
    capture_ends: list[Case],
) -> None:
    hidden = [case for case in capture_ends if case.verdict in HIDDEN]
    assert {case.fault.what: case.verdict.value for case in hidden} == {
        "line 8 lost": "undetected",
        "line 8 without its end": "named",
        "line 8 without its begin": "named",
        "line 8: entry 1 lost": "undetected",
        "line 8: entry 2 lost": "undetected",
        "line 8: entry 1 of 891036…": "undetected",
        "line 8: entry 2 of 819916…": "undetected",
    }
    reasons = {reason for case in capture_ends for _, reason in case.outcome.doubts}
    assert reasons == {StaleReason.HASH_MISMATCH, StaleReason.TOP_MISMATCH}


def test_where_a_hash_input_is_unknown_only_the_top_and_whole_books_are_checked(
    exchange: Recording,
) -> None:
    # The proof of the proof: this harness does find books that are wrong and called right.
    first, *rest = exchange.lines
    books = json.loads(first)
    for book in books:
        del book["neg_risk"]
    recording = Recording(
        [json.dumps(books).encode(), *rest], exchange.later_group, exchange.later_book
    )
    faults = [fault for fault in mutations(recording.lines) if fault.kind == "level lost"]
    truth = recording.truth_after("group")
    hidden = [case for case in judge(faults, recording.later_group, truth)
              if case.verdict in HIDDEN]  # fmt: skip
    assert len(hidden) > 10
    truth = recording.truth_after("book")
    told = judge((case.fault for case in hidden), recording.later_book, truth)
    assert {case.verdict for case in told} == {Verdict.HEALED}


# --- any recording, any fault --------------------------------------------------------------


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    return of_the_venue(
        draw(st.integers(0, 10_000)),
        market=draw(st.integers(0, 2)),
        before=draw(st.integers(0, 40)),
        steps=draw(st.integers(1, 8)),
    )


def one_of(data: st.DataObject, lines: list[bytes], kinds: frozenset[str]) -> Mutation:
    index = data.draw(st.integers(0, len(lines) - 1))
    by_kind: dict[str, list[Mutation]] = {}
    for fault in mutations_of(lines, index):
        if fault.kind in kinds:
            by_kind.setdefault(fault.kind, []).append(fault)
    faults = by_kind[data.draw(st.sampled_from(sorted(by_kind)))]
    return faults[data.draw(st.integers(0, len(faults) - 1))]


@given(recordings(), st.data(), st.sampled_from(["group", "book"]))
@EXAMPLES
def test_any_fault_of_any_recording_is_harmless_or_detected_by_what_comes_next(
    recording: Recording, data: st.DataObject, tail: str
) -> None:
    fault = one_of(data, recording.lines, frozenset(KINDS))
    (case,) = judge([fault], recording.tails()[tail], recording.truth_after(tail))
    assert case.verdict in REVEALED


KINDS_OF_MANY = frozenset(KINDS) - {
    "message cut in half",  # what is cut cannot be changed further
    "entry: hash missing",
    "book: hash missing",
    "book: hash input missing",
}
"""Faults after which every hash can still be computed."""


@given(recordings(), st.data(), st.integers(2, 5))
@EXAMPLES
def test_however_many_faults_a_live_book_is_one_that_the_exchange_had(
    recording: Recording, data: st.DataObject, number: int
) -> None:
    lines = recording.lines
    for _ in range(number):
        lines = one_of(data, lines, KINDS_OF_MANY).lines
        assume(lines)
    states = true_states(recording.lines)
    outcome = trio.run(outcome_of, lines)
    assume(outcome.report.groups_hash_unverifiable == outcome.snapshots_hash_unverifiable == 0)
    for token in outcome.live:
        assert outcome.books[token] in states[token]


# --- the harness ---------------------------------------------------------------------------


def test_every_kind_of_fault_occurs_and_changes_something(
    exchange: Recording, exchange_ends: list[Case]
) -> None:
    faults = list(mutations(exchange.lines))
    assert {fault.kind for fault in faults} == set(KINDS)
    assert all(fault.lines != exchange.lines for fault in faults)
    assert len({fault.what for fault in faults}) == len(faults) > 1000
    assert {case.verdict for case in exchange_ends} == set(Verdict)


@SOURCES
async def test_replay_files_says_the_same(recording: Recording, tmp_path: Path) -> None:
    faults = list(mutations(recording.lines))
    for fault in Random(1).sample(faults, 30):
        path = tmp_path / "fault.jsonl"
        path.write_bytes(b"\n".join([*fault.lines, *recording.later_group]))
        outcome = await outcome_of([*fault.lines, *recording.later_group])
        assert await replay_files([str(path)]) == outcome.report, fault.what


def test_the_frames_of_august_bear_what_is_sound_of_them(shared_captures: Path) -> None:
    # Five frames of five markets, levels cut by their recorder: one line says nothing of
    # another, and the one book with all hash inputs is rightly a mismatch from the start.
    path = shared_captures / "market" / "frames_live_2026-08-14.jsonl"
    lines = path.read_bytes().splitlines()
    (whole,) = judge([Mutation("none", "", lines)], [], {})
    assert whole.outcome.report.desyncs == 1
    rest_book = json.loads(lines[-1])["asset_id"]
    assert {token for token, _ in whole.outcome.doubts} == {rest_book}
    kinds = Counter[str]()
    for case in judge(mutations(lines), [], {}):
        report, kind = case.outcome.report, case.fault.kind
        kinds[kind] += 1
        if kind in ("neighbours swapped", "two messages swapped", "message late"):
            assert report == whole.outcome.report, case.fault.what
        elif kind in ("message doubled", "copy of a message later"):
            assert case.outcome.live == whole.outcome.live, case.fault.what
            assert case.outcome.books == whole.outcome.books, case.fault.what
        elif kind == "message lost":
            untouched = {m["asset_id"] for m in messages_of(case.fault.lines) if "asset_id" in m}
            for token in untouched & set(report.tokens):
                assert report.tokens[token] == whole.outcome.report.tokens[token]
    assert kinds["message lost"] == kinds["message doubled"] == 5


# --- the page ------------------------------------------------------------------------------


def table(cases: Iterable[Case]) -> str:
    """Rows of the docs: numbers of faults by kind and verdict."""
    counts = {kind: Counter[Verdict]() for kind in KINDS}
    for case in cases:
        counts[case.fault.kind][case.verdict] += 1
    lines = [
        "| fault | cases | harmless | detected | named | undetected |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for kind, found in counts.items():
        if found:
            numbers = (
                found.total(),
                found[Verdict.HARMLESS],
                found[Verdict.HEALED] + found[Verdict.DETECTED],
                found[Verdict.NAMED],
                found[Verdict.UNDETECTED],
            )
            lines.append(f"| {kind} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines) + "\n"


@SOURCES
def test_the_page_has_the_table_of_the_recording(at_the_end: list[Case]) -> None:
    now = table(at_the_end)
    assert now in PAGE.read_text(encoding="utf-8"), f"the page must say now:\n{now}"
