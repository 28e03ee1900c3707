"""The events file: complete, one object a line, and never in the way of the books.

These tests run on real time: a thread writes, and virtual time does not wait for threads.
"""

import errno
import io
import json
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
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
from polyactors.sinks import events_sink, open_events_file
from polyactors.stream import Subscription
from polyactors.venue.exchange import Venue
from polyactors.venue.memory import memory_network

SECONDS_MAX = 10.0


class Running:
    """A service with a sink, and all that it published."""

    def __init__(self, service: Service, subscription: Subscription) -> None:
        self.service = service
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
async def running(file: BinaryIO) -> AsyncGenerator[Running, None]:
    """A service that streams from the embedded exchange; it is stopped at the end."""
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
                running = Running(service, service.events())
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
    with open_events_file(str(path)) as file:
        async with running(file) as service:
            await trio.sleep(0.5)
    assert path.read_bytes() == service.lines
    kinds = [json.loads(line)["type"] for line in path.read_bytes().splitlines()]
    assert kinds[0] == "feed_up"
    assert kinds[-1] == "feed_down"  # the sink outlives the feeds
    assert kinds.count("book_updated") > 20


async def test_what_was_published_is_written_even_when_the_stop_comes_at_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "events.jsonl"
    for delay in (0.0, 0.0, 0.01, 0.03, 0.1):
        with open_events_file(str(path)) as file:
            async with running(file) as service:
                await trio.sleep(delay)
        assert path.read_bytes() == service.lines


async def test_a_former_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("old\n")
    with open_events_file(str(path)):
        pass
    assert path.read_bytes() == b""


async def test_a_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_events_file("-") as file:
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
    async with running(file):
        await until(file.is_reached.is_set)
    assert trio.current_time() - began < 3.0
    file.may_go_on.set()  # let the thread go


async def test_a_write_that_fails_is_not_the_end_of_the_events() -> None:
    file = FailingFile([1])
    async with running(file) as service:
        await until(lambda: file.writes > 4)
    written = file.getvalue().splitlines(keepends=True)
    published = service.lines.splitlines(keepends=True)
    # The batch that failed is lost, and what came while the writer restarted is not.
    lost = [line for line in published if line not in set(written)]
    assert lost
    assert b"".join(lost) in service.lines
    assert written == [line for line in published if line not in set(lost)]
    restarted = service.service.statistics.restarts
    assert restarted == {"root/observability/events": 1}


async def test_a_full_disk_hurts_no_book() -> None:
    async with running(FailingFile(range(10**6))) as service:
        await until(lambda: service.service.states() == {"LIVE": 4})
        await until(lambda: service.service.statistics.restarts.total() >= 2)
        applied = service.service.statistics.groups
        await until(lambda: service.service.statistics.groups > applied + 50)
        assert service.service.states() == {"LIVE": 4}
    assert {event.reason for event in service.events if isinstance(event, FeedDown)} == {"stopping"}
