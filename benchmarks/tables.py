"""Results as tables, for a terminal and as Markdown."""

from collections.abc import Callable
from collections.abc import Iterable

from rich.table import Table

from benchmarks.results import Result

TITLES = {
    "stock": "stock",
    "kernel": "keras_sn",
    "operator": "keras_sn, operator",
    "folded": "keras_sn, folded",
}
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
        *(result.case, title(result.variant), _amount(result)),
        *(f"{middle:.3f}", f"{low:.3f}-{high:.3f}", least, times),
    ]


def _amount(result: Result) -> str:
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


def ratio_table(
    results: list[Result], variants: list[str], cell: Callable[[Result], str]
) -> str:
    """Markdown: a row for each case, a column for each variant."""
    found = {(r.case, r.variant): r for r in results}
    rows = []
    for case in dict.fromkeys(r.case for r in results):
        entries = [found.get((case, variant)) for variant in variants]
        if any(entries):
            rows.append([case, *[cell(e) if e else "" for e in entries]])
    return markdown(["", *map(title, variants)], rows)
