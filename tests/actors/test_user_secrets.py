"""None of the credentials comes out of a service, whatever goes wrong and whatever is looked at.

Every output is searched for pieces of the values, in any case of letters: the log as the command
line sets it up, at its most talkative; the events file; the stream; the summary; what errors say;
and what every object shows that a program can reach.
"""

import copy
import io
import json
import pickle
import pprint
import sys
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, cast

import attrs
import httpx2
import pytest
import trio
from msgspec import Struct, structs, to_builtins
from tests.actors.running import Play, Run, crash_once
from tests.actors.scripted_server import YES, Act, Visit, frame_bytes
from tests.actors.user_server import (
    ADDRESS,
    API_KEY,
    CREDENTIALS,
    LIVE,
    M1,
    PASSPHRASE,
    REFUSED,
    SECRET,
    Lists,
    follow,
    order,
    page,
    talk,
    trade,
    until_state,
)
from tests.simulation.account_world import AccountWorld, follow_account
from tests.simulation.test_account import KINDS

from polyactors.account.account import Account
from polyactors.account.credentials import REDACTED, Credentials
from polyactors.account.trades import Owner
from polyactors.errors import PolyactorsError, SessionFailed
from polyactors.events import ActorRestarted, to_json
from polyactors.heartbeat import Pulse
from polyactors.logs import logging_to
from polyactors.protocol.user_codec import UserCodec
from polyactors.sinks import events_sink, open_events_file
from polyactors.user.line import UserLine
from polyactors.websocket import WebSocket
from polysupervisor._troubles import log_troubles

PIECE = 12
"""Characters in a row of a value that are too many to be shown."""
VALUES = {
    "api key": API_KEY,
    "secret": SECRET,
    "passphrase": PASSPHRASE,
    "address": ADDRESS,
}


def needles_of(values: Mapping[str, str], key: bytes) -> dict[str, set[str]]:
    found = {
        **values,
        "decoded secret": key.decode("latin-1"),
        "repr of the decoded secret": repr(key)[2:-1],
        "hex of the decoded secret": key.hex(),
    }
    return {
        name: {value[at : at + PIECE].lower() for at in range(len(value) - PIECE + 1)}
        for name, value in found.items()
    }


NEEDLES = needles_of(VALUES, CREDENTIALS.key)


def shows(text: str, needles: Mapping[str, set[str]] = NEEDLES) -> list[str]:
    """Which values the text shows a piece of."""
    lowered = text.lower()
    return [name for name, pieces in needles.items() if any(piece in lowered for piece in pieces)]


@pytest.mark.parametrize("name", VALUES)
def test_a_shown_value_is_found(name: str) -> None:
    """So that all that follows can fail."""
    value = VALUES[name]
    assert shows(f"x{value}x") == [name]
    assert shows(value.upper()[3:20]) == [name]
    assert not shows(repr(CREDENTIALS))


# What a program can reach


def reachable(*roots: object) -> Iterator[object]:
    """Objects of ours behind these, through attributes, slots and containers, private ones too."""
    seen: set[int] = set()
    waiting: list[object] = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, str | bytes | int | float | type | None):
            continue
        seen.add(id(one))
        is_ours = type(one).__module__.startswith(("polyactors", "polysupervisor"))
        if is_ours:
            yield one
        if isinstance(one, Credentials):
            continue  # its own module's tests open it
        if isinstance(one, Mapping):
            known = cast("Mapping[object, object]", one)
            waiting += [*known.keys(), *known.values()]
        elif isinstance(one, list | tuple | set | frozenset | deque):
            waiting += cast("Iterable[object]", one)
        elif is_ours:
            waiting += list(getattr(one, "__dict__", {}).values())
            for kind in type(one).__mro__:
                slots = kind.__dict__.get("__slots__", ())
                for slot in (slots,) if isinstance(slots, str) else slots:
                    with suppress(AttributeError):
                        waiting.append(getattr(one, slot))


def ways_to_show(one: object) -> Iterator[str]:
    yield repr(one)
    yield str(one)
    yield pprint.pformat(one)
    yield repr(getattr(one, "__dict__", ""))
    with suppress(Exception):
        yield repr(copy.copy(one))
    with suppress(attrs.exceptions.NotAnAttrsClassError):
        found: Any = one
        yield repr(attrs.asdict(found, recurse=False))
    if isinstance(one, Struct):
        yield repr(structs.asdict(one))
    with suppress(Exception):  # most of them hold what cannot be pickled
        yield pickle.dumps(one).decode("latin-1")


