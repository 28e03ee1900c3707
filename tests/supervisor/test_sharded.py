"""Fixed shards: where a key goes, and what may be done with a shard."""

import math
from collections import Counter
from collections.abc import Callable, Hashable
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    ChildSpec,
    Context,
    Intensity,
    MailboxSpec,
    Restart,
    ShardedSupervisor,
    SupervisionError,
    Supervisor,
    SupervisorEscalation,
)

BOOM = ValueError("boom")


class Loud(str):
    def __str__(self) -> str:
        return self.upper()


class Level(IntEnum):
    TOP = 1


class Point(NamedTuple):
    x: int
    y: str


async def puppet(ctx: Context[Any]) -> None:
    """Raise an exception that is sent, or add one's id to a list that is sent."""
    async for order in ctx.inbox:
        if isinstance(order, Exception):
            raise order
        order.append(ctx.id)


def shard(number: int) -> ChildSpec[Any]:
    return ChildSpec(f"shard-{number}", lambda: puppet, mailbox=MailboxSpec())


def sharded(shards: int, **arguments: Any) -> ShardedSupervisor[Any]:
    return ShardedSupervisor("books", shard, shards=shards, **arguments)


THOUSAND = sharded(1000)


def states(supervisor: Supervisor) -> list[str]:
    return [child.state.value for child in supervisor.children()]


def key_of(supervisor: ShardedSupervisor[Any], shard_id: str) -> str:
    """Find a key of a shard."""
    return next(key for key in map(str, range(1000)) if supervisor.route(key).id == shard_id)


# Where a key goes.


@pytest.mark.parametrize(
    ("key", "shard_id"),
    [
        (None, "shard-268"),
        ("", "shard-374"),
        ("book", "shard-422"),
        ("Köln", "shard-754"),
        ("\ud800", "shard-156"),
        ("1", "shard-412"),
        (b"", "shard-333"),
        (b"book", "shard-54"),
        (0, "shard-383"),
        (1, "shard-651"),
        (-1, "shard-37"),
        (2**256 - 1, "shard-579"),
        (0.5, "shard-32"),
        (-math.inf, "shard-624"),
        ((), "shard-726"),
        (("book", 1), "shard-863"),
        (("bo", "ok"), "shard-13"),
        (("b", "ook"), "shard-871"),
        (("book", (b"x", None)), "shard-464"),
        ((("book", b"x"), None), "shard-552"),
    ],
)
def test_a_key_goes_where_it_always_went(key: Hashable, shard_id: str) -> None:
    # Keys may stand for data on disk or in other processes: never adapt this to the code.
    assert THOUSAND.route(key).id == shard_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (2**60, float(2**60)),
        ((1, "x"), (True, "x")),
        ("buy", Loud("buy")),
        (1, Level.TOP),
        ((1, "x"), Point(1, "x")),
    ],
)
def test_equal_keys_go_together(one: Hashable, other: Hashable) -> None:
    assert one == other
    assert THOUSAND.route(one) == THOUSAND.route(other)


def test_a_number_too_long_to_be_printed_is_a_key_as_well() -> None:
    with pytest.raises(ValueError, match="limit"):
        str(10**5000)
    assert THOUSAND.route(10**5000) == THOUSAND.route(10**5000)


FAMILIES: dict[str, Callable[[int], Hashable]] = {
    "counted": lambda number: number,
    "even": lambda number: 2 * number,
    "powers": lambda number: 2**number,
    "steps": lambda number: number / 1000,
    "text": lambda number: f"token-{number}",
    "bytes": lambda number: number.to_bytes(4, "big"),
    "pairs": lambda number: (number // 50, number % 50),
}


@given(family=st.sampled_from(sorted(FAMILIES)), shards=st.integers(2, 64))
def test_alike_keys_are_spread_evenly(family: str, shards: int) -> None:
    supervisor = sharded(shards)
    keys = [FAMILIES[family](number) for number in range(2500)]
    counts = Counter(supervisor.route(key).id for key in keys)
    # Pearson's chi-square; the bound (Laurent and Massart, x = 25) is passed once in 10**10.
    mean = len(keys) / shards
    found = [counts[child.id] for child in supervisor.children()]
    chi_square = sum((count - mean) ** 2 / mean for count in found)
    degrees = shards - 1
    assert chi_square < degrees + 2 * math.sqrt(25 * degrees) + 50


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4).map(tuple),
        max_leaves=6,
    )
)
def test_any_key_of_these_kinds_has_one_place(key: Hashable) -> None:
    assert THOUSAND.route(key) == THOUSAND.route(key)


@pytest.mark.parametrize("key", [object(), Decimal(1), frozenset({1}), ("x", object())])
def test_a_key_whose_hash_may_differ_elsewhere_is_refused(key: Hashable) -> None:
    with pytest.raises(TypeError, match="str, bytes or a tuple of these, not "):
        THOUSAND.route(key)


