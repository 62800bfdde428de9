"""Orthogonalization: the polar factors of a stack of matrices, by products.

An odd polynomial of a matrix changes its singular values alone. One that
brings all of them to 1 leaves the nearest matrix with orthonormal rows or
columns, the polar factor `U V^T` of `U S V^T`, without a decomposition:
products are quick on every device, and differentiable.
"""

import functools
import math

import numpy as np

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import held
from keras_sn.fast_ops import max_over
from keras_sn.fast_ops import permuted
from keras_sn.fast_ops import sum_over
from keras_sn.fast_ops import tiny

# `a x + b x^3 + c x^5` of each step.
Coefficients = tuple[tuple[float, float, float], ...]

# Those of highest order at 1, which singular values in (0, sqrt(3)] and
# (0, 1.52] tend to. The first is also the iteration of Bjorck of order 1.
CUBIC = (1.5, -0.5, 0.0)
QUINTIC = (1.875, -1.25, 0.375)
# By K. Jordan, as steep at zero as can be; ends between 0.68 and 1.21.
STEEP = (3.4445, -4.7750, 2.0315)
# Where the ends of an interval are as near, the best polynomial is no longer
# found in float64, and QUINTIC is as good.
_NARROW = 1e-5
# Columns by rows from which on the Gram matrix is the cheaper place, and size:
# a small matrix takes as long as its operations are many.
_LEAST_RATIO = 2
_LEAST_SIZE = 2**12
# In float32, five steps on matrices with singular values down to 1e-8 were off
# by 3e-4 at most, by 1e-4 step by step, by 6e-3 with one run for all.
_LARGEST_GROWTH = 100.0


@functools.cache
def polar_express(steps: int, smallest: float = 1e-3) -> Coefficients:
    """The polynomials that come nearest to 1 in a number of steps.

    Each is the best for the interval that the one before has left, and no
    other odd polynomials of degree 5 are better at the end.

    Args:
        steps: Number of steps.
        smallest: Singular values from this share of the bound of the largest
            on are brought to 1; smaller ones grow as fast.

    Returns:
        Tuple of `(a, b, c)`, one for each step.

    Example:

    >>> from keras_sn.norms.orthogonalization import polar_express
    >>> x = 1e-3
    >>> for a, b, c in polar_express(7):
    ...     x = a * x + b * x**3 + c * x**5
    >>> round(x, 6)
    1.0

    Reference:

    - [Amsel et al., 2025](https://arxiv.org/abs/2505.16932)
    """
    low, high = smallest, 1.0
    found = []
    for _ in range(steps):
        coefficients, error = _best_quintic(low, high)
        found.append(coefficients)
        low, high = 1 - error, 1 + error
    return tuple(found)


def _best_quintic(
    low: float, high: float
) -> tuple[tuple[float, float, float], float]:
    """The odd quintic nearest to 1 on an interval, and its largest error.

    Its error has the largest size at four points, with alternating signs: at
    both ends and where the polynomial has its extremes (Remez).
    """
    if high - low < _NARROW * high:
        middle = (low + high) / 2
        a, b, c = (QUINTIC[i] / middle ** (2 * i + 1) for i in range(3))
        return (a, b, c), (high - low) ** 3
    inner = np.array([(3 * low + high) / 4, (low + 3 * high) / 4])
    for _ in range(30):
        points = np.array([low, *inner, high])[:, None]
        signs = np.array([[1.0], [-1.0], [1.0], [-1.0]])
        system = np.hstack([points, points**3, points**5, signs])
        a, b, c, error = np.linalg.solve(system, np.ones(4)).tolist()
        root = np.sqrt(max(9 * b * b - 20 * a * c, 0.0))
        inner = np.sqrt(
            [(-3 * b - root) / (10 * c), (-3 * b + root) / (10 * c)]
        )
    return (a, b, c), abs(error)


