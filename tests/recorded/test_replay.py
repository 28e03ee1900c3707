"""Recorded frames through the real parser and book actors."""

import gzip
import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from polyactors.cli import EXIT_CLEAN, EXIT_DESYNC, EXIT_USAGE
from polyactors.errors import UsageError
from polyactors.frames_file import LINES_PER_BATCH, Lines
from polyactors.replay import ReplayReport, replay_files
from polyactors.venue.exchange import Venue

ASK_CANCELLATION = "market/capture_2026-09-11_ask_cancellation.jsonl"
FRAMES_2026_08 = "market/frames_live_2026-08-14.jsonl"
YES = "89103662922399853582210727094555628545682161257465140653230183411405552444242"
NO = "81991637217769173167120472548201162753479510171986166836308777400146642216229"
BAD_LINE = b"<html>502 Bad Gateway</html>\n"


@pytest.fixture
def capture(shared_captures: Path) -> Path:
    return shared_captures / ASK_CANCELLATION


def compressed(path: Path, data: bytes, *, pieces: int = 1) -> Path:
    """Written as the suffix says, in so many gzip members or zstd frames."""
    size = -(-len(data) // pieces)
    with path.open("wb") as file:
        for start in range(0, len(data), size):
            file.write(_packed(path.suffix, data[start : start + size]))
    return path


def _packed(suffix: str, data: bytes) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data)
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress(data)
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


async def replay(*paths: Path) -> tuple[ReplayReport, list[tuple[str, int]]]:
    bad: list[tuple[str, int]] = []
    report = await replay_files(
        [str(path) for path in paths],
        on_bad_line=lambda path, line, why: bad.append((Path(path).name, line)),
    )
    return report, bad


async def refused(*paths: Path) -> str:
    with pytest.raises(UsageError) as caught:
        await replay(*paths)
    text = str(caught.value)
    assert "\n" not in text
    assert str(paths[-1]) in text
    return text


def venue_frames(steps: int, *, markets: int = 1, seed: int = 1) -> list[bytes]:
    """What a subscriber of all tokens of the embedded exchange receives, steps 7 ms apart.

    The hash inputs that the channel does not state are added to the first books, from REST.
    """
    times = count(1_700_000_000_000, 7)
    venue = Venue(seed, markets, 0, now_ms=lambda: next(times))
    books = [{"event_type": "book", **book} for book in venue.books().values()]
    said = (event.text_for(venue.tokens, custom=True) for event in venue.step(steps))
    return [json.dumps(books).encode(), *(text.encode() for text in said if text is not None)]


