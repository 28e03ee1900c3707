"""The real service, run once on virtual time, and what can be read off it for the documents.

All that `run --user --market … --events FILE` starts is started, against the embedded exchange,
which misbehaves until every kind of message was sent. What the actors say to one another is
written down as it is said, who supervises whom is read off the running tree.
"""

import io
import logging
import os
import re
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from random import Random
from typing import Any

import trio
import trio.testing
from attrs import frozen

from polyactors import messages
from polyactors.account.credentials import Credentials
from polyactors.book.numbers import PRICE_ONE, Side
from polyactors.config import Settings
from polyactors.discovery import Wanted
from polyactors.environment import Environment
from polyactors.logs import LogLines
from polyactors.parser import UNREADABLE_PER_SESSION_MAX
from polyactors.rest import RestClient
from polyactors.service import Service
from polyactors.sinks import events_sink, open_events_file
from polyactors.terminal.display import Display
from polyactors.user.line import UserLine
from polyactors.venue import FaultKind, GarbageVariant, NoTarget, OrderType, Venue, VenueAccount
from polyactors.venue.memory import memory_network
from polysupervisor import Address, ChildSpec, Intensity, MailboxSpec, Strategy, Supervisor
from polysupervisor._context import current_context
from polysupervisor._machine import Machine

EPOCH_NS = 1_700_000_000 * 10**9
SECONDS_MAX = 600.0
"""Of virtual time, until every message must have been sent."""
ARROW = re.compile(
    r"(?P<senders>[a-z ,]+) → (?P<receiver>[a-z ]+?)(?P<where> of the user channel)?(?:,[^:]*)?: "
)
"""How the docstring of a message begins."""
OUTSIDE = "service"
"""Who calls a method of the service, and is no actor."""


@frozen
class Node:
    """One child of the running tree."""

    path: str
    spec: ChildSpec[Any] | None
    """None for the root, and for a supervisor that was given as an instance."""
    strategy: Strategy | None
    """None for a worker, and so on down to `is_dynamic`."""
    intensity: Intensity | None
    is_dynamic: bool
    children: "tuple[Node, ...]"

    @property
    def id(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def mailbox(self) -> MailboxSpec | None:
        return None if self.spec is None else self.spec.mailbox

    def walk(self) -> "Iterator[Node]":
        """It and all below it, in start order."""
        yield self
        for child in self.children:
            yield from child.walk()


@frozen(order=True)
class Said:
    """One actor has sent a message of this class to another."""

    message: str
    sender: str
    receiver: str


@frozen
class Living:
    """What was seen."""

    root: Node
    said: frozenset[Said]


def actor_of(path: str) -> str:
    """What the documents call the actor with this path, whichever feed it is of."""
    name = path.rpartition("/")[2]
    return "book shard" if name.startswith("shard-") else name


@cache
def observe() -> Living:
    """Run the service until every kind of message has been seen, and describe it."""
    said: set[Said] = set()
    root = None

    async def main() -> None:
        nonlocal root
        with _listening(said):
            root = await _live(said)

    logging.getLogger("polyactors").addHandler(logging.NullHandler())  # it warns of the faults
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))
    assert root is not None
    return Living(root, frozenset(said))


@contextmanager
def _listening(said: set[Said]) -> Generator[None, None, None]:
    patched: Any = Address
    send, send_nowait = patched.send, patched.send_nowait

    def hear(address: Address[Any], message: object) -> None:
        # Of whoever sends: a message that is handled in its sender's task is handled in the
        # receiver's context all the same.
        context = current_context.get(None)
        sender = OUTSIDE if context is None else actor_of(context.path)
        said.add(Said(type(message).__name__, sender, actor_of(address.path)))

    async def heard_send(self: Address[Any], msg: object) -> None:
        hear(self, msg)
        await send(self, msg)

    def heard_send_nowait(self: Address[Any], msg: object) -> None:
        hear(self, msg)
        send_nowait(self, msg)

    patched.send, patched.send_nowait = heard_send, heard_send_nowait
    try:
        yield
    finally:
        patched.send, patched.send_nowait = send, send_nowait


