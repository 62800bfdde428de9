"""Products with a weight, and the steps around them, at little cost."""

import math

import keras
import numpy as np
from keras import ops

_MOST_PIECES = 64
_SMALLEST_TO_CUT = 2**16


def adjoint_product(vector, matrix):
    """`vector @ matrix^T` for a single vector.

    On some machines PyTorch multiplies a matrix by a vector on one core, but a
    stack of matrices on all: there a large matrix is cut into pieces. The
    vector comes first; behind the pieces it took twice as long on others.
    TensorFlow would take two or three times as long for the pieces.

    Args:
        vector: Tensor `(1, columns)`.
        matrix: Tensor `(rows, columns)`.

    Returns:
        Tensor `(1, rows)`.
    """
    rows, columns = matrix.shape
    if keras.backend.backend() != "torch" or rows * columns < _SMALLEST_TO_CUT:
        return reshaped(matrix @ ops.transpose(vector), (1, rows))
    pieces = math.gcd(rows, _MOST_PIECES)
    matrices = reshaped(matrix, (pieces, rows // pieces, columns))
    return reshaped(vector @ matrices.transpose(1, 2), (1, rows))


def with_gradient_in_order(kernel):
    """The kernel of a convolution, its gradient laid out as the kernel is.

    PyTorch computes that gradient output by output. In the order of the
    kernel it can be multiplied with it, and added to another gradient, three
    to ten times faster. A reshape to a vector and back makes it so: forward
    it does nothing, backward it copies, which the optimizer then need not.

    Args:
        kernel: Tensor.

    Returns:
        The same values.
    """
    return reshaped(reshaped(kernel, (-1,)), tuple(kernel.shape))


class Constant:
    """An array at hand in the dtype in which it is needed.

    Converting it in every step would cost an eager backend as much as a
    product.

    Args:
        array: NumPy array.
    """

    def __init__(self, array):
        self._arrays = {
            dtype: np.ascontiguousarray(array, dtype)
            for dtype in ("float32", "float64")
        }

    def tensor(self, like):
        """The array as a tensor of the dtype of another, and beside it."""
        array = self._arrays[keras.backend.standardize_dtype(like.dtype)]
        method = getattr(like, "new_tensor", None)
        return ops.convert_to_tensor(array) if method is None else method(array)


def first_and_rest(rows):
    """The first row, as a matrix, and the others.

    Slices would do, but their gradients are padded with zeros and added; the
    gradient of a split is one concatenation.
    """
    if keras.backend.backend() == "torch":
        # `keras.ops.split` reads the sizes back from the device.
        return rows.split([1, rows.shape[0] - 1])
    if rows.shape[0] is None:
        return rows[:1], rows[1:]
    return ops.split(rows, [1])


def reshaped(tensor, shape):
    """`keras.ops.reshape` of a tensor to a tuple of sizes.

    By the tensor's own method where it has one: the checks of Keras cost an
    eager backend ten times as much as the reshape.
    """
    method = getattr(tensor, "reshape", None)
    return ops.reshape(tensor, shape) if method is None else method(shape)


def sum_over(tensor, axis):
    """`keras.ops.sum` that keeps the axis; by its own method, as `reshaped`."""
    if hasattr(tensor, "sum"):
        return tensor.sum(axis=axis, keepdims=True)
    return ops.sum(tensor, axis=axis, keepdims=True)


def max_over(tensor, axis):
    """`keras.ops.max` that keeps the axis; by its own method, as `reshaped`."""
    if hasattr(tensor, "amax"):
        return tensor.amax(axis=axis, keepdims=True)
    return ops.max(tensor, axis=axis, keepdims=True)


def where(condition, tensor, other):
    """`keras.ops.where`, by its own method, as `reshaped`.

    Args:
        condition: Boolean tensor.
        tensor: Tensor for where the condition holds.
        other: Tensor or number for where it does not.
    """
    if hasattr(tensor, "where"):
        return tensor.where(condition, other)
    return ops.where(condition, tensor, other)
