"""Exact norm of matrices, by an eigenvalue decomposition in float64."""

import math

import numpy as np

from keras_sn.linear_maps.symbol import Symbol
from keras_sn.norms.bounds import NormBounds
from keras_sn.norms.gram_symbol import GramSymbol
from keras_sn.norms.proofs import EPS
from keras_sn.norms.proofs import largest_eigenvalue


def exact_bounds(symbol: Symbol) -> NormBounds:
    """The norm of a block-diagonal matrix, from its smaller Gram matrices.

    Guarantee: exact up to rounding, and the bracket allows for it: `upper` is
    proved by a Cholesky factorisation, `lower` takes off the backward error
    bound of LAPACK's `eigvalsh`, with the constant 16 n.

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
        return NormBounds(0.0, symbol.error)
    # Squares must neither overflow nor underflow; powers of two are exact.
    gram = GramSymbol(symbol.scaled(1 / scale))
    groups = np.arange(gram.groups)
    grams = gram.at(np.zeros((gram.groups, len(symbol.kernel_size))), groups)
    found, proved = largest_eigenvalue(grams, gram.error)
    rounding = gram.error + 16 * gram.size * EPS * found
    lower = math.sqrt(max(found - rounding, 0.0)) * (1 - 4 * EPS)
    upper = math.sqrt(proved)
    return NormBounds(lower, upper * (1 + 4 * EPS)).scaled(scale)