def shown_by(*roots: object, needles: Mapping[str, set[str]] = NEEDLES) -> list[str]:
    return [
        f"{type(one).__name__}: {', '.join(found)}"
        for one in reachable(*roots)
        for text in ways_to_show(one)
        if (found := shows(text, needles))
    ]


# A service with all its outputs


class Ears:
    """All that a service lets out."""

    def __init__(self, path: Path) -> None:
        self.log = io.StringIO()
        self.path = path
        self.file = open_events_file(str(path))
        self.errors: list[str] = []

    def outputs(self, run: Run) -> dict[str, str]:
        service = run.service
        return {
            "log": self.log.getvalue(),
            "events file": self.path.read_text(),
            "events": "".join(to_json(event).decode() for event in run.events),
            "repr of the events": "".join(map(repr, run.events)),
            "events as objects": "".join(repr(to_builtins(e)) for e in run.events),
            "summary": json.dumps(service.summary()) + repr(service.summary()),
            "statistics": repr(service.statistics),
            "errors": "".join(self.errors),
            "sentences": "".join(map(repr, service.account.account.impossible_kept)),
        }

    def check(self, run: Run) -> None:
        for name, text in self.outputs(run).items():
            assert not shows(text), (name, shows(text), text[-3000:])
        assert not shown_by(run.service, run.service.account, *run.events)


