"""The events file: complete, one object a line, and never in the way of the books.

These tests run on real time: a thread writes, and virtual time does not wait for threads.
"""

import errno
import io
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import BinaryIO

import pytest
import trio

from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.events import Event, FeedDown, to_json
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.sinks import EventsFile, events_sink, open_events_file, open_raw, write_all
from polyactors.stops import holding
from polyactors.stream import Subscription
from polyactors.venue.exchange import Venue
from polyactors.venue.memory import memory_network

SECONDS_MAX = 10.0


class Running:
    """A service with a sink, and all that it published."""

    def __init__(self, service: Service, subscription: Subscription, file: EventsFile) -> None:
        self.service = service
        self.file = file
        self.events: list[Event] = []
        self.has_ended = trio.Event()
        self._subscription = subscription

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.service.run(task_status=task_status)
        async for event in self._subscription:
            self.events.append(event)
        self.has_ended.set()

    @property
    def lines(self) -> bytes:
        return b"".join(to_json(event) + b"\n" for event in self.events)


@asynccontextmanager
async def running(file: EventsFile | BinaryIO) -> AsyncGenerator[Running, None]:
    """A service that streams from the embedded exchange; it is stopped at the end."""
    if not isinstance(file, EventsFile):
        file = EventsFile("a test's file", file)
    venue = Venue(seed=1, markets=2, rate=200.0)
    with trio.fail_after(SECONDS_MAX):
        async with trio.open_nursery() as nursery:
            env = Environment(Settings(), memory_network(venue, nursery))
            async with RestClient(env.settings, env.network) as rest:
                service = Service(
                    Wanted(tokens=tuple(venue.tokens)),
                    env=env,
                    rest=rest,
                    sinks=[events_sink(file)],
                )
                running = Running(service, service.events(), file)
                nursery.start_soon(venue.run)
                await nursery.start(running.run)
                yield running
                service.stop()
                await running.has_ended.wait()
            nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - bounded by `running`
        await trio.sleep(0.005)


