"""What tests of several actors share."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing
from tests.actors.running import Answer, Play, Run, running, unreachable
from tests.actors.scripted_server import NO, YES, Act, Pair, ScriptedServer


@pytest.fixture
def play(nursery: trio.Nursery) -> Play:
    """Runs the whole service against a scripted server; see `Play`.

    The test must take `autojump_clock`, too: pytest-trio looks for it there and nowhere else.
    """

    def start(
        *acts: Act,
        tokens: Sequence[str] = (YES, NO),
        make_pair: Pair = trio.testing.memory_stream_pair,
        open_seconds: float = 0.0,
        rest: Answer = unreachable,
        **options: Any,
    ) -> AbstractAsyncContextManager[Run]:
        assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock), (
            "a test that plays takes autojump_clock, or it would wait in real time"
        )
        server = ScriptedServer(
            nursery, *acts, tokens=tokens, make_pair=make_pair, open_seconds=open_seconds
        )
        return running(server, rest=rest, **options)

    return start
