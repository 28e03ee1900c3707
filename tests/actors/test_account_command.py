"""`account` and `run --user`: what they show and write, and what a mistake says."""

import io
import json
import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio
from attrs import define, evolve
from tests.actors.test_run import SETTINGS
from trio.testing import MockClock

from polyactors.account.credentials import VARIABLES, Credentials
from polyactors.book.numbers import PRICE_ONE, Side
from polyactors.cli import main
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.errors import AccountNotLive, UsageError
from polyactors.logs import LogLines
from polyactors.outputs import Outputs
from polyactors.run import run_service
from polyactors.sinks import EventsFile
from polyactors.terminal.display import Display
from polyactors.transport import Network
from polyactors.user.line import REFUSED, UserLine
from polyactors.venue import Venue, VenueAccount
from polyactors.venue.memory import memory_network

CENT = PRICE_ONE // 100


@define
class Bench:
    """An exchange with an account, and what a run of the command wrote."""

    venue: Venue
    account: VenueAccount
    network: Network
    summary: io.BytesIO
    view: io.StringIO
    events: io.BytesIO

    def credentials(self) -> Credentials:
        known = self.account.credentials
        return Credentials(known.api_key, known.secret, known.passphrase, known.address)

    async def run(
        self,
        wanted: Wanted | None = None,
        *,
        markets: tuple[str, ...] = (),
        seconds: float | None = 20.0,
        is_account: bool = True,
        user: UserLine | None = None,
    ) -> int:
        env = Environment(evolve(SETTINGS, ping_interval_seconds=2.0), self.network)
        display = Display(self.view, False, LogLines(io.StringIO()), "test")
        display.is_account = is_account
        return await run_service(
            Wanted() if wanted is None else wanted,
            env=env,
            outputs=Outputs(EventsFile("events", self.events), self.summary),
            display=display,
            seconds=seconds,
            user=user or UserLine(self.credentials(), env, markets),
        )

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.events.getvalue().splitlines()]


@asynccontextmanager
async def open_bench() -> AsyncGenerator[Bench, None]:
    venue = Venue(seed=1, markets=2, rate=20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(venue.run)
        network = memory_network(venue, nursery)
        account = venue.add_account()
        yield Bench(venue, account, network, io.BytesIO(), io.StringIO(), io.BytesIO())
        nursery.cancel_scope.cancel()


def place(bench: Bench, price_cents: int = 1, side: Side = Side.BID) -> str:
    token = bench.venue.tokens[0]
    return bench.account.place(token, side, price_cents * CENT, 7 * PRICE_ONE).id


async def test_the_account_alone_is_followed_shown_and_written(autojump_clock: MockClock) -> None:
    async with open_bench() as bench:
        before = place(bench)

        async def trade() -> None:
            await trio.sleep(5.0)
            place(bench, 99)  # filled at once
            bench.account.cancel(before)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trade)
            assert await bench.run() == 0
        shown = bench.view.getvalue()
        assert "placed: BUY 7 at 0.01" in shown
        assert "(by REST)" in shown
        assert " → " in shown, "the position"
        assert "the account is LIVE" in shown
        assert "cancelled: BUY 7 at 0.01" in shown
        assert "CONFIRMED: BUY" in shown
        assert "status: account LIVE; channel up; 0 open orders; " in shown
        last = shown.splitlines()[-1]
        assert last.startswith("stopped after ")
        assert "account LIVE, 0 open orders, " in last
        assert "books" not in last
        kinds = [line["type"] for line in bench.lines()]
        assert {"order_changed", "trade_changed", "position_changed"} <= set(kinds)
        assert kinds.index("order_changed") < kinds.index("account_state")
        assert "book_updated" not in kinds
        summary = json.loads(bench.summary.getvalue())["account"]
        assert summary["state"] == "LIVE"
        assert summary["recovered_changes"] == 1
        assert summary["impossible"] == 0


async def test_the_state_counts_from_when_the_service_began(autojump_clock: MockClock) -> None:
    async with open_bench() as bench:
        line = UserLine(bench.credentials(), Environment(SETTINGS, bench.network))
        await trio.sleep(1000.0)  # as when it was made before the clock of Trio's ran
        bench.venue.inject("refuse", seconds=1000.0)
        assert await bench.run(user=line) == 0
        assert re.search(r"status: account \w+( \(.*\))? for \d{1,2} s; ", bench.view.getvalue())
        with pytest.raises(AccountNotLive) as caught:
            line.read()
        assert caught.value.age_seconds < 30.0