def write(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


# --- real frames ---------------------------------------------------------------------------


async def test_the_ask_cancellation_ends_in_the_books_it_should(capture: Path) -> None:
    report, bad = await replay(capture)
    assert bad == []
    assert (report.frames, report.unreadable_frames) == (8, 0)
    assert report.events == {"book": 2, "price_change": 5, "best_bid_ask": 2}
    assert (report.groups, report.groups_top_ok, report.groups_hash_ok) == (4, 4, 4)
    assert (report.groups_hash_unverifiable, report.desyncs) == (0, 0)
    assert report.tokens == {
        YES: {"best_bid": "0.63", "best_ask": "0.638", "bids": 57, "asks": 39, "state": "LIVE"},
        NO: {"best_bid": "0.362", "best_ask": "0.37", "bids": 39, "asks": 57, "state": "LIVE"},
    }


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_compressed_capture_gives_the_same(
    suffix: str, pieces: int, capture: Path, tmp_path: Path
) -> None:
    frames = capture.read_bytes()  # noqa: ASYNC240 - a small file
    packed = compressed(tmp_path / f"frames.jsonl{suffix}", frames, pieces=pieces)
    assert await replay(packed) == await replay(capture)


async def test_a_lost_message_of_the_capture_is_a_desync(capture: Path, tmp_path: Path) -> None:
    lines = capture.read_bytes().splitlines()  # noqa: ASYNC240 - a small file
    desyncs: dict[int, int] = {}
    for dropped in range(1, len(lines)):
        left = write(tmp_path / "lost.jsonl", lines[:dropped] + lines[dropped + 1 :])
        desyncs[dropped] = (await replay(left))[0].desyncs
    # Lines 1 and 2 say best_bid_ask alone, 5 and 6 carry the same removals, and nothing
    # follows after 7 that could betray its loss.
    assert desyncs == {1: 0, 2: 0, 3: 2, 4: 2, 5: 0, 6: 0, 7: 0}


async def test_the_frames_of_august_replay_without_an_unreadable_line(
    shared_captures: Path,
) -> None:
    report, bad = await replay(shared_captures / FRAMES_2026_08)
    assert bad == []
    assert report.frames == 5


async def test_a_pretty_printed_file_is_no_replay_file(shared_captures: Path) -> None:
    assert "one WebSocket frame (JSON) a line" in await refused(
        shared_captures / "market/nautilus_book.json"
    )


# --- frames of the embedded exchange -------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 6, 7])
async def test_a_recording_of_the_embedded_exchange_proves_right_to_the_last_group(
    seed: int, tmp_path: Path
) -> None:
    frames = venue_frames(300, markets=3, seed=seed)
    report, bad = await replay(write(tmp_path / "venue.jsonl", frames))
    assert bad == []
    assert report.frames == len(frames)
    assert report.groups > 300
    assert report.groups_top_ok == report.groups
    assert report.groups_hash_ok == report.groups
    assert report.groups_hash_unverifiable == 0
    assert report.desyncs == 0
    assert [token["state"] for token in report.tokens.values()] == ["LIVE"] * 6


async def test_hashes_whose_inputs_were_never_stated_are_unverifiable_and_no_desync(
    tmp_path: Path,
) -> None:
    first, *rest = venue_frames(100)
    books = json.loads(first)
    for book in books:
        del book["neg_risk"]
    report, _ = await replay(write(tmp_path / "a.jsonl", [json.dumps(books).encode(), *rest]))
    assert report.groups_top_ok == report.groups > 100
    assert (report.groups_hash_ok, report.groups_hash_unverifiable) == (0, report.groups)
    assert report.desyncs == 0


async def test_what_a_lost_message_wronged_waits_for_the_next_book(tmp_path: Path) -> None:
    frames = venue_frames(60)
    lost = next(
        i
        for i, frame in enumerate(frames)
        if b'"price_change"' in frame and b'"best_bid_ask"' in frames[i - 1]
    )
    left = frames[:lost] + frames[lost + 1 :]
    state_of: list[set[object]] = []
    desyncs = 0
    for end in range(lost, len(left) + 1):
        report, _ = await replay(write(tmp_path / "a.jsonl", left[:end]))
        state_of.append({token["state"] for token in report.tokens.values()})
        desyncs = report.desyncs
    # Right, then found wrong, then right again when a trade had brought whole books.
    changes = [
        state
        for state, before in zip(state_of, [set(), *state_of], strict=False)
        if state != before
    ]
    assert changes[0] == {"LIVE"}
    assert {"SYNCING"} in changes
    assert changes[-1] == {"LIVE"}
    assert desyncs == 2


async def test_a_book_that_proved_wrong_between_books_is_right_again_with_the_next(
    tmp_path: Path,
) -> None:
    # The wrong group is found by the group after it, in the middle of the stream: unlike a live
    # feed, a replay has given up no subscription, so any later book is one to believe.
    frames = venue_frames(60)
    lost = next(
        i
        for i, frame in enumerate(frames)
        if b'"price_change"' in frame and b'"book"' not in b"".join(frames[i : i + 4])
    )
    report, _ = await replay(write(tmp_path / "a.jsonl", frames[:lost] + frames[lost + 1 :]))
    assert report.desyncs == 2
    assert {token["state"] for token in report.tokens.values()} == {"LIVE"}


async def test_groups_of_a_token_without_a_book_are_not_counted(tmp_path: Path) -> None:
    first, *rest = venue_frames(100)
    books = json.loads(first)
    whole, _ = await replay(write(tmp_path / "whole.jsonl", [first, *rest]))
    changes = [frame for frame in rest if b'"book"' not in frame]
    half, _ = await replay(
        write(tmp_path / "half.jsonl", [json.dumps(books[:1]).encode(), *changes])
    )
    none, _ = await replay(write(tmp_path / "none.jsonl", changes))
    assert half.groups == half.groups_hash_ok == whole.groups // 2
    assert [token["state"] for token in half.tokens.values()] == ["LIVE", "SYNCING"]
    assert (none.groups, none.groups_top_ok, none.desyncs) == (0, 0, 0)
    assert {token["state"] for token in none.tokens.values()} == {"SYNCING"}


@pytest.mark.parametrize(
    ("name", "as_rest_gives_it", "same"),
    [
        ("min_order_size", "5", 5),
        ("min_order_size", "5", 5.0),
        ("min_order_size", "5", "5.0"),
        ("tick_size", "0.01", 0.01),
        ("tick_size", "0.01", ".010"),
        ("last_trade_price", "0.610", 0.61),
        ("last_trade_price", "0.610", "0.61"),
        ("last_trade_price", "0.610", ""),
        ("last_trade_price", "0.610", None),
    ],
)
async def test_hash_inputs_may_be_spelt_in_other_ways(
    name: str, as_rest_gives_it: str, same: object, tmp_path: Path
) -> None:
    first, *rest = venue_frames(30, seed=2)
    books = json.loads(first)
    assert {book[name] for book in books} == {as_rest_gives_it}
    changed = [{**book, name: same} for book in books]
    report, bad = await replay(write(tmp_path / "a.jsonl", [json.dumps(changed).encode(), *rest]))
    assert bad == []
    assert report.groups_hash_ok == report.groups > 30
    assert report.desyncs == 0


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("min_order_size", None),
        ("min_order_size", ""),
        ("tick_size", None),
        ("tick_size", ""),
        ("neg_risk", None),
    ],
)
async def test_a_hash_input_that_is_empty_is_not_known(
    name: str, absent: object, tmp_path: Path
) -> None:
    first, *rest = venue_frames(30)
    books = [{**book, name: absent} for book in json.loads(first)]
    report, bad = await replay(write(tmp_path / "a.jsonl", [json.dumps(books).encode(), *rest]))
    assert bad == []
    assert (report.groups_hash_ok, report.groups_hash_unverifiable) == (0, report.groups)
    assert report.groups > 30
    assert report.desyncs == 0


