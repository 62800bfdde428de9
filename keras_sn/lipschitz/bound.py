"""lipschitz_bound: the Lipschitz constant of a network, bracketed."""

import math

import numpy as np

from keras_sn.lipschitz.graph import first_unbounded
from keras_sn.lipschitz.graph import trace
from keras_sn.lipschitz.lower.ascent import lower_bound
from keras_sn.lipschitz.pieces.base import EXACT
from keras_sn.lipschitz.pieces.base import UPPER
from keras_sn.lipschitz.pieces.base import Merge
from keras_sn.lipschitz.report import LipschitzReport
from keras_sn.lipschitz.upper.chains import METHODS
from keras_sn.lipschitz.upper.chains import Effort
from keras_sn.lipschitz.upper.chains import Row
from keras_sn.lipschitz.upper.chains import rows_of
from keras_sn.lipschitz.upper.folding import Link
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import product_upper


def lipschitz_bound(
    model,
    method="auto",
    lower=True,
    data=None,
    time_limit=60.0,
    progress=None,
    seed=0,
):
    """Brackets the l2 Lipschitz constant of a model at inference.

    `upper` is proved: for all inputs `x`, `y` of any values,
    `|f(x) - f(y)| <= upper |x - y|`, in exact arithmetic with the model's
    weights; the computation is in float64 on the host and its rounding is
    included. `lower` is a slope at a point that a pair of inputs confirms.

    Several inputs or outputs count as one, side by side.

    Args:
        model: A built Functional or Sequential model, or a layer.
        method: `"product"`: constants multiplied along the graph, one per
            layer. `"folded"`: BatchNormalization folded into its neighbour
            and consecutive linear maps merged. `"rescaled"`: hidden channels
            rescaled to minimise the product. `"closed_form"`: dense stacks
            by a closed-form LipSDP certificate. `"refined"`: those improved
            by descent. Each includes the ones before it. `"auto"`: the
            tightest that is affordable.
        lower: Whether to look for a lower bound too.
        data: Array or list of arrays of inputs (as many as the model has) to
            start the search for a lower bound from. `None`: random.
        time_limit: Seconds for rescaling and refinement; what is found by
            then is a bound all the same. A third of it for the search for a
            lower bound.
        progress: `True` for a progress bar of the refinement (needs `rich`),
            or a function of `(step, steps, bound)`.
        seed: Seed of the random starts.

    Returns:
        `LipschitzReport` with `lower`, `upper` and `layers`. Where a layer
        has no known constant, `upper` is `inf` and `layers` says which and
        why.

    Raises:
        ValueError: If the model is not built or `method` is unknown.

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
    """
    check_method(method)
    with _progress(progress) as callback:
        effort = Effort(method, time_limit, callback)
        squares, rows = bound_graph(trace(model, constant_of), effort)
    upper = largest_root(squares)
    found = 0.0
    if lower:
        found = lower_bound(
            model, data=data, seed=seed, time_limit=time_limit / 3
        )
    return LipschitzReport(model.name, method, found, upper, rows)


def check_method(method):
    """Raises `ValueError` unless `method` names a method."""
    if method not in (*METHODS, "auto"):
        raise ValueError(
            f"`method` must be one of {[*METHODS, 'auto']}. "
            f"Received: method={method!r}"
        )


def constant_of(layer, shape, overrides=None):
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
    return largest_root(squares), unbounded and unbounded[1]


