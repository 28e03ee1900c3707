"""What could keep a wrong book LIVE for ever, or call a right one wrong: one test for each way.

A server whose clock goes astray, that repeats old books or reorders steps, whose REST side is
ahead, behind or empty: whatever it does, a book that differs from the exchange's must not stay
LIVE for longer than the audit takes.
"""

import time
from decimal import Decimal

import pytest
import trio
from attrs import evolve
from tests.actors.shard_bench import MARKET, NO, YES, Bench, book, change, delta
from tests.actors.test_checks import HashBench, Truth

from polyactors.book.groups import QUIET_SECONDS
from polyactors.book.numbers import parse_units
from polyactors.book.trust import StaleReason, TrustState
from polyactors.books import BATCHES_PER_WAKE_MAX, LATE_SECONDS, run_shard
from polyactors.comparison import AUDIT_GRACE_SECONDS, BEHIND_SECONDS_MAX
from polyactors.config import Settings
from polyactors.environment import Environment
from polyactors.events import Gap
from polyactors.feed import Feed
from polyactors.messages import (
    Audited,
    FetchBook,
    Missed,
    Parsed,
    RestBook,
    Resync,
    ShardMessage,
)
from polyactors.protocol.events import BookSnapshot, TickSizeChange
from polyactors.shard import SPLICE_SECONDS_MAX, BookShard
from polysupervisor import ChildSpec, Context, MailboxSpec, Supervisor

LIVE = (TrustState.LIVE, None)
DEEP = (("0.3", "99"), ("0.4", "10"), ("0.5", "20"))
"""The bids of `book` and one below them."""


@pytest.fixture
def bench() -> Bench:
    """Both books are LIVE."""
    bench = Bench()
    bench.up()
    bench.feed_in(book(), book(NO))
    bench.events()
    bench.asked()
    return bench


def is_right(bench: Bench, truth: BookSnapshot) -> bool:
    return bench.shard.books[YES].has_levels(truth)


def audit(bench: Bench, truth: BookSnapshot, *, epoch: int = 1, seconds: float = 30.0) -> None:
    """A round of the audit, its second question included."""
    for wait in (AUDIT_GRACE_SECONDS + 1.0, seconds):
        bench.shard.audited(Audited("feed-0", epoch, (truth,), ()), bench.now)
        bench.wait(wait)


# --- the audit -----------------------------------------------------------------------------


def test_an_old_book_that_comes_again_is_no_cure(bench: Bench) -> None:
    bench.feed_in(delta(change("0.3", "99", book_hash="h1"), at=1001))
    bench.wait(1.0)
    bench.feed_in(book(at=1000))
    assert bench.state()[0] is not TrustState.LIVE
    assert bench.env.statistics.desyncs_by_reason == {"book_mismatch": 1}
    assert bench.asked() == [Resync(YES, StaleReason.BOOK_MISMATCH)]


def test_steps_in_the_wrong_order_are_found_by_the_audit(bench: Bench) -> None:
    bench.feed_in(
        delta(change("0.3", "99", book_hash="h2"), at=1002),
        delta(change("0.3", "7", book_hash="h1"), at=1001),
    )
    bench.wait(1.0)
    truth = book(bids=DEEP, book_hash="h2", at=1002)
    assert not is_right(bench, truth)
    audit(bench, truth)
    assert bench.state()[0] is not TrustState.LIVE


def test_a_first_book_from_before_the_last_session_is_found_by_the_audit(bench: Bench) -> None:
    bench.feed_in(delta(change("0.3", "99", book_hash="h1"), at=1001))
    bench.wait(1.0)
    bench.down()
    bench.up(2)
    bench.feed_in(book(), epoch=2)
    audit(bench, book(bids=DEEP, book_hash="h1", at=1001), epoch=2)
    assert bench.state()[0] is not TrustState.LIVE


def test_steps_of_one_millisecond_in_the_wrong_order_are_found_by_the_audit(bench: Bench) -> None:
    for size, book_hash in (("99", "h2"), ("7", "h1")):
        bench.feed_in(delta(change("0.3", size, book_hash=book_hash), at=1001))
    bench.wait(1.0)
    audit(bench, book(bids=DEEP, book_hash="h2", at=1001))
    assert bench.state()[0] is not TrustState.LIVE


