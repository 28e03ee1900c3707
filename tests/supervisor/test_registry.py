"""Names: who has one, for how long, and who waits for it."""

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    Address,
    ChildSpec,
    Context,
    DynamicSupervisor,
    Intensity,
    MailboxSpec,
    NameTaken,
    Registry,
    Restart,
    StartFailed,
    Strategy,
    Supervisor,
)

Spec = Callable[..., ChildSpec[Any]]
BOOM = ValueError("boom")


def named(child_id: str, *names: str, **arguments: Any) -> ChildSpec[Any]:
    """Specify a puppet that registers under names, raises what it is sent, returns on None."""

    async def run(ctx: Context[Exception | None]) -> None:
        for name in names:
            ctx.registry.register(name)
        async for order in ctx.inbox:
            if order is None:
                return
            raise order

    return ChildSpec(child_id, lambda: run, mailbox=MailboxSpec(), **arguments)


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.id: child.state.value for child in supervisor.children()}


async def tell(address: Address[Any], order: Exception | None) -> None:
    await address.send(order)
    await wait_all_tasks_blocked()


async def test_an_actor_registers_itself_and_is_found(autojump_clock: MockClock) -> None:
    root = Supervisor("root", [named("a", "books", "all books"), named("b", "feed")])
    assert root.registry.names() == ()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert root.registry.names() == ("all books", "books", "feed")
        assert root.registry.lookup("books") == root.address("a")
        assert root.registry.lookup("all books") == root.address("a")
        assert root.registry.lookup("feed") == root.address("b")
        assert root.registry.lookup("nobody") is None
        root.stop()


