"""What becomes of a recording with a fault in it, judged by what the exchange really had.

The recording goes through the parser's and the book shard's own code (`outcome_of`); the truth
comes from dictionaries of decimals, hashlib, and the embedded exchange's own books.
"""

import hashlib
import json
from collections.abc import Sequence
from decimal import Decimal
from enum import Enum
from itertools import count

import trio
from attrs import frozen
from tests.recorded.mutations import Json, messages_of

from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import TrustChanged
from polyactors.messages import Parsed
from polyactors.parser import parse_frames
from polyactors.protocol.codec import MarketCodec
from polyactors.replay import EPOCH, ReplayReport, replay_feed, replay_report, replay_shard
from polyactors.venue.exchange import Venue

Levels = dict[Decimal, Decimal]
Book = dict[str, Levels]
"""bids and asks by price."""

STEP_MS = 7
SPARE_PRICE, SPARE_SIZE = Decimal("0.5005"), Decimal(77)
"""No order of the capture stands at this price: a later group can change it alone."""


class Verdict(Enum):
    """What a fault did to the books at the end of a recording, from good to bad."""

    HARMLESS = "harmless"
    """All books are LIVE and right, and nothing was ever said against them."""
    HEALED = "healed"
    """A book was doubted, and all are LIVE and right again."""
    DETECTED = "detected"
    """A book is not LIVE; all that are LIVE are right."""
    NAMED = "named"
    """A LIVE book is wrong, but its line was reported as unreadable: STALE in a live feed."""
    UNDETECTED = "undetected"
    """A LIVE book is wrong."""


@frozen
class Outcome:
    """A recording's way through parser and books, and its end."""

    report: ReplayReport
    books: dict[str, Book]
    """By token: our books, whatever their state."""
    doubts: list[tuple[str, StaleReason]]
    """Every time a token turned STALE: which, and why."""
    snapshots_hash_unverifiable: int

    def wrong(self, truth: dict[str, Book]) -> set[str]:
        """The tokens that are LIVE here with another book than the true one."""
        return {token for token in self.live if self.books[token] != truth.get(token)}

    @property
    def live(self) -> set[str]:
        """The tokens whose book is called right."""
        return {token for token, book in self.report.tokens.items() if book["state"] == "LIVE"}

    def verdict(self, truth: dict[str, Book]) -> Verdict:
        """What this means, given the exchange's books at the end."""
        if self.wrong(truth):
            return Verdict.NAMED if self.report.unreadable_frames else Verdict.UNDETECTED
        if self.live != set(truth):
            return Verdict.DETECTED
        return Verdict.HEALED if self.doubts else Verdict.HARMLESS


async def outcome_of(lines: Sequence[bytes]) -> Outcome:
    """As `replay_files` does it, frame by frame, without a file and without the actors."""
    feed = replay_feed()
    news = feed.env.hub.subscribe(kinds=(TrustChanged,))
    codec = MarketCodec()
    shard = replay_shard(feed, lambda request: None)
    feed.session_up(EPOCH)
    shard.start(trio.current_time())
    for line in lines:
        parsed = parse_frames(codec, [line], feed.env.statistics)
        feed.messages += 1
        if parsed.events:
            batch = Parsed(feed.id, EPOCH, feed.env.clock_ns(), parsed.events)
            shard.apply(batch, trio.current_time())
            shard.on_time(trio.current_time())
    report = replay_report(feed, shard)
    shard.flush()
    events = await news.receive_batch() if news.held else []
    return Outcome(
        report,
        {token: levels_of(state.book.to_wire()) for token, state in shard.books.items()},
        [
            (event.token, event.reason)
            for event in events
            if isinstance(event, TrustChanged)
            and event.state is TrustState.STALE
            and event.reason is not None
        ],
        feed.env.statistics.snapshots_hash_unverifiable,
    )


# The truth


def levels_of(wire: Json) -> Book:
    """Bids and asks of a book as the wire has them."""
    return {
        side: {Decimal(level["price"]): Decimal(level["size"]) for level in wire[side]}
        for side in ("bids", "asks")
    }


def true_states(lines: Sequence[bytes]) -> dict[str, list[Book]]:
    """By token: its book at the end of each engine step of a faultless recording, in order."""
    books: dict[str, Book] = {}
    states: dict[str, list[tuple[str, Book]]] = {}

    def note(token: str, book_hash: str) -> None:
        known = states.setdefault(token, [])
        if known and known[-1][0] == book_hash:  # the step goes on
            known.pop()
        known.append((book_hash, {side: dict(books[token][side]) for side in ("bids", "asks")}))

    for message in messages_of(lines):
        if message["event_type"] == "book":
            books[message["asset_id"]] = levels_of(message)
            note(message["asset_id"], message["hash"])
        for entry in message.get("price_changes", ()):
            side = books[entry["asset_id"]]["bids" if entry["side"] == "BUY" else "asks"]
            price, size = Decimal(entry["price"]), Decimal(entry["size"])
            side[price] = size
            if not size:
                del side[price]
            note(entry["asset_id"], entry["hash"])
    return {token: [book for _, book in known] for token, known in states.items()}


