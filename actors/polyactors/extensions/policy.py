"""What is decided about an actor of a user's: mailbox, supervision, limits."""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from attrs import field, frozen
from attrs.validators import ge, gt, in_, instance_of, le, lt

from polyactors.stream import QUEUE_EVENTS_MIN

EVENTS_MAX = 4096
"""Messages that the mailbox of an actor holds, unless it asks for more or less."""
EVENTS_MAX_MAX = 1_000_000

Overflow = Literal["coalesce", "drop_oldest", "restart"]
Restart = Literal["permanent", "temporary"]


@frozen(kw_only=True)
class ActorPolicy:
    """Mailbox, supervision and limits of an actor. Each can be set in its table, too."""

    mailbox: int = field(
        default=EVENTS_MAX,
        validator=[ge(QUEUE_EVENTS_MIN), le(EVENTS_MAX_MAX)],
        metadata={"help": "messages that its mailbox holds"},
    )
    overflow: Overflow = field(
        default="coalesce",
        validator=in_(("coalesce", "drop_oldest", "restart")),
        metadata={"help": "a full mailbox coalesces book updates, drops the oldest, or restarts"},
    )
    """What a full mailbox does. `coalesce`: of each token only the newest book update is kept;
    if that is not enough the oldest messages go, the last trust change of a token last of all.
    `drop_oldest`: half of the messages go, the oldest. Both leave a Gap (reason overflow, no
    feed). `restart`: everything goes and the actor is restarted, so that it begins afresh."""
    restart: Restart = field(
        default="permanent",
        validator=in_(("permanent", "temporary")),
        metadata={"help": "whether it is restarted when it has failed: permanent, or temporary"},
    )
    backoff_seconds_min: float = field(
        default=0.25, validator=ge(0), metadata={"help": "the first restart waits about so long"}
    )
    backoff_seconds_max: float = field(
        default=30.0,
        validator=[ge(0), lt(math.inf)],
        metadata={"help": "no restart ever waits longer"},
    )
    gives_up_after: int = field(
        default=5,
        validator=[instance_of(int), ge(0)],
        metadata={"help": "restarts in a row, then it stays down"},
    )
    healthy_seconds: float = field(
        default=60.0, validator=gt(0), metadata={"help": "having lived so long ends a row"}
    )
    handle_seconds_max: float = field(
        default=30.0, validator=gt(0), metadata={"help": "one `handle` or `setup` may take so long"}
    )
    hold_seconds_max: float = field(
        default=0.1,
        validator=gt(0),
        metadata={"help": "it may hold the event loop so long, then it is interrupted"},
    )
    stop_seconds_max: float = field(
        default=5.0,
        validator=[gt(0), lt(math.inf)],
        metadata={"help": "to handle what is left, and for `teardown`, at a stop"},
    )

    def __attrs_post_init__(self) -> None:
        if self.backoff_seconds_min > self.backoff_seconds_max:
            raise ValueError("backoff_seconds_min must be at most backoff_seconds_max")


POLICY = "__polyactors_policy__"
"""The attribute in which `actor` leaves the policy."""
T = TypeVar("T")


def actor(**policy: Any) -> Callable[[T], T]:
    """Decorate an actor's class or function with its policy: the fields of ActorPolicy.

    Raises TypeError or ValueError, when the module is imported, for what is no policy.
    """
    made = ActorPolicy(**policy)

    def decorate(target: T) -> T:
        setattr(target, POLICY, made)
        return target

    return decorate


def policy_of(target: object) -> ActorPolicy:
    """The policy that was decorated on it, or the default."""
    made = getattr(target, POLICY, None)
    return made if isinstance(made, ActorPolicy) else ActorPolicy()