async def test_a_new_tick_size_does_not_count_for_the_group_before_it(tmp_path: Path) -> None:
    report, _ = await replay(write(tmp_path / "a.jsonl", venue_frames(300, markets=3, seed=3)))
    assert report.events["tick_size_change"] > 0
    assert report.groups_hash_ok == report.groups


async def test_the_report_for_people_names_every_token(tmp_path: Path) -> None:
    report, _ = await replay(write(tmp_path / "a.jsonl", venue_frames(5)))
    lines = report.lines()
    assert len(lines) == 4
    for line, (token, book) in zip(lines[2:], report.tokens.items(), strict=True):
        assert line.startswith(f"{token}  {book['best_bid']}/{book['best_ask']}  (")
    assert json.loads(json.dumps(report.to_json()))["tokens"] == report.tokens


async def test_progress_counts_the_frames_that_were_read(tmp_path: Path) -> None:
    lines = [b"PONG"] * (LINES_PER_BATCH + 10) + [b""] * 5
    seen: list[int] = []
    await replay_files([str(write(tmp_path / "a.jsonl", lines))], progress=seen.append)
    assert seen == [LINES_PER_BATCH, LINES_PER_BATCH + 10]


# --- bad lines and bad files ---------------------------------------------------------------


async def test_bad_lines_are_named_by_file_and_number_and_passed_by(tmp_path: Path) -> None:
    good = venue_frames(3)
    first = tmp_path / "first.jsonl"
    first.write_bytes(b"\n\n" + BAD_LINE + good[0] + b"\n\r\n" + b"{\n" + b"\n" + b'{"a":1}')
    second = tmp_path / "second.jsonl"
    second.write_bytes(BAD_LINE + b"".join(frame + b"\n\n" for frame in good[1:]) + b"\xff\xfe\n")
    report, bad = await replay(first, second)
    last = 2 * len(good)
    assert bad == [
        ("first.jsonl", 3),
        ("first.jsonl", 6),
        ("first.jsonl", 8),
        ("second.jsonl", 1),
        ("second.jsonl", last),
    ]
    assert report.unreadable_frames == 5
    assert report.frames == len(good) + 5
    assert len(report.tokens) == 2


