"""Lower bounds of a Lipschitz constant: slopes, raised by ascent."""

import time

import numpy as np

from keras_sn.lipschitz.lower.attained_slope import proved_slope
from keras_sn.lipschitz.lower.attained_slope import size_of
from keras_sn.lipschitz.lower.flat_model import FlatModel
from keras_sn.lipschitz.lower.flat_model import flat
from keras_sn.lipschitz.lower.flat_model import input_shapes
from keras_sn.lipschitz.lower.flat_model import unit

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
    model, data=None, starts=None, iterations=80, seed=0, time_limit=60.0
):
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
        data: Array, or list of arrays as the model has inputs. `None`:
            random normal starts.
        starts: Number of points. `None`: 32, or 8 for a model with more than
            a million parameters, whose calls take seconds.
        iterations: Number of steps.
        seed: Seed of the random numbers.
        time_limit: Seconds after which to stop improving.

    Returns:
        A lower bound of the Lipschitz constant, see `proved_slope`; 0 for a
        model whose inputs are not floating-point numbers.
    """
    shapes = input_shapes(model)
    if shapes is None:
        return 0.0
    if starts is None:
        starts = 32 if model.count_params() <= _LARGE_MODEL else 8
    deadline = time.monotonic() + time_limit
    rng = np.random.default_rng(seed)
    points, shapes = _starts(shapes, data, starts, rng)
    model = FlatModel(model, shapes, 2 * len(points))
    search = _Search(model, points, rng)
    for iteration in range(iterations):
        if iteration and time.monotonic() > deadline:
            break
        search.step(iteration, iterations)
    return proved_slope(model, search.steepest(), rng)


def _starts(shapes, data, count, rng):
    """The first points, one flat row per start, and how to unflatten them."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    points = rng.standard_normal((count, sum(sizes)))
    # Kinks and saturation lie at different scales.
    points *= np.geomspace(0.05, 5.0, count)[:, None]
    if data is not None:
        arrays = data if isinstance(data, (list, tuple)) else [data]
        shapes = [np.shape(array)[1:] for array in arrays]
        rows = flat(arrays)
        chosen = rng.permutation(len(rows))[: max(count // 2, 1)]
        if rows.shape[1] == points.shape[1]:
            points[: len(chosen)] = rows[chosen]
        else:
            points = rows[chosen]
    return points, shapes


class _Search:
    """Points of which each climbs on its own."""

    def __init__(self, model, points, rng):
        self.model, self.x, self.rng = model, points, rng
        self.v = unit(rng.standard_normal(points.shape))
        self.momentum = np.zeros_like(points)
        self.best = np.full(len(points), -1.0)
        self.best_x, self.best_v = points.copy(), self.v.copy()
        self.best_u = None

    def step(self, iteration, iterations):
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

    def measure(self, reach):
        """`u` along `J v`, `J^T u`, and how that changes along `v`."""
        count = len(self.x)
        directions = []

        def cotangents(outputs):
            u = unit(outputs[count:] - outputs[:count])
            directions.append(u)
            return np.concatenate([u, u])

        ends = np.concatenate([self.x, self.x + reach * self.v])
        _, gradients = self.model.pullback(ends, cotangents)
        near, far = np.split(gradients, 2)
        return directions[0], near, far - near

    def move(self, bend, slope, length):
        # Rounding gives no direction.
        bent = np.linalg.norm(bend, axis=1, keepdims=True) > 1e-5 * slope
        direction = np.where(bent, unit(bend), 0.0)
        self.momentum = _MOMENTUM * self.momentum + direction
        self.x = self.x + length * size_of(self.x) * unit(self.momentum)

    def jump(self, share):
        noise = unit(self.rng.standard_normal(self.x.shape))
        self.x = self.best_x + share * _JUMP * size_of(self.best_x) * noise
        self.v, self.momentum = self.best_v.copy(), np.zeros_like(self.x)

    def steepest(self, kept=4):
        """`(slope, x, v, u)` of the best points, the steepest first."""
        order = np.argsort(-self.best)[:kept]
        found = self.best, self.best_x, self.best_v, self.best_u
        return [tuple(part[index] for part in found) for index in order]
