"""All actors of users, of one service."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polyactors.environment import Environment
from polyactors.extensions.extension import ActorStatus, Extension
from polyactors.extensions.spec import ActorSpec, check_names
from polysupervisor import ChildState, DynamicSupervisor, ExitReason, Intensity

if TYPE_CHECKING:
    from polyactors.service import Service

NAME = "extensions"
UNLIMITED = Intensity(1_000_000, 1.0, scope="child", on_exhausted="give_up")
"""Each actor's own row of failures decides."""


class Extensions:
    """All actors of users, of one service."""

    def __init__(self, specs: Iterable[ActorSpec], env: Environment) -> None:
        """Raises UsageError when two have one name."""
        specs = tuple(specs)
        check_names(specs)
        self._all = {spec.name: Extension(spec, env, self) for spec in specs}
        self._supervisor: DynamicSupervisor | None = None

    def __bool__(self) -> bool:
        return bool(self._all)

    def find(self, name: str) -> Extension:
        """An actor. Raises LookupError."""
        try:
            return self._all[name]
        except KeyError:
            known = ", ".join(self._all) or "none"
            raise LookupError(f"there is no actor {name!r}; there are {known}") from None

    def supervisor(self, service: "Service") -> DynamicSupervisor:
        """The supervisor of all of them."""
        self._supervisor = DynamicSupervisor(
            NAME, [one.child(service) for one in self._all.values()], intensity=UNLIMITED
        )
        return self._supervisor

    def gave_up(self, path: str) -> None:
        """The supervisors gave up what has this path, which may be one of these."""
        found = self._at(path)
        if found is not None:
            found.gave_up()

    def failed(self, path: str, reason: ExitReason) -> bool:
        """What has this path, which may be one of these, failed. Returns whether it is one that is
        not restarted."""
        found = self._at(path)
        if found is None:
            return False
        found.failed(reason)
        return found.spec.policy.restart == "temporary"

    def _at(self, path: str) -> Extension | None:
        name = path.removeprefix(f"root/{NAME}/")
        return None if name == path else self._all.get(name)

    def statuses(self) -> list[ActorStatus]:
        """All of them, now."""
        states: dict[str, ChildState] = {}
        if self._supervisor is not None:
            states = {child.id: child.state for child in self._supervisor.children()}
        return [one.status(states.get(name, ChildState.STOPPED)) for name, one in self._all.items()]
