"""The `run` command's service, over in-memory streams and on virtual time."""

import errno
import io
import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx2
import pytest
import trio
from attrs import define
from trio.testing import MockClock

from polyactors import commands
from polyactors.cli import EXIT_EVENTS_MISSING
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.logs import LogLines
from polyactors.outputs import Outputs, open_outputs
from polyactors.rest import RestClient
from polyactors.run import finish, run_service
from polyactors.service import Service
from polyactors.sinks import EventsFile
from polyactors.stops import holding
from polyactors.terminal.display import Display
from polyactors.transport import Network
from polyactors.venue.exchange import Venue
from polyactors.venue.memory import memory_network

SETTINGS = Settings(
    ws_url="ws://venue.test/ws", clob_url="http://venue.test", gamma_url="http://venue.test/gamma"
)


@define
class Bench:
    """An exchange, a network that leads to it, and what a run wrote."""

    venue: Venue
    network: Network
    summary: io.BytesIO
    view: io.StringIO
    events: EventsFile | None = None

    async def run(self, wanted: Wanted, seconds: float | None = 10.0) -> int:
        return await run_service(
            wanted,
            env=Environment(SETTINGS, self.network),
            outputs=Outputs(self.events, self.summary),
            display=Display(self.view, False, LogLines(io.StringIO()), "test"),
            seconds=seconds,
        )

    def never_answers(self) -> trio.Event:
        """From now on REST does not; the event is set once it was asked."""
        asked = trio.Event()

        async def wait(request: httpx2.Request) -> httpx2.Response:
            asked.set()
            await trio.sleep_forever()

        self.network = attrs.evolve(self.network, http_transport=lambda: httpx2.MockTransport(wait))
        return asked

    def without_rest(self) -> None:
        async def refuse(request: httpx2.Request) -> httpx2.Response:
            raise httpx2.ConnectError("no route to host")

        self.network = attrs.evolve(
            self.network, http_transport=lambda: httpx2.MockTransport(refuse)
        )


