"""Functions of arrays and tensors alike, at little cost on an eager backend.

The checks of `keras.ops` cost an eager backend ten times as much as a reshape,
so a tensor's own method or operator comes first; NumPy arrays stay arrays, so
that one formula serves a training step and the host. This file alone asks for
the backend.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

# A NumPy array or a tensor of the backend.
Array = Any

_MOST_PIECES = 64
_SMALLEST_TO_CUT = 2**16
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
        method = getattr(like, "new_tensor", None)
        return ops.convert_to_tensor(array) if method is None else method(array)


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


def batch_may_be_sharded() -> bool:
    """Whether one call may see a batch that is spread over devices.

    On JAX, wherever there are several. Elsewhere a replica calls the model on
    a batch of its own.
    """
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.device_count() > 1


def same_for_all(tensor: Array) -> Array:
    """What all samples of a `vmap` agree on, once instead of for each.

    Args:
        tensor: A constant that does not depend on the sample.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return _first_of_jax_batch()(tensor)
    if backend == "torch":
        import torch

        if not torch.compiler.is_compiling():
            return _first_of_torch_batch().apply(tensor)
    return tensor


@functools.cache
def _first_of_jax_batch() -> Callable[[Array], Array]:
    from jax.custom_batching import custom_vmap

    @custom_vmap
    def first(tensor):
        return tensor

    @first.def_vmap
    def rule(axis_size, batched, tensor):
        del axis_size
        return (tensor[0] if batched[0] else tensor), False

    return first


@functools.cache
def _first_of_torch_batch() -> Any:
    import torch

    class First(torch.autograd.Function):
        """Identity of a constant; of a batch, its first."""

        @staticmethod
        def forward(tensor):
            return tensor.view_as(tensor)

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def vmap(info, in_dims, tensor):
            if in_dims[0] is not None:
                tensor = tensor.select(in_dims[0], 0)
            return First.apply(tensor), None

    return First


def known(condition: Array) -> bool | None:
    """The value of a boolean scalar; `None` while it is being traced."""
    if keras.backend.backend() == "torch":
        import torch

        if torch.compiler.is_compiling():
            return None
    try:
        return bool(condition)
    except (TypeError, RuntimeError, NotImplementedError):
        # JAX and TensorFlow raise the first of a traced value, PyTorch the
        # others of one that is mapped or has no data.
        return None


def traces_branches() -> bool:
    """Whether a graph can hold a branch that depends on data.

    Those of PyTorch cannot: `torch.export` and `fullgraph=True` refuse it.
    """
    return keras.backend.backend() != "torch"


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


def full_precision(tensor: Array) -> contextlib.AbstractContextManager:
    """Context in which products have the precision of their factors.

    `torch.autocast` would round the factors, whatever their dtype.
    """
    if keras.backend.backend() == "torch":
        import torch

        if torch.is_autocast_enabled(tensor.device.type):
            return torch.autocast(tensor.device.type, enabled=False)
    return contextlib.nullcontext()