class SlowFile(io.BytesIO):
    """A disk that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_reached = threading.Event()
        self.may_go_on = threading.Event()

    def write(self, data: object, /) -> int:
        self.is_reached.set()
        assert self.may_go_on.wait(SECONDS_MAX)
        return super().write(data)  # type: ignore[arg-type]


class FailingFile(io.BytesIO):
    """A disk on which the writes with these numbers, from 0, fail."""

    def __init__(self, failures: Sequence[int]) -> None:
        super().__init__()
        self.failures = failures
        self.writes = 0

    def write(self, data: object, /) -> int:
        self.writes += 1
        if self.writes - 1 in self.failures:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]


async def test_the_file_holds_everything_that_was_published(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with closing(open_events_file(str(path))) as file:
        async with running(file) as service:
            await trio.sleep(0.5)
    assert path.read_bytes() == service.lines
    assert file.complaint() is None
    kinds = [json.loads(line)["type"] for line in path.read_bytes().splitlines()]
    assert kinds[0] == "feed_up"
    assert kinds[-1] == "feed_down"  # the sink outlives the feeds
    assert kinds.count("book_updated") > 20


async def test_what_was_published_is_written_even_when_the_stop_comes_at_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.jsonl"
    for delay in (0.0, 0.0, 0.01, 0.03, 0.1):
        with closing(open_events_file(str(path))) as file:
            async with running(file) as service:
                await trio.sleep(delay)
        assert path.read_bytes() == service.lines


def test_a_former_file_is_kept_under_another_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    (tmp_path / "events.2.jsonl").write_text("of somebody else\n")
    for text in ("first\n", "second\n"):
        path.write_text(text)
        open_events_file(str(path)).close()
        assert path.read_bytes() == b""
    told = capsys.readouterr().err
    assert told.splitlines() == [
        f"polyactors: {path} of an earlier run is now {tmp_path / f'events.{number}.jsonl'}"
        for number in (1, 3)
    ]
    kept = [(tmp_path / f"events.{number}.jsonl").read_text() for number in (1, 2, 3)]
    assert kept == ["first\n", "of somebody else\n", "second\n"]


def test_nothing_is_kept_where_nothing_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events"
    for _ in range(2):
        open_events_file(str(path)).close()
    open_events_file(os.devnull).close()
    assert os.listdir(tmp_path) == ["events"]
    assert not capsys.readouterr().err


def test_a_link_stays_and_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "events.jsonl", tmp_path / "events.jsonl"
    target.write_text("old\n")
    link.symlink_to(target)
    open_events_file(str(link)).close()
    assert link.is_symlink()
    assert target.read_bytes() == b""
    assert (tmp_path / "disk" / "events.1.jsonl").read_text() == "old\n"


def test_what_cannot_be_kept_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "events.jsonl"
    path.write_text("old\n")
    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(UsageError, match="earlier run, which cannot be renamed: No space left"):
        open_events_file(str(path))
    assert path.read_text() == "old\n"


async def test_a_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with closing(open_events_file("-")) as file:
        async with running(file) as service:
            await until(lambda: service.service.states() == {"LIVE": 4})
    os.write(sys.stdout.fileno(), b"")  # standard output itself is still open
    lines = capfdbinary.readouterr().out.splitlines(keepends=True)
    assert b"".join(line for line in lines if line.startswith(b'{"type":')) == service.lines


@pytest.mark.parametrize("name", [".", "missing/events.jsonl", "a\x00b"])
def test_a_path_that_cannot_be_written_is_the_users_mistake(name: str, tmp_path: Path) -> None:
    path = f"{tmp_path}/{name}"
    with pytest.raises(UsageError, match="cannot write the events to") as caught:
        open_events_file(path)
    assert "\n" not in str(caught.value)


async def test_a_reader_that_closed_its_pipe_ends_the_service_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    file = os.fdopen(writing, "wb")
    async with running(file) as service:
        await service.has_ended.wait()
    with suppress(BrokenPipeError):
        file.close()
    assert service.file.complaint() is None  # whoever has left misses nothing
    assert service.service.statistics.restarts == {}
    assert service.events[-1].type == "feed_down"


async def test_a_slow_disk_delays_no_book() -> None:
    file = SlowFile()
    async with running(file) as service:
        await until(file.is_reached.is_set)
        await until(lambda: service.service.states() == {"LIVE": 4})
        applied = service.service.statistics.groups
        await until(lambda: service.service.statistics.groups > applied + 50)
        assert file.getvalue() == b""
        file.may_go_on.set()
    assert file.getvalue() == service.lines


async def test_a_disk_that_never_comes_back_does_not_hold_up_the_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polyactors.sinks.DRAIN_SECONDS_MAX", 0.2)
    file = SlowFile()
    began = trio.current_time()
    async with running(file) as service:
        await until(file.is_reached.is_set)
    assert trio.current_time() - began < 3.0
    complaint = service.file.complaint()
    file.may_go_on.set()  # let the thread go
    assert complaint is not None
    assert "missing from a test's file: they were not written in time at the stop" in complaint


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyactors.sinks.RETRY_SECONDS", 0.05)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == "polyactors" and "events" in record.getMessage()
    ]


@pytest.mark.usefixtures("_soon")
async def test_what_could_not_be_written_is_written_when_it_can_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = FailingFile([1, 2, 3])
    async with running(file) as service:
        await until(lambda: file.writes > 6)
    assert file.getvalue() == service.lines
    assert service.file.complaint() is None
    assert service.service.statistics.restarts == {}
    assert logged(caplog) == [
        (
            "ERROR",
            "events cannot be written, trying again "
            "file=\"a test's file\" why='No space left on device'",
        ),
        ("WARNING", 'events are written again file="a test\'s file"'),
    ]


@pytest.mark.usefixtures("_soon")
async def test_a_full_disk_hurts_no_book_and_its_loss_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = FailingFile(range(10**6))
    async with running(file) as service:
        await until(lambda: service.service.states() == {"LIVE": 4})
        await until(lambda: file.writes >= 3)
        applied = service.service.statistics.groups
        await until(lambda: service.service.statistics.groups > applied + 50)
        assert service.service.states() == {"LIVE": 4}
    assert {event.reason for event in service.events if isinstance(event, FeedDown)} == {"stopping"}
    assert service.service.statistics.restarts == {}
    assert service.file.missing == len(service.events)
    assert service.file.complaint() == (
        f"{len(service.events):,} events are missing from a test's file: No space left on device"
    )
    assert [level for level, _ in logged(caplog)] == ["ERROR"]  # once, however often it was tried


@pytest.mark.usefixtures("_soon")
async def test_a_disk_that_fills_up_in_a_line_leaves_whole_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit on the size of files does what a full disk does: it takes a part, then none."""
    caplog.set_level(logging.CRITICAL)
    path = tmp_path / "events.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with closing(open_events_file(str(path))) as file:
            async with running(file) as service:
                await until(lambda: file.failure is not None)
                assert_whole_lines(path.read_bytes(), service)  # also while it runs
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    written = path.read_bytes()
    assert 4_000 < len(written) < 5_000
    assert_whole_lines(written, service)
    assert service.lines.startswith(written)
    assert file.missing == len(service.events) - written.count(b"\n")


