"""Stop signals: none is lost before Trio listens, and none waits for ever."""

import signal

import pytest
import trio
from trio.testing import MockClock

from polyactors.errors import UsageError
from polyactors.stops import SIGNALS, deliver, holding, interruptible, raise_held, until_signal


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_held_comes_to_the_next_receiver(number: signal.Signals) -> None:
    async def sleep() -> str:
        await trio.sleep(10.0)
        return "the signal was lost"

    with holding():
        signal.raise_signal(number)
        assert trio.run(until_signal, sleep) is None


async def test_a_signal_that_comes_as_the_work_ends_is_held_for_the_next() -> None:
    async def work() -> str:
        signal.raise_signal(signal.SIGTERM)
        return "done"

    async def sleep() -> str:
        await trio.sleep(10.0)
        return "the signal was lost"

    with holding():
        first = await until_signal(work)
        second = None if first is None else await until_signal(sleep)
    assert second is None


async def test_what_was_delivered_is_not_delivered_again(autojump_clock: MockClock) -> None:
    async def work() -> str:
        await trio.sleep(1.0)
        return "done"

    with holding():
        signal.raise_signal(signal.SIGINT)
        assert await until_signal(work) is None
        assert await until_signal(work) == "done"


def test_afterwards_the_handlers_are_those_from_before() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with holding():
        signal.raise_signal(signal.SIGTERM)
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    raise_held()  # nothing is
    deliver()


def test_what_may_wait_for_ever_is_interrupted() -> None:
    with holding():
        with pytest.raises(KeyboardInterrupt), interruptible():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            raise_held()
        with interruptible():
            pass  # one that came before does not interrupt what begins now
        signal.raise_signal(signal.SIGTERM)


async def test_work_ends_with_its_result_or_its_own_error() -> None:
    async def succeed() -> str:
        return "done"

    async def fail() -> str:
        raise UsageError("no")

    assert await until_signal(succeed) == "done"
    with pytest.raises(UsageError, match="no"):
        await until_signal(fail)
