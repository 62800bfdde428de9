"""Facts about matrices proved in float64, rounding errors included.

The one place for proofs: every certificate of the package ends in a Cholesky
factorisation here.
"""

import math
from collections.abc import Iterable

import numpy as np

from keras_sn.linear_maps.arrays import EPS
from keras_sn.linear_maps.arrays import TINY

# Rows of the matrices to test at once; beyond, the overhead is lost in them.
_STACK = 96
# How often to enlarge a bound that could not be proved.
_TRIALS = 8


def is_positive_definite(matrix: np.ndarray, error: float = 0.0) -> bool:
    """Whether a symmetric matrix is positive definite, proved.

    If the floating-point Cholesky factorisation of `A - shift * I` runs to
    completion, then `A` is positive definite, for a shift that exceeds what
    rounding can do (Rump 2006, Higham 2002 Theorem 10.7).

    Args:
        matrix: Symmetric float64 array; only its lower triangle is read.
        error: Bound on the spectral norm of the difference between the
            matrix that is meant and the array.

    Returns:
        `True` if proved. `False` means not proved, not that it is false.

    Example:

    >>> import numpy as np
    >>> from keras_sn.norms.proofs import is_positive_definite
    >>> is_positive_definite(np.diag([1.0, 1e-9]))
    True
    >>> is_positive_definite(np.diag([1.0, 1e-17]))
    False

    Reference:

    - Rump, Verification of positive definiteness, BIT 46 (2006)
    """
    diagonal = matrix.diagonal()
    # A sum is finite only if all terms are.
    if not (diagonal.min(initial=1.0) > 0 and np.isfinite(matrix.sum())):
        return False
    # Twice, which also covers rounding the shift itself.
    shift = 2 * (_cholesky_rounding(len(matrix), diagonal.sum()) + error)
    shifted = matrix.copy()
    shifted.flat[:: len(matrix) + 1] -= shift
    return _has_factor(shifted[None])


