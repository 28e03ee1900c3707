"""`top-bridge`: its lines against the books of the service, over streams in memory."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from polyactors import ActorSpec, Level, Side, TrustState, UsageError, actor_spec
from polyactors.book.numbers import to_units
from polyactors.examples.bridge import LINES_PER_WRITE, TopBridge
from polyactors.testing import Stage, stage

NAME = "top-bridge"
Line = Mapping[str, Any]


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Where clients connect without sockets; what is not yet read is not sent."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)

    async def connect(self) -> trio.abc.Stream:
        ours, theirs = trio.testing.lockstep_stream_pair()
        await self._send.send(theirs)
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


listeners: list[MemoryListener] = []


class LocalBridge(TopBridge):
    """One without sockets."""

    async def listen(self) -> tuple[trio.abc.Listener[trio.abc.Stream], int]:
        await trio.lowlevel.checkpoint()
        listeners.append(MemoryListener())
        return listeners[-1], 12_345


def bridge(**options: object) -> ActorSpec:
    listeners.clear()
    return actor_spec(LocalBridge, name=NAME, options=options)


class Reader:
    """A client: what it was told, newest last."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.lines: list[Line] = []
        self.has_ended = False
        self._rest = b""

    async def read(self) -> bool:
        """One piece. Returns False at the end."""
        try:
            self._rest += (piece := await self.stream.receive_some(4096))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            piece = b""
        *lines, self._rest = self._rest.split(b"\n")
        self.lines += [json.loads(line) for line in lines]
        self.has_ended = self.has_ended or not piece
        return not self.has_ended

    async def read_on(self) -> None:
        while await self.read():
            pass

    def of(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line["type"] == kind]

    @property
    def tops(self) -> dict[str, Line]:
        """The newest of each token."""
        return {line["token"]: line for line in self.of("top")}


@asynccontextmanager
async def reading(count: int = 1) -> AsyncGenerator[list[Reader], None]:
    """Clients that read all the time."""
    async with trio.open_nursery() as nursery:
        readers = [Reader(await listeners[-1].connect()) for _ in range(count)]
        for reader in readers:
            nursery.start_soon(reader.read_on)
        yield readers
        nursery.cancel_scope.cancel()


def plain(level: Level | None) -> Any:
    return None if level is None else [str(level.price), str(level.size)]


def assert_right(play: Stage, reader: Reader) -> None:
    """The newest lines are what the service says."""
    assert set(reader.tops) == set(play.tokens)
    for token, line in reader.tops.items():
        trust, best = play.service.trust(token), (None, None)
        if trust.state is TrustState.LIVE:
            book = play.book(token)
            best = plain(book.best_bid), plain(book.best_ask)
            assert line["settled"] is book.settled
        reason = None if trust.reason is None else trust.reason.value
        assert (line["state"], line["reason"]) == (trust.state.value, reason)
        assert (line["bid"], line["ask"]) == best


async def test_a_snapshot_and_then_each_change(autojump_clock: MockClock) -> None:
    async with stage(bridge(), markets=3) as play, reading() as (reader,):
        play.quote(play.yes, "0.40", "0.42")
        await play.settle()
        hello, *lines = reader.lines
        assert (hello["type"], hello["tokens"]) == ("hello", 6)
        assert {line["token"] for line in lines[:6]} == set(play.tokens)
        assert_right(play, reader)
        told = len(reader.of("top"))
        play.quote(play.yes, "0.41", "0.42", size=7)
        await play.settle()
        fresh = reader.of("top")[told:]
        assert {line["token"] for line in fresh} == {play.yes, play.no}
        assert reader.tops[play.yes]["bid"] == ["0.41", "7"]
        assert_right(play, reader)


async def test_a_change_below_the_top_is_no_news(autojump_clock: MockClock) -> None:
    async with stage(bridge(alive_seconds=5)) as play, reading() as (reader,):
        play.quote(play.yes, "0.40", "0.45")
        await play.settle()
        told = {token: line["bid"] for token, line in reader.tops.items()}
        count = len(reader.of("top"))
        updates = len(play.events)
        trader = play.venue.add_account()
        for _ in range(20):
            trader.place(play.yes, Side.BID, to_units(Decimal("0.30")), to_units(Decimal(10)))
            await play.settle()
        assert len(play.events) > updates
        assert {token: line["bid"] for token, line in reader.tops.items()} == told
        settled = [line for line in reader.of("top")[count:] if line["settled"]]
        assert len(settled) == len(reader.of("top")[count:]) / 2, "only that a step was open"
        assert_right(play, reader)


async def test_quiet_is_told_too(autojump_clock: MockClock) -> None:
    async with stage(bridge(alive_seconds=5)) as play, reading() as (reader,):
        await play.settle(61)
        assert len(reader.of("alive")) == 12