def assert_whole_lines(written: bytes, service: Running) -> None:
    assert written.endswith(b"\n")
    assert all(json.loads(line)["type"] for line in written.splitlines())


def filling(path: Path, size: int) -> EventsFile:
    """An events file on a disk that has room for so many bytes."""

    class Disk(io.FileIO):
        def write(self, data: object, /) -> int:
            room = size - os.fstat(self.fileno()).st_size
            if room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(bytes(data)[:room])  # type: ignore[call-overload]

    return EventsFile("a small disk", Disk(path, "ab"))


@pytest.mark.parametrize(
    ("room", "written"),
    [(1, b""), (4, b""), (5, b"one\n"), (8, b"one\n"), (9, b"one\ntwo\n"), (99, b"one\ntwo\n")],
)
def test_a_torn_line_is_taken_back(room: int, written: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"0\n")  # what was there before is not ours to take back
    with closing(filling(path, 1 + room)) as file:
        file.pending = b"one\ntwo\n"
        with suppress(OSError):
            file.write_pending()
        assert path.read_bytes() == b"0\n" + written
        assert written + file.pending == b"one\ntwo\n"


def test_what_somebody_else_wrote_behind_is_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events"

    class Shared(io.FileIO):
        def write(self, data: object, /) -> int:
            if self.tell():
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = super().write(bytes(data)[:2])  # type: ignore[call-overload]
            with path.open("ab") as other:
                other.write(b"else")
            return taken

    with closing(EventsFile("shared", Shared(path, "wb"))) as file:
        file.pending = b"one\n"
        with pytest.raises(OSError, match="No space left"):
            file.write_pending()
        assert path.read_bytes() == b"onelse"
        assert file.pending == b"e\n"  # goes on where it stopped


def test_a_pipe_that_somebody_made_non_blocking_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = b"x" * 200_000 + b"\n"
    received = bytearray()

    def read() -> None:
        while len(received) < len(text):
            received.extend(os.read(reading, 4096))

    with closing(EventsFile("a pipe", open(writing, "wb", buffering=0))) as file:
        file.pending = text
        reader = threading.Thread(target=read)
        reader.start()
        file.write_pending()
        reader.join(SECONDS_MAX)
    os.close(reading)
    assert received == text


def test_the_summary_waits_for_a_reader_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polyactors.sinks.DRAIN_SECONDS_MAX", 0.05)
    reading, writing = os.pipe()
    with (
        open(writing, "wb", buffering=0) as file,
        pytest.raises(TimeoutError, match="its reader takes nothing"),
    ):
        write_all(file, b"x" * 2**20)
    os.close(reading)


@pytest.mark.parametrize("is_early", [True, False])
def test_a_stop_ends_the_wait_for_the_reader_of_a_named_pipe(
    is_early: bool, tmp_path: Path
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)

    def stop() -> None:
        time.sleep(0.05)  # real time: the system waits, not Trio
        os.kill(os.getpid(), signal.SIGTERM)

    # Whoever does not hear the signal gets a reader, and has opened the pipe.
    rescue = threading.Timer(SECONDS_MAX, lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    rescue.start()
    with holding():
        if is_early:
            signal.raise_signal(signal.SIGTERM)
        else:
            threading.Thread(target=stop).start()
        with pytest.raises(KeyboardInterrupt):
            open_raw(str(path), "the events")
    rescue.cancel()
