"""One feed against hostile and odd servers: the whole service, on virtual time."""

import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random
from typing import Any

import httpx2
import pytest
import trio
import trio.testing
from tests.actors.running import (
    LIVE,
    MostJitter,
    Play,
    Run,
    crash,
    crash_once,
    resynced,
)
from tests.actors.scripted_server import (
    MARKET,
    NO,
    YES,
    Act,
    Books,
    Pair,
    Visit,
    close_with,
    deaf,
    drop_after_dump,
    frame_bytes,
    hang_up,
    refuse,
    say_nothing,
    saying,
    serve,
    write_after_dump,
)

from polyactors.book.trust import StaleReason, TrustState
from polyactors.connects import STAGGER_SECONDS
from polyactors.events import ActorRestarted, BookUpdated, FeedDown, FeedUp, Gap, TrustChanged
from polyactors.heartbeat import Pulse
from polyactors.protocol.codec import MarketCodec
from polyactors.shard import BookShard
from polyactors.websocket import CLOSE_DEADLINE_SECONDS

FRAME_BYTES_MAX = 100_000


def memory_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.memory_stream_pair()


def lockstep_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """A write ends only when the other side has read it."""
    return trio.testing.lockstep_stream_pair()


# --- the subscription comes first, and comes again --------------------------------------------


async def test_the_first_frame_is_the_subscription_and_no_ping_comes_before_it(
    play: Play, autojump_clock: object
) -> None:
    async with play(serve(seconds=35), serve()) as run:
        await trio.sleep(120)
    assert len(run.visits) == 2
    for visit in run.visits:
        first = json.loads(visit.texts[0])
        assert first["type"] == "market"
        assert first["assets_ids"] == [YES, NO]
        assert sum('"type"' in text for text in visit.texts) == 1  # else INVALID OPERATION
        assert "PING" in visit.texts
        assert visit.path == "/ws/market"
    assert run.downs == ["reset", "stopping"]


async def test_the_scripted_server_itself_answers_a_ping_before_the_subscription_by_1008(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ping_first(tokens: Any, **_: object) -> list[str]:
        return ["PING"]

    monkeypatch.setattr("polyactors.feed.subscribe_frames", ping_first)
    async with play(serve()) as run:
        await run.until(lambda: run.downs)
    assert run.downs[0] == "closed_1008"


async def test_pings_go_out_every_ten_seconds(play: Play, autojump_clock: object) -> None:
    async with play(serve(tick_seconds=0.7)) as run:
        await trio.sleep(61)
    pings = [at for at, text in run.visits[0].received if text == "PING"]
    assert pings == pytest.approx([10, 20, 30, 40, 50, 60])


@pytest.mark.parametrize(("ids_per_frame", "frames"), [(100, 2), (7, 29), (40, 5)])
async def test_no_frame_holds_more_ids_than_allowed(
    play: Play, autojump_clock: object, ids_per_frame: int, frames: int
) -> None:
    tokens = [str(number) for number in range(1, 201)]
    async with play(serve(seconds=5), serve(), tokens=tokens, ids_per_frame=ids_per_frame) as run:
        await run.until(lambda: len(run.visits) == 2)
        await run.all_live()
    for visit in run.visits:
        assert len(visit.frames) == frames
        assert all(len(frame["assets_ids"]) <= ids_per_frame for frame in visit.frames)
        assert [t for frame in visit.frames for t in frame["assets_ids"]] == tokens
        assert ["operation" in frame for frame in visit.frames] == [False] + [True] * (frames - 1)


async def test_no_redrive_holds_more_ids_than_allowed(play: Play, autojump_clock: object) -> None:
    tokens = [str(number) for number in range(1, 51)]
    async with play(serve(withheld=tokens), tokens=tokens, ids_per_frame=20) as run:
        await trio.sleep(15)
    redrive = run.visits[0].frames[3:]
    assert [frame["operation"] for frame in redrive] == ["unsubscribe", "subscribe"] * 3
    assert sorted(t for f in redrive[::2] for t in f["assets_ids"]) == sorted(tokens)
    assert max(len(frame["assets_ids"]) for frame in redrive) == 20


async def test_more_tokens_than_one_connection_takes_open_more_connections(
    play: Play, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 401)]
    async with play(serve(), tokens=tokens) as run:
        await run.all_live()
        assert [len(visit.subscribed) for visit in run.visits] == [200, 200]
        assert {t for visit in run.visits for t in visit.subscribed} == set(tokens)
        await run.check_books()


