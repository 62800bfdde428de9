"""Cholesky test: a proof in float64 that eigenvalues stay below a bound."""

import numpy as np

_EPSILON = float(np.finfo("float64").eps)
# Rows of the matrices to test at once; beyond, the overhead is lost in them.
_STACK = 96


def proves_below(grams, bounds, error):
    """Whether each Gram matrix is proved to have no eigenvalue above a bound.

    Guarantee: where the answer is true, the largest eigenvalue of the exact
    matrix is at most the bound, rounding included. That `t I - G` has a
    Cholesky factor in floating point proves it positive definite up to a
    shift of order `n eps trace`, and that shift is subtracted first.

    Args:
        grams: Hermitian array `(points, n, n)`.
        bounds: Array `(points,)`.
        error: Bound on the 2-norm of the error already in a matrix.

    Returns:
        Boolean array `(points,)`.

    Reference:

    - Rump, "Verification of positive definiteness", BIT 46, 2006
    """
    size = grams.shape[-1]
    # Any excess over the trace is proof enough, and the factor 8 covers
    # complex arithmetic.
    rounding = 8 * (size + 4) * _EPSILON * size * bounds
    diagonal = bounds - error - rounding
    proved = np.zeros(len(grams), dtype=bool)
    shifted = np.negative(grams)
    index = np.arange(size)
    shifted[:, index, index] += diagonal[:, None]
    # One failure fails a stack: small stacks of large matrices waste least.
    length = max(1, _STACK // size)
    for first in range(0, len(grams), length):
        last = min(first + length, len(grams))
        _test(shifted, diagonal > 0, proved, first, last)
    return proved


def _test(shifted, positive, proved, first, last):
    """Tests a run of matrices at once, and by halves where that fails."""
    if first == last:
        return
    if np.all(positive[first:last]) and _has_factor(shifted[first:last]):
        proved[first:last] = True
        return
    if last - first > 1:
        middle = (first + last) // 2
        _test(shifted, positive, proved, first, middle)
        _test(shifted, positive, proved, middle, last)


def _has_factor(matrices):
    try:
        factor = np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        return False
    return bool(np.isfinite(factor).all())
