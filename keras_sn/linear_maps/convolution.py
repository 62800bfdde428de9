"""Linear maps of the convolution layers, plain, transposed, and separable."""

import keras

from keras_sn.linear_maps.base import size
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.weights import AppliedWeight


@register_linear_map(keras.layers.Conv1D)
@register_linear_map(keras.layers.Conv2D)
@register_linear_map(keras.layers.Conv3D)
def convolution(layer, norm):
    """The kernel `(*kernel_size, channels / groups, filters)`, by group."""
    return [grouped_kernel(AppliedWeight(layer, "kernel"), layer.groups)]


@register_linear_map(keras.layers.Conv1DTranspose)
@register_linear_map(keras.layers.Conv2DTranspose)
@register_linear_map(keras.layers.Conv3DTranspose)
def transposed_convolution(layer, norm):
    """The kernel `(*kernel_size, filters, channels)`: channels last, as stock."""
    return [MatrixMap(AppliedWeight(layer, "kernel"))]


@register_linear_map(keras.layers.DepthwiseConv1D)
@register_linear_map(keras.layers.DepthwiseConv2D)
def depthwise_convolution(layer, norm):
    """The kernel `(*kernel_size, channels, multiplier)`, one block a channel."""
    return [depthwise_kernel(AppliedWeight(layer, "kernel"))]


@register_linear_map(keras.layers.SeparableConv1D)
@register_linear_map(keras.layers.SeparableConv2D)
def separable_convolution(layer, norm):
    """The depthwise and the pointwise kernel, each on its own."""
    return [
        depthwise_kernel(AppliedWeight(layer, "depthwise_kernel")),
        MatrixMap(AppliedWeight(layer, "pointwise_kernel")),
    ]


def grouped_kernel(weight, groups):
    """Miyato's reshape, one matrix per group of filters."""
    if groups == 1:
        return MatrixMap(weight)
    *taps_and_channels, filters = weight.shape
    rows, columns = size(taps_and_channels), filters // groups
    return MatrixMap(
        weight,
        blocks=groups,
        columns=columns,
        split=(rows, groups, columns),
        permutation=(1, 0, 2),
    )


def depthwise_kernel(weight):
    """One matrix `(taps, multiplier)` per input channel."""
    *taps, channels, multiplier = weight.shape
    return MatrixMap(
        weight,
        blocks=channels,
        columns=multiplier,
        split=(size(taps), channels, multiplier),
        permutation=(1, 0, 2),
    )
