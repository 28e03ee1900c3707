"""`webhook-alert`: a webhook that answers as it likes, in the real service, without sockets."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import httpx2
import pytest
import trio
from trio.testing import MockClock

from polyactors import (
    ActorContext,
    ActorSpec,
    TradePrinted,
    TrustChanged,
    TrustState,
    UsageError,
    actor_spec,
)
from polyactors.examples.webhook import ALERTS_PER_POST, EVENTS_MAX, WebhookAlert
from polyactors.testing import Stage, stage

URL = "http://hooks.example/very/secret"
NAME = "webhook-alert"
Answer = Callable[[], Awaitable[httpx2.Response]]
Document = dict[str, Any]


async def ok() -> httpx2.Response:
    return httpx2.Response(200)


@attrs.define
class Hook:
    """What the webhook was sent, and what it answers."""

    posts: list[httpx2.Request] = attrs.field(factory=list[httpx2.Request])
    answer: Answer = ok


hook = Hook()


class LocalAlert(WebhookAlert):
    """One whose posts stay here."""

    async def open_client(self) -> httpx2.AsyncClient:
        async def serve(request: httpx2.Request) -> httpx2.Response:
            hook.posts.append(request)
            return await hook.answer()

        return httpx2.AsyncClient(transport=httpx2.MockTransport(serve))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    hook.posts.clear()
    hook.answer = ok


def alert(**options: object) -> ActorSpec:
    return actor_spec(LocalAlert, name=NAME, options={"url": URL} | options)


def bodies() -> list[Document]:
    return [json.loads(post.content) for post in hook.posts]


def alerts(kind: str = "") -> list[Document]:
    found = [one for body in bodies() for one in body["alerts"]]
    return [one for one in found if not kind or one["kind"] == kind]


def replies(status: int, **headers: str) -> Answer:
    async def reply() -> httpx2.Response:
        return httpx2.Response(status, headers=headers)

    return reply


def seconds_down(play: Stage, token: str) -> float:
    """From its last STALE out of LIVE to its last LIVE."""
    changes = [e for e in play.events if isinstance(e, TrustChanged) and e.token == token]
    begun = [e.time_ns for e in changes if e.previous is TrustState.LIVE]
    live = [e.time_ns for e in changes if e.state is TrustState.LIVE]
    return (live[-1] - begun[-1]) / 1e9


async def tape(trade: TradePrinted, context: ActorContext) -> None:
    await context.publish("printed", size=trade.size)
    await context.publish("unwanted")


async def crash(trade: TradePrinted) -> None:
    raise LookupError("always")


def print_trades(play: Stage, count: int) -> None:
    play.quote(play.yes, "0.40", "0.42", size=5 * count)
    for _ in range(count):
        play.trade(play.yes, "BUY", 5)


async def test_a_book_that_is_down_for_long_is_told_and_its_return(
    autojump_clock: MockClock,
) -> None:
    async with stage(alert()) as play:
        await play.settle(60)
        assert [one["name"] for one in alerts()] == ["began"]
        play.venue.inject("refuse", seconds=20)
        play.venue.inject("reset")
        await play.settle(20)
        down = alerts("book")
        assert {one["id"] for one in down} == set(play.tokens)
        assert not any(one["is_over"] for one in down)
        assert {one["reason"] for one in down} == {"disconnected"}
        assert [one["is_over"] for one in alerts("feed")] == [False]
        await play.live(200)
        await play.settle(10)
        back = alerts("book")[len(down) :]
        assert {(one["id"], one["is_over"]) for one in back} == {(t, True) for t in play.tokens}
        for one in back:  # it looks every two seconds
            assert abs(one["seconds"] - seconds_down(play, one["id"])) < 2.5
        assert [one["is_over"] for one in alerts("feed")] == [False, True]
        assert all(body["left_out"] == 0 for body in bodies())
        assert all(body["actor"] == NAME for body in bodies())


async def test_a_short_outage_is_none(autojump_clock: MockClock) -> None:
    async with stage(alert(after_seconds=30)) as play:
        play.venue.inject("reset")
        await play.settle(0.1)
        await play.live(200)
        await play.settle(60)
        assert [one["kind"] for one in alerts()] == ["event"]


@pytest.mark.parametrize(
    "answer", [replies(500), replies(429), replies(302, location="http://other.example/")]
)
async def test_what_was_refused_is_told_later_with_the_newest_state(
    autojump_clock: MockClock, answer: Answer
) -> None:
    async with stage(alert(after_seconds=0.5), tape) as play:
        hook.answer = answer
        for _ in range(3):  # each comes and goes unseen
            play.venue.inject("refuse", seconds=20)
            play.venue.inject("reset")
            await play.settle(20)
            await play.live(200)
            await play.settle(5)  # it looks every two seconds
        play.venue.inject("refuse", seconds=500)
        play.venue.inject("reset")
        await play.settle(300)
        attempts = len(hook.posts)
        assert attempts < 20, "the wait between attempts grows"
        assert {post.url for post in hook.posts} == {httpx2.URL(URL)}
        hook.answer = ok
        await play.settle(120)
        (told,) = bodies()[attempts:]
        down = [one for one in told["alerts"] if one["kind"] == "book"]
        assert {one["id"] for one in down} == set(play.tokens)
        assert not any(one["is_over"] for one in down)
        # Two books and a feed, three times: the outage that is told is the fourth.
        assert told["left_out"] == 9
        await play.settle(300)
        assert alerts("book")[-1]["is_over"]
        assert bodies()[-1]["left_out"] == 0


async def test_a_webhook_that_never_answers_delays_nothing(autojump_clock: MockClock) -> None:
    async def never() -> httpx2.Response:
        await trio.sleep_forever()
        raise AssertionError

    async with stage(alert(timeout_seconds=100, events=["printed"]), tape) as play:
        hook.answer = never
        await play.settle(10)
        print_trades(play, 50)
        await play.settle()
        status = play.status(NAME)
        assert status.queued == 0
        assert status.handled >= 100
        assert len(play.named("printed")) >= 50
        before = trio.current_time()
    assert trio.current_time() - before <= 6  # stop_seconds_max, with some for the rest


async def test_chosen_events_are_told_and_the_oldest_left_out(autojump_clock: MockClock) -> None:
    async with stage(alert(events=["printed"], batch_seconds=60), tape) as play:
        await play.settle(61)
        hook.posts.clear()
        count = EVENTS_MAX + 20
        print_trades(play, count)
        await play.settle(61)
        printed = len(play.named("printed"))
        events = alerts("event")
        assert {one["name"] for one in events} == {"printed"}
        assert len(events) == EVENTS_MAX
        assert sum(body["left_out"] for body in bodies()) == printed - EVENTS_MAX
        assert events[-1]["data"] == {"size": "5"}
        assert events[-1]["id"] == "tape"


async def test_an_actor_that_gave_up_is_told_at_once(autojump_clock: MockClock) -> None:
    async with stage(actor_spec(crash, policy={"gives_up_after": 0}), alert()) as play:
        print_trades(play, 1)
        await play.settle(3)
        (gave_up,) = alerts("actor")
        assert gave_up["id"] == "root/extensions/crash"
        assert "LookupError" in gave_up["reason"]


async def test_many_alerts_are_several_posts(autojump_clock: MockClock) -> None:
    async with stage(alert(), markets=ALERTS_PER_POST * 2 // 3) as play:
        play.venue.inject("refuse", seconds=20)
        play.venue.inject("reset")
        await play.settle(20)
        assert {one["id"] for one in alerts("book")} == set(play.tokens)
        assert [len(body["alerts"]) for body in bodies()][1] == ALERTS_PER_POST


async def test_slack_gets_lines_in_which_nothing_is_markup(autojump_clock: MockClock) -> None:
    async def shouts(trade: TradePrinted, context: ActorContext) -> None:
        await context.publish("shout", text="<!channel>")

    spec = alert(format="slack", events=["shout"], batch_seconds=10)
    async with stage(spec, actor_spec(shouts, name="shouts")) as play:
        await play.settle(11)
        play.venue.inject("refuse", seconds=20)
        play.venue.inject("reset")
        await play.settle(20)
        await play.live(200)
        print_trades(play, 1)
        await play.settle(20)
        assert all(set(body) == {"text"} for body in bodies())
        lines = [line for body in bodies() for line in body["text"].splitlines()]
        assert any(f"book {play.yes} is not LIVE, after " in line for line in lines)
        assert any(f"book {play.yes} is LIVE again, after " in line for line in lines)
        assert 'shouts: shout {"text": "&lt;!channel&gt;"}' in lines


async def test_a_restart_begins_afresh_and_tells_again(autojump_clock: MockClock) -> None:
    async def fails() -> httpx2.Response:
        raise ZeroDivisionError

    async with stage(alert()) as play:
        play.venue.inject("refuse", seconds=100)
        play.venue.inject("reset")
        await play.settle(10)
        assert {one["id"] for one in alerts("book")} == set(play.tokens)
        hook.answer = fails  # at the next post, when they are LIVE
        while play.status(NAME).incarnation == 1:
            await play.settle(0.1)
        hook.answer = ok
        posts = len(hook.posts)
        play.venue.inject("refuse", seconds=100)
        play.venue.inject("reset")
        await play.settle(30)
        again = [one for body in bodies()[posts:] for one in body["alerts"]]
        began = [one for one in again if one.get("name") == "began"]
        assert began[-1]["data"] == {"incarnation": play.status(NAME).incarnation}
        told = again[again.index(began[-1]) :]
        assert {one["id"] for one in told if one["kind"] == "book"} == set(play.tokens)


SECRET = "Bearer hush-hush-hush"


async def test_the_secret_is_sent_and_never_logged(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("ALERT_TOKEN", SECRET)
    caplog.set_level(logging.WARNING)
    caplog.set_level(logging.DEBUG, "polyactors")
    async with stage(alert(token_variable="ALERT_TOKEN", token_header="X-Token")) as play:
        hook.answer = replies(401)
        await play.settle(10)
        assert {post.headers["x-token"] for post in hook.posts} == {SECRET}
        shown = [str(play.status(NAME)), repr(play.events), repr(play.service.summary())]
        assert "posts fail: status 401" in shown[0]
    told = [record.getMessage() for record in caplog.records] + shown
    assert any("takes nothing" in line and "hooks.example" in line for line in told)
    assert not any("hush" in line or "very/secret" in line for line in told)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "url: it must be set"),
        ({"url": "hooks.example"}, "must begin with https:// or http://"),
        ({"url": "ftp://hooks.example"}, "must begin with https:// or http://"),
        ({"url": "http://[x/secret"}, "must begin with https:// or http://"),
        ({"url": "http://a..b/secret"}, "must begin with https:// or http://"),
        ({"url": "http://a:99999/secret"}, "must begin with https:// or http://"),
        ({"url": "http://a b/secret"}, "must begin with https:// or http://"),
        ({"url": "http://me:secret@a/"}, "url must not hold a password"),
        ({"url": URL, "format": "xml"}, "format"),
        ({"url": URL, "after_seconds": -1}, "after_seconds"),
        ({"url": URL, "batch_seconds": float("inf")}, "batch_seconds"),
        ({"url": URL, "token_variable": "NO_SUCH"}, "the environment has no NO_SUCH"),
        ({"url": URL, "token_variable": "TWO_LINES"}, "what TWO_LINES holds cannot be sent"),
        ({"url": URL, "token_header": "a b"}, "token_header"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    options: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWO_LINES", "secret\nsecret")
    with pytest.raises(UsageError, match=said) as caught:
        actor_spec(WebhookAlert, options=options)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_the_ordinary_client_reads_the_trust_store_elsewhere() -> None:
    client = await WebhookAlert(URL).open_client()
    async with client:
        assert isinstance(client, httpx2.AsyncClient)