def test_a_clock_of_the_exchange_that_went_astray_does_not_blind_the_audit(bench: Bench) -> None:
    bench.feed_in(delta(change("0.3", "99", book_hash="h1"), at=10**13))
    bench.wait(1.0)
    truth = book(bids=(*DEEP, ("0.55", "1")), book_hash="h2", at=1002)  # the last step is lost
    audit(bench, truth)
    assert bench.state() == LIVE, "REST may be behind"
    for _ in range(int(BEHIND_SECONDS_MAX / 30)):
        audit(bench, truth)
    assert bench.state()[0] is not TrustState.LIVE


def audited_while_others_flow(bench: Bench, truth: BookSnapshot, seconds: int) -> None:
    """REST is asked every second, and the feed brings changes of the other token, from long ago."""
    for number in range(seconds):
        bench.shard.audited(Audited("feed-0", 1, (truth,), ()), bench.now)
        step = change("0.3", str(number + 1), token=NO, book_hash=f"n{number}")
        bench.feed_in(delta(step, at=2000 + number))
        bench.feed.last_data_seconds = bench.now
        bench.wait(1.0)


def test_a_stream_that_has_not_come_so_far_yet_is_given_the_time_it_takes(bench: Bench) -> None:
    truth = book(bids=DEEP, book_hash="h9", at=9000)
    audited_while_others_flow(bench, truth, seconds=30)
    assert bench.state() == LIVE
    bench.feed_in(delta(change("0.3", "99", book_hash="h9"), at=9000))
    audit(bench, truth)
    assert bench.state() == LIVE
    assert bench.env.statistics.audits_ok == 1


def test_a_stream_that_never_comes_so_far_is_not_believed_for_ever(bench: Bench) -> None:
    truth = book(bids=DEEP, book_hash="h9", at=9000)
    audited_while_others_flow(bench, truth, seconds=int(BEHIND_SECONDS_MAX) + 3)
    assert bench.state()[0] is not TrustState.LIVE


def test_a_stream_that_has_passed_by_is_not_waited_for(bench: Bench) -> None:
    audited_while_others_flow(bench, book(bids=DEEP, book_hash="h9", at=1999), seconds=5)
    assert bench.state()[0] is not TrustState.LIVE


def test_rest_may_be_behind_a_book_that_moves_for_as_long_as_it_likes(bench: Bench) -> None:
    for number in range(20):
        step = change("0.3", str(number + 1), book_hash=f"g{number}")
        bench.feed_in(delta(step, at=2000 + number))
        audit(bench, book(at=1000))
    assert bench.state() == LIVE
    assert bench.env.statistics.audits_behind == 40


def test_a_token_that_rest_knows_again_is_resubscribed(bench: Bench) -> None:
    for _ in range(2):
        bench.shard.audited(Audited("feed-0", 1, (), (YES,)), bench.now)
        bench.wait(30.0)
    assert bench.state() == (TrustState.STALE, StaleReason.UNKNOWN_TOKEN)
    bench.wait(3600.0)
    assert bench.asked() == []
    for _ in range(2):  # once is enough
        bench.shard.audited(Audited("feed-0", 1, (book(),), ()), bench.now)
    assert bench.asked() == [Resync(YES, StaleReason.UNKNOWN_TOKEN)]
    bench.feed_in(book())
    assert bench.state() == LIVE


# --- whole books ---------------------------------------------------------------------------


def test_a_crossed_book_is_never_live_however_fresh() -> None:
    bench = Bench()
    bench.up()
    crossed = book(bids=(("0.6", "1"),), asks=(("0.5", "1"),))
    for _ in range(3):
        bench.feed_in(crossed)
        assert bench.state() != LIVE
        bench.wait(2.0)
    assert {type(request) for request in bench.asked()} == {Resync, FetchBook}
    bench.feed_in(book())
    assert bench.state() == LIVE


def test_a_book_that_states_the_tick_size_is_compared_as_well(bench: Bench) -> None:
    for number, bid in enumerate(("0.4", "0.3")):
        other = book(bids=((bid, "1"),), book_hash=bid, at=1005 + number)
        bench.feed_in(evolve(other, tick_size="0.01"))
        assert bench.env.statistics.desyncs_by_reason["book_mismatch"] == 1 + number
        assert bench.state() == LIVE


