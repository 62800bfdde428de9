"""lipschitz_bound: the Lipschitz constant of a network, bracketed."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_sn.linear_maps.wrapped import Overrides
from keras_sn.lipschitz.graph import Graph
from keras_sn.lipschitz.graph import Step
from keras_sn.lipschitz.graph import first_unbounded
from keras_sn.lipschitz.inputs import Balls
from keras_sn.lipschitz.inputs import input_arrays
from keras_sn.lipschitz.local import LocalNetwork
from keras_sn.lipschitz.local import NoLocalBoundError
from keras_sn.lipschitz.lower.ascent import searched
from keras_sn.lipschitz.pieces.base import EXACT
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.merge import Merge
from keras_sn.lipschitz.pieces.merge import Shape
from keras_sn.lipschitz.report import LipschitzReport
from keras_sn.lipschitz.report import Row
from keras_sn.lipschitz.tracing import trace
from keras_sn.lipschitz.upper.chains import rows_of
from keras_sn.lipschitz.upper.chains import split_into_chains
from keras_sn.lipschitz.upper.distances import Square
from keras_sn.lipschitz.upper.distances import largest_root
from keras_sn.lipschitz.upper.distances import scaled
from keras_sn.lipschitz.upper.distances import stacked
from keras_sn.lipschitz.upper.distances import summed
from keras_sn.lipschitz.upper.effort import METHODS
from keras_sn.lipschitz.upper.effort import Effort
from keras_sn.lipschitz.upper.folding import Link
from keras_sn.lipschitz.upper.torus_bound import chain_bound
from keras_sn.lipschitz.upper.torus_regions import Region
from keras_sn.lipschitz.upper.torus_regions import sections_of
from keras_sn.lipschitz.upper.torus_regions import shares_of
from keras_sn.norms.proofs import product_upper
from keras_sn.progress import Progress
from keras_sn.progress import shown


def lipschitz_bound(
    model: keras.layers.Layer,
    method: str = "auto",
    lower: bool = True,
    data: Any = None,
    time_limit: float = 60.0,
    progress: Progress = None,
    seed: int = 0,
    x: Any = None,
    radius: float | np.ndarray | None = None,
) -> LipschitzReport:
    """Brackets the l2 Lipschitz constant of a model at inference.

    `upper` is proved: for all inputs `x`, `y` of any values,
    `|f(x) - f(y)| <= upper |x - y|`, in exact arithmetic with the model's
    weights; the computation is in float64 on the host and its rounding is
    included. `lower` is a slope at a point that a pair of inputs confirms.

    Several inputs or outputs count as one, side by side.

    With `x` and `radius` it is the constant on the ball of that radius around
    each input: `|f(y) - f(z)| <= K |y - z|` for all `y` and `z` inside. Where
    the ball lies in one linear region, that is the norm of the Jacobian. A
    model that does not start with dense layers has its global constant there.

    Args:
        model: A built Functional or Sequential model, or a layer.
        method: `"product"`: constants multiplied along the graph, one per
            layer. `"folded"`: BatchNormalization folded into its neighbour
            and consecutive linear maps merged. `"rescaled"`: hidden channels
            rescaled to minimise the product. `"closed_form"`: dense stacks,
            and chains of convolutions on images of a fixed size, by a
            closed-form LipSDP certificate. `"refined"`: those improved by
            descent. Each includes the ones before it. `"auto"`: the tightest
            that is affordable.
        lower: Whether to look for a lower bound too.
        data: Array of inputs, or a list or dict of them as the model takes,
            to start the search for a lower bound from. `None`: random.
        time_limit: Seconds for all that goes beyond the product of norms,
            which is always computed; what is found by then is a bound all
            the same. A third of it for the search for a lower bound.
        progress: `True` for a progress bar of the refinement, or a function
            of `(step, steps, bound)`.
        seed: Seed of the random starts.
        x: Array of inputs, as the model takes: bounds for the balls around
            these. `None`: for all inputs at once.
        radius: Radius of the balls, or one for each input.

    Returns:
        `LipschitzReport` with `lower`, `upper` and `layers`. Where a layer
        has no known constant, `upper` is `inf` and `layers` says which and
        why. Where the search for `lower` fails, `lower` is 0 and `note` says
        why. With `x`, `per_sample` has the bound of each ball, and `upper` is
        the largest; `lower` is the largest norm of a Jacobian at the centres.

    Raises:
        ValueError: If the model is not built, `method` is unknown, or one of
            `x` and `radius` is missing or does not fit the other.

    Example:

    >>> import keras
    >>> from keras_sn.lipschitz import lipschitz_bound
    >>> model = keras.Sequential([
    ...     keras.Input((2,)),
    ...     keras.layers.Dense(3, "relu", kernel_initializer="ones"),
    ...     keras.layers.Dense(1, kernel_initializer="ones"),
    ... ])
    >>> report = lipschitz_bound(model)
    >>> round(report.lower, 4), round(report.upper, 4)
    (4.2426, 4.2426)
    >>> report = lipschitz_bound(model, x=np.array([[-2.0, -1.0]]), radius=1)
    >>> report.per_sample.round(6)  # no unit is active
    array([0.])

    Reference:

    - [Xu & Sivaranjani, 2025](https://arxiv.org/abs/2510.05261), local bounds
    """
    check_method(method)
    graph = trace(model, constant_of)
    with shown(progress, "refining") as callback:
        effort = Effort(method, time_limit, callback)
        squares, rows = bound_graph(graph, effort)
        upper = largest_root(squares)
        if x is not None or radius is not None:
            balls = Balls(input_arrays(model, x), radius)
            return _local_report(model.name, graph, effort, balls, upper, rows)
    found, note = 0.0, None
    if lower:
        found, note = searched(model, data, seed, time_limit / 3, upper)
    return LipschitzReport(model.name, method, found, upper, rows, note)


def _local_report(
    name: str,
    graph: Graph,
    effort: Effort,
    balls: Balls,
    everywhere: float,
    rows: list[Row],
) -> LipschitzReport:
    """The report of bounds on balls; global ones where there are no others."""
    lower, upper = np.zeros(len(balls)), np.full(len(balls), everywhere)
    note = None
    try:
        if not effort.allows("closed_form"):
            raise NoLocalBoundError(f"The method is '{effort.method}'.")
        network = LocalNetwork(graph)
        lower, found = network.bracket(balls, effort)
        upper = np.minimum(found, upper)
        rows = [network.row(upper)]
    except NoLocalBoundError as error:
        note = f"The bounds hold everywhere, not near an input alone. {error}"
    top = float(upper.max(initial=0.0))
    low = float(lower.max(initial=0.0))
    return LipschitzReport(name, effort.method, low, top, rows, note, upper)


def check_method(method: str) -> None:
    """Raises `ValueError` unless `method` names a method."""
    if method not in (*METHODS, "auto"):
        raise ValueError(
            f"`method` must be one of {[*METHODS, 'auto']}. "
            f"Received: method={method!r}"
        )


def constant_of(
    layer: keras.layers.Layer,
    shape: Shape | None,
    overrides: Overrides | None = None,
) -> tuple[float, str | None]:
    """The constant of a layer or model inside of a layer.

    Args:
        layer: The layer inside.
        shape: Shape of its input, or `None`.
        overrides: Weights that a wrapper around both replaces, see `Call`.

    Returns:
        `(constant, reason)`, the reason `None` unless it is `inf`.
    """
    graph = trace(layer, constant_of, shape, overrides)
    squares, _ = bound_graph(graph, Effort("folded", 0.0))
    unbounded = first_unbounded(graph)
    return largest_root(squares), unbounded[1] if unbounded else None


def bound_graph(graph: Graph, effort: Effort) -> tuple[Square, list[Row]]:
    """Bounds a graph.

    Args:
        graph: The graph.
        effort: How much work to put into it.

    Returns:
        `(Q, rows)`: how far apart all outputs side by side can be, see
        `upper.distances`, and the rows of the report.
    """
    return _bound_sections(graph, effort, _sections(graph, effort))


def _sections(graph: Graph, effort: Effort) -> list[Region | list[Step]]:
    if effort.quick or not effort.allows("closed_form"):
        return list(split_into_chains(graph))
    # The rest is for the descent, and for what lies outside of regions.
    return sections_of(graph, effort.remaining / 2)


def _bound_sections(
    graph: Graph, effort: Effort, sections: Sequence[Region | list[Step]]
) -> tuple[Square, list[Row]]:
    values: dict[int, Square] = {}
    for i, value in enumerate(graph.inputs):
        square = np.zeros((len(graph.inputs),) * 2)
        square[i, i] = 1.0
        values[value] = square
    rows: list[Row] = []
    # The first would else take the time of the last.
    shares = shares_of(sections)
    for section, share in zip(sections, shares, strict=True):
        if isinstance(section, Region):
            new_rows, factor = _region_rows(section, effort.part(share))
            rows.extend(new_rows)
            values[section.exit] = scaled(values[section.entry], factor)
            continue
        taken, own_row = _taken(section[0], values, len(graph.inputs))
        if own_row is not None:
            rows.append(own_row)
        links = [
            Link(piece, [step.name])
            for step in section
            if isinstance(step.pieces, list)
            for piece in step.pieces
        ]
        new_rows = rows_of(links, effort) if links else []
        rows.extend(new_rows)
        factor = product_upper([row.constant for row in new_rows])
        for value in section[-1].outputs:
            values[value] = scaled(taken, factor)
    return stacked([values[value] for value in graph.outputs]), rows


def _region_rows(region: Region, effort: Effort) -> tuple[list[Row], float]:
    """The rows of a region, and its constant."""
    found = chain_bound(region, effort)
    names = " + ".join(dict.fromkeys(step.name for step in region.steps))
    row = Row(names, found.bound, UPPER, found.source)
    if math.isfinite(found.bound) and not found.others_are_cheap:
        return [row], row.constant
    graph = Graph([region.entry], region.steps, [region.exit])
    square, rows = _bound_sections(graph, effort, split_into_chains(graph))
    constant = largest_root(square)
    if found.bound <= constant and math.isfinite(found.bound):
        return [row], row.constant
    if found.left_out is not None:
        last = region.steps[-1].name
        rows[0].note = f"not bounded together up to {last}: {found.left_out}"
    return rows, constant


def _taken(
    step: Step, values: dict[int, Square], count: int
) -> tuple[Square, Row | None]:
    """`Q` of what a step takes, and the row of a layer that merges."""
    squares = [values[value] for value in step.inputs]
    if not squares:
        return np.zeros((count, count)), None
    if not isinstance(step.pieces, Merge):
        return stacked(squares), None
    merge = step.pieces
    factors = merge.factors or [1.0] * len(squares)
    squares = [
        scaled(square, factor)
        for square, factor in zip(squares, factors, strict=True)
    ]
    # Its own share, for inputs that are one apart each.
    total = sum(factors) if merge.kind == "sum" else math.hypot(*factors)
    guarantee = EXACT if merge.kind == "sum" else UPPER
    row = Row(step.name, total, guarantee, merge.source)
    if merge.kind == "sum":
        return summed(squares), row
    return stacked(squares), row
