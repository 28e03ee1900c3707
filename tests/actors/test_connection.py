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
from tests.actors.scripted_server import (
    NO,
    YES,
    Act,
    MostJitter,
    Run,
    ScriptedServer,
    Visit,
    close_with,
    deaf,
    drop_after_dump,
    frame_bytes,
    hang_up,
    refuse,
    running,
    say_nothing,
    serve,
    write_after_dump,
)

from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import ActorRestarted, BookUpdated, FeedDown, FeedUp, Gap, TrustChanged
from polyactors.heartbeat import Pulse
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import Decoded
from polyactors.shard import BookShard

FRAME_BYTES_MAX = 100_000


# --- the subscription comes first, and comes again --------------------------------------------


async def test_the_first_frame_is_the_subscription_and_no_ping_comes_before_it(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, serve(seconds=35), serve())
    async with running(server) as run:
        await trio.sleep(120)
    assert len(server.visits) == 2
    for visit in server.visits:
        first = json.loads(visit.texts[0])
        assert first["type"] == "market"
        assert first["assets_ids"] == [YES, NO]
        assert sum('"type"' in text for text in visit.texts) == 1  # else INVALID OPERATION
        assert "PING" in visit.texts
        assert visit.path == "/ws/market"
    assert run.downs == ["reset", "stopping"]


async def test_the_scripted_server_itself_answers_a_ping_before_the_subscription_by_1008(
    nursery: trio.Nursery, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ping_first(tokens: Any, **_: object) -> list[str]:
        return ["PING"]

    monkeypatch.setattr("polyactors.connection.subscribe_frames", ping_first)
    server = ScriptedServer(nursery, serve())
    async with running(server) as run:
        await run.until(lambda: run.downs)
    assert run.downs[0] == "closed_1008"


async def test_pings_go_out_every_ten_seconds(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, serve(tick_seconds=0.7))
    async with running(server):
        await trio.sleep(61)
    pings = [at for at, text in server.visits[0].received if text == "PING"]
    assert pings == pytest.approx([10, 20, 30, 40, 50, 60])


@pytest.mark.parametrize(("ids_per_frame", "frames"), [(100, 2), (7, 29), (200, 1)])
async def test_no_frame_holds_more_ids_than_allowed(
    nursery: trio.Nursery, autojump_clock: object, ids_per_frame: int, frames: int
) -> None:
    tokens = [str(number) for number in range(1, 201)]
    server = ScriptedServer(nursery, serve(seconds=5), serve(), tokens=tokens)
    async with running(server, ids_per_frame=ids_per_frame) as run:
        await run.until(lambda: len(server.visits) == 2)
        await run.all_live()
    for visit in server.visits:
        assert len(visit.frames) == frames
        assert all(len(frame["assets_ids"]) <= ids_per_frame for frame in visit.frames)
        assert [t for frame in visit.frames for t in frame["assets_ids"]] == tokens
        assert ["operation" in frame for frame in visit.frames] == [False] + [True] * (frames - 1)


async def test_no_redrive_holds_more_ids_than_allowed(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 51)]
    server = ScriptedServer(nursery, serve(withheld=tokens), tokens=tokens)
    async with running(server, ids_per_frame=20):
        await trio.sleep(15)
    redrive = server.visits[0].frames[3:]
    assert [frame["operation"] for frame in redrive] == ["unsubscribe", "subscribe"] * 3
    assert sorted(t for f in redrive[::2] for t in f["assets_ids"]) == sorted(tokens)
    assert max(len(frame["assets_ids"]) for frame in redrive) == 20


async def test_more_tokens_than_one_connection_takes_open_more_connections(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 401)]
    server = ScriptedServer(nursery, serve(), tokens=tokens)
    async with running(server) as run:
        await run.all_live()
        assert [len(visit.subscribed) for visit in server.visits] == [200, 200]
        assert {t for visit in server.visits for t in visit.subscribed} == set(tokens)
        await run.check_books()