async def test_a_reconnect_is_a_new_epoch_with_stale_books_until_fresh_ones_come(
    play: Play,
    autojump_clock: object,
) -> None:
    async with play(serve(seconds=5.5), serve()) as run:
        await run.until(lambda: len(run.epochs) == 2)
        await run.all_live()
        await run.check_books()
        down = run.events.index(run.of(FeedDown)[0])
        for token in (YES, NO):
            assert run.path_of(token) == LIVE + resynced(StaleReason.DISCONNECTED)
    # The books are stale at once: nothing stands between the news and their state.
    said = run.events[down + 1 : down + 3]
    assert [type(event) for event in said] == [TrustChanged, TrustChanged]
    assert {event.time_ns for event in said} == {run.events[down].time_ns}
    first, second = run.epochs
    assert second > first
    # The market is what the exchange named, also before the next book.
    assert [event.market for event in run.of(TrustChanged)] == [None] * 2 + [MARKET] * 8
    for event in run.of(BookUpdated):
        assert event.epoch == (first if run.events.index(event) < down else second)


def gaps(run: Run) -> list[tuple[str | None, int | None, str | None, StaleReason]]:
    return [(gap.feed, gap.epoch, gap.token, gap.reason) for gap in run.of(Gap)]


async def test_a_lost_session_is_a_gap_of_its_feed_before_the_next_one_says_anything(
    play: Play, autojump_clock: object
) -> None:
    hanging_up = serve(seconds=5.5)
    async with play(hanging_up, hang_up, refuse(429), hanging_up, serve()) as run:
        await run.until(lambda: len(run.epochs) == 3)
        await run.all_live()
    _, *others = run.epochs
    assert gaps(run) == [("feed-0", epoch, None, StaleReason.DISCONNECTED) for epoch in others]
    for gap in run.of(Gap):
        at = run.events.index(gap)
        before, behind = run.events[at - 1], run.events[at + 1]
        assert isinstance(before, FeedUp)
        assert before.epoch == gap.epoch
        assert isinstance(behind, TrustChanged)
        assert behind.state is TrustState.SYNCING


async def test_the_gap_of_a_session_that_stalled_has_the_reason_of_its_books(
    play: Play, autojump_clock: object
) -> None:
    async with play(serve(tick_seconds=None), serve()) as run:
        await run.until(lambda: len(run.epochs) == 2)
        assert gaps(run) == [("feed-0", run.epochs[1], None, StaleReason.FEED_STALLED)]


async def test_what_was_never_seen_is_no_gap(play: Play, autojump_clock: object) -> None:
    async with play(hang_up, refuse(429), serve()) as run:
        await run.all_live()
        await trio.sleep(60)
    assert len(run.epochs) == 1
    assert run.of(Gap) == []


async def test_a_gap_is_said_of_the_feed_that_lost_its_session_and_of_no_other(
    play: Play, autojump_clock: object
) -> None:
    async with play(serve(seconds=20), serve(), tokens_per_connection=1) as run:
        await run.until(lambda: len(run.epochs) == 3)
        (gap,) = run.of(Gap)
        assert gap.feed == run.of(FeedDown)[0].feed


