"""What can be asked of a mailbox, and what it counts."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum
from typing import Any

import attrs


class Overflow(Enum):
    """What a full mailbox does with one more message."""

    BLOCK = "block"
    """``send`` waits for room, first come first served; ``send_nowait`` raises
    ``trio.WouldBlock``."""
    ERROR = "error"
    """``send`` and ``send_nowait`` raise ``trio.WouldBlock``."""
    DROP_OLDEST = "drop_oldest"
    """The oldest messages are discarded until there is room. Neither send ever waits or fails."""
    DROP_NEWEST = "drop_newest"
    """The new message is discarded. Neither send ever waits or fails."""
    COALESCE = "coalesce"
    """A message replaces the queued one of the same key, in its place. Neither send ever waits;
    a message of one more *distinct* key than ``size`` raises ``trio.WouldBlock``."""
    CLEAR_AND_GAP = "clear_and_gap"
    """All that is queued is discarded and one ``MailboxGap`` put in its place, the new message
    behind it (with a size of 1: discarded too). Neither send ever waits or fails."""


@attrs.frozen
class MailboxGap:
    """What a mailbox with ``CLEAR_AND_GAP`` holds in the place of the messages it discarded.

    The actor receives it like a message, and must know how to go on without the missing ones.
    """

    dropped: int
    """How many messages are missing here; a later gap includes an earlier one not yet read."""


@attrs.frozen
class MailboxSpec:
    """The mailbox of a child. Raises ``ValueError`` for what makes no sense together."""

    size: int = attrs.field(default=256, validator=attrs.validators.ge(1))
    """Messages (with ``COALESCE``: distinct keys) that it holds; at least 1."""
    overflow: Overflow = Overflow.BLOCK
    """What happens when it is full."""
    key: Callable[[Any], Hashable] | None = None
    """Which messages are the same, for ``COALESCE`` and only for it; runs in the sender."""
    keep_on_restart: bool = True
    """Whether the next incarnation gets what is queued. If not, the queue is emptied (and the
    messages counted as dropped) when the old incarnation has ended, and once more when its
    whole group has; what is sent from then on is kept for the next incarnation."""
    redeliver: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """How often a message that was in flight when an incarnation failed is given to the next
    one; then it counts as lost. For actors to which the same message twice does no harm. The
    messages return to the front, also when the mailbox is full: it then holds more than
    ``size``, by one batch at most. Needs ``keep_on_restart``."""
    stall_after: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.gt(0))
    )
    """Seconds for which messages may wait without a receive or a ``beat``; then the child has
    stalled, and is stopped as failed. ``None``: for ever."""

    def __attrs_post_init__(self) -> None:
        if (self.key is not None) != (self.overflow is Overflow.COALESCE):
            raise ValueError("key and Overflow.COALESCE need each other")
        if self.redeliver and not self.keep_on_restart:
            raise ValueError("redeliver needs keep_on_restart, or the queue would be emptied")


@attrs.frozen
class MailboxStats:
    """Figures of one mailbox, over all incarnations."""

    depth: int
    """Messages queued now."""
    peak: int
    """Most messages that were ever queued."""
    blocked: int
    """Senders waiting for room now."""
    sent: int
    """Messages taken from senders so far, those discarded at once included."""
    coalesced: int
    """Messages that a newer one of the same key replaced: while queued, or because it was queued
    already when they were to be redelivered."""
    dropped: int
    """Messages discarded unread: on overflow, at restarts with ``keep_on_restart=False``, and at
    the end. A ``MailboxGap`` is none."""
    oldest_age: float
    """Seconds since the oldest queued message was sent; 0.0 when there is none. What replaces
    messages (of the same key, or a gap) is as old as the oldest of them."""
    lost_in_flight: int
    """Messages received by incarnations that failed before they received again."""
    redelivered: int
    """Messages put back for the next incarnation instead, each time counted."""
