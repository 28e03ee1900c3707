"""What a terminal follows, and the two views, over a service that stands still."""

import errno
import io
import json
import os
import re
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TextIO

import pytest
import trio
from trio.testing import MockClock

from polyactors.book.trust import StaleReason, Trust, TrustState
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.events import BookUpdated, Event, FeedUp
from polyactors.logs import LogLines
from polyactors.messages import Parsed
from polyactors.parser import parse_frames
from polyactors.protocol.codec import MarketCodec
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.shard import BookShard
from polyactors.terminal import display
from polyactors.terminal.display import Display, drawing_of, status_of
from polyactors.terminal.lines import STATUS_SECONDS, run_lines
from polyactors.terminal.live import FRAME_SECONDS, run_live
from polyactors.terminal.output import Output
from polyactors.terminal.screen import RANK_SECONDS, Watch, messages
from polysupervisor import ChildSpec, Context, Intensity, Shutdown, Supervisor

TOKENS = tuple(str(number) for number in range(1, 9))
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Page(Output):
    """Output that is kept, written without a thread; `gone` makes it fail."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        super().__init__(io.StringIO())
        self.written: list[str] = []
        self.columns_and_lines = (width, height)
        self.gone: OSError | None = None
        self.is_stuck = False

    @property
    def text(self) -> str:
        return "".join(self.written)

    def instead_of(self, stream: TextIO) -> Output:
        return self

    async def write(self, text: str) -> None:
        if self.is_stuck:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if self.gone is not None:
            raise self.gone
        self.written.append(text)

    def size(self) -> tuple[int, int]:
        return self.columns_and_lines


class Desk:
    """A service that is not run, and a watch on it."""

    def __init__(self, service: Service, watch: Watch) -> None:
        self.service = service
        self.watch = watch

    def publish(self, *events: Event) -> None:
        self.service.env.hub.publish(list(events))

    async def update(self, *tokens: str) -> None:
        self.publish(*(updated(token) for token in tokens))
        await self.watch.catch_up()

    def set_trust(self, tokens: Iterable[str], trust: Trust) -> None:
        feed = self.service._feeds[0]  # pyright: ignore[reportPrivateUsage]
        feed.trust.update(dict.fromkeys(tokens, trust))
        feed.epoch = 1  # without a live session nothing is believed

    def open_shard(self) -> BookShard:
        """Books for the service's feed, in a live session."""
        feed = self.service._feeds[0]  # pyright: ignore[reportPrivateUsage]
        shard = feed.shard = BookShard(feed, lambda request: None)
        feed.epoch = feed.last_epoch = 1
        shard.session_up(1, trio.current_time())
        return shard


class Frames:
    """What the exchange says of token 1."""

    def __init__(self, desk: Desk) -> None:
        self._service = desk.service
        self._codec = MarketCodec()

    def book(self, *, bid: str, ask: str) -> None:
        self._receive(
            event_type="book",
            asset_id="1",
            bids=[{"price": bid, "size": "10"}],
            asks=[{"price": ask, "size": "10"}],
            hash="h0",
        )

    def change(self, price: str, side: str, size: str, *, top: tuple[str, str]) -> None:
        level = {"asset_id": "1", "price": price, "side": side, "size": size, "hash": "h1"}
        level |= {"best_bid": top[0], "best_ask": top[1]}
        self._receive(event_type="price_change", price_changes=[level])

    def _receive(self, **message: object) -> None:
        frame = json.dumps({"market": "0x1", "timestamp": "1000", **message})
        decoded = self._codec.receive_frame(frame)
        assert decoded.events
        shard = self._service._feeds[0].shard  # pyright: ignore[reportPrivateUsage]
        assert shard is not None
        shard.apply(Parsed("feed-0", 1, now_ns(), list(decoded.events)), trio.current_time())


def updated(token: str) -> BookUpdated:
    return BookUpdated(
        time_ns=now_ns(),
        token=token,
        market="",
        epoch=1,
        best_bid=None,
        best_ask=None,
        bids=0,
        asks=0,
        cause="delta",
        settled=True,
    )


def now_ns() -> int:
    return int(trio.current_time() * 1e9)


@pytest.fixture
async def desk() -> AsyncGenerator[Desk, None]:
    env = Environment(Settings(), clock_ns=now_ns)
    async with RestClient(env.settings, env.network) as rest:
        service = Service(Wanted(tokens=TOKENS), env=env, rest=rest)
        yield Desk(
            service,
            Watch(
                service=service,
                subscription=service.events(),
                title="test",
                names={"1": "Yes\x1b · rain"},
                clock_ns=now_ns,
            ),
        )


