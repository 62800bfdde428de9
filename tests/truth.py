"""Truth from outside the code under test: dense matrices and numpy's SVD."""

import math

import keras
import numpy as np


def to_numpy(tensor):
    """A float64 copy of a tensor or variable."""
    return np.array(keras.ops.convert_to_numpy(tensor), dtype="float64")


def dense_matrix(layer, input_shape, **call_kwargs):
    """The matrix of an affine layer, found by feeding it unit vectors.

    Args:
        layer: Layer, affine in its input.
        input_shape: Shape of one input, without the batch axis.

    Returns:
        Array `(inputs, outputs)`, flattened, the bias subtracted.
    """
    count = math.prod(input_shape)
    units = np.eye(count, dtype="float32").reshape(count, *input_shape)
    zero = np.zeros((1, *input_shape), dtype="float32")
    images = to_numpy(layer(units, **call_kwargs))
    images = images - to_numpy(layer(zero, **call_kwargs))
    return images.reshape(count, -1)


def spectral_norm(matrix):
    """Largest singular value by numpy, in float64."""
    return np.linalg.norm(np.asarray(matrix, dtype="float64"), 2)


def kernel_norm(layer, name, kernel):
    """The norm="kernel" of a weight: the largest norm of its matrices.

    Written out per kind of layer, independent of `keras_sn.linear_maps`.

    Args:
        layer: The layer that owns the weight.
        name: Name of the weight.
        kernel: Its value.
    """
    kernel = np.asarray(kernel, dtype="float64")
    if name == "gamma":
        return np.abs(kernel).max()
    depthwise = isinstance(
        layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
    )
    if depthwise or name == "depthwise_kernel":
        channels = kernel.shape[-2]
        return max(
            spectral_norm(kernel[..., c, :].reshape(-1, kernel.shape[-1]))
            for c in range(channels)
        )
    if isinstance(layer, keras.layers.EinsumDense):
        return _einsum_norm(layer.equation, kernel)
    groups = getattr(layer, "groups", 1)
    parts = np.split(kernel, groups, axis=-1)
    return max(spectral_norm(p.reshape(-1, p.shape[-1])) for p in parts)


def _einsum_norm(equation, kernel):
    inputs, rest = equation.split(",")
    labels, outputs = rest.split("->")
    batch = [i for i, c in enumerate(labels) if c in inputs and c in outputs]
    contracted = [i for i, c in enumerate(labels) if c not in outputs]
    created = [i for i, c in enumerate(labels) if c not in inputs]
    moved = kernel.transpose(*batch, *contracted, *created)
    rows = math.prod(kernel.shape[i] for i in contracted)
    columns = math.prod(kernel.shape[i] for i in created)
    return max(spectral_norm(m) for m in moved.reshape(-1, rows, columns))
