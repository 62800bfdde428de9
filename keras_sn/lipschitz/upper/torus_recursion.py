"""The covariance recursion of a chain on a torus, proved."""

import math
from collections.abc import Callable
from collections.abc import Iterator

import numpy as np

from keras_sn.lipschitz.upper.covariance import Slopes
from keras_sn.lipschitz.upper.covariance import activate
from keras_sn.lipschitz.upper.covariance import averaged
from keras_sn.lipschitz.upper.covariance import largest
from keras_sn.lipschitz.upper.covariance import push
from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_grid import aliases
from keras_sn.lipschitz.upper.torus_schedule import Schedule
from keras_sn.lipschitz.upper.torus_schedule import Stage
from keras_sn.lipschitz.upper.torus_weights import Map
from keras_sn.lipschitz.upper.torus_weights import Weights
from keras_sn.norms.proofs import EPS

# Numbers of the arrays that are worked on at once.
_CHUNK = 2**22

# How often to make multipliers smaller that prove nothing.
_TRIALS = 4

# Of the number of a stage and the covariance before its activations: Lambda.
Choice = Callable[[int, np.ndarray], np.ndarray]


class Recursion:
    """The recursion of a chain.

    Args:
        plan: The `Schedule`.
        torus: The `Torus` on which to do it.
    """

    def __init__(self, plan: Schedule, torus: Torus):
        self.plan, self.torus = plan, torus
        self.weights = Weights(plan, torus)
        self.slopes = [stage_slopes(plan, stage) for stage in plan.stages]

    def bound(self, choice: Choice) -> float:
        """The bound that multipliers prove, rounding included.

        Args:
            choice: Function of `(i, S)` that gives the diagonal of `Lambda`
                of stage `i`, zero where slopes are known.

        Returns:
            The bound; `inf` where nothing is proved.
        """
        return bound_of(self.outputs(choice))

    def outputs(self, choice: Choice) -> np.ndarray | None:
        """The covariance of the outputs, `None` if nothing is proved.

        Args:
            choice: As for `bound`.

        Returns:
            Array `(points, outputs, outputs)`.
        """
        plan = self.plan
        state, reduction = [plan.entry], plan.signals[plan.entry].reduction
        channels = plan.signals[plan.entry].channels
        points = len(self.torus.points(reduction))
        covariance = np.broadcast_to(
            np.eye(channels), (points, channels, channels)
        )
        for i, stage in enumerate(plan.stages):
            spread = self._moved(
                covariance, state, reduction, stage.rows, stage.reduction
            )
            activated = self._activated(i, spread, choice(i, spread))
            if activated is None:
                return None
            covariance = activated
            state, reduction = stage.state, stage.reduction
        after = plan.signals[plan.exit].reduction
        return self._moved(covariance, state, reduction, [plan.exit], after)

    def _activated(self, i, spread, lam) -> np.ndarray | None:
        """The covariance behind a stage, `None` if nothing is proved."""
        for _ in range(_TRIALS):
            parts = []
            for part in _parts(len(spread), 8 * spread[0].size):
                parts.append(activate(spread[part], self.slopes[i], lam))
                if not np.all(np.isfinite(parts[-1][:, 0, 0])):
                    break
            else:
                return np.concatenate(parts)
            lam = lam * 0.8
        return None

    def _moved(self, covariance, state, before, rows, after) -> np.ndarray:
        """The covariance of values, given that of the state."""
        points = self.torus.points(before)
        fine, coarse = self.torus.at(before), self.torus.at(after)
        size = covariance[0].size * 16
        if fine == coarse:
            pushed = []
            for part in _parts(len(points), size):
                pushed.append(
                    _pushed(
                        self.weights.between(state, rows, points[part]),
                        covariance[part],
                    )
                )
            return np.concatenate(pushed)
        met = aliases(fine, coarse)
        index, conjugate = met.index, met.conjugate
        means = []
        for part in _parts(len(index), size * index.shape[1]):
            chosen = index[part].ravel()
            moved = []
            for inner in _parts(len(chosen), size):
                some = chosen[inner]
                moved.append(
                    _pushed(
                        self.weights.between(state, rows, points[some]),
                        covariance[some],
                    )
                )
            spread = np.concatenate(moved)
            other = conjugate[part].ravel()
            spread[other] = spread[other].conj()
            shape = *index[part].shape, *spread.shape[1:]
            means.append(averaged(spread.reshape(shape)))
        result = np.concatenate(means)
        # A single frequency is its own conjugate.
        return result.real if math.prod(coarse) == 1 else result


def bound_of(spread: np.ndarray | None) -> float:
    """The bound that a covariance of outputs proves."""
    if spread is None:
        return math.inf
    return math.sqrt(float(largest(spread).max())) * (1 + 2 * EPS)


def _pushed(weight: Map, covariance: np.ndarray) -> np.ndarray:
    product = weight.congruence(covariance)
    return push(weight.dense(), covariance, weight.error, product)


def stage_slopes(plan: Schedule, stage: Stage) -> Slopes:
    """The slopes of all channels of a stage."""
    low, high = [], []
    for value, slopes in zip(stage.rows, stage.slopes, strict=True):
        a, b = (1.0, 1.0) if slopes is None else slopes
        channels = plan.signals[value].channels
        low.append(np.full(channels, a))
        high.append(np.full(channels, b))
    return Slopes.between(np.concatenate(low), np.concatenate(high))


def _parts(count: int, size: int) -> Iterator[slice]:
    """Slices of a range, of so many numbers an entry."""
    length = max(1, _CHUNK // max(size, 1))
    for first in range(0, count, length):
        yield slice(first, min(first + length, count))
