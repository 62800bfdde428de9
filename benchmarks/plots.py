"""Results as plots: the ratio of each case, and its growth along the curves."""

import itertools
import pathlib
from collections.abc import Iterable

from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import Result
from benchmarks.results import Run
from benchmarks.tables import BACKENDS
from benchmarks.tables import measures
from benchmarks.tables import title

# One colour for one variant in every plot; distinct for the colour-blind.
COLOURS = {
    "stock": "#999999",
    "kernel": "#0072b2",
    "operator": "#d55e00",
    "folded": "#009e73",
    "PyTorch": "#e69f00",
    "Flax": "#cc79a7",
    "Equinox": "#56b4e9",
}


def shown(results: list[Result]) -> list[Result]:
    """Those with a ratio worth showing: of 1 is every base to itself."""
    return [r for r in results if r.ratio and r.variant != r.base]


def plot_files(run: Run) -> list[str]:
    """The names of the plots there are of a run."""
    curves = {r.x is not None for r in shown(run.results)}
    named = ((False, "ratios"), (True, "growth"))
    return [
        f"{run.backend}_{name}.svg" for kind, name in named if kind in curves
    ]


def plot_run(run: Run, folder: pathlib.Path) -> None:
    """Writes the plots of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    # The same results give the same file.
    plt.rcParams["svg.hashsalt"] = "keras_sn"
    for file in plot_files(run):
        growth = "growth" in file
        chosen = [r for r in shown(run.results) if (r.x is not None) == growth]
        figure = (_growth if growth else _ratios)(run.backend, chosen)
        figure.savefig(folder / file, metadata={"Date": None})
        plt.close(figure)


def _ratios(backend: str, results: list[Result]) -> Figure:
    """A panel for each measure, a point with its spread for each variant."""
    names = measures(results)
    labels = {m: _labels(results, m) for m in names}
    heights = [1 + len(labels[m]) for m in names]
    figure, axes = plt.subplots(
        len(names),
        figsize=(8, 1 + 0.32 * sum(heights)),
        layout="constrained",
        squeeze=False,
        height_ratios=heights,
    )
    for ax, measure in zip(axes.flat, names, strict=True):
        chosen = [r for r in results if r.measure == measure]
        _ratio_panel(ax, chosen, labels[measure])
        ax.set_title(measure, loc="left", fontsize=10)
    _legend(figure, axes.flat, f"ratio to the plain model, {BACKENDS[backend]}")
    return figure


def _labels(results: list[Result], measure: str) -> list[str]:
    return list(dict.fromkeys(r.case for r in results if r.measure == measure))


def _ratio_panel(ax: Axes, results: list[Result], labels: list[str]) -> None:
    variants = list(dict.fromkeys(r.variant for r in results))
    for i, variant in enumerate(variants):
        own = [r for r in results if r.variant == variant]
        offset = 0.6 * ((i + 0.5) / len(variants) - 0.5)
        least = [(r.least_ratio, r.case) for r in own if r.least_ratio]
        ax.scatter(
            [ratio for ratio, _ in least],
            [labels.index(case) + offset for _, case in least],
            marker="|",
            color=COLOURS.get(variant, "black"),
        )
        ax.errorbar(
            [r.ratio[1] for r in own if r.ratio],
            [labels.index(r.case) + offset for r in own],
            xerr=_spread(own),
            fmt="o",
            markersize=4,
            capsize=2,
            color=COLOURS.get(variant, "black"),
            label=title(variant),
        )
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_xscale("log")
    _plain_ticks(ax)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(axis="x", which="both", alpha=0.3)


def _plain_ticks(ax: Axes) -> None:
    """Ratios as numbers, not as powers of ten, and as few as are read."""
    low, high = ax.get_xlim()
    fine = (0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5)
    coarse = (*(0.2, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50), *(100, 200, 500, 1000))
    # Where even the smallest of the coarse steps would be too far apart.
    steps = fine if high < 1.6 else coarse
    ticks = [step for step in steps if low <= step <= high]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def _growth(backend: str, results: list[Result]) -> Figure:
    """A row for each measure, a column for each curve."""
    names = measures(results)
    curves = list(dict.fromkeys(r.workload for r in results))
    figure, axes = plt.subplots(
        len(names),
        len(curves),
        figsize=(1 + 3 * len(curves), 1 + 2.2 * len(names)),
        layout="constrained",
        squeeze=False,
    )
    panels = itertools.product(enumerate(names), enumerate(curves))
    for (i, measure), (j, curve) in panels:
        chosen = [
            r for r in results if (r.measure, r.workload) == (measure, curve)
        ]
        _growth_panel(axes[i, j], chosen)
        axes[i, j].set_xlabel(curve.replace("_", " "))
        axes[i, 0].set_ylabel(measure.replace(", ", ",\n"))
    _legend(figure, axes.flat, f"ratio to the plain model, {BACKENDS[backend]}")
    return figure


def _growth_panel(ax: Axes, results: list[Result]) -> None:
    for variant in dict.fromkeys(r.variant for r in results):
        own = [r for r in results if r.variant == variant]
        colour = COLOURS.get(variant, "black")
        x = [r.x for r in own if r.x]
        ax.errorbar(
            x,
            [r.ratio[1] for r in own if r.ratio],
            yerr=_spread(own),
            marker="o",
            markersize=4,
            capsize=2,
            color=colour,
            label=title(variant),
        )
        least = [(r.x, r.least_ratio) for r in own if r.least_ratio]
        if least:
            at, ratios = zip(*least, strict=True)
            ax.plot(at, ratios, "--", color=colour, label="least")
    ax.axhline(1, color="black", linewidth=0.8)
    ax.set_xscale("log", base=2)
    ticks = sorted({r.x for r in results if r.x})
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.grid(alpha=0.3)


def _spread(results: list[Result]) -> list[list[float]]:
    ratios = [r.ratio for r in results if r.ratio]
    below = [middle - low for low, middle, _ in ratios]
    above = [high - middle for _, middle, high in ratios]
    return [below, above]


def _legend(figure: Figure, axes: Iterable[Axes], heading: str) -> None:
    handles: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.suptitle(heading)
    columns = max(1, int(figure.get_figwidth() // 2))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
    )
