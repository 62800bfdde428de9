"""Gram iteration: a differentiable upper bound of the norm."""

import math

from keras import ops

from keras_sn.linear_maps.base import LinearMap


def gram_iteration(
    linear_map: LinearMap,
    iterations: int = 6,
    grid: int | tuple[int, ...] | None = None,
    values: tuple | None = None,
):
    """Bounds the norm by `|G|_F^(1 / 2^t)` after `t` squarings.

    `G_0 = W`, `G_(t+1) = G_t^T G_t`, rescaled at each step and the logarithm
    of the scales kept.

    Guarantee: an upper bound after any number of iterations, up to rounding
    in the dtype of the weights; larger than the norm by at most
    `rank^(1 / 2^(t + 1))`, times the excess of the grid for a convolution.
    Every step is differentiable in the weights.

    Args:
        linear_map: `LinearMap`.
        iterations: Number of squarings.
        grid: Frequencies per axis of a convolution. `None`: a small grid.
        values: Tensors to use as the weights.

    Returns:
        Scalar tensor.

    Example:

    >>> import numpy as np
    >>> from keras_sn.linear_maps import ArrayWeight, MatrixMap
    >>> from keras_sn.norms import gram_iteration
    >>> matrix = MatrixMap(ArrayWeight(np.diag([3.0, 4.0]).astype("float32")))
    >>> round(float(gram_iteration(matrix, iterations=6)), 4)
    4.0

    Reference:

    - [Delattre et al., 2023](https://arxiv.org/abs/2305.16173)
    """
    values = linear_map.values() if values is None else values
    grid = linear_map.grid(grid)
    symbol = linear_map.symbol(values)
    blocks = symbol.real_blocks(grid)
    rows, columns = blocks.shape[-2:]
    if rows < columns:
        blocks = ops.transpose(blocks, (0, 2, 1))
    logarithm = 0.0
    for _ in range(iterations):
        norm = _frobenius(blocks)
        blocks = blocks / norm[:, None, None]
        logarithm = 2 * (logarithm + ops.log(norm))
        blocks = ops.matmul(ops.transpose(blocks, (0, 2, 1)), blocks)
    logarithm = logarithm + ops.log(_frobenius(blocks))
    logarithm = logarithm - math.log(symbol.multiplicity(grid)) / 2
    bound = ops.exp(ops.max(logarithm) / 2**iterations)
    return bound * linear_map.excess(grid)


def _frobenius(blocks):
    # The square root has no derivative at zero.
    squares = ops.sum(ops.square(blocks), axis=(-2, -1))
    return ops.sqrt(ops.maximum(squares, 1e-30))