async def test_the_fields_of_an_order_stand_in_their_order(autojump_clock: MockClock) -> None:
    async with open_bench() as bench:
        order = place(bench)
        await bench.run(seconds=5.0)
        (line,) = [line for line in bench.lines() if line["type"] == "order_changed"]
        assert list(line) == [
            "type", "time_ns", "epoch", "order", "filled_size", "previous", "reconciled",
        ]  # fmt: skip
        told = cast("dict[str, object]", line["order"])
        assert list(told)[:6] == ["id", "market", "token", "outcome", "side", "price"]
        assert (told["id"], told["side"], told["price"]) == (order, "BUY", "0.01")
        assert (told["original_size"], told["open_size"], told["state"]) == ("7", "7", "OPEN")


async def test_with_books_both_are_followed(autojump_clock: MockClock) -> None:
    async with open_bench() as bench:
        place(bench)
        wanted = Wanted(tokens=tuple(bench.venue.tokens))
        assert await bench.run(wanted, is_account=False) == 0
        shown = bench.view.getvalue()
        assert (
            "status: account LIVE, 1 open order, 0 positions; feeds 1/1 up; books 4 LIVE; " in shown
        )
        assert "account LIVE, 1 open order, 0 trades; books 4 LIVE; " in shown.splitlines()[-1]
        kinds = {line["type"] for line in bench.lines()}
        assert {"book_updated", "order_changed", "account_state"} <= kinds


async def test_only_what_concerns_the_markets_is_followed(autojump_clock: MockClock) -> None:
    async with open_bench() as bench:
        place(bench)
        other = bench.venue.markets[1]
        await bench.run(markets=(other.condition_id,), seconds=5.0)
        assert "order_changed" not in {line["type"] for line in bench.lines()}
        assert json.loads(bench.summary.getvalue())["account"]["open_orders"] == 0


async def test_refused_credentials_end_the_command_in_one_sentence(
    autojump_clock: MockClock,
) -> None:
    async with open_bench() as bench:
        bench.account.revoke()
        with pytest.raises(UsageError, match="refuses the API credentials") as caught:
            await bench.run(seconds=None)
        assert str(caught.value) == REFUSED
        assert trio.current_time() < 5.0
        assert json.loads(bench.summary.getvalue())["account"]["state"] == "REFUSED"


async def test_refused_credentials_do_not_touch_the_books(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_bench() as bench:
        bench.account.revoke()
        wanted = Wanted(tokens=tuple(bench.venue.tokens))
        assert await bench.run(wanted, is_account=False, seconds=120.0) == 0
        last = bench.view.getvalue().splitlines()[-1]
        assert "account REFUSED" in last
        assert "books 4 LIVE" in last
        assert bench.view.getvalue().count("user up") <= 2, "no storm"
    told = [r.getMessage() for r in caplog.records if REFUSED in r.getMessage()]
    assert len(told) == 1
    assert "market data goes on" in told[0]


# --- mistakes ------------------------------------------------------------------------------

FILE = """\
api_key = "key"
api_secret = "c2VjcmV0"
api_passphrase = "phrase"
address = "0x{}"
""".format("ab" * 20)


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES.values(), *(n for n in os.environ if n.startswith("POLYACTORS_"))):
        monkeypatch.delenv(name, raising=False)


def mistake_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(argv) == 2
    printed = capsys.readouterr()
    (complaint,) = printed.err.splitlines()
    assert complaint.startswith("polyactors: ")
    assert "Traceback" not in complaint
    return complaint


@pytest.mark.parametrize("argv", [["account"], ["run", "--user"]])
def test_missing_credentials_are_named(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    complaint = mistake_of(argv, capsys)
    assert all(variable in complaint for variable in VARIABLES.values())


def test_a_file_that_others_can_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "account.toml"
    path.write_text(FILE)
    path.chmod(0o640)
    complaint = mistake_of(["account", "--credentials", str(path)], capsys)
    assert f"chmod 600 {path}" in complaint


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("run --credentials {path}", "--credentials is for your own account: give --user, too"),
        ("account --credentials {path} --market rain", "expected a condition id"),
        ("account --credentials {path} --ws-url http://h", "is not a WebSocket URL"),
        ("account --credentials {path}.not", "cannot read the credentials"),
        ("account --credentials {path} --reconcile-seconds 0", "reconcile-seconds"),
        ("account --credentials {path} --api-key x", "unrecognized arguments: --api-key"),
    ],
)
def test_a_mistake_is_one_sentence(
    argv: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "account.toml"
    path.write_text(FILE)
    path.chmod(0o600)
    assert sentence in mistake_of(argv.format(path=path).split(), capsys)
