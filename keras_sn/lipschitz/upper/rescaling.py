"""Diagonal rescaling of a stack of matrices with activations in between."""

import math
import time
from collections.abc import Sequence

import numpy as np

from keras_sn.lipschitz.pieces.linear import LinearPiece
from keras_sn.lipschitz.pieces.linear import Matrix
from keras_sn.lipschitz.upper.descent import minimize
from keras_sn.norms.proofs import product_upper

# Scales beyond that are no use, and their squares leave float64.
_LARGEST_LOG = 100.0


def rescaled_bound(
    matrices: list[np.ndarray],
    slopes: list[tuple[float, float]],
    deadline: float = math.inf,
) -> float:
    """The product of norms, minimised over rescalings of the hidden units.

    For positive diagonal `E_i` and elementwise activations with slopes of
    at most `c_i`, `|E f(x) - E f(y)| <= c |E (x - y)|`, so
    `prod_i c_i |E_i W_i E_{i-1}^-1|` with `E_0 = E_l = I` bounds the
    Lipschitz constant. (No homogeneity of the activation is needed.)

    Args:
        matrices: List of arrays `W_i` of shape `(outputs, inputs)`, in the
            order they are applied.
        slopes: Pairs `(a, b)`, one per activation in between: its slopes lie
            in `[a, b]`.
        deadline: Value of `time.monotonic()` at which to stop improving.

    Returns:
        The bound, proved in float64.

    Example:

    >>> import numpy as np
    >>> from keras_sn.lipschitz.upper.rescaling import rescaled_bound
    >>> first, second = np.diag([8.0, 1.0]), np.diag([0.5, 4.0])
    >>> round(rescaled_bound([first, second], [(0, 1)]), 6)
    4.0
    """
    pieces = [Matrix(matrix) for matrix in matrices]
    steepest = [max(abs(a), abs(b)) for a, b in slopes]
    return product_upper([rescaled_product(pieces, deadline), *steepest])


def rescaled_product(
    pieces: Sequence[LinearPiece],
    deadline: float = math.inf,
    iterations: int = 100,
    compare: bool = True,
    scales: list[np.ndarray] | None = None,
) -> float:
    """The product of the norms of linear pieces, minimised over rescalings.

    Args:
        pieces: List of `LinearPiece`; the outputs of each are the inputs of
            the next, and what lies between acts on each channel alone.
        deadline: Value of `time.monotonic()` to be back at, if what is needed
            at least allows it.
        iterations: Largest number of descent steps.
        compare: Whether to bound the plain product too, so that the result
            is never above it.
        scales: Scales to use; `None` to search for them.

    Returns:
        The bound, proved.
    """
    plain = math.inf
    if compare or len(pieces) < 2:
        plain = product_upper([piece.constant for piece in pieces])
        if len(pieces) < 2 or plain in (0.0, math.inf):
            return plain
    if scales is None:
        scales = best_scales(pieces, deadline, iterations)
    if compare and time.monotonic() > deadline:
        return plain
    rescaled = [piece.constant for piece in rescale(pieces, scales)]
    return min(plain, product_upper(rescaled))


def best_scales(
    pieces: Sequence[LinearPiece],
    deadline: float = math.inf,
    iterations: int = 100,
) -> list[np.ndarray]:
    """The vectors `E_1 ... E_{l-1}` that minimise the product of norms.

    The derivative of `log |E_i W_i E_{i-1}^-1|` with respect to `log E_i` is
    the squared left singular vector, to `log E_{i-1}` minus the squared right
    one.
    """
    sizes = [piece.outputs for piece in pieces[:-1]]
    if not sizes:
        return []
    splits = np.cumsum(sizes)[:-1]
    pieces = [piece.focused() for piece in pieces]

    def objective(logs: np.ndarray) -> tuple[float, np.ndarray | None]:
        if np.abs(logs).max() > _LARGEST_LOG:
            return math.inf, None
        scales = [np.exp(part) for part in np.split(logs, splits)]
        value, gradient = 0.0, [np.zeros(size) for size in sizes]
        for i, piece in enumerate(rescale(pieces, scales)):
            norm, outputs, inputs = piece.top()
            if norm == 0:
                return math.inf, None
            value += np.log(norm)
            if i < len(sizes):
                gradient[i] += outputs
            if i > 0:
                gradient[i - 1] -= inputs
        return value, np.concatenate(gradient)

    moduli = [piece.moduli() for piece in pieces]
    start = np.zeros(sum(sizes))
    begun = time.monotonic()
    value = objective(start)[0]
    if 2 * time.monotonic() - begun > deadline:
        return [np.exp(part) for part in np.split(start, splits)]
    other = np.log(np.concatenate(balanced(moduli)))
    if objective(other)[0] < value:
        start = other
    # Where singular values meet the function has a kink, and a search along
    # a line takes many trials for little. Dense ones are cheap to try.
    patient = all(isinstance(piece, Matrix) for piece in pieces)
    logs, _ = minimize(
        objective,
        start,
        iterations=iterations,
        deadline=deadline,
        tolerance=1e-9 if patient else 1e-3,
        trials=30 if patient else 6,
    )
    return [np.exp(part) for part in np.split(logs, splits)]


def balanced(moduli: list[np.ndarray]) -> list[np.ndarray]:
    """Scales that are optimal for the moduli of the entries.

    For matrices without negative entries the optimum is known: with `l` and
    `r` the right and left Perron vectors of what stands before and behind
    the units, `E = sqrt(r / l)` makes the product of norms equal to the norm
    of the product. For others it is a good start.
    """
    vector = np.ones(moduli[0].shape[1])
    backwards = [m.T for m in reversed(moduli)]
    for _ in range(20):
        before = _passes(moduli, vector)
        behind = _passes(backwards, before[-1])
        previous, vector = vector, behind[-1]
        # What is left of the error enters the norms squared.
        if np.abs(vector - previous).max() < 1e-9:
            break
    behind = behind[::-1]
    return [
        np.sqrt(_floored(r) / _floored(f))
        for f, r in zip(before[1:-1], behind[1:-1], strict=True)
    ]


def rescale(
    pieces: Sequence[LinearPiece], scales: list[np.ndarray]
) -> list[LinearPiece]:
    """The pieces `E_i W_i E_{i-1}^-1`."""
    outs = [*scales, None]
    ins = [None, *[1 / scale for scale in scales]]
    return [
        piece.scaled(o, i)
        for piece, o, i in zip(pieces, outs, ins, strict=True)
    ]


def _passes(matrices: list[np.ndarray], vector: np.ndarray) -> list[np.ndarray]:
    passed = [_normed(vector)]
    for matrix in matrices:
        passed.append(_normed(matrix @ passed[-1]))
    return passed


def _normed(vector: np.ndarray) -> np.ndarray:
    return vector / max(math.sqrt(vector @ vector), 1e-300)


def _floored(vector: np.ndarray) -> np.ndarray:
    """Keeps a scale positive where a unit is dead."""
    return np.maximum(vector, 1e-8 * max(vector.max(), 1e-300))
