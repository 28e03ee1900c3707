"""News: which events are told, and how those that belong together become one sentence."""

from decimal import Decimal

import pytest

from polyactors.book.trust import StaleReason, TrustState
from polyactors.events import (
    ActorRestarted,
    BookUpdated,
    Event,
    FaultInjected,
    FaultRecovered,
    FeedDown,
    FeedUp,
    Gap,
    TickSizeChanged,
    TradePrinted,
    TrustChanged,
)
from polyactors.terminal.news import TEXT_CHARS_MAX, News, Tone, condense

NAMES = {"1": "Yes · Will it rain?"}
PARSER = "root/core/feeds/feed-0/parser"


def told(*events: Event) -> list[str]:
    return [item.text for item in condense(events, NAMES)]


def trust(
    token: str, state: TrustState = TrustState.LIVE, reason: StaleReason | None = None
) -> TrustChanged:
    return TrustChanged(
        time_ns=1,
        token=token,
        market="",
        epoch=1,
        state=state,
        previous=TrustState.SYNCING,
        reason=reason,
    )


def restarted(path: str, reason: str) -> ActorRestarted:
    return ActorRestarted(time_ns=1, path=path, incarnation=2, reason=reason)


def test_books_that_change_together_are_one_sentence() -> None:
    stale = [trust(str(n), TrustState.STALE, StaleReason.DISCONNECTED) for n in range(200)]
    assert told(*stale) == ["200 books STALE: disconnected"]


def test_different_changes_are_told_in_their_order() -> None:
    assert told(
        trust("2"),
        trust("3", TrustState.STALE, StaleReason.CROSSED),
        trust("4", TrustState.STALE, StaleReason.OVERFLOW),
        trust("5"),
    ) == ["2 books LIVE", "3 STALE: crossed", "4 STALE: overflow"]


def test_one_book_is_called_by_its_name_also_when_it_changed_twice() -> None:
    assert told(trust("1"), trust("1")) == ["Yes · Will it rain? LIVE"]
    assert told(trust("8910" + "7" * 70)) == ["8910…7777 LIVE"]


def test_waiting_for_a_book_is_no_news() -> None:
    assert told(trust("1", TrustState.SYNCING)) == []


def test_actors_that_fall_together_are_one_sentence_with_the_cause() -> None:
    feed = "root/core/feeds/feed-0/"
    assert told(
        restarted(feed + "heartbeat", "crash (KeyError: 'x')"),
        restarted(feed + "parser", "restarted with its group"),
        restarted("root/core/books/shard-1", "crash (builtins.ValueError: no (really))"),
    ) == [
        "feed-0 restarted heartbeat, parser: KeyError: 'x'",
        "books restarted shard-1: ValueError: no (really)",
    ]


def test_a_session_that_ended_is_told_once() -> None:
    reason = "crash (polyactors.errors.SessionFailed: reset: gone)"
    down = FeedDown(time_ns=1, feed="feed-0", epoch=1, reason="reset", detail="gone")
    assert told(down, restarted("root/core/feeds/feed-0/connection", reason)) == [
        "feed-0 down: reset (gone)",
        "feed-0 restarted connection",
    ]


def test_a_session_that_could_not_begin_is_told_once() -> None:
    path = "root/core/feeds/feed-0/connection"
    down = FeedDown(time_ns=1, feed="feed-0", epoch=1, reason="dns", detail="not resolved")
    assert told(down, restarted(path, "dns: not resolved")) == [
        "feed-0 down: dns (not resolved)",
        "feed-0 restarted connection",
    ]
    assert told(restarted(path, "crash (builtins.ValueError: no)")) == [
        "feed-0 restarted connection: ValueError: no",
    ]


@pytest.mark.parametrize(
    ("event", "text", "tone"),
    [
        (FeedUp(time_ns=1, feed="feed-0", epoch=3), "feed-0 up (epoch 3)", Tone.GOOD),
        (
            FeedDown(time_ns=1, feed="feed-0", epoch=1, reason="stopping"),
            "feed-0 down: stopping",
            Tone.PLAIN,
        ),
        (
            FeedDown(time_ns=1, feed="feed-0", epoch=1, reason="dns"),
            "feed-0 down: dns",
            Tone.BAD,
        ),
        (
            FaultInjected(time_ns=1, id=4, kind="stall", token=None, feed="feed-0"),
            "fault 4 injected: stall on feed-0",
            Tone.FAULT,
        ),
        (
            FaultInjected(time_ns=1, id=4, kind="missing_book", token="1", feed=None),
            "fault 4 injected: missing_book on Yes · Will it rain?",
            Tone.FAULT,
        ),
        (
            FaultInjected(time_ns=1, id=4, kind="refuse", token=None, feed=None),
            "fault 4 injected: refuse",
            Tone.FAULT,
        ),
        (
            FaultRecovered(time_ns=1, id=4, kind="stall", seconds=3.25),
            "fault 4 healed: stall, 3.2 s",
            Tone.GOOD,
        ),
        (
            Gap(time_ns=1, feed="feed-0", epoch=1, token=None, reason=StaleReason.PARSE_FAILURE),
            "gap on feed-0: parse_failure",
            Tone.BAD,
        ),
        (
            Gap(time_ns=1, feed=None, epoch=None, token=None, reason=StaleReason.OVERFLOW),
            "events were lost here: this view was too slow",
            Tone.BAD,
        ),
        (
            TickSizeChanged(
                time_ns=1, token="1", market="", epoch=1, old=None, new=Decimal("0.001")
            ),
            "Yes · Will it rain?: tick size ? → 0.001",
            Tone.PLAIN,
        ),
    ],
)
def test_one_event_one_sentence(event: Event, text: str, tone: Tone) -> None:
    assert condense([event], NAMES) == [News(1, text, tone)]


@pytest.mark.parametrize(
    "event",
    [
        BookUpdated(
            time_ns=1,
            token="1",
            market="",
            epoch=1,
            best_bid=None,
            best_ask=None,
            bids=0,
            asks=0,
            cause="delta",
            settled=True,
        ),
        TradePrinted(
            time_ns=1,
            token="1",
            market="",
            epoch=1,
            price=Decimal("0.5"),
            size=Decimal(1),
            side="BUY",
            timestamp_ms=1,
        ),
        Gap(time_ns=1, feed="feed-0", epoch=1, token="1", reason=StaleReason.PARSE_FAILURE),
        Gap(time_ns=1, feed="feed-0", epoch=2, token=None, reason=StaleReason.DISCONNECTED),
    ],
)
def test_what_happens_all_the_time_is_no_news(event: Event) -> None:
    assert told(event) == []


def test_what_the_other_side_says_can_neither_control_the_terminal_nor_fill_it() -> None:
    down = FeedDown(
        time_ns=1, feed="feed-0", epoch=1, reason="closed_1000", detail="\x1b[2J\n" + "x" * 999
    )
    (text,) = told(down)
    assert text.isprintable()
    assert len(text) <= TEXT_CHARS_MAX + 10
    assert text.endswith("…")


def test_a_long_reason_of_a_restart_is_cut() -> None:
    (text,) = told(restarted(PARSER, "crash (ValueError: " + "x" * 999 + ")"))
    assert len(text) == TEXT_CHARS_MAX
