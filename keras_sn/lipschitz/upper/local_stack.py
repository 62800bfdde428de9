"""Dense stacks on balls around inputs: slopes of each unit where it goes."""

import dataclasses
import math

import numpy as np

from keras_sn.lipschitz.pieces.base import Slope
from keras_sn.lipschitz.pieces.linear import Diagonal
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.upper import covariance
from keras_sn.lipschitz.upper.covariance import Slopes
from keras_sn.lipschitz.upper.folding import composed
from keras_sn.lipschitz.upper.multipliers import balanced_multipliers
from keras_sn.lipschitz.upper.multipliers import multipliers
from keras_sn.lipschitz.upper.multipliers import positive_ratio
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import power_of_two

LocalPiece = Matrix | Diagonal | Slope
# A slope is known if it is to within that.
_KNOWN = 1e-9
# Samples to take through the recursion at once: numbers of a covariance.
_BATCH = 2**21


@dataclasses.dataclass
class Affine:
    """`factor * W x + b`.

    Attributes:
        matrix: `W`, of a norm near one.
        factor: A power of two.
        offset: `b`.
        offset_error: How far an entry of `b` may be off.
        error: Bound on the spectral norm of what `W` is off.
    """

    matrix: np.ndarray
    factor: float
    offset: np.ndarray
    offset_error: float
    error: float


