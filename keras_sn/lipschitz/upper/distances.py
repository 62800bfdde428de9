"""How far apart two values can be, given the distances of the inputs.

A value carries a positive semidefinite `Q` with `|v(x) - v(y)|^2 <= d^T Q d`,
where `d` holds the distances of `x` and `y` in each input of the model; `None`
where there is no bound. So what depends on different inputs adds up as it
should.
"""

import math
from collections.abc import Sequence

import numpy as np

from keras_sn.norms.proofs import EPS

Square = np.ndarray | None


def scaled(square: Square, factor: float) -> Square:
    """`Q` after a map with the given constant."""
    if square is None or math.isinf(factor):
        return None
    if factor == 1:
        return square
    return square * (factor * factor * (1 + 4 * EPS))


def stacked(squares: Sequence[Square]) -> Square:
    """`Q` of values side by side."""
    known = [square for square in squares if square is not None]
    if len(known) < len(squares):
        return None
    return np.sum(known, axis=0) * (1 + len(squares) * EPS)


def summed(squares: Sequence[Square]) -> Square:
    """`Q` of a sum of values.

    `(sum a_k)^2 <= sum a_k^2 / t_k` for shares `t_k` that sum to one. With
    shares in proportion to the constants the constants add up, as they must
    for branches of one input; with the squares of the constants the squares
    do, which is right for branches of different inputs. The better counts.
    """
    known = [square for square in squares if square is not None]
    if len(known) < len(squares):
        return None
    constants = [largest_root(square) for square in known]
    options = [
        _with_shares(known, [constant**power for constant in constants])
        for power in (1, 2)
    ]
    return min(options, key=largest_root)


def _with_shares(
    squares: Sequence[np.ndarray], weights: Sequence[float]
) -> np.ndarray:
    total = sum(weights) * (1 + len(squares) * EPS)
    result = np.zeros_like(squares[0])
    for square, weight in zip(squares, weights, strict=True):
        if weight > 0:
            result = result + square * (total / weight)
    return result * (1 + 4 * (len(squares) + 1) * EPS)


def largest_root(square: Square) -> float:
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
