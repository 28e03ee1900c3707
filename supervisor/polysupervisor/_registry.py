"""Names: how one child of the tree finds another without knowing where it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from polysupervisor._address import Address, life_of
from polysupervisor._exit import ExitReason
from polysupervisor._life import Life, Watcher
from polysupervisor.errors import NameTaken


class Registry:
    """The names of one tree: one registry, shared by all its supervisors.

    A name belongs to a child, not to an incarnation, so it survives restarts. It is free again
    when the child has ended for good: it finished, was stopped by command, given up or
    forgotten, or its supervisor ended. A child that ``restart_child`` revives registers anew. A
    name that is given to a child before it starts, or while it stays down, is kept for it.

    A child may have several names. Belongs to the thread of Trio; only ``wait_for`` waits.
    """

    def __init__(self) -> None:
        self._addresses: dict[str, Address[Any]] = {}
        self._names: dict[Life, set[str]] = {}
        self._release = _Release(self._free_all_of)
        # A lot is there only while somebody waits in it, so that names which never come (nor
        # their waiters, who gave up) leave nothing behind.
        self._awaited: dict[str, trio.lowlevel.ParkingLot] = {}

    def register(self, name: str, address: Address[Any] | None = None) -> None:
        """Give a name to the child of ``address``; by default to the actor that calls this.

        Harmless if it is that child's name already. Raises ``NameTaken`` if it is another's,
        ``trio.BrokenResourceError`` if the child was forgotten or its supervisor has ended, and
        ``RuntimeError`` without ``address`` outside an actor.
        """
        if address is None:
            address = _own_address()
        life = life_of(address)
        if life.is_over:
            raise trio.BrokenResourceError(f"{life.path} has ended for good: no name for it")
        holder = self._addresses.get(name)
        if holder is None:
            self._addresses[name] = address
            self._names.setdefault(life, set()).add(name)
            life.watch(self._release)
            if name in self._awaited:
                self._awaited.pop(name).unpark_all()
        elif holder != address:
            raise NameTaken(f"{name!r} is the name of {holder.path}, which has not ended for good")

    def unregister(self, name: str) -> None:
        """Free a name, whoever has it; idempotent."""
        address = self._addresses.pop(name, None)
        if address is None:
            return
        life = life_of(address)
        names = self._names[life]
        names.discard(name)
        if not names:
            del self._names[life]
            life.unwatch(self._release)

    def lookup(self, name: str) -> Address[Any] | None:
        """Return the address of the child of that name, or ``None``."""
        return self._addresses.get(name)

    async def wait_for(self, name: str) -> Address[Any]:
        """Wait until there is a child of that name and return its address.

        There is no bound of its own: use ``trio.fail_after``. Within a start the start timeout
        is one; a child that waits so for a sibling that starts after it waits in vain.
        *Cancellation*: leaves nothing behind.
        """
        await trio.lowlevel.checkpoint()
        while name not in self._addresses:  # it may be freed before we run
            lot = self._awaited.setdefault(name, trio.lowlevel.ParkingLot())
            try:
                await lot.park()
            finally:
                if not lot and self._awaited.get(name) is lot:
                    del self._awaited[name]
        return self._addresses[name]

    def names(self) -> tuple[str, ...]:
        """Return the names in use, sorted."""
        return tuple(sorted(self._addresses))

    def _free_all_of(self, life: Life) -> None:
        for name in list(self._names.get(life, ())):
            self.unregister(name)


class _Release(Watcher):
    """Frees the names of a child once it stays down."""

    def __init__(self, free_all_of: Callable[[Life], None]) -> None:
        self._free_all_of = free_all_of

    def on_up(self, life: Life) -> None:
        """Nothing: names are given by ``register`` alone."""

    def on_down(self, life: Life, reason: ExitReason, *, failed: bool) -> None:
        """Nothing: names survive restarts."""

    def on_rest(self, life: Life) -> None:
        self._free_all_of(life)

    def on_end(self, life: Life) -> None:
        self._free_all_of(life)


def _own_address() -> Address[Any]:
    # Imported here, since a context has a registry.
    from polysupervisor._context import current_context

    context = current_context.get(None)
    if context is None:
        raise RuntimeError("only an actor has an address of its own: give register() an address")
    return context.address
