"""polyactors, as a program uses it: `open_service`, every check on, one subscriber."""

import gc
import time
from array import array
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import attrs
import trio
from tests.benchmarks.stream import wire
from tests.benchmarks.stream.clients.common import Run, Task, rss_bytes
from tests.benchmarks.stream.profiling import profiled
from tests.benchmarks.stream.recording import Recording, load

import polyactors
from polyactors import BookUpdated, Event, Service, Settings, TradePrinted, TrustChanged, TrustState
from polyactors.config import make_settings
from polyactors.stream import Subscription

AUDITED_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05
SETTLED_SECONDS = 1.0
"""For the groups that are open at the end to be judged."""

Update = tuple[float, wire.Top]
"""When it was handed what a book's top is, in microseconds."""


def settings_of(task: Task) -> Settings:
    """The defaults, but for where the exchange is, and one connection if that may be."""
    most = attrs.fields_dict(Settings)["tokens_per_connection"].metadata["maximum"]
    return make_settings(
        {
            "ws_url": task.ws_url,
            "clob_url": task.http_url,
            "gamma_url": task.http_url,
            "tokens_per_connection": min(len(task.tokens), most),
        }
    )


async def main(task: Task) -> None:
    """Follow the tokens through the task's scenario."""
    run = Run(task)
    is_streamed = bool(task.messages)
    with profiled("" if is_streamed else task.profile):
        run.connecting()
        async with polyactors.open_service(task.tokens, settings=settings_of(task)) as service:
            events = service.events()
            await all_live(service, events)
            run.all_live()
            run.result["connections"] = len(service.feed_statuses())
            while len(run.result["again_ns"]) < task.resets:
                await all_live_again(service, events)
                run.all_live()
            await audited(service)
            run.result["rss_settled_bytes"] = rss_bytes()
            if is_streamed:
                with profiled(task.profile):
                    await take_messages(run, service, events)
                await trio.sleep(SETTLED_SECONDS)
            faults, run.result["checks"] = verified(service)
            never = run.latencies_us.count(float("inf"))
            run.result["faults"] = faults + ([f"{never} messages not handed over"] if never else [])
            tops = {token: top(service, token) for token in task.tokens}
    run.finish(tops.__getitem__)


async def all_live(service: Service, events: Subscription) -> None:
    """Return when every book is LIVE."""
    live: set[str] = set()
    while len(live) < len(service.tokens):
        for event in await events.receive_batch():
            if isinstance(event, TrustChanged):
                (live.add if event.state is TrustState.LIVE else live.discard)(event.token)


async def all_live_again(service: Service, events: Subscription) -> None:
    """Return when every book has lost its trust and regained it."""
    lost: set[str] = set()
    back: set[str] = set()
    while len(back) < len(service.tokens):
        for event in await events.receive_batch():
            if isinstance(event, TrustChanged):
                if event.state is not TrustState.LIVE:
                    lost.add(event.token)
                elif event.token in lost:
                    back.add(event.token)


async def audited(service: Service) -> None:
    """REST states what every hash takes: no book's can be verified before it was asked."""
    with trio.move_on_after(AUDITED_SECONDS_MAX):
        while service.statistics.audits < len(service.tokens):  # noqa: ASYNC110  nothing tells it
            await trio.sleep(POLL_SECONDS)


async def take_messages(run: Run, service: Service, events: Subscription) -> None:
    """Read the stream of events until each connection has told of its last message."""
    ends_left = run.result["connections"]
    # Flat, so that what is kept for later is nothing that the garbage collector goes through.
    handed_ns, handed = array("q"), list[Event]()
    gc.collect()
    await trio.to_thread.run_sync(run.go)
    while ends_left:
        batch = await events.receive_batch()
        if run.task.is_paced:
            handed_ns.extend([time.monotonic_ns()] * len(batch))
            handed += batch
        for event in batch:
            ends_left -= type(event) is TradePrinted
    run.end()
    run.messages = run.task.messages
    run.result["coalesced"] = events.coalesced
    if handed:
        recording = load(Path(run.task.recording))
        run.latencies_us = latencies_us(recording, handed_ns, handed, run.result["start_ns"])


def verified(service: Service) -> tuple[list[str], dict[str, int]]:
    """What is wrong with what the service has verified meanwhile, and how much that was."""
    statistics = service.statistics
    checks = {
        "groups": statistics.groups,
        "hash checks": statistics.hash_checks,
        "audits": statistics.audits,
        "audits right": statistics.audits_ok,
    }
    wrong = {
        "books not LIVE": len(service.tokens) - service.states()[TrustState.LIVE.value],
        **{f"desyncs: {why}": n for why, n in statistics.desyncs_by_reason.items()},
        "groups without the stated top": statistics.groups - statistics.groups_top_ok,
    }
    return [f"{count} {what}" for what, count in wrong.items() if count], checks


def top(service: Service, token: str) -> tuple[str, str]:
    """Best bid and ask, as texts."""
    book = service.book(token)
    assert book.best_bid is not None
    assert book.best_ask is not None
    return str(book.best_bid.price), str(book.best_ask.price)


def latencies_us(
    recording: Recording, handed_ns: Sequence[int], events: Sequence[Event], start_ns: int
) -> list[float]:
    """From when each message was due to when its last event was handed over."""
    places = {token: place for place, token in enumerate(recording.tokens)}
    updates: dict[int, list[Update]] = {}
    changes: dict[int, list[Update]] = {}
    for at_ns, event in zip(handed_ns, events, strict=True):
        if isinstance(event, BookUpdated):
            place, update = places[event.token], ((at_ns - start_ns) / 1000, _top_of(event))
            updates.setdefault(place, []).append(update)
            if not event.settled:  # else it says again, later, that no more followed
                changes.setdefault(place, []).append(update)
    messages: dict[int, list[int]] = {}
    for message, market in enumerate(recording.markets):
        messages.setdefault(market, []).append(message)
    found = [0.0] * len(recording)
    for market, numbers in messages.items():
        dues_us = [recording.dues_us[number] for number in numbers]
        for place in (2 * market, 2 * market + 1):
            tops = [recording.top(number, place) for number in numbers]
            told = changes.get(place, [])
            told = told if len(told) == len(tops) else updates.get(place, [])
            handed = handed_us(dues_us, tops, told)
            for number, due, at in zip(numbers, dues_us, handed, strict=True):
                found[number] = max(found[number], at - due)
    return found


def handed_us(
    dues_us: Sequence[int], tops: Sequence[wire.Top], updates: Sequence[Update]
) -> list[float]:
    """When each message of one token was handed over, in one of the updates.

    An update does not say which message it comes from. Where there are as many of one as of the
    other they belong together. Else one update stands for several messages, and is held to be of
    the last one that was due by then and led to what the update says.
    """
    if [top for _, top in updates] == list(tops):
        return [at_us for at_us, _ in updates]
    handed = [float("inf")] * len(dues_us)
    number = len(dues_us) - 1
    for at_us, top in reversed(updates):
        while number >= 0 and (dues_us[number] > at_us or tops[number] != top):
            number -= 1
        if number < 0:
            break  # what is left was published before the first message
        handed[number] = at_us
    for number in reversed(range(len(handed) - 1)):
        handed[number] = min(handed[number], handed[number + 1])
    return handed


def _top_of(event: BookUpdated) -> wire.Top:
    return _ticks(event.best_bid), _ticks(event.best_ask), event.bids, event.asks


def _ticks(price: Decimal | None) -> int:
    return -1 if price is None else int(price * wire.TICKS)


if __name__ == "__main__":
    trio.run(main, Task.given())
