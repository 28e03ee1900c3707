"""What tests of more than one folder share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, settings

# A timing is never a pass condition, and a slow machine is no reason to fail. `quick` is for a
# second run of the same tests, against the built wheel: --hypothesis-profile=quick
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("default"), max_examples=15)
settings.load_profile("default")

# A shell lets what it starts in the background ignore SIGINT; tests interrupt and are interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

THREAD_SECONDS_MAX = 1.0
"""Of real time, that virtual time waits for a thread; a thread that hangs ends by a deadline."""


@pytest.fixture(scope="session", autouse=True)
def threads_take_no_virtual_time() -> Iterator[None]:
    """A clock that jumps when every task waits would jump to the deadline of a thread's work."""
    run_sync: Any = trio.to_thread.run_sync
    running = 0

    async def wait_for(*args: Any, **options: Any) -> Any:
        nonlocal running
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, trio.testing.MockClock):
            return await run_sync(*args, **options)
        if clock.autojump_threshold > 0 and not running:
            return await run_sync(*args, **options)  # it does not jump
        running += 1
        clock.autojump_threshold = THREAD_SECONDS_MAX
        try:
            return await run_sync(*args, **options)
        finally:
            running -= 1
            if not running:
                clock.autojump_threshold = 0.0

    patched: Any = trio.to_thread
    patched.run_sync = wait_for
    yield
    patched.run_sync = run_sync


@pytest.fixture(scope="session")
def shared_captures() -> Path:
    """The folder of real recorded frames, which are not ours to publish.

    It is `captures` of what POLYACTORS_SHARED names, or of the checkout's sibling `shared`.
    Where it is absent a test is skipped, unless POLYACTORS_REQUIRE_CAPTURES is set: a machine
    that should have the captures must not skip in silence.
    """
    beside = Path(__file__).resolve().parents[2] / "shared"
    captures = Path(os.environ.get("POLYACTORS_SHARED") or beside) / "captures"
    if not captures.is_dir():
        reason = "the captures of the live exchange are not on this machine"
        if os.environ.get("POLYACTORS_REQUIRE_CAPTURES"):
            pytest.fail(f"{reason}, and POLYACTORS_REQUIRE_CAPTURES is set")
        pytest.skip(reason)
    return captures