def declared() -> frozenset[Said]:
    """Who sends what to whom, as the docstrings of messages.py have it: `sender → receiver: …`.

    Missed is left out: it travels within Parsed.
    """
    found: set[Said] = set()
    for name, thing in vars(messages).items():
        if isinstance(thing, type) and thing.__module__ == messages.__name__ and name != "Missed":
            arrow = ARROW.match(thing.__doc__ or "")
            assert arrow is not None, f"{name} does not say who sends it to whom"
            for sender in re.split(", | or ", arrow["senders"]):
                found.add(Said(name, sender, arrow["receiver"]))
    return frozenset(found)


async def _live(said: set[Said]) -> Node:
    """The tree of a service that has lived until every kind of message was sent."""
    venue = Venue(1, markets=2, rate=5.0, now_ms=lambda: (EPOCH_NS + _virtual_ns()) // 1_000_000)
    account = venue.add_account()
    known = account.credentials
    settings = Settings(
        gamma_url="https://gamma.venue/gamma",
        data_deadline_seconds=5.0,
        audit_seconds=5.0,
        first_book_deadline_seconds=2.0,
        reconcile_seconds=5.0,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(venue.run)
        network = memory_network(venue, nursery)
        env = Environment(settings, network, clock_ns=lambda: EPOCH_NS + _virtual_ns())
        owner = Credentials(known.api_key, known.secret, known.passphrase, known.address)
        listed = [market.condition_id for market in venue.markets]
        with closing(open_events_file(os.devnull)) as nowhere:
            async with RestClient(settings, network) as rest:
                service = Service(
                    Wanted(tokens=tuple(venue.tokens[:2]), top=2),
                    env=env,
                    rest=rest,
                    user=UserLine(owner, env, listed[:1]),
                    sinks=[events_sink(nowhere)],
                    last=Display(io.StringIO(), False, LogLines(io.StringIO()), "").child,
                    rng=Random(1),
                )
                await nursery.start(service.run)
                await trio.sleep(1.0)
                root = _look(service.root)  # while nothing has failed, and discovery still is
                service.account.subscribe(listed[1:])
                await _misbehave(venue, said, account)
                service.stop()
                await trio.sleep(60.0)
        nursery.cancel_scope.cancel()
    return root


async def _misbehave(venue: Venue, said: set[Said], account: VenueAccount) -> None:
    """One fault after the other, until everything was said."""
    rng, wanted, round_ = Random(1), declared(), 0
    with trio.move_on_after(SECONDS_MAX):
        while wanted - said:
            round_ += 1
            for kind in (FaultKind.LOST_DELTA, FaultKind.MISSING_BOOK, FaultKind.TOKEN_STALL):
                with suppress(NoTarget):
                    venue.inject(kind, token=rng.choice(venue.tokens), reset=True)
            with suppress(NoTarget):
                if round_ % 3 == 1:
                    venue.inject(FaultKind.STALL, seconds=30.0)
                elif round_ % 3 == 2:
                    for _ in range(UNREADABLE_PER_SESSION_MAX + 1):
                        garbage = GarbageVariant.SHAPE
                        venue.inject(
                            FaultKind.GARBAGE, session=max(venue.sessions), variant=garbage
                        )
                else:
                    venue.inject(FaultKind.STALL, account=account.api_key, seconds=20.0)
            await trio.sleep(1.0)
            for token in venue.tokens:
                account.place(token, Side.BID, PRICE_ONE // 100, 10 * PRICE_ONE, OrderType.GTC)
            await trio.sleep(20.0)


def _virtual_ns() -> int:
    return int(trio.current_time() * 1e9)


def _look(supervisor: Supervisor, spec: ChildSpec[Any] | None = None) -> Node:
    # The specifications are nobody's business but the supervisor's, and the documents'.
    machine: Machine = supervisor._machine  # pyright: ignore[reportPrivateUsage]
    flags = machine._flags  # pyright: ignore[reportPrivateUsage]
    children: list[Node] = []
    for child in machine._children.values():  # pyright: ignore[reportPrivateUsage]
        nested = child.instance
        if nested is None and child.current is not None:
            nested = child.current.nested
        if isinstance(nested, Supervisor):
            children.append(_look(nested, None if child.instance is not None else child.spec))
        else:
            children.append(Node(child.path, child.spec, None, None, False, ()))
    return Node(machine.path, spec, flags.strategy, flags.intensity, flags.dynamic, tuple(children))