@asynccontextmanager
async def running(view: Callable[[Context[object]], Awaitable[None]]) -> AsyncGenerator[None, None]:
    """Run a view as a child until the block ends; its stop is asked for first."""
    spec = ChildSpec[object](id="view", factory=lambda: view, shutdown=Shutdown(grace=1.0))
    root = Supervisor("root", [spec])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        yield
        root.stop()


# What a terminal follows


async def test_all_tokens_are_shown_in_their_order_when_they_fit(
    desk: Desk, autojump_clock: MockClock
) -> None:
    screen = desk.watch.screen(8)
    assert [row.name for row in screen.rows] == ["Yes\\x1b · rain", *TOKENS[1:]]
    assert screen.hidden == 0
    assert screen.states == {"EMPTY": 8}


async def test_when_they_do_not_fit_those_that_are_not_live_come_first(
    desk: Desk, autojump_clock: MockClock
) -> None:
    desk.set_trust(TOKENS, Trust(TrustState.LIVE))
    desk.set_trust(["7"], Trust(TrustState.STALE, StaleReason.CROSSED))
    await desk.update("5", "5", "7", "2")
    await trio.sleep(RANK_SECONDS)
    screen = desk.watch.screen(2)
    assert [row.name for row in screen.rows] == ["5", "7"]
    assert screen.rows[1].reason is StaleReason.CROSSED
    assert screen.hidden == 6


async def test_the_busiest_are_chosen_anew_only_now_and_then(
    desk: Desk, autojump_clock: MockClock
) -> None:
    desk.set_trust(TOKENS, Trust(TrustState.LIVE))
    await desk.update("5", "5")
    await trio.sleep(RANK_SECONDS)
    assert [row.name for row in desk.watch.screen(1).rows] == ["5"]
    await desk.update("6", "6", "6", "6")
    await trio.sleep(RANK_SECONDS * 0.9)
    assert [row.name for row in desk.watch.screen(1).rows] == ["5"]
    await trio.sleep(RANK_SECONDS * 0.2)
    assert [row.name for row in desk.watch.screen(1).rows] == ["6"]


async def test_no_room_means_no_rows(desk: Desk, autojump_clock: MockClock) -> None:
    assert desk.watch.screen(0).rows == ()
    assert desk.watch.screen(0).hidden == 8


async def test_the_age_counts_from_the_last_update(desk: Desk, autojump_clock: MockClock) -> None:
    await desk.update("1")
    await trio.sleep(1.5)
    ages = [row.age_seconds for row in desk.watch.screen(8).rows]
    assert ages[0] == pytest.approx(1.5)
    assert ages[1:] == [None] * 7


async def test_messages_a_second_are_counted_over_a_window(
    desk: Desk, autojump_clock: MockClock
) -> None:
    for _ in range(20):
        desk.watch.screen(0)
        await trio.sleep(0.5)
        desk.service.statistics.frames += 50
        desk.service.statistics.events["price_change"] += 50
    assert desk.watch.screen(0).messages_per_second == pytest.approx(100.0)
    for _ in range(8):
        await trio.sleep(0.5)
        desk.watch.screen(0)
    assert desk.watch.screen(0).messages_per_second == 0.0


async def test_pongs_are_no_messages_and_what_cannot_be_read_is_one(
    desk: Desk, autojump_clock: MockClock
) -> None:
    desk.watch.screen(0)
    await trio.sleep(1.0)
    parse_frames(
        MarketCodec(), ["PONG", "PONG", '{"event_type":"new"}', "{"], desk.service.statistics
    )
    desk.service.statistics.frames += 4
    assert messages(desk.service.statistics) == 2
    assert desk.watch.screen(0).messages_per_second == pytest.approx(2.0)


async def test_what_was_verified_is_told(desk: Desk, autojump_clock: MockClock) -> None:
    statistics = desk.service.statistics
    statistics.groups, statistics.groups_hash_ok = 1, 1
    statistics.desyncs_by_reason["crossed"] = 1
    verified = desk.watch.screen(0).verified
    assert verified.text == "verified 1 group by top, 1 by hash; 1 desync (1 crossed)"
    statistics.groups_hash_unverifiable = 1200
    assert desk.watch.screen(0).verified.text.endswith("; 1,200 unverifiable")


