"""Runs: an exchange and one client at a time, the clients taking turns."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Any

import trustme
from attrs import frozen
from tests.benchmarks.stream.clients.common import Task
from tests.benchmarks.stream.recording import load, recorded
from tests.benchmarks.stream.roster import Ready
from tests.benchmarks.stream.scenarios import Result, Scenario, Variant

ROOT = Path(__file__).resolve().parents[3]
RECORDINGS = Path(tempfile.gettempdir()) / f"polyactors-benchmark-{os.getuid()}"
RUN_SECONDS_MAX = 180.0
PROFILED_SLOWER = 5
STDERR_LINES = 8

Tell = Callable[[str], None]


@frozen
class Run:
    """One run of one client."""

    client: str
    variant: Variant
    round: int
    result: Result
    """Empty when it failed."""
    faults: tuple[str, ...]
    """What was wrong, books above all: its times do not count then."""


def run_all(
    scenarios: Sequence[Scenario], clients: Sequence[Ready], rounds: int, tell: Tell
) -> list[Run]:
    """Every client in every variant, round by round, in an order that changes."""
    wanted: dict[Variant, dict[str, Ready]] = {}
    for scenario in scenarios:
        for variant in scenario.variants:
            here = wanted.setdefault(variant, {})
            for ready in clients:
                if scenario.name in ready.client.scenarios:
                    here[ready.client.name] = ready
    runs: list[Run] = []
    for number in range(rounds):
        for variant, takers in wanted.items():
            order = list(takers.values())
            Random(number).shuffle(order)
            for ready in order:
                began = time.monotonic()
                run = run_once(ready, variant, tell, number)
                runs.append(run)
                said = "; ".join(run.faults) or "ok"
                kind = " ".join(filter(None, (_kind(variant), variant.label)))
                seconds = time.monotonic() - began
                tell(f"round {number + 1}, {kind}: {ready.client.name} {said} ({seconds:.0f} s)")
    return runs


def run_once(ready: Ready, variant: Variant, tell: Tell, number: int = 0, profile: str = "") -> Run:
    """One run against an exchange of its own."""
    recording = recorded(variant.shape, RECORDINGS, tell)
    tokens, tops = _truth(recording)
    with _exchange(recording, variant) as (port, certificate):
        task = Task(
            scenario=variant.label,
            port=port,
            tokens=tokens,
            messages=variant.shape.messages,
            recording=str(recording),
            is_paced=variant.is_paced,
            resets=variant.resets,
            pause_seconds=variant.pause_seconds,
            certificate=certificate,
            profile=profile,
        )
        try:
            result = _client(ready, task)
        except (subprocess.TimeoutExpired, RuntimeError) as error:
            reason = "took too long" if isinstance(error, subprocess.TimeoutExpired) else error
            return Run(ready.client.name, variant, number, {}, (f"failed: {reason}",))
        result |= _ask(port, "/lateness")
    return Run(ready.client.name, variant, number, result, _faults(ready, variant, result, tops))


def _kind(variant: Variant) -> str:
    if variant.resets:
        return "reset"
    if not variant.shape.messages:
        return "books"
    return "live" if variant.is_paced else "tls" if variant.is_tls else "saturated"


@cache
def _truth(recording: Path) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """The tokens, and the best bid and ask of each at the end."""
    stream = load(recording)
    return stream.tokens, stream.final_tops()


def _faults(
    ready: Ready, variant: Variant, result: Result, tops: dict[str, tuple[int, int]]
) -> tuple[str, ...]:
    """What does not agree with the recording, or is not as the service promises."""
    faults: list[str] = []
    if ready.client.has_books:
        wrong = sum(tuple(result["tops"][token]) != top for token, top in tops.items())
        if wrong:
            faults.append(f"{wrong} of {len(tops)} books wrong")
    if result["messages"] != variant.shape.messages:
        faults.append(f"{variant.shape.messages - result['messages']:,} messages lost")
    if result["resumed"]:
        faults.append(f"{result['resumed']} connections made anew in the middle")
    return (*faults, *result.get("faults", ()))


# --- processes ------------------------------------------------------------------------------


@contextmanager
def _exchange(recording: Path, variant: Variant) -> Generator[tuple[int, str]]:
    """A running exchange: its port, and the authority of its certificate when there is TLS."""
    command = [sys.executable, "-m", "tests.benchmarks.stream.exchange", str(recording)]
    if variant.is_paced:
        command.append("--paced")
    with tempfile.TemporaryDirectory() as folder:
        authority = ""
        if variant.is_tls:
            authority, chain = _certificate(Path(folder))
            command += ["--certificate", chain]
        exchange = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert exchange.stdout is not None
            yield int(exchange.stdout.readline()), authority
        finally:
            exchange.kill()
            exchange.communicate()


def _certificate(folder: Path) -> tuple[str, str]:
    """Files: an authority, and chain and key of the exchange."""
    authority = trustme.CA()
    ours, theirs = folder / "authority.pem", folder / "exchange.pem"
    authority.cert_pem.write_to_path(ours)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(theirs)
    return str(ours), str(theirs)


def _client(ready: Ready, task: Task) -> dict[str, Any]:
    """What a client has printed. Raises RuntimeError when it ended otherwise."""
    environment = dict(ready.environment)
    if task.certificate:
        environment |= {"SSL_CERT_FILE": task.certificate, "NODE_EXTRA_CA_CERTS": task.certificate}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "task.json")
        path.write_text(json.dumps(vars(task)))
        done = subprocess.run(
            [*ready.command, str(path)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS_MAX * (PROFILED_SLOWER if task.profile else 1),
            check=False,
        )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = "\n".join((done.stderr or done.stdout).splitlines()[-STDERR_LINES:])
        raise RuntimeError(f"exit {done.returncode}: {said}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _ask(port: int, command: str) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", command)
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer
