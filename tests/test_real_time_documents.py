"""docs/real-time says what the code reads, hashes, sends and waits for: its tables and examples."""

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from polyactors import Settings
from polyactors.book.integrity import book_hash
from polyactors.connects import CONNECTS_MAX, STAGGER_SECONDS
from polyactors.protocol._wire import EVENT_TYPES, KNOWN_NAMES, KNOWN_NAMES_INSIDE
from polyactors.protocol.codec import MarketCodec
from polyactors.protocol.events import BookSnapshot, PriceChange
from polyactors.protocol.subscription import user_operation_frames, user_subscribe_frames
from polyactors.rest import (
    BOOK_REQUESTS_MAX,
    BOOKS_PER_REQUEST_MAX,
    BOOKS_REQUESTS_MAX,
    LIMIT_WINDOW_SECONDS,
)
from polyactors.venue import Venue
from polyactors.venue.memory import memory_websocket

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "real-time"
MARKET = (FOLDER / "market-channel.md").read_text(encoding="utf-8")
JSON_BLOCK = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MIN_ORDER_SIZE, NEG_RISK = "5", False
"""Of the market in the examples: inputs of its hashes that the channel does not send."""


def section(page: str, heading: str) -> str:
    """What stands under a heading of the second level, with what is below it."""
    return page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def tables(text: str, first_header: str) -> list[list[list[str]]]:
    """The rows of each table whose first header begins so, as cells."""
    head = rf"^\| {first_header}[^\n]*\n\|---[^\n]*\n"
    found = re.findall(head + r"((?:\|[^\n]*\n)+)", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()]
        for table in found
    ]


def examples(text: str) -> list[Any]:
    return [json.loads(block) for block in JSON_BLOCK.findall(text)]


def code(cell: str) -> str:
    return cell.strip("`")


# The messages of the market channel


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_name_that_the_codec_knows_is_documented_and_no_other(event_type: str) -> None:
    text = section(MARKET, event_type)
    message, *inside = [[code(row[0]) for row in table] for table in tables(text, "field ")]
    of_parts = {name for _, names in KNOWN_NAMES_INSIDE[event_type] for name in names}
    assert set(message) <= KNOWN_NAMES[event_type]
    assert {name for table in inside for name in table} == of_parts
    earlier = KNOWN_NAMES[event_type] - set(message)
    assert all(f"`{name}`" in text for name in earlier), earlier


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_the_examples_are_read_and_the_table_shows_their_values(event_type: str) -> None:
    text = section(MARKET, event_type)
    for example in examples(text):
        decoded = MarketCodec().receive_frame(json.dumps(example))
        assert [type(event) for event in decoded.events] == [EVENT_TYPES[event_type]]
        assert not decoded.unreadable
        assert not decoded.unknown_fields
    example = examples(text)[0]
    parts = [example]
    if event_type == "book":
        parts.append(example["bids"][0])
    if event_type == "price_change":
        parts.append(example["price_changes"][0])
    for table, part in zip(tables(text, "field "), parts, strict=True):
        rows = {code(row[0]): (row[1], code(row[2])) for row in table}
        assert set(part) <= set(rows)
        for name, value in part.items():
            kind, shown = rows[name]
            assert_shows(kind, shown, value)
        for name, (kind, shown) in rows.items():
            if name not in part and "…" not in shown:
                assert_shows(kind, shown, json.loads(shown))


def assert_shows(kind: str, shown: str, value: object) -> None:
    kinds = {"text": str, "number": int, "bool": bool, "object": dict}
    assert isinstance(value, kinds.get(kind, list)), kind
    if "…" not in shown:
        assert json.loads(shown) == value
    elif isinstance(value, str):
        assert value.startswith(shown.strip('"').removesuffix("…"))


def test_the_story_of_the_examples_is_true() -> None:
    (book,) = examples(section(MARKET, "book"))
    first, second, *_ = examples(section(MARKET, "price_change"))
    (told,) = MarketCodec().receive_frame(json.dumps(book)).events
    assert isinstance(told, BookSnapshot)
    assert hash_of(told, dict(told.bids), dict(told.asks), told.timestamp_ms) == told.hash
    bids, asks = dict(told.bids), dict(told.asks)
    fits: list[bool] = []
    for message in (first, second):
        (change,) = MarketCodec().receive_frame(json.dumps(message)).events
        assert isinstance(change, PriceChange)
        entry = next(entry for entry in change.changes if entry.token == told.token)
        del asks[entry.price]  # both removed an ask
        assert entry.size == 0
        fits.append((max(bids), min(asks)) == (entry.best_bid, entry.best_ask))
        hashed = hash_of(told, bids, asks, change.timestamp_ms)
        assert (hashed == entry.hash) == fits[-1]
    assert fits == [False, True]  # in the middle of the step, and at its end


def hash_of(
    book: BookSnapshot, bids: dict[int, int], asks: dict[int, int], timestamp_ms: int
) -> str:
    return book_hash(
        market=book.market,
        token=book.token,
        timestamp_ms=timestamp_ms,
        bids=sorted(bids.items()),
        asks=sorted(asks.items(), reverse=True),
        min_order_size=MIN_ORDER_SIZE,
        tick_size=book.tick_size,
        neg_risk=NEG_RISK,
        last_trade_price=book.last_trade_price,
    )


# What is sent


@pytest.mark.parametrize("page", ["market-channel.md", "websocket-overview.md"])
async def test_the_exchange_takes_every_subscription(page: str, autojump_clock: object) -> None:
    text = (FOLDER / page).read_text(encoding="utf-8")
    frames = [frame for frame in examples(text) if "assets_ids" in frame and not is_event(frame)]
    typed = [frame for frame in frames if "type" in frame]
    operations = [frame for frame in frames if "operation" in frame]
    assert typed
    assert len(typed) + len(operations) == len(frames)
    for first in typed:
        async with memory_websocket(Venue(seed=1, markets=1, rate=0)) as websocket:
            for frame in (first, *operations):
                await websocket.send_message(json.dumps(frame))
                if frame.get("operation") != "unsubscribe":
                    with trio.fail_after(1):
                        books = json.loads(await websocket.get_message())
                    # Ids of the embedded exchange, so each of them has a book.
                    assert [book["asset_id"] for book in books] == frame["assets_ids"]


def is_event(frame: dict[str, Any]) -> bool:
    return "event_type" in frame


def test_frames_of_the_user_channel_are_those_that_are_sent() -> None:
    text = (FOLDER / "websocket-overview.md").read_text(encoding="utf-8")
    login, operation = [frame for frame in examples(text) if "markets" in frame]
    auth = login["auth"]
    (sent,) = user_subscribe_frames(auth["apiKey"], auth["secret"], auth["passphrase"], ["0x1"])
    assert list(json.loads(sent)) == list(login)
    assert json.loads(sent)["auth"] == auth
    assert [json.dumps(operation)] == [
        json.dumps(json.loads(frame))
        for frame in user_operation_frames("subscribe", operation["markets"])
    ]


# Limits and settings


def test_settings_and_limits_are_the_defaults() -> None:
    page = (FOLDER / "connection-management.md").read_text(encoding="utf-8")
    defaults = {field.name: field.default for field in attrs.fields(Settings)}
    (settings,) = tables(section(page, "Settings"), "setting ")
    for name, default, _ in settings:
        assert float(default) == defaults[code(name)]
    named = re.findall(r"`(\w+)`,? (\d+)", section(page, "Limits") + section(page, "Heartbeats"))
    assert len(named) >= 6
    for name, default in named:
        assert float(default) == defaults[name]


def test_our_own_limits_of_rest_and_connects_are_those_of_the_code() -> None:
    page = (FOLDER / "connection-management.md").read_text(encoding="utf-8")
    (limits,) = tables(section(page, "Limits"), "what ")
    ours = {code(what): cell.rstrip(" |") for what, _, _, cell in limits}
    assert LIMIT_WINDOW_SECONDS == 10
    assert ours["GET /book"] == f"at most {BOOK_REQUESTS_MAX}"
    books = f"at most {BOOKS_REQUESTS_MAX}, of {BOOKS_PER_REQUEST_MAX} tokens"
    assert ours["POST /books"] == books
    assert ours["connects"].startswith(f"{STAGGER_SECONDS} s apart, and at most {CONNECTS_MAX} ")


def test_the_overview_and_the_index_name_every_message() -> None:
    overview = (FOLDER / "websocket-overview.md").read_text(encoding="utf-8")
    (messages,) = tables(overview, "`event_type` ")
    assert [code(row[0]) for row in messages] == [*EVENT_TYPES, "order", "trade"]
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    (needs,) = tables(index, "need ")
    named = {name for row in needs for name in re.findall(r"`(\w+)`", row[2])}
    assert named == {*EVENT_TYPES, "order", "trade"}


def test_every_page_has_the_way_to_all_others() -> None:
    pages = {page.name for page in FOLDER.glob("*.md")}
    assert len(pages) == 5
    for page in FOLDER.glob("*.md"):
        linked = set(re.findall(r"\]\(([\w-]+\.md)", page.read_text(encoding="utf-8")))
        assert pages - linked <= {page.name}
