"""Exact norm of matrices, by an eigenvalue decomposition in float64."""

import math

import numpy as np

from keras_sn.norms.bounds import NormBounds
from keras_sn.norms.gram_symbol import GramSymbol

_EPSILON = float(np.finfo("float64").eps)


def exact_bounds(symbol):
    """The norm of a block-diagonal matrix, from its smaller Gram matrices.

    Guarantee: exact up to rounding, and the bracket allows for it: for that
    of the Gram matrix as proved, for that of LAPACK's `eigvalsh` as its
    backward error bound says, with the constant 16 n.

    Args:
        symbol: `Symbol` with a single frequency.

    Returns:
        `NormBounds`.

    Raises:
        ValueError: If the symbol varies with the frequency.

    Reference:

    - LAPACK Users' Guide, section 4.7, on symmetric eigenproblems
    """
    if math.prod(symbol.kernel_size) > 1:
        raise ValueError(
            "The symbol of a convolution varies with the frequency, so no "
            "decomposition gives its norm exactly. Use method='auto', which "
            "brackets it. Received a kernel of the (polyphase) size "
            f"{symbol.kernel_size}."
        )
    scale = symbol.magnitude()
    if scale == 0.0:
        return NormBounds(0.0, 0.0)
    # Squares must neither overflow nor underflow; powers of two are exact.
    gram = GramSymbol(symbol.scaled(1 / scale))
    groups = np.arange(gram.groups)
    grams = gram.at(np.zeros((gram.groups, len(symbol.kernel_size))), groups)
    square = float(np.linalg.eigvalsh(grams)[:, -1].max())
    rounding = gram.error + 16 * gram.size * _EPSILON * square
    lower = math.sqrt(max(square - rounding, 0.0)) * (1 - 4 * _EPSILON)
    upper = math.sqrt(square + rounding) * (1 + 4 * _EPSILON)
    return NormBounds(lower, upper).scaled(scale)
