"""`webhook-alert` with the real service; the webhook is a transport in this process."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import pytest
import trio
from trio.testing import MockClock

from polyactors import ActorContext, TradePrinted, UsageError, actor_spec
from polyactors.examples.webhook import PENDING_MAX, RETRY_SECONDS_MAX, WebhookAlert
from polyactors.testing import Stage, stage

OPTIONS = {"url": "https://hooks.example/secret-path"}


class Hook:
    """The other side."""

    def __init__(self) -> None:
        self.status: Callable[[], int] = lambda: 200
        self.requests: list[httpx2.Request] = []
        self.taken: list[httpx2.Request] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        status = self.status()
        if status == 0:
            raise httpx2.ConnectError("no route to secret-path")
        if status == 200:
            self.taken.append(request)
        return httpx2.Response(status)

    @property
    def bodies(self) -> list[Mapping[str, Any]]:
        return [json.loads(request.content) for request in self.taken]

    @property
    def alerts(self) -> list[Mapping[str, Any]]:
        return [alert for body in self.bodies for alert in body["alerts"]]

    def kinds(self) -> list[str]:
        return [str(alert["kind"]) for alert in self.alerts]


@pytest.fixture
def hook() -> Hook:
    return Hook()


@pytest.fixture
def alerting(hook: Hook) -> type[WebhookAlert]:
    class Alerting(WebhookAlert):
        def client(self) -> httpx2.AsyncClient:
            return httpx2.AsyncClient(transport=httpx2.MockTransport(hook))

    return Alerting


async def stall(play: Stage, seconds: float) -> None:
    """Nothing comes of the first token until it is over."""
    play.venue.inject("refuse", seconds=seconds)
    await play.settle(seconds / 2)


async def test_a_book_that_stays_bad_is_told_once_and_once_more_when_it_is_good(
    autojump_clock: MockClock, hook: Hook, alerting: type[WebhookAlert]
) -> None:
    async with stage(alerting, options=OPTIONS) as play:
        await stall(play, 60.0)
        told = [alert for alert in hook.alerts if alert["kind"] == "book_not_live"]
        assert {alert["token"] for alert in told} == set(play.tokens)
        assert len(told) == 2
        assert {alert["state"] for alert in told} == {"STALE"}
        assert "feed_down" in hook.kinds()
        await play.settle(40.0)
        await play.live()
        await play.settle(5.0)
        assert hook.kinds().count("book_live") == 2
        assert hook.kinds()[-1] in ("book_live", "feed_up")
        assert play.status("alerting").incarnation == 1


async def test_what_heals_in_time_is_nobodys_business(
    autojump_clock: MockClock, hook: Hook, alerting: type[WebhookAlert]
) -> None:
    async with stage(alerting, options=OPTIONS) as play:
        play.venue.inject("reset")
        await play.settle(5.0)
        await play.live()
        await play.settle(30.0)
        assert "book_not_live" not in hook.kinds()
        assert "book_live" not in hook.kinds()


@pytest.mark.parametrize("status", [0, 429, 500, 302])
async def test_a_webhook_that_is_down_gets_the_newest_when_it_is_up(
    status: int,
    autojump_clock: MockClock,
    hook: Hook,
    alerting: type[WebhookAlert],
    caplog: pytest.LogCaptureFixture,
) -> None:
    hook.status = lambda: status
    async with stage(alerting, options=OPTIONS) as play:
        await stall(play, 400.0)
        assert not hook.taken
        assert 3 <= len(hook.requests) <= 10
        await play.settle(250.0)
        await play.live()
        hook.status = lambda: 200
        await play.settle(RETRY_SECONDS_MAX + 5.0)
        # What was bad and is good again was never told, so there is nothing to take back.
        assert "book_not_live" not in hook.kinds()
        hook.taken.clear()
        await stall(play, 60.0)
        assert hook.kinds().count("book_not_live") == 2
    assert "secret-path" not in caplog.text


async def test_a_slow_webhook_delays_nobody(
    autojump_clock: MockClock, hook: Hook, alerting: type[WebhookAlert]
) -> None:
    async def slow(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(1000.0)
        return await hook(request)

    class Slow(WebhookAlert):
        def client(self) -> httpx2.AsyncClient:
            return httpx2.AsyncClient(transport=httpx2.MockTransport(slow))

    async with stage(Slow, options=OPTIONS) as play:
        await stall(play, 60.0)
        await play.settle(60.0)
        await play.live()
        status = play.status("slow")
        assert (status.state, status.incarnation, status.queued) == ("running", 1, 0)


async def test_what_other_actors_say_is_told_if_asked_for(
    autojump_clock: MockClock, hook: Hook, alerting: type[WebhookAlert]
) -> None:
    async def says(trade: TradePrinted, context: ActorContext) -> None:
        await context.publish("loud", size=trade.size)
        await context.publish("quiet")

    async with stage(alerting, says, options=OPTIONS | {"names": ["loud"]}) as play:
        play.quote(play.yes, "0.40", "0.42")
        await play.settle()
        hook.taken.clear()
        play.trade(play.yes, "BUY", 7)
        await play.settle(3.0)
        assert [(a["kind"], a["actor"], a["data"]) for a in hook.alerts] == [
            ("loud", "says", {"size": "7"})
        ]


async def test_an_actor_that_gave_up_is_told(
    autojump_clock: MockClock, hook: Hook, alerting: type[WebhookAlert]
) -> None:
    async def fails(trade: TradePrinted) -> None:
        raise ValueError("again")

    specs = (actor_spec(alerting, options=OPTIONS), actor_spec(fails, policy={"gives_up_after": 0}))
    async with stage(*specs) as play:
        play.quote(play.yes, "0.40", "0.42")
        play.trade(play.yes, "BUY", 7)
        await play.settle(5.0)
        (alert,) = [one for one in hook.alerts if one["kind"] == "actor_gave_up"]
        assert alert["path"] == "root/extensions/fails"
        assert "again" in alert["reason"]


async def test_more_subjects_than_may_wait_are_counted(
    autojump_clock: MockClock, hook: Hook, alerting: type[WebhookAlert]
) -> None:
    hook.status = lambda: 500

    class Many(alerting):  # type: ignore[valid-type,misc]
        def flood(self) -> None:
            for number in range(PENDING_MAX + 5):
                self._alert(str(number), "one_of_many")

    kept: list[Any] = []

    class Kept(Many):
        async def setup(self, context: ActorContext) -> None:
            await super().setup(context)
            kept.append(self)

    async with stage(Kept, options=OPTIONS) as play:
        kept[0].flood()
        await play.settle(3.0)
        hook.status = lambda: 200
        await play.settle(RETRY_SECONDS_MAX)
        assert hook.kinds().count("one_of_many") == PENDING_MAX
        assert hook.bodies[0]["left_out"] == 5
        assert sum(body["left_out"] for body in hook.bodies) == 5
        assert all(len(body["alerts"]) <= 100 for body in hook.bodies)


async def test_a_secret_goes_into_the_header_and_nowhere_else(
    autojump_clock: MockClock,
    hook: Hook,
    alerting: type[WebhookAlert],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "Bearer hush-hush")
    options = OPTIONS | {"token_variable": "HOOK_TOKEN", "format": "text"}
    async with stage(alerting, options=options) as play:
        await stall(play, 60.0)
        assert hook.taken[0].headers["Authorization"] == "Bearer hush-hush"
        assert hook.bodies[0].keys() == {"text"}
        assert "hush" not in repr(play.service.summary())
        assert any("book_not_live: token" in str(body["text"]) for body in hook.bodies)
    assert "hush" not in caplog.text


async def test_a_stop_tells_what_waits(
    autojump_clock: MockClock, hook: Hook, alerting: type[WebhookAlert]
) -> None:
    async with stage(alerting, options=OPTIONS | {"batch_seconds": 100.0}) as play:
        await stall(play, 60.0)
        assert not hook.taken
    assert hook.kinds().count("book_not_live") == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "'url' is missing"),
        ({"url": "hooks.example"}, "must begin with https://"),
        ({"url": "https://x", "format": "xml"}, "format"),
        ({"url": "https://x", "token_variable": "NOT_SET_ANYWHERE"}, "which is not set"),
        ({"url": "https://x", "after_seconds": -1}, "after_seconds"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        actor_spec(WebhookAlert, options=options)
