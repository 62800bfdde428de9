"""What rounding does to a linear piece whose channels are scaled."""

import numpy as np

from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import TINY
from keras_sn.norms.proofs import frobenius_upper
from keras_sn.norms.proofs import product_upper


def scaling_error(
    array: np.ndarray, *scales: np.ndarray | None, terms: int = 1
) -> float:
    """What rounding can change in the norm of an array times scales.

    Args:
        array: The products.
        *scales: The factors, by input or output; `None`: ones.
        terms: Number of matrices of the array whose norms add up.
    """
    relative = product_upper([4 * terms * EPS, frobenius_upper(array)])
    # A product may vanish before the next factor is large.
    lost = product_upper([TINY, array.size, *map(_growth, scales)])
    return relative + lost


def scaled_error(error: float, *scales: np.ndarray | None) -> float:
    """An error of a piece, behind and in front of scales."""
    if not error:
        return 0.0
    sizes = [
        float(np.abs(scale).max(initial=0.0))
        for scale in scales
        if scale is not None
    ]
    return product_upper([error, *sizes])


def _growth(scale: np.ndarray | None) -> float:
    """How much a scale can enlarge what an earlier product lost."""
    if scale is None:
        return 1.0
    return max(float(np.abs(scale).max(initial=0.0)), 1.0)