async def test_a_stale_top_has_no_prices_and_a_reason(autojump_clock: MockClock) -> None:
    async with stage(bridge()) as play, reading() as (reader,):
        await play.settle()
        play.venue.inject("refuse", seconds=5)
        play.venue.inject("reset")
        await play.settle()
        assert {line["state"] for line in reader.tops.values()} == {"STALE"}
        assert {line["reason"] for line in reader.tops.values()} == {"disconnected"}
        assert_right(play, reader)
        await play.live()
        await play.settle()
        assert {line["state"] for line in reader.tops.values()} == {"LIVE"}
        assert_right(play, reader)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_every_reader_ends_with_the_truth(
    autojump_clock: MockClock, seed: int
) -> None:
    rng = Random(seed)
    async with stage(bridge(), markets=3) as play, reading(3) as readers:
        for _ in range(100):
            bid = rng.randint(20, 60)
            play.quote(rng.choice(play.tokens), f"0.{bid}", f"0.{bid + rng.randint(1, 9)}")
            if rng.random() < 0.05:
                play.venue.inject(rng.choice(["reset", "lost_delta", "duplicate"]))
            await play.settle(rng.choice([0, 0.01, 0.1, 0.5]))
        await play.settle(10)
        await play.live(200)
        await play.settle()
        for reader in readers:
            assert_right(play, reader)
            for line in reader.of("top"):
                assert line["state"] == "LIVE" or (line["bid"], line["ask"]) == (None, None)


async def test_a_slow_client_gets_only_the_newest(autojump_clock: MockClock) -> None:
    async with stage(bridge(stall_seconds=1000)) as play:
        slow = Reader(await listeners[-1].connect())
        await play.settle()
        for number in range(200):
            bid = 20 + number % 30
            play.quote(play.yes, f"0.{bid}", f"0.{bid + 5}")
            await play.settle(0.2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.read_on)
            await play.settle(1)
            nursery.cancel_scope.cancel()
        # The hello waited to be read; then one line a token.
        assert len(slow.of("top")) == len(play.tokens)
        assert_right(play, slow)
        assert play.status(NAME).metrics["lines"] == len(play.tokens)


async def test_a_client_that_takes_nothing_is_dropped_and_hurts_nobody(
    autojump_clock: MockClock,
) -> None:
    async with stage(bridge(stall_seconds=3)) as play, reading() as (reader,):
        stuck = Reader(await listeners[-1].connect())
        await play.settle(2)
        assert play.status(NAME).metrics["clients"] == 2
        play.quote(play.yes, "0.40", "0.42")
        await play.settle(2)
        assert_right(play, reader)
        assert play.status(NAME).metrics["clients"] == 1
        assert play.status(NAME).metrics["stalled"] == 1
        await stuck.read_on()
        assert stuck.has_ended
        assert play.status(NAME).incarnation == 1


async def test_one_client_too_many_is_told_so(autojump_clock: MockClock) -> None:
    async with stage(bridge(clients_max=2)) as play, reading(2) as readers:
        await play.settle()
        third = Reader(await listeners[-1].connect())
        await third.read_on()
        assert third.lines == [{"type": "refused", "reason": "too many clients"}]
        await readers[0].stream.aclose()
        await play.settle()
        assert play.status(NAME).metrics["clients"] == 1
        async with reading() as (fresh,):
            await play.settle()
            assert_right(play, fresh)


async def test_who_says_something_is_dropped(autojump_clock: MockClock) -> None:
    async with stage(bridge()) as play, reading() as (reader,):
        await play.settle()
        with pytest.raises(trio.BrokenResourceError):  # it takes the first byte, and goes
            await reader.stream.send_all(b"GET / HTTP/1.1\r\n")
        await play.settle()
        assert reader.has_ended
        assert play.status(NAME).metrics["clients"] == 0


async def test_the_lines_end_when_the_service_does(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with stage(bridge()) as play:
            reader = Reader(await listeners[-1].connect())
            stuck = Reader(await listeners[-1].connect())
            nursery.start_soon(reader.read_on)
            await play.settle()
            assert_right(play, reader)
            before = trio.current_time()
        assert trio.current_time() - before < 1
        await stuck.read_on()
        assert stuck.has_ended
    assert reader.has_ended


async def test_more_tokens_than_one_write_holds(autojump_clock: MockClock) -> None:
    async with stage(bridge(), markets=LINES_PER_WRITE) as play, reading() as (reader,):
        await play.settle()
        assert reader.of("hello")[0]["tokens"] == 2 * LINES_PER_WRITE
        assert_right(play, reader)


async def test_on_a_real_socket() -> None:
    """In real time, because the kernel's sockets know no other; nothing here waits for a clock."""
    async with stage(actor_spec(TopBridge, options={"clients_max": 1})) as play:
        await play.settle(0)
        (where,) = play.named("bridge_listening")
        assert where["host"] == "127.0.0.1"
        stream = await trio.open_tcp_stream("127.0.0.1", int(str(where["port"])))
        reader = Reader(stream)
        while len(reader.tops) < len(play.tokens):
            assert await reader.read()
        assert_right(play, reader)
        taken = actor_spec(TopBridge, name="second", options={"port": where["port"]})
        bridge = taken.make()
        assert isinstance(bridge, TopBridge)
        with pytest.raises(OSError, match=r"cannot listen on 127.0.0.1 port \d+: Address already"):
            await bridge.listen()
    await reader.read_on()
    assert reader.has_ended
    await stream.aclose()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": "example.org"}, "host must be an IP address of this machine"),
        ({"host": ""}, "host must be an IP address of this machine"),
        ({"port": 65_536}, "port"),
        ({"port": -1}, "port"),
        ({"clients_max": 0}, "clients_max"),
        ({"stall_seconds": 0}, "stall_seconds"),
    ],
)
def test_what_cannot_be_is_one_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        actor_spec(TopBridge, options=options)


def test_nobody_else_reads_along_unless_told() -> None:
    assert TopBridge().host == "127.0.0.1"