async def test_a_session_that_ends_while_its_shard_is_down_is_a_gap_as_well(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_broken = False
    crash(monkeypatch, BookShard, "apply", lambda batch: is_broken)
    async with play(serve(seconds=5.2), serve(tick_seconds=None)) as run:
        await run.all_live()
        await trio.sleep(4.5)
        is_broken = True  # at the next change, after 5 s, and again whenever it is back
        await run.until(lambda: len(run.epochs) == 2)
        is_broken = False
        assert gaps(run)[-1] == ("feed-0", run.epochs[1], None, StaleReason.DISCONNECTED)
        await run.all_live()
        await run.check_books()


async def test_epochs_never_repeat_over_feeds_and_failed_connects(
    play: Play, autojump_clock: object
) -> None:
    async with play(
        hang_up, drop_after_dump, refuse(429), tokens=("1", "2", "3"), tokens_per_connection=1
    ) as run:
        await trio.sleep(60)
    epochs = [event.epoch for event in run.of(FeedDown)]
    assert len(epochs) > 10
    assert len(set(epochs)) == len(epochs)
    ups = {event.epoch: run.events.index(event) for event in run.of(FeedUp)}
    for event in run.of(FeedDown):
        assert ups.get(event.epoch, -1) < run.events.index(event)


async def test_what_a_server_sends_before_our_subscription_is_taken(
    play: Play, autojump_clock: object
) -> None:
    async def eager(visit: Visit) -> None:
        await visit.upgrade()
        await visit.send("PONG", [], "NO NEW ASSETS")
        await visit.send([visit.server.books.snapshot(YES), visit.server.books.snapshot(NO)])
        visit.note(json.loads(await visit.receive()))
        await trio.sleep(5)
        await visit.send(visit.server.books.change(YES, "0.5", "77"))
        await trio.sleep_forever()

    async with play(eager) as run:
        await run.all_live(seconds=1.0)
        await trio.sleep(6)
        await run.check_books()
        assert run.downs == []


async def test_a_flood_before_our_subscription_does_not_keep_it_from_being_sent(
    play: Play, autojump_clock: object
) -> None:
    async def flood(visit: Visit) -> None:
        await visit.upgrade()
        for _ in range(5000):
            await visit.send("NO NEW ASSETS")
        await serve_on(visit)

    async with play(flood) as run:
        await run.all_live(seconds=1.0)


async def serve_on(visit: Visit) -> None:
    """Go on as a good server, after the upgrade."""
    visit.note(json.loads(await visit.receive()))
    await visit.dump()
    while True:
        if await visit.receive() == "PING":
            await visit.send("PONG")


# --- every failure has its reason, and ends in backoff ----------------------------------------


async def hang_up_amid_frame(visit: Visit) -> None:
    await visit.subscription()
    await visit.raw(frame_bytes(0x1, b"x" * 1000)[:500])


async def check_end(run: Run, reason: str, detail: str) -> None:
    """The first session ends at once, says why, and the next one heals all that it cost."""
    await run.until(lambda: run.downs, seconds=1.0)
    down = run.of(FeedDown)[0]
    assert down.reason == reason
    assert detail in down.detail
    await run.all_live(seconds=1.0)  # the first backoff is at most 0.25 s
    assert run.service.env.statistics.connects == 2
    await run.check_books()
    # An outage is no bug: nothing but the feed itself was restarted.
    paths = {event.path.removeprefix("root/core/feeds/feed-0/") for event in run.of(ActorRestarted)}
    assert paths == {"connection", "heartbeat", "parser"}


@pytest.mark.parametrize(
    ("act", "reason", "detail"),
    [
        (close_with(b""), "closed_1005", ""),
        (close_with(b"\x03\xe8\xff"), "closed_1000", "\N{REPLACEMENT CHARACTER}"),
        (drop_after_dump, "reset", "without a close frame"),
        (hang_up_amid_frame, "reset", "without a close frame"),
        (hang_up, "reset", "without a close frame"),
        (refuse(429, b"slow down"), "handshake_429", "429"),
        (
            write_after_dump(
                frame_bytes(0x1, b"[", final=False), frame_bytes(0x8, b"\x03\xe8late")
            ),
            "closed_1000",
            "late",
        ),
    ],
)
async def test_a_session_that_ends_says_why_and_the_next_one_heals_it(
    play: Play, autojump_clock: object, act: Act, reason: str, detail: str
) -> None:
    async with play(act, serve()) as run:
        await check_end(run, reason, detail)
        assert run.service.statistics.unreadable_frames == 0


# Also those that no peer may send (RFC 6455 section 7.4), and 1014, which wsproto does not know.
@pytest.mark.parametrize(
    "code", [0, 999, *range(1000, 1017), 2999, 3000, 3999, 4000, 4999, 5000, 65535]
)
async def test_a_close_frame_is_reported_by_the_code_that_the_server_sent(
    play: Play, autojump_clock: object, code: int
) -> None:
    async with play(close_with(code.to_bytes(2, "big") + b"why"), serve()) as run:
        await check_end(run, f"closed_{code}", "why")
        assert run.service.statistics.unreadable_frames == 0


LONG_TEXT = b"x" * 300_000
"""More than one read from the socket brings."""


@pytest.mark.parametrize(
    ("frames", "detail"),
    [
        ([frame_bytes(0x1, b"\xff\xfe")], "no UTF-8"),
        ([frame_bytes(0x1, b"[]" + b" " * 300 + b"\xe2\x82")], "no UTF-8"),
        ([frame_bytes(0x1, LONG_TEXT + b"\xff" + LONG_TEXT)], "no UTF-8"),
        ([frame_bytes(0x1, b"[", final=False), frame_bytes(0x0, b"\xff")], "no UTF-8"),
        ([frame_bytes(0x1, b"{}", reserved=4)], "Reserved bit"),
        ([frame_bytes(0x1, b"{}", masked=True)], "masked"),
        ([frame_bytes(0x3)], "opcode"),
        ([frame_bytes(0x0, b"x")], "CONTINUATION"),
        ([frame_bytes(0x1, b"[", final=False), frame_bytes(0x1, b"]")], "CONTINUATION"),
        ([frame_bytes(0x8, b"\x03")], "1 byte"),
        ([frame_bytes(0x9, b"x" * 126)], "125"),
        ([frame_bytes(0x9, final=False)], "fragment"),
    ],
    ids=[
        "no UTF-8",
        "half a character",
        "no UTF-8 after long text",
        "no UTF-8 in a part",
        "reserved bit",
        "masked",
        "opcode",
        "no beginning",
        "no end",
        "half a close code",
        "long ping",
        "ping in parts",
    ],
)
async def test_a_breach_of_the_protocol_is_an_unreadable_frame_and_no_close_of_the_servers(
    play: Play, autojump_clock: object, frames: list[bytes], detail: str
) -> None:
    async with play(write_after_dump(*frames), serve()) as run:
        await check_end(run, "unreadable", detail)
        assert run.service.statistics.unreadable_frames == 1


@pytest.mark.parametrize(
    ("frames", "start"),
    [
        ([frame_bytes(0x1, b"<html>\xff" + b"x" * 1000)], b"<html>\xff" + b"x" * 193),
        # The text before it was whole, and a frame between two parts of a message is none.
        (
            [
                frame_bytes(0x1, b"[]"),
                frame_bytes(0x1, b"first, ", final=False),
                frame_bytes(0x9, b"ping"),
                frame_bytes(0x0, b"\xff", final=False),
            ],
            b"first, \xff",
        ),
        ([frame_bytes(0x1, LONG_TEXT + b"\xff")], LONG_TEXT[:200]),
        # What is no frame is shown as it came, with its header.
        ([frame_bytes(0x1, b"[]"), frame_bytes(0x3, b"x" * 300)], b"\x83\x7e\x01\x2c"),
        ([frame_bytes(0x1, b"[]"), frame_bytes(0x0, b"lost")], b"lost"),
    ],
    ids=["text", "parts", "long", "no frame", "no beginning"],
)
async def test_the_first_200_bytes_of_what_broke_the_protocol_are_logged_and_kept(
    play: Play,
    autojump_clock: object,
    caplog: pytest.LogCaptureFixture,
    frames: list[bytes],
    start: bytes,
) -> None:
    async with play(write_after_dump(*frames), serve()) as run:
        await run.until(lambda: run.downs)
        (sample,) = run.service.statistics.unreadable_samples
        assert sample.startswith(start.decode(errors="replace"))
        assert len(sample) <= 200
        (said,) = [text for text in caplog.messages if text.startswith("unreadable frame")]
        assert f"excerpt={sample!r}" in said


@pytest.mark.parametrize(
    ("frame", "reason", "unreadable"),
    [
        (frame_bytes(0x1, b"\xff"), "unreadable", 1),
        (frame_bytes(0x8, b"\x03\xf0go"), "closed_1008", 0),
    ],
    ids=["text", "close"],
)
async def test_what_a_server_says_that_never_reads_our_subscription_is_the_reason(
    play: Play, autojump_clock: object, frame: bytes, reason: str, unreadable: int
) -> None:
    async def act(visit: Visit) -> None:
        await visit.upgrade_by_hand()
        await visit.raw(frame)
        await trio.sleep_forever()

    async with play(act, serve(), make_pair=lockstep_pair) as run:
        await run.until(lambda: run.downs)
        assert run.downs == [reason]
        assert run.epochs == []
        assert run.service.statistics.unreadable_frames == unreadable


@pytest.mark.parametrize(
    "frames",
    [
        [frame_bytes(0x1, b"x" * (FRAME_BYTES_MAX + 1))],
        [frame_bytes(0x1, b"x" * 60_000, final=False), frame_bytes(0x0, b"x" * 60_000)],
    ],
    ids=["one", "parts"],
)
async def test_a_frame_that_is_too_large_is_unreadable_and_we_close_by_1009(
    play: Play, autojump_clock: object, frames: list[bytes]
) -> None:
    act = write_after_dump(*frames)
    async with play(act, serve(), frame_bytes_max=FRAME_BYTES_MAX) as run:
        await check_end(run, "closed_1009", "maximum")
        assert list(run.service.statistics.unreadable_samples) == ["x" * 200]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "reset"),
        (OSError("all attempts to connect failed"), "reset"),
        (trio.BrokenResourceError("broken"), "reset"),
    ],
)
async def test_a_stream_that_does_not_open_ends_in_backoff(
    play: Play, autojump_clock: object, failure: Exception, reason: str
) -> None:
    failures = 5

    def pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise failure
        return trio.testing.memory_stream_pair()

    async with play(serve(), make_pair=pair) as run:
        await run.all_live()
        assert run.downs == [reason] * 5
        assert all(event.state is not TrustState.STALE for event in run.of(TrustChanged))


