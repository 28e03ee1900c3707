"""What faults do to the messages of one session, pure: engine steps in, frames out."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.actors.venue.client import messages_in
from tests.actors.venue.replica import Replica

from polyactors.venue import FaultKind, FaultRecord, Venue, wire
from polyactors.venue.distortion import HOLD_SECONDS, STAGES, Distortion
from polyactors.venue.fault_life import Fault
from polyactors.venue.faults import DEFAULT_SECONDS
from polyactors.venue.wire import WireEvent

SEEDS = st.integers(0, 2**32)
SESSION = 7
STEP_SECONDS = 0.05
ONCE = [
    FaultKind.LOST_DELTA,
    FaultKind.LOST_IN_GROUP,
    FaultKind.LOST_GROUP,
    FaultKind.DUPLICATE,
    FaultKind.REORDER,
    FaultKind.GARBAGE,
]


class Channel:
    """One session that follows `tokens`, and the time."""

    def __init__(
        self, seed: int = 1, markets: int = 2, tokens: Iterable[int] | None = None
    ) -> None:
        self.rng = Random(f"{seed}:test")
        timestamps = count(1_789_156_413_823)
        self.venue = Venue(seed, markets, rate=0, now_ms=lambda: next(timestamps))
        every = self.venue.tokens
        self.tokens = every if tokens is None else [every[position] for position in tokens]
        self.distortion = Distortion(SESSION, Random(seed))
        self.now = 100.0
        self.faults: list[Fault] = []

    def aim(self, kind: FaultKind, token: str | None = None, seconds: float | None = None) -> Fault:
        record = FaultRecord(
            id=len(self.faults) + 1,
            kind=kind,
            token=token,
            tokens=tuple(self.tokens),
            session=SESSION,
            started=self.now,
            seconds=DEFAULT_SECONDS[kind] if seconds is None else seconds,
        )
        fault = Fault(record, [SESSION])
        self.faults.append(fault)
        self.distortion.aim(fault)
        return fault

    def said(self) -> list[WireEvent]:
        """What the next engine step says to this session, were it not for the faults."""
        cut = (event.for_session(self.tokens, custom=True) for event in self.venue.step())
        return [event for event in cut if event is not None]

    def step(self) -> tuple[list[WireEvent], list[str]]:
        """The next engine step: what was said, and the frames that came."""
        said = self.said()
        frames = self.distortion.distort(said, self.now)
        self.now += STEP_SECONDS
        return said, frames

    def until_struck(self, fault: Fault) -> tuple[list[WireEvent], list[str]]:
        """The step that a fault strikes; no frame of the steps before it may differ."""
        for _ in range(500):
            said, frames = self.step()
            if fault.record(self.now).struck is not None:
                return said, frames
            assert frames == texts(said)
        pytest.fail("it never strikes")


def texts(events: Iterable[WireEvent]) -> list[str]:
    return [event.text for event in events]


def changes(events: Iterable[WireEvent]) -> list[WireEvent]:
    return [event for event in events if event.kind == "price_change"]


def is_subsequence(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(text in rest for text in part)


def missing(said: list[WireEvent], frames: list[str]) -> list[WireEvent]:
    """The messages that did not come; what came is a subsequence of what was said."""
    assert is_subsequence(frames, texts(said))
    left = Counter(frames)
    gone: list[WireEvent] = []
    for event in reversed(said):
        if left[event.text]:
            left[event.text] -= 1
        else:
            gone.append(event)
    return gone[::-1]


def hashes(events: Iterable[WireEvent]) -> set[tuple[str, str]]:
    return {(part.token, part.hash) for event in events for part in event.parts}


def strikes(fault: Fault, now: float) -> set[tuple[str, str]]:
    record = fault.record(now)
    assert {strike.session for strike in record.strikes} <= {SESSION}
    return {(strike.token, strike.hash) for strike in record.strikes}


# Kind by kind


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_delta_is_one_change_and_hurts_both_tokens(seed: int) -> None:
    channel = Channel(seed)
    fault = channel.aim(FaultKind.LOST_DELTA)
    said, frames = channel.until_struck(fault)
    (lost,) = missing(said, frames)
    assert lost.kind == "price_change"
    assert strikes(fault, channel.now) == hashes([lost])
    assert len(fault.record(channel.now).hurt) == 2
    record = fault.record(channel.now)
    assert record.ended == record.struck
    assert channel.step()[1] != []


def test_what_a_session_with_one_token_loses_hurts_this_one_alone() -> None:
    channel = Channel(tokens=[1])
    fault = channel.aim(FaultKind.LOST_DELTA)
    channel.until_struck(fault)
    assert fault.record(channel.now).hurt == (channel.tokens[0],)


@pytest.mark.parametrize("seed", range(5))
def test_in_a_group_never_its_last_change_is_lost(seed: int) -> None:
    channel = Channel(seed)
    fault = channel.aim(FaultKind.LOST_IN_GROUP)
    said, frames = channel.until_struck(fault)
    (lost,) = missing(said, frames)
    group = changes(said)
    assert len(group) > 1
    assert lost.kind == "price_change"
    assert group[-1].text in frames
    assert strikes(fault, channel.now) == hashes(group)


@pytest.mark.parametrize("seed", range(8))
def test_of_a_lost_group_all_changes_are_lost_and_all_else_comes(seed: int) -> None:
    channel = Channel(seed)
    fault = channel.aim(FaultKind.LOST_GROUP)
    said, frames = channel.until_struck(fault)
    assert frames == texts(event for event in said if event.kind != "price_change")
    assert strikes(fault, channel.now) == hashes(changes(said))


def test_losses_spare_most_steps_with_a_trade_but_not_all() -> None:
    with_books = 0
    for seed in range(120):
        channel = Channel(seed)
        said, _ = channel.until_struck(channel.aim(FaultKind.LOST_GROUP))
        with_books += any(event.kind == "book" for event in said)
    assert 0 < with_books < 20


@pytest.mark.parametrize("kind", [kind for kind in ONCE if kind is not FaultKind.GARBAGE])
def test_with_a_token_a_change_of_this_token_is_taken(kind: FaultKind) -> None:
    for seed in range(6):
        channel = Channel(seed, markets=3)
        token = channel.tokens[-1]
        fault = channel.aim(kind, token)
        channel.until_struck(fault)
        assert token in fault.record(channel.now).hurt


def test_a_duplicate_comes_right_after_the_change() -> None:
    channel = Channel()
    fault = channel.aim(FaultKind.DUPLICATE)
    said, frames = channel.until_struck(fault)
    (twice,) = Counter(frames) - Counter(texts(said))
    first = frames.index(twice)
    assert frames[first : first + 2] == [twice, twice]
    assert frames[:first] + frames[first + 1 :] == texts(said)
    assert strikes(fault, channel.now) == hashes(e for e in said if e.text == twice)


@pytest.mark.parametrize("seed", range(12))
def test_reorder_swaps_two_neighbours_of_one_market(seed: int) -> None:
    channel = Channel(seed)
    fault = channel.aim(FaultKind.REORDER)
    said: list[WireEvent] = []
    frames: list[str] = []
    while fault.record(channel.now).ended is None:
        step, came = channel.step()
        said += step
        frames += came
    assert Counter(frames) == Counter(texts(said)), "nothing is lost"
    tokens = set(fault.record(channel.now).hurt)
    assert len(tokens) == 2
    of_market = [event for event in said if tokens & set(event.tokens)]
    others = [event.text for event in said if not tokens & set(event.tokens)]
    assert [text for text in frames if text in others] == others, "the others flow on"
    came = [text for text in frames if text not in others]
    places = [i for i, event in enumerate(of_market) if event.text != came[i]]
    assert places, "something changed places"
    first, last = of_market[places[0]], of_market[places[-1]]
    assert (first.kind, last.kind) == ("price_change", "price_change")
    between = of_market[places[0] + 1 : places[-1]]
    assert {event.kind for event in between} <= {"best_bid_ask"}
    assert came[places[-1]] == first.text


def holding(seed: int) -> tuple[Channel, Fault, WireEvent] | None:
    """A channel that holds a change back after its first step; None where it does not."""
    channel = Channel(seed, markets=1)
    fault = channel.aim(FaultKind.REORDER)
    said, frames = channel.step()
    if channel.distortion.release_at == math.inf:
        return None
    (held,) = missing(said, frames)
    return channel, fault, held


def test_a_change_that_has_no_neighbour_in_time_comes_late_but_in_its_place() -> None:
    channel, fault, held = next(filter(None, map(holding, range(50))))
    release_at = channel.distortion.release_at
    assert release_at == pytest.approx(channel.now - STEP_SECONDS + HOLD_SECONDS)
    assert channel.distortion.release(release_at - 0.01) == []
    assert channel.distortion.release(release_at) == [held.text]
    assert channel.distortion.release_at == math.inf
    assert fault.record(channel.now).ended is None, "it waits for a better chance"
    assert strikes(fault, channel.now) == hashes([held]), "it came late"


def test_what_is_held_back_too_long_goes_before_all_that_is_said_later() -> None:
    channel, _, held = next(filter(None, map(holding, range(50))))
    channel.now += HOLD_SECONDS
    _, frames = channel.step()
    assert frames[0] == held.text


def test_no_book_overtakes_a_change_that_is_held_back() -> None:
    overtaken = 0
    for channel, _, held in filter(None, map(holding, range(300))):
        states = [s for s in map(channel.venue.book_state, channel.tokens) if s is not None]
        books = wire.dump(states)
        assert channel.distortion.distort([books], channel.now) == [held.text, books.text]
        overtaken += 1
    assert overtaken > 50


def test_a_stall_loses_everything_while_it_lasts() -> None:
    channel = Channel()
    fault = channel.aim(FaultKind.STALL, seconds=1.0)
    lost: list[WireEvent] = []
    while channel.now < 101.0:
        said, frames = channel.step()
        assert frames == []
        lost += said
    assert set(fault.record(channel.now).hurt) == {t for event in lost for t in event.tokens}
    said, frames = channel.step()
    assert frames == texts(said)


@pytest.mark.parametrize("kind", [FaultKind.TOKEN_STALL, FaultKind.MIRROR])
def test_what_is_left_out_of_one_token_leaves_its_complement_alone(kind: FaultKind) -> None:
    channel = Channel()
    token = channel.tokens[2]
    fault = channel.aim(kind, token)
    lost: list[WireEvent] = []
    for _ in range(200):
        said, frames = channel.step()
        concerned = changes(said) if kind is FaultKind.MIRROR else said
        left = [e.keep(lambda part: part.token != token) if e in concerned else e for e in said]
        assert frames == [event.text for event in left if event is not None]
        lost += [event for event in concerned if token in event.tokens]
    assert lost
    assert fault.record(channel.now).hurt == (token,)
    assert fault.record(channel.now).strikes[0].hash == next(
        part.hash
        for event in reversed(lost)
        for part in event.parts
        if part.token == token
    )  # fmt: skip
    assert {event.kind for event in lost} == (
        {"price_change"}
        if kind is FaultKind.MIRROR
        else {"price_change", "book", "best_bid_ask", "last_trade_price"}
    )


def test_half_a_message_loses_what_it_said() -> None:
    channel = Channel()
    fault = channel.aim(FaultKind.GARBAGE)
    said, frames = channel.step()
    assert frames == [said[0].text[: len(said[0].text) // 2], *texts(said[1:])]
    assert fault.record(channel.now).hurt == tuple(said[0].tokens)


def test_faults_of_one_kind_take_turns() -> None:
    channel = Channel()
    faults = [channel.aim(FaultKind.LOST_GROUP) for _ in range(3)]
    while faults[-1].record(channel.now).struck is None:
        channel.step()
    times = [fault.record(channel.now).struck for fault in faults]
    assert times == sorted(set(times), key=str)


def test_a_fault_that_is_over_strikes_no_more() -> None:
    for kind in STAGES:
        channel = Channel()
        fault = channel.aim(kind, channel.tokens[0], seconds=1.0)
        channel.now += 1.0
        said, frames = channel.step()
        assert frames == texts(said)
        assert fault.record(channel.now).struck is None


# All together


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, kinds=st.lists(st.sampled_from(ONCE[:-1]), max_size=12))
def test_loss_doubling_and_swapping_touch_nothing_but_changes(
    seed: int, kinds: list[FaultKind]
) -> None:
    channel = Channel(seed)
    said: list[WireEvent] = []
    frames: list[str] = []
    for kind in kinds:
        channel.aim(kind)
        for _ in range(channel.rng.randint(0, 6)):
            step, came = channel.step()
            said += step
            frames += came
    frames += channel.distortion.release(channel.now + HOLD_SECONDS)
    doubled = Counter(frames) - Counter(texts(said))
    gone = Counter(texts(said)) - Counter(frames)
    assert sum(doubled.values()) <= kinds.count(FaultKind.DUPLICATE)
    touched = {event.text for event in changes(said)}
    assert set(doubled) | set(gone) <= touched
    untouched = [event.text for event in said if event.kind != "price_change"]
    assert [text for text in frames if text not in touched] == untouched
    if FaultKind.REORDER not in kinds:
        once = list(dict.fromkeys(frames))
        assert is_subsequence(once, texts(said))


def message_of(frame: str) -> list[dict[str, Any]]:
    try:
        value = json.loads(frame)
    except ValueError:
        return []
    return [m for m in messages_in(value) if m["event_type"] in ("book", "price_change")]


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, kinds=st.lists(st.sampled_from(STAGES), min_size=1, max_size=6))
def test_a_token_that_no_record_names_as_hurt_has_the_exchange_s_own_book(
    seed: int, kinds: list[FaultKind]
) -> None:
    channel = Channel(seed, markets=3)
    replica = Replica(channel.venue)
    for _ in range(40):
        if kinds and channel.rng.random() < 0.3:
            channel.aim(kinds.pop(), channel.rng.choice(channel.tokens), seconds=0.5)
        _, frames = channel.step()
        for message in (message for frame in frames for message in message_of(frame)):
            replica.take(message)
        hurt = {token for fault in channel.faults for token in fault.record(channel.now).hurt}
        for token, book in channel.venue.books().items():
            if token not in hurt:
                assert replica.levels(token) == (book["bids"], book["asks"])


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, kinds=st.lists(st.sampled_from(STAGES), max_size=8))
def test_a_distortion_tells_the_same_story_each_time(seed: int, kinds: list[FaultKind]) -> None:
    def story() -> list[str]:
        channel = Channel(seed)
        for kind in kinds:
            channel.aim(kind, channel.tokens[0])
        return [frame for _ in range(20) for frame in channel.step()[1]]

    assert story() == story()
