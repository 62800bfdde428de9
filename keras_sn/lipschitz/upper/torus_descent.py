"""Multipliers of a chain on a torus: a formula, and descent from there."""

import math
from typing import Any

import numpy as np

from keras_sn.lipschitz.upper.multipliers import multipliers
from keras_sn.lipschitz.upper.multipliers import ratio_shape
from keras_sn.lipschitz.upper.torus_grid import Aliases
from keras_sn.lipschitz.upper.torus_grid import Torus
from keras_sn.lipschitz.upper.torus_grid import aliases
from keras_sn.lipschitz.upper.torus_recursion import Choice
from keras_sn.lipschitz.upper.torus_recursion import stage_slopes
from keras_sn.lipschitz.upper.torus_schedule import Schedule
from keras_sn.lipschitz.upper.torus_weights import Map
from keras_sn.lipschitz.upper.torus_weights import Weights
from keras_sn.lipschitz.upper.worst_directions import Activation

_LARGEST = 1e100


class Move:
    """A linear map of the state, at all frequencies, not certified."""

    def __init__(self, weight: Map, met: Aliases | None, real: bool):
        self.map, self.met, self.real = weight, met, real
        self.weight = weight.dense()

    def forward(self, covariance: np.ndarray) -> np.ndarray:
        if isinstance(covariance, Beginning):
            spread = covariance.through(self.weight)
        else:
            spread = self.map.congruence(covariance)
        if self.met is None:
            return spread
        # Where all frequencies are alike, there is one of them so far.
        shape = len(self.met.counts), *spread.shape[1:]
        spread = np.broadcast_to(spread, shape)[self.met.index]
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


class Beginning:
    """The first activations, where the inputs are fewer than what they act on.

    What `Activation` gives, as `V V^H` and a diagonal: with `U U^H = (S^-1 -
    Lambda)^-1`, `U = W (1 - W^H Lambda W)^(-1/2)`.

    Args:
        weight: The first weight, `(points, n, inputs)`.
        slopes: `Slopes`.
        lam: The diagonal of `Lambda`.

    Raises:
        numpy.linalg.LinAlgError: As `Activation`.
    """

    def __init__(self, weight, slopes, lam):
        self.slopes, self.lam = slopes, lam
        scaled = np.sqrt(lam)[:, None] * weight
        core = np.eye(weight.shape[-1]) - _adjoint(scaled) @ scaled
        factor = np.linalg.cholesky(core)
        self.root = _adjoint(np.linalg.solve(factor, _adjoint(weight)))
        with np.errstate(divide="ignore", invalid="ignore"):
            free = np.where(slopes.radius > 0, slopes.radius**2 / lam, 0.0)
        self.free = free
        self.covariance = self

    def through(self, weight):
        """`W P W^H`."""
        wide = weight @ (self.slopes.mid[:, None] * self.root)
        return wide @ _adjoint(wide) + (weight * self.free) @ _adjoint(weight)

    def back(self, directions):
        """As that of `Activation`."""
        moved = self.slopes.mid[:, None] * directions
        behind = self.root @ (_adjoint(self.root) @ moved)
        gained = (np.abs(behind) ** 2).sum(axis=-1)
        lost = (np.abs(directions) ** 2).sum(axis=-1)
        before = moved + self.lam[:, None] * behind
        return before, self.lam * gained - self.free * lost