async def test_in_the_middle_of_a_step_the_last_top_stands(
    desk: Desk, autojump_clock: MockClock
) -> None:
    shard = desk.open_shard()
    frames = Frames(desk)
    frames.book(bid="0.40", ask="0.60")
    shown = [desk.watch.screen(8).rows[0]]
    frames.change("0.70", "BUY", "5", top=("0.70", "0.80"))  # crosses what the step will remove
    shown.append(desk.watch.screen(8).rows[0])
    assert not desk.service.book("1").settled
    frames.change("0.60", "SELL", "0", top=("0.70", "0.80"))
    frames.change("0.80", "SELL", "5", top=("0.70", "0.80"))
    shard.close_groups(trio.current_time())
    shown.append(desk.watch.screen(8).rows[0])
    tops = [(row.best_bid, row.best_ask) for row in shown]
    assert [(bid and str(bid.price), ask and str(ask.price)) for bid, ask in tops] == [
        ("0.4", "0.6"),
        ("0.4", "0.6"),
        ("0.7", "0.8"),
    ]
    assert {row.state for row in shown} == {TrustState.LIVE}


# Plain lines


async def lines(ctx: Context[object], desk: Desk, page: Page) -> None:
    await run_lines(ctx, desk.watch.catch_up, status_of(desk.watch), page)


async def live(ctx: Context[object], desk: Desk, page: Page, logs: LogLines | None) -> None:
    await run_live(ctx, desk.watch, drawing_of(desk.watch), page, logs)


async def test_lines_tell_news_and_every_few_seconds_how_things_stand(
    desk: Desk, autojump_clock: MockClock
) -> None:
    page = Page()
    async with running(lambda ctx: lines(ctx, desk, page)):
        desk.publish(FeedUp(time_ns=now_ns(), feed="feed-0", epoch=3))
        await trio.sleep(STATUS_SECONDS + 1.0)
        desk.publish(FeedUp(time_ns=now_ns(), feed="feed-0", epoch=4))
    clock, up, status, last = (page.text.splitlines()[0][:8], *page.text.splitlines())
    assert re.fullmatch(r"\d\d:\d\d:\d\d", clock)
    assert up[9:] == "feed-0 up (epoch 3)"
    assert status[9:] == (
        "status: feeds 0/1 up; feed-0 connecting; books 8 EMPTY; 0.0 messages/s; 0 restarts; "
        "verified 0 groups by top, 0 by hash; 0 desyncs"
    )
    assert last[9:] == "feed-0 up (epoch 4)"


async def test_nothing_is_written_when_nothing_happens(
    desk: Desk, autojump_clock: MockClock
) -> None:
    page = Page()
    async with running(lambda ctx: lines(ctx, desk, page)):
        await trio.sleep(STATUS_SECONDS * 0.9)
    assert page.written == []


# The live view


async def test_the_live_view_draws_in_place_and_restores_the_terminal(
    desk: Desk, autojump_clock: MockClock
) -> None:
    page = Page()
    async with running(lambda ctx: live(ctx, desk, page, None)):
        await trio.sleep(1.05)
        frames = list(page.written)
    assert ENTER in frames[0]
    assert HIDE in frames[0]
    assert len(frames) == 2 + int(1.05 / FRAME_SECONDS)
    assert all("\x1b[H" in frame for frame in frames[1:])
    assert all("\x1b[2J" not in frame for frame in frames[2:])  # never cleared: no flicker
    assert "Ctrl-C stops" in frames[-1]
    assert LEAVE in page.written[-1]
    assert SHOW in page.written[-1]


async def test_every_frame_fits_the_terminal_of_that_moment(
    desk: Desk, autojump_clock: MockClock
) -> None:
    page = Page(100, 30)
    async with running(lambda ctx: live(ctx, desk, page, None)):
        for width, height in [(60, 20), (160, 50), (20, 5), (1, 1)]:
            page.columns_and_lines = (width, height)
            await trio.sleep(FRAME_SECONDS * 2)
            lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", page.written[-1]).split("\n")
            assert len(lines) == height
            assert {len(line) for line in lines} == {width}


async def test_the_terminal_is_restored_when_the_view_is_cancelled(
    desk: Desk, autojump_clock: MockClock
) -> None:
    page = Page()
    with trio.move_on_after(1.0):
        async with running(lambda ctx: live(ctx, desk, page, None)):
            await trio.sleep_forever()
    assert LEAVE in page.written[-1]


