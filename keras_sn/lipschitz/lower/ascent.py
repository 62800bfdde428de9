"""Lower bounds of a Lipschitz constant: slopes, raised by ascent."""

import math
import time
from typing import Any

import keras
import numpy as np

from keras_sn.lipschitz.lower.attained_slope import proved_slope
from keras_sn.lipschitz.lower.attained_slope import size_of
from keras_sn.lipschitz.lower.flat_model import FlatModel
from keras_sn.lipschitz.lower.flat_model import flat
from keras_sn.lipschitz.lower.flat_model import unit
from keras_sn.lipschitz.lower.input_sizes import data_arrays
from keras_sn.lipschitz.lower.input_sizes import declared_shapes
from keras_sn.lipschitz.lower.input_sizes import working_shapes
from keras_sn.lipschitz.lower.pullback import Arrays

# Distance of the ends between which `J v` is told, in sizes of a point: a
# long one sees kinks, a short one curvature.
_REACHES = (1e-2, 0.3)
_ROUND = 20
_FIRST_STEP, _DECAY, _MOMENTUM = 0.1, 0.92, 0.5
_JUMP = 0.7
_LARGE_MODEL = 1_000_000
# A gain below is rounding.
_GAIN = 1e-6


def lower_bound(
    model: keras.layers.Layer,
    data: Any = None,
    starts: int | None = None,
    iterations: int = 80,
    seed: int = 0,
    time_limit: float = 60.0,
    upper: float = math.inf,
) -> float:
    """A slope that pairs of inputs attain, as steep as can be found.

    At points that start at random (and from the data), `v` follows the power
    iteration: `u` lies along `f(x + r v) - f(x)`, and the pulled back
    `J^T u` is the next `v`. How it changes towards `x + r v` is the
    direction in which moving `x` makes the slope steeper. Now and then each
    point jumps beside the best place it has seen.

    The lengths of the steps are fixed in advance: a search that adapts them
    would depend on rounding, and end elsewhere on each backend.

    Args:
        model: A built model or layer, called with `training=False`.
        data: Array, or a list or dict of arrays as the model takes. `None`:
            random normal starts.
        starts: Number of points. `None`: 32, or 8 for a model with more than
            a million parameters, whose calls take seconds, or with a fixed
            batch, which takes a call for each point.
        iterations: Number of steps.
        seed: Seed of the random numbers.
        time_limit: Seconds after which to stop improving.
        upper: An upper bound; nothing is left to find where a slope reaches
            it.

    Returns:
        A lower bound of the Lipschitz constant, see `proved_slope`; 0 for a
        model whose inputs are not floating-point numbers.

    Raises:
        ValueError: If no size of open axes works, or the outputs of samples
            are not apart.
    """
    declared = declared_shapes(model)
    if declared is None:
        return 0.0
    batches = {shape[0] for shape in declared}
    if len(batches) > 1:
        raise ValueError(f"The batch sizes of its inputs differ: {declared}")
    # Of a fixed batch the samples need not be apart.
    (batch,) = batches
    if starts is None:
        small = model.count_params() <= _LARGE_MODEL and batch is None
        starts = 32 if small else 8
    deadline = time.monotonic() + time_limit
    rng = np.random.default_rng(seed)
    given = None if data is None else data_arrays(model, data)
    shapes = (
        working_shapes(model, declared)
        if given is None
        else [array.shape[1:] for array in given]
    )
    if batch is not None:
        shapes = [(batch, *shape) for shape in shapes]
    points = _starts(shapes, given, starts, rng, batch)
    flat_model = FlatModel(
        model, shapes, None if batch is not None else 2 * len(points)
    )
    search = _Search(flat_model, points, rng)
    taken = 0.0
    for iteration in range(iterations):
        start = time.monotonic()
        if iteration and start + taken > deadline:
            break
        search.step(iteration, iterations)
        if search.best.max() >= (1 - _GAIN) * upper:
            break
        taken = time.monotonic() - start
    return proved_slope(flat_model, search.steepest(), rng)