async def test_a_server_that_accepts_and_says_nothing_costs_the_connect_timeout(
    play: Play, autojump_clock: object
) -> None:
    async with play(say_nothing, serve()) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == 10.0
        assert run.downs == ["reset"]
        await run.all_live()


async def test_a_server_that_never_reads_the_subscription_is_half_open(
    play: Play, autojump_clock: object
) -> None:
    async with play(deaf, make_pair=lockstep_pair) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == 10.0
        assert run.downs == ["reset"]
        assert run.epochs == []  # it never was up


def heedless(*, every_seconds: float = 1.0, frame: bytes | None = None, reads: bool = False) -> Act:
    """Take the subscription and send the books; then changes, or `frame`, and heed nothing."""

    async def act(visit: Visit) -> None:
        await visit.upgrade_by_hand()
        await visit.read()
        books = [visit.server.books.snapshot(token) for token in (YES, NO)]
        await visit.raw(frame_bytes(0x1, json.dumps(books).encode()))
        if reads:
            visit.nursery.start_soon(read_on, visit)
        for number in range(1, 1_000_000):
            await trio.sleep(every_seconds)
            change = visit.server.books.change(YES, "0.5", str(number))
            await visit.raw(frame or frame_bytes(0x1, json.dumps(change).encode()))

    async def read_on(visit: Visit) -> None:
        while await visit.read():
            pass

    return act


