"""Who is restarted, when, and when no more; and what that means for mailboxes."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import (
    Backoff,
    ChildSpec,
    Context,
    EventKind,
    ExitKind,
    Intensity,
    MailboxSpec,
    NotFound,
    Restart,
    Shutdown,
    Strategy,
    Subscription,
    Supervisor,
    SupervisorEscalation,
)

Spec = Callable[..., ChildSpec[Any]]
Story = Callable[[Subscription], list[str]]
MANY = Intensity(limit=1000)
BOOM = ValueError("boom")


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.id: child.state.value for child in supervisor.children()}


def incarnations(supervisor: Supervisor) -> dict[str, int]:
    return {child.id: child.incarnation for child in supervisor.children()}


async def steady(ctx: Context[Any]) -> None:
    ctx.ready()
    await ctx.stop_requested.wait()


async def stubborn(ctx: Context[Any]) -> None:
    ctx.ready()
    await trio.sleep_forever()


async def silent(ctx: Context[Any]) -> None:
    await trio.sleep_forever()


async def broken(ctx: Context[Any]) -> None:
    raise BOOM


def _steady(child_id: str) -> ChildSpec[Any]:
    return ChildSpec(child_id, lambda: steady)


# Restart types.


@pytest.mark.parametrize(
    ("restart", "order", "after"),
    [
        (Restart.PERMANENT, BOOM, {"a": "running"}),
        (Restart.PERMANENT, None, {"a": "running"}),
        (Restart.TRANSIENT, BOOM, {"a": "running"}),
        (Restart.TRANSIENT, None, {"a": "stopped"}),
        (Restart.TEMPORARY, BOOM, {}),
        (Restart.TEMPORARY, None, {}),
    ],
)
async def test_restart_type_decides_after_crash_and_return(
    restart: Restart,
    order: Exception | None,
    after: dict[str, str],
    puppet_spec: Spec,
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [puppet_spec("a", restart=restart)])
    address = root.address("a")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await address.send(order)
        await wait_all_tasks_blocked()
        assert states(root) == after
        if after == {"a": "running"}:
            assert incarnations(root) == {"a": 2}
        else:
            with pytest.raises(trio.BrokenResourceError):
                await address.send(None)
        root.stop()


async def test_next_incarnation_learns_how_the_last_one_ended(autojump_clock: MockClock) -> None:
    seen: list[Any] = []

    async def actor(ctx: Context[Any]) -> None:
        seen.append((ctx.id, ctx.path, ctx.incarnation, ctx.last_exit))
        ctx.ready()
        if ctx.incarnation == 1:
            raise BOOM
        await ctx.stop_requested.wait()

    root = Supervisor("root", [ChildSpec("a", lambda: actor)])
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        root.stop()
    assert seen[0] == ("a", "root/a", 1, None)
    assert seen[1][2] == 2
    assert (seen[1][3].kind, seen[1][3].summary) == (ExitKind.CRASH, "ValueError: boom")


# Strategies.

STRATEGIES: list[tuple[Strategy, dict[str, int], list[str]]] = [
    (Strategy.ONE_FOR_ONE, {"a": 1, "b": 2, "c": 1}, []),
    (
        Strategy.ONE_FOR_ALL,
        {"a": 2, "b": 2, "c": 2},
        ["root/c#1 stopping", "root/c#1 stopped", "root/a#1 stopping", "root/a#1 stopped"],
    ),
    (
        Strategy.REST_FOR_ONE,
        {"a": 1, "b": 2, "c": 2},
        ["root/c#1 stopping", "root/c#1 stopped"],
    ),
]


@pytest.mark.parametrize(("strategy", "after", "stops"), STRATEGIES)
async def test_strategy_decides_who_stops_in_reverse_and_starts_in_order(
    strategy: Strategy,
    after: dict[str, int],
    stops: list[str],
    puppet_spec: Spec,
    story: Story,
    autojump_clock: MockClock,
) -> None:
    root = Supervisor("root", [puppet_spec(each) for each in "abc"], strategy=strategy)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        story(events)
        await root.address("b").send(BOOM)
        await wait_all_tasks_blocked()
        assert incarnations(root) == after
        lines = story(events)
        root.stop()
    starts = [
        f"root/{each}#2 {kind}"
        for each in "abc"
        if after[each] == 2
        for kind in ("starting", "started")
    ]
    assert lines == ["root/b#1 exited", *stops, "root/b#1 restart_scheduled", *starts]


async def test_group_start_brings_back_finished_transients_and_not_temporaries(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("a"),
            puppet_spec("b", restart=Restart.TRANSIENT),
            puppet_spec("c", restart=Restart.TEMPORARY),
            puppet_spec("d"),
        ],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("b").send(None)
        await wait_all_tasks_blocked()
        assert states(root)["b"] == "stopped"
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        assert incarnations(root) == {"a": 2, "b": 2, "d": 2}
        assert set(states(root).values()) == {"running"}
        root.stop()


async def test_group_waits_out_the_backoff_of_the_child_that_failed(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    backoff = Backoff(min=4, max=4, jitter=0)
    root = Supervisor(
        "root",
        [puppet_spec("a"), puppet_spec("b", backoff=backoff)],
        strategy=Strategy.ONE_FOR_ALL,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("b").send(BOOM)
        await wait_all_tasks_blocked()
        assert states(root) == {"a": "waiting", "b": "restarting"}
        assert root.children()[1].due == 4
        await trio.sleep(3.9)
        assert incarnations(root) == {"a": 1, "b": 1}
        await trio.sleep(0.2)
        assert incarnations(root) == {"a": 2, "b": 2}
        root.stop()


async def test_failure_of_an_earlier_sibling_does_not_cut_a_backoff_short(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [
            puppet_spec("a", backoff=Backoff(min=1, max=1, jitter=0)),
            puppet_spec("b", backoff=Backoff(min=10, max=10, jitter=0)),
        ],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("b").send(BOOM)
        await trio.sleep(2)
        await root.address("a").send(BOOM)
        await trio.sleep(1.5)
        assert states(root) == {"a": "running", "b": "waiting"}
        await trio.sleep(6)
        assert states(root) == {"a": "running", "b": "waiting"}
        await trio.sleep(1)
        assert states(root) == {"a": "running", "b": "running"}
        root.stop()


async def test_member_that_fails_to_start_makes_its_own_decision(
    story: Story, autojump_clock: MockClock
) -> None:
    async def flaky(ctx: Context[Any]) -> None:
        if ctx.incarnation == 2:
            raise BOOM
        await steady(ctx)

    async def fails_once(ctx: Context[Any]) -> None:
        ctx.ready()
        if ctx.incarnation == 1:
            await trio.sleep(1)
            raise BOOM
        await ctx.stop_requested.wait()

    specs = [
        ChildSpec("a", lambda: fails_once),
        ChildSpec("b", lambda: flaky),
        ChildSpec("c", lambda: steady),
    ]
    root = Supervisor("root", specs, strategy=Strategy.REST_FOR_ONE)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await trio.sleep(2)
        lines = story(events)
        root.stop()
    assert lines[-9:] == [
        "root/a#2 starting",
        "root/a#2 started",
        "root/b#2 starting",
        "root/b#2 start_failed",
        "root/b#2 restart_scheduled",
        "root/b#3 starting",
        "root/b#3 started",
        "root/c#2 starting",
        "root/c#2 started",
    ]
    assert incarnations(root) == {"a": 2, "b": 3, "c": 2}


async def test_member_that_crashes_while_its_group_stops_is_only_a_bystander(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    async def slow_to_stop(ctx: Context[Any]) -> None:
        await steady(ctx)
        await trio.sleep(2)

    root = Supervisor(
        "root",
        [puppet_spec("a"), puppet_spec("b"), ChildSpec("c", lambda: slow_to_stop)],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(limit=1),
    )
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await trio.sleep(1)
        assert states(root) == {"a": "waiting", "b": "running", "c": "stopping"}
        await root.address("b").send(BOOM)
        await trio.sleep(2)
        assert incarnations(root) == {"a": 2, "b": 2, "c": 2}
        assert "root/b#1 exited" in story(events)
        root.stop()


async def test_earlier_sibling_that_fails_while_a_group_stops_takes_the_plan_over(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    async def slow_to_stop(ctx: Context[Any]) -> None:
        await steady(ctx)
        await trio.sleep(2)

    specs = [puppet_spec("a"), puppet_spec("b"), ChildSpec("c", lambda: slow_to_stop)]
    root = Supervisor("root", specs, strategy=Strategy.REST_FOR_ONE)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        story(events)
        await root.address("b").send(BOOM)
        await trio.sleep(1)
        await root.address("a").send(BOOM)
        await trio.sleep(3)
        assert incarnations(root) == {"a": 2, "b": 2, "c": 2}
        assert story(events) == [
            "root/b#1 exited",
            "root/c#1 stopping",
            "root/a#1 exited",
            "root/c#1 stopped",
            "root/a#1 restart_scheduled",
            "root/b#1 restart_scheduled",
            "root/a#2 starting",
            "root/a#2 started",
            "root/b#2 starting",
            "root/b#2 started",
            "root/c#2 starting",
            "root/c#2 started",
        ]
        root.stop()


# Intensity and escalation.


async def test_more_than_limit_restarts_escalate_with_the_causes_as_text(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root", [puppet_spec("a"), puppet_spec("b")], intensity=Intensity(limit=1, period=10)
    )
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_crash_every, root, "a", 1.0)
        with pytest.raises(SupervisorEscalation) as caught:
            await root.run()
        nursery.cancel_scope.cancel()
    assert str(caught.value) == (
        "root gave up: child a needed more than 1 restarts within 10 s; "
        "last exit: crash (ValueError: boom)"
    )
    assert (caught.value.path, caught.value.child) == ("root", "a")
    assert caught.value.reason.kind is ExitKind.CRASH
    assert story(events)[-5:] == [
        "root/a#2 exited",
        "root/a#2 intensity",
        "root#1 escalated",
        "root/b#1 stopping",
        "root/b#1 stopped",
    ]


async def _crash_every(supervisor: Supervisor, child_id: str, seconds: float) -> None:
    address = supervisor.address(child_id)
    while True:
        await trio.sleep(seconds)
        await address.send(BOOM)


async def test_restarts_spread_wider_than_the_period_go_on_for_ever(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    root = Supervisor("root", [puppet_spec("a")], intensity=Intensity(limit=2, period=10))
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        nursery.start_soon(_crash_every, root, "a", 6)
        await trio.sleep(600.5)
        assert incarnations(root) == {"a": 101}
        root.stop()
        nursery.cancel_scope.cancel()


async def test_expected_failures_back_off_and_spend_no_intensity(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    backoff = Backoff(min=1, max=8, jitter=0)
    spec = puppet_spec("a", expected=(OSError,), backoff=backoff)
    root = Supervisor("root", [spec], intensity=Intensity(limit=0))
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for _ in range(6):
            await root.address("a").send(ConnectionError("no network"))
            await trio.sleep(10)
        root.stop()
    delays = [event.delay async for event in events if event.kind == "restart_scheduled"]
    assert delays == [1, 2, 4, 8, 8, 8]


async def test_one_unexpected_leaf_makes_a_group_unexpected(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    group = ExceptionGroup("two", [OSError(), ValueError()])
    spec = puppet_spec("a", expected=(OSError,))
    root = Supervisor("root", [spec], intensity=Intensity(limit=0))
    root.address("a").send_nowait(group)
    with pytest.raises(SupervisorEscalation) as caught:
        await root.run()
    assert caught.value.reason.types == ("OSError", "ValueError")


async def test_giving_up_leaves_the_child_down_and_the_others_alone(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    intensity = Intensity(limit=1, scope="child", on_exhausted="give_up")
    root = Supervisor("root", [puppet_spec("a"), puppet_spec("b")], intensity=intensity)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for child in ("a", "b", "a"):
            await root.address(child).send(BOOM)
            await wait_all_tasks_blocked()
        assert states(root) == {"a": "gave_up", "b": "running"}
        assert story(events)[-2:] == ["root/a#2 intensity", "root/a#2 gave_up"]
        with pytest.raises(trio.BrokenResourceError):
            await root.address("a").send(None)
        root.stop()
    assert states(root) == {"a": "gave_up", "b": "stopped"}


async def test_giving_up_in_a_group_stops_the_group_and_leaves_it_down(
    puppet_spec: Spec, story: Story, autojump_clock: MockClock
) -> None:
    root = Supervisor(
        "root",
        [puppet_spec(each) for each in "abcd"],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(limit=0, on_exhausted="give_up"),
    )
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("d").send(BOOM)
        await wait_all_tasks_blocked()
        await root.address("b").send(BOOM)
        await wait_all_tasks_blocked()
        assert states(root) == {"a": "running", "b": "gave_up", "c": "stopped", "d": "gave_up"}
        assert story(events)[-4:] == [
            "root/b#1 intensity",
            "root/b#1 gave_up",
            "root/c#1 stopping",
            "root/c#1 stopped",
        ]
        root.stop()


async def test_giving_up_during_a_group_start_leaves_the_waiting_members_down(
    autojump_clock: MockClock,
) -> None:
    async def breaks(ctx: Context[Any]) -> None:
        if ctx.incarnation > 1:
            raise BOOM
        ctx.ready()
        await trio.sleep(1)
        raise BOOM

    root = Supervisor(
        "root",
        [_steady("a"), ChildSpec("b", lambda: breaks), _steady("c")],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(limit=1, on_exhausted="give_up"),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await trio.sleep(2)
        assert states(root) == {"a": "running", "b": "gave_up", "c": "stopped"}
        root.stop()


async def test_too_many_attempts_in_a_row_exhaust_even_if_expected(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    spec = puppet_spec("a", expected=(ValueError,), backoff=Backoff(min=0, max=0, max_attempts=2))
    root = Supervisor("root", [spec])
    for _ in range(3):
        root.address("a").send_nowait(BOOM)
    with pytest.raises(SupervisorEscalation, match="failed 3 times in a row"):
        await root.run()


# Backoff.


async def test_attempts_start_anew_after_the_child_was_ready_for_long(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    backoff = Backoff(min=1, max=30, jitter=0, reset_after=20)
    root = Supervisor("root", [puppet_spec("a", backoff=backoff)], intensity=MANY)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await root.address("a").send(BOOM)
        await trio.sleep(1 + 19.5)  # ready at 1
        await root.address("a").send(BOOM)
        await trio.sleep(2 + 20)  # ready at 22.5
        assert root.children()[0].attempt == 0
        await root.address("a").send(BOOM)
        await trio.sleep(0.5)
        assert root.children()[0].attempt == 1
        root.stop()
    found = [
        (event.delay, event.attempt) async for event in events if event.kind == "restart_scheduled"
    ]
    assert found == [(1, 1), (2, 2), (1, 1)]


async def test_actor_that_declares_itself_healthy_starts_anew(autojump_clock: MockClock) -> None:
    async def actor(ctx: Context[str]) -> None:
        async for order in ctx.inbox:
            if order == "healthy":
                ctx.reset_backoff()
            else:
                raise BOOM

    backoff = Backoff(min=1, max=30, jitter=0, reset_after=math.inf)
    spec: ChildSpec[Any] = ChildSpec("a", lambda: actor, backoff=backoff, mailbox=MailboxSpec())
    root = Supervisor("root", [spec], intensity=MANY)
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for order in ("crash", "crash", "healthy", "crash"):
            await root.address("a").send(order)
            await trio.sleep(1000)
            if order == "healthy":
                assert root.children()[0].attempt == 0
        root.stop()
    delays = [event.delay async for event in events if event.kind == "restart_scheduled"]
    assert delays == [1, 2, 1]


async def test_same_seed_makes_the_same_jitter_in_the_whole_tree(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    async def delays(seed: int, own: Random | None = None) -> list[float | None]:
        inner = Supervisor("inner", [puppet_spec("a", backoff=Backoff())], rng=own)
        root = Supervisor("root", [inner], rng=Random(seed))
        events = root.events.subscribe()
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            for _ in range(3):
                await inner.address("a").send(BOOM)
                await trio.sleep(60)
            root.stop()
        return [event.delay async for event in events if event.kind == "restart_scheduled"]

    first = await delays(7)
    assert first == await delays(7)
    assert first != await delays(8)
    assert await delays(7, Random(9)) == await delays(8, Random(9)) != first


async def test_children_answers_while_a_child_hangs_in_a_restart_loop(
    autojump_clock: MockClock,
) -> None:
    async def hangs(ctx: Context[Any]) -> None:
        if ctx.incarnation > 1:
            await trio.sleep_forever()
        ctx.ready()
        raise BOOM

    spec = ChildSpec(
        "a", lambda: hangs, start_timeout=5, shutdown=Shutdown(grace=1), backoff=Backoff()
    )
    root = Supervisor("root", [spec, _steady("b")], intensity=MANY)
    seen: set[str] = set()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for _ in range(200):
            await trio.sleep(0.5)
            before = trio.current_time()
            seen.add(states(root)["a"])
            root.tree()
            root.count()
            assert trio.current_time() == before
        assert states(root)["b"] == "running"
        root.stop()
    assert {"starting", "stopping", "restarting"} <= seen


# Mailboxes across restarts.


async def test_queued_messages_survive_a_restart_and_the_one_in_hand_is_reported(
    story: Story, autojump_clock: MockClock
) -> None:
    got: list[tuple[int, int]] = []

    async def actor(ctx: Context[int]) -> None:
        async for message in ctx.inbox:
            got.append((ctx.incarnation, message))
            if message == 2:
                raise BOOM

    root = Supervisor("root", [ChildSpec("a", lambda: actor, mailbox=MailboxSpec())])
    address = root.address("a")
    events = root.events.subscribe()
    for number in range(5):
        address.send_nowait(number)
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        root.stop()
    assert got == [(1, 0), (1, 1), (1, 2), (2, 3), (2, 4)]
    assert address.stats().lost_in_flight == 1
    kinds = [event.kind async for event in events]
    assert kinds.index(EventKind.EXITED) + 1 == kinds.index(EventKind.LOST_IN_FLIGHT)


async def test_mailbox_that_is_not_kept_is_emptied_when_the_incarnation_ends(
    autojump_clock: MockClock,
) -> None:
    got: list[int] = []

    async def actor(ctx: Context[int]) -> None:
        async for message in ctx.inbox:
            if message == 0:
                raise BOOM
            got.append(message)

    mailbox = MailboxSpec(keep_on_restart=False)
    backoff = Backoff(min=5, max=5)
    spec = ChildSpec("a", lambda: actor, mailbox=mailbox, backoff=backoff)
    root = Supervisor("root", [spec])
    address = root.address("a")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for number in (0, 1, 2):
            address.send_nowait(number)
        await trio.sleep(1)
        assert (address.stats().dropped, address.stats().depth) == (2, 0)
        await address.send(3)
        await trio.sleep(10)
        assert got == [3]
        root.stop()


async def test_what_a_stopping_group_still_sends_is_not_heard_by_the_next_incarnation(
    puppet_spec: Spec, autojump_clock: MockClock
) -> None:
    got: list[str] = []

    async def parser(ctx: Context[str]) -> None:
        while True:
            got.extend(await ctx.inbox.receive_batch())

    async def connection(ctx: Context[Any]) -> None:
        ctx.ready()
        await target.send(f"frame of {ctx.incarnation}")
        await ctx.stop_requested.wait()
        await target.send(f"last words of {ctx.incarnation}")

    root = Supervisor(
        "root",
        [
            puppet_spec("a"),
            ChildSpec("connection", lambda: connection),
            ChildSpec("parser", lambda: parser, mailbox=MailboxSpec(keep_on_restart=False)),
        ],
        strategy=Strategy.REST_FOR_ONE,
    )
    target = root.address("parser")
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await wait_all_tasks_blocked()
        await root.address("a").send(BOOM)
        await wait_all_tasks_blocked()
        assert got == ["frame of 1", "frame of 2"]
        assert target.stats().dropped == 1
        root.stop()


async def test_end_releases_senders_and_counts_what_nobody_read(autojump_clock: MockClock) -> None:
    spec = ChildSpec("a", lambda: steady, mailbox=MailboxSpec(size=1))
    root = Supervisor("root", [spec])
    address = root.address("a")
    released: list[str] = []

    async def send() -> None:
        try:
            await address.send("second")
        except trio.BrokenResourceError:
            released.append("second")

    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        await address.send("first")
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        root.stop()
    assert released == ["second"]
    assert (address.stats().dropped, address.stats().depth) == (1, 0)


def test_address_of_an_unknown_child_is_an_error() -> None:
    with pytest.raises(NotFound, match="root has no child of the id 'a'"):
        Supervisor("root").address("a")


async def test_own_event_stream_ends_with_the_root(autojump_clock: MockClock) -> None:
    root = Supervisor("root", [_steady("a")])
    events = root.events.subscribe()
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
    assert [event.seq async for event in events] == [1, 2, 3, 4]
