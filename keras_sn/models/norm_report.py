"""norm_report: the certified norms of all weights of a model."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
from rich.table import Table

from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.registry import maps_and_reasons
from keras_sn.linear_maps.weights import unique_keys
from keras_sn.models.folding import fold_model
from keras_sn.models.folding import is_foldable
from keras_sn.norms.bounds import NormBounds
from keras_sn.norms.spectral_norm import spectral_norm
from keras_sn.tables import bar_axes
from keras_sn.tables import rich_table
from keras_sn.tables import text_table

_HEADS = ("weight", "layer", "shape", "norm from", "to")
_NUMBERS = ("norm from", "to")


@dataclasses.dataclass(frozen=True)
class NormRow:
    """The norm of one weight.

    Attributes:
        weight: Path of the weight.
        layer: Name of the layer it belongs to.
        layer_class: Name of the class of that layer.
        shape: Shape of the weight.
        lower: The norm is at least this.
        upper: The norm is at most this; infinite if nothing is known.
        reason: Why nothing is known, and the way out; else `None`.
    """

    weight: str
    layer: str
    layer_class: str
    shape: tuple[int, ...]
    lower: float
    upper: float
    reason: str | None = None


class NormReport:
    """The certified norms of a model's weights, as numbers, table and plot.

    Attributes:
        name: Name of the model.
        norm: `"operator"` or `"kernel"`.
        rows: List of `NormRow`, in the order of the layers.
    """

    def __init__(self, name: str, norm: str, rows: list[NormRow]):
        self.name = name
        self.norm = norm
        self.rows = rows

    @property
    def largest(self) -> float:
        """Certified upper bound of all norms."""
        return max((row.upper for row in self.rows), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data, ready for JSON."""
        return {
            "name": self.name,
            "norm": self.norm,
            "rows": [
                {**dataclasses.asdict(row), "shape": list(row.shape)}
                for row in self.rows
            ],
        }

    def summary(self) -> str:
        """One line: how many weights, and the largest norm."""
        return (
            f"{self.name}: {len(self.rows)} weights, {self.norm} norm at most "
            f"{self.largest:.6g}"
        )

    def __repr__(self) -> str:
        return f"<NormReport {self.summary()}>"

    def __str__(self) -> str:
        table = text_table(_HEADS, self._cells(), right=_NUMBERS)
        return "\n".join([self.summary(), table, *self._remarks()])

    def __rich__(self) -> Table:
        cells = self._cells()
        table = rich_table(self.summary(), _HEADS, cells, right=_NUMBERS)
        table.caption = "\n".join(self._remarks()) or None
        return table

    def _remarks(self) -> list[str]:
        return [row.reason for row in self.rows if row.reason is not None]

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.weight,
                row.layer_class,
                "x".join(map(str, row.shape)),
                f"{row.lower:.6g}",
                f"{row.upper:.6g}",
            )
            for row in self.rows
        ]

    def plot(self, ax: Any = None) -> Any:
        """Draws the certified upper bound of each norm; red: not known.

        Args:
            ax: Matplotlib axes to draw into; `None` for new ones.

        Returns:
            The axes.
        """
        ax = bar_axes([row.weight for row in self.rows], ax)
        norms = [row.upper for row in self.rows]
        known = [math.isfinite(norm) for norm in norms]
        largest = max(filter(math.isfinite, norms), default=1.0)
        ax.barh(
            range(len(norms)),
            [min(norm, largest) for norm in norms],
            color=["tab:blue" if finite else "tab:red" for finite in known],
        )
        ax.axvline(1, color="black", linewidth=0.8)
        ax.set_xlabel(f"certified {self.norm} norm")
        ax.set_title(self.summary(), fontsize="medium")
        return ax


def norm_report(
    model: keras.layers.Layer,
    norm: str = "operator",
    rtol: float = 1e-2,
    progress: Callable[[int, int], None] | None = None,
) -> NormReport:
    """Brackets the norm of every kernel of a model.

    Guarantee: each norm is within `lower` and `upper`, certified in float64
    with its rounding included (`keras_sn.norms.spectral_norm`). Of a layer
    in `SpectralNormalization` the normalized weight counts, as it is folded.
    Where it is not known which map a layer applies, the row says `inf` and
    the reason.

    Args:
        model: A built model or layer.
        norm: `"operator"`: of the map a layer applies, at all input sizes.
            `"kernel"`: of the kernel reshaped to a matrix.
        rtol: Largest `(upper - lower) / upper`.
        progress: Function of `(done, total)`, called after each weight.

    Returns:
        `NormReport`; prints as a table, `.plot()` draws it.

    Raises:
        ValueError: If the model is not built, has no weight with a norm, or
            one is not finite.

    Example:

    >>> import keras
    >>> from keras_sn.models import norm_report
    >>> model = keras.Sequential([
    ...     keras.Input((2,)),
    ...     keras.layers.Dense(2, kernel_initializer="ones", name="sum"),
    ... ], name="small")
    >>> round(norm_report(model).rows[0].upper, 6)
    2.0
    """
    # A copy, so that a weight is what its layer applies.
    plain = fold_model(model) if is_foldable(model) else model
    pairs = maps_and_reasons(plain, norm)
    if not pairs:
        raise ValueError(
            f"There is no layer in '{model.name}' that has a norm."
        )
    paths = unique_keys(linear_map.path for linear_map, _ in pairs)
    rows = []
    for path, (linear_map, reason) in zip(paths, pairs, strict=True):
        rows.append(_row(path, linear_map, reason, rtol))
        if progress is not None:
            progress(len(rows), len(pairs))
    return NormReport(model.name, norm, rows)


def _row(
    path: str, linear_map: LinearMap, reason: str | None, rtol: float
) -> NormRow:
    weight = linear_map.weights[0]
    if reason is None:
        bounds = spectral_norm(linear_map, rtol=rtol)
    else:
        bounds = NormBounds(0.0, math.inf)
    return NormRow(
        path,
        "" if weight.layer is None else weight.layer.name,
        type(weight.layer).__name__,
        tuple(weight.shape),
        bounds.lower,
        bounds.upper,
        reason,
    )