async def test_a_server_that_stops_reading_fails_the_ping_by_the_send_timeout(
    play: Play, autojump_clock: object
) -> None:
    async with play(heedless(), make_pair=lockstep_pair) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == pytest.approx(20.0)  # PING after 10 s, 10 s to send it
        assert run.downs == ["reset"]


async def test_a_server_that_never_answers_a_ping_is_a_pong_timeout(
    play: Play, autojump_clock: object
) -> None:
    async with play(serve(pong=False), serve()) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == pytest.approx(35.0)
        assert run.downs == ["pong_timeout"]
        await run.all_live()
        await run.check_books()


async def test_a_silent_stall_with_live_pongs_is_feed_stalled(
    play: Play, autojump_clock: object
) -> None:
    async with play(serve(tick_seconds=None), serve()) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == pytest.approx(30.0)
        assert run.downs == ["feed_stalled"]
        assert (TrustState.STALE, StaleReason.FEED_STALLED) in run.path_of(YES)
        await run.all_live()


async def test_news_of_other_markets_is_no_sign_of_life(play: Play, autojump_clock: object) -> None:
    async def gossip(visit: Visit) -> None:
        while True:
            await trio.sleep(1.0)
            await visit.send(
                {"event_type": "market_resolved", "market": "0x" + "cd" * 32, "assets_ids": []}
            )

    async with play(serve(tick_seconds=None, beside=gossip), serve()) as run:
        await run.until(lambda: run.downs)
        assert run.downs == ["feed_stalled"]
        assert trio.current_time() == pytest.approx(30.0)


async def test_a_flood_of_protocol_pings_is_answered_and_hurts_nothing(
    play: Play, autojump_clock: object
) -> None:
    answered = 0

    async def flood(visit: Visit) -> None:
        nonlocal answered
        await trio.sleep(1.0)
        for _ in range(20_000):
            await visit.raw(frame_bytes(0x9, b"flood"))
        for _ in range(200):
            await visit.websocket.ping()
            answered += 1

    async with play(serve(beside=flood)) as run:
        await trio.sleep(45)
        assert answered == 200
        assert run.downs == []
        await run.check_books()


async def test_a_flood_of_pings_from_a_server_that_reads_no_pongs_is_half_open(
    play: Play, autojump_clock: object
) -> None:
    async def act(visit: Visit) -> None:
        await visit.upgrade_by_hand()
        await visit.read()
        while True:
            await visit.raw(frame_bytes(0x9, b"flood"))

    async with play(act, make_pair=lockstep_pair) as run:
        await run.until(lambda: run.downs)
        assert run.downs == ["reset"]
        assert trio.current_time() == pytest.approx(20.0)


async def test_binary_frames_are_read_like_text(play: Play, autojump_clock: object) -> None:
    async def act(visit: Visit) -> None:
        await visit.subscription()
        for token in visit.subscribed:
            await visit.websocket.send_message(
                json.dumps(visit.server.books.snapshot(token)).encode()
            )
        await trio.sleep_forever()

    async with play(act) as run:
        await run.all_live(seconds=1.0)
        await run.check_books()


# --- backoff, and never a storm ---------------------------------------------------------------


def delays(run: Run) -> list[float]:
    """From each feed_down to the connect that follows it."""
    connects = run.server.connects
    start_ns = run.events[0].time_ns - int(connects[0] * 1e9)
    downs = [(event.time_ns - start_ns) / 1e9 for event in run.of(FeedDown)]
    return [at - down for down, at in zip(downs, connects[1:], strict=False)]


