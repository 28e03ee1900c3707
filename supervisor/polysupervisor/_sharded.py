"""A fixed number of equal children, among which keys are spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from hashlib import blake2b
from random import Random
from typing import Any, Generic, NoReturn, TypeVar, cast

from polysupervisor._address import Address
from polysupervisor._child import ChildSpec, Restart
from polysupervisor._dynamic import PER_CHILD_INTENSITY, DynamicSupervisor
from polysupervisor._events import EventBus
from polysupervisor._intensity import Intensity
from polysupervisor._supervisor import STOP_DEADLINE_SECONDS
from polysupervisor.errors import SupervisionError

M = TypeVar("M")


class ShardedSupervisor(DynamicSupervisor, Generic[M]):
    """A supervisor of ``shards`` children of one kind; each key belongs to one of them.

    Elixir's PartitionSupervisor: ``make`` is called with each number below ``shards`` and
    returns the specification of that shard, which must be permanent. The shards start in
    order, are restarted each for itself (one that fails too often is given up, unless
    ``intensity`` says otherwise) and stop at the same time.

    Since every shard has its keys, none can be added, stopped or deleted by itself;
    ``restart_child`` restarts one, or brings one back that was given up. Raises ``ValueError``
    if ``shards`` is below 1, two shards have one id, or one is not permanent. The other
    arguments are those of :class:`Supervisor`.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[int], ChildSpec[M]],
        *,
        shards: int,
        intensity: Intensity = PER_CHILD_INTENSITY,
        stop_deadline: float = STOP_DEADLINE_SECONDS,
        rng: Random | None = None,
        events: EventBus | None = None,
    ) -> None:
        if shards < 1:
            raise ValueError(f"{name} needs at least 1 shard, not {shards}")
        specs = [make(number) for number in range(shards)]
        for spec in specs:
            if spec.restart is not Restart.PERMANENT:
                raise ValueError(f"{name}/{spec.id} is a shard, so it must be permanent")
        super().__init__(
            name,
            specs,
            intensity=intensity,
            stop_deadline=stop_deadline,
            rng=rng,
            events=events,
        )
        self._addresses: list[Address[M]] = [self.address(spec.id) for spec in specs]

    def route(self, key: Hashable) -> Address[M]:
        """Return the address of the shard to which ``key`` belongs; it never changes.

        The same key goes to the same shard in every process and every run with this number of
        shards, on every machine; keys that are equal go together, the others spread evenly.
        A key is ``None``, a number (``int``, ``float`` or ``bool``), ``str``, ``bytes``, or a
        tuple of these: raises ``TypeError`` for others, whose hash need not be stable. While
        the shard is given up, its senders get ``trio.BrokenResourceError``.
        """
        digest = blake2b(_encode(key), digest_size=8).digest()
        return self._addresses[int.from_bytes(digest, "big") % len(self._addresses)]

    async def start_child(self, spec: ChildSpec[Any]) -> NoReturn:
        """Refuse: raises ``SupervisionError``."""
        raise self._refusal(f"{spec.id} cannot be added")

    async def stop_child(self, id: str) -> NoReturn:  # noqa: A002 - its name in a spec
        """Refuse: raises ``SupervisionError``."""
        raise self._refusal(f"{id} cannot be stopped by itself")

    async def delete_child(self, id: str) -> NoReturn:  # noqa: A002 - its name in a spec
        """Refuse: raises ``SupervisionError``."""
        raise self._refusal(f"{id} cannot be deleted")

    def _refusal(self, what: str) -> SupervisionError:
        count = len(self._addresses)
        return SupervisionError(f"{self.path} has a fixed number of shards, {count}: {what}")


def _encode(key: Hashable) -> bytes:
    """Return the same bytes for equal keys only. Changing this moves everybody's keys."""
    if key is None:
        return b"n"
    if isinstance(key, str):
        return b"s" + str.encode(key, "utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    if isinstance(key, int | float):
        return b"i" + _number(key).encode()
    if isinstance(key, tuple):
        parts = [_encode(part) for part in cast("tuple[Hashable, ...]", key)]
        return b"t" + b"".join(b"%d:%b" % (len(part), part) for part in parts)
    raise TypeError(
        f"a key is None, a number, str, bytes or a tuple of these, not {type(key).__name__}"
    )


def _number(key: float) -> str:
    # As a fraction, since 1 == 1.0 == True; in base 16, since that has no limit of digits.
    if isinstance(key, float) and not math.isfinite(key):
        return str(key)
    numerator, denominator = key.as_integer_ratio()
    return f"{numerator:x}/{denominator:x}"
