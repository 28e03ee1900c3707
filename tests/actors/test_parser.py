"""What frames may hold, and what becomes of the books when they cannot be read."""

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
import trio
from tests.actors.running import LIVE, Play, Run, crash_once, resynced
from tests.actors.scripted_server import (
    MARKET,
    NO,
    SETTINGS,
    YES,
    Books,
    Visit,
    saying,
    serve,
)

from polyactors.book.trust import StaleReason, TrustState
from polyactors.environment import Environment
from polyactors.events import ActorRestarted, FeedDown, Gap, TrustChanged
from polyactors.feed import Feed
from polyactors.messages import Frames, Missed, Parsed
from polyactors.parser import UNREADABLE_PER_SESSION_MAX, parse_frames, run_parser
from polyactors.protocol.codec import NAME_OF, MarketCodec
from polyactors.protocol.events import BookSnapshot, MarketEvent, PriceChange
from polyactors.statistics import Statistics
from polysupervisor import ChildSpec, Context, MailboxSpec, Supervisor

# --- the decisions, without an actor ----------------------------------------------------------


def test_every_event_of_the_channel_has_the_name_that_it_is_read_by() -> None:
    # An event without one would crash the parser, each time that it comes.
    assert set(NAME_OF) == set(get_args(MarketEvent))


def test_a_batch_keeps_the_order_of_the_stream_with_a_mark_where_something_was_lost() -> None:
    books = Books((YES, NO))
    frames = [
        json.dumps(books.snapshot(YES)),
        "garbage",
        json.dumps(books.change(YES, "0.5", "3")),
        "PONG",
    ]
    statistics = Statistics()
    parsed = parse_frames(MarketCodec(), frames, statistics)
    assert [type(event) for event in parsed.events] == [BookSnapshot, Missed, PriceChange]
    assert parsed.events[1] == Missed((), StaleReason.PARSE_FAILURE)
    assert (parsed.pongs, parsed.is_data, parsed.is_beyond_dump) == (1, True, True)
    assert [index for index, _ in parsed.unreadable] == [1]
    assert statistics.unreadable_frames == 1
    assert statistics.events == {"book": 1, "price_change": 1}


@pytest.mark.parametrize(
    ("frame", "is_data", "is_beyond_dump"),
    [
        ("PONG", False, False),
        ("[]", False, False),
        ("garbage", False, False),
        ('{"event_type":"something_new"}', False, False),
        (f'{{"event_type":"market_resolved","market":"{MARKET}","assets_ids":[]}}', False, False),
        (json.dumps([Books([YES]).snapshot(YES)]), True, False),
        (json.dumps(Books([YES]).change(YES, "0.5", "1")), True, True),
    ],
)
def test_only_market_data_is_a_sign_of_life(
    frame: str, is_data: bool, is_beyond_dump: bool
) -> None:
    parsed = parse_frames(MarketCodec(), [frame], Statistics())
    assert (parsed.is_data, parsed.is_beyond_dump) == (is_data, is_beyond_dump)


def test_a_frame_with_several_bad_elements_is_one_unreadable_frame_that_names_all() -> None:
    statistics = Statistics()
    frame = json.dumps([{"event_type": "book", "asset_id": t, "bids": 7} for t in (YES, NO)])
    parsed = parse_frames(MarketCodec(), [frame], statistics)
    assert parsed.events == [Missed((YES, NO), StaleReason.PARSE_FAILURE)]
    assert statistics.unreadable_frames == 1


def test_a_bad_element_that_names_no_token_may_have_touched_all() -> None:
    frame = json.dumps([{"event_type": "book", "asset_id": YES, "bids": 7}, 42])
    parsed = parse_frames(MarketCodec(), [frame], Statistics())
    assert parsed.events == [Missed((), StaleReason.PARSE_FAILURE)]


# --- garbage ----------------------------------------------------------------------------------