async def test_the_first_reconnect_is_at_once_and_the_backoff_doubles_from_a_quarter_to_thirty(
    play: Play, autojump_clock: object
) -> None:
    async with play(hang_up, rng=MostJitter()) as run:
        await trio.sleep(200)
    waits = [after - before for before, after in pairwise(run.server.connects)]
    assert waits[:9] == pytest.approx([STAGGER_SECONDS, 0.25, 0.5, 1, 2, 4, 8, 16, 30])


async def test_the_jitter_is_full(play: Play, autojump_clock: object) -> None:
    async with play(hang_up, rng=Random(1)) as run:
        await trio.sleep(3600)
    waits = [after - before for before, after in pairwise(run.server.connects)][8:]
    assert len(waits) > 100
    assert max(waits) <= 30.0
    assert min(waits) < 3.0
    assert 12.0 < sum(waits) / len(waits) < 18.0


@pytest.mark.parametrize(
    ("session", "expected_seconds"),
    [
        (serve(seconds=61.5, tick_seconds=7.0), 0.0),
        (serve(seconds=58.5, tick_seconds=7.0), 2.0),
        (serve(seconds=61.5, tick_seconds=None), 2.0),
        (serve(seconds=400.0, tick_seconds=None), 2.0),
        (serve(seconds=400.0, tick_seconds=190.0), 0.0),
    ],
    ids=["61 s of data", "58 s of data", "dump and 61 s", "dump and 400 s", "late data"],
)
async def test_only_a_minute_of_a_session_with_data_beyond_its_dump_resets_the_backoff(
    play: Play, autojump_clock: object, session: Act, expected_seconds: float
) -> None:
    async with play(
        *[hang_up] * 4, session, serve(), rng=MostJitter(), data_deadline_seconds=1000.0
    ) as run:
        await run.until(lambda: len(run.epochs) == 2, seconds=1000.0)
    assert delays(run)[:5] == pytest.approx(
        [STAGGER_SECONDS, 0.25, 0.5, 1.0, expected_seconds], abs=1e-6
    )


async def test_books_that_were_asked_for_again_are_no_data_beyond_the_dump(
    play: Play, autojump_clock: object
) -> None:
    session = saying(
        *["garbage"] * 4,
        at_seconds=20.0,
        every_seconds=20.0,
        seconds=100.0,
        tick_seconds=None,
    )
    async with play(*[hang_up] * 4, session, serve(), rng=MostJitter()) as run:
        await run.until(lambda: len(run.epochs) == 2, seconds=1000.0)
        assert run.service.env.statistics.events["book"] > 2
    assert delays(run)[4] == pytest.approx(2.0)


def most_in_ten_seconds(connects: list[float]) -> int:
    return max(sum(start <= at <= start + 10.0 for at in connects) for start in connects)


@pytest.mark.parametrize("feeds", [1, 5])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "act",
    [hang_up, drop_after_dump, refuse(429), serve(seconds=0.5)],
    ids=["drop", "drop after the dump", "429", "drop soon"],
)
async def test_no_server_sees_more_than_twelve_connects_in_any_ten_seconds(
    play: Play, autojump_clock: object, act: Act, feeds: int, seed: int
) -> None:
    tokens = [str(number) for number in range(1, feeds + 1)]
    async with play(act, tokens=tokens, rng=Random(seed), tokens_per_connection=1) as run:
        await trio.sleep(600)
        assert set(run.service.states()) <= {"EMPTY", "STALE"} or run.epochs
    assert most_in_ten_seconds(run.server.connects) <= 12
    assert len(run.server.connects) >= 20 * feeds, "it must not give up either"


async def test_many_feeds_that_are_dropped_a_little_later_are_no_storm_either(
    play: Play, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 21)]
    async with play(
        serve(seconds=2.5), tokens=tokens, rng=Random(1), tokens_per_connection=1
    ) as run:
        await trio.sleep(300)
    later = [at for at in run.server.connects if at > 20.0]  # beyond the first, hopeful connects
    assert most_in_ten_seconds(later) <= 20
    assert most_in_ten_seconds(run.server.connects) <= 24


async def test_fifty_feeds_whose_sessions_hold_are_all_up_within_fifteen_seconds(
    play: Play,
    autojump_clock: object,
) -> None:
    tokens = [str(number) for number in range(1, 51)]
    async with play(serve(tick_seconds=5.0), tokens=tokens, tokens_per_connection=1) as run:
        await run.all_live(seconds=15.0)


# --- the stop ---------------------------------------------------------------------------------


