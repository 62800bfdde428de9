"""`python -m benchmarks`: measures the backend of Keras, shows and saves it."""

import argparse
import dataclasses
import pathlib
import sys

from rich.console import Console

from benchmarks.environment import environment
from benchmarks.environment import print_environment
from benchmarks.measuring import measure
from benchmarks.peers import missing
from benchmarks.plots import plot_files
from benchmarks.plots import plot_run
from benchmarks.results import Run
from benchmarks.roofline import measured_rates
from benchmarks.tables import rich_tables
from benchmarks.timing import Effort
from benchmarks.workloads import MEASURES
from benchmarks.workloads import WARM
from benchmarks.workloads import cases


def main() -> None:
    """Measures and reports."""
    arguments = _arguments()
    quick = arguments.quick
    effort = Effort(
        arguments.rounds or (3 if quick else 15), 0.01 if quick else 0.1
    )
    facts = environment(sys.argv[1:])
    print_environment(facts)
    for line in missing():
        print(line)
    rates = measured_rates(effort.rounds)
    facts |= {"rounds": effort.rounds, "rates": dataclasses.asdict(rates)}
    run = Run(facts, [])
    for case in cases():
        wanted = case.name in arguments.workload and (case.quick or not quick)
        if wanted:
            print(f"{case.label} ...", file=sys.stderr, flush=True)
            run.results.extend(
                measure(case, set(arguments.measure), effort, rates)
            )
            # A run takes long: what is there is not lost.
            run.write(arguments.out / f"{run.backend}.json")
    _report(run, arguments.out)


def _arguments() -> argparse.Namespace:
    names = list(dict.fromkeys(case.name for case in cases()))
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--measure", type=_some_of(MEASURES))
    parser.add_argument(
        "--workload",
        type=_some_of(names),
        default=names,
        help="of " + ", ".join(names),
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("out/benchmarks")
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few cases and rounds: to see that it works, not how fast",
    )
    arguments = parser.parse_args()
    if arguments.measure is None:
        arguments.measure = WARM if arguments.quick else MEASURES
    return arguments


def _some_of(names):
    """The type of an argument: names with commas between."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(names):
            raise argparse.ArgumentTypeError(
                f"{', '.join(sorted(unknown))}: not one of {', '.join(names)}"
            )
        return chosen

    return parse


def _report(run: Run, folder: pathlib.Path) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in rich_tables(run.results):
        console.print(table)
    for result in run.results:
        if result.failed:
            what = f"{result.case}, {result.variant}, {result.measure}"
            print(f"{what}: {result.failed}")
    plot_run(run, folder)
    print("in", folder, *plot_files(run), f"{run.backend}.json")


if __name__ == "__main__":
    main()
