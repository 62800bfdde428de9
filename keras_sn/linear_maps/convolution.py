"""Linear maps of the convolution layers, plain, transposed, and separable."""

import keras

from keras_sn.linear_maps.base import size
from keras_sn.linear_maps.convolution_map import ConvolutionMap
from keras_sn.linear_maps.convolution_map import TransposedConvolutionMap
from keras_sn.linear_maps.matrix import MatrixMap
from keras_sn.linear_maps.registry import register_linear_map
from keras_sn.linear_maps.separable_map import SeparableConvolutionMap
from keras_sn.linear_maps.weights import AppliedWeight
from keras_sn.linear_maps.window import Window


@register_linear_map(keras.layers.Conv1D)
@register_linear_map(keras.layers.Conv2D)
@register_linear_map(keras.layers.Conv3D)
def convolution(layer, norm):
    """The kernel `(*kernel_size, channels / groups, filters)`, by group."""
    weight = AppliedWeight(layer, "kernel")
    if norm == "kernel":
        return [grouped_kernel(weight, layer.groups)]
    return [
        ConvolutionMap(
            weight, window(layer), layer.data_format, groups=layer.groups
        )
    ]


@register_linear_map(keras.layers.Conv1DTranspose)
@register_linear_map(keras.layers.Conv2DTranspose)
@register_linear_map(keras.layers.Conv3DTranspose)
def transposed_convolution(layer, norm):
    """The kernel `(*kernel_size, filters, channels)`, channels last."""
    weight = AppliedWeight(layer, "kernel")
    if norm == "kernel":
        return [MatrixMap(weight)]
    return [
        TransposedConvolutionMap(
            weight, window(layer), layer.data_format, layer.output_padding
        )
    ]


@register_linear_map(keras.layers.DepthwiseConv1D)
@register_linear_map(keras.layers.DepthwiseConv2D)
def depthwise_convolution(layer, norm):
    """The kernel `(*kernel_size, channels, multiplier)`, by channel."""
    weight = AppliedWeight(layer, "kernel")
    if norm == "kernel":
        return [depthwise_kernel(weight)]
    return [
        ConvolutionMap(weight, window(layer), layer.data_format, depthwise=True)
    ]


@register_linear_map(keras.layers.SeparableConv1D)
@register_linear_map(keras.layers.SeparableConv2D)
def separable_convolution(layer, norm):
    """Depthwise and pointwise kernel: two matrices, but one operator."""
    depthwise = AppliedWeight(layer, "depthwise_kernel")
    pointwise = AppliedWeight(layer, "pointwise_kernel")
    if norm == "kernel":
        return [depthwise_kernel(depthwise), MatrixMap(pointwise)]
    return [
        SeparableConvolutionMap(
            pointwise, depthwise, window(layer), layer.data_format
        )
    ]


@register_linear_map(keras.layers.ConvLSTM1D)
@register_linear_map(keras.layers.ConvLSTM2D)
@register_linear_map(keras.layers.ConvLSTM3D)
def convolutional_lstm(layer, norm):
    """Input and recurrent kernel of the cell, the gates side by side."""
    cell = layer.cell
    weights = [
        AppliedWeight(cell, "kernel"),
        AppliedWeight(cell, "recurrent_kernel"),
    ]
    if norm == "kernel":
        return [MatrixMap(weight) for weight in weights]
    ones = (1,) * len(cell.kernel_size)
    windows = [
        window(cell),
        Window(tuple(cell.kernel_size), ones, ones, "same"),
    ]
    return [
        ConvolutionMap(weight, place, cell.data_format)
        for weight, place in zip(weights, windows, strict=True)
    ]


def window(layer):
    """How the kernel of a convolution layer slides."""
    return Window(
        tuple(layer.kernel_size),
        _per_axis(layer.strides, layer),
        _per_axis(layer.dilation_rate, layer),
        layer.padding,
    )


def _per_axis(value, layer):
    if isinstance(value, int):
        return (value,) * len(layer.kernel_size)
    return tuple(value)


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