def proves_below(
    grams: np.ndarray, bounds: np.ndarray, error: float
) -> np.ndarray:
    """Whether each Gram matrix is proved to have no eigenvalue above a bound.

    Guarantee: where the answer is true, the largest eigenvalue of the exact
    matrix is at most the bound: `t I - G` is proved positive definite.

    Args:
        grams: Hermitian array `(points, n, n)`, positive semidefinite but
            for the error.
        bounds: Array `(points,)`.
        error: Bound on the 2-norm of the error already in a matrix.

    Returns:
        Boolean array `(points,)`.

    Reference:

    - Rump, Verification of positive definiteness, BIT 46 (2006)
    """
    size = grams.shape[-1]
    # A complex product is four real ones and two sums: a factor of 4 covers
    # its rounding. The trace of `t I - G` is at most that of `t I`.
    rounding = 4 * _cholesky_rounding(size, size * bounds)
    diagonal = bounds - 2 * error - rounding - 4 * EPS * bounds
    proved = np.zeros(len(grams), dtype=bool)
    shifted = np.negative(grams)
    index = np.arange(size)
    shifted[:, index, index] += diagonal[:, None]
    # One failure fails a stack: small stacks of large matrices waste least.
    length = max(1, _STACK // max(size, 1))
    for first in range(0, len(grams), length):
        last = min(first + length, len(grams))
        _test(shifted, diagonal > 0, proved, first, last)
    return proved


def _cholesky_rounding(size, trace):
    """What a factorisation of a matrix of that size and trace can hide.

    Rump's theorem has `gamma / (1 - gamma)` times the trace for `gamma` of
    `size + 2` operations with the unit roundoff, which is half of `EPS`, and
    an underflow term of a few `size` times the smallest number.
    """
    growth = (size + 3) * EPS
    return growth / (1 - growth) * trace + 8 * size * (size + 2) * TINY


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


def _has_factor(matrices: np.ndarray) -> bool:
    try:
        factor = np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        return False
    # A sum is finite only if all terms are.
    return bool(np.isfinite(factor.sum()))


def largest_eigenvalue(grams: np.ndarray, error: float) -> tuple[float, float]:
    """The largest eigenvalue of Gram matrices, and a proved upper bound.

    Args:
        grams: Real symmetric array `(points, n, n)`, positive semidefinite
            but for the error.
        error: Bound on the 2-norm of the error already in a matrix.

    Returns:
        `(value, bound)`: what LAPACK finds, and that enlarged by what
        rounding may do to it, proved.
    """
    size = grams.shape[-1]
    value = float(np.linalg.eigvalsh(grams)[:, -1].max())
    trace = float(np.trace(grams, axis1=1, axis2=2).max())
    estimate = max(value, trace / size, TINY)
    # Nobody can prove less than what rounding may do to the matrix.
    slack = 8 * EPS * (size + 3) ** 2 + 4 * error / estimate
    for _ in range(_TRIALS):
        bound = estimate * (1 + slack)
        if np.all(proves_below(grams, np.full(len(grams), bound), error)):
            return value, bound
        slack *= 4
    return value, trace * (1 + (size + 3) * EPS) + size * error


def norm_upper(matrix: np.ndarray) -> float:
    """An upper bound of the spectral norm of a real matrix, proved.

    Args:
        matrix: Array `(rows, columns)`.

    Returns:
        The bound, above the norm by a relative 1e-9 or less up to a thousand
        rows; `inf` if the matrix is not finite.
    """
    matrix = np.asarray(matrix, "float64")
    if matrix.size == 0:
        return 0.0
    if not np.all(np.isfinite(matrix)):
        return math.inf
    # Scaling by a power of two is exact and keeps the squares in range.
    scale = power_of_two(np.abs(matrix).max())
    if scale == 0:
        return 0.0
    matrix = matrix / scale
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    gram = matrix @ matrix.T
    error = (matrix.shape[1] + 3) * (EPS * float(np.trace(gram)) + TINY)
    _, square = largest_eigenvalue(gram[None], error)
    return scaled_up(math.sqrt(square) * (1 + 4 * EPS), scale)


def frobenius_upper(matrix: np.ndarray) -> float:
    """An upper bound of the Frobenius norm, rounding included."""
    rounded = 1 + (np.size(matrix) + 3) * EPS
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(matrix))
    if 1e-100 < norm < 1e100:
        return norm * rounded
    # Squares would leave the range of float64.
    scale = power_of_two(np.abs(matrix).max(initial=0.0))
    if scale == 0:
        return 0.0
    if not math.isfinite(scale):
        return math.inf
    return scaled_up(float(np.linalg.norm(matrix / scale)) * rounded, scale)


def power_of_two(number: float) -> float:
    """The power of two next below a positive number, 0 for 0."""
    if number == 0 or not math.isfinite(number):
        return float(number)
    return math.ldexp(1.0, math.frexp(number)[1] - 1)


def scaled_up(bound: float, scale: float) -> float:
    """An upper bound times a power of two, which is exact but for underflow.

    >>> from keras_sn.norms.proofs import scaled_up
    >>> scaled_up(1.2, 5e-324)
    1e-323
    """
    product = float(bound * scale)
    if abs(product) < TINY and bound > 0:
        return math.nextafter(product, math.inf)
    return product


def scaled_down(bound: float, scale: float) -> float:
    """A lower bound times a power of two, likewise, and never infinite."""
    product = min(float(bound * scale), float(np.finfo("float64").max))
    if product < TINY and bound > 0:
        return max(math.nextafter(product, 0.0), 0.0)
    return product


def product_upper(factors: Iterable[float]) -> float:
    """An upper bound of a product of non-negative numbers, 0 * inf = inf."""
    # Ones take no rounding.
    factors = [float(factor) for factor in factors if factor != 1]
    if not all(map(math.isfinite, factors)):
        return math.inf
    if len(factors) < 2:
        return factors[0] if factors else 1.0
    # Exponents apart: no step in between may leave the range of float64.
    product, exponent = 1.0, 0
    for factor in factors:
        product, power = math.frexp(product * math.frexp(factor)[0])
        exponent += power + math.frexp(factor)[1]
    product *= 1 + 2 * len(factors) * EPS
    if exponent > 1023:
        return math.inf if product else 0.0
    result = math.ldexp(product, exponent)
    if result < TINY and product:
        return math.nextafter(result, math.inf)
    return result