def exchange_hash(message: Json) -> str:
    """SHA-1 of a book with all its hash inputs, as INTEGRITY.md section 5 describes it."""
    names = ("market", "asset_id", "timestamp", "hash", "bids", "asks",
             "min_order_size", "tick_size", "neg_risk", "last_trade_price")  # fmt: skip
    fields = {name: "" if name == "hash" else message[name] for name in names}
    return hashlib.sha1(json.dumps(fields, separators=(",", ":")).encode()).hexdigest()


# Recordings


@frozen
class Recording:
    """Faultless frames from the first books on, and ways in which the exchange went on."""

    lines: list[bytes]
    later_group: list[bytes]
    """One more whole group of every token, and no `book`."""
    later_book: list[bytes]
    """One more `book` of every token, and nothing else."""

    def tails(self) -> dict[str, list[bytes]]:
        """By name: what may come after the recording."""
        return {"": [], "group": self.later_group, "book": self.later_book}

    def truth_after(self, tail: str) -> dict[str, Book]:
        """By token: the exchange's book at the end of it all."""
        states = true_states([*self.lines, *self.tails()[tail]])
        return {token: known[-1] for token, known in states.items()}


def captured(lines: list[bytes]) -> Recording:
    """A capture of one market that states all hash inputs, and what could have come next.

    No trade and no new tick size is in it, so its first books name the inputs of its end.
    """
    messages = messages_of(lines)
    inputs = {m["asset_id"]: m for m in messages if m["event_type"] == "book"}
    last_ms = max(int(message["timestamp"]) for message in messages)
    books = {token: known[-1] for token, known in true_states(lines).items()}
    hashes = {e["asset_id"]: e["hash"] for m in messages for e in m.get("price_changes", ())}
    later_books: list[bytes] = []
    entries: list[Json] = []
    for (token, book), side in zip(books.items(), ("BUY", "SELL"), strict=True):
        now = {**inputs[token], **_wire(book), "timestamp": str(last_ms)}
        now["hash"] = exchange_hash(now)
        assert now["hash"] == hashes[token], "the capture's end is not understood"
        said = {name: now[name] for name in ("event_type", *_BOOK_NAMES)}
        later_books.append(json.dumps(said).encode())
        price = SPARE_PRICE if side == "BUY" else 1 - SPARE_PRICE
        book["bids" if side == "BUY" else "asks"][price] = SPARE_SIZE
        then = {**now, **_wire(book), "timestamp": str(last_ms + STEP_MS)}
        entries.append(
            {
                "asset_id": token,
                "price": str(price),
                "size": str(SPARE_SIZE),
                "side": side,
                "hash": exchange_hash(then),
                "best_bid": str(max(book["bids"])),
                "best_ask": str(min(book["asks"])),
            }
        )
    group: Json = {
        "event_type": "price_change",
        "market": messages[0]["market"],
        "timestamp": str(last_ms + STEP_MS),
        "price_changes": entries,
    }
    return Recording(lines, [json.dumps(group).encode()], later_books)


_BOOK_NAMES = ("market", "asset_id", "timestamp", "hash", "bids", "asks")


def _wire(book: Book) -> Json:
    def side(levels: Levels, *, reverse: bool) -> list[dict[str, str]]:
        return [
            {"price": str(price), "size": str(levels[price])}
            for price in sorted(levels, reverse=reverse)
        ]

    return {
        "bids": side(book["bids"], reverse=False),
        "asks": side(book["asks"], reverse=True),
    }


def of_the_venue(seed: int, *, market: int = 0, before: int = 0, steps: int = 12) -> Recording:
    """What a subscriber of one market of the embedded exchange receives after `before` steps.

    The hash inputs that the channel does not state are added to the first books, from REST.
    """
    times = count(1_700_000_000_000, STEP_MS)
    venue = Venue(seed, market + 1, 0, now_ms=lambda: next(times))
    tokens = venue.markets[market].tokens

    def books() -> list[Json]:
        return [{"event_type": "book", **venue.books()[token]} for token in tokens]

    def step() -> list[bytes]:
        said: list[str] = []
        while not said:  # the other markets have their steps, too
            frames = (event.text_for(tokens, custom=True) for event in venue.step(1))
            said = [frame for frame in frames if frame is not None]
        return [frame.encode() for frame in said]

    for _ in range(before):
        step()
    lines = [json.dumps(books()).encode()]
    for _ in range(steps):
        lines += step()
    at_the_end = {book["asset_id"]: levels_of(book) for book in books()}
    assert at_the_end == {token: known[-1] for token, known in true_states(lines).items()}
    later_book = [
        json.dumps({name: book[name] for name in ("event_type", *_BOOK_NAMES)}).encode()
        for book in books()
    ]
    later_group: list[bytes] = []
    missing = set(tokens)
    while missing:
        for line in step():
            message = json.loads(line)
            if message["event_type"] != "book":
                later_group.append(line)
            missing -= {entry["asset_id"] for entry in message.get("price_changes", ())}
    return Recording(lines, later_group, later_book)
