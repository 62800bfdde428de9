"""Facts about matrices proved in float64, rounding errors included."""

import math

import numpy as np

EPS = np.finfo("float64").eps


def is_positive_definite(matrix, error=0.0):
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
    size = len(matrix)
    growth = (size + 3) * EPS
    # Twice the theorem's bound, which also covers rounding the shift itself.
    shift = 2 * (growth / (1 - growth) * diagonal.sum() + error)
    shifted = matrix.copy()
    shifted.flat[:: size + 1] -= shift
    try:
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return False
    return True


def norm_upper(matrix):
    """An upper bound of the spectral norm of a real matrix, proved.

    The singular value that LAPACK returns is enlarged a little and
    `bound^2 I - W W^T` is proved positive definite.

    Args:
        matrix: Array `(rows, columns)`.

    Returns:
        The bound, above the norm by a relative 1e-9 or less up to a few
        thousand rows; `inf` if the matrix is not finite.
    """
    matrix = np.asarray(matrix, "float64")
    if matrix.size == 0:
        return 0.0
    if not np.all(np.isfinite(matrix)):
        return np.inf
    # Scaling by a power of two is exact and keeps the squares in range.
    scale = power_of_two(np.abs(matrix).max())
    if scale == 0:
        return 0.0
    matrix = matrix / scale
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    gram = matrix @ matrix.T
    trace = np.trace(gram)
    estimate = np.sqrt(max(np.linalg.eigvalsh(gram)[-1], trace / len(gram)))
    error = (matrix.shape[1] + 3) * EPS * trace
    # Nobody can prove less than what rounding may do to the gram matrix.
    slack = 8 * EPS * (len(gram) + 3) ** 2 + 4 * error / estimate**2
    for _ in range(8):
        bound = estimate * (1 + slack)
        # Entries of the difference are rounded once more.
        residual = error + 4 * EPS * bound**2
        if is_positive_definite(bound**2 * np.eye(len(gram)) - gram, residual):
            return float(bound * scale)
        slack *= 4
    return float(frobenius_upper(matrix) * scale)


def frobenius_upper(matrix):
    """An upper bound of the Frobenius norm, rounding included."""
    return float(np.linalg.norm(matrix) * (1 + (matrix.size + 3) * EPS))


def power_of_two(number):
    """The power of two next below a positive number, 0 for 0."""
    if number == 0 or not math.isfinite(number):
        return float(number)
    return math.ldexp(1.0, math.frexp(number)[1] - 1)


def product_upper(factors):
    """An upper bound of a product of non-negative numbers, 0 * inf = inf."""
    # Ones take no rounding.
    factors = [float(factor) for factor in factors if factor != 1]
    if any(np.isnan(f) or np.isinf(f) for f in factors):
        return np.inf
    if len(factors) < 2:
        return float(np.prod(factors))
    return float(np.prod(factors) * (1 + 2 * len(factors) * EPS))