class LocalStack:
    """Matrices and activations one behind the other, around inputs.

    The covariance recursion gives how far each unit can go in the ball,
    `radius * sqrt(S_jj)`; on that interval the slopes of its activation are
    fewer than everywhere. Where the ball lies in one linear region, all are
    known, and the bound is the norm of the Jacobian, rounding aside.

    Args:
        pieces: `Matrix` and `Diagonal` with known offsets, `Slope` with known
            curves.

    Reference:

    - [Xu & Sivaranjani, 2025](https://arxiv.org/abs/2510.05261)
    """

    def __init__(self, pieces: list[LocalPiece]):
        self.steps: list[Affine | Slope] = [
            piece if isinstance(piece, Slope) else _affine(piece)
            for piece in joined(pieces)
        ]
        self.scale = math.prod(
            step.factor for step in self.steps if isinstance(step, Affine)
        )
        shapes = [
            step.matrix.shape for step in self.steps if isinstance(step, Affine)
        ]
        self.inputs = shapes[0][1]
        self.batch = max(1, _BATCH // max(rows for rows, _ in shapes) ** 2)
        first = self.steps[0]
        self.first = None
        if isinstance(first, Affine):
            # Before the slopes of any sample, the same for all.
            alone = first.matrix[None, None]
            self.first = covariance.push(alone, None, first.error)

    def centres(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """What arrives at each activation, and how far that may be off.

        Args:
            x: Float64 array `(batch, inputs)`.
        """
        found = []
        error = np.zeros_like(x)
        for step in self.steps:
            if isinstance(step, Slope):
                found.append((x, error))
                assert step.curve is not None
                value = step.curve.value(x)
                # The value itself is good to a few roundings.
                error = step.constant * error + 16 * EPS * (1 + np.abs(x))
                x = value
                continue
            moduli = np.abs(step.matrix).T
            gamma = (len(moduli) + 4) * EPS
            lost = (error + gamma * np.abs(x)) @ moduli * (1 + gamma)
            size = np.linalg.norm(x, axis=1) + np.linalg.norm(error, axis=1)
            lost = lost + 1.01 * step.error * size[:, None]
            x = step.factor * (x @ step.matrix.T) + step.offset
            error = step.factor * lost + step.offset_error + 4 * EPS * np.abs(x)
            error = error + 4 * EPS * np.abs(step.offset)
        return found

    def spread(
        self,
        centres: list[tuple[np.ndarray, np.ndarray]],
        radius: np.ndarray,
        quick: bool = False,
    ) -> np.ndarray:
        """Covariances of the outputs on the balls, over `scale^2`.

        Args:
            centres: Of a batch, see `centres`.
            radius: Array `(batch,)`.
            quick: Whether to leave out the second choice of `Lambda`.

        Returns:
            Array `(choices, batch, outputs, outputs)`, NaN where nothing is
            proved; each choice is valid.
        """
        following = iter(centres)
        state = None
        total = 1.0
        for index, step in enumerate(self.steps):
            if isinstance(step, Affine):
                total *= step.factor
                if index == 0:
                    state = self.first
                else:
                    state = covariance.push(step.matrix, state, step.error)
                continue
            centre, error = next(following)
            if state is None:
                state = covariance.start(centre.shape[1])[None]
            reach = radius[:, None] * np.sqrt(covariance.variances(state))
            reach = reach.min(axis=0) * (total * (1 + 8 * EPS)) + error
            slopes = _slopes(step, centre, reach)
            lam = self._multipliers(state, slopes, index, quick)
            state = covariance.activate(state, slopes, lam)
        assert state is not None
        shape = (len(state), len(radius), *state.shape[-2:])
        return np.broadcast_to(state, shape)

    def jacobian_norms(
        self, centres: list[tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        """Norms of the Jacobians at the centres, less what rounding can do.

        Returns:
            Array `(batch,)`, zero where a slope is not known.
        """
        following = iter(centres)
        total = np.eye(self.inputs)[None]
        known = np.ones(len(centres[0][0]), bool)
        for step in self.steps:
            if isinstance(step, Affine):
                total = step.matrix @ total
                continue
            centre, error = next(following)
            slopes = _slopes(step, centre, error)
            known &= slopes.radius.max(axis=1, initial=0.0) < _KNOWN
            total = slopes.mid[:, :, None] * total
        norms = np.linalg.norm(total, 2, axis=(1, 2)) * self.scale
        return np.where(known, norms * (1 - 1e-6), 0.0)

    def _multipliers(
        self, spread: np.ndarray, slopes: Slopes, index: int, quick: bool
    ) -> np.ndarray:
        """`Lambda` by one formula or two, `(choices, batch, units)`."""
        weight = np.eye(spread.shape[-1])
        for step in self.steps[index + 1 :]:
            if isinstance(step, Affine):
                weight = step.matrix
                break
        first = balanced_multipliers(spread[:1], slopes, weight)
        if quick:
            return first
        sizes = np.linalg.norm(weight, axis=0)
        roots = np.sqrt(covariance.variances(spread[-1:]))
        shape = positive_ratio(np.where(np.isfinite(roots), roots, 1.0), sizes)
        second = multipliers(spread[-1:], slopes, shape)
        return np.concatenate([first, second])


def _slopes(step: Slope, centre: np.ndarray, reach: np.ndarray) -> Slopes:
    """Slopes of the units whose inputs go no further than that."""
    assert step.curve is not None
    # Rounding of the ends of the intervals.
    reach = reach + 2 * EPS * np.abs(centre)
    finite = np.where(np.isfinite(reach), reach, 1e300)
    low, high = step.curve.between(centre - finite, centre + finite)
    return Slopes.between(
        np.maximum(low, step.low), np.minimum(high, step.high)
    )


def joined(pieces: list[LocalPiece]) -> list[LocalPiece]:
    """The same with what is affine merged, and its offsets."""
    found: list[LocalPiece] = []
    for piece in pieces:
        while found:
            merged = composed(found[-1], piece)
            if not isinstance(merged, (Matrix, Diagonal)):
                break
            merged.offset = _offset_behind(found.pop(), piece)
            piece = merged
        found.append(piece)
    return found


def _offset_behind(
    first: LocalPiece, second: LocalPiece
) -> tuple[np.ndarray, float]:
    """What both add, and how far that may be off."""
    if isinstance(second, Slope):
        assert second.curve is not None
        assert not isinstance(first, Slope)
        offset, error = _offset(first)
        value = second.curve.value(offset)
        lost = 8 * EPS * (1 + np.abs(value).max() + np.abs(offset).max())
        return value, abs(second.low) * error + lost
    matrix = second.matrix() if isinstance(second, Diagonal) else second
    if isinstance(first, Slope):
        assert first.curve is not None
        offset = first.curve.value(np.zeros(matrix.inputs))
        error = 8 * EPS * float(np.abs(offset).max(initial=0.0))
    else:
        offset, error = _offset(first)
    added, added_error = _offset(second)
    moduli = np.abs(matrix.array)
    rounding = (matrix.inputs + 4) * EPS
    lost = moduli @ (error + rounding * np.abs(offset))
    lost = lost + rounding * np.abs(added)
    lost = lost + matrix.error * np.linalg.norm(offset)
    value = matrix.array @ offset + added
    return value, 1.01 * float(lost.max(initial=0.0)) + added_error


def _affine(piece: Matrix | Diagonal) -> Affine:
    matrix = piece.matrix() if isinstance(piece, Diagonal) else piece
    array = matrix.array
    factor = power_of_two(float(np.abs(array).max(initial=0.0)))
    factor = factor * power_of_two(math.sqrt(max(array.size, 1))) or 1.0
    return Affine(
        array / factor, factor, *_offset(piece), matrix.error / factor
    )


def _offset(piece: Matrix | Diagonal) -> tuple[np.ndarray, float]:
    assert piece.offset is not None
    return piece.offset