async def test_the_whole_tree_shares_one_registry(autojump_clock: MockClock) -> None:
    inner = Supervisor("inner", [named("a", "books")])
    root = Supervisor(
        "root", [inner, ChildSpec("made", lambda: Supervisor("x", [named("b", "feed")]))]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert root.registry is inner.registry
        assert root.registry.names() == ("books", "feed")
        found = root.registry.lookup("feed")
        assert found is not None
        assert found.path == "root/made/b"
        root.stop()


async def test_a_name_survives_restarts_and_the_address_stays_good(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [named("a", "books")], intensity=Intensity(limit=1000))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        found = await root.registry.wait_for("books")
        for incarnation in (2, 3):
            await found.send(BOOM)
            while root.children()[0].incarnation < incarnation:
                assert root.registry.lookup("books") == found  # at no moment is it free
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
            assert root.registry.lookup("books") == found
        root.stop()


async def test_a_name_is_kept_while_the_child_waits_for_its_restart_or_its_group(
    autojump_clock: MockClock,
) -> None:
    slow = named("b", "feed", start_timeout=60)

    async def lazy(ctx: Context[Any]) -> None:
        await trio.sleep(5)
        ctx.ready()
        await ctx.stop_requested.wait()

    root = Supervisor(
        "root",
        [named("a", "books"), ChildSpec("lazy", lambda: lazy), slow],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await tell(root.address("a"), BOOM)
        assert states(root) == {"a": "running", "lazy": "starting", "b": "waiting"}
        assert root.registry.names() == ("books", "feed")
        await trio.sleep(6)
        assert states(root)["b"] == "running"
        assert root.registry.lookup("feed") == root.address("b")
        root.stop()


@pytest.mark.parametrize("how", ["stopped", "finished", "gave up", "forgotten"])
async def test_a_name_is_free_when_its_child_has_ended_for_good(
    how: str, autojump_clock: MockClock
) -> None:
    restart = {"finished": Restart.TRANSIENT, "forgotten": Restart.TEMPORARY}.get(how)
    root = Supervisor(
        "root",
        [named("a", "books", "more", restart=restart or Restart.PERMANENT), named("b", "feed")],
        intensity=Intensity(limit=0, on_exhausted="give_up"),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        if how == "stopped":
            await root.stop_child("a")
        else:
            await tell(root.address("a"), None if how == "finished" else BOOM)
        assert root.registry.names() == ("feed",)
        root.registry.register("books", root.address("b"))
        assert root.registry.lookup("books") == root.address("b")
        root.stop()


async def test_a_revived_child_registers_anew_and_delete_frees_what_it_was_given(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [named("a", "books"), named("b")])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        address = root.address("a")
        await root.stop_child("a")
        assert root.registry.names() == ()
        await root.restart_child("a")
        assert root.registry.lookup("books") == address
        await root.stop_child("a")
        root.registry.register("books", address)  # kept for it while it stays down
        with pytest.raises(NameTaken):
            root.registry.register("books", root.address("b"))
        await root.delete_child("a")
        assert root.registry.names() == ()
        with pytest.raises(trio.BrokenResourceError, match="root/a has ended for good"):
            root.registry.register("books", address)
        assert root.registry.names() == ()
        root.stop()


async def test_a_name_given_before_the_start_is_kept_for_the_child(
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [named("a", "books"), named("b", "books")])
    root.registry.register("books", root.address("b"))
    with pytest.raises(StartFailed, match="'books' is the name of root/b"):
        await root.run()
    assert root.registry.names() == ()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_no_name_is_left_after_the_end_of_the_tree(
    cancelled: bool, autojump_clock: MockClock
) -> None:
    pool = DynamicSupervisor("pool", [named(str(number), f"n{number}") for number in range(5)])
    root = Supervisor("root", [pool, named("a", "books"), named("b")])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.stop_child("b")
        root.registry.register("given to one that is down", root.address("b"))
        assert len(root.registry.names()) == 7
        if cancelled:
            nursery.cancel_scope.cancel()
        root.stop()
    assert root.registry.names() == ()


async def test_children_that_are_gone_leave_nothing_behind(autojump_clock: MockClock) -> None:
    def count() -> Counter[str]:
        gc.collect()
        kinds = Counter(type(thing).__name__ for thing in gc.get_objects())
        return Counter({kind: kinds[kind] for kind in ("Life", "Address", "set", "ParkingLot")})

    pool = DynamicSupervisor("pool")
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        before = count()
        for number in range(100):
            await pool.start_child(named("a", f"n{number}"))
            pool.registry.unregister(f"n{number}")
            pool.registry.register(f"m{number}", pool.address("a"))
            await pool.stop_child("a")
            with trio.move_on_after(1):
                await pool.registry.wait_for(f"n{number}")
        assert (count() - before).total() < 50
        pool.stop()


async def test_a_nested_supervisor_that_restarts_frees_the_names_below_it(
    autojump_clock: MockClock,
) -> None:
    def nested() -> Supervisor:
        return Supervisor("x", [named("a", "books")], intensity=Intensity(limit=0))

    root = Supervisor("root", [ChildSpec("x", nested)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        old = await root.registry.wait_for("books")
        await tell(old, BOOM)
        assert root.children()[0].incarnation == 2
        new = root.registry.lookup("books")
        assert new is not None
        assert new != old
        with pytest.raises(trio.BrokenResourceError):
            old.send_nowait(None)
        new.send_nowait(None)
        root.stop()


async def test_two_actors_fight_for_one_name(autojump_clock: MockClock) -> None:
    root = Supervisor("root", [named("a", "books")])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        with pytest.raises(StartFailed) as caught:
            await root.start_child(named("b", "books"))
        assert caught.value.reason.types == ("NameTaken",)
        assert "'books' is the name of root/a" in caught.value.reason.summary
        assert root.registry.lookup("books") == root.address("a")
        await root.stop_child("a")
        await root.start_child(named("b", "books"))
        assert root.registry.lookup("books") == root.address("b")
        with pytest.raises(StartFailed, match="NameTaken"):
            await root.restart_child("a")
        root.stop()


async def test_registering_again_is_harmless_and_so_is_unregistering_twice(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a"), puppet_spec("b")])
    registry = root.registry
    for _ in range(2):
        registry.register("books", root.address("a"))
        registry.register("feed", root.address("a"))
    for _ in range(2):
        registry.unregister("books")
        assert registry.names() == ("feed",)
    registry.register("books", root.address("b"))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.stop_child("a")
        assert registry.names() == ("books",)
        registry.unregister("books")
        await root.stop_child("b")
        await root.restart_child("b")
        assert registry.names() == ()
        root.stop()


async def test_outside_an_actor_an_address_must_be_given() -> None:
    with pytest.raises(RuntimeError, match=r"give register\(\) an address"):
        Registry().register("books")


async def test_tasks_of_an_actor_register_it_too(autojump_clock: MockClock) -> None:
    async def run(ctx: Context[Any]) -> None:
        async def helper() -> None:
            ctx.registry.register("books")

        async with ctx.open_nursery() as nursery:
            nursery.start_soon(helper)
        ctx.ready()
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("a", lambda: run)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        assert root.registry.lookup("books") == root.address("a")
        root.stop()


async def test_wait_for_returns_at_once_when_the_name_is_there(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a")])
    root.registry.register("books", root.address("a"))
    with trio.testing.assert_checkpoints():
        assert await root.registry.wait_for("books") == root.address("a")
    assert trio.current_time() == 0


async def test_wait_for_wakes_all_who_wait_for_that_name_and_no_others(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a"), puppet_spec("b")])
    found: list[Address[Any]] = []

    async def want(name: str) -> None:
        found.append(await root.registry.wait_for(name))

    async with trio.open_nursery() as nursery:
        for name in ("books", "books", "feed"):
            nursery.start_soon(want, name)
        await wait_all_tasks_blocked()
        root.registry.register("other", root.address("a"))
        await wait_all_tasks_blocked()
        assert found == []
        root.registry.register("books", root.address("a"))
        await wait_all_tasks_blocked()
        assert found == [root.address("a")] * 2
        root.registry.register("feed", root.address("b"))
    assert found[2:] == [root.address("b")]


async def test_wait_for_also_waits_for_the_next_owner(autojump_clock: MockClock) -> None:
    root = Supervisor("root", [named("a", "books"), named("b")])
    found: list[Address[Any]] = []

    async def want() -> None:
        found.append(await root.registry.wait_for("books"))

    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.stop_child("a")
        nursery.start_soon(want)
        await wait_all_tasks_blocked()
        assert found == []
        # Freed before the waiter runs: it must go on waiting, not return what is gone.
        root.registry.register("books", root.address("b"))
        root.registry.unregister("books")
        await wait_all_tasks_blocked()
        assert found == []
        await root.start_child(named("c", "books"))
        await wait_all_tasks_blocked()
        assert found == [root.address("c")]
        root.stop()


async def test_a_child_finds_the_one_that_starts_after_it(autojump_clock: MockClock) -> None:
    heard: list[str] = []

    async def early(ctx: Context[Any]) -> None:
        ctx.ready()
        address = await ctx.registry.wait_for("late")
        await address.send("hello")
        await ctx.stop_requested.wait()

    async def late(ctx: Context[str]) -> None:
        await trio.sleep(3)
        ctx.registry.register("late")
        heard.append(await ctx.inbox.receive())
        await ctx.stop_requested.wait()

    root = Supervisor(
        "root",
        [
            ChildSpec("early", lambda: early),
            ChildSpec("late", lambda: late, mailbox=MailboxSpec()),
        ],
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        root.stop()
    assert heard == ["hello"]


async def test_one_who_gave_up_waiting_disturbs_nobody(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a")])
    found: list[Address[Any]] = []

    async def want() -> None:
        found.append(await root.registry.wait_for("books"))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1) as alone:
            await root.registry.wait_for("books")
        assert alone.cancelled_caught
        nursery.start_soon(want)
        with trio.move_on_after(1):
            await root.registry.wait_for("books")
        # Woken by the first of these, back in the queue by the second.
        root.registry.register("books", root.address("a"))
        root.registry.unregister("books")
        await wait_all_tasks_blocked()
        assert found == []
        root.registry.register("books", root.address("a"))
    assert found == [root.address("a")]
