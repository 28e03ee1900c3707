"""What proving books right costs, as ratios to applying the changes that are proven.

``python tests/benchmarks/bench_integrity.py [--quick]`` prints a Markdown table. The shapes take
turns in one run, so that a busy machine slows all of them.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from itertools import count

from polyactors.book.trust import TrustState
from polyactors.book.verify import HashCheck, HashInputs, Verdict
from polyactors.config import Settings
from polyactors.environment import Environment
from polyactors.feed import Feed
from polyactors.messages import Parsed
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import BookSnapshot, MarketEvent
from polyactors.shard import BookShard
from polyactors.venue.exchange import Venue

TOKENS = 20
STEPS = 4000


def recording(markets: int, steps: int) -> tuple[Venue, list[MarketEvent], list[list[MarketEvent]]]:
    """First books, and what the channel says of each engine step; steps 5 ms apart."""
    times = count(1_700_000_000_000, 5)
    venue = Venue(1, markets, 0, now_ms=lambda: next(times))
    codec = MarketCodec()

    def decoded(text: str) -> list[MarketEvent]:
        return list(codec.receive_frame(text).events)

    books = [{"event_type": "book", **book} for book in venue.books().values()]
    first = decoded(json.dumps(books))
    said: list[list[MarketEvent]] = []
    for _ in range(steps):
        texts = (event.text_for(venue.tokens, custom=False) for event in venue.step())
        said.append([event for text in texts if text for event in decoded(text)])
    return venue, first, said


def run_shard(
    venue: Venue, first: list[MarketEvent], said: list[list[MarketEvent]], percent: float
) -> tuple[float, float, int]:
    """Seconds of processor time without the hashes, share of a core that these took in the
    time of the recording, and books that were hashed."""
    env = Environment(Settings(hash_budget_percent=percent))
    for token, book in venue.books().items():
        neg_risk = bool(book["neg_risk"])
        env.hash_inputs[token] = HashInputs(str(book["tick_size"]), "5", neg_risk)
    feed = Feed("feed-0", venue.tokens, env)
    shard = BookShard(feed, lambda request: None)
    feed.epoch = feed.last_epoch = 1
    now = since = 100.0
    shard.session_up(1, now)
    shard.apply(Parsed("feed-0", 1, 0, list(first)), now)
    gc.collect()
    env.statistics.hash_cpu_seconds = 0.0
    began = time.thread_time()
    for events in said:
        now += 0.005
        shard.apply(Parsed("feed-0", 1, 0, list(events)), now)
        if shard.next_due(now) <= now:
            shard.on_time(now)
        shard.flush()
    hashing = env.statistics.hash_cpu_seconds
    seconds = time.thread_time() - began - hashing
    assert {trust.state for trust in feed.trust.values()} == {TrustState.LIVE}
    return seconds, hashing / (now - since), env.statistics.groups_hash_ok


def cost(work: Callable[[], object], times: int) -> float:
    """Seconds of processor time for one."""
    began = time.thread_time()
    for _ in range(times):
        work()
    return (time.thread_time() - began) / times


def main(quick: bool) -> None:
    """Measure in turn, several times, and print the table."""
    rounds, steps = (2, 200) if quick else (9, STEPS)
    venue, first, said = recording(TOKENS // 2, steps)
    book = next(event for event in first if isinstance(event, BookSnapshot))
    env = Environment(Settings())
    feed = Feed("feed-0", [book.token], env)
    shard = BookShard(feed, lambda request: None)
    feed.epoch = 1
    shard.session_up(1, 0.0)
    shard.apply(Parsed("feed-0", 1, 0, [book]), 0.0)
    local = shard.books[book.token].book
    inputs = HashInputs("0.01", "5", False)

    def hash_once() -> None:
        HashCheck(local, "f" * 40, 1, inputs, ("0.5",)).run_known()

    def search_all() -> None:
        assert HashCheck(local, "f" * 40, 1, inputs, ("0.5",)).run() is Verdict.WRONG

    rows: dict[str, list[float]] = {}
    for _ in range(rounds):
        plain, _, _ = run_shard(venue, first, said, 1e-9)
        proven, share, checked = run_shard(venue, first, said, 2.0)
        change = plain / sum(len(events) for events in said)
        rows.setdefault("the same with hashes by turn, but for the hashes", []).append(
            proven / plain
        )
        rows.setdefault("share of a core for hashes, of the 0.02 allowed", []).append(share)
        rows.setdefault(f"one hash of {len(book.bids) + len(book.asks)} levels", []).append(
            cost(hash_once, 20 if quick else 500) / change
        )
        rows.setdefault("all 1,002 last trade prices", []).append(
            cost(search_all, 2 if quick else 20) / change
        )
        rows.setdefault("books hashed, for each group", []).append(
            checked / (2 * sum(1 for events in said if events))  # a step is a group of two
        )
    print(f"| {steps:,} engine steps, {TOKENS} tokens, {rounds} rounds | ratio |")
    print("|---|---|")
    print("| applying one event of the channel | 1 |")
    for name, each in rows.items():
        print(f"| {name} | {statistics.median(each):.3f} [{min(each):.3f}-{max(each):.3f}] |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, to see that it runs")
    main(parser.parse_args().quick)
