"""OTP's rules as a small pure model: no tasks, no waiting. Written from the rules, not the code.

Actors of the model start and stop at once. Backoff is modelled for one_for_one only, as OTP has
none and a group restarts without delay there.
"""

import heapq
from collections import defaultdict
from itertools import count

import attrs

from polysupervisor import Restart, Strategy


@attrs.frozen
class Worker:
    """A child that does what it is told."""

    id: str
    restart: Restart = Restart.PERMANENT
    significant: bool = False
    backoff: float = 0
    """Seconds before each restart."""


@attrs.frozen
class Branch:
    """A supervisor, and its specification as a child of the one above."""

    id: str
    children: "tuple[Worker | Branch, ...]" = ()
    restart: Restart = Restart.PERMANENT
    strategy: Strategy = Strategy.ONE_FOR_ONE
    limit: int = 3
    period: int = 5
    on_exhausted: str = "escalate"
    auto_shutdown: str = "never"
    significant: bool = False
    backoff: float = 0


Spec = Worker | Branch


@attrs.define(eq=False)
class Child:
    """A child in the model: ``up``, ``restarting`` or ``down``."""

    spec: Spec
    path: str
    state: str = "down"
    number: int = 0
    nested: "Supervisor | None" = None


class World:
    """What all supervisors of one tree share: the clock, the story, and who fails to start."""

    def __init__(self) -> None:
        self.now = 0.0
        self.story: dict[str, list[str]] = defaultdict(list)
        """Per supervisor what happened to its children, in order."""
        self.failing_starts: dict[str, int] = {}
        self._timers: list[tuple[float, int, Supervisor, Child, int]] = []
        self._order = count()

    def tell(self, path: str, number: int, kind: str) -> None:
        self.story[path.rpartition("/")[0]].append(f"{path}#{number} {kind}")

    def start_later(self, owner: "Supervisor", child: Child, delay: float) -> None:
        entry = (self.now + delay, next(self._order), owner, child, child.number)
        heapq.heappush(self._timers, entry)

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, owner, child, number = heapq.heappop(self._timers)
            waits = child.state == "restarting" and child.number == number
            if owner.is_up and waits and child in owner.children:
                owner.try_again(child)
        self.now = end