@asynccontextmanager
async def open_bench() -> AsyncGenerator[Bench, None]:
    venue = Venue(seed=1, markets=2, rate=20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(venue.run)
        yield Bench(venue, memory_network(venue, nursery), io.BytesIO(), io.StringIO())
        nursery.cancel_scope.cancel()


async def test_it_streams_for_so_many_seconds_and_writes_the_summary(
    autojump_clock: MockClock,
) -> None:
    async with open_bench() as bench:
        assert await bench.run(Wanted(tokens=tuple(bench.venue.tokens))) == 0
        assert 10.0 <= trio.current_time() < 20.0
        summary = json.loads(bench.summary.getvalue())
        assert summary["tokens"] == {"LIVE": 4}
        assert summary["frames"] > 0
        assert bench.view.getvalue().splitlines()[-1].startswith("stopped after ")
        assert "books 4 LIVE; " in bench.view.getvalue()


async def test_markets_are_found_before_it_starts(autojump_clock: MockClock) -> None:
    async with open_bench() as bench:
        assert await bench.run(Wanted(markets=(bench.venue.markets[0].slug,))) == 0
        assert json.loads(bench.summary.getvalue())["tokens"] == {"LIVE": 2}


async def test_a_mistake_found_before_the_start_is_raised_plain(autojump_clock: MockClock) -> None:
    async with open_bench() as bench:
        with pytest.raises(UsageError, match="no order book for the token 123"):
            await bench.run(Wanted(tokens=("123",)))
        assert bench.summary.getvalue() == b""


async def test_given_tokens_stream_while_rest_cannot_be_reached(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_bench() as bench:
        bench.without_rest()
        assert await bench.run(Wanted(tokens=tuple(bench.venue.tokens))) == 0
        assert json.loads(bench.summary.getvalue())["tokens"] == {"LIVE": 4}
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == 1
    assert "no route to host" in complaints[0]
    assert "`python -m polyactors demo` needs no network" in complaints[0]


async def test_a_mistake_found_while_it_runs_comes_after_the_summary(
    autojump_clock: MockClock,
) -> None:
    async with open_bench() as bench:
        answers = [httpx2.Response(500), httpx2.Response(200, json={"markets": []})]

        async def answer(request: httpx2.Request) -> httpx2.Response:
            if request.url.path.endswith("/events"):
                return httpx2.Response(200, json=[])
            return answers.pop(0) if len(answers) > 1 else answers[0]

        bench.network = attrs.evolve(
            bench.network, http_transport=lambda: httpx2.MockTransport(answer)
        )
        with pytest.raises(UsageError, match="'no-such-market'"):
            await bench.run(Wanted(markets=("no-such-market",)), None)
        assert json.loads(bench.summary.getvalue())["tokens"] == {}


async def test_the_first_signal_ends_it_in_order(autojump_clock: MockClock) -> None:
    async with open_bench() as bench, trio.open_nursery() as nursery:

        async def interrupt() -> None:
            await trio.sleep(5.0)
            signal.raise_signal(signal.SIGTERM)

        nursery.start_soon(interrupt)
        assert await bench.run(Wanted(tokens=tuple(bench.venue.tokens)), None) == 0
        assert json.loads(bench.summary.getvalue())["tokens"] == {"LIVE": 4}


@pytest.mark.parametrize("is_held", [True, False])
async def test_a_signal_before_the_start_is_an_orderly_stop_with_a_whole_summary(
    is_held: bool, autojump_clock: MockClock
) -> None:
    async with open_bench() as bench, trio.open_nursery() as nursery:
        assert await bench.run(Wanted(tokens=tuple(bench.venue.tokens))) == 0
        keys = json.loads(bench.summary.getvalue()).keys()
        early = Bench(bench.venue, bench.network, io.BytesIO(), io.StringIO())
        answers = early.never_answers()

        async def interrupt() -> None:
            await answers.wait()
            signal.raise_signal(signal.SIGTERM)

        with holding():
            if is_held:  # while Trio did not yet listen
                signal.raise_signal(signal.SIGINT)
            else:
                nursery.start_soon(interrupt)
            with trio.fail_after(1.0):
                assert await early.run(Wanted(tokens=tuple(bench.venue.tokens)), None) == 0
        nursery.cancel_scope.cancel()
    summary = json.loads(early.summary.getvalue())
    assert summary.keys() == keys
    assert (summary["tokens"], summary["frames"], summary["events_missing"]) == ({}, 0, 0)
    assert early.view.getvalue() == "stopped before the service began\n"


async def test_a_signal_between_the_look_and_the_start_is_not_lost(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bench() as bench:

        def make(*args: Any, **more: Any) -> Service:
            signal.raise_signal(signal.SIGTERM)
            return Service(*args, **more)

        monkeypatch.setattr("polyactors.run.Service", make)
        with holding(), trio.fail_after(10.0):
            assert await bench.run(Wanted(tokens=tuple(bench.venue.tokens)), None) == 0
        assert json.loads(bench.summary.getvalue())["connects"] <= 1


async def test_events_that_are_missing_are_said_and_change_the_exit_code(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    async with open_bench() as bench:
        bench.events = EventsFile("events.jsonl", Full())
        assert await bench.run(Wanted(tokens=tuple(bench.venue.tokens))) == EXIT_EVENTS_MISSING
        summary = json.loads(bench.summary.getvalue())
        assert summary["tokens"] == {"LIVE": 4}  # the books know nothing of it
        assert summary["events_missing"] > 100
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint == (
        f"polyactors: {summary['events_missing']:,} events are missing from events.jsonl: "
        "No space left on device"
    )


async def test_a_worse_exit_code_stays(autojump_clock: MockClock) -> None:
    async with open_bench() as bench:
        env = Environment(SETTINGS, bench.network)
        async with RestClient(env.settings, env.network) as rest:
            service = Service(Wanted(tokens=("1",)), env=env, rest=rest)
        events = EventsFile("events.jsonl", io.BytesIO(), b"{}\n")
        events.subscribe(service.events())
        display = Display(io.StringIO(), False, LogLines(io.StringIO()), "test")
        codes = [finish(code, service, Outputs(events), display) for code in (0, 70, 130)]
    assert codes == [EXIT_EVENTS_MISSING, 70, 130]


def test_the_files_are_opened_first_and_closed_at_the_end(tmp_path: Path) -> None:
    values = {"events": str(tmp_path / "events"), "summary": str(tmp_path / "summary")}
    with open_outputs(values) as outputs:
        assert len(outputs.sinks) == 1
        assert outputs.summary is not None
        assert (tmp_path / "events").exists()
    assert outputs.summary.closed
    assert outputs.events is not None
    assert outputs.events.raw.closed
    wrong = open_outputs(values | {"events": str(tmp_path)})
    with pytest.raises(UsageError, match="cannot write the events"), wrong:
        pytest.fail("opened")


@pytest.mark.parametrize("name", ["events", "summary"])
def test_standard_output_with_data_carries_nothing_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []

    class Chosen(Exception):  # noqa: N818 - ends the command
        pass

    def choose(*_: object, plain: bool, stdout_is_data: bool) -> Display:
        calls.append(stdout_is_data)
        raise Chosen

    monkeypatch.setattr(Display, "choose", choose)
    values: dict[str, object] = {
        "events": None,
        "summary": None,
        "plain": False,
        "log_level": "error",
        "actor": None,
        "actors": {},
        "config": None,
    }
    for extra in ({}, {name: "-"}):
        with pytest.raises(Chosen):
            commands.demo_command(values | extra | {"seed": 1, "markets": 1, "rate": 1.0})
    assert calls == [False, True]


@pytest.mark.parametrize("name", ["events", "summary"])
def test_data_for_a_closed_standard_output_is_refused_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwritable = os.open(os.devnull, os.O_RDONLY)
    with open(unwritable, "w", encoding="utf-8") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        wrong = open_outputs({"events": None, "summary": None, name: "-"})
        with pytest.raises(UsageError, match="standard output is closed"), wrong:
            pytest.fail("opened")
        monkeypatch.undo()


def test_a_summary_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with (
        open_outputs({"events": None, "summary": "/dev/full"}) as outputs,
        pytest.raises(UsageError, match="cannot write the summary: No space left on device; give"),
    ):
        outputs.write_summary({})