def searched(
    model: keras.layers.Layer,
    data: Any,
    seed: int,
    time_limit: float,
    upper: float,
) -> tuple[float, str | None]:
    """The lower bound, or 0 and why there is none."""
    try:
        found = lower_bound(
            model, data=data, seed=seed, time_limit=time_limit, upper=upper
        )
    except Exception as error:
        # What is proved must not be lost to a search.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return 0.0, f"No lower bound: the search failed ({reason})."
    return found, None


def _starts(
    shapes: list[tuple[int, ...]],
    data: Arrays | None,
    count: int,
    rng: np.random.Generator,
    batch: int | None,
) -> np.ndarray:
    """The first points, one flat row per start."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    points = rng.standard_normal((count, sum(sizes)))
    # Kinks and saturation lie at different scales.
    points *= np.geomspace(0.05, 5.0, count)[:, None]
    if data is None:
        return points
    if batch is not None:
        # Samples in groups of a batch, repeated to make up one.
        groups = max(len(data[0]) // batch, 1)
        data = [
            np.resize(array, (groups, batch, *array.shape[1:]))
            for array in data
        ]
    rows = flat(data)
    chosen = rng.permutation(len(rows))[: max(count // 2, 1)]
    points[: len(chosen)] = rows[chosen]
    return points


class _Search:
    """Points of which each climbs on its own."""

    def __init__(
        self, model: FlatModel, points: np.ndarray, rng: np.random.Generator
    ):
        self.model, self.x, self.rng = model, points, rng
        self.v = unit(rng.standard_normal(points.shape))
        self.momentum = np.zeros_like(points)
        self.best = np.full(len(points), -1.0)
        self.best_x, self.best_v = points.copy(), self.v.copy()
        self.best_u: np.ndarray | None = None

    def step(self, iteration: int, iterations: int) -> None:
        """Measures the slope at each point, then moves the points."""
        reach = _REACHES[iteration // _ROUND % len(_REACHES)]
        u, gradient, bend = self.measure(reach * size_of(self.x))
        slope = np.linalg.norm(gradient, axis=1)
        self.v = np.where(slope[:, None] > 0, unit(gradient), self.v)
        if self.best_u is None:
            self.best_u = np.zeros_like(u)
        better = slope > self.best * (1 + _GAIN)
        self.best = np.where(better, slope, self.best)
        self.best_x[better], self.best_u[better] = self.x[better], u[better]
        self.best_v[better] = self.v[better]
        within = iteration % _ROUND
        if within == _ROUND - 1:
            self.jump(1 - iteration / iterations)
        elif within >= (3 if iteration >= _ROUND else 8):
            # Not before `v` has settled.
            self.move(bend, slope[:, None], _FIRST_STEP * _DECAY**within)

    def measure(
        self, reach: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`u` along `J v`, `J^T u`, and how that changes along `v`."""
        count = len(self.x)
        directions = []

        def cotangents(outputs: np.ndarray) -> np.ndarray:
            u = unit(outputs[count:] - outputs[:count])
            directions.append(u)
            return np.concatenate([u, u])

        ends = np.concatenate([self.x, self.x + reach * self.v])
        _, gradients = self.model.pullback(ends, cotangents)
        near, far = np.split(gradients, 2)
        return directions[0], near, far - near

    def move(self, bend: np.ndarray, slope: np.ndarray, length: float) -> None:
        # Rounding gives no direction.
        bent = np.linalg.norm(bend, axis=1, keepdims=True) > 1e-5 * slope
        direction = np.where(bent, unit(bend), 0.0)
        self.momentum = _MOMENTUM * self.momentum + direction
        self.x = self.x + length * size_of(self.x) * unit(self.momentum)

    def jump(self, share: float) -> None:
        noise = unit(self.rng.standard_normal(self.x.shape))
        self.x = self.best_x + share * _JUMP * size_of(self.best_x) * noise
        self.v, self.momentum = self.best_v.copy(), np.zeros_like(self.x)

    def steepest(self, kept: int = 4) -> list[tuple]:
        """`(slope, x, v, u)` of the best points, the steepest first."""
        order = np.argsort(-self.best)[:kept]
        assert self.best_u is not None
        found = self.best, self.best_x, self.best_v, self.best_u
        return [tuple(part[index] for part in found) for index in order]