async def test_a_reconnect_is_a_new_epoch_with_stale_books_until_fresh_ones_come(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, serve(seconds=5.5), serve())
    async with running(server) as run:
        await run.until(lambda: len(run.epochs) == 2)
        await run.all_live()
        await run.check_books()
        down = run.events.index(run.of(FeedDown)[0])
        for token in (YES, NO):
            assert run.path_of(token) == [
                (TrustState.SYNCING, None),
                (TrustState.LIVE, None),
                (TrustState.STALE, StaleReason.DISCONNECTED),
                (TrustState.SYNCING, None),
                (TrustState.LIVE, None),
            ]
    # The books are stale at once: nothing stands between the news and their state.
    said = run.events[down + 1 : down + 3]
    assert [type(event) for event in said] == [TrustChanged, TrustChanged]
    assert {event.time_ns for event in said} == {run.events[down].time_ns}
    first, second = run.epochs
    assert second > first
    for event in run.of(BookUpdated):
        assert event.epoch == (first if run.events.index(event) < down else second)


async def test_epochs_never_repeat_over_feeds_and_failed_connects(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, hang_up, drop_after_dump, refuse(429), tokens=("1", "2", "3"))
    async with running(server, tokens_per_connection=1) as run:
        await trio.sleep(60)
    epochs = [event.epoch for event in run.of(FeedDown)]
    assert len(epochs) > 10
    assert len(set(epochs)) == len(epochs)
    ups = {event.epoch: run.events.index(event) for event in run.of(FeedUp)}
    for event in run.of(FeedDown):
        assert ups.get(event.epoch, -1) < run.events.index(event)