async def test_line_numbers_are_right_across_batches(tmp_path: Path) -> None:
    lines = [b"PONG"] * (3 * LINES_PER_BATCH)
    wrong = [1, 5, LINES_PER_BATCH, LINES_PER_BATCH + 1, 2 * LINES_PER_BATCH + 7]
    for number in wrong:
        lines[number - 1] = b"{"
    for blank in range(10, 3 * LINES_PER_BATCH, 50):
        lines[blank - 1] = b""
    _, bad = await replay(write(tmp_path / "a.jsonl", lines))
    assert [line for _, line in bad] == wrong


async def test_one_file_twice_is_read_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*venue_frames(2), b"{"])
    once, _ = await replay(path)
    twice, bad = await replay(path, path)
    assert twice.frames == 2 * once.frames
    assert bad == [("a.jsonl", once.frames)] * 2


@pytest.mark.parametrize("content", [b"", b"\n\n", BAD_LINE, BAD_LINE * 600])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
async def test_a_file_without_a_readable_line_is_the_users_mistake(
    content: bytes, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"frames{suffix}"
    if suffix:
        compressed(path, content or b"\n")
    else:
        path.write_bytes(content)
    assert "no readable line" in await refused(path)


async def test_a_good_file_does_not_excuse_a_bad_one(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", venue_frames(2))
    bad = write(tmp_path / "bad.jsonl", [b"{"])
    assert "no readable line" in await refused(good, bad)


@pytest.mark.parametrize(
    "rest", [b"5", b'{"event_type":"book"}', b'{"event_type":"never_seen"}, 5', b'"a", "b"']
)
async def test_a_line_of_which_a_part_is_readable_was_read(rest: bytes, tmp_path: Path) -> None:
    book = venue_frames(1)[0].strip(b"[]")
    report, bad = await replay(write(tmp_path / "a.jsonl", [b"[" + book + b"," + rest + b"]"]))
    assert bad == [("a.jsonl", 1)]
    assert report.unreadable_frames == 1
    assert len(report.tokens) == 2


async def test_a_line_with_an_event_that_is_unknown_was_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [b'[{"event_type":"never_seen"},5]'])
    report, bad = await replay(path)
    assert (report.events, len(bad)) == ({"never_seen": 1}, 1)


async def test_the_lines_of_another_file_do_not_count_for_this_one(tmp_path: Path) -> None:
    part = write(tmp_path / "part.jsonl", [b"[" + venue_frames(1)[0].strip(b"[]") + b",5]"])
    bad = write(tmp_path / "bad.jsonl", [b"{"] * (2 * LINES_PER_BATCH))
    assert "no readable line" in await refused(part, bad)
    with pytest.raises(UsageError, match=f"{bad} has no readable line"):
        await replay(bad, part)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
async def test_a_byte_order_mark_is_no_part_of_the_first_line(suffix: str, tmp_path: Path) -> None:
    lines = b"\xef\xbb\xbf" + b"\n".join(venue_frames(2)) + b"\n\xef\xbb\xbfPONG"
    path = tmp_path / f"frames.jsonl{suffix}"
    if suffix:
        compressed(path, lines)
    else:
        path.write_bytes(lines)
    report, bad = await replay(path)
    assert bad == [(path.name, report.frames)]  # inside a file it is no mark
    assert len(report.tokens) == 2


def test_only_frames_that_were_not_parsed_are_kept() -> None:
    lines = Lines()
    for number in range(1, 101):
        lines.note("a", number, b"%d" % number)
        lines.forget(max(0, number - 10))
    assert len(lines.unparsed) == 10
    assert [lines.text(frame) for frame in (90, 99)] == [b"91", b"100"]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
async def test_a_file_that_cannot_be_opened_is_the_users_mistake(
    suffix: str, tmp_path: Path
) -> None:
    assert "No such file" in await refused(tmp_path / f"missing{suffix}")
    directory = tmp_path / f"directory{suffix}"
    directory.mkdir()
    assert "directory" in await refused(directory)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
async def test_a_broken_archive_is_the_users_mistake(suffix: str, tmp_path: Path) -> None:
    whole = compressed(tmp_path / f"whole{suffix}", b"\n".join(venue_frames(50))).read_bytes()
    truncated = tmp_path / f"truncated{suffix}"
    truncated.write_bytes(whole[: len(whole) // 2])
    assert "cannot read" in await refused(truncated)
    corrupt = tmp_path / f"corrupt{suffix}"
    corrupt.write_bytes(whole[:20] + b"\xff" * 50 + whole[70:])
    assert "cannot read" in await refused(corrupt)
    no_archive = tmp_path / f"plain{suffix}"
    no_archive.write_bytes(b"PONG\n" * 100)
    assert "cannot read" in await refused(no_archive)


async def test_a_bug_ends_the_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A result that a crashed and restarted actor had a part in would be worth nothing.
    path = write(tmp_path / "a.jsonl", venue_frames(2))

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("polyactors.shard.BookShard.apply", crash)
    with pytest.raises(Exception, match=r"planted|books") as caught:
        await replay(path)
    assert not isinstance(caught.value, UsageError)


# --- the command ---------------------------------------------------------------------------


def run_replay(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polyactors", "replay", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


KEYS = ["frames", "unreadable_frames", "events", "groups", "groups_top_ok", "groups_hash_ok",
        "groups_hash_unverifiable", "desyncs", "tokens"]  # fmt: skip


def test_json_of_the_capture_is_what_the_design_says(capture: Path) -> None:
    done = run_replay("--json", capture)
    assert (done.returncode, done.stderr) == (EXIT_CLEAN, "")
    report = json.loads(done.stdout)
    assert list(report) == KEYS
    assert {
        name: report[name]
        for name in ("groups", "groups_top_ok", "groups_hash_ok", "groups_hash_unverifiable")
    } == {"groups": 4, "groups_top_ok": 4, "groups_hash_ok": 4, "groups_hash_unverifiable": 0}
    assert report["desyncs"] == 0
    assert report["tokens"][YES] == {
        "best_bid": "0.63", "best_ask": "0.638", "bids": 57, "asks": 39, "state": "LIVE",
    }  # fmt: skip


def test_json_is_all_that_stands_on_standard_output(tmp_path: Path) -> None:
    frames = venue_frames(20)
    lines = [BAD_LINE.strip(), *frames[:5], b'{"event_type":"never_seen"}', b"{", *frames[5:]]
    packed = compressed(tmp_path / "bad.jsonl.gz", b"\n".join(lines))
    done = run_replay("--json", packed)
    assert done.returncode == EXIT_CLEAN
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert list(report) == KEYS
    assert report["unreadable_frames"] == 2
    assert report["events"]["never_seen"] == 1
    assert report["groups"] == report["groups_hash_ok"] > 20
    named = done.stderr.splitlines()
    assert [f"{packed}:{number}: " in text for number, text in zip((1, 8), named, strict=True)]


def test_a_desync_is_exit_code_3_and_the_json_is_printed_all_the_same(tmp_path: Path) -> None:
    frames = venue_frames(20)
    lost = next(i for i, frame in enumerate(frames) if b'"price_change"' in frame)
    path = write(tmp_path / "lost.jsonl", frames[:lost] + frames[lost + 1 :])
    done = run_replay("--json", path)
    assert (done.returncode, done.stderr) == (EXIT_DESYNC, "")
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["desyncs"] > 0
    assert run_replay(path).returncode == EXIT_DESYNC


def test_without_a_result_nothing_stands_on_standard_output(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.jsonl", [b"{"])
    done = run_replay("--json", path)
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert "no readable line" in done.stderr
