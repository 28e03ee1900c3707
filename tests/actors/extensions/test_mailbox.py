"""The mailbox of a user's actor: bounded, in order, and honest about what it gave up."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
import trio
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import (
    AccountStateChanged,
    ActorEvent,
    BookUpdated,
    Event,
    Gap,
    RawFrame,
    TradePrinted,
    TrustChanged,
)
from polyactors.extensions.mailbox import Mailbox
from polyactors.extensions.policy import ActorPolicy, Overflow
from polyactors.extensions.takes import Takes
from polyactors.stream import EventHub
from polyactors.user.state import AccountReason, AccountState

NOW_NS = 7


@frozen
class Note:
    time_ns: int


ALL = (
    BookUpdated,
    TradePrinted,
    TrustChanged,
    AccountStateChanged,
    ActorEvent,
    Gap,
    RawFrame,
    Note,
)


def box(
    hub: EventHub, limit: int = 8, overflow: Overflow = "coalesce", kinds: Sequence[type] = ALL
) -> Mailbox:
    policy = ActorPolicy(mailbox=limit, overflow=overflow)
    return Mailbox("me", hub, lambda: NOW_NS, Takes(tuple(kinds), False, False), policy)


def update(number: int, token: str = "1") -> BookUpdated:
    values: dict[str, Any] = {"best_bid": None, "best_ask": None, "bids": 0, "asks": 0}
    return BookUpdated(
        time_ns=number, token=token, market="0x1", epoch=1, cause="delta", settled=False, **values
    )


def trade(number: int, token: str = "1") -> TradePrinted:
    return TradePrinted(
        time_ns=number, token=token, market="0x1", epoch=1, price=Decimal("0.5"), size=Decimal(1),
        side="BUY", timestamp_ms=number,
    )  # fmt: skip


def trust(number: int, token: str = "1") -> TrustChanged:
    return TrustChanged(
        time_ns=number, token=token, market="0x1", epoch=1, state=TrustState.STALE,
        previous=TrustState.LIVE, reason=StaleReason.CROSSED,
    )  # fmt: skip


def account(number: int) -> AccountStateChanged:
    return AccountStateChanged(
        time_ns=number, epoch=1, state=AccountState.STALE, previous=AccountState.LIVE,
        reason=AccountReason.DISCONNECTED,
    )  # fmt: skip


def said(number: int, actor: str) -> ActorEvent:
    return ActorEvent(time_ns=number, actor=actor, name="x", data={})


def frame(number: int) -> RawFrame:
    return RawFrame(time_ns=number, feed="feed-0", epoch=1, frame="[]")


def is_marker(message: object) -> bool:
    return isinstance(message, Gap) and message.reason is StaleReason.OVERFLOW


# --- as a model ---------------------------------------------------------------------------

KINDS = ("update", "trade", "trust", "account", "note", "frame", "mine")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KINDS), st.sampled_from("123"), st.integers(1, 6)),
        st.tuples(st.just("take"), st.just(""), st.integers(1, 6)),
        st.tuples(st.just("take_all"), st.just(""), st.just(1)),
        st.tuples(st.just("restart"), st.just(""), st.just(1)),
    ),
    max_size=60,
)


class Model:
    """A mailbox, and all that was ever put into it."""

    def __init__(self, limit: int, overflow: Overflow) -> None:
        self.hub = EventHub(lambda: NOW_NS)
        self.limit = limit
        self.mailbox = box(self.hub, limit, overflow)
        self.number = 0
        self.put: list[Any] = []
        self.taken: list[Any] = []

    def step(self, kind: str, token: str, count: int) -> None:
        if kind == "take":
            for _ in range(min(count, self.mailbox.held)):
                self.taken.append(self.take_one())
        elif kind == "take_all":
            self.taken += self.mailbox.take_all()
        elif kind == "restart":
            self.mailbox.reopen()
            self.mailbox.begin_afresh()
        else:
            self.add(kind, token, count)

    def take_one(self) -> object:
        (message, *rest) = self.mailbox.take_all()
        for one in rest:  # nothing public takes one without waiting
            self.mailbox._events.append(one)  # pyright: ignore[reportPrivateUsage]
        return message

    def add(self, kind: str, token: str, count: int) -> None:
        messages: list[Any] = []
        for _ in range(count):
            self.number += 1
            make: Any = {"update": update, "trade": trade, "trust": trust}.get(kind)
            if make is not None:
                messages.append(make(self.number, token))
            elif kind == "mine":
                messages.append(said(self.number, "me"))
            else:
                other: Any = {"account": account, "note": Note, "frame": frame}[kind]
                messages.append(other(self.number))
        if kind == "note":
            for message in messages:
                self.mailbox.put(message)
        elif kind == "frame":
            self.hub.publish_frames(messages)
        else:
            self.hub.publish(messages)
        if kind != "mine":
            self.put += messages

    @property
    def held(self) -> list[Any]:
        return list(self.mailbox._events)  # pyright: ignore[reportPrivateUsage]


@given(STEPS, st.integers(2, 12), st.sampled_from(["coalesce", "drop_oldest", "restart"]))
def test_the_bound_and_the_order_hold_and_every_message_is_accounted_for(
    steps: list[tuple[str, str, int]], limit: int, overflow: Overflow
) -> None:
    model = Model(limit, overflow)
    for step in steps:
        lost = model.mailbox.lost
        model.step(*step)
        assert model.mailbox.held <= limit
        if model.mailbox.lost > lost:
            if overflow == "restart":
                assert model.mailbox.has_overflowed
            else:
                assert is_marker(model.held[0])
        assert not any(isinstance(one, ActorEvent) for one in model.held)
    seen = [one for one in (*model.taken, *model.held) if not is_marker(one)]
    numbers = [one.time_ns for one in seen]
    assert numbers == sorted(set(numbers))
    gone = model.mailbox.lost + model.mailbox.coalesced
    assert len(seen) + gone == len(model.put)
    if overflow != "coalesce":
        assert model.mailbox.coalesced == 0


TRUST_ROOM = 3 + 1
"""Of three tokens and the account."""


@given(STEPS, st.integers(2 * (TRUST_ROOM + 1), 24))
def test_coalescing_never_loses_the_last_trust_change(
    steps: list[tuple[str, str, int]], limit: int
) -> None:
    model = Model(limit, "coalesce")
    for step in steps:
        model.step(*step)
    seen = (*model.taken, *model.held)
    for kind in (TrustChanged, AccountStateChanged):
        last = {getattr(one, "token", None): one for one in model.put if isinstance(one, kind)}
        assert all(one in seen for one in last.values())


@given(STEPS, st.integers(2 * (2 * 3 + 1 + 1), 40))
def test_coalescing_never_loses_the_last_update(
    steps: list[tuple[str, str, int]], limit: int
) -> None:
    model = Model(limit, "coalesce")
    for step in steps:
        model.step(*step)
    seen = (*model.taken, *model.held)
    last = {one.token: one for one in model.put if isinstance(one, BookUpdated)}
    assert all(one in seen for one in last.values())


@given(st.integers(2, 50), st.integers(1, 200))
def test_dropping_the_oldest_leaves_the_newest(limit: int, count: int) -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub, limit, "drop_oldest")
    for number in range(count):
        hub.publish([trade(number)])
    kept = [one for one in mailbox.take_all() if not is_marker(one)]
    assert kept == [trade(number) for number in range(count - len(kept), count)]
    assert mailbox.lost == count - len(kept)
    assert len(kept) >= min(count, max(limit // 2 - 1, 0))


def test_trust_changes_go_after_updates() -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub, 10)
    changes: list[Event] = [trust(1, "1"), trust(2, "2"), trust(3, "3"), account(4)]
    hub.publish(changes)
    hub.publish([update(5, "1"), update(6, "2"), update(7, "3")])
    hub.publish([trade(number) for number in range(8, 20)])
    marker, *kept = mailbox.take_all()
    assert is_marker(marker)
    assert kept == changes


# --- one by one ---------------------------------------------------------------------------


async def test_updates_of_a_token_coalesce_before_anything_is_lost() -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub, 8, kinds=(BookUpdated, TradePrinted))
    hub.publish([trade(0), *(update(number) for number in range(1, 9))])
    assert [await mailbox.receive(), await mailbox.receive()] == [trade(0), update(8)]
    assert (mailbox.coalesced, mailbox.lost) == (7, 0)


async def test_a_restart_on_overflow_is_told_at_the_next_receive() -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub, 4, "restart")
    hub.publish([trade(number) for number in range(5)])
    assert mailbox.held == 0
    assert mailbox.lost == 5
    hub.publish([trade(5)])
    assert await mailbox.receive() is None
    assert mailbox.has_overflowed
    mailbox.begin_afresh()
    assert await mailbox.receive() == trade(5)


async def test_only_what_is_taken_comes_in() -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub, kinds=(TrustChanged, Note))
    assert not hub.wants_frames
    hub.publish([update(1), trust(2)])
    hub.publish_frames([frame(3)])
    mailbox.put(Note(4))
    assert mailbox.take_all() == [trust(2), Note(4)]


async def test_frames_come_in_their_order_with_the_rest() -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub, kinds=(RawFrame, BookUpdated))
    assert hub.wants_frames
    hub.publish_frames([frame(1), frame(2)])
    hub.publish([update(3)])
    assert mailbox.take_all() == [frame(1), frame(2), update(3)]


async def test_events_of_other_actors_come_and_ones_own_do_not() -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub)
    hub.publish([said(1, "me"), said(2, "other"), update(3)])
    assert mailbox.take_all() == [said(2, "other"), update(3)]


async def test_nobody_waits_for_it_however_full_it_is() -> None:
    hub = EventHub(lambda: NOW_NS)
    box(hub, 4)
    hub.publish([trade(number) for number in range(4)])
    assert not hub.is_crowded


async def test_receiving_waits_and_gives_way(autojump_clock: trio.testing.MockClock) -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub)
    got: list[object] = []

    async def receive() -> None:
        while True:
            got.append(await mailbox.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.sleep(1)
        assert got == []
        hub.publish([trade(1), trade(2)])
        assert got == []
        await trio.sleep(1)
        assert got == [trade(1), trade(2)]
        nursery.cancel_scope.cancel()


async def test_the_end_comes_after_what_waits_and_the_next_incarnation_goes_on() -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub)
    hub.publish([trade(1)])
    mailbox.end()
    assert await mailbox.receive() == trade(1)
    with pytest.raises(trio.EndOfChannel):
        await mailbox.receive()
    mailbox.reopen()
    hub.publish([trade(2)])
    assert await mailbox.receive() == trade(2)


async def test_what_is_closed_keeps_nothing_and_says_what_it_lost() -> None:
    hub = EventHub(lambda: NOW_NS)
    mailbox = box(hub)
    hub.publish([trade(1)])
    mailbox.close()
    mailbox.close()
    assert not hub.wants_frames
    events: list[Event] = [trade(2)]
    hub.publish(events)
    hub.publish_frames([frame(3)])
    mailbox.put(Note(4))
    assert mailbox.held == 0
    assert mailbox.lost == 2  # what waited, and what was sent; it takes no part in the stream
