"""Grid certificate: the norm of a symbol from a small grid of frequencies."""

import math

import numpy as np

from keras_sn.linear_maps.base import LinearMap
from keras_sn.norms.bounds import NormBounds
from keras_sn.norms.proofs import EPS


def grid_bounds(
    linear_map: LinearMap,
    grid: int | tuple[int, ...] | None = None,
    values: tuple | None = None,
) -> NormBounds:
    """A bracket from the singular values on one grid.

    `max s1(K^(w)) <= S <= max s1(K^(w)) prod_i 1 / cos(pi d_i / N_i)` with
    the maximum over the grid and the degree `d_i = (k_i - 1) / 2`.

    Guarantee: both bounds hold for every input size, with an allowance for
    the rounding of the float64 decomposition.

    Args:
        linear_map: `LinearMap`.
        grid: Frequencies per axis, a number or a tuple. `None`: a small grid.
        values: Tensors or arrays to use as the weights.

    Returns:
        `NormBounds`; `upper` is `inf` on a grid with no more than `k_i - 1`
        frequencies along an axis.

    Example:

    >>> import keras
    >>> from keras_sn.linear_maps import linear_maps
    >>> from keras_sn.norms import grid_bounds
    >>> layer = keras.layers.Conv2D(1, 2, kernel_initializer="ones")
    >>> layer.build((None, None, None, 1))
    >>> (convolution,) = linear_maps(layer).values()
    >>> bounds = grid_bounds(convolution, grid=16)
    >>> round(bounds.lower, 3), round(bounds.upper, 3)
    (4.0, 4.039)

    Reference:

    - Ehlich & Zeller, 1964
    - [Pfister & Bresler, 2019](https://arxiv.org/abs/1811.01337)
    """
    blocks = linear_map.blocks(values, grid)
    if blocks.size == 0:
        return NormBounds(0.0, 0.0)
    largest = float(np.linalg.svd(blocks, compute_uv=False).max())
    taps = math.prod(linear_map.kernel_size)
    rounding = 16 * (sum(blocks.shape[1:]) + taps) * EPS
    return NormBounds(
        float(largest * (1 - rounding)),
        float(largest * (1 + rounding) * linear_map.excess(grid)),
    )