def bound_graph(graph, effort):
    """Bounds a graph.

    Every value carries a positive semidefinite `Q` with
    `|v(x) - v(y)|^2 <= d^T Q d`, where `d` holds the distances of `x` and
    `y` in each input of the model. So what depends on different inputs adds
    up as it should.

    Args:
        graph: `Graph`.
        effort: `Effort`.

    Returns:
        `(Q, rows)` of all outputs side by side; `Q` is `None` if unbounded.
    """
    values = {}
    for i, value in enumerate(graph.inputs):
        square = np.zeros((len(graph.inputs),) * 2)
        square[i, i] = 1.0
        values[value] = square
    rows = []
    for steps in chains(graph):
        square, merge_row = merged(steps[0], values, len(graph.inputs))
        if merge_row is not None:
            rows.append(merge_row)
        links = [
            Link(piece, [step.name])
            for step in steps
            if isinstance(step.pieces, list)
            for piece in step.pieces
        ]
        new_rows = rows_of(links, effort) if links else []
        rows.extend(new_rows)
        factor = product_upper([row.constant for row in new_rows])
        for value in steps[-1].outputs:
            values[value] = scaled(square, factor)
    return stacked([values[value] for value in graph.outputs]), rows


def chains(graph):
    """The steps in groups that follow one another without a branch."""
    uses = {}
    for value in graph.outputs:
        uses[value] = uses.get(value, 0) + 1
    for step in graph.steps:
        for value in step.inputs:
            uses[value] = uses.get(value, 0) + 1
    open_chains, order = {}, []
    for step in graph.steps:
        source = step.inputs[0] if len(step.inputs) == 1 else None
        chain = None
        if isinstance(step.pieces, list) and uses.get(source) == 1:
            chain = open_chains.pop(source, None)
        if chain is None:
            chain = []
            order.append(chain)
        chain.append(step)
        if len(step.outputs) == 1:
            open_chains[step.outputs[0]] = chain
    # Only the first step of a chain takes values from outside of it, so the
    # order of first steps is one in which chains can be bounded.
    return order


def merged(step, values, count):
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


def scaled(square, factor):
    """`Q` after a map with the given constant."""
    if square is None or math.isinf(factor):
        return None
    if factor == 1:
        return square
    return square * (factor * factor * (1 + 4 * EPS))


def stacked(squares):
    """`Q` of values side by side."""
    if any(square is None for square in squares):
        return None
    return sum(squares) * (1 + len(squares) * EPS)


def summed(squares):
    """`Q` of a sum of values.

    `(sum a_k)^2 <= sum a_k^2 / t_k` for shares `t_k` that sum to one. With
    shares in proportion to the constants the constants add up, as they must
    for branches of one input; with the squares of the constants the squares
    do, which is right for branches of different inputs. The better counts.
    """
    if any(square is None for square in squares):
        return None
    constants = [largest_root(square) for square in squares]
    options = [
        _with_shares(squares, [constant**power for constant in constants])
        for power in (1, 2)
    ]
    return min(options, key=largest_root)


def _with_shares(squares, weights):
    total = sum(weights) * (1 + len(squares) * EPS)
    result = np.zeros_like(squares[0])
    for square, weight in zip(squares, weights, strict=True):
        if weight > 0:
            result = result + square * (total / weight)
    return result * (1 + 4 * (len(squares) + 1) * EPS)


def largest_root(square):
    """The constant that `Q` stands for, rounded up."""
    if square is None:
        return math.inf
    if not np.all(np.isfinite(square)):
        return math.inf
    if len(square) == 1:
        return float(np.sqrt(square[0, 0]) * (1 + 2 * EPS))
    top = np.linalg.eigvalsh(square)[-1]
    error = 8 * EPS * len(square) * np.trace(square)
    return float(np.sqrt(max(top + error, 0.0)) * (1 + 2 * EPS))


class _progress:  # noqa: N801 - used as a function
    """A progress bar, a caller's function, or nothing."""

    def __init__(self, progress):
        self.progress = progress
        self.bar = None

    def __enter__(self):
        if self.progress is not True:
            return self.progress or None
        from rich.progress import Progress

        self.bar = Progress(transient=True)
        self.bar.start()
        task = self.bar.add_task("refining", total=None)

        def advance(step, steps, bound):
            self.bar.update(
                task,
                completed=step,
                total=steps,
                description=f"L <= {bound:.5g}",
            )

        return advance

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.stop()
