"""Results as tables, for a terminal and as Markdown."""

from collections.abc import Iterable

from rich.table import Table

from benchmarks.results import Result
from benchmarks.results import Run

TITLES = {
    "stock": "stock",
    "kernel": "keras_sn",
    "operator": "keras_sn, operator",
    "folded": "keras_sn, folded",
}
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
HEADS = (
    *("case", "variant", "median", "ratio", "10-90 %"),
    *("least ratio", "added / least"),
)


def title(variant: str) -> str:
    """What a variant is called."""
    return TITLES.get(variant, variant)


def measures(results: Iterable[Result]) -> list[str]:
    """The measures there are, in the order of the run."""
    return list(dict.fromkeys(r.measure for r in results if not r.failed))


def cells(result: Result) -> list[str]:
    """The row of a result."""
    assert result.median is not None
    assert result.ratio is not None
    low, middle, high = result.ratio
    least, times = "", ""
    if result.floor and result.least_ratio and result.added is not None:
        least = f"{result.least_ratio:.3f}"
        times = f"{result.added / result.floor.seconds:.1f}"
    return [
        *(result.case, title(result.variant), amount(result)),
        *(f"{middle:.3f}", f"{low:.3f}-{high:.3f}", least, times),
    ]


def amount(result: Result) -> str:
    """The median with its unit."""
    assert result.median is not None
    if result.unit == "MB":
        return f"{result.median:.0f} MB"
    return f"{1e3 * result.median:.4g} ms"


def rich_tables(results: list[Result]) -> list[Table]:
    """A table for each measure."""
    tables = []
    for measure in measures(results):
        table = Table(title=measure)
        for head in HEADS:
            text = head in ("case", "variant")
            table.add_column(head, justify="left" if text else "right")
        rows = [r for r in results if r.measure == measure and r.median]
        for i, result in enumerate(rows):
            last = i + 1 == len(rows) or rows[i + 1].case != result.case
            table.add_row(*cells(result), end_section=last)
        tables.append(table)
    return tables


def markdown(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Ratios:
    """The results of one measure of a run, by case and variant.

    Args:
        run: The run.
        measure: The measure.
    """

    def __init__(self, run: Run, measure: str) -> None:
        self._found = {
            (result.case, result.variant): result
            for result in run.results
            if result.measure == measure and not result.failed
        }
        self._failed = {
            (result.case, result.variant)
            for result in run.results
            if result.failed
        }
        results = self._found.values()
        self.cases = list(dict.fromkeys(r.case for r in results))
        # Without the points of the curves.
        self.table_cases = list(
            dict.fromkeys(r.case for r in results if r.x is None)
        )
        # Without those that the others are compared with; ours first.
        known = [*TITLES, *dict.fromkeys(r.variant for r in results)]
        compared = {r.variant for r in results if r.variant != r.base}
        self.variants = [v for v in dict.fromkeys(known) if v in compared]

    def ratio(self, case: str, variant: str) -> str:
        """Such as `1.08`; `fails`; or nothing."""
        result = self._found.get((case, variant))
        if result and result.ratio:
            return f"{result.ratio[1]:.2f}"
        return "fails" if (case, variant) in self._failed else ""

    def least(self, case: str, variant: str) -> str:
        """The ratio that the floor allows."""
        result = self._found.get((case, variant))
        least = result and result.least_ratio
        return f"{least:.2f}" if least else ""

    def median(self, case: str, variant: str) -> str:
        """The time or the memory itself."""
        result = self._found.get((case, variant))
        return amount(result) if result else ""
