"""What systemd hears: a real datagram socket in its place."""

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from polysupervisor import ChildSpec, Context, Supervisor, run_app
from polysupervisor._systemd import Notifier


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield receiver


def heard(receiver: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += receiver.recv(4096).decode().splitlines()
        except BlockingIOError:
            return [line for line in lines if not line.startswith("STATUS=")]


def app(*, seconds: float) -> Supervisor:
    async def child(ctx: Context[Any]) -> None:
        await trio.sleep(1)
        ctx.ready()
        await trio.sleep(seconds)
        os.kill(os.getpid(), 15)
        await ctx.stop_requested.wait()

    return Supervisor("root", [ChildSpec("a", lambda: child)])


async def test_readiness_and_the_stop_are_told(
    systemd: socket.socket, autojump_clock: MockClock
) -> None:
    async def watch() -> None:
        await trio.sleep(0.5)
        assert heard(systemd) == []
        await trio.sleep(1)
        assert heard(systemd) == ["READY=1"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        assert await run_app(app(seconds=1)) == 0
    assert heard(systemd) == ["STOPPING=1"]


async def test_the_watchdog_of_systemd_is_answered_at_half_of_its_time(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert await run_app(app(seconds=8.9)) == 0
    told = heard(systemd)
    assert told.count("WATCHDOG=1") == 7  # at 0, 1.5, … 9 seconds
    assert told[0] == "WATCHDOG=1"
    assert told[-1] == "STOPPING=1"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": ""}, None),
        ({"NOTIFY_SOCKET": "relative"}, None),
    ],
)
def test_without_systemd_there_is_nobody_to_tell(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notifier.from_environment(environ) is None


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_answered_only_if_it_is_ours(
    variables: dict[str, str], seconds: float | None
) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "/run/x"} | variables)
    assert notifier is not None
    assert notifier.watchdog_seconds == seconds


def test_an_abstract_socket_is_reached() -> None:
    name = f"polysupervisor-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.setblocking(False)
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": f"@{name}"})
        assert notifier is not None
        notifier.tell("READY=1")
        assert heard(receiver) == ["READY=1"]


def test_a_socket_that_is_gone_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(str(tmp_path / "nobody"), None)
    with caplog.at_level(logging.WARNING, logger="polysupervisor"):
        for _ in range(3):
            notifier.tell("READY=1")
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "systemd cannot be told READY=1"
    ]
