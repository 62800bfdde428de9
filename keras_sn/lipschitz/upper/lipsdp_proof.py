"""Multipliers of LipSDP, and the bound that they prove."""

import math

import numpy as np

from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import is_positive_definite


def certify(matrices, slopes, multipliers, errors=None):
    """The bound that given multipliers prove, rounding included.

    Each step replaces `X_i` by a slightly smaller explicit matrix, and proves
    `[[A, -B^T], [-B, Lambda_i - X_i]] > 0`; the sum of these inequalities
    and of the last one, `[[X_{l-1}, W_l^T], [W_l, L^2 I]] > 0`, is that of
    LipSDP. So nothing depends on how the `X_i` were computed.

    Returns:
        The bound; `inf` if the multipliers prove nothing.
    """
    inner = np.eye(matrices[0].shape[1])
    errors = [0.0] * len(matrices) if errors is None else errors
    for matrix, multiplier, (a, b), error in zip(
        matrices, multipliers, slopes, errors, strict=False
    ):
        inner = _proved_step(inner, matrix, multiplier, a, b, error)
        if inner is None:
            return math.inf
    return _proved_norm(inner, matrices[-1], errors[-1])


def _proved_step(inner, matrix, multiplier, a, b, matrix_error):
    if not (multiplier.min() > 0 and multiplier.max() < np.inf):
        return None
    try:
        lower, _ = eliminate(inner, matrix, multiplier, a, b)
    except np.linalg.LinAlgError:
        return None
    weighted = multiplier[:, None] * matrix
    corner = _corner(inner, matrix, weighted, a, b)
    if not corner.diagonal().min() > 0:
        return None
    squares = abs(a * b) * (matrix * weighted).sum(axis=0)
    side = -(a + b) / 2 * weighted
    index = np.arange(len(matrix))
    slack, taken = 64 * EPS * (sum(matrix.shape) + 8) ** 2, 0.0
    for _ in range(10):
        lower[index, index] -= (slack - taken) * multiplier
        rest = -lower
        rest[index, index] += multiplier
        block, d = _unit_diagonal(corner, side, rest)
        # Rounding in the products that make up the blocks.
        before, after = d[: len(squares)], d[len(squares) :]
        error = (len(matrix) + 6) * EPS * (before**2 @ squares)
        error += EPS * (after**2 * multiplier).max() + 6 * EPS * len(block)
        if matrix_error:
            error += _perturbation(
                matrix_error, weighted, multiplier, a, b, before.max(), after
            )
        if is_positive_definite(block, error):
            return lower
        slack, taken = 8 * slack, slack
    return None


def _perturbation(error, weighted, multiplier, a, b, before, after):
    """What an error in the matrix can change in the scaled block."""
    side = abs(a + b) / 2 * np.max(after * multiplier) * before * error
    corner = 2 * np.linalg.norm(weighted) * error
    corner += np.max(multiplier) * error**2
    return 1.001 * (side + abs(a * b) * before**2 * corner)


def _proved_norm(inner, matrix, matrix_error):
    if np.any(np.diagonal(inner) <= 0):
        return math.inf
    try:
        spread = matrix @ np.linalg.solve(inner, matrix.T)
    except np.linalg.LinAlgError:
        return math.inf
    square = np.linalg.eigvalsh((spread + spread.T) / 2)[-1]
    if not square > 0:
        return math.inf
    slack = 16 * EPS * (sum(matrix.shape) + 8) ** 2
    for _ in range(8):
        corner = square * (1 + slack)
        block, d = _unit_diagonal(inner, matrix, corner * np.eye(len(matrix)))
        size = len(inner)
        error = d[:size].max() * d[size:].max() * matrix_error
        if is_positive_definite(block, error + 4 * EPS * len(block)):
            return float(np.sqrt(corner) * (1 + 2 * EPS))
        slack *= 8
    return math.inf


def _unit_diagonal(corner, side, rest):
    """`[[corner, side^T], [side, rest]]`, scaled by powers of two."""
    size = len(corner)
    block = np.empty((size + len(rest),) * 2)
    block[:size, :size], block[size:, size:] = corner, rest
    block[size:, :size], block[:size, size:] = side, side.T
    exponents = np.frexp(block.diagonal())[1]
    d = np.ldexp(1.0, -(exponents // 2))
    return d[:, None] * block * d[None, :], d


def eliminate(inner, matrix, multiplier, a, b):
    """One step of the recursion, not yet proved.

    Returns:
        `(X_i, Z)` with `Z = A^-1 B^T`, by which worst directions propagate
        backwards.
    """
    weighted = multiplier[:, None] * matrix
    outer = (a + b) / 2 * weighted
    back = np.linalg.solve(_corner(inner, matrix, weighted, a, b), outer.T)
    left = np.diag(multiplier) - outer @ back
    return (left + left.T) / 2, back


def _corner(inner, matrix, weighted, a, b):
    """`A = X_{i-1} + ab W^T Lambda_i W`."""
    return inner + a * b * (matrix.T @ weighted) if a * b else inner
