"""What the clients share. Standard library only: peers run in environments of their own.

A client is started with one argument, a `Task` as JSON, and prints one line, a JSON object:
moments on the monotonic clock and what was counted. `__main__.py` makes figures of them.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

EPOCH_MS = 1_790_000_000_000
"""As in wire.py: timestamps are this plus microseconds of the schedule."""


@dataclass(frozen=True)
class Task:
    """What a client is to do."""

    scenario: str
    port: int
    tokens: list[str]
    messages: int
    """To take after all books have come; 0: only the books."""
    recording: str
    is_paced: bool = False
    resets: int = 0
    pause_seconds: float = 1.0
    """Before the first reset, and one second longer each time: a client may be slower to come back
    to who has just thrown it out, and one that looks every few seconds must not be met always at
    the same moment."""
    certificate: str = ""
    """The authority of the exchange's certificate; "" without TLS."""
    profile: str = ""
    """Where a profile is to be written; only ours writes one."""

    @classmethod
    def given(cls) -> "Task":
        """The one this process was started for."""
        task = json.loads(Path(sys.argv[1]).read_text())
        return cls(**task)

    @property
    def ws_url(self) -> str:
        """Base of the WebSocket endpoint."""
        return f"{'wss' if self.certificate else 'ws'}://127.0.0.1:{self.port}/ws"

    @property
    def http_url(self) -> str:
        """The REST endpoint, without TLS."""
        return f"http://127.0.0.1:{self.port}"

    def control(self, command: str) -> dict[str, Any]:
        """Ask the exchange for something, and wait for its answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", command)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@dataclass
class Run:
    """What a client has measured so far."""

    task: Task
    books: int = 0
    messages: int = 0
    latencies_us: list[float] = field(default_factory=list[float])
    result: dict[str, Any] = field(default_factory=dict[str, Any])
    _cpu_seconds: float = 0.0
    _resetting: Thread | None = None

    def connecting(self) -> None:
        """Connecting begins."""
        self.result["connect_ns"] = time.monotonic_ns()

    def book(self, count: int = 1) -> bool:
        """Books have come; whether that were all now, for the last time."""
        self.books += count
        if self.books != len(self.task.tokens):
            return False
        return self.all_live()

    def all_live(self) -> bool:
        """Every book has come; whether there will be no reset any more.

        A reset is asked for by a thread, after a pause: the client goes on as if nothing was.
        """
        if self._resetting is None:
            self.result |= {"all_ns": time.monotonic_ns(), "rss_bytes": rss_bytes()}
        else:
            self.result["again_ns"].append(time.monotonic_ns())
            self._resetting.join()
        if len(self.result.setdefault("again_ns", [])) == self.task.resets:
            return True
        self._resetting = Thread(target=self._reset, daemon=True)
        self._resetting.start()
        return False

    def _reset(self) -> None:
        time.sleep(self.task.pause_seconds + len(self.result["again_ns"]))
        self.books = 0
        self.result.setdefault("reset_ns", []).append(self.task.control("/reset")["reset_ns"])

    def ready(self, top: Callable[[str], tuple[str, str]] | None = None) -> None:
        """All books are there for the last time: on with the stream, or the end."""
        if self.task.messages:
            self.go()
        else:
            self.finish(top)

    def go(self) -> None:
        """Let the exchange begin to send."""
        self.result |= self.task.control("/go")
        self._cpu_seconds = time.process_time()

    def message(self, timestamp: str | int) -> bool:
        """A message was taken in; whether it was the last."""
        self.messages += 1
        if self.task.is_paced:
            due_us = int(timestamp) - EPOCH_MS
            now_us = (time.monotonic_ns() - self.result["start_ns"]) / 1000
            self.latencies_us.append(now_us - due_us)
        if self.messages < self.task.messages:
            return False
        self.end()
        return True

    def end(self) -> None:
        """The last message was taken in."""
        self.result["end_ns"] = time.monotonic_ns()
        self.result["cpu_seconds"] = time.process_time() - self._cpu_seconds

    def finish(self, top: Callable[[str], tuple[str, str]] | None = None) -> NoReturn:
        """Print what was measured and end. `top`: best bid and ask of a token, as texts."""
        result = self.result
        if self.latencies_us:
            result["latencies_us"] = [round(latency, 1) for latency in self.latencies_us]
        if top is not None:
            result["tops"] = {token: ticks(*top(token)) for token in self.task.tokens}
        result |= {
            "messages": self.messages,
            "peak_bytes": peak_bytes(),
            "python": sys.version.split()[0],
        }
        print(json.dumps(result), flush=True)
        os._exit(0)


def ticks(bid: str, ask: str) -> tuple[int, int]:
    """Best bid and ask in thousandths."""
    return round(float(bid) * 1000), round(float(ask) * 1000)


def rss_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """The most it has been; what getrusage says begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