def test_with_one_shard_all_keys_are_its_own() -> None:
    supervisor = sharded(1)
    assert {supervisor.route(key).id for key in range(100)} == {"shard-0"}


# The shards.


async def test_messages_reach_the_shard_of_their_key(autojump_clock: MockClock) -> None:
    books = sharded(4)
    heard: list[str] = []
    expected = [books.route(key).id for key in range(20)]
    books.route("before the start").send_nowait(heard)
    async with trio.open_nursery() as nursery:
        await nursery.start(books.run)
        await wait_all_tasks_blocked()
        assert heard == [books.route("before the start").id]
        heard.clear()
        for key in range(20):
            await books.route(key).send(heard)
            await wait_all_tasks_blocked()
        books.stop()
    assert heard == expected
    assert set(heard) == {"shard-0", "shard-1", "shard-2", "shard-3"}


async def test_an_address_of_a_shard_survives_its_restart(autojump_clock: MockClock) -> None:
    books = sharded(3)
    heard: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(books.run)
        address = books.route("x")
        await address.send(BOOM)
        await wait_all_tasks_blocked()
        await books.restart_child(address.id, force=True)
        assert books.route("x") == address == books.address(address.id)
        await address.send(heard)
        await wait_all_tasks_blocked()
        assert heard == [address.id]
        assert sorted(child.incarnation for child in books.children()) == [1, 1, 3]
        books.stop()


async def test_one_bad_shard_is_given_up_alone_and_can_be_brought_back(
    autojump_clock: MockClock,
) -> None:
    books = sharded(3)
    heard: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(books.run)
        bad = books.route(key_of(books, "shard-1"))
        for _ in range(4):
            await bad.send(BOOM)
            await wait_all_tasks_blocked()
        assert states(books) == ["running", "gave_up", "running"]
        with pytest.raises(trio.BrokenResourceError):
            await bad.send(heard)
        await books.route(key_of(books, "shard-2")).send(heard)
        await books.restart_child("shard-1", reset_backoff=True)
        assert states(books) == ["running"] * 3
        await bad.send(heard)
        await wait_all_tasks_blocked()
        assert heard == ["shard-2", "shard-1"]
        books.stop()


async def test_it_escalates_if_it_is_told_to(autojump_clock: MockClock) -> None:
    books = sharded(3, intensity=Intensity(limit=0))
    books.route("x").send_nowait(BOOM)
    with pytest.raises(SupervisorEscalation):
        await books.run()


async def test_shards_start_in_order_and_stop_at_the_same_time(
    autojump_clock: MockClock,
) -> None:
    started: list[str] = []

    async def slow(ctx: Context[Any]) -> None:
        await trio.sleep(1)
        started.append(ctx.id)
        ctx.ready()
        await ctx.stop_requested.wait()
        await trio.sleep(2)

    def make(number: int) -> ChildSpec[Any]:
        return ChildSpec(f"s{number}", lambda: slow)

    root = Supervisor("root", [ShardedSupervisor("pool", make, shards=5)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert trio.current_time() == 5
        assert started == ["s0", "s1", "s2", "s3", "s4"]
        root.stop()
    assert trio.current_time() == 7


# What is refused.


async def test_no_shard_is_added_stopped_or_deleted_by_itself(
    autojump_clock: MockClock,
) -> None:
    books = sharded(2)
    async with trio.open_nursery() as nursery:
        await nursery.start(books.run)
        with pytest.raises(SupervisionError, match="books has a fixed number of shards, 2: x can"):
            await books.start_child(ChildSpec("x", lambda: puppet))
        with pytest.raises(SupervisionError, match="shard-1 cannot be stopped by itself"):
            await books.stop_child("shard-1")
        with pytest.raises(SupervisionError, match="shard-1 cannot be deleted"):
            await books.delete_child("shard-1")
        assert states(books) == ["running"] * 2
        books.stop()


def test_at_least_one_shard_is_needed() -> None:
    with pytest.raises(ValueError, match="books needs at least 1 shard, not 0"):
        sharded(0)


def test_shards_need_ids_of_their_own() -> None:
    with pytest.raises(ValueError, match="two children of the id 'shard-7'"):
        ShardedSupervisor("books", lambda _: shard(7), shards=2)


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
def test_a_shard_that_might_not_come_back_is_refused(restart: Restart) -> None:
    def make(number: int) -> ChildSpec[Any]:
        return ChildSpec(f"shard-{number}", lambda: puppet, restart=restart)

    with pytest.raises(ValueError, match="books/shard-0 is a shard, so it must be permanent"):
        ShardedSupervisor("books", make, shards=2)
