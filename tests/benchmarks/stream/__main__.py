"""What a stream costs, ours and others': ``python -m tests.benchmarks.stream --help``."""

import argparse
import sys
from pathlib import Path
from textwrap import fill

from tests.benchmarks.stream.report import Report
from tests.benchmarks.stream.roster import CLIENTS, NAMES, NODE_MODULES, PEERS_PYTHON, Ready
from tests.benchmarks.stream.runner import run_all, run_once
from tests.benchmarks.stream.scenarios import Scenario, scenarios

DESCRIPTION = """\
Measure what a stream of books costs: polyactors, what bounds it, what one writes first, and
the peers that are installed. Clients take turns on one exchange that is never the bottleneck;
figures are medians of all rounds, ratios are taken within a round, and a run counts only if
its books are right at the end.
"""
EPILOG = f"""\
scenarios:
{{scenarios}}

Peers are found through two variables of the environment; what is not there is skipped:
  {PEERS_PYTHON}  a Python with nautilus_trader[polymarket], uvloop,
                                 polymarket-apis, polymarket-client, websockets
  {NODE_MODULES}  a node_modules with @nevuamarkets/poly-websockets

tests/benchmarks/README.md says how to install them and what each client is.
"""
OUT = Path("benchmark-results")
ROUNDS = 5
WIDTH = 92


def tell(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr, flush=True)


def options_of(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    known = scenarios(is_quick=False)
    indent = " " * 13
    listed = "\n".join(
        fill(f"  {one.name:<11}{one.text}", WIDTH, subsequent_indent=indent) for one in known
    )
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.stream",
        description=DESCRIPTION,
        epilog=EPILOG.format(scenarios=listed),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [one.name for one in known]
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help="which of those below; all by default"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument(
        "--clients", default=",".join(NAMES), metavar="CLIENT,...", help=",".join(NAMES)
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one tiny round of all, only with clients that need nothing installed: "
        "shows that it works, and no more",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="measure nothing: write a profile of polyactors for each scenario",
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="DIR", help="for report, chart, figures, profiles"
    )
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="put the tables and the chart into docs/explanation/performance.md; scenarios that "
        "were not run this time are taken from DIR",
    )
    parser.add_argument(
        "--no-run", action="store_true", help="only write again what DIR has figures of"
    )
    options = parser.parse_args(argv)
    if unknown := set(options.scenarios) - set(names):
        parser.error(
            f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(names)}"
        )
    options.clients = options.clients.split(",")
    if unknown := set(options.clients) - set(NAMES):
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    if options.quick and options.write_docs:
        parser.error("quick figures mean nothing: they are not for the docs")
    options.rounds = 1 if options.quick else options.rounds
    return options


def profile(wanted: list[Scenario], out: Path) -> None:
    """Run ours once in every variant, under a profiler."""
    [ours] = (one for one in CLIENTS if one.name == "ours")
    ready = Ready.find(ours)
    assert isinstance(ready, Ready)
    out.mkdir(parents=True, exist_ok=True)
    for scenario in wanted:
        for variant in scenario.variants:
            label = variant.label.replace(",", "").replace("/", " a ")
            name = "-".join(["profile", scenario.name, *label.split()])
            path = (out / f"{name}.txt").resolve()
            run = run_once(ready, variant, tell, profile=str(path))
            print(path, *run.faults)


def main(argv: list[str] | None = None) -> None:
    """Measure, and write what was measured."""
    options = options_of(argv)
    out: Path = options.out
    known = scenarios(is_quick=options.quick)
    wanted = [one for one in known if not options.scenarios or one.name in options.scenarios]
    if options.profile:
        profile(wanted, out)
        return
    older = None if options.quick else Report.read(out)
    if options.no_run:
        report = older
    else:
        report = measured(options, wanted)
        report = report.joined(older) if older is not None else report
    if report is None:
        sys.exit(f"{out}: no figures there")
    report.write(out, is_quick=options.quick)
    if options.write_docs:
        report.write_docs()
    print(report.markdown(is_quick=options.quick), end="")


def measured(options: argparse.Namespace, wanted: list[Scenario]) -> Report:
    """Run what is there."""
    clients = [
        one
        for one in CLIENTS
        if one.name in options.clients and (one.needs_no_peer or not options.quick)
    ]
    found = {one.name: Ready.find(one) for one in clients}
    ready = [one for one in found.values() if isinstance(one, Ready)]
    absent = {name: one for name, one in found.items() if isinstance(one, str)}
    for name, why in absent.items():
        tell(f"{name}: skipped ({why})")
    runs = run_all(wanted, ready, options.rounds, tell)
    return Report.of(wanted, ready, absent, runs, options.rounds)


if __name__ == "__main__":
    main()
