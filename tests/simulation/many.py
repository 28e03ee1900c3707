"""Thousands of seeds, by hand: `python -m tests.simulation.many 1-2000 --processes 4`.

Plays the story of each seed, prints what broke, with the seed, and at the end how long each
kind of fault stayed undetected. `--digest` prints a digest of each seed's stream instead: two
runs of one seed, in whatever process, must print the same. The exit code is 1 when a seed broke.
From a checkout, set PYTHONPATH=.:actors:supervisor.
"""

import argparse
import hashlib
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from attrs import define, field, frozen
from tests.simulation import stories
from tests.simulation.oracle import Error
from tests.simulation.world import World

from polyactors.events import to_json


@frozen
class Played:
    """What came of one seed."""

    seed: int
    failure: str
    """Empty when every law held."""
    errors: tuple[Error, ...] = ()
    struck: tuple[str, ...] = ()
    """The kinds of the faults that did something."""
    reasons: tuple[str, ...] = ()
    """Why tokens turned STALE, once each."""
    compared: int = 0
    shown: int = 0


@define
class Report:
    """What came of many seeds."""

    played: int = 0
    compared: int = 0
    shown: int = 0
    struck: Counter[str] = field(factory=Counter[str])
    reasons: Counter[str] = field(factory=Counter[str])
    errors: dict[str, list[Error]] = field(factory=dict[str, list[Error]])
    """By the kinds of faults that can have caused them."""

    def add(self, played: Played) -> None:
        """Count a seed in."""
        self.played += 1
        self.compared += played.compared
        self.shown += played.shown
        self.struck.update(played.struck)
        self.reasons.update(played.reasons)
        for error in played.errors:
            self.errors.setdefault("+".join(error.kinds), []).append(error)

    def lines(self) -> Iterator[str]:
        """The report, for people; seconds from the loss to the detection, of what was detected."""
        yield f"{self.played} seeds, {self.compared} settled books compared, {self.shown} changes"
        yield f"struck: {_counts(self.struck)}"
        yield f"STALE: {_counts(self.reasons)}"
        yield f"{'wrong by':<30}  books mended     p50     p99     max of bound"
        for kinds, errors in sorted(self.errors.items()):
            found = sorted(error.seconds for error in errors if error.reason is not None)
            used = max(error.seconds / error.bound if error.bound else 0.0 for error in errors)
            times = [found[int(q * (len(found) - 1))] for q in (0.5, 0.99, 1.0)] if found else []
            cells = "".join(f" {time:7.3f}" for time in times) or " " * 24
            mended = len(errors) - len(found)
            yield f"{kinds[:30]:<30} {len(errors):>6} {mended:>6}{cells} {used:7.0%}"
            yield f"{'':<8}{_counts(Counter(e.reason.value for e in errors if e.reason))}"


def play(seed: int) -> Played:
    """Play one seed."""
    try:
        world = stories.run(seed)
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        return Played(seed, f"{type(error).__name__}: {error}\n{notes}")
    return played(seed, world)


def played(seed: int, world: World) -> Played:
    """What came of a seed in which every law held."""
    return Played(
        seed,
        "",
        tuple(world.oracle.errors),
        tuple(r.kind.value for r in world.venue.fault_log if r.struck is not None),
        tuple(world.laws.stale_reasons),
        world.oracle.compared,
        world.oracle.shown,
    )


def digest(world: World) -> str:
    """Of the whole stream, byte by byte."""
    return hashlib.sha256(b"\n".join(map(to_json, world.events))).hexdigest()


def run(seeds: Iterable[int], processes: int) -> int:
    """Play them all; returns how many broke."""
    report, failures = Report(), 0
    with ProcessPoolExecutor(processes, initializer=_be_quiet) as pool:
        for result in pool.map(play, seeds):
            if result.failure:
                failures += 1
                print(f"\n=== seed {result.seed}\n{result.failure}", flush=True)
            report.add(result)
    print("\n".join(report.lines()))
    print(f"{failures} seeds broke")
    return failures


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Play the stories of many seeds.")
    parser.add_argument("seeds", help="a seed, or a range like 1-2000")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--digest", action="store_true", help="print the streams' digests")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if arguments.digest:
        _be_quiet()
        for seed in seeds:
            print(seed, digest(stories.run(seed)))
        return 0
    return 1 if run(seeds, arguments.processes) else 0


def _be_quiet() -> None:
    logging.disable()


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
