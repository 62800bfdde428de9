"""Functions of arrays and tensors alike, at little cost on an eager backend.

The checks of `keras.ops` cost an eager backend ten times as much as a reshape,
so a tensor's own method or operator comes first; NumPy arrays stay arrays, so
that one formula serves a training step and the host.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

# A NumPy array or a tensor of the backend.
Array = Any

_MOST_PIECES = 64
_SMALLEST_TO_CUT = 2**16
_SHIFT = 1e-5
_TINY = {dtype: float(np.finfo(dtype).tiny) for dtype in ("float32", "float64")}


def adjoint_product(vectors: Array, matrix: Array) -> Array:
    """`vectors @ matrix^T`, for a single vector above all.

    On some machines PyTorch multiplies a matrix by a vector on one core, but a
    stack of matrices on all: there a large matrix is cut into pieces. The
    vector comes first; behind the pieces it took twice as long on others.
    TensorFlow would take two or three times as long for the pieces.

    Args:
        vectors: `(1, columns)`, or several rows.
        matrix: `(rows, columns)`.

    Returns:
        `(1, rows)`, or as many.
    """
    rows, columns = matrix.shape
    if isinstance(matrix, np.ndarray):
        return (matrix @ vectors.T).T
    if vectors.shape[0] > 1:
        return vectors @ transposed(matrix)
    if keras.backend.backend() != "torch" or rows * columns < _SMALLEST_TO_CUT:
        return reshaped(matrix @ transposed(vectors), (1, rows))
    pieces = math.gcd(rows, _MOST_PIECES)
    matrices = reshaped(matrix, (pieces, rows // pieces, columns))
    return reshaped(vectors @ matrices.transpose(1, 2), (1, rows))


def with_gradient_in_order(kernel: Array) -> Array:
    """The kernel of a convolution, its gradient laid out as the kernel is.

    PyTorch computes that gradient output by output. In the order of the
    kernel it can be multiplied with it, and added to another gradient, three
    to ten times faster. A reshape to a vector and back makes it so: forward
    it does nothing, backward it copies, which the optimizer then need not.
    """
    return reshaped(reshaped(kernel, (-1,)), tuple(kernel.shape))


class Constant:
    """An array at hand in the dtype in which it is needed.

    Converting it in every step would cost an eager backend as much as a
    product.

    Args:
        array: NumPy array.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._arrays = {
            dtype: np.ascontiguousarray(array, dtype)
            for dtype in ("float32", "float64")
        }

    def tensor(self, like: Array) -> Array:
        """The constant in the dtype of another, as an array if that is one."""
        array = self._arrays[keras.backend.standardize_dtype(like.dtype)]
        if isinstance(like, np.ndarray):
            return array
        if keras.backend.backend() != "torch":
            return ops.convert_to_tensor(array)
        import torch

        # On the host it shares the memory of the array.
        return torch.as_tensor(array, device=like.device)


def first_and_rest(rows: Array) -> tuple[Array, Array]:
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


def power(matrix: Array, squarings: int) -> Array:
    """The power `2**squarings` of a matrix; in PyTorch, in one call."""
    if keras.backend.backend() == "torch" and not isinstance(
        matrix, np.ndarray
    ):
        return matrix.matrix_power(2**squarings)
    for _ in range(squarings):
        matrix = matrix @ matrix
    return matrix


def orthonormal(rows: Array) -> Array:
    """Orthonormal rows; the first of them span what the first given ones do.

    PyTorch and NumPy have a QR decomposition. In JAX that of LAPACK runs on
    threads that take the cores from those of XLA, which makes a step half as
    long again, and TensorFlow compiles its own for long: both get two rounds of
    Cholesky QR. The shift, more than what rounds off, leaves rows that almost
    depend on those before them shorter than one. Given again they grow, so a
    basis that is kept from step to step ends orthonormal.

    Reference:

    - [Fukaya et al., 2020](https://arxiv.org/abs/1809.11085)
    """
    if isinstance(rows, np.ndarray):
        columns, upper = np.linalg.qr(rows.T)
        return (columns * np.where(np.diagonal(upper) < 0, -1, 1)).T
    if keras.backend.backend() == "torch":
        import torch

        columns, upper = torch.linalg.qr(rows.t())
        return (columns * upper.diagonal().sign()).t()
    dtype = keras.backend.standardize_dtype(rows.dtype)
    identity = np.eye(rows.shape[0]).astype(dtype)
    rows = rows * sum_over(rows * rows, -1) ** -0.5
    for _ in range(2):
        gram = rows @ transposed(rows)
        # A NaN stays in the rows; of one, Cholesky would raise an error.
        gram = where(gram == gram, gram, 0.0) + _SHIFT * identity
        # The inverse of a small matrix costs less than to solve for long rows.
        inverse = ops.solve_triangular(ops.cholesky(gram), identity, lower=True)
        rows = (1 + _SHIFT) ** 0.5 * (inverse @ rows)
    return rows


