"""Products with a weight, and the steps around them, at little cost."""

import math

import keras
import numpy as np
from keras import ops

_MOST_PIECES = 64
_SMALLEST_TO_CUT = 2**16


def adjoint_product(vector, matrix):
    """`vector @ matrix^T` for a single vector.

    PyTorch multiplies a matrix by a vector on one core, but a stack of
    matrices on all: there a large matrix is cut into pieces. TensorFlow would
    take two or three times as long for the pieces.

    Args:
        vector: Tensor `(1, columns)`.
        matrix: Tensor `(rows, columns)`.

    Returns:
        Tensor `(1, rows)`.
    """
    rows, columns = matrix.shape
    vector = ops.transpose(vector)
    if (
        keras.backend.backend() == "torch"
        and rows * columns >= _SMALLEST_TO_CUT
    ):
        pieces = math.gcd(rows, _MOST_PIECES)
        matrix = reshaped(matrix, (pieces, rows // pieces, columns))
        vector = vector[None]
    return reshaped(matrix @ vector, (1, rows))


def product_by_outputs(vectors, matrix):
    """`vectors @ matrix` for the kernel of a convolution.

    PyTorch computes the gradient of the kernel from the convolution output by
    output. Two gradients of the same layout add ten times faster, so there
    the product is written such that its own is laid out like that. A compiler
    chooses layouts by itself, and better.

    Args:
        vectors: Tensor `(n, rows)`.
        matrix: Tensor `(rows, columns)`.

    Returns:
        Tensor `(n, columns)` or `(1, n, columns)`.
    """
    if keras.backend.backend() != "torch":
        return vectors @ matrix
    # Of a stack of one: without it PyTorch undoes the transposes.
    product = ops.transpose(matrix)[None] @ ops.transpose(vectors)[None]
    return ops.transpose(product, (0, 2, 1))


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
