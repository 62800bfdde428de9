"""Multipliers of a chain on a torus: a formula, and descent from there."""

import math

import numpy as np

from keras_sn.lipschitz.upper.multipliers import multipliers
from keras_sn.lipschitz.upper.multipliers import ratio_shape
from keras_sn.lipschitz.upper.torus_grid import Aliases
from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_grid import aliases
from keras_sn.lipschitz.upper.torus_recursion import stage_slopes
from keras_sn.lipschitz.upper.torus_schedule import Schedule
from keras_sn.lipschitz.upper.torus_weights import Weights
from keras_sn.lipschitz.upper.worst_directions import Activation

# The maximum over frequencies as a norm with that exponent.
_EXPONENT = 24.0


class Move:
    """A linear map of the state, at all frequencies, not certified."""

    def __init__(self, weight: np.ndarray, met: Aliases | None, real: bool):
        self.weight, self.met, self.real = weight, met, real

    def forward(self, covariance: np.ndarray) -> np.ndarray:
        spread = self.weight @ covariance @ _adjoint(self.weight)
        if self.met is None:
            return spread
        spread = spread[self.met.index]
        spread[self.met.conjugate] = spread[self.met.conjugate].conj()
        spread = spread.mean(axis=1)
        return spread.real if self.real else spread

    def back(self, directions: np.ndarray) -> np.ndarray:
        """Directions in front of the map, for those behind it."""
        if self.met is not None:
            index, conjugate = self.met.index, self.met.conjugate
            shape = len(self.met.counts), *directions.shape[1:]
            spread = np.zeros(shape, "complex128")
            each = np.repeat(directions[:, None], index.shape[1], axis=1)
            each = each.astype("complex128")
            each[conjugate] = each[conjugate].conj()
            spread[index] = each
            shares = self.met.counts / index.shape[1]
            directions = spread * np.sqrt(shares)[:, None, None]
        return _adjoint(self.weight) @ directions


class Descent:
    """The recursion of a chain as a function of its multipliers.

    Args:
        plan: The `Schedule`.
        torus: The `Torus` on which to do it.
    """

    def __init__(self, plan: Schedule, torus: Torus):
        weights = Weights(plan, torus)
        entry = plan.signals[plan.entry]
        self.start = np.eye(entry.channels)[None]
        self.slopes = [stage_slopes(plan, stage) for stage in plan.stages]
        self.active = [
            np.flatnonzero(slopes.radius > 0) for slopes in self.slopes
        ]
        sizes = [len(active) for active in self.active]
        self.splits = np.cumsum(sizes)[:-1]
        self.moves = []
        state, reduction = [plan.entry], entry.reduction
        for rows, after, following in _transitions(plan):
            fine, coarse = torus.at(reduction), torus.at(after)
            points = torus.points(reduction)
            weight, _ = weights.between(state, rows, points)
            met = None
            if fine != coarse:
                met = aliases(fine, coarse)
                weight = np.broadcast_to(
                    weight, (len(points), *weight.shape[1:])
                )
            real = math.prod(coarse) == 1
            self.moves.append(Move(weight, met, real))
            state, reduction = following, after

    def formula(self, share: float = 1.0) -> np.ndarray:
        """The logarithms of the multipliers that a formula gives.

        Args:
            share: A factor for the multipliers of what stands beside values
                that stay as they are.
        """
        covariance, logs = self._first(), []
        for i, slopes in enumerate(self.slopes):
            spread = self.moves[i].forward(covariance)
            shape = ratio_shape(spread, self.moves[i + 1].weight)
            lam = multipliers(spread, slopes, shape, shared=True)
            if len(self.active[i]) < len(lam):
                lam = lam * share
            logs.append(np.log(lam[self.active[i]]))
            covariance = Activation(spread, slopes, lam).covariance
        return np.concatenate(logs) if logs else np.zeros(0)

    def _first(self) -> np.ndarray:
        move = self.moves[0]
        if move.met is None:
            return self.start
        return np.broadcast_to(
            self.start, (len(move.met.counts), *self.start.shape[1:])
        )

    def lambdas(self, logs: np.ndarray) -> list[np.ndarray]:
        """The multipliers of each stage."""
        result = []
        parts = np.split(logs, self.splits)
        for slopes, active, part in zip(
            self.slopes, self.active, parts, strict=False
        ):
            lam = np.zeros(len(slopes.radius))
            lam[active] = np.exp(part)
            result.append(lam)
        return result

    def tops(self, logs: np.ndarray) -> list[float]:
        """`lambda_max(Lambda^(1/2) S Lambda^(1/2))` of each stage."""
        covariance, result = self._first(), []
        for move, slopes, lam in zip(
            self.moves, self.slopes, self.lambdas(logs), strict=False
        ):
            spread = move.forward(covariance)
            result.append(top_of(spread, lam))
            covariance = Activation(spread, slopes, lam).covariance
        return result

    def __call__(self, logs: np.ndarray) -> tuple[float, np.ndarray | None]:
        """`log L^2`, smoothed over frequencies, and its gradient."""
        if np.abs(logs).max(initial=0.0) > 300:
            return math.inf, None
        covariance, steps = self._first(), []
        try:
            for move, slopes, lam in zip(
                self.moves, self.slopes, self.lambdas(logs), strict=False
            ):
                spread = move.forward(covariance)
                steps.append(Activation(spread, slopes, lam))
                covariance = steps[-1].covariance
            values, vectors = np.linalg.eigh(self.moves[-1].forward(covariance))
        except np.linalg.LinAlgError:
            return math.inf, None
        tops, vectors = values[:, -1], vectors[:, :, -1:]
        largest = tops.max()
        if not (np.isfinite(largest) and largest > 0):
            return math.inf, None
        powers = (np.maximum(tops, 0) / largest) ** _EXPONENT
        value = math.log(largest) + math.log(powers.sum()) / _EXPONENT
        shares = powers / powers.sum() / np.maximum(tops, 1e-12 * largest)
        directions = vectors * np.sqrt(shares)[:, None, None]
        gradient = []
        for i in reversed(range(len(steps))):
            directions, slope = steps[i].back(self.moves[i + 1].back(directions))
            gradient.append(slope.sum(axis=0)[self.active[i]])
        return value, np.concatenate([*gradient[::-1], np.zeros(0)])


def top_of(spread: np.ndarray, lam: np.ndarray) -> float:
    """`lambda_max` of `Lambda^(1/2) S Lambda^(1/2)`, by power iteration."""
    active = np.flatnonzero(lam > 0)
    root = np.sqrt(lam[active])
    matrix = spread[:, active[:, None], active]
    vector = np.random.default_rng(0).normal(size=(len(matrix), len(active), 1))
    top = 0.0
    for _ in range(40):
        vector = root[:, None] * (matrix @ (root[:, None] * vector))
        norms = np.linalg.norm(vector, axis=1, keepdims=True)
        top = float(norms.max())
        vector = vector / np.maximum(norms, 1e-300)
    return top


def _transitions(plan: Schedule):
    for stage in plan.stages:
        yield stage.rows, stage.reduction, stage.state
    yield [plan.exit], plan.signals[plan.exit].reduction, [plan.exit]


def _adjoint(matrix):
    return np.conj(np.swapaxes(matrix, -1, -2))