class Supervisor:
    """One supervisor by OTP's rules."""

    def __init__(self, world: World, spec: Branch, path: str, number: int) -> None:
        self.world = world
        self.spec = spec
        self.path = path
        self.number = number
        self.children = [Child(each, f"{path}/{each.id}") for each in spec.children]
        self.granted: list[float] = []
        self.is_up = False
        self.above: tuple[Supervisor, Child] | None = None

    # Starts and stops.

    def start(self) -> bool:
        """Start all in order; at a failure stop those that are up, in reverse."""
        for child in list(self.children):
            if not self.start_one(child):
                self.stop(self.children)
                return False
        self.is_up = True
        return True

    def start_one(self, child: Child) -> bool:
        child.number += 1
        self.world.tell(child.path, child.number, "starting")
        if isinstance(child.spec, Branch):
            child.nested = Supervisor(self.world, child.spec, child.path, child.number)
            child.nested.above = (self, child)
            starts = child.nested.start()
        else:
            failing = self.world.failing_starts.get(child.path, 0)
            self.world.failing_starts[child.path] = max(failing - 1, 0)
            starts = failing == 0
        child.state = "up" if starts else "down"
        self.world.tell(child.path, child.number, "started" if starts else "start_failed")
        return starts

    def stop(self, children: list[Child]) -> None:
        """Stop in reverse; temporary ones are forgotten."""
        for child in reversed(list(children)):
            if child.state == "up":
                child.state = "down"
                self.world.tell(child.path, child.number, "stopping")
                if child.nested is not None:
                    child.nested.end()
                self.world.tell(child.path, child.number, "stopped")
            child.state = "down"
            if child.spec.restart is Restart.TEMPORARY and child.number and self.is_up:
                self.children.remove(child)

    def end(self) -> None:
        """Stop all of it."""
        self.is_up = False
        self.stop(self.children)

    # Exits.

    def exited(self, child: Child, how: str) -> None:
        """A child ended by itself: how is crash, expected or return."""
        child.state = "down"
        self.world.tell(child.path, child.number, "exited")
        finished = child.spec.restart is Restart.TRANSIENT and how == "return"
        if child.spec.restart is Restart.TEMPORARY:
            self.children.remove(child)
        elif not finished:
            self.restart(child, how)
            return
        self.consider_auto_shutdown(child)

    def consider_auto_shutdown(self, child: Child) -> None:
        """A child is down for good; is that the end of the supervisor?"""
        if child.spec.significant and self.significance_is_spent():
            self.end()
            self.report("return")

    def significance_is_spent(self) -> bool:
        if self.spec.auto_shutdown == "any":
            return True
        alive = [each for each in self.children if each.spec.significant and each.state != "down"]
        return self.spec.auto_shutdown == "all" and not alive

    def restart(self, child: Child, how: str) -> None:
        if how != "expected":
            recent = [at for at in self.granted if at >= self.world.now - self.spec.period]
            if len(recent) >= self.spec.limit:
                self.exhausted(child)
                return
            self.granted = [*recent, self.world.now]
        group = self.group(child)
        if self.spec.strategy is Strategy.ONE_FOR_ONE:
            child.state = "restarting"
            self.world.tell(child.path, child.number, "restart_scheduled")
            if child.spec.backoff:
                self.world.start_later(self, child, child.spec.backoff)
            else:
                self.try_again(child)
            return
        self.stop(group)
        self.world.tell(child.path, child.number, "restart_scheduled")
        for member in [each for each in group if each in self.children]:
            if not self.start_one(member):
                self.restart(member, "crash")
                return

    def try_again(self, child: Child) -> None:
        if not self.start_one(child):
            self.restart(child, "crash")

    def group(self, child: Child) -> list[Child]:
        if self.spec.strategy is Strategy.ONE_FOR_ONE:
            return [child]
        place = self.children.index(child)
        whole = self.spec.strategy is Strategy.ONE_FOR_ALL
        return self.children[:] if whole else self.children[place:]

    def exhausted(self, child: Child) -> None:
        self.world.tell(child.path, child.number, "intensity")
        group = self.group(child)
        others = [each for each in self.children if each not in group and each.state != "down"]
        mode = self.spec.on_exhausted
        if mode == "escalate" or (mode == "give_up_unless_last" and not others):
            self.world.tell(self.path, self.number, "escalated")
            self.end()
            self.report("crash")
        else:
            self.world.tell(child.path, child.number, "gave_up")
            child.state = "down"
            self.stop([each for each in group if each is not child])
            self.consider_auto_shutdown(child)

    def report(self, how: str) -> None:
        """Tell the supervisor above that this one has ended by itself."""
        if self.above is not None:
            above, child = self.above
            above.exited(child, how)

    # Commands; each returns "ok" or the name of the error.

    def find(self, child_id: str) -> Child | None:
        return next((each for each in self.children if each.spec.id == child_id), None)

    def start_child(self, spec: Spec) -> str:
        present = self.find(spec.id)
        if present is not None:
            return "AlreadyRunning" if present.state == "up" else "AlreadyPresent"
        child = Child(spec, f"{self.path}/{spec.id}")
        self.children.append(child)
        if self.start_one(child):
            return "ok"
        self.children.remove(child)
        return "StartFailed"

    def stop_child(self, child_id: str) -> str:
        child = self.find(child_id)
        if child is None:
            return "NotFound"
        self.stop([child])
        return "ok"

    def restart_child(self, child_id: str, *, force: bool) -> str:
        child = self.find(child_id)
        if child is None:
            return "NotFound"
        if child.state == "up" and not force:
            return "AlreadyRunning"
        if child.state == "restarting" and not force:
            return "Restarting"
        if child.state == "up":
            child.state = "down"
            self.world.tell(child.path, child.number, "stopping")
            if child.nested is not None:
                child.nested.end()
            self.world.tell(child.path, child.number, "stopped")
        if self.start_one(child):
            return "ok"
        if child.spec.restart is Restart.TEMPORARY:
            self.children.remove(child)
        return "StartFailed"

    def delete_child(self, child_id: str) -> str:
        child = self.find(child_id)
        if child is None:
            return "NotFound"
        if child.state != "down":
            return "AlreadyRunning" if child.state == "up" else "Restarting"
        self.children.remove(child)
        return "ok"

    # Who there is.

    def live(self) -> "list[Supervisor]":
        """This supervisor and all below it that are up."""
        below = [each.nested for each in self.children if each.state == "up" and each.nested]
        return [self, *(found for nested in below for found in nested.live())]