def test_a_group_that_a_first_book_ends_is_judged(bench: Bench) -> None:
    bench.shard.books[YES].books_due = 1  # of the subscription before, which came to nothing
    wrong = delta(change("0.3", "99", book_hash="h1", bid="0.51"), at=1001)
    bench.feed_in(wrong, evolve(book(book_hash="h9", at=1005), tick_size="0.01"))
    assert bench.env.statistics.desyncs_by_reason == {"top_mismatch": 1}
    assert bench.state() == LIVE


@pytest.mark.parametrize(
    ("rest_hash", "rest_ms", "stream_hash", "stream_ms"),
    [
        pytest.param("hr", 10**13, "g{}", 2000, id="REST lives in the future"),
        pytest.param("hr", 1000, "g{}", 0, id="the stream states no time"),
        pytest.param("x", 1000, "x", 2000, id="all hashes are the same"),
    ],
)
def test_changes_are_not_taken_for_part_of_a_rest_book_for_ever(
    rest_hash: str, rest_ms: int, stream_hash: str, stream_ms: int
) -> None:
    bench = Bench()
    bench.up()
    bench.wait(21.0)
    assert any(isinstance(request, FetchBook) for request in bench.asked())
    theirs = book(book_hash=rest_hash, at=rest_ms)
    bench.shard.rest_book(RestBook("feed-0", 1, YES, theirs, False), bench.now)
    assert bench.state() == LIVE
    for number in range(int(SPLICE_SECONDS_MAX) + 2):
        step = change("0.55", str(number + 1), book_hash=stream_hash.format(number), bid="0.55")
        bench.feed_in(delta(step, at=stream_ms))
        bench.wait(1.0)
    is_wrong = bench.shard.books[YES].book.best_bid_units != parse_units("0.55")
    assert is_wrong
    assert bench.state() != LIVE


# --- hash checks ---------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize(
    ("old", "new"), [("0.0025", "0.01"), ("0.0001", "0.001"), ("0.01", "0.0025"), ("0.01", "0.001")]
)
def test_a_new_tick_size_makes_no_right_book_wrong(old: str, new: str, steps: int) -> None:
    bench = HashBench()
    truth = Truth()
    truth.tick_size = old
    bench.feed_in(truth.first())
    bench.cost_seconds = 0.05  # its hash spends the budget for long: the next waits for its turn
    for size in ("10", "11"):
        bench.feed_in(truth.step(("0.3", size)))
        bench.wait(0.5)
    assert bench.env.statistics.hash_checks == 2
    bench.feed_in(TickSizeChange(YES, MARKET, Decimal(old), Decimal(new), truth.at))
    truth.tick_size = new
    bench.wait(100.0)
    for number in range(steps - 1):
        bench.feed_in(truth.step(("0.3", str(20 + number))))
        bench.wait(30.0)
    assert bench.state() == LIVE
    assert bench.env.statistics.desyncs == 0
    truth.step(("0.31", "5"))  # lost
    bench.feed_in(truth.step(("0.3", "12")))
    bench.wait(30.0)
    bench.feed_in(truth.step(("0.3", "13")))
    bench.wait(30.0)
    fine = "0.0001" in (old, new)
    assert bench.env.statistics.desyncs >= (0 if fine else 1)


# --- gaps ----------------------------------------------------------------------------------


def gaps(bench: Bench) -> list[StaleReason]:
    return [event.reason for event in bench.events() if isinstance(event, Gap)]


def test_what_passes_by_a_new_subscription_is_told(bench: Bench) -> None:
    bench.feed_in(Missed((YES,), StaleReason.PARSE_FAILURE))
    assert gaps(bench) == [StaleReason.PARSE_FAILURE], "one for both, what was lost and what may be"
    bench.wait(12.0)  # the book does not come, REST is asked, and does not answer
    bench.shard.rest_book(RestBook("feed-0", 1, YES, None, False), bench.now)
    assert gaps(bench) == []
    bench.wait(3.0)
    assert bench.asked()[-1] == Resync(YES, StaleReason.PARSE_FAILURE)
    assert gaps(bench) == [StaleReason.PARSE_FAILURE]