def orthogonalize(matrices: Array, coefficients: Coefficients) -> Array:
    """The polar factor of each matrix, as near as the polynomials come.

    Guarantee: the singular vectors are kept, and a singular value `s` becomes
    what the polynomials make of `s / bound`, where `bound` lies between the
    largest singular value and `rank^(1/4)` times that.

    Args:
        matrices: Array or tensor `(..., rows, columns)`, float32 or wider.
        coefficients: The steps, such as `polar_express(5)` or
            `(CUBIC,) * 15`.

    Returns:
        Array or tensor of the same shape; zero where a matrix is zero.
        Differentiable, with the bound held constant, on which the polar
        factor does not depend.

    Example:

    >>> import numpy as np
    >>> from keras_sn.norms.orthogonalization import orthogonalize
    >>> from keras_sn.norms.orthogonalization import polar_express
    >>> rotation = orthogonalize(np.diag([3.0, -0.1]), polar_express(7))
    >>> rotation.round(4).tolist()
    [[1.0, 0.0], [0.0, -1.0]]

    Reference:

    - [Bjorck & Bowie, 1971](https://doi.org/10.1137/0708036)
    - [Amsel et al., 2025](https://arxiv.org/abs/2505.16932)
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    # Entries first: squares of 1e-30 are zero in float32.
    size = held(_reduced(abs(matrices), "max"))
    matrices = matrices / (size + tiny(matrices))
    factor = matrices if wide else adjoint(matrices)
    gram = factor @ adjoint(factor)
    # The norm of the Gram matrix is at most its Frobenius norm, which is at
    # most sqrt(rank) times as large: nearer than that of the matrix itself.
    square = held(_reduced(gram * gram, "sum")) ** 0.5 + tiny(matrices)
    factor, gram = factor / square**0.5, gram / square
    for number, run in enumerate(_runs(coefficients, factor.shape)):
        if number:
            gram = factor @ adjoint(factor)
        factor = _after(run, factor, gram)
    return factor if wide else adjoint(factor)


def _runs(coefficients: Coefficients, shape: tuple) -> list[Coefficients]:
    """The steps in runs, each of which is carried out on the Gram matrix.

    A step on a matrix takes two products as large as the matrix, one on its
    Gram matrix none. It takes three small ones in their place, which is more
    work where the matrix is nearly square, and more operations where it is
    small: there each step is a run of its own. A rounding error of the Gram
    matrix grows as fast as small squares do, so a run ends before they have
    grown by `_LARGEST_GROWTH` squared.
    """
    rows, columns = shape[-2:]
    if columns < _LEAST_RATIO * rows or rows * columns < _LEAST_SIZE:
        return [(step,) for step in coefficients]
    runs: list[Coefficients] = []
    growth = math.inf
    for step in coefficients:
        growth *= step[0]
        if growth > _LARGEST_GROWTH:
            runs.append(())
            growth = step[0]
        runs[-1] = (*runs[-1], step)
    return runs


def _after(run: Coefficients, factor: Array, gram: Array) -> Array:
    """The matrices after some steps, from their Gram matrices.

    With `S = b G + c G^2` a step takes `X` to `(a + S) X` and `G` to
    `(a + S) G (a + S)`: all are polynomials of the first `G`.
    """
    scale, rest = 1.0, None
    for number, (a, b, c) in enumerate(run):
        change = b * gram if c == 0.0 else b * gram + c * (gram @ gram)
        if number + 1 < len(run):
            half = a * gram + change @ gram
            gram = a * half + half @ change
        if rest is None:
            rest = change
        else:
            rest = a * rest + scale * change + change @ rest
        scale = scale * a
    return factor if rest is None else scale * factor + rest @ factor


def adjoint(matrices: Array) -> Array:
    """The transposes of a stack of matrices, without a copy where possible."""
    axes = tuple(range(len(matrices.shape)))
    return permuted(matrices, (*axes[:-2], axes[-1], axes[-2]))


def _reduced(stack: Array, kind: str) -> Array:
    """Sum or maximum over each matrix, which keeps the axes."""
    reduction = sum_over if kind == "sum" else max_over
    return reduction(reduction(stack, -1), -2)
