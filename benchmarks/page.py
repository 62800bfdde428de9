"""docs/benchmarks.md, its plots and the README's table of costs, from results.

`python -m benchmarks.page` reads benchmarks/results/*.json, as
`python -m benchmarks --out benchmarks/results` writes them. No number on a
page is written by hand.
"""

import itertools
import pathlib
from collections.abc import Iterator

from benchmarks.measuring import EAGER
from benchmarks.measuring import TRAIN
from benchmarks.measuring import TRAINED
from benchmarks.plots import plot_files
from benchmarks.plots import plot_run
from benchmarks.results import Run
from benchmarks.results import read_run
from benchmarks.subjects import KERNEL
from benchmarks.subjects import OPERATOR
from benchmarks.subjects import PLAIN
from benchmarks.subjects import STOCK
from benchmarks.tables import BACKENDS
from benchmarks.tables import Ratios
from benchmarks.tables import markdown
from benchmarks.tables import measures
from benchmarks.tables import title

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"
README = ROOT / "README.md"
# What stands between these in the README is written here.
MARKS = ("<!-- costs: python -m benchmarks.page -->\n", "<!-- end of costs -->")
README_MEASURES = (TRAIN, TRAINED, EAGER)

INTRODUCTION = """\
# Benchmarks

What normalization costs, as the ratio to the plain model. This page is written
by `python -m benchmarks.page` from `benchmarks/results/*.json`; a run of your
own is

    make benchmark          # every backend, table, JSON and plots
    make benchmark-page     # this page and the README's table, from its JSON

and a part of it `KERAS_BACKEND=jax python -m benchmarks --measure
train,inference --workload mlp,discriminator`. Peers are measured where they
are installed: `pip install flax equinox`.

## How it is measured

- The variants of a model run in one process, on the same batch, one after the
  other in every round, each round in another order. A ratio is that of two
  times of one round; the page shows the median of the rounds, the JSON the
  10 and 90 % quantiles and every sample, the plots both.
- `stock` is `keras.layers.SpectralNormalization`, `keras_sn` our wrapper with
  `norm="kernel"`, `operator` with `norm="operator"` (shown where there are
  convolutions: elsewhere it is the same), `folded` the model of `fold_model`.
  PyTorch, Flax and Equinox are models of these frameworks with their own
  spectral normalization, divided by the plain model of the same framework.
- The stock wrapper fails on recurrent and attention layers, returns zeros for
  the ids of an Embedding, and on JAX does not normalize what it serves.
- *Least* is the ratio that one reading of each normalized weight for each
  product with it allows (two a power iteration in training, one at inference),
  at the rate that the backend reads a large matrix with. Where the plain
  product leaves the weight in the cache, or the product with `v` shares the
  plain product's reading, less is possible. In the plots it is a stroke, along
  the curves a dashed line.
- Building, the first calls and peak memory take a process each. Memory is that
  of the process above what it holds after `import keras`.
"""
NO_RUN = """\
No run is committed yet.
"""


def page(runs: list[Run]) -> str:
    """The text of docs/benchmarks.md, of a run for each backend."""
    parts = [INTRODUCTION]
    for run in runs:
        parts += [f"## {BACKENDS[run.backend]}\n", _origin(run)]
        parts += [
            f"![{file}]({PLOTS.name}/{file})\n" for file in plot_files(run)
        ]
        parts += [*_sections(run), *_failures(run)]
    if not runs:
        parts.append(NO_RUN)
    return "\n".join(parts)


def _origin(run: Run) -> str:
    """Where the numbers come from."""
    facts = run.environment
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    threads = ", ".join(f"{k}={v}" for k, v in facts["threads"].items())
    rates = facts["rates"]
    lines = [
        f"`{facts['command']}`, {facts['rounds']} rounds, on {facts['date']}, "
        f"commit {facts['commit']}.",
        f"{facts['processor']}, {facts['cores']} cores, {facts['system']}, "
        f"Python {facts['python']}, {versions}; threads: "
        f"{threads or 'as the backend chooses'}.",
        f"Reads {rates['bytes_per_second'] / 1e9:.1f} GB/s, multiplies "
        f"{rates['multiply_adds_per_second'] / 1e9:.0f}e9 times a second.",
    ]
    if facts["busy"]:
        lines.append(
            f"**The load average was {facts['load']:.1f} at the start: others "
            "may have been at work.**"
        )
    return "\n".join(lines) + "\n"


def _sections(run: Run) -> Iterator[str]:
    """A table for each measure."""
    for measure in measures(run.results):
        found = Ratios(run, measure)
        rows = [
            [
                case,
                found.median(case, PLAIN),
                *[found.ratio(case, variant) for variant in found.variants],
                found.least(case, KERNEL),
            ]
            for case in found.cases
        ]
        heads = ["", PLAIN, *map(title, found.variants), "least"]
        yield f"### {BACKENDS[run.backend]}: {measure}\n"
        yield markdown(heads, rows) + "\n"


def _failures(run: Run) -> Iterator[str]:
    """What could not be measured."""
    lines = [
        f"- {result.case}, {title(result.variant)}, {result.measure}: "
        f"`{result.failed}`"
        for result in run.results
        if result.failed
    ]
    if lines:
        yield f"### {BACKENDS[run.backend]}: fails\n"
        yield "\n".join(lines) + "\n"


def costs(runs: list[Run]) -> str:
    """The tables of the README."""
    machines = {
        f"{run.environment['processor']}, {run.environment['cores']} cores"
        for run in runs
    }
    parts = [
        "Ratio to the plain model, medians of interleaved rounds on "
        f"{' and '.join(sorted(machines))}; `make benchmark` measures your "
        "machine. `stock` is `keras.layers.SpectralNormalization`, which "
        "returns zeros for the ids of an Embedding; *operator* is "
        '`norm="operator"`, where it differs.\n'
    ]
    for measure in README_MEASURES:
        found = [Ratios(run, measure) for run in runs]
        heads = [
            f"{BACKENDS[run.backend]}: {title(variant)}"
            for run in runs
            for variant in (STOCK, KERNEL)
        ]
        parts.append(markdown([measure, *heads], _cost_rows(found)) + "\n")
    return "\n".join(parts)


def _cost_rows(found: list[Ratios]) -> Iterator[list[str]]:
    """The rows of one measure, two columns for each backend."""
    for case in dict.fromkeys(c for r in found for c in r.table_cases):
        pairs = [(r.ratio(case, STOCK), r.ratio(case, KERNEL)) for r in found]
        yield [case, *itertools.chain(*pairs)]
        operator = [("", r.ratio(case, OPERATOR)) for r in found]
        if any(ratio for _, ratio in operator):
            yield [f"{case}, operator", *itertools.chain(*operator)]


def with_costs(readme: str, text: str) -> str:
    """The README with another text between the marks."""
    start, end = MARKS
    before, _, rest = readme.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{text}\n{end}{after}"


def main() -> None:
    """Writes the page, the plots and the table of costs."""
    runs = [read_run(path) for path in sorted(RESULTS.glob("*.json"))]
    for run in runs:
        plot_run(run, PLOTS)
    PAGE.write_text(page(runs), "utf-8")
    if runs:
        readme = README.read_text("utf-8")
        README.write_text(with_costs(readme, costs(runs)), "utf-8")


if __name__ == "__main__":
    main()