async def test_a_frame_that_is_not_json_is_counted_logged_and_resyncs_every_token(
    play: Play, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    garbage = "<html>" + "x" * 1000
    async with play(saying(garbage)) as run:
        await run.until(lambda: run.of(Gap))
        await run.all_live(seconds=1.0)
        await run.check_books()
    (gap,) = run.of(Gap)
    assert (gap.token, gap.reason, gap.feed) == (None, StaleReason.PARSE_FAILURE, "feed-0")
    assert run.path_of(YES) == run.path_of(NO) == LIVE + resynced(StaleReason.PARSE_FAILURE)
    stale = next(e for e in run.of(TrustChanged) if e.state is TrustState.STALE)
    assert run.events.index(gap) < run.events.index(stale)
    statistics = run.service.statistics
    assert statistics.unreadable_frames == 1
    assert statistics.resyncs == {"parse_failure": 2}
    (said,) = [log for log in caplog.messages if log.startswith("unreadable frame")]
    assert f"excerpt={garbage[:200]!r}" in said
    assert list(statistics.unreadable_samples) == [garbage[:200]]
    assert run.downs == ["stopping"]


async def test_an_unreadable_element_resyncs_the_token_that_it_names_and_no_other(
    play: Play,
    autojump_clock: object,
) -> None:
    bad: dict[str, object] = {
        "event_type": "book",
        "market": MARKET,
        "asset_id": NO,
        "bids": "none",
        "asks": [],
    }
    async with play(saying(bad)) as run:
        await run.until(lambda: run.of(Gap))
        await run.all_live(seconds=1.0)
        await run.check_books()
        (gap,) = run.of(Gap)
        assert (gap.token, gap.reason) == (NO, StaleReason.PARSE_FAILURE)
        assert run.path_of(YES) == LIVE
        assert run.path_of(NO) == LIVE + resynced(StaleReason.PARSE_FAILURE)
        redrive = run.visits[0].frames[1:]
        assert [(f["operation"], f["assets_ids"]) for f in redrive] == [
            ("unsubscribe", [NO]),
            ("subscribe", [NO]),
        ]


async def test_the_rest_of_an_array_with_a_bad_element_is_applied(
    play: Play, autojump_clock: object
) -> None:
    bad: dict[str, object] = {
        "event_type": "price_change",
        "market": MARKET,
        "asset_id": NO,
        "changes": 3,
    }

    def say(books: Books) -> object:
        return [bad, books.change(YES, "0.45", "9")]

    async with play(saying(say, tick_seconds=None)) as run:
        await run.until(lambda: run.of(Gap))
        await run.all_live(seconds=1.0)
        await run.check_books()
        assert run.path_of(YES) == LIVE


@pytest.mark.parametrize(
    "frame",
    [
        "NO NEW ASSETS",
        "INVALID OPERATION",
        "PONG",
        [],
        {"event_type": "something_new", "asset_id": YES},
        [{"event_type": "a"}, {"event_type": "b"}],
    ],
    ids=str,
)
async def test_what_means_nothing_to_the_books_is_harmless(
    play: Play, autojump_clock: object, frame: object
) -> None:
    async with play(saying(frame)) as run:
        await trio.sleep(20)
        assert run.path_of(YES) == run.path_of(NO) == LIVE
        assert run.of(Gap) == []
        assert run.service.statistics.unreadable_frames == 0
        await run.check_books()


async def test_unknown_events_and_fields_are_counted(play: Play, autojump_clock: object) -> None:
    def novelty(books: Books) -> object:
        return {**books.change(YES, "0.45", "9"), "novelty": {"deep": [1, 2]}}

    async with play(saying(*[{"event_type": "something_new"}] * 3, novelty)) as run:
        await trio.sleep(8)
        await run.check_books()
        assert run.service.statistics.unknown_events == {"something_new": 3}
        assert run.service.statistics.unknown_fields == {"price_change.novelty": 1}
        assert run.path_of(YES) == LIVE


async def test_too_many_unreadable_frames_end_the_session_and_the_next_one_is_fresh(
    play: Play,
    autojump_clock: object,
) -> None:
    async with play(saying(*["garbage"] * 3000), serve()) as run:
        await run.until(lambda: run.of(FeedDown))
        down = run.of(FeedDown)[0]
        assert down.reason == "unreadable"
        await run.all_live(seconds=5.0)
        await run.check_books()
        assert len(run.visits) == 2


async def test_as_many_unreadable_frames_as_allowed_are_borne_in_every_session(
    play: Play, autojump_clock: object
) -> None:
    spoiled = saying(*["garbage"] * UNREADABLE_PER_SESSION_MAX, seconds=20.0)
    async with play(spoiled, spoiled, serve()) as run:
        await run.until(lambda: len(run.downs) == 2)
        assert run.downs == ["reset", "reset"]
        assert run.service.statistics.unreadable_frames == 2 * UNREADABLE_PER_SESSION_MAX
        await run.all_live()
        await run.check_books()


async def test_garbage_again_and_again_does_not_redrive_without_end(
    play: Play, autojump_clock: object
) -> None:
    """Each garbage frame may cost a resync, but the resyncs of a token back off."""

    garbage = ["garbage"] * UNREADABLE_PER_SESSION_MAX
    async with play(saying(*garbage, at_seconds=0.1, every_seconds=0.1)) as run:
        await trio.sleep(60)
        assert run.downs == []
        redrives = [f for f in run.visits[0].frames if f.get("operation") == "unsubscribe"]
        assert len(redrives) <= 8
        assert run.state() is TrustState.LIVE
        await run.check_books()


async def test_changes_of_a_complement_that_nobody_subscribed_are_passed_by(
    play: Play, autojump_clock: object
) -> None:
    both = Books((YES, NO))

    def change_of_both(books: Books) -> object:
        change = books.change(YES, "0.45", "9")
        change["price_changes"] += both.change(NO, "0.45", "9")["price_changes"]
        return change

    def book_of_no(_: Books) -> object:
        return both.snapshot(NO)

    trade: dict[str, object] = {
        "event_type": "last_trade_price",
        "market": MARKET,
        "asset_id": NO,
        "price": "0.5",
        "size": "1",
        "side": "BUY",
        "timestamp": "1700000000000",
    }
    act = saying(change_of_both, book_of_no, trade, tick_seconds=None)
    async with play(act, tokens=(YES,)) as run:
        await trio.sleep(8)
        await run.check_books()
        assert run.path_of(YES) == LIVE
        assert run.service.statistics.foreign_events == 3
        assert run.service.tokens == (YES,)
        assert all(getattr(event, "token", YES) == YES for event in run.events)


async def test_frames_of_a_dead_session_are_dropped_and_counted(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    books = Books((YES,))
    env = Environment(SETTINGS)
    feed = Feed("feed-0", (YES,), env)
    parsed: list[Parsed] = []

    async def take(ctx: Context[Parsed]) -> None:
        while True:
            parsed.extend(await ctx.inbox.receive_batch())

    shard = ChildSpec[Parsed](id="shard", factory=lambda: take, mailbox=MailboxSpec())
    parser = ChildSpec[Frames](
        id="parser",
        factory=lambda: lambda ctx: run_parser(ctx, feed, root.address("shard")),
        mailbox=MailboxSpec(),
    )
    root = Supervisor("root", [shard, parser])
    await nursery.start(root.run)
    feed.epoch = 7
    frame = json.dumps(books.snapshot(YES))
    for epoch in (6, 7, 8):
        root.address("parser").send_nowait(Frames("feed-0", epoch, 0, [frame]))
    await trio.sleep(1.0)
    assert [batch.epoch for batch in parsed] == [7]
    assert env.statistics.stale_batches == 2
    assert feed.messages == 1
    root.stop()


# --- crashes ----------------------------------------------------------------------------------


@pytest.fixture
def break_codec(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the codec raise for the next frame."""
    return crash_once(monkeypatch, MarketCodec, "receive_known")


async def test_a_parser_crash_leaves_the_socket_alone_and_says_gap_for_all_tokens_first(
    play: Play, autojump_clock: object, break_codec: Callable[[], None]
) -> None:
    async with play(serve()) as run:
        await run.all_live()
        await trio.sleep(3.25)
        mark = len(run.events)
        break_codec()
        await run.until(lambda: run.of(ActorRestarted))
        await run.all_live(seconds=1.0)
        await run.check_books()
        assert _path_after_crash(run, mark) == resynced(StaleReason.ACTOR_RESTARTED)
        assert [event.path for event in run.of(ActorRestarted)] == ["root/core/feeds/feed-0/parser"]
        assert len(run.visits) == 1
        assert len(run.epochs) == 1
        assert run.downs == []


def _path_after_crash(run: Run, mark: int) -> list[Any]:
    news = [event for event in run.events[mark:] if isinstance(event, Gap | TrustChanged)]
    first = news[0]
    assert isinstance(first, Gap)
    assert (first.token, first.reason) == (None, StaleReason.ACTOR_RESTARTED)
    return [(e.state, e.reason) for e in news if isinstance(e, TrustChanged) and e.token == YES]


async def test_frames_that_a_dying_parser_had_taken_are_never_missed_silently(
    play: Play, autojump_clock: object, break_codec: Callable[[], None]
) -> None:
    """Changes go down with the parser, and the book is right all the same."""

    async def burst(visit: Visit) -> None:
        await trio.sleep(5.25)
        for number in range(1, 501):
            if number == 100:
                break_codec()
            await visit.send(visit.server.books.change(YES, f"0.{100 + number}", str(number)))

    async with play(serve(tick_seconds=None, beside=burst)) as run:
        await run.until(lambda: run.of(ActorRestarted))
        await run.all_live(seconds=5.0)
        await run.check_books()
        assert len(run.server.books.levels(YES)["bids"]) > 400
        assert run.downs == []


async def test_five_crashes_are_borne_by_the_feed_on_one_socket(
    play: Play, autojump_clock: object, break_codec: Callable[[], None]
) -> None:
    async with play(serve()) as run:
        await run.all_live()
        for _ in range(5):
            break_codec()
            await trio.sleep(6)
        await run.all_live()
        await run.check_books()
        assert len(run.visits) == 1
