"""The kernels that are trained: of a bare kernel, and those of a layer.

Keras tells a constraint or a regularizer nothing but the kernel.
"""

import functools

import keras
import numpy as np

from keras_sn.linear_maps.base import LinearMap
from keras_sn.linear_maps.convolution_map import ConvolutionMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import check_norm
from keras_sn.linear_maps.registry import maps_of
from keras_sn.linear_maps.weights import ArrayWeight
from keras_sn.linear_maps.window import Window


@functools.cache
def map_of_kernel(shape: tuple[int, ...], norm: str) -> LinearMap:
    """The linear map of a kernel, to be used with `values`.

    Guarantee: of a kernel with two axes, its layer's. With
    `norm="operator"`, one with more is taken for that of a convolution
    without strides, dilation and groups, the norm of which is at least that
    of every convolution, transposed or depthwise, with this kernel: a stride
    leaves out outputs, and the kernels of groups stand side by side.

    Args:
        shape: Shape of the kernel.
        norm: `"kernel"`: the matrix with the last axis as columns.
            `"operator"`: of a convolution.

    Raises:
        ValueError: If it has fewer than two axes, or `norm` is unknown.

    Example:

    >>> from keras_sn.linear_maps.bare_kernel import map_of_kernel
    >>> map_of_kernel((3, 3, 8, 16), "kernel")
    <MatrixMap kernel: (72,) -> (16,)>
    """
    check_norm(norm)
    if len(shape) < 2:
        raise ValueError(
            "A spectral norm needs a kernel with two axes or more. Received "
            f"one of the shape {shape}."
        )
    # Its shape and no more: no memory.
    weight = ArrayWeight(np.broadcast_to(np.float32(0), shape), "kernel")
    if norm == "kernel" or len(shape) == 2:
        return MatrixMap(weight)
    taps = shape[:-2]
    ones = (1,) * len(taps)
    window = Window(taps, ones, ones, "same")
    return ConvolutionMap(weight, window, "channels_last")


@functools.cache
def stack_map(shape: tuple[int, int, int]) -> MatrixMap:
    """The map of a stack of matrices `(blocks, rows, columns)`."""
    weight = ArrayWeight(np.broadcast_to(np.float32(0), shape), "matrices")
    return MatrixMap(weight, blocks=shape[0])


def maps_of_kernels(layer: keras.layers.Layer, norm: str) -> list[LinearMap]:
    """The maps of a layer's kernels, each by what its own layer does with it.

    Args:
        layer: A built layer or model. What a `SpectralNormalization` holds
            is left out, and so is the `gamma` of a normalization layer.
        norm: `"kernel"` or `"operator"`.

    Raises:
        ValueError: If the layer is not built or has no kernel; if a kernel is
            not what its layer applies (LoRA, quantization); with
            `norm="operator"` if it is not known what a layer applies.
    """
    maps = [
        linear_map
        for linear_map in maps_of(layer, norm)
        if not isinstance(
            linear_map.weights[0].layer, keras.layers.BatchNormalization
        )
    ]
    if not maps:
        raise ValueError(
            f"There is no kernel in layer '{layer.name}' "
            f"({type(layer).__name__}). Its weights are "
            f"{[v.path for v in layer.weights]}; those in a "
            "`SpectralNormalization` are left alone."
        )
    for linear_map in maps:
        weight = linear_map.weights[0]
        if len(weight.scalable_variables()) > 1:
            name = getattr(weight.layer, "name", None)
            raise ValueError(
                f"Layer '{name}' has LoRA enabled, so it does "
                f"not apply its kernel '{weight.path}' alone. Merge the two "
                "first, or wrap the layer in `SpectralNormalization`."
            )
    return maps
