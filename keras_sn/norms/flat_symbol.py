"""flat_bounds: the norm of a symbol that hardly depends on the frequency."""

import math
from collections.abc import Callable

import numpy as np

from keras_sn.norms.bounds import NormBounds
from keras_sn.norms.gram_symbol import GramSymbol
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import frobenius_upper
from keras_sn.norms.proofs import largest_eigenvalue
from keras_sn.norms.proofs import norm_upper

# How far from the mean, relatively, is worth a closer look.
_NEARLY_FLAT = 1e-2


def flat_bounds(gram: GramSymbol) -> NormBounds:
    """A bracket of the norm from the mean of `K^(w)* K^(w)`.

    The mean over all frequencies is the autocorrelation `A_0`. The largest
    eigenvalue somewhere is at least that of the mean, and at most the norms of
    the other `A_r` more. An orthogonal convolution has none, and its bracket
    is as narrow as rounding has left them.

    Guarantee: both bounds hold, rounding of the float64 arithmetic included.

    Args:
        gram: `GramSymbol`.

    Returns:
        `NormBounds`.

    Reference:

    - [Delattre et al., 2024](https://arxiv.org/abs/2402.00240), who bound a
      convolution by its autocorrelation as well
    """
    found, proved = largest_eigenvalue(gram.mean(), gram.error)
    rounding = gram.error + 16 * gram.size * EPS * found
    lower = math.sqrt(max(found - rounding, 0.0)) * (1 - 4 * EPS)
    deviation = _sum_of_norms(gram, frobenius_upper)
    if deviation < _NEARLY_FLAT * found:
        # Rounding is noise, whose norm is far below that of Frobenius.
        deviation = _sum_of_norms(gram, norm_upper)
    # Subtracting halves has rounded each entry of the others once more.
    square = (proved + deviation * (1 + 4 * EPS)) + 4 * gram.error
    return NormBounds(lower, math.sqrt(square) * (1 + 8 * EPS))


def _sum_of_norms(
    gram: GramSymbol, norm_of: Callable[[np.ndarray], float]
) -> float:
    """`2 sum_r |A_r|` of the group where it is largest."""
    sums = np.zeros(gram.groups)
    for matrices in gram.others():
        sums += [norm_of(matrix) for matrix in matrices]
    terms = len(gram.shifts) + 1
    return 2 * float(sums.max(initial=0.0)) * (1 + 4 * terms * EPS)
