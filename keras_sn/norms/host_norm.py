"""host_norm: the norm that a wrapper estimates, to the end, in NumPy."""

import numpy as np

from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.both_reshapes import BothReshapes
from keras_sn.norms.leading import leading_triplet

# A norm up to this one counts as zero: its inverse leaves the range of float32.
SMALLEST_NORM = 1e-37
# Up to this side the eigenvalues of the Gram matrix cost less than Lanczos.
_SMALL = {False: 768, True: 96}


def host_norm(
    linear_map: LinearMap, values: tuple[np.ndarray, ...] | None = None
) -> float:
    """The largest norm of a map's blocks, whatever state a wrapper is in.

    For `norm="kernel"` that is the norm of the kernel as a matrix, for
    `norm="operator"` the largest norm at the frequencies that training looks
    at; of `BothReshapes` it is the mean of two. It is what the power iteration
    of a wrapper converges to.

    Guarantee: for blocks with a side of up to 768 (complex ones 96) exact up
    to rounding in float64. For larger ones a Lanczos iteration, to about 1e-10
    (see `leading_triplet`): from below, no certificate.

    Args:
        linear_map: `LinearMap`.
        values: The weights; `None`: as they are.

    Returns:
        The norm; NaN if a weight is not finite.

    Example:

    >>> from keras_sn.linear_maps import ArrayWeight, MatrixMap
    >>> from keras_sn.norms.host_norm import host_norm
    >>> host_norm(MatrixMap(ArrayWeight(np.diag([3.0, 4.0]))))
    4.0
    """
    if isinstance(linear_map, BothReshapes):
        one = host_norm(linear_map.first, values)
        return 0.5 * (one + host_norm(linear_map.other, values))
    blocks = linear_map.blocks(values=values)
    peak = float(np.max(np.abs(blocks), initial=0.0))
    if peak == 0 or not np.isfinite(peak):
        return 0.0 if peak == 0 else float("nan")
    # Entries such as 1e200 have no squares.
    blocks = blocks / peak
    if min(blocks.shape[1:]) <= _SMALL[np.iscomplexobj(blocks)]:
        return peak * _by_gram(blocks)
    return peak * max(leading_triplet(block)[1] for block in blocks)


def _by_gram(blocks: np.ndarray) -> float:
    adjoint = blocks.conj().swapaxes(1, 2)
    tall = blocks.shape[1] >= blocks.shape[2]
    gram = adjoint @ blocks if tall else blocks @ adjoint
    return float(np.sqrt(max(np.linalg.eigvalsh(gram).max(), 0.0)))
