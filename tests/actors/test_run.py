"""The `run` command's service, over in-memory streams and on virtual time."""

import io
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx2
import pytest
import trio
from attrs import define
from trio.testing import MockClock

from polyactors import run
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.logs import LogLines
from polyactors.run import Outputs, open_outputs, run_service, until_signal
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
    summary: io.StringIO
    view: io.StringIO

    async def run(self, wanted: Wanted, seconds: float | None = 10.0) -> int:
        return await run_service(
            wanted,
            env=Environment(SETTINGS, self.network),
            outputs=Outputs((), self.summary),
            display=Display(self.view, False, LogLines(io.StringIO()), "test"),
            seconds=seconds,
        )

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
        yield Bench(venue, memory_network(venue, nursery), io.StringIO(), io.StringIO())
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
        assert bench.summary.getvalue() == ""


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


async def test_a_signal_before_the_start_is_a_clean_end(autojump_clock: MockClock) -> None:
    async def work() -> str:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    assert await until_signal(work) is None


async def test_work_ends_with_its_result_or_its_own_error() -> None:
    async def succeed() -> str:
        return "done"

    async def fail() -> str:
        raise UsageError("no")

    assert await until_signal(succeed) == "done"
    with pytest.raises(UsageError, match="no"):
        await until_signal(fail)


def test_the_files_are_opened_first_and_closed_at_the_end(tmp_path: Path) -> None:
    values = {"events": str(tmp_path / "events"), "summary": str(tmp_path / "summary")}
    with open_outputs(values) as outputs:
        assert len(outputs.sinks) == 1
        assert outputs.summary is not None
        assert (tmp_path / "events").exists()
    assert outputs.summary.closed
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
    values = {"events": None, "summary": None, "plain": False, "log_level": "error"}
    for extra in ({}, {name: "-"}):
        with pytest.raises(Chosen):
            run.demo_command(values | extra | {"seed": 1, "markets": 1, "rate": 1.0})
    assert calls == [False, True]