async def test_a_terminal_that_takes_nothing_does_not_hold_up_the_end(
    desk: Desk, autojump_clock: MockClock
) -> None:
    page = Page()
    async with running(lambda ctx: live(ctx, desk, page, None)):
        await trio.sleep(1.0)
        page.is_stuck = True
        await trio.sleep(60.0)
        ended_at = trio.current_time()
    assert trio.current_time() - ended_at <= 2.5


async def test_logs_are_held_back_while_the_view_has_the_terminal(
    desk: Desk, autojump_clock: MockClock
) -> None:
    page, stream = Page(), io.StringIO()
    logs = LogLines(stream)
    async with running(lambda ctx: live(ctx, desk, page, logs)):
        await trio.sleep(1.0)
        logs.write("a warning")
        logs.tell_error("an error")
        await trio.sleep(1.0)
        assert stream.getvalue() == ""
        assert "an error" in page.written[-1]
    assert stream.getvalue() == "a warning\n"


# The choice, and the child


class Screenlike(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "term", "plain", "stdout_is_data", "is_live"),
    [
        (True, "xterm", False, False, True),
        (False, "xterm", False, False, False),
        (True, "dumb", False, False, False),
        (True, "xterm", True, False, False),
        (True, "xterm", False, True, False),
    ],
)
def test_the_view_is_live_on_a_terminal_that_can(
    is_terminal: bool,
    term: str,
    plain: bool,
    stdout_is_data: bool,
    is_live: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, err = Screenlike(is_terminal=is_terminal), Screenlike(is_terminal=True)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setenv("TERM", term)
    chosen = Display.choose(LogLines(err), "test", plain=plain, stdout_is_data=stdout_is_data)
    assert chosen.is_live == is_live
    assert chosen.stream is (err if stdout_is_data else out)


def test_a_closed_standard_output_is_told_once_and_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = os.open(os.devnull, os.O_RDONLY)
    with open(number, "w", encoding="utf-8") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        chosen = Display.choose(LogLines(io.StringIO()), "test", plain=False, stdout_is_data=False)
        chosen.say("said to nobody")
        monkeypatch.undo()
    assert not chosen.is_live
    assert capsys.readouterr().err == "polyactors: standard output is closed, so nothing is shown\n"


def test_the_last_line_does_not_wait_for_a_reader_who_never_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polyactors.terminal.display.RESTORE_SECONDS_MAX", 0.05)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            pass
    os.set_blocking(writing, True)
    rescue = threading.Timer(5.0, lambda: os.read(reading, 2**20))  # of a test that would hang
    rescue.start()
    with open(writing, "w", encoding="utf-8") as stuck:
        Display(stuck, False, LogLines(io.StringIO()), "test").say("the end")
        assert rescue.is_alive()
        rescue.cancel()
    os.close(reading)


@pytest.mark.parametrize("is_live", [True, False])
async def test_a_reader_who_leaves_stops_the_service(
    is_live: bool, desk: Desk, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page()
    page.gone = BrokenPipeError(errno.EPIPE, "nobody reads")
    monkeypatch.setattr(display, "Output", page.instead_of)
    shown = Display(io.StringIO(), is_live, LogLines(io.StringIO()), "test")
    root = Supervisor("root", [shown.child(desk.service)])
    monkeypatch.setattr(desk.service, "stop", root.stop)
    desk.publish(FeedUp(time_ns=now_ns(), feed="feed-0", epoch=3))
    with trio.fail_after(5.0):
        await root.run()


async def test_a_view_that_crashes_comes_back_and_never_brings_the_service_down(
    desk: Desk, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page()
    page.gone = OSError(errno.ENOSPC, "full")
    monkeypatch.setattr(display, "Output", page.instead_of)
    shown = Display(io.StringIO(), False, LogLines(io.StringIO()), "test")
    root = Supervisor("root", [shown.child(desk.service)], intensity=Intensity(0, 1000.0))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for _ in range(10):
            desk.publish(FeedUp(time_ns=now_ns(), feed="feed-0", epoch=3))
            await trio.sleep(60.0)
        page.gone = None
        desk.publish(FeedUp(time_ns=now_ns(), feed="feed-0", epoch=4))
        await trio.sleep(60.0)
        root.stop()
    assert "feed-0 up (epoch 4)" in page.text
