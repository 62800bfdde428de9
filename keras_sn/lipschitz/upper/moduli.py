"""Bound by the moduli of the weights: exact where none is negative."""

import math

import numpy as np

from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import norm_upper
from keras_sn.norms.proofs import product_upper

# Beyond, products of entries may leave the range of float64.
_SMALLEST, _MOST_LAYERS = 1e-100, 300


def moduli_bound(matrices: list[np.ndarray], steepest: list[float]) -> float:
    """The norm of `|W_l| ... |W_1|`, times the steepest slopes.

    Entry by entry, `|f(x) - f(y)| <= c_l |W_l| ... c_1 |W_1| |x - y|` with
    the moduli of the entries. If none is negative, a linear network with the
    steepest slopes attains it, so it is the constant itself.

    Args:
        matrices: List of arrays `W_i`, in the order they are applied, of
            norms that are neither tiny nor huge.
        steepest: The steepest slope of each activation in between.

    Returns:
        The bound, proved in float64; `inf` where rounding is not under
        control.

    Example:

    >>> import numpy as np
    >>> from keras_sn.lipschitz.upper.moduli import moduli_bound
    >>> round(moduli_bound([np.ones((2, 2))] * 2, [1.0]), 6)
    4.0
    """
    total, terms = abs(matrices[0]), 1
    for matrix in matrices[1:]:
        terms += len(total) + 1
        total = abs(matrix) @ total
    norm = norm_upper(total)
    if not _SMALLEST < norm < math.inf or len(matrices) > _MOST_LAYERS:
        return math.inf
    # Sums without cancellation: entries are off by this much, relatively.
    return product_upper([norm, 1 + 2 * terms * EPS, *steepest])
