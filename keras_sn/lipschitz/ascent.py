"""Lower bounds of a Lipschitz constant: pairs of inputs, improved by ascent."""

import time

import keras
import numpy as np

from keras_sn.lipschitz.pullback import evaluate
from keras_sn.lipschitz.pullback import pullback

_OPEN_AXIS = 8


def lower_bound(
    model, data=None, starts=32, iterations=60, seed=0, time_limit=60.0
):
    """A slope that a pair of inputs attains, as steep as can be found.

    Pairs `x`, `x + h v` start at random (and from the data). For unit `v`
    and `u` along `f(x + h v) - f(x)`, the mean of the pulled back `J^T u` at
    both ends is the next `v`, as in a power iteration, and the difference of
    the two is the direction in which moving the pair makes it steeper. At
    the end the best pairs are evaluated once more, and what rounding may
    have added to the quotient is taken off.

    Args:
        model: A built model or layer, called with `training=False`.
        data: Array, or list of arrays as the model has inputs. `None`:
            random normal starts.
        starts: Number of pairs.
        iterations: Number of ascent steps.
        seed: Seed of the random numbers.
        time_limit: Seconds after which to stop improving.

    Returns:
        The largest quotient `|f(x) - f(y)| / |x - y|`, at least 0; 0 for a
        model whose inputs are not floating-point numbers.
    """
    shapes = input_shapes(model)
    if shapes is None:
        return 0.0
    rng = np.random.default_rng(seed)
    pairs = _Pairs(model, _starts(shapes, data, starts, rng), rng)
    pairs.ascend(iterations, time.monotonic() + time_limit)
    return pairs.best_quotient()