async def test_what_a_server_sends_before_our_subscription_is_taken(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def eager(visit: Visit) -> None:
        await visit.upgrade()
        await visit.send("PONG", [], "NO NEW ASSETS")
        await visit.send([visit.server.books.snapshot(YES), visit.server.books.snapshot(NO)])
        visit.note(json.loads(await visit.receive()))
        await trio.sleep(5)
        await visit.send(visit.server.books.change(YES, "0.5", "77"))
        await trio.sleep_forever()

    server = ScriptedServer(nursery, eager)
    async with running(server) as run:
        await run.all_live(seconds=1.0)
        await trio.sleep(6)
        await run.check_books()
        assert run.downs == []


async def test_a_flood_before_our_subscription_does_not_keep_it_from_being_sent(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def flood(visit: Visit) -> None:
        await visit.upgrade()
        for _ in range(5000):
            await visit.send("NO NEW ASSETS")
        await serve_on(visit)

    server = ScriptedServer(nursery, flood)
    async with running(server) as run:
        await run.all_live(seconds=1.0)


async def serve_on(visit: Visit) -> None:
    """Go on as a good server, after the upgrade."""
    visit.note(json.loads(await visit.receive()))
    await visit.dump()
    while True:
        if await visit.receive() == "PING":
            await visit.send("PONG")


# --- every failure has its reason, and ends in backoff ----------------------------------------


def raw_close(code: int) -> Act:
    return close_with(code.to_bytes(2, "big") + b"why")


async def hang_up_amid_frame(visit: Visit) -> None:
    await visit.subscription()
    await visit.raw(frame_bytes(0x1, b"x" * 1000)[:500])


@pytest.mark.parametrize(
    ("act", "reason", "detail"),
    [
        *((raw_close(code), f"closed_{code}", "why") for code in (1000, 1001, 1002, 1003)),
        *((raw_close(code), f"closed_{code}", "why") for code in (1007, 1008, 1009, 1010)),
        *((raw_close(code), f"closed_{code}", "why") for code in (1011, 1012, 1013)),
        *((raw_close(code), f"closed_{code}", "why") for code in (3000, 4999)),
        (close_with(b""), "closed_1005", ""),
        # Codes that no peer may send: that is a protocol error of its own.
        *((raw_close(code), "closed_1002", "CLOSE") for code in (999, 1004, 1005, 1006, 1015)),
        # wsproto does not know 1014 (bad gateway).
        (raw_close(1014), "closed_1002", "CLOSE with unknown reserved code"),
        (close_with(b"\x03"), "closed_1002", "1 byte"),
        (close_with(b"\x03\xe8\xff"), "closed_1007", "utf-8"),
        (drop_after_dump, "reset", "without a close frame"),
        (hang_up_amid_frame, "reset", "without a close frame"),
        (hang_up, "reset", "without a close frame"),
        (refuse(429, b"slow down"), "handshake_429", "429"),
        (write_after_dump(frame_bytes(0x1, b"{}", reserved=4)), "closed_1002", "Reserved bit"),
        (write_after_dump(frame_bytes(0x1, b"{}", masked=True)), "closed_1002", "masked"),
        (write_after_dump(frame_bytes(0x3)), "closed_1002", "opcode"),
        (write_after_dump(frame_bytes(0x0, b"x")), "closed_1002", "CONTINUATION"),
        (write_after_dump(frame_bytes(0x9, b"x" * 126)), "closed_1002", "125"),
        (write_after_dump(frame_bytes(0x9, final=False)), "closed_1002", "fragment"),
        (write_after_dump(frame_bytes(0x1, b"\xff\xfe")), "closed_1007", "utf-8"),
        (
            write_after_dump(
                frame_bytes(0x1, b"[", final=False), frame_bytes(0x8, b"\x03\xe8late")
            ),
            "closed_1000",
            "late",
        ),
        (
            write_after_dump(frame_bytes(0x1, b"[", final=False), frame_bytes(0x1, b"]")),
            "closed_1002",
            "",
        ),
        (
            write_after_dump(frame_bytes(0x1, b"x" * (FRAME_BYTES_MAX + 1))),
            "closed_1009",
            "maximum",
        ),
        (
            write_after_dump(
                frame_bytes(0x1, b"x" * 60_000, final=False), frame_bytes(0x0, b"x" * 60_000)
            ),
            "closed_1009",
            "maximum",
        ),
    ],
)
async def test_a_session_that_ends_says_why_and_the_next_one_heals_it(
    nursery: trio.Nursery, autojump_clock: object, act: Act, reason: str, detail: str
) -> None:
    server = ScriptedServer(nursery, act, serve())
    async with running(server, frame_bytes_max=FRAME_BYTES_MAX) as run:
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
    ("failure", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "reset"),
        (OSError("all attempts to connect failed"), "reset"),
        (trio.BrokenResourceError("broken"), "reset"),
    ],
)
async def test_a_stream_that_does_not_open_ends_in_backoff(
    nursery: trio.Nursery, autojump_clock: object, failure: Exception, reason: str
) -> None:
    server = ScriptedServer(nursery, serve())
    opened = server.open_stream
    failures = 5

    async def fail(host: str, port: int, tls: bool) -> trio.abc.Stream:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise failure
        return await opened(host, port, tls)

    server.open_stream = fail  # type: ignore[method-assign]
    async with running(server) as run:
        await run.all_live()
        assert run.downs == [reason] * 5
        assert all(event.state is not TrustState.STALE for event in run.of(TrustChanged))


async def test_a_server_that_accepts_and_says_nothing_costs_the_connect_timeout(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, say_nothing, serve())
    async with running(server) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == 10.0
        assert run.downs == ["reset"]
        await run.all_live()


async def test_a_server_that_never_reads_the_subscription_is_half_open(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, deaf, make_pair=trio.testing.lockstep_stream_pair)
    async with running(server) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == 10.0
        assert run.downs == ["reset"]
        assert run.epochs == []  # it never was up


