"""The reference of the messages: who sends what to whom, and what is in it."""

from pathlib import Path
from types import ModuleType

from tests.documents.api import entry
from tests.documents.living import ARROW, actor_of, declared, observe
from tests.documents.markdown import table
from tests.supervisor.reference_page import names_of

from polyactors import messages
from polyactors.protocol import events, user_events
from polysupervisor import MailboxSpec, Overflow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "messages.md"
HEAD = """\
# Messages

What the actors say to one another, from the code (`python -m tests.documents` writes this page;
that nothing else is said, and each of these, is seen in a run of the whole service). What they say
to your program is another page: [events](events.md). What happens when a mailbox is full:
[back-pressure](../explanation/back-pressure.md).

A message is a frozen class. It carries lists, since a hop costs the same for one thing as for many,
and the number of its session, the *epoch*: what belongs to a session that has ended is dropped and
counted. Delivery is at most once; what was lost is asked for anew, as a whole book.

![Who sends what to whom](../explanation/flow.svg)

"""
MARKET = """\
## What the market channel says

The exchange's messages, as the parser hands them on in `Parsed`: one class per event, whatever its
era on the wire. Prices and sizes are integers in *units*, 10⁻⁹ USDC per share and 10⁻⁹ shares
(`polyactors.book.numbers`); `to_decimal` makes them exact decimals again.
"""
USER = """\
## What the user channel says

In `UserParsed`; on the wire they are described in [the user channel](../real-time/user-channel.md).
"""


def page() -> str:
    """The text of the page."""
    head = ("message", "from", "to", "its mailbox", "what it says")
    boxes = mailboxes()
    parts = [HEAD + table(head, (_row(name, boxes) for name in _sent()))]
    parts += [
        "## What is in them\n",
        *(entry(messages.__name__, name) for name in _classes(messages)),
    ]
    parts += [MARKET, *(entry(events.__name__, name) for name in _classes(events))]
    parts += [USER, *(entry(user_events.__name__, name) for name in _classes(user_events))]
    return "\n".join(parts)


def mailboxes() -> dict[str, MailboxSpec]:
    """By actor; those of the same name, of a feed and of the user channel, are alike."""
    found: dict[str, MailboxSpec] = {}
    for node in observe().root.walk():
        if node.mailbox is not None:
            before = found.setdefault(actor_of(node.path), node.mailbox)
            assert full(before) == full(node.mailbox), node.path
    return found


def full(spec: MailboxSpec) -> str:
    """What happens when a mailbox is full, in words."""
    if spec.overflow is Overflow.COALESCE:
        return f"{spec.size:,} keys, the newest message of each"
    assert spec.overflow is Overflow.BLOCK, "the documents do not know how to say it"
    return f"{spec.size:,}, then the sender waits"


def _sent() -> list[str]:
    names = {one.message for one in declared()}
    return [name for name in _classes(messages) if name in names]


def _row(name: str, boxes: dict[str, MailboxSpec]) -> list[str]:
    said = sorted(one for one in declared() if one.message == name)
    (receiver,) = {one.receiver for one in said}
    text = getattr(messages, name).__doc__
    arrow = ARROW.match(text)
    assert arrow is not None
    what = " ".join(text[arrow.end() :].partition("\n\n")[0].split())
    senders = ", ".join(one.sender for one in said)
    return [
        f"[`{name}`](#{name.lower()})",
        senders,
        receiver,
        full(boxes[receiver]),
        what[0].upper() + what[1:],
    ]


def _classes(module: ModuleType) -> list[str]:
    return [name for name in names_of(module) if isinstance(getattr(module, name), type)]
