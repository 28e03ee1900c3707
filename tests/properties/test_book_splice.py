"""Splicing a REST book into a stream: right from the join on, for every way they can meet.

The truth is a stream of hash groups over a dictionary of levels, several groups a
millisecond. A REST book is the state after any group. The hash stands for state and time,
as the real one does, so a state that comes back within its millisecond has the same hash.
"""

from attrs import frozen
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from polyactors.book.splice import DeltaBuffer, RestSplice

State = dict[int, int]


@frozen
class Change:
    hash: str
    level: int
    size: int
    position: int
    """In the truth's stream."""


@frozen
class Group:
    timestamp_ms: int
    hash: str
    changes: tuple[Change, ...]
    after: State


def hash_of(timestamp_ms: int, state: State) -> str:
    return f"{timestamp_ms}:{sorted(state.items())}"


@st.composite
def truths(draw: st.DrawFn) -> list[Group]:
    """The first group has no changes: it is the book before the stream."""
    level = st.integers(0, 2)
    state: State = draw(st.dictionaries(level, st.integers(1, 3), max_size=3))
    timestamp_ms = 1000
    groups = [Group(timestamp_ms, hash_of(timestamp_ms, state), (), dict(state))]
    position = 0
    wanted = st.lists(st.tuples(level, st.integers(0, 3)), min_size=1, max_size=4)
    steps = st.lists(st.tuples(st.sampled_from([0, 0, 1]), wanted), min_size=1, max_size=10)
    for passed_ms, entries in draw(steps):
        timestamp_ms += passed_ms
        for key, size in entries:
            set_level(state, key, size)
        hash_ = hash_of(timestamp_ms, state)
        changes = tuple(
            Change(hash_, key, size, position + n) for n, (key, size) in enumerate(entries)
        )
        position += len(changes)
        groups.append(Group(timestamp_ms, hash_, changes, dict(state)))
    return groups


def set_level(state: State, level: int, size: int) -> None:
    if size:
        state[level] = size
    else:
        state.pop(level, None)


class Follower:
    """Applies what the splice hands over and compares with the truth at every group's end."""

    def __init__(self, groups: list[Group], rest: Group) -> None:
        self.groups = groups
        self.state = dict(rest.after)
        self.applied: list[int] = []
        self.ends = {group.changes[-1].position: group for group in groups if group.changes}

    def apply(self, entries: list[tuple[int, Change]]) -> None:
        for _, change in entries:
            set_level(self.state, change.level, change.size)
            self.applied.append(change.position)

    def check(self, splice: RestSplice[Change], position: int, *, from_position: int = -1) -> None:
        group = self.ends.get(position)
        if splice.joined and group is not None and position >= from_position:
            assert self.state == group.after

    def check_order(self) -> None:
        """Once begun, nothing is left out or repeated."""
        if self.applied:
            first = self.applied[0]
            assert self.applied == list(range(first, first + len(self.applied)))


def stream_of(groups: list[Group]) -> list[tuple[int, Change]]:
    return [(group.timestamp_ms, change) for group in groups for change in group.changes]


@given(st.data(), truths())
@settings(deadline=None, max_examples=500)
def test_a_rest_book_joins_the_stream_wherever_they_meet(
    data: st.DataObject, groups: list[Group]
) -> None:
    stream = stream_of(groups)
    rest_index = data.draw(st.integers(0, len(groups) - 1), label="REST book after group")
    rest = groups[rest_index]
    arrival = data.draw(st.integers(0, len(stream)), label="REST answer after entries")

    buffer = DeltaBuffer[Change](1000)
    for timestamp_ms, change in stream[:arrival]:
        buffer.add(timestamp_ms, change)
    spliced = buffer.splice(rest.hash, rest.timestamp_ms)
    assert spliced is not None, "nothing passed by: every book can be joined"
    splice, entries = spliced
    follower = Follower(groups, rest)
    follower.apply(entries)
    if arrival:
        follower.check(splice, arrival - 1)
    for timestamp_ms, change in stream[arrival:]:
        joined_before = splice.joined
        entries = splice.accept(timestamp_ms, change)
        if joined_before:
            assert entries == [(timestamp_ms, change)], "joined: nothing is filtered any more"
        follower.apply(entries)
        follower.check(splice, change.position)
    event("joined by the stream" if splice.joined else "joined by release")
    follower.apply(splice.release())
    assert splice.joined
    follower.check_order()
    assert follower.state == groups[-1].after
    # No change of a step up to the book's own is ever applied to it, where that can be known.
    if rest_index > 0:
        own = next(group for group in groups[1:] if group.hash == rest.hash)
        assert all(position > own.changes[-1].position for position in follower.applied)
        if stream[-1][0] > rest.timestamp_ms:
            assert follower.applied


@given(st.data(), truths())
@settings(deadline=None, max_examples=500)
def test_a_book_over_a_gap_is_refused_and_an_accepted_one_is_right(
    data: st.DataObject, groups: list[Group]
) -> None:
    stream = stream_of(groups)
    rest_index = data.draw(st.integers(0, len(groups) - 1), label="REST book after group")
    rest = groups[rest_index]
    begin = data.draw(st.integers(0, len(stream)), label="entries that passed by")
    arrival = data.draw(st.integers(begin, len(stream)), label="REST answer after entries")
    limit = data.draw(st.integers(1, 8), label="limit")

    buffer = DeltaBuffer[Change](limit)
    if begin:
        timestamp_ms, change = stream[begin - 1]
        buffer.pass_by(timestamp_ms, change.hash)
    for timestamp_ms, change in stream[begin:arrival]:
        buffer.add(timestamp_ms, change)
    assert len(buffer) <= limit
    kept_from = arrival - len(buffer)
    spliced = buffer.splice(rest.hash, rest.timestamp_ms)

    needed_from = rest.changes[-1].position + 1 if rest.changes else 0
    if spliced is None:
        event("refused")
        newest_ms, newest = stream[kept_from - 1]
        assert kept_from > 0
        assert rest.timestamp_ms <= newest_ms
        assert rest.hash != newest.hash
        assert all(change.hash != rest.hash for _, change in stream[kept_from:arrival])
        return
    splice, entries = spliced
    event("accepted")
    follower = Follower(groups, rest)
    follower.apply(entries)
    assert splice.held <= limit
    if arrival:
        follower.check(splice, arrival - 1, from_position=needed_from)
    for timestamp_ms, change in stream[arrival:]:
        follower.apply(splice.accept(timestamp_ms, change))
        assert splice.held <= limit
        follower.check(splice, change.position, from_position=needed_from)
    follower.apply(splice.release())
    follower.check_order()
    assert follower.state == groups[-1].after


@given(st.data(), truths())
@settings(deadline=None)
def test_without_hashes_the_book_is_right_once_a_later_millisecond_has_come(
    data: st.DataObject, groups: list[Group]
) -> None:
    rest = groups[data.draw(st.integers(0, len(groups) - 1), label="REST book after group")]
    later = [group for group in groups if group.timestamp_ms > rest.timestamp_ms]
    assume(later)
    splice = RestSplice[Change]("", rest.timestamp_ms, 1000)
    follower = Follower(groups, rest)
    for timestamp_ms, change in stream_of(groups):
        nameless = Change("", change.level, change.size, change.position)
        follower.apply(splice.accept(timestamp_ms, nameless))
        follower.check(splice, change.position)
    assert splice.joined
    follower.check_order()
    assert follower.state == groups[-1].after