class Descent:
    """The recursion of a chain as a function of its multipliers.

    Args:
        plan: The `Schedule`.
        torus: The `Torus` on which to do it.

    Attributes:
        exponent: Of the norm that stands for the maximum over frequencies.
    """

    def __init__(self, plan: Schedule, torus: Torus):
        self.exponent = 24.0
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
            weight = weights.between(state, rows, points)
            met = aliases(fine, coarse) if fine != coarse else None
            real = math.prod(coarse) == 1
            self.moves.append(Move(weight, met, real))
            state, reduction = following, after

    def formula(self, share: float = 1.0) -> np.ndarray:
        """The logarithms of the multipliers that a formula gives.

        Args:
            share: A factor for the multipliers of what stands beside values
                that stay as they are.
        """

        def choice(i: int, spread: np.ndarray) -> np.ndarray:
            shape = ratio_shape(spread, self.moves[i + 1].weight)
            with np.errstate(over="ignore", invalid="ignore"):
                lam = multipliers(spread, self.slopes[i], shape, shared=True)
            # Where nothing comes in, all that are large do.
            lam = np.nan_to_num(np.minimum(lam, _LARGEST), nan=_LARGEST)
            if len(self.active[i]) < len(lam):
                lam = lam * share
            return lam

        return self.logs(choice)

    def logs(self, choice: Choice) -> np.ndarray:
        """The logarithms of the multipliers that are chosen here.

        Args:
            choice: The multipliers of a stage as a function of its number and
                the covariance.

        Raises:
            numpy.linalg.LinAlgError: If they prove nothing.
        """
        logs = []

        def recorded(i: int, spread: np.ndarray) -> np.ndarray:
            lam = choice(i, spread)
            with np.errstate(divide="ignore"):
                logs.append(np.log(lam[self.active[i]]))
            return lam

        self._run(recorded)
        return np.concatenate([*logs, np.zeros(0)])

    def tops(self, logs: np.ndarray) -> list[float]:
        """`lambda_max(Lambda^(1/2) S Lambda^(1/2))` of each stage."""
        lambdas, tops = self.lambdas(logs), []

        def choice(i: int, spread: np.ndarray) -> np.ndarray:
            tops.append(top_of(spread, lambdas[i]))
            return lambdas[i]

        self._run(choice)
        return tops

    def _run(self, choice) -> tuple[list, np.ndarray]:
        """The activations of all stages, and the covariance at the end.

        Args:
            choice: Function of `(i, S)`, the multipliers of a stage; a list
                of them where nothing depends on `S`.
        """
        covariance: Any = self._first()
        steps: list[Activation | Beginning] = []
        given = choice if isinstance(choice, list) else None
        for i, slopes in enumerate(self.slopes):
            move = self.moves[i]
            if i == 0 and given and self._begins_small:
                steps.append(Beginning(move.weight, slopes, given[0]))
            else:
                spread = move.forward(covariance)
                lam = choice(i, spread) if given is None else given[i]
                steps.append(Activation(spread, slopes, lam))
            covariance = steps[-1].covariance
        return steps, self.moves[-1].forward(covariance)

    @property
    def _begins_small(self) -> bool:
        first = self.moves[0]
        rows, columns = first.weight.shape[1:]
        return first.met is None and 2 * columns <= rows

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

    def __call__(self, logs: np.ndarray) -> tuple[float, np.ndarray | None]:
        """`log L^2`, smoothed over frequencies, and its gradient."""
        if np.abs(logs).max(initial=0.0) > 300:
            return math.inf, None
        try:
            steps, spread = self._run(self.lambdas(logs))
            values, vectors = np.linalg.eigh(spread)
        except np.linalg.LinAlgError:
            return math.inf, None
        tops, vectors = values[:, -1], vectors[:, :, -1:]
        largest = tops.max()
        if not (np.isfinite(largest) and largest > 0):
            return math.inf, None
        powers = (np.maximum(tops, 0) / largest) ** self.exponent
        value = math.log(largest) + math.log(powers.sum()) / self.exponent
        shares = powers / powers.sum() / np.maximum(tops, 1e-12 * largest)
        directions = vectors * np.sqrt(shares)[:, None, None]
        gradient = []
        for i in reversed(range(len(steps))):
            directions, slope = steps[i].back(
                self.moves[i + 1].back(directions)
            )
            gradient.append(slope.sum(axis=0)[self.active[i]])
        return value, np.concatenate([*gradient[::-1], np.zeros(0)])


def top_of(spread: np.ndarray, lam: np.ndarray) -> float:
    """`lambda_max` of `Lambda^(1/2) S Lambda^(1/2)`, by power iteration."""
    active = np.flatnonzero(lam > 0)
    root = np.sqrt(lam[active])
    matrix = spread[:, active[:, None], active]
    vector = np.random.default_rng(0).normal(size=(len(matrix), len(active), 1))
    top = 0.0
    for _ in range(20):
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
