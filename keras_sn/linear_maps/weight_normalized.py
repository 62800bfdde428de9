"""WeightNormalizedMap: a kernel as directions and their lengths."""

import math

import keras
import numpy as np
from keras import ops

from keras_sn.fast_ops import Array
from keras_sn.fast_ops import reshaped
from keras_sn.fast_ops import sum_over
from keras_sn.fast_ops import tiny
from keras_sn.linear_maps.arrays import functions_of
from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.scaled_outputs import ScaledOutputsMap
from keras_sn.linear_maps.weights import Weight


class WeightNormalizedMap(ScaledOutputsMap):
    """A linear map whose kernel has a length of its own for each output.

    Args:
        gain: The lengths; it is the weight to scale.
        base: The map of the kernel as it is stored.
        output_shape: See `ScaledOutputsMap`.
    """

    def __init__(
        self, gain: Weight, base: LinearMap, output_shape: tuple[int, ...]
    ):
        super().__init__([gain], base, output_shape)

    def factors(self, values, kernel):
        (gain,) = map(wide, values)
        lengths = column_lengths(kernel, self.output_shape)
        return gain / reshaped(lengths, (math.prod(self.output_shape),))


def wide(value: Array) -> Array:
    """In float32 at least: the squares of small numbers are zero in half."""
    if isinstance(value, np.ndarray):
        return value
    narrow = keras.backend.standardize_dtype(value.dtype) != "float64"
    return ops.cast(value, "float32") if narrow else value


def column_lengths(kernel: Array, output_shape: tuple[int, ...]) -> Array:
    """The Euclidean length of what each output of a kernel is made of.

    Args:
        kernel: Array or tensor.
        output_shape: Shape of its outputs, to broadcast with.

    Returns:
        Array or tensor that broadcasts with the kernel, in float32 or wider;
        of zeros it is tiny.

    Example:

    >>> import numpy as np
    >>> from keras_sn.linear_maps.weight_normalized import column_lengths
    >>> column_lengths(np.array([[3.0, 0.0], [4.0, 2.0]]), (2,)).tolist()
    [[5.0, 2.0]]
    """
    kernel = wide(kernel)
    rank = len(kernel.shape)
    kept = (1,) * (rank - len(output_shape)) + tuple(output_shape)
    squares = kernel * kernel
    for axis, size in enumerate(kept):
        if size == 1:
            squares = sum_over(squares, axis)
    return functions_of(kernel).sqrt(squares + tiny(kernel))
