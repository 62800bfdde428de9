"""LipschitzReport: what lipschitz_bound found, as numbers, table and plot."""

import dataclasses
import math


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
    """

    def __init__(self, name, method, lower, upper, layers):
        self.name = name
        self.method = method
        self.lower = lower
        self.upper = upper
        self.layers = layers

    @property
    def unbounded(self):
        """The rows that have no finite constant."""
        return [row for row in self.layers if math.isinf(row.constant)]

    def to_dict(self):
        """The report as plain Python data, ready for JSON."""
        return {
            "name": self.name,
            "method": self.method,
            "lower": self.lower,
            "upper": self.upper,
            "layers": [dataclasses.asdict(row) for row in self.layers],
        }

    def __repr__(self):
        return (
            f"<LipschitzReport {self.name}: {self.lower:.6g} <= L <= "
            f"{self.upper:.6g} ({self.method})>"
        )

    def __str__(self):
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
        lines.extend(f"{row.name}: {row.reason}" for row in self.unbounded)
        return "\n".join(lines)

    def summary(self):
        """One line: the bracket and the method."""
        return (
            f"{self.name}: {self.lower:.6g} <= L <= {self.upper:.6g} "
            f"(l2, method {self.method})"
        )

    def __rich__(self):
        from rich.table import Table

        table = Table(title=self.summary())
        for head in ("layer", "constant", "guarantee", "source"):
            table.add_column(
                head, justify="right" if head == "constant" else "left"
            )
        for cells in self._cells():
            table.add_row(*cells)
        if self.unbounded:
            table.caption = "\n".join(
                f"{row.name}: {row.reason}" for row in self.unbounded
            )
        return table

    def _cells(self):
        return [
            (row.name, f"{row.constant:.6g}", row.guarantee, row.source)
            for row in self.layers
        ]

    def plot(self, ax=None):
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
