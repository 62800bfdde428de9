"""Tables of a report, as text and for a terminal, and its bars as a plot."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table


def text_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str] = (),
) -> str:
    """A table as plain text, columns aligned.

    Args:
        heads: Heads of the columns.
        rows: Cells of each row.
        right: Heads of the columns to align on the right.
    """
    table = [heads, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    lines = [
        "  ".join(
            cell.rjust(width) if head in right else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ).rstrip()
        for row in table
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def rich_table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str] = (),
) -> Table:
    """The same table for `rich`, which Keras prints its summaries with."""
    table = Table(title=title)
    for head in heads:
        table.add_column(head, justify="right" if head in right else "left")
    for row in rows:
        table.add_row(*row)
    return table


def bar_axes(names: Sequence[str], ax: Any = None) -> Any:
    """Matplotlib axes for one horizontal bar a name, from top to bottom.

    Args:
        names: Labels of the bars, which stand at 0, 1, 2, ...
        ax: Axes to use; `None` for new ones of a fitting height.
    """
    if ax is None:
        # Optional: `pip install keras-sn[plot]`.
        import matplotlib.pyplot as plt

        height = 1.0 + 0.3 * max(len(names), 3)
        _, ax = plt.subplots(figsize=(8, height), layout="constrained")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    return ax


def line_axes(ax: Any = None) -> Any:
    """Matplotlib axes for lines, with a logarithmic scale.

    Args:
        ax: Axes to use; `None` for new ones.
    """
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    ax.set_yscale("log")
    return ax