def test_a_first_book_that_never_came_or_is_wrong_makes_a_gap() -> None:
    bench = HashBench()
    bench.feed_in(Truth().snapshot(hash="f" * 40))
    assert gaps(bench) == [StaleReason.HASH_MISMATCH]
    other = Bench()
    other.up()
    other.wait(10.0)
    assert gaps(other) == [StaleReason.NEVER_DELIVERED] * 2


# --- quiet ---------------------------------------------------------------------------------


def test_a_shard_that_is_not_caught_up_believes_no_quiet(bench: Bench) -> None:
    bench.feed_in(delta(change("0.5", "0", bid="0.55")))  # the first half of a step
    for _ in range(3):
        bench.now += 2 * QUIET_SECONDS
        bench.shard.on_time(bench.now, is_caught_up=False)
    assert bench.state() == LIVE
    assert bench.shard.next_due(bench.now) == bench.now + QUIET_SECONDS
    bench.wait(QUIET_SECONDS)
    assert bench.env.statistics.desyncs_by_reason == {"top_mismatch": 1}


def parsed(*events: object) -> Parsed:
    return Parsed("feed-0", 1, 0, list(events))  # type: ignore[arg-type]


class Running:
    """A shard as an actor, on the real clock; each batch takes it `work_seconds`."""

    def __init__(self, *, work_seconds: float = 0.0) -> None:
        self.env = Environment(Settings())
        self.feed = Feed("feed-0", (YES, NO), self.env)

        async def shard(ctx: Context[ShardMessage]) -> None:
            await run_shard(ctx, self.feed, lambda: None, lambda: None, Slow)

        class Slow(BookShard):
            def apply(self, batch: Parsed, now: float, *, is_behind: bool = False) -> None:
                super().apply(batch, now, is_behind=is_behind)
                time.sleep(work_seconds)

        spec = ChildSpec(id="books", factory=lambda: shard, mailbox=MailboxSpec(size=2048))
        self.root = Supervisor("root", [spec])

    async def begin(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.root.run)
        self.feed.session_up(1)
        self.send(book(), book(NO))
        await trio.sleep(0.01)

    def send(self, *events: object) -> None:
        self.root.address("books").send_nowait(parsed(*events))


async def settled(run: Running) -> None:
    # The events of the books speak of every change as well.
    while not all(run.feed.reading(token).settled for token in (YES, NO)):  # noqa: ASYNC110
        await trio.sleep(0.01)


async def test_what_waits_in_the_mailbox_is_no_quiet() -> None:
    run = Running(work_seconds=2 * QUIET_SECONDS / BATCHES_PER_WAKE_MAX)
    async with trio.open_nursery() as nursery:
        await run.begin(nursery)
        run.send(delta(change("0.5", "0", bid="0.55")))  # the first half of a step
        for number in range(BATCHES_PER_WAKE_MAX - 1):
            run.send(delta(change("0.3", str(number), token=NO, book_hash=f"n{number}")))
        run.send(delta(change("0.55", "3", bid="0.55")))  # and the other
        with trio.fail_after(30.0):
            await settled(run)
        nursery.cancel_scope.cancel()
    assert run.env.statistics.desyncs == 0


async def test_a_loop_that_was_held_up_knows_of_no_quiet() -> None:
    run = Running()
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            await run.begin(nursery)
            to_parser, frames = trio.open_memory_channel[bytes](10)

            async def connection() -> None:
                while True:
                    await to_parser.send(await theirs.recv(1))

            async def parser() -> None:
                async for _ in frames:
                    run.send(delta(change("0.55", "3", bid="0.55")))

            nursery.start_soon(connection)
            nursery.start_soon(parser)
            run.send(delta(change("0.5", "0", bid="0.55")))
            await trio.sleep(0.01)
            await ours.send(b"x")  # the rest of the step lies in the socket
            time.sleep(QUIET_SECONDS + 2 * LATE_SECONDS)  # noqa: ASYNC251 - as a user's actor may
            with trio.fail_after(5.0):
                await settled(run)
            nursery.cancel_scope.cancel()
    assert run.env.statistics.desyncs == 0