async def hang(request: httpx2.Request, books: Books) -> httpx2.Response:
    await trio.sleep_forever()
    raise AssertionError


async def flood_with_changes(visit: Visit) -> None:
    await visit.subscription()
    await visit.dump()
    for number in range(1, 100_000):
        for token in (YES, NO):
            await visit.send(visit.server.books.change(token, "0.5", str(number)))


def after(seconds: float) -> Callable[[Run], Awaitable[None]]:
    async def wait(run: Run) -> None:
        await trio.sleep(seconds)

    return wait


@pytest.mark.parametrize(
    ("act", "moment", "make_pair", "open_seconds", "reason"),
    [
        (serve(), after(3.0), memory_pair, 5.0, "stopping"),
        (say_nothing, after(3.0), memory_pair, 0.0, "stopping"),
        (say_nothing, after(3.0), lockstep_pair, 0.0, "stopping"),
        (deaf, after(3.0), lockstep_pair, 0.0, "stopping"),
        (deaf, after(3.0), memory_pair, 0.0, "stopping"),
        (serve(), Run.all_live, memory_pair, 0.0, "stopping"),
        (serve(), after(10.0), memory_pair, 0.0, "stopping"),
        (heedless(), after(15.0), lockstep_pair, 0.0, "stopping"),
        (hang_up, after(20.0), memory_pair, 0.0, "reset"),
        (serve(withheld=[YES]), after(20.5), memory_pair, 0.0, "stopping"),
    ],
    ids=[
        "opening",
        "handshake",
        "handshake unread",
        "subscribing",
        "subscribed but deaf",
        "live",
        "ping",
        "half-open",
        "backoff",
        "REST",
    ],
)
@pytest.mark.parametrize("cancelled", [False, True], ids=["stopped", "cancelled"])
async def test_a_stop_in_any_phase_ends_soon_and_says_so(
    play: Play,
    autojump_clock: object,
    act: Act,
    moment: Callable[[Run], Awaitable[None]],
    make_pair: Pair,
    open_seconds: float,
    reason: str,
    cancelled: bool,
) -> None:
    async with play(act, make_pair=make_pair, open_seconds=open_seconds, rest=hang) as run:
        await moment(run)
        states = run.service.states()
        await run.stop(cancelled=cancelled)
        assert run.downs[-1] == reason
        assert "crashed" not in run.downs
        if not cancelled:
            assert run.service.states() == states  # the last states stand
    for visit in run.visits:  # every stream was closed
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await visit.raw(b"still there?")


@pytest.mark.parametrize(
    "act",
    [
        heedless(every_seconds=30.0),
        heedless(every_seconds=0.1, reads=True),
        heedless(every_seconds=0.001, reads=True),
        heedless(every_seconds=0.1, reads=True, frame=frame_bytes(0x9, b"still there?")),
        heedless(every_seconds=0.1, reads=True, frame=frame_bytes(0x1, b"\xff")),
    ],
    ids=["deaf", "changes", "flood", "pings", "garbage"],
)
@pytest.mark.parametrize("cancelled", [False, True], ids=["stopped", "cancelled"])
async def test_a_stop_is_said_at_once_whatever_the_server_makes_of_our_goodbye(
    play: Play, autojump_clock: object, act: Act, cancelled: bool
) -> None:
    async with play(act) as run:
        await run.all_live(seconds=1.0)
        stopped_at, stopped_ns = trio.current_time(), run.service.env.clock_ns()
        await run.stop(cancelled=cancelled)
        assert trio.current_time() <= stopped_at + CLOSE_DEADLINE_SECONDS
        (down,) = run.of(FeedDown)
        assert (down.reason, down.time_ns) == ("stopping", stopped_ns)


@pytest.mark.parametrize("events", range(100, 1100, 100))
@pytest.mark.parametrize("cancelled", [False, True], ids=["stopped", "cancelled"])
async def test_a_stop_under_full_load_is_no_crash(
    play: Play, autojump_clock: object, events: int, cancelled: bool
) -> None:
    async with play(flood_with_changes) as run:
        await run.until(lambda: len(run.events) > events)
        await run.stop(cancelled=cancelled)
    assert run.downs == ["stopping"]


async def test_a_stop_says_goodbye_and_a_peer_believed_dead_is_spared_it(
    play: Play, autojump_clock: object
) -> None:
    async with play(serve(pong=False), serve()) as run:
        await run.until(lambda: len(run.epochs) == 2)
        await run.all_live()
        assert run.downs == ["pong_timeout"]
    await trio.sleep(1.0)
    assert [visit.close_code for visit in run.visits] == [1006, 1000]


