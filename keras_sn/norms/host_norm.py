"""host_norm: the norm that a wrapper estimates, to the end, in NumPy."""

import numpy as np

from keras_sn.linear_maps.base import LinearMap

# A norm up to this one counts as zero: its inverse leaves the range of float32.
SMALLEST_NORM = 1e-37
# Up to this side the eigenvalues of the Gram matrix cost less than Lanczos.
_SMALL = {False: 768, True: 96}
# Lanczos stops when the last few steps added less than this, relatively.
_CONVERGED = 1e-9
_SETTLED_STEPS = 5
_MOST_STEPS = 300


def host_norm(
    linear_map: LinearMap, values: tuple[np.ndarray, ...] | None = None
) -> float:
    """The largest norm of a map's blocks, whatever state a wrapper is in.

    For `norm="kernel"` that is the norm of the kernel as a matrix, for
    `norm="operator"` the largest norm at the frequencies that training looks
    at. It is what the power iteration of a wrapper converges to.

    Guarantee: for blocks with a side of up to 768 (complex ones 96) exact up
    to rounding in float64. For larger ones a Lanczos iteration that has
    settled to 1e-9: from below, no certificate.

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
    blocks = linear_map.blocks(values=values)
    peak = float(np.max(np.abs(blocks), initial=0.0))
    if peak == 0 or not np.isfinite(peak):
        return 0.0 if peak == 0 else float("nan")
    # Entries such as 1e200 have no squares.
    blocks = blocks / peak
    if min(blocks.shape[1:]) <= _SMALL[np.iscomplexobj(blocks)]:
        return peak * _by_gram(blocks)
    return peak * max(map(_by_lanczos, blocks))


def _by_gram(blocks: np.ndarray) -> float:
    adjoint = blocks.conj().swapaxes(1, 2)
    tall = blocks.shape[1] >= blocks.shape[2]
    gram = adjoint @ blocks if tall else blocks @ adjoint
    return float(np.sqrt(max(np.linalg.eigvalsh(gram).max(), 0.0)))


def _by_lanczos(block: np.ndarray) -> float:
    """Of one block: Golub, Kahan and Lanczos, fully orthogonalized."""
    if block.shape[0] < block.shape[1]:
        block = block.conj().T
    side = block.shape[1]
    start = np.random.default_rng(0).standard_normal(side)
    vector = (start / np.linalg.norm(start)).astype(block.dtype)
    basis = np.zeros((min(_MOST_STEPS, side), side), block.dtype)
    images = np.zeros((len(basis), block.shape[0]), block.dtype)
    gram = np.zeros((len(basis), len(basis)), block.dtype)
    best, settled = 0.0, 0
    for step in range(len(basis)):
        basis[step] = vector
        images[step] = block @ vector
        # The lower triangle, which is what eigvalsh reads.
        gram[step, : step + 1] = images[: step + 1].conj() @ images[step]
        # The norm on the space so far: a lower bound, whatever the rounding.
        known = gram[: step + 1, : step + 1]
        norm = float(np.sqrt(max(np.linalg.eigvalsh(known)[-1], 0.0)))
        settled = settled + 1 if norm <= best * (1 + _CONVERGED) else 0
        best = max(best, norm)
        if settled == _SETTLED_STEPS:
            break
        vector = block.conj().T @ images[step]
        # Twice is enough (Kahan, Parlett).
        for _ in range(2):
            space = basis[: step + 1]
            vector = vector - space.T @ (space.conj() @ vector)
        length = np.linalg.norm(vector)
        if length <= 1e-14 * norm * norm:
            break
        vector = vector / length
    return best
