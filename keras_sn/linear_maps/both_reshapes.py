"""BothReshapes: the kernel of a convolution, made a matrix in two ways."""

import keras

from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.base import size
from keras_sn.linear_maps.matrix import MatrixMap

_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


class BothReshapes(MatrixMap):
    """The matrix of a kernel, together with its other one.

    A kernel `(*taps, a, b)` is a matrix with `b` columns, or one with `a`:
    the taps belong to either side. The map itself is that of the first; what
    is normalized is the mean of the norms of both, which is a norm of the
    kernel, but not of a linear map.

    Args:
        first: The matrix with as many columns as the last axis, by group.

    Attributes:
        first: That map.
        other: The map of the other matrix.
    """

    def __init__(self, first: MatrixMap):
        (weight,) = first.weights
        groups, _, columns = first.block_shape
        super().__init__(
            weight, groups, columns, first.split, first.permutation
        )
        *taps, rows, _ = weight.shape
        self.first = first
        self.other = MatrixMap(
            weight,
            blocks=groups,
            columns=rows,
            split=(size(taps), rows, groups, columns),
            permutation=(2, 0, 3, 1),
        )


def both_reshapes(linear_map: LinearMap) -> LinearMap:
    """The same map with the other reshape, where there is another.

    There is one for a convolution, plain or transposed. The matrix of any
    other layer has one norm, whichever way it is laid.

    Args:
        linear_map: As `linear_maps(layer, "kernel")` has it.
    """
    layer = linear_map.weights[0].layer
    if isinstance(layer, _CONVOLUTIONS) and isinstance(linear_map, MatrixMap):
        return BothReshapes(linear_map)
    return linear_map