async def test_a_stop_while_feeds_wait_for_their_turn_to_connect(
    play: Play, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 41)]
    async with play(say_nothing, tokens=tokens, tokens_per_connection=1) as run:
        await trio.sleep(5.0)
        assert len(run.visits) == 12
        run.service.stop()
        await run.ended.wait()
    assert run.downs == ["stopping"] * 12  # no word of what never began


async def test_a_stop_at_any_moment_is_clean(play: Play, autojump_clock: object) -> None:
    acts = (drop_after_dump, serve(seconds=0.5), hang_up, serve(tick_seconds=0.01))
    reasons: set[str] = set()
    for seed in range(30):
        async with play(*acts, rng=Random(seed)) as run:
            await trio.sleep(Random(seed).uniform(0.0, 3.0))
        reasons.update(run.downs)
    assert reasons == {"reset", "stopping"}


# --- crashes of actors ------------------------------------------------------------------------


async def test_a_heartbeat_crash_leaves_the_socket_alone_and_resyncs(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = crash_once(monkeypatch, Pulse, "is_ping_due")
    async with play(serve()) as run:
        await run.all_live()
        await trio.sleep(12)
        crash()
        mark = len(run.events)
        await run.until(lambda: run.of(Gap))
        await run.all_live()
        news = run.events[mark:]
        gap = next(event for event in news if isinstance(event, Gap))
        assert (gap.token, gap.reason) == (None, StaleReason.ACTOR_RESTARTED)
        first_trust = next(event for event in news if isinstance(event, TrustChanged))
        assert news.index(gap) < news.index(first_trust)
        restarted = [e.path.rpartition("/")[2] for e in news if isinstance(e, ActorRestarted)]
        assert restarted == ["heartbeat", "parser"]
        # The new one goes on with the session: it pings, and it watches.
        pings = run.visits[0].texts.count("PING")
        await trio.sleep(30)
        assert run.visits[0].texts.count("PING") >= pings + 2
        await run.check_books()
        assert len(run.visits) == 1
        assert run.downs == []
        assert len(run.epochs) == 1


async def test_a_restarted_heartbeat_still_finds_a_stall(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = crash_once(monkeypatch, Pulse, "is_ping_due")

    async with play(serve(tick_seconds=None), serve()) as run:
        await run.all_live()
        crash()
        await run.until(lambda: run.downs)
        assert run.downs == ["feed_stalled"]


async def test_a_shard_crash_is_stale_at_once_and_resyncs_on_the_same_session(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = crash_once(monkeypatch, BookShard, "apply")
    async with play(serve()) as run:
        await run.all_live()
        await trio.sleep(3)
        crash()
        await run.until(lambda: (TrustState.STALE, StaleReason.ACTOR_RESTARTED) in run.path_of(YES))
        await run.all_live()
        await trio.sleep(3)
        await run.check_books()
        for token in (YES, NO):
            assert run.path_of(token) == LIVE + resynced(StaleReason.ACTOR_RESTARTED)
        assert len(run.visits) == 1
        assert run.downs == []
        assert [e.path for e in run.of(ActorRestarted)] == ["root/core/books/shard-0"]


async def test_a_feed_that_gives_up_is_stale_and_tried_again_ever_more_rarely(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = False
    crash(monkeypatch, MarketCodec, "receive_known", lambda frame: broken)
    gave_up = (TrustState.STALE, StaleReason.FEED_GAVE_UP)
    async with play(serve()) as run:
        await run.all_live()
        broken = True
        await run.until(lambda: run.path_of(YES)[-1] == gave_up)
        for seconds in (60, 120, 240, 480, 600, 600):
            given_up_at, visits = trio.current_time(), len(run.visits)
            await trio.sleep(seconds - 1.0)
            assert len(run.visits) == visits
            for token in (YES, NO):
                assert run.path_of(token)[-1] == gave_up
            await run.until(lambda: run.path_of(YES)[-1] != gave_up)
            assert trio.current_time() - given_up_at == pytest.approx(seconds, abs=0.5)
            await run.until(lambda: run.path_of(YES)[-1] == gave_up)
        broken = False
        await run.all_live(seconds=700.0)
        await run.check_books()
        assert not run.ended.is_set()


async def test_one_feed_that_gives_up_does_not_touch_the_others(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash(monkeypatch, MarketCodec, "receive_known", lambda frame: NO in str(frame))
    async with play(serve(), tokens_per_connection=1) as run:
        await trio.sleep(300)
        assert run.path_of(YES) == LIVE
        assert run.path_of(NO)[-1] == (TrustState.STALE, StaleReason.FEED_GAVE_UP)
        await trio.sleep(0.01)
        assert run.service.book(YES).to_wire() == run.server.books.levels(YES)