@pytest.fixture
def ears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ears]:
    async def run_sync(work: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    # A thread takes real time, in which a virtual clock would jump.
    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    ears = Ears(tmp_path / "events.jsonl")
    with logging_to(ears.log, "debug"):
        yield ears
    ears.file.close()


def listened(play: Play, ears: Ears, *acts: Act, lists: Lists, **options: Any) -> Any:
    return follow(play, *acts, lists=lists, sinks=[events_sink(ears.file)], **options)


def note_error(ears: Ears, run: Run) -> None:
    """What a program gets to see of an account that is not LIVE."""
    try:
        run.service.account.read()
    except PolyactorsError as error:
        found = traceback.TracebackException.from_exception(error, capture_locals=True)
        ears.errors.append("".join(found.format()) + repr(error))


# The server repeats what it was sent

Mouth = Callable[[Visit, str], Awaitable[None]]


async def in_a_text_frame(visit: Visit, text: str) -> None:
    await visit.send(text)


async def in_a_text_frame_far_behind(visit: Visit, text: str) -> None:
    for before in range(150, 200, 7):
        await visit.send("x" * before + text)


async def in_a_close_reason(visit: Visit, text: str) -> None:
    await visit.raw(frame_bytes(0x8, (4001).to_bytes(2, "big") + text.encode()[:123]))
    await trio.sleep(5.0)


async def in_a_close_reason_of_no_code(visit: Visit, text: str) -> None:
    await visit.raw(frame_bytes(0x8, (12).to_bytes(2, "big") + text.encode()[:123]))
    await trio.sleep(5.0)


async def in_a_ping(visit: Visit, text: str) -> None:
    await visit.raw(frame_bytes(0x9, text.encode()[:125]))


async def in_a_binary_frame(visit: Visit, text: str) -> None:
    await visit.raw(frame_bytes(0x2, text.encode() + b"\xff\xfe"))


async def in_a_broken_frame(visit: Visit, text: str) -> None:
    await visit.raw(frame_bytes(0x1, text.encode(), reserved=7))
    await trio.sleep(5.0)


async def in_bytes_of_no_frame(visit: Visit, text: str) -> None:
    await visit.raw(b"\xf7" + text.encode())
    await trio.sleep(5.0)


async def in_invalid_utf8(visit: Visit, text: str) -> None:
    await visit.raw(frame_bytes(0x1, text.encode() + b"\xff\xfe"))
    await trio.sleep(5.0)


async def in_a_frame_too_large(visit: Visit, text: str) -> None:
    with suppress(Exception):
        await visit.send(text + "x" * 20_000)
    await trio.sleep(5.0)


async def as_an_event_type(visit: Visit, text: str) -> None:
    await visit.send({"event_type": text}, [{"event_type": "x" * 80 + text}])


async def as_names(visit: Visit, text: str) -> None:
    await visit.send({text: 1}, {**order(), text: {text: 1}}, {**order(), "x" * 85 + text: 1})
    await visit.send({**trade(), "maker_orders": [{text: 1}]})


async def as_values(visit: Visit, text: str) -> None:
    names = ("type", "side", "price", "status", "original_size", "created_at", "asset_id")
    for name in names:
        await visit.send({**order(), name: text}, {**order(), name: {text: text}})
        await visit.send({**order(), name: [text]}, {**order(), name: "x" * 35 + text})
    for name in ("status", "size", "trader_side", "match_time", "maker_orders", "fee_rate_bps"):
        await visit.send({**trade(), name: text}, {**trade(), name: text[:30]})
    await visit.send({**order(), "type": None, "x": text}, text.split(), json.dumps(text), [[text]])


async def as_an_order_that_contradicts(visit: Visit, text: str) -> None:
    await visit.send(order(), order(owner=text, asset_id="12", maker_address=text))
    await visit.send(trade(owner=text, trader_side="MAKER", maker_address=ADDRESS[::-1]))
    await visit.send(trade(status="CONFIRMED"), trade(status="FAILED"))


async def with_escapes(visit: Visit, text: str) -> None:
    await visit.send(json.dumps(json.dumps(text)), "".join(f"\\u{ord(c):04x}" for c in text))
    await visit.send(text.replace("=", "%3D"), text.replace("-", "+"), repr(text.encode()))


MOUTHS: list[Mouth] = [
    in_a_text_frame,
    in_a_text_frame_far_behind,
    in_a_close_reason,
    in_a_close_reason_of_no_code,
    in_a_ping,
    in_a_binary_frame,
    in_a_broken_frame,
    in_bytes_of_no_frame,
    in_invalid_utf8,
    in_a_frame_too_large,
    as_an_event_type,
    as_names,
    as_values,
    as_an_order_that_contradicts,
    with_escapes,
]
ALL = " ".join(VALUES.values())
WORDS: dict[str, str] = {
    "the frame": "",
    **VALUES,
    "all": ALL,
    "upper case": ALL.upper(),
    "lower case": ALL.lower(),
}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("mouth", MOUTHS, ids=lambda mouth: mouth.__name__)
async def test_a_channel_that_repeats_them_is_not_repeated(
    play: Play, autojump_clock: object, ears: Ears, mouth: Mouth, words: str
) -> None:
    async def act(visit: Visit) -> None:
        await visit.upgrade()
        first = await visit.receive()
        await trio.sleep(1.0)
        await mouth(visit, WORDS[words] or first)
        await trio.sleep(5.0)

    lists = Lists()
    async with listened(play, ears, act, talk(), lists=lists, frame_bytes_max=16384) as run:
        await run.until(lambda: run.downs)
        note_error(ears, run)
        await until_state(run, LIVE)
        await trio.sleep(20.0)
    ears.check(run)
    assert "feed_down" in ears.path.read_text()


async def test_what_is_repeated_is_blacked_out_and_not_just_left_out(
    play: Play, autojump_clock: object, ears: Ears
) -> None:
    said = f"invalid credentials {API_KEY}, sorry"
    async with listened(play, ears, talk(said), lists=Lists()) as run:
        await run.until(lambda: run.service.statistics.unreadable_frames)
    assert f"excerpt='invalid credentials {REDACTED}, sorry'" in ears.log.getvalue()
    assert list(run.service.statistics.unreadable_samples) == [
        f"invalid credentials {REDACTED}, sorry"
    ]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("code", [401, 500, 403, 301])
async def test_a_handshake_that_repeats_them_is_not_repeated(
    play: Play, autojump_clock: object, ears: Ears, words: str, code: int
) -> None:
    text = WORDS[words] or ALL

    async def act(visit: Visit) -> None:
        await visit.read_request()
        headers = [(b"X-Echo", text.encode()), (b"Location", b"ws://" + text.encode())]
        await visit.request.reject(code, extra_headers=headers, body=text.encode())
        await trio.sleep(1.0)

    async with listened(play, ears, act, lists=Lists()) as run:
        await run.until(lambda: len(run.downs) >= 3)
        note_error(ears, run)
    ears.check(run)


# REST repeats what it was sent


def as_error(code: int) -> Callable[[str, httpx2.Request], httpx2.Response]:
    return lambda text, _: httpx2.Response(
        code,
        json={"error": text},
        headers={"x-echo": text, "location": f"http://elsewhere.test/{text}"},
        extensions={"reason_phrase": text.encode()},
    )


def as_rows(text: str, request: httpx2.Request) -> httpx2.Response:
    return page({**order(), "side": text, text: 1}, {**order(), "x" * 90: text})


def as_cursor(text: str, request: httpx2.Request) -> httpx2.Response:
    return page(cursor=text)


def as_headers(text: str, request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(500, text=repr(request.headers.raw), headers=request.headers)


def as_body(text: str, request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, text=text)


def as_broken(text: str, request: httpx2.Request) -> httpx2.Response:
    raise httpx2.RemoteProtocolError(f"illegal header line: {text}")


def as_sentence(text: str, request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"error": f"Unauthorized api key: {text}"})


@pytest.mark.parametrize("words", ["secret", "passphrase", "all", "upper case"])
@pytest.mark.parametrize(
    "answer",
    [
        *map(as_error, (200, 400, 401, 403, 404, 302, 500)),
        as_rows,
        as_cursor,
        as_headers,
        as_body,
        as_broken,
        as_sentence,
    ],
)
async def test_rest_that_repeats_them_is_not_repeated(
    play: Play,
    autojump_clock: object,
    ears: Ears,
    answer: Callable[[str, httpx2.Request], httpx2.Response],
    words: str,
) -> None:
    lists = Lists()
    lists.instead = lambda request: answer(WORDS[words], request)
    async with listened(play, ears, talk(), lists=lists) as run:
        await trio.sleep(30.0)
        note_error(ears, run)
    ears.check(run)


# Crashes

CRASHES: dict[str, tuple[type, str]] = {
    "account": (Account, "apply_all"),
    "account, in the middle": (Account, "_apply_order"),
    "account, while it tells": (UserLine, "tell"),
    "lists": (Account, "open_orders"),
    "parser": (UserCodec, "receive_frame"),
    "connection": (UserLine, "subscription"),
    "connection, in a session": (UserLine, "frames_for"),
    "heartbeat": (Pulse, "next_due"),
}


@pytest.mark.parametrize("words", ["injected", "all"])
@pytest.mark.parametrize("actor", CRASHES)
async def test_a_crash_of_each_actor_shows_nothing(
    play: Play,
    autojump_clock: object,
    ears: Ears,
    monkeypatch: pytest.MonkeyPatch,
    actor: str,
    words: str,
) -> None:
    kind, name = CRASHES[actor]
    method = getattr(kind, name)
    crashes = 0

    def broken(self: object, *args: Any, **kwargs: Any) -> Any:
        nonlocal crashes
        if is_armed and crashes < 2 and (kind is not Pulse or is_users(self)):
            crashes += 1
            try:
                raise KeyError(WORDS.get(words, words))
            except KeyError as error:
                raise RuntimeError(f"bug at {WORDS.get(words, words)}") from error
        return method(self, *args, **kwargs)

    def is_users(pulse: object) -> bool:
        return "user" in trio.lowlevel.current_task().name

    is_armed = False
    monkeypatch.setattr(kind, name, broken)
    said = [order(), trade(), order(matched=4), order("2"), order("3")]
    act = talk(*said, every_seconds=1.0, seconds=30.0)
    async with (
        listened(play, ears, act, lists=Lists(), markets=[M1], tokens=[YES]) as run,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(log_troubles, run.service.root.events.subscribe())  # as run_app does
        await until_state(run, LIVE)
        is_armed = True
        await run.until(lambda: run.of(ActorRestarted))
        run.service.account.subscribe(["0x" + "9" * 64])
        await trio.sleep(60.0)
        is_armed = False
        await trio.sleep(60.0)
        assert run.service.account.believed().state is LIVE
        nursery.cancel_scope.cancel()
    assert crashes == 2
    assert "Traceback" in ears.log.getvalue()
    assert "bug at" in ears.log.getvalue()
    assert "RuntimeError" in ears.log.getvalue()
    ears.check(run)


async def test_a_crash_of_no_secret_is_told_as_it_is(
    play: Play, autojump_clock: object, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = crash_once(monkeypatch, UserCodec, "receive_frame")
    async with listened(play, ears, talk(order()), lists=Lists()) as run:
        await until_state(run, LIVE)
        arm()
        await run.until(lambda: run.of(ActorRestarted))
    assert run.of(ActorRestarted)[0].reason == "crash (RuntimeError: injected)"


# Tracebacks with variables, as some tools print them


def with_variables(error: BaseException) -> str:
    """Of frames of ours only; in those of a library the headers have become bytes."""
    found: traceback.TracebackException | None
    found = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown: list[str] = []
    while found is not None:
        shown += [repr(frame.locals) for frame in found.stack if "/polyactors/" in frame.filename]
        shown += found.format_exception_only()
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return "\n".join(shown)


async def test_no_variable_of_ours_shows_them_when_a_request_fails(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[BaseException] = []

    def note(_: UserLine, text: str) -> str:
        error = sys.exception()
        if error is not None:
            caught.append(error)
        return CREDENTIALS.redact(text)

    monkeypatch.setattr(UserLine, "redact", note)
    lists = Lists()
    for answer in (as_error(500), as_error(401), as_broken, as_rows, as_body):
        lists.instead = lambda request, answer=answer: answer("no", request)
        async with follow(play, talk(), lists=lists) as run:
            await trio.sleep(3.0)
            assert run.service.account.believed().state is not LIVE
    assert len(caught) >= 5
    for error in caught:
        text = with_variables(error)
        assert not shows(text), text
    assert any("fetch_signed" in "".join(traceback.format_exception(one)) for one in caught)


async def test_no_variable_of_ours_shows_them_when_the_subscription_fails(
    play: Play, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[BaseException] = []
    send = WebSocket.send

    async def watched(websocket: Any, text: str) -> None:
        try:
            await send(websocket, text)
            raise SessionFailed("reset", "after all")
        except SessionFailed as error:
            caught.append(error)
            raise

    monkeypatch.setattr(WebSocket, "send", watched)
    async with follow(play, talk(), lists=Lists()) as run:
        await run.until(lambda: len(run.downs) >= 2)
    assert caught
    for error in caught:
        assert not shows(with_variables(error))


# Everything goes wrong


def test_nothing_comes_out_of_an_account_that_suffers_every_fault(tmp_path: Path) -> None:
    rng = Random("secrets")
    log = io.StringIO()
    worlds: list[AccountWorld] = []

    async def scenario(world: AccountWorld) -> None:
        worlds.append(world)
        await world.until(lambda: world.is_live)
        for kind in KINDS:
            world.inject(kind, seconds=rng.uniform(2.0, 5.0))
            await world.trade(rng.uniform(2.0, 5.0))
        world.account.revoke()
        await world.until(lambda: REFUSED in world.states)
        await trio.sleep(10.0)

    with logging_to(log, "debug"):
        follow_account(8, scenario)
    (world,) = worlds
    known = world.account.credentials
    values = {
        "api key": known.api_key,
        "secret": known.secret,
        "passphrase": known.passphrase,
        "address": known.address,
    }
    needles = needles_of(values, world.line.credentials.key)
    assert "refuses the API credentials" in log.getvalue()
    outputs = {
        "log": log.getvalue(),
        "events": "".join(to_json(event).decode() for event in world.events),
        "repr of the events": "".join(map(repr, world.events)),
        "summary": json.dumps(world.service.summary()),
    }
    for name, text in outputs.items():
        assert not shows(text, needles), (name, shows(text, needles))
    assert not shown_by(world.service, world.line, *world.events[:500], needles=needles)


# Copies


def test_what_knows_the_owner_is_neither_copied_nor_pickled() -> None:
    owner = Owner(API_KEY, ADDRESS)
    assert owner.owns(API_KEY, "")
    assert owner.owns("", ADDRESS.upper().replace("X", "x"))
    assert not shown_by(owner)
    assert not shown_by(Account(owner))
    assert copy.deepcopy(owner) is owner
    with pytest.raises(TypeError):
        pickle.dumps(owner)


async def test_neither_the_account_nor_the_service_is_pickled_with_them(
    play: Play, autojump_clock: object
) -> None:
    async with follow(play, talk(), lists=Lists()) as run:
        await until_state(run, LIVE)
        for one in (run.service, run.service.account, run.service.account.account):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                pickle.dumps(one)