def row_of_largest_diagonal(matrix: Array) -> Array:
    """The row, `(1, n)`, that has the largest entry of the diagonal."""
    if isinstance(matrix, np.ndarray):
        return matrix[np.argmax(np.diagonal(matrix))][None]
    if keras.backend.backend() == "torch":
        # As an index, a tensor would be read back from the device.
        return matrix.index_select(0, matrix.diagonal().argmax().reshape(1))
    place = ops.argmax(ops.diagonal(matrix), keepdims=True)
    return ops.take(matrix, place, axis=0)


def quotient_of_equals(constant: Array, tensor: Array) -> Array:
    """`constant / tensor`, one of the same value as a constant.

    Differentiable up to the third time, and no derivative leaves float32
    where one over the tensor does not: that of a quotient squares it in JAX,
    and XLA turns one of quotients into one of products, of numbers such as
    1e60. So it is the series about the value, except in PyTorch, which
    divides twice.
    """
    if keras.backend.backend() == "torch":
        return constant / tensor
    change = tensor / constant - 1.0
    return 1.0 - change * (1.0 - change * (1.0 - change))


def kept(tensor: Array) -> Array:
    """The value that a variable has now.

    PyTorch assigns in place, and refuses a gradient through what was used
    before.
    """
    if isinstance(tensor, np.ndarray):
        return tensor
    method = getattr(tensor, "clone", None)
    return tensor if method is None else method()


def tiny(tensor: Array) -> float:
    """Adding it changes nothing but a zero."""
    return _TINY[keras.backend.standardize_dtype(tensor.dtype)]


def reshaped(tensor: Array, shape: tuple) -> Array:
    """`keras.ops.reshape` to a tuple of sizes."""
    method = getattr(tensor, "reshape", None)
    return ops.reshape(tensor, shape) if method is None else method(shape)


def transposed(matrix: Array) -> Array:
    """`keras.ops.transpose` of a matrix."""
    method = getattr(matrix, "t", None)
    if method is not None:
        return method()
    return matrix.T if isinstance(matrix, np.ndarray) else ops.transpose(matrix)


def permuted(tensor: Array, axes: tuple) -> Array:
    """`keras.ops.transpose` with the order of the axes."""
    if isinstance(tensor, np.ndarray):
        return tensor.transpose(axes)
    method = getattr(tensor, "permute", None)
    return ops.transpose(tensor, axes) if method is None else method(axes)


def held(tensor: Array) -> Array:
    """`keras.ops.stop_gradient`."""
    if isinstance(tensor, np.ndarray):
        return tensor
    method = getattr(tensor, "detach", None)
    return ops.stop_gradient(tensor) if method is None else method()


def has_gradient(tensor: Array) -> bool:
    """Whether a gradient may be asked of a tensor; PyTorch alone knows."""
    return bool(getattr(tensor, "requires_grad", True))


def sum_over(tensor: Array, axis: int | None) -> Array:
    """`keras.ops.sum` that keeps the axis."""
    if hasattr(tensor, "sum"):
        return tensor.sum(axis=axis, keepdims=True)
    return ops.sum(tensor, axis=axis, keepdims=True)


def length_over(tensor: Array, axis: int | None) -> Array:
    """The Euclidean norm, the axis kept. Of no gradient: at 0 it has none."""
    if isinstance(tensor, np.ndarray) or keras.backend.backend() != "torch":
        return sum_over(tensor * tensor, axis) ** 0.5
    import torch

    return torch.linalg.vector_norm(tensor, dim=axis, keepdim=True)


def largest_size_over(tensor: Array, axis: int | None) -> Array:
    """The largest absolute value, the axis kept."""
    if isinstance(tensor, np.ndarray) or keras.backend.backend() != "torch":
        return max_over(abs(tensor), axis)
    import torch

    return torch.linalg.vector_norm(tensor, math.inf, dim=axis, keepdim=True)


def at_most(tensor: Array, limit: float) -> Array:
    """`keras.ops.minimum` of a tensor and a number."""
    method = getattr(tensor, "clamp_max", None)
    return ops.minimum(tensor, limit) if method is None else method(limit)


def max_over(tensor: Array, axis: int | None) -> Array:
    """`keras.ops.max` that keeps the axis."""
    if isinstance(tensor, np.ndarray):
        return tensor.max(axis=axis, keepdims=True)
    if hasattr(tensor, "amax"):
        return tensor.amax(axis=axis, keepdims=True)
    return ops.max(tensor, axis=axis, keepdims=True)


def where(condition: Array, tensor: Array, other: Array) -> Array:
    """`keras.ops.where`.

    Args:
        condition: Booleans.
        tensor: For where the condition holds.
        other: Array or number for where it does not.
    """
    if isinstance(tensor, np.ndarray):
        return np.where(condition, tensor, other).astype(tensor.dtype)
    if hasattr(tensor, "where"):
        return tensor.where(condition, other)
    return ops.where(condition, tensor, other)