async def read_the_subscription_and_nothing_else(visit: Visit) -> None:
    await visit.upgrade_by_hand()
    await visit.read()
    books = [visit.server.books.snapshot(token) for token in (YES, NO)]
    await visit.raw(frame_bytes(0x1, json.dumps(books).encode()))
    while True:
        await trio.sleep(1.0)
        change = visit.server.books.change(YES, "0.5", "3")
        await visit.raw(frame_bytes(0x1, json.dumps(change).encode()))


async def test_a_server_that_stops_reading_fails_the_ping_by_the_send_timeout(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(
        nursery,
        read_the_subscription_and_nothing_else,
        make_pair=trio.testing.lockstep_stream_pair,
    )
    async with running(server) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == pytest.approx(20.0)  # PING after 10 s, 10 s to send it
        assert run.downs == ["reset"]


async def test_a_server_that_never_answers_a_ping_is_a_pong_timeout(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, serve(pong=False), serve())
    async with running(server) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == pytest.approx(35.0)
        assert run.downs == ["pong_timeout"]
        await run.all_live()
        await run.check_books()


async def test_a_silent_stall_with_live_pongs_is_feed_stalled(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, serve(tick_seconds=None), serve())
    async with running(server) as run:
        await run.until(lambda: run.downs)
        assert trio.current_time() == pytest.approx(30.0)
        assert run.downs == ["feed_stalled"]
        assert (TrustState.STALE, StaleReason.FEED_STALLED) in run.path_of(YES)
        await run.all_live()


async def test_news_of_other_markets_is_no_sign_of_life(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def gossip(visit: Visit) -> None:
        async def talk() -> None:
            while True:
                await trio.sleep(1.0)
                await visit.send(
                    {"event_type": "market_resolved", "market": "0x" + "cd" * 32, "assets_ids": []}
                )

        await visit.upgrade()
        visit.nursery.start_soon(talk)
        await serve_on(visit)

    server = ScriptedServer(nursery, gossip, serve())
    async with running(server) as run:
        await run.until(lambda: run.downs)
        assert run.downs == ["feed_stalled"]
        assert trio.current_time() == pytest.approx(30.0)


async def test_a_flood_of_protocol_pings_is_answered_and_hurts_nothing(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    answered = 0

    async def act(visit: Visit) -> None:
        async def flood() -> None:
            nonlocal answered
            await trio.sleep(1.0)
            for _ in range(20_000):
                await visit.raw(frame_bytes(0x9, b"flood"))
            for _ in range(200):
                await visit.websocket.ping()
                answered += 1

        visit.nursery.start_soon(flood)
        await serve()(visit)

    server = ScriptedServer(nursery, act)
    async with running(server) as run:
        await trio.sleep(45)
        assert answered == 200
        assert run.downs == []
        await run.check_books()


async def test_a_flood_of_pings_from_a_server_that_reads_no_pongs_is_half_open(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def act(visit: Visit) -> None:
        await visit.upgrade_by_hand()
        await visit.read()
        while True:
            await visit.raw(frame_bytes(0x9, b"flood"))

    server = ScriptedServer(nursery, act, make_pair=trio.testing.lockstep_stream_pair)
    async with running(server) as run:
        await run.until(lambda: run.downs)
        assert run.downs == ["reset"]
        assert trio.current_time() == pytest.approx(20.0)


async def test_binary_frames_are_read_like_text(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def act(visit: Visit) -> None:
        await visit.subscription()
        for token in visit.subscribed:
            await visit.websocket.send_message(
                json.dumps(visit.server.books.snapshot(token)).encode()
            )
        await trio.sleep_forever()

    server = ScriptedServer(nursery, act)
    async with running(server) as run:
        await run.all_live(seconds=1.0)
        await run.check_books()


# --- backoff, and never a storm ---------------------------------------------------------------


def delays(server: ScriptedServer, run: Run) -> list[float]:
    """From each feed_down to the connect that follows it."""
    start_ns = run.events[0].time_ns - int(server.connects[0] * 1e9)
    downs = [(event.time_ns - start_ns) / 1e9 for event in run.of(FeedDown)]
    return [at - down for down, at in zip(downs, server.connects[1:], strict=False)]


async def test_the_backoff_doubles_from_a_quarter_second_to_thirty(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, hang_up)
    async with running(server, rng=MostJitter()):
        await trio.sleep(200)
    waits = [after - before for before, after in pairwise(server.connects)]
    assert waits[:9] == pytest.approx([0.25, 0.5, 1, 2, 4, 8, 16, 30, 30])


async def test_the_jitter_is_full(nursery: trio.Nursery, autojump_clock: object) -> None:
    server = ScriptedServer(nursery, hang_up)
    async with running(server, rng=Random(1)):
        await trio.sleep(3600)
    waits = [after - before for before, after in pairwise(server.connects)][8:]
    assert len(waits) > 100
    assert max(waits) <= 30.0
    assert min(waits) < 3.0
    assert 12.0 < sum(waits) / len(waits) < 18.0


@pytest.mark.parametrize(
    ("session", "expected_seconds"),
    [
        (serve(seconds=61.5, tick_seconds=7.0), 0.25),
        (serve(seconds=58.5, tick_seconds=7.0), 4.0),
        (serve(seconds=61.5, tick_seconds=None), 4.0),
        (serve(seconds=400.0, tick_seconds=None), 4.0),
        (serve(seconds=400.0, tick_seconds=190.0), 0.25),
    ],
    ids=["61 s of data", "58 s of data", "dump and 61 s", "dump and 400 s", "late data"],
)
async def test_only_a_minute_of_a_session_with_data_beyond_its_dump_resets_the_backoff(
    nursery: trio.Nursery, autojump_clock: object, session: Act, expected_seconds: float
) -> None:
    server = ScriptedServer(nursery, *[hang_up] * 4, session, serve())
    async with running(server, rng=MostJitter(), data_deadline_seconds=1000.0) as run:
        await run.until(lambda: len(run.epochs) == 2, seconds=1000.0)
    assert delays(server, run)[:5] == pytest.approx([0.25, 0.5, 1.0, 2.0, expected_seconds])


async def test_books_that_were_asked_for_again_are_no_data_beyond_the_dump(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    async def garbage_now_and_then(visit: Visit) -> None:
        async def spoil() -> None:
            while True:
                await trio.sleep(20.0)
                await visit.send("garbage")

        visit.nursery.start_soon(spoil)
        await serve(seconds=100.0, tick_seconds=None)(visit)

    server = ScriptedServer(nursery, *[hang_up] * 4, garbage_now_and_then, serve())
    async with running(server, rng=MostJitter()) as run:
        await run.until(lambda: len(run.epochs) == 2, seconds=1000.0)
        assert run.service.env.statistics.events["book"] > 2
    assert delays(server, run)[4] == pytest.approx(4.0)


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
    nursery: trio.Nursery, autojump_clock: object, act: Act, feeds: int, seed: int
) -> None:
    tokens = [str(number) for number in range(1, feeds + 1)]
    server = ScriptedServer(nursery, act, tokens=tokens)
    async with running(server, rng=Random(seed), tokens_per_connection=1) as run:
        await trio.sleep(600)
        assert set(run.service.states()) <= {"EMPTY", "STALE"} or run.epochs
    assert most_in_ten_seconds(server.connects) <= 12
    assert len(server.connects) >= 20 * feeds, "it must not give up either"


async def test_many_feeds_that_are_dropped_a_little_later_are_no_storm_either(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 21)]
    server = ScriptedServer(nursery, serve(seconds=2.5), tokens=tokens)
    async with running(server, rng=Random(1), tokens_per_connection=1):
        await trio.sleep(300)
    later = [at for at in server.connects if at > 20.0]  # beyond the first, hopeful connects
    assert most_in_ten_seconds(later) <= 20
    assert most_in_ten_seconds(server.connects) <= 24


async def test_fifty_feeds_whose_sessions_hold_are_all_up_within_fifteen_seconds(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 51)]
    server = ScriptedServer(nursery, serve(tick_seconds=5.0), tokens=tokens)
    async with running(server, tokens_per_connection=1) as run:
        await run.all_live(seconds=15.0)


# --- the stop ---------------------------------------------------------------------------------


async def hang(request: httpx2.Request) -> httpx2.Response:
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


def memory_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.memory_stream_pair()


def lockstep_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.lockstep_stream_pair()


Pair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]


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
        (
            read_the_subscription_and_nothing_else,
            after(15.0),
            lockstep_pair,
            0.0,
            "stopping",
        ),
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
    nursery: trio.Nursery,
    autojump_clock: object,
    act: Act,
    moment: Callable[[Run], Awaitable[None]],
    make_pair: Pair,
    open_seconds: float,
    reason: str,
    cancelled: bool,
) -> None:
    server = ScriptedServer(nursery, act, make_pair=make_pair, open_seconds=open_seconds)
    async with running(server, rest=hang) as run:
        await moment(run)
        states = run.service.states()
        if cancelled:
            run.scope.cancel()
        else:
            run.service.stop()
        with trio.fail_after(2.0):
            await run.ended.wait()
        assert run.downs[-1] == reason
        assert "crashed" not in run.downs
        if not cancelled:
            assert run.service.states() == states  # the last states stand
    for visit in server.visits:  # every stream was closed
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await visit.raw(b"still there?")


@pytest.mark.parametrize("events", range(100, 1100, 100))
@pytest.mark.parametrize("cancelled", [False, True], ids=["stopped", "cancelled"])
async def test_a_stop_under_full_load_is_no_crash(
    nursery: trio.Nursery, autojump_clock: object, events: int, cancelled: bool
) -> None:
    server = ScriptedServer(nursery, flood_with_changes)
    async with running(server) as run:
        await run.until(lambda: len(run.events) > events)
        if cancelled:
            run.scope.cancel()
        else:
            run.service.stop()
        with trio.fail_after(2.0):
            await run.ended.wait()
    assert run.downs == ["stopping"]


async def test_a_stop_says_goodbye_and_a_peer_believed_dead_is_spared_it(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    server = ScriptedServer(nursery, serve(pong=False), serve())
    async with running(server) as run:
        await run.until(lambda: len(run.epochs) == 2)
        await run.all_live()
        assert run.downs == ["pong_timeout"]
    await trio.sleep(1.0)
    assert [visit.close_code for visit in server.visits] == [1006, 1000]


async def test_a_stop_while_feeds_wait_for_their_turn_to_connect(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    tokens = [str(number) for number in range(1, 41)]
    server = ScriptedServer(nursery, say_nothing, tokens=tokens)
    async with running(server, tokens_per_connection=1) as run:
        await trio.sleep(5.0)
        assert len(server.visits) == 12
        run.service.stop()
        await run.ended.wait()
    assert run.downs == ["stopping"] * 12  # no word of what never began


async def test_a_stop_at_any_moment_is_clean(autojump_clock: object) -> None:
    acts = (drop_after_dump, serve(seconds=0.5), hang_up, serve(tick_seconds=0.01))
    reasons: set[str] = set()
    for seed in range(30):
        async with trio.open_nursery() as nursery:
            server = ScriptedServer(nursery, *acts)
            async with running(server, rng=Random(seed)) as run:
                await trio.sleep(Random(seed).uniform(0.0, 3.0))
            reasons.update(run.downs)
            nursery.cancel_scope.cancel()
    assert reasons == {"reset", "stopping"}


# --- crashes of actors ------------------------------------------------------------------------


def crash_once(monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> Callable[[], None]:
    """Make a method raise at its next call after the returned function was called."""
    armed = False
    method = getattr(kind, name)

    def crash(self: object, *args: Any, **kwargs: Any) -> Any:
        nonlocal armed
        if armed:
            armed = False
            raise RuntimeError("injected")
        return method(self, *args, **kwargs)

    def arm() -> None:
        nonlocal armed
        armed = True

    monkeypatch.setattr(kind, name, crash)
    return arm


async def test_a_heartbeat_crash_leaves_the_socket_alone_and_resyncs(
    nursery: trio.Nursery, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = crash_once(monkeypatch, Pulse, "is_ping_due")
    server = ScriptedServer(nursery, serve())
    async with running(server) as run:
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
        pings = server.visits[0].texts.count("PING")
        await trio.sleep(30)
        assert server.visits[0].texts.count("PING") >= pings + 2
        await run.check_books()
        assert len(server.visits) == 1
        assert run.downs == []
        assert len(run.epochs) == 1


async def test_a_restarted_heartbeat_still_finds_a_stall(
    nursery: trio.Nursery, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = crash_once(monkeypatch, Pulse, "is_ping_due")

    async def stall(visit: Visit) -> None:
        await visit.upgrade()
        await serve_on(visit)

    server = ScriptedServer(nursery, stall, serve())
    async with running(server) as run:
        await run.all_live()
        crash()
        await run.until(lambda: run.downs)
        assert run.downs == ["feed_stalled"]


async def test_a_shard_crash_is_stale_at_once_and_resyncs_on_the_same_session(
    nursery: trio.Nursery, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = crash_once(monkeypatch, BookShard, "apply")
    server = ScriptedServer(nursery, serve())
    async with running(server) as run:
        await run.all_live()
        await trio.sleep(3)
        crash()
        await run.until(lambda: (TrustState.STALE, StaleReason.ACTOR_RESTARTED) in run.path_of(YES))
        await run.all_live()
        await trio.sleep(3)
        await run.check_books()
        for token in (YES, NO):
            assert run.path_of(token)[2:] == [
                (TrustState.STALE, StaleReason.ACTOR_RESTARTED),
                (TrustState.SYNCING, None),
                (TrustState.LIVE, None),
            ]
        assert len(server.visits) == 1
        assert run.downs == []
        assert [e.path for e in run.of(ActorRestarted)] == ["root/core/books/shard-0"]


async def test_a_feed_that_gives_up_is_stale_and_tried_again_ever_more_rarely(
    nursery: trio.Nursery, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = False
    receive_frame = MarketCodec.receive_frame

    def receive(self: MarketCodec, frame: str | bytes) -> Decoded:
        if broken:
            raise RuntimeError("injected")
        return receive_frame(self, frame)

    monkeypatch.setattr(MarketCodec, "receive_frame", receive)
    server = ScriptedServer(nursery, serve())
    gave_up = (TrustState.STALE, StaleReason.FEED_GAVE_UP)
    async with running(server) as run:
        await run.all_live()
        broken = True
        await run.until(lambda: run.path_of(YES)[-1] == gave_up)
        for seconds in (60, 120, 240, 480, 600, 600):
            given_up_at, visits = trio.current_time(), len(server.visits)
            await trio.sleep(seconds - 1.0)
            assert len(server.visits) == visits
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
    nursery: trio.Nursery, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ScriptedServer(nursery, serve())
    receive_frame = MarketCodec.receive_frame

    def receive(self: MarketCodec, frame: str | bytes) -> Decoded:
        if NO in str(frame):
            raise RuntimeError("injected")
        return receive_frame(self, frame)

    monkeypatch.setattr(MarketCodec, "receive_frame", receive)
    async with running(server, tokens_per_connection=1) as run:
        await trio.sleep(300)
        assert run.path_of(YES) == [(TrustState.SYNCING, None), (TrustState.LIVE, None)]
        assert run.path_of(NO)[-1] == (TrustState.STALE, StaleReason.FEED_GAVE_UP)
        await trio.sleep(0.01)
        assert run.service.book(YES).to_wire() == server.books.levels(YES)
