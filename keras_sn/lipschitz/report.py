"""LipschitzReport: what lipschitz_bound found, as numbers, table and plot."""

import dataclasses
import math
from typing import Any

import numpy as np
import rich.table


@dataclasses.dataclass
class Row:
    """A line of a report: a layer, or layers that were bounded together."""

    name: str
    constant: float
    guarantee: str
    source: str
    reason: str | None = None


class LipschitzReport:
    """The bracket of a network's Lipschitz constant and what it rests on.

    Attributes:
        name: Name of the model.
        method: The method asked for.
        lower: A slope at a point, which a pair of inputs confirms.
        upper: Proved upper bound of the Lipschitz constant.
        layers: List of rows with `name`, `constant`, `guarantee`
            (`"exact"`, `"upper bound"`, `"none"`), `source` of the formula,
            and `reason` where the constant is `inf`. Rows that name several
            layers were bounded together. Along a chain the constants
            multiply; at a merging layer its own row says how branches join.
        note: Why there is no lower bound, or no local one; or `None`.
        per_sample: Upper bounds on the balls around inputs, `(batch,)`, of
            which `upper` is the largest; `None` where all inputs count.
    """

    def __init__(
        self,
        name: str,
        method: str,
        lower: float,
        upper: float,
        layers: list[Row],
        note: str | None = None,
        per_sample: np.ndarray | None = None,
    ):
        self.name = name
        self.method = method
        self.lower = lower
        self.upper = upper
        self.layers = layers
        self.note = note
        self.per_sample = per_sample

    @property
    def unbounded(self) -> list[Row]:
        """The rows that have no finite constant."""
        return [row for row in self.layers if math.isinf(row.constant)]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data, ready for JSON."""
        return {
            "name": self.name,
            "method": self.method,
            "lower": self.lower,
            "upper": self.upper,
            "note": self.note,
            "per_sample": (
                None if self.per_sample is None else self.per_sample.tolist()
            ),
            "layers": [dataclasses.asdict(row) for row in self.layers],
        }

    def __repr__(self) -> str:
        return (
            f"<LipschitzReport {self.name}: {self.lower:.6g} <= L <= "
            f"{self.upper:.6g} ({self.method})>"
        )

    def __str__(self) -> str:
        head = ("layer", "constant", "guarantee", "source")
        table = [head, *self._cells()]
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        lines = [
            "  ".join(
                cell.rjust(width) if i == 1 else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        lines.insert(0, self.summary())
        return "\n".join([*lines, *self._remarks()])

    def summary(self) -> str:
        """One line: the bracket and the method."""
        bracket = f"{self.name}: {self.lower:.6g} <= L <= {self.upper:.6g}"
        where = ""
        if self.per_sample is not None:
            where = f" on balls around {len(self.per_sample)} inputs"
        return f"{bracket}{where} (l2, method {self.method})"

    def __rich__(self) -> rich.table.Table:
        table = rich.table.Table(title=self.summary())
        for head in ("layer", "constant", "guarantee", "source"):
            table.add_column(
                head, justify="right" if head == "constant" else "left"
            )
        for cells in self._cells():
            table.add_row(*cells)
        table.caption = "\n".join(self._remarks()) or None
        return table

    def _remarks(self) -> list[str]:
        remarks = [f"{row.name}: {row.reason}" for row in self.unbounded]
        return remarks if self.note is None else [*remarks, self.note]

    def _cells(self) -> list[tuple[str, str, str, str]]:
        return [
            (row.name, f"{row.constant:.6g}", row.guarantee, row.source)
            for row in self.layers
        ]

    def plot(self, ax: Any = None) -> Any:
        """Draws the share of each row: the logarithm of its constant.

        Args:
            ax: Matplotlib axes to draw into; `None` for new ones.

        Returns:
            The axes.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            height = 1.0 + 0.3 * max(len(self.layers), 3)
            _, ax = plt.subplots(figsize=(7, height), layout="constrained")
        names = [row.name for row in self.layers]
        logs = [
            math.log10(row.constant) if row.constant > 0 else -math.inf
            for row in self.layers
        ]
        finite = [value for value in logs if math.isfinite(value)]
        limit = max([abs(value) for value in finite], default=0.0) or 1.0
        shown = [min(max(value, -limit), limit) for value in logs]
        colors = [
            "tab:red" if math.isinf(value) else "tab:blue" for value in logs
        ]
        positions = range(len(names))
        ax.barh(positions, shown, color=colors)
        ax.set_yticks(positions, names)
        ax.invert_yaxis()
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_xlabel("log10 of the constant (red: unbounded or zero)")
        ax.set_title(self.summary(), fontsize="medium")
        return ax