def input_shapes(model):
    """Shapes of the inputs without batch, open axes at a small size.

    Returns:
        List of tuples; `None` if an input is no floating-point tensor or the
        shape is not known.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        shape = (model.get_build_config() or {}).get("input_shape")
        if not shape or isinstance(shape[0], (list, tuple, dict)):
            return None
        shapes = [shape]
    else:
        kinds = [keras.backend.standardize_dtype(x.dtype) for x in inputs]
        if not all("float" in kind for kind in kinds):
            return None
        shapes = [tensor.shape for tensor in inputs]
    return [
        tuple(_OPEN_AXIS if n is None else n for n in shape[1:])
        for shape in shapes
    ]


def _starts(shapes, data, count, rng):
    """The first points, one flat row per start, and how to unflatten them."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    points = rng.standard_normal((count, sum(sizes)))
    # Kinks and saturation lie at different scales.
    points *= np.geomspace(0.05, 5.0, count)[:, None]
    if data is not None:
        arrays = data if isinstance(data, (list, tuple)) else [data]
        shapes = [np.shape(array)[1:] for array in arrays]
        rows = [np.asarray(a, "float64").reshape(len(a), -1) for a in arrays]
        rows = np.concatenate(rows, axis=1)
        chosen = rng.permutation(len(rows))[: max(count // 2, 1)]
        if rows.shape[1] == points.shape[1]:
            points[: len(chosen)] = rows[chosen]
        else:
            points = rows[chosen]
    return points, shapes


class _Pairs:
    """Pairs of points of which each is improved on its own."""

    def __init__(self, model, starts, rng):
        self.model = model
        self.x, self.shapes = starts
        self.rng = rng
        count, size = self.x.shape
        self.v = _unit(rng.standard_normal((count, size)))
        # Large steps see far, and small ones the slope at a point.
        self.h = np.geomspace(0.02, 2.0, count)[rng.permutation(count), None]
        self.step = np.ones((count, 1))

    def unflatten(self, points):
        arrays, start = [], 0
        for shape in self.shapes:
            size = int(np.prod(shape))
            part = points[:, start : start + size]
            arrays.append(part.reshape(len(points), *shape).astype("float32"))
            start += size
        return arrays

    def slopes(self, x, v):
        """Quotients, and the pulled back directions at both ends."""
        count = len(x)
        ends = np.concatenate([x, x + self.h * v])
        directions = {}

        def cotangents(outputs):
            flat = _flat(outputs)
            delta = flat[count:] - flat[:count]
            directions["delta"] = delta
            u = _unit(delta)
            u = np.concatenate([u, u])
            pieces, start = [], 0
            for output in outputs:
                size = int(np.prod(output.shape[1:]))
                pieces.append(u[:, start : start + size].reshape(output.shape))
                start += size
            return pieces

        _, gradients = pullback(self.model, self.unflatten(ends), cotangents)
        gradients = _flat(gradients)
        quotient = np.linalg.norm(directions["delta"], axis=1) / self.h[:, 0]
        quotient = np.nan_to_num(quotient, nan=-1.0, posinf=-1.0)
        return quotient, gradients[:count], gradients[count:]

    def ascend(self, iterations, deadline):
        quotient, near, far = self.slopes(self.x, self.v)
        for iteration in range(iterations):
            if time.monotonic() > deadline:
                break
            x, v = self.x, _unit(near + far)
            if iteration % 3 == 2:
                x = x + self.step * self.h * _unit(far - near)
            flat = np.linalg.norm(near + far, axis=1) == 0
            v[flat] = _unit(self.rng.standard_normal(v[flat].shape))
            if iteration % 10 == 9:
                # A pair that no longer moves may sit in a flat corner.
                x = x + 0.3 * self.h * self.rng.standard_normal(x.shape)
            new = self.slopes(x, v)
            better = new[0] > quotient
            self.x[better], self.v[better] = x[better], v[better]
            near[better], far[better] = new[1][better], new[2][better]
            quotient = np.where(better, new[0], quotient)
            moved = better[:, None]
            self.step = np.where(moved, 1.5 * self.step, 0.6 * self.step)
            self.step = np.clip(self.step, 1e-3, 10.0)
        self.quotient = quotient

    def best_quotient(self, kept=6, factors=(0.25, 1.0, 4.0)):
        """The steepest of the best pairs, rounding taken off.

        How far rounding may carry the outputs is measured: moving each input
        by a unit in the last place makes every rounding inside of the model
        fall differently.
        """
        order = np.argsort(-self.quotient)[:kept]
        x, reach = self.x[order], self.h[order] * self.v[order]
        ends = np.concatenate([x, *[x + factor * reach for factor in factors]])
        ends = ends.astype("float32").astype("float64")
        eps = np.finfo("float32").eps
        near = [
            ends * (1 + self.rng.choice([-eps, eps], ends.shape))
            for _ in range(3)
        ]
        outputs = self.evaluate(np.concatenate([ends, *near]))
        outputs = outputs.reshape(4, len(ends), -1)
        values = outputs[0]
        noise = np.linalg.norm(outputs[1:] - values, axis=-1).max(axis=0)
        noise = 2 * (noise + eps * np.linalg.norm(values, axis=-1))
        count = len(x)
        best = 0.0
        for start in range(count, len(ends), count):
            part = slice(start, start + count)
            distance = np.linalg.norm(ends[part] - ends[:count], axis=1)
            rise = np.linalg.norm(values[part] - values[:count], axis=1)
            rise = rise - noise[part] - noise[:count]
            with np.errstate(divide="ignore", invalid="ignore"):
                quotient = np.where(distance > 0, rise / distance, 0.0)
            quotient = np.nan_to_num(quotient, nan=0.0, posinf=0.0)
            best = max(best, float(quotient.max(initial=0.0)))
        return best

    def evaluate(self, points, batch_size=128):
        """Outputs of the model, a flat row per point."""
        return np.concatenate(
            [
                _flat(
                    evaluate(
                        self.model,
                        self.unflatten(points[start : start + batch_size]),
                    )
                )
                for start in range(0, len(points), batch_size)
            ]
        )


def _flat(arrays):
    return np.concatenate(
        [
            np.asarray(array, "float64").reshape(len(array), -1)
            for array in arrays
        ],
        axis=1,
    )


def _unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
